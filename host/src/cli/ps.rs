//! `wasm-node ps`: the actors of a node.

use std::cmp::Reverse;

use serde_json::json;

use super::client::{ANSWER_TIMEOUT, Question, Via, ask_node};
use super::error::CliError;
use super::output;
use crate::control::{ControlReply, ControlRequest, ProcessRow};

/// List the actors of a node
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    question: Question,

    /// Those with most of it first
    #[arg(long, value_name = "FIGURE")]
    sort: Option<Sort>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Sort {
    /// Processor time
    Cpu,
    /// Linear memory
    Memory,
    /// Messages that wait
    Mailbox,
    /// Turns begun
    Turns,
}

pub(super) fn run(Args { question, sort }: Args, via: Via<'_>) -> Result<(), CliError> {
    let request = ControlRequest::Processes;
    let mut list = ask_node(
        &question.node,
        via,
        &request,
        ANSWER_TIMEOUT,
        |reply| match reply {
            ControlReply::Processes(list) => Some(list),
            _ => None,
        },
    )?;
    if let Some(sort) = sort {
        list.rows.sort_by_key(|row| Reverse(figure(row, sort)));
    }
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
                    "status": row.status,
                    "cpu_us": row.cpu_us,
                    "turns": row.turns,
                    "memory_bytes": row.state.as_ref().map(|state| state.memory_bytes),
                    "messages_in": row.state.as_ref().map(|state| state.messages_in),
                    "messages_out": row.state.as_ref().map(|state| state.messages_out),
                    "links": row.state.as_ref().map(|state| state.links),
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
                row.status.clone(),
                (row.cpu_us / 1_000).to_string(),
                row.state
                    .as_ref()
                    .map_or("-".into(), |state| (state.memory_bytes >> 10).to_string()),
                row.turns.to_string(),
            ]
        })
        .collect();
    output::table(
        [
            "PID", "MODULE", "NAME", "MAILBOX", "STATUS", "CPU_MS", "MEM_KIB", "TURNS",
        ],
        &rows,
    );
    let shown = list.rows.len() as u64;
    if shown < list.total {
        eprintln!("{shown} of {} actors", list.total);
    }
    Ok(())
}

fn figure(row: &ProcessRow, sort: Sort) -> u64 {
    match sort {
        Sort::Cpu => row.cpu_us,
        Sort::Memory => row.state.as_ref().map_or(0, |state| state.memory_bytes),
        Sort::Mailbox => row.mailbox,
        Sort::Turns => row.turns,
    }
}
