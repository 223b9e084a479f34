//! Text for people and lines from them, by way of this actor's group leader: `println!` and
//! `eprintln!` of this crate, and [`read_line`], as Erlang's `io`.
//!
//! ```no_run
//! # async fn ask() -> Result<(), wasm_node_sdk::CallError> {
//! wasm_node_sdk::io::print("Your name? ");
//! match wasm_node_sdk::io::read_line().await? {
//!     Some(name) => wasm_node_sdk::println!("Hello {}!", name.trim_end()),
//!     None => wasm_node_sdk::println!("Nobody there."),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Unlike Erlang's, printing waits for no answer of the group leader.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::runtime::{Answer, Kind};
use crate::sys::{io, mailbox};
use crate::time::millis;
use crate::{CallError, ExitReason, Message, Pid, ReplyTo};

/// Prints text as it is; [`println!`](crate::println) adds the line's end.
pub fn print(text: &str) {
    io::print(text);
}

/// Prints text to the error output.
pub fn print_error(text: &str) {
    io::print_error(text);
}

/// The next line of standard input, with its end; none when there are no more. Asked for by this
/// call, not by the first poll; if the future is dropped, the line goes to whoever asks next.
///
/// # Errors
/// The group leader, an actor, ended without an answer, or its node went down; or the line is no
/// UTF-8.
pub fn read_line() -> impl Future<Output = Result<Option<String>, CallError>> {
    read_line_within(None)
}

/// As [`read_line`]; [`CallError::Timeout`] if none comes for so long.
pub fn read_line_within(
    timeout: Option<Duration>,
) -> impl Future<Output = Result<Option<String>, CallError>> {
    struct Forget(Answer);
    impl Drop for Forget {
        fn drop(&mut self) {
            if !self.0.is_done() {
                mailbox::forget(self.0.tag());
            }
        }
    }
    let tag = io::read_line(timeout.map(millis));
    let mut answer = Forget(Answer::of(tag, Kind::Response));
    async move {
        match (&mut answer.0).await {
            Message::Response((_, result)) => line(result?),
            _ => Err(CallError::Noproc),
        }
    }
}

/// A line as the group leader gave it.
pub(crate) fn line(bytes: Vec<u8>) -> Result<Option<String>, CallError> {
    match String::from_utf8(bytes) {
        Ok(line) if line.is_empty() => Ok(None),
        Ok(line) => Ok(Some(line)),
        Err(error) => Err(CallError::Exit(ExitReason::error(format_args!(
            "a line of input is no text: {error}"
        )))),
    }
}

/// Somebody whose group leader this actor is waits for a line of input: give it one, or the end.
/// Plain data, so it can be kept in the state until there is a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRequest(pub(crate) ReplyTo);

impl InputRequest {
    /// Who asks.
    pub fn pid(&self) -> Pid {
        self.0.pid
    }

    /// Answers with a line; its end is added if it has none. A second answer is dropped.
    pub fn line(self, line: impl fmt::Display) {
        let mut line = line.to_string();
        if !line.ends_with('\n') {
            line.push('\n');
        }
        self.answer(line.as_bytes());
    }

    /// Answers that there are no more lines.
    pub fn end(self) {
        self.answer(b"");
    }

    fn answer(self, line: &[u8]) {
        if mailbox::reply(self.0, line).is_err() {
            print_error("a line is larger than the limit, and was not sent\n");
        }
    }
}

/// As std's, to this actor's group leader.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::io::print(&(::std::format!($($arg)*) + "\n")) };
}

/// As std's, to this actor's group leader.
#[macro_export]
macro_rules! eprintln {
    ($($arg:tt)*) => { $crate::io::print_error(&(::std::format!($($arg)*) + "\n")) };
}

/// A trap says only `unreachable`; this prints the panic's message and place before it.
pub(crate) fn install_panic_hook() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|info| print_error(&format!("{info}\n"))));
}
