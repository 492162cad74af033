//! Traces for a collector that speaks OTLP: one follows a produce from its request to its offsets. No OpenTelemetry type leaves this room.
//!
//! The spans of a produce, each below the one that is further left:
//!
//! ```text
//! request Produce           from the frame to the answer
//!   wait                    in the open buffer, until it is sealed
//!   flush                   from sealing to the committed write event
//!     put                   until the object is durable, second tries included
//!     commit                the statement that commits the event, with those of others
//!     materialize           from the commit to the verdict
//!       round               the round that decided, if this agent ran it (below the flush, if it was quicker than the answer to the commit)
//! ```
//!
//! An object carries many requests, and a round decides many objects. As OpenTelemetry has it for work on batches, a flush has a link to every request
//! in it (at most [`MOST_LINKS`]), and the wait of each request has one to its flush; so do rounds and objects. Beside that a flush is the child of its
//! first request, and a round of its first object, so that one trace is whole without following links.
//!
//! Whether a request is traced is decided when it comes; what follows it is traced if it is. Nothing here waits: spans that have ended go into a queue, and
//! if the collector does not keep up they are dropped and counted. Without an endpoint there is no queue, no task, and no span costs an allocation.

#[cfg(test)]
pub mod collected;
mod export;
mod span;

pub use export::{Collector, TraceConfig, TracesError};
pub use span::{MOST_LINKS, Place, Span, Traces, Waits};
