//! What nodes want of the world, carried out: bytes, dials, delays; and what they say, shown
//! to the invariants.

use wasm_node_protocol::cluster::ClusterOutput;
use wasm_node_protocol::membership::{DialTarget, LinkId};
use wasm_node_protocol::{Incarnation, Millis};

use super::{Event, World};
use crate::sim::invariants::{Broken, Seen};
use crate::sim::network::{Arrival, ConnId, Micros, NodeIndex, Path};
use crate::sim::node::{Effect, Notice, SimNode, Step};
use crate::sim::process::{Fact, Message};
use crate::sim::trace::{Topic, Trace};

/// The longest that anything takes from node to node on a good path, in microseconds.
const MAX_DELAY_US: Micros = 15_000;

/// The longest pause between two reads of a slow reader, in microseconds.
const SLOW_READ_US: Micros = 60_000;

impl World {
    /// Lets a node do something, then carries out what it wants.
    pub(super) fn with<T>(
        &mut self,
        index: NodeIndex,
        act: impl FnOnce(&mut SimNode, Millis) -> T,
    ) -> Option<T> {
        let now = self.clocks[index].at(self.now);
        self.shown[index] = now;
        let node = self.nodes[index].as_mut()?;
        let done = act(node, now);
        let run = node.incarnation;
        while let Some(effect) = self.nodes[index].as_mut().and_then(SimNode::poll_effect) {
            self.effect(index, run, effect);
        }
        self.check_all(|invariant, view| invariant.after_step(view, index));
        let deadline = self.nodes[index].as_ref().and_then(SimNode::next_deadline);
        if let Some(at) = deadline {
            let at = self.clocks[index].when(at).max(self.now + 1);
            if self.wakes[index].is_none_or(|planned| at < planned) {
                self.wakes[index] = Some(at);
                self.plan_in(at - self.now, Event::Wake { node: index, run });
            }
        }
        Some(done)
    }

    fn effect(&mut self, node: NodeIndex, run: Incarnation, effect: Effect) {
        match effect {
            Effect::Dial { link, target } => {
                let delay = self.delay();
                self.plan_in(
                    delay,
                    Event::DialArrives {
                        from: node,
                        run,
                        link,
                        target,
                    },
                );
            }
            Effect::Write { conn, side, bytes } => {
                self.mesh.wrote(bytes.len());
                self.transmit(conn, side, Arrival::Bytes(bytes));
            }
            Effect::Close { conn, side } => {
                let at = self.now + self.delay();
                if let Some(at) = self.network.close(conn, side, at) {
                    let side = 1 - side;
                    self.plan_in(at - self.now, Event::Deliver { conn, side });
                }
            }
            Effect::Later { after, step } => self.plan_in(after, Event::Step { node, run, step }),
            Effect::Notice(notice) => self.notice(node, notice),
        }
    }

    fn notice(&mut self, node: NodeIndex, notice: Notice) {
        match notice {
            Notice::Output(output) => {
                self.mesh.saw(&output);
                match &output {
                    ClusterOutput::NodeUp { .. } => self.stats.node_ups += 1,
                    ClusterOutput::Resolve {
                        question,
                        own,
                        other,
                        ..
                    } => {
                        let asked = (node, own.node, *question, [*own, *other]);
                        self.questions.push(asked);
                    }
                    _ => {}
                }
                let (topic, tell) = topic_of(&output);
                if tell {
                    self.note(topic, &[node], |trace| {
                        format!("n{node}: {}", trace.words(&format!("{output:?}")))
                    });
                }
                self.see(node, &Seen::Output(&output));
            }
            Notice::Arrived { conn, to, body } => {
                let body = &body;
                self.see(node, &Seen::Arrived { conn, to, body });
            }
            Notice::Process(fact) => {
                self.note(Topic::Actors, &[node], |trace| {
                    format!("n{node}: {}", fact_in_words(trace, &fact))
                });
                self.see(node, &Seen::Process(&fact));
            }
            Notice::Broken(what) => {
                let what = format!("n{node}: {what}");
                let nodes = vec![node];
                let topics = vec![Topic::Membership];
                let broken = Broken { what, nodes };
                self.failed
                    .get_or_insert(("nobody breaks the protocol", topics, broken));
            }
        }
    }

    pub(super) fn delay(&mut self) -> Micros {
        // Mostly quick, sometimes slow: reorders what different links carry.
        let limit = if self.rng.chance(80) {
            MAX_DELAY_US / 10
        } else {
            MAX_DELAY_US
        };
        self.rng.between(50, limit)
    }

    fn transmit(&mut self, conn: ConnId, side: usize, arrival: Arrival) {
        let mut at = self.now + self.delay();
        let ends = [0, 1].map(|side| self.network.end(conn, side).map(|end| end.node));
        if let [Some(dialler), Some(acceptor)] = ends {
            let (from, to) = match side {
                0 => (dialler, acceptor),
                _ => (acceptor, dialler),
            };
            at += self.network.slower(from, to);
        }
        if let Some(at) = self.network.send(conn, side, at, arrival) {
            let side = 1 - side;
            self.plan_in(at - self.now, Event::Deliver { conn, side });
        }
    }

    /// Whose event it is.
    pub(super) fn concerns(&self, event: &Event) -> Option<NodeIndex> {
        match event {
            Event::Deliver { conn, side } | Event::Trickle { conn, side } => {
                self.network.end(*conn, *side).map(|end| end.node)
            }
            Event::Step { node, .. } | Event::Wake { node, .. } => Some(*node),
            Event::DialArrives { from, target, .. } => {
                let target = self.target(target);
                target.filter(|target| self.network.both_ways(*from, *target) == Path::Open)
            }
            _ => None,
        }
    }

    pub(super) fn deliver(&mut self, conn: ConnId, side: usize) {
        if self.trickling.contains(&(conn, side)) {
            return;
        }
        while self.receive(conn, side) {
            let reader = self.network.end(conn, side).map(|end| end.node);
            if reader.is_some_and(|node| self.slow.contains(&node)) {
                self.trickling.insert((conn, side));
                let pause = self.rng.below(SLOW_READ_US);
                return self.plan_in(pause, Event::Trickle { conn, side });
            }
        }
    }

    /// A slow reader reads one piece, and goes on later if there is more.
    pub(super) fn trickle(&mut self, conn: ConnId, side: usize) {
        self.trickling.remove(&(conn, side));
        self.deliver(conn, side);
    }

    /// Takes one piece out of a connection; whether there was one.
    fn receive(&mut self, conn: ConnId, side: usize) -> bool {
        let Some((end, arrival)) = self.network.receive(conn, side, self.now) else {
            return false;
        };
        match arrival {
            Arrival::Bytes(bytes) => {
                let writer = self.network.end(conn, 1 - side).filter(|end| end.open);
                if let Some(writer) = writer
                    && let Some(node) = self.nodes[writer.node].as_mut()
                    && node.credit(writer.link, bytes.len())
                {
                    let (run, step) = (node.incarnation, Step::Flush(writer.link));
                    let node = writer.node;
                    let delay = self.delay();
                    self.plan_in(delay, Event::Step { node, run, step });
                }
                self.with(end.node, |node, now| node.received(now, end.link, &bytes));
            }
            Arrival::Closed(reason) => {
                self.with(end.node, |node, _| node.closed(end.link, reason));
            }
        }
        true
    }

    fn target(&self, target: &DialTarget) -> Option<NodeIndex> {
        let place = match target {
            DialTarget::Node { name, .. } => name.as_str(),
            DialTarget::Address(address) => address,
        };
        self.places.get(place).copied()
    }

    pub(super) fn dial_arrives(
        &mut self,
        from: NodeIndex,
        run: Incarnation,
        link: LinkId,
        target: &DialTarget,
    ) {
        if !self.is_run(from, run) {
            return;
        }
        let to = self.target(target);
        let path = to.map_or(Path::Open, |to| self.network.both_ways(from, to));
        match to.filter(|to| self.nodes[*to].is_some()) {
            _ if path == Path::Silent => {} // The handshake's time-out will tell.
            Some(to) if path == Path::Open => {
                let mut conn = None;
                let network = &mut self.network;
                if let Some(node) = &mut self.nodes[to] {
                    node.accepted(|accepted| {
                        let id = network.open((from, link), (to, accepted));
                        conn = Some(id);
                        id
                    });
                }
                self.with(to, |_, _| ());
                if let Some(conn) = conn {
                    self.with(from, |node, now| node.connected(now, link, conn));
                }
            }
            _ => {
                self.with(from, |node, _| node.dial_failed(link, "connection refused"));
            }
        }
    }
}

/// What an output is about, and whether a line of the trace is worth it.
fn topic_of(output: &ClusterOutput) -> (Topic, bool) {
    use wasm_node_protocol::codec::WireMessage;
    match output {
        ClusterOutput::Send { message, .. } => match message {
            WireMessage::Membership(_) => (Topic::Membership, true),
            WireMessage::Global(_) => (Topic::Names, true),
            WireMessage::Groups(_) => (Topic::Groups, true),
            _ => (Topic::Other, false),
        },
        ClusterOutput::Dial { .. }
        | ClusterOutput::Close { .. }
        | ClusterOutput::NodeUp { .. }
        | ClusterOutput::NodeDown { .. }
        | ClusterOutput::Connected { .. } => (Topic::Membership, true),
        ClusterOutput::Registered { .. }
        | ClusterOutput::NameInstalled { .. }
        | ClusterOutput::NameRemoved { .. }
        | ClusterOutput::NameConflict { .. }
        | ClusterOutput::Resolve { .. } => (Topic::Names, true),
        ClusterOutput::GroupChanged { .. } => (Topic::Groups, true),
        #[allow(unreachable_patterns, reason = "new outputs need no line here")]
        _ => (Topic::Other, true),
    }
}

fn fact_in_words(trace: &Trace, fact: &Fact) -> String {
    let name = |pid: &wasm_node_protocol::Pid| trace.actor(*pid);
    let cut = |connected: &bool| {
        if *connected { "" } else { " (no connection)" }
    };
    match fact {
        Fact::Began(pid) => format!("{} begins", name(pid)),
        Fact::Ended(pid, reason) => format!("{} ends: {reason}", name(pid)),
        Fact::Message { to, message } => match message {
            Message::Down { tag, pid, reason } => format!(
                "{} hears by monitor {} that {} ended: {reason}",
                name(to),
                tag.serial,
                name(pid)
            ),
            Message::Exit { from, reason } => format!(
                "{} gets an exit signal of {}: {reason}",
                name(to),
                name(from)
            ),
            Message::Response { tag, result } => {
                let how = match result {
                    Ok(_) => "a reply".to_owned(),
                    Err(error) => error.to_string(),
                };
                format!("{} gets to request {}: {how}", name(to), tag.serial)
            }
            Message::Request { from, tag, .. } => format!(
                "{} is asked by {}: request {}",
                name(to),
                name(from),
                tag.serial
            ),
            message => {
                let mut text = format!("{message:?}");
                text.truncate(60);
                format!("{} gets {text}", name(to))
            }
        },
        Fact::Monitors {
            by,
            tag,
            of,
            connected,
        } => format!(
            "{} monitors {} by {}{}",
            name(by),
            name(of),
            tag.serial,
            cut(connected)
        ),
        Fact::Demonitors(tag) => format!("monitor {} is given up", tag.serial),
        Fact::Links { by, to, connected } => {
            format!("{} links to {}{}", name(by), name(to), cut(connected))
        }
        Fact::Unlinks { by, to } => format!("{} unlinks from {}", name(by), name(to)),
        Fact::LinkArrived { at, from } => format!("{} is linked by {}", name(at), name(from)),
        Fact::UnlinkArrived { at, from } => format!("{} is unlinked by {}", name(at), name(from)),
        Fact::Asks {
            by,
            tag,
            of,
            deadline,
            connected,
        } => {
            let until = deadline.map_or(String::new(), |at| format!(", until {} ms", at.0));
            format!(
                "{} asks {}: request {}{until}{}",
                name(by),
                name(of),
                tag.serial,
                cut(connected)
            )
        }
    }
}
