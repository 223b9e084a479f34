//! An actor's memory. Small blocks, which messages mostly are, come from free lists by size: a
//! few instructions each. Large ones, and the chunks that small ones are cut from, come from
//! Talc, which starts with what the first pages leave free: a small actor never grows its
//! memory, so it starts faster and maps less.
//!
//! A small block's memory stays with its size once cut. The host knows the free lists (see
//! `lifecycle` in `wit/actor.wit`) and takes blocks from them for the messages it hands over, which
//! saves a call for each.

use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32::{memory_grow, memory_size};
use std::cell::UnsafeCell;
use std::ptr::{NonNull, null_mut};

use talc::base::Talc;
use talc::base::binning::Binning;
use talc::cell::TalcSyncCell;
use talc::source::Source;
use talc::wasm::WasmBinning;

/// The largest small block, in bytes; sizes go in steps of [`STEP_BYTES`].
const MAX_SMALL_BYTES: usize = 512;
const STEP_BYTES: usize = 16;
const SIZES: usize = MAX_SMALL_BYTES / STEP_BYTES;
/// What small blocks are cut from, in bytes.
const CHUNK_BYTES: usize = 2048;
const PAGE_BYTES: usize = 64 * 1024;
/// More than what Talc needs beside a block, in bytes.
const OVERHEAD_BYTES: usize = 64;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator {
    small: UnsafeCell::new(Small {
        free: [null_mut(); SIZES],
        next: null_mut(),
        left: 0,
    }),
    large: TalcSyncCell::new_wasm(Pages { end: None }),
};

struct Allocator {
    small: UnsafeCell<Small>,
    large: TalcSyncCell<Pages, WasmBinning>,
}

// SAFETY: a component has one thread, and no method below calls anything that allocates again.
unsafe impl Sync for Allocator {}

struct Small {
    /// By size, the first free block; each begins with the address of the next.
    free: [*mut u8; SIZES],
    /// What is left of the last chunk.
    next: *mut u8,
    left: usize,
}

/// The place in `free`, for a small block.
fn size_of(layout: &Layout) -> Option<usize> {
    let small = layout.size().wrapping_sub(1) < MAX_SMALL_BYTES && layout.align() <= STEP_BYTES;
    small.then(|| (layout.size() - 1) / STEP_BYTES)
}

impl Allocator {
    /// # Safety
    /// Not while another reference to it lives: each caller below drops it before it returns.
    #[expect(clippy::mut_from_ref, reason = "one thread, no re-entry")]
    unsafe fn small(&self) -> &mut Small {
        unsafe { &mut *self.small.get() }
    }

    /// Cuts a small block.
    #[cold]
    #[inline(never)]
    unsafe fn cut(&self, size: usize) -> *mut u8 {
        let small = unsafe { self.small() };
        let bytes = (size + 1) * STEP_BYTES;
        if small.left < bytes {
            // SAFETY: constants, and not zero.
            let chunk = unsafe { Layout::from_size_align_unchecked(CHUNK_BYTES, STEP_BYTES) };
            let next = unsafe { self.large.alloc(chunk) };
            if next.is_null() {
                return next;
            }
            // The rest of the old chunk is a block of its own size: it is smaller than this one.
            if small.left > 0 {
                unsafe { small.put(small.left / STEP_BYTES - 1, small.next) };
            }
            (small.next, small.left) = (next, CHUNK_BYTES);
        }
        let block = small.next;
        small.next = unsafe { block.add(bytes) };
        small.left -= bytes;
        block
    }
}

/// Where the free lists begin: for the host.
#[unsafe(export_name = "wasm-node:free-lists")]
extern "C" fn free_lists() -> *const *mut u8 {
    // SAFETY: the address alone; nothing is read.
    unsafe { (&raw const (*ALLOCATOR.small.get()).free).cast() }
}

impl Small {
    unsafe fn put(&mut self, size: usize, block: *mut u8) {
        unsafe {
            block
                .cast::<*mut u8>()
                .write(*self.free.get_unchecked(size));
            *self.free.get_unchecked_mut(size) = block;
        }
    }
}

// SAFETY: blocks are disjoint, as large and as aligned as asked for: small ones are multiples of
// the step, cut from chunks aligned to it; Talc answers for the others.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(size) = size_of(&layout) else {
            return unsafe { self.large.alloc(layout) };
        };
        let small = unsafe { self.small() };
        let first = unsafe { small.free.get_unchecked_mut(size) };
        if first.is_null() {
            return unsafe { self.cut(size) };
        }
        let block = *first;
        *first = unsafe { block.cast::<*mut u8>().read() };
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match size_of(&layout) {
            Some(size) => unsafe { self.small().put(size, block) },
            None => unsafe { self.large.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that `new_bytes` fits the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_bytes, layout.align()) };
        match (size_of(&layout), size_of(&new)) {
            (Some(old), Some(new)) if old == new => block,
            (None, None) => unsafe { self.large.realloc(block, layout, new_bytes) },
            _ => unsafe {
                let moved = self.alloc(new);
                if !moved.is_null() {
                    moved.copy_from_nonoverlapping(block, layout.size().min(new_bytes));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

/// First the rest of the memory that the component begins with, then whole pages.
#[derive(Debug)]
struct Pages {
    end: Option<NonNull<u8>>,
}

// SAFETY: it allocates nothing, and what it claims is nobody else's: the linker's `__heap_base`
// is the end of all static data, and new pages are new.
unsafe impl Source for Pages {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        unsafe extern "C" {
            static __heap_base: u8;
        }
        if talc.source.end.is_none() {
            let base = (&raw const __heap_base).cast_mut();
            let bytes = memory_size::<0>() * PAGE_BYTES - base as usize;
            talc.source.end = unsafe { talc.claim(base, bytes) };
            if talc.source.end.is_some() && bytes > layout.size() + layout.align() + CHUNK_BYTES {
                return Ok(());
            }
        }
        let needed = layout
            .size()
            .saturating_add(layout.align())
            .saturating_add(OVERHEAD_BYTES);
        let pages = needed.div_ceil(PAGE_BYTES);
        let before = match memory_grow::<0>(pages) {
            usize::MAX => return Err(()),
            before => before,
        };
        let base = std::ptr::without_provenance_mut::<u8>(before * PAGE_BYTES);
        talc.source.end = match talc.source.end.take() {
            Some(end) if end.as_ptr() == base => {
                Some(unsafe { talc.extend(end, base.wrapping_add(pages * PAGE_BYTES)) })
            }
            _ => unsafe { talc.claim(base, pages * PAGE_BYTES) },
        };
        if talc.source.end.is_some() {
            Ok(())
        } else {
            Err(())
        }
    }
}
