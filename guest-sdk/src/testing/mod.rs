//! Actors in `cargo test`: many of them on one thread, in virtual time, without a node.
//!
//! In the `Cargo.toml` of an actor's crate:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"]
//! [dev-dependencies]
//! wasm-node-sdk = { version = "0.1", features = ["testing"] }
//! ```
//!
//! A test makes a [`Node`], says which modules it has, and runs code as an actor of it:
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//! use wasm_node_sdk::testing::Node;
//! use wasm_node_sdk::{CallReturn, Caller, GenServer, Init, ServerRef, sleep};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Counter(i64);
//!
//! impl GenServer for Counter {
//!     const MODULE: &'static str = "counter";
//!     type Args = i64;
//!     type Call = i64;
//!     type Reply = i64;
//!     type Cast = ();
//!     async fn init(first: i64) -> Init<Self> {
//!         Init::Ok(Self(first))
//!     }
//!     async fn handle_call(&mut self, n: i64, _: Caller<i64>) -> CallReturn<i64> {
//!         self.0 += n;
//!         CallReturn::Reply(self.0)
//!     }
//! }
//!
//! let node = Node::new();
//! node.module::<Counter>();
//! node.run(async {
//!     let counter = ServerRef::<Counter>::start(&5).local("visits").await.unwrap();
//!     assert_eq!(counter.call(2).await, Ok(7));
//!     // An hour of virtual time, at once.
//!     sleep(Duration::from_secs(3600)).await;
//! });
//! // Or from outside:
//! let counter = node.server::<Counter>("visits").unwrap();
//! assert_eq!(node.call(&counter, 1), Ok(8));
//! ```
//!
//! It owns the doubles of the host's imports: spawns, messages, links, monitors and exits with
//! Erlang's rules, timers, names, groups, locks, several nodes. Signals arrive at once, and between
//! two actors in order; [`Node::shuffled`] lets a seed choose whose turn is next, so that a test can
//! look for races. What it does not have: limits and preemption (an endless loop hangs the test),
//! code shipping (each node has every module), partitions, storage, HTTP and
//! [`blocking`](crate::blocking). A panic ends its actor as a trap, except in [`Node::run`], where
//! it fails the test.
//! For a test on a real node there is [`RealNode`].

mod current;
pub(crate) mod imports;
mod real;
mod run;
#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
mod view;
mod world;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use crate::bindings::wasm_node::actor::process::{SpawnFlags, SpawnOptions};
use crate::gen_server::GenServerActor;
use crate::rpc::{Functions, NoActor, WithFunctions};
use crate::time::nanos;
use crate::{
    Actor, CallError, Destination, ExitReason, GenServer, Pid, SaveError, ServerRef, SpawnError,
};

use current::Shared;
use run::{Closure, Factory, Holder};
use world::{NodeState, World};

pub use real::{RealActor, RealNode, RealNodeError};
pub use world::Printed;

/// A node of a test, in virtual time. Clones are the same node.
#[derive(Clone)]
pub struct Node {
    world: Shared,
    incarnation: u64,
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// The node `test@local`. Actors take turns in the order in which they have something to do.
    pub fn new() -> Self {
        Self::of_world(World::new(None))
    }

    /// The same, but the seed decides whose turn is next: each seed is another order, and the
    /// same one every time.
    pub fn shuffled(seed: u64) -> Self {
        Self::of_world(World::new(Some(seed)))
    }

    fn of_world(world: World) -> Self {
        let first = Self {
            world: Rc::new(RefCell::new(world)),
            incarnation: 0,
        };
        first.peer("test@local")
    }

    /// Another node, connected to all, with the same modules and the same time.
    ///
    /// # Panics
    /// If a node of that name is up.
    pub fn peer(&self, name: &str) -> Self {
        let mut world = self.world.borrow_mut();
        assert!(world.incarnation(name).is_none(), "{name} is up already");
        world.nodes.push(NodeState {
            name: name.into(),
            up: true,
            names: Default::default(),
        });
        let incarnation = world.nodes.len() as u64;
        world.node_up(incarnation);
        drop(world);
        Self {
            world: self.world.clone(),
            incarnation,
        }
    }

    /// Ends this node with all its actors; the others' links and monitors say `noconnection`.
    /// [`Node::peer`] of the same name starts it again, empty.
    pub fn down(self) {
        self.world.borrow_mut().node_down(self.incarnation);
    }

    /// Its name.
    pub fn name(&self) -> String {
        let mut world = self.world.borrow_mut();
        let node = world.node(self.incarnation);
        node.map(|node| node.name.clone()).unwrap_or_default()
    }

    /// All nodes have the module of this server. Of a module that is there already, new actors get
    /// the new one.
    pub fn module<S: GenServer>(&self) -> &Self {
        self.actor::<GenServerActor<S>>(S::MODULE)
    }

    /// The same with functions: `export_gen_server!(Server, Functions)`.
    pub fn module_with<S: GenServer, F: Functions>(&self) -> &Self {
        self.actor::<WithFunctions<GenServerActor<S>, F>>(S::MODULE)
    }

    /// The module of functions: `export_functions!`.
    pub fn functions<F: Functions>(&self) -> &Self {
        self.actor::<WithFunctions<NoActor, F>>(F::MODULE)
    }

    /// The module of any actor: `export_actor!`.
    pub fn actor<A: Actor>(&self, name: &str) -> &Self {
        self.add(name, factory::<A>())
    }

    /// A module of a task, as a closure.
    pub fn task<F, R>(&self, name: &str, main: F) -> &Self
    where
        F: Fn(Vec<u8>) -> R + 'static,
        R: Future<Output = ExitReason> + 'static,
    {
        let main = Rc::new(main);
        self.add(name, Rc::new(move || Box::new(Closure(main.clone()))))
    }

    fn add(&self, name: &str, factory: Factory) -> &Self {
        self.world.borrow_mut().modules.insert(name.into(), factory);
        self
    }

    /// Runs a future as an actor of this node, until it is done, and everybody else meanwhile. Time
    /// passes when nobody has anything to do before the next timer.
    ///
    /// # Panics
    /// If the future does; if its actor is ended by an exit signal; and if it waits while nothing
    /// can happen any more.
    pub fn run<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> T {
        match self.try_run(work) {
            Ok(value) => value,
            Err(reason) => panic!("the test's actor ended: {}", reason_words(&reason)),
        }
    }

    /// As [`Node::run`]; an error if its actor ended before the future did.
    pub fn try_run<T: 'static>(
        &self,
        work: impl Future<Output = T> + 'static,
    ) -> Result<T, ExitReason> {
        let result = Rc::new(RefCell::new(None));
        let (out, work) = (result.clone(), RefCell::new(Some(work)));
        let module = format!("test {}", self.world.borrow_mut().serial());
        self.task(&module, move |_| {
            let (out, work) = (out.clone(), work.take());
            async move {
                let Some(work) = work else {
                    return ExitReason::Noproc;
                };
                *out.borrow_mut() = Some(work.await);
                ExitReason::Normal
            }
        });
        let spawned = self.spawn(&module, &[]);
        let me = spawned.map_err(|error| ExitReason::error(error.describe()))?;
        while self.is_alive(me) {
            let moved = run::step(&self.world) || self.world.borrow_mut().fire_next(u64::MAX);
            assert!(moved, "the test waits for what can never come");
        }
        self.world.borrow_mut().modules.remove(&module);
        let value = result.borrow_mut().take();
        value.ok_or_else(|| self.exit_reason(me).unwrap_or(ExitReason::Noproc))
    }

    /// Starts an actor; its `init` has not run.
    pub fn spawn(&self, module: &str, args: &[u8]) -> Result<Pid, SpawnError> {
        let options = SpawnOptions {
            flags: SpawnFlags::empty(),
            ..crate::SpawnOptions::new().to_wit(false)
        };
        let mut world = self.world.borrow_mut();
        world.spawn(self.incarnation, module, args, &options, None)
    }

    /// Starts a server and runs its `init`.
    pub fn start<S: GenServer>(&self, args: &S::Args) -> Result<ServerRef<S>, ExitReason> {
        let spawned = self.spawn(S::MODULE, &S::encode_args(args));
        let pid = spawned.map_err(|error| ExitReason::error(error.describe()))?;
        self.run_until_idle();
        match self.exit_reason(pid) {
            Some(reason) => Err(reason),
            None => Ok(ServerRef::pid(pid)),
        }
    }

    /// Asks a server, from an actor of its own.
    pub fn call<S: GenServer>(
        &self,
        server: &ServerRef<S>,
        request: impl std::borrow::Borrow<S::Call>,
    ) -> Result<S::Reply, CallError> {
        let body = S::encode_call(std::borrow::Borrow::borrow(&request));
        let reply = self.request(server.destination().clone(), body)?;
        crate::server_ref::decode_reply::<S>(reply)
    }

    /// Asks with bytes, and waits up to [`DEFAULT_CALL_TIMEOUT`](crate::DEFAULT_CALL_TIMEOUT).
    pub fn request(&self, to: impl Into<Destination>, body: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let (to, limit) = (to.into(), Some(crate::DEFAULT_CALL_TIMEOUT));
        self.run(async move { crate::request(&to, &body, limit).await })
    }

    /// Tells a server, and runs all that follows from that at once.
    pub fn cast<S: GenServer>(
        &self,
        server: &ServerRef<S>,
        message: impl std::borrow::Borrow<S::Cast>,
    ) {
        let (to, body) = (
            server.destination().clone(),
            S::encode_cast(std::borrow::Borrow::borrow(&message)),
        );
        self.run(async move { crate::process::cast(&to, &body) });
        self.run_until_idle();
    }

    /// Sends a plain message, and runs all that follows from that at once.
    pub fn send(&self, to: impl Into<Destination>, body: &[u8]) {
        let (to, body) = (to.into(), body.to_vec());
        self.run(async move { crate::send_to(&to, &body) });
        self.run_until_idle();
    }

    /// Sends an exit signal, as from nobody that is linked.
    pub fn exit(&self, target: Pid, reason: ExitReason) {
        self.run(async move { crate::exit(target, reason) });
        self.run_until_idle();
    }

    /// Replaces an actor's code by the module's present version, which goes on from the saved state;
    /// an error leaves the actor as it was.
    pub fn upgrade<S: GenServer>(&self, actor: Pid) -> Result<(), SaveError> {
        run::upgrade(&self.world, actor, &factory::<GenServerActor<S>>())
    }

    /// Runs all actors until none has anything to do. Time stands still.
    pub fn run_until_idle(&self) {
        let due = || {
            let mut world = self.world.borrow_mut();
            let now = world.now;
            world.fire_next(now)
        };
        while run::step(&self.world) || due() {}
    }

    /// Lets time pass, and runs what becomes due, in order.
    pub fn advance(&self, time: Duration) {
        self.run_until_idle();
        let until = self.world.borrow().now.saturating_add(nanos(time));
        while self.world.borrow_mut().fire_next(until) {
            self.run_until_idle();
        }
        self.world.borrow_mut().now = until;
    }

    /// How much time has passed.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.world.borrow().now)
    }

    /// Whether an actor lives.
    pub fn is_alive(&self, actor: Pid) -> bool {
        self.world.borrow().actors.contains_key(&actor)
    }

    /// Why an actor ended, if it did.
    pub fn exit_reason(&self, actor: Pid) -> Option<ExitReason> {
        self.world.borrow().ended.get(&actor).cloned()
    }

    /// Who has this name on this node.
    pub fn whereis(&self, name: &str) -> Option<Pid> {
        let mut world = self.world.borrow_mut();
        world.node(self.incarnation)?.names.get(name).copied()
    }

    /// Who has this name in the cluster.
    pub fn whereis_global(&self, name: &str) -> Option<Pid> {
        self.world.borrow().globals.get(name).copied()
    }

    /// The server with this name on this node.
    pub fn server<S: GenServer>(&self, name: &str) -> Option<ServerRef<S>> {
        self.whereis(name).map(ServerRef::pid)
    }

    /// What actors of all nodes printed since the last look, in order.
    pub fn printed(&self) -> Vec<Printed> {
        std::mem::take(&mut self.world.borrow_mut().printed)
    }
}

fn factory<A: Actor>() -> Factory {
    Rc::new(|| Box::new(Holder::<A>(None)))
}

/// As `describe`, for outside of actors.
fn reason_words(reason: &ExitReason) -> String {
    match reason {
        ExitReason::AlreadyStarted(pid) => format!("already started: {}", pid.to_hex()),
        reason => reason.describe().into_owned(),
    }
}
