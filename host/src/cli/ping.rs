//! `wasm-node ping`: whether one node reaches another, and how quickly.

use serde_json::json;
use wasm_node_protocol::NodeName;

use super::client::{Question, Via, ask_node};
use super::connect::CONNECT_TIMEOUT;
use super::error::CliError;
use super::options::node_name;
use super::output;
use crate::control::{ControlReply, ControlRequest};

/// Let a node connect to another and wait for its answer, as Erlang's net_adm:ping/1
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    question: Question,
    /// The other node
    #[arg(value_name = "OTHER", value_parser = node_name)]
    other: NodeName,
}

pub(super) fn run(Args { question, other }: Args, via: Via<'_>) -> Result<(), CliError> {
    let request = ControlRequest::Ping(other.clone());
    let pinged = ask_node(
        &question.node,
        via,
        &request,
        CONNECT_TIMEOUT,
        |reply| match reply {
            ControlReply::Pinged(pinged) => Some(pinged),
            _ => None,
        },
    )?;
    let micros = pinged.map_err(|reason| {
        CliError::Cluster(format!(
            "pang: {} does not reach {other}: {reason}",
            question.name()
        ))
    })?;
    match question.json {
        true => output::json(&json!({ "pong": other.as_str(), "micros": micros })),
        false => output::line(format_args!("pong {:.3} ms", micros as f64 / 1000.0)),
    }
    Ok(())
}
