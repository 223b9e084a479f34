//! Where linear memories lie: side by side, in mappings that many share.
//!
//! Owns the address space of all memories. Contract: a new memory, and what one grows by, is
//! zero; a memory's place changes only when it outgrows its region. There are no guards between
//! them: compiled code checks each access against the memory's length (`engine` configures
//! that), so a memory costs no kernel mapping of its own, and its neighbours share its page
//! tables. The number of actors is bounded by memory alone, whatever `vm.max_map_count` or
//! `ulimit -v` say. Does not know instances.

use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// The smallest region: wasm's page, as most actors have just one.
const MIN_REGION_BYTES: usize = 64 << 10;

/// The largest region that shares a mapping with others; regions are powers of two.
const MAX_SHARED_REGION_BYTES: usize = 1 << 20;

/// What is mapped at once for regions of one size.
const CHUNK_BYTES: usize = 16 << 20;

/// Sizes of shared regions: 64 KiB to 1 MiB.
const CLASSES: usize = (MAX_SHARED_REGION_BYTES / MIN_REGION_BYTES).trailing_zeros() as usize + 1;

/// The linear memories of one engine.
#[derive(Default)]
pub(super) struct Memories {
    /// Free regions by size. Their contents are zero. The last freed is the first used.
    free: [Mutex<Vec<Address>>; CLASSES],
}

/// The beginning of a region.
#[derive(Clone, Copy)]
struct Address(NonNull<u8>);

// SAFETY: an address is no access; regions have one owner at a time.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

/// Why there is no memory: the machine has none left.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no {bytes} bytes of memory: {source}")]
struct NoMemory {
    bytes: usize,
    source: std::io::Error,
}

impl Memories {
    fn take(&self, bytes: usize) -> Result<Region, NoMemory> {
        let capacity = bytes.max(MIN_REGION_BYTES).next_power_of_two();
        if capacity > MAX_SHARED_REGION_BYTES {
            let start = map_for_memories(capacity)?;
            return Ok(Region { start, capacity });
        }
        let mut free = self.free[class(capacity)].lock();
        if let Some(start) = free.pop() {
            return Ok(Region { start, capacity });
        }
        let chunk = map_for_memories(CHUNK_BYTES)?;
        // From the end, so that the regions are used from the chunk's beginning.
        free.extend((1..CHUNK_BYTES / capacity).rev().map(|index| {
            // SAFETY: within the chunk.
            Address(unsafe { chunk.0.add(index * capacity) })
        }));
        Ok(Region {
            start: chunk,
            capacity,
        })
    }

    /// Takes a region back, of which the first `used` bytes may be other than zero.
    fn give_back(&self, region: Region, used: usize) {
        let Region { start, capacity } = region;
        let address = start.0.as_ptr().cast();
        if capacity > MAX_SHARED_REGION_BYTES {
            // SAFETY: a mapping of its own, which nobody refers to any more.
            unsafe { libc::munmap(address, capacity) };
            return;
        }
        // SAFETY: pages of this region only, which is a multiple of the kernel's pages, and
        // which nobody refers to any more. They are zero when touched next.
        let zeroed = unsafe { libc::madvise(address, used, libc::MADV_DONTNEED) } == 0;
        if zeroed {
            self.free[class(capacity)].lock().push(start);
        }
    }
}

fn class(capacity: usize) -> usize {
    (capacity / MIN_REGION_BYTES).trailing_zeros() as usize
}

fn map_for_memories(bytes: usize) -> Result<Address, NoMemory> {
    let mapped = map(bytes).map(Address);
    mapped.map_err(|source| NoMemory { bytes, source })
}

/// New memory of the process: private, zero, not reserved in swap.
pub(super) fn map(bytes: usize) -> std::io::Result<NonNull<u8>> {
    // SAFETY: a new private mapping, at an address that the kernel chooses.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    let start = NonNull::new(address.cast()).filter(|_| address != libc::MAP_FAILED);
    start.ok_or_else(std::io::Error::last_os_error)
}

/// A part of the address space.
struct Region {
    start: Address,
    capacity: usize,
}

/// One linear memory.
struct Memory {
    /// `None` only in `drop`.
    region: Option<Region>,
    bytes: usize,
    memories: Arc<Memories>,
}

/// What wasmtime makes memories by.
pub(super) struct Creator(pub(super) Arc<Memories>);

// SAFETY: regions are readable and writable in full, zero when taken, and belong to one memory at
// a time. The engine's configuration wants neither a reservation nor guards.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if reserved.is_some_and(|bytes| bytes > 0) || guard > 0 {
            return Err("memories have neither reservations nor guards".into());
        }
        let region = self.0.take(minimum).map_err(|error| error.to_string())?;
        Ok(Box::new(Memory {
            region: Some(region),
            bytes: minimum,
            memories: self.0.clone(),
        }))
    }
}

// SAFETY: as for `Creator`; growth beyond the region copies everything to a larger one.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.bytes
    }

    fn byte_capacity(&self) -> usize {
        self.region.as_ref().map_or(0, |region| region.capacity)
    }

    fn grow_to(&mut self, bytes: usize) -> wasmtime::Result<()> {
        if bytes > self.byte_capacity() {
            let larger = self.memories.take(bytes)?;
            // SAFETY: both regions have that many bytes, and they are different ones.
            unsafe {
                larger
                    .start
                    .0
                    .copy_from_nonoverlapping(self.start(), self.bytes);
            }
            if let Some(old) = self.region.replace(larger) {
                self.memories.give_back(old, self.bytes);
            }
        }
        self.bytes = bytes;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.start().as_ptr()
    }
}

impl Memory {
    fn start(&self) -> NonNull<u8> {
        let region = self.region.as_ref();
        region.map_or(NonNull::dangling(), |region| region.start.0)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(region) = self.region.take() {
            self.memories.give_back(region, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(memories: &Arc<Memories>, bytes: usize) -> Memory {
        Memory {
            region: Some(memories.take(bytes).unwrap()),
            bytes,
            memories: memories.clone(),
        }
    }

    fn contents(memory: &mut Memory) -> &mut [u8] {
        // SAFETY: the memory's own bytes, borrowed with it.
        unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), memory.bytes) }
    }

    #[test]
    fn a_region_that_is_used_again_is_zero() {
        let memories = Arc::<Memories>::default();
        for bytes in [64 << 10, 128 << 10, 1 << 20, 3 << 20] {
            let mut first = memory(&memories, bytes);
            assert!(contents(&mut first).iter().all(|byte| *byte == 0));
            contents(&mut first).fill(7);
            drop(first);
            let mut second = memory(&memories, bytes);
            assert!(contents(&mut second).iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn growing_keeps_the_contents_and_adds_zeros() {
        let memories = Arc::<Memories>::default();
        let mut grown = memory(&memories, 64 << 10);
        for bytes in [128 << 10, 192 << 10, 2 << 20, 5 << 20] {
            let before = grown.bytes;
            contents(&mut grown).fill(9);
            let (capacity, at) = (grown.byte_capacity(), grown.as_ptr());
            grown.grow_to(bytes).unwrap();
            assert!(bytes > capacity || grown.as_ptr() == at);
            let (old, new) = contents(&mut grown).split_at(before);
            assert!(old.iter().all(|byte| *byte == 9));
            assert!(new.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn memories_do_not_overlap() {
        let memories = Arc::<Memories>::default();
        let sizes = (0..600).map(|index| (64 << 10) << (index % 4));
        let mut all: Vec<Memory> = sizes.map(|bytes| memory(&memories, bytes)).collect();
        for (index, memory) in all.iter_mut().enumerate() {
            contents(memory)[..8].copy_from_slice(&index.to_le_bytes());
            let last = memory.bytes - 8;
            contents(memory)[last..].copy_from_slice(&index.to_le_bytes());
        }
        for (index, memory) in all.iter_mut().enumerate() {
            let last = memory.bytes - 8;
            assert_eq!(contents(memory)[..8], index.to_le_bytes());
            assert_eq!(contents(memory)[last..], index.to_le_bytes());
        }
    }
}
