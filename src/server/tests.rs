//! The server over real loopback sockets, with a service that does as it is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Listening, Server, ServerConfig, ServerMetrics, When};
use crate::budget::Budget;
use crate::handlers::{Begun, OnDisconnect, Refusal, Reply, Serve};
use crate::metrics::Metrics;
use crate::protocol::{Request, Rope};
use crate::tasks::Tasks;
use crate::traces::Traces;

const LIMIT: usize = 64 << 20;

/// Obeys the client id of each request: `echo` answers at once; `gate` answers when the test opens the gate of its correlation id; `waiting` is as
/// `gate`, but may be dropped; `silent` is as `gate`, without an answer.
#[derive(Default)]
struct Obedient {
    gates: Mutex<HashMap<i32, oneshot::Sender<()>>>,
    begun: AtomicUsize,
    began: Notify,
    /// Requests whose future came to its end.
    ended: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    changed: Arc<Notify>,
    term: Mutex<Option<CancellationToken>>,
}

struct CountsDrop {
    finished: bool,
    ended: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    changed: Arc<Notify>,
}

impl CountsDrop {
    fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for CountsDrop {
    fn drop(&mut self) {
        let counter = if self.finished { &self.ended } else { &self.dropped };
        counter.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
    }
}

#[async_trait]
impl Serve for Obedient {
    async fn begin(&self, request: Request) -> Result<Begun, Refusal> {
        let correlation = request.header.correlation_id;
        let order = request.header.client_id.clone().unwrap_or_default();
        let gate = (order != "echo").then(oneshot::channel).map(|(open, gate)| {
            self.gates.lock().expect("lock").insert(correlation, open);
            gate
        });
        let mut count =
            CountsDrop { finished: false, ended: self.ended.clone(), dropped: self.dropped.clone(), changed: self.changed.clone() };
        let answer = Box::pin(async move {
            if let Some(gate) = gate {
                let _ = gate.await;
            }
            count.finish();
            let mut frame = BytesMut::new();
            frame.put_u32(4 + request.body.len() as u32);
            frame.put_i32(correlation);
            frame.put_slice(&request.body);
            Ok(Rope::from(frame.freeze()))
        });
        self.begun.fetch_add(1, Ordering::AcqRel);
        self.began.notify_one();
        let on_disconnect = if order == "waiting" { OnDisconnect::Drop } else { OnDisconnect::Finish };
        let reply = if order == "silent" { Reply::Silent } else { Reply::InOrder };
        Ok(Begun { answer, on_disconnect, reply })
    }

    fn term(&self) -> Option<CancellationToken> {
        self.term.lock().expect("lock").clone()
    }
}

impl Obedient {
    fn open(&self, correlation: i32) {
        let gate = self.gates.lock().expect("lock").remove(&correlation).expect("a gate");
        let _ = gate.send(());
    }

    async fn has_begun(&self, count: usize) {
        while self.begun.load(Ordering::Acquire) < count {
            self.began.notified().await;
        }
    }

    async fn until(&self, counter: &AtomicUsize, count: usize) {
        while counter.load(Ordering::Acquire) < count {
            self.changed.notified().await;
        }
    }
}

struct Bench {
    server: Server,
    service: Arc<Obedient>,
    budget: Budget,
    all_metrics: Metrics,
}

async fn bench_with(config: ServerConfig) -> Bench {
    let service = Obedient { term: Mutex::new(Some(CancellationToken::new())), ..Obedient::default() };
    let (service, budget, metrics) = (Arc::new(service), Budget::new(256 << 20), Metrics::new().expect("metrics"));
    let config = ServerConfig { max_request_bytes: LIMIT, ..config };
    let instruments = ServerMetrics { connections: metrics.connections.clone(), requests: metrics.requests.clone(), traces: Traces::off() };
    let listening = Listening::bind("127.0.0.1", 0).await.expect("a free port");
    let server = listening.serve(config, service.clone(), budget.clone(), instruments, &Tasks::new());
    Bench { server, service, budget, all_metrics: metrics }
}

async fn bench() -> Bench {
    bench_with(ServerConfig::default()).await
}

impl Bench {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.local_addr()).await.expect("connected")
    }

    fn metrics(&self) -> String {
        self.all_metrics.render().expect("text")
    }
}

/// A frame for API `key`, version 1, whose client id is the order.
fn frame(key: i16, correlation: i32, order: &str, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32((10 + order.len() + body.len()) as u32);
    frame.put_i16(key);
    frame.put_i16(1);
    frame.put_i32(correlation);
    frame.put_i16(order.len() as i16);
    frame.put_slice(order.as_bytes());
    frame.put_slice(body);
    frame.freeze()
}

fn order(correlation: i32, order: &str) -> Bytes {
    frame(3, correlation, order, b"")
}

async fn answer(stream: &mut TcpStream) -> (i32, Bytes) {
    let len = stream.read_u32().await.expect("a length");
    let correlation = stream.read_i32().await.expect("a correlation id");
    let mut body = vec![0; len as usize - 4];
    stream.read_exact(&mut body).await.expect("a body");
    (correlation, body.into())
}

/// True if the server closes the connection without another byte.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(timeout(Duration::from_secs(30), stream.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn answers_leave_in_the_order_of_requests_whatever_ends_first() {
    let bench = bench().await;
    let mut client = bench.connect().await;
    for correlation in 0..4 {
        client.write_all(&order(correlation, "gate")).await.expect("sent");
    }
    bench.service.has_begun(4).await;
    for correlation in [3, 1, 2, 0] {
        bench.service.open(correlation);
    }
    for correlation in 0..4 {
        assert_eq!(answer(&mut client).await.0, correlation);
    }
}

#[tokio::test]
async fn a_silent_request_has_no_answer_and_delays_none() {
    let bench = bench().await;
    let mut client = bench.connect().await;
    client.write_all(&[order(1, "silent"), order(2, "echo")].concat()).await.expect("sent");
    assert_eq!(answer(&mut client).await.0, 2);
    bench.service.open(1);
    bench.service.until(&bench.service.ended, 2).await;
    client.write_all(&order(3, "echo")).await.expect("sent");
    assert_eq!(answer(&mut client).await.0, 3);
}

#[tokio::test]
async fn frames_arrive_whole_however_they_are_cut_and_joined() {
    let bench = bench().await;
    let mut client = bench.connect().await;
    let mut dice = StdRng::seed_from_u64(7);
    let bodies: Vec<Vec<u8>> = [0, 1, 100, 70_000, 5, 16_370, 1_000_000, 3, 65_536, 200_000]
        .iter()
        .map(|len| {
            let mut body = vec![0; *len];
            dice.fill_bytes(&mut body);
            body
        })
        .collect();
    let stream: Vec<u8> = bodies.iter().enumerate().flat_map(|(i, body)| frame(3, i as i32, "echo", body)).collect();
    let (mut reading, mut writing) = client.split();
    let send = async {
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(dice.random_range(1..=rest.len().min(40_000)));
            writing.write_all(now).await.expect("sent");
            rest = later;
        }
    };
    let receive = async {
        for (i, body) in bodies.iter().enumerate() {
            let len = reading.read_u32().await.expect("a length") as usize;
            assert_eq!((reading.read_i32().await.expect("an id"), len - 4), (i as i32, body.len()));
            let mut back = vec![0; body.len()];
            reading.read_exact(&mut back).await.expect("a body");
            assert!(back == *body, "frame {i} was garbled");
        }
    };
    tokio::join!(send, receive);
    assert_eq!(bench.budget.used(), 0);
}

#[tokio::test]
async fn what_cannot_be_framed_closes_its_connection_and_no_other() {
    let bench = bench().await;
    let mut healthy = bench.connect().await;
    let faults: [&[u8]; 7] = [
        b"\xff\xff\xff\xff",                         // negative
        b"\x7f\xff\xff\xffxx",                       // two gigabytes
        b"\0\0\0\x03abc",                            // shorter than a header
        b"GET / HTTP/1.1\r\n\r\n",                   // another protocol
        b"\0\0\0\x0a\x03\xe7\0\0\0\0\0\x01\xff\xff", // API key 999
        b"\0\0\0\x0a\0\x58\0\0\0\0\0\x01\xff\xff",   // StreamsGroupHeartbeat, not served
        b"\0\0\0\x0a\0\x03\0\x01\0\0\0\x01\x7f\xff", // a client id longer than the frame
    ];
    for fault in faults {
        let mut client = bench.connect().await;
        client.write_all(fault).await.expect("sent");
        assert!(is_closed(&mut client).await, "{fault:?}");
    }
    healthy.write_all(&order(1, "echo")).await.expect("sent");
    assert_eq!(answer(&mut healthy).await.0, 1);
    let metrics = bench.metrics();
    for line in [
        "yaks_connections_faulty_total{reason=\"oversize\"} 2",
        "yaks_connections_faulty_total{reason=\"unknown_api\"} 2",
        "yaks_connections_faulty_total{reason=\"framing\"} 3",
        "yaks_requests_unhandled_total{api_key=\"999\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn requests_before_a_bad_frame_are_still_answered() {
    let bench = bench().await;
    let mut client = bench.connect().await;
    client.write_all(&[&order(1, "gate")[..], b"\xff\xff\xff\xff"].concat()).await.expect("sent");
    bench.service.has_begun(1).await;
    bench.service.open(1);
    assert_eq!(answer(&mut client).await.0, 1);
    assert!(is_closed(&mut client).await);
}

#[tokio::test]
async fn garbage_from_many_connections_disturbs_nobody() {
    let bench = bench().await;
    let mut dice = StdRng::seed_from_u64(11);
    for _ in 0..200 {
        let mut garbage = vec![0; dice.random_range(1..300)];
        dice.fill_bytes(&mut garbage);
        if dice.random_range(0..2) == 0 {
            let len = (garbage.len() as u32).saturating_sub(4);
            garbage.splice(..garbage.len().min(4), len.to_be_bytes());
        }
        let mut client = bench.connect().await;
        // It may be closed half-way, which is what we want.
        let _ = client.write_all(&garbage).await;
    }
    let mut healthy = bench.connect().await;
    healthy.write_all(&order(1, "echo")).await.expect("sent");
    assert_eq!(answer(&mut healthy).await.0, 1);
}

/// A length is a promise of the client's: allocating for it would let fifty connections end the process.
#[tokio::test]
async fn announced_bytes_cost_nothing_until_they_arrive() {
    let bench = bench().await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = bench.connect().await;
        client.write_all(&40_000_000u32.to_be_bytes()).await.expect("sent");
        client.write_all(&[0; 1_000]).await.expect("sent");
        clients.push(client);
    }
    while bench.budget.used() < 50 * 1_004 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.budget.used(), 50 * 1_004, "what arrived is charged, and nothing else");
    drop(clients);
    while bench.budget.used() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_stops_half_way_and_an_idle_connection_are_closed() {
    let bench = bench().await;
    let (mut idle, mut stopped) = (bench.connect().await, bench.connect().await);
    stopped.write_all(b"\0\0\x10\0half").await.expect("sent");
    let began = tokio::time::Instant::now();
    let mut byte = [0];
    assert_eq!(stopped.read(&mut byte).await.unwrap_or(0), 0);
    assert_eq!(began.elapsed().as_secs(), 60);
    assert_eq!(idle.read(&mut byte).await.unwrap_or(0), 0);
    assert_eq!(began.elapsed().as_secs(), 600);
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_a_request_under_way_is_not_idle() {
    let bench = bench().await;
    let mut client = bench.connect().await;
    client.write_all(&order(1, "gate")).await.expect("sent");
    bench.service.has_begun(1).await;
    tokio::time::advance(Duration::from_hours(1)).await;
    bench.service.open(1);
    assert_eq!(answer(&mut client).await.0, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_answers_is_closed() {
    let bench = bench().await;
    let mut client = bench.connect().await;
    let large = frame(3, 1, "echo", &vec![1; 32 << 20]);
    client.write_all(&large).await.expect("sent");
    bench.service.until(&bench.service.ended, 1).await;
    // The budget is free once the answer is made; its connection ends once the client has taken nothing for a while.
    let mut taken = Vec::new();
    tokio::time::sleep(Duration::from_mins(2)).await;
    let _ = client.read_to_end(&mut taken).await;
    assert!(taken.len() < 32 << 20);
    assert!(bench.metrics().contains("yaks_connections_faulty_total{reason=\"unread\"} 1"));
}

#[tokio::test]
async fn a_disconnect_drops_what_waits_and_finishes_what_took_its_place() {
    let bench = bench().await;
    let mut client = bench.connect().await;
    client.write_all(&[order(1, "waiting"), order(2, "gate"), order(3, "silent")].concat()).await.expect("sent");
    bench.service.has_begun(3).await;
    drop(client);
    bench.service.until(&bench.service.dropped, 1).await;
    bench.service.open(2);
    bench.service.open(3);
    bench.service.until(&bench.service.ended, 2).await;
    assert_eq!(bench.service.dropped.load(Ordering::Acquire), 1);
}

#[tokio::test]
async fn connections_above_the_limit_are_refused_until_one_closes() {
    let bench = bench_with(ServerConfig { max_connections: 2, ..ServerConfig::default() }).await;
    let (mut first, mut second) = (bench.connect().await, bench.connect().await);
    for client in [&mut first, &mut second] {
        client.write_all(&order(1, "echo")).await.expect("sent");
        answer(client).await;
    }
    assert!(is_closed(&mut bench.connect().await).await);
    drop(first);
    loop {
        let mut third = bench.connect().await;
        // While the first is not quite gone yet, this is refused, which a client sees as a reset.
        if third.write_all(&order(9, "echo")).await.is_ok() && matches!(third.read_u32().await, Ok(4)) {
            break;
        }
    }
    assert!(bench.metrics().contains("yaks_connections_refused_total"));
}

/// A shutdown that loses the answers of durable records makes their producers send them again.
#[tokio::test]
async fn a_drain_lets_answers_leave_and_reads_nothing_more() {
    let bench = bench().await;
    let mut client = bench.connect().await;
    client.write_all(&order(1, "gate")).await.expect("sent");
    bench.service.has_begun(1).await;
    let address = bench.server.local_addr();
    let draining = bench.server.stop(Duration::from_secs(30));
    let client_side = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        client.write_all(&order(2, "echo")).await.expect("the connection is still open");
        bench.service.open(1);
        assert_eq!(answer(&mut client).await.0, 1);
        assert!(is_closed(&mut client).await);
        drop(client);
    };
    let (drained, ()) = tokio::join!(draining, client_side);
    assert!(drained);
    assert_eq!(bench.service.begun.load(Ordering::Acquire), 1);
}

/// A client takes a connection that ends before its first answer for no broker at all.
#[tokio::test]
async fn who_has_just_come_is_answered_once_before_a_drain_ends() {
    let bench = bench().await;
    let mut client = bench.connect().await;
    let silent = bench.connect().await;
    let asks = async {
        // How to talk, then what it came for.
        let introduction = frame(18, 0, "echo", b"");
        client.write_all(&[introduction.clone(), order(1, "echo"), introduction].concat()).await.expect("sent");
        assert_eq!((answer(&mut client).await.0, answer(&mut client).await.0), (0, 1));
        assert!(is_closed(&mut client).await);
        drop(client);
    };
    // The drain begins first, and does not wait long for whoever says nothing.
    let (drained, ()) = tokio::join!(biased; bench.server.stop(Duration::from_secs(30)), asks);
    assert!(drained);
    assert_eq!(bench.service.begun.load(Ordering::Acquire), 2);
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_its_deadline() {
    let bench = bench().await;
    let mut client = bench.connect().await;
    client.write_all(&order(1, "gate")).await.expect("sent");
    bench.service.has_begun(1).await;
    assert!(!bench.server.stop(Duration::from_secs(5)).await);
    assert!(is_closed(&mut client).await);
}

#[tokio::test]
async fn a_connection_that_has_too_much_under_way_is_not_read() {
    let bench = bench_with(ServerConfig { max_in_flight: 4, ..ServerConfig::default() }).await;
    let mut client = bench.connect().await;
    for correlation in 0..64 {
        client.write_all(&order(correlation, "gate")).await.expect("sent");
    }
    bench.service.has_begun(4).await;
    for correlation in 0..64 {
        bench.service.has_begun(correlation + 1).await;
        assert!(bench.service.begun.load(Ordering::Acquire) <= correlation + 4 + 9, "no more than under way and handed over");
        bench.service.open(correlation as i32);
        assert_eq!(answer(&mut client).await.0, correlation as i32);
    }
}

/// An agent that may not serve any more: whoever is connected is cut off, though answers be under way, and whoever comes is sent away; until it may again.
#[tokio::test]
async fn the_end_of_a_term_cuts_all_off() {
    let bench = bench().await;
    let (mut idle, mut busy) = (bench.connect().await, bench.connect().await);
    busy.write_all(&[order(1, "gate"), order(2, "waiting")].concat()).await.expect("sent");
    idle.write_all(&order(3, "echo")).await.expect("sent");
    assert_eq!(answer(&mut idle).await.0, 3);
    bench.service.has_begun(3).await;
    let over = bench.service.term.lock().expect("lock").take().expect("a term");
    over.cancel();
    assert!(is_closed(&mut idle).await);
    bench.service.until(&bench.service.dropped, 1).await;
    bench.service.open(1);
    bench.service.until(&bench.service.ended, 2).await;
    assert!(is_closed(&mut busy).await, "what was under way runs to its end, and is not told");
    assert!(is_closed(&mut bench.connect().await).await);
    *bench.service.term.lock().expect("lock") = Some(CancellationToken::new());
    let mut back = bench.connect().await;
    back.write_all(&order(4, "echo")).await.expect("sent");
    assert_eq!(answer(&mut back).await.0, 4);
}

/// What was asked is answered, then the connection ends; the share is that of the connections, and who stays is served on.
#[tokio::test]
async fn a_share_of_the_connections_ends_in_good_order() {
    let bench = bench().await;
    let mut clients = Vec::new();
    for correlation in 0..32 {
        let mut client = bench.connect().await;
        client.write_all(&order(correlation, "gate")).await.expect("sent");
        bench.service.has_begun(correlation as usize + 1).await;
        clients.push(client);
    }
    bench.server.shedding().shed(0.25, When::Now, Duration::ZERO).await;
    let mut ended = 0;
    for (correlation, client) in clients.iter_mut().enumerate() {
        bench.service.open(correlation as i32);
        assert_eq!(answer(client).await.0, correlation as i32, "what was asked is answered");
        let went_on = client.write_all(&order(100, "echo")).await.is_ok() && client.read_u32().await.is_ok();
        ended += usize::from(!went_on);
    }
    assert_eq!(ended, 8);
    assert!(bench.metrics().contains("yaks_connections_shed_total 8"));
    bench.server.shedding().shed(1.0, When::Now, Duration::ZERO).await;
    let mut late = bench.connect().await;
    late.write_all(&order(1, "echo")).await.expect("sent");
    assert_eq!(answer(&mut late).await.0, 1, "who comes later is not meant");
}

/// Who is to look around is served until it sends or asks for records, and then knows that it must.
#[tokio::test]
async fn connections_end_with_a_request_that_is_not_begun() {
    const PRODUCE: i16 = 0;
    const FETCH: i16 = 1;
    let bench = bench().await;
    let (mut idle, mut busy, mut quiet) = (bench.connect().await, bench.connect().await, bench.connect().await);
    busy.write_all(&order(1, "gate")).await.expect("sent");
    for (correlation, client) in [(2, &mut idle), (7, &mut quiet)] {
        client.write_all(&order(correlation, "echo")).await.expect("sent");
        assert_eq!(answer(client).await.0, correlation);
    }
    bench.service.has_begun(3).await;
    bench.server.shedding().shed(1.0, When::Asked, Duration::ZERO).await;
    busy.write_all(&frame(PRODUCE, 3, "", b"")).await.expect("sent");
    bench.service.open(1);
    assert_eq!(answer(&mut busy).await.0, 1, "what was asked before is answered");
    assert!(is_closed(&mut busy).await);
    idle.write_all(&order(4, "echo")).await.expect("sent");
    assert_eq!(answer(&mut idle).await.0, 4, "nobody else could answer better");
    idle.write_all(&frame(FETCH, 5, "", b"")).await.expect("sent");
    assert!(is_closed(&mut idle).await);
    let mut late = bench.connect().await;
    late.write_all(&frame(FETCH, 6, "", b"")).await.expect("sent");
    bench.service.has_begun(5).await;
    bench.service.open(6);
    assert_eq!(answer(&mut late).await.0, 6, "who comes later is not meant");
    assert!(bench.metrics().contains("yaks_connections_shed_total 2"));
    bench.server.shedding().shed(0.01, When::Now, Duration::ZERO).await;
    assert!(is_closed(&mut quiet).await, "who was never asked ends with the next that end");
}
