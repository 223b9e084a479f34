//! `wasm-node status`: what a server of the Rust SDK says of its state, as Erlang's
//! `sys:get_status/1`.

use bytes::Bytes;

use super::client::{Node, Via};
use super::error::CliError;
use super::{call, output};
use crate::control::Address;

/// The SDK's question (`guest-sdk/src/gen_server/system.rs`): its mark, then the variant.
const GET_STATUS: &[u8] = b"\0wasm-node-sdk sys 1\0\x01";
/// A server answers between two messages. Milliseconds; then it is busy, or no server of the SDK.
const TIMEOUT_MS: u32 = 5_000;

/// Show what a server written with the Rust SDK says of its state (its format_status)
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
    /// The actor: a name on that node, global:NAME, or a pid as `ps` prints it
    #[arg(value_name = "NAME|PID")]
    to: Address,
}

pub(super) fn run(args: Args, via: Via<'_>) -> Result<(), CliError> {
    let question = Bytes::from_static(GET_STATUS);
    let reply = call::call(&args.node, via, args.to, question, TIMEOUT_MS)?;
    match output::readable(&reply) {
        Ok(text) => output::line(text),
        Err(hex) => output::line(hex),
    }
    Ok(())
}
