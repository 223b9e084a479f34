//! `wasm-node nodes`: the nodes that a node is connected to.

use serde_json::json;
use wasm_node_protocol::NodeKind;

use super::client::{ANSWER_TIMEOUT, Node, Via, with_node};
use super::error::CliError;
use super::output;
use crate::control::{ControlReply, ControlRequest};

/// List the nodes that a node is connected to
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
    /// The hidden ones instead of the visible ones
    #[arg(long, conflicts_with = "all")]
    hidden: bool,
    /// Both, each with its kind
    #[arg(long)]
    all: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, via: Via<'_>) -> Result<(), CliError> {
    let mut rows = with_node(&args.node, via, async |client| {
        let rows = match client.ask(&ControlRequest::Nodes, ANSWER_TIMEOUT).await {
            Ok(ControlReply::Nodes(mut rows)) => {
                rows.retain(|row| !client.is_me(&row.name));
                Ok(rows)
            }
            Ok(_) => Err(client.mismatch()),
            Err(error) => Err(error),
        };
        (client, rows)
    })?;
    let wanted = if args.hidden {
        NodeKind::Hidden
    } else {
        NodeKind::Visible
    };
    rows.retain(|row| args.all || row.kind == wanted);
    if args.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| json!({ "name": row.name.as_str(), "kind": kind_name(row.kind) }))
            .collect();
        output::json(&json!({ "nodes": rows }));
        return Ok(());
    }
    for row in rows {
        if args.all {
            output::line(format_args!("{} {}", row.name, kind_name(row.kind)));
        } else {
            output::line(&row.name);
        }
    }
    Ok(())
}

/// A kind in one word.
pub(super) fn kind_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Visible => "visible",
        NodeKind::Hidden => "hidden",
    }
}
