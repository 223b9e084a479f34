//! The actors of `wasm-node bench`: README.md has their messages. Written on the lowest layer,
//! [`Actor`], since what is measured is the platform.

mod driver;
mod histogram;
mod latency;
mod mesh;
mod work;

use driver::Driver;
use wasm_node_sdk::bindings::wasm_node::actor::{mailbox, process};
use wasm_node_sdk::{Actor, ExitReason, Message, Outcome, Pid, SaveError, Start, inbox};

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
    /// Passes a ball back; tells this actor when it was passed often enough.
    Player(Pid),
}

impl Actor for Role {
    fn init(start: Start) -> Result<(Self, Outcome), ExitReason> {
        // What `save` gives reads like arguments.
        let (args, fresh) = match start {
            Start::Fresh(args) => (args, true),
            Start::Restored(saved) => (saved, false),
        };
        let role = match args.split_first() {
            None => Role::Driver(Box::default()),
            Some((b'd', b"river")) => Role::Driver(Box::default()),
            Some((b'e', [])) => Role::Echo,
            Some((b's', [])) => Role::Sink,
            Some((b'i', [])) => Role::Idle,
            Some((b'f', next)) => Role::Forwarder(pid(next).ok_or_else(bad_args)?),
            Some((b'p', to)) => {
                let to = pid(to).ok_or_else(bad_args)?;
                if fresh {
                    let _ = mailbox::send(to, b"hi");
                }
                Role::Player(to)
            }
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
        while let Some(message) = inbox::next() {
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
                        Role::Player(driver) => play(*driver, &body),
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

    fn save(&mut self) -> Result<Vec<u8>, SaveError> {
        let saved = match self {
            Role::Driver(driver) if driver.is_blank() => b"driver".to_vec(),
            Role::Driver(_) => return Err(SaveError::Busy),
            Role::Echo => b"e".to_vec(),
            Role::Sink => b"s".to_vec(),
            Role::Idle => b"i".to_vec(),
            Role::Forwarder(next) => work::args(b'f', *next),
            Role::Player(driver) => work::args(b'p', *driver),
        };
        Ok(saved)
    }
}

fn play(driver: Pid, body: &[u8]) {
    let Some((from, left)) = mesh::caught(body) else {
        return;
    };
    match left.checked_sub(1) {
        Some(left) => work::send(from, &mesh::ball(process::self_(), left)),
        None => work::send(driver, b"done"),
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
