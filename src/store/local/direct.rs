//! Files past the system's page cache (`O_DIRECT`).
//!
//! A broker keeps what it has just written in memory anyway, and what it reads later it reads once and in order. The page cache would hold
//! a second copy and costs a copy by the kernel, a page fault for each fresh page, and write-back at a moment of its own choosing.
//! Where the file system knows no direct access, files are used as usual.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::types::ByteRange;

/// Memory, position and length of each access are multiples of this: the largest block size that is in use.
const BLOCK: usize = 4096;
#[cfg(target_os = "linux")]
const FLAG: i32 = rustix::fs::OFlags::DIRECT.bits() as i32;
#[cfg(not(target_os = "linux"))]
const FLAG: i32 = 0;
/// Shorter accesses are better served by the page cache.
const SHORTEST: u64 = 128 * 1024;
/// Bytes that one call writes.
const STAGE: usize = 1024 * 1024;
/// Buffers kept for the next access.
const KEPT: usize = 16;
/// A buffer of the pool holds a stage, or a piece of a read with what its blocks bring beside it.
const BUFFER: usize = STAGE + 2 * BLOCK;

/// Memory that begins at a multiple of [`BLOCK`].
#[derive(Debug, Default)]
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    /// `len` zeros.
    fn new(len: usize) -> Aligned {
        let bytes = vec![0; len + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK).min(BLOCK);
        Aligned { bytes, start }
    }

    fn part(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.bytes[self.start..][range]
    }
}

/// Buffers to be used again: fresh memory costs a page fault for each page, and zeros.
#[derive(Debug, Default)]
struct Pool {
    free: Mutex<Vec<Aligned>>,
}

impl Pool {
    fn take(self: &Arc<Self>) -> Pooled {
        let memory = self.free().pop().unwrap_or_else(|| Aligned::new(BUFFER));
        Pooled { memory, pool: Arc::clone(self) }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Aligned>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that goes back to its pool.
#[derive(Debug)]
struct Pooled {
    memory: Aligned,
    pool: Arc<Pool>,
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let mut free = self.pool.free();
        if free.len() < KEPT {
            free.push(memory);
        }
    }
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.memory.bytes[self.memory.start..]
    }
}

/// Direct access, as long as it is possible.
#[derive(Debug)]
pub(super) struct Direct {
    possible: AtomicBool,
    pool: Arc<Pool>,
}

impl Direct {
    pub(super) fn new() -> Direct {
        Direct { possible: AtomicBool::new(FLAG != 0), pool: Arc::default() }
    }

    /// Whether `len` bytes are to be written or read directly.
    pub(super) fn suits(&self, len: u64) -> bool {
        len >= SHORTEST && self.possible.load(Ordering::Relaxed)
    }

    /// Opens a file for direct access. `None`: it is not possible here, now or ever.
    pub(super) fn open(&self, options: &mut OpenOptions, path: &Path) -> io::Result<Option<File>> {
        self.or_never(options.custom_flags(FLAG).open(path))
    }

    /// Writes `pieces` to an empty file opened by [`Direct::open`]. `None`: it is not possible here.
    pub(super) fn write(&self, file: &File, pieces: &[Bytes]) -> io::Result<Option<()>> {
        self.or_never(write_staged(file, pieces, &mut self.pool.take().memory))
    }

    /// The bytes of `range`, which lies within the file, in pieces of at most `piece` bytes. `None`: it is not possible here.
    pub(super) fn read(&self, file: &File, range: ByteRange, piece: u64) -> io::Result<Option<Vec<Bytes>>> {
        let mut pieces = Vec::with_capacity(range.len.div_ceil(piece) as usize);
        let mut at = range.start;
        while at < range.end() {
            let end = (at + piece).min(range.end());
            let Some(read) = self.or_never(self.read_blocks(file, at..end))? else { return Ok(None) };
            pieces.push(read);
            at = end;
        }
        Ok(Some(pieces))
    }

    /// Some file systems refuse when a file is opened, others when it is used.
    fn or_never<T>(&self, result: io::Result<T>) -> io::Result<Option<T>> {
        match result {
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                self.possible.store(false, Ordering::Relaxed);
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// The bytes at `range`, by whole blocks around it.
    fn read_blocks(&self, file: &File, range: Range<u64>) -> io::Result<Bytes> {
        let first = range.start - range.start % BLOCK as u64;
        let wanted = (range.end - first) as usize;
        let part = (range.start - first) as usize..wanted;
        // What is read may be kept for long: a short piece is not to hold a whole buffer.
        if (STAGE / 2..=BUFFER - BLOCK).contains(&wanted) {
            let mut buffer = self.pool.take();
            read_to(file, &mut buffer.memory, first, wanted)?;
            return Ok(Bytes::from_owner(buffer).slice(part));
        }
        let mut memory = Aligned::new(wanted.next_multiple_of(BLOCK));
        read_to(file, &mut memory, first, wanted)?;
        let start = memory.start;
        Ok(Bytes::from(memory.bytes).slice(start + part.start..start + part.end))
    }
}

/// Copies the pieces, which lie anywhere, into whole blocks. The last block is filled up, and the file then cut to its length.
fn write_staged(file: &File, pieces: &[Bytes], stage: &mut Aligned) -> io::Result<()> {
    let (mut position, mut filled) = (0u64, 0usize);
    for mut piece in pieces.iter().map(|piece| &piece[..]) {
        while !piece.is_empty() {
            let (now, rest) = piece.split_at(piece.len().min(STAGE - filled));
            stage.part(filled..filled + now.len()).copy_from_slice(now);
            filled += now.len();
            piece = rest;
            if filled == STAGE {
                file.write_all_at(stage.part(0..STAGE), position)?;
                position += STAGE as u64;
                filled = 0;
            }
        }
    }
    let blocks = filled.next_multiple_of(BLOCK);
    stage.part(filled..blocks).fill(0);
    file.write_all_at(stage.part(0..blocks), position)?;
    file.set_len(position + filled as u64)
}

/// Reads whole blocks from `first` on until there are `wanted` bytes.
fn read_to(file: &File, memory: &mut Aligned, first: u64, wanted: usize) -> io::Result<()> {
    let mut read = 0;
    while read < wanted {
        // The file's end is within the last block; before it a read comes back short only at a block.
        match file.read_at(memory.part(read..wanted.next_multiple_of(BLOCK)), first + read as u64) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 / 7) as u8).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn what_is_written_directly_is_read_directly_and_as_usual(
            len in 1usize..3_000_000,
            piece in 1usize..700_000,
            start in 0.0f64..1.0,
            part in 0.0f64..1.0,
        ) {
            let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
            let path = dir.path().join("file");
            let (direct, all) = (Direct::new(), pattern(len));
            let pieces: Vec<Bytes> = all.chunks(piece).map(Bytes::copy_from_slice).collect();
            let opened = direct.open(OpenOptions::new().write(true).create_new(true), &path).expect("opened");
            prop_assume!(opened.is_some());
            direct.write(&opened.expect("direct"), &pieces).expect("written").expect("possible");
            prop_assert_eq!(std::fs::read(&path).expect("read").len(), len);
            prop_assert!(std::fs::read(&path).expect("read") == all);
            let start = (start * len as f64) as u64;
            let range = ByteRange { start, len: 1 + (part * (len as u64 - start - 1) as f64) as u64 };
            let file = direct.open(OpenOptions::new().read(true), &path).expect("opened").expect("direct");
            let read = direct.read(&file, range, 700_000).expect("read").expect("possible").concat();
            prop_assert!(read == all[range.start as usize..range.end() as usize]);
        }
    }
}
