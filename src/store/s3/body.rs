//! An object's pieces as the body of a request.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use crate::store::ObjectBody;

/// A body of known length that the SDK can begin anew for every try, without copying.
pub(super) fn streamed(body: ObjectBody) -> ByteStream {
    let (len, pieces): (u64, Arc<[Bytes]>) = (body.len(), body.into_pieces().into());
    let fresh = move || SdkBody::from_body_1_x(Streamed { pieces: Arc::clone(&pieces), next: 0, left: len });
    ByteStream::new(SdkBody::retryable(fresh))
}

/// One body in one piece: a signature over the payload needs all of it before the first byte is sent, and the SDK takes that only
/// from a body in memory. Copies.
pub(super) fn joined(body: &ObjectBody) -> ByteStream {
    let mut joined = BytesMut::with_capacity(usize::try_from(body.len()).unwrap_or(0));
    for piece in body.pieces() {
        joined.extend_from_slice(piece);
    }
    ByteStream::from(joined.freeze())
}

struct Streamed {
    pieces: Arc<[Bytes]>,
    next: usize,
    left: u64,
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while let Some(piece) = self.pieces.get(self.next).cloned() {
            self.next += 1;
            if !piece.is_empty() {
                self.left -= piece.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
