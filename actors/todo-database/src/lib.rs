//! The to-do database of a node: a manager, and a pool of workers that it starts and restarts.
//! Each is an actor of this module; what one is, its arguments say.
//!
//! A list belongs to the worker that [`ListName::worker`](todo_core::list::ListName::worker)
//! names, on every node, so that the workers of one number keep the same records everywhere.
//! Servers and workers find each other by local names; nothing passes through the manager.

mod manager;
mod worker;

use manager::Manager;
use serde::{Deserialize, Serialize};
use todo_core::list::DATABASE;
use todo_core::messages::{DatabaseCast, PeerCall, PeerReply};
use wasm_node_sdk::{CallReturn, Caller, ExitReason, GenServer, Info, Init, Next};
use worker::Worker;

/// The actor.
#[derive(Serialize, Deserialize)]
pub enum Database {
    /// The one with the name [`DATABASE`].
    Manager(Manager),
    /// One of its workers.
    Worker(Worker),
}

/// What to be. No bytes at all, as from a manifest, mean the manager.
#[derive(Serialize, Deserialize)]
pub enum Role {
    /// The manager.
    Manager,
    /// The worker of this number.
    Worker(u32),
}

impl GenServer for Database {
    const MODULE: &'static str = DATABASE;
    type Args = Role;
    type Call = PeerCall;
    type Reply = PeerReply;
    type Cast = DatabaseCast;

    async fn init(role: Role) -> Init<Self> {
        match role {
            Role::Manager => match Manager::start().await {
                Ok(manager) => Init::Ok(Self::Manager(manager)),
                Err(why) => Init::Stop(ExitReason::Error(why)),
            },
            Role::Worker(number) => match Worker::start(number) {
                Ok(worker) => Init::Ok(Self::Worker(worker)),
                Err(why) => Init::Stop(ExitReason::Error(why)),
            },
        }
    }

    async fn restored(&mut self) -> Next {
        match self {
            Self::Manager(_) => Next::Wait,
            Self::Worker(worker) => match worker.open() {
                Ok(()) => Next::Wait,
                Err(why) => Next::Stop(ExitReason::Error(why)),
            },
        }
    }

    async fn handle_call(
        &mut self,
        call: PeerCall,
        from: Caller<PeerReply>,
    ) -> CallReturn<PeerReply> {
        match self {
            Self::Manager(_) => CallReturn::Reply(PeerReply::Failed("this is no worker".into())),
            Self::Worker(worker) => worker.call(call, from),
        }
    }

    async fn handle_cast(&mut self, cast: DatabaseCast) -> Next {
        if let Self::Worker(worker) = self {
            worker.cast(cast);
        }
        Next::Wait
    }

    async fn handle_info(&mut self, info: Info) -> Next {
        match self {
            Self::Manager(manager) => manager.info(info).await,
            Self::Worker(worker) => worker.info(info),
        }
    }

    async fn terminate(&mut self, _: &ExitReason) {
        if let Self::Manager(manager) = self {
            manager.end();
        }
    }

    fn decode_args(bytes: &[u8]) -> Result<Role, String> {
        if bytes.is_empty() {
            return Ok(Role::Manager);
        }
        wasm_node_sdk::decode(bytes)
    }
}

wasm_node_sdk::export_gen_server!(Database);
