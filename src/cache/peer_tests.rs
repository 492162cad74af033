//! A rack of agents on one store, with wires that can be cut, slowed down and made to lie.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use futures_util::{FutureExt as _, stream};

use super::*;
use crate::cache::{CacheConfig, Lender, ObjectCache, PeerView};
use crate::clock::{RandomIds, SystemClock};
use crate::metrics::Metrics;
use crate::store::flaky::{FlakyStore, Mishap};
use crate::store::memory::MemoryStore;
use crate::store::{ObjectBody, ObjectStore, ReadRange as _, StoreError};
use crate::tasks::Tasks;
use crate::types::NodeId;

const PAGE: u64 = 100;
const CHUNK: u64 = 4 * PAGE;
const DEADLINES: PeerDeadlines = PeerDeadlines { first_byte: Duration::from_millis(100), body: Duration::from_secs(2) };

/// What goes wrong on the way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Unreachable,
    Silent,
    /// Only the head of the answer comes.
    Stuck,
    Status(u16),
    /// The answer breaks off.
    BreaksOff,
    BitFlipped,
    /// Something else listens there.
    NotYaks,
    TooLong,
    /// It says that the object ends after this many bytes, and has sealed it.
    LiesShort(u64),
    /// It has sealed an answer without bytes.
    LiesEmpty,
}

/// Who answers at an address, and how the answers are spoiled.
type Port = (Option<Lender>, Option<Fault>);

/// Between all agents.
#[derive(Debug, Default)]
struct Wires {
    lenders: Mutex<HashMap<String, Port>>,
    calls: AtomicU64,
}

impl Wires {
    fn fault(&self, node: i32, fault: Option<Fault>) {
        self.lenders.lock().expect("wires").entry(address(node)).or_default().1 = fault;
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Transport for Wires {
    async fn send(&self, address: &str, request: &Request) -> Result<Reply, String> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let (lender, fault) = self.lenders.lock().expect("wires").get(address).cloned().unwrap_or_default();
        match fault {
            Some(Fault::Unreachable) => return Err("connection refused".to_owned()),
            Some(Fault::Silent) => std::future::pending().await,
            Some(Fault::Stuck) => return Ok(Reply { status: 200, body: stream::pending().boxed() }),
            Some(Fault::Status(status)) => return Ok(Reply { status, body: stream::empty().boxed() }),
            Some(_) | None => {}
        }
        let headers = request.headers();
        let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        let body = match lender.ok_or("nobody there")?.answer("GET", &request.path, header) {
            Ok(body) => body,
            Err(refusal) => return Ok(Reply { status: refusal.status(), body: stream::empty().boxed() }),
        };
        let Some(fault) = fault else { return Ok(Reply { status: 200, body: body.map(Ok).boxed() }) };
        let pieces = spoilt(body.collect::<Vec<Bytes>>().await.concat(), fault, request);
        Ok(Reply { status: 200, body: stream::iter(pieces.into_iter().map(Ok)).boxed() })
    }
}

fn spoilt(mut answer: Vec<u8>, fault: Fault, request: &Request) -> Vec<Bytes> {
    let sealed = |bytes: Vec<u8>| {
        let pieces = vec![Bytes::from(bytes)];
        vec![Seal::of(Verdict::Found, &pieces).encode(&secret(1), &request.signature), pieces.concat().into()]
    };
    match fault {
        Fault::BreaksOff => answer.truncate(answer.len() - 1),
        Fault::BitFlipped => *answer.last_mut().expect("bytes") ^= 1,
        Fault::NotYaks => answer = b"<html>It works!</html>".repeat(10),
        Fault::TooLong => answer.extend([0; 1_000]),
        Fault::LiesShort(len) => return sealed(answer[Seal::LEN..].iter().copied().take(len as usize).collect()),
        Fault::LiesEmpty => return sealed(Vec::new()),
        Fault::Unreachable | Fault::Silent | Fault::Stuck | Fault::Status(_) => {}
    }
    // In pieces of odd sizes, as a network delivers them.
    answer.chunks(37).map(Bytes::copy_from_slice).collect()
}

fn address(node: i32) -> String {
    format!("agent-{node}:9080")
}

fn secret(number: u8) -> Secret {
    Secret::new(&[number; 32])
}

struct Agent {
    node: i32,
    cache: Arc<ObjectCache>,
    view: watch::Sender<Arc<PeerView>>,
    metrics: Metrics,
}

impl Agent {
    async fn read(&self, object: ObjectId, start: u64, len: u64) -> Result<Vec<u8>, StoreError> {
        self.cache.read_range(object, ByteRange { start, len }).await.map(|pieces| pieces.concat())
    }

    async fn reads_right(&self, object: ObjectId, start: u64, len: u64) {
        let read = self.read(object, start, len).await.expect("read");
        assert_eq!(read, content(start + len)[start as usize..], "agent {}: {start}+{len}", self.node);
    }

    fn has_secrets(&self, current: u8, previous: Option<u8>) {
        let secrets = Secrets { current: secret(current), previous: previous.map(secret) };
        self.view.send_modify(|view| *view = Arc::new(PeerView { secrets, ..(**view).clone() }));
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.render().expect("text");
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }
}

struct Rack {
    agents: Vec<Agent>,
    store: Arc<FlakyStore>,
    wires: Arc<Wires>,
}

impl Rack {
    fn new(agents: i32, capacity: u64) -> Rack {
        let ids = Arc::new(RandomIds::seeded(SystemClock, 1));
        let store = Arc::new(FlakyStore::new(Arc::new(MemoryStore::new()), ids));
        let wires = Arc::new(Wires::default());
        let agents = (1..=agents).map(|node| join(node, agents, capacity, &store, &wires)).collect();
        Rack { agents, store, wires }
    }

    fn agent(&self, node: i32) -> &Agent {
        &self.agents[node as usize - 1]
    }

    /// Only in the store.
    async fn put(&self, object: ObjectId, len: u64) {
        self.store.put(object, ObjectBody::new(vec![content(len)])).await.expect("put");
    }

    /// In the store and in its maker's memory, as produce does it.
    async fn upload(&self, object: ObjectId, len: u64) {
        self.put(object, len).await;
        let body = ObjectBody::new(content(len).chunks(33).map(Bytes::copy_from_slice).collect());
        self.agent(object.maker().0).cache.insert(object, body).await;
    }

    /// An object whose first chunk belongs to `owner`, made by an agent that is gone.
    fn owned_by(&self, owner: i32) -> ObjectId {
        self.owned(owner, 0)
    }

    /// The `skip`th such object.
    fn owned(&self, owner: i32, skip: usize) -> ObjectId {
        let ring = self.agent(owner).view.borrow().ring.clone();
        let mut objects = (0..).map(|number: u32| id(number, 99)).filter(|object| ring.owner(*object, 0).is_none());
        objects.nth(skip).expect("some")
    }

    fn gets(&self) -> u64 {
        self.store.gets()
    }
}

fn join(node: i32, agents: i32, capacity: u64, store: &Arc<FlakyStore>, wires: &Arc<Wires>) -> Agent {
    let peers = (1..=agents).map(|node| Peer { node: NodeId(node), address: address(node) });
    let ring = Ring::new(NodeId(node), peers.collect());
    let (view, seen) = watch::channel(Arc::new(PeerView { ring, secrets: Secrets { current: secret(1), previous: None } }));
    let metrics = Metrics::new().expect("metrics");
    let parts = PeerParts {
        view: seen.clone(),
        transport: Arc::clone(wires) as _,
        clock: Arc::new(SystemClock),
        deadlines: DEADLINES,
        look: Nudge::default(),
    };
    let page_bytes = NonZeroU64::new(PAGE).expect("not zero");
    let config = CacheConfig { page_bytes, get_bytes: CHUNK, gets_at_once: 8, ..CacheConfig::with_capacity(capacity) };
    let cache = ObjectCache::new(Arc::clone(store) as _, Some(parts), config, Tasks::new(), metrics.cache.clone());
    let cache = Arc::new(cache);
    let lender = Lender::new(Arc::clone(&cache), seen, Arc::new(SystemClock), metrics.peers.clone());
    wires.lenders.lock().expect("wires").insert(address(node), (Some(lender), None));
    Agent { node, cache, view, metrics }
}

fn content(len: u64) -> Bytes {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect::<Vec<u8>>().into()
}

/// An object made by `maker`, all at about the same time.
fn id(number: u32, maker: i32) -> ObjectId {
    made(1_700_000_000_000, number, maker)
}

fn made(millis: u64, number: u32, maker: i32) -> ObjectId {
    let mut id = [7; 16];
    id[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    id[8..12].copy_from_slice(&number.to_be_bytes());
    ObjectId(id).made_by(NodeId(maker))
}

#[tokio::test(start_paused = true)]
async fn a_chunk_is_got_from_the_store_once_for_the_whole_rack() {
    let rack = Rack::new(3, 1 << 20);
    for number in 0..20 {
        rack.put(id(number, 99), 2 * CHUNK).await;
        let before = rack.gets();
        // All at once, each agent in another order and with other pages.
        let reads = rack.agents.iter().flat_map(|agent| {
            (0..8u64).map(move |n| {
                let page = (n * (2 * u64::from(agent.node.unsigned_abs()) + 1)) % 8;
                agent.reads_right(id(number, 99), page * PAGE + 10, PAGE - 10)
            })
        });
        join_all(reads.collect::<Vec<_>>()).await;
        assert_eq!(rack.gets() - before, 2, "one for each chunk");
    }
    assert!(rack.agents.iter().all(|agent| agent.metric("yaks_groupcache_peer_errors_total") == 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_just_uploaded_is_read_everywhere_without_the_store() {
    let rack = Rack::new(3, 1 << 20);
    for number in 0..30u32 {
        let object = id(number, (number % 3) as i32 + 1);
        rack.upload(object, 550).await;
        for _ in 0..4 {
            join_all(rack.agents.iter().map(|agent| agent.reads_right(object, 30, 500))).await;
        }
    }
    assert_eq!(rack.gets(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_maker_that_forgot_is_asked_once_and_then_the_owner() {
    let rack = Rack::new(3, 1 << 20);
    let (asker, maker) = (rack.agent(1), 2);
    let ring = asker.view.borrow().ring.clone();
    // Made by 2 and owned by 3, from the youngest to the oldest.
    let of_three = |object: &ObjectId| ring.owner(*object, 0).is_some_and(|owner| owner.node.0 == 3);
    let objects: Vec<ObjectId> =
        (0..100).rev().map(|n| made(1_700_000_000_000 + u64::from(n), n, maker)).filter(of_three).take(10).collect();
    for object in &objects {
        rack.put(*object, PAGE).await;
        asker.reads_right(*object, 0, PAGE).await;
    }
    assert_eq!(rack.gets(), 10, "the owner's");
    assert_eq!(rack.wires.calls(), 11, "the maker once, the owner ten times");
    assert_eq!(asker.metric("yaks_groupcache_peer_errors_total"), 0);
    let younger = made(1_700_000_009_000, 1, maker);
    rack.upload(younger, PAGE).await;
    asker.reads_right(younger, 0, PAGE).await;
    assert_eq!(rack.gets(), 10, "what it made since it may have");
}

/// Whatever a peer does, the reader gets the right bytes, and a second page costs nothing more.
#[tokio::test(start_paused = true)]
async fn a_peer_that_fails_costs_one_deadline_and_then_the_store_is_read() {
    let faults = [
        (Fault::Unreachable, Duration::ZERO),
        (Fault::Silent, DEADLINES.first_byte),
        (Fault::Stuck, DEADLINES.body),
        (Fault::Status(404), Duration::ZERO),
        (Fault::BreaksOff, Duration::ZERO),
        (Fault::BitFlipped, Duration::ZERO),
        (Fault::NotYaks, Duration::ZERO),
        (Fault::TooLong, Duration::ZERO),
        (Fault::LiesEmpty, Duration::ZERO),
    ];
    for (fault, cost) in faults {
        let rack = Rack::new(2, 1 << 20);
        let asker = rack.agent(1);
        rack.wires.fault(2, Some(fault));
        let objects: Vec<ObjectId> = (0..10).map(|n| rack.owned(2, n)).collect();
        join_all(objects.iter().map(|object| rack.put(*object, CHUNK))).await;
        let began = Instant::now();
        asker.reads_right(objects[0], 0, CHUNK).await;
        assert!(began.elapsed() <= cost + Duration::from_millis(1), "{fault:?} cost {:?}", began.elapsed());
        assert_eq!(asker.metric("yaks_groupcache_peer_errors_total"), 1, "{fault:?}");
        let began = Instant::now();
        for object in &objects {
            asker.reads_right(*object, 0, CHUNK).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "{fault:?}: the others cost nothing");
        assert_eq!(asker.metric("yaks_groupcache_peer_errors_total"), 1, "{fault:?}");
        // Its rest is over and it works again.
        rack.wires.fault(2, None);
        tokio::time::advance(FIRST_REST).await;
        let loads = asker.metric("yaks_groupcache_peer_loads_total");
        let another = rack.owned(2, 10);
        rack.put(another, CHUNK).await;
        asker.reads_right(another, 0, CHUNK).await;
        assert_eq!(asker.metric("yaks_groupcache_peer_loads_total"), loads + 1, "{fault:?}: it is asked again");
    }
}

#[tokio::test(start_paused = true)]
async fn many_readers_of_a_dead_peer_wait_for_one_deadline_together_and_only_one_tries_again() {
    let rack = Rack::new(2, 1 << 20);
    let asker = rack.agent(1);
    rack.wires.fault(2, Some(Fault::Silent));
    let objects: Vec<ObjectId> = (0..200).map(|n| rack.owned(2, n)).collect();
    join_all(objects.iter().map(|object| rack.put(*object, PAGE))).await;
    let began = Instant::now();
    join_all(objects[..100].iter().map(|object| asker.reads_right(*object, 0, PAGE))).await;
    assert!(began.elapsed() <= DEADLINES.first_byte + Duration::from_millis(1), "{:?}", began.elapsed());
    for doubled in 0..6 {
        let (calls, began) = (rack.wires.calls(), Instant::now());
        tokio::time::advance((FIRST_REST * (1 << doubled)).min(LONGEST_REST)).await;
        join_all(objects[100 + doubled * 10..][..10].iter().map(|object| asker.reads_right(*object, 0, PAGE))).await;
        assert_eq!(rack.wires.calls() - calls, 1, "after rest {doubled}, {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lie_about_an_objects_end_is_not_believed() {
    let rack = Rack::new(2, 1 << 20);
    let (asker, object) = (rack.agent(1), rack.owned_by(2));
    rack.put(object, CHUNK).await;
    for said in [1, 30, PAGE, PAGE + 1, 2 * PAGE + 50] {
        let object = rack.owned(2, said as usize);
        rack.put(object, 350).await;
        rack.wires.fault(2, Some(Fault::LiesShort(said)));
        join_all([0, 10, 50, 150].map(|start| asker.reads_right(object, start, 350 - start))).await;
        // Nor does the lie stay.
        rack.wires.fault(2, None);
        asker.reads_right(object, 0, 350).await;
        let error = asker.read(object, 340, 11).await.expect_err("beyond the end");
        assert!(matches!(error, StoreError::OutOfRange { .. }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_the_owner_is_asked_by_the_reader_itself() {
    let rack = Rack::new(2, 1 << 20);
    let (asker, object) = (rack.agent(1), rack.owned_by(2));
    rack.put(object, PAGE).await;
    rack.store.next_gets(1, Mishap::ErrorBefore);
    asker.reads_right(object, 0, PAGE).await;
    assert_eq!((rack.gets(), asker.metric("yaks_groupcache_peer_errors_total")), (2, 1));
    // That says nothing against the peer.
    let other = rack.owned(2, 1);
    rack.put(other, PAGE).await;
    asker.reads_right(other, 0, PAGE).await;
    assert_eq!(rack.gets(), 3);
    assert_eq!(asker.metric("yaks_groupcache_peer_loads_total"), 1);
    let missing = rack.owned(2, 2);
    assert!(matches!(asker.read(missing, 0, 1).await, Err(StoreError::NotFound(object)) if object == missing));
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_rotated_without_a_refusal_and_a_wrong_one_is_refused() {
    let rack = Rack::new(2, 1 << 20);
    let [first, second] = [rack.agent(1), rack.agent(2)];
    let mut number = 0;
    // Each agent in turn hears of the new secret first.
    for (of_first, of_second) in
        [((2, Some(1)), (1, None)), ((2, Some(1)), (2, Some(1))), ((2, Some(1)), (3, Some(2))), ((3, None), (3, Some(2)))]
    {
        first.has_secrets(of_first.0, of_first.1);
        second.has_secrets(of_second.0, of_second.1);
        for (asker, owner) in [(first, 2), (second, 1)] {
            let object = rack.owned(owner, number);
            number += 1;
            rack.put(object, PAGE).await;
            asker.reads_right(object, 0, PAGE).await;
            assert_eq!(asker.metric("yaks_groupcache_peer_errors_total"), 0, "{of_first:?} {of_second:?}");
        }
    }
    second.has_secrets(4, Some(5));
    let object = rack.owned(2, number);
    rack.put(object, PAGE).await;
    first.reads_right(object, 0, PAGE).await;
    assert_eq!(first.metric("yaks_groupcache_peer_errors_total"), 1);
    assert_eq!(
        second.metric("yaks_groupcache_refused_total{reason=\"signature\"}"),
        1 + 1,
        "and the one above, on the way to the next secret"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_borrowed_takes_a_small_part_of_the_memory() {
    let capacity = 160 * 1024;
    let rack = Rack::new(2, capacity);
    let asker = rack.agent(1);
    let (mut numbers, mut borrowed) = (0.., 0);
    while borrowed < capacity {
        let object = rack.owned(2, numbers.next().expect("more"));
        rack.put(object, 10 * PAGE).await;
        asker.reads_right(object, 0, CHUNK).await;
        borrowed += CHUNK;
        asker.cache.tidy().await;
        assert!(asker.cache.borrowed_bytes() <= capacity / 8, "{}", asker.cache.borrowed_bytes());
    }
    assert!(asker.cache.borrowed_bytes() > capacity / 20, "the hot set is kept");
    assert_eq!(asker.cache.bytes(), asker.cache.borrowed_bytes(), "nothing else is");
    // The last one is still there.
    let (gets, calls) = (rack.gets(), rack.wires.calls());
    asker.reads_right(rack.owned(2, numbers.start - 1), 0, CHUNK).await;
    assert_eq!((rack.gets(), rack.wires.calls()), (gets, calls));
}

#[tokio::test(start_paused = true)]
async fn a_backfill_that_hangs_does_not_hold_up_the_tail() {
    let rack = Rack::new(2, 1 << 20);
    let asker = rack.agent(1);
    let (now, long_ago) = (1_700_000_000_000, 1_600_000_000_000);
    rack.upload(made(now, 0, 2), PAGE).await;
    rack.upload(made(now, 0, 1), PAGE).await;
    rack.store.next_gets(1_000, Mishap::Hang);
    let history: Vec<ObjectId> = (0..1_000).map(|number| made(long_ago, number, 99)).collect();
    join_all(history.iter().map(|object| rack.put(*object, CHUNK))).await;
    let mut backfill = join_all(history.iter().map(|object| asker.read(*object, 0, CHUNK)));
    let none = timeout(Duration::from_secs(1), &mut backfill).await;
    assert!(none.is_err(), "it hangs");
    rack.store.next_gets(0, Mishap::Hang);
    // Tail reads from a peer, and from the store where no peer has it.
    let began = Instant::now();
    asker.reads_right(made(now, 0, 2), 0, PAGE).await;
    for number in 1..20 {
        rack.put(made(now, number, 99), PAGE).await;
        asker.reads_right(made(now, number, 99), 0, PAGE).await;
    }
    assert!(began.elapsed() < Duration::from_millis(1), "{:?}", began.elapsed());
    assert!(backfill.now_or_never().is_none(), "it still hangs");
}

#[tokio::test(start_paused = true)]
async fn what_is_needed_next_comes_through_its_owner() {
    let rack = Rack::new(3, 1 << 20);
    let objects: Vec<ObjectId> = (0..30).map(|number| id(number, 99)).collect();
    join_all(objects.iter().map(|object| rack.put(*object, CHUNK))).await;
    for pair in objects.windows(2) {
        // Three groups side by side, each with its eye on the next object.
        let reads = rack.agents.iter().map(|agent| {
            agent.cache.will_need(pair[1], &[ByteRange { start: 0, len: CHUNK }]);
            agent.reads_right(pair[0], 0, CHUNK)
        });
        join_all(reads.collect::<Vec<_>>()).await;
    }
    assert!(rack.gets() <= 30, "{}", rack.gets());
}

#[tokio::test(start_paused = true)]
async fn only_so_many_requests_are_served_at_once_and_history_leaves_room_for_the_tail() {
    let rack = Rack::new(2, 1 << 20);
    let (now, long_ago) = (1_700_000_000_000, 1_600_000_000_000);
    rack.upload(made(now, 0, 2), PAGE).await;
    let lender = rack.wires.lenders.lock().expect("wires").get(&address(2)).and_then(|(lender, _)| lender.clone()).expect("there");
    let ask = |object| {
        let request =
            Request::new(Ask { object, range: ByteRange { start: 0, len: PAGE }, held_only: false }, SystemClock.now(), &secret(1));
        let headers = request.headers();
        lender.answer("GET", &request.path, |name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str()))
    };
    let mut served = Vec::new();
    while let Ok(body) = ask(made(long_ago, 1, 99)) {
        served.push(body);
        assert!(served.len() < 1_000, "no limit");
    }
    assert_eq!(rack.agent(2).metric("yaks_groupcache_refused_total{reason=\"busy\"}"), 1);
    assert!(ask(made(now, 0, 2)).is_ok(), "the tail has its own room");
    served.pop();
    assert!(ask(made(long_ago, 2, 99)).is_ok(), "what is done makes room");
}

#[tokio::test(start_paused = true)]
async fn agents_that_take_each_other_for_the_owner_do_not_wait_for_each_other() {
    let rack = Rack::new(2, 1 << 20);
    for number in 0..20 {
        let object = id(number, 99);
        rack.put(object, CHUNK).await;
        for (agent, other) in [(1, 2), (2, 1)] {
            // As during a change of members: each knows one that would own this chunk, at the other's address.
            let nodes = (100..).map(|node| Peer { node: NodeId(node), address: address(other) });
            let ring = nodes.map(|peer| Ring::new(NodeId(agent), vec![peer])).find(|ring| ring.owner(object, 0).is_some());
            let view = &rack.agent(agent).view;
            view.send_modify(|view| *view = Arc::new(PeerView { ring: ring.expect("some"), ..(**view).clone() }));
        }
        let began = Instant::now();
        join_all(rack.agents.iter().map(|agent| agent.reads_right(object, 0, CHUNK))).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
    assert!(rack.gets() <= 40, "each for the other: {}", rack.gets());
}
