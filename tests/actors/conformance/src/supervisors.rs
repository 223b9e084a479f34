//! The steps that concern supervisors. Their children are servers (`server`) that trap exits
//! unless the case says otherwise.

use std::time::Duration;

use wasm_node_sdk::supervisor::{
    AutoShutdown, ChildError, ChildKind, ChildSpec, ChildState, Client, Restart, Shutdown,
    Strategy, SupervisorSpec,
};
use wasm_node_sdk::{CallError, ExitReason, GenServer, StartError};

use crate::process::{Came, PATIENCE, Process, came};
use crate::server::{Server, ServerArgs, owned};
use crate::wire::{Known, Outcome};
use crate::words;

/// The steps.
pub async fn perform(process: &Process, words: &[&str]) -> Result<Came, String> {
    match *words {
        ["supervise", name, ref rest @ ..] => supervise(process, name, rest).await,
        ["start_child", to, ref rest @ ..] => {
            let child = child(process, rest)?;
            match client(process, to)?.start_child(child, PATIENCE).await {
                Ok(Ok(_)) => came("ok"),
                Ok(Err(error)) => came(start_error(&error)),
                Err(error) => came(words::call_error(&error)),
            }
        }
        ["terminate_child", to, id] => {
            let answer = client(process, to)?.terminate_child(id, PATIENCE).await;
            done(answer.map(|was| if was { "ok" } else { "not_found" }.into()))
        }
        ["restart_child", to, id] => {
            let answer = client(process, to)?.restart_child(id, PATIENCE).await;
            done(answer.map(|restarted| match restarted {
                // As `{ok, undefined}`.
                Err(ChildError::Start(StartError::Ignored)) => "ok".into(),
                restarted => child_result(restarted.map(drop)),
            }))
        }
        ["delete_child", to, id] => {
            let answer = client(process, to)?.delete_child(id, PATIENCE).await;
            done(answer.map(child_result))
        }
        ["count", to] => {
            let answer = client(process, to)?.count_children(PATIENCE).await;
            done(answer.map(|counts| {
                format!(
                    "specs {} active {} supervisors {} workers {}",
                    counts.specs, counts.active, counts.supervisors, counts.workers
                )
            }))
        }
        ["which", to] => match client(process, to)?.which_children(PATIENCE).await {
            Ok(children) => {
                let shown = children.iter().map(|child| {
                    let state = match child.state {
                        ChildState::Running(_) => "up",
                        ChildState::Restarting => "restarting",
                        ChildState::Undefined => "undefined",
                    };
                    let kind = match child.kind {
                        ChildKind::Worker => "",
                        ChildKind::Supervisor => " supervisor",
                    };
                    format!("{} {state}{kind}", child.id)
                });
                Ok((Outcome::Unordered(shown.collect()), Vec::new()))
            }
            Err(error) => came(words::call_error(&error)),
        },
        _ => Err(format!("unknown operation: {}", words.join(" "))),
    }
}

fn client(process: &Process, to: &str) -> Result<Client, String> {
    process.destination(to).map(Client::at)
}

fn child_result(result: Result<(), ChildError>) -> String {
    match result {
        Ok(()) => "ok".into(),
        Err(ChildError::NotFound) => "not_found".into(),
        Err(ChildError::Running) => "running".into(),
        Err(ChildError::Restarting) => "restarting".into(),
        Err(ChildError::Start(error)) => start_error(&error),
    }
}

fn done(answer: Result<String, CallError>) -> Result<Came, String> {
    match answer {
        Ok(words) => came(words),
        Err(error) => came(words::call_error(&error)),
    }
}

fn start_error(error: &StartError) -> String {
    match error {
        StartError::AlreadyStarted(_) => "error already_started".into(),
        StartError::AlreadyPresent => "error already_present".into(),
        StartError::Ignored => "ignore".into(),
        StartError::Failed(ExitReason::Error(text))
            if text.starts_with("cannot start the child") =>
        {
            "error failed_to_start_child".into()
        }
        StartError::Failed(ExitReason::Error(text)) if text.starts_with("bad_combination") => {
            "error bad_child".into()
        }
        StartError::Failed(reason) => format!("error {}", words::reason(reason)),
        StartError::Spawn(error) => format!("error {}", error.describe()),
        StartError::MaxChildren => "error max_children".into(),
    }
}

async fn supervise(process: &Process, name: &str, words: &[&str]) -> Result<Came, String> {
    let mut parts = words.split(|&word| word == "|");
    let [
        strategy,
        "intensity",
        intensity,
        "period",
        seconds,
        ref shutdown @ ..,
    ] = *parts.next().unwrap_or_default()
    else {
        return Err(format!("no supervisor: {}", words.join(" ")));
    };
    let auto_shutdown = match *shutdown {
        [] => AutoShutdown::Never,
        ["auto_shutdown", "any_significant"] => AutoShutdown::AnySignificant,
        ["auto_shutdown", "all_significant"] => AutoShutdown::AllSignificant,
        _ => return Err(format!("no supervisor: {}", words.join(" "))),
    };
    let number = |word: &str| word.parse().map_err(|_| format!("\"{word}\" is no number"));
    let seconds: u32 = number(seconds)?;
    let spec = SupervisorSpec {
        strategy: match strategy {
            "one_for_one" => Strategy::OneForOne,
            "one_for_all" => Strategy::OneForAll,
            "rest_for_one" => Strategy::RestForOne,
            _ => return Err(format!("no strategy: {strategy}")),
        },
        intensity: number(intensity)?,
        period_ms: seconds * 1_000,
        children: parts
            .map(|words| child(process, words))
            .collect::<Result<_, _>>()?,
        auto_shutdown,
    };
    match Client::start(&spec).await {
        Ok(Client(destination)) => {
            let pid = match destination {
                wasm_node_sdk::Destination::Pid(pid) => pid,
                _ => return Err("a supervisor without a pid".into()),
            };
            Ok((
                Outcome::One("ok".into()),
                vec![(name.to_owned(), Known::Pid(pid))],
            ))
        }
        Err(error) => came(start_error(&error)),
    }
}

fn child(process: &Process, words: &[&str]) -> Result<ChildSpec, String> {
    let [id, options @ ..] = words else {
        return Err("a child without an id".into());
    };
    let mut args = ServerArgs {
        id: (*id).to_owned(),
        conductor: process.conductor(),
        traps: true,
        deaf: false,
        init: Vec::new(),
    };
    let (mut restart, mut shutdown) = (Restart::default(), Shutdown::default());
    let (mut significant, mut kind) = (false, ChildKind::Worker);
    let mut rest = options;
    loop {
        rest = match *rest {
            [] => break,
            ["permanent", ref rest @ ..] => {
                restart = Restart::Permanent;
                rest
            }
            ["transient", ref rest @ ..] => {
                restart = Restart::Transient;
                rest
            }
            ["temporary", ref rest @ ..] => {
                restart = Restart::Temporary;
                rest
            }
            ["shutdown", "brutal_kill", ref rest @ ..] => {
                shutdown = Shutdown::BrutalKill;
                rest
            }
            ["shutdown", "infinity", ref rest @ ..] => {
                shutdown = Shutdown::Infinity;
                rest
            }
            ["shutdown", ms, ref rest @ ..] => {
                let ms: Duration = words::ms(ms)?;
                shutdown = Shutdown::After(ms.as_millis() as u32);
                rest
            }
            ["significant", ref rest @ ..] => {
                significant = true;
                rest
            }
            ["supervisor", ref rest @ ..] => {
                kind = ChildKind::Supervisor;
                rest
            }
            ["notrap", ref rest @ ..] => {
                args.traps = false;
                rest
            }
            ["deaf", ref rest @ ..] => {
                args.deaf = true;
                rest
            }
            ["init", ref returns @ ..] => {
                args.init = owned(returns);
                break;
            }
            _ => return Err(format!("a child is not {rest:?}")),
        };
    }
    let child = ChildSpec::new(*id, Server::MODULE, Server::encode_args(&args));
    let child = ChildSpec {
        significant,
        kind,
        ..child
    };
    Ok(child.restart(restart).shutdown(shutdown))
}
