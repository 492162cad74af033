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
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::types::ByteRange;

/// Memory, position and length of each access are multiples of this: the largest block size that is in use.
const BLOCK: usize = 4096;
#[cfg(target_os = "linux")]
const FLAG: i32 = libc::O_DIRECT;
#[cfg(not(target_os = "linux"))]
const FLAG: i32 = 0;
/// Shorter accesses are better served by the page cache.
const SHORTEST: u64 = 128 * 1024;
/// Bytes that one call writes.
const STAGE: usize = 1024 * 1024;
/// Stages kept for the next write.
const STAGES_KEPT: usize = 4;

/// Memory that begins at a multiple of [`BLOCK`].
#[derive(Debug)]
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

    fn into_bytes(self, range: Range<usize>) -> Bytes {
        Bytes::from(self.bytes).slice(self.start + range.start..self.start + range.end)
    }
}

/// Direct access, as long as it is possible.
#[derive(Debug)]
pub(super) struct Direct {
    possible: AtomicBool,
    stages: Mutex<Vec<Aligned>>,
}

impl Direct {
    pub(super) fn new() -> Direct {
        Direct { possible: AtomicBool::new(FLAG != 0), stages: Mutex::default() }
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
        let mut stage = self.stages().pop().unwrap_or_else(|| Aligned::new(STAGE));
        let written = self.or_never(write_staged(file, pieces, &mut stage));
        let mut stages = self.stages();
        if stages.len() < STAGES_KEPT {
            stages.push(stage);
        }
        written
    }

    /// The bytes of `range`, which lies within the file, in pieces of at most `piece` bytes. `None`: it is not possible here.
    pub(super) fn read(&self, file: &File, range: ByteRange, piece: u64) -> io::Result<Option<Vec<Bytes>>> {
        let mut pieces = Vec::with_capacity(range.len.div_ceil(piece) as usize);
        let mut at = range.start;
        while at < range.end() {
            let end = (at + piece).min(range.end());
            let Some(read) = self.or_never(read_blocks(file, at..end))? else { return Ok(None) };
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

    fn stages(&self) -> std::sync::MutexGuard<'_, Vec<Aligned>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The bytes at `range`, by whole blocks around it.
fn read_blocks(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let first = range.start - range.start % BLOCK as u64;
    let wanted = (range.end - first) as usize;
    let mut memory = Aligned::new(wanted.next_multiple_of(BLOCK));
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
    Ok(memory.into_bytes((range.start - first) as usize..wanted))
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
            let read = direct.read(&file, range, 300_000).expect("read").expect("possible").concat();
            prop_assert!(read == all[range.start as usize..range.end() as usize]);
        }
    }
}
