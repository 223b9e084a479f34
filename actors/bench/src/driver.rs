//! The driver: one job at a time, each a small state machine fed with messages.

use wasm_node_sdk::bindings::wasm_node::actor::process::{SpawnFlags, SpawnOptions};
use wasm_node_sdk::bindings::wasm_node::actor::{global, mailbox, process, timer};
use wasm_node_sdk::{Message, Pid, Ref, ReplyTo};

const MODULE: &str = "bench";
/// Messages, and their bytes, that one turn sends at most; then the driver sends itself [`GO_ON`].
const BATCH_MESSAGES: u64 = 1024;
const BATCH_BYTES: u64 = 1 << 20;
/// Actors that one turn spawns at most.
const BATCH_SPAWNS: u64 = 256;
const GO_ON: &[u8] = b"go on";
/// A message's data in the call and send tests, in bytes.
const DATA: [u8; 16] = [7; 16];

/// What the driver does, and for whom.
#[derive(Default)]
pub struct Driver {
    job: Option<Job>,
    /// The actors of `idle` and `global_register`.
    idle: Vec<Pid>,
    named: Vec<Pid>,
}

struct Job {
    asker: ReplyTo,
    since: u64,
    work: Work,
}

enum Work {
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
    /// The monitor is the last one's, once all are spawned.
    Idle {
        left: u64,
        last: Option<Ref>,
    },
    IdleEnds {
        monitor: Ref,
    },
    Register {
        tag: Ref,
        next: usize,
    },
}

#[derive(Clone, Copy)]
enum Test {
    PingPong { n: u64 },
    Flood { n: u64, size: usize },
}

type Failed = String;

impl Driver {
    /// Takes one message.
    pub fn handle(&mut self, message: Message) {
        match message {
            Message::Request((asker, body)) => self.request(asker, &body),
            message => {
                let Some(job) = &mut self.job else { return };
                match step(
                    &mut job.work,
                    &mut job.since,
                    &mut self.idle,
                    &self.named,
                    message,
                ) {
                    Ok(None) => {}
                    Ok(Some(elapsed)) => self.done(Ok(elapsed)),
                    Err(words) => self.done(Err(words)),
                }
            }
        }
    }

    fn done(&mut self, result: Result<u64, Failed>) {
        if let Some(job) = self.job.take() {
            answer(job.asker, result);
        }
    }

    fn request(&mut self, asker: ReplyTo, body: &[u8]) {
        if self.job.is_some() {
            return answer(asker, Err("busy".into()));
        }
        let text = String::from_utf8_lossy(body);
        let words: Vec<&str> = text.split(' ').collect();
        let mut since = timer::now();
        match self.begin(&words, &mut since) {
            Ok(Some(work)) => self.job = Some(Job { asker, since, work }),
            Ok(None) => answer(asker, Ok(timer::now() - since)),
            Err(words) => answer(asker, Err(words)),
        }
    }

    /// Starts a job; none if it is done already.
    fn begin(&mut self, words: &[&str], since: &mut u64) -> Result<Option<Work>, Failed> {
        let me = process::self_();
        Ok(Some(match words {
            ["pingpong", n] => start(Test::PingPong { n: number(n)? }, spawn(b"e")?, since),
            ["flood", n, size] => {
                let test = Test::Flood {
                    n: number(n)?,
                    size: number(size)? as usize,
                };
                start(test, spawn(b"s")?, since)
            }
            ["pingpong", n, node] => remote(node, b"e", Test::PingPong { n: number(n)? }),
            ["flood", n, size, node] => remote(
                node,
                b"s",
                Test::Flood {
                    n: number(n)?,
                    size: number(size)? as usize,
                },
            ),
            ["spawn", n] => {
                let args = args(b'h', me);
                spawn(&args)?;
                Work::Spawn {
                    args,
                    left: number(n)?,
                }
            }
            ["spawn", n, node] => {
                let (args, node) = (args(b'h', me), (*node).to_owned());
                let tag = spawn_on(&node, &args);
                Work::RemoteSpawn {
                    node,
                    args,
                    tag,
                    spawned: false,
                    hi: false,
                    left: number(n)?,
                }
            }
            ["ring", n, rounds] => {
                let mut last = me;
                for _ in 0..number(n)? {
                    last = spawn(&args(b'f', last))?;
                }
                *since = timer::now();
                send(last, b"token");
                Work::Ring {
                    last,
                    left: number(rounds)?,
                }
            }
            ["compute", n] => {
                let mut args = args(b'c', me);
                args.push(u8::try_from(number(n)?).map_err(|e| e.to_string())?);
                spawn(&args)?;
                Work::Fib
            }
            ["idle", n] => {
                self.idle.reserve(number(n)? as usize);
                *since = timer::now();
                send(me, GO_ON);
                Work::Idle {
                    left: number(n)?,
                    last: None,
                }
            }
            ["idle_stop"] => {
                let Some(&last) = self.idle.last() else {
                    return Ok(None);
                };
                let monitor = process::monitor(&last.into());
                for pid in self.idle.drain(..) {
                    send(pid, b"stop");
                }
                self.idle.shrink_to_fit();
                Work::IdleEnds { monitor }
            }
            ["global_register", n] => {
                for _ in 0..number(n)? {
                    self.named.push(spawn(b"i")?);
                }
                let Some(&first) = self.named.first() else {
                    return Ok(None);
                };
                *since = timer::now();
                Work::Register {
                    tag: global::register(&name(0), first),
                    next: 1,
                }
            }
            ["global_whereis", n] => {
                for i in 0..number(n)? as usize {
                    if global::whereis(&name(i)).as_ref() != self.named.get(i) {
                        return Err(format!("{} is somebody else", name(i)));
                    }
                }
                return Ok(None);
            }
            ["global_stop"] => {
                for (i, pid) in self.named.drain(..).enumerate() {
                    global::unregister(&name(i));
                    send(pid, b"stop");
                }
                return Ok(None);
            }
            _ => return Err("no such test: actors/bench/README.md has them".into()),
        }))
    }
}

/// Goes on with a job: done, with the nanoseconds it took, or not.
fn step(
    work: &mut Work,
    since: &mut u64,
    idle: &mut Vec<Pid>,
    named: &[Pid],
    message: Message,
) -> Result<Option<u64>, Failed> {
    let elapsed = |since: &u64| Ok(Some(timer::now() - *since));
    match (work, message) {
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
        (Work::RingEnds { elapsed }, Message::Info(_)) => return Ok(Some(*elapsed)),
        (Work::Fib, Message::Info(_)) => return elapsed(since),
        (Work::Idle { left, last }, Message::Info(word)) => {
            if let Some(monitor) = last
                && word != GO_ON
            {
                process::demonitor(*monitor);
                return elapsed(since);
            }
            let now = (*left).min(BATCH_SPAWNS);
            for _ in 0..now {
                idle.push(spawn(b"i")?);
            }
            *left -= now;
            match idle.last() {
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

fn start(test: Test, peer: Pid, since: &mut u64) -> Work {
    *since = timer::now();
    match test {
        Test::PingPong { n } => {
            let mut question = [0; 32];
            question[..16].copy_from_slice(&process::self_().to_bytes());
            question[16..].copy_from_slice(&DATA);
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

fn remote(node: &str, args: &[u8], then: Test) -> Work {
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

fn send(to: Pid, body: &[u8]) {
    let _ = mailbox::send(to, body);
}

/// A word and this actor's pid.
fn question(word: &[u8; 4]) -> [u8; 20] {
    let mut body = [0; 20];
    body[..4].copy_from_slice(word);
    body[4..].copy_from_slice(&process::self_().to_bytes());
    body
}

fn args(role: u8, pid: Pid) -> Vec<u8> {
    [&[role][..], &pid.to_bytes()].concat()
}

fn options() -> SpawnOptions {
    SpawnOptions {
        flags: SpawnFlags::empty(),
        name: None,
        global: None,
    }
}

fn spawn(args: &[u8]) -> Result<Pid, Failed> {
    match process::spawn(MODULE, args, &options()) {
        Ok((pid, _)) => Ok(pid),
        Err(error) => Err(format!("cannot spawn: {}", error.describe())),
    }
}

fn spawn_on(node: &str, args: &[u8]) -> Ref {
    process::spawn_on(node, MODULE, args, &options())
}

fn name(i: usize) -> String {
    format!("bench {i}")
}

fn number(word: &str) -> Result<u64, Failed> {
    match word.parse() {
        Ok(0) | Err(_) => Err(format!("\"{word}\" is no number above 0")),
        Ok(n) => Ok(n),
    }
}

fn answer(asker: ReplyTo, result: Result<u64, Failed>) {
    let text = match result {
        Ok(elapsed) => elapsed.to_string(),
        Err(words) => format!("error: {words}"),
    };
    let _ = mailbox::reply(asker, text.as_bytes());
}
