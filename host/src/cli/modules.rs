//! `wasm-node modules`: the modules of a node and their versions.

use serde_json::json;

use super::client::{ANSWER_TIMEOUT, Node, with_node};
use super::error::CliError;
use super::output;
use crate::control::{ControlReply, ControlRequest};

/// List the modules of a node with the digests of their versions
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, log: Option<&str>) -> Result<(), CliError> {
    let rows = with_node(&args.node, log, async |client| {
        let rows = match client.ask(&ControlRequest::Modules, ANSWER_TIMEOUT).await {
            Ok(ControlReply::Modules(rows)) => Ok(rows),
            Ok(_) => Err(client.mismatch()),
            Err(error) => Err(error),
        };
        (client, rows)
    })?;
    if args.json {
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
