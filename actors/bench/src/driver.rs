//! The driver: one job at a time, each a small state machine fed with messages.

use wasm_node_sdk::bindings::wasm_node::actor::{global, mailbox, node, process, timer};
use wasm_node_sdk::{ExitReason, Message, Pid, ReplyTo};

use crate::latency::Latency;
use crate::mesh::Mesh;
use crate::work::{
    Answer, Failed, GO_ON, Test, Work, args, call, elapsed, name, question, remote, send, spawn,
    spawn_on, start, step,
};

/// What the driver does, and for whom.
#[derive(Default)]
pub struct Driver {
    job: Option<Job>,
    /// The actors of `idle` and `global_register`.
    idle: Vec<Pid>,
    named: Vec<Pid>,
    /// Nodes that went down since `watch_nodes`, if that was asked for.
    downs: Option<u64>,
}

struct Job {
    asker: ReplyTo,
    since: u64,
    work: Work,
}

/// How a request begins.
enum Begun {
    /// With work that goes on.
    Goes(Work),
    /// It is done already.
    Is(Answer),
}

impl Driver {
    /// Whether there is nothing that it would have to remember.
    pub fn is_blank(&self) -> bool {
        let nobody = self.idle.is_empty() && self.named.is_empty();
        self.job.is_none() && nobody && self.downs.is_none()
    }

    /// Takes one message.
    pub fn handle(&mut self, message: Message) {
        match message {
            Message::Request((asker, body)) => self.request(asker, &body),
            Message::NodeDown(_) => self.downs = self.downs.map(|downs| downs + 1),
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
                    Ok(Some(found)) => self.done(Ok(found)),
                    Err(words) => self.done(Err(words)),
                }
            }
        }
    }

    fn done(&mut self, result: Result<Answer, Failed>) {
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
            Ok(Begun::Goes(work)) => self.job = Some(Job { asker, since, work }),
            Ok(Begun::Is(found)) => answer(asker, Ok(found)),
            Err(words) => answer(asker, Err(words)),
        }
    }

    /// Starts a job.
    fn begin(&mut self, words: &[&str], since: &mut u64) -> Result<Begun, Failed> {
        let me = process::self_();
        Ok(Begun::Goes(match words {
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
                    refused: None,
                }
            }
            ["idle_stop"] => {
                let Some(&last) = self.idle.last() else {
                    return Ok(Begun::Is(elapsed(*since)));
                };
                let monitor = process::monitor(&last.into());
                for pid in self.idle.drain(..) {
                    send(pid, b"stop");
                }
                self.idle.shrink_to_fit();
                Work::IdleEnds { monitor }
            }
            ["idle_calls"] => {
                let Some(&first) = self.idle.first() else {
                    return Err("there are no idle actors".into());
                };
                *since = timer::now();
                send(first, &question(b"ping"));
                Work::IdleCalls { next: 1 }
            }
            ["mesh", actors, messages] => {
                Work::Mesh(Mesh::begin(number(actors)?, number(messages)?)?)
            }
            ["latency", ms, pause_ms] => {
                let pause_ms = pause_ms.parse().map_err(|_| "no pause".to_owned())?;
                let (echo, ms) = (spawn(b"e")?, number(ms)?);
                Work::Latency(Latency::begin(echo, call(), ms, pause_ms))
            }
            ["kill", node, serial] => {
                let (node, serial) = (number(node)?, number(serial)?);
                let target = Pid { node, serial };
                let monitor = process::monitor(&target.into());
                *since = timer::now();
                process::exit(target, &ExitReason::Kill);
                Work::Kill { monitor }
            }
            ["watch_nodes"] => {
                node::monitor_nodes(true);
                self.downs = Some(0);
                return Ok(Begun::Is(elapsed(*since)));
            }
            ["downs"] => return Ok(Begun::Is(self.downs.ok_or("nobody watches")?.to_string())),
            ["global_register", n] => {
                for _ in 0..number(n)? {
                    self.named.push(spawn(b"i")?);
                }
                let Some(&first) = self.named.first() else {
                    return Ok(Begun::Is(elapsed(*since)));
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
                return Ok(Begun::Is(elapsed(*since)));
            }
            ["global_stop"] => {
                for (i, pid) in self.named.drain(..).enumerate() {
                    global::unregister(&name(i));
                    send(pid, b"stop");
                }
                return Ok(Begun::Is(elapsed(*since)));
            }
            _ => return Err("no such test: actors/bench/README.md has them".into()),
        }))
    }
}

fn number(word: &str) -> Result<u64, Failed> {
    match word.parse() {
        Ok(0) | Err(_) => Err(format!("\"{word}\" is no number above 0")),
        Ok(n) => Ok(n),
    }
}

fn answer(asker: ReplyTo, result: Result<Answer, Failed>) {
    let text = match result {
        Ok(found) => found,
        Err(words) => format!("error: {words}"),
    };
    let _ = mailbox::reply(asker, text.as_bytes());
}
