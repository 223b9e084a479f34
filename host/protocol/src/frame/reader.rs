//! Bytes from the wire, put together to messages.
//!
//! Memory is made for what has arrived, not for what a peer announces: see
//! [`FIRST_ROOM_BYTES`].

use bytes::Bytes;

use super::{
    Channel, FIRST, FRAME_HEADER_BYTES, FrameError, Lane, MAX_FRAME_BYTES, MORE, TOTAL_BYTES,
};

/// Room made for a large message when it begins, in bytes. Once so much of it has come, there
/// is room for all: [`super::MAX_MESSAGE_BYTES`] are 17 times as much at most.
const FIRST_ROOM_BYTES: usize = 4 * 1024 * 1024;

/// Room behind a large message's memory for what a cipher needs while it decrypts in place,
/// in bytes.
const CIPHER_SLACK_BYTES: usize = 16;

/// The reader's buffer shrinks back to this after a large burst, in bytes.
const READ_BUFFER_BYTES: usize = 256 * 1024;

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
/// message a channel, each of at most the limit, and one read buffer.
pub struct FrameReader {
    buffer: Vec<u8>,
    /// What of the buffer is handed out already.
    consumed: usize,
    partial: [Vec<u8>; Channel::COUNT],
    /// How long each partial message says that it will be.
    totals: [usize; Channel::COUNT],
    fragment: Option<Fragment>,
    ready: Option<Ready>,
    limit: usize,
}

/// The fragment that is being read.
struct Fragment {
    channel: Channel,
    /// How long the partial message is when the fragment is whole.
    until: usize,
    more: bool,
}

/// A message that is complete and not yet handed out.
enum Ready {
    /// Where in the buffer.
    Whole(Channel, std::ops::Range<usize>),
    Joined(Channel),
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
    /// For messages of at most `limit` bytes: [`MAX_MESSAGE_BYTES`](super::MAX_MESSAGE_BYTES) on an established link,
    /// less during its handshake.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            consumed: 0,
            partial: Default::default(),
            totals: [0; Channel::COUNT],
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
                let into = &mut self.partial[fragment.channel.index()];
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
            Ready::Whole(channel, place) => (channel.lane(), Payload::Whole(&self.buffer[place])),
            Ready::Joined(channel) => {
                let message = std::mem::take(&mut self.partial[channel.index()]);
                (channel.lane(), Payload::Joined(message.into()))
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
        let partial = &mut self.partial[fragment.channel.index()];
        let missing = fragment.until.saturating_sub(partial.len());
        let there = &self.buffer[self.consumed..];
        let there = &there[..there.len().min(missing)];
        partial.extend_from_slice(there);
        self.consumed += there.len();
        if partial.len() < fragment.until {
            return false;
        }
        if !fragment.more {
            self.ready = Some(Ready::Joined(fragment.channel));
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
        let channel =
            Channel::from_bits(flags & !(FIRST | MORE)).ok_or(FrameError::Flags(flags))?;
        let limit = self.limit.min(channel.lane().max_bytes());
        let partial = &mut self.partial[channel.index()];
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
            if total > limit {
                return too_long(total, limit);
            }
            if payload == 0 || payload > total {
                return too_long(payload, total);
            }
            partial.reserve_exact(total.min(FIRST_ROOM_BYTES) + CIPHER_SLACK_BYTES);
            self.totals[channel.index()] = total;
            self.consumed += FRAME_HEADER_BYTES + TOTAL_BYTES;
            self.fragment = Some(Fragment {
                channel,
                until: payload,
                more,
            });
            return Ok(true);
        }
        if !partial.is_empty() {
            let until = partial.len() + payload;
            let total = self.totals[channel.index()];
            if until > total {
                return too_long(until, total);
            }
            if until + CIPHER_SLACK_BYTES > partial.capacity() {
                partial.reserve_exact(total - partial.len() + CIPHER_SLACK_BYTES);
            }
            self.consumed += FRAME_HEADER_BYTES;
            self.fragment = Some(Fragment {
                channel,
                until,
                more,
            });
            return Ok(true);
        }
        if more {
            return Err(FrameError::Flags(flags));
        }
        if payload > limit {
            return too_long(payload, limit);
        }
        if rest.len() < payload {
            return Ok(false);
        }
        let start = self.consumed + FRAME_HEADER_BYTES;
        self.consumed = start + payload;
        self.ready = Some(Ready::Whole(channel, start..self.consumed));
        Ok(true)
    }
}
