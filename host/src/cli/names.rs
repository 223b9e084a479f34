//! `wasm-node names`: what the port mapper of this machine knows, as `epmd -names`.

use serde_json::json;

use super::client::block_on;
use super::error::CliError;
use super::options::epmd_port;
use super::output;
use crate::dist::epmd;

/// List the nodes on this machine that the port mapper knows, with their ports
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    let at = epmd::local(epmd_port()?);
    let names = block_on(async { Ok(epmd::names(at).await?) })?;
    if args.json {
        let names: Vec<_> = names
            .iter()
            .map(|(name, port)| json!({ "name": name, "port": port }))
            .collect();
        output::json(&json!({ "names": names }));
    } else {
        for (name, port) in names {
            output::line(format_args!("name {name} at port {port}"));
        }
    }
    Ok(())
}
