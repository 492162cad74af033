//! Several events, one after the other, and what is to be stored for all of them together.

use std::collections::BTreeMap;
use std::time::Duration;

use super::GroupError;
use super::effect::{Effect, Note, Reply};
use super::event::Event;
use super::settings::Rules;
use super::state::GroupState;
use crate::metastore::GroupChange;
use crate::types::{MemberId, Timestamp};

/// What the request behind an event is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Answer(Result<Reply, GroupError>),
    /// Nothing yet: the answer is in a later state.
    Wait(MemberId),
}

/// The outcome of a row of events.
#[derive(Debug)]
pub(super) struct Turns {
    pub(super) state: GroupState,
    /// In the order of the events.
    pub(super) told: Vec<Told>,
    /// Whose session begins anew, and how long it lasts; `None`: it has none any more.
    sessions: BTreeMap<MemberId, Option<Duration>>,
    announce: bool,
    pub(super) notes: Vec<Note>,
}

impl Turns {
    pub(super) fn take<'a>(state: GroupState, events: impl IntoIterator<Item = &'a Event>, rules: &Rules, now: Timestamp) -> Turns {
        let mut turns = Turns { state, told: Vec::new(), sessions: BTreeMap::new(), announce: false, notes: Vec::new() };
        for event in events {
            let (state, effects) = std::mem::take(&mut turns.state).apply(event, rules, now);
            turns.state = state;
            turns.forget_strangers(event);
            for effect in effects {
                turns.note(effect);
            }
        }
        turns
    }

    /// A session whose member is gone for another reason would end again and again.
    fn forget_strangers(&mut self, event: &Event) {
        let Event::Sessions(ended) = event else { return };
        let strangers = ended.iter().filter(|(member, _)| !self.state.has(member));
        self.sessions.extend(strangers.map(|(member, _)| (member.clone(), None)));
    }

    fn note(&mut self, effect: Effect) {
        match effect {
            Effect::Answer(answer) => self.told.push(Told::Answer(answer)),
            Effect::Wait(member) => self.told.push(Told::Wait(member)),
            Effect::Renew(member, timeout) => {
                self.sessions.insert(member, Some(timeout));
            }
            Effect::Forget(member) => {
                self.sessions.insert(member, None);
            }
            Effect::Announce => self.announce = true,
            Effect::Note(note) => self.notes.push(note),
        }
    }

    /// What is to be stored over `before`; `None` if nothing changed.
    pub(super) fn change(&self, before: &GroupState) -> Option<GroupChange> {
        if *before == self.state && self.sessions.is_empty() {
            return None;
        }
        Some(GroupChange {
            state: self.state.encode(),
            label: self.state.label(),
            due: self.state.deadline(),
            empty_since: self.state.empty_since(),
            renew: self.sessions.iter().filter_map(|(member, timeout)| Some((member.clone(), (*timeout)?))).collect(),
            forget: self.sessions.iter().filter(|(_, timeout)| timeout.is_none()).map(|(member, _)| member.clone()).collect(),
            announce: self.announce,
        })
    }
}
