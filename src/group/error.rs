//! Why a group refuses.

use super::wire::BodyError;
use crate::metastore::MetaError;
use crate::types::MemberId;

/// A refusal, one for each of Kafka's codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("the group id is empty, too long or holds what a group id cannot")]
    InvalidGroupId,
    #[error("the session timeout is outside the limits of this cluster")]
    InvalidSessionTimeout,
    #[error("the request contradicts itself: {0}")]
    InvalidRequest(&'static str),
    /// Come back with this id (KIP-394).
    #[error("the member id is {0}: join again with it")]
    MemberIdRequired(MemberId),
    #[error("the group does not know this member")]
    UnknownMember,
    #[error("another member has this instance id now")]
    FencedInstance,
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    #[error("the group is rebalancing: join again")]
    RebalanceInProgress,
    #[error("the group's members have no protocol in common with this one")]
    InconsistentProtocol,
    #[error("the group is full")]
    GroupFull,
    #[error("the subscription or assignment is too large to be kept")]
    TooLarge,
    #[error("the pattern cannot be used: {0}")]
    InvalidPattern(String),
    #[error("the assignor is not one of this cluster's")]
    UnsupportedAssignor,
    #[error("another member has this instance id and has not left")]
    UnreleasedInstance,
    #[error("the member's epoch is not the one it was given last: join again")]
    FencedEpoch,
    #[error("the member's epoch is not the present one")]
    StaleEpoch,
    #[error("the group has members")]
    NotEmpty,
    #[error("there is no such group")]
    NotFound,
    #[error("the group is subscribed to this topic")]
    Subscribed,
    /// This agent is about to stop: another one must be asked.
    #[error("this agent is stopping")]
    Stopping,
    #[error("the stored state of the group cannot be read: {0}")]
    Corrupt(#[from] BodyError),
    #[error(transparent)]
    Metastore(#[from] MetaError),
    /// Try again.
    #[error("the group's state cannot be reached: {0}")]
    Unavailable(String),
}
