//! The driver's jobs: what each waits for, and what it does with the next message.

use wasm_node_sdk::bindings::wasm_node::actor::process::{SpawnFlags, SpawnOptions};
use wasm_node_sdk::bindings::wasm_node::actor::{global, mailbox, process, timer};
use wasm_node_sdk::{ExitReason, Message, Pid, Ref};

use crate::latency::Latency;
use crate::mesh::Mesh;

const MODULE: &str = "bench";
/// Messages, and their bytes, that one turn sends at most; then the driver sends itself [`GO_ON`].
pub const BATCH_MESSAGES: u64 = 1024;
const BATCH_BYTES: u64 = 1 << 20;
/// Actors that one turn spawns at most.
pub const BATCH_SPAWNS: u64 = 256;
/// What the driver sends itself.
pub const GO_ON: &[u8] = b"go on";
/// A message's data in the call and send tests, in bytes.
const DATA: [u8; 16] = [7; 16];

/// What a job found out: nanoseconds unless it says otherwise.
pub type Answer = String;

/// Why a job found out nothing.
pub type Failed = String;

/// A job under way.
pub enum Work {
    /// Waits for a remote echo or sink actor.
    Remote {
        tag: Ref,
        then: Test,
    },
    PingPong {
        peer: Pid,
        question: [u8; 32],
        left: u64,
    },
    Flood {
        peer: Pid,
        body: Vec<u8>,
        left: u64,
    },
    Spawn {
        args: Vec<u8>,
        left: u64,
    },
    RemoteSpawn {
        node: String,
        args: Vec<u8>,
        tag: Ref,
        spawned: bool,
        hi: bool,
        left: u64,
    },
    Ring {
        last: Pid,
        left: u64,
    },
    /// Waits for the ring's `stop`; its time is taken.
    RingEnds {
        elapsed: u64,
    },
    Fib,
    /// The monitor is the last one's, once all are spawned; `refused` says why there are fewer.
    Idle {
        left: u64,
        last: Option<Ref>,
        refused: Option<Failed>,
    },
    IdleEnds {
        monitor: Ref,
    },
    /// Asks one after the other; the next one's place.
    IdleCalls {
        next: usize,
    },
    Mesh(Mesh),
    Latency(Latency),
    Kill {
        monitor: Ref,
    },
    Register {
        tag: Ref,
        next: usize,
    },
}

/// What is tried with an echo or a sink actor, wherever it is.
#[derive(Clone, Copy)]
pub enum Test {
    PingPong { n: u64 },
    Flood { n: u64, size: usize },
}

/// Goes on with a job: done, with the nanoseconds it took, or not.
pub fn step(
    work: &mut Work,
    since: &mut u64,
    idle: &mut Vec<Pid>,
    named: &[Pid],
    message: Message,
) -> Result<Option<Answer>, Failed> {
    let elapsed = |since: &u64| Ok(Some(elapsed(*since)));
    match (work, message) {
        (Work::Mesh(mesh), message) => return mesh.step(&message),
        (Work::Latency(latency), message) => return Ok(latency.step(&message)),
        (
            Work::PingPong {
                peer,
                question,
                left,
            },
            Message::Info(body),
        ) => {
            if body != DATA {
                return Err(format!("the echo has {} bytes", body.len()));
            }
            *left -= 1;
            if *left == 0 {
                let elapsed = elapsed(since);
                send(*peer, b"stop");
                return elapsed;
            }
            send(*peer, question);
        }
        (Work::Flood { peer, body, left }, Message::Info(word)) => {
            if word == GO_ON {
                flood(*peer, body, left);
            } else {
                let elapsed = elapsed(since);
                send(*peer, b"stop");
                return elapsed;
            }
        }
        (Work::Spawn { args, left }, Message::Info(_)) => {
            *left -= 1;
            if *left == 0 {
                return elapsed(since);
            }
            spawn(args)?;
        }
        (
            Work::RemoteSpawn {
                node,
                args,
                tag,
                spawned,
                hi,
                left,
            },
            message,
        ) => {
            match message {
                Message::Info(_) => *hi = true,
                Message::Spawned((_, Ok(_))) => *spawned = true,
                Message::Spawned((_, Err(error))) => return Err(error.describe().into_owned()),
                _ => {}
            }
            if *hi && *spawned {
                *left -= 1;
                if *left == 0 {
                    return elapsed(since);
                }
                (*hi, *spawned) = (false, false);
                *tag = spawn_on(node, args);
            }
        }
        (work @ Work::Ring { .. }, Message::Info(_)) => {
            let Work::Ring { last, left } = work else {
                return Ok(None);
            };
            *left -= 1;
            if *left > 0 {
                send(*last, b"token");
            } else {
                let elapsed = timer::now() - *since;
                send(*last, b"stop");
                *work = Work::RingEnds { elapsed };
            }
        }
        (Work::RingEnds { elapsed }, Message::Info(_)) => return Ok(Some(elapsed.to_string())),
        (Work::Fib, Message::Info(_)) => return elapsed(since),
        (
            Work::Idle {
                left,
                last,
                refused,
            },
            Message::Info(word),
        ) => {
            if let Some(monitor) = last
                && word != GO_ON
            {
                process::demonitor(*monitor);
                let (made, ns) = (idle.len(), timer::now() - *since);
                let why = refused.take().unwrap_or_default();
                return Ok(Some(format!("{made} {ns} {why}")));
            }
            for _ in 0..(*left).min(BATCH_SPAWNS) {
                match spawn(b"i") {
                    Ok(pid) => idle.push(pid),
                    Err(words) => {
                        *left = 0;
                        *refused = Some(words);
                        break;
                    }
                }
            }
            *left = left.saturating_sub(BATCH_SPAWNS);
            match idle.last() {
                None if *left == 0 => return Err(refused.take().unwrap_or_default()),
                Some(&pid) if *left == 0 => {
                    *last = Some(process::monitor(&pid.into()));
                    send(pid, &question(b"ping"));
                }
                _ => send(process::self_(), GO_ON),
            }
        }
        (Work::Idle { last, .. }, Message::Down((tag, _, reason))) if *last == Some(tag) => {
            return Err(format!("the last actor ended: {}", reason.describe()));
        }
        (Work::IdleEnds { monitor }, Message::Down((tag, _, _))) if tag == *monitor => {
            return elapsed(since);
        }
        (Work::IdleCalls { next }, Message::Info(_)) => {
            let Some(&pid) = idle.get(*next) else {
                return elapsed(since);
            };
            *next += 1;
            send(pid, &question(b"ping"));
        }
        (Work::Kill { monitor }, Message::Down((tag, _, reason))) if tag == *monitor => {
            return match reason {
                ExitReason::Killed => elapsed(since),
                other => Err(format!("it ended otherwise: {}", other.describe())),
            };
        }
        (Work::Register { tag, next }, Message::Registered((answered, result)))
            if answered == *tag =>
        {
            result.map_err(|error| format!("{}: {}", name(*next - 1), error.describe()))?;
            let Some(&pid) = named.get(*next) else {
                return elapsed(since);
            };
            *tag = global::register(&name(*next), pid);
            *next += 1;
        }
        (work @ Work::Remote { .. }, Message::Spawned((answered, result))) => {
            let Work::Remote { tag, then } = work else {
                return Ok(None);
            };
            if answered == *tag {
                let peer = result.map_err(|error| error.describe().into_owned())?;
                *work = start(*then, peer, since);
            }
        }
        _ => {}
    }
    Ok(None)
}

/// Begins a test with its actor.
pub fn start(test: Test, peer: Pid, since: &mut u64) -> Work {
    *since = timer::now();
    match test {
        Test::PingPong { n } => {
            let question = call();
            send(peer, &question);
            Work::PingPong {
                peer,
                question,
                left: n,
            }
        }
        Test::Flood { n, size } => {
            let body = vec![7; size];
            let mut left = n;
            flood(peer, &body, &mut left);
            Work::Flood { peer, body, left }
        }
    }
}

/// Has the test's actor made on a node first.
pub fn remote(node: &str, args: &[u8], then: Test) -> Work {
    Work::Remote {
        tag: spawn_on(node, args),
        then,
    }
}

fn flood(peer: Pid, body: &[u8], left: &mut u64) {
    let batch = (*left)
        .min(BATCH_MESSAGES)
        .min(BATCH_BYTES / (body.len() as u64).max(1))
        .max(1);
    for _ in 0..batch.min(*left) {
        send(peer, body);
    }
    *left -= batch.min(*left);
    if *left == 0 {
        send(peer, &question(b"done"));
    } else {
        send(process::self_(), GO_ON);
    }
}

/// Sends, and does not care whether anybody is there.
pub fn send(to: Pid, body: &[u8]) {
    let _ = mailbox::send(to, body);
}

/// A word and this actor's pid.
pub fn question(word: &[u8; 4]) -> [u8; 20] {
    let mut body = [0; 20];
    body[..4].copy_from_slice(word);
    body[4..].copy_from_slice(&process::self_().to_bytes());
    body
}

/// What makes an echo actor answer.
pub fn call() -> [u8; 32] {
    let mut body = [0; 32];
    body[..16].copy_from_slice(&process::self_().to_bytes());
    body[16..].copy_from_slice(&DATA);
    body
}

/// The arguments of a role that knows one actor.
pub fn args(role: u8, pid: Pid) -> Vec<u8> {
    [&[role][..], &pid.to_bytes()].concat()
}

fn options() -> SpawnOptions {
    SpawnOptions {
        flags: SpawnFlags::empty(),
        name: None,
        global: None,
        group_leader: None,
        capabilities: None,
        limits: None,
    }
}

/// A new actor of this module.
pub fn spawn(args: &[u8]) -> Result<Pid, Failed> {
    match process::spawn(MODULE, args, &options()) {
        Ok((pid, _)) => Ok(pid),
        Err(error) => Err(format!("cannot spawn: {}", error.describe())),
    }
}

/// Asks for a new actor of this module on a node.
pub fn spawn_on(node: &str, args: &[u8]) -> Ref {
    process::spawn_on(node, MODULE, args, &options())
}

/// A global name.
pub fn name(i: usize) -> String {
    format!("bench {i}")
}

/// The time since then.
pub fn elapsed(since: u64) -> Answer {
    (timer::now() - since).to_string()
}
