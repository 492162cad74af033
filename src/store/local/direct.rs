//! Files past the system's page cache (`O_DIRECT`).
//!
//! A broker keeps what it has just written in memory anyway, and what it reads later it reads once and in order. The page cache would hold
//! a second copy and costs a copy by the kernel, a page fault for each fresh page, and write-back at a moment of its own choosing.
//! Where the file system knows no direct access, files are used as usual.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::memory::{Arena, SLOT, Slot};
use crate::types::ByteRange;

/// Memory, position and length of each access are multiples of this: the largest block size that is in use.
pub(super) const BLOCK: usize = 4096;
#[cfg(target_os = "linux")]
const FLAG: i32 = rustix::fs::OFlags::DIRECT.bits() as i32;
#[cfg(not(target_os = "linux"))]
const FLAG: i32 = 0;
/// Shorter accesses are better served by the page cache.
const SHORTEST: u64 = 128 * 1024;
/// Slots that one call reads into or writes from, at most.
const SLOTS_AT_ONCE: usize = 64;
/// Slots that a file is written through.
const SLOTS_WRITTEN: usize = 4;

/// Direct access, as long as it is possible.
#[derive(Debug)]
pub(super) struct Direct {
    possible: AtomicBool,
    arena: Arena,
}

impl Direct {
    pub(super) fn new() -> Direct {
        Direct { possible: AtomicBool::new(FLAG != 0), arena: Arena::new() }
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
        let len: usize = pieces.iter().map(Bytes::len).sum();
        let mut stage = self.slots(len.div_ceil(SLOT).min(SLOTS_WRITTEN));
        self.or_never(write_staged(file, pieces, &mut stage))
    }

    /// The bytes of `range`, which lies within the file, in pieces of at most [`SLOT`] bytes. `None`: it is not possible here.
    pub(super) fn read(&self, file: &File, range: ByteRange) -> io::Result<Option<Vec<Bytes>>> {
        // By whole blocks around it.
        let first = range.start - range.start % BLOCK as u64;
        let wanted = (range.end() - first) as usize;
        let mut slots = self.slots(wanted.div_ceil(SLOT));
        let Some(()) = self.or_never(read_to(file, &mut slots, first, wanted))? else { return Ok(None) };
        let mut from = (range.start - first) as usize;
        let mut left = wanted;
        let pieces = slots.into_iter().map(|slot| {
            let part = std::mem::take(&mut from)..left.min(SLOT);
            left -= part.end;
            // A short one is not to hold a slot.
            if part.len() < SLOT / 2 { Bytes::copy_from_slice(&slot.as_ref()[part]) } else { Bytes::from_owner(slot).slice(part) }
        });
        Ok(Some(pieces.collect()))
    }

    fn slots(&self, count: usize) -> Vec<Slot> {
        std::iter::repeat_with(|| self.arena.slot()).take(count).collect()
    }

    /// Some file systems refuse when a file is opened, others when it is used.
    fn or_never<T>(&self, result: io::Result<T>) -> io::Result<Option<T>> {
        match result {
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                if self.possible.swap(false, Ordering::Relaxed) {
                    tracing::info!(%error, "files cannot be read and written past the page cache here; it is used from now on");
                }
                Ok(None)
            }
            result => result.map(Some),
        }
    }
}

/// Copies the pieces, which lie anywhere, into whole blocks. The last block is filled up, and the file then cut to its length.
fn write_staged(file: &File, pieces: &[Bytes], stage: &mut [Slot]) -> io::Result<()> {
    let (mut position, mut filled) = (0u64, 0usize);
    for mut piece in pieces.iter().map(|piece| &piece[..]) {
        while !piece.is_empty() {
            let room = &mut stage[filled / SLOT].as_mut()[filled % SLOT..];
            let (now, rest) = piece.split_at(piece.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            filled += now.len();
            piece = rest;
            if filled == stage.len() * SLOT {
                write_from(file, stage, position, filled)?;
                position += filled as u64;
                filled = 0;
            }
        }
    }
    let blocks = filled.next_multiple_of(BLOCK);
    if blocks > filled {
        stage[filled / SLOT].as_mut()[filled % SLOT..][..blocks - filled].fill(0);
    }
    write_from(file, stage, position, blocks)?;
    file.set_len(position + filled as u64)
}

/// Writes the first `len` bytes of the slots, whole blocks, to `position`.
fn write_from(file: &File, slots: &mut [Slot], position: u64, len: usize) -> io::Result<()> {
    let mut written = 0;
    while written < len {
        let parts: Vec<_> = parts(slots, written..len).map(|part| IoSlice::new(part)).collect();
        match rustix::io::pwritev(file, &parts, position + written as u64) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(more) => written += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads whole blocks from `first` on, into one slot after the other, until there are `wanted` bytes.
fn read_to(file: &File, slots: &mut [Slot], first: u64, wanted: usize) -> io::Result<()> {
    let mut read = 0;
    while read < wanted {
        // The file's end is within the last block; before it a read comes back short only at a block.
        let mut parts: Vec<_> = parts(slots, read..wanted.next_multiple_of(BLOCK)).map(IoSliceMut::new).collect();
        match rustix::io::preadv(file, &mut parts, first + read as u64) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(more) => read += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Where the bytes of `range` lie, counted through the slots; as many as one call takes.
fn parts(slots: &mut [Slot], range: Range<usize>) -> impl Iterator<Item = &mut [u8]> {
    let first = range.start / SLOT;
    slots.iter_mut().enumerate().skip(first).take(SLOTS_AT_ONCE).map_while(move |(index, slot)| {
        let part = range.start.saturating_sub(index * SLOT)..range.end.saturating_sub(index * SLOT).min(SLOT);
        (!part.is_empty()).then(|| &mut slot.as_mut()[part])
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 / 7) as u8).collect()
    }

    /// The bytes of a call are those that follow the ones before, and as many as it takes.
    #[test]
    fn parts_follow_each_other_wherever_a_call_has_ended() {
        let arena = Arena::new();
        let mut slots: Vec<Slot> = (0..SLOTS_AT_ONCE + 3).map(|_| arena.slot()).collect();
        for (number, slot) in (0..).zip(&mut slots) {
            slot.as_mut().fill(number);
        }
        let whole = slots.len() * SLOT;
        for range in [0..1, 0..SLOT, BLOCK..SLOT + BLOCK, SLOT - BLOCK..3 * SLOT, 0..whole, 2 * SLOT + BLOCK..whole, whole - 1..whole, 7..7]
        {
            let until = range.end.min((range.start / SLOT + SLOTS_AT_ONCE) * SLOT);
            let expected: Vec<u8> = (range.start..until).map(|at| (at / SLOT) as u8).collect();
            assert!(parts(&mut slots, range.clone()).map(|part| part.to_vec()).collect::<Vec<_>>().concat() == expected, "{range:?}");
        }
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
            let read = direct.read(&file, range).expect("read").expect("possible").concat();
            prop_assert!(read == all[range.start as usize..range.end() as usize]);
        }
    }
}
