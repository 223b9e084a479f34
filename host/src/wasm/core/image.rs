//! The contents of a linear memory as data: what it is when an instance is new, and what an
//! actor has made of it since.
//!
//! Owns the comparison. Contract: applying the changes taken from a memory to a new one gives
//! the same bytes. Does not know wasm.

/// What is compared as a whole first: the kernel's page, as an actor touches few of them.
const PAGE_BYTES: usize = 4096;

/// What is noted as a whole.
const BLOCK_BYTES: usize = 32;

static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// The contents of a new instance's memory.
pub(super) struct Image {
    /// Pages; `None` for zeros.
    pages: Box<[Option<Box<[u8]>>]>,
}

/// How a memory differs from an image: blocks with their places.
#[derive(Default)]
pub(super) struct Changes {
    /// Of each block, counted in blocks.
    places: Vec<u32>,
    bytes: Vec<u8>,
}

impl Changes {
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Image {
    /// Of a memory whose size is a multiple of wasm's page, 64 KiB.
    pub(super) fn of(memory: &[u8]) -> Self {
        let pages = memory.chunks(PAGE_BYTES);
        let pages = pages.map(|page| (page != &ZEROS[..page.len()]).then(|| page.into()));
        Self {
            pages: pages.collect(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.pages.len() * PAGE_BYTES
    }

    fn page(&self, index: usize) -> &[u8] {
        match self.pages.get(index) {
            Some(Some(page)) => page,
            _ => &ZEROS,
        }
    }

    /// Makes a memory equal to the image, as far as the image goes.
    pub(super) fn restore(&self, memory: &mut [u8]) {
        for (index, page) in memory.chunks_mut(PAGE_BYTES).enumerate() {
            let new = &self.page(index)[..page.len()];
            if page != new {
                page.copy_from_slice(new);
            }
        }
    }

    /// What is different in a memory, which may have grown.
    pub(super) fn changes(&self, memory: &[u8]) -> Changes {
        let mut changes = Changes::default();
        for (index, page) in memory.chunks(PAGE_BYTES).enumerate() {
            let new = &self.page(index)[..page.len()];
            if page == new {
                continue;
            }
            let blocks = page.chunks(BLOCK_BYTES).zip(new.chunks(BLOCK_BYTES));
            for (block, (is, was)) in blocks.enumerate() {
                if is != was {
                    let place = index * (PAGE_BYTES / BLOCK_BYTES) + block;
                    changes.places.push(place as u32);
                    changes.bytes.extend_from_slice(is);
                }
            }
        }
        changes.places.shrink_to_fit();
        changes.bytes.shrink_to_fit();
        changes
    }
}

impl Changes {
    /// How many blocks are different.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// Makes them in a memory that is equal to the image, and large enough.
    pub(super) fn apply(&self, memory: &mut [u8]) {
        for (place, block) in self.places.iter().zip(self.bytes.chunks(BLOCK_BYTES)) {
            let at = *place as usize * BLOCK_BYTES;
            if let Some(to) = memory.get_mut(at..at + block.len()) {
                to.copy_from_slice(block);
            }
        }
    }
}
