//! A [`GenStateMachine`] whose callbacks return what the events say, and tell the conductor of each
//! call; and the step that starts one. Called, told and stopped it is as a server.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasm_node_sdk::gen_state_machine::{
    self, Enter, Event, GenStateMachine, Init, Timeout, Transition,
};
use wasm_node_sdk::{Caller, ExitReason, Info, Pid, decode, encode, trap_exit};

use crate::MODULE;
use crate::process::{Came, Process, crash};
use crate::server::{How, TELL, note, owned};
use crate::wire::Role;
use crate::words;

/// What a machine begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineArgs {
    /// Its name in the case.
    pub id: String,
    /// Whom it tells of its callbacks.
    pub conductor: Pid,
    /// Whether it traps exits.
    pub traps: bool,
    /// Its first state.
    pub state: String,
    /// What the entry to a state returns.
    pub enters: Vec<(String, Vec<String>)>,
    /// What its `init` returns.
    pub init: Vec<String>,
}

/// The actor.
#[derive(Serialize, Deserialize)]
pub struct Machine {
    args: MachineArgs,
    /// Callers that wait for their answers.
    waiting: Vec<Caller<String>>,
}

/// What is asked for next to a transition.
enum Action {
    Reply(Caller<String>, String),
    Postpone,
    Hibernate,
    Insert(Event<Machine>),
    After(Timeout, Duration, Vec<String>),
    Update(Timeout, Vec<String>),
    Cancel(Timeout),
}

/// Those that every callback may ask for, done; the other comes back.
macro_rules! common {
    ($returned:expr, $action:expr, $other:ident => $do:expr) => {
        match $action {
            Action::Reply(to, text) => $returned.reply(to, text),
            Action::Hibernate => $returned.hibernate(),
            Action::After(Timeout::Event, after, then) => $returned.event_timeout(after, then),
            Action::After(Timeout::State, after, then) => $returned.state_timeout(after, then),
            Action::After(Timeout::Named(name), after, then) => {
                $returned.named_timeout(name, after, then)
            }
            Action::Update(of, then) => $returned.update_timeout(of, then),
            Action::Cancel(of) => $returned.cancel_timeout(of),
            $other => $do,
        }
    };
}

fn bad(words: &[&str]) -> ExitReason {
    ExitReason::Error(format!("no return value: {}", words.join(" ")))
}

/// What is between this bracket and its end, and what follows.
pub fn bracket<'a, 'b>(words: &'a [&'b str]) -> Result<(&'a [&'b str], &'a [&'b str]), String> {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate() {
        match *word {
            "[" => depth += 1,
            "]" if depth == 1 => return Ok((&words[1..at], &words[at + 1..])),
            "]" if depth > 1 => depth -= 1,
            _ if depth == 0 => break,
            _ => {}
        }
    }
    Err(format!("no [ .. ]: {}", words.join(" ")))
}

fn which(word: &str) -> Timeout {
    match word {
        "state" => Timeout::State,
        "event" => Timeout::Event,
        name => Timeout::Named(name.to_owned().into()),
    }
}

impl Machine {
    fn actions(
        &mut self,
        caller: Option<Caller<String>>,
        words: &[&str],
    ) -> Result<Vec<Action>, String> {
        let mut actions = Vec::new();
        let mut rest = words;
        loop {
            let (action, left) = match (rest, caller) {
                ([], _) => return Ok(actions),
                ([",", "reply", text, left @ ..], Some(from)) => {
                    (Action::Reply(from, (*text).into()), left)
                }
                ([",", "defer", left @ ..], Some(from)) => {
                    self.waiting.push(from);
                    rest = left;
                    continue;
                }
                ([",", "answer", text, left @ ..], _) if !self.waiting.is_empty() => {
                    (Action::Reply(self.waiting.remove(0), (*text).into()), left)
                }
                ([",", "postpone", left @ ..], _) => (Action::Postpone, left),
                ([",", "hibernate", left @ ..], _) => (Action::Hibernate, left),
                ([",", "insert", kind, left @ ..], _) => {
                    let (then, left) = bracket(left)?;
                    let event = match *kind {
                        "cast" => Event::Cast(owned(then)),
                        _ => Event::Internal(owned(then)),
                    };
                    (Action::Insert(event), left)
                }
                ([",", of @ ("state_timeout" | "event_timeout"), ms, left @ ..], _) => {
                    let (then, left) = bracket(left)?;
                    let of = which(of.trim_end_matches("_timeout"));
                    (Action::After(of, words::ms(ms)?, owned(then)), left)
                }
                ([",", "timer", name, ms, left @ ..], _) => {
                    let (then, left) = bracket(left)?;
                    let of = Timeout::Named((*name).to_owned().into());
                    (Action::After(of, words::ms(ms)?, owned(then)), left)
                }
                ([",", "update", of, left @ ..], _) => {
                    let (then, left) = bracket(left)?;
                    (Action::Update(which(of), owned(then)), left)
                }
                ([",", "cancel", of, left @ ..], _) => (Action::Cancel(which(of)), left),
                (words, _) => return Err(format!("no action: {}", words.join(" "))),
            };
            actions.push(action);
            rest = left;
        }
    }

    fn transition(
        &mut self,
        state: &str,
        caller: Option<Caller<String>>,
        words: &[&str],
    ) -> Result<Transition<Self>, String> {
        let (goto, more) = match *words {
            ["in", there, ref rest @ ..] => {
                let (this, other) = bracket(rest)?;
                let words = if there == state { this } else { other };
                return self.transition(state, caller, words);
            }
            ["keep", ref more @ ..] => (Transition::keep_state(), more),
            ["next", to, ref more @ ..] => (Transition::next_state(to.to_owned()), more),
            ["repeat", ref more @ ..] => (Transition::repeat_state(), more),
            ["stop", reason, ref more @ ..] => (Transition::stop(words::to_reason(reason)), more),
            ["crash"] => crash(),
            _ => return Err(format!("no transition: {}", words.join(" "))),
        };
        let actions = self.actions(caller, more)?;
        Ok(actions.into_iter().fold(goto, |transition, action| {
            common!(transition, action, other => match other {
                Action::Insert(event) => transition.next_event(event),
                _ => transition.postpone(),
            })
        }))
    }

    fn begin(mut self, words: &[&str]) -> Result<Init<Self>, String> {
        let more = match *words {
            [] => &[],
            ["ok", ref more @ ..] => more,
            ["stop", reason] => return Ok(Init::stop(words::to_reason(reason))),
            ["ignore"] => return Ok(Init::ignore()),
            ["crash"] => crash(),
            _ => return Err(format!("no return value: {}", words.join(" "))),
        };
        let actions = self.actions(None, more)?;
        let init = Init::state(self.args.state.clone(), self);
        Ok(actions.into_iter().fold(init, |init, action| {
            common!(init, action, other => match other {
                Action::Insert(event) => init.next_event(event),
                _ => init,
            })
        }))
    }

    fn entry(&mut self, words: &[&str]) -> Result<Enter<Self>, String> {
        let more = match *words {
            ["keep", ref more @ ..] => more,
            ["stop", reason] => return Ok(Enter::stop(words::to_reason(reason))),
            _ => return Err(format!("no entry: {}", words.join(" "))),
        };
        let actions = self.actions(None, more)?;
        Ok(actions.into_iter().fold(
            Enter::done(),
            |enter, action| common!(enter, action, _other => enter),
        ))
    }

    fn note(&self, words: impl Into<String>) {
        note(&self.args.id, self.args.conductor, words);
    }
}

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

impl GenStateMachine for Machine {
    const MODULE: &'static str = MODULE;
    type State = String;
    type Args = MachineArgs;
    type Call = Vec<String>;
    type Reply = String;
    type Cast = Vec<String>;
    type Internal = Vec<String>;

    fn encode_args(args: &MachineArgs) -> Vec<u8> {
        encode(&Role::Machine(args.clone()))
    }
    fn decode_args(bytes: &[u8]) -> Result<MachineArgs, String> {
        match decode(bytes)? {
            Role::Machine(args) => Ok(args),
            _ => Err("no machine".into()),
        }
    }

    async fn init(args: MachineArgs) -> Init<Self> {
        trap_exit(args.traps);
        let returns = args.init.clone();
        let machine = Self {
            args,
            waiting: Vec::new(),
        };
        machine.note("init");
        let returns = borrowed(&returns);
        let begun = machine.begin(&returns);
        begun.unwrap_or_else(|error| Init::stop(ExitReason::Error(error)))
    }

    async fn enter(&mut self, old: &String, state: &String) -> Enter<Self> {
        self.note(format!("{state} enter {old}"));
        let all = self.args.enters.clone();
        let Some((_, returns)) = all.iter().find(|(of, _)| of == state) else {
            return Enter::done();
        };
        let entry = self.entry(&borrowed(returns));
        entry.unwrap_or_else(|error| Enter::stop(ExitReason::Error(error)))
    }

    async fn handle_event(&mut self, state: &String, event: &Event<Self>) -> Transition<Self> {
        let text;
        let (kind, caller, returns) = match event {
            Event::Call(from, words) => ("call".to_owned(), Some(*from), borrowed(words)),
            Event::Cast(words) => ("cast".to_owned(), None, borrowed(words)),
            Event::Internal(words) => ("internal".to_owned(), None, borrowed(words)),
            Event::Timeout(of, words) => {
                let kind = match of {
                    Timeout::State => "state_timeout".to_owned(),
                    Timeout::Event => "event_timeout".to_owned(),
                    Timeout::Named(name) => format!("timer {name}"),
                };
                (kind, None, borrowed(words))
            }
            Event::Info(Info::Message(body)) => {
                text = String::from_utf8_lossy(body);
                match text.strip_prefix(TELL) {
                    Some(words) => ("info".to_owned(), None, words.split(' ').collect()),
                    None => (format!("info {text}"), None, vec!["keep"]),
                }
            }
            Event::Info(Info::Exit { pid, reason }) => {
                let (pid, reason) = (words::pid(*pid), words::reason(reason));
                (format!("info exit {pid} {reason}"), None, vec!["keep"])
            }
            Event::Info(_) => ("info other".to_owned(), None, vec!["keep"]),
        };
        self.note(format!("{state} {kind}"));
        let transition = self.transition(state, caller, &returns);
        transition.unwrap_or_else(|_| Transition::stop(bad(&returns)))
    }

    async fn terminate(&mut self, reason: &ExitReason, state: &String) {
        self.note(format!("{state} terminate {}", words::reason(reason)));
    }
}

/// `machine NAME STATE ..`.
pub async fn start(
    process: &Process,
    name: &str,
    state: &str,
    words: &[&str],
) -> Result<Came, String> {
    let mut how = How::read(process, words)?;
    let args = MachineArgs {
        id: name.into(),
        conductor: process.conductor(),
        traps: how.traps,
        state: state.into(),
        enters: std::mem::take(&mut how.enters),
        init: std::mem::take(&mut how.init),
    };
    how.start::<gen_state_machine::Machine<Machine>>(name, &args)
        .await
}
