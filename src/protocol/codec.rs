//! Requests from bytes and answers to bytes, through the kafka-protocol crate; and the few versions the crate does not have yet.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use uuid::Uuid;

use super::frame::{LENGTH_BYTES, Request, RequestHeader};
use super::rope::Rope;
use super::shapes;
use super::versions::{Api, State};
use super::wire::{Reader, WireError};

/// Why a message could not be decoded or encoded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CodecError {
    #[error("the request cannot be read: {0}")]
    Wire(#[from] WireError),
    #[error("the request cannot be read: {0}")]
    Decode(String),
    #[error("{name} version {version}: the answer cannot be written: {reason}")]
    Encode { name: &'static str, version: i16, reason: String },
}

/// The version whose layout the crate uses: where it is behind, a lower one with the same layout.
fn layout(api: Option<Api>, version: i16) -> i16 {
    match (api, version) {
        // Version 11 adds a timestamp that means something new (KIP-1023), and no field.
        (Some(Api::ListOffsets), 11) => 10,
        (_, version) => version,
    }
}

/// Decodes the body of a request of an advertised version. Fields of bytes are slices of the frame, not copies.
///
/// # Errors
/// The bytes are not such a request.
pub fn decode<R: Decodable>(request: &Request) -> Result<R, CodecError> {
    let header = &request.header;
    check_shape(request)?;
    R::decode(&mut request.body.clone(), layout(header.api.served(), header.version)).map_err(|e| CodecError::Decode(e.to_string()))
}

fn check_shape(request: &Request) -> Result<(), CodecError> {
    let RequestHeader { api, version, .. } = request.header;
    match api.state {
        State::Served(_, shape) => Ok(shapes::check(&request.body, shape, version, api.is_flexible(version))?),
        State::NotServed(reason) => Err(CodecError::Decode(reason.to_owned())),
    }
}

/// Encodes an answer as a frame, in the version of the request.
///
/// # Errors
/// The answer says something that this version cannot say: a fault of ours.
pub fn encode<A: Encodable>(header: &RequestHeader, answer: &A) -> Result<Rope, CodecError> {
    encode_as(header, header.version, answer)
}

/// As [`encode`], in another version.
///
/// # Errors
/// As [`encode`].
pub fn encode_as<A: Encodable>(header: &RequestHeader, version: i16, answer: &A) -> Result<Rope, CodecError> {
    let failed = |reason: String| CodecError::Encode { name: header.api.name, version, reason };
    let layout = layout(header.api.served(), version);
    let size = answer.compute_size(layout).map_err(|e| failed(e.to_string()))?;
    let mut out = BytesMut::with_capacity(size + LENGTH_BYTES + 5);
    out.put_i32(0);
    put_answer_header(&mut out, header, version);
    answer.encode(&mut out, layout).map_err(|e| failed(e.to_string()))?;
    let len = (out.len() - LENGTH_BYTES) as u32;
    out[..LENGTH_BYTES].copy_from_slice(&len.to_be_bytes());
    Ok(Rope::from(out.freeze()))
}

/// The correlation id and, in flexible versions, no tagged fields.
pub(super) fn put_answer_header(out: &mut BytesMut, header: &RequestHeader, version: i16) {
    out.put_i32(header.correlation_id);
    if header.api.has_flexible_answer(version) {
        out.put_u8(0);
    }
}

/// Decodes an OffsetCommit of any advertised version. In version 10 (KIP-848) topics have `topic_id` and no name.
///
/// # Errors
/// The bytes are not such a request.
pub fn decode_offset_commit(request: &Request) -> Result<OffsetCommitRequest, CodecError> {
    if request.header.version < 10 {
        return decode(request);
    }
    check_shape(request)?;
    let mut reader = Reader::new(&request.body);
    let group = owned(reader.str(true)?);
    let generation = reader.i32()?;
    let member = owned(reader.str(true)?);
    let instance = reader.nullable_str(true)?.map(owned);
    let topics = list(&mut reader, offset_commit_topic)?.ok_or(WireError::Null)?;
    Ok(OffsetCommitRequest::default()
        .with_group_id(GroupId(group))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(member)
        .with_group_instance_id(instance)
        .with_topics(topics))
}

fn offset_commit_topic(reader: &mut Reader<'_>) -> Result<OffsetCommitRequestTopic, WireError> {
    let id = Uuid::from_bytes(reader.uuid()?);
    let partitions = list(reader, offset_commit_partition)?.ok_or(WireError::Null)?;
    reader.skip_tags()?;
    Ok(OffsetCommitRequestTopic::default().with_topic_id(id).with_partitions(partitions))
}

fn offset_commit_partition(reader: &mut Reader<'_>) -> Result<OffsetCommitRequestPartition, WireError> {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(reader.i32()?)
        .with_committed_offset(reader.i64()?)
        .with_committed_leader_epoch(reader.i32()?)
        .with_committed_metadata(reader.nullable_str(true)?.map(owned));
    reader.skip_tags()?;
    Ok(partition)
}

/// Decodes an OffsetFetch of any advertised version. In version 10 (KIP-848) topics have `topic_id` and no name.
///
/// # Errors
/// The bytes are not such a request.
pub fn decode_offset_fetch(request: &Request) -> Result<OffsetFetchRequest, CodecError> {
    if request.header.version < 10 {
        return decode(request);
    }
    check_shape(request)?;
    let mut reader = Reader::new(&request.body);
    let groups = list(&mut reader, offset_fetch_group)?.ok_or(WireError::Null)?;
    let require_stable = reader.boolean()?;
    Ok(OffsetFetchRequest::default().with_groups(groups).with_require_stable(require_stable))
}

fn offset_fetch_group(reader: &mut Reader<'_>) -> Result<OffsetFetchRequestGroup, WireError> {
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(owned(reader.str(true)?)))
        .with_member_id(reader.nullable_str(true)?.map(owned))
        .with_member_epoch(reader.i32()?)
        .with_topics(list(reader, offset_fetch_topic)?);
    reader.skip_tags()?;
    Ok(group)
}

fn offset_fetch_topic(reader: &mut Reader<'_>) -> Result<OffsetFetchRequestTopics, WireError> {
    let id = Uuid::from_bytes(reader.uuid()?);
    let partitions = list(reader, partition_index)?.ok_or(WireError::Null)?;
    reader.skip_tags()?;
    Ok(OffsetFetchRequestTopics::default().with_topic_id(id).with_partition_indexes(partitions))
}

fn partition_index(reader: &mut Reader<'_>) -> Result<i32, WireError> {
    reader.i32()
}

/// A compact array, `None` for null. Its count was checked by [`check_shape`].
fn list<T>(reader: &mut Reader<'_>, item: fn(&mut Reader<'_>) -> Result<T, WireError>) -> Result<Option<Vec<T>>, WireError> {
    let Some(count) = reader.count(true)? else { return Ok(None) };
    (0..count).map(|_| item(reader)).collect::<Result<Vec<_>, _>>().map(Some)
}

fn owned(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
