//! A consumer group as bytes.
//!
//! Layout: `epoch, since, assignor u8, topics (name, id, partitions), members`; for each member `id, instance?, rack?, client id, client
//! host, rebalance timeout, names, pattern?, assignor u8 (0: none), epoch, previous epoch, progress u8 (and deadline), assigned, revoking,
//! target`; an assignment is a list of topic id and partitions; flags (classic, rejoins), and if classic `session timeout, protocols (name,
//! metadata)`, and when it must have rejoined. `?`: a byte 0 or 1 in front. Times are milliseconds.

use crate::group::wire::{BodyError, Reader, Writer};
use crate::types::{MemberId, TopicId, TopicPartition};

use super::{Assignment, Assignor, ClassicSide, ConsumerGroup, Member, Progress};
use crate::group::classic::Protocol;

const NO_ASSIGNOR: u8 = 0;
const UNIFORM: u8 = 1;
const RANGE: u8 = 2;

const STABLE: u8 = 0;
const UNREVOKED: u8 = 1;
const UNRELEASED: u8 = 2;

type Read<T> = Result<T, BodyError>;

pub(in crate::group) fn encode(group: &ConsumerGroup, out: &mut Writer) {
    out.number(i64::from(group.epoch));
    out.number(group.since.0);
    encode_assignor(Some(group.assignor), out);
    out.count(group.topics.len());
    for (name, (id, partitions)) in &group.topics {
        out.text(name);
        out.id(&id.0);
        out.number(i64::from(*partitions));
    }
    out.count(group.members.len());
    for (id, member) in &group.members {
        out.text(&id.0);
        encode_member(member, out);
    }
}

fn encode_assignor(assignor: Option<Assignor>, out: &mut Writer) {
    out.byte(match assignor {
        None => NO_ASSIGNOR,
        Some(Assignor::Uniform) => UNIFORM,
        Some(Assignor::Range) => RANGE,
    });
}

fn encode_member(member: &Member, out: &mut Writer) {
    out.maybe_text(member.instance.as_deref());
    out.maybe_text(member.rack.as_deref());
    out.text(&member.client_id);
    out.text(&member.client_host);
    out.duration(member.rebalance_timeout);
    out.count(member.names.len());
    member.names.iter().for_each(|name| out.text(name));
    out.maybe_text(member.pattern.as_deref());
    encode_assignor(member.assignor, out);
    out.number(i64::from(member.epoch));
    out.number(i64::from(member.previous_epoch));
    match member.progress {
        Progress::Stable => out.byte(STABLE),
        Progress::Unrevoked { deadline } => {
            out.byte(UNREVOKED);
            out.number(deadline.0);
        }
        Progress::Unreleased => out.byte(UNRELEASED),
    }
    for assignment in [&member.assigned, &member.revoking, &member.target] {
        encode_assignment(assignment, out);
    }
    encode_classic(member.classic.as_ref(), out);
}

fn encode_classic(classic: Option<&ClassicSide>, out: &mut Writer) {
    let rejoin_by = classic.and_then(|classic| classic.rejoin_by);
    out.flags([classic.is_some(), rejoin_by.is_some()]);
    if let Some(classic) = classic {
        out.duration(classic.session_timeout);
        out.count(classic.protocols.len());
        for protocol in &classic.protocols {
            out.text(&protocol.name);
            out.bytes(&protocol.metadata);
        }
    }
    if let Some(by) = rejoin_by {
        out.number(by.0);
    }
}

fn encode_assignment(assignment: &Assignment, out: &mut Writer) {
    out.count(assignment.topics().count());
    for (topic, partitions) in assignment.topics() {
        out.id(&topic.0);
        out.count(partitions.len());
        for partition in partitions {
            out.number(i64::from(*partition));
        }
    }
}

pub(in crate::group) fn decode(body: &mut Reader) -> Read<ConsumerGroup> {
    let (epoch, since) = (body.int()?, body.timestamp()?);
    let assignor = decode_assignor(body)?.ok_or(BodyError::Nonsense("a group without an assignor"))?;
    let topics = (0..body.count()?).map(|_| Ok((body.text()?, (TopicId(body.id()?), body.int()?)))).collect::<Read<_>>()?;
    let members = (0..body.count()?).map(|_| Ok((MemberId(body.text()?), decode_member(body)?))).collect::<Read<_>>()?;
    Ok(ConsumerGroup { epoch, since, topics, assignor, members })
}

fn decode_assignor(body: &mut Reader) -> Read<Option<Assignor>> {
    match body.byte()? {
        NO_ASSIGNOR => Ok(None),
        UNIFORM => Ok(Some(Assignor::Uniform)),
        RANGE => Ok(Some(Assignor::Range)),
        _ => Err(BodyError::Nonsense("an unknown assignor")),
    }
}

fn decode_member(body: &mut Reader) -> Read<Member> {
    Ok(Member {
        instance: body.maybe_text()?,
        rack: body.maybe_text()?,
        client_id: body.text()?,
        client_host: body.text()?,
        rebalance_timeout: body.duration()?,
        names: (0..body.count()?).map(|_| body.text()).collect::<Read<_>>()?,
        pattern: body.maybe_text()?,
        assignor: decode_assignor(body)?,
        epoch: body.int()?,
        previous_epoch: body.int()?,
        progress: decode_progress(body)?,
        assigned: decode_assignment(body)?,
        revoking: decode_assignment(body)?,
        target: decode_assignment(body)?,
        classic: decode_classic(body)?,
    })
}

fn decode_classic(body: &mut Reader) -> Read<Option<ClassicSide>> {
    let [classic, rejoins] = body.flags()?;
    if !classic {
        return if rejoins { Err(BodyError::Nonsense("a deadline for nobody")) } else { Ok(None) };
    }
    let session_timeout = body.duration()?;
    let protocols = (0..body.count()?).map(|_| Ok(Protocol { name: body.text()?, metadata: body.bytes()? })).collect::<Read<_>>()?;
    let rejoin_by = if rejoins { Some(body.timestamp()?) } else { None };
    Ok(Some(ClassicSide { protocols, session_timeout, rejoin_by }))
}

fn decode_progress(body: &mut Reader) -> Read<Progress> {
    match body.byte()? {
        STABLE => Ok(Progress::Stable),
        UNREVOKED => Ok(Progress::Unrevoked { deadline: body.timestamp()? }),
        UNRELEASED => Ok(Progress::Unreleased),
        _ => Err(BodyError::Nonsense("an unknown progress")),
    }
}

fn decode_assignment(body: &mut Reader) -> Read<Assignment> {
    let mut assignment = Assignment::default();
    for _ in 0..body.count()? {
        let topic = TopicId(body.id()?);
        for _ in 0..body.count()? {
            assignment.insert(TopicPartition::new(topic, body.int()?));
        }
    }
    Ok(assignment)
}
