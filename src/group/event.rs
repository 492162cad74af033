//! What goes into the machines.

use super::classic::{Join, Leaver, Sync};
use super::consumer::Heartbeat;
use crate::types::{MemberId, Timestamp};

/// Something that happens to a group.
#[derive(Debug, Clone)]
pub enum Event {
    Join(Join),
    Sync(Sync),
    Leave(Vec<Leaver>),
    /// Of the consumer protocol.
    Heartbeat(Heartbeat),
    /// Time passed: deadlines may be over.
    Tick,
    /// When the sessions of members and pending members end.
    Sessions(Vec<(MemberId, Timestamp)>),
}
