//! Load, decide, store if nobody else did meanwhile, else again: events of one group that come together are taken together.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::GroupError;
use super::coordinator::Inner;
use super::effect::Note;
use super::event::Event;
use super::known::{Asked, Entry, Seen};
use super::state::GroupState;
use super::turns::{Told, Turns};
use crate::metastore::{GroupRow, MetaError};
use crate::types::GroupId;

/// Events taken in one go.
const AT_ONCE: usize = 1_000;
/// How often a state may be stored by somebody else before ours is: far more than there are agents.
const ATTEMPTS: u32 = 30;
/// The longest pause before the next attempt, at first; it grows.
const PAUSE: Duration = Duration::from_millis(4);

/// The event's answer, or the present state for those who only look.
pub(super) type Heard = Result<(Option<Told>, Seen), GroupError>;

impl Inner {
    /// Lets the event happen to the group.
    pub(super) async fn ask(self: &Arc<Self>, entry: &Arc<Entry>, event: Option<Event>) -> Heard {
        let (answer, answered) = tokio::sync::oneshot::channel();
        if entry.ask(Asked { event, answer }) {
            let (inner, entry) = (Arc::clone(self), Arc::clone(entry));
            self.tasks.spawn("group", async move { inner.drive(&entry).await });
        }
        // The sender is dropped only with the whole agent.
        answered.await.unwrap_or(Err(GroupError::Stopping))
    }

    async fn drive(&self, entry: &Entry) {
        while let Some(asked) = entry.take(AT_ONCE) {
            let (events, waiting): (Vec<_>, Vec<_>) = asked.into_iter().map(|asked| (asked.event, asked.answer)).unzip();
            let happened: Vec<&Event> = events.iter().flatten().collect();
            let outcome = self.turn(entry, &happened).await;
            if let Ok((_, seen)) = &outcome {
                entry.learn(seen.clone());
            }
            let (mut told, seen) = match outcome {
                Ok((told, seen)) => (told.into_iter(), Ok(seen)),
                Err(error) => (Vec::new().into_iter(), Err(error)),
            };
            for (event, answer) in events.iter().zip(waiting) {
                let told = event.as_ref().and_then(|_| told.next());
                // Whoever asked may be gone.
                let _ = answer.send(seen.clone().map(|seen| (told, seen)));
            }
        }
    }

    /// All events, or none of them.
    async fn turn(&self, entry: &Entry, events: &[&Event]) -> Result<(Vec<Told>, Seen), GroupError> {
        let mut doubtful = None;
        for attempt in 0..ATTEMPTS {
            let (row, before, at) = self.load(entry).await?;
            if let Some((turns, _)) = doubtful.take_if(|(_, state): &mut (Turns, bytes::Bytes)| *state == row.state) {
                // What could not be told before: it was stored.
                return Ok(self.done(entry, turns, Seen::new(row.version, before, row.now, at)));
            }
            let turns = Turns::take(before.clone(), events.iter().copied(), &self.rules, row.now);
            let Some(change) = turns.change(&before) else {
                return Ok(self.done(entry, turns, Seen::new(row.version, before, row.now, at)));
            };
            match self.groups.store_group(&entry.group, row.version, &change).await {
                Ok(Some(version)) => {
                    let seen = Seen::new(version, turns.state.clone(), row.now, at);
                    return Ok(self.done(entry, turns, seen));
                }
                Ok(None) => self.metrics.conflicted(),
                Err(MetaError::Indeterminate(_)) => doubtful = Some((turns, change.state)),
                Err(error) => return Err(error.into()),
            }
            self.pause(attempt).await;
        }
        Err(GroupError::Unavailable(format!("the state of group {} changed {ATTEMPTS} times meanwhile", entry.group)))
    }

    pub(super) async fn load(&self, entry: &Entry) -> Result<(GroupRow, GroupState, Instant), GroupError> {
        let at = Instant::now();
        let rows = self.groups.load_groups(std::slice::from_ref(&entry.group)).await?;
        let row = rows.into_iter().next().ok_or_else(|| GroupError::Unavailable("the metastore said nothing".to_owned()))?;
        let state = decode(&entry.group, &row)?;
        Ok((row, state, at))
    }

    fn done(&self, entry: &Entry, turns: Turns, seen: Seen) -> (Vec<Told>, Seen) {
        for note in &turns.notes {
            tracing::debug!(group = %entry.group, ?note, "a group changed");
            self.count(note);
        }
        (turns.told, seen)
    }

    fn count(&self, note: &Note) {
        match note {
            Note::Removed(_, why) => self.metrics.member_removed(why),
            Note::Generation(_) => self.metrics.rebalanced(),
            Note::Added(_) | Note::Replaced { .. } | Note::Rebalancing(_) | Note::Stable(_) | Note::Emptied => {}
        }
    }

    async fn pause(&self, attempt: u32) {
        let longest = PAUSE.saturating_mul(attempt.min(8) + 1).as_micros();
        let micros = self.ids.below(u64::try_from(longest).unwrap_or(u64::MAX));
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}

pub(super) fn decode(group: &GroupId, row: &GroupRow) -> Result<GroupState, GroupError> {
    if row.state.is_empty() {
        return Ok(GroupState::default());
    }
    let state = GroupState::decode(row.state.clone());
    Ok(state.inspect_err(|error| tracing::error!(%group, %error, "the stored state of a group cannot be read"))?)
}
