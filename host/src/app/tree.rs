//! The supervision tree of an app: what a manifest says of supervisors and their children.
//!
//! - `check`: the keys of the file, and OTP's rules of what goes together
//!
//! It does not know how a supervisor does its work.

mod check;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use wasm_node_protocol::{Capabilities, Limits};

pub(super) use check::{RawSupervisor, Surroundings, checked_supervisor};

/// A supervisor: the root of an app's tree, or one of its branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervisor {
    /// The module that is the supervisor.
    pub module: String,
    /// Who else is restarted with a child that ended.
    pub strategy: Strategy,
    /// How many restarts within `period` are too many, less one.
    pub intensity: u32,
    /// See `intensity`.
    pub period: Duration,
    /// Whether it ends with its significant children.
    pub auto_shutdown: AutoShutdown,
    /// The children, in the order they are started.
    pub children: Vec<Child>,
}

/// A supervisor that begins without children, and gets them from whoever asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicSupervisor {
    /// The module that is the supervisor.
    pub module: String,
    /// As [`Supervisor::intensity`].
    pub intensity: u32,
    /// See `intensity`.
    pub period: Duration,
    /// How many children it has at most; `None` is no limit.
    pub max_children: Option<u32>,
}

/// Who is restarted when a child ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// That child.
    #[default]
    OneForOne,
    /// All children.
    OneForAll,
    /// That child and those started after it.
    RestForOne,
}

/// Whether a supervisor ends by itself when significant children have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoShutdown {
    /// Never; no child is significant.
    #[default]
    Never,
    /// When one has.
    AnySignificant,
    /// When the last one has.
    AllSignificant,
}

/// When a child that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// If it ended abnormally.
    Transient,
    /// Never.
    Temporary,
}

/// How a child is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// It is killed.
    BrutalKill,
    /// It is asked to, and killed if it is not gone by then.
    After(Duration),
    /// It is asked to, however long that takes.
    Infinity,
}

/// What a child is, for those that count: OTP's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChildType {
    /// Anything but a supervisor.
    #[default]
    Worker,
    /// A supervisor.
    Supervisor,
}

/// A name of an actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// In the registry of its node.
    Local(String),
    /// In the global registry.
    Global(String),
}

/// What runs as a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Any actor.
    Actor {
        /// Its module.
        module: String,
        /// What its `init` gets.
        args: Vec<u8>,
        /// What it is.
        kind: ChildType,
    },
    /// A supervisor with children of its own.
    Supervisor(Supervisor),
    /// A dynamic one.
    Dynamic(DynamicSupervisor),
}

/// An actor that a supervisor starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Its name within the supervisor.
    pub id: String,
    /// What it is.
    pub work: Work,
    /// Its name from the start.
    pub name: Option<Name>,
    /// When it is started again.
    pub restart: Restart,
    /// How it is ended.
    pub shutdown: Shutdown,
    /// Whether its end may end the supervisor: see [`AutoShutdown`].
    pub significant: bool,
    /// Of what its module is granted, no more than these.
    pub capabilities: Option<Capabilities>,
    /// Limits of its own, within its module's.
    pub limits: Limits,
}

impl Supervisor {
    /// The modules of this and of all supervisors below it that the manifest describes.
    pub fn supervisor_modules(&self) -> BTreeSet<&str> {
        let mut modules = BTreeSet::from([self.module.as_str()]);
        for child in &self.children {
            match &child.work {
                Work::Actor { .. } => {}
                Work::Supervisor(below) => modules.append(&mut below.supervisor_modules()),
                Work::Dynamic(below) => {
                    modules.insert(&below.module);
                }
            }
        }
        modules
    }
}
