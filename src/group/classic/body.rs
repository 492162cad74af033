//! A classic group as bytes.
//!
//! Layout: `phase u8, phase's numbers, since, generation, protocol type?, protocol?, leader?, members, pending ids`; for each member `id, instance?,
//! client id, client host, rebalance timeout, session timeout, protocols (name, metadata), assignment, flags`. `?`: a byte 0 or 1 in front. Times
//! are milliseconds.

use crate::group::wire::{BodyError, Reader, Writer};
use crate::types::MemberId;

use super::{ClassicGroup, Gathering, Member, Phase, Protocol};

const EMPTY: u8 = 0;
const PREPARING: u8 = 1;
const GATHERING: u8 = 2;
const COMPLETING: u8 = 3;
const STABLE: u8 = 4;
const SYNCING: u8 = 5;

pub(in crate::group) fn encode(group: &ClassicGroup, out: &mut Writer) {
    encode_phase(&group.phase, out);
    out.number(group.since.0);
    out.number(i64::from(group.generation));
    out.maybe_text(group.protocol_type.as_deref());
    out.maybe_text(group.protocol.as_deref());
    out.maybe_text(group.leader.as_ref().map(|l| &*l.0));
    out.count(group.members.len());
    for (id, member) in &group.members {
        out.text(&id.0);
        encode_member(member, out);
    }
    out.count(group.pending.len());
    group.pending.iter().for_each(|id| out.text(&id.0));
}

fn encode_phase(phase: &Phase, out: &mut Writer) {
    match phase {
        Phase::Empty => out.byte(EMPTY),
        Phase::Preparing { deadline, gathering: None } => {
            out.byte(PREPARING);
            out.number(deadline.0);
        }
        Phase::Preparing { deadline, gathering: Some(gathering) } => {
            out.byte(GATHERING);
            out.number(deadline.0);
            out.flags([gathering.grew]);
            out.duration(gathering.delay);
            out.duration(gathering.remaining);
        }
        Phase::Completing { deadline } => {
            out.byte(COMPLETING);
            out.number(deadline.0);
        }
        Phase::Stable { deadline: None } => out.byte(STABLE),
        Phase::Stable { deadline: Some(deadline) } => {
            out.byte(SYNCING);
            out.number(deadline.0);
        }
    }
}

fn encode_member(member: &Member, out: &mut Writer) {
    out.maybe_text(member.instance.as_deref());
    out.text(&member.client_id);
    out.text(&member.client_host);
    out.duration(member.rebalance_timeout);
    out.duration(member.session_timeout);
    out.count(member.protocols.len());
    for protocol in &member.protocols {
        out.text(&protocol.name);
        out.bytes(&protocol.metadata);
    }
    out.bytes(&member.assignment);
    out.flags([member.joined, member.synced]);
}

pub(in crate::group) fn decode(body: &mut Reader) -> Result<ClassicGroup, BodyError> {
    Ok(ClassicGroup {
        phase: decode_phase(body)?,
        since: body.timestamp()?,
        generation: body.int()?,
        protocol_type: body.maybe_text()?,
        protocol: body.maybe_text()?,
        leader: body.maybe_text()?.map(MemberId),
        members: (0..body.count()?).map(|_| Ok((MemberId(body.text()?), decode_member(body)?))).collect::<Result<_, _>>()?,
        pending: (0..body.count()?).map(|_| body.text().map(MemberId)).collect::<Result<_, _>>()?,
    })
}

fn decode_phase(body: &mut Reader) -> Result<Phase, BodyError> {
    match body.byte()? {
        EMPTY => Ok(Phase::Empty),
        PREPARING => Ok(Phase::Preparing { deadline: body.timestamp()?, gathering: None }),
        GATHERING => {
            let deadline = body.timestamp()?;
            let [grew] = body.flags()?;
            let gathering = Gathering { grew, delay: body.duration()?, remaining: body.duration()? };
            Ok(Phase::Preparing { deadline, gathering: Some(gathering) })
        }
        COMPLETING => Ok(Phase::Completing { deadline: body.timestamp()? }),
        STABLE => Ok(Phase::Stable { deadline: None }),
        SYNCING => Ok(Phase::Stable { deadline: Some(body.timestamp()?) }),
        _ => Err(BodyError::Nonsense("an unknown phase")),
    }
}

fn decode_member(body: &mut Reader) -> Result<Member, BodyError> {
    let (instance, client_id, client_host) = (body.maybe_text()?, body.text()?, body.text()?);
    let (rebalance_timeout, session_timeout) = (body.duration()?, body.duration()?);
    let protocols = (0..body.count()?).map(|_| Ok(Protocol { name: body.text()?, metadata: body.bytes()? }));
    let protocols = protocols.collect::<Result<_, BodyError>>()?;
    let assignment = body.bytes()?;
    let [joined, synced] = body.flags()?;
    Ok(Member { instance, client_id, client_host, rebalance_timeout, session_timeout, protocols, assignment, joined, synced })
}
