//! What is done with bytes that a peer might send: one function a decoder, which panics if the
//! decoder breaks its contract.
//!
//! `cargo +nightly fuzz run NAME` (in this folder's parent) calls them with what it invents;
//! `tests/tests/fuzzing.rs` calls them with the corpus and mutations of it, on any compiler, and
//! watches their memory. A file that once broke something stays in the corpus.

use bytes::Bytes;
use wasm_node_protocol::codec::{self, WireMessage};
use wasm_node_protocol::frame::{FrameReader, MAX_MESSAGE_BYTES, Payload};
use wasm_node_protocol::handshake::challenge::{AcceptorChallenge, DiallerChallenge};
use wasm_node_protocol::handshake::{
    Accepting, Dialling, Hello, MAX_HANDSHAKE_BYTES, PREAMBLE_BYTES, Preamble, Security,
};
use wasm_node_protocol::{Incarnation, NodeKind, NodeName};

#[path = "../../../src/control.rs"]
#[allow(dead_code, unreachable_pub)]
mod control_types;
#[path = "../../../src/dist/epmd/format.rs"]
#[allow(dead_code, unreachable_pub)]
mod epmd_format;

/// A target: its name, which is its corpus' folder, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
#[allow(
    dead_code,
    reason = "each fuzz target is built with this file and runs one function"
)]
pub const ALL: [Target; 6] = [
    ("frame", frame),
    ("handshake", handshake),
    ("epmd", epmd),
    ("message", message),
    ("signal", signal),
    ("control", control),
];

/// Frames, in pieces, both ways in. The first byte says how long the pieces are and whether the
/// handshake is over.
#[allow(dead_code)]
pub fn frame(bytes: &[u8]) {
    let Some((&how, bytes)) = bytes.split_first() else {
        return;
    };
    let limit = if how & 1 == 0 {
        MAX_MESSAGE_BYTES
    } else {
        MAX_HANDSHAKE_BYTES
    };
    let piece = usize::from(how >> 2) * 37 + 1;
    let mut reader = FrameReader::new(limit);
    for mut piece in bytes.chunks(piece) {
        while !piece.is_empty() {
            let size = if how & 2 == 0 {
                reader.feed(piece);
                piece.len()
            } else {
                let room = reader.room();
                let size = room.at_most.unwrap_or(usize::MAX).min(piece.len());
                assert!(size > 0, "no room for anything");
                room.into.extend_from_slice(&piece[..size]);
                size
            };
            piece = &piece[size..];
            loop {
                match reader.next_message() {
                    Ok(Some((_, payload))) => {
                        let length = payload.as_slice().len();
                        assert!(length <= limit, "a message of {length} bytes");
                    }
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
    }
}

fn hello(name: &str, run: u64) -> Hello {
    let name: NodeName = name.parse().expect("a valid name");
    Hello::new(name, Incarnation(run), NodeKind::Visible, 4_000)
}

/// Every step of a handshake. The first byte says which.
#[allow(dead_code)]
pub fn handshake(bytes: &[u8]) {
    let Some((&step, message)) = bytes.split_first() else {
        return;
    };
    let expected = || "b@h".parse().ok();
    match step % 7 {
        0 => {
            if let Some((preamble, _)) = message.split_first_chunk::<PREAMBLE_BYTES>() {
                let security = Security::Noise;
                let _ = Preamble { security }.check(preamble);
            }
        }
        1 => {
            let (dialling, _) = Dialling::start(hello("a@h", 1), expected());
            if let Ok(greeted) = dialling.on_message(message) {
                assert_eq!(greeted.peer().name.as_str(), "b@h");
                greeted.accept();
            }
        }
        2 => {
            if let Ok(asked) = Accepting::start(hello("a@h", 1)).on_message(message) {
                assert_ne!(asked.peer().name.as_str(), "a@h");
                asked.accept();
            }
        }
        3 => {
            let (_, theirs) = Dialling::start(hello("b@h", 2), None);
            let asked = Accepting::start(hello("a@h", 1)).on_message(&theirs);
            let (confirming, _) = asked.expect("a good hello").accept();
            let _ = confirming.on_message(message);
        }
        4 => {
            let (challenge, _) = DiallerChallenge::start([1; 32], [2; 32]);
            assert!(
                challenge.on_message(message).is_err(),
                "a proof was guessed"
            );
        }
        5 => {
            let _ = AcceptorChallenge::start([1; 32], [2; 32]).on_message(message);
        }
        _ => {
            let (_, nonce) = DiallerChallenge::start([1; 32], [3; 32]);
            let challenge = AcceptorChallenge::start([1; 32], [2; 32]).on_message(&nonce);
            let (proof, _) = challenge.expect("a good nonce");
            assert!(proof.on_message(message).is_err(), "a proof was guessed");
        }
    }
}

/// Requests to a port mapper, and its answers.
#[allow(dead_code)]
pub fn epmd(bytes: &[u8]) {
    use epmd_format::{Entry, Found, Request, found, names, request};
    let again = |entry: &Entry| {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert_eq!(Entry::decode(&bytes).as_ref(), Some(entry));
    };
    if let Some(Request::Alive(entry)) = request(bytes) {
        again(&entry);
    }
    if let Ok(Found::Node(entry)) = found(bytes) {
        again(&entry);
    }
    let _ = names(bytes);
}

fn decode(payload: &Payload<'_>) -> Option<WireMessage> {
    let message = codec::decode(payload).ok()?;
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    let again = codec::decode(&Payload::Whole(&bytes));
    assert_eq!(
        again.as_ref(),
        Ok(&message),
        "another message when read again"
    );
    Some(message)
}

/// Messages of all kinds, whole and joined of fragments.
#[allow(dead_code)]
pub fn message(bytes: &[u8]) {
    let whole = decode(&Payload::Whole(bytes));
    let joined = decode(&Payload::Joined(Bytes::copy_from_slice(bytes)));
    assert_eq!(whole, joined);
}

/// Signals: the kinds with layouts of their own, to which the first byte is bent.
#[allow(dead_code)]
pub fn signal(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if let Some(kind) = bytes.first_mut() {
        *kind = 2 + *kind % 4;
    }
    message(&bytes);
}

/// What tools ask of a node, what it answers, and pids as people type them.
#[allow(dead_code)]
pub fn control(bytes: &[u8]) {
    use control_types::{ControlReply, ControlRequest, PrintedPid};
    let _ = ControlRequest::decode(bytes);
    let _ = ControlReply::decode(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<PrintedPid>();
        let _ = text.parse::<NodeName>();
    }
}
