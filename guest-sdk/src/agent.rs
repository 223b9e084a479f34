//! Elixir's [`Agent`]: state in an actor of its own, and functions that read and change it.
//!
//! The functions are named when the module is compiled, with
//! [`agent_functions!`](crate::agent_functions), since no closure can be sent to an actor. They run in
//! the agent, one at a time; each returns a typed result.
//!
//! ```no_run
//! # fn main() {}
//! use std::collections::BTreeMap;
//! use wasm_node_sdk::agent::Agent;
//!
//! /// The state: anything that `serde` takes.
//! pub type Scores = BTreeMap<String, u32>;
//!
//! fn best(scores: &Scores) -> Option<String> {
//!     let best = scores.iter().max_by_key(|(_, points)| **points);
//!     best.map(|(name, _)| name.clone())
//! }
//! fn add(scores: &mut Scores, name: String, points: u32) -> u32 {
//!     let score = scores.entry(name).or_default();
//!     *score += points;
//!     *score
//! }
//! fn clear(scores: &mut Scores) {
//!     scores.clear();
//! }
//! wasm_node_sdk::agent_functions! {
//!     /// Who has how many points.
//!     pub Board = "board" of Scores {
//!         /// Who leads.
//!         get fn best() -> Option<String>;
//!         /// Gives points; how many there are then.
//!         get_and_update fn add(name: String, points: u32) -> u32;
//!         /// Forgets all.
//!         update fn clear();
//!     }
//! }
//! wasm_node_sdk::export_agent!(Board);
//!
//! async fn use_it() -> Result<(), Box<dyn std::error::Error>> {
//!     let board = Agent::<Board>::start(&Scores::new()).local("board").await?;
//!     let board = Agent::<Board>::from(board);
//!     let points = board.call(&Board::add("ada".into(), 3)).await?;
//!     let leader = board.call(&Board::best()).await?;
//!     board.cast(&Board::clear());
//!     board.stop().await?;
//!     Ok(())
//! }
//! ```
//!
//! | Elixir | here |
//! | --- | --- |
//! | `Agent.start_link/2` | [`Agent::start`] with [`link`](crate::server_ref::Starting::link) |
//! | `Agent.get/3`, `update/3`, `get_and_update/3` | [`Agent::call`] of a function of that kind |
//! | `Agent.cast/2` | [`Agent::cast`] |
//! | `Agent.stop/1` | [`Agent::stop`] |
//! | `child_spec` | [`ChildSpec::of`](crate::supervisor::ChildSpec::of)`::<AgentServer<Board>>` |
//!
//! It begins with a state that its starter gives, where Elixir's begins with a function.
//!
//! [`Agent`]: https://hexdocs.pm/elixir/Agent.html

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::rpc::Refusal;
use crate::server_ref::Starting;
use crate::{
    CallError, CallReturn, Caller, DEFAULT_CALL_TIMEOUT, ExitReason, GenServer, Init, Next,
    ServerRef, codec,
};

/// State and its functions. [`agent_functions!`](crate::agent_functions) implements it.
pub trait AgentFunctions: 'static {
    /// The name of the module (the component file, without `.wasm`) that this compiles to.
    const MODULE: &'static str;
    /// What it keeps.
    type State: Serialize + DeserializeOwned + 'static;

    /// Runs the function of that name; its result in postcard.
    fn apply(state: &mut Self::State, function: &str, args: &[u8]) -> Result<Vec<u8>, Refusal>;
}

/// A function of an agent with its arguments; `R` is what it returns.
pub struct Apply<A, R> {
    function: &'static str,
    args: Vec<u8>,
    of: PhantomData<fn(A) -> R>,
}

impl<A, R> Apply<A, R> {
    /// For the macro.
    #[doc(hidden)]
    pub fn new(function: &'static str, args: &impl Serialize) -> Self {
        Self {
            function,
            args: codec::encode(args),
            of: PhantomData,
        }
    }
}

/// The server that an agent is: what `export_agent!` exports, and what a supervisor starts.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct AgentServer<A: AgentFunctions>(A::State);

/// What an agent is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Ask {
    /// To run a function: its name, and its arguments in postcard.
    Apply(String, Vec<u8>),
    /// To end normally.
    Stop,
}

impl<A: AgentFunctions> GenServer for AgentServer<A> {
    const MODULE: &'static str = A::MODULE;
    type Args = A::State;
    type Call = Ask;
    type Reply = Result<Vec<u8>, String>;
    type Cast = (String, Vec<u8>);

    async fn init(state: A::State) -> Init<Self> {
        Init::Ok(Self(state))
    }

    async fn handle_call(&mut self, ask: Ask, _: Caller<Self::Reply>) -> CallReturn<Self::Reply> {
        match ask {
            Ask::Apply(function, args) => CallReturn::Reply(self.apply(&function, &args)),
            Ask::Stop => CallReturn::ReplyThen(Ok(Vec::new()), Next::Stop(ExitReason::Normal)),
        }
    }

    async fn handle_cast(&mut self, (function, args): Self::Cast) -> Next {
        if let Err(words) = self.apply(&function, &args) {
            crate::eprintln!(
                "{} {}: ignored a cast: {words}",
                A::MODULE,
                crate::self_pid()
            );
        }
        Next::Wait
    }
}

impl<A: AgentFunctions> AgentServer<A> {
    fn apply(&mut self, function: &str, args: &[u8]) -> Result<Vec<u8>, String> {
        A::apply(&mut self.0, function, args).map_err(|refusal| match refusal {
            Refusal::NoSuchFunction => {
                format!("the agent {} has no function {function}", A::MODULE)
            }
            Refusal::BadArguments(words) => format!("not the arguments of {function}: {words}"),
        })
    }
}

/// Where an agent is: a pid, or a name that is looked up at each use. Plain data.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Agent<A: AgentFunctions>(ServerRef<AgentServer<A>>);

impl<A: AgentFunctions> Clone for Agent<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: AgentFunctions> fmt::Debug for Agent<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<A: AgentFunctions> From<ServerRef<AgentServer<A>>> for Agent<A> {
    fn from(server: ServerRef<AgentServer<A>>) -> Self {
        Self(server)
    }
}

impl<A: AgentFunctions> Agent<A> {
    /// Starts an agent with this state; `.await` gives a reference that [`Agent::from`] takes. It can
    /// be linked, named and put on another node before.
    pub fn start(state: &A::State) -> Starting<AgentServer<A>> {
        ServerRef::start(state)
    }

    /// The one with this name on this node.
    pub fn local(name: &str) -> Self {
        Self(ServerRef::local(name))
    }

    /// The one with this name in the cluster.
    pub fn global(name: &str) -> Self {
        Self(ServerRef::global(name))
    }

    /// The server that it is.
    pub fn server(&self) -> &ServerRef<AgentServer<A>> {
        &self.0
    }

    /// Has it run a function, and waits for the result up to
    /// [`DEFAULT_CALL_TIMEOUT`].
    pub fn call<R: DeserializeOwned>(
        &self,
        apply: &Apply<A, R>,
    ) -> impl Future<Output = Result<R, AgentError>> + use<A, R> {
        self.call_timeout(apply, Some(DEFAULT_CALL_TIMEOUT))
    }

    /// The same with another time-out; none waits as long as it lives.
    pub fn call_timeout<R: DeserializeOwned>(
        &self,
        apply: &Apply<A, R>,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<R, AgentError>> + use<A, R> {
        let ask = Ask::Apply(apply.function.into(), apply.args.clone());
        let reply = self.0.call_timeout(ask, timeout);
        async move {
            let result = reply.await?.map_err(AgentError::Refused)?;
            codec::decode(&result).map_err(AgentError::Refused)
        }
    }

    /// Has it run a function, and does not wait.
    pub fn cast<R>(&self, apply: &Apply<A, R>) {
        self.0.cast((apply.function.into(), apply.args.clone()));
    }

    /// Ends it normally, and waits for that.
    pub async fn stop(&self) -> Result<(), AgentError> {
        let watch = self.0.monitor();
        let asked = self.0.call(Ask::Stop).await;
        match asked {
            Ok(_) => watch.down().await,
            Err(error) => {
                watch.cancel();
                return Err(error.into());
            }
        };
        Ok(())
    }
}

/// Why an agent gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentError {
    /// The call failed.
    Call(CallError),
    /// The agent has another version of its functions; says what it has not.
    Refused(String),
}

impl From<CallError> for AgentError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => f.write_str(&error.describe()),
            Self::Refused(words) => f.write_str(words),
        }
    }
}
impl std::error::Error for AgentError {}

/// Says which functions an [agent](crate::agent) has. Each is the Rust function of the same name in
/// the same module, whose first argument is the state: `&State` for `get`, `&mut State` for `update`
/// and `get_and_update`.
#[macro_export]
macro_rules! agent_functions {
    (@result) => { () };
    (@result $result:ty) => { $result };
    (@run get $function:ident $state:ident $($arg:ident)*) => { $function(&*$state $(, $arg)*) };
    (@run update $function:ident $state:ident $($arg:ident)*) => { $function($state $(, $arg)*) };
    (@run get_and_update $function:ident $state:ident $($arg:ident)*) => {
        $function($state $(, $arg)*)
    };
    (
        $(#[$meta:meta])* $vis:vis $name:ident = $module:literal of $state:ty {
            $(
                $(#[$about:meta])*
                $kind:ident fn $function:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $result:ty)?;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        $vis struct $name;

        #[allow(dead_code)]
        impl $name {
            $(
                $(#[$about])*
                $vis fn $function(
                    $($arg: $ty),*
                ) -> $crate::agent::Apply<$name, $crate::agent_functions!(@result $($result)?)> {
                    $crate::agent::Apply::new(stringify!($function), &($($arg,)*))
                }
            )*
        }

        impl $crate::agent::AgentFunctions for $name {
            const MODULE: &'static str = $module;
            type State = $state;

            fn apply(
                state: &mut $state,
                function: &str,
                args: &[u8],
            ) -> ::core::result::Result<::std::vec::Vec<u8>, $crate::rpc::Refusal> {
                match function {
                    $(
                        stringify!($function) => {
                            let ($($arg,)*): ($($ty,)*) = $crate::rpc::arguments(args)?;
                            let result: $crate::agent_functions!(@result $($result)?) =
                                $crate::agent_functions!(@run $kind $function state $($arg)*);
                            ::core::result::Result::Ok($crate::rpc::result(&result))
                        }
                    )*
                    _ => ::core::result::Result::Err($crate::rpc::Refusal::NoSuchFunction),
                }
            }
        }
    };
}

/// Makes this crate the component of an [agent](crate::agent). Once a component.
#[macro_export]
macro_rules! export_agent {
    ($functions:ty $(,)?) => {
        $crate::export_gen_server!($crate::agent::AgentServer<$functions>);
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Node;

    fn sum(all: &[i64]) -> i64 {
        all.iter().sum()
    }
    fn push(all: &mut Vec<i64>, n: i64) {
        all.push(n);
    }
    fn pop(all: &mut Vec<i64>) -> Option<i64> {
        all.pop()
    }
    crate::agent_functions! {
        Stack = "stack" of Vec<i64> {
            get fn sum() -> i64;
            update fn push(n: i64);
            get_and_update fn pop() -> Option<i64>;
        }
    }

    #[test]
    fn functions_read_and_change_the_state() {
        let node = Node::new();
        node.module::<AgentServer<Stack>>();
        let stack = node.run(async {
            let started = Agent::<Stack>::start(&vec![1, 2])
                .local("stack")
                .await
                .unwrap();
            let stack = Agent::<Stack>::local("stack");
            assert_eq!(stack.call(&Stack::sum()).await, Ok(3));
            assert_eq!(stack.call(&Stack::push(4)).await, Ok(()));
            stack.cast(&Stack::push(5));
            assert_eq!(stack.call(&Stack::pop()).await, Ok(Some(5)));
            let none = Apply::<Stack, ()>::new("dance", &());
            let refused = stack.call(&none).await;
            assert!(matches!(refused, Err(AgentError::Refused(words)) if words.contains("dance")));
            started
        });
        // The state survives an upgrade.
        node.upgrade::<AgentServer<Stack>>(stack.as_pid().unwrap())
            .unwrap();
        node.run(async {
            let stack = Agent::<Stack>::local("stack");
            assert_eq!(stack.call(&Stack::sum()).await, Ok(7));
            assert_eq!(stack.stop().await, Ok(()));
            assert_eq!(stack.stop().await, Err(AgentError::Call(CallError::Noproc)));
        });
        assert_eq!(
            node.exit_reason(stack.as_pid().unwrap()),
            Some(ExitReason::Normal)
        );
    }
}
