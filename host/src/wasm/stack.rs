//! The stacks of fibers, for actors that may wait in the middle of a turn.
//!
//! Owns their address space. Contract: a stack ends in a page that traps; its contents are zero
//! or its own earlier ones, as wasm cannot see them; at most [`MAX_FIBERS`] exist.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use wasmtime::{StackCreator, StackMemory};

use super::memory;

/// Fibers that can exist at once: actors that may wait in the middle of a turn, and instances
/// that answer HTTP requests. Each costs two kernel mappings, of 65,530 by default. An actor
/// beyond that ends with a `limit` reason.
pub(super) const MAX_FIBERS: usize = 16_384;

/// Stacks that are kept for the next fiber.
const MAX_WARM_STACKS: usize = 64;

/// The kernel's pages on all machines that are supported.
const GUARD_BYTES: usize = 16 << 10;

/// What a kept stack may keep in memory; the rest is given back.
const KEEP_BYTES: usize = 32 << 10;

/// An actor wanted a fiber, and there are as many as there may be.
#[derive(Debug, thiserror::Error)]
#[error("fibers: {MAX_FIBERS} actors of this node can wait in the middle of a turn, and do")]
pub(super) struct TooManyFibers;

/// The stacks of one engine.
#[derive(Default)]
pub(super) struct Stacks {
    warm: Mutex<Vec<Mapping>>,
    count: AtomicUsize,
}

/// What wasmtime makes stacks by.
pub(super) struct Creator(pub(super) Arc<Stacks>);

/// A guard, and the stack above it.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: an address range with one owner.
unsafe impl Send for Mapping {}
// SAFETY: nothing is read or written through it.
unsafe impl Sync for Mapping {}

struct Stack {
    /// `None` only in `drop`.
    mapping: Option<Mapping>,
    stacks: Arc<Stacks>,
}

// SAFETY: a stack is readable and writable, page-aligned, guarded below, and one fiber's.
unsafe impl StackCreator for Creator {
    fn new_stack(&self, bytes: usize, _: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        let stacks = self.0.clone();
        if stacks.count.fetch_add(1, Ordering::Relaxed) >= MAX_FIBERS {
            stacks.count.fetch_sub(1, Ordering::Relaxed);
            return Err(TooManyFibers.into());
        }
        let mut stack = Stack {
            mapping: None,
            stacks,
        };
        let bytes = bytes.next_multiple_of(GUARD_BYTES) + GUARD_BYTES;
        let warm = stack.stacks.warm.lock().pop();
        stack.mapping = match warm {
            Some(mapping) if mapping.bytes == bytes => Some(mapping),
            _ => Some(Mapping::new(bytes)?),
        };
        Ok(Box::new(stack))
    }
}

impl Mapping {
    fn new(bytes: usize) -> std::io::Result<Self> {
        let start = memory::map(bytes)?;
        let mapping = Self { start, bytes };
        // SAFETY: the lowest pages of this mapping, which nobody has used.
        let protected =
            unsafe { libc::mprotect(start.as_ptr().cast(), GUARD_BYTES, libc::PROT_NONE) };
        if protected != 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(mapping)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: its own mapping, in which nothing runs any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

// SAFETY: as for `Creator`.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.range().end)
    }

    fn range(&self) -> Range<usize> {
        let mapping = self.mapping.as_ref();
        mapping.map_or(0..0, |mapping| {
            let start = mapping.start.as_ptr().expose_provenance();
            start + GUARD_BYTES..start + mapping.bytes
        })
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let start = self.range().start;
        let pointer = std::ptr::with_exposed_provenance_mut;
        pointer(start - GUARD_BYTES)..pointer(start)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let Some(mapping) = self.mapping.take() else {
            return;
        };
        self.stacks.count.fetch_sub(1, Ordering::Relaxed);
        let mut warm = self.stacks.warm.lock();
        if warm.len() < MAX_WARM_STACKS {
            let unkept = mapping.bytes.saturating_sub(GUARD_BYTES + KEEP_BYTES);
            // SAFETY: pages of its own mapping, in which nothing runs any more.
            unsafe {
                let start = mapping.start.add(GUARD_BYTES).as_ptr().cast();
                libc::madvise(start, unkept, libc::MADV_DONTNEED);
            }
            warm.push(mapping);
        }
    }
}
