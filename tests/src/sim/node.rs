//! One simulated node: the shell that real sockets would have, in virtual time.
//!
//! Owns its cluster machine and, for each link, a handshake, a session, a frame writer and
//! a frame reader. It turns arriving bytes into inputs and outputs into [`Effect`]s for the
//! world. Steps that a real shell spreads over tasks (answering a hello, telling that a link
//! is up) take random time here too.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use wasm_node_protocol::cluster::{Cluster, ClusterInput, ClusterOutput};
use wasm_node_protocol::codec::{self, Metadata, WireMessage};
use wasm_node_protocol::frame::{Batch, FrameReader, FrameWriter, Lane, MAX_MESSAGE_BYTES};
use wasm_node_protocol::global::Mutations;
use wasm_node_protocol::handshake::{
    Accepting, Asked, Confirming, Dialling, Failed, Greeted, HandshakeError, Hello,
    MAX_HANDSHAKE_BYTES, Peer, Refusal,
};
use wasm_node_protocol::membership::{DialTarget, LinkId, MembershipInput};
use wasm_node_protocol::session::{Session, SessionInput, SessionOutput};
use wasm_node_protocol::{Incarnation, Millis, NodeKind, NodeName, Pid, Signal, Target};

use super::network::{ConnId, Micros};
use super::rng::Rng;

/// The tick time of simulated nodes, in milliseconds.
pub const TICK_TIME_MS: u32 = 4_000;

/// What a node wants of the world.
#[derive(Debug)]
pub enum Effect {
    /// Connect.
    Dial { link: LinkId, target: DialTarget },
    /// These bytes go out.
    Write {
        conn: ConnId,
        side: usize,
        bytes: Vec<u8>,
    },
    /// This end closes.
    Close { conn: ConnId, side: usize },
    /// Call [`SimNode::step`] with this, so much later.
    Later { after: Micros, step: Step },
    /// Something the checks want to know.
    Notice(Notice),
}

/// What the checks want to know.
#[derive(Debug)]
pub enum Notice {
    /// The cluster machine said so.
    Output(ClusterOutput),
    /// A signal arrived.
    Signal {
        conn: ConnId,
        from: Pid,
        to: Pid,
        body: Bytes,
    },
    /// The peer, or we, broke the protocol: never right in a simulation.
    Broken(String),
}

/// A step of a link that takes time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Judge the peer whose hello was read.
    Judge(LinkId),
    /// Tell the cluster that the link is up.
    Up(LinkId),
    /// Tell the cluster that the link is down.
    Down(LinkId),
    /// Write what the last write left over.
    Flush(LinkId),
    /// The handshake's time is over.
    HandshakeTimeout(LinkId),
}

enum Stage {
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

struct Link {
    conn: Option<(ConnId, usize)>,
    stage: Stage,
    writer: FrameWriter,
    reader: FrameReader,
    flush_planned: bool,
}

/// One simulated node.
pub struct SimNode {
    /// Its name.
    pub name: NodeName,
    /// Its run.
    pub incarnation: Incarnation,
    /// Its part in the cluster.
    pub cluster: Cluster,
    /// Send large signals around the small ones: a mistake that the checks must find.
    pub reorder_signals: bool,
    links: BTreeMap<LinkId, Link>,
    rng: Rng,
    effects: VecDeque<Effect>,
}

impl SimNode {
    /// A node alone.
    pub fn new(
        name: NodeName,
        incarnation: Incarnation,
        kind: NodeKind,
        address: String,
        seed: u64,
    ) -> Self {
        let mut hello = Hello::new(name.clone(), incarnation, kind, TICK_TIME_MS);
        hello.address = Some(address);
        Self {
            name,
            incarnation,
            cluster: Cluster::new(hello, seed),
            reorder_signals: false,
            links: BTreeMap::new(),
            rng: Rng::new(!seed),
            effects: VecDeque::new(),
        }
    }

    /// Makes these mistakes from now on.
    pub fn mutate(&mut self, mutations: Mutations) {
        self.cluster.global_mut().mutate(mutations);
    }

    /// The next thing that it wants.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When it wants to be woken.
    pub fn next_deadline(&self) -> Option<Millis> {
        let sessions = self.links.values().filter_map(|link| match &link.stage {
            Stage::Up(session) => session.next_deadline(),
            _ => None,
        });
        sessions.chain(self.cluster.next_deadline()).min()
    }

    /// The connection to a node that is up here.
    pub fn conn_to(&self, name: &NodeName) -> Option<ConnId> {
        let (link, _) = self.cluster.peers().find(|(_, peer)| peer.name == *name)?;
        self.links.get(&link)?.conn.map(|(conn, _)| conn)
    }

    /// Passes something to the cluster.
    pub fn input(&mut self, now: Millis, input: impl Into<ClusterInput>) {
        self.cluster.handle(now, input);
        self.carry_out(now);
    }

    /// Joins or leaves a group.
    pub fn group(&mut self, now: Millis, group: &str, pid: Pid, join: bool) -> bool {
        let done = if join {
            self.cluster.join(now, group, pid).is_ok()
        } else {
            self.cluster.leave(now, group, pid)
        };
        self.carry_out(now);
        done
    }

    /// Gives up a global name.
    pub fn unregister(&mut self, now: Millis, name: &str) -> bool {
        let done = self.cluster.unregister(now, name);
        self.carry_out(now);
        done
    }

    /// A deadline may have passed.
    pub fn wake(&mut self, now: Millis) {
        let links: Vec<_> = self.links.keys().copied().collect();
        links
            .into_iter()
            .for_each(|link| self.session(now, link, SessionInput::Timer));
        self.input(now, ClusterInput::Timer);
    }

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

    /// Something planned is due.
    pub fn step(&mut self, now: Millis, step: Step) {
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
                        MembershipInput::LinkDown {
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
        }
    }

    /// Sends a signal to an actor of a peer that is up.
    pub fn signal(&mut self, now: Millis, from: Pid, to: Pid, peer: &NodeName, body: Bytes) {
        let Some((link, _)) = self.cluster.peers().find(|(_, up)| up.name == *peer) else {
            return;
        };
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let large = body.len() > 64 * 1024;
        let signal = Signal::Request {
            from,
            tag: wasm_node_protocol::Ref {
                node: from.node,
                serial: 0,
            },
            body,
        };
        let lane = if large && self.reorder_signals {
            Lane::Bulk
        } else {
            Lane::Signal
        };
        let target = Target::Pid(to);
        let pushed = state.writer.push_with(lane, |out| {
            codec::encode_signal(&target, &Metadata::default(), &signal, out)
        });
        if let Err(error) = pushed {
            self.effects
                .push_back(Effect::Notice(Notice::Broken(error.to_string())));
        }
        self.flush(now, link, false);
    }

    fn carry_out(&mut self, now: Millis) {
        while let Some(output) = self.cluster.poll_output() {
            match &output {
                ClusterOutput::Dial {
                    link,
                    target,
                    asked,
                } => {
                    let expected = match target {
                        DialTarget::Node { name, .. } => Some(name.clone()),
                        DialTarget::Address(_) => None,
                    };
                    self.links.insert(
                        *link,
                        Link::new(
                            None,
                            Stage::Connecting {
                                asked: *asked,
                                expected,
                            },
                        ),
                    );
                    self.plan_timeout(*link);
                    self.effects.push_back(Effect::Dial {
                        link: *link,
                        target: target.clone(),
                    });
                }
                ClusterOutput::Send { link, message } => self.send(now, *link, message),
                ClusterOutput::Close { link, reason } => {
                    self.flush(now, *link, true);
                    self.take_down(*link, reason.clone(), None);
                }
                _ => {}
            }
            self.effects
                .push_back(Effect::Notice(Notice::Output(output)));
        }
    }

    fn plan_timeout(&mut self, link: LinkId) {
        let after = wasm_node_protocol::handshake::HANDSHAKE_TIMEOUT_MS * 1000;
        self.effects.push_back(Effect::Later {
            after,
            step: Step::HandshakeTimeout(link),
        });
    }

    fn later(&mut self, step: Step) {
        let after = self.rng.below(3_000);
        self.effects.push_back(Effect::Later { after, step });
    }

    fn send(&mut self, now: Millis, link: LinkId, message: &WireMessage) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if !matches!(state.stage, Stage::Up(_)) {
            return;
        }
        if let Err(error) = state
            .writer
            .push_with(message.lane(), |out| message.encode(out))
        {
            self.effects
                .push_back(Effect::Notice(Notice::Broken(error.to_string())));
        }
        self.flush(now, link, false);
    }

    fn write_handshake(&mut self, now: Millis, link: LinkId, message: Vec<u8>) {
        if let Some(state) = self.links.get_mut(&link) {
            let _ = state.writer.push(Lane::Control, message.into());
        }
        self.flush(now, link, true);
    }

    /// Hands some of what waits to the network, in pieces; all of it at `once`.
    fn flush(&mut self, now: Millis, link: LinkId, once: bool) {
        let target = if once {
            usize::MAX
        } else {
            self.rng.between(1, 150_000) as usize
        };
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let Some((conn, side)) = state.conn else {
            return;
        };
        if state.flush_planned && !once {
            return;
        }
        let mut batch = Batch::default();
        state.writer.fill(&mut batch, target);
        let mut bytes = batch.slices().collect::<Vec<_>>().concat();
        let rest = !state.writer.is_empty();
        state.flush_planned |= rest;
        if !bytes.is_empty() {
            let split = self.rng.below(bytes.len() as u64) as usize;
            let second = bytes.split_off(split);
            for bytes in [bytes, second] {
                if !bytes.is_empty() {
                    self.effects.push_back(Effect::Write { conn, side, bytes });
                }
            }
            self.session(now, link, SessionInput::Sent);
        }
        if rest && !once {
            self.later(Step::Flush(link));
        }
    }

    fn session(&mut self, now: Millis, link: LinkId, input: SessionInput) {
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

    fn take_down(&mut self, link: LinkId, reason: String, refusal: Option<Refusal>) {
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
                self.effects
                    .push_back(Effect::Notice(Notice::Broken((*what).into())));
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
                            return self
                                .effects
                                .push_back(Effect::Notice(Notice::Broken(error.to_string())));
                        }
                    }
                }
                Ok(Some((_, payload))) => Err(payload.as_slice().to_vec()),
                Ok(None) => return,
                Err(error) => {
                    return self
                        .effects
                        .push_back(Effect::Notice(Notice::Broken(error.to_string())));
                }
            };
            match message {
                Ok(message) => self.on_message(now, link, message),
                Err(handshake) => self.on_handshake(now, link, &handshake),
            }
        }
    }

    fn on_message(&mut self, now: Millis, link: LinkId, message: WireMessage) {
        let conn = self.links.get(&link).and_then(|state| state.conn);
        match (message, conn) {
            (
                WireMessage::Signal {
                    to: Target::Pid(to),
                    signal: Signal::Request { from, body, .. },
                    ..
                },
                Some((conn, _)),
            ) => {
                self.effects.push_back(Effect::Notice(Notice::Signal {
                    conn,
                    from,
                    to,
                    body,
                }));
            }
            (WireMessage::Tick, _) => {}
            (message, _) => self.input(now, ClusterInput::Message { link, message }),
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
        state.stage = Stage::Up(session);
        state.reader.set_limit(MAX_MESSAGE_BYTES);
        self.input(now, MembershipInput::LinkUp { link, peer });
        self.read(now, link);
    }
}

impl Link {
    fn new(conn: Option<(ConnId, usize)>, stage: Stage) -> Self {
        let reader = FrameReader::new(MAX_HANDSHAKE_BYTES);
        Self {
            conn,
            stage,
            writer: FrameWriter::new(),
            reader,
            flush_planned: false,
        }
    }
}
