//! Asking peers: the agent that made a young object, which still has it, then the one that owns the chunk.
//!
//! Nothing a peer says is believed unseen: an answer is sealed with the shared secret, has the length and checksum it says, and is no longer than what was
//! asked for. Whatever else comes, or does not come in time, is counted, and the caller goes to the store. A peer that failed is left alone for a while, so
//! that a dead one costs one deadline and not one a page.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::entries::Age;
use super::lanes::Lanes;
use super::ring::{Peer, Ring};
use super::wire::{Ask, Request, Seal, Secret, Secrets, Verdict, checksum};
use crate::clock::Clock;
use crate::metrics::CacheMetrics;
use crate::tasks::Nudge;
use crate::types::{ByteRange, ObjectId};

/// Who shares caches with this agent now, and the secret by which they know each other.
#[derive(Debug, Clone)]
pub struct PeerView {
    pub ring: Ring,
    pub secrets: Secrets,
}

/// How long peers are waited for.
#[derive(Debug, Clone, Copy)]
pub struct PeerDeadlines {
    /// Until a peer has taken the request, connecting included: peers answer at once that they will answer.
    pub first_byte: Duration,
    /// From then on, until the last byte is here: the owner may have to ask the store.
    pub body: Duration,
}

impl PeerDeadlines {
    /// `first_byte`, and for the whole as long as a slow store may take.
    #[must_use]
    pub fn with_first_byte(first_byte: Duration) -> PeerDeadlines {
        PeerDeadlines { first_byte, body: first_byte.max(Duration::from_millis(100)) * 20 }
    }
}

/// An answer as it comes.
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    pub body: BoxStream<'static, Result<Bytes, String>>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Carries requests to peers.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug {
    /// Returns when the answer's head is here; else says why the peer cannot be reached. Cancel safe.
    async fn send(&self, address: &str, request: &Request) -> Result<Reply, String>;
}

/// What asking peers takes.
#[derive(Debug, Clone)]
pub struct PeerParts {
    pub view: watch::Receiver<Arc<PeerView>>,
    pub transport: Arc<dyn Transport>,
    pub clock: Arc<dyn Clock>,
    pub deadlines: PeerDeadlines,
    /// Nudged when a peer fails: it may have gone.
    pub look: Nudge,
}

/// Requests to peers at the same time.
const CALLS_AT_ONCE: usize = 64;
/// How long a peer that failed is left alone: after the first failure, and at most.
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(10);

/// Why a peer gave nothing.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error("its answer was not complete within {0:?}")]
    Slow(Duration),
    #[error("it answered with status {0}")]
    Refused(u16),
    #[error("its answer {0}")]
    Garbage(&'static str),
    #[error("it could not get it: {0:?}")]
    Failed(Verdict),
}

impl PeerError {
    /// Whether the next call is likely to end the same way.
    fn speaks_against_the_peer(&self) -> bool {
        match self {
            PeerError::Unreachable(_) | PeerError::Silent(_) | PeerError::Slow(_) | PeerError::Garbage(_) => true,
            PeerError::Refused(status) => *status != BUSY,
            PeerError::Failed(_) => false,
        }
    }
}

const BUSY: u16 = 503;
const UNAUTHORIZED: u16 = 401;

/// What is known of one peer.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    failures: u32,
    /// It is left alone until then.
    not_before: Option<Instant>,
    /// One call is finding out whether it is back.
    is_tried: bool,
    /// It does not hold objects of its own made at this time or earlier, milliseconds since 1970: memory forgets the oldest first.
    forgot: u64,
}

/// What peers are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) object: ObjectId,
    pub(super) chunk: u64,
    /// Lies in the chunk.
    pub(super) range: ByteRange,
    pub(super) age: Age,
    /// Not only the object's maker, but the owner of the chunk, too.
    pub(super) owner_too: bool,
}

/// Asks peers.
#[derive(Debug)]
pub(super) struct Peers {
    parts: PeerParts,
    calls: Lanes,
    /// By address: who takes over a node id elsewhere begins anew.
    standings: Mutex<HashMap<String, Standing>>,
    metrics: CacheMetrics,
}

impl Peers {
    pub(super) fn new(parts: PeerParts, metrics: CacheMetrics) -> Peers {
        Peers { parts, calls: Lanes::new(CALLS_AT_ONCE), standings: Mutex::default(), metrics }
    }

    /// Whether this agent loads this chunk for all.
    pub(super) fn owns(&self, object: ObjectId, chunk: u64) -> bool {
        self.parts.view.borrow().ring.owner(object, chunk).is_none()
    }

    /// What is wished for, as far as the object goes; `None` if no peer gave it.
    pub(super) async fn borrow(&self, wish: Wish, lane: Age) -> Option<Vec<Bytes>> {
        let (Wish { object, range, .. }, view) = (wish, Arc::clone(&self.parts.view.borrow()));
        for (peer, held_only) in candidates(&view.ring, wish) {
            // Waiting for room comes first: those who had it may have found out that the peer is dead.
            let Ok(_permit) = timeout(self.parts.deadlines.first_byte, self.calls.enter(lane)).await else { return None };
            if !self.may_ask(&view.ring, peer, object, held_only) {
                continue;
            }
            match self.ask(peer, &view.secrets, Ask { object, range, held_only }).await {
                Ok(Some(pieces)) => {
                    self.stands(peer, |standing| *standing = Standing { forgot: standing.forgot, ..Standing::default() });
                    self.metrics.peer_loaded();
                    return Some(pieces);
                }
                Ok(None) => self.stands(peer, |standing| standing.forgot = standing.forgot.max(object.made_at())),
                Err(error) => self.failed(peer, object, &error),
            }
        }
        None
    }

    /// `None`: it is not in the peer's memory, and only then was it wanted.
    async fn ask(&self, peer: &Peer, secrets: &Secrets, ask: Ask) -> Result<Option<Vec<Bytes>>, PeerError> {
        let mut refused = PeerError::Refused(UNAUTHORIZED);
        // The peer may not have heard of the current secret yet.
        for secret in secrets.all() {
            match self.ask_with(peer, secret, ask).await {
                Err(PeerError::Refused(UNAUTHORIZED)) => refused = PeerError::Refused(UNAUTHORIZED),
                other => return other,
            }
        }
        Err(refused)
    }

    async fn ask_with(&self, peer: &Peer, secret: &Secret, ask: Ask) -> Result<Option<Vec<Bytes>>, PeerError> {
        let PeerDeadlines { first_byte, body } = self.parts.deadlines;
        let request = Request::new(ask, self.parts.clock.now(), secret);
        let reply = timeout(first_byte, self.parts.transport.send(&peer.address, &request)).await;
        let reply = reply.map_err(|_| PeerError::Silent(first_byte))?.map_err(PeerError::Unreachable)?;
        if reply.status != 200 {
            return Err(PeerError::Refused(reply.status));
        }
        timeout(body, sealed(reply.body, ask.range.len, secret, &request)).await.map_err(|_| PeerError::Slow(body))?
    }

    /// False while it is left alone, and if it is known not to have what is wanted. Of those who come when its rest is over, one tries.
    fn may_ask(&self, ring: &Ring, peer: &Peer, object: ObjectId, held_only: bool) -> bool {
        let now = Instant::now();
        let mut standings = self.standings();
        let Some(standing) = standings.get_mut(&peer.address) else { return true };
        if standing.not_before.is_some_and(|not_before| now < not_before) {
            return false;
        }
        if held_only && object.made_at() <= standing.forgot {
            return false;
        }
        if standing.not_before.is_some() {
            standing.not_before = Some(now + self.parts.deadlines.first_byte + self.parts.deadlines.body);
            standing.is_tried = true;
        }
        // Nobody remembers those who are gone.
        standings.retain(|address, _| ring.peers().iter().any(|peer| peer.address == *address));
        true
    }

    fn failed(&self, peer: &Peer, object: ObjectId, error: &PeerError) {
        self.metrics.peer_failed();
        if !error.speaks_against_the_peer() {
            tracing::debug!(node = %peer.node, address = peer.address, %object, %error, "a peer gave nothing; the store is asked");
            return;
        }
        let now = Instant::now();
        let mut rest = None;
        self.stands(peer, |standing| {
            // Calls that were on their way together are one failure.
            if standing.is_tried || standing.not_before.is_none_or(|not_before| not_before <= now) {
                let rests = FIRST_REST.saturating_mul(1 << standing.failures.min(10)).min(LONGEST_REST);
                let failures = standing.failures.saturating_add(1);
                *standing = Standing { failures, not_before: Some(now + rests), is_tried: false, forgot: standing.forgot };
                rest = Some(rests);
            }
        });
        if let Some(rest) = rest {
            self.parts.look.nudge();
            tracing::warn!(node = %peer.node, address = peer.address, %error, ?rest, "a peer's cache failed and is left alone for a while");
        }
    }

    fn stands(&self, peer: &Peer, change: impl FnOnce(&mut Standing)) {
        change(self.standings().entry(peer.address.clone()).or_default());
    }

    fn standings(&self) -> MutexGuard<'_, HashMap<String, Standing>> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom to ask, in order: a young object's maker has it in memory; the chunk's owner has it, or gets it for all.
fn candidates(ring: &Ring, wish: Wish) -> Vec<(&Peer, bool)> {
    let owner = ring.owner(wish.object, wish.chunk).filter(|_| wish.owner_too);
    let maker = match wish.age {
        Age::Recent => ring.peer(wish.object.maker()).filter(|maker| owner.is_none_or(|owner| owner.node != maker.node)),
        Age::Old => None,
    };
    maker.map(|maker| (maker, true)).into_iter().chain(owner.map(|owner| (owner, false))).collect()
}

/// Reads an answer and checks it against its seal.
async fn sealed(
    mut body: BoxStream<'static, Result<Bytes, String>>,
    most: u64,
    secret: &Secret,
    request: &Request,
) -> Result<Option<Vec<Bytes>>, PeerError> {
    let (mut head, mut pieces, mut got) = (Vec::with_capacity(Seal::LEN), Vec::new(), 0u64);
    while let Some(piece) = body.next().await {
        let mut piece = piece.map_err(PeerError::Unreachable)?;
        let of_head = piece.len().min(Seal::LEN - head.len());
        head.extend_from_slice(&piece[..of_head]);
        piece.advance(of_head);
        got += piece.len() as u64;
        if got > most {
            return Err(PeerError::Garbage("is longer than what was asked for"));
        }
        if !piece.is_empty() {
            pieces.push(piece);
        }
    }
    let head: [u8; Seal::LEN] = head.try_into().map_err(|_| PeerError::Garbage("broke off"))?;
    let seal = Seal::decode(&head, secret, &request.signature).ok_or(PeerError::Garbage("has no seal of this cluster"))?;
    if seal.len != got {
        return Err(PeerError::Garbage("has another length than it says"));
    }
    match seal.verdict {
        Verdict::Found if got == 0 => Err(PeerError::Garbage("is empty")),
        Verdict::Found if seal.crc != checksum(&pieces) => Err(PeerError::Garbage("has another checksum than it says")),
        Verdict::Found => Ok(Some(pieces)),
        Verdict::NotHeld => Ok(None),
        Verdict::Beyond | Verdict::Gone | Verdict::Failed => Err(PeerError::Failed(seal.verdict)),
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
