//! Kafka's primitive types, for the few places that read or write the wire without the kafka-protocol crate.

use bytes::{BufMut, BytesMut};

/// The bytes cannot be what they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the bytes end too early")]
    Truncated,
    #[error("a variable-length number is longer than 32 bits")]
    LongVarint,
    #[error("a length or count is negative")]
    NegativeLength,
    #[error("a count says more than the bytes can hold")]
    LyingCount,
    #[error("there are more elements than one request may have")]
    TooManyElements,
    #[error("a tagged field has the wrong length")]
    TagLength,
    #[error("a string is not UTF-8")]
    NotUtf8,
    #[error("something that cannot be null is null")]
    Null,
}

type Result<T> = std::result::Result<T, WireError>;

/// Reads big-endian primitives from the front of a slice; never panics.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    pub fn i16(&mut self) -> Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    pub fn uuid(&mut self) -> Result<[u8; 16]> {
        self.array()
    }

    pub fn boolean(&mut self) -> Result<bool> {
        self.array::<1>().map(|[byte]| byte != 0)
    }

    /// An unsigned number of at most five bytes, seven bits in each.
    pub fn uvarint(&mut self) -> Result<u32> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array::<1>()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| WireError::LongVarint);
            }
        }
        Err(WireError::LongVarint)
    }

    /// The length of a string: 16 bits and -1 for null, or compact (one more than the length, 0 for null).
    pub fn string_len(&mut self, compact: bool) -> Result<Option<usize>> {
        if compact { self.compact_len() } else { nullable(i32::from(self.i16()?)) }
    }

    /// The length of bytes or an array: 32 bits and -1 for null, or compact.
    pub fn long_len(&mut self, compact: bool) -> Result<Option<usize>> {
        if compact { self.compact_len() } else { nullable(self.i32()?) }
    }

    fn compact_len(&mut self) -> Result<Option<usize>> {
        Ok(self.uvarint()?.checked_sub(1).map(|len| len as usize))
    }

    /// A string or null.
    pub fn nullable_str(&mut self, compact: bool) -> Result<Option<&'a str>> {
        let Some(len) = self.string_len(compact)? else { return Ok(None) };
        std::str::from_utf8(self.take(len)?).map(Some).map_err(|_| WireError::NotUtf8)
    }

    pub fn str(&mut self, compact: bool) -> Result<&'a str> {
        self.nullable_str(compact)?.ok_or(WireError::Null)
    }

    /// The number of elements of an array, `None` for null. Each takes at least one byte, so a lying count is refused here.
    pub fn count(&mut self, compact: bool) -> Result<Option<usize>> {
        let count = self.long_len(compact)?;
        if count.is_some_and(|count| count > self.remaining()) { Err(WireError::LyingCount) } else { Ok(count) }
    }

    /// Skips the tagged fields at the end of a structure.
    pub fn skip_tags(&mut self) -> Result<()> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let len = self.uvarint()?;
            self.take(len as usize)?;
        }
        Ok(())
    }
}

fn nullable(len: i32) -> Result<Option<usize>> {
    match len {
        -1 => Ok(None),
        len => usize::try_from(len).map(Some).map_err(|_| WireError::NegativeLength),
    }
}

/// Writes an unsigned variable-length number.
pub fn put_uvarint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes the length of bytes or an array that is not null: 32 bits, or compact.
pub fn put_len(out: &mut BytesMut, len: usize, compact: bool) {
    if compact { put_uvarint(out, len as u32 + 1) } else { out.put_i32(len as i32) }
}

/// Writes a string that is not null.
pub fn put_str(out: &mut BytesMut, text: &str, compact: bool) {
    if compact {
        put_uvarint(out, text.len() as u32 + 1);
    } else {
        out.put_i16(text.len() as i16);
    }
    out.put_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn variable_length_numbers_are_read_back(value: u32) {
            let mut out = BytesMut::new();
            put_uvarint(&mut out, value);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.uvarint(), Ok(value));
            prop_assert_eq!(reader.remaining(), 0);
        }
    }

    #[test]
    fn a_variable_length_number_of_more_than_32_bits_is_refused() {
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).uvarint(), Err(WireError::LongVarint));
        assert_eq!(Reader::new(&[0x80; 6]).uvarint(), Err(WireError::LongVarint));
        assert_eq!(Reader::new(&[0x80]).uvarint(), Err(WireError::Truncated));
    }

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused() {
        assert_eq!(Reader::new(&i32::MAX.to_be_bytes()).count(false), Err(WireError::LyingCount));
        assert_eq!(Reader::new(&(-2i32).to_be_bytes()).count(false), Err(WireError::NegativeLength));
        assert_eq!(Reader::new(&(-1i32).to_be_bytes()).count(false), Ok(None));
    }
}
