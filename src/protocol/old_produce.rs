//! Produce 0 to 2: advertised because old librdkafkas need to see them (KAFKA-18659), refused because Kafka 4 removed them (KIP-896).
//!
//! The refusal has the form that those clients read: UNSUPPORTED_VERSION for every partition they named.

use bytes::{BufMut, BytesMut};

use super::frame::{Request, RequestHeader};
use super::rope::{Rope, RopeBuilder};
use super::shapes::MAX_ELEMENTS;
use super::wire::{Reader, WireError, put_len, put_str};

/// The first version that is served.
pub const FIRST_SERVED: i16 = 3;

/// The answer that refuses a Produce of version 0 to 2; `None` with acks=0, whose sender reads no answers.
///
/// # Errors
/// The bytes are not such a request.
pub fn refuse(request: &Request, error_code: i16) -> Result<Option<Rope>, WireError> {
    let mut reader = Reader::new(&request.body);
    let acks = reader.i16()?;
    reader.i32()?; // timeout
    let mut rope = RopeBuilder::with_capacity(128);
    answer(rope.out(), &mut reader, &request.header, error_code)?;
    Ok((acks != 0).then(|| rope.finish()))
}

fn answer(out: &mut BytesMut, reader: &mut Reader<'_>, header: &RequestHeader, error_code: i16) -> Result<(), WireError> {
    out.put_i32(header.correlation_id);
    let topics = reader.count(false)?.unwrap_or(0);
    put_len(out, topics, false);
    let mut elements = topics;
    for _ in 0..topics {
        put_str(out, reader.str(false)?, false);
        let partitions = reader.count(false)?.unwrap_or(0);
        elements += partitions;
        if elements > MAX_ELEMENTS {
            return Err(WireError::TooManyElements);
        }
        put_len(out, partitions, false);
        for _ in 0..partitions {
            partition(out, reader, header.version, error_code)?;
        }
    }
    if header.version >= 1 {
        out.put_i32(0); // not throttled
    }
    Ok(())
}

fn partition(out: &mut BytesMut, reader: &mut Reader<'_>, version: i16, error_code: i16) -> Result<(), WireError> {
    out.put_i32(reader.i32()?);
    let records = reader.long_len(false)?;
    reader.take(records.unwrap_or(0))?;
    out.put_i16(error_code);
    out.put_i64(-1); // no offset
    if version >= 2 {
        out.put_i64(-1); // no time of appending
    }
    Ok(())
}
