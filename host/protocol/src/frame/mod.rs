//! Frames: messages cut into pieces that share one byte stream.
//!
//! Owns the layout of a frame (`u32` length, little-endian, of what follows; one byte of
//! channel and flags; at most [`MAX_FRAME_BYTES`] of payload), the order in which waiting
//! messages are sent, and putting fragments together again. The first fragment of a message
//! begins with the message's length (`u32`, little-endian), so that the reader makes room once.
//!
//! Large bodies are not copied on their way out: a [`Batch`] refers to them. On their way in
//! they are written once, to where they stay: [`FrameReader::room`].
//!
//! Contract: messages of one [`Lane`] arrive whole and in the order pushed, and a control
//! message arrives before every signal pushed after it. But signals pushed with their sender
//! ([`FrameWriter::push_signal_with`]) keep the order of each sender only, as Erlang's do: a
//! large one travels beside the lane, in one of [`SIDE_STREAMS`] channels, and whatever its
//! sender sends next goes behind it there, so that others' signals wait for a fragment of it at
//! most. Lanes and side streams take turns by one fragment or one run of small messages (under
//! 130 KiB either), and a waiting control message goes before the next of these, so that bulk
//! data delays no tick. What is in [`Lane::Last`] goes when nothing else waits.
//!
//! Deliberately does not know what a message means, nor whether the bytes are encrypted.

mod batch;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use batch::Batch;
pub use reader::{FrameReader, Payload, Room};
pub use writer::FrameWriter;

/// The largest payload of one frame, in bytes. Longer messages are fragmented.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;

/// The largest message body that may cross a link, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// The largest message, body and envelope, in bytes. The writer refuses a longer one, the
/// reader calls a peer that sends one broken.
pub const MAX_MESSAGE_BYTES: usize = MAX_BODY_BYTES + 64 * 1024;

/// The largest message of the machines (membership, names, groups), in bytes: what it decodes
/// to may take many times as much memory. Longer ones are refused.
pub const MAX_CONTROL_BYTES: usize = 4 * 1024 * 1024;

/// Length field and flags of each frame, in bytes.
pub const FRAME_HEADER_BYTES: usize = 5;

/// Large signals of so many senders travel at once beside all other signals; those of further
/// senders take their place in the signals' lane, where others wait for them.
pub const SIDE_STREAMS: usize = 8;

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
    /// Goodbyes: when all else is sent. Arrives as a signal.
    Last = 3,
}

impl Lane {
    const COUNT: usize = 4;

    /// The longest message that travels in it, in bytes.
    fn max_bytes(self) -> usize {
        match self {
            Self::Control => MAX_CONTROL_BYTES,
            Self::Signal | Self::Bulk | Self::Last => MAX_MESSAGE_BYTES,
        }
    }
}

/// A stream of frames on the wire: a lane, or a side stream of the signals.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Channel(u8);

impl Channel {
    const COUNT: usize = Lane::COUNT + SIDE_STREAMS;

    fn of(lane: Lane) -> Self {
        Self(lane as u8)
    }

    fn side(number: usize) -> Self {
        Self((Lane::COUNT + number) as u8)
    }

    fn from_bits(bits: u8) -> Option<Self> {
        (usize::from(bits) < Self::COUNT).then_some(Self(bits))
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }

    /// As what its messages arrive.
    fn lane(self) -> Lane {
        match self.0 {
            0 => Lane::Control,
            2 => Lane::Bulk,
            _ => Lane::Signal,
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
