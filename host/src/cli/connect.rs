//! `wasm-node connect`: connect one node to another.

use std::time::Duration;

use wasm_node_protocol::NodeName;

use super::client::{Node, Via, ask_node};
use super::error::CliError;
use super::options::node_name;
use crate::control::{ControlReply, ControlRequest};

/// How long the node may take; its own bound is shorter.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Connect a node to another, and so to all that one knows
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
    /// The other node
    #[arg(value_name = "OTHER", value_parser = node_name)]
    other: NodeName,
}

pub(super) fn run(args: Args, via: Via<'_>) -> Result<(), CliError> {
    let node = args.node.node.clone();
    let request = ControlRequest::Connect(args.other.clone());
    let connected = ask_node(
        &args.node,
        via,
        &request,
        CONNECT_TIMEOUT,
        |reply| match reply {
            ControlReply::Connected(connected) => Some(connected),
            _ => None,
        },
    )?;
    connected.map_err(|reason| CliError::Refused { node, reason })?;
    eprintln!("{} and {} are connected", args.node.node, args.other);
    Ok(())
}
