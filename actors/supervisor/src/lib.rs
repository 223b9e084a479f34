//! The module `supervisor`: an actor that starts others, ends them in order, and starts them
//! again when they fail. What it does is decided in [`machine`]; this shell carries it out.
//!
//! Its argument is postcard of a [`SupervisorSpec`]; calls are
//! [`wasm_node_sdk::supervisor::Call`]. It links itself to its children and traps exits: that of
//! its parent ends it, its children first; those of others are ignored.

pub mod machine;

use machine::Machine;
use serde::{Deserialize, Serialize};
use supervisor_core::{Host, Machine as _, shell};
use wasm_node_sdk::process;
use wasm_node_sdk::supervisor::spec::SupervisorSpec;
use wasm_node_sdk::supervisor::{Call, Reply};
use wasm_node_sdk::{CallReturn, Caller, ExitReason, GenServer, Info, Init, Next};

/// The supervisor's state.
#[derive(Serialize, Deserialize)]
pub struct Supervisor(Machine<Caller<Reply>>);

impl GenServer for Supervisor {
    const MODULE: &'static str = wasm_node_sdk::supervisor::MODULE;
    type Args = SupervisorSpec;
    type Call = Call;
    type Reply = Reply;
    type Cast = ();

    async fn init(spec: SupervisorSpec) -> Init<Self> {
        wasm_node_sdk::trap_exit(true);
        let mut machine = match Machine::new(spec) {
            Ok(machine) => machine,
            Err(words) => return Init::Stop(ExitReason::Error(words)),
        };
        machine.begin(&mut Host);
        let parent = process::parent();
        // Calls wait in the mailbox until all children are there.
        while machine.is_starting() || machine.is_stopping() {
            if let Some(reason) = machine.finished() {
                return Init::Stop(reason.clone());
            }
            shell::step(&mut machine, parent).await;
        }
        Init::Ok(Self(machine))
    }

    async fn handle_call(&mut self, call: Call, from: Caller<Reply>) -> CallReturn<Reply> {
        match call {
            Call::StartChild(child) => self.0.start_child(&mut Host, child, from),
            Call::TerminateChild(id) => self.0.terminate_child(&mut Host, &id, from),
            Call::WhichChildren => return CallReturn::Reply(Reply::Children(self.0.children())),
            Call::RestartChild(id) => self.0.restart_child(&mut Host, &id, from),
            Call::DeleteChild(id) => {
                let deleted = self.0.delete_child(&mut Host, &id);
                return CallReturn::Reply(Reply::Deleted(deleted));
            }
            Call::CountChildren => return CallReturn::Reply(Reply::Counted(self.0.counts())),
            Call::GetChildSpec(id) => {
                return CallReturn::Reply(Reply::Spec(self.0.spec(&id).cloned()));
            }
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

wasm_node_sdk::export_gen_server!(Supervisor);
