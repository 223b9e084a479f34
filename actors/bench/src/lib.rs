//! The actors of `wasm-node bench`: README.md has their messages. Written on the lowest layer,
//! [`Actor`], since what is measured is the platform.

mod driver;

use driver::Driver;
use wasm_node_sdk::bindings::wasm_node::actor::mailbox;
use wasm_node_sdk::{Actor, ExitReason, Message, Outcome, Pid, Start};

/// Any of them.
pub enum Role {
    /// Runs the loops.
    Driver(Box<Driver>),
    /// Sends back.
    Echo,
    /// Swallows.
    Sink,
    /// Waits.
    Idle,
    /// Passes on.
    Forwarder(Pid),
}

impl Actor for Role {
    fn init(start: Start) -> Result<(Self, Outcome), ExitReason> {
        let Start::Fresh(args) = start else {
            return Err(ExitReason::Error(
                "a benchmark does not go on from saved state".into(),
            ));
        };
        let role = match args.split_first() {
            None => Role::Driver(Box::default()),
            Some((b'd', b"river")) => Role::Driver(Box::default()),
            Some((b'e', [])) => Role::Echo,
            Some((b's', [])) => Role::Sink,
            Some((b'i', [])) => Role::Idle,
            Some((b'f', next)) => Role::Forwarder(pid(next).ok_or_else(bad_args)?),
            Some((b'h', to)) => {
                let _ = mailbox::send(pid(to).ok_or_else(bad_args)?, b"hi");
                return Ok((Role::Idle, Outcome::Stop(ExitReason::Normal)));
            }
            Some((b'c', data)) => {
                let (&n, to) = data.split_last().ok_or_else(bad_args)?;
                let result = fib(n.into()).to_be_bytes();
                let _ = mailbox::send(pid(to).ok_or_else(bad_args)?, &result);
                return Ok((Role::Idle, Outcome::Stop(ExitReason::Normal)));
            }
            _ => return Err(bad_args()),
        };
        Ok((role, Outcome::Wait))
    }

    fn turn(&mut self) -> Outcome {
        while let Some(message) = mailbox::next() {
            match self {
                Role::Driver(driver) => driver.handle(message),
                _ => {
                    let Message::Info(body) = message else {
                        continue;
                    };
                    match self {
                        Role::Forwarder(next) => {
                            let _ = mailbox::send(*next, &body);
                        }
                        Role::Echo => {
                            if let Some((to, data)) = body.split_at_checked(16)
                                && let Some(to) = pid(to)
                            {
                                let _ = mailbox::send(to, data);
                            }
                        }
                        Role::Sink => answer(&body, b"done", b"done"),
                        _ => answer(&body, b"ping", b"pong"),
                    }
                    if body == b"stop" {
                        return Outcome::Stop(ExitReason::Normal);
                    }
                }
            }
        }
        Outcome::Wait
    }
}

fn answer(body: &[u8], question: &[u8], reply: &[u8]) {
    if body.len() == 20
        && let Some(to) = body.strip_prefix(question).and_then(pid)
    {
        let _ = mailbox::send(to, reply);
    }
}

fn pid(bytes: &[u8]) -> Option<Pid> {
    bytes.try_into().ok().map(Pid::from_bytes)
}

fn bad_args() -> ExitReason {
    ExitReason::Error("bad arguments: actors/bench/README.md has the roles".into())
}

fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

wasm_node_sdk::export_actor!(Role);
