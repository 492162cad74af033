//! What an error of a room is called on the wire: the single place that knows Kafka's codes for them.

use kafka_protocol::ResponseError;

use crate::fetch::FetchError;
use crate::group::GroupError;
use crate::metastore::MetaError;
use crate::partition::RejectReason;
use crate::produce::ProduceError;
use crate::records::batch::BatchError;

/// Kafka's code for "no error".
pub(super) const NONE: i16 = 0;

/// Why something that a client asked for is not done: a code, and words for the client.
pub(super) type Refused = (ResponseError, String);

/// Why administration failed at the metastore.
pub(super) fn refused(failed: &MetaError) -> Refused {
    (meta(Asked::Admin, failed), failed.to_string())
}

/// Whom an unavailable metastore keeps waiting: each API's clients retry on other codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Administration: the client asks again.
    Admin,
    /// Where topics are: clients ask again after a moment.
    Metadata,
    /// Offsets of a group: clients ask the same coordinator again.
    Group,
    /// A group's members: clients look for their coordinator, and ask again.
    Member,
    /// A partition's log: clients refresh their metadata and ask again.
    Log,
    /// Producing: clients send the batch again.
    Produce,
}

/// The code for an error of the metastore. Whether the change may have happened makes no difference to clients: all these requests can be repeated.
pub(super) fn meta(asked: Asked, error: &MetaError) -> ResponseError {
    match error {
        MetaError::Unavailable(_) | MetaError::Indeterminate(_) => {
            tracing::debug!(%error, ?asked, "a request is answered with a code to retry");
            unavailable(asked)
        }
        MetaError::Full(_) => {
            tracing::debug!(%error, ?asked, "a request is answered with a code to retry");
            ResponseError::KafkaStorageError
        }
        MetaError::Schema(_) | MetaError::Refused(_) | MetaError::Corrupt(_) => {
            tracing::error!(%error, ?asked, "a request failed");
            match asked {
                // Credentials or a schema that are wrong can be mended; a producer that takes the answer for final gives its records up.
                Asked::Produce => unavailable(asked),
                Asked::Admin | Asked::Metadata | Asked::Group | Asked::Member | Asked::Log => ResponseError::UnknownServerError,
            }
        }
    }
}

fn unavailable(asked: Asked) -> ResponseError {
    match asked {
        Asked::Admin | Asked::Produce => ResponseError::RequestTimedOut,
        Asked::Metadata => ResponseError::LeaderNotAvailable,
        Asked::Group => ResponseError::CoordinatorLoadInProgress,
        Asked::Member => ResponseError::CoordinatorNotAvailable,
        Asked::Log => ResponseError::KafkaStorageError,
    }
}

/// How a request names topics: an unknown one is called by another code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedBy {
    Name,
    Id,
}

impl NamedBy {
    /// The code for a topic or partition that does not exist.
    pub(super) fn unknown(self) -> ResponseError {
        match self {
            NamedBy::Name => ResponseError::UnknownTopicOrPartition,
            NamedBy::Id => ResponseError::UnknownTopicId,
        }
    }
}

/// The code for a batch that was not stored.
pub(super) fn batch(error: &BatchError) -> ResponseError {
    match error {
        BatchError::Crc { .. } => ResponseError::CorruptMessage,
        BatchError::TooLarge { .. } => ResponseError::MessageTooLarge,
        BatchError::Codec(_) | BatchError::ZstdTooEarly => ResponseError::UnsupportedCompressionType,
        BatchError::Empty
        | BatchError::TooShort(_)
        | BatchError::Magic(_)
        | BatchError::Length { .. }
        | BatchError::MoreThanOne(_)
        | BatchError::Control
        | BatchError::Count { .. }
        | BatchError::Records
        | BatchError::TimestampType
        | BatchError::Producer { .. }
        | BatchError::Unreadable(_) => ResponseError::InvalidRecord,
    }
}

/// One word for why a batch was not stored, for the metrics.
pub(super) fn batch_reason(error: &BatchError) -> &'static str {
    match error {
        BatchError::Empty => "empty",
        BatchError::TooShort(_) | BatchError::Length { .. } => "length",
        BatchError::Magic(_) => "magic",
        BatchError::MoreThanOne(_) => "more_than_one",
        BatchError::TooLarge { .. } => "too_large",
        BatchError::Crc { .. } => "crc",
        BatchError::Codec(_) | BatchError::ZstdTooEarly => "codec",
        BatchError::Control => "control",
        BatchError::Count { .. } | BatchError::Records => "count",
        BatchError::TimestampType => "timestamp_type",
        BatchError::Producer { .. } => "producer",
        BatchError::Unreadable(_) => "unreadable",
    }
}

/// The code for a batch that was taken but is not in the log, or not known to be.
pub(super) fn produce(named_by: NamedBy, error: &ProduceError) -> ResponseError {
    match error {
        ProduceError::Rejected(RejectReason::UnknownLog) => named_by.unknown(),
        ProduceError::Rejected(RejectReason::OutOfOrderSequence) => ResponseError::OutOfOrderSequenceNumber,
        // Retriable, and known not to be in the log: clients send it again, in the same epoch, behind what is missing.
        ProduceError::Rejected(RejectReason::MissingPredecessor) => ResponseError::NotEnoughReplicas,
        ProduceError::Rejected(RejectReason::Fenced) => ResponseError::InvalidProducerEpoch,
        // Clients take it for success, which it is.
        ProduceError::Rejected(RejectReason::DuplicateSequence) => ResponseError::DuplicateSequenceNumber,
        ProduceError::StoreFull(_) => ResponseError::KafkaStorageError,
        // Retriable, and clients know that the batch may be in the log all the same.
        ProduceError::Unavailable(_) => ResponseError::RequestTimedOut,
        // Clients look for another broker at once.
        ProduceError::ShuttingDown => ResponseError::NotLeaderOrFollower,
    }
}

/// The code for a log that could not be read.
pub(super) fn fetch(named_by: NamedBy, error: &FetchError) -> ResponseError {
    match error {
        FetchError::UnknownLog => named_by.unknown(),
        FetchError::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        FetchError::Unavailable(_) => ResponseError::KafkaStorageError,
        FetchError::Corrupt(_) => ResponseError::CorruptMessage,
    }
}

/// The code for what a group refused.
pub(super) fn group(asked: Asked, error: &GroupError) -> ResponseError {
    match error {
        GroupError::InvalidGroupId => ResponseError::InvalidGroupId,
        GroupError::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
        GroupError::InvalidRequest(_) => ResponseError::InvalidRequest,
        GroupError::MemberIdRequired(_) => ResponseError::MemberIdRequired,
        GroupError::UnknownMember => ResponseError::UnknownMemberId,
        GroupError::FencedInstance => ResponseError::FencedInstanceId,
        GroupError::IllegalGeneration => ResponseError::IllegalGeneration,
        GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
        GroupError::InconsistentProtocol => ResponseError::InconsistentGroupProtocol,
        GroupError::GroupFull => ResponseError::GroupMaxSizeReached,
        // Kafka's answer to a group that its log cannot take.
        GroupError::TooLarge | GroupError::Corrupt(_) => ResponseError::UnknownServerError,
        GroupError::InvalidPattern(_) => ResponseError::InvalidRegularExpression,
        GroupError::UnsupportedAssignor => ResponseError::UnsupportedAssignor,
        GroupError::UnreleasedInstance => ResponseError::UnreleasedInstanceId,
        GroupError::FencedEpoch => ResponseError::FencedMemberEpoch,
        GroupError::StaleEpoch => ResponseError::StaleMemberEpoch,
        GroupError::NotEmpty => ResponseError::NonEmptyGroup,
        GroupError::NotFound => ResponseError::GroupIdNotFound,
        GroupError::Subscribed => ResponseError::GroupSubscribedToTopic,
        GroupError::Stopping => ResponseError::NotCoordinator,
        GroupError::Unavailable(_) => unavailable(asked),
        GroupError::Metastore(error) => meta(asked, error),
    }
}

/// The first code of an answer that is not [`NONE`], for the metrics.
pub(super) fn first(codes: impl IntoIterator<Item = i16>) -> i16 {
    codes.into_iter().find(|code| *code != NONE).unwrap_or(NONE)
}

/// Every leader epoch is 0, since no partition ever changes hands; -1 means that the client does not know.
pub(super) fn check_epoch(current: i32) -> Result<(), ResponseError> {
    if current > 0 { Err(ResponseError::UnknownLeaderEpoch) } else { Ok(()) }
}
