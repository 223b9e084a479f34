//! `wasm-node cookie`: which cookies a node has, and new ones at run time: Erlang's
//! `get_cookie/0,1` and `set_cookie/1,2`.
//!
//! A node keeps keys, not texts, and shows fingerprints: enough to see whether two nodes agree.

use std::path::PathBuf;

use serde_json::json;
use wasm_node_protocol::NodeName;

use super::client::{ANSWER_TIMEOUT, Question, Via, ask_node};
use super::error::CliError;
use super::options::node_name;
use super::output;
use crate::control::{ControlReply, ControlRequest, CookieKey};
use crate::dist::{Cookie, CookieSource, Security};

/// Show the fingerprints of a node's cookies, or set one for handshakes from now on
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    question: Question,
    /// A file that holds the new cookie, readable by you only
    #[arg(long, value_name = "FILE", conflicts_with = "set")]
    set_file: Option<PathBuf>,
    /// The new cookie itself; others on this machine can see it in the process list
    #[arg(long, value_name = "TEXT")]
    set: Option<String>,
    /// Only for this peer: the new one is for it alone, the one shown is what is used with it
    #[arg(long, value_name = "NODE", value_parser = node_name)]
    peer: Option<NodeName>,
}

pub(super) fn run(args: Args, via: Via<'_>) -> Result<(), CliError> {
    let source = match (args.set_file, args.set) {
        (Some(file), _) => CookieSource::File(file),
        (None, Some(text)) => CookieSource::Text(text),
        (None, None) => return show(&args.question, args.peer.as_ref(), via),
    };
    let question = &args.question;
    if question.node.join.trust.security() == Security::Plaintext {
        return Err(CliError::Usage(
            "a cookie is not sent over a link in clear (--plaintext): start the node with --cookie-file instead".into(),
        ));
    }
    let request = ControlRequest::SetCookie {
        peer: args.peer.clone(),
        cookie: CookieKey(*Cookie::load(&source)?.key()),
    };
    ask_node(&question.node, via, &request, ANSWER_TIMEOUT, |reply| {
        (reply == ControlReply::CookieSet).then_some(())
    })?;
    let with = args.peer.as_ref().map_or("all others", NodeName::as_str);
    eprintln!(
        "{} has a new cookie for {with}; links that are up stay",
        question.name()
    );
    Ok(())
}

fn show(question: &Question, peer: Option<&NodeName>, via: Via<'_>) -> Result<(), CliError> {
    let request = ControlRequest::Cookies;
    let mut rows = ask_node(
        &question.node,
        via,
        &request,
        ANSWER_TIMEOUT,
        |reply| match reply {
            ControlReply::Cookies(rows) => Some(rows),
            _ => None,
        },
    )?;
    if let Some(peer) = peer {
        let own = rows.iter().position(|row| row.peer.as_ref() == Some(peer));
        rows = rows.drain(..).skip(own.unwrap_or(0)).take(1).collect();
    }
    if question.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| json!({ "peer": row.peer.as_ref().map(NodeName::as_str), "fingerprint": row.fingerprint }))
            .collect();
        output::json(&json!({ "cookies": rows }));
        return Ok(());
    }
    let cells = rows.into_iter().map(|row| {
        let peer = row
            .peer
            .map_or("(all others)".into(), |peer| peer.to_string());
        [peer, row.fingerprint]
    });
    output::table(["PEER", "FINGERPRINT"], &cells.collect::<Vec<_>>());
    Ok(())
}
