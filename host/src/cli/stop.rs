//! `wasm-node stop`: stop a node in good order.

use std::time::Duration;

use super::client::{ANSWER_TIMEOUT, Node, Via, with_node};
use super::error::CliError;
use crate::control::{ControlReply, ControlRequest};

/// How long the node may take to end its actors.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Stop a node: its app first, then its links; returns when it has left the cluster
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
}

pub(super) fn run(args: Args, via: Via<'_>) -> Result<(), CliError> {
    let node = args.node.node.clone();
    with_node(&args.node, via, async |mut client| {
        let done = match client.ask(&ControlRequest::Stop, ANSWER_TIMEOUT).await {
            Ok(ControlReply::Stopping) if client.wait_down(STOP_TIMEOUT).await => Ok(()),
            Ok(ControlReply::Stopping) => Err(CliError::Cluster(format!(
                "{node} was told to stop but is still there after {} s; look at its via, or kill its process",
                STOP_TIMEOUT.as_secs()
            ))),
            Ok(_) => Err(client.mismatch()),
            Err(error) => Err(error),
        };
        (client, done)
    })?;
    eprintln!("{} has stopped", args.node.node);
    Ok(())
}
