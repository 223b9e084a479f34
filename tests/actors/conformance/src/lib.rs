//! Runs the cases of `tests/conformance` on wasm-node: its README tells what they mean. One
//! `suite` takes them as text and gives what came of each step; each case has a `conductor`,
//! which tells its processes (`process`, `server`, `machine`) what to do, one step at a time. Nothing here
//! knows what is expected: `tests/tests/conformance.rs` compares.

mod conductor;
mod machine;
mod process;
mod server;
mod suite;
mod supervisors;
mod wire;
mod words;

use wasm_node_sdk::gen_server::GenServerActor;
use wasm_node_sdk::gen_state_machine::Machine;
use wasm_node_sdk::task::TaskActor;
use wasm_node_sdk::{Actor, ExitReason, Outcome, SaveError, Start, decode};

use wire::Role;

/// The module's name.
pub(crate) const MODULE: &str = "conformance";

/// Any of them.
pub enum Any {
    /// See `suite`.
    Suite(TaskActor<suite::Suite>),
    /// See `conductor`.
    Conductor(TaskActor<conductor::Main>),
    /// See `process`.
    Process(TaskActor<process::Main>),
    /// See `server`.
    Server(GenServerActor<server::Server>),
    /// See `machine`.
    Machine(GenServerActor<Machine<machine::Machine>>),
}

/// Calls the same method of whichever it is.
macro_rules! each {
    ($any:expr, $actor:ident => $run:expr) => {
        match $any {
            Any::Suite($actor) => $run,
            Any::Conductor($actor) => $run,
            Any::Process($actor) => $run,
            Any::Server($actor) => $run,
            Any::Machine($actor) => $run,
        }
    };
}

fn begin<A: Actor>(start: Start, any: fn(A) -> Any) -> Result<(Any, Outcome), ExitReason> {
    A::init(start).map(|(actor, outcome)| (any(actor), outcome))
}

impl Actor for Any {
    fn init(start: Start) -> Result<(Self, Outcome), ExitReason> {
        let role = match &start {
            // What `wasm-node spawn` passes: the other node's name.
            Start::Fresh(args) if args.starts_with(suite::ARGS) => return begin(start, Any::Suite),
            Start::Fresh(args) => decode(args).map_err(ExitReason::Error)?,
            Start::Restored(_) => return Err(ExitReason::Error("nobody moves in a test".into())),
        };
        match role {
            Role::Conductor(_) => begin(start, Any::Conductor),
            Role::Process(_) => begin(start, Any::Process),
            Role::Server(_) => begin(start, Any::Server),
            Role::Machine(_) => begin(start, Any::Machine),
        }
    }

    fn turn(&mut self) -> Outcome {
        each!(self, actor => actor.turn())
    }

    fn save(&mut self) -> Result<Vec<u8>, SaveError> {
        Err(SaveError::Refused("nobody moves in a test".into()))
    }
}

wasm_node_sdk::export_actor!(Any);
