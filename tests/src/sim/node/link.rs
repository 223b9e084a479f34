//! The links of a simulated node: from the first byte to the last.
//!
//! Owns, for each link, a handshake, a session, a frame writer and a frame reader, and how
//! much the network may still take of it. Steps that a real shell spreads over tasks
//! (answering a hello, telling that a link is up) take random time here too. Does not know
//! what signals mean.

use wasm_node_protocol::cluster::ClusterInput;
use wasm_node_protocol::codec::{self, WireMessage};
use wasm_node_protocol::frame::{Batch, FrameReader, FrameWriter, Lane, MAX_MESSAGE_BYTES};
use wasm_node_protocol::handshake::{
    Accepting, Asked, Confirming, Dialling, Failed, Greeted, HANDSHAKE_TIMEOUT_MS, HandshakeError,
    MAX_HANDSHAKE_BYTES, Peer, Refusal,
};
use wasm_node_protocol::membership::LinkId;
use wasm_node_protocol::session::{Session, SessionInput, SessionOutput};
use wasm_node_protocol::{Millis, NodeName, Target};

use super::{Effect, Notice, SimNode, Step, TICK_TIME_MS};
use crate::sim::network::ConnId;

/// What the network takes of one direction of a connection before the other end has read it,
/// in bytes: both sockets' buffers.
const WINDOW_BYTES: usize = 512 * 1024;

pub(super) enum Stage {
    Connecting {
        asked: bool,
        expected: Option<NodeName>,
    },
    Dialling(Dialling),
    Greeted(Greeted),
    Accepting(Accepting),
    Asked(Asked),
    Confirming(Confirming),
    /// Agreed; the cluster is about to be told.
    Agreed(Peer),
    Up(Session),
    /// Closed here; the cluster is about to be told.
    Down {
        reason: String,
        refusal: Option<Refusal>,
    },
}

pub(super) struct Link {
    pub(super) conn: Option<(ConnId, usize)>,
    pub(super) stage: Stage,
    pub(super) writer: FrameWriter,
    reader: FrameReader,
    flush_planned: bool,
    /// Bytes that the network takes at once.
    window: usize,
}

impl SimNode {
    /// A dial reached its target.
    pub fn connected(&mut self, now: Millis, link: LinkId, conn: ConnId) {
        let Some(
            state @ Link {
                stage: Stage::Connecting { .. },
                ..
            },
        ) = self.links.get_mut(&link)
        else {
            // Given up meanwhile.
            return self.effects.push_back(Effect::Close { conn, side: 0 });
        };
        state.conn = Some((conn, 0));
        let Stage::Connecting { asked, expected } = &state.stage else {
            return;
        };
        let mut hello = self.cluster.hello().clone();
        hello.asked = *asked;
        let (dialling, message) = Dialling::start(hello, expected.clone());
        state.stage = Stage::Dialling(dialling);
        self.cluster.hello_sent(link);
        self.write_handshake(now, link, message);
    }

    /// A dial failed.
    pub fn dial_failed(&mut self, link: LinkId, reason: &str) {
        self.take_down(link, reason.into(), None);
    }

    /// Somebody dialled us.
    pub fn accepted(&mut self, conn: impl FnOnce(LinkId) -> ConnId) {
        let link = self.cluster.accept_link();
        let conn = conn(link);
        let stage = Stage::Accepting(Accepting::start(self.cluster.hello().clone()));
        self.links.insert(link, Link::new(Some((conn, 1)), stage));
        self.plan_timeout(link);
    }

    /// Bytes came in.
    pub fn received(&mut self, now: Millis, link: LinkId, bytes: &[u8]) {
        self.session(now, link, SessionInput::Received);
        if let Some(state) = self.links.get_mut(&link) {
            state.reader.feed(bytes);
        }
        self.read(now, link);
    }

    /// The other end closed.
    pub fn closed(&mut self, link: LinkId, reason: &str) {
        self.take_down(link, reason.into(), None);
    }

    /// The other end has read so many bytes; whether a [`Step::Flush`] is wanted now.
    pub fn credit(&mut self, link: LinkId, bytes: usize) -> bool {
        let Some(state) = self.links.get_mut(&link) else {
            return false;
        };
        state.window += bytes;
        let wanted = !state.flush_planned && !state.writer.is_empty();
        state.flush_planned |= wanted;
        wanted
    }

    /// A step of a link is due.
    pub(super) fn link_step(&mut self, now: Millis, step: Step) {
        match step {
            Step::Judge(link) => self.judge(now, link),
            Step::Up(link) => self.up(now, link),
            Step::Down(link) => {
                if let Some(Link {
                    stage: Stage::Down { reason, refusal },
                    ..
                }) = self.links.remove(&link)
                {
                    self.input(
                        now,
                        ClusterInput::LinkDown {
                            link,
                            reason,
                            refusal,
                        },
                    );
                }
            }
            Step::Flush(link) => {
                if let Some(state) = self.links.get_mut(&link) {
                    state.flush_planned = false;
                }
                self.flush(now, link, false);
            }
            Step::HandshakeTimeout(link) => {
                let state = self.links.get(&link);
                if state
                    .is_some_and(|state| !matches!(state.stage, Stage::Up(_) | Stage::Down { .. }))
                {
                    self.take_down(link, "handshake timeout".into(), None);
                }
            }
            Step::Process(_) => {}
        }
    }

    pub(super) fn plan_timeout(&mut self, link: LinkId) {
        self.effects.push_back(Effect::Later {
            after: HANDSHAKE_TIMEOUT_MS * 1000,
            step: Step::HandshakeTimeout(link),
        });
    }

    fn later(&mut self, step: Step) {
        let after = self.rng.below(3_000);
        self.effects.push_back(Effect::Later { after, step });
    }

    /// Queues a message on a link, if it is up.
    pub(super) fn send(&mut self, now: Millis, link: LinkId, message: &WireMessage) {
        self.queue(now, link, message.lane(), |out| message.encode(out));
    }

    pub(super) fn queue(
        &mut self,
        now: Millis,
        link: LinkId,
        lane: Lane,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if !matches!(state.stage, Stage::Up(_)) {
            return;
        }
        if let Err(error) = state.writer.push_with(lane, encode) {
            self.broken(error.to_string());
        } else {
            self.most_queued = self.most_queued.max(state.writer.queued_bytes());
        }
        self.flush(now, link, false);
    }

    fn broken(&mut self, what: String) {
        self.effects.push_back(Effect::Notice(Notice::Broken(what)));
    }

    fn write_handshake(&mut self, now: Millis, link: LinkId, message: Vec<u8>) {
        if let Some(state) = self.links.get_mut(&link) {
            let _ = state.writer.push(Lane::Control, message.into());
        }
        self.flush(now, link, true);
    }

    /// Hands some of what waits to the network, in pieces, as far as it takes any; all of it
    /// at `once`.
    pub(super) fn flush(&mut self, now: Millis, link: LinkId, once: bool) {
        let target = self.rng.between(1, 150_000) as usize;
        let split = self.rng.below(4) == 0;
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let Some((conn, side)) = state.conn else {
            return;
        };
        let target = if once {
            usize::MAX
        } else if state.flush_planned {
            return;
        } else {
            target.min(state.window)
        };
        let mut batch = Batch::default();
        state.writer.fill(&mut batch, target);
        if batch.is_empty() {
            return;
        }
        let mut bytes = batch.slices().collect::<Vec<_>>().concat();
        state.window = state.window.saturating_sub(bytes.len());
        let rest = !state.writer.is_empty() && state.window > 0;
        state.flush_planned |= rest;
        if split {
            let at = self.rng.below(bytes.len() as u64) as usize;
            let second = bytes.split_off(at);
            if !bytes.is_empty() {
                self.effects.push_back(Effect::Write { conn, side, bytes });
            }
            bytes = second;
        }
        self.effects.push_back(Effect::Write { conn, side, bytes });
        self.session(now, link, SessionInput::Sent);
        if rest && !once {
            self.later(Step::Flush(link));
        }
    }

    pub(super) fn session(&mut self, now: Millis, link: LinkId, input: SessionInput) {
        let Some(Link {
            stage: Stage::Up(session),
            ..
        }) = self.links.get_mut(&link)
        else {
            return;
        };
        session.handle(now, input);
        while let Some(Link {
            stage: Stage::Up(session),
            ..
        }) = self.links.get_mut(&link)
            && let Some(output) = session.poll_output()
        {
            match output {
                SessionOutput::SendTick => self.send(now, link, &WireMessage::Tick),
                SessionOutput::Down { silent_ms } => {
                    self.take_down(link, format!("silent for {silent_ms} ms"), None);
                }
            }
        }
    }

    pub(super) fn take_down(&mut self, link: LinkId, reason: String, refusal: Option<Refusal>) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if matches!(state.stage, Stage::Down { .. }) {
            return;
        }
        state.stage = Stage::Down { reason, refusal };
        if let Some((conn, side)) = state.conn {
            self.effects.push_back(Effect::Close { conn, side });
        }
        self.later(Step::Down(link));
    }

    fn fail(&mut self, now: Millis, link: LinkId, failed: Failed) {
        if let Some(reply) = failed.reply {
            self.write_handshake(now, link, reply);
        }
        let refusal = match &failed.error {
            HandshakeError::RefusedByPeer(refusal) | HandshakeError::Refused(refusal) => {
                Some(refusal.clone())
            }
            HandshakeError::Malformed(what) => {
                self.broken((*what).into());
                None
            }
            _ => None,
        };
        self.take_down(link, failed.error.to_string(), refusal);
    }

    /// Handles the messages that wait, up to one whose handling takes time.
    fn read(&mut self, now: Millis, link: LinkId) {
        loop {
            let Some(state) = self.links.get_mut(&link) else {
                return;
            };
            let waits = matches!(
                state.stage,
                Stage::Connecting { .. }
                    | Stage::Greeted(_)
                    | Stage::Asked(_)
                    | Stage::Agreed(_)
                    | Stage::Down { .. }
            );
            if waits {
                return;
            }
            let message = match state.reader.next_message() {
                Ok(Some((_, payload))) if matches!(state.stage, Stage::Up(_)) => {
                    match codec::decode(&payload) {
                        Ok(message) => Ok(message),
                        Err(error) => {
                            return self.broken(error.to_string());
                        }
                    }
                }
                Ok(Some((_, payload))) => Err(payload.as_slice().to_vec()),
                Ok(None) => return,
                Err(error) => {
                    return self.broken(error.to_string());
                }
            };
            match message {
                Ok(message) => self.on_message(now, link, message),
                Err(handshake) => self.on_handshake(now, link, &handshake),
            }
        }
    }

    fn on_message(&mut self, now: Millis, link: LinkId, message: WireMessage) {
        match message {
            WireMessage::Signal {
                to: Target::Pid(to),
                signal,
                ..
            } => {
                if let Some((conn, _)) = self.links.get(&link).and_then(|state| state.conn) {
                    self.signal_arrived(now, conn, to, signal);
                }
            }
            WireMessage::Tick => {}
            message => self.input(now, ClusterInput::Message { link, message }),
        }
    }

    fn on_handshake(&mut self, now: Millis, link: LinkId, message: &[u8]) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let down = Stage::Down {
            reason: String::new(),
            refusal: None,
        };
        let stage = std::mem::replace(&mut state.stage, down);
        let next = match stage {
            Stage::Dialling(dialling) => dialling.on_message(message).map(Stage::Greeted),
            Stage::Accepting(accepting) => accepting.on_message(message).map(Stage::Asked),
            Stage::Confirming(confirming) => confirming.on_message(message).map(Stage::Agreed),
            other => Ok(other),
        };
        match next {
            Ok(stage) => {
                let step = if matches!(stage, Stage::Agreed(_)) {
                    Step::Up(link)
                } else {
                    Step::Judge(link)
                };
                state.stage = stage;
                self.later(step);
            }
            Err(failed) => {
                state.stage = Stage::Connecting {
                    asked: false,
                    expected: None,
                };
                self.fail(now, link, failed);
            }
        }
    }

    fn judge(&mut self, now: Millis, link: LinkId) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let peer = match &state.stage {
            Stage::Greeted(greeted) => greeted.peer().clone(),
            Stage::Asked(asked) => asked.peer().clone(),
            _ => return,
        };
        let verdict = self.cluster.judge(link, &peer);
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let stage = std::mem::replace(
            &mut state.stage,
            Stage::Connecting {
                asked: false,
                expected: None,
            },
        );
        match (stage, verdict) {
            (Stage::Greeted(greeted), Ok(())) => {
                let (peer, message) = greeted.accept();
                state.stage = Stage::Agreed(peer);
                self.write_handshake(now, link, message);
                self.later(Step::Up(link));
            }
            (Stage::Asked(asked), Ok(())) => {
                let (confirming, message) = asked.accept();
                state.stage = Stage::Confirming(confirming);
                self.write_handshake(now, link, message);
                self.read(now, link);
            }
            (Stage::Greeted(greeted), Err(refusal)) => {
                self.fail(now, link, greeted.refuse(refusal))
            }
            (Stage::Asked(asked), Err(refusal)) => self.fail(now, link, asked.refuse(refusal)),
            _ => {}
        }
    }

    fn up(&mut self, now: Millis, link: LinkId) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let Stage::Agreed(peer) = &state.stage else {
            return;
        };
        let peer = peer.clone();
        let session = Session::new(now, TICK_TIME_MS, peer.tick_time_ms, self.rng.bits());
        if let Some(at) = session.next_deadline() {
            self.sessions.insert((at, link));
        }
        state.stage = Stage::Up(session);
        state.reader.set_limit(MAX_MESSAGE_BYTES);
        self.input(now, ClusterInput::LinkUp { link, peer });
        self.read(now, link);
    }
}

impl Link {
    pub(super) fn new(conn: Option<(ConnId, usize)>, stage: Stage) -> Self {
        let reader = FrameReader::new(MAX_HANDSHAKE_BYTES);
        Self {
            conn,
            stage,
            writer: FrameWriter::new(),
            reader,
            flush_planned: false,
            window: WINDOW_BYTES,
        }
    }
}
