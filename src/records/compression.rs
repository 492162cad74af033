//! Records compressed and read again. Readers stream: however much a few bytes unfold to, only a small buffer is held.

use std::io::{self, BufReader, Read, Write as _};

use super::batch::Codec;

/// Bytes that one batch may unfold to before reading it is refused.
const UNFOLDED_MAX: u64 = 1 << 30;

/// A codec and how hard it tries; `None`: as the codec likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    pub codec: Codec,
    pub level: Option<i32>,
}

/// A reader of the records in `payload`.
pub(super) fn reader(codec: Codec, payload: &[u8]) -> io::Result<Box<dyn Read + '_>> {
    let inner: Box<dyn Read + '_> = match codec {
        Codec::None => return Ok(Box::new(payload)),
        Codec::Gzip => Box::new(flate2::read::MultiGzDecoder::new(payload)),
        Codec::Snappy => snappy(payload)?,
        Codec::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(payload)),
        Codec::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(payload)?),
    };
    Ok(Box::new(BufReader::new(inner.take(UNFOLDED_MAX))))
}

/// The payload of a batch with these records.
pub(super) fn compress(compression: Compression, records: &[u8]) -> io::Result<Vec<u8>> {
    match compression.codec {
        Codec::None => Ok(records.to_vec()),
        Codec::Gzip => {
            let level =
                compression.level.and_then(|level| u32::try_from(level).ok()).map_or_else(Default::default, flate2::Compression::new);
            let mut out = flate2::write::GzEncoder::new(Vec::new(), level);
            out.write_all(records)?;
            out.finish()
        }
        Codec::Snappy => xerial(records),
        Codec::Lz4 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(records)?;
            Ok(out.finish()?)
        }
        Codec::Zstd => zstd::stream::encode_all(records, compression.level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL)),
    }
}

/// What snappy-java, and so the Java client, puts in front of its blocks: magic, then version and compatible version.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: usize = 16;

const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_BLOCK: usize = 32 << 10;

fn xerial(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = [XERIAL_MAGIC, &XERIAL_VERSIONS].concat();
    for block in records.chunks(XERIAL_BLOCK) {
        let block = snap::raw::Encoder::new().compress_vec(block)?;
        out.extend((block.len() as u32).to_be_bytes());
        out.extend(block);
    }
    Ok(out)
}

fn snappy(payload: &[u8]) -> io::Result<Box<dyn Read + '_>> {
    if !payload.starts_with(XERIAL_MAGIC) {
        return Ok(Box::new(io::Cursor::new(block(payload)?)));
    }
    let blocks = payload.get(XERIAL_HEADER..).ok_or_else(|| invalid("a snappy header ends too early"))?;
    Ok(Box::new(XerialBlocks { blocks, open: io::Cursor::new(Vec::new()) }))
}

/// Snappy's densest copy unfolds 3 bytes to 64.
const SNAPPY_MAX_RATIO: usize = 22;

fn block(compressed: &[u8]) -> io::Result<Vec<u8>> {
    let len = snap::raw::decompress_len(compressed)?;
    if len > compressed.len() * SNAPPY_MAX_RATIO + 64 {
        return Err(invalid("a snappy block claims an impossible length"));
    }
    Ok(snap::raw::Decoder::new().decompress_vec(compressed)?)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Blocks of `length u32, snappy block`.
struct XerialBlocks<'a> {
    blocks: &'a [u8],
    open: io::Cursor<Vec<u8>>,
}

impl Read for XerialBlocks<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.open.read(out)?;
            if read > 0 || out.is_empty() || self.blocks.is_empty() {
                return Ok(read);
            }
            let (len, rest) = self.blocks.split_first_chunk::<4>().ok_or_else(|| invalid("a snappy block length ends too early"))?;
            let len = u32::from_be_bytes(*len) as usize;
            let compressed = rest.get(..len).ok_or_else(|| invalid("a snappy block ends too early"))?;
            self.open = io::Cursor::new(block(compressed)?);
            self.blocks = &rest[len..];
        }
    }
}
