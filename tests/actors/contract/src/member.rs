//! An actor with state, which is told what to do and tells what happened to it. Each command
//! comes as a request, or as `info` with the asker's pid before it, to whom the answer goes.

use std::collections::VecDeque;

use memory::{grow, heap};
use wasm_node_sdk::bindings::wasm_node::actor::types::{NodeEvent, NodeKind};
use wasm_node_sdk::bindings::wasm_node::actor::{
    code, global, io, mailbox, node, process, registry, timer,
};
use wasm_node_sdk::{Destination, ExitReason, Message, Outcome, Pid, Ref, ReplyTo, SaveError};

/// What a dirty actor leaves everywhere.
const DIRT: u64 = 0xd1d1_5eed_d1d1_5eed;

#[derive(Default)]
pub struct Member {
    index: u64,
    value: u64,
    /// What happened, in order, a word each.
    events: Vec<String>,
    blobs: Vec<Vec<u8>>,
    /// Requests that are answered when told so.
    held: VecDeque<ReplyTo>,
    hibernates: bool,
    wait_for_ms: Option<u32>,
    stops: Option<ExitReason>,
    busy: u32,
    /// Who is told of the next time-out or timer.
    tell: Option<Pid>,
    /// Monitors of names on other nodes.
    by_name: Vec<Ref>,
}

enum Asker {
    Request(ReplyTo),
    Info(Pid),
}

impl Asker {
    fn info(&self) -> Option<Pid> {
        match self {
            Self::Info(pid) => Some(*pid),
            Self::Request(_) => None,
        }
    }
}

impl Member {
    pub fn begin(how: &str, rest: &str, args: &[u8]) -> Result<(Self, Outcome), ExitReason> {
        let mut member = Self::default();
        match how {
            "member" => {
                member.index = rest.parse().unwrap_or(0);
                member.value = member.index;
            }
            "scan" => member.events.push(scan()),
            "starting" => {
                let _ = mailbox::send(process::self_(), b"begin");
                return Ok((member, Outcome::Starting));
            }
            "init-hibernate" => {
                member.hibernates = true;
                return Ok((member, Outcome::Hibernate));
            }
            "init-wait-for" => return Ok((member, Outcome::WaitFor(rest.parse().unwrap_or(1)))),
            "init-stop" => return Ok((member, Outcome::Stop(reason(rest)))),
            "init-err" => return Err(reason(rest)),
            "init-trap" => std::process::abort(),
            "length" => member.value = args.len() as u64,
            _ => return Err(ExitReason::Error(format!("no such role: {how}"))),
        }
        Ok((member, Outcome::Wait))
    }

    pub fn outcome(&mut self) -> Outcome {
        match (self.wait_for_ms.take(), self.hibernates) {
            (Some(ms), _) => Outcome::WaitFor(ms),
            (None, true) => Outcome::Hibernate,
            (None, false) => Outcome::Wait,
        }
    }

    pub fn handle(&mut self, message: Message) -> Option<Outcome> {
        match message {
            Message::Request((from, body)) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                self.command(&text, Asker::Request(from));
            }
            Message::Info(body) => match body.split_at_checked(16) {
                Some((pid, text)) if body != b"begin" => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    let pid = pid.try_into().map_or(Pid::NONE, Pid::from_bytes);
                    self.command(&text, Asker::Info(pid));
                }
                _ => self
                    .events
                    .push(String::from_utf8_lossy(&body).into_owned()),
            },
            Message::Cast(body) => self.events.push(format!("cast:{}", body.len())),
            Message::Timer(_) => self.happened("timer"),
            Message::Timeout => self.happened("timeout"),
            Message::Down((_, _, reason)) => self.events.push(format!("down:{}", word(&reason))),
            Message::Exit((_, reason)) => self.events.push(format!("exit:{}", word(&reason))),
            Message::Response((_, Ok(body))) => {
                let text = String::from_utf8_lossy(&body);
                self.events.push(format!("response:{text}"));
            }
            Message::Response((_, Err(error))) => {
                self.events
                    .push(format!("no-response:{}", error.describe()));
            }
            Message::Registered((_, result)) => {
                self.events.push(format!("registered:{}", result.is_ok()));
            }
            Message::NodeUp(event) => self.node_event("up", &event),
            Message::NodeDown(event) => self.node_event("down", &event),
            Message::NameConflict((name, _)) => self.events.push(format!("conflict:{name}")),
            other => self.events.push(format!("{other:?}")),
        }
        self.stops.take().map(Outcome::Stop)
    }

    fn command(&mut self, text: &str, asker: Asker) {
        let (command, rest) = text.split_once(' ').unwrap_or((text, ""));
        let number = || rest.parse::<u32>().unwrap_or(0);
        let pid = || Pid::from_hex(rest).unwrap_or(Pid::NONE);
        let answer = match command {
            "add" => {
                self.value += u64::from(number());
                self.relative()
            }
            "get" => self.relative(),
            "version" => code::current(),
            "events" => self.events.join(","),
            "hold" => {
                if let Asker::Request(from) = asker {
                    self.held.push_back(from);
                }
                return;
            }
            "release" => {
                for from in self.held.drain(..) {
                    let _ = mailbox::reply(from, rest.as_bytes());
                }
                "released".into()
            }
            "hibernate" => {
                self.hibernates = rest != "off";
                "hibernates".into()
            }
            "busy" => {
                self.busy = number();
                "busy".into()
            }
            "grow" => {
                let blob = (0..number()).map(|at| self.pattern(at)).collect();
                self.blobs.push(blob);
                "grown".into()
            }
            "check" => {
                let whole = self
                    .blobs
                    .iter()
                    .all(|blob| (0..).zip(blob).all(|(at, &byte)| byte == self.pattern(at)));
                match whole {
                    true => format!("{} whole", self.blobs.len()),
                    false => "broken".into(),
                }
            }
            "print" => {
                io::print(&format!("{rest}\n"));
                "printed".into()
            }
            "reads" => {
                io::read_line(None);
                "reads".into()
            }
            "leader" => process::group_leader().to_hex(),
            "timer" => {
                timer::start(number());
                self.tell = asker.info();
                "started".into()
            }
            "wait-for" => {
                self.wait_for_ms = Some(number());
                self.tell = asker.info();
                "waits".into()
            }
            "trap-exit" => format!("{}", process::trap_exit(true)),
            "link" => {
                process::link(pid());
                "linked".into()
            }
            "monitor" => {
                process::monitor(&Destination::Pid(pid()));
                "monitored".into()
            }
            "monitor-name" => {
                // `monitor-name NAME NODE`
                let (name, at) = rest.split_once(' ').unwrap_or((rest, ""));
                let to = Destination::RemoteName((name.into(), at.into()));
                self.by_name.push(process::monitor(&to));
                "monitored".into()
            }
            "demonitor-names" => {
                self.by_name.drain(..).for_each(process::demonitor);
                "demonitored".into()
            }
            "watch-nodes" => {
                node::monitor_nodes(rest != "off");
                "watches".into()
            }
            "watch-node" => {
                node::monitor_node(rest, true);
                "watches".into()
            }
            "unwatch-node" => {
                node::monitor_node(rest, false);
                "watches".into()
            }
            "disconnect" => node::disconnect(rest).to_string(),
            "blast" => blast(rest),
            "name" => match registry::register(rest, process::self_()) {
                Ok(()) => "named".into(),
                Err(error) => error.describe().into_owned(),
            },
            "global" => {
                global::register(rest, process::self_());
                "asked".into()
            }
            "ask" => {
                let (pid, text) = rest.split_once(' ').unwrap_or((rest, ""));
                let to = Destination::Pid(Pid::from_hex(pid).unwrap_or(Pid::NONE));
                mailbox::request(&to, text.as_bytes(), None);
                "asked".into()
            }
            "in" => {
                // `in MS COMMAND`
                let (ms, text) = rest.split_once(' ').unwrap_or((rest, ""));
                let body = [&Pid::NONE.to_bytes(), text.as_bytes()].concat();
                timer::send_after(ms.parse().unwrap_or(0), process::self_(), &body);
                "later".into()
            }
            "dirty" => {
                soil();
                self.stops = Some(ExitReason::Normal);
                return;
            }
            "stop" => {
                self.stops = Some(reason(rest));
                "stops".into()
            }
            "trap" => std::process::abort(),
            "divide" => format!("{}", 1 / std::hint::black_box(number())),
            "recurse" => format!("{}", recurse(u64::from(number()))),
            "exhaust" => {
                // No allocator's failure is in between: the memory refuses.
                format!("{}", !grow(1 << 15))
            }
            _ => format!("no such command: {text}"),
        };
        match asker {
            Asker::Request(from) => {
                let _ = mailbox::reply(from, answer.as_bytes());
            }
            Asker::Info(pid) => {
                let _ = mailbox::send(pid, answer.as_bytes());
            }
        }
    }

    /// As `up:n2@127.0.0.1:visible:connected`; but of no command that comes and goes.
    fn node_event(&mut self, what: &str, event: &NodeEvent) {
        if !event.node.starts_with("cli-") {
            let kind = match event.kind {
                NodeKind::Visible => "visible",
                NodeKind::Hidden => "hidden",
            };
            let words = event.reason.replace(',', ";");
            self.events
                .push(format!("{what}:{}:{kind}:{words}", event.node));
        }
    }

    fn happened(&mut self, event: &str) {
        self.events.push(event.into());
        if let Some(pid) = self.tell.take() {
            let _ = mailbox::send(pid, event.as_bytes());
        }
    }

    /// The same for all members of a herd if all were told the same.
    fn relative(&self) -> String {
        self.value.wrapping_sub(self.index).to_string()
    }

    fn pattern(&self, at: u32) -> u8 {
        (u64::from(at).wrapping_mul(self.index | 1) >> 3) as u8 | 1
    }

    pub fn save(&mut self) -> Result<Vec<u8>, SaveError> {
        if self.busy > 0 {
            self.busy -= 1;
            return Err(SaveError::Busy);
        }
        if self.events.iter().any(|event| event == "refuse") {
            return Err(SaveError::Refused("it was told to".into()));
        }
        let lengths: Vec<String> = self.blobs.iter().map(|b| b.len().to_string()).collect();
        let (index, value, events) = (self.index, self.value, self.events.join(","));
        Ok(format!("{index};{value};{};{events}", lengths.join(",")).into_bytes())
    }

    pub fn restore(saved: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(saved).ok()?;
        let mut parts = text.splitn(4, ';');
        let mut member = Self {
            index: parts.next()?.parse().ok()?,
            value: parts.next()?.parse().ok()?,
            ..Self::default()
        };
        for length in parts.next()?.split(',').filter(|length| !length.is_empty()) {
            let blob = (0..length.parse().ok()?).map(|at| member.pattern(at));
            let blob = blob.collect();
            member.blobs.push(blob);
        }
        let events = parts.next()?.split(',').filter(|event| !event.is_empty());
        member.events = events.map(String::from).collect();
        Some(member)
    }
}

/// `COUNT BYTES NAME NODE`: casts so many messages to a name on another node.
fn blast(text: &str) -> String {
    let mut words = text.split(' ');
    let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let (count, bytes): (usize, usize) = (number(), number());
    let mut word = || words.next().unwrap_or_default().to_owned();
    let to = Destination::RemoteName((word(), word()));
    let body = vec![7; bytes];
    for _ in 0..count {
        if mailbox::cast(&to, &body).is_err() {
            return "too large".into();
        }
    }
    "blasted".into()
}

/// All but one of the reasons, by a word; `error TEXT`, `limit TEXT`, `trap TEXT`, `custom TEXT`.
pub fn reason(text: &str) -> ExitReason {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word {
        "normal" => ExitReason::Normal,
        "shutdown" => ExitReason::Shutdown,
        "kill" => ExitReason::Kill,
        "killed" => ExitReason::Killed,
        "noproc" => ExitReason::Noproc,
        "noconnection" => ExitReason::Noconnection,
        "already-started" => ExitReason::AlreadyStarted(process::self_()),
        "trap" => ExitReason::Trap(rest.into()),
        "limit" => ExitReason::Limit(rest.into()),
        "custom" => ExitReason::Custom(rest.into()),
        "shutdown-with" => ExitReason::ShutdownWith(rest.into()),
        _ => ExitReason::Error(rest.into()),
    }
}

fn word(reason: &ExitReason) -> String {
    reason.describe().lines().next().unwrap_or_default().into()
}

fn recurse(depth: u64) -> u64 {
    match std::hint::black_box(depth) {
        0 => 0,
        depth => 1 + std::hint::black_box(recurse(depth - 1)),
    }
}

/// Its memory, where it has one of wasm's.
#[cfg(target_arch = "wasm32")]
mod memory {
    unsafe extern "C" {
        /// Where the linker says that nothing of the module's own lies from here on.
        static __heap_base: u8;
    }

    /// Whether the memory has so many pages more.
    pub(super) fn grow(pages: usize) -> bool {
        core::arch::wasm32::memory_grow(0, pages) != usize::MAX
    }

    /// The whole of the memory beyond the module's data, in words.
    pub(super) fn heap() -> impl Iterator<Item = *mut u64> {
        let from = (&raw const __heap_base as usize).next_multiple_of(8);
        let to = core::arch::wasm32::memory_size(0) * (64 << 10);
        (from..to).step_by(8).map(|at| at as *mut u64)
    }
}

/// For lints and the like, which compile for the machine they run on.
#[cfg(not(target_arch = "wasm32"))]
mod memory {
    pub(super) fn grow(_: usize) -> bool {
        false
    }

    pub(super) fn heap() -> impl Iterator<Item = *mut u64> {
        std::iter::empty()
    }
}

/// Writes over all of the heap; nothing may be allocated or freed after that.
fn soil() {
    for word in heap() {
        // SAFETY: within the memory and aligned; what was there is not used again.
        unsafe { word.write_volatile(DIRT) };
    }
}

/// What is in the heap of an actor that has just begun.
fn scan() -> String {
    let (mut dirty, mut used) = (0, 0);
    for word in heap() {
        // SAFETY: within the memory and aligned; any bits are a number.
        let word = unsafe { word.read_volatile() };
        dirty += u64::from(word == DIRT);
        used += u64::from(word != 0);
    }
    format!("dirty={dirty} used={used}")
}
