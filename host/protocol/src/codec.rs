//! Messages between nodes as bytes, and back.
//!
//! Owns [`WireMessage`], everything that crosses an established link, and its encoding: one
//! kind byte, then postcard, but for the four signals that carry almost all traffic (info,
//! cast, request and successful response, to a pid, without metadata), which have fixed
//! layouts of their own so that a small one costs tens of nanoseconds.
//!
//! Contract: `decode(encode(m)) == m`; decoding never panics, never allocates more than about
//! 1 MiB beyond what the input's own length justifies (a body once; lists of short entries
//! many times, which is why they are limited to [`MAX_CONTROL_BYTES`]), and accepts no trailing
//! bytes.
//!
//! Deliberately does not know of frames, links or what the messages do.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::exit::{RegisterError, SpawnError};
use crate::frame::{Lane, MAX_CONTROL_BYTES, Payload};
use crate::global::{GlobalMessage, Resolver};
use crate::groups::GroupsMessage;
use crate::ids::{Digest, Incarnation, Pid, Ref};
use crate::membership::MembershipMessage;
use crate::signal::{Signal, SpawnOptions, Target};

/// Bodies below this many bytes are copied out of a large message, so that a small body does
/// not keep a large buffer alive.
const SLICE_FROM_BYTES: usize = 16 * 1024;

/// What travels with a signal besides its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// The trace that it belongs to.
    pub trace: Option<TraceContext>,
    /// In how many milliseconds from its sending it stops being of use.
    pub deadline_ms: Option<u32>,
}

/// Where a message stands in a distributed trace, as in W3C Trace Context.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TraceContext {
    /// The whole trace.
    pub trace_id: u128,
    /// The sender's span.
    pub span_id: u64,
    /// Trace flags: bit 0 is "sampled".
    pub flags: u8,
}

/// Everything that crosses an established link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum WireMessage {
    /// A sign of life.
    Tick,
    /// From an actor, or on its behalf, to an actor.
    Signal {
        /// Whom for.
        to: Target,
        /// What travels with it.
        metadata: Metadata,
        /// What it is.
        signal: Signal,
    },
    /// Who else is up.
    Membership(MembershipMessage),
    /// Global names.
    Global(GlobalMessage),
    /// Process groups.
    Groups(GroupsMessage),
    /// One host asks another.
    Request {
        /// Chosen by the asker, unique on this link.
        id: u64,
        /// What it asks.
        request: NodeRequest,
    },
    /// The answer to a request.
    Reply {
        /// The request's.
        id: u64,
        /// The answer.
        reply: NodeReply,
    },
}

/// What one host asks another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NodeRequest {
    /// Start an actor; answered by [`NodeReply::Spawned`].
    Spawn {
        /// Who wants it.
        parent: Pid,
        /// The parent's ref for this spawn, and for the monitor if one is asked for.
        tag: Ref,
        /// The code.
        digest: Digest,
        /// The name of the module that the code is a version of.
        module: String,
        /// For its `init`.
        args: Bytes,
        /// Links, monitors, a name.
        options: Box<SpawnOptions>,
    },
    /// The bytes of a component; answered by [`NodeReply::Code`].
    FetchCode {
        /// Which.
        digest: Digest,
    },
    /// What a command line asks of a node; opaque here. Answered by [`NodeReply::Control`].
    Control(Bytes),
    /// Who holds a global name, as this node knows it (hidden nodes have no table of their
    /// own). Answered by [`NodeReply::Whereis`].
    WhereisName(String),
    /// Claim a global name for an actor of the node asked; answered by
    /// [`NodeReply::Registered`].
    Register {
        /// The actor.
        pid: Pid,
        /// The name.
        name: String,
        /// Also if somebody holds it.
        replace: bool,
        /// What to do in a conflict.
        resolver: Resolver,
    },
    /// Are you there? Travels as signals do. Answered by [`NodeReply::Pong`].
    Ping,
}

/// What a host answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NodeReply {
    /// How the spawn went.
    Spawned(Result<Pid, SpawnError>),
    /// The component, if the host has it.
    Code(Option<Bytes>),
    /// Opaque here.
    Control(Bytes),
    /// The holder, if any.
    Whereis(Option<Pid>),
    /// How the claim went.
    Registered(Result<(), RegisterError>),
    /// Here.
    Pong,
}

/// Why bytes are no message. The peer's fault: it is broken or hostile, close the link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Nothing at all.
    #[error("an empty message")]
    Empty,
    /// An unknown kind byte.
    #[error("unknown message kind {0}")]
    Kind(u8),
    /// Too short for its kind.
    #[error("a message of kind {kind} is cut off at {bytes} bytes")]
    Truncated {
        /// The kind byte.
        kind: u8,
        /// The length found.
        bytes: usize,
    },
    /// Not what postcard writes; says why.
    #[error("a malformed message: {0}")]
    Malformed(String),
    /// A message of the machines over [`MAX_CONTROL_BYTES`].
    #[error(
        "a message of {0} bytes about membership, names or groups: at most {MAX_CONTROL_BYTES}"
    )]
    TooLong(usize),
    /// Bytes behind the message's end.
    #[error("{0} bytes behind the end of a message")]
    Trailing(usize),
}

const KIND_GENERAL: u8 = 0;
const KIND_TICK: u8 = 1;
const KIND_INFO: u8 = 2;
const KIND_CAST: u8 = 3;
const KIND_REQUEST: u8 = 4;
const KIND_RESPONSE: u8 = 5;

/// The places of [`WireMessage::Membership`] and the two behind it among the variants, as
/// postcard writes them.
const MEMBERSHIP: u8 = 2;
const GLOBAL: u8 = 3;
const GROUPS: u8 = 4;

impl WireMessage {
    /// The lane that it must travel in. Spawns share the signals' lane, so that a child's
    /// first signal never overtakes the news of its existence. Goodbyes come last, or they
    /// would end the link before the signals sent earlier are read.
    pub fn lane(&self) -> Lane {
        match self {
            Self::Membership(MembershipMessage::Disconnect | MembershipMessage::Leaving) => {
                Lane::Last
            }
            Self::Tick | Self::Membership(_) | Self::Global(_) | Self::Groups(_) => Lane::Control,
            Self::Signal { .. }
            | Self::Request {
                request:
                    NodeRequest::Spawn { .. }
                    | NodeRequest::WhereisName(_)
                    | NodeRequest::Register { .. }
                    | NodeRequest::Ping,
                ..
            }
            | Self::Reply {
                reply:
                    NodeReply::Spawned(_)
                    | NodeReply::Whereis(_)
                    | NodeReply::Registered(_)
                    | NodeReply::Pong,
                ..
            } => Lane::Signal,
            Self::Request { .. } | Self::Reply { .. } => Lane::Bulk,
        }
    }

    /// Appends the message's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Tick => out.push(KIND_TICK),
            Self::Signal {
                to,
                metadata,
                signal,
            } => encode_signal(to, metadata, signal, out),
            general => encode_general(general, out),
        }
    }
}

/// Appends what [`WireMessage::Signal`] of these parts encodes to, without building one.
pub fn encode_signal(to: &Target, metadata: &Metadata, signal: &Signal, out: &mut Vec<u8>) {
    if let Some(body) = encode_signal_head(to, metadata, signal, out) {
        out.extend_from_slice(body);
    }
}

/// As [`encode_signal`], but for the body at the message's end, which is returned for the
/// caller to append, so that a large one need not be copied. Without such a body all is
/// appended.
pub fn encode_signal_head<'a>(
    to: &Target,
    metadata: &Metadata,
    signal: &'a Signal,
    out: &mut Vec<u8>,
) -> Option<&'a Bytes> {
    if let Target::Pid(pid) = to
        && *metadata == Metadata::default()
    {
        let (kind, from, tag, body) = match signal {
            Signal::Info(body) => (KIND_INFO, None, None, body),
            Signal::Cast(body) => (KIND_CAST, None, None, body),
            Signal::Request { from, tag, body } => (KIND_REQUEST, Some(from), Some(tag), body),
            Signal::Response {
                tag,
                result: Ok(body),
            } => (KIND_RESPONSE, None, Some(tag), body),
            _ => {
                encode_general_signal(to, metadata, signal, out);
                return None;
            }
        };
        out.reserve(49);
        out.push(kind);
        put_id(out, pid.node, pid.serial);
        if let Some(from) = from {
            put_id(out, from.node, from.serial);
        }
        if let Some(tag) = tag {
            put_id(out, tag.node, tag.serial);
        }
        return Some(body);
    }
    encode_general_signal(to, metadata, signal, out);
    None
}

/// [`WireMessage::Signal`]'s place among the variants and fields, for postcard, borrowed.
#[derive(Serialize)]
enum BorrowedMessage<'a> {
    #[allow(dead_code)]
    Tick,
    Signal {
        to: &'a Target,
        metadata: &'a Metadata,
        signal: &'a Signal,
    },
}

fn encode_general_signal(to: &Target, metadata: &Metadata, signal: &Signal, out: &mut Vec<u8>) {
    encode_general(
        &BorrowedMessage::Signal {
            to,
            metadata,
            signal,
        },
        out,
    );
}

fn encode_general(message: &impl Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(KIND_GENERAL);
    let taken = std::mem::take(out);
    // Our own types have known lengths and no map keys: postcard cannot fail on them, and
    // extending a Vec cannot fail either.
    match postcard::to_extend(message, taken) {
        Ok(extended) => *out = extended,
        Err(error) => debug_assert!(
            false,
            "postcard refused our own message at {start}: {error}"
        ),
    }
}

fn put_id(out: &mut Vec<u8>, node: Incarnation, serial: u64) {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&node.0.to_le_bytes());
    id[8..].copy_from_slice(&serial.to_le_bytes());
    out.extend_from_slice(&id);
}

/// The message that these bytes are.
///
/// # Errors
/// The peer broke the format.
pub fn decode(payload: &Payload<'_>) -> Result<WireMessage, CodecError> {
    let bytes = payload.as_slice();
    let (&kind, rest) = bytes.split_first().ok_or(CodecError::Empty)?;
    let mut fields = Fields {
        rest,
        kind,
        total: bytes.len(),
    };
    let (to, signal) = match kind {
        KIND_GENERAL => return decode_general(rest),
        KIND_TICK if rest.is_empty() => return Ok(WireMessage::Tick),
        KIND_TICK => return Err(CodecError::Trailing(rest.len())),
        KIND_INFO => (fields.pid()?, Signal::Info(fields.body(payload))),
        KIND_CAST => (fields.pid()?, Signal::Cast(fields.body(payload))),
        KIND_REQUEST => {
            let (to, from, tag) = (fields.pid()?, fields.pid()?, fields.reference()?);
            (
                to,
                Signal::Request {
                    from,
                    tag,
                    body: fields.body(payload),
                },
            )
        }
        KIND_RESPONSE => {
            let (to, tag) = (fields.pid()?, fields.reference()?);
            (
                to,
                Signal::Response {
                    tag,
                    result: Ok(fields.body(payload)),
                },
            )
        }
        unknown => return Err(CodecError::Kind(unknown)),
    };
    Ok(WireMessage::Signal {
        to: Target::Pid(to),
        metadata: Metadata::default(),
        signal,
    })
}

fn decode_general(bytes: &[u8]) -> Result<WireMessage, CodecError> {
    // Short entries of long lists take many times their own length.
    let is_control = matches!(bytes.first(), Some(&(MEMBERSHIP | GLOBAL | GROUPS)));
    if is_control && bytes.len() > MAX_CONTROL_BYTES {
        return Err(CodecError::TooLong(bytes.len()));
    }
    let (message, rest) = postcard::take_from_bytes(bytes)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(CodecError::Trailing(rest.len()))
    }
}

struct Fields<'a> {
    rest: &'a [u8],
    kind: u8,
    total: usize,
}

impl Fields<'_> {
    fn id(&mut self) -> Result<(Incarnation, u64), CodecError> {
        let truncated = CodecError::Truncated {
            kind: self.kind,
            bytes: self.total,
        };
        let (node, rest) = self
            .rest
            .split_first_chunk::<8>()
            .ok_or(truncated.clone())?;
        let (serial, rest) = rest.split_first_chunk::<8>().ok_or(truncated)?;
        self.rest = rest;
        Ok((
            Incarnation(u64::from_le_bytes(*node)),
            u64::from_le_bytes(*serial),
        ))
    }

    fn pid(&mut self) -> Result<Pid, CodecError> {
        self.id().map(|(node, serial)| Pid { node, serial })
    }

    fn reference(&mut self) -> Result<Ref, CodecError> {
        self.id().map(|(node, serial)| Ref { node, serial })
    }

    fn body(&self, payload: &Payload<'_>) -> Bytes {
        match payload {
            Payload::Joined(whole) if self.rest.len() >= SLICE_FROM_BYTES => {
                whole.slice_ref(self.rest)
            }
            _ => Bytes::copy_from_slice(self.rest),
        }
    }
}

#[cfg(test)]
mod tests;
