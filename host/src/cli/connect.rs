//! `wasm-node connect`: connect one node to another.

use std::time::Duration;

use wasm_node_protocol::NodeName;

use super::client::{Node, with_node};
use super::error::CliError;
use super::options::node_name;
use crate::control::{ControlReply, ControlRequest};

/// How long the node may take; its own bound is shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Connect a node to another, and so to all that one knows
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
    /// The other node
    #[arg(value_name = "OTHER", value_parser = node_name)]
    other: NodeName,
}

pub(super) fn run(args: Args, log: Option<&str>) -> Result<(), CliError> {
    let node = args.node.node.clone();
    let request = ControlRequest::Connect(args.other.clone());
    with_node(&args.node, log, async |client| {
        let done = match client.ask(&request, CONNECT_TIMEOUT).await {
            Ok(ControlReply::Connected(Ok(()))) => Ok(()),
            Ok(ControlReply::Connected(Err(reason))) => Err(CliError::Refused { node, reason }),
            Ok(_) => Err(client.mismatch()),
            Err(error) => Err(error),
        };
        (client, done)
    })?;
    eprintln!("{} and {} are connected", args.node.node, args.other);
    Ok(())
}
