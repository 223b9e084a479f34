//! `wasm-node ps`: the actors of a node.

use serde_json::json;

use super::client::{ANSWER_TIMEOUT, Question, ask_node};
use super::error::CliError;
use super::output;
use crate::control::{ControlReply, ControlRequest};

/// List the actors of a node
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    question: Question,
}

pub(super) fn run(Args { question }: Args, log: Option<&str>) -> Result<(), CliError> {
    let request = ControlRequest::Processes;
    let list = ask_node(
        &question.node,
        log,
        &request,
        ANSWER_TIMEOUT,
        |reply| match reply {
            ControlReply::Processes(list) => Some(list),
            _ => None,
        },
    )?;
    if question.json {
        let rows: Vec<_> = list
            .rows
            .iter()
            .map(|row| {
                json!({
                    "pid": row.pid,
                    "module": row.module,
                    "name": row.name,
                    "mailbox": row.mailbox,
                })
            })
            .collect();
        output::json(&json!({ "processes": rows, "total": list.total }));
        return Ok(());
    }
    let rows: Vec<_> = list
        .rows
        .iter()
        .map(|row| {
            let name = row.name.clone().unwrap_or_else(|| "-".into());
            [
                row.pid.clone(),
                row.module.clone(),
                name,
                row.mailbox.to_string(),
            ]
        })
        .collect();
    output::table(["PID", "MODULE", "NAME", "MAILBOX"], &rows);
    let shown = list.rows.len() as u64;
    if shown < list.total {
        eprintln!("{shown} of {} actors", list.total);
    }
    Ok(())
}
