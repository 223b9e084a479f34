//! `wasm-node call`: ask an actor and print its reply.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::client::{ANSWER_TIMEOUT, Node, Via, with_node};
use super::error::CliError;
use super::output;
use crate::control::{Address, ControlReply, ControlRequest};

/// Call an actor with a text, and print its reply
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
    /// The actor: a name on that node, global:NAME, or a pid as `ps` prints it
    #[arg(value_name = "NAME|PID")]
    to: Address,
    /// What to ask
    text: String,
    /// TEXT is bytes in hex
    #[arg(long)]
    hex: bool,
    /// How long the reply may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    timeout: u32,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, via: Via<'_>) -> Result<(), CliError> {
    let body = if args.hex {
        unhex(&args.text)?
    } else {
        args.text.into_bytes()
    };
    let reply = call(&args.node, via, args.to, Bytes::from(body), args.timeout)?;
    match (output::readable(&reply), args.json) {
        (Ok(text), true) => output::json(&json!({ "reply": text })),
        (Err(hex), true) => output::json(&json!({ "reply_hex": hex })),
        (Ok(text), false) => output::line(text),
        (Err(hex), false) => {
            eprintln!("the reply is no text; its {} bytes in hex:", reply.len());
            output::line(hex);
        }
    }
    Ok(())
}

/// Calls an actor; the time-out is in milliseconds.
pub(super) fn call(
    node: &Node,
    via: Via<'_>,
    to: Address,
    body: Bytes,
    timeout_ms: u32,
) -> Result<Bytes, CliError> {
    let request = ControlRequest::Call {
        to: to.clone(),
        body,
        timeout_ms,
    };
    // The node keeps the time; this only notices a node that does not.
    let patience = Duration::from_millis(timeout_ms.into()) + ANSWER_TIMEOUT;
    let name = node.node.clone();
    with_node(node, via, async |client| {
        let reply = match client.ask(&request, patience).await {
            Ok(ControlReply::Called(Ok(reply))) => Ok(reply),
            Ok(ControlReply::Called(Err(error))) => Err(CliError::Call {
                to,
                node: name,
                error,
            }),
            Ok(_) => Err(client.mismatch()),
            Err(error) => Err(error),
        };
        (client, reply)
    })
}

/// Bytes from two hexadecimal digits each.
pub(super) fn unhex(text: &str) -> Result<Vec<u8>, CliError> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => Ok(digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |n, &d| n << 4 | d as u8))
            .collect()),
        _ => Err(CliError::Usage(format!(
            "{text:?} is no hex: write two hexadecimal digits a byte, or leave out --hex"
        ))),
    }
}
