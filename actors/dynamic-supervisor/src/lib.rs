//! The module `dynamic-supervisor`: a supervisor of children that come and go in numbers, Elixir's
//! `DynamicSupervisor`. What it does is decided in [`machine`]; this shell carries it out.
//!
//! Its argument is postcard of a [`Spec`]; calls are [`wasm_node_sdk::supervisor::dynamic::Call`].
//! It links itself to its children and traps exits: that of its parent ends it, its children
//! first; those of others are ignored.

pub mod machine;
#[cfg(test)]
mod tests;

use machine::Machine;
use serde::{Deserialize, Serialize};
use supervisor_core::{Host, shell};
use wasm_node_sdk::supervisor::dynamic::{Call, MODULE, Reply, Spec};
use wasm_node_sdk::{CallReturn, Caller, ExitReason, GenServer, Info, Init, Next};

/// The supervisor's state.
#[derive(Serialize, Deserialize)]
pub struct DynamicSupervisor(Machine<Caller<Reply>>);

impl GenServer for DynamicSupervisor {
    const MODULE: &'static str = MODULE;
    type Args = Spec;
    type Call = Call;
    type Reply = Reply;
    type Cast = ();

    async fn init(spec: Spec) -> Init<Self> {
        wasm_node_sdk::trap_exit(true);
        Init::Ok(Self(Machine::new(&spec)))
    }

    async fn handle_call(&mut self, call: Call, from: Caller<Reply>) -> CallReturn<Reply> {
        match call {
            Call::StartChild(child) => self.0.start_child(&mut Host, child, from),
            Call::TerminateChild(pid) => self.0.terminate_child(&mut Host, pid, from),
            Call::WhichChildren => return CallReturn::Reply(Reply::Children(self.0.children())),
            Call::CountChildren => return CallReturn::Reply(Reply::Counted(self.0.counts())),
        }
        CallReturn::NoReplyThen(shell::next(&self.0))
    }

    async fn handle_info(&mut self, info: Info) -> Next {
        shell::handle_info(&mut self.0, info)
    }

    async fn terminate(&mut self, reason: &ExitReason) {
        shell::terminate(&mut self.0, reason).await;
    }
}

wasm_node_sdk::export_gen_server!(DynamicSupervisor);
