//! The actor by which the tests use process groups, remote calls and consistent hashing: a server
//! that does what a text says and answers in text, and functions that it calls on other nodes.

mod functions;

use std::fmt::Debug;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasm_node_sdk::groups::{GroupChange, GroupMonitor, Scope};
use wasm_node_sdk::hashing::View;
use wasm_node_sdk::{
    CallReturn, Caller, ExitReason, GenServer, Info, Init, Next, Pid, SpawnOptions, multi_call,
    node, process, rpc, self_pid, time,
};

use functions::Offered;

/// What it monitors, and what it heard.
#[derive(Serialize, Deserialize)]
pub struct Discovery {
    monitors: Vec<GroupMonitor>,
    heard: Vec<String>,
}

impl GenServer for Discovery {
    const MODULE: &'static str = "discovery";
    type Args = Vec<u8>;
    type Call = String;
    type Reply = String;
    type Cast = String;

    async fn init(_: Vec<u8>) -> Init<Self> {
        Init::Ok(Self {
            monitors: Vec::new(),
            heard: Vec::new(),
        })
    }

    async fn handle_call(&mut self, text: String, _: Caller<String>) -> CallReturn<String> {
        let words: Vec<&str> = text.split(' ').collect();
        CallReturn::Reply(match self.command(&words).await {
            Some(answer) => answer,
            None => format!("no command {text:?}"),
        })
    }

    async fn handle_cast(&mut self, text: String) -> Next {
        self.heard.push(format!("cast {text}"));
        Next::Wait
    }

    async fn handle_info(&mut self, info: Info) -> Next {
        let heard = match info {
            Info::Message(body) => format!("info {}", String::from_utf8_lossy(&body)),
            Info::Group { change, .. } => {
                let (what, group, actors) = match change {
                    GroupChange::Joined { group, actors } => ("joined", group, actors),
                    GroupChange::Left { group, actors } => ("left", group, actors),
                };
                format!("{what} {group} {}", nodes_of(&actors))
            }
            other => format!("{other:?}"),
        };
        self.heard.push(heard);
        Next::Wait
    }

    fn decode_args(bytes: &[u8]) -> Result<Vec<u8>, String> {
        Ok(bytes.to_vec())
    }
    fn decode_call(bytes: &[u8]) -> Result<String, String> {
        String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())
    }
    fn encode_call(call: &String) -> Vec<u8> {
        call.clone().into()
    }
    fn decode_reply(bytes: &[u8]) -> Result<String, String> {
        Self::decode_call(bytes)
    }
    fn encode_reply(reply: &String) -> Vec<u8> {
        reply.clone().into()
    }
}

impl Discovery {
    async fn command(&mut self, words: &[&str]) -> Option<String> {
        Some(match words {
            ["node"] => node::name(),
            ["pid"] => self_pid().to_hex(),
            ["heard"] => std::mem::take(&mut self.heard).join("; "),
            ["spawn"] => {
                let options = SpawnOptions::new();
                match process::start(Self::MODULE, &[], &options).await {
                    Ok(spawned) => spawned.pid.to_hex(),
                    Err(error) => error.describe().into_owned(),
                }
            }
            ["kill", pid] => {
                process::exit(Pid::from_hex(pid)?, ExitReason::Kill);
                "ok".into()
            }
            ["disconnect", from] => node::disconnect(from).to_string(),
            ["connect", to] => shown(&node::connect(to).await),
            ["group", rest @ ..] => self.group(rest)?,
            ["rpc", rest @ ..] => remote(rest).await?,
            ["owner", keys @ ..] => {
                let view = View::live();
                let owners = keys
                    .iter()
                    .map(|key| view.node_for(key).unwrap_or_default());
                owners.collect::<Vec<_>>().join(" ")
            }
            ["owners", count, key] => {
                wasm_node_sdk::hashing::nodes_for(key, count.parse().ok()?).join(" ")
            }
            // On the key's node, wherever this one is.
            ["route", key] => {
                let on = wasm_node_sdk::hashing::node_for(key);
                let within = Duration::from_secs(30);
                shown(&Offered::where_am_i().on(&on, within).await)
            }
            _ => return None,
        })
    }

    fn group(&mut self, words: &[&str]) -> Option<String> {
        let scope = Scope::new(words.get(1)?);
        let actors = |pids: &[&str]| -> Option<Vec<Pid>> {
            match pids {
                [] => Some(vec![self_pid()]),
                pids => pids.iter().map(|pid| Pid::from_hex(pid)).collect(),
            }
        };
        Some(match words {
            ["join", _, group, pids @ ..] => shown(&scope.join(group, &actors(pids)?)),
            ["leave", _, group, pids @ ..] => scope.leave(group, &actors(pids)?).to_string(),
            ["members", _, group] => nodes_of(&scope.members(group)),
            ["local", _, group] => nodes_of(&scope.local_members(group)),
            ["which", _] => scope.which_groups().join(" "),
            ["which-local", _] => scope.which_local_groups().join(" "),
            ["monitor", _, group] => match scope.monitor(group) {
                Ok((monitor, members)) => {
                    self.monitors.push(monitor);
                    nodes_of(&members)
                }
                Err(error) => error.describe().into_owned(),
            },
            ["monitor-scope", _] => match scope.monitor_scope() {
                Ok((monitor, groups)) => {
                    self.monitors.push(monitor);
                    let groups = groups.iter();
                    let groups = groups.map(|(group, all)| format!("{group} {}", nodes_of(all)));
                    groups.collect::<Vec<_>>().join("; ")
                }
                Err(error) => error.describe().into_owned(),
            },
            ["demonitor", _] => {
                let ended = self.monitors.drain(..).map(|monitor| monitor.cancel());
                shown(&ended.collect::<Vec<_>>())
            }
            _ => return None,
        })
    }
}

/// Answers of remote calls, behind the milliseconds that they took.
async fn remote(words: &[&str]) -> Option<String> {
    let begun = time::now();
    let answer = match words {
        ["call", on, ms, "add", a, b] => {
            let call = Offered::add(a.parse().ok()?, b.parse().ok()?);
            shown(&call.on(on, millis(ms)?).await)
        }
        ["call", on, ms, "divide", a, b] => {
            let call = Offered::divide(a.parse().ok()?, b.parse().ok()?);
            shown(&call.on(on, millis(ms)?).await)
        }
        ["call", on, ms, "where_am_i"] => shown(&Offered::where_am_i().on(on, millis(ms)?).await),
        ["call", on, ms, "fails"] => shown(&Offered::fails().on(on, millis(ms)?).await),
        ["call", on, ms, "spins"] => shown(&Offered::spins().on(on, millis(ms)?).await),
        ["call", on, ms, "dawdles", for_ms] => {
            let call = Offered::dawdles(self_pid(), for_ms.parse().ok()?);
            shown(&call.on(on, millis(ms)?).await)
        }
        ["call", on, ms, "large", bytes] => {
            let call = Offered::large(bytes.parse().ok()?);
            let result = call.on(on, millis(ms)?).await;
            shown(&result.map(|bytes| bytes.len()))
        }
        ["untyped", on, ms, module, function] => {
            let call = rpc::call::<i64, _>(on, module, function, &(1i64, 2i64), millis(ms)?);
            shown(&call.await)
        }
        ["cast", on, for_ms] => {
            Offered::dawdles(self_pid(), for_ms.parse().ok()?).cast_on(on);
            "ok".into()
        }
        ["all", ms, on @ ..] => {
            let on: Vec<&str> = on.to_vec();
            let all = Offered::where_am_i().on_all(on, millis(ms)?).await;
            format!("{} failed {:?}", shown(&all.results), all.failed())
        }
        ["multi-call", name, ms, text, on @ ..] => {
            let on: Vec<&str> = on.to_vec();
            let all = multi_call::<Discovery>(on, name, text.to_string(), millis(ms)?).await;
            format!("{} {}", shown(&all.replies), shown(&all.failed))
        }
        ["abcast", name, text, on @ ..] => {
            let on: Vec<&str> = on.to_vec();
            rpc::abcast(on.iter().copied(), name, text.as_bytes());
            rpc::server_abcast::<Discovery>(on, name, text.to_string());
            "ok".into()
        }
        ["everywhere"] => rpc::everywhere().join(" "),
        _ => return None,
    };
    let took = (time::now() - begun) / 1_000_000;
    Some(format!("{took} {answer}"))
}

fn millis(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_millis)
}

fn shown(value: &impl Debug) -> String {
    format!("{value:?}")
}

/// The short names of the nodes of these actors, sorted: what members look like in a test.
fn nodes_of(actors: &[Pid]) -> String {
    let node = |actor: &Pid| {
        let node = node::node_of(*actor).unwrap_or_else(|| "unknown".into());
        node.split('@').next().unwrap_or_default().to_owned()
    };
    let mut nodes: Vec<_> = actors.iter().map(node).collect();
    nodes.sort_unstable();
    nodes.join(",")
}

wasm_node_sdk::export_gen_server!(Discovery, Offered);
