use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn pid(node: u64, serial: u64) -> Pid {
    Pid {
        node: Incarnation(node),
        serial,
    }
}

fn tag(serial: u64) -> Ref {
    Ref {
        node: Incarnation(1),
        serial,
    }
}

fn group(name: &str) -> GroupId {
    GroupId::new("s", name).unwrap()
}

fn members(name: &str, serials: &[u64]) -> Members {
    Members {
        scope: "s".into(),
        group: name.into(),
        serials: serials.into(),
    }
}

fn outputs(groups: &mut Groups) -> Vec<GroupsOutput> {
    std::iter::from_fn(|| groups.poll_output()).collect()
}

fn sent(groups: &mut Groups) -> Vec<GroupsMessage> {
    let outputs = outputs(groups).into_iter();
    outputs
        .filter_map(|output| match output {
            GroupsOutput::Send { message, .. } => Some(message),
            _ => None,
        })
        .collect()
}

/// What a monitor is told, as (group, joined, serials).
fn told(groups: &mut Groups, wanted: Ref) -> Vec<(String, bool, Vec<u64>)> {
    let outputs = outputs(groups).into_iter();
    outputs
        .filter_map(|output| match output {
            GroupsOutput::Tell { monitor, event, .. } if monitor == wanted => {
                let serials = event.pids.iter().map(|pid| pid.serial).collect();
                Some((event.group, event.change == GroupChange::Joined, serials))
            }
            _ => None,
        })
        .collect()
}

fn alone() -> Groups {
    Groups::new(Incarnation(1))
}

#[test]
fn an_actor_that_joined_twice_leaves_twice() {
    let mut groups = alone();
    groups.join(group("g"), &[pid(1, 1), pid(1, 1)]).unwrap();
    assert_eq!(groups.members("s", "g"), [pid(1, 1); 2]);
    assert!(groups.leave(&group("g"), &[pid(1, 1)]));
    assert!(groups.leave(&group("g"), &[pid(1, 1), pid(1, 1), pid(1, 2)]));
    assert!(!groups.leave(&group("g"), &[pid(1, 1)]));
    assert_eq!(groups.memberships().count(), 0);
}

#[test]
fn scopes_are_apart() {
    let mut groups = alone();
    let other = GroupId::new("t", "g").unwrap();
    groups.join(group("g"), &[pid(1, 1)]).unwrap();
    groups.monitor(tag(1), pid(1, 9), "s", None).unwrap();
    outputs(&mut groups);
    groups.join(other, &[pid(1, 2)]).unwrap();
    assert_eq!(groups.members("s", "g"), [pid(1, 1)]);
    assert_eq!(groups.members("t", "g"), [pid(1, 2)]);
    assert_eq!(told(&mut groups, tag(1)), []);
}

#[test]
fn a_new_peer_hears_all_and_its_members_go_with_it() {
    let mut groups = alone();
    groups.join(group("g"), &[pid(1, 1), pid(1, 2)]).unwrap();
    groups.join(group("h"), &[pid(1, 1)]).unwrap();
    outputs(&mut groups);
    groups.node_up(name("b@h"), Incarnation(2));
    let all = vec![members("g", &[1, 2]), members("h", &[1])];
    assert_eq!(sent(&mut groups), [GroupsMessage::Joined(all)]);

    groups.message(
        &name("b@h"),
        GroupsMessage::Joined(vec![members("g", &[1, 1])]),
    );
    let seen = groups.monitor(tag(1), pid(1, 9), "s", Some("g")).unwrap();
    assert_eq!(
        seen,
        [("g".into(), vec![pid(1, 1), pid(1, 2), pid(2, 1), pid(2, 1)])]
    );
    outputs(&mut groups);
    groups.node_down(&name("b@h"));
    assert_eq!(
        told(&mut groups, tag(1)),
        [("g".into(), false, vec![1, 1])],
        "once, with all that it was"
    );
    assert_eq!(groups.members("s", "g"), [pid(1, 1), pid(1, 2)]);
}

#[test]
fn the_death_of_an_actor_is_told_and_ends_its_monitors() {
    let mut groups = alone();
    groups.node_up(name("b@h"), Incarnation(2));
    groups.join(group("g"), &[pid(1, 1), pid(1, 1)]).unwrap();
    groups.join(group("h"), &[pid(1, 1)]).unwrap();
    groups.monitor(tag(1), pid(1, 1), "s", None).unwrap();
    groups.monitor(tag(2), pid(1, 2), "s", None).unwrap();
    outputs(&mut groups);
    groups.actor_down(pid(1, 1));
    let all = outputs(&mut groups);
    let left = GroupsMessage::Left(vec![members("g", &[1, 1]), members("h", &[1])]);
    assert!(all.contains(&GroupsOutput::Send {
        to: name("b@h"),
        message: left
    }));
    let to = |monitor| {
        let told = all.iter().filter(
            move |output| matches!(output, GroupsOutput::Tell { monitor: of, .. } if *of == monitor),
        );
        told.count()
    };
    assert_eq!((to(tag(1)), to(tag(2))), (0, 2));
}

#[test]
fn only_a_monitors_owner_ends_it() {
    let mut groups = alone();
    groups.monitor(tag(1), pid(1, 1), "s", Some("g")).unwrap();
    assert!(!groups.demonitor(tag(1), pid(1, 2)));
    groups.join(group("g"), &[pid(1, 5)]).unwrap();
    assert_eq!(told(&mut groups, tag(1)), [("g".into(), true, vec![5])]);
    assert!(groups.demonitor(tag(1), pid(1, 1)));
    assert!(!groups.demonitor(tag(1), pid(1, 1)));
    groups.join(group("g"), &[pid(1, 5)]).unwrap();
    assert_eq!(told(&mut groups, tag(1)), []);
}

#[test]
fn what_cannot_be_is_refused() {
    let mut groups = alone();
    let long = "x".repeat(MAX_GROUP_BYTES + 1);
    assert_eq!(GroupId::new("s", ""), Err(GroupError::BadName));
    assert_eq!(GroupId::new("s", &long), Err(GroupError::BadName));
    assert_eq!(GroupId::new(&long, "g"), Err(GroupError::BadName));
    assert!(groups.monitor(tag(1), pid(1, 1), &long, None).is_err());
    assert_eq!(
        groups.join(group("g"), &[pid(1, 1), pid(2, 1)]),
        Err(GroupError::NotLocal(pid(2, 1)))
    );
    assert_eq!(groups.memberships().count(), 0, "all or none");
    assert_eq!(outputs(&mut groups), []);
    let many = vec![pid(1, 1); MAX_MEMBERSHIPS_PER_NODE + 1];
    assert_eq!(
        groups.join(group("g"), &many),
        Err(GroupError::TooManyMemberships)
    );
}

#[test]
fn a_peer_that_breaks_the_rules_is_cut_off() {
    let bad = [
        GroupsMessage::Joined(vec![members("", &[1])]),
        GroupsMessage::Joined(vec![members(&"x".repeat(MAX_GROUP_BYTES + 1), &[1])]),
        GroupsMessage::Joined(vec![members("g", &vec![1; MAX_MEMBERSHIPS_PER_NODE + 1])]),
        // It takes back more than it told.
        GroupsMessage::Left(vec![members("g", &[1])]),
    ];
    for message in bad {
        let mut groups = alone();
        groups.node_up(name("b@h"), Incarnation(2));
        groups.message(&name("b@h"), message);
        let all = outputs(&mut groups);
        assert!(
            matches!(all[..], [GroupsOutput::Misbehaved { .. }]),
            "{all:?}"
        );
    }
}

#[test]
fn much_goes_in_pieces() {
    let mut groups = alone();
    for number in 0..200 {
        let long = format!("{number}{}", "x".repeat(1000));
        groups.join(group(&long), &[pid(1, number)]).unwrap();
    }
    groups.join(group("g"), &[pid(1, 7); 20_000]).unwrap();
    groups.node_up(name("b@h"), Incarnation(2));
    let messages = sent(&mut groups);
    assert!(messages.len() >= 6, "{}", messages.len());
    let mut other = Groups::new(Incarnation(2));
    other.node_up(name("a@h"), Incarnation(1));
    for message in messages {
        other.message(&name("a@h"), message);
    }
    assert_eq!(other.memberships().count(), 20_200);
}

// ---- Any history, on nodes whose links come and go ----

const NODES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Join(usize, u64, u8, usize),
    Leave(usize, u64, u8),
    Death(usize, u64),
    Monitor(usize, u64, Option<u8>),
    Demonitor(usize, usize),
    Link(usize, usize),
    Cut(usize, usize),
    Restart(usize),
    Deliver(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    let actor = 0..4u64;
    let name = 0..3u8;
    prop_oneof![
        4 => (node.clone(), actor.clone(), name.clone(), 0..3usize)
            .prop_map(|(n, a, g, times)| Step::Join(n, a, g, times)),
        3 => (node.clone(), actor.clone(), name.clone()).prop_map(|(n, a, g)| Step::Leave(n, a, g)),
        1 => (node.clone(), actor.clone()).prop_map(|(n, a)| Step::Death(n, a)),
        2 => (node.clone(), actor, prop::option::of(name)).prop_map(|(n, a, g)| Step::Monitor(n, a, g)),
        1 => (node.clone(), 0..20usize).prop_map(|(n, m)| Step::Demonitor(n, m)),
        2 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Link(a, b)),
        1 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Cut(a, b)),
        1 => node.clone().prop_map(Step::Restart),
        6 => (node.clone(), node).prop_map(|(a, b)| Step::Deliver(a, b)),
    ]
}

type Counts = BTreeMap<(String, Pid), usize>;

struct Watching {
    watcher: Pid,
    /// All of the scope, if none.
    group: Option<String>,
    seen: Counts,
}

struct Node {
    incarnation: u64,
    groups: Groups,
    /// What the look-up table would hold.
    table: Counts,
    monitors: BTreeMap<Ref, Watching>,
}

impl Node {
    fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            groups: Groups::new(Incarnation(incarnation)),
            table: Counts::new(),
            monitors: BTreeMap::new(),
        }
    }
}

fn apply(counts: &mut Counts, group: &str, change: GroupChange, pids: &[Pid]) {
    for pid in pids {
        let count = counts.entry((group.into(), *pid)).or_default();
        match change {
            GroupChange::Joined => *count += 1,
            GroupChange::Left => *count = count.checked_sub(1).expect("left what it was not in"),
        }
        if *count == 0 {
            counts.remove(&(group.into(), *pid));
        }
    }
}

struct World {
    nodes: Vec<Node>,
    linked: BTreeSet<(usize, usize)>,
    /// What is on its way, of each direction of a link.
    ways: BTreeMap<(usize, usize), VecDeque<GroupsMessage>>,
    serial: u64,
}

fn node_name(index: usize) -> NodeName {
    name(&format!("n{index}@h"))
}

impl World {
    fn new() -> Self {
        Self {
            nodes: (0..NODES)
                .map(|index| Node::new(1 + index as u64))
                .collect(),
            linked: BTreeSet::new(),
            ways: BTreeMap::new(),
            serial: 100,
        }
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn pid(&self, node: usize, serial: u64) -> Pid {
        pid(self.nodes[node].incarnation, serial)
    }

    fn link(&mut self, a: usize, b: usize) {
        let (a, b) = (a.min(b), a.max(b));
        if a == b || !self.linked.insert((a, b)) {
            return;
        }
        for (here, there) in [(a, b), (b, a)] {
            let incarnation = Incarnation(self.nodes[there].incarnation);
            self.nodes[here]
                .groups
                .node_up(node_name(there), incarnation);
        }
        self.drain(a);
        self.drain(b);
    }

    fn cut(&mut self, a: usize, b: usize) {
        let (a, b) = (a.min(b), a.max(b));
        if !self.linked.remove(&(a, b)) {
            return;
        }
        for (here, there) in [(a, b), (b, a)] {
            self.ways.remove(&(here, there));
            self.nodes[here].groups.node_down(&node_name(there));
            self.drain(here);
        }
    }

    fn deliver(&mut self, from: usize, to: usize) -> bool {
        let way = self.ways.get_mut(&(from, to));
        let Some(message) = way.and_then(VecDeque::pop_front) else {
            return false;
        };
        self.nodes[to].groups.message(&node_name(from), message);
        self.drain(to);
        true
    }

    /// Does what the machine wants, and looks whether all of its views agree.
    fn drain(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        while let Some(output) = node.groups.poll_output() {
            match output {
                GroupsOutput::Send { to, message } => {
                    let there = (0..NODES).find(|other| node_name(*other) == to).unwrap();
                    self.ways
                        .entry((index, there))
                        .or_default()
                        .push_back(message);
                }
                GroupsOutput::Changed {
                    group,
                    change,
                    pids,
                } => {
                    assert!(!pids.is_empty());
                    apply(&mut node.table, &group.name, change, &pids);
                }
                GroupsOutput::Tell {
                    watcher,
                    monitor,
                    event,
                } => {
                    let watching = node.monitors.get_mut(&monitor).expect("after its end");
                    assert_eq!(watching.watcher, watcher);
                    apply(&mut watching.seen, &event.group, event.change, &event.pids);
                }
                GroupsOutput::Misbehaved { reason, .. } => panic!("{reason}"),
            }
        }
        let mut known = Counts::new();
        for (group, pid) in node.groups.memberships() {
            *known.entry((group.name.clone(), pid)).or_default() += 1;
        }
        assert_eq!(known, node.table);
        for watching in node.monitors.values() {
            let mut wanted = known.clone();
            wanted.retain(|(group, _), _| watching.group.as_ref().is_none_or(|of| of == group));
            assert_eq!(watching.seen, wanted);
        }
    }

    fn step(&mut self, step: Step) {
        let name = |group: u8| format!("g{group}");
        match step {
            Step::Join(node, actor, of, times) => {
                let pids = vec![self.pid(node, actor); times];
                let joined = self.nodes[node].groups.join(group(&name(of)), &pids);
                joined.unwrap();
                self.drain(node);
            }
            Step::Leave(node, actor, of) => {
                let pid = self.pid(node, actor);
                let was = self.nodes[node].table.contains_key(&(name(of), pid));
                let left = self.nodes[node].groups.leave(&group(&name(of)), &[pid]);
                assert_eq!(left, was);
                self.drain(node);
            }
            Step::Death(node, actor) => {
                let pid = self.pid(node, actor);
                self.nodes[node].groups.actor_down(pid);
                self.nodes[node]
                    .monitors
                    .retain(|_, watching| watching.watcher != pid);
                self.drain(node);
            }
            Step::Monitor(node, actor, of) => {
                let (monitor, watcher) = (tag(self.next_serial()), self.pid(node, actor));
                let group = of.map(name);
                let node = &mut self.nodes[node];
                let members = node
                    .groups
                    .monitor(monitor, watcher, "s", group.as_deref())
                    .unwrap();
                let mut seen = Counts::new();
                for (group, pids) in members {
                    apply(&mut seen, &group, GroupChange::Joined, &pids);
                }
                let watching = Watching {
                    watcher,
                    group,
                    seen,
                };
                node.monitors.insert(monitor, watching);
            }
            Step::Demonitor(node, which) => {
                let node = &mut self.nodes[node];
                let Some((&monitor, watching)) = node.monitors.iter().nth(which) else {
                    return;
                };
                assert!(node.groups.demonitor(monitor, watching.watcher));
                node.monitors.remove(&monitor);
            }
            Step::Link(a, b) => self.link(a, b),
            Step::Cut(a, b) => self.cut(a, b),
            Step::Restart(node) => {
                for other in 0..NODES {
                    self.cut(node, other);
                }
                let incarnation = self.next_serial();
                self.nodes[node] = Node::new(incarnation);
            }
            Step::Deliver(from, to) => {
                self.deliver(from, to);
            }
        }
    }

    fn heal(&mut self) {
        for a in 0..NODES {
            for b in 0..NODES {
                self.link(a, b);
            }
        }
        let ways: Vec<_> = (0..NODES * NODES).map(|i| (i / NODES, i % NODES)).collect();
        while ways.iter().any(|(from, to)| self.deliver(*from, *to)) {}
    }
}

proptest! {
    /// Whatever happened, the table and each monitor's view are what the node knows, all the
    /// time; and once all are linked, every node knows each one's own memberships, no more.
    #[test]
    fn views_agree_and_converge(steps in prop::collection::vec(step(), 0..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            for node in 0..NODES {
                world.drain(node);
            }
        }
        world.heal();
        let mut all = Counts::new();
        for node in &world.nodes {
            let own = |((_, pid), _): &(&(String, Pid), &usize)| pid.node.0 == node.incarnation;
            all.extend(node.table.iter().filter(own).map(|(key, times)| (key.clone(), *times)));
        }
        for node in &world.nodes {
            prop_assert_eq!(&node.table, &all);
        }
    }
}
