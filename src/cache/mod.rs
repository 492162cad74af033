//! Objects in memory: what a fetch reads without asking the store.
//!
//! Objects never change, so what was read once is right for ever; all there is to decide is what to keep. An object is cached in
//! *pages*, aligned pieces of equal size (the last one shorter), or *whole*, if this agent uploaded it: it has the bytes anyway, and consumers at the log's
//! end want just these. A miss loads the pages it lacks, neighbours in one request, and everybody who wants a page that is being loaded waits for
//! that load instead of starting another.
//!
//! Two budgets: *recent* holds whole objects and pages of objects about as young as the youngest seen; *old* holds pages of older ones. A consumer that
//! reads history from its beginning cannot push out what the others are reading. Both forget what was used least recently.
//!
//! Invariants: a failure is never cached; a load goes on when the reader who began it goes away; bytes are shared with whoever reads them, never copied;
//! loads at the same time, and pages asked for in advance, have limits.

mod entries;
mod load;
pub mod local;
pub mod pages;
pub mod pieces;

pub use local::{CacheConfig, ObjectCache};
