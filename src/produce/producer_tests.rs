use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::clock::{RandomIds, SystemClock};
use crate::metastore::flaky::{Flaky, Odds, Operation};
use crate::metastore::memory::MemoryMetastore;
use crate::metastore::{Agent, Decide, Metastore, PendingEvents, Round, RoundLimits, SegmentQuery, Topics as _};
use crate::metrics::Metrics;
use crate::partition::{RejectReason, Rules, decide};
use crate::produce::{Appended, Wait};
use crate::records::batch::{BatchLimits, build, check};
use crate::store::flaky::{FlakyStore, Mishap};
use crate::store::memory::MemoryStore;
use crate::traces::collected::Collected;
use crate::types::{BatchSummary, Offset, ProducerEpoch, ProducerId, ProducerStamp, Sequence, TopicId, TopicName, TopicPartition};

const TOPIC: TopicId = TopicId([7; 16]);
const CONFIG: ProduceConfig = ProduceConfig {
    flush_interval: Duration::from_millis(250),
    flush_bytes: 10_000,
    max_bytes: 1_000_000,
    uploads: 4,
    hedge_after: Duration::from_millis(500),
    give_up_after: Duration::from_secs(5),
};

/// A producer on stores in memory, with switches for trouble.
struct Stage {
    producer: Arc<Producer>,
    store: Arc<FlakyStore>,
    metastore: Arc<dyn Metastore>,
    metrics: Metrics,
    me: Identity,
    traces: Traces,
    collected: Collected,
}

fn agent(node: i32) -> Agent {
    Agent::sample(node, "here")
}

async fn stage(config: ProduceConfig, odds: Odds) -> Stage {
    stage_on(config, odds, MemoryMetastore::new(Arc::new(SystemClock))).await
}

async fn stage_on(config: ProduceConfig, odds: Odds, memory: MemoryMetastore) -> Stage {
    let ids: Arc<dyn Ids> = Arc::new(RandomIds::seeded(SystemClock, 7));
    let memory = Arc::new(memory);
    memory.create_topic(TOPIC, &TopicName::parse("t").expect("a name"), 2, &BTreeMap::new()).await.expect("created");
    let metastore: Arc<dyn Metastore> = Arc::new(Flaky::new(memory, Arc::clone(&ids)).with_odds(Operation::Append, odds));
    let store = Arc::new(FlakyStore::new(Arc::new(MemoryStore::new()), Arc::clone(&ids)));
    let metrics = Metrics::new().expect("metrics");
    let me = Identity::of_the_only(agent(1));
    let (traces, collected) = Traces::collected();
    let parts = ProduceParts {
        store: Arc::clone(&store) as _,
        log: Arc::clone(&metastore) as _,
        ids,
        me: me.clone(),
        metrics: metrics.buffer.clone(),
        traces: traces.clone(),
        keep: Arc::new(|_, _| Box::pin(async {})),
        committed: Nudge::default(),
    };
    Stage { producer: Producer::start(config, parts, &Tasks::new()), store, metastore, metrics, me, traces, collected }
}

impl Stage {
    fn send(&self, partition: i32, size: usize, wait: Wait) -> Ticket {
        self.send_of(None, partition, size, wait)
    }

    /// What an idempotent producer sends: one record.
    fn send_as(&self, producer: i64, sequence: i32) -> Ticket {
        let (id, epoch) = (ProducerId(producer), ProducerEpoch(0));
        let stamp = ProducerStamp { id, epoch, base_sequence: Sequence(sequence), transactional: false };
        self.send_of(Some(stamp), 0, 10, Wait::Verdict)
    }

    fn send_of(&self, producer: Option<ProducerStamp>, partition: i32, size: usize, wait: Wait) -> Ticket {
        let bytes = Bytes::from(build::batch(1, size, 0));
        let summary = check(&bytes, &BatchLimits { max_bytes: 1 << 20, zstd: true }).expect("good");
        let summary = BatchSummary { producer, ..summary };
        let batch = NewBatch { log: TopicPartition::new(TOPIC, partition), summary, bytes, wait };
        self.producer.submit(vec![batch]).pop().expect("a ticket")
    }

    /// A round by hand: what the materializer does.
    async fn round(&self) {
        let rules = Rules { park_for: Duration::from_secs(1), max_parked: 10 };
        let decide: Decide = Arc::new(move |snapshot| decide(snapshot, &rules));
        match self.metastore.run_round(RoundLimits { events: 100 }, &decide).await.expect("a round") {
            Round::Done(report) => {
                self.producer.trace_round(&report.verdicts, Duration::ZERO);
                self.producer.decide(&report.verdicts);
            }
            Round::Busy => panic!("nobody else runs rounds"),
        }
    }

    /// The objects of the first log that came with their events.
    async fn inlined(&self) -> Vec<Bytes> {
        let all = SegmentQuery { log: TopicPartition::new(TOPIC, 0), from: Offset(0), max_bytes: u64::MAX, max_segments: 100 };
        let view = self.metastore.segments(&[all]).await.expect("read").pop().flatten().expect("the log exists");
        let mut inlined = Vec::new();
        for object in view.segments.iter().map(|segment| segment.object).collect::<BTreeSet<_>>() {
            inlined.extend(self.metastore.inlined_object(object).await.expect("looked"));
        }
        inlined
    }

    /// Rounds until the ticket is settled.
    async fn settled(&self, ticket: Ticket) -> Result<Appended, ProduceError> {
        tokio::pin!(ticket);
        loop {
            tokio::select! {
                biased;
                fate = &mut ticket => return fate.expect("settled"),
                () = tokio::time::sleep(Duration::from_millis(1)) => self.round().await,
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_buffer_gathers_for_its_interval_and_becomes_one_object() {
    let stage = stage(CONFIG, Odds::default()).await;
    let began = Instant::now();
    let tickets: Vec<_> = (0..5).map(|i| stage.send(i % 2, 10, Wait::Verdict)).collect();
    let mut fates = Vec::new();
    for ticket in tickets {
        fates.push(stage.settled(ticket).await.expect("appended"));
    }
    assert_eq!(fates, [0, 0, 1, 1, 2].map(|o| Appended::At(Offset(o))));
    assert!(began.elapsed() >= CONFIG.flush_interval);
    assert_eq!(stage.store.puts(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_agent_puts_nothing_and_a_full_buffer_does_not_wait() {
    let stage = stage(CONFIG, Odds::default()).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(stage.store.puts(), 0);
    let began = Instant::now();
    let ticket = stage.send(0, 20_000, Wait::Verdict);
    stage.settled(ticket).await.expect("appended");
    assert!(began.elapsed() < CONFIG.flush_interval);
}

#[tokio::test(start_paused = true)]
async fn with_interval_zero_nothing_waits() {
    let stage = stage(ProduceConfig { flush_interval: Duration::ZERO, ..CONFIG }, Odds::default()).await;
    let began = Instant::now();
    let ticket = stage.send(0, 10, Wait::Verdict);
    stage.settled(ticket).await.expect("appended");
    assert!(began.elapsed() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn objects_are_committed_in_the_order_of_sealing_however_long_their_puts_take() {
    let config = ProduceConfig { flush_bytes: 1, hedge_after: Duration::from_secs(3), ..CONFIG };
    let stage = stage(config, Odds::default()).await;
    stage.store.next_puts(1, Mishap::Hang);
    let slow = stage.send(0, 10, Wait::Verdict);
    let quick: Vec<_> = (0..3).map(|_| stage.send(0, 10, Wait::Verdict)).collect();
    // The first put hangs; its hedge succeeds after three seconds. Until then none of the others may be committed.
    assert_eq!(stage.settled(slow).await.expect("appended"), Appended::At(Offset(0)));
    for (offset, ticket) in (1..).zip(quick) {
        assert_eq!(stage.settled(ticket).await.expect("appended"), Appended::At(Offset(offset)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_put_is_hedged() {
    let stage = stage(CONFIG, Odds::default()).await;
    stage.store.next_puts(1, Mishap::Hang);
    let began = Instant::now();
    let ticket = stage.send(0, 10, Wait::Verdict);
    stage.settled(ticket).await.expect("appended");
    assert_eq!(stage.store.puts(), 2);
    assert!(began.elapsed() < CONFIG.flush_interval + CONFIG.hedge_after + Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn a_put_that_happened_but_failed_is_tried_again_and_counts_once() {
    let stage = stage(CONFIG, Odds::default()).await;
    stage.store.next_puts(3, Mishap::ErrorAfter);
    let ticket = stage.send(0, 10, Wait::Verdict);
    assert_eq!(stage.settled(ticket).await.expect("appended"), Appended::At(Offset(0)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_fails_its_tickets_and_no_later_ones() {
    let stage = stage(CONFIG, Odds::default()).await;
    stage.store.take_down();
    let began = Instant::now();
    let ticket = stage.send(0, 10, Wait::Verdict);
    assert!(matches!(stage.settled(ticket).await, Err(ProduceError::Unavailable(_))));
    assert!(began.elapsed() <= CONFIG.flush_interval + CONFIG.give_up_after);
    stage.store.fill();
    stage.store.bring_up();
    let ticket = stage.send(0, 10, Wait::Verdict);
    assert!(matches!(stage.settled(ticket).await, Err(ProduceError::StoreFull(_))));
    stage.store.make_room();
    let ticket = stage.send(0, 10, Wait::Verdict);
    assert_eq!(stage.settled(ticket).await.expect("appended"), Appended::At(Offset(0)));
}

/// The log does not know the producer: it would take the second batch for its first, and librdkafka would then count the lost one as delivered.
#[tokio::test(start_paused = true)]
async fn what_follows_a_lost_batch_is_lost_with_it_and_nobody_else_for_long() {
    let config = ProduceConfig { flush_bytes: 1, hedge_after: Duration::from_mins(1), ..CONFIG };
    let stage = stage(config, Odds::default()).await;
    stage.store.next_puts(1, Mishap::Hang);
    let (lost, follower) = (stage.send_as(7, 0), stage.send_as(7, 1));
    let (stranger, plain) = (stage.send_as(8, 0), stage.send(0, 10, Wait::Verdict));
    assert!(matches!(stage.settled(lost).await, Err(ProduceError::Unavailable(_))));
    assert!(matches!(stage.settled(follower).await, Err(ProduceError::Unavailable(_))), "its object is stored all the same");
    assert_eq!(stage.settled(stranger).await.expect("appended"), Appended::At(Offset(0)));
    assert_eq!(stage.settled(plain).await.expect("appended"), Appended::At(Offset(1)));
    // What was on the wire, then all again in order.
    let early = stage.settled(stage.send_as(7, 2)).await;
    assert!(matches!(early, Err(ProduceError::Rejected(RejectReason::MissingPredecessor))), "{early:?}");
    for sequence in 0..3 {
        assert_eq!(stage.settled(stage.send_as(7, sequence)).await.expect("appended"), Appended::At(Offset(2 + i64::from(sequence))));
    }
    let text = stage.metrics.render().expect("text");
    assert!(text.contains("yaks_buffer_flush_duration_seconds_count{status=\"after_loss\"} 1"), "{text}");
}

/// While the store is away, clients give up waiting and send again: what was taken from them must not pile up.
#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_any_more_does_not_pile_up() {
    let stage = stage(ProduceConfig { max_bytes: 50_000, ..CONFIG }, Odds::default()).await;
    stage.store.take_down();
    let tickets: Vec<Ticket> = (0..20).map(|_| stage.send(0, 9_000, Wait::Verdict)).collect();
    let mut refused_at_once = 0;
    for mut ticket in tickets {
        refused_at_once += usize::from(matches!(ticket.try_recv(), Ok(Err(ProduceError::Unavailable(_)))));
    }
    assert_eq!(refused_at_once, 15);
    tokio::time::sleep(CONFIG.flush_interval + CONFIG.give_up_after).await;
    stage.store.bring_up();
    let ticket = stage.send(0, 200_000, Wait::Verdict);
    assert_eq!(stage.settled(ticket).await.expect("there is room again"), Appended::At(Offset(0)));
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_unknown_outcome_is_looked_up_and_never_doubled() {
    let odds = Odds { before: 300, after: 500, ..Odds::default() };
    let stage = stage(CONFIG, odds).await;
    for offset in 0..30 {
        let ticket = stage.send(0, 10, Wait::Verdict);
        assert_eq!(stage.settled(ticket).await.expect("appended"), Appended::At(Offset(offset)));
    }
}

#[tokio::test(start_paused = true)]
async fn deferred_batches_are_answered_when_durable_and_still_get_their_offsets() {
    let stage = stage(CONFIG, Odds::default()).await;
    let deferred = stage.send(0, 10, Wait::Durable);
    let waiting = stage.send(0, 10, Wait::Verdict);
    // No round was run, so nobody can know an offset.
    assert_eq!(deferred.await.expect("settled").expect("durable"), Appended::Durable);
    assert_eq!(stage.settled(waiting).await.expect("appended"), Appended::At(Offset(1)));
}

#[tokio::test(start_paused = true)]
async fn verdicts_of_other_agents_rounds_are_found() {
    let stage = stage(CONFIG, Odds::default()).await;
    let ticket = stage.send(0, 10, Wait::Verdict);
    while !stage.producer.awaits_verdicts() || stage.metastore.pending_events().await.expect("a count").count == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let rules = Rules { park_for: Duration::from_secs(1), max_parked: 10 };
    let decide: Decide = Arc::new(move |snapshot| decide(snapshot, &rules));
    stage.metastore.run_round(RoundLimits { events: 100 }, &decide).await.expect("another agent's round");
    tokio::time::sleep(Duration::from_millis(80)).await;
    stage.producer.look_for_verdicts().await.expect("a look");
    let text = stage.metrics.render().expect("text");
    let bucket = |le: &str, count: u32| format!("yaks_buffer_commit_to_offset_seconds_bucket{{le=\"{le}\"}} {count}");
    assert!(text.contains(&bucket("0.05", 0)) && text.contains(&bucket("0.1", 1)), "{text}");
    assert_eq!(ticket.await.expect("settled").expect("appended"), Appended::At(Offset(0)));
}

#[tokio::test(start_paused = true)]
async fn closing_writes_what_is_there_at_once_and_takes_nothing_more() {
    let stage = stage(ProduceConfig { flush_interval: Duration::from_hours(1), ..CONFIG }, Odds::default()).await;
    let last = stage.send(0, 10, Wait::Durable);
    assert!(
        {
            let close = stage.producer.close(Duration::from_secs(5));
            tokio::pin!(close);
            loop {
                tokio::select! {
                    biased;
                    closed = &mut close => break closed,
                    () = tokio::time::sleep(Duration::from_millis(1)) => stage.round().await,
                }
            }
        },
        "all settled"
    );
    assert_eq!(last.await.expect("settled").expect("durable"), Appended::Durable);
    assert!(matches!(stage.send(0, 10, Wait::Verdict).await.expect("settled"), Err(ProduceError::ShuttingDown)));
}

/// Records taken before the lease was lost: nothing is written under an id that may be another's.
#[tokio::test(start_paused = true)]
async fn who_lost_its_lease_commits_nothing_until_it_has_one_again() {
    let stage = stage(CONFIG, Odds::default()).await;
    let ticket = stage.send(0, 10, Wait::Verdict);
    stage.me.lose();
    tokio::time::sleep(CONFIG.flush_interval + CONFIG.give_up_after / 2).await;
    assert_eq!((stage.store.puts(), stage.metastore.pending_events().await), (1, Ok(PendingEvents::default())));
    stage.me.renew(agent(2), Instant::now() + Duration::from_hours(1));
    assert_eq!(stage.settled(ticket).await.expect("appended"), Appended::At(Offset(0)), "under the new id");

    let ticket = stage.send(0, 10, Wait::Verdict);
    stage.me.renew(agent(2), Instant::now());
    assert!(matches!(ticket.await.expect("settled"), Err(ProduceError::Unavailable(_))), "its producer may try elsewhere");
    assert_eq!(stage.metastore.pending_events().await, Ok(PendingEvents::default()));
}

#[tokio::test(start_paused = true)]
async fn a_small_object_goes_with_its_event_and_a_large_one_to_the_store() {
    let memory = MemoryMetastore::new(Arc::new(SystemClock)).inlining(1000);
    let stage = stage_on(CONFIG, Odds::default(), memory).await;
    let small = stage.send(0, 10, Wait::Verdict);
    stage.settled(small).await.expect("appended");
    assert_eq!(stage.store.puts(), 0);
    let body = stage.inlined().await.pop().expect("there");
    assert!(crate::records::object::read_footer(&body).is_ok(), "the object is whole");
    let large = stage.send(0, 2_000, Wait::Verdict);
    stage.settled(large).await.expect("appended");
    assert_eq!((stage.inlined().await.len(), stage.store.puts()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn while_small_objects_wait_for_their_commit_others_gather() {
    let memory = MemoryMetastore::new(Arc::new(SystemClock)).inlining(10_000);
    let slow = Odds { delay: 1000, max_delay: Duration::from_mins(1), ..Odds::default() };
    let config = ProduceConfig { flush_interval: Duration::ZERO, uploads: 1, give_up_after: Duration::from_hours(1), ..CONFIG };
    let stage = stage_on(config, slow, memory).await;
    let mut tickets = Vec::new();
    for _ in 0..20 {
        tickets.push(stage.send(0, 10, Wait::Verdict));
        // Everything that can be done without waiting for the metastore is done.
        tokio::time::sleep(Duration::from_micros(1)).await;
    }
    for (offset, ticket) in (0..).zip(tickets) {
        assert_eq!(stage.settled(ticket).await.expect("appended"), Appended::At(Offset(offset)));
    }
    assert_eq!(stage.inlined().await.len(), 2, "the first, and those that came while it was committed");
}

/// Postgres announces a round with its commit: its verdicts can be looked up before the agent that ran it says so.
#[tokio::test(start_paused = true)]
async fn a_round_is_traced_even_if_its_verdicts_were_looked_up_first() {
    let stage = stage(CONFIG, Odds::default()).await;
    let request = stage.traces.request("Produce", 13);
    let [ticket] = request.scope(async { [stage.send(0, 10, Wait::Verdict)] }).await;
    drop(request);
    while stage.metastore.pending_events().await.expect("counted") == PendingEvents::default() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let rules = Rules { park_for: Duration::from_secs(1), max_parked: 10 };
    let decide: Decide = Arc::new(move |snapshot| decide(snapshot, &rules));
    let Round::Done(report) = stage.metastore.run_round(RoundLimits { events: 100 }, &decide).await.expect("a round") else {
        panic!("nobody else runs rounds")
    };
    stage.producer.look_for_verdicts().await.expect("looked");
    assert_eq!(ticket.await.expect("settled").expect("appended"), Appended::At(Offset(0)));
    stage.producer.trace_round(&report.verdicts, Duration::from_millis(1));
    assert_eq!(stage.collected.above("round").expect("traced"), ["materialize", "flush", "request Produce"]);
}

/// Objects are committed in the order of sealing: what a later one holds may not be what an earlier one waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn small_objects_do_not_wait_for_each_other_in_a_circle() {
    let memory = MemoryMetastore::new(Arc::new(SystemClock)).inlining(10_000);
    let config = ProduceConfig { flush_interval: Duration::ZERO, uploads: 2, ..CONFIG };
    let stage = stage_on(config, Odds::default(), memory).await;
    let one_by_one = async || {
        for _ in 0..500 {
            stage.send(0, 10, Wait::Durable).await.expect("settled").expect("committed");
        }
    };
    // The uploads run on all threads, whoever sends.
    let all = futures_util::future::join_all((0..4).map(|_| one_by_one()));
    tokio::time::timeout(Duration::from_mins(1), all).await.expect("none is stuck");
}
