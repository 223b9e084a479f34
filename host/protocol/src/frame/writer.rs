//! Messages on their way out: the order in which they are sent, cut into frames.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{FIRST, FRAME_HEADER_BYTES, FrameError, Lane, MAX_FRAME_BYTES, MORE, TOTAL_BYTES};

/// How much of a large message is in one frame, in bytes: with its tag, one record of Noise.
const FRAGMENT_BYTES: usize = 65_535 - 16;

/// A run of small messages is cut here, in bytes, so that lanes can take turns and no buffer
/// grows without limit.
const RUN_BYTES: usize = 64 * 1024;

/// A batch's own memory shrinks back to this, in bytes.
const BATCH_BUFFER_BYTES: usize = 256 * 1024;

enum Piece {
    /// Whole frames, ready to be written.
    Frames(Vec<u8>),
    /// One message that takes several frames: a head (perhaps none), the rest, and how much
    /// of both is written.
    Large {
        head: Vec<u8>,
        body: Bytes,
        written: usize,
    },
}

/// Messages on their way out of one link. Unbounded by itself: the owner stops accepting
/// when [`FrameWriter::queued_bytes`] is over its limit.
#[derive(Default)]
pub struct FrameWriter {
    lanes: [VecDeque<Piece>; Lane::COUNT],
    queued_bytes: usize,
    /// Whether the bulk lane has the next turn.
    bulk_next: bool,
    /// A spent run's buffer, used again for the next.
    spare: Vec<u8>,
}

impl FrameWriter {
    /// With nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one message, encoded by `encode`, which appends it to the buffer given (and must
    /// not touch what is there). A small message is framed in place: no allocation, no copy.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] over the lane's limit; nothing is added then.
    pub fn push_with(
        &mut self,
        lane: Lane,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), FrameError> {
        let queue = &mut self.lanes[lane as usize];
        if !matches!(queue.back(), Some(Piece::Frames(run)) if run.len() < RUN_BYTES) {
            queue.push_back(Piece::Frames(std::mem::take(&mut self.spare)));
        }
        let Some(Piece::Frames(run)) = queue.back_mut() else {
            return Ok(());
        };
        let start = run.len();
        run.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        encode(run);
        let length = run.len() - start - FRAME_HEADER_BYTES;
        if length <= MAX_FRAME_BYTES {
            run[start..start + 4].copy_from_slice(&(length as u32 + 1).to_le_bytes());
            run[start + 4] = lane as u8;
            self.queued_bytes += length + FRAME_HEADER_BYTES;
            return Ok(());
        }
        let message = run.split_off(start + FRAME_HEADER_BYTES);
        run.truncate(start);
        if start == 0 {
            queue.pop_back();
        }
        self.push(lane, message.into())
    }

    /// Adds one message that is encoded already.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] over the lane's limit.
    pub fn push(&mut self, lane: Lane, message: Bytes) -> Result<(), FrameError> {
        self.push_parts(lane, Vec::new(), message)
    }

    /// Adds one message of two parts, of which the second is not copied if it is large.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] over the lane's limit.
    pub fn push_parts(&mut self, lane: Lane, head: Vec<u8>, body: Bytes) -> Result<(), FrameError> {
        let bytes = head.len() + body.len();
        if bytes <= MAX_FRAME_BYTES {
            return self.push_with(lane, |run| {
                run.extend_from_slice(&head);
                run.extend_from_slice(&body);
            });
        }
        let limit = lane.max_bytes();
        if bytes > limit {
            return Err(FrameError::TooLong { bytes, limit });
        }
        self.queued_bytes += bytes;
        self.lanes[lane as usize].push_back(Piece::Large {
            head,
            body,
            written: 0,
        });
        Ok(())
    }

    /// Bytes that wait to be written, all lanes together.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queued_bytes == 0
    }

    /// Appends waiting frames to `out`, control first, until it holds at least `target_bytes`
    /// or nothing is left. Overshoots by one run of frames at most (under 200 KiB).
    pub fn fill(&mut self, out: &mut Batch, target_bytes: usize) {
        while out.len() < target_bytes {
            let Some(lane) = self.next_lane() else { return };
            self.write_piece(lane, out);
        }
    }

    fn next_lane(&mut self) -> Option<Lane> {
        let waits = |lane: Lane| !self.lanes[lane as usize].is_empty();
        let lane = match (waits(Lane::Control), waits(Lane::Signal), waits(Lane::Bulk)) {
            (true, _, _) => return Some(Lane::Control),
            (false, true, true) if self.bulk_next => Lane::Bulk,
            (false, true, _) => Lane::Signal,
            (false, false, true) => Lane::Bulk,
            (false, false, false) => return None,
        };
        self.bulk_next = lane == Lane::Signal;
        Some(lane)
    }

    fn write_piece(&mut self, lane: Lane, out: &mut Batch) {
        let queue = &mut self.lanes[lane as usize];
        match queue.front_mut() {
            Some(Piece::Frames(run)) => {
                self.queued_bytes -= run.len();
                out.take(run);
                self.spare = std::mem::take(run);
                queue.pop_front();
            }
            Some(Piece::Large {
                head,
                body,
                written,
            }) => {
                let total = head.len() + body.len();
                let rest = total - *written;
                let size = rest.min(FRAGMENT_BYTES);
                let first = *written == 0;
                let more = size < rest;
                let flags = if first { FIRST } else { 0 } | if more { MORE } else { 0 };
                let length = size + 1 + if first { TOTAL_BYTES } else { 0 };
                out.copy(&(length as u32).to_le_bytes());
                out.copy(&[lane as u8 | flags]);
                if first {
                    out.copy(&(total as u32).to_le_bytes());
                }
                let of_head = &head[head.len().min(*written)..];
                let of_head = &of_head[..of_head.len().min(size)];
                out.copy(of_head);
                let start = (*written + of_head.len()).saturating_sub(head.len());
                out.share(body.slice(start..start + size - of_head.len()));
                *written += size;
                self.queued_bytes -= size;
                if !more {
                    queue.pop_front();
                }
            }
            None => {}
        }
    }
}

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
    fn take(&mut self, run: &mut Vec<u8>) {
        if self.copied.is_empty() {
            self.count(run.len());
            std::mem::swap(&mut self.copied, run);
        } else {
            self.copy(run);
            run.clear();
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
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

    fn share(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        self.chunks.push(Chunk::Shared(bytes));
    }
}
