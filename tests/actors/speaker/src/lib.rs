//! An actor that prints, reads and logs as it is told: a call of words, answered by words. It is
//! also a group leader, if others are told so: it keeps what they print, and gives them the lines
//! that it is told to. Pids are written as 32 hexadecimal digits.

use serde::{Deserialize, Serialize};
use wasm_node_sdk::io::{self, InputRequest};
use wasm_node_sdk::process::{group_leader, set_group_leader};
use wasm_node_sdk::{
    CallReturn, Caller, ExitReason, GenServer, Info, Init, Next, OutputKind, Pid, SpawnOptions,
    eprintln, log, println, process, self_pid, spawn_on,
};

/// The actor.
#[derive(Serialize, Deserialize)]
pub struct Speaker {
    /// What it does by itself: `interview REASON`.
    role: String,
    /// What others printed: who, where, what.
    heard: Vec<(Pid, bool, Vec<u8>)>,
    /// Those who wait for a line.
    waiting: Vec<InputRequest>,
}

impl GenServer for Speaker {
    const MODULE: &'static str = "speaker";
    type Args = String;
    type Call = String;
    type Reply = String;
    type Cast = ();

    async fn init(role: String) -> Init<Self> {
        match role.as_str() {
            "fail" => {
                println!("before it fails");
                return Init::Stop(ExitReason::error("it cannot begin"));
            }
            "child" => println!("child {} speaks", self_pid()),
            _ => {}
        }
        let state = Self {
            role,
            heard: Vec::new(),
            waiting: Vec::new(),
        };
        Init::OkThen(state, Next::Continue)
    }

    /// Asks for names until there are none, has a child say something, and ends.
    async fn handle_continue(&mut self) -> Next {
        let Some(end) = self.role.strip_prefix("interview ") else {
            return Next::Wait;
        };
        loop {
            io::print("Your name? ");
            match io::read_line().await {
                Ok(Some(name)) => println!("Hello {}!", name.trim_end()),
                Ok(None) => break,
                Err(error) => {
                    eprintln!("no name: {}", error.describe());
                    break;
                }
            }
        }
        println!("Nobody is left.");
        eprintln!("It ends with {end:?}.");
        Next::Stop(match end {
            "normal" => ExitReason::Normal,
            "shutdown" => ExitReason::Shutdown,
            words => ExitReason::error(words),
        })
    }

    async fn handle_call(&mut self, words: String, from: Caller<String>) -> CallReturn<String> {
        let (verb, rest) = words.split_once(' ').unwrap_or((&words, ""));
        CallReturn::Reply(match verb {
            "print" => {
                println!("{rest}");
                "ok".into()
            }
            "part" => {
                io::print(rest);
                "ok".into()
            }
            "error" => {
                eprintln!("{rest}");
                "ok".into()
            }
            // `flood COUNT WORD`: so many numbered lines, each in two parts.
            "flood" => {
                let (count, word) = rest.split_once(' ').unwrap_or((rest, "line"));
                for number in 0..count.parse().unwrap_or(0u32) {
                    io::print(&format!("{word} "));
                    io::print(&format!("{number}\n"));
                }
                "ok".into()
            }
            "long" => {
                println!("{}", "long ".repeat(rest.parse().unwrap_or(0)));
                "ok".into()
            }
            "read" => {
                wasm_node_sdk::spawn_local(
                    async move { from.reply_bytes(read().await.as_bytes()) },
                );
                return CallReturn::NoReply;
            }
            // Reads for so many milliseconds.
            "read-within" => {
                let within = std::time::Duration::from_millis(rest.parse().unwrap_or(0));
                match io::read_line_within(Some(within)).await {
                    Ok(line) => line.unwrap_or("end".into()).trim_end().into(),
                    Err(error) => error.describe().into_owned(),
                }
            }
            // Asks, and gives up at once.
            "glance" => {
                drop(io::read_line());
                "ok".into()
            }
            "pid" => self_pid().to_hex(),
            "leader" => group_leader().to_hex(),
            // `lead ACTOR LEADER`
            "lead" => {
                let mut pids = rest.split(' ').filter_map(Pid::from_hex);
                match (pids.next(), pids.next()) {
                    (Some(target), Some(leader)) => {
                        set_group_leader(target, leader);
                        "ok".into()
                    }
                    _ => "error: lead ACTOR LEADER".into(),
                }
            }
            // `start NODE MODULE [LEADER]`
            "start" => {
                let mut words = rest.split(' ');
                let (node, module) = (words.next(), words.next().unwrap_or("speaker"));
                let options = match words.next().and_then(Pid::from_hex) {
                    Some(leader) => SpawnOptions::new().group_leader(leader),
                    None => SpawnOptions::new(),
                };
                let args = b"child".as_slice();
                let args = if module == "speaker" { args } else { b"" };
                let started = match node {
                    None | Some("here") => process::start(module, args, &options).await,
                    Some(node) => spawn_on(node, module, args, &options, true).await,
                };
                match started {
                    Ok(started) => started.pid.to_hex(),
                    Err(error) => format!("error: {}", error.describe()),
                }
            }
            // `ask PID WORDS`
            "ask" => {
                let (pid, words) = rest.split_once(' ').unwrap_or((rest, ""));
                let to = wasm_node_sdk::Destination::Pid(Pid::from_hex(pid).unwrap_or(Pid::NONE));
                match wasm_node_sdk::request(&to, words.as_bytes(), None).await {
                    Ok(answer) => String::from_utf8_lossy(&answer).into_owned(),
                    Err(error) => format!("error: {}", error.describe()),
                }
            }
            "heard" => self.heard_text(),
            "forget" => {
                self.heard.clear();
                "ok".into()
            }
            // A line for who waits longest.
            "supply" => match self.waiting.is_empty() {
                true => "nobody waits".into(),
                false => {
                    self.waiting.remove(0).line(rest);
                    "ok".into()
                }
            },
            "log" => {
                let module = Self::MODULE;
                match rest {
                    "debug" => log::debug!("it was told to", module),
                    "info" => log::info!("it was told to", module, count = 1 + 1),
                    "warning" => log::warning!("it was told to", module,),
                    _ => log::error!(format!("it was told to: {rest}")),
                }
                "ok".into()
            }
            "crash" => panic!("it was told to"),
            "stop" => {
                let reason = match rest {
                    "normal" => ExitReason::Normal,
                    words => ExitReason::error(words),
                };
                return CallReturn::ReplyThen("ok".into(), Next::Stop(reason));
            }
            _ => format!("error: {words}"),
        })
    }

    async fn handle_info(&mut self, info: Info) -> Next {
        match info {
            Info::Output { pid, kind, text } => {
                self.heard.push((pid, kind == OutputKind::Stderr, text));
            }
            Info::InputRequest(request) => self.waiting.push(request),
            _ => {}
        }
        Next::Wait
    }

    fn decode_args(bytes: &[u8]) -> Result<String, String> {
        words(bytes)
    }
    fn encode_args(words: &String) -> Vec<u8> {
        words.clone().into_bytes()
    }
    fn decode_call(bytes: &[u8]) -> Result<String, String> {
        words(bytes)
    }
    fn encode_call(words: &String) -> Vec<u8> {
        words.clone().into_bytes()
    }
    fn encode_reply(words: &String) -> Vec<u8> {
        words.clone().into_bytes()
    }
    fn decode_reply(bytes: &[u8]) -> Result<String, String> {
        words(bytes)
    }
}

impl Speaker {
    /// What each actor printed, one after the other, in the order in which they were first heard.
    fn heard_text(&self) -> String {
        let mut voices: Vec<((Pid, bool), Vec<u8>)> = Vec::new();
        for (pid, error, text) in &self.heard {
            let voice = (*pid, *error);
            match voices.iter_mut().find(|(of, _)| *of == voice) {
                Some((_, said)) => said.extend(text),
                None => voices.push((voice, text.clone())),
            }
        }
        let said = voices.iter().map(|((pid, error), said)| {
            let out = if *error { "err" } else { "out" };
            let said = String::from_utf8_lossy(said).replace('\n', "|");
            format!("{} {out} {said}", pid.to_hex())
        });
        said.collect::<Vec<_>>().join("\n")
    }
}

async fn read() -> String {
    match io::read_line().await {
        Ok(Some(line)) => format!("line {}", line.trim_end()),
        Ok(None) => "end".into(),
        Err(error) => format!("error: {}", error.describe()),
    }
}

fn words(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.into()).map_err(|error| error.to_string())
}

wasm_node_sdk::export_gen_server!(Speaker);
