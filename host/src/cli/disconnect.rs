//! `wasm-node disconnect`: cut the connection between two nodes.

use wasm_node_protocol::NodeName;

use super::client::{ANSWER_TIMEOUT, Node, Via, ask_node};
use super::error::CliError;
use super::options::node_name;
use crate::control::{ControlReply, ControlRequest};

/// Cut a node's connection to another, and to no third; they stay apart until one names the other
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
    /// The other node
    #[arg(value_name = "OTHER", value_parser = node_name)]
    other: NodeName,
}

pub(super) fn run(args: Args, via: Via<'_>) -> Result<(), CliError> {
    let (node, other) = (&args.node.node, &args.other);
    let request = ControlRequest::Disconnect(other.clone());
    let was_connected = ask_node(
        &args.node,
        via,
        &request,
        ANSWER_TIMEOUT,
        |reply| match reply {
            ControlReply::Disconnected(was_connected) => Some(was_connected),
            _ => None,
        },
    )?;
    if !was_connected {
        return Err(CliError::Cluster(format!(
            "{node} is not connected to {other}; `wasm-node nodes {node} --all` lists what it is connected to"
        )));
    }
    eprintln!("{node} and {other} are disconnected");
    Ok(())
}
