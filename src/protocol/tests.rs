//! Round trips over every advertised version, with the kafka-protocol crate as the judge.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterPartitionReassignmentsRequest, ApiVersionsRequest, ConsumerGroupDescribeRequest,
    ConsumerGroupHeartbeatRequest, CreateAclsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteAclsRequest, DeleteGroupsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeAclsRequest, DescribeClientQuotasRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest, DescribeProducersRequest, DescribeTopicPartitionsRequest,
    DescribeUserScramCredentialsRequest, ElectLeadersRequest, FetchRequest, FetchResponse, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListConfigResourcesRequest,
    ListGroupsRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, ResponseHeader, SyncGroupRequest, TopicName, UpdateFeaturesRequest,
    fetch_response, produce_request,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::codec;
use super::fetch_response::{Aborted, FetchAnswer, FetchedPartition, FetchedTopic};
use super::shapes::{MAX_ELEMENTS, Shape, Struct, check};
use super::versions::{APIS, Api, ApiRow, State, row};
use super::wire::{WireError, put_len, put_str, put_uvarint};
use super::{ClientNotes, Request, RequestHeader, parse_request};
use crate::types::{NodeId, Offset, ProducerId, TopicId};

fn header(api: &'static ApiRow, version: i16) -> RequestHeader {
    RequestHeader {
        api,
        version,
        correlation_id: 77,
        client_id: None,
        client_host: std::sync::Arc::default(),
        notes: ClientNotes::default(),
    }
}

fn request(api: &'static ApiRow, version: i16, body: Bytes) -> Request {
    Request { header: header(api, version), body }
}

fn api(key: i16) -> &'static ApiRow {
    row(key).expect("a served API")
}

/// Writes a value of a shape, taking its chance from `dice`; what the shape says is all it knows of the message.
struct Writer<'a> {
    out: BytesMut,
    version: i16,
    flexible: bool,
    dice: &'a mut dyn FnMut() -> u8,
}

impl Writer<'_> {
    fn structure(&mut self, shape: &Struct) {
        let version = self.version;
        for field in shape.fields().iter().filter(|f| f.is_in(version)) {
            self.value(field.shape());
        }
        if self.flexible {
            put_uvarint(&mut self.out, 0);
        }
    }

    fn value(&mut self, shape: &Shape) {
        match shape {
            // A byte may be a boolean, so it is 0 or 1.
            Shape::Fixed(1) => self.out.put_u8((self.dice)() % 2),
            Shape::Fixed(len) => (0..*len).for_each(|_| self.out.put_u8((self.dice)())),
            Shape::Str => {
                let text: String = (0..(self.dice)() % 5).map(|_| char::from(b'a' + (self.dice)() % 26)).collect();
                put_str(&mut self.out, &text, self.flexible);
            }
            Shape::Blob => {
                let len = usize::from((self.dice)());
                put_len(&mut self.out, len, self.flexible);
                (0..len).for_each(|_| self.out.put_u8((self.dice)()));
            }
            Shape::List(item) => {
                let count = usize::from((self.dice)() % 4);
                put_len(&mut self.out, count, self.flexible);
                (0..count).for_each(|_| self.value(item));
            }
            Shape::Struct(inner) => self.structure(inner),
            Shape::Optional(inner) if (self.dice)() % 2 == 1 => {
                self.out.put_i8(1);
                self.structure(inner);
            }
            Shape::Optional(_) => self.out.put_i8(-1),
        }
    }
}

fn write(shape: &Struct, version: i16, flexible: bool, dice: &mut dyn FnMut() -> u8) -> Bytes {
    let mut writer = Writer { out: BytesMut::new(), version, flexible, dice };
    writer.structure(shape);
    writer.out.freeze()
}

/// Decodes with the crate and encodes again: the same bytes, or the shape and the crate do not mean the same message.
fn judge<R: Decodable + Encodable>(request: &Request) -> Result<(), TestCaseError> {
    let decoded: R = codec::decode(request).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let layout =
        if request.header.api.served() == Some(Api::ListOffsets) { request.header.version.min(10) } else { request.header.version };
    let mut again = BytesMut::new();
    decoded.encode(&mut again, layout).map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert_eq!(&request.body[..], &again[..]);
    Ok(())
}

fn judge_any(api: Api, request: &Request) -> Result<(), TestCaseError> {
    match api {
        Api::Produce => judge::<ProduceRequest>(request),
        Api::Fetch => judge::<FetchRequest>(request),
        Api::ListOffsets => judge::<ListOffsetsRequest>(request),
        Api::Metadata => judge::<MetadataRequest>(request),
        Api::OffsetCommit if request.header.version >= 10 => judge_offset_commit(request),
        Api::OffsetCommit => judge::<OffsetCommitRequest>(request),
        Api::OffsetFetch if request.header.version >= 10 => judge_offset_fetch(request),
        Api::OffsetFetch => judge::<OffsetFetchRequest>(request),
        Api::FindCoordinator => judge::<FindCoordinatorRequest>(request),
        Api::JoinGroup => judge::<JoinGroupRequest>(request),
        Api::Heartbeat => judge::<HeartbeatRequest>(request),
        Api::LeaveGroup => judge::<LeaveGroupRequest>(request),
        Api::SyncGroup => judge::<SyncGroupRequest>(request),
        Api::DescribeGroups => judge::<DescribeGroupsRequest>(request),
        Api::ListGroups => judge::<ListGroupsRequest>(request),
        Api::DeleteGroups => judge::<DeleteGroupsRequest>(request),
        Api::OffsetDelete => judge::<OffsetDeleteRequest>(request),
        Api::ConsumerGroupHeartbeat => judge::<ConsumerGroupHeartbeatRequest>(request),
        Api::ConsumerGroupDescribe => judge::<ConsumerGroupDescribeRequest>(request),
        Api::ApiVersions => judge::<ApiVersionsRequest>(request),
        Api::CreateTopics => judge::<CreateTopicsRequest>(request),
        Api::DeleteTopics => judge::<DeleteTopicsRequest>(request),
        Api::InitProducerId => judge::<InitProducerIdRequest>(request),
        Api::OffsetForLeaderEpoch => judge::<OffsetForLeaderEpochRequest>(request),
        Api::DescribeConfigs => judge::<DescribeConfigsRequest>(request),
        Api::DescribeCluster => judge::<DescribeClusterRequest>(request),
        Api::DeleteRecords => judge::<DeleteRecordsRequest>(request),
        Api::DescribeAcls => judge::<DescribeAclsRequest>(request),
        Api::CreateAcls => judge::<CreateAclsRequest>(request),
        Api::DeleteAcls => judge::<DeleteAclsRequest>(request),
        Api::AlterConfigs => judge::<AlterConfigsRequest>(request),
        Api::DescribeLogDirs => judge::<DescribeLogDirsRequest>(request),
        Api::CreatePartitions => judge::<CreatePartitionsRequest>(request),
        Api::ElectLeaders => judge::<ElectLeadersRequest>(request),
        Api::IncrementalAlterConfigs => judge::<IncrementalAlterConfigsRequest>(request),
        Api::AlterPartitionReassignments => judge::<AlterPartitionReassignmentsRequest>(request),
        Api::ListPartitionReassignments => judge::<ListPartitionReassignmentsRequest>(request),
        Api::DescribeClientQuotas => judge::<DescribeClientQuotasRequest>(request),
        Api::DescribeUserScramCredentials => judge::<DescribeUserScramCredentialsRequest>(request),
        Api::UpdateFeatures => judge::<UpdateFeaturesRequest>(request),
        Api::DescribeProducers => judge::<DescribeProducersRequest>(request),
        Api::ListConfigResources => judge::<ListConfigResourcesRequest>(request),
        Api::DescribeTopicPartitions => judge::<DescribeTopicPartitionsRequest>(request),
    }
}

fn put_text(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_str(out, text, true),
        None => out.put_u8(0),
    }
}

fn judge_offset_commit(request: &Request) -> Result<(), TestCaseError> {
    let decoded = codec::decode_offset_commit(request).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let mut out = BytesMut::new();
    put_str(&mut out, &decoded.group_id, true);
    out.put_i32(decoded.generation_id_or_member_epoch);
    put_str(&mut out, &decoded.member_id, true);
    put_text(&mut out, decoded.group_instance_id.as_deref());
    put_len(&mut out, decoded.topics.len(), true);
    for topic in &decoded.topics {
        out.put_slice(topic.topic_id.as_bytes());
        put_len(&mut out, topic.partitions.len(), true);
        for partition in &topic.partitions {
            out.put_i32(partition.partition_index);
            out.put_i64(partition.committed_offset);
            out.put_i32(partition.committed_leader_epoch);
            put_text(&mut out, partition.committed_metadata.as_deref());
            out.put_u8(0);
        }
        out.put_u8(0);
    }
    out.put_u8(0);
    prop_assert_eq!(&request.body[..], &out[..]);
    Ok(())
}

fn judge_offset_fetch(request: &Request) -> Result<(), TestCaseError> {
    let decoded = codec::decode_offset_fetch(request).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let mut out = BytesMut::new();
    put_len(&mut out, decoded.groups.len(), true);
    for group in &decoded.groups {
        put_str(&mut out, &group.group_id, true);
        put_text(&mut out, group.member_id.as_deref());
        out.put_i32(group.member_epoch);
        let topics = group.topics.as_deref().expect("never null here");
        put_len(&mut out, topics.len(), true);
        for topic in topics {
            out.put_slice(topic.topic_id.as_bytes());
            put_len(&mut out, topic.partition_indexes.len(), true);
            topic.partition_indexes.iter().for_each(|p| out.put_i32(*p));
            out.put_u8(0);
        }
        out.put_u8(0);
    }
    out.put_u8(u8::from(decoded.require_stable));
    out.put_u8(0);
    prop_assert_eq!(&request.body[..], &out[..]);
    Ok(())
}

/// The versions that have the shape of the table.
fn shaped_versions(api: &ApiRow) -> std::ops::RangeInclusive<i16> {
    let first = if api.key == 0 { super::old_produce::FIRST_SERVED } else { api.min };
    first..=api.max
}

#[test]
fn every_request_of_every_advertised_version_goes_round() {
    for row in APIS {
        let State::Served(api, shape) = row.state else { continue };
        for version in shaped_versions(row) {
            let mut runner = TestRunner::new(ProptestConfig::with_cases(16));
            let outcome = runner.run(&prop::collection::vec(any::<u8>(), 64..512), |chance| {
                let mut chance = chance.into_iter().cycle();
                let body = write(shape, version, row.is_flexible(version), &mut || chance.next().unwrap_or(0));
                judge_any(api, &request(row, version, body))
            });
            assert!(outcome.is_ok(), "{} version {version}: {outcome:?}", row.name);
        }
    }
}

#[test]
fn a_cut_or_garbled_request_never_panics_and_allocates_little() {
    for row in APIS {
        let State::Served(api, shape) = row.state else { continue };
        for version in shaped_versions(row) {
            let mut runner = TestRunner::new(ProptestConfig::with_cases(16));
            let garble = (prop::collection::vec(any::<u8>(), 32..128), any::<prop::sample::Index>(), any::<u8>(), any::<bool>());
            let outcome = runner.run(&garble, |(chance, at, with, cut)| {
                let mut chance = chance.into_iter().cycle();
                let mut body = write(shape, version, row.is_flexible(version), &mut || chance.next().unwrap_or(0)).to_vec();
                let at = at.index(body.len() + 1);
                if cut {
                    body.truncate(at);
                } else if let Some(byte) = body.get_mut(at) {
                    *byte = with;
                }
                // Whatever comes out, it comes out.
                let _ = judge_any(api, &request(row, version, Bytes::from(body)));
                Ok(())
            });
            assert!(outcome.is_ok(), "{} version {version}: {outcome:?}", row.name);
        }
    }
}

#[test]
fn a_count_of_two_thousand_million_is_refused_before_it_is_believed() {
    let metadata = request(api(3), 1, Bytes::from_static(b"\x7f\xff\xff\xff\0\0"));
    assert!(codec::decode::<MetadataRequest>(&metadata).is_err());
    let flexible = request(api(3), 12, Bytes::from_static(b"\xff\xff\xff\xff\x07\0\0"));
    assert!(codec::decode::<MetadataRequest>(&flexible).is_err());
    // Each array alone could be true; together they are too many.
    let many = vec![0; 2 * (MAX_ELEMENTS + 1) + 4];
    let mut body = BytesMut::from(&(MAX_ELEMENTS as i32 + 1).to_be_bytes()[..]);
    body.put_slice(&many);
    let State::Served(_, shape) = api(3).state else { unreachable!() };
    assert_eq!(check(&body, shape, 1, false), Err(WireError::TooManyElements));
}

#[test]
fn a_known_tag_of_a_wrong_length_is_refused() {
    // Fetch 17, one topic, one partition whose tag 0 (16 bytes) claims to be empty.
    let mut body = BytesMut::new();
    body.put_slice(&[0; 4 + 4 + 4 + 1 + 4 + 4]);
    put_uvarint(&mut body, 2);
    body.put_slice(&[0; 16]);
    put_uvarint(&mut body, 2);
    body.put_slice(&[0; 4 + 4 + 8 + 4 + 8 + 4]);
    body.put_slice(&[1, 0, 0]);
    body.put_slice(&[0; 64]);
    let State::Served(_, shape) = api(1).state else { unreachable!() };
    assert_eq!(check(&body, shape, 17, true), Err(WireError::TagLength));
}

#[test]
fn null_arrays_and_strings_are_read() {
    let all = codec::decode::<MetadataRequest>(&request(api(3), 1, Bytes::from_static(b"\xff\xff\xff\xff"))).expect("null topics");
    assert_eq!(all.topics, None);
    let produce = Bytes::from_static(b"\xff\xff\xff\xff\0\0\0\0\0\0\0\0");
    assert_eq!(codec::decode::<ProduceRequest>(&request(api(0), 3, produce)).expect("no transaction").transactional_id, None);
}

#[test]
fn records_of_a_produce_request_are_slices_of_the_frame() {
    let records = Bytes::from(vec![9; 4_096]);
    let partition = produce_request::PartitionProduceData::default().with_records(Some(records.clone()));
    let topic = produce_request::TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str("t")))
        .with_partition_data(vec![partition]);
    let sent = ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]);
    let mut frame = BytesMut::new();
    put_request_header(&mut frame, 0, 9);
    sent.encode(&mut frame, 9).expect("encoded");
    let frame = frame.freeze();
    let request = parse_request(frame.clone()).expect("parsed");
    let decoded: ProduceRequest = codec::decode(&request).expect("decoded");
    let slice = decoded.topic_data[0].partition_data[0].records.clone().expect("records");
    assert_eq!(slice, records);
    assert!(frame.as_ptr_range().contains(&slice.as_ptr()), "the records were copied");
}

fn put_request_header(out: &mut BytesMut, key: i16, version: i16) {
    let header = kafka_protocol::messages::RequestHeader::default().with_request_api_key(key).with_request_api_version(version);
    let form = if api(key).is_flexible(version) { 2 } else { 1 };
    header.encode(out, form).expect("a header");
}

fn fetched_partition() -> impl Strategy<Value = FetchedPartition> {
    let records = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600).prop_map(Bytes::from), 0..4);
    let aborted = prop::option::of(prop::collection::vec((any::<i64>(), any::<i64>()), 0..3));
    let preferred = prop::option::of((0..i32::MAX).prop_map(NodeId));
    (any::<i32>(), any::<i16>(), any::<[i64; 3]>(), aborted, preferred, records).prop_map(
        |(index, error_code, offsets, aborted, preferred, records)| {
            let aborted =
                aborted.map(|all| all.iter().map(|(p, o)| Aborted { producer: ProducerId(*p), first_offset: Offset(*o) }).collect());
            let [high_watermark, last_stable, log_start] = offsets.map(Offset);
            FetchedPartition { index, error_code, high_watermark, last_stable, log_start, aborted, preferred, records }
        },
    )
}

fn fetch_answer() -> impl Strategy<Value = FetchAnswer> {
    let topic = ("[a-z]{1,9}", any::<[u8; 16]>(), prop::collection::vec(fetched_partition(), 0..4))
        .prop_map(|(name, id, partitions)| FetchedTopic { name: StrBytes::from_string(name), id: TopicId(id), partitions });
    (any::<i16>(), prop::collection::vec(topic, 0..4)).prop_map(|(error_code, topics)| FetchAnswer { error_code, topics })
}

/// What of an answer a version can carry.
fn seen_in(answer: &FetchAnswer, version: i16) -> FetchAnswer {
    let mut seen = answer.clone();
    if version < 7 {
        seen.error_code = 0;
    }
    for topic in &mut seen.topics {
        if version >= 13 {
            topic.name = StrBytes::default();
        } else {
            topic.id = TopicId::ZERO;
        }
        for partition in &mut topic.partitions {
            partition.records = vec![partition.records.concat().into()];
            if version < 5 {
                partition.log_start = Offset(-1);
            }
            if version < 11 {
                partition.preferred = None;
            }
        }
    }
    seen
}

fn from_crate(response: &FetchResponse) -> FetchAnswer {
    let aborted = |p: &fetch_response::PartitionData| {
        let one = |t: &fetch_response::AbortedTransaction| Aborted {
            producer: ProducerId(t.producer_id.0),
            first_offset: Offset(t.first_offset),
        };
        p.aborted_transactions.as_ref().map(|all| all.iter().map(one).collect())
    };
    let partition = |p: &fetch_response::PartitionData| FetchedPartition {
        index: p.partition_index,
        error_code: p.error_code,
        high_watermark: Offset(p.high_watermark),
        last_stable: Offset(p.last_stable_offset),
        log_start: Offset(p.log_start_offset),
        aborted: aborted(p),
        preferred: Some(NodeId(p.preferred_read_replica.0)).filter(|node| node.0 >= 0),
        records: p.records.clone().into_iter().collect(),
    };
    let topic = |t: &fetch_response::FetchableTopicResponse| FetchedTopic {
        name: t.topic.0.clone(),
        id: TopicId(*t.topic_id.as_bytes()),
        partitions: t.partitions.iter().map(partition).collect(),
    };
    FetchAnswer { error_code: response.error_code, topics: response.responses.iter().map(topic).collect() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn fetch_answers_are_read_by_the_crate_in_every_version(answer in fetch_answer()) {
        for version in 4..=18 {
            let header = header(api(1), version);
            let mut frame = answer.encode(&header).to_bytes();
            let length = frame.split_to(4);
            prop_assert_eq!(u32::from_be_bytes(length[..].try_into().expect("four bytes")) as usize, frame.len());
            let answer_header = ResponseHeader::decode(&mut frame, i16::from(version >= 12)).expect("a header");
            prop_assert_eq!(answer_header.correlation_id, 77);
            let response = FetchResponse::decode(&mut frame, version).expect("an answer");
            prop_assert!(frame.is_empty());
            prop_assert_eq!(from_crate(&response), seen_in(&answer, version));
        }
    }
}

#[test]
fn records_of_a_fetch_answer_are_not_copied() {
    let records = Bytes::from(vec![1; 100_000]);
    let partition = FetchedPartition {
        index: 0,
        error_code: 0,
        high_watermark: Offset(1),
        last_stable: Offset(1),
        log_start: Offset(0),
        aborted: None,
        preferred: None,
        records: vec![records.clone()],
    };
    let topic = FetchedTopic { name: StrBytes::default(), id: TopicId::ZERO, partitions: vec![partition] };
    let rope = FetchAnswer { error_code: 0, topics: vec![topic] }.encode(&header(api(1), 16));
    assert!(rope.pieces().iter().any(|piece| piece.as_ptr() == records.as_ptr()));
    assert!(rope.pieces().len() <= 4);
}

#[test]
fn old_produce_requests_are_refused_in_their_own_form() {
    let mut body = BytesMut::new();
    body.put_i16(1);
    body.put_i32(1_000);
    put_len(&mut body, 1, false);
    put_str(&mut body, "t", false);
    put_len(&mut body, 1, false);
    body.put_i32(5);
    put_len(&mut body, 3, false);
    body.put_slice(b"abc");
    let expected: [&[u8]; 3] = [
        b"\0\0\0\x4d\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x05\0\x23\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\0\x4d\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x05\0\x23\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
        b"\0\0\0\x4d\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x05\0\x23\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
    ];
    for (version, expected) in expected.iter().enumerate() {
        let request = request(api(0), version as i16, body.clone().freeze());
        let rope = super::old_produce::refuse(&request, 35).expect("readable").expect("acks=1");
        assert_eq!(&rope.to_bytes()[4..], *expected, "version {version}");
    }
    body[1] = 0;
    assert!(super::old_produce::refuse(&request(api(0), 0, body.freeze()), 35).expect("readable").is_none(), "acks=0 reads no answer");
}
