//! Calling functions of modules on other nodes, as Erlang's [`erpc`] and [`rpc`].
//!
//! A module offers functions with [`rpc_functions!`](crate::rpc_functions):
//!
//! ```no_run
//! # fn main() {}
//! use std::time::Duration;
//! use wasm_node_sdk::{node, rpc};
//!
//! async fn add(a: i64, b: i64) -> i64 {
//!     a + b
//! }
//! async fn divide(a: i64, b: i64) -> Result<i64, String> {
//!     a.checked_div(b).ok_or_else(|| "not by zero".into())
//! }
//!
//! wasm_node_sdk::rpc_functions! {
//!     /// Sums, on any node.
//!     pub Sums = "sums" {
//!         /// Adds two numbers.
//!         async fn add(a: i64, b: i64) -> i64;
//!         /// Divides one by another.
//!         async fn divide(a: i64, b: i64) -> Result<i64, String>;
//!     }
//! }
//! // In the component `sums.wasm`; next to a server: `export_gen_server!(Server, Sums)`.
//! wasm_node_sdk::export_functions!(Sums);
//!
//! // In any actor:
//! async fn ask() -> Result<(), rpc::Error> {
//!     const SOON: Duration = Duration::from_secs(2);
//!     let sum: i64 = Sums::add(1, 2).on("node2@127.0.0.1", SOON).await?;
//!     match Sums::divide(sum, 0).on("node2@127.0.0.1", SOON).await? {
//!         Ok(quotient) => wasm_node_sdk::println!("{quotient}"),
//!         Err(words) => wasm_node_sdk::println!("the function's own error: {words}"),
//!     }
//!     // On every node at the same time, the same two seconds for all.
//!     let all = Sums::add(1, 2).on_all(rpc::everywhere(), SOON).await;
//!     wasm_node_sdk::println!("no sum from {:?}", all.failed());
//!     // Without the declaration at hand:
//!     let sum: i64 = rpc::call("node2@127.0.0.1", "sums", "add", &(1i64, 2i64), SOON).await?;
//!     Ok(())
//! }
//! ```
//!
//! | OTP | here |
//! | --- | --- |
//! | `erpc:call/5`, `rpc:call/5` | [`call`], [`Call::on`] |
//! | `erpc:multicall/5`, `rpc:multicall/5` | [`multicall`], [`Call::on_all`] |
//! | `erpc:cast/4`, `erpc:multicast/4` | [`cast`], [`multicast`], [`Call::cast_on`] |
//! | `rpc:abcast/3` | [`abcast`]; of casts to servers, [`server_abcast`] |
//! | `gen_server:multi_call/4` | [`multi_call`](crate::multi_call) |
//! | `[node() \| nodes()]` | [`everywhere`] |
//!
//! How it works is how `erpc` does: the call starts an actor of the module on the node,
//! monitored from its very start, which runs the function and ends; its exit reason is the
//! result. So there is either a result or the reason why not, never both, and an actor that waits for
//! one goes on with its other tasks. What differs:
//!
//! - The code is the caller's: the version of the module that its own node has, shipped to the node
//!   if that lacks it. The first call's time-out includes that.
//! - A function that is still running when the time is up is ended (`erpc` lets it run): when the
//!   caller says so, and should that not get through, by its own clock, at its next `await`.
//!   Nothing that comes later reaches the caller. The caller's own end does not end it.
//! - A function's error is a value of its own type ([`Result`] in its result), not an exception.
//! - `rpc`'s `block_call` and `async_call` need nothing: `.await` at once, or later.
//!
//! [`erpc`]: https://www.erlang.org/doc/apps/kernel/erpc.html
//! [`rpc`]: https://www.erlang.org/doc/apps/kernel/rpc.html

mod caller;
mod error;
mod functions;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Destination, GenServer, process, sys};

pub use caller::{Call, MultiResults};
pub use error::Error;
pub use functions::{Functions, NoActor, Refusal, WithFunctions, arguments, result};
pub(crate) use functions::{TaskKind, answer, invoke_task, refuse_call, task_result};

/// Calls a function of a module on a node, which may be this one, and waits for its result.
/// `args` is a tuple of the function's arguments. The call begins at once, not at the first poll;
/// dropping the future ends the function.
pub fn call<R: DeserializeOwned, A: Serialize>(
    node: &str,
    module: &str,
    function: &str,
    args: &A,
    timeout: Duration,
) -> impl Future<Output = Result<R, Error>> + use<R, A> {
    Call::new(module.to_owned(), function.to_owned(), args).on(node, timeout)
}

/// Calls a function on several nodes at the same time: a result of each, in the order of the
/// nodes, all of them within the one time-out, whatever a node does.
pub fn multicall<R, A, I>(
    nodes: I,
    module: &str,
    function: &str,
    args: &A,
    timeout: Duration,
) -> impl Future<Output = MultiResults<R>> + use<R, A, I>
where
    R: DeserializeOwned,
    A: Serialize,
    I: IntoIterator<Item: Into<String>>,
{
    Call::new(module.to_owned(), function.to_owned(), args).on_all(nodes, timeout)
}

/// Has a node run a function, and does not wait. What becomes of it nobody hears.
pub fn cast(node: &str, module: &str, function: &str, args: &impl Serialize) {
    Call::<()>::new(module.to_owned(), function.to_owned(), args).cast_on(node);
}

/// Has several nodes run a function, and does not wait.
pub fn multicast(
    nodes: impl IntoIterator<Item = impl Into<String>>,
    module: &str,
    function: &str,
    args: &impl Serialize,
) {
    let call = Call::<()>::new(module.to_owned(), function.to_owned(), args);
    for node in nodes {
        call.cast_on(&node.into());
    }
}

/// Sends a plain message to the actor with this name on each of these nodes. Says nothing of
/// whether it is there.
pub fn abcast(nodes: impl IntoIterator<Item = impl Into<String>>, name: &str, body: &[u8]) {
    for node in nodes {
        process::send_to(&Destination::RemoteName((name.into(), node.into())), body);
    }
}

/// Casts to the server with this name on each of these nodes: `gen_server:abcast/3`.
pub fn server_abcast<S: GenServer>(
    nodes: impl IntoIterator<Item = impl Into<String>>,
    name: &str,
    message: impl Borrow<S::Cast>,
) {
    let body = S::encode_cast(message.borrow());
    for node in nodes {
        process::cast(&Destination::RemoteName((name.into(), node.into())), &body);
    }
}

/// This node and the visible ones connected to it, sorted: Erlang's `[node() | nodes()]`, which
/// its multi-calls ask unless told otherwise.
pub fn everywhere() -> Vec<String> {
    let mut nodes = sys::visible_nodes();
    nodes.push(sys::node::name());
    nodes.sort_unstable();
    nodes
}
