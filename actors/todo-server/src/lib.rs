//! The server of one to-do list: at most one in the connected cluster, under the list's global
//! name. The state machine is [`todo_core::server`]; here are the actor around it, and what ties
//! it to its node's database worker.
//!
//! Invariants:
//! - An add is answered `Added` only after the worker has said that it is stored, so that this
//!   actor may end at any moment (crash, kill, idle expiry, a lost name) without loss.
//! - No handler awaits, and everything under way is in the state: an upgrade needs no pause, and
//!   no request fails because of one.
//! - When two halves of a cluster meet, the server that loses the name ends; all that it has
//!   acknowledged is in its worker's store and reaches the winner's by catching up.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use todo_core::list::{ListName, worker_name};
use todo_core::messages::{Address, DatabaseCast, ServerArgs, ServerCall, ServerCast, ServerReply};
use todo_core::server::{Effect, Server};
use wasm_node_sdk::{
    CallReturn, Caller, Destination, ExitReason, GenServer, Info, Init, Monitor, Next, Ref, encode,
    monitor, process, self_pid, time,
};

/// How long after its worker ended a server looks for the next one.
const WORKER_RETRY: Duration = Duration::from_millis(50);

/// The actor.
#[derive(Serialize, Deserialize)]
pub struct TodoServer {
    list: ListName,
    idle_ms: u32,
    server: Server<Caller<ServerReply>>,
    /// The watch over the worker; a worker that ended takes what it was asked with it.
    worker: Monitor,
    /// When to look for the next worker.
    retry: Option<Ref>,
}

impl GenServer for TodoServer {
    const MODULE: &'static str = todo_core::list::SERVER_MODULE;
    type Args = ServerArgs;
    type Call = ServerCall;
    type Reply = ServerReply;
    type Cast = ServerCast;

    async fn init(args: ServerArgs) -> Init<Self> {
        let ServerArgs { list, idle_ms } = args;
        let (server, effects) = Server::new(now_ms());
        let worker = monitor(worker_of(&list));
        let mut this = Self {
            list,
            idle_ms,
            server,
            worker,
            retry: None,
        };
        let next = this.perform(effects);
        Init::OkThen(this, next)
    }

    async fn handle_call(
        &mut self,
        call: ServerCall,
        from: Caller<ServerReply>,
    ) -> CallReturn<ServerReply> {
        let effects = self.server.call(now_ms(), call, from);
        CallReturn::NoReplyThen(self.perform(effects))
    }

    async fn handle_cast(&mut self, cast: ServerCast) -> Next {
        let effects = self.server.told(now_ms(), cast);
        self.perform(effects)
    }

    async fn handle_info(&mut self, info: Info) -> Next {
        match info {
            Info::Timeout if self.server.is_idle() => return Next::Stop(ExitReason::Normal),
            Info::Down { monitor, .. } if monitor == self.worker => {
                self.retry = Some(time::start_timer(WORKER_RETRY));
            }
            Info::Timer(timer) if self.retry == Some(timer) => {
                self.retry = None;
                self.worker = monitor(worker_of(&self.list));
                let effects = self.server.ask_again();
                return self.perform(effects);
            }
            Info::NameConflict { .. } => return Next::Stop(ExitReason::Shutdown),
            Info::Exit { reason, .. } => return Next::Stop(reason),
            _ => {}
        }
        self.next()
    }
}

impl TodoServer {
    fn perform(&mut self, effects: Vec<Effect<Caller<ServerReply>>>) -> Next {
        for effect in effects {
            match effect {
                Effect::Reply(to, reply) => to.reply(&reply),
                Effect::Store(change) => {
                    let list = self.list.clone();
                    self.tell(&DatabaseCast::Store {
                        from: address(),
                        list,
                        change,
                    });
                }
                Effect::Load(position) => {
                    let list = self.list.clone();
                    self.tell(&DatabaseCast::Load {
                        from: address(),
                        list,
                        position,
                    });
                }
            }
        }
        self.next()
    }

    fn tell(&self, cast: &DatabaseCast) {
        // It is far below the limit of a message's size, the only thing that can be wrong.
        process::cast(&worker_of(&self.list), &encode(cast));
    }

    fn next(&self) -> Next {
        Next::Timeout(Duration::from_millis(self.idle_ms.into()))
    }
}

fn worker_of(list: &ListName) -> Destination {
    Destination::Name(worker_name(list.worker()))
}

fn address() -> Address {
    let pid = self_pid();
    Address {
        node: pid.node,
        serial: pid.serial,
    }
}

fn now_ms() -> u64 {
    time::now() / 1_000_000
}

wasm_node_sdk::export_gen_server!(TodoServer);
