//! `wasm-node info`: one node about itself.

use serde_json::json;

use super::client::{ANSWER_TIMEOUT, Question, Via, ask_node};
use super::error::CliError;
use super::output;
use crate::control::{ControlReply, ControlRequest, NodeInfo};

/// Show what a node says about itself
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    question: Question,
}

pub(super) fn run(Args { question }: Args, via: Via<'_>) -> Result<(), CliError> {
    let request = ControlRequest::Info;
    let info = ask_node(
        &question.node,
        via,
        &request,
        ANSWER_TIMEOUT,
        |reply| match reply {
            ControlReply::Info(info) => Some(info),
            _ => None,
        },
    )?;
    print(&info, question.json);
    Ok(())
}

fn print(info: &NodeInfo, json: bool) {
    let kind = super::nodes::kind_name(info.kind);
    let incarnation = format!("{:016x}", info.incarnation.0);
    if json {
        output::json(&json!({
            "name": info.name.as_str(),
            "kind": kind,
            "incarnation": incarnation,
            "os_pid": info.os_pid,
            "uptime_ms": info.uptime_ms,
            "processes": info.processes,
            "listen": info.listen,
            "http": info.http,
            "version": info.version,
        }));
        return;
    }
    let mut rows = vec![
        ("name", info.name.to_string()),
        ("kind", kind.into()),
        ("incarnation", incarnation),
        ("version", info.version.clone()),
        ("os pid", info.os_pid.to_string()),
        ("uptime", format!("{:.1} s", info.uptime_ms as f64 / 1000.0)),
        ("actors", info.processes.to_string()),
        (
            "listens",
            info.listen.clone().unwrap_or_else(|| "no".into()),
        ),
    ];
    rows.extend(info.http.iter().map(|url| ("http", url.clone())));
    for (what, value) in rows {
        output::line(format_args!("{what:12} {value}"));
    }
}
