//! What happened in a run, in words: who, what, when.
//!
//! Owns the lines, and whom and what each concerns, so that a failure shows only what has to
//! do with the invariant that broke. Does not decide what is worth a line.

use std::collections::{BTreeMap, VecDeque};

use wasm_node_protocol::{Incarnation, Pid};

use super::network::{Micros, NodeIndex};
use super::rng::Rng;

/// Lines kept of a run, the latest.
const KEPT_LINES: usize = 200_000;

/// Lines of a failure, the latest that concern it, unless `WASM_NODE_SIM_LINES` says otherwise.
const SHOWN_LINES: usize = 120;

/// What a line is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// Nodes and paths that fail or come back: concerns every failure.
    Fault,
    /// Links, and who is up.
    Membership,
    /// Global names.
    Names,
    /// Groups.
    Groups,
    /// Actors, and what they send each other.
    Actors,
    /// Anything else that a cluster machine says.
    Other,
}

struct Line {
    at: Micros,
    topic: Topic,
    nodes: Vec<NodeIndex>,
    text: String,
}

/// The lines of a run, if anybody wants them.
#[derive(Default)]
pub struct Trace {
    lines: Option<VecDeque<Line>>,
    /// Every run of every node, with its number among the node's.
    runs: BTreeMap<Incarnation, (NodeIndex, usize)>,
}

impl Trace {
    /// For a run whose lines are wanted, or not.
    pub fn new(wanted: bool) -> Self {
        Self {
            lines: wanted.then(VecDeque::new),
            runs: BTreeMap::new(),
        }
    }

    /// A node starts.
    pub fn started(&mut self, node: NodeIndex, run: Incarnation) {
        let before = self.runs.values().filter(|(of, _)| *of == node).count();
        self.runs.insert(run, (node, before + 1));
    }

    /// Any run of any node so far.
    pub fn any_run(&self, rng: &mut Rng) -> Option<Incarnation> {
        let at = rng.below(self.runs.len() as u64) as usize;
        self.runs.keys().nth(at).copied()
    }

    /// How an actor is called: `n2/a5`, or `n2#3/a5` of its node's third run.
    pub fn actor(&self, pid: Pid) -> String {
        format!("{}/a{}", self.run(pid.node), pid.serial)
    }

    /// How a run of a node is called.
    pub fn run(&self, run: Incarnation) -> String {
        match self.runs.get(&run) {
            Some((node, 1)) => format!("n{node}"),
            Some((node, run)) => format!("n{node}#{run}"),
            None => format!("{run:?}"),
        }
    }

    /// Notes a line, if lines are wanted.
    pub fn note(
        &mut self,
        at: Micros,
        topic: Topic,
        nodes: &[NodeIndex],
        text: impl FnOnce(&Self) -> String,
    ) {
        if self.lines.is_none() {
            return;
        }
        let line = Line {
            at,
            topic,
            nodes: nodes.to_vec(),
            text: text(self),
        };
        if let Some(lines) = &mut self.lines {
            if lines.len() == KEPT_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }

    /// What a machine printed of itself, with nodes and actors by name.
    pub fn words(&self, debug: &str) -> String {
        let mut text = debug.replace("@127.0.0.1", "");
        for run in self.runs.keys() {
            let name = self.run(*run);
            let pid = format!("Pid {{ node: {run:?}, serial: ");
            while let Some(at) = text.find(&pid) {
                let end = text[at..].find(" }").map_or(text.len(), |end| at + end + 2);
                let serial = text[at + pid.len()..end].trim_end_matches(" }").to_owned();
                text.replace_range(at..end, &format!("{name}/a{serial}"));
            }
            text = text.replace(&format!("{run:?}"), &name);
        }
        text
    }

    /// The latest lines that concern these topics and any of these nodes (all, if there are
    /// none), oldest first.
    pub fn concerning(&self, topics: &[Topic], nodes: &[NodeIndex]) -> Vec<String> {
        let concerns = |line: &&Line| {
            line.topic == Topic::Fault
                || topics.contains(&line.topic)
                    && (nodes.is_empty() || line.nodes.iter().any(|node| nodes.contains(node)))
        };
        let shown = std::env::var("WASM_NODE_SIM_LINES").ok();
        let shown = shown.and_then(|lines| lines.parse().ok());
        let lines = self.lines.iter().flatten().rev();
        let mut shown: Vec<_> = lines
            .filter(concerns)
            .take(shown.unwrap_or(SHOWN_LINES))
            .map(|line| format!("{:>10.3} ms  {}", line.at as f64 / 1000.0, line.text))
            .collect();
        shown.reverse();
        shown
    }
}
