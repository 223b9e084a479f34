//! `wasm-node modules`: the modules of a node, their versions, and what they may do.

use serde_json::json;

use super::client::{ANSWER_TIMEOUT, Question, Via, ask_node};
use super::error::CliError;
use super::output;
use crate::control::{ControlReply, ControlRequest};

/// List the modules of a node: the digests of their versions, and what they are granted
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    question: Question,
}

pub(super) fn run(Args { question }: Args, via: Via<'_>) -> Result<(), CliError> {
    let request = ControlRequest::Modules;
    let rows = ask_node(
        &question.node,
        via,
        &request,
        ANSWER_TIMEOUT,
        |reply| match reply {
            ControlReply::Modules(rows) => Some(rows),
            _ => None,
        },
    )?;
    if question.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "name": row.name,
                    "digest": row.digest,
                    "actors": row.actors,
                    "capabilities": row.capabilities,
                    "imports": row.imports,
                })
            })
            .collect();
        output::json(&json!({ "modules": rows }));
        return Ok(());
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let granted = match row.capabilities.is_empty() {
                true => "-".into(),
                false => row.capabilities.join(","),
            };
            [
                row.name.clone(),
                row.actors.to_string(),
                row.digest.clone(),
                granted,
            ]
        })
        .collect();
    output::table(["MODULE", "ACTORS", "DIGEST", "CAPABILITIES"], &rows);
    Ok(())
}
