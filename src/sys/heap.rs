//! The memory of a program that lives for two milliseconds: blocks of a few sizes, cut one after
//! the other out of large pieces and kept for reuse when they are given back. That is all that a
//! runtime without threads needs, at a tenth of the instructions of malloc(3).

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

/// The smallest block, in bytes; the small sizes are its multiples.
const SMALLEST: usize = 16;
/// So many sizes are multiples: finer ones than powers of two, as each page saved is a page fault
/// less.
const SMALL: usize = 32;
/// The largest of these, in bytes; further ones are twice, four times … as large.
const LARGEST_SMALL: usize = SMALLEST * SMALL;
/// So many sizes of blocks; what is larger than the last is a mapping of its own.
const SIZES: usize = SMALL + 6;
/// The largest block, in bytes.
pub const LARGEST: usize = LARGEST_SMALL << (SIZES - SMALL);
/// What blocks are cut out of, in bytes.
const PIECE: usize = 256 << 10;

/// The allocator: `#[global_allocator] static HEAP: Heap = Heap::new();`
pub struct Heap {
    busy: AtomicBool,
    blocks: UnsafeCell<Blocks>,
}

struct Blocks {
    /// The rest of the current piece.
    next: *mut u8,
    left: usize,
    /// Blocks that were given back, a chain for each size through their first word.
    free: [*mut u8; SIZES],
    /// The first piece: it costs no system call, and no memory before it is used.
    first: First,
}

#[repr(align(16))]
struct First([u8; PIECE]);

// SAFETY: `with` lets one thread at a time at the blocks.
unsafe impl Sync for Heap {}

impl Heap {
    /// An empty one.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        let first = First([0; PIECE]);
        let blocks = Blocks { next: null_mut(), left: 0, free: [null_mut(); SIZES], first };
        Heap { busy: AtomicBool::new(false), blocks: UnsafeCell::new(blocks) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Blocks) -> T) -> T {
        while self.busy.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        // SAFETY: `busy` was false and is ours now, so nobody else has a reference; `act` cannot
        // get here again, as it allocates nothing.
        let done = act(unsafe { &mut *self.blocks.get() });
        self.busy.store(false, Ordering::Release);
        done
    }
}

/// The number of the size that holds `layout`; `None` if it needs a mapping. All sizes are multiples
/// of the smallest, so that is what every block is aligned to.
fn size_of(layout: Layout) -> Option<usize> {
    if layout.size() > LARGEST || layout.align() > SMALLEST {
        return None;
    }
    Some(match layout.size() <= LARGEST_SMALL {
        true => layout.size().saturating_sub(1) / SMALLEST,
        false => {
            let times = layout.size().div_ceil(LARGEST_SMALL).next_power_of_two();
            SMALL - 1 + times.trailing_zeros() as usize
        }
    })
}

/// The bytes of a block of this size.
fn bytes_of(size: usize) -> usize {
    match size < SMALL {
        true => (size + 1) * SMALLEST,
        false => LARGEST_SMALL << (size + 1 - SMALL),
    }
}

impl Blocks {
    fn take(&mut self, size: usize) -> *mut u8 {
        let (Some(free), bytes) = (self.free.get_mut(size), bytes_of(size)) else {
            return null_mut();
        };
        if !free.is_null() {
            let block = *free;
            // SAFETY: a block in the chain is ours, and its first word is the next one's address.
            *free = unsafe { *block.cast() };
            return block;
        }
        match bytes <= self.left {
            true => self.cut(bytes),
            false => self.renew(bytes),
        }
    }

    fn cut(&mut self, bytes: usize) -> *mut u8 {
        let block = self.next;
        // SAFETY: the piece has so many bytes left; at most one past its end.
        self.next = unsafe { block.add(bytes) };
        self.left -= bytes;
        block
    }

    /// Begins a new piece; the rest of the old one, less than a block, is given up.
    fn renew(&mut self, bytes: usize) -> *mut u8 {
        let piece = match self.next.is_null() {
            true => self.first.0.as_mut_ptr(),
            false => map(PIECE),
        };
        if piece.is_null() {
            return piece;
        }
        (self.next, self.left) = (piece, PIECE);
        self.cut(bytes)
    }

    fn give_back(&mut self, block: *mut u8, size: usize) {
        if let Some(free) = self.free.get_mut(size) {
            // SAFETY: the block is at least a word long, aligned to one, and nobody's any more.
            unsafe { *block.cast() = *free };
            *free = block;
        }
    }
}

/// Memory of its own, zeroed; null if there is none (mmap(2)).
fn map(bytes: usize) -> *mut u8 {
    let (read_write, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping where the kernel likes touches no other memory.
    let mapped = unsafe { libc::mmap(null_mut(), bytes, read_write, flags, -1, 0) };
    match mapped == libc::MAP_FAILED {
        true => null_mut(),
        false => mapped.cast(),
    }
}

// SAFETY: blocks are at least as large and as aligned as asked for (mappings: a page), belong to
// one owner until they are given back, and nothing here unwinds.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match size_of(layout) {
            Some(size) => self.with(|blocks| blocks.take(size)),
            None if layout.align() > 4096 => null_mut(),
            None => map(layout.size()),
        }
    }

    // SAFETY: `block` came from `alloc` with the same layout (GlobalAlloc::dealloc).
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match size_of(layout) {
            Some(size) => self.with(|blocks| blocks.give_back(block, size)),
            None => unmap(block, layout.size()),
        }
    }

    // SAFETY: as above, and `bytes` is a size that fits (GlobalAlloc::realloc).
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller vouches that `bytes` fits (GlobalAlloc::realloc).
        let wanted = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        match (size_of(layout), size_of(wanted)) {
            (Some(old), Some(new)) if old == new => block,
            (None, None) => remap(block, layout.size(), bytes),
            // SAFETY: `wanted` is a valid layout, `block` one of ours with `layout`.
            _ => unsafe { self.moved(block, layout, wanted) },
        }
    }
}

impl Heap {
    /// # Safety
    /// As for [`GlobalAlloc::realloc`].
    unsafe fn moved(&self, block: *mut u8, layout: Layout, wanted: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        let new = unsafe { self.alloc(wanted) };
        if !new.is_null() {
            let bytes = layout.size().min(wanted.size());
            // SAFETY: two blocks that do not overlap, each at least so long; the old one is ours.
            unsafe {
                block.copy_to_nonoverlapping(new, bytes);
                self.dealloc(block, layout);
            }
        }
        new
    }
}

fn unmap(block: *mut u8, bytes: usize) {
    // SAFETY: `block` is a mapping of `bytes` that `map` made, and nobody's any more.
    unsafe { libc::munmap(block.cast(), bytes) };
}

fn remap(block: *mut u8, old: usize, new: usize) -> *mut u8 {
    // SAFETY: `block` is a mapping of `old` bytes that `map` made, and its owner lets it move.
    let moved = unsafe { libc::mremap(block.cast(), old, new, libc::MREMAP_MAYMOVE) };
    match moved == libc::MAP_FAILED {
        true => null_mut(),
        false => moved.cast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn blocks_are_apart_aligned_and_reused() {
        let heap = Heap::new();
        let mut seen = Vec::new();
        for (size, align) in [(1, 1), (16, 8), (17, 1), (100, 64), (4096, 4096), (40_000, 8)] {
            let layout = layout(size, align);
            // SAFETY: a layout of more than no bytes; every byte of the block is ours to write.
            let block = unsafe {
                let block = heap.alloc(layout);
                block.write_bytes(0xff, size);
                block
            };
            assert_eq!(block.addr() % align, 0);
            assert!(seen.iter().all(|(b, s)| block.addr() + size <= *b || b + s <= block.addr()));
            seen.push((block.addr(), size));
        }
        // SAFETY: given back with the layout it was taken with.
        unsafe {
            let block = heap.alloc(layout(24, 8));
            heap.dealloc(block, layout(24, 8));
            assert_eq!(heap.alloc(layout(32, 8)), block);
        }
    }

    #[test]
    fn sizes_hold_what_they_are_for() {
        for bytes in 1..=LARGEST {
            let size = size_of(layout(bytes, 1)).unwrap();
            assert!(bytes_of(size) >= bytes, "{bytes}");
            assert!(size == 0 || bytes_of(size - 1) < bytes, "{bytes}");
        }
        assert_eq!(size_of(layout(LARGEST, 1)), Some(SIZES - 1));
        assert_eq!(size_of(layout(LARGEST + 1, 1)), None);
    }

    #[test]
    fn growing_keeps_what_is_there() {
        let heap = Heap::new();
        let mut size = 3;
        // SAFETY: each block is used with the layout it has at that time.
        unsafe {
            let mut block = heap.alloc(layout(size, 1));
            block.copy_from_nonoverlapping(b"abc".as_ptr(), 3);
            while size < 1 << 20 {
                block = heap.realloc(block, layout(size, 1), size * 3);
                size *= 3;
                assert_eq!(std::slice::from_raw_parts(block, 3), b"abc");
            }
            block = heap.realloc(block, layout(size, 1), 3);
            assert_eq!(std::slice::from_raw_parts(block, 3), b"abc");
        }
    }

    #[test]
    fn a_piece_that_is_used_up_is_followed_by_another() {
        let heap = Heap::new();
        // SAFETY: a valid layout; the blocks are only counted.
        let blocks: Vec<_> = (0..100).map(|_| unsafe { heap.alloc(layout(8192, 8)) }).collect();
        assert!(blocks.iter().all(|block| !block.is_null()));
        assert_eq!(blocks.iter().collect::<std::collections::BTreeSet<_>>().len(), 100);
    }
}
