//! Producing: what is taken, what is refused and how, and what becomes of it.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, TransactionalId};

use tokio::time::Instant;

use super::{World, frame, produce_request, text};
use crate::clock::{Clock as _, SystemClock};
use crate::handlers::{Refusal, Reply};
use crate::metastore::flaky::{Odds, Operation};
use crate::records::batch::build;

fn now() -> i64 {
    SystemClock.now().0
}

fn batch(count: i32) -> Vec<u8> {
    build::batch(count, 10, now())
}

/// A batch with one byte range changed and the CRC made right again.
fn changed(at: usize, with: &[u8]) -> Vec<u8> {
    let mut batch = batch(2);
    batch[at..at + with.len()].copy_from_slice(with);
    build::sealed(batch)
}

#[tokio::test]
async fn batches_get_their_offsets_in_every_version() {
    let world = World::new();
    let id = world.create("t", 1, &[]).await;
    let mut expected = 0;
    for version in 3..=12 {
        let answer = world.produce(version, "t", 0, batch(3)).await;
        assert_eq!((answer.error_code, answer.base_offset, answer.log_append_time_ms), (0, expected, -1), "version {version}");
        assert_eq!(answer.log_start_offset, if version >= 5 { 0 } else { -1 });
        expected += 3;
    }
    let mut by_id = produce_request(1, "", 0, batch(1));
    by_id.topic_data[0].topic_id = id;
    let answer = world.ask(13, &by_id).await;
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, expected);
    let metrics = world.metrics();
    assert!(metrics.contains("yaks_produce_records_total{topic=\"t\"} 31"), "{metrics}");
    assert!(
        metrics.contains("yaks_requests_total{api_key=\"Produce\",api_version=\"13\",error_code=\"0\",success=\"true\"} 1"),
        "{metrics}"
    );
}

/// A negative count, stored, would stop the offsets of everybody; two batches in one, or bytes behind it, would damage the data of others; and a CRC that
/// nobody checks is none.
#[tokio::test]
async fn a_bad_batch_gets_kafkas_code_and_hurts_nobody_else() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    let mut wrong_crc = batch(2);
    wrong_crc[60] ^= 1;
    let trailing = [batch(2), b"more".to_vec()].concat();
    let large = build::batch(1, 1_048_600, now());
    let cases: [(&str, i16, Vec<u8>, i16); 14] = [
        ("wrong CRC", 9, wrong_crc, 2),
        ("two batches", 9, [batch(1), batch(1)].concat(), 87),
        ("trailing bytes", 9, trailing, 87),
        ("cut", 9, batch(2)[..70].to_vec(), 87),
        ("negative count", 9, changed(57, &(-1i32).to_be_bytes()), 87),
        ("lying count", 9, changed(57, &3i32.to_be_bytes()), 87),
        ("magic 1", 9, changed(16, &[1]), 87),
        ("magic 0", 9, changed(16, &[0]), 87),
        ("control batch", 9, changed(21, &0x20u16.to_be_bytes()), 87),
        ("empty set", 9, Vec::new(), 87),
        ("unknown codec", 9, changed(21, &7u16.to_be_bytes()), 76),
        ("too large", 9, large, 10),
        ("zstd too early", 6, changed(21, &4u16.to_be_bytes()), 76),
        ("transactional", 9, build::stamped(changed(21, &0x10u16.to_be_bytes()), 1, 0, 0), 48),
    ];
    for (name, version, bytes, code) in cases {
        let answer = world.produce(version, "t", 0, bytes).await;
        assert_eq!((answer.error_code, answer.base_offset), (code, -1), "{name}: {:?}", answer.error_message);
    }
    assert_eq!(world.produce(9, "t", 0, batch(1)).await.base_offset, 0, "nothing was stored before");
    let metrics = world.metrics();
    assert!(metrics.contains("yaks_produce_partition_errors_total{error_code=\"87\",topic=\"t\"} 9"), "{metrics}");
    assert!(metrics.contains("yaks_produce_batches_rejected_total{reason=\"crc\"} 1"), "{metrics}");
}

#[tokio::test]
async fn one_bad_partition_does_not_spoil_the_others_of_its_request() {
    let world = World::new();
    world.create("t", 2, &[]).await;
    let mut request = produce_request(-1, "t", 0, batch(1));
    let partition = |index, records: Vec<u8>| {
        request.topic_data[0].partition_data[0].clone().with_index(index).with_records(Some(Bytes::from(records)))
    };
    request.topic_data[0].partition_data =
        vec![partition(0, batch(1)), partition(1, Vec::new()), partition(2, batch(1)), partition(1, batch(4))];
    request.topic_data.push(produce_request(-1, "unknown", 0, batch(1)).topic_data.remove(0));
    request.topic_data.push(produce_request(-1, "not/legal", 0, batch(1)).topic_data.remove(0));
    let answer = world.ask(9, &request).await;
    let codes: Vec<Vec<i16>> = answer.responses.iter().map(|t| t.partition_responses.iter().map(|p| p.error_code).collect()).collect();
    assert_eq!(codes, [vec![0, 87, 3, 0], vec![3], vec![3]]);
}

#[tokio::test]
async fn acks_of_no_known_kind_and_transactions_are_refused() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    let code = |request: ProduceRequest| {
        let world = &world;
        async move { world.ask(9, &request).await.responses[0].partition_responses[0].error_code }
    };
    assert_eq!(code(produce_request(2, "t", 0, batch(1))).await, 21);
    let transactional = produce_request(-1, "t", 0, batch(1)).with_transactional_id(Some(TransactionalId(text("x"))));
    assert_eq!(code(transactional).await, 53);
}

fn encoded(request: &ProduceRequest) -> crate::protocol::Request {
    use kafka_protocol::protocol::Encodable as _;
    let mut body = bytes::BytesMut::new();
    request.encode(&mut body, 9).expect("encoded");
    frame(0, 9, &body)
}

/// An answer that nobody expects would be taken for that of the next request.
#[tokio::test]
async fn acks_0_is_stored_and_never_answered() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    let begun = world.begin(encoded(&produce_request(0, "t", 0, batch(2)))).await.expect("begun");
    assert_eq!(begun.reply, Reply::Silent);
    begun.answer.await.expect("settled");
    assert_eq!(world.produce(9, "t", 0, batch(1)).await.base_offset, 2);
    let refused = world.begin(encoded(&produce_request(0, "unknown", 0, batch(1)))).await;
    assert!(matches!(refused, Err(Refusal::Unanswerable(_))), "the connection is closed, as Kafka does");
}

#[tokio::test]
async fn deferred_answers_have_no_offset_unless_the_producer_has_an_id() {
    let world = World::new();
    world.create("t", 1, &[("yaks.produce.offsets", "deferred")]).await;
    assert_eq!(world.produce(9, "t", 0, batch(2)).await.base_offset, -1);
    let stamped = build::stamped(batch(2), 7, 0, 0);
    assert_eq!(world.produce(9, "t", 0, stamped.clone()).await.base_offset, 2);
    assert_eq!(world.produce(9, "t", 0, stamped).await.base_offset, 2, "a duplicate has its original offset");
    let agent = World::with(super::HandlerConfig { deferred: true, ..super::config() });
    agent.create("d", 1, &[]).await;
    agent.create("v", 1, &[("yaks.produce.offsets", "verdict")]).await;
    assert_eq!(agent.produce(9, "d", 0, batch(1)).await.base_offset, -1);
    assert_eq!(agent.produce(9, "v", 0, batch(1)).await.base_offset, 0);
}

#[tokio::test]
async fn log_append_time_is_stamped_and_told() {
    let world = World::new();
    world.create("t", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let before = now();
    let answer = world.produce(9, "t", 0, build::batch(1, 10, 5)).await;
    assert!(answer.error_code == 0 && answer.log_append_time_ms >= before);
}

#[tokio::test]
async fn a_timestamp_far_ahead_of_the_clock_is_refused() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    world.create("wide", 1, &[("message.timestamp.after.max.ms", "9223372036854775807")]).await;
    world.create("narrow", 1, &[("message.timestamp.before.max.ms", "1000")]).await;
    let ahead = build::batch(1, 10, now() + 7_200_000);
    assert_eq!(world.produce(9, "t", 0, ahead.clone()).await.error_code, 32);
    assert_eq!(world.produce(9, "wide", 0, ahead).await.error_code, 0);
    assert_eq!(world.produce(9, "narrow", 0, build::batch(1, 10, now() - 60_000)).await.error_code, 32);
}

#[tokio::test]
async fn a_compacted_topic_names_the_record_without_key() {
    let world = World::new();
    world.create("t", 1, &[("cleanup.policy", "compact")]).await;
    assert_eq!(world.produce(9, "t", 0, batch(2)).await.error_code, 0);
    // length, attributes, two deltas, no key, an empty value, no headers; the first record of two has a key.
    let records = [[14, 0, 0, 0, 2, b'k', 0, 0].as_slice(), &[12, 0, 0, 2, 1, 0, 0]].concat();
    let answer = world.produce(9, "t", 0, build::with_records(2, now(), 0, &records)).await;
    assert_eq!(answer.error_code, 87);
    assert_eq!(answer.record_errors.iter().map(|e| e.batch_index).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn the_size_limit_is_the_topics_own() {
    let world = World::new();
    world.create("small", 1, &[("max.message.bytes", "100")]).await;
    assert_eq!(world.produce(9, "small", 0, build::batch(1, 100, now())).await.error_code, 10);
    world.create("big", 1, &[("max.message.bytes", "2000000")]).await;
    assert_eq!(world.produce(9, "big", 0, build::batch(1, 1_500_000, now())).await.error_code, 0);
}

/// Neither a closed connection nor "unknown topic".
#[tokio::test]
async fn an_unavailable_metastore_means_try_again() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    world.flaky.switch_off();
    assert_eq!(world.produce(9, "elsewhere", 0, batch(1)).await.error_code, 7);
}

/// None of them refused, or an idempotent producer would have a hole in what it sent.
#[tokio::test(start_paused = true)]
async fn what_is_sent_while_the_metastore_is_away_is_committed_when_it_is_back() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    let patient = || async {
        let answer = world.ask(9, &produce_request(-1, "t", 0, batch(1)).with_timeout_ms(30_000)).await;
        let partition = &answer.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    };
    world.flaky.switch_off();
    let back = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.flaky.switch_on();
    };
    let late = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        patient().await
    };
    let (early, late, ()) = tokio::join!(patient(), late, back);
    assert_eq!([early, late], [(0, 0), (0, 1)]);
    world.flaky.switch_off();
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(world.produce(9, "t", 0, batch(1)).await.error_code, 7, "what it knows is too old");
}

/// Requests of one connection look topics up one after the other; each waiting for its own timeout, the fifth would be answered when its client has
/// long given up.
#[tokio::test(start_paused = true)]
async fn a_metastore_that_hangs_is_waited_for_once() {
    let world = World::new();
    let slow = Odds { delay: 1_000, max_delay: Duration::from_secs(20), ..Odds::default() };
    world.flaky.set_odds(Operation::Look, slow);
    world.flaky.switch_off();
    let began = Instant::now();
    for _ in 0..8 {
        assert_eq!(world.produce(9, "t", 0, batch(1)).await.error_code, 7);
    }
    assert!(began.elapsed() <= slow.max_delay, "{:?}", began.elapsed());
    world.flaky.set_odds(Operation::Look, Odds::default());
    world.flaky.switch_on();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.produce(9, "t", 0, batch(1)).await.error_code, 3, "asked again");
}

/// A store that is away must cost clients neither their connection nor more time than they allow.
#[tokio::test(start_paused = true)]
async fn an_unavailable_store_means_try_again_within_the_time_the_request_allows() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    world.store.take_down();
    for (timeout_ms, expected) in [(3_000, 3), (0, 1), (-5, 1), (3_600_000, 20)] {
        let began = Instant::now();
        let answer = world.ask(9, &produce_request(-1, "t", 0, batch(1)).with_timeout_ms(timeout_ms)).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 7);
        assert!(began.elapsed() <= Duration::from_secs(expected), "{:?} of {timeout_ms} ms", began.elapsed());
    }
    world.store.bring_up();
    assert_eq!(world.produce(9, "t", 0, batch(1)).await.error_code, 0);
    world.store.fill();
    assert_eq!(world.produce(9, "t", 0, batch(1)).await.error_code, 56, "a full disk");
    world.store.make_room();
    assert_eq!(world.produce(9, "t", 0, batch(1)).await.error_code, 0);
}

/// Old librdkafkas look whether they exist, and do not compress if they do not.
#[tokio::test]
async fn old_produce_versions_are_refused_and_not_closed() {
    let world = World::new();
    let body = b"\0\x01\0\0\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\0";
    let begun = world.begin(frame(0, 2, body)).await.expect("begun");
    let rope = begun.answer.await.expect("an answer");
    assert_eq!(&rope.to_bytes()[23..25], b"\0\x23");
}

/// Without it the producers of Java and franz-go, idempotent by default, do not work at all.
#[tokio::test]
async fn producer_ids_are_given_once_each_and_not_for_transactions() {
    let world = World::new();
    let mut ids = Vec::new();
    for version in 0..=5 {
        let answer = world.ask(version, &InitProducerIdRequest::default().with_transactional_id(None)).await;
        assert_eq!((answer.error_code, answer.producer_epoch), (0, 0));
        ids.push(answer.producer_id.0);
    }
    ids.dedup();
    assert_eq!(ids.len(), 6);
    let transactional = InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(text("t"))));
    assert_eq!(world.ask(4, &transactional).await.error_code, 53);
}
