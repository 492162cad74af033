//! Objects in memory: what a fetch reads without asking the store.
//!
//! Objects never change, so what was read once is right for ever; all there is to decide is what to keep. An object is cached in
//! *pages*, aligned pieces of equal size (the last one shorter), or *whole*, if this agent uploaded it: it has the bytes anyway, and consumers at the log's
//! end want just these. A miss loads the pages it lacks, neighbours in one request, and everybody who wants a page that is being loaded waits for
//! that load instead of starting another.
//!
//! Two budgets: *recent* holds whole objects and pages of objects about as young as the youngest seen; *old* holds pages of older ones. A consumer that
//! reads history from its beginning cannot push out what the others are reading. Both forget what was used least recently. Loads on their way have the
//! same two limits.
//!
//! With peers (docs/adr/0002-who-is-asked.md), the agents of a rack share what they hold. A few neighbouring pages are a *chunk*, and each
//! chunk has one *owner* ([`ring`]), which loads it from the store, as a whole, for all who ask. A young object's *maker* has it in memory and is asked first.
//! What a peer gave is *borrowed*: it is kept in a small budget of its own, because somebody else keeps it properly. [`peer`] asks, [`lend`] answers, [`wire`]
//! says how both know each other; [`http`] carries it. A peer that does not give what it should, in time, is passed over in favour of the store.
//!
//! Invariants: a failure is never cached; a load goes on when the reader who began it goes away; bytes are shared with whoever reads them, never copied;
//! loads at the same time, pages asked for in advance, and requests from and to peers have limits; a request of a peer never leads to a request to
//! another peer; nothing a peer says makes a reader believe that an object ends.

mod entries;
pub mod http;
mod lanes;
pub mod lend;
mod load;
pub mod local;
mod members;
pub mod pages;
pub mod peer;
pub mod pieces;
pub mod ring;
pub mod wire;

pub use http::HttpTransport;
pub use lend::Lender;
pub use local::{CacheConfig, ObjectCache};
pub use members::follow;
pub use peer::{PeerDeadlines, PeerParts, PeerView};
pub use ring::{Peer, Ring};
pub use wire::{Refusal, Secret, Secrets};
