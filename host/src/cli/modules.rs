//! `wasm-node modules`: the modules of a node and their versions.

use serde_json::json;

use super::client::{ANSWER_TIMEOUT, Question, ask_node};
use super::error::CliError;
use super::output;
use crate::control::{ControlReply, ControlRequest};

/// List the modules of a node with the digests of their versions
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    question: Question,
}

pub(super) fn run(Args { question }: Args, log: Option<&str>) -> Result<(), CliError> {
    let request = ControlRequest::Modules;
    let rows = ask_node(
        &question.node,
        log,
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
            .map(|row| json!({ "name": row.name, "digest": row.digest, "actors": row.actors }))
            .collect();
        output::json(&json!({ "modules": rows }));
        return Ok(());
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|row| [row.name.clone(), row.actors.to_string(), row.digest.clone()])
        .collect();
    output::table(["MODULE", "ACTORS", "DIGEST"], &rows);
    Ok(())
}
