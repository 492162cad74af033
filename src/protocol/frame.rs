//! Frames: four bytes of length, then a request header, then the request's body.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::client::ClientNotes;
use super::versions::{ApiRow, State, row};
use super::wire::{Reader, WireError};

/// Bytes of the length in front of every frame.
pub const LENGTH_BYTES: usize = 4;

/// The least a frame can hold: API key, version, correlation id.
const MIN_FRAME: usize = 8;

/// Why the bytes of a connection make no sense: nothing after them can be read either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {0} bytes is shorter than a request header")]
    TooShort(i32),
    #[error("a frame of {len} bytes is longer than the limit of {limit}")]
    TooLong { len: usize, limit: usize },
    #[error("the request header cannot be read: {0}")]
    Header(WireError),
    #[error("API key {0} is unknown")]
    UnknownApi(i16),
    #[error("{name} is not served: {reason}")]
    NotServed { key: i16, name: &'static str, reason: &'static str },
    #[error("{name} version {version} is not served")]
    Version { name: &'static str, version: i16 },
}

/// The length of the frame that begins with `prefix`, without the prefix itself.
///
/// # Errors
/// A length that is negative, below a request header or above `limit`, before anything is allocated for it.
pub fn frame_len(prefix: [u8; LENGTH_BYTES], limit: usize) -> Result<usize, FrameError> {
    let announced = i32::from_be_bytes(prefix);
    match usize::try_from(announced) {
        Ok(len) if len > limit => Err(FrameError::TooLong { len, limit }),
        Ok(len) if len >= MIN_FRAME => Ok(len),
        Ok(_) | Err(_) => Err(FrameError::TooShort(announced)),
    }
}

/// Who asks for what.
#[derive(Debug, Clone)]
pub struct RequestHeader {
    /// The row of the API asked for.
    pub api: &'static ApiRow,
    pub version: i16,
    /// Chosen by the client, sent back with the answer.
    pub correlation_id: i32,
    /// What the client calls itself; not trusted.
    pub client_id: Option<String>,
    /// Where it is, as Kafka writes it (`/127.0.0.1`); empty until the connection says so.
    pub client_host: Arc<str>,
    /// What is known of it from its earlier requests.
    pub notes: ClientNotes,
}

/// A frame, cut into header and body.
#[derive(Debug, Clone)]
pub struct Request {
    pub header: RequestHeader,
    pub body: Bytes,
}

/// Cuts a frame (without its length) into header and body. A version outside the advertised range is not an error here: what
/// happens then depends on the API. The rest of its header is not read, since its form is unknown; the body is then the rest.
///
/// # Errors
/// An API key that is unknown or not served, or a header that cannot be read.
pub fn parse_request(mut frame: Bytes) -> Result<Request, FrameError> {
    let mut reader = Reader::new(&frame);
    let key = reader.i16().map_err(FrameError::Header)?;
    let version = reader.i16().map_err(FrameError::Header)?;
    let correlation_id = reader.i32().map_err(FrameError::Header)?;
    let api = row(key).ok_or(FrameError::UnknownApi(key))?;
    if let State::NotServed(reason) = api.state {
        return Err(FrameError::NotServed { key, name: api.name, reason });
    }
    let client_id = if api.covers(version) { client_id(&mut reader, api.is_flexible(version)).map_err(FrameError::Header)? } else { None };
    let header_len = frame.len() - reader.remaining();
    frame.advance(header_len);
    Ok(Request {
        header: RequestHeader { api, version, correlation_id, client_id, client_host: Arc::default(), notes: ClientNotes::default() },
        body: frame,
    })
}

/// The rest of the header, version 1 or 2. The client id is never compact (KIP-511), tagged fields come with version 2.
fn client_id(reader: &mut Reader<'_>, flexible: bool) -> Result<Option<String>, WireError> {
    let client_id = reader.nullable_str(false)?.map(str::to_owned);
    if flexible {
        reader.skip_tags()?;
    }
    Ok(client_id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1_000;

    #[test]
    fn lengths_out_of_bounds_are_refused() {
        assert_eq!(frame_len((-1i32).to_be_bytes(), LIMIT), Err(FrameError::TooShort(-1)));
        assert_eq!(frame_len(7i32.to_be_bytes(), LIMIT), Err(FrameError::TooShort(7)));
        assert_eq!(frame_len(8i32.to_be_bytes(), LIMIT), Ok(8));
        assert_eq!(frame_len(1_000i32.to_be_bytes(), LIMIT), Ok(1_000));
        assert_eq!(frame_len(1_001i32.to_be_bytes(), LIMIT), Err(FrameError::TooLong { len: 1_001, limit: LIMIT }));
        assert_eq!(frame_len(*b"GET ", LIMIT), Err(FrameError::TooLong { len: 0x4745_5420, limit: LIMIT }));
    }

    #[test]
    fn a_header_of_each_form_is_read() {
        let request = parse_request(Bytes::from_static(b"\0\x03\0\x01\0\0\0\x07\0\x02mebody")).expect("version 1");
        assert_eq!((request.header.api.name, request.header.client_id.as_deref()), ("Metadata", Some("me")));
        assert_eq!(&request.body[..], b"body");
        let request =
            parse_request(Bytes::from_static(b"\0\x03\0\x0c\0\0\0\x07\xff\xff\x01\x05\x02xxbody")).expect("version 2, with a tag");
        assert_eq!((request.header.correlation_id, request.header.client_id), (7, None));
        assert_eq!(&request.body[..], b"body");
    }

    #[test]
    fn of_an_unknown_version_only_the_fixed_part_is_read() {
        let request = parse_request(Bytes::from_static(b"\0\x12\0\x63\0\0\0\x07\xff\xfe")).expect("ApiVersions 99");
        assert_eq!((request.header.version, request.header.correlation_id), (99, 7));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_request(Bytes::from(bytes));
        }
    }
}
