//! Variable-length integers: seven bits a byte, lowest first, as in Kafka and Protocol Buffers.

use std::io::{self, Read};

pub(crate) fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_signed(value: i64, out: &mut Vec<u8>) {
    put(((value << 1) ^ (value >> 63)) as u64, out);
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Takes one value off the front of `rest`; `None` if it does not end within ten bytes.
pub(crate) fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (i, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            // The tenth byte has room for one bit only.
            if i == 9 && *byte > 1 {
                return None;
            }
            *rest = &rest[i + 1..];
            return Some(value);
        }
    }
    None
}

pub(crate) fn take_signed(rest: &mut &[u8]) -> Option<i64> {
    take(rest).map(unzigzag)
}

/// Reads one signed value; also says how many bytes it took. `None` at a clean end.
pub(crate) fn read_signed(reader: &mut impl Read) -> io::Result<Option<(i64, u64)>> {
    let mut value = 0u64;
    for i in 0..10 {
        let mut byte = [0];
        match reader.read_exact(&mut byte) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && i == 0 => return Ok(None),
            Err(error) => return Err(error),
        }
        value |= u64::from(byte[0] & 0x7f) << (7 * i);
        if byte[0] & 0x80 == 0 {
            return Ok(Some((unzigzag(value), i + 1)));
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a number does not end"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_read_back(unsigned: u64, signed: i64) {
            let mut bytes = Vec::new();
            put(unsigned, &mut bytes);
            put_signed(signed, &mut bytes);
            let mut rest = &bytes[..];
            prop_assert_eq!(take(&mut rest), Some(unsigned));
            let mut reader = rest;
            prop_assert_eq!(take_signed(&mut rest), Some(signed));
            prop_assert!(rest.is_empty());
            let (read, len) = read_signed(&mut reader).expect("readable").expect("there");
            prop_assert_eq!((read, len as usize), (signed, bytes.len() - { let mut b = Vec::new(); put(unsigned, &mut b); b.len() }));
        }
    }

    #[test]
    fn a_number_without_end_is_refused() {
        assert_eq!(take(&mut &[0xff; 20][..]), None);
        assert_eq!(take(&mut &[0x80][..]), None);
        assert!(read_signed(&mut &[0xff; 20][..]).is_err());
    }
}
