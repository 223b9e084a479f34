//! The registry of names between a few nodes, message by message.

use super::*;

const NOW: Millis = Millis(0);

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// Nodes `a@h`, `b@h`... whose messages are delivered by hand.
struct Nodes(Vec<Global>);

impl Nodes {
    fn new(count: usize) -> Self {
        let mut nodes = Self(
            (0..count)
                .map(|node| Global::new(Self::name(node), node as u64))
                .collect(),
        );
        for a in 0..count {
            for b in (0..count).filter(|b| *b != a) {
                nodes.up(a, b);
            }
        }
        nodes
    }

    fn name(node: usize) -> NodeName {
        name(&format!("{}@h", (b'a' + node as u8) as char))
    }

    fn index(name: &NodeName) -> usize {
        usize::from(name.as_str().as_bytes()[0] - b'a')
    }

    fn pid(node: usize, serial: u64) -> Pid {
        Pid {
            node: Incarnation(node as u64 + 1),
            serial,
        }
    }

    fn up(&mut self, at: usize, node: usize) {
        let incarnation = Incarnation(node as u64 + 1);
        self.0[at].handle(
            NOW,
            GlobalInput::NodeUp {
                node: Self::name(node),
                incarnation,
            },
        );
    }

    fn down(&mut self, at: usize, node: usize) {
        self.0[at].handle(
            NOW,
            GlobalInput::NodeDown {
                node: Self::name(node),
            },
        );
    }

    fn register(&mut self, node: usize, request: u64, serial: u64) {
        let (request, pid) = (RequestId(request), Self::pid(node, serial));
        self.0[node].handle(
            NOW,
            GlobalInput::Register {
                request,
                name: "n".into(),
                pid,
            },
        );
    }

    /// One round: delivers what each node has to send now; what else they put out.
    fn round(&mut self) -> Vec<(usize, GlobalOutput)> {
        let mut sends = Vec::new();
        let mut others = Vec::new();
        for (node, global) in self.0.iter_mut().enumerate() {
            while let Some(output) = global.poll_output() {
                match output {
                    GlobalOutput::Send { to, message } => {
                        sends.push((node, Self::index(&to), message))
                    }
                    other => others.push((node, other)),
                }
            }
        }
        for (from, to, message) in sends {
            self.0[to].handle(
                NOW,
                GlobalInput::Message {
                    from: Self::name(from),
                    message,
                },
            );
        }
        others
    }

    fn rounds(&mut self, count: usize) -> Vec<(usize, GlobalOutput)> {
        (0..count).flat_map(|_| self.round()).collect()
    }
}

fn answers(outputs: &[(usize, GlobalOutput)]) -> Vec<(u64, Result<(), RegisterError>)> {
    let answers = outputs.iter().filter_map(|(_, output)| match output {
        GlobalOutput::Registered { request, result } => Some((request.0, result.clone())),
        _ => None,
    });
    answers.collect()
}

#[test]
fn a_node_alone_registers_at_once() {
    let mut nodes = Nodes::new(1);
    nodes.register(0, 1, 1);
    assert_eq!(nodes.0[0].whereis("n"), Some(Nodes::pid(0, 1)));
    let outputs = nodes.round();
    assert_eq!(answers(&outputs), [(1, Ok(()))]);
    nodes.register(0, 2, 2);
    assert_eq!(
        answers(&nodes.round()),
        [(2, Err(RegisterError::Taken(Nodes::pid(0, 1))))]
    );
}

#[test]
fn three_nodes_need_two_round_trips() {
    let mut nodes = Nodes::new(3);
    nodes.round();
    nodes.register(0, 1, 1);
    // Claim, turn, prepare, promised: four messages one way, fewer if the arbiter is near.
    let outputs = nodes.rounds(5);
    assert_eq!(answers(&outputs), [(1, Ok(()))]);
    nodes.round();
    assert!(
        nodes
            .0
            .iter()
            .all(|node| node.whereis("n") == Some(Nodes::pid(0, 1)))
    );
    assert!(
        nodes
            .0
            .iter()
            .all(|node| node.promises().count() == 0 && node.queued_names().count() == 0)
    );
}

#[test]
fn of_two_claims_at_once_one_wins_and_the_other_learns_who() {
    let mut nodes = Nodes::new(3);
    nodes.round();
    for node in 0..3 {
        nodes.register(node, node as u64, 1);
    }
    let outputs = nodes.rounds(12);
    let answers = answers(&outputs);
    let winners: Vec<_> = answers
        .iter()
        .filter(|(_, result)| result.is_ok())
        .collect();
    assert_eq!((answers.len(), winners.len()), (3, 1), "{answers:?}");
    let holder = Nodes::pid(winners[0].0 as usize, 1);
    let losers = answers
        .iter()
        .filter(|(_, result)| *result == Err(RegisterError::Taken(holder)));
    assert_eq!(losers.count(), 2, "{answers:?}");
}

#[test]
fn a_name_goes_with_its_actor_and_can_be_had_again() {
    let mut nodes = Nodes::new(2);
    nodes.register(0, 1, 1);
    nodes.rounds(6);
    nodes.0[0].handle(
        NOW,
        GlobalInput::ActorDown {
            pid: Nodes::pid(0, 1),
        },
    );
    let outputs = nodes.rounds(2);
    let removed: Vec<_> = outputs
        .iter()
        .filter(|(_, output)| matches!(output, GlobalOutput::Removed { .. }))
        .collect();
    assert_eq!(removed.len(), 2);
    nodes.register(1, 2, 1);
    assert_eq!(answers(&nodes.rounds(6)), [(2, Ok(()))]);
    assert!(nodes.0[1].unregister("n"));
    assert!(!nodes.0[1].unregister("n"));
    nodes.rounds(2);
    assert_eq!(nodes.0[0].whereis("n"), None);
}

#[test]
fn names_go_with_the_link_to_their_node() {
    let mut nodes = Nodes::new(2);
    nodes.register(0, 1, 1);
    nodes.rounds(6);
    nodes.down(1, 0);
    assert_eq!(nodes.0[1].whereis("n"), None);
    assert_eq!(nodes.0[0].whereis("n"), Some(Nodes::pid(0, 1)));
}

#[test]
fn when_halves_meet_the_smaller_name_wins_everywhere() {
    let mut nodes = Nodes::new(3);
    for (a, b) in [(0, 2), (2, 0), (1, 2), (2, 1), (0, 1), (1, 0)] {
        nodes.down(a, b);
    }
    nodes.round();
    nodes.register(1, 1, 1);
    nodes.register(2, 2, 1);
    nodes.rounds(2);
    for (a, b) in [(0, 2), (2, 0), (1, 2), (2, 1), (0, 1), (1, 0)] {
        nodes.up(a, b);
    }
    let outputs = nodes.rounds(4);
    let conflicts: Vec<_> = outputs
        .iter()
        .filter_map(|(node, output)| match output {
            GlobalOutput::NameConflict { loser, holder, .. } => Some((*node, *loser, *holder)),
            _ => None,
        })
        .collect();
    assert_eq!(conflicts, [(2, Nodes::pid(2, 1), Nodes::pid(1, 1))]);
    assert!(
        nodes
            .0
            .iter()
            .all(|node| node.whereis("n") == Some(Nodes::pid(1, 1)))
    );
    assert_eq!(nodes.0[2].held().count(), 0);
}

#[test]
fn a_claim_against_silence_ends_in_time() {
    let mut nodes = Nodes::new(2);
    nodes.register(0, 1, 1);
    while nodes.0[0].poll_output().is_some() {}
    assert_eq!(
        nodes.0[0].next_deadline(),
        Some(Millis(REGISTER_TIMEOUT_MS))
    );
    nodes.0[0].handle(Millis(REGISTER_TIMEOUT_MS), GlobalInput::Timer);
    let outputs = nodes.rounds(2);
    assert_eq!(answers(&outputs), [(1, Err(RegisterError::Timeout))]);
    assert_eq!(nodes.0[0].next_deadline(), None);
    assert!(
        nodes
            .0
            .iter()
            .all(|node| node.promises().count() == 0 && node.queued_names().count() == 0)
    );
}

#[test]
fn a_claim_goes_on_without_a_lost_member_or_arbiter() {
    for lost_after in 0..4 {
        let mut nodes = Nodes::new(3);
        nodes.round();
        nodes.register(0, 1, 1);
        let mut outputs = nodes.rounds(lost_after);
        for gone in [1, 2] {
            nodes.down(0, gone);
            nodes.down(gone, 0);
            outputs.extend(nodes.rounds(2));
        }
        assert_eq!(
            answers(&outputs),
            [(1, Ok(()))],
            "lost after {lost_after} rounds"
        );
        assert!(
            nodes
                .0
                .iter()
                .all(|node| node.promises().count() == 0 && node.queued_names().count() == 0)
        );
    }
}

#[test]
fn what_a_peer_may_not_say_closes_its_link() {
    let publish = |name: String, pid| GlobalMessage::Publish(vec![(name, pid)]);
    let bad = [
        publish("n".into(), Nodes::pid(2, 1)),
        publish(String::new(), Nodes::pid(1, 1)),
        publish("x".repeat(MAX_NAME_BYTES + 1), Nodes::pid(1, 1)),
        GlobalMessage::Claim {
            name: "x".repeat(MAX_NAME_BYTES + 1),
            claim: 1,
        },
    ];
    for message in bad {
        let mut nodes = Nodes::new(2);
        nodes.0[0].handle(
            NOW,
            GlobalInput::Message {
                from: Nodes::name(1),
                message,
            },
        );
        let outputs: Vec<_> = std::iter::from_fn(|| nodes.0[0].poll_output()).collect();
        assert!(
            matches!(outputs[..], [GlobalOutput::Misbehaved { .. }]),
            "{outputs:?}"
        );
    }
}

#[test]
fn bad_names_are_refused_here() {
    let mut nodes = Nodes::new(1);
    let request = RequestId(1);
    for name in [String::new(), "x".repeat(MAX_NAME_BYTES + 1)] {
        nodes.0[0].handle(
            NOW,
            GlobalInput::Register {
                request,
                name,
                pid: Nodes::pid(0, 1),
            },
        );
        assert!(matches!(
            answers(&nodes.round())[..],
            [(1, Err(RegisterError::BadName(_)))]
        ));
    }
}
