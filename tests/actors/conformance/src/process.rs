//! A process of a case: does what its conductor says, one thing at a time. What else comes stays
//! in its mailbox until it is told to receive.

use std::time::Duration;

use wasm_node_sdk::process::Alias;
use wasm_node_sdk::registry::{self, global};
use wasm_node_sdk::task::{self, Task};
use wasm_node_sdk::{
    Destination, ExitReason, Message, Monitor, Pid, Ref, RegisterError, SpawnOptions, decode,
    encode, exit, groups, link, monitor, node, process, self_pid, send, send_to, sleep, spawn_on,
    time, trap_exit, unlink,
};

use crate::MODULE;
use crate::wire::{Command, Home, Known, Outcome, Role, Told};
use crate::{server, words};

/// How long a step waits for what is to come.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The actor.
pub struct Main;

impl Task for Main {
    async fn main(args: Vec<u8>) -> ExitReason {
        let home = match decode(&args) {
            Ok(Role::Process(home)) => home,
            _ => return ExitReason::Error("no process".into()),
        };
        if let Some(reason) = home.ends {
            return words::to_reason(&reason);
        }
        let mut process = Process {
            home,
            names: Vec::new(),
            labels: Vec::new(),
        };
        loop {
            let told = task::receive_match(|message| matches!(message, Message::Cast(_))).await;
            let Message::Cast(body) = told else { continue };
            let command: Command = match decode(&body) {
                Ok(command) => command,
                Err(error) => return ExitReason::Error(error),
            };
            if let Some(reason) = process.obey(command).await {
                return reason;
            }
        }
    }
}

/// What a process of a case knows.
pub struct Process {
    home: Home,
    names: Vec<(String, Known)>,
    /// Its monitors and timers, and since when, in nanoseconds of [`time::now`].
    labels: Vec<(String, Ref, u64)>,
}

/// What came of a command, and processes that it started.
pub type Came = (Outcome, Vec<(String, Known)>);

/// One line of words, and nobody new.
pub fn came(words: impl Into<String>) -> Result<Came, String> {
    Ok((Outcome::One(words.into()), Vec::new()))
}

impl Process {
    /// Some reason: it ends.
    async fn obey(&mut self, command: Command) -> Option<ExitReason> {
        self.names = command.names;
        let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
        match *words {
            ["exit", reason] => return Some(words::to_reason(reason)),
            ["crash"] => crash(),
            ["quit", reason] => {
                exit(self_pid(), words::to_reason(reason));
                // It has ended before this does.
                task::receive_match(|_| false).await;
            }
            _ => {}
        }
        let (outcome, born) = match self.perform(&words).await {
            Ok(came) => came,
            Err(error) => (Outcome::One(format!("error: {error}")), Vec::new()),
        };
        let tag = command.tag;
        let told = Told::Done { tag, outcome, born };
        process::cast(&self.home.conductor.into(), &encode(&told));
        None
    }

    async fn perform(&mut self, words: &[&str]) -> Result<Came, String> {
        match *words {
            ["link", who] => link(self.pid(who)?),
            ["unlink", who] => unlink(self.pid(who)?),
            ["trap", on] => return came(trap_exit(on == "on").to_string()),
            ["signal", who, reason] => exit(self.pid(who)?, words::to_reason(reason)),
            ["send", to, ref text @ ..] => {
                send_to(&self.destination(to)?, text.join(" ").as_bytes());
            }
            ["alive", who] => return came(process::is_alive(self.pid(who)?).to_string()),
            ["monitor", to] | ["monitor", to, "as", _] => {
                let label = words.last().copied().unwrap_or(to);
                let Monitor(tag) = monitor(self.destination(to)?);
                self.label(label, tag);
            }
            ["demonitor", label] | ["demonitor", label, "flush"] => {
                Monitor(self.tag(label)?).cancel();
            }
            ["spawn", name, ref how @ ..] => return self.bear(name, how, false, false).await,
            ["spawn_link", name, ref how @ ..] => return self.bear(name, how, true, false).await,
            ["spawn_monitor", name, ref how @ ..] => {
                return self.bear(name, how, false, true).await;
            }

            ["receive"] => {
                let message = next(PATIENCE, |_| true).await;
                return came(self.show(message));
            }
            ["receive", count] => {
                return Ok((Outcome::Many(self.several(count).await?), Vec::new()));
            }
            ["sorted", count] => {
                return Ok((Outcome::Unordered(self.several(count).await?), Vec::new()));
            }
            ["after", ms] => {
                let message = next(words::ms(ms)?, |_| true).await;
                return came(match message {
                    None => "timeout".into(),
                    message => self.show(message),
                });
            }
            ["pick", what] => {
                let message = next(PATIENCE, |message| match (what, message) {
                    ("down", Message::Down(_))
                    | ("exit", Message::Exit(_))
                    | ("timer", Message::Timer(_)) => true,
                    (text, Message::Info(body)) => text.as_bytes() == body.as_slice(),
                    _ => false,
                });
                let message = message.await;
                return came(self.show(message));
            }

            ["start_timer", ms, "as", label] => {
                let begun = time::now();
                self.label_since(label, time::start_timer(words::ms(ms)?), begun);
            }
            ["send_after", ms, to, text, "as", label] => {
                let begun = time::now();
                let timer = time::send_after(words::ms(ms)?, self.pid(to)?, text.as_bytes());
                self.label_since(label, timer, begun);
            }
            ["cancel", label] => return came(time::cancel_timer(self.tag(label)?).to_string()),
            ["since", label, ms] => {
                let begun = self.labels.iter().rev().find(|(known, ..)| known == label);
                let (_, _, begun) = begun.ok_or_else(|| format!("nothing is named {label}"))?;
                let passed = Duration::from_nanos(time::now() - begun);
                if passed < words::ms(ms)? {
                    return came(format!("only {} us", passed.as_micros()));
                }
            }

            ["register", name] => return self.register(name, self_pid()),
            ["register", name, who] => return self.register(name, self.pid(who)?),
            ["unregister", name] => {
                if !registry::unregister(&self.mangled(name)) {
                    return came("none");
                }
            }
            ["whereis", name] => return holder(registry::whereis(&self.mangled(name))),
            ["registered", name] => {
                let name = self.mangled(name);
                return came(registry::registered().contains(&name).to_string());
            }
            ["global_register", name] => {
                return match global::register(&self.mangled(name), self_pid()).await {
                    Ok(()) => came("yes"),
                    Err(RegisterError::Taken(_)) => came("no"),
                    Err(error) => Err(error.describe().into_owned()),
                };
            }
            ["global_unregister", name] => {
                global::unregister(&self.mangled(name));
            }
            ["global_whereis", name] => return holder(global::whereis(&self.mangled(name))),

            ["join", group] => return joined(groups::join(&self.mangled(group))),
            ["join", group, who] => {
                let members = [self.pid(who)?];
                return joined(groups::DEFAULT_SCOPE.join(&self.mangled(group), &members));
            }
            ["leave", group] => {
                let was = groups::leave(&self.mangled(group));
                return came(if was { "ok" } else { "not_joined" });
            }
            ["members", group] => return members(groups::members(&self.mangled(group))),
            ["local_members", group] => {
                return members(groups::local_members(&self.mangled(group)));
            }
            // Other nodes are told of groups, which takes a moment.
            ["members_soon", group, count] => {
                let until = time::now() + PATIENCE.as_nanos() as u64;
                loop {
                    let pids = groups::members(&self.mangled(group));
                    if pids.len().to_string() == count || time::now() > until {
                        return members(pids);
                    }
                    sleep(Duration::from_millis(5)).await;
                }
            }

            ["alias", name] => return made(name, Alias::new()),
            ["alias", name, "reply"] => return made(name, Alias::for_one_message()),
            ["unalias", name] => match self.known(name) {
                Some(Known::Alias(alias)) => return came(alias.cancel().to_string()),
                _ => return Err(format!("no alias is named {name}")),
            },

            _ => return server::perform(self, words).await,
        }
        came("ok")
    }

    /// The process of this name.
    pub fn pid(&self, name: &str) -> Result<Pid, String> {
        match self.known(name) {
            Some(Known::Pid(pid)) => Ok(*pid),
            Some(Known::Alias(_)) => Err(format!("{name} is an alias")),
            None if name == "self" => Ok(self_pid()),
            None => Err(format!("no process is named {name}")),
        }
    }

    fn known(&self, name: &str) -> Option<&Known> {
        let known = self.names.iter().find(|(known, _)| known == name);
        known.map(|(_, known)| known)
    }

    /// `NAME` of a process or alias, `name:NAME`, `name:NAME@PROCESS`, `global:NAME`.
    pub fn destination(&self, word: &str) -> Result<Destination, String> {
        if let Some(name) = word.strip_prefix("global:") {
            return Ok(Destination::Global(self.mangled(name)));
        }
        let Some(name) = word.strip_prefix("name:") else {
            return match self.known(word) {
                Some(Known::Alias(alias)) => Ok(alias.destination()),
                _ => self.pid(word).map(Destination::Pid),
            };
        };
        Ok(match name.split_once('@') {
            None => Destination::Name(self.mangled(name)),
            Some((name, who)) => {
                let node = node_of(self.pid(who)?)?;
                Destination::RemoteName((self.mangled(name), node))
            }
        })
    }

    /// A name that no other run uses.
    pub fn mangled(&self, name: &str) -> String {
        format!("{}{name}", self.home.prefix)
    }

    /// Whom servers tell of their callbacks.
    pub fn conductor(&self) -> Pid {
        self.home.conductor
    }

    fn label(&mut self, label: &str, tag: Ref) {
        self.label_since(label, tag, time::now());
    }

    fn label_since(&mut self, label: &str, tag: Ref, begun: u64) {
        self.labels.push((label.into(), tag, begun));
    }

    fn tag(&self, label: &str) -> Result<Ref, String> {
        let known = self.labels.iter().rev().find(|(known, ..)| known == label);
        let known = known.map(|(_, tag, _)| *tag);
        known.ok_or_else(|| format!("nothing is named {label}"))
    }

    fn register(&self, name: &str, pid: Pid) -> Result<Came, String> {
        match registry::register(&self.mangled(name), pid) {
            Ok(()) => came("ok"),
            // Erlang does not tell them apart either.
            Err(RegisterError::Taken(_) | RegisterError::Noproc) => came("badarg"),
            Err(error) => Err(error.describe().into_owned()),
        }
    }

    async fn bear(
        &mut self,
        name: &str,
        how: &[&str],
        linked: bool,
        monitored: bool,
    ) -> Result<Came, String> {
        let (at, how) = match *how {
            ["at", who, ref how @ ..] => (Some(node_of(self.pid(who)?)?), how),
            _ => (None, how),
        };
        let ends = match *how {
            [] => None,
            ["doing", "exit", reason] => Some(reason.to_owned()),
            _ => return Err(format!("a process does not start {how:?}")),
        };
        let home = Home {
            ends,
            ..self.home.clone()
        };
        let args = encode(&Role::Process(home));
        let mut options = SpawnOptions::new();
        if linked {
            options = options.link();
        }
        if monitored {
            options = options.monitor();
        }
        let spawned = match at {
            None => process::spawn(MODULE, &args, &options),
            Some(node) => spawn_on(&node, MODULE, &args, &options, false).await,
        };
        let spawned = spawned.map_err(|error| error.describe().into_owned())?;
        if let Some(Monitor(tag)) = spawned.monitor {
            self.label(name, tag);
        }
        let born = vec![(name.to_owned(), Known::Pid(spawned.pid))];
        Ok((Outcome::One("ok".into()), born))
    }

    async fn several(&self, count: &str) -> Result<Vec<String>, String> {
        let count: usize = count
            .parse()
            .map_err(|_| format!("\"{count}\" is no number"))?;
        let mut shown = Vec::with_capacity(count);
        for _ in 0..count {
            let message = next(PATIENCE, |_| true).await;
            shown.push(self.show(message));
        }
        Ok(shown)
    }

    fn show(&self, message: Option<Message>) -> String {
        let label = |tag: Ref| {
            let known = self.labels.iter().find(|(_, known, _)| *known == tag);
            known.map_or("?", |(label, ..)| label.as_str())
        };
        match message {
            None => "nothing".into(),
            Some(Message::Info(body)) => String::from_utf8_lossy(&body).into_owned(),
            Some(Message::Exit((from, reason))) => {
                format!("exit {} {}", words::pid(from), words::reason(&reason))
            }
            Some(Message::Down((tag, _, reason))) => {
                format!("down {} {}", label(tag), words::reason(&reason))
            }
            Some(Message::Timer(tag)) => format!("timer {}", label(tag)),
            Some(other) => format!("{other:?}"),
        }
    }
}

fn joined(result: Result<(), groups::GroupError>) -> Result<Came, String> {
    result.map_err(|error| format!("{error:?}"))?;
    came("ok")
}

fn members(pids: Vec<Pid>) -> Result<Came, String> {
    let pids = pids.into_iter().map(words::pid).collect();
    Ok((Outcome::Unordered(pids), Vec::new()))
}

fn made(name: &str, alias: Alias) -> Result<Came, String> {
    let made = vec![(name.to_owned(), Known::Alias(alias))];
    Ok((Outcome::One("ok".into()), made))
}

fn holder(pid: Option<Pid>) -> Result<Came, String> {
    came(pid.map_or_else(|| "undefined".into(), words::pid))
}

fn node_of(pid: Pid) -> Result<String, String> {
    node::node_of(pid).ok_or_else(|| "its node is not known here".into())
}

/// The next message that fits and is no command, if one comes in time.
async fn next(patience: Duration, mut fits: impl FnMut(&Message) -> bool) -> Option<Message> {
    let wanted = move |message: &Message| !matches!(message, Message::Cast(_)) && fits(message);
    time::timeout(patience, task::receive_match(wanted))
        .await
        .ok()
}

/// What a failed assertion does to compiled code.
pub fn crash() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

/// Sends a server something that is neither call nor cast.
pub fn tell(to: &Destination, words: &[&str]) {
    let body = format!("{}{}", server::TELL, words.join(" "));
    match to {
        Destination::Pid(pid) => send(*pid, body.as_bytes()),
        to => send_to(to, body.as_bytes()),
    };
}
