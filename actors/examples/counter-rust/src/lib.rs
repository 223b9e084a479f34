//! The counter of `actors/examples/README.md`, as a [`GenServer`] of the Rust SDK whose wire
//! format is that page's ASCII instead of the SDK's own.

use serde::{Deserialize, Serialize};
use wasm_node_sdk::{
    CallError, CallReturn, Caller, Destination, GenServer, Info, Init, Next, Pid, ServerRef,
};

/// A count, and how many watched actors have ended.
#[derive(Serialize, Deserialize)]
pub struct Counter {
    count: i64,
    downs: u64,
}

/// One request; what the page says of each.
#[derive(Serialize, Deserialize)]
pub enum Command {
    /// `add N`
    Add(i64),
    /// `get`
    Get,
    /// `watch PID`
    Watch(Pid),
    /// `downs`
    Downs,
    /// `pid`
    OwnPid,
    /// `call local NAME COMMAND` and `call global NAME COMMAND`
    Call(Destination, Box<Command>),
}

impl Command {
    fn parse(text: &str) -> Result<Self, String> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        match (verb, rest) {
            ("add", n) => n.parse().map(Self::Add).map_err(|e| format!("{n:?}: {e}")),
            ("get", "") => Ok(Self::Get),
            ("downs", "") => Ok(Self::Downs),
            ("pid", "") => Ok(Self::OwnPid),
            ("watch", pid) => Pid::from_hex(pid)
                .map(Self::Watch)
                .ok_or_else(|| format!("{pid:?} is no pid")),
            ("call", rest) => {
                let mut words = rest.splitn(3, ' ');
                let to = match (words.next(), words.next()) {
                    (Some("local"), Some(name)) => Destination::Name(name.into()),
                    (Some("global"), Some(name)) => Destination::Global(name.into()),
                    _ => return Err("write: call local|global NAME COMMAND".into()),
                };
                let command = Self::parse(words.next().unwrap_or_default())?;
                Ok(Self::Call(to, Box::new(command)))
            }
            _ => Err(format!("no command {text:?}")),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Add(n) => format!("add {n}"),
            Self::Get => "get".into(),
            Self::Watch(pid) => format!("watch {}", pid.to_hex()),
            Self::Downs => "downs".into(),
            Self::OwnPid => "pid".into(),
            Self::Call(Destination::Global(name), command) => {
                format!("call global {name} {}", command.text())
            }
            Self::Call(Destination::Name(name), command) => {
                format!("call local {name} {}", command.text())
            }
            Self::Call(..) => String::new(),
        }
    }
}

impl GenServer for Counter {
    const MODULE: &'static str = "counter-rust";
    type Args = i64;
    /// What does not parse is answered too: the error's words.
    type Call = Result<Command, String>;
    type Reply = String;
    type Cast = Option<i64>;

    async fn init(count: i64) -> Init<Self> {
        wasm_node_sdk::println!("counter-rust starts at {count}");
        Init::Ok(Self { count, downs: 0 })
    }

    async fn handle_call(&mut self, call: Self::Call, _: Caller<String>) -> CallReturn<String> {
        CallReturn::Reply(match call {
            Ok(Command::Add(n)) => {
                self.count = self.count.wrapping_add(n);
                self.count.to_string()
            }
            Ok(Command::Get) => self.count.to_string(),
            Ok(Command::Downs) => self.downs.to_string(),
            Ok(Command::OwnPid) => wasm_node_sdk::self_pid().to_hex(),
            Ok(Command::Watch(pid)) => {
                wasm_node_sdk::monitor(pid);
                "ok".into()
            }
            Ok(Command::Call(to, command)) => ServerRef::<Counter>::at(to)
                .call(Ok(*command))
                .await
                .unwrap_or_else(|error| {
                    let word = match error {
                        CallError::Timeout => "timeout",
                        CallError::Noproc => "noproc",
                        CallError::Noconnection => "noconnection",
                        CallError::Exit(_) => "exit",
                        CallError::TooLarge => "too-large",
                    };
                    format!("error: {word}")
                }),
            Err(words) => format!("error: {words}"),
        })
    }

    async fn handle_cast(&mut self, n: Option<i64>) -> Next {
        self.count = self.count.wrapping_add(n.unwrap_or(0));
        Next::Wait
    }

    async fn handle_info(&mut self, info: Info) -> Next {
        if let Info::Down { .. } = info {
            self.downs += 1;
        }
        Next::Wait
    }

    fn save(&self) -> Result<Vec<u8>, String> {
        Ok(format!("{} {}", self.count, self.downs).into_bytes())
    }

    fn upgrade(saved: &[u8]) -> Result<Self, String> {
        let text = text(saved)?;
        let parts = text.split_once(' ');
        let counter = parts
            .and_then(|(count, downs)| {
                Some(Self {
                    count: count.parse().ok()?,
                    downs: downs.parse().ok()?,
                })
            })
            .ok_or_else(|| format!("{text:?} is no saved counter"))?;
        wasm_node_sdk::println!("counter-rust goes on at {}", counter.count);
        Ok(counter)
    }

    fn encode_args(count: &i64) -> Vec<u8> {
        count.to_string().into_bytes()
    }
    fn decode_args(bytes: &[u8]) -> Result<i64, String> {
        if bytes.is_empty() {
            return Ok(0);
        }
        text(bytes)?.parse().map_err(|error| format!("{error}"))
    }
    fn encode_call(call: &Self::Call) -> Vec<u8> {
        call.as_ref()
            .map(Command::text)
            .unwrap_or_default()
            .into_bytes()
    }
    fn decode_call(bytes: &[u8]) -> Result<Self::Call, String> {
        Ok(text(bytes).and_then(Command::parse))
    }
    fn encode_reply(reply: &String) -> Vec<u8> {
        reply.clone().into_bytes()
    }
    fn decode_reply(bytes: &[u8]) -> Result<String, String> {
        Ok(text(bytes)?.to_owned())
    }
    fn encode_cast(n: &Option<i64>) -> Vec<u8> {
        n.map(|n| format!("add {n}"))
            .unwrap_or_default()
            .into_bytes()
    }
    fn decode_cast(bytes: &[u8]) -> Result<Option<i64>, String> {
        Ok(match text(bytes).and_then(Command::parse) {
            Ok(Command::Add(n)) => Some(n),
            _ => None,
        })
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| format!("not text: {error}"))
}

wasm_node_sdk::export_gen_server!(Counter);
