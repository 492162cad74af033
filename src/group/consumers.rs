//! Members of the consumer protocol. A heartbeat that changes nothing is answered from memory.

use std::sync::Arc;

use super::GroupError;
use super::consumer::{self, Beaten, Catalog, ConsumerDescription, Heartbeat, LEAVES, LEFT_FOR_NOW};
use super::coordinator::{Coordinator, Inner, NAME_MAX, check_length, check_name};
use super::drive::decode;
use super::effect::{Effect, Reply};
use super::event::Event;
use super::known::{Entry, Seen};
use super::state::GroupState;
use super::topics::{FRESH, RECENT};
use super::turns::Told;
use crate::types::{GroupId, MemberId};

impl Coordinator {
    /// ConsumerGroupHeartbeat. The catalog is filled in here.
    pub async fn consumer_heartbeat(&self, group: &GroupId, heartbeat: Heartbeat) -> Result<Beaten, GroupError> {
        check_name(group)?;
        check_member_name(&heartbeat.member)?;
        let inner = self.inner();
        let entry = inner.table.entry(group);
        let catalog = inner.catalog.get(if heartbeat.is_full() { FRESH } else { RECENT }).await?;
        let beaten = match inner.beaten_from_memory(&entry, &heartbeat, &catalog) {
            Some(beaten) => beaten,
            None => inner.beat_for(&entry, Heartbeat { catalog: Some(catalog), ..heartbeat }).await?,
        };
        if !matches!(beaten.epoch, LEAVES | LEFT_FOR_NOW) {
            inner.beats.gather(group, &beaten.member);
        }
        Ok(beaten)
    }

    /// OffsetFetch: whether the member may look at what is committed.
    pub async fn check_fetch(&self, group: &GroupId, member: Option<&MemberId>, epoch: i32) -> Result<(), GroupError> {
        check_length(group)?;
        if member.is_none() && epoch < 0 {
            return Ok(());
        }
        let check = |seen: &Seen| seen.state.check_fetch(member, epoch);
        self.inner().check(&self.inner().table.entry(group), check).await.map(drop)
    }

    /// ConsumerGroupDescribe, in the order asked; [`GroupError::NotFound`] for those that are not there, or of the classic protocol.
    pub async fn describe_consumers(&self, groups: &[GroupId]) -> Result<Vec<Result<ConsumerDescription, GroupError>>, GroupError> {
        let named: Vec<GroupId> = groups.iter().filter(|group| check_length(group).is_ok()).cloned().collect();
        let mut rows = self.inner().groups.load_groups(&named).await?.into_iter();
        let describe = |group: &GroupId| {
            let row = if check_length(group).is_ok() { rows.next() } else { None };
            match decode(group, &row.ok_or(GroupError::InvalidGroupId)?)? {
                GroupState::Classic(_) => Err(GroupError::NotFound),
                GroupState::Consumer(group) => Ok(group.describe()),
            }
        };
        Ok(groups.iter().map(describe).collect())
    }
}

impl Inner {
    /// `None`: it has to be looked at.
    fn beaten_from_memory(&self, entry: &Entry, heartbeat: &Heartbeat, catalog: &Arc<Catalog>) -> Option<Beaten> {
        let seen = entry.seen().filter(|seen| self.beats.confirms(seen))?;
        let GroupState::Consumer(group) = &*seen.state else { return None };
        let catalog = (!entry.fits(seen.version, catalog)).then(|| Arc::clone(catalog));
        let event = Event::Heartbeat(Heartbeat { catalog: catalog.clone(), ..heartbeat.clone() });
        let (after, effects) = consumer::apply(group.clone(), &event, &self.rules.consumer, seen.now());
        if after != *group {
            return None;
        }
        if let Some(catalog) = catalog {
            entry.fit(seen.version, catalog);
        }
        match &effects[..] {
            [Effect::Answer(Ok(Reply::Beaten(beaten)))] => Some(beaten.clone()),
            _more => None,
        }
    }

    async fn beat_for(self: &Arc<Self>, entry: &Arc<Entry>, heartbeat: Heartbeat) -> Result<Beaten, GroupError> {
        match self.ask(entry, Some(Event::Heartbeat(heartbeat))).await? {
            (Some(Told::Answer(Ok(Reply::Beaten(beaten)))), _) => Ok(beaten),
            (Some(Told::Answer(Err(error))), _) => Err(error),
            (Some(Told::Answer(Ok(_)) | Told::Wait(_)) | None, _) => Err(GroupError::Stopping),
        }
    }
}

fn check_member_name(member: &MemberId) -> Result<(), GroupError> {
    if member.0.is_empty() || member.0.len() > NAME_MAX || member.0.contains('\0') {
        return Err(GroupError::InvalidRequest("the member id is empty, too long, or holds what it cannot"));
    }
    Ok(())
}
