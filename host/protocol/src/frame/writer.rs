//! Messages that wait to be sent over one link, and which goes next.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    Batch, Channel, FIRST, FRAME_HEADER_BYTES, FrameError, Lane, MAX_FRAME_BYTES, MORE,
    SIDE_STREAMS, TOTAL_BYTES,
};

/// How much of a large message is in one frame, in bytes: with its tag, one record of Noise.
const FRAGMENT_BYTES: usize = 65_535 - 16;

/// A run of small messages is cut here, in bytes, so that channels can take turns and no buffer
/// grows without limit.
const RUN_BYTES: usize = 64 * 1024;

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
    /// What was pushed before this is sent: this side stream may begin.
    Begin(usize),
}

/// Where the large signals of one sender travel, and what it sends after them.
#[derive(Clone, Copy)]
struct Side {
    sender: u64,
    /// All that its sender sent before has been written.
    begun: bool,
}

/// Messages on their way out of one link. Unbounded by itself: the owner stops accepting
/// when [`FrameWriter::queued_bytes`] is over its limit.
#[derive(Default)]
pub struct FrameWriter {
    channels: [VecDeque<Piece>; Channel::COUNT],
    sides: [Option<Side>; SIDE_STREAMS],
    /// How many of them are in use.
    busy_sides: usize,
    queued_bytes: usize,
    /// Whether the signals' lane had the last turn, and which of the others did before.
    after_signals: bool,
    last_other: usize,
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
        match self.run_in(Channel::of(lane), encode) {
            Some(message) => self.push(lane, message),
            None => Ok(()),
        }
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
        if head.len() + body.len() <= MAX_FRAME_BYTES {
            return self.push_with(lane, join(&head, &body));
        }
        self.large_in(Channel::of(lane), head, body)
    }

    /// As [`FrameWriter::push_with`], a signal of this sender: in order with what it sent before,
    /// and with nothing else. Without a sender it is ordered with nothing.
    ///
    /// # Errors
    /// As there.
    pub fn push_signal_with(
        &mut self,
        sender: Option<u64>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), FrameError> {
        let channel = match self.side_of(sender) {
            Some(side) => Channel::side(side),
            None => Channel::of(Lane::Signal),
        };
        match self.run_in(channel, encode) {
            Some(message) => self.large_signal(sender, Vec::new(), message),
            None => Ok(()),
        }
    }

    /// As [`FrameWriter::push_parts`], a signal of this sender, as in
    /// [`FrameWriter::push_signal_with`].
    ///
    /// # Errors
    /// As there.
    pub fn push_signal_parts(
        &mut self,
        sender: Option<u64>,
        head: Vec<u8>,
        body: Bytes,
    ) -> Result<(), FrameError> {
        if head.len() + body.len() <= MAX_FRAME_BYTES {
            return self.push_signal_with(sender, join(&head, &body));
        }
        self.large_signal(sender, head, body)
    }

    /// Bytes that wait to be written, all channels together.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queued_bytes == 0
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.busy_sides == 0 && self.channels.iter().all(VecDeque::is_empty)
    }

    /// Appends waiting frames to `out`, control first, until it holds at least `target_bytes`
    /// or nothing is left. Overshoots by one run of frames at most (under 200 KiB).
    pub fn fill(&mut self, out: &mut Batch, target_bytes: usize) {
        while out.len() < target_bytes {
            let Some(channel) = self.next_channel() else {
                return;
            };
            self.write_piece(channel, out);
        }
    }

    /// The side stream that this sender's signals are bound to.
    fn side_of(&self, sender: Option<u64>) -> Option<usize> {
        if self.busy_sides == 0 {
            return None;
        }
        let sender = sender?;
        let own = |side: &Option<Side>| side.is_some_and(|side| side.sender == sender);
        self.sides.iter().position(own)
    }

    fn large_signal(
        &mut self,
        sender: Option<u64>,
        head: Vec<u8>,
        body: Bytes,
    ) -> Result<(), FrameError> {
        let signals = Channel::of(Lane::Signal);
        let side = self.side_of(sender);
        let free = || self.sides.iter().position(Option::is_none);
        let (channel, new) = match (side, sender) {
            (Some(side), _) => (Channel::side(side), None),
            (None, Some(sender)) => match free() {
                Some(side) => (Channel::side(side), Some((side, sender))),
                None => (signals, None),
            },
            (None, None) => (signals, None),
        };
        self.large_in(channel, head, body)?;
        if let Some((side, sender)) = new {
            // What the sender sent before may still wait among the signals.
            let begun = self.channels[signals.index()].is_empty();
            if !begun {
                self.channels[signals.index()].push_back(Piece::Begin(side));
            }
            self.sides[side] = Some(Side { sender, begun });
            self.busy_sides += 1;
        }
        Ok(())
    }

    /// Adds a message to the run of small ones at a channel's end; gives it back if it is large.
    fn run_in(&mut self, channel: Channel, encode: impl FnOnce(&mut Vec<u8>)) -> Option<Bytes> {
        let queue = &mut self.channels[channel.index()];
        if !matches!(queue.back(), Some(Piece::Frames(run)) if run.len() < RUN_BYTES) {
            queue.push_back(Piece::Frames(std::mem::take(&mut self.spare)));
        }
        let Some(Piece::Frames(run)) = queue.back_mut() else {
            return None;
        };
        let start = run.len();
        run.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        encode(run);
        let length = run.len() - start - FRAME_HEADER_BYTES;
        if length <= MAX_FRAME_BYTES {
            run[start..start + 4].copy_from_slice(&(length as u32 + 1).to_le_bytes());
            run[start + 4] = channel.0;
            self.queued_bytes += length + FRAME_HEADER_BYTES;
            return None;
        }
        let message = run.split_off(start + FRAME_HEADER_BYTES);
        run.truncate(start);
        if start == 0 {
            queue.pop_back();
        }
        Some(message.into())
    }

    fn large_in(&mut self, channel: Channel, head: Vec<u8>, body: Bytes) -> Result<(), FrameError> {
        let bytes = head.len() + body.len();
        let limit = channel.lane().max_bytes();
        if bytes > limit {
            return Err(FrameError::TooLong { bytes, limit });
        }
        self.queued_bytes += bytes;
        self.channels[channel.index()].push_back(Piece::Large {
            head,
            body,
            written: 0,
        });
        Ok(())
    }

    fn next_channel(&mut self) -> Option<Channel> {
        let waits = |channel: Channel| !self.channels[channel.index()].is_empty();
        let (control, signals) = (Channel::of(Lane::Control), Channel::of(Lane::Signal));
        if waits(control) {
            return Some(control);
        }
        // Signals and the others by turns; the others among themselves likewise.
        let side = |number: usize| {
            let begun = self.sides[number].is_some_and(|side| side.begun);
            Some(Channel::side(number)).filter(|_| begun)
        };
        let other = |number: usize| match number {
            0 => Some(Channel::of(Lane::Bulk)),
            number => side(number - 1),
        };
        let others = SIDE_STREAMS + 1;
        let next_other = || {
            let after = (1..=others).map(|step| (self.last_other + step) % others);
            after
                .filter_map(|number| Some((number, other(number)?)))
                .find(|(_, channel)| waits(*channel))
        };
        if waits(signals) && !self.after_signals {
            self.after_signals = true;
            return Some(signals);
        }
        let next = next_other();
        self.after_signals = false;
        if let Some((number, channel)) = next {
            self.last_other = number;
            return Some(channel);
        }
        let last = Channel::of(Lane::Last);
        [signals, last]
            .into_iter()
            .find(|channel| !self.channels[channel.index()].is_empty())
    }

    fn write_piece(&mut self, channel: Channel, out: &mut Batch) {
        let queue = &mut self.channels[channel.index()];
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
                out.copy(&[channel.0 | flags]);
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
            Some(Piece::Begin(side)) => {
                if let Some(Some(side)) = self.sides.get_mut(*side) {
                    side.begun = true;
                }
                queue.pop_front();
            }
            None => {}
        }
        let side = channel.index().checked_sub(Lane::COUNT);
        if let Some(side) = side.filter(|_| queue.is_empty()) {
            // Its sender's next signals are written after this, wherever they are.
            self.sides[side] = None;
            self.busy_sides -= 1;
        }
    }
}

fn join<'a>(head: &'a [u8], body: &'a [u8]) -> impl FnOnce(&mut Vec<u8>) + 'a {
    move |run| {
        run.extend_from_slice(head);
        run.extend_from_slice(body);
    }
}
