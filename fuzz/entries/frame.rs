//! The first bytes of a connection: four of length, then a frame.

use bytes::Bytes;
use yaks::protocol::{LENGTH_BYTES, frame_len, parse_request};

const LIMIT: usize = 1 << 20;

/// True if `data` begins with a whole frame whose header can be read.
pub(crate) fn run(data: &[u8]) -> bool {
    let Some((prefix, rest)) = data.split_first_chunk::<LENGTH_BYTES>() else { return false };
    let Ok(len) = frame_len(*prefix, LIMIT) else { return false };
    assert!(len <= LIMIT);
    let Some(frame) = rest.get(..len) else { return false };
    let Ok(request) = parse_request(Bytes::copy_from_slice(frame)) else { return false };
    assert!(frame.ends_with(&request.body), "the body is the end of the frame");
    true
}
