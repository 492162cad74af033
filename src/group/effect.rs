//! What comes out of a turn of either machine.

use std::time::Duration;

use super::GroupError;
use super::classic::{Assigned, Joined};
use super::consumer::Beaten;
use crate::types::MemberId;

/// An answer that is no refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Joined(Joined),
    Assigned(Assigned),
    /// One for each leaver, in order.
    Left(Vec<Result<(), GroupError>>),
    Beaten(Beaten),
    /// Nobody asked.
    Done,
}

/// What is to be done once the new state is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Answer(Result<Reply, GroupError>),
    /// This member's request waits: [`super::classic::look`] finds its answer in a later state.
    Wait(MemberId),
    /// The member's session begins anew and lasts so long. Stored together with the state.
    Renew(MemberId, Duration),
    /// The member has no session any more. Stored together with the state.
    Forget(MemberId),
    /// Other agents are told.
    Announce,
    /// For the log and the metrics.
    Note(Note),
}

/// What happened, in a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    Added(MemberId),
    /// With the reason.
    Removed(MemberId, &'static str),
    /// A static member came back under a new id.
    Replaced {
        old: MemberId,
        new: MemberId,
    },
    /// With the reason.
    Rebalancing(&'static str),
    Generation(i32),
    Stable(i32),
    Emptied,
}
