//! The door of the room: requests of members, committed offsets, and what administrators ask.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::GroupError;
use super::beats::Beats;
use super::classic::{self, Assigned, Join, Joined, Leaver, Sync};
use super::effect::Reply;
use super::event::Event;
use super::known::{Entry, Seen, Table};
use super::settings::{GroupSettings, Rules};
use super::topics::CatalogSource;
use super::turns::Told;
use super::wait::Wanted;
use crate::clock::{Clock, Ids};
use crate::metastore::{CommittedOffset, GroupVersion, Groups, Metastore, Offsets};
use crate::metrics::{GroupMetrics, JobMetrics};
use crate::tasks::Tasks;
use crate::types::{GroupId, MemberId, TopicPartition};

/// Most bytes of a group's or member's name: it is a key in the metastore.
pub(super) const NAME_MAX: usize = 1_000;
/// How often a commit is tried whose group changes meanwhile.
const COMMIT_ATTEMPTS: usize = 10;

/// What groups stand on.
#[derive(Debug, Clone)]
pub struct CoordinatorParts {
    pub metastore: Arc<dyn Metastore>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub metrics: GroupMetrics,
    pub jobs: JobMetrics,
}

/// Coordinates all groups, beside the other agents that do the same.
#[derive(Debug, Clone)]
pub struct Coordinator(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) settings: GroupSettings,
    pub(super) rules: Rules,
    pub(super) groups: Arc<dyn Groups>,
    pub(super) offsets: Arc<dyn Offsets>,
    pub(super) ids: Arc<dyn Ids>,
    pub(super) metrics: GroupMetrics,
    pub(super) tasks: Tasks,
    pub(super) table: Table,
    pub(super) beats: Beats,
    pub(super) catalog: CatalogSource,
    /// From now on nobody waits.
    pub(super) stopping: CancellationToken,
}

/// Who commits offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committer {
    /// `None`: somebody who is no member.
    pub member: Option<MemberId>,
    pub instance: Option<classic::InstanceId>,
    /// Below zero: outside any generation.
    pub generation: i32,
}

impl Coordinator {
    /// Starts gathering beats, and sweeping, in `tasks`.
    #[must_use]
    pub fn start(settings: GroupSettings, parts: CoordinatorParts, tasks: &Tasks) -> Coordinator {
        let inner = Arc::new(Inner {
            rules: settings.rules(),
            settings,
            groups: Arc::clone(&parts.metastore) as _,
            catalog: CatalogSource::new(Arc::clone(&parts.metastore) as _),
            offsets: parts.metastore as _,
            ids: parts.ids,
            metrics: parts.metrics,
            tasks: tasks.clone(),
            table: Table::default(),
            beats: Beats::new(),
            stopping: CancellationToken::new(),
        });
        inner.start_beats();
        inner.start_sweeps(parts.clock, parts.jobs);
        Coordinator(inner)
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    #[must_use]
    pub fn settings(&self) -> &GroupSettings {
        &self.0.settings
    }

    /// What a new member is called: the name its client gives itself (or its instance has), and chance.
    #[must_use]
    pub fn member_id(&self, prefix: &str) -> MemberId {
        let short: String = prefix.chars().filter(|c| *c != '\0').take(255).collect();
        MemberId(format!("{short}-{}", self.0.ids.topic()).into())
    }

    /// From now on whoever would wait is sent to another agent.
    pub fn stop_waiting(&self) {
        self.0.stopping.cancel();
    }

    /// Another agent, or this one, stored a new state.
    pub fn changed(&self, group: &GroupId, version: GroupVersion) {
        self.0.changed(group, version);
    }

    /// Announcements may have been missed.
    pub fn changed_unknown(&self) {
        self.0.changed_unknown();
    }

    /// JoinGroup: waits until everybody has joined.
    pub async fn join(&self, group: &GroupId, mut join: Join) -> Result<Joined, GroupError> {
        check_name(group)?;
        let bounds = self.0.settings.min_session_timeout..=self.0.settings.max_session_timeout;
        if !bounds.contains(&join.session_timeout) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let entry = self.0.table.entry(group);
        loop {
            let mut waiter = self.0.waiter(&entry)?;
            match self.0.ask(&entry, Some(Event::Join(join.clone()))).await? {
                (Some(Told::Answer(answer)), _) => return joined(answer?),
                (Some(Told::Wait(member)), seen) => match waiter.joined(seen, &member, join.instance.as_deref()).await? {
                    Wanted::Found(joined) => return Ok(joined),
                    Wanted::Again => join.member = Some(member),
                },
                (None, _) => return Err(GroupError::Stopping),
            }
        }
    }

    /// SyncGroup: waits for the leader's assignment.
    pub async fn sync(&self, group: &GroupId, sync: Sync) -> Result<Assigned, GroupError> {
        check_name(group)?;
        let entry = self.0.table.entry(group);
        let mut waiter = self.0.waiter(&entry)?;
        match self.0.ask(&entry, Some(Event::Sync(sync.clone()))).await? {
            (Some(Told::Answer(answer)), _) => assigned(answer?),
            (Some(Told::Wait(_)), seen) => waiter.assigned(seen, &sync).await,
            (None, _) => Err(GroupError::Stopping),
        }
    }

    /// Heartbeat. While the group rebalances the member is told so, and lives.
    pub async fn heartbeat(&self, group: &GroupId, member: &MemberId, instance: Option<&str>, generation: i32) -> Result<(), GroupError> {
        check_name(group)?;
        let check = |seen: &Seen| seen.state.check_heartbeat(member, instance, generation);
        let answer = self.0.check(&self.0.table.entry(group), check).await;
        if matches!(answer, Ok(_) | Err(GroupError::RebalanceInProgress)) {
            self.0.beats.gather(group, member);
        }
        answer.map(drop)
    }

    /// LeaveGroup: an answer for each, in order.
    pub async fn leave(&self, group: &GroupId, leavers: Vec<Leaver>) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        check_name(group)?;
        match self.0.ask(&self.0.table.entry(group), Some(Event::Leave(leavers))).await? {
            (Some(Told::Answer(Ok(Reply::Left(left)))), _) => Ok(left),
            (Some(Told::Answer(Err(error))), _) => Err(error),
            (Some(Told::Answer(Ok(Reply::Joined(_) | Reply::Assigned(_) | Reply::Beaten(_) | Reply::Done)) | Told::Wait(_)) | None, _) => {
                Err(GroupError::Stopping)
            }
        }
    }

    /// Commits all of the offsets or none.
    pub async fn commit(
        &self,
        group: &GroupId,
        committer: &Committer,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<(), GroupError> {
        check_length(group)?;
        let entry = self.0.table.entry(group);
        let check = |seen: &Seen| {
            if seen.version == GroupVersion::NONE && committer.generation >= 0 {
                return Err(GroupError::NotFound);
            }
            seen.state.check_commit(committer.member.as_ref(), committer.instance.as_deref(), committer.generation)
        };
        for _ in 0..COMMIT_ATTEMPTS {
            let seen = self.0.check(&entry, check).await?;
            if self.0.offsets.commit_offsets(group, seen.version, offsets).await? {
                if let Some(member) = committer.member.as_ref().filter(|_| committer.generation >= 0) {
                    self.0.beats.gather(group, member);
                }
                return Ok(());
            }
            // The state that allowed it is not the present one.
            self.0.metrics.conflicted();
            self.0.ask(&entry, None).await?;
        }
        Err(GroupError::Unavailable("the group changes all the time".to_owned()))
    }
}

impl Inner {
    /// A yes may come from memory; a no is said only to the state of this moment.
    pub(super) async fn check(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        check: impl Fn(&Seen) -> Result<(), GroupError>,
    ) -> Result<Seen, GroupError> {
        if let Some(seen) = entry.seen().filter(|seen| self.beats.confirms(seen))
            && check(&seen).is_ok()
        {
            return Ok(seen);
        }
        let (_, seen) = self.ask(entry, None).await?;
        check(&seen)?;
        Ok(seen)
    }

    pub(super) fn changed(self: &Arc<Self>, group: &GroupId, version: GroupVersion) {
        if let Some(entry) = self.table.find(group)
            && entry.outdate(version)
        {
            self.look(entry);
        }
    }

    fn changed_unknown(self: &Arc<Self>) {
        self.table.doubt();
        for entry in self.table.waited_for() {
            self.look(entry);
        }
    }

    /// Loads the group, so that its waiters see it.
    fn look(self: &Arc<Self>, entry: Arc<Entry>) {
        let inner = Arc::clone(self);
        self.tasks.spawn("group look", async move {
            if let Err(error) = inner.ask(&entry, None).await {
                tracing::debug!(group = %entry.group, %error, "a changed group could not be loaded; its waiters look again soon");
            }
        });
    }
}

fn joined(reply: Reply) -> Result<Joined, GroupError> {
    match reply {
        Reply::Joined(joined) => Ok(joined),
        Reply::Assigned(_) | Reply::Left(_) | Reply::Beaten(_) | Reply::Done => Err(GroupError::Stopping),
    }
}

fn assigned(reply: Reply) -> Result<Assigned, GroupError> {
    match reply {
        Reply::Assigned(assigned) => Ok(assigned),
        Reply::Joined(_) | Reply::Left(_) | Reply::Beaten(_) | Reply::Done => Err(GroupError::Stopping),
    }
}

/// What a group with members can be called.
pub(super) fn check_name(group: &GroupId) -> Result<(), GroupError> {
    if group.0.is_empty() { Err(GroupError::InvalidGroupId) } else { check_length(group) }
}

/// What the metastore can keep. The empty name is one that offsets can be committed under, as in Kafka.
pub(super) fn check_length(group: &GroupId) -> Result<(), GroupError> {
    if group.0.len() > NAME_MAX || group.0.contains('\0') { Err(GroupError::InvalidGroupId) } else { Ok(()) }
}
