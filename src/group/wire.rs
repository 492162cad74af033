//! Small pieces of the stored form: numbers are varints, texts and bytes have their length in front.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};

use crate::records::varint;
use crate::types::Timestamp;

/// A stored state that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("it has version {0}, which this binary does not know")]
    Version(u8),
    #[error("it ends too early or counts more than it holds")]
    Truncated,
    #[error("it holds something that makes no sense: {0}")]
    Nonsense(&'static str),
    #[error("{0} bytes follow its end")]
    Trailing(usize),
}

#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn count(&mut self, count: usize) {
        varint::put(count as u64, &mut self.0);
    }

    pub(super) fn number(&mut self, number: i64) {
        varint::put_signed(number, &mut self.0);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Absent is not the same as empty.
    pub(super) fn maybe_text(&mut self, text: Option<&str>) {
        self.byte(u8::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }

    pub(super) fn flags<const N: usize>(&mut self, flags: [bool; N]) {
        self.byte(flags.into_iter().enumerate().map(|(i, set)| u8::from(set) << i).sum());
    }

    pub(super) fn duration(&mut self, duration: Duration) {
        self.count(usize::try_from(duration.as_millis()).unwrap_or(usize::MAX));
    }

    pub(super) fn id(&mut self, id: &[u8; 16]) {
        self.0.extend_from_slice(id);
    }

    pub(super) fn finish(self) -> Bytes {
        self.0.into()
    }
}

#[derive(Debug)]
pub(super) struct Reader(Bytes);

type Read<T> = Result<T, BodyError>;

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Reader(bytes)
    }

    pub(super) fn byte(&mut self) -> Read<u8> {
        self.0.try_get_u8().map_err(|_| BodyError::Truncated)
    }

    fn varint<T>(&mut self, take: impl FnOnce(&mut &[u8]) -> Option<T>) -> Read<T> {
        let mut rest = &self.0[..];
        let value = take(&mut rest).ok_or(BodyError::Truncated)?;
        let taken = self.0.len() - rest.len();
        self.0.advance(taken);
        Ok(value)
    }

    pub(super) fn number(&mut self) -> Read<i64> {
        self.varint(varint::take_signed)
    }

    pub(super) fn int(&mut self) -> Read<i32> {
        self.number()?.try_into().map_err(|_| BodyError::Nonsense("a number out of its range"))
    }

    pub(super) fn unsigned(&mut self) -> Read<u64> {
        self.varint(varint::take)
    }

    /// Of things that take a byte at least: a count that cannot be true is refused before memory is taken for it.
    pub(super) fn count(&mut self) -> Read<usize> {
        let count = self.unsigned()?;
        usize::try_from(count).ok().filter(|c| *c <= self.0.len()).ok_or(BodyError::Truncated)
    }

    pub(super) fn bytes(&mut self) -> Read<Bytes> {
        let length = self.count()?;
        Ok(self.0.split_to(length))
    }

    pub(super) fn text(&mut self) -> Read<Arc<str>> {
        let bytes = self.bytes()?;
        std::str::from_utf8(&bytes).map(Into::into).map_err(|_| BodyError::Nonsense("text that is not UTF-8"))
    }

    pub(super) fn maybe_text(&mut self) -> Read<Option<Arc<str>>> {
        match self.byte()? {
            0 => Ok(None),
            1 => self.text().map(Some),
            _ => Err(BodyError::Nonsense("neither there nor absent")),
        }
    }

    pub(super) fn flags<const N: usize>(&mut self) -> Read<[bool; N]> {
        let byte = self.byte()?;
        if u32::from(byte) >> N != 0 {
            return Err(BodyError::Nonsense("unknown flags"));
        }
        Ok(std::array::from_fn(|i| byte >> i & 1 == 1))
    }

    pub(super) fn timestamp(&mut self) -> Read<Timestamp> {
        self.number().map(Timestamp)
    }

    pub(super) fn duration(&mut self) -> Read<Duration> {
        self.unsigned().map(Duration::from_millis)
    }

    pub(super) fn id(&mut self) -> Read<[u8; 16]> {
        let mut id = [0; 16];
        self.0.try_copy_to_slice(&mut id).map_err(|_| BodyError::Truncated)?;
        Ok(id)
    }

    pub(super) fn finish(self) -> Read<()> {
        if self.0.is_empty() { Ok(()) } else { Err(BodyError::Trailing(self.0.len())) }
    }
}
