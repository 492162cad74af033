//! Bytes on their way out: sent with vectored writes, never joined.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf as _, Bytes};
use tokio::net::tcp::OwnedWriteHalf;

use crate::protocol::Rope;

/// Pieces that go into one system call.
const PIECES: usize = 128;

/// The queue of what is to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, rope: Rope) {
        self.bytes += rope.len();
        rope.drain_into(&mut self.pieces);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Sends as much as the socket takes at once, waiting until it takes something. Cancel safe: what was sent is taken off the queue before this
    /// returns, and nothing is sent if it does not return.
    pub(super) async fn send_some(&mut self, socket: &OwnedWriteHalf) -> io::Result<()> {
        loop {
            socket.writable().await?;
            match self.try_send(socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    self.advance(sent);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn try_send(&self, socket: &OwnedWriteHalf) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); PIECES];
        let count = self.pieces.len().min(PIECES);
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        socket.try_write_vectored(&slices[..count])
    }

    fn advance(&mut self, mut sent: usize) {
        self.bytes -= sent;
        while let Some(first) = self.pieces.front_mut() {
            if sent < first.len() {
                first.advance(sent);
                break;
            }
            sent -= first.len();
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() {
            // An idle connection holds no memory.
            self.pieces = VecDeque::new();
        }
    }
}
