//! Plain actors: one async function from start to end, that receives what it wants when it
//! wants. It has no state that could be saved: a running task stays on its version.
//!
//! Erlang's plain process: `receive` is [`receive`], with a pattern [`receive_match`], with `after 0`
//! [`try_receive`], with any other `after` a [`timeout`](crate::timeout) around either. For Elixir's
//! `Task` see [`tasks`](crate::tasks).
//!
//! ```no_run
//! # fn main() {}
//! use wasm_node_sdk::{ExitReason, Message, task};
//!
//! async fn echo(_args: Vec<u8>) -> ExitReason {
//!     loop {
//!         match task::receive().await {
//!             Message::Info(body) if body == b"stop" => return ExitReason::Normal,
//!             Message::Info(body) => wasm_node_sdk::println!("{body:?}"),
//!             _ => {}
//!         }
//!     }
//! }
//! wasm_node_sdk::export_task!(echo);
//! ```

use crate::{Actor, ExitReason, Message, Outcome, SaveError, Start};
use crate::{rpc, runtime};

/// What [`export_task!`](crate::export_task) makes of a function.
pub trait Task: 'static {
    /// The whole life; what it returns is why the actor ended.
    fn main(args: Vec<u8>) -> impl Future<Output = ExitReason>;
}

/// The next message, in order. Answers to futures do not come here.
pub async fn receive() -> Message {
    runtime::receive().await
}

/// The first message that passes, whether it waits already or not; all others keep waiting,
/// in order: Erlang's selective receive.
pub async fn receive_match(mut wanted: impl FnMut(&Message) -> bool) -> Message {
    loop {
        if let Some(message) = runtime::take_matching(&mut wanted) {
            return message;
        }
        runtime::new_turn().await;
    }
}

/// The next message, if one waits.
pub fn try_receive() -> Option<Message> {
    runtime::take_matching(&mut |_| true)
}

/// A [`Task`] as an [`Actor`].
pub struct TaskActor<T>(std::marker::PhantomData<T>);

impl<T: Task> Actor for TaskActor<T> {
    fn init(start: Start) -> Result<(Self, Outcome), ExitReason> {
        if let Some(refused) = rpc::refuse_call(&start) {
            return Err(refused);
        }
        let Start::Fresh(args) = start else {
            return Err(ExitReason::Error(
                "a task cannot go on from saved state".into(),
            ));
        };
        runtime::start_main(async move { T::main(args).await });
        Ok((Self(std::marker::PhantomData), after(runtime::run())))
    }

    fn turn(&mut self) -> Outcome {
        after(runtime::run())
    }

    fn save(&mut self) -> Result<Vec<u8>, SaveError> {
        Err(SaveError::Refused(
            "a task has no state to save: write a GenServer for that".into(),
        ))
    }
}

fn after(exit: Option<ExitReason>) -> Outcome {
    exit.map_or(Outcome::Wait, Outcome::Stop)
}
