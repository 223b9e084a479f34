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

mod reader;
mod writer;

pub use reader::{FrameReader, Payload, Room};
pub use writer::{Batch, FrameWriter};

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

    /// The longest message that travels in it, in bytes.
    fn max_bytes(self) -> usize {
        match self {
            Self::Control => MAX_CONTROL_BYTES,
            Self::Signal | Self::Bulk => MAX_MESSAGE_BYTES,
        }
    }

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
