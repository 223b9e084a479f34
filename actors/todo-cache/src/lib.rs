//! The cache of a node: which actor is the server of a list? It looks the list's global name up
//! on its own node first, and starts a server under the node's supervisor of lists otherwise.
//!
//! Invariants:
//! - It holds no entry and no pid: a cache that restarts has lost nothing.
//! - That there is one server a list is not its doing, but that of the global registry: a server
//!   registers before it serves, and one that comes too late names the one that is there.
//! - Starts of different lists go on side by side; those who ask for the same list at the same
//!   time wait for the same start.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use todo_core::list::{LISTS, ListName, SERVER_MODULE};
use todo_core::messages::{Address, CacheCall, CacheReply, ServerArgs};
use wasm_node_sdk::registry::global;
use wasm_node_sdk::supervisor::dynamic::Client;
use wasm_node_sdk::supervisor::{ChildSpec, Restart};
use wasm_node_sdk::{
    CallReturn, Caller, GenServer, Init, Pid, StartError, encode, server_ref, spawn_local,
};

/// How long a list's server goes on without a message, in milliseconds, unless the arguments say
/// otherwise.
const DEFAULT_IDLE_MS: u32 = 60_000;

/// How long a start may take: within it the cluster agrees on the name, or does not.
const START_TIMEOUT: Duration = Duration::from_millis(4_500);

/// How many callers may wait for starts. One more gets an error at once.
const MAX_WAITING_CALLERS: usize = 10_000;

type Waiting = BTreeMap<ListName, Vec<Caller<CacheReply>>>;

/// The actor.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Cache {
    idle_ms: u32,
    /// Who waits for a start. Empty whenever the state is saved: a start under way defers that.
    #[serde(skip)]
    waiting: Rc<RefCell<Waiting>>,
}

impl GenServer for Cache {
    const MODULE: &'static str = todo_core::list::CACHE;
    type Args = u32;
    type Call = CacheCall;
    type Reply = CacheReply;
    type Cast = ();

    async fn init(idle_ms: u32) -> Init<Self> {
        Init::Ok(Self {
            idle_ms,
            waiting: Rc::default(),
        })
    }

    async fn handle_call(
        &mut self,
        CacheCall(list): CacheCall,
        from: Caller<CacheReply>,
    ) -> CallReturn<CacheReply> {
        if let Some(pid) = global::whereis(&list.global_name()) {
            return CallReturn::Reply(Ok(address(pid)));
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.values().map(Vec::len).sum::<usize>() >= MAX_WAITING_CALLERS {
            return CallReturn::Reply(Err("too many lists are starting".into()));
        }
        match waiting.get_mut(&list) {
            Some(callers) => callers.push(from),
            None => {
                waiting.insert(list.clone(), vec![from]);
                spawn_local(start(list, self.idle_ms, self.waiting.clone()));
            }
        }
        CallReturn::NoReply
    }

    /// The manifest's text: the idle time in milliseconds, or nothing for the default.
    fn decode_args(bytes: &[u8]) -> Result<u32, String> {
        if bytes.is_empty() {
            return Ok(DEFAULT_IDLE_MS);
        }
        let number = std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        number.ok_or_else(|| "the arguments of todo-cache are the idle time in milliseconds".into())
    }
}

async fn start(list: ListName, idle_ms: u32, waiting: Rc<RefCell<Waiting>>) {
    let args = encode(&ServerArgs {
        list: list.clone(),
        idle_ms,
    });
    let name = server_ref::Name::Global(list.global_name());
    let child = ChildSpec::new(list.as_str(), SERVER_MODULE, args);
    let child = child.restart(Restart::Temporary).name(name);
    let reply = match Client::at(LISTS).start_child(child, START_TIMEOUT).await {
        Ok(Ok(pid) | Err(StartError::AlreadyStarted(pid))) => Ok(address(pid)),
        Ok(Err(error)) => Err(format!("the list's server did not start: {error}")),
        Err(error) => Err(format!(
            "the supervisor {LISTS} did not start a server: {error:?}"
        )),
    };
    let callers = waiting.borrow_mut().remove(&list);
    callers
        .into_iter()
        .flatten()
        .for_each(|caller| caller.reply(&reply));
}

fn address(pid: Pid) -> Address {
    Address {
        node: pid.node,
        serial: pid.serial,
    }
}

wasm_node_sdk::export_gen_server!(Cache);
