//! `wasm-node exit`: send an actor an exit signal.

use wasm_node_protocol::ExitReason;

use super::client::{ANSWER_TIMEOUT, Node, Via, with_node};
use super::error::CliError;
use crate::control::{Address, ControlReply, ControlRequest};

/// Send an actor an exit signal, as Erlang's exit/2
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
    /// The actor: a name on that node, global:NAME, or a pid as `ps` prints it
    #[arg(value_name = "NAME|PID")]
    to: Address,
    /// "normal", "shutdown", "kill" (cannot be trapped), or words of your own
    #[arg(long, value_name = "TEXT", default_value = "shutdown")]
    reason: String,
}

pub(super) fn run(args: Args, via: Via<'_>) -> Result<(), CliError> {
    let reason = match args.reason.as_str() {
        "normal" => ExitReason::Normal,
        "shutdown" => ExitReason::Shutdown,
        "kill" => ExitReason::Kill,
        words => ExitReason::Error(words.into()),
    };
    let request = ControlRequest::Exit {
        to: args.to.clone(),
        reason,
    };
    let node = args.node.node.clone();
    with_node(&args.node, via, async |client| {
        let done = match client.ask(&request, ANSWER_TIMEOUT).await {
            Ok(ControlReply::Exited(true)) => Ok(()),
            Ok(ControlReply::Exited(false)) => Err(CliError::NoActor { to: args.to, node }),
            Ok(_) => Err(client.mismatch()),
            Err(error) => Err(error),
        };
        (client, done)
    })
}
