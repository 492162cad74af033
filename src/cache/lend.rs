//! Lending to peers: who asks, whether it may, and the sealed answer.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;

use super::lanes::Lanes;
use super::local::ObjectCache;
use super::peer::PeerView;
use super::wire::{Ask, Refusal, Request, Seal, Verdict};
use crate::clock::Clock;
use crate::metrics::PeerMetrics;
use crate::store::StoreError;

/// Requests of peers that are served at the same time. Each may take as much memory as a chunk has.
const SERVED_AT_ONCE: usize = 64;

/// Lends out of this agent's cache. Clones share everything.
#[derive(Clone)]
pub struct Lender {
    cache: Arc<ObjectCache>,
    view: watch::Receiver<Arc<PeerView>>,
    clock: Arc<dyn Clock>,
    metrics: PeerMetrics,
    room: Arc<Lanes>,
}

impl fmt::Debug for Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lender").field("view", &self.view).finish_non_exhaustive()
    }
}

impl Lender {
    #[must_use]
    pub fn new(cache: Arc<ObjectCache>, view: watch::Receiver<Arc<PeerView>>, clock: Arc<dyn Clock>, metrics: PeerMetrics) -> Lender {
        Lender { cache, view, clock, metrics, room: Arc::new(Lanes::new(SERVED_AT_ONCE)) }
    }

    /// The body of the answer, which begins when the bytes are there; that it will come is known at once. What it holds is free again when it is dropped.
    pub fn answer<'a>(
        &self,
        method: &str,
        path: &str,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<BoxStream<'static, Bytes>, Refusal> {
        let answer = Request::read(method, path, header).and_then(|request| self.serve(request));
        answer.inspect_err(|refusal| self.metrics.refused(refusal.reason()))
    }

    fn serve(&self, request: Request) -> Result<BoxStream<'static, Bytes>, Refusal> {
        let view = Arc::clone(&self.view.borrow());
        let secret = request.verify(&view.secrets, self.clock.now())?.clone();
        let ask = request.ask(self.cache.chunk_bytes())?;
        let permit = self.room.try_enter(self.cache.age(ask.object)).ok_or(Refusal::Busy)?;
        let lender = self.clone();
        let body = async move {
            let (verdict, pieces) = lender.look_up(ask).await;
            let seal = Seal::of(verdict, &pieces);
            if verdict == Verdict::Beyond {
                lender.metrics.refused("beyond");
            }
            lender.metrics.served(verdict == Verdict::Found, seal.len);
            stream::iter(std::iter::once(seal.encode(&secret, &request.signature)).chain(pieces))
        };
        let body = stream::once(body).flatten().map(move |piece| {
            // Held as long as the body is.
            let _ = &permit;
            piece
        });
        Ok(body.boxed())
    }

    async fn look_up(&self, ask: Ask) -> (Verdict, Vec<Bytes>) {
        if ask.held_only {
            return match self.cache.held(ask.object, ask.range).await {
                Some(pieces) if pieces.is_empty() => (Verdict::Beyond, pieces),
                Some(pieces) => (Verdict::Found, pieces),
                None => (Verdict::NotHeld, Vec::new()),
            };
        }
        match self.cache.lend(ask.object, ask.range).await {
            Ok(pieces) if pieces.is_empty() => (Verdict::Beyond, pieces),
            Ok(pieces) => (Verdict::Found, pieces),
            Err(StoreError::OutOfRange { .. }) => (Verdict::Beyond, Vec::new()),
            Err(StoreError::NotFound(_)) => (Verdict::Gone, Vec::new()),
            Err(error @ (StoreError::Full(_) | StoreError::Refused(_) | StoreError::Unavailable(_))) => {
                tracing::debug!(object = %ask.object, %error, "a peer asked for what the store did not give");
                (Verdict::Failed, Vec::new())
            }
        }
    }
}
