//! `wasm-node whereis`: which actor has a name.

use super::client::{ANSWER_TIMEOUT, Node, with_node};
use super::error::CliError;
use super::spawn::print_pid;
use crate::control::{Address, ControlReply, ControlRequest};

/// Print the pid of the actor that has a name, as a node knows it
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
    /// A name on that node, or global:NAME
    name: Address,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, log: Option<&str>) -> Result<(), CliError> {
    let request = ControlRequest::Whereis(args.name.clone());
    let node = args.node.node.clone();
    let row = with_node(&args.node, log, async |client| {
        let row = match client.ask(&request, ANSWER_TIMEOUT).await {
            Ok(ControlReply::Whereis(Some(row))) => Ok(row),
            Ok(ControlReply::Whereis(None)) => Err(CliError::NoActor {
                to: args.name,
                node,
            }),
            Ok(_) => Err(client.mismatch()),
            Err(error) => Err(error),
        };
        (client, row)
    })?;
    print_pid(&row, args.json);
    Ok(())
}
