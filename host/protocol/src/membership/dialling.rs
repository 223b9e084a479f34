//! Dials: those that users ask for, and those that bring lost nodes back.
//!
//! Owns the requests that wait for a connection and the pauses between tries. Which link
//! survives, and what its coming up means, is the parent's.

use super::{DialTarget, Link, LinkId, MAX_PEERS, Membership, MembershipOutput, Node, Stage};
use crate::global::RequestId;
use crate::handshake::{MAX_ADDRESS_BYTES, Refusal};
use crate::ids::NodeName;
use crate::time::{Millis, next_random};

/// The first pause before a lost node is dialled again, in milliseconds (half to all of it).
pub const REDIAL_MIN_MS: u64 = 250;

/// The longest pause between dials of a lost node, in milliseconds (half to all of it).
pub const REDIAL_MAX_MS: u64 = 5_000;

/// For how long a lost node is dialled, in milliseconds (a day). Then it must come by itself.
pub const REDIAL_FOR_MS: u64 = 24 * 3600 * 1000;

/// How long a connect request waits, in milliseconds, when another dial is in the way.
pub const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// The most connect requests that wait; more are answered with an error at once.
pub const MAX_CONNECT_REQUESTS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Retry {
    pub(super) attempts: u32,
    pub(super) at: Option<Millis>,
    pub(super) since: Millis,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) waits_for: WaitsFor,
    pub(super) deadline: Millis,
}

#[derive(Debug, PartialEq)]
pub(super) enum WaitsFor {
    Node(NodeName),
    Link(LinkId),
}

impl Membership {
    pub(super) fn dial(&mut self, target: DialTarget, asked: bool) -> LinkId {
        let link = self.new_link(Link::Dialled {
            target: target.clone(),
            asked,
            stage: Stage::Connecting,
        });
        self.outputs.push_back(MembershipOutput::Dial {
            link,
            target,
            asked,
        });
        link
    }

    pub(super) fn answer(&mut self, request: RequestId, result: Result<NodeName, String>) {
        self.outputs
            .push_back(MembershipOutput::Connected { request, result });
    }

    pub(super) fn answer_waiting(
        &mut self,
        waits_for: &WaitsFor,
        result: &Result<NodeName, String>,
    ) {
        let answered = self
            .requests
            .extract_if(.., |request| request.waits_for == *waits_for);
        let answered: Vec<_> = answered.map(|request| request.id).collect();
        answered
            .into_iter()
            .for_each(|id| self.answer(id, result.clone()));
    }

    pub(super) fn connect(&mut self, now: Millis, id: RequestId, target: DialTarget, keep: bool) {
        if self.leaving {
            return self.answer(id, Err("this node is stopping".into()));
        }
        if self.requests.len() >= MAX_CONNECT_REQUESTS {
            return self.answer(id, Err("too many connection requests are waiting".into()));
        }
        let deadline = now + CONNECT_TIMEOUT_MS;
        let waits_for = match target {
            DialTarget::Address(address) => {
                if keep {
                    self.seeds.insert(
                        address.clone(),
                        Retry {
                            since: now,
                            ..Retry::default()
                        },
                    );
                }
                WaitsFor::Link(self.dial(DialTarget::Address(address), true))
            }
            DialTarget::Node { name, .. } if name == self.own.name => {
                return self.answer(id, Ok(name));
            }
            DialTarget::Node { name, address } => {
                if !self.nodes.contains_key(&name) && self.nodes.len() >= MAX_PEERS {
                    return self.answer(
                        id,
                        Err(format!("this node knows {MAX_PEERS} others already")),
                    );
                }
                let node = self.nodes.entry(name.clone()).or_default();
                node.cut = None;
                node.address = address.or(node.address.take());
                node.keep |= keep;
                node.wanted |= keep;
                if node.up.is_some() {
                    return self.answer(id, Ok(name));
                }
                node.asked = true;
                node.retry = Retry {
                    since: now,
                    ..Retry::default()
                };
                if !self.is_dialling(&name) {
                    self.dial_node(&name);
                }
                WaitsFor::Node(name)
            }
        };
        self.requests.push(Request {
            id,
            waits_for,
            deadline,
        });
        self.wake_at(deadline);
    }

    pub(super) fn is_dialling(&self, wanted: &NodeName) -> bool {
        self.courting(wanted).any(|(_, link)| match link {
            Link::Dialled {
                target: DialTarget::Node { name, .. },
                ..
            } => name == wanted,
            Link::Accepted { answered } => answered.as_ref() == Some(wanted),
            _ => false,
        })
    }

    pub(super) fn dial_node(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        node.retry.at = None;
        let (address, asked) = (node.address.clone(), node.asked);
        self.dial(
            DialTarget::Node {
                name: name.clone(),
                address,
            },
            asked,
        );
    }

    pub(super) fn dial_failed(
        &mut self,
        now: Millis,
        link: LinkId,
        target: DialTarget,
        reason: &str,
        refusal: Option<&Refusal>,
    ) {
        match target {
            DialTarget::Address(address) => {
                if let Some(retry) = self.seeds.get_mut(&address) {
                    match refusal {
                        // Whoever listens there is connected, or is this node.
                        Some(Refusal::AlreadyConnected | Refusal::SelfConnect) => {
                            self.seeds.remove(&address);
                        }
                        _ => {
                            let at = retry.schedule(now, &mut self.random);
                            self.wake_at(at);
                        }
                    }
                }
                self.answer_waiting(&WaitsFor::Link(link), &Err(reason.into()));
            }
            DialTarget::Node { name, .. } => {
                let Some(node) = self.nodes.get_mut(&name) else {
                    return;
                };
                match refusal {
                    Some(Refusal::Disconnected | Refusal::Superseded | Refusal::SameName(_)) => {
                        (node.wanted, node.keep) = (false, false);
                    }
                    Some(Refusal::Unexpected { .. }) => node.address = None,
                    _ => {}
                }
                let asked = node.asked & node.keep;
                // One that was cut a moment ago may still have the old link: ask it again.
                let waits_for = WaitsFor::Node(name.clone());
                let stale = refusal == Some(&Refusal::AlreadyConnected)
                    && self.requests.iter().any(|r| r.waits_for == waits_for);
                if node.up.is_none() && (node.wanted || stale) {
                    let at = node.retry.schedule(now, &mut self.random);
                    self.wake_at(at);
                }
                // Another link to the node is on its way: requests wait for that one.
                if matches!(
                    refusal,
                    Some(Refusal::Simultaneous | Refusal::AlreadyConnected)
                ) {
                    return;
                }
                if let Some(node) = self.nodes.get_mut(&name) {
                    node.asked = asked;
                }
                self.answer_waiting(&WaitsFor::Node(name.clone()), &Err(reason.into()));
                self.forget_if_unused(&name);
            }
        }
    }

    pub(super) fn forget_if_unused(&mut self, name: &NodeName) {
        let unused = |node: &Node| node.up.is_none() && !node.wanted && node.cut.is_none();
        let waited_for = WaitsFor::Node(name.clone());
        if self.nodes.get(name).is_some_and(unused)
            && !self
                .requests
                .iter()
                .any(|request| request.waits_for == waited_for)
        {
            self.nodes.remove(name);
        }
    }

    /// A peer is linked to this node.
    pub(super) fn learn(&mut self, now: Millis, name: NodeName, address: Option<String>) {
        // Most of what peers tell is known: in a large cluster each tells of nearly all.
        let known = self.nodes.get(&name);
        if known.is_some_and(|node| node.up.is_some() || node.cut.is_some()) {
            return;
        }
        let usable = address
            .as_ref()
            .is_none_or(|address| address.len() <= MAX_ADDRESS_BYTES);
        let possible = name != self.own.name && name.is_long() == self.own.name.is_long() && usable;
        if !possible || (!self.nodes.contains_key(&name) && self.nodes.len() >= MAX_PEERS) {
            return;
        }
        let node = self.nodes.entry(name.clone()).or_default();
        node.address = address.or(node.address.take());
        node.wanted = true;
        if !self.is_dialling(&name) {
            if let Some(node) = self.nodes.get_mut(&name) {
                node.retry = Retry {
                    since: now,
                    ..Retry::default()
                };
            }
            self.dial_node(&name);
        }
    }

    /// Something is due then.
    pub(super) fn wake_at(&mut self, at: Millis) {
        self.soonest = Some(self.soonest.map_or(at, |soonest| soonest.min(at)));
    }

    /// Does what is due: redials, and gives up what is late.
    pub fn timer(&mut self, now: Millis) {
        if self.soonest.is_none_or(|soonest| now < soonest) {
            return;
        }
        self.do_due(now);
        self.compare_views(now);
        let requests = self.requests.iter().map(|request| request.deadline);
        let nodes = self.nodes.values().filter_map(|node| node.retry.at);
        let seeds = self.seeds.values().filter_map(|retry| retry.at);
        let compare = self.gossip.deadline();
        self.soonest = requests.chain(nodes).chain(seeds).chain(compare).min();
    }

    fn do_due(&mut self, now: Millis) {
        let late = self
            .requests
            .extract_if(.., |request| request.deadline <= now);
        let late: Vec<_> = late
            .map(|request| (request.id, request.waits_for))
            .collect();
        for (id, waits_for) in late {
            #[cfg(feature = "mutations")]
            if self.mutations.forget_requests {
                continue;
            }
            let in_words = "no connection within the time-out";
            self.answer(id, Err(in_words.into()));
            if let WaitsFor::Node(name) = waits_for {
                self.forget_if_unused(&name);
            }
        }
        let due = |retry: &Retry| retry.at.is_some_and(|at| at <= now);
        let nodes = self.nodes.iter().filter(|(_, node)| due(&node.retry));
        let nodes: Vec<_> = nodes.map(|(name, _)| name.clone()).collect();
        for name in nodes {
            let busy = self.is_dialling(&name);
            let Some(node) = self.nodes.get_mut(&name) else {
                continue;
            };
            if now - node.retry.since > REDIAL_FOR_MS && !node.keep {
                node.wanted = false;
                node.retry.at = None;
                self.forget_if_unused(&name);
            } else if busy {
                let at = node.retry.schedule(now, &mut self.random);
                self.wake_at(at);
            } else {
                self.dial_node(&name);
            }
        }
        let seeds = self.seeds.iter_mut().filter(|(_, retry)| due(retry));
        let seeds: Vec<_> = seeds
            .map(|(address, retry)| {
                retry.at = None;
                address.clone()
            })
            .collect();
        for address in seeds {
            self.dial(DialTarget::Address(address), true);
        }
    }
}

impl Retry {
    /// Plans the next try; when it is.
    pub(super) fn schedule(&mut self, now: Millis, random: &mut u64) -> Millis {
        let pause = (REDIAL_MIN_MS << self.attempts.min(16)).min(REDIAL_MAX_MS);
        self.attempts += 1;
        let at = now + (pause / 2 + next_random(random) % (pause / 2 + 1));
        self.at = Some(at);
        at
    }
}
