//! The Kafka wire: frames, headers, versions, requests and answers. No sockets here and no rules of the log.
//!
//! Bytes become a [`Request`] ([`frame`]), are checked against the form of their API and version ([`shapes`]) and decoded by the kafka-protocol
//! crate ([`codec`]). Answers become a [`Rope`]: pieces to be sent one after the other, so that records are never copied.
//!
//! Words: a *frame* is a length and what it announces; a *rope* is a frame in pieces; an API's *row* is its line in the one table of
//! [`versions`]; a version is *flexible* if it has compact types and tagged fields.
//!
//! Invariants: nothing a client sends panics, and nothing allocates more than a fixed multiple of what was received.

mod client;
pub mod codec;
pub mod fetch_response;
mod frame;
pub mod old_produce;
mod rope;
pub mod shapes;
#[cfg(test)]
mod tests;
pub mod versions;
pub mod wire;

pub use client::ClientNotes;
pub use codec::CodecError;
pub use frame::{FrameError, LENGTH_BYTES, Request, RequestHeader, frame_len, parse_request};
pub use rope::Rope;
pub use versions::{Api, ApiRow};
