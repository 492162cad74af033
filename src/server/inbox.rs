//! Cutting frames out of a stream, with memory that grows only with what has arrived.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, timeout_at};
use tokio_util::io::poll_read_buf;

use super::ServerConfig;
use crate::budget::{Budget, Charge};
use crate::protocol::{FrameError, LENGTH_BYTES, frame_len};

/// What a connection reads at first: enough for most requests, little enough for many connections.
const FIRST_READ: usize = 16 << 10;

/// When this much of a frame has arrived, room for the rest is taken in one go, so that a large frame is not copied again and again. Room that
/// nothing was written to costs addresses, not memory.
const TRUSTED: usize = 64 << 10;

/// Requests up to this length that bring no records are read even when the budget is used up: consumers are not to starve
/// because producers fill the buffers.
const UNCHARGED: usize = 4 << 10;

/// Produce, the one API whose requests stay in memory until they are stored.
const PRODUCE_KEY: i16 = 0;
const FETCH_KEY: i16 = 1;
const API_VERSIONS_KEY: i16 = 18;

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The client closed the connection, perhaps inside a frame.
    #[error("the client closed the connection")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Nothing came for the whole idle time.
    #[error("nothing came for the whole idle time")]
    Idle,
    /// The frame stopped half-way, or took too long.
    #[error("a frame of {total} bytes stopped after {arrived}")]
    Stalled { total: usize, arrived: usize },
}

/// A frame without its length, and what it holds of the budget.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    pub(super) charge: Charge,
}

impl Frame {
    /// Whether it brings records or asks for some: what clients send where metadata told them to.
    pub(super) fn is_about_records(&self) -> bool {
        self.key().is_some_and(|key| [PRODUCE_KEY, FETCH_KEY].contains(&key))
    }

    /// Whether it asks only how to talk.
    pub(super) fn is_introduction(&self) -> bool {
        self.key() == Some(API_VERSIONS_KEY)
    }

    fn key(&self) -> Option<i16> {
        self.bytes.first_chunk().map(|key| i16::from_be_bytes(*key))
    }
}

/// The reading side of a connection.
#[derive(Debug)]
pub(super) struct Inbox {
    socket: OwnedReadHalf,
    /// What has arrived and was not cut off. Empty, without memory, while the connection is idle.
    arrived: BytesMut,
    budget: Budget,
    /// What the frame that is arriving holds of the budget.
    charge: Charge,
    charged: usize,
    began: Instant,
    /// True after a large frame: the next one is probably large too.
    expects_large: bool,
}

impl Inbox {
    pub(super) fn new(socket: OwnedReadHalf, budget: Budget) -> Self {
        let charge = budget.charge();
        Inbox { socket, arrived: BytesMut::new(), budget, charge, charged: 0, began: Instant::now(), expects_large: false }
    }

    /// The next frame. After an error the stream is lost. Cancel safe.
    pub(super) async fn next(&mut self, config: &ServerConfig) -> Result<Frame, ReadError> {
        loop {
            let total = self.total(config.max_request_bytes)?;
            if let Some(total) = total {
                self.charge_arrived(total).await;
                if self.arrived.len() >= total {
                    return Ok(self.cut(total));
                }
            }
            self.read(total, config).await?;
        }
    }

    /// The length of the frame at the front, with its prefix; `None` while the prefix has not arrived.
    fn total(&self, limit: usize) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.arrived.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        frame_len(*prefix, limit).map(|len| Some(len + LENGTH_BYTES))
    }

    /// Charges what has arrived of the frame at the front.
    async fn charge_arrived(&mut self, total: usize) {
        let arrived = self.arrived.len().min(total);
        let key = self.arrived.get(LENGTH_BYTES..LENGTH_BYTES + 2);
        if total <= UNCHARGED && key.is_some_and(|key| key != PRODUCE_KEY.to_be_bytes()) {
            return;
        }
        if arrived > self.charged {
            self.charge.add((arrived - self.charged) as u64).await;
            self.charged = arrived;
        }
    }

    fn cut(&mut self, total: usize) -> Frame {
        let mut bytes = if self.arrived.len() == total { self.arrived.split() } else { self.arrived.split_to(total) }.freeze();
        bytes.advance(LENGTH_BYTES);
        let mut charge = std::mem::replace(&mut self.charge, self.budget.charge());
        charge.settle();
        self.charged = 0;
        self.began = Instant::now();
        self.expects_large = total > TRUSTED;
        Frame { bytes, charge }
    }

    /// Waits for bytes and takes what is there.
    async fn read(&mut self, total: Option<usize>, config: &ServerConfig) -> Result<(), ReadError> {
        if self.arrived.is_empty() {
            self.give_room_back();
            self.began = Instant::now();
        }
        let deadline = self.deadline(config);
        loop {
            timeout_at(deadline, self.socket.readable()).await.map_err(|_| self.silence(total))??;
            self.make_room(total);
            // A large frame has memory of its own: nothing of the next one is read into it.
            let most = total.filter(|total| *total > TRUSTED).map_or(usize::MAX, |total| total - self.arrived.len());
            let mut room = (&mut self.arrived).limit(most);
            // A read that leaves room has taken all there is, and the runtime knows: what comes next is waited for, not tried.
            match poll_fn(|context| Poll::Ready(poll_read_buf(Pin::new(&mut self.socket), context, &mut room))).await {
                Poll::Ready(Ok(0)) => return Err(ReadError::Closed),
                Poll::Ready(Ok(_)) => return Ok(()),
                Poll::Ready(Err(error)) => return Err(error.into()),
                // Readiness outlives bytes that just filled the room: this one was taken in vain, and may have to be kept for as long as the client is silent.
                Poll::Pending => self.give_room_back(),
            }
        }
    }

    fn give_room_back(&mut self) {
        if self.arrived.is_empty() {
            self.arrived = BytesMut::new();
        }
    }

    fn deadline(&self, config: &ServerConfig) -> Instant {
        let whole = self.began + config.idle_timeout;
        if self.arrived.is_empty() { whole } else { whole.min(Instant::now() + config.stall_timeout) }
    }

    fn silence(&self, total: Option<usize>) -> ReadError {
        match (total, self.arrived.len()) {
            (None, 0) => ReadError::Idle,
            (total, arrived) => ReadError::Stalled { total: total.unwrap_or(LENGTH_BYTES), arrived },
        }
    }

    /// Makes room to read into: little until the client has shown that it means what it announced.
    fn make_room(&mut self, total: Option<usize>) {
        let arrived = self.arrived.len();
        if self.arrived.capacity() > arrived {
            return;
        }
        let first = if self.expects_large { TRUSTED } else { FIRST_READ };
        let more = match total {
            Some(total) if total <= TRUSTED || arrived >= TRUSTED => total.saturating_sub(arrived),
            Some(_) => arrived.max(FIRST_READ).min(TRUSTED - arrived),
            None => first,
        };
        self.arrived.reserve(more.max(1));
    }

    /// Reads and forgets what the client still sends, until it closes: closing over unread bytes would reset the connection, and with it the answers
    /// that the client has not read yet.
    pub(super) async fn discard(&mut self, until: Instant) {
        let mut bin = BytesMut::with_capacity(FIRST_READ);
        while let Ok(Ok(())) = timeout_at(until, self.socket.readable()).await {
            bin.clear();
            match self.socket.try_read_buf(&mut bin) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It is over; nobody is left to be told.
                Err(_) => return,
            }
        }
    }
}
