//! What the actors of one case tell each other, as postcard.

use serde::{Deserialize, Serialize};
use wasm_node_sdk::Pid;
use wasm_node_sdk::process::Alias;

use crate::machine::MachineArgs;
use crate::server::ServerArgs;

/// What an actor is, and its arguments.
#[derive(Debug, Serialize, Deserialize)]
pub enum Role {
    /// See `conductor`.
    Conductor(Run),
    /// See `process`.
    Process(Home),
    /// See `server`.
    Server(ServerArgs),
    /// See `machine`.
    Machine(MachineArgs),
}

/// One run of one case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Who is told what came of it.
    pub suite: Pid,
    /// What the suite knows it by.
    pub id: u32,
    /// In front of each name that it registers, so that runs do not meet.
    pub prefix: String,
    /// Where its processes live whose names begin with `b`.
    pub other: String,
    /// The number of its line, and its words.
    pub steps: Vec<(u32, Vec<String>)>,
}

/// What came of each step: the number of its line, and words.
#[derive(Debug, Serialize, Deserialize)]
pub struct Transcript {
    /// The run's.
    pub id: u32,
    /// In their order.
    pub lines: Vec<(u32, String)>,
}

/// Where a process belongs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Home {
    /// Who tells it what to do.
    pub conductor: Pid,
    /// As [`Run::prefix`].
    pub prefix: String,
    /// With what reason it ends at once, if it does.
    pub ends: Option<String>,
}

/// What a name in a case stands for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Known {
    /// An actor.
    Pid(Pid),
    /// An alias of one.
    Alias(Alias),
}

/// From a conductor to a process: one step.
#[derive(Debug, Serialize, Deserialize)]
pub struct Command {
    /// Which answer is to this.
    pub tag: u32,
    /// Without the process' own name.
    pub words: Vec<String>,
    /// All that the conductor knows.
    pub names: Vec<(String, Known)>,
}

/// To a conductor.
#[derive(Debug, Serialize, Deserialize)]
pub enum Told {
    /// A command is done.
    Done {
        /// Which.
        tag: u32,
        /// What came of it.
        outcome: Outcome,
        /// Processes that it started, and aliases that it made.
        born: Vec<(String, Known)>,
    },
    /// A callback of a server was called.
    Note {
        /// The server's name.
        id: String,
        /// Itself.
        pid: Pid,
        /// Which callback.
        words: String,
    },
}

/// Words, in which pids are as [`crate::words::pid`] writes them until the conductor names them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Outcome {
    /// One.
    One(String),
    /// Several, in their order.
    Many(Vec<String>),
    /// Several, in no order of their own.
    Unordered(Vec<String>),
}
