//! From a first actor to a supervised application, page by page. Every example is compiled, and
//! those that can are run.
//!
//! 1. [`first_actor`]: a function that receives messages; building and starting it.
//! 2. [`servers`]: state that is asked and told.
//! 3. [`waiting`]: asking others, time-outs, several things at once.
//! 4. [`failures`]: links, monitors, exit reasons.
//! 5. [`supervision`]: what starts again by itself, and an application of it.
//! 6. [`clusters`]: other nodes, names of the whole cluster, groups.
//! 7. [`upgrades`]: new code for actors that live.
//! 8. [`testing`]: all of it in `cargo test`.
//!
//! Who knows OTP finds the counterparts at the head of each module; what differs is said there. The
//! short list:
//!
//! | Elixir, Erlang | here |
//! | --- | --- |
//! | a module of functions | a component: one kind of actor, whose file is shipped to nodes that lack it |
//! | `spawn(fun)` | [`spawn`](crate::spawn) of a module with arguments: code is shipped, closures are not |
//! | `GenServer`, `:gen_statem` | [`GenServer`](crate::GenServer), [`GenStateMachine`](crate::GenStateMachine) |
//! | `Supervisor`, `DynamicSupervisor` | [`supervisor`](crate::supervisor), [`supervisor::dynamic`](crate::supervisor::dynamic) |
//! | `Task`, `Agent`, `Registry` | [`tasks`](crate::tasks), [`agent`](crate::agent), [`key_registry`](crate::key_registry) |
//! | `Application` | the manifest of an app: page 5 |
//! | `receive` | [`task::receive_match`](crate::task::receive_match) |
//! | `Process`, `:erlang` | [`process`](crate::process), [`registry`](crate::registry), [`time`](crate::time) |
//! | `:global`, `:pg`, `:rpc`, `:erpc` | [`registry::global`](crate::registry::global), [`groups`](crate::groups), [`rpc`](crate::rpc) |
//! | `:sys.get_state`, `:sys.get_status` | [`ServerRef::state`](crate::ServerRef::state), [`ServerRef::status`](crate::ServerRef::status) |
//! | `Logger`, `IO` | [`log`](mod@crate::log), [`io`](crate::io) |
//! | terms | any type that `serde` takes, in postcard unless a server says otherwise |

pub mod first_actor {
    //! A function that receives messages; building and starting it.
    //!
    //! An actor is a crate of the type `cdylib`, with one export macro. The smallest is a
    //! [`task`](crate::task): one function from start to end.
    //!
    //! ```toml
    //! # Cargo.toml
    //! [package]
    //! name = "echo"
    //! edition = "2024"
    //! [lib]
    //! crate-type = ["cdylib"]
    //! [dependencies]
    //! wasm-node-sdk = "0.1"
    //! ```
    //!
    //! ```no_run
    //! # fn main() {}
    //! // src/lib.rs
    //! use wasm_node_sdk::{ExitReason, Message, println, task};
    //!
    //! async fn echo(args: Vec<u8>) -> ExitReason {
    //!     println!("started with {} bytes", args.len());
    //!     loop {
    //!         match task::receive().await {
    //!             Message::Info(body) if body == b"stop" => return ExitReason::Normal,
    //!             Message::Info(body) => println!("{}", String::from_utf8_lossy(&body)),
    //!             _ => {}
    //!         }
    //!     }
    //! }
    //! wasm_node_sdk::export_task!(echo);
    //! ```
    //!
    //! ```text
    //! wasm-node build echo --out modules
    //! wasm-node start --name n1@127.0.0.1 --modules modules
    //! wasm-node spawn n1@127.0.0.1 echo hello --attach
    //! ```
    //!
    //! `println!` of this crate goes to the actor's group leader: with `--attach`, to that terminal,
    //! whichever node the actor is on.
    //!
    //! While it waits, an actor holds no stack, only its memory. A message of its own mailbox that
    //! answers a future goes to that future, any other to [`receive`](crate::task::receive), in order.
    //! Memory is the actor's alone: what it sends is copied, and what it panics about ends nobody else.
}

pub mod servers {
    //! State that is asked and told: [`GenServer`](crate::GenServer).
    //!
    //! ```
    //! # use wasm_node_sdk::testing::Node;
    //! use std::collections::BTreeMap;
    //!
    //! use serde::{Deserialize, Serialize};
    //! use wasm_node_sdk::{CallReturn, Caller, GenServer, Init, Next, ServerRef};
    //!
    //! /// The state.
    //! #[derive(Serialize, Deserialize)]
    //! struct Stock(BTreeMap<String, u32>);
    //!
    //! #[derive(Serialize, Deserialize)]
    //! enum Ask {
    //!     Count(String),
    //!     Take { what: String, count: u32 },
    //! }
    //!
    //! impl GenServer for Stock {
    //!     const MODULE: &'static str = "stock";
    //!     type Args = ();
    //!     type Call = Ask;
    //!     type Reply = Result<u32, String>;
    //!     type Cast = (String, u32);
    //!
    //!     async fn init((): ()) -> Init<Self> {
    //!         Init::Ok(Stock(BTreeMap::new()))
    //!     }
    //!
    //!     /// Answered: the caller waits.
    //!     async fn handle_call(&mut self, ask: Ask, _: Caller<Self::Reply>) -> CallReturn<Self::Reply> {
    //!         let (what, count) = match ask {
    //!             Ask::Count(what) => (what, 0),
    //!             Ask::Take { what, count } => (what, count),
    //!         };
    //!         let there = self.0.entry(what).or_default();
    //!         CallReturn::Reply(match there.checked_sub(count) {
    //!             Some(left) => {
    //!                 *there = left;
    //!                 Ok(left)
    //!             }
    //!             None => Err(format!("only {there} are there")),
    //!         })
    //!     }
    //!
    //!     /// Not answered.
    //!     async fn handle_cast(&mut self, (what, count): (String, u32)) -> Next {
    //!         *self.0.entry(what).or_default() += count;
    //!         Next::Wait
    //!     }
    //! }
    //! wasm_node_sdk::export_gen_server!(Stock);
    //!
    //! // In any other actor:
    //! async fn shop() {
    //!     let stock = ServerRef::<Stock>::start(&()).local("stock").await.unwrap();
    //!     stock.cast(("bolts".into(), 5));
    //!     let take = |count| Ask::Take { what: "bolts".into(), count };
    //!     assert_eq!(stock.call(take(3)).await, Ok(Ok(2)));
    //!     assert_eq!(stock.call(take(3)).await, Ok(Err("only 2 are there".into())));
    //!     // By its name, from anywhere on this node.
    //!     let same = ServerRef::<Stock>::local("stock");
    //!     assert_eq!(same.call(Ask::Count("bolts".into())).await, Ok(Ok(2)));
    //! }
    //! # let node = Node::new();
    //! # node.module::<Stock>();
    //! # node.run(shop());
    //! ```
    //!
    //! What a handler returns says what comes next: [`Next`](crate::Next). Answers can come later, from
    //! another handler: [`Caller`](crate::Caller) is plain data, so keep it in the state, and return
    //! [`CallReturn::NoReply`](crate::CallReturn).
    //!
    //! If what a server does with a message depends much on the state it is in, a
    //! [`GenStateMachine`](crate::GenStateMachine) is easier to read.
}

pub mod waiting {
    //! Asking others, time-outs, several things at once.
    //!
    //! A handler may `.await`: other messages wait meanwhile, in order, as in OTP. What should not hold
    //! up the next message runs beside, with [`spawn_local`](crate::spawn_local), and answers by the
    //! [`Caller`](crate::Caller).
    //!
    //! ```
    //! # use serde::{Deserialize, Serialize};
    //! # use wasm_node_sdk::testing::Node;
    //! use std::time::Duration;
    //! use wasm_node_sdk::{
    //!     CallError, CallReturn, Caller, Either, GenServer, Init, ServerRef, join_all, race, sleep,
    //!     spawn_local, timeout,
    //! };
    //!
    //! /// Answers after so many milliseconds, several at a time.
    //! #[derive(Serialize, Deserialize)]
    //! struct Slow;
    //!
    //! impl GenServer for Slow {
    //!     const MODULE: &'static str = "slow";
    //!     type Args = ();
    //!     type Call = u64;
    //!     type Reply = u64;
    //!     type Cast = ();
    //!
    //!     async fn init((): ()) -> Init<Self> {
    //!         Init::Ok(Slow)
    //!     }
    //!
    //!     async fn handle_call(&mut self, ms: u64, from: Caller<u64>) -> CallReturn<u64> {
    //!         spawn_local(async move {
    //!             sleep(Duration::from_millis(ms)).await;
    //!             from.reply(&ms);
    //!         });
    //!         CallReturn::NoReply
    //!     }
    //! }
    //!
    //! async fn ask() {
    //!     let slow = ServerRef::<Slow>::start(&()).await.unwrap();
    //!     // All at the same time: the request goes out with `call`, the future waits for its reply.
    //!     let replies = join_all([30, 10, 20].map(|ms| slow.call(ms))).await;
    //!     assert_eq!(replies, [Ok(30), Ok(10), Ok(20)]);
    //!     // The first of two; the other is dropped, and its reply with it.
    //!     let first = race(slow.call(50), slow.call(5)).await;
    //!     assert!(matches!(first, Either::Right(Ok(5))));
    //!     // Five seconds, unless something else is said.
    //!     let patience = Some(Duration::from_millis(10));
    //!     assert_eq!(slow.call_timeout(100, patience).await, Err(CallError::Timeout));
    //!     // Any future can be given a time-out.
    //!     assert!(timeout(Duration::from_millis(10), slow.call(100)).await.is_err());
    //! }
    //! # let node = Node::new();
    //! # node.module::<Slow>();
    //! # node.run(ask());
    //! ```
    //!
    //! A call fails at once if there is nobody to answer ([`CallError::Noproc`](crate::CallError)), or
    //! when the callee ends or its node is lost meanwhile. A reply that comes too late reaches nobody.
    //!
    //! A [`start_timer`](crate::time::start_timer) outlives handlers and upgrades, a
    //! [`sleep`](crate::sleep) does not.
}

pub mod failures {
    //! Links, monitors, exit reasons.
    //!
    //! An actor that panics, traps, or exceeds a limit ends, alone, with a reason that says why. Who
    //! wants to know monitors it; who depends on it links to it, and ends with it unless it traps exits.
    //!
    //! ```
    //! # use wasm_node_sdk::testing::Node;
    //! use wasm_node_sdk::{ExitReason, Message, SpawnOptions, exit, spawn, task, trap_exit};
    //!
    //! async fn watch() {
    //!     // Started and monitored in one step: nothing can happen in between.
    //!     let child = spawn("fragile", b"panic", &SpawnOptions::new().monitor()).unwrap();
    //!     let (_, reason) = child.monitor.unwrap().down().await;
    //!     assert!(matches!(reason, ExitReason::Trap(words) if words.contains("as told")));
    //!
    //!     trap_exit(true);
    //!     let child = spawn("fragile", b"wait", &SpawnOptions::new().link()).unwrap().pid;
    //!     exit(child, ExitReason::error("no longer needed"));
    //!     let died = task::receive_match(|message| matches!(message, Message::Exit(_))).await;
    //!     let why = ExitReason::error("no longer needed");
    //!     assert_eq!(died, Message::Exit((child, why)));
    //! }
    //! # let node = Node::new();
    //! # node.task("fragile", |args| async move {
    //! #     assert_ne!(args, b"panic", "as told");
    //! #     std::future::pending().await
    //! # });
    //! # node.run(watch());
    //! ```
    //!
    //! | reason | when |
    //! | --- | --- |
    //! | `Normal`, `Shutdown`, `ShutdownWith` | it was done, or asked to end: no failure |
    //! | `Error`, `Custom` | it says so itself, in words or bytes |
    //! | `Trap` | it panicked or did what wasm forbids; with a backtrace |
    //! | `Limit` | it used more memory, time or mailbox than it may |
    //! | `Killed` | somebody sent `Kill`, which cannot be trapped |
    //! | `Noproc`, `Noconnection` | there was none, or its node cannot be reached any more |
    //!
    //! In a [`GenServer`](crate::GenServer), a trapped exit comes as [`Info::Exit`](crate::Info), a
    //! monitor's end as [`Info::Down`](crate::Info). The exit of its parent is neither: it ends the
    //! server, by way of `terminate`.
    //!
    //! An end that is not clean is one event in the node's log, with what the mailbox held and the
    //! backtrace; servers add what [`GenServer::format_status`](crate::GenServer::format_status) says.
}

pub mod supervision {
    //! What starts again by itself, and an application of it.
    //!
    //! A [supervisor](crate::supervisor) starts children in order, starts them again when they fail, gives
    //! up when that happens too often, and ends them in the reverse order. It is an actor of the module
    //! `supervisor`, so a tree of them is a tree of actors.
    //!
    //! ```no_run
    //! use wasm_node_sdk::StartError;
    //! use wasm_node_sdk::server_ref::Name;
    //! use wasm_node_sdk::supervisor::{
    //!     ChildSpec, Client, Restart, Shutdown, Strategy, SupervisorSpec,
    //! };
    //!
    //! async fn start() -> Result<Client, StartError> {
    //!     let workers = SupervisorSpec {
    //!         strategy: Strategy::OneForAll,
    //!         children: vec![
    //!             ChildSpec::new("reader", "reader", vec![]),
    //!             ChildSpec::new("writer", "writer", vec![]).shutdown(Shutdown::After(30_000)),
    //!         ],
    //!         ..SupervisorSpec::default()
    //!     };
    //!     let root = SupervisorSpec {
    //!         // What started after a child that failed depends on it, and starts again with it.
    //!         strategy: Strategy::RestForOne,
    //!         // Three restarts in five seconds are borne, a fourth ends it.
    //!         intensity: 3,
    //!         period_ms: 5_000,
    //!         children: vec![
    //!             ChildSpec::new("store", "store", vec![]).name(Name::Local("store".into())),
    //!             ChildSpec::supervisor("workers", &workers),
    //!             ChildSpec::new("import", "import", vec![]).restart(Restart::Transient),
    //!         ],
    //!         ..SupervisorSpec::default()
    //!     };
    //!     Client::start(&root).await
    //! }
    //! ```
    //!
    //! Mostly nobody starts a tree by hand: the manifest of an app describes it, and `wasm-node start
    //! --app app.toml` runs it on each node (`wasm-node up app.toml --nodes 3`: on a whole cluster).
    //!
    //! ```toml
    //! [app]
    //! name = "shop"
    //! [modules.supervisor]
    //! source = "supervisor"
    //! [modules.dynamic-supervisor]
    //! source = "dynamic-supervisor"
    //! [modules.store]
    //! source = "store"
    //! capabilities = ["keyvalue:shop"]
    //! [modules.cart]
    //! source = "cart"
    //!
    //! [supervisor]
    //! strategy = "rest-for-one"
    //! [[supervisor.child]]
    //! id = "store"
    //! module = "store"
    //! name = "store"
    //! # Carts come and go: a supervisor that begins without children.
    //! [[supervisor.child]]
    //! id = "carts"
    //! name = "carts"
    //! [supervisor.child.dynamic]
    //! max_children = 10000
    //! ```
    //!
    //! ```no_run
    //! use std::time::Duration;
    //! use wasm_node_sdk::supervisor::{ChildSpec, Restart, dynamic};
    //!
    //! async fn new_cart(user: &str) -> Option<wasm_node_sdk::Pid> {
    //!     let cart = ChildSpec::new("", "cart", user.into()).restart(Restart::Temporary);
    //!     let carts = dynamic::Client::at("carts");
    //!     carts.start_child(cart, Duration::from_secs(5)).await.ok()?.ok()
    //! }
    //! ```
    //!
    //! A module may do what its app's manifest grants it, within the node's policy: send messages, and
    //! nothing else unless `capabilities` says so.
}

pub mod clusters {
    //! Other nodes, names of the whole cluster, groups.
    //!
    //! A pid, a call and a monitor are the same whether the other is here or on another node. A node
    //! that lacks a module is sent its code.
    //!
    //! ```
    //! # use serde::{Deserialize, Serialize};
    //! # use wasm_node_sdk::testing::Node;
    //! use wasm_node_sdk::{
    //!     CallReturn, Caller, GenServer, Init, ServerRef, StartError, groups, hashing, node,
    //! };
    //! # #[derive(Serialize, Deserialize)]
    //! # struct Lobby;
    //! # impl GenServer for Lobby {
    //! #     const MODULE: &'static str = "lobby";
    //! #     type Args = ();
    //! #     type Call = ();
    //! #     type Reply = String;
    //! #     type Cast = ();
    //! #     async fn init((): ()) -> Init<Self> {
    //! #         groups::join("lobbies").unwrap();
    //! #         Init::Ok(Lobby)
    //! #     }
    //! #     async fn handle_call(&mut self, (): (), _: Caller<String>) -> CallReturn<String> {
    //! #         CallReturn::Reply(node::name())
    //! #     }
    //! # }
    //!
    //! async fn meet() {
    //!     // At most one in the whole cluster, whoever else starts one at this moment.
    //!     let lobby = match ServerRef::<Lobby>::start(&()).global("lobby").await {
    //!         Ok(lobby) => lobby,
    //!         Err(StartError::AlreadyStarted(pid)) => ServerRef::pid(pid),
    //!         Err(error) => panic!("{error}"),
    //!     };
    //!     assert_eq!(lobby.call(()).await, Ok(node::name()));
    //!     // One on another node, by that node's name.
    //!     let there = ServerRef::<Lobby>::start(&()).on("n2@local").local("lobby").await.unwrap();
    //!     assert_eq!(there.call(()).await, Ok("n2@local".into()));
    //!     let same = ServerRef::<Lobby>::remote("lobby", "n2@local");
    //!     assert_eq!(same.call(()).await, Ok("n2@local".into()));
    //!     // All that joined a group, on all nodes.
    //!     assert_eq!(groups::members("lobbies").len(), 2);
    //!     // Without a name and without asking: each key has one node, and every node knows which.
    //!     assert!(["test@local", "n2@local"].contains(&&*hashing::node_for("ada")));
    //! }
    //! # let node = Node::new();
    //! # node.module::<Lobby>();
    //! # let _other = node.peer("n2@local");
    //! # node.run(meet());
    //! ```
    //!
    //! When a node is lost, monitors of its actors say `Noconnection`, and the names of those are free.
    //! When a cluster was cut in two and heals, a name may have two holders for a moment:
    //! [`registry::global`](crate::registry::global) tells who keeps it, and how to decide that yourself.
}

pub mod upgrades {
    //! New code for actors that live.
    //!
    //! Overwrite a module's file, and its actors go on in the new version between two messages: `save` of
    //! the old one, `upgrade` of the new one, Erlang's `code_change`. Nothing is lost: neither messages nor
    //! monitors, timers nor names. By default both are `serde`'s; state that changed its shape needs a word:
    //!
    //! ```
    //! # use wasm_node_sdk::testing::Node;
    //! use serde::{Deserialize, Serialize};
    //! use wasm_node_sdk::{CallReturn, Caller, GenServer, Init, codec};
    //!
    //! /// The state of the version before this one.
    //! #[derive(Serialize, Deserialize)]
    //! struct OldCounter(u32);
    //! # impl GenServer for OldCounter {
    //! #     const MODULE: &'static str = "counter";
    //! #     type Args = u32;
    //! #     type Call = ();
    //! #     type Reply = u64;
    //! #     type Cast = ();
    //! #     async fn init(n: u32) -> Init<Self> { Init::Ok(Self(n)) }
    //! #     async fn handle_call(&mut self, (): (), _: Caller<u64>) -> CallReturn<u64> {
    //! #         CallReturn::Reply(self.0.into())
    //! #     }
    //! # }
    //!
    //! /// It counts further now, and in steps.
    //! #[derive(Serialize, Deserialize)]
    //! struct Counter {
    //!     count: u64,
    //!     step: u64,
    //! }
    //!
    //! impl GenServer for Counter {
    //!     const MODULE: &'static str = "counter";
    //!     type Args = u64;
    //!     type Call = ();
    //!     type Reply = u64;
    //!     type Cast = ();
    //!
    //!     async fn init(count: u64) -> Init<Self> {
    //!         Init::Ok(Self { count, step: 1 })
    //!     }
    //!
    //!     async fn handle_call(&mut self, (): (), _: Caller<u64>) -> CallReturn<u64> {
    //!         self.count += self.step;
    //!         CallReturn::Reply(self.count)
    //!     }
    //!
    //!     /// A version in front tells this state from the old.
    //!     fn save(&self) -> Result<Vec<u8>, String> {
    //!         Ok(codec::encode(&("counter 2", self)))
    //!     }
    //!
    //!     fn upgrade(saved: &[u8]) -> Result<Self, String> {
    //!         match codec::decode::<(String, Self)>(saved) {
    //!             Ok((version, counter)) if version == "counter 2" => Ok(counter),
    //!             _ => {
    //!                 let OldCounter(count) = codec::decode(saved)?;
    //!                 Ok(Self { count: count.into(), step: 1 })
    //!             }
    //!         }
    //!     }
    //! }
    //! # let node = Node::new();
    //! # node.module::<OldCounter>();
    //! # let counter = node.start::<OldCounter>(&41).unwrap();
    //! # node.upgrade::<Counter>(counter.as_pid().unwrap()).unwrap();
    //! # let counter = wasm_node_sdk::ServerRef::<Counter>::pid(counter.as_pid().unwrap());
    //! # assert_eq!(node.call(&counter, ()), Ok(42));
    //! ```
    //!
    //! An error of `save` refuses the upgrade, an error of `upgrade` rolls it back: either way the actor
    //! goes on as it was. While a handler awaits or a [`spawn_local`](crate::spawn_local) runs, an actor
    //! is busy, and is asked again after its turn. A [`task`](crate::task) stays on its version until it ends.
}

pub mod testing {
    //! All of it in `cargo test`.
    //!
    //! With the feature `testing`, actors run natively: many of them on one thread, on several nodes, in
    //! virtual time. An hour's sleep takes nothing, and a seed can shuffle whose turn is next, so that a
    //! test looks for races and finds the same ones again. [`testing`](mod@crate::testing) says what is as
    //! on a node, and what is not.
    //!
    //! ```toml
    //! # Cargo.toml
    //! [lib]
    //! crate-type = ["cdylib", "rlib"]
    //! [dev-dependencies]
    //! wasm-node-sdk = { version = "0.1", features = ["testing"] }
    //! ```
    //!
    //! ```
    //! # use serde::{Deserialize, Serialize};
    //! # use wasm_node_sdk::{CallReturn, Caller, GenServer, Init, Next, Info};
    //! # use std::time::Duration;
    //! # #[derive(Serialize, Deserialize)]
    //! # struct Session(u32);
    //! # impl GenServer for Session {
    //! #     const MODULE: &'static str = "session";
    //! #     type Args = ();
    //! #     type Call = ();
    //! #     type Reply = u32;
    //! #     type Cast = ();
    //! #     async fn init((): ()) -> Init<Self> {
    //! #         Init::OkThen(Self(0), Next::Timeout(Duration::from_secs(1800)))
    //! #     }
    //! #     async fn handle_call(&mut self, (): (), _: Caller<u32>) -> CallReturn<u32> {
    //! #         self.0 += 1;
    //! #         CallReturn::ReplyThen(self.0, Next::Timeout(Duration::from_secs(1800)))
    //! #     }
    //! #     async fn handle_info(&mut self, _: Info) -> Next {
    //! #         Next::Stop(wasm_node_sdk::ExitReason::Normal)
    //! #     }
    //! # }
    //! use wasm_node_sdk::ExitReason;
    //! use wasm_node_sdk::testing::Node;
    //!
    //! # /*
    //! #[test]
    //! # */
    //! fn a_session_ends_half_an_hour_after_its_last_request() {
    //!     let node = Node::new();
    //!     node.module::<Session>();
    //!     let session = node.start::<Session>(&()).unwrap();
    //!     node.advance(Duration::from_secs(29 * 60));
    //!     assert_eq!(node.call(&session, ()), Ok(1));
    //!     node.advance(Duration::from_secs(29 * 60));
    //!     assert_eq!(node.call(&session, ()), Ok(2));
    //!     node.advance(Duration::from_secs(30 * 60));
    //!     let ended = node.exit_reason(session.as_pid().unwrap());
    //!     assert_eq!(ended, Some(ExitReason::Normal));
    //! }
    //! # a_session_ends_half_an_hour_after_its_last_request();
    //! ```
    //!
    //! [`RealNode`](crate::testing::RealNode) builds the crate and runs it on a real node, for the one test
    //! that should see that.
}
