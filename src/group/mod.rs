//! Consumer groups: who is a member, who owns what, and which offsets they may commit.
//!
//! No agent owns a group. Its state is one versioned row of the metastore; whichever agent gets a request loads the row, lets pure code
//! decide ([`classic`], [`consumer`]: `apply(state, event, now)` gives the next state and effects), and stores the result if the version is unchanged,
//! else it looks again. Members of one group may therefore talk to different agents.
//!
//! Words:
//! - a *generation* is one agreement of all members on who owns what; a *rebalance* is the way from one to the next: *join* (who is there),
//!   then *sync* (the leader's assignment);
//! - a *static* member has an instance id of its own and may come back under a new member id without a rebalance (KIP-345); a *pending* one
//!   was given a member id and has not come back with it (KIP-394);
//! - a *waiter* is a JoinGroup or SyncGroup without an answer yet. It stays on the agent that holds its connection, and looks at the row again
//!   whenever the row changes;
//! - a *beat* is a sign of life of a member. Beats are gathered by each agent and written in one statement about once a second; a waiter beats for
//!   its member.
//!
//! Invariants: a state is stored only over the one it was made from; nothing is answered before it is stored; a cached state may say yes, but
//! a no is said only after the row was loaded; time is the metastore's; offsets are stored only if the row has not changed since they were allowed.

mod admin;
mod beats;
pub mod classic;
pub mod consumer;
mod consumers;
mod coordinator;
mod drive;
mod effect;
mod error;
mod event;
mod known;
mod migrate;
mod settings;
mod state;
mod subscription;
mod sweep;
mod topics;
mod turns;
mod wait;
mod wire;

pub use admin::Listed;
pub use coordinator::{Committer, Coordinator, CoordinatorParts};
pub use error::GroupError;
pub use migrate::MigrationPolicy;
pub use settings::{ConsumerSettings, GroupSettings};
pub use wire::BodyError;

#[cfg(test)]
mod figures;
#[cfg(test)]
mod tests;
