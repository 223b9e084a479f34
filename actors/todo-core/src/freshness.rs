//! Whether a worker may answer for what its list's entries are, or must first ask its peers what
//! it missed. A pure machine: time and events go in, decisions come out.
//!
//! A worker may have missed records while it did not run (its node was down), while its node was
//! cut off, or while its node was frozen. The last it can only tell by the clock: a gap between
//! two looks at it. Until it has caught up it holds loads back, within bounds: an answer that
//! might lack an acknowledged entry is worse than a late one, and no answer at all worse still.
//!
//! It does not know what catching up is, nor who asks.

use std::collections::BTreeMap;

/// A worker that did not run for so long, in milliseconds, may have been called down meanwhile
/// and have missed records. Well below the shortest time in which a node is called down.
pub const FROZEN_AFTER_MS: u64 = 1_000;

/// How long loads wait for one peer to be caught up with, in milliseconds from when it was seen.
pub const PEER_WAIT_MS: u64 = 2_000;

/// How long loads wait for any peer at all to be seen, in milliseconds from the worker's start.
/// Nodes that know each other meet within it.
pub const START_WAIT_MS: u64 = 1_000;

/// How long loads wait for any peer at all to answer, in milliseconds, after a freeze of a node
/// that had peers: two tick times, in which it is back among them.
pub const THAW_WAIT_MS: u64 = 8_000;

/// How often each peer is asked anyway, in milliseconds: what makes up for whatever got lost.
pub const PULL_EVERY_MS: u64 = 3_000;

/// How soon a peer is asked again that did not answer, in milliseconds.
pub const PULL_RETRY_MS: u64 = 500;

/// Where a worker stands with each of its peers.
#[derive(Debug)]
pub struct Freshness {
    peers: BTreeMap<String, Peer>,
    /// When the worker last looked at the clock.
    seen_ms: u64,
    /// Until when loads wait for an answer of any peer.
    alone_until_ms: u64,
    /// Whether any peer has answered since `alone_until_ms` was set.
    met: bool,
    rounds: u64,
}

/// A question to a peer. What is answered to one that was asked before the peer came back, or
/// before this node was frozen, does not count: it may be from before what was missed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The peer.
    pub node: String,
    round: u64,
}

#[derive(Debug)]
struct Peer {
    round: u64,
    asking: bool,
    ask_at_ms: u64,
    /// Until when loads wait for it; `None` once it has answered.
    wait_until_ms: Option<u64>,
}

/// How a peer answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It has nothing more that this worker lacks.
    CaughtUp,
    /// It has no such worker yet: its app is starting, or it does not run this app.
    Absent,
    /// It did not answer, or the answer could not be stored.
    Failed,
}

impl Freshness {
    /// A worker starts, with these nodes connected.
    pub fn new(now_ms: u64, nodes: impl IntoIterator<Item = String>) -> Self {
        let mut freshness = Self {
            peers: BTreeMap::new(),
            seen_ms: now_ms,
            alone_until_ms: now_ms + START_WAIT_MS,
            met: false,
            rounds: 0,
        };
        nodes
            .into_iter()
            .for_each(|node| freshness.node_up(now_ms, node));
        freshness
    }

    /// The worker looks at the clock: to be called before anything else is decided in a turn.
    pub fn look(&mut self, now_ms: u64) {
        let gap_ms = now_ms.saturating_sub(self.seen_ms);
        self.seen_ms = now_ms;
        if gap_ms < FROZEN_AFTER_MS || self.peers.is_empty() {
            return;
        }
        self.alone_until_ms = now_ms + THAW_WAIT_MS;
        self.met = false;
        for node in std::mem::take(&mut self.peers).into_keys() {
            self.node_up(now_ms, node);
        }
    }

    /// A node came up.
    pub fn node_up(&mut self, now_ms: u64, node: String) {
        self.rounds += 1;
        let peer = Peer {
            round: self.rounds,
            asking: false,
            ask_at_ms: now_ms,
            wait_until_ms: Some(now_ms + PEER_WAIT_MS),
        };
        self.peers.insert(node, peer);
    }

    /// A node went down.
    pub fn node_down(&mut self, node: &str) {
        self.peers.remove(node);
    }

    /// The peers to ask now; each counts as being asked until [`Freshness::answered`].
    pub fn to_ask(&mut self, now_ms: u64) -> Vec<Question> {
        let due = |peer: &Peer| !peer.asking && peer.ask_at_ms <= now_ms;
        let due = self.peers.iter_mut().filter(|(_, peer)| due(peer));
        due.map(|(node, peer)| {
            peer.asking = true;
            Question {
                node: node.clone(),
                round: peer.round,
            }
        })
        .collect()
    }

    /// A peer that was asked has answered, or has not. `random` spreads the next questions.
    pub fn answered(&mut self, now_ms: u64, question: &Question, answer: Answer, random: u64) {
        let peer = self.peers.get_mut(&question.node);
        let Some(peer) = peer.filter(|peer| peer.round == question.round) else {
            return;
        };
        peer.asking = false;
        let after_ms = match answer {
            Answer::CaughtUp => PULL_EVERY_MS + random % (PULL_EVERY_MS / 4),
            Answer::Absent | Answer::Failed => PULL_RETRY_MS,
        };
        peer.ask_at_ms = now_ms + after_ms;
        if answer != Answer::Failed {
            peer.wait_until_ms = None;
            self.met = true;
        }
    }

    /// Whether stores may begin: this node has met a peer, or there is none to be expected. A
    /// node that has just been frozen would be the only one to know what it acknowledged.
    pub fn may_store(&self, now_ms: u64) -> bool {
        self.met || now_ms >= self.alone_until_ms
    }

    /// Whether loads may be answered: this worker has asked all peers what it missed.
    pub fn may_serve(&self, now_ms: u64) -> bool {
        let waits = |until_ms: u64| now_ms < until_ms;
        let waits = |peer: &Peer| peer.wait_until_ms.is_some_and(waits);
        self.may_store(now_ms) && !self.peers.values().any(waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "a@h";
    const B: &str = "b@h";

    fn among(now_ms: u64, nodes: &[&str]) -> Freshness {
        Freshness::new(now_ms, nodes.iter().map(|node| node.to_string()))
    }

    fn fresh(now_ms: u64, nodes: &[&str]) -> Freshness {
        let mut freshness = among(now_ms, nodes);
        for question in freshness.to_ask(now_ms) {
            freshness.answered(now_ms, &question, Answer::CaughtUp, 0);
        }
        freshness
    }

    /// Asks, and expects to ask these.
    fn ask<const N: usize>(
        freshness: &mut Freshness,
        now_ms: u64,
        nodes: [&str; N],
    ) -> [Question; N] {
        let questions = freshness.to_ask(now_ms);
        assert!(
            questions
                .iter()
                .map(|question| question.node.as_str())
                .eq(nodes)
        );
        questions.try_into().expect("as many as nodes")
    }

    #[test]
    fn a_node_alone_serves_soon() {
        let freshness = among(5_000, &[]);
        assert!(!freshness.may_serve(5_000));
        assert!(freshness.may_serve(5_000 + START_WAIT_MS));
    }

    #[test]
    fn a_node_among_others_serves_once_it_has_asked_them_all() {
        let mut freshness = among(0, &[A, B]);
        let [a, b] = ask(&mut freshness, 0, [A, B]);
        ask(&mut freshness, 0, []);
        freshness.answered(10, &a, Answer::CaughtUp, 0);
        assert!(freshness.may_store(10) && !freshness.may_serve(10));
        freshness.answered(20, &b, Answer::Absent, 0);
        assert!(freshness.may_serve(20));
        ask(&mut freshness, 20 + PULL_RETRY_MS, [B]);
    }

    #[test]
    fn a_peer_that_does_not_answer_is_waited_for_in_bounds() {
        let mut freshness = among(0, &[A, B]);
        let [a, b] = ask(&mut freshness, 0, [A, B]);
        freshness.answered(1, &a, Answer::CaughtUp, 0);
        freshness.answered(1_900, &b, Answer::Failed, 0);
        assert!(!freshness.may_serve(PEER_WAIT_MS - 1));
        assert!(freshness.may_serve(PEER_WAIT_MS));
    }

    #[test]
    fn a_peer_that_comes_later_is_caught_up_with_first() {
        let mut freshness = fresh(0, &[]);
        assert!(freshness.may_serve(2_000));
        freshness.node_up(2_000, A.into());
        assert!(!freshness.may_serve(2_000));
        let [a] = ask(&mut freshness, 2_000, [A]);
        freshness.answered(2_005, &a, Answer::CaughtUp, 0);
        assert!(freshness.may_serve(2_005));
    }

    #[test]
    fn a_node_that_was_frozen_asks_before_it_serves() {
        let mut freshness = fresh(0, &[A, B]);
        freshness.look(250);
        assert!(freshness.may_serve(250));
        // Twenty seconds later.
        freshness.look(20_000);
        assert!(!freshness.may_serve(20_000));
        let [a, _] = ask(&mut freshness, 20_000, [A, B]);
        // The links are dead; they are found so, and made anew.
        freshness.answered(20_001, &a, Answer::Failed, 0);
        freshness.node_down(A);
        freshness.node_down(B);
        assert!(!freshness.may_serve(20_001 + PEER_WAIT_MS));
        assert!(!freshness.may_store(20_001 + PEER_WAIT_MS));
        freshness.node_up(24_000, B.into());
        let [b] = ask(&mut freshness, 24_000, [B]);
        assert!(!freshness.may_serve(24_000));
        freshness.answered(24_010, &b, Answer::CaughtUp, 0);
        assert!(freshness.may_serve(24_010));
    }

    #[test]
    fn an_answer_from_before_the_freeze_does_not_count() {
        let mut freshness = fresh(0, &[A]);
        let [before] = ask(&mut freshness, PULL_EVERY_MS, [A]);
        freshness.look(20_000);
        freshness.answered(20_000, &before, Answer::CaughtUp, 0);
        assert!(!freshness.may_serve(20_000));
        let [after] = ask(&mut freshness, 20_000, [A]);
        freshness.answered(20_001, &after, Answer::CaughtUp, 0);
        assert!(freshness.may_serve(20_001));
    }

    #[test]
    fn a_frozen_node_that_stays_cut_off_serves_in_the_end() {
        let mut freshness = fresh(0, &[A]);
        freshness.look(20_000);
        freshness.node_down(A);
        assert!(!freshness.may_serve(19_999 + THAW_WAIT_MS));
        assert!(freshness.may_serve(20_000 + THAW_WAIT_MS));
    }

    #[test]
    fn a_node_that_was_alone_when_frozen_missed_nothing() {
        let mut freshness = fresh(0, &[]);
        freshness.look(20_000);
        assert!(freshness.may_serve(20_000));
    }

    #[test]
    fn peers_are_asked_again_now_and_then() {
        let mut freshness = fresh(0, &[A]);
        ask(&mut freshness, PULL_EVERY_MS - 1, []);
        ask(&mut freshness, PULL_EVERY_MS, [A]);
    }

    #[test]
    fn an_answer_of_a_node_that_is_gone_changes_nothing() {
        let mut freshness = among(0, &[A]);
        let [a] = ask(&mut freshness, 0, [A]);
        freshness.node_down(A);
        freshness.answered(5, &a, Answer::CaughtUp, 0);
        freshness.node_up(6, A.into());
        freshness.answered(7, &a, Answer::CaughtUp, 0);
        assert!(!freshness.may_serve(7));
    }
}
