//! The memory that files are read and written through: huge pages, where the system has them.
//!
//! The disk of a virtual machine is told of each run of neighbouring physical pages apart: it reads into a huge page twice as fast as into scattered pages of
//! 4 KiB (docs/PERFORMANCE.md). Fresh memory is slow as well, a page fault for each page, so all of it is used again.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

use super::direct::BLOCK;
use super::files::PIECE;

/// A huge page of the most common processors.
const HUGE: usize = 2 * 1024 * 1024;
/// What is read may be kept for long, and a piece of it is not to hold much more than itself.
pub(super) const SLOT: usize = PIECE as usize;
/// Huge pages of an arena at most: 192 MiB.
const MOST: usize = 96;

/// Huge pages in slots. It grows as it is needed, up to its limit, and its memory is never given back, not even when it is dropped: a process has one store.
#[derive(Debug, Clone)]
pub(super) struct Arena(Arc<Mutex<Slots>>);

#[derive(Debug)]
struct Slots {
    free: Vec<&'static mut [u8]>,
    huge_pages_left: usize,
}

impl Slots {
    /// `None`: all slots are in use.
    fn take(&mut self) -> Option<&'static mut [u8]> {
        // Where no memory can be mapped now, ordinary memory does, and the next one tries again.
        if self.free.is_empty()
            && self.huge_pages_left > 0
            && let Ok(page) = huge_page()
        {
            self.huge_pages_left -= 1;
            self.free.extend(page.chunks_exact_mut(SLOT));
        }
        self.free.pop()
    }
}

fn huge_page() -> io::Result<&'static mut [u8]> {
    let memory = MmapMut::map_anon(2 * HUGE)?;
    // Without huge pages it is only slower.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    let start = memory.as_ptr().align_offset(HUGE).min(HUGE);
    Ok(&mut Box::leak(Box::new(memory))[start..][..HUGE])
}

impl Arena {
    pub(super) fn new() -> Arena {
        Arena(Arc::new(Mutex::new(Slots { free: Vec::new(), huge_pages_left: MOST })))
    }

    /// A slot of the arena, or fresh memory if they are all in use.
    pub(super) fn slot(&self) -> Slot {
        if let Some(bytes) = self.lock().take() {
            return Slot::OfArena { bytes, arena: self.clone() };
        }
        let bytes = vec![0; SLOT + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK).min(BLOCK);
        Slot::Fresh { bytes, start }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [`SLOT`] bytes that begin at a multiple of [`BLOCK`].
#[derive(Debug)]
pub(super) enum Slot {
    /// Goes back when it is dropped.
    OfArena {
        bytes: &'static mut [u8],
        arena: Arena,
    },
    Fresh {
        bytes: Vec<u8>,
        start: usize,
    },
}

impl AsRef<[u8]> for Slot {
    fn as_ref(&self) -> &[u8] {
        match self {
            Slot::OfArena { bytes, .. } => bytes,
            Slot::Fresh { bytes, start } => &bytes[*start..][..SLOT],
        }
    }
}

impl AsMut<[u8]> for Slot {
    fn as_mut(&mut self) -> &mut [u8] {
        match self {
            Slot::OfArena { bytes, .. } => bytes,
            Slot::Fresh { bytes, start } => &mut bytes[*start..][..SLOT],
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Slot::OfArena { bytes, arena } = self {
            arena.lock().free.push(std::mem::take(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again_and_when_all_are_in_use_there_is_fresh_memory() {
        let arena = Arena::new();
        let of_arena = |slot: &Slot| matches!(slot, Slot::OfArena { .. });
        let mut slots: Vec<Slot> = (0..MOST * HUGE / SLOT).map(|_| arena.slot()).collect();
        assert!(slots.iter().all(of_arena));
        let mut one_more = arena.slot();
        assert!(!of_arena(&one_more));
        for (value, slot) in (1..).zip(slots.iter_mut().take(20).chain([&mut one_more])) {
            assert_eq!((slot.as_ref().as_ptr().align_offset(BLOCK), slot.as_mut().len()), (0, SLOT));
            slot.as_mut().fill(value);
        }
        for (value, slot) in (1u8..).zip(slots.iter().take(20).chain([&one_more])) {
            assert!(slot.as_ref().iter().all(|byte| *byte == value));
        }
        slots.truncate(1);
        assert!(of_arena(&arena.slot()));
    }
}
