//! A batch with its records compressed in another way, where a topic's `compression.type` asks for one.

use std::io::{self, Read as _};

use bytes::{Bytes, BytesMut};

use super::batch::{self, BatchError, BatchHeader, Codec, HEADER_LEN};
use super::compression::{self, Compression};
use crate::types::BatchSummary;

/// Most bytes that the records of one batch may unfold to here, where they are held and not streamed.
const HELD_MAX: u64 = 128 << 20;

/// The batch as `wanted`; as it is if it has that codec already. `bytes` have passed [`batch::check`]. Costs what unfolding and compressing cost, and takes
/// the bytes that the records unfold to from `left`.
///
/// # Errors
/// [`BatchError::Unreadable`] or [`BatchError::Records`] if the records are not what the header says, or unfold to more than is left.
pub fn recompress(bytes: &Bytes, summary: &BatchSummary, wanted: Compression, left: &mut u64) -> Result<(Bytes, BatchSummary), BatchError> {
    let header = BatchHeader::read(bytes).ok_or(BatchError::TooShort(bytes.len()))?;
    if header.codec()? == wanted.codec {
        return Ok((bytes.clone(), *summary));
    }
    let unreadable = |error: io::Error| BatchError::Unreadable(error.to_string());
    let records = unfold(header.codec()?, &bytes[HEADER_LEN..], HELD_MAX.min(*left)).map_err(unreadable)?;
    *left = left.saturating_sub(records.len() as u64);
    batch::check_records(&records, header.record_count)?;
    let packed = compression::compress(wanted, &records).map_err(unreadable)?;
    let mut recompressed = BytesMut::with_capacity(HEADER_LEN + packed.len());
    recompressed.extend_from_slice(&bytes[..HEADER_LEN]);
    recompressed.extend_from_slice(&packed);
    batch::set_payload(&mut recompressed, wanted.codec);
    let summary = BatchSummary { len: recompressed.len() as u32, ..*summary };
    Ok((recompressed.freeze(), summary))
}

fn unfold(codec: Codec, payload: &[u8], most: u64) -> io::Result<Vec<u8>> {
    let mut records = Vec::new();
    compression::reader(codec, payload)?.take(most + 1).read_to_end(&mut records)?;
    if records.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "they unfold to more than a broker can hold"));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::batch::BatchLimits;
    use crate::records::batch::build::{batch, sealed, stamped, with_records};
    use crate::records::for_each_record;

    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    const LIMITS: BatchLimits = BatchLimits { max_bytes: 1 << 30, zstd: true };

    fn to(bytes: &Bytes, codec: Codec) -> Result<Bytes, BatchError> {
        let summary = batch::check(bytes, &LIMITS).expect("acceptable");
        let mut left = u64::from(u32::MAX);
        let (bytes, after) = recompress(bytes, &summary, Compression { codec, level: None }, &mut left)?;
        assert_eq!(batch::check(&bytes, &LIMITS).expect("acceptable"), after);
        assert_eq!(BatchSummary { len: 0, ..after }, BatchSummary { len: 0, ..summary });
        assert_eq!(BatchHeader::read(&bytes).expect("a header").codec(), Ok(codec));
        Ok(bytes)
    }

    proptest! {
        #[test]
        fn from_every_codec_to_every_other_and_back(count in 1i32..50, size in 0usize..5_000, way in prop::collection::vec(0usize..5, 1..6)) {
            let plain = Bytes::from(stamped(batch(count, size, 1_000), 7, 1, 3));
            let mut now = plain.clone();
            for at in way {
                now = to(&now, CODECS[at]).expect("recompressed");
                let mut seen = 0;
                for_each_record(&now, |_| { seen += 1; std::ops::ControlFlow::<()>::Continue(()) }).expect("readable");
                prop_assert_eq!(seen, count);
            }
            prop_assert_eq!(to(&now, Codec::None).expect("recompressed"), plain);
        }
    }

    #[test]
    fn levels_are_heeded() {
        let records: Vec<u8> = (0..60_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 20).to_string().into_bytes()).collect();
        let size = |codec, level| compression::compress(Compression { codec, level: Some(level) }, &records).expect("compressed").len();
        assert!(size(Codec::Gzip, 1) > size(Codec::Gzip, 9));
        assert!(size(Codec::Zstd, -5) > size(Codec::Zstd, 19));
    }

    #[test]
    fn lies_are_found() {
        let bomb =
            compression::compress(Compression { codec: Codec::Zstd, level: None }, &vec![0; HELD_MAX as usize + 1]).expect("compressed");
        for (payload, attributes) in [(&b"no gzip at all"[..], 1), (&bomb, 4)] {
            let batch = Bytes::from(sealed(with_records(1, 0, attributes, payload)));
            assert!(matches!(to(&batch, Codec::None), Err(BatchError::Unreadable(_))), "{attributes}");
        }
        let plain = Bytes::from(batch(3, 10, 0));
        let mut left = (plain.len() - HEADER_LEN) as u64;
        let summary = batch::check(&plain, &LIMITS).expect("acceptable");
        let mut again = || recompress(&plain, &summary, Compression { codec: Codec::Zstd, level: None }, &mut left).map(drop);
        assert_eq!(again(), Ok(()), "just what is left");
        assert!(matches!(again(), Err(BatchError::Unreadable(_))), "nothing is left");
        let good = to(&plain, Codec::Lz4).expect("recompressed");
        let mut miscounted = good.to_vec();
        miscounted[23..27].copy_from_slice(&3i32.to_be_bytes());
        miscounted[57..61].copy_from_slice(&4i32.to_be_bytes());
        assert_eq!(to(&Bytes::from(sealed(miscounted)), Codec::Zstd), Err(BatchError::Records));
    }
}
