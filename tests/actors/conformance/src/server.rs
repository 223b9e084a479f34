//! A [`GenServer`] whose callbacks return what the requests say, and tell the conductor of each
//! call; and the steps that concern servers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasm_node_sdk::{
    CallError, CallReturn, Caller, ExitReason, GenServer, Info, Init, Next, Pid, ServerRef,
    StartError, decode, encode, process, self_pid, sleep, trap_exit,
};

use crate::MODULE;
use crate::process::{Came, PATIENCE, Process, came, crash, tell};
use crate::wire::{Known, Outcome, Role, Told};
use crate::{machine, supervisors, words};

/// In front of a plain message that says what to return.
pub const TELL: &str = "\u{1}tell ";
/// Longer than any case.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// What a server begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerArgs {
    /// Its name in the case.
    pub id: String,
    /// Whom it tells of its callbacks.
    pub conductor: Pid,
    /// Whether it traps exits.
    pub traps: bool,
    /// Whether its `terminate` never returns.
    pub deaf: bool,
    /// What its `init` returns.
    pub init: Vec<String>,
}

/// The actor.
#[derive(Serialize, Deserialize)]
pub struct Server {
    args: ServerArgs,
    /// Callers that wait for their answers.
    waiting: Vec<Caller<String>>,
    /// What `handle_continue` returns.
    then: Vec<String>,
}

/// Tells the conductor of a callback.
pub fn note(id: &str, conductor: Pid, words: impl Into<String>) {
    let told = Told::Note {
        id: id.into(),
        pid: self_pid(),
        words: words.into(),
    };
    process::cast(&conductor.into(), &encode(&told));
}

/// A server that does not understand what it is to do ends with words that say so.
fn bad(words: &[&str]) -> Next {
    Next::Stop(ExitReason::Error(format!(
        "no return value: {}",
        words.join(" ")
    )))
}

impl Server {
    fn note(&self, words: impl Into<String>) {
        note(&self.args.id, self.args.conductor, words);
    }

    /// `timeout MS`, `hibernate`, `continue ...`, or nothing.
    fn next(&mut self, words: &[&str]) -> Next {
        match *words {
            [] => Next::Wait,
            ["timeout", ms] => words::ms(ms).map_or_else(|_| bad(words), Next::Timeout),
            ["hibernate"] => Next::Hibernate,
            ["continue", ref then @ ..] => {
                self.then = then.iter().map(|&word| word.to_owned()).collect();
                Next::Continue
            }
            _ => bad(words),
        }
    }

    /// What a cast, a plain message or a continuation says.
    fn act(&mut self, words: &[&str]) -> Next {
        match *words {
            ["noreply", ref next @ ..] => self.next(next),
            // Leaving a callback by `exit/1` is what `Stop` is here.
            ["stop" | "exit", reason] => Next::Stop(words::to_reason(reason)),
            ["crash"] => crash(),
            ["answer", text] if !self.waiting.is_empty() => {
                self.waiting.remove(0).reply(&text.to_owned());
                Next::Wait
            }
            _ => bad(words),
        }
    }
}

impl GenServer for Server {
    const MODULE: &'static str = MODULE;
    type Args = ServerArgs;
    type Call = Vec<String>;
    type Reply = String;
    type Cast = Vec<String>;

    fn encode_args(args: &ServerArgs) -> Vec<u8> {
        encode(&Role::Server(args.clone()))
    }
    fn decode_args(bytes: &[u8]) -> Result<ServerArgs, String> {
        match decode(bytes)? {
            Role::Server(args) => Ok(args),
            _ => Err("no server".into()),
        }
    }

    async fn init(args: ServerArgs) -> Init<Self> {
        trap_exit(args.traps);
        note(&args.id, args.conductor, "init");
        let returns = args.init.clone();
        let returns: Vec<&str> = returns.iter().map(String::as_str).collect();
        let mut server = Self {
            args,
            waiting: Vec::new(),
            then: Vec::new(),
        };
        match *returns {
            [] => Init::Ok(server),
            ["ok", ref next @ ..] => {
                let next = server.next(next);
                Init::OkThen(server, next)
            }
            ["stop" | "exit", reason] => Init::Stop(words::to_reason(reason)),
            ["ignore"] => Init::Ignore,
            ["crash"] => crash(),
            ["sleep", ms] => {
                sleep(words::ms(ms).unwrap_or_default()).await;
                Init::Ok(server)
            }
            _ => Init::Stop(ExitReason::Error(format!("no return value: {returns:?}"))),
        }
    }

    async fn handle_call(
        &mut self,
        words: Vec<String>,
        from: Caller<String>,
    ) -> CallReturn<String> {
        self.note("call");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match *words {
            ["reply", text] => CallReturn::Reply(text.into()),
            ["reply", text, ref next @ ..] => CallReturn::ReplyThen(text.into(), self.next(next)),
            ["noreply"] => CallReturn::NoReply,
            ["noreply", ref next @ ..] => CallReturn::NoReplyThen(self.next(next)),
            ["defer", ref next @ ..] => {
                self.waiting.push(from);
                CallReturn::NoReplyThen(self.next(next))
            }
            ["early", text, ref rest @ ..] => {
                from.reply(&text.to_owned());
                CallReturn::NoReplyThen(self.act(rest))
            }
            ["stop", reason, "reply", text] => {
                CallReturn::ReplyThen(text.into(), Next::Stop(words::to_reason(reason)))
            }
            _ => CallReturn::NoReplyThen(self.act(&words)),
        }
    }

    async fn handle_cast(&mut self, words: Vec<String>) -> Next {
        self.note("cast");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.act(&words)
    }

    async fn handle_info(&mut self, info: Info) -> Next {
        match info {
            Info::Message(body) => {
                let text = String::from_utf8_lossy(&body);
                if let Some(words) = text.strip_prefix(TELL) {
                    self.note("info");
                    let words: Vec<&str> = words.split(' ').collect();
                    return self.act(&words);
                }
                self.note(format!("info {text}"));
            }
            Info::Timeout => self.note("timeout"),
            Info::Exit { pid, reason } => {
                let reason = words::reason(&reason);
                self.note(format!("info exit {} {reason}", words::pid(pid)));
            }
            _ => self.note("info other"),
        }
        Next::Wait
    }

    async fn handle_continue(&mut self) -> Next {
        self.note("continue");
        let then = std::mem::take(&mut self.then);
        let words: Vec<&str> = then.iter().map(String::as_str).collect();
        self.act(&words)
    }

    async fn terminate(&mut self, reason: &ExitReason) {
        self.note(format!("terminate {}", words::reason(reason)));
        if self.args.deaf {
            sleep(FOR_EVER).await;
        }
    }
}

/// Steps that concern servers.
pub async fn perform(process: &mut Process, words: &[&str]) -> Result<Came, String> {
    match *words {
        ["start", name, ref how @ ..] => start(process, name, how).await,
        ["machine", name, state, ref how @ ..] => machine::start(process, name, state, how).await,
        ["call", to, ref rest @ ..] => {
            let (returns, patience) = match *rest {
                [ref returns @ .., "within", ms] => (returns, words::ms(ms)?),
                _ => (rest, PATIENCE),
            };
            let server = ServerRef::<Server>::at(process.destination(to)?);
            let called = server.call_timeout(owned(returns), Some(patience)).await;
            match called {
                Ok(reply) => came(format!("reply {reply}")),
                Err(error) => came(words::call_error(&error)),
            }
        }
        ["cast", to, ref rest @ ..] => {
            ServerRef::<Server>::at(process.destination(to)?).cast(owned(rest));
            came("ok")
        }
        ["stop", to, reason] => {
            let server = ServerRef::<Server>::at(process.destination(to)?);
            match server.stop(words::to_reason(reason), Some(PATIENCE)).await {
                Ok(()) => came("ok"),
                Err(CallError::Noproc) => came("exit noproc"),
                Err(error) => came(words::call_error(&error)),
            }
        }
        ["tell", to, ref rest @ ..] => {
            tell(&process.destination(to)?, rest);
            came("ok")
        }
        _ => supervisors::perform(process, words).await,
    }
}

/// How something is started: the words behind its name.
#[derive(Default)]
pub struct How {
    linked: bool,
    registered: Option<String>,
    /// Whether it traps exits.
    pub traps: bool,
    /// Whether its `terminate` never returns.
    pub deaf: bool,
    /// What the entry to a state returns.
    pub enters: Vec<(String, Vec<String>)>,
    /// What its `init` returns.
    pub init: Vec<String>,
}

impl How {
    /// Reads the words.
    pub fn read(process: &Process, words: &[&str]) -> Result<Self, String> {
        let mut how = Self::default();
        let mut rest = words;
        loop {
            rest = match *rest {
                [] => return Ok(how),
                ["link", ref rest @ ..] => {
                    how.linked = true;
                    rest
                }
                ["name", name, ref rest @ ..] => {
                    how.registered = Some(process.mangled(name));
                    rest
                }
                ["trap", ref rest @ ..] => {
                    how.traps = true;
                    rest
                }
                ["deaf", ref rest @ ..] => {
                    how.deaf = true;
                    rest
                }
                ["enter", state, ref rest @ ..] => {
                    let (returns, rest) = machine::bracket(rest)?;
                    how.enters.push((state.to_owned(), owned(returns)));
                    rest
                }
                ["init", ref returns @ ..] => {
                    how.init = owned(returns);
                    return Ok(how);
                }
                _ => return Err(format!("nothing starts {rest:?}")),
            };
        }
    }

    /// Starts it under its name in the case.
    pub async fn start<S: GenServer>(self, name: &str, args: &S::Args) -> Result<Came, String> {
        let mut starting = ServerRef::<S>::start(args);
        if self.linked {
            starting = starting.link();
        }
        if let Some(registered) = self.registered {
            starting = starting.local(registered);
        }
        started(name, starting.await.map(|server| server.as_pid()))
    }
}

async fn start(process: &Process, name: &str, words: &[&str]) -> Result<Came, String> {
    let mut how = How::read(process, words)?;
    let args = ServerArgs {
        id: name.into(),
        conductor: process.conductor(),
        traps: how.traps,
        deaf: how.deaf,
        init: std::mem::take(&mut how.init),
    };
    how.start::<Server>(name, &args).await
}

/// What came of a start.
fn started(name: &str, started: Result<Option<Pid>, StartError>) -> Result<Came, String> {
    match started {
        Ok(born) => {
            let born = born.map(|pid| (name.to_owned(), Known::Pid(pid)));
            Ok((Outcome::One("ok".into()), born.into_iter().collect()))
        }
        Err(StartError::AlreadyStarted(pid)) => {
            came(format!("already_started {}", words::pid(pid)))
        }
        Err(StartError::Ignored) => came("ignore"),
        Err(StartError::Failed(reason)) => came(format!("error {}", words::reason(&reason))),
        Err(error) => Err(error.to_string()),
    }
}

/// The same words.
pub fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
