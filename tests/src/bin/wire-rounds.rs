//! Encodes or decodes the messages that carry almost all traffic, so many rounds of them, for a
//! counter of instructions around it: `wire-rounds encode|decode ROUNDS`. See
//! `tests/instructions.rs`, which runs it; prints how many messages a round has.
//!
//! Encoding is what a link does before it encrypts: from signals to frames in a batch. Decoding
//! is the way back, from the bytes of frames to signals.

use std::hint::black_box;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use wasm_node_protocol::codec::{Metadata, decode, encode_signal};
use wasm_node_protocol::frame::{Batch, FrameReader, FrameWriter, Lane, MAX_MESSAGE_BYTES};
use wasm_node_protocol::{Incarnation, Pid, Ref, Signal, Target};

/// So many messages of each kind are in a round: some batches of the size that links write.
const OF_EACH_KIND: usize = 500;
/// How much a link takes at once, in bytes.
const BATCH_BYTES: usize = 64 * 1024;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let what = args.next().context("encode or decode?")?;
    let rounds: u64 = args.next().context("how many rounds?")?.parse()?;
    let signals = signals();
    match what.as_str() {
        "encode" => {
            let mut wire = Wire::default();
            for _ in 0..rounds {
                let bytes = wire.encode(&signals, |_| {})?;
                ensure!(bytes > 0, "nothing encoded");
            }
        }
        "decode" => {
            let mut bytes = Vec::new();
            Wire::default().encode(&signals, |slice| bytes.extend_from_slice(slice))?;
            let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
            for _ in 0..rounds {
                let messages = decode_all(&mut reader, &bytes)?;
                ensure!(messages == signals.len(), "{messages} messages came out");
            }
        }
        other => bail!("encode or decode, not {other}"),
    }
    println!("{}", signals.len());
    Ok(())
}

/// Casts, requests and their responses, with small bodies and with some of a page's size; and
/// monitors, which have no layout of their own.
fn signals() -> Vec<(Target, Signal)> {
    let pid = |serial| Pid {
        node: Incarnation(7),
        serial,
    };
    let tag = |serial| Ref {
        node: Incarnation(8),
        serial,
    };
    let mut signals = Vec::new();
    for number in 0..OF_EACH_KIND {
        let serial = number as u64;
        let body = Bytes::from(vec![1; if number % 10 == 0 { 4_096 } else { 16 }]);
        let kinds = [
            Signal::Info(body.clone()),
            Signal::Cast(body.clone()),
            Signal::Request {
                from: pid(serial),
                tag: tag(serial),
                body: body.clone(),
            },
            Signal::Response {
                tag: tag(serial),
                result: Ok(body),
            },
            Signal::Monitor {
                from: pid(serial),
                tag: tag(serial),
            },
        ];
        signals.extend(kinds.map(|signal| (Target::Pid(pid(serial + 1)), signal)));
    }
    signals
}

#[derive(Default)]
struct Wire {
    writer: FrameWriter,
    batch: Batch,
}

impl Wire {
    /// Gives the number of bytes.
    fn encode(
        &mut self,
        signals: &[(Target, Signal)],
        mut write: impl FnMut(&[u8]),
    ) -> Result<usize> {
        let metadata = Metadata::default();
        let mut bytes = 0;
        for (to, signal) in signals {
            self.writer.push_with(Lane::Signal, |out| {
                encode_signal(black_box(to), &metadata, black_box(signal), out)
            })?;
            if self.writer.queued_bytes() >= BATCH_BYTES {
                bytes += self.write(&mut write);
            }
        }
        Ok(bytes + self.write(&mut write))
    }

    fn write(&mut self, write: &mut impl FnMut(&[u8])) -> usize {
        self.writer.fill(&mut self.batch, usize::MAX);
        self.batch
            .slices()
            .for_each(|slice| write(black_box(slice)));
        let bytes = self.batch.len();
        self.batch.clear();
        bytes
    }
}

/// Gives the number of messages.
fn decode_all(reader: &mut FrameReader, bytes: &[u8]) -> Result<usize> {
    let mut messages = 0;
    for piece in bytes.chunks(BATCH_BYTES) {
        reader.feed(piece);
        while let Some((_, payload)) = reader.next_message()? {
            black_box(decode(&payload)?);
            messages += 1;
        }
    }
    Ok(messages)
}
