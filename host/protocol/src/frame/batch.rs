//! What is about to be written: small frames copied together, large bodies where they are.

use bytes::Bytes;

/// A batch's own memory shrinks back to this, in bytes.
const BATCH_BUFFER_BYTES: usize = 256 * 1024;

/// Frames on their way to the wire: the small ones one after another, the bodies of large ones
/// where they are.
#[derive(Default)]
pub struct Batch {
    copied: Vec<u8>,
    chunks: Vec<Chunk>,
    len: usize,
}

enum Chunk {
    /// So many of the copied bytes.
    Copied(usize),
    Shared(Bytes),
}

impl Batch {
    /// All bytes, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut copied = self.copied.as_slice();
        self.chunks.iter().map(move |chunk| match chunk {
            Chunk::Copied(length) => {
                let (these, rest) = copied.split_at(*length);
                copied = rest;
                these
            }
            Chunk::Shared(bytes) => bytes,
        })
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets them, but not their room.
    pub fn clear(&mut self) {
        self.copied.clear();
        self.copied.shrink_to(BATCH_BUFFER_BYTES);
        self.chunks.clear();
        self.len = 0;
    }

    /// Leaves the run empty, but perhaps with other room.
    pub(super) fn take(&mut self, run: &mut Vec<u8>) {
        if self.copied.is_empty() {
            self.count(run.len());
            std::mem::swap(&mut self.copied, run);
        } else {
            self.copy(run);
            run.clear();
        }
    }

    pub(super) fn copy(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
        self.count(bytes.len());
    }

    fn count(&mut self, copied: usize) {
        self.len += copied;
        match self.chunks.last_mut() {
            Some(Chunk::Copied(length)) => *length += copied,
            _ => self.chunks.push(Chunk::Copied(copied)),
        }
    }

    pub(super) fn share(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        self.chunks.push(Chunk::Shared(bytes));
    }
}
