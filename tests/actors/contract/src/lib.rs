//! The actors by which the tests see what the contract (`wit/`) is like from inside: the first
//! word of the arguments says which. `Script` exercises every import and writes down what comes
//! back; `Member` keeps state and tells what happened to it; `Herd` has many members;
//! `Chatter` talks to others without end.

mod chatter;
mod herd;
mod member;
mod script;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use chatter::Chatter;
use herd::Herd;
use member::Member;
use wasm_node_sdk::bindings::wasm_node::actor::mailbox;
use wasm_node_sdk::{Actor, ExitReason, Message, Outcome, SaveError, Start};

/// Any of them.
pub enum Role {
    /// See `script`.
    Script(Pin<Box<dyn Future<Output = ()>>>),
    /// See `member`.
    Member(Box<Member>),
    /// See `herd`.
    Herd(Box<Herd>),
    /// See `chatter`.
    Chatter(Box<Chatter>),
}

impl Actor for Role {
    fn init(start: Start) -> Result<(Self, Outcome), ExitReason> {
        let args = match start {
            Start::Fresh(args) => args,
            Start::Restored(saved) => {
                return match Member::restore(&saved) {
                    Some(member) => Ok((Self::Member(Box::new(member)), Outcome::Wait)),
                    None => Err(ExitReason::Error("no such state".into())),
                };
            }
        };
        let text = String::from_utf8_lossy(&args);
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("script", peer) => Ok((
                Self::Script(Box::pin(script::run(peer.into()))),
                Outcome::Wait,
            )),
            ("chatter", others) => {
                Ok((Self::Chatter(Box::new(Chatter::new(others))), Outcome::Wait))
            }
            ("herd", module) => Ok((Self::Herd(Box::new(Herd::new(module))), Outcome::Wait)),
            (how, rest) => {
                let (member, outcome) = Member::begin(how, rest, &args)?;
                Ok((Self::Member(Box::new(member)), outcome))
            }
        }
    }

    fn turn(&mut self) -> Outcome {
        match self {
            Self::Script(script) => {
                match script
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                {
                    Poll::Ready(()) => Outcome::Stop(ExitReason::Normal),
                    Poll::Pending => script::outcome(),
                }
            }
            Self::Member(member) => {
                while let Some(message) = mailbox::next() {
                    if let Some(outcome) = member.handle(message) {
                        return outcome;
                    }
                }
                member.outcome()
            }
            Self::Chatter(chatter) => {
                while let Some(message) = mailbox::next() {
                    chatter.handle(message);
                }
                Outcome::Wait
            }
            Self::Herd(herd) => {
                while let Some(message) = mailbox::next() {
                    herd.handle(message);
                }
                Outcome::Wait
            }
        }
    }

    fn save(&mut self) -> Result<Vec<u8>, SaveError> {
        match self {
            Self::Member(member) => member.save(),
            _ => Err(SaveError::Refused(
                "nobody moves in the middle of a test".into(),
            )),
        }
    }
}

/// The next message, when there is one. Only a script awaits it.
pub(crate) async fn receive() -> Message {
    std::future::poll_fn(|_| mailbox::next().map_or(Poll::Pending, Poll::Ready)).await
}

wasm_node_sdk::export_actor!(Role);
