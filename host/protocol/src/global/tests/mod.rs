//! The registry between a few nodes, message by message.

mod conflicts;
mod locks;
mod names;
mod random;

use super::*;

const NOW: Millis = Millis(0);

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// Nodes `a@h`, `b@h`... whose messages are delivered by hand.
struct Nodes(Vec<Global>);

impl Nodes {
    fn new(count: usize) -> Self {
        Self::with_policy(count, PartitionPolicy::Available)
    }

    fn with_policy(count: usize, policy: PartitionPolicy) -> Self {
        let mut nodes = Self(
            (0..count)
                .map(|node| Global::new(Self::name(node), node as u64).with_policy(policy))
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
                left: false,
            },
        );
    }

    fn register(&mut self, node: usize, request: u64, serial: u64) {
        let wish = name_wish(false, Resolver::NotifyLoser);
        self.claim(node, request, serial, wish);
    }

    fn replace(&mut self, node: usize, request: u64, serial: u64) {
        let wish = name_wish(true, Resolver::NotifyLoser);
        self.claim(node, request, serial, wish);
    }

    fn claim(&mut self, node: usize, request: u64, serial: u64, wish: Wish) {
        let (request, pid) = (RequestId(request), Self::pid(node, serial));
        self.0[node].handle(NOW, GlobalInput::Claim { request, pid, wish });
    }

    fn dies(&mut self, node: usize, serial: u64) {
        let pid = Self::pid(node, serial);
        self.0[node].handle(NOW, GlobalInput::ActorDown { pid });
    }

    /// Cuts all links between these two groups.
    fn split(&mut self, left: &[usize], right: &[usize]) {
        for (&a, &b) in left.iter().flat_map(|a| right.iter().map(move |b| (a, b))) {
            self.down(a, b);
            self.down(b, a);
        }
    }

    /// Brings them up again.
    fn heal(&mut self, left: &[usize], right: &[usize]) {
        for (&a, &b) in left.iter().flat_map(|a| right.iter().map(move |b| (a, b))) {
            self.up(a, b);
            self.up(b, a);
        }
    }

    /// Who holds the name, as each node sees it; all alike.
    fn holder(&self) -> Option<Pid> {
        let mut seen = self.0.iter().map(|node| node.whereis("n"));
        let first = seen.next().unwrap();
        assert!(seen.all(|other| other == first), "they differ");
        first
    }

    fn assert_nothing_left_over(&self) {
        for node in &self.0 {
            assert_eq!(node.promises().count(), 0);
            assert_eq!(node.queued().count(), 0);
            assert_eq!(node.pending_claims().count(), 0);
            assert!(node.withheld.is_empty());
        }
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

fn name_wish(replace: bool, resolver: Resolver) -> Wish {
    Wish::Name {
        name: "n".into(),
        replace,
        resolver,
    }
}

fn answers(outputs: &[(usize, GlobalOutput)]) -> Vec<(u64, Result<(), RegisterError>)> {
    let answers = outputs.iter().filter_map(|(_, output)| match output {
        GlobalOutput::Registered { request, result } => Some((request.0, result.clone())),
        _ => None,
    });
    answers.collect()
}
