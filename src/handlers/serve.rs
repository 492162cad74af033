//! What the server asks of whoever answers requests.

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::protocol::{CodecError, FrameError, Request, Rope};

/// What becomes of a request when its client is gone before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisconnect {
    /// It took a place that cannot be given back, or is nearly done: it runs to its end.
    Finish,
    /// It only waits for something to tell: it is dropped.
    Drop,
}

/// Whether the client reads an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Sent in the order of the requests.
    InOrder,
    /// None at all (Produce with acks=0); later answers do not wait for it.
    Silent,
}

/// Why a connection must be closed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// This agent has lost the lease of its node id. Not the client's fault.
    #[error("this agent may not serve now")]
    Fenced,
    /// There is no answer that could carry the error.
    #[error("{0}")]
    Unanswerable(String),
}

/// The frame to send; what comes out of a silent request is not looked at.
pub type Answer = BoxFuture<'static, Result<Rope, Refusal>>;

/// A request that has taken its place.
pub struct Begun {
    pub answer: Answer,
    pub on_disconnect: OnDisconnect,
    pub reply: Reply,
}

impl std::fmt::Debug for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Begun").field("on_disconnect", &self.on_disconnect).field("reply", &self.reply).finish_non_exhaustive()
    }
}

/// Answers requests, in two stages.
#[async_trait]
pub trait Serve: Send + Sync + 'static {
    /// The ordered stage: requests of one connection come here one after the other, each when the one before it has taken its place. Short.
    /// The rest is in the future that comes out, which runs beside those of other requests, and does nothing until it is polled.
    ///
    /// Dropped if the client disconnects meanwhile.
    ///
    /// # Errors
    /// The connection cannot go on.
    async fn begin(&self, request: Request) -> Result<Begun, Refusal>;

    /// What a new connection lives on: it is cut off when this is cancelled. `None` while no client is served.
    fn term(&self) -> Option<CancellationToken> {
        Some(CancellationToken::new())
    }
}
