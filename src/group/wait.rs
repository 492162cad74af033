//! Waiting for a group to come to the state that has one's answer.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::GroupError;
use super::beats;
use super::classic::look::{self, Look};
use super::classic::{Assigned, Joined, Sync};
use super::consumer::ConsumerGroup;
use super::coordinator::Inner;
use super::event::Event;
use super::known::{Entry, Seen};
use super::state::GroupState;
use crate::metrics::GroupMetrics;
use crate::types::MemberId;

/// How a wait ends.
#[derive(Debug)]
pub(super) enum Wanted<T> {
    Found(T),
    /// The member is to join again.
    Again,
}

/// A request without an answer yet. Made before the event that it waits upon, so that no change is missed.
#[derive(Debug)]
pub(super) struct Waiter {
    inner: Arc<Inner>,
    entry: Arc<Entry>,
    news: watch::Receiver<Option<Seen>>,
}

/// Counts those who wait.
struct Counted(GroupMetrics, Instant);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.wait_ended(self.1.elapsed());
    }
}

impl Inner {
    pub(super) fn waiter(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Waiter, GroupError> {
        if self.stopping.is_cancelled() {
            return Err(GroupError::Stopping);
        }
        Ok(Waiter { inner: Arc::clone(self), entry: Arc::clone(entry), news: entry.watch() })
    }
}

impl Waiter {
    pub(super) async fn joined(&mut self, seen: Seen, member: &MemberId, instance: Option<&str>) -> Result<Wanted<Joined>, GroupError> {
        let look = |state: &GroupState| match state {
            GroupState::Classic(group) => look::joined(group, member, instance),
            GroupState::Consumer(group) => Look::Ready(Err(upgraded(group, member))),
        };
        self.until(seen, member, look).await
    }

    pub(super) async fn assigned(&mut self, seen: Seen, sync: &Sync) -> Result<Assigned, GroupError> {
        let look = |state: &GroupState| match state {
            GroupState::Classic(group) => look::assigned(group, &sync.member, sync.instance.as_deref(), sync.generation),
            GroupState::Consumer(group) => Look::Ready(Err(upgraded(group, &sync.member))),
        };
        match self.until(seen, &sync.member, look).await? {
            Wanted::Found(assigned) => Ok(assigned),
            Wanted::Again => Err(GroupError::RebalanceInProgress),
        }
    }

    async fn until<T>(
        &mut self,
        mut seen: Seen,
        member: &MemberId,
        look: impl Fn(&GroupState) -> Look<T>,
    ) -> Result<Wanted<T>, GroupError> {
        self.inner.metrics.wait_began();
        let _counted = Counted(self.inner.metrics.clone(), Instant::now());
        loop {
            match look(&seen.state) {
                Look::Ready(answer) => return answer.map(Wanted::Found),
                Look::Again => return Ok(Wanted::Again),
                Look::NotYet => {}
            }
            if let Some(news) = self.news(&seen, member).await? {
                seen = news;
            }
        }
    }

    /// The next state, as soon as there is one. The member beats meanwhile, since its client cannot.
    async fn news(&mut self, seen: &Seen, member: &MemberId) -> Result<Option<Seen>, GroupError> {
        let stopping = self.inner.stopping.clone();
        let deadline = seen.state.deadline().map(|deadline| seen.moment(deadline));
        tokio::select! {
            biased;
            () = stopping.cancelled() => Err(GroupError::Stopping),
            // The entry lives as long as this waiter.
            _ = self.news.changed() => Ok(self.news.borrow_and_update().clone().filter(|news| news.version >= seen.version)),
            () = reached(deadline) => {
                let (_, seen) = self.inner.ask(&self.entry, Some(Event::Tick)).await?;
                Ok(Some(seen))
            }
            () = tokio::time::sleep(beats::PERIOD) => {
                self.inner.beats.gather(&self.entry.group, member);
                Ok(None)
            }
        }
    }
}

async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The group has changed its protocol meanwhile: who is still a member joins once more.
fn upgraded(group: &ConsumerGroup, member: &MemberId) -> GroupError {
    if group.members.contains_key(member) { GroupError::RebalanceInProgress } else { GroupError::UnknownMember }
}
