//! Random runs: nodes whose links come and go one side at a time, whose messages arrive in any
//! order between links, and whose actors do whatever they may.

use std::collections::{HashMap, VecDeque};

use super::*;
use crate::time::next_random;

const RUNS: u64 = 400;
const STEPS: u64 = 400;
const NODES: usize = 4;
const ACTORS: u64 = 3;

/// What is granted at most once among linked nodes.
const NAMES: [&str; 2] = ["n", "m"];
const RESOURCES: [&str; 2] = ["r", "s"];

struct World {
    nodes: Vec<Global>,
    random: u64,
    now: u64,
    /// The link of each pair, and what is under way over it, by sender.
    links: HashMap<(usize, usize), Link>,
    next_link: u64,
    /// What each node asked and has no answer to, and whether it had it already.
    asked: HashMap<u64, (usize, Wish, bool)>,
    next_request: u64,
    questions: Vec<(usize, QuestionId, [Pid; 2])>,
    shown: Vec<BTreeMap<String, Pid>>,
    /// Actors that ended; each is replaced by a new one.
    generation: HashMap<(usize, u64), u64>,
}

/// One life of a link: up on one side, on both, down on one.
#[derive(Default)]
struct Link {
    id: u64,
    /// Whether the smaller and the larger end see it.
    up: [bool; 2],
    /// What is under way from the smaller and the larger.
    under_way: [VecDeque<GlobalMessage>; 2],
}

fn pair(a: usize, b: usize) -> ((usize, usize), usize) {
    match a < b {
        true => ((a, b), 0),
        false => ((b, a), 1),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let nodes = (0..NODES).map(|node| Global::new(Nodes::name(node), seed ^ node as u64));
        Self {
            nodes: nodes.collect(),
            random: seed,
            now: 0,
            links: HashMap::new(),
            next_link: 0,
            asked: HashMap::new(),
            next_request: 0,
            questions: Vec::new(),
            shown: vec![BTreeMap::new(); NODES],
            generation: HashMap::new(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        (next_random(&mut self.random) % bound as u64) as usize
    }

    fn actor(&self, node: usize, actor: u64) -> Pid {
        let generation = self.generation.get(&(node, actor)).copied();
        Nodes::pid(node, actor + 100 * generation.unwrap_or(0))
    }

    fn input(&mut self, node: usize, input: GlobalInput) {
        self.nodes[node].handle(Millis(self.now), input);
        self.carry_out(node);
    }

    fn linked(&self, a: usize, b: usize) -> bool {
        let link = self.links.get(&pair(a, b).0);
        link.is_some_and(|link| link.up == [true; 2])
    }

    fn carry_out(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].poll_output() {
            match output {
                GlobalOutput::Send { to, message } => {
                    let (key, side) = pair(node, Nodes::index(&to));
                    let link = self.links.get_mut(&key).expect("a link to a member");
                    assert!(link.up[side], "sent to whom it does not see");
                    link.under_way[side].push_back(message);
                }
                GlobalOutput::Registered { request, result } => {
                    let asked = self.asked.remove(&request.0);
                    let (asker, wish, already) = asked.expect("one answer a request");
                    assert_eq!(asker, node);
                    if result.is_ok() && !already {
                        self.is_exclusive(node, &wish);
                    }
                }
                GlobalOutput::Installed { name, pid } => {
                    self.shown[node].insert(name, pid);
                }
                GlobalOutput::Removed { name } => {
                    let before = self.shown[node].remove(&name);
                    assert!(before.is_some(), "removed what was not there");
                }
                GlobalOutput::Resolve {
                    question,
                    own,
                    other,
                    ..
                } => self.questions.push((node, question, [own, other])),
                GlobalOutput::NameConflict(_) => {}
                GlobalOutput::Misbehaved { reason, .. } => panic!("misbehaved: {reason}"),
            }
        }
        let known: BTreeMap<_, _> = self.nodes[node]
            .holders()
            .map(|(name, pid)| (name.to_owned(), pid))
            .collect();
        assert_eq!(self.shown[node], known, "the look-up table of {node}");
    }

    /// No node that is linked to this one holds what it was granted just now, unless that
    /// node has promised it away.
    fn is_exclusive(&self, node: usize, wish: &Wish) {
        for other in (0..NODES).filter(|&other| other != node && self.linked(node, other)) {
            let there = &self.nodes[other];
            match wish {
                Wish::Name { name, .. } => {
                    let key = Key::Name(name.clone());
                    let own = Nodes::name(node);
                    let mut promises = there.promises();
                    let promised = promises.any(|(to, by, _)| *to == key && *by == own);
                    let held = there.held().any(|(held, _)| held == name);
                    assert!(!held || promised, "{name} on {other} and {node}");
                }
                Wish::Lock {
                    resource,
                    requester,
                    ..
                } => {
                    let mut theirs = there.held_locks();
                    let held = theirs.any(|(held, of, _)| held == resource && of != requester);
                    assert!(!held, "{resource} on {other} and {node}");
                }
            }
        }
    }

    fn step(&mut self, quiet: bool) -> bool {
        let busy: Vec<_> = self
            .links
            .iter()
            .flat_map(|(&key, link)| {
                let sides = [0, 1].into_iter();
                sides
                    .filter(|side| !link.under_way[*side].is_empty())
                    .map(move |side| (key, side))
            })
            .collect();
        let mut busy = busy;
        busy.sort_unstable();
        if !busy.is_empty() && (quiet || self.below(10) < 7) {
            let (key, side) = busy[self.below(busy.len())];
            self.deliver(key, side);
            return true;
        }
        if quiet {
            return false;
        }
        self.act();
        true
    }

    fn deliver(&mut self, key: (usize, usize), side: usize) {
        let (from, to) = if side == 0 { key } else { (key.1, key.0) };
        let Some(link) = self.links.get_mut(&key) else {
            return;
        };
        let message = link.under_way[side].pop_front();
        if let (Some(message), true) = (message, link.up[1 - side]) {
            let from = Nodes::name(from);
            self.input(to, GlobalInput::Message { from, message });
        }
    }

    fn act(&mut self) {
        let node = self.below(NODES);
        let actor = self.below(ACTORS as usize) as u64;
        let pid = self.actor(node, actor);
        let name = NAMES[self.below(NAMES.len())];
        let resource = RESOURCES[self.below(RESOURCES.len())];
        let requester = match self.below(3) {
            0 => Requester::Named("shared".into()),
            _ => Requester::Actor(pid),
        };
        match self.below(20) {
            0..=4 => {
                let resolver = match self.below(4) {
                    0 => Resolver::NotifyLoser,
                    1 => Resolver::ExitLoser,
                    2 => Resolver::NotifyAll,
                    _ => Resolver::Ask("judge".into()),
                };
                let wish = Wish::Name {
                    name: name.into(),
                    replace: self.below(3) == 0,
                    resolver,
                };
                self.ask(node, pid, wish);
            }
            5..=9 => {
                let patience = match self.below(3) {
                    0 => Patience::None,
                    1 => Patience::Millis(1 + self.below(500) as u64),
                    _ => Patience::Endless,
                };
                let wish = Wish::Lock {
                    resource: resource.into(),
                    requester,
                    patience,
                };
                self.ask(node, pid, wish);
            }
            10 | 11 => {
                self.nodes[node].unlock(Millis(self.now), resource, &requester, pid);
                self.carry_out(node);
            }
            12 => {
                self.nodes[node].unregister(name);
                self.carry_out(node);
            }
            13 => {
                *self.generation.entry((node, actor)).or_default() += 1;
                self.input(node, GlobalInput::ActorDown { pid });
            }
            14 => {
                if !self.questions.is_empty() {
                    let which = self.below(self.questions.len());
                    self.answer(which);
                }
            }
            15 | 16 => self.pass_time(),
            17 => {
                let other = (node + 1 + self.below(NODES - 1)) % NODES;
                self.cut(node, other);
            }
            _ => {
                let other = (node + 1 + self.below(NODES - 1)) % NODES;
                self.link(node, other);
            }
        }
    }

    fn ask(&mut self, node: usize, pid: Pid, wish: Wish) {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        // A lock of before a meeting may have company.
        let already = match &wish {
            Wish::Name { .. } => false,
            Wish::Lock {
                resource,
                requester,
                ..
            } => {
                let mut own = self.nodes[node].held_locks();
                own.any(|(held, of, _)| held == resource && of == requester)
            }
        };
        self.asked.insert(request.0, (node, wish.clone(), already));
        self.input(node, GlobalInput::Claim { request, pid, wish });
    }

    fn answer(&mut self, which: usize) {
        let (node, question, pids) = self.questions.swap_remove(which);
        let keep = match self.below(4) {
            0 => Ok(Some(pids[0])),
            1 => Ok(Some(pids[1])),
            2 => Ok(None),
            _ => Err(NoVerdict),
        };
        self.input(node, GlobalInput::Verdict { question, keep });
    }

    fn pass_time(&mut self) {
        self.now += 1 + self.below(200) as u64;
        for node in 0..NODES {
            let due = self.nodes[node].next_deadline();
            if due.is_some_and(|at| at.0 <= self.now) {
                self.input(node, GlobalInput::Timer);
            }
        }
    }

    /// One end of a pair sees the link go down, or come up: never up on one side with what was
    /// under way before.
    fn cut(&mut self, node: usize, other: usize) {
        let (key, side) = pair(node, other);
        let Some(link) = self.links.get_mut(&key) else {
            return;
        };
        if std::mem::replace(&mut link.up[side], false) {
            let node_down = GlobalInput::NodeDown {
                node: Nodes::name(other),
                left: false,
            };
            self.input(node, node_down);
        }
        if self
            .links
            .get(&key)
            .is_some_and(|link| link.up == [false; 2])
        {
            self.links.remove(&key);
        }
    }

    fn link(&mut self, node: usize, other: usize) {
        let (key, side) = pair(node, other);
        let next = self.next_link;
        let link = self.links.entry(key).or_insert_with(|| Link {
            id: next,
            ..Link::default()
        });
        // A link is new, or up on the other side and never yet here.
        let fresh = link.id == next;
        if fresh {
            self.next_link += 1;
            for (at, peer, side) in [(node, other, side), (other, node, 1 - side)] {
                if let Some(link) = self.links.get_mut(&key) {
                    link.up[side] = true;
                }
                let up = GlobalInput::NodeUp {
                    node: Nodes::name(peer),
                    incarnation: Incarnation(peer as u64 + 1),
                };
                self.input(at, up);
            }
        }
    }

    /// Everything heals and comes to rest.
    fn rest(&mut self) {
        for a in 0..NODES {
            for b in a + 1..NODES {
                if self.links.contains_key(&(a, b)) && !self.linked(a, b) {
                    self.cut(a, b);
                    self.cut(b, a);
                }
                self.link(a, b);
            }
        }
        for _ in 0..400 {
            while self.step(true) {}
            while !self.questions.is_empty() {
                self.answer(0);
            }
            self.pass_time();
            // Whoever holds a lock lets it go in the end.
            let held = self.nodes.iter().map(|node| {
                let locks = node.held_locks();
                let locks = locks.map(|(resource, of, pid)| (resource.to_owned(), of.clone(), pid));
                locks.collect::<Vec<_>>()
            });
            let held: Vec<_> = held.collect();
            for (node, locks) in held.into_iter().enumerate() {
                for (resource, requester, pid) in locks {
                    let now = Millis(self.now);
                    assert!(self.nodes[node].unlock(now, &resource, &requester, pid));
                    self.carry_out(node);
                }
            }
        }
        assert!(self.asked.is_empty(), "never answered: {:?}", self.asked);
        let mut truth = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            assert_eq!(node.promises().count(), 0, "{index}");
            assert_eq!(node.queued().count(), 0, "{index}");
            assert_eq!(node.locks().count(), 0, "{index}");
            assert!(node.withheld.is_empty(), "{index}");
            for (name, pid) in node.held() {
                assert_eq!(truth.insert(name.to_owned(), pid), None, "two hold {name}");
            }
        }
        for (index, shown) in self.shown.iter().enumerate() {
            assert_eq!(*shown, truth, "what {index} shows");
        }
    }
}

#[test]
fn whatever_happens_one_holds_it_and_all_agree_in_the_end() {
    for seed in 0..RUNS {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                world.step(false);
            }
            world.rest();
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("in the run with the seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
