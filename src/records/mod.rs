//! Record batches and objects as bytes: checked, summarized, stamped, packed and found again.
//!
//! A *batch* is Kafka's RecordBatch, magic 2 (KIP-98): 61 bytes of header, then records, perhaps compressed. A *run* is what one object holds of
//! one partition; an object's *index* lists its runs. The index stands in the object's footer and, byte for byte the same, in its write event.
//! docs/OBJECT_FORMAT.md is normative.
//!
//! Invariants: nothing here panics, whatever the bytes; a batch that [`batch::check`] accepts can be stored, numbered and served without being opened again;
//! the hot path reads headers only and copies nothing.

pub mod batch;
mod compression;
pub mod object;
mod reading;
mod recompress;
pub(crate) mod varint;

pub use compression::Compression;
pub use reading::{RecordHead, first_record_since, for_each_record, newest_record};
pub use recompress::recompress;
