//! Frames: messages cut into pieces that share one byte stream.
//!
//! Owns the layout of a frame (`u32` length, little-endian, of what follows; one byte of
//! lane and flags; at most [`MAX_FRAME_BYTES`] of payload), the order in which waiting
//! messages are sent, and putting fragments together again. The first fragment of a message
//! begins with the message's length (`u32`, little-endian), so that the reader makes room once.
//!
//! Large bodies are not copied on their way out: a [`Batch`] refers to them. On their way in
//! they are written once, to where they stay: [`FrameReader::room`].
//!
//! Contract: messages of one [`Lane`] arrive whole and in the order pushed, and a control
//! message arrives before every signal pushed after it. Lanes other than control take turns
//! by one fragment or one run of small messages (under 130 KiB either), and a waiting control
//! message goes before the next of these, so that bulk data delays no tick.
//!
//! Deliberately does not know what a message means, nor whether the bytes are encrypted.

use std::collections::VecDeque;

use bytes::Bytes;

/// The largest payload of one frame, in bytes. Longer messages are fragmented.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;

/// The largest message body that may cross a link, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// The largest message, body and envelope, in bytes. The writer refuses a longer one, the
/// reader calls a peer that sends one broken.
pub const MAX_MESSAGE_BYTES: usize = MAX_BODY_BYTES + 64 * 1024;

/// Length field and flags of each frame, in bytes.
pub const FRAME_HEADER_BYTES: usize = 5;

/// How much of a large message is in one frame, in bytes: with its tag, one record of Noise.
const FRAGMENT_BYTES: usize = 65_535 - 16;

/// Room behind a large message's memory for what a cipher needs while it decrypts in place,
/// in bytes.
const CIPHER_SLACK_BYTES: usize = 16;

/// A run of small messages is cut here, in bytes, so that lanes can take turns and no buffer
/// grows without limit.
const RUN_BYTES: usize = 64 * 1024;

/// A batch's own memory shrinks back to this, in bytes.
const BATCH_BUFFER_BYTES: usize = 256 * 1024;

/// The reader's buffer shrinks back to this after a large burst, in bytes.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// The length of the whole message, at the head of its first fragment, in bytes.
const TOTAL_BYTES: usize = 4;

const MORE: u8 = 0x80;
const FIRST: u8 = 0x40;

/// Which of the ordered streams of a link a message belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Lane {
    /// Ticks and the kernel's messages: always first.
    Control = 0,
    /// What actors send to actors, and what must keep its order with that.
    Signal = 1,
    /// Code and other large answers that nothing is ordered with.
    Bulk = 2,
}

impl Lane {
    const COUNT: usize = 3;

    fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Control),
            1 => Some(Self::Signal),
            2 => Some(Self::Bulk),
            _ => None,
        }
    }
}

/// What is wrong with frames. [`FrameError::TooLong`] from the writer is the caller's fault;
/// everything from the reader is the peer's, and the link must be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message over the limit.
    #[error("a message of {bytes} bytes or more is too long: at most {limit}")]
    TooLong {
        /// Its length, or the length at which it was given up.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A frame length of zero or over [`MAX_FRAME_BYTES`].
    #[error("a frame of {0} bytes: the peer is broken, or speaks another protocol")]
    Length(u32),
    /// An unknown lane or flag.
    #[error("unknown frame flags {0:#04x}: the peer is broken, or speaks another protocol")]
    Flags(u8),
}

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
    /// [`FrameError::TooLong`] over [`MAX_MESSAGE_BYTES`]; nothing is added then.
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
    /// [`FrameError::TooLong`] over [`MAX_MESSAGE_BYTES`].
    pub fn push(&mut self, lane: Lane, message: Bytes) -> Result<(), FrameError> {
        self.push_parts(lane, Vec::new(), message)
    }

    /// Adds one message of two parts, of which the second is not copied if it is large.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] over [`MAX_MESSAGE_BYTES`].
    pub fn push_parts(&mut self, lane: Lane, head: Vec<u8>, body: Bytes) -> Result<(), FrameError> {
        let bytes = head.len() + body.len();
        if bytes <= MAX_FRAME_BYTES {
            return self.push_with(lane, |run| {
                run.extend_from_slice(&head);
                run.extend_from_slice(&body);
            });
        }
        if bytes > MAX_MESSAGE_BYTES {
            return Err(FrameError::TooLong {
                bytes,
                limit: MAX_MESSAGE_BYTES,
            });
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

/// One message as it comes out of the reader.
#[derive(Debug)]
pub enum Payload<'a> {
    /// It came in one frame: still in the reader's buffer.
    Whole(&'a [u8]),
    /// It came in fragments: its own memory, of which parts can be kept without a copy.
    Joined(Bytes),
}

impl Payload<'_> {
    /// The message.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Joined(bytes) => bytes,
        }
    }
}

/// Bytes of one link on their way in, until they are messages. Holds at most one partial
/// message a lane, each of at most the limit, and one read buffer.
pub struct FrameReader {
    buffer: Vec<u8>,
    /// What of the buffer is handed out already.
    consumed: usize,
    partial: [Vec<u8>; Lane::COUNT],
    fragment: Option<Fragment>,
    ready: Option<Ready>,
    limit: usize,
}

/// The fragment that is being read.
struct Fragment {
    lane: Lane,
    /// How long the partial message is when the fragment is whole.
    until: usize,
    more: bool,
}

/// A message that is complete and not yet handed out.
enum Ready {
    /// Where in the buffer.
    Whole(Lane, std::ops::Range<usize>),
    Joined(Lane),
}

/// Where bytes that arrive belong: [`FrameReader::room`].
pub struct Room<'a> {
    /// Append here.
    pub into: &'a mut Vec<u8>,
    /// This many bytes at most; as many as one likes if none is given.
    pub at_most: Option<usize>,
    /// When so many have come, the next ones go here.
    pub behind: Option<&'a mut Vec<u8>>,
}

impl FrameReader {
    /// For messages of at most `limit` bytes: [`MAX_MESSAGE_BYTES`] on an established link,
    /// less during its handshake.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            consumed: 0,
            partial: Default::default(),
            fragment: None,
            ready: None,
            limit,
        }
    }

    /// Changes the limit, as when a handshake is done. What is buffered stays.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Adds bytes that arrived. Call [`FrameReader::next_message`] until it is `None` before
    /// the next, or the buffer grows.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer_mut().extend_from_slice(bytes);
    }

    /// The read buffer itself, to append arriving bytes to in place (a socket's `read_buf`,
    /// a cipher's output). Only ever append.
    pub fn buffer_mut(&mut self) -> &mut Vec<u8> {
        self.compact();
        &mut self.buffer
    }

    /// Where to put the next bytes so that they need not be copied again: the memory of the
    /// large message that they belong to, or the read buffer. Only ever append; there is room
    /// for a cipher's tag behind. Ask again after [`FrameReader::next_message`] gave `None`.
    pub fn room(&mut self) -> Room<'_> {
        self.compact();
        match &self.fragment {
            Some(fragment) if self.buffer.is_empty() => {
                let into = &mut self.partial[fragment.lane as usize];
                let at_most = Some(fragment.until.saturating_sub(into.len()));
                Room {
                    into,
                    at_most,
                    behind: Some(&mut self.buffer),
                }
            }
            _ => Room {
                into: &mut self.buffer,
                at_most: None,
                behind: None,
            },
        }
    }

    fn compact(&mut self) {
        // A message that is ready is still in there.
        if self.ready.is_some() {
            return;
        }
        if self.consumed == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(READ_BUFFER_BYTES);
        } else if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
        }
        self.consumed = 0;
    }

    /// The next message, if one is complete.
    ///
    /// # Errors
    /// The peer broke the format; the reader must not be used again.
    pub fn next_message(&mut self) -> Result<Option<(Lane, Payload<'_>)>, FrameError> {
        if !self.has_message()? {
            return Ok(None);
        }
        Ok(self.ready.take().map(|ready| match ready {
            Ready::Whole(lane, place) => (lane, Payload::Whole(&self.buffer[place])),
            Ready::Joined(lane) => {
                let message = std::mem::take(&mut self.partial[lane as usize]);
                (lane, Payload::Joined(message.into()))
            }
        }))
    }

    /// Whether [`FrameReader::next_message`] has one.
    ///
    /// # Errors
    /// As there.
    pub fn has_message(&mut self) -> Result<bool, FrameError> {
        while self.ready.is_none() {
            let progress = match &self.fragment {
                Some(_) => self.continue_fragment(),
                None => self.begin_frame()?,
            };
            if !progress {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Moves what there is of a fragment to its message; false if more of it has to arrive.
    fn continue_fragment(&mut self) -> bool {
        let Some(fragment) = &self.fragment else {
            return false;
        };
        let partial = &mut self.partial[fragment.lane as usize];
        let missing = fragment.until.saturating_sub(partial.len());
        let there = &self.buffer[self.consumed..];
        let there = &there[..there.len().min(missing)];
        partial.extend_from_slice(there);
        self.consumed += there.len();
        if partial.len() < fragment.until {
            return false;
        }
        if !fragment.more {
            self.ready = Some(Ready::Joined(fragment.lane));
        }
        self.fragment = None;
        true
    }

    /// Looks at the next frame's header; false if more has to arrive first.
    fn begin_frame(&mut self) -> Result<bool, FrameError> {
        let rest = &self.buffer[self.consumed..];
        let Some((header, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(false);
        };
        let length = u32::from_le_bytes(*header);
        let size = length as usize;
        if size == 0 || size > MAX_FRAME_BYTES + 1 {
            return Err(FrameError::Length(length));
        }
        let Some((&flags, rest)) = rest.split_first() else {
            return Ok(false);
        };
        let payload = size - 1;
        let (first, more) = (flags & FIRST != 0, flags & MORE != 0);
        let lane = Lane::from_bits(flags & !(FIRST | MORE)).ok_or(FrameError::Flags(flags))?;
        let partial = &mut self.partial[lane as usize];
        let too_long = |bytes, limit| Err(FrameError::TooLong { bytes, limit });
        if first {
            let Some(payload) = payload.checked_sub(TOTAL_BYTES) else {
                return Err(FrameError::Length(length));
            };
            if !partial.is_empty() {
                return Err(FrameError::Flags(flags));
            }
            let Some(total) = rest.first_chunk::<TOTAL_BYTES>() else {
                return Ok(false);
            };
            let total = u32::from_le_bytes(*total) as usize;
            if total > self.limit {
                return too_long(total, self.limit);
            }
            if payload == 0 || payload > total {
                return too_long(payload, total);
            }
            partial.reserve_exact(total + CIPHER_SLACK_BYTES);
            self.consumed += FRAME_HEADER_BYTES + TOTAL_BYTES;
            self.fragment = Some(Fragment {
                lane,
                until: payload,
                more,
            });
            return Ok(true);
        }
        if !partial.is_empty() {
            let until = partial.len() + payload;
            if until > self.limit {
                return too_long(until, self.limit);
            }
            self.consumed += FRAME_HEADER_BYTES;
            self.fragment = Some(Fragment { lane, until, more });
            return Ok(true);
        }
        if more {
            return Err(FrameError::Flags(flags));
        }
        if payload > self.limit {
            return too_long(payload, self.limit);
        }
        if rest.len() < payload {
            return Ok(false);
        }
        let start = self.consumed + FRAME_HEADER_BYTES;
        self.consumed = start + payload;
        self.ready = Some(Ready::Whole(lane, start..self.consumed));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(reader: &mut FrameReader) -> Vec<(Lane, Vec<u8>)> {
        let mut messages = Vec::new();
        while let Some((lane, payload)) = reader.next_message().unwrap() {
            messages.push((lane, payload.as_slice().to_vec()));
        }
        messages
    }

    /// What the writer has, as bytes.
    fn wire(writer: &mut FrameWriter, target: usize) -> Vec<u8> {
        let mut batch = Batch::default();
        writer.fill(&mut batch, target);
        let wire = batch.slices().collect::<Vec<_>>().concat();
        assert_eq!(wire.len(), batch.len());
        wire
    }

    fn lanes() -> impl Strategy<Value = Lane> {
        prop_oneof![Just(Lane::Control), Just(Lane::Signal), Just(Lane::Bulk)]
    }

    proptest! {
        #[test]
        fn each_lane_arrives_whole_and_in_order(
            messages in prop::collection::vec((lanes(), 0..200_000_usize), 0..20),
            chunk in 1..100_000_usize,
            target in 1..300_000_usize,
        ) {
            let mut writer = FrameWriter::new();
            let mut sent = [const { Vec::new() }; Lane::COUNT];
            for (number, (lane, size)) in messages.into_iter().enumerate() {
                let message = vec![number as u8; size];
                if number % 2 == 0 {
                    writer.push_with(lane, |out| out.extend_from_slice(&message)).unwrap();
                } else {
                    writer.push(lane, message.clone().into()).unwrap();
                }
                sent[lane as usize].push(message);
            }
            let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
            let mut received = [const { Vec::new() }; Lane::COUNT];
            while !writer.is_empty() {
                let wire = wire(&mut writer, target);
                prop_assert!(wire.len() < target + 200 * 1024);
                for (number, mut piece) in wire.chunks(chunk).enumerate() {
                    while !piece.is_empty() {
                        // Both ways in: fed, and put where they belong.
                        let room = if number % 2 == 0 {
                            reader.room()
                        } else {
                            Room { into: reader.buffer_mut(), at_most: None, behind: None }
                        };
                        let size = room.at_most.unwrap_or(usize::MAX).min(piece.len());
                        prop_assert!(size > 0);
                        room.into.extend_from_slice(&piece[..size]);
                        piece = &piece[size..];
                        for (lane, message) in drain(&mut reader) {
                            received[lane as usize].push(message);
                        }
                    }
                }
            }
            prop_assert_eq!(writer.queued_bytes(), 0);
            prop_assert!(received == sent);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), chunk in 1..50_usize) {
            let mut reader = FrameReader::new(1000);
            for piece in bytes.chunks(chunk) {
                reader.feed(piece);
                loop {
                    match reader.next_message() {
                        Ok(Some((_, payload))) => prop_assert!(payload.as_slice().len() <= 1000),
                        Ok(None) => break,
                        Err(_) => return Ok(()),
                    }
                }
            }
        }
    }

    #[test]
    fn a_tick_does_not_wait_for_a_large_message() {
        let mut writer = FrameWriter::new();
        writer
            .push(Lane::Signal, vec![1; 10 * 1024 * 1024].into())
            .unwrap();
        let mut sent = wire(&mut writer, 1);
        writer.push(Lane::Control, vec![2].into()).unwrap();
        sent.extend(wire(&mut writer, 1));
        let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
        reader.feed(&sent);
        assert_eq!(drain(&mut reader), [(Lane::Control, vec![2])]);
    }

    #[test]
    fn signals_and_bulk_take_turns() {
        let mut writer = FrameWriter::new();
        writer
            .push(Lane::Bulk, vec![1; 10 * MAX_FRAME_BYTES].into())
            .unwrap();
        for _ in 0..10 {
            writer
                .push(Lane::Signal, vec![2; MAX_FRAME_BYTES].into())
                .unwrap();
        }
        let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
        reader.feed(&wire(&mut writer, 12 * MAX_FRAME_BYTES));
        let signals = drain(&mut reader).len();
        assert!((3..10).contains(&signals), "{signals}");
    }

    #[test]
    fn too_long_is_refused_on_both_sides() {
        let mut writer = FrameWriter::new();
        let refused = writer.push_with(Lane::Bulk, |out| {
            out.resize(out.len() + MAX_MESSAGE_BYTES + 1, 0)
        });
        assert!(matches!(refused, Err(FrameError::TooLong { .. })));
        assert!(writer.is_empty());
        writer
            .push(Lane::Bulk, vec![0; 3 * MAX_FRAME_BYTES].into())
            .unwrap();
        let mut reader = FrameReader::new(2 * MAX_FRAME_BYTES);
        reader.feed(&wire(&mut writer, usize::MAX));
        assert!(matches!(
            reader.next_message(),
            Err(FrameError::TooLong { .. })
        ));
    }

    #[test]
    fn another_protocol_is_noticed() {
        let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
        reader.feed(b"GET / HTTP/1.1\r\n\r\n");
        assert!(matches!(reader.next_message(), Err(FrameError::Length(_))));
    }
}
