//! One client connection: a task that reads and begins requests in order, a task that sends answers in that order.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesOrdered, FuturesUnordered, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::inbox::{Frame, Inbox, ReadError};
use super::outbox::Outbox;
use super::shed::Parts;
use super::{ServerConfig, ServerMetrics};
use crate::budget::{Budget, Charge};
use crate::handlers::{Answer, Begun, OnDisconnect, Refusal, Reply, Serve};
use crate::protocol::{ClientNotes, FrameError, Rope, parse_request};
use crate::tasks::Tasks;
use crate::traces::Span;

/// Finished answers that wait for the socket, in bytes, before the next one is taken up.
const OUTBOX_BYTES: usize = 256 << 10;

/// Requests handed from reader to writer but not taken up yet.
const HANDOVER: usize = 8;

/// Answers that can be large (fetches) of one connection, made or in the making. Clients have one fetch under way; who sends many and reads none
/// must not fill the memory.
const LARGE_ANSWERS: usize = 2;

/// How long a new connection may still ask its first question when connections are to end. Some clients take a broker whose connection ends before the
/// first answer for one that speaks something else, and give up what they hold (franz-go, unless it is told `AlwaysRetryEOF`).
const FIRST_REQUEST: Duration = Duration::from_millis(500);

/// How long a client may take to close its side after the last answer.
const LINGER: Duration = Duration::from_secs(1);

/// What every connection of a server shares.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) config: Arc<ServerConfig>,
    pub(super) service: Arc<dyn Serve>,
    pub(super) budget: Budget,
    pub(super) metrics: ServerMetrics,
    pub(super) tasks: Tasks,
    /// Cancelled when a drain has taken too long.
    pub(super) abort: CancellationToken,
    pub(super) parts: Parts,
}

/// Counts a connection as open while any of its tasks lives.
struct Open {
    metrics: ServerMetrics,
    _place: OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connections.closed();
    }
}

/// What the two tasks of a connection share.
struct Connection {
    shared: Shared,
    peer: SocketAddr,
    /// The peer as groups show it.
    host: Arc<str>,
    notes: ClientNotes,
    /// The client is gone, or may or can not be talked to any more: whoever only waits for it stops.
    gone: CancellationToken,
    /// The last answer was sent.
    finished: CancellationToken,
    /// Requests begun and not answered yet.
    in_flight: AtomicUsize,
    large: Arc<Semaphore>,
    _open: Open,
}

/// Serves a connection in two tasks of the server's group, until `term` ends at the latest.
pub(super) fn start(stream: TcpStream, peer: SocketAddr, shared: &Shared, term: CancellationToken, place: OwnedSemaphorePermit) {
    shared.metrics.connections.opened();
    let (reading, writing) = stream.into_split();
    let (sender, receiver) = mpsc::channel(HANDOVER);
    let connection = Arc::new(Connection {
        shared: shared.clone(),
        peer,
        host: format!("/{}", peer.ip()).into(),
        notes: ClientNotes::default(),
        gone: term.child_token(),
        finished: CancellationToken::new(),
        in_flight: AtomicUsize::new(0),
        large: Arc::new(Semaphore::new(LARGE_ANSWERS)),
        _open: Open { metrics: shared.metrics.clone(), _place: place },
    });
    let inbox = Inbox::new(reading, shared.budget.clone());
    shared.tasks.spawn("connection writer", Writer::run(Arc::clone(&connection), writing, receiver));
    shared.tasks.spawn("connection reader", read(connection, inbox, sender));
}

/// A request under way; gives its part of the budget back when it is answered.
struct InFlight {
    answer: Answer,
    charge: Option<Charge>,
    /// From the request's last byte to its answer.
    span: Span,
    /// Kept until the answer is taken up for sending.
    large: Option<OwnedSemaphorePermit>,
}

/// What a request brought forth; the permit goes back when it is dropped.
struct Answered {
    answer: Result<Rope, Refusal>,
    _large: Option<OwnedSemaphorePermit>,
}

impl Future for InFlight {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered> {
        let answer = std::task::ready!(self.answer.as_mut().poll(context));
        self.charge = None;
        std::mem::take(&mut self.span).ended(&answer);
        Poll::Ready(Answered { answer, _large: self.large.take() })
    }
}

/// Why reading ended.
enum End {
    /// The server drains, or the client sent what cannot be served: what is in flight is still answered.
    NoMore,
    /// The client is gone.
    Gone,
}

async fn read(connection: Arc<Connection>, mut inbox: Inbox, sender: mpsc::Sender<(InFlight, Reply)>) {
    let end = tokio::select! {
        biased;
        end = read_requests(&connection, &mut inbox, &sender) => end,
        () = connection.shared.abort.cancelled() => End::Gone,
        () = connection.gone.cancelled() => End::Gone,
    };
    drop(sender);
    match end {
        End::Gone => connection.gone.cancel(),
        End::NoMore => {
            connection.finished.cancelled().await;
            inbox.discard(Instant::now() + LINGER).await;
        }
    }
}

async fn read_requests(connection: &Connection, inbox: &mut Inbox, sender: &mpsc::Sender<(InFlight, Reply)>) -> End {
    let (stop, mut part) = (connection.shared.tasks.stop_token(), connection.shared.parts.deal());
    // One for all requests: to be woken by it, it stands in a list.
    let mut stopped = pin!(stop.cancelled());
    let mut grace = FIRST_REQUEST;
    let mut was_introduced = false;
    loop {
        // Room for the answer comes first: a request that was begun must find it.
        let Ok(place) = sender.reserve().await else { return End::Gone };
        let frame = tokio::select! {
            biased;
            () = &mut stopped, if grace.is_zero() => return End::NoMore,
            () = part.over.cancelled(), if grace.is_zero() => return connection.shed(),
            frame = inbox.next(&connection.shared.config) => frame,
            // What is there comes first, also if this process stood still until the time was over.
            () = after(&stop, grace), if !grace.is_zero() => return End::NoMore,
            () = after(&part.over, grace), if !grace.is_zero() => return connection.shed(),
        };
        if frame.as_ref().is_ok_and(Frame::is_about_records) {
            if grace.is_zero() && part.over_when_asked.is_cancelled() {
                return connection.shed();
            }
            connection.shared.parts.works(&mut part);
        }
        // An introduction is no answer to a client (franz-go), but only one is: nobody holds up a drain for long.
        let is_introduction = !was_introduced && frame.as_ref().is_ok_and(Frame::is_introduction);
        was_introduced |= is_introduction;
        grace = if is_introduction { grace } else { Duration::ZERO };
        let begun = match frame {
            Ok(frame) => connection.begin(frame).await,
            Err(ReadError::Idle) if connection.in_flight.load(Ordering::Acquire) > 0 => continue,
            Err(error) => return connection.lost(&error),
        };
        match begun {
            Ok(begun) => place.send(begun),
            Err(refusal) => return connection.refused(&refusal),
        }
    }
}

/// When `token` is cancelled, and `grace` over since.
async fn after(token: &CancellationToken, grace: Duration) {
    token.cancelled().await;
    tokio::time::sleep(grace).await;
}

impl Connection {
    /// The ordered stage of one request.
    async fn begin(&self, frame: Frame) -> Result<(InFlight, Reply), Refusal> {
        let mut request = parse_request(frame.bytes)?;
        request.header.client_host = Arc::clone(&self.host);
        request.header.notes = self.notes.clone();
        let span = self.shared.metrics.traces.request(request.header.api.name, request.header.version);
        let begun = span.scope(self.shared.service.begin(request)).await;
        let Begun { answer, on_disconnect, reply } = begun.inspect_err(|refusal| span.fail(refusal))?;
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        let (answer, large) = match on_disconnect {
            OnDisconnect::Finish => (answer, None),
            OnDisconnect::Drop => (self.until_gone(answer), Arc::clone(&self.large).acquire_owned().await.ok()),
        };
        Ok((InFlight { answer, charge: Some(frame.charge), span, large }, reply))
    }

    fn until_gone(&self, answer: Answer) -> Answer {
        let gone = self.gone.clone();
        Box::pin(async move {
            let dropped = || Err(Refusal::Unanswerable("the client is gone".to_owned()));
            gone.run_until_cancelled_owned(answer).await.unwrap_or_else(dropped)
        })
    }

    fn shed(&self) -> End {
        self.shared.metrics.connections.shed();
        End::NoMore
    }

    /// Reading failed: is it the client's fault, and are answers in flight still to be sent?
    fn lost(&self, error: &ReadError) -> End {
        match error {
            ReadError::Closed | ReadError::Io(_) => {
                tracing::debug!(peer = %self.peer, %error, "connection closed");
                End::Gone
            }
            ReadError::Idle => self.fault("idle", error),
            ReadError::Stalled { .. } => self.fault("stalled", error),
            ReadError::Frame(frame) => self.fault(reason(frame), error),
        }
    }

    fn refused(&self, refusal: &Refusal) -> End {
        match refusal {
            Refusal::Frame(frame) => {
                if let FrameError::UnknownApi(key) | FrameError::NotServed { key, .. } = frame {
                    self.shared.metrics.requests.unhandled(*key);
                }
                self.fault(reason(frame), refusal)
            }
            Refusal::Fenced => End::Gone,
            Refusal::Codec(_) => self.fault("unreadable", refusal),
            Refusal::Unanswerable(_) => self.fault("unanswerable", refusal),
        }
    }

    fn fault(&self, reason: &'static str, error: &dyn std::fmt::Display) -> End {
        tracing::info!(peer = %self.peer, reason, %error, "closing a client's connection");
        self.shared.metrics.connections.faulty(reason);
        End::NoMore
    }
}

fn reason(error: &FrameError) -> &'static str {
    match error {
        FrameError::TooLong { .. } => "oversize",
        FrameError::TooShort(_) | FrameError::Header(_) => "framing",
        FrameError::UnknownApi(_) | FrameError::NotServed { .. } => "unknown_api",
        FrameError::Version { .. } => "unknown_version",
    }
}

/// The writing side: lets answers ripen side by side, sends them in order.
struct Writer {
    connection: Arc<Connection>,
    socket: OwnedWriteHalf,
    requests: mpsc::Receiver<(InFlight, Reply)>,
    reading: bool,
    answers: FuturesOrdered<InFlight>,
    silent: FuturesUnordered<InFlight>,
    outbox: Outbox,
    /// When the client must have taken something of what is being sent.
    patience: Instant,
}

impl Writer {
    async fn run(connection: Arc<Connection>, socket: OwnedWriteHalf, requests: mpsc::Receiver<(InFlight, Reply)>) {
        let (answers, silent) = (FuturesOrdered::new(), FuturesUnordered::new());
        let patience = Instant::now();
        let mut writer = Writer { connection, socket, requests, reading: true, answers, silent, outbox: Outbox::default(), patience };
        let abort = writer.connection.shared.abort.clone();
        if abort.run_until_cancelled(writer.write()).await.is_none() {
            tracing::warn!(peer = %writer.connection.peer, in_flight = writer.answers.len(), "connection cut off at the end of the drain");
        }
        writer.connection.gone.cancel();
        writer.connection.finished.cancel();
    }

    async fn write(&mut self) {
        let gone = self.connection.gone.clone();
        match gone.run_until_cancelled(self.send_answers()).await {
            Some(Ok(())) => {
                // The client may be gone by now; then there is nobody to say goodbye to.
                let _ = self.socket.shutdown().await;
                self.connection.finished.cancel();
            }
            Some(Err(error)) => tracing::debug!(peer = %self.connection.peer, %error, "answers cannot be sent"),
            None => {}
        }
        self.finish().await;
    }

    /// Until reading has ended and all is sent, or the client cannot be talked to.
    async fn send_answers(&mut self) -> std::io::Result<()> {
        let limit = self.connection.shared.config.max_in_flight;
        while self.reading || !self.answers.is_empty() || !self.silent.is_empty() || !self.outbox.is_empty() {
            let room = self.answers.len() + self.silent.len() < limit;
            tokio::select! {
                biased;
                request = self.requests.recv(), if self.reading && room => self.take_up(request),
                Some(answered) = self.answers.next(), if self.outbox.bytes() < OUTBOX_BYTES && !self.answers.is_empty() => self.answered(answered)?,
                Some(_) = self.silent.next(), if !self.silent.is_empty() => self.count_answer(),
                sent = self.outbox.send_some(&self.socket), if !self.outbox.is_empty() => {
                    sent?;
                    self.patience = self.until();
                }
                () = sleep_until(self.patience), if !self.outbox.is_empty() => return Err(self.stalled()),
            }
        }
        Ok(())
    }

    fn take_up(&mut self, request: Option<(InFlight, Reply)>) {
        match request {
            Some((in_flight, Reply::InOrder)) => self.answers.push_back(in_flight),
            Some((in_flight, Reply::Silent)) => self.silent.push(in_flight),
            None => self.reading = false,
        }
    }

    fn answered(&mut self, answered: Answered) -> std::io::Result<()> {
        self.count_answer();
        if self.outbox.is_empty() {
            self.patience = self.until();
        }
        match answered.answer {
            Ok(rope) => self.outbox.push(rope),
            Err(refusal) => {
                // Of a client that went away itself nothing is to be told.
                if !self.connection.gone.is_cancelled() {
                    self.connection.refused(&refusal);
                }
                return Err(std::io::Error::other(refusal.to_string()));
            }
        }
        Ok(())
    }

    fn count_answer(&self) {
        self.connection.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    fn until(&self) -> Instant {
        Instant::now() + self.connection.shared.config.stall_timeout
    }

    fn stalled(&self) -> std::io::Error {
        self.connection.fault("unread", &"the client does not take its answers");
        std::io::ErrorKind::TimedOut.into()
    }

    /// Nobody reads answers any more: what took a place runs to its end all the same, the rest was dropped.
    async fn finish(&mut self) {
        self.connection.gone.cancel();
        while let Some((in_flight, _)) = self.requests.recv().await {
            self.silent.push(in_flight);
        }
        while self.answers.next().await.is_some() {}
        while self.silent.next().await.is_some() {}
    }
}
