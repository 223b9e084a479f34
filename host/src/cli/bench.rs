//! `wasm-node bench`: the same work as `beam_bench.erl`, one line a figure.

use std::path::PathBuf;

use bytes::Bytes;
use wasm_node_protocol::NodeName;

use super::build::show;
use super::error::CliError;
use super::options::{Trust, epmd_mode, node_name};
use super::{client, log};
use crate::build::BuildOptions;
use crate::dist::DistConfig;
use crate::node::NodeConfig;

/// Measure what actors cost, one line NAME VALUE UNIT a figure
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// One node by itself
    Local {
        #[command(flatten)]
        how: How,
    },
    /// A node of its own and a peer that runs
    Remote {
        /// The peer
        #[arg(long, value_name = "NODE", value_parser = node_name)]
        peer: NodeName,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        trust: Trust,
    },
}

#[derive(clap::Args, Debug)]
struct How {
    /// The component of the benchmark actor [default: built from --source]
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// The benchmark actor's source folder
    #[arg(long, value_name = "DIR", default_value = "actors/bench")]
    source: PathBuf,
    /// How many threads run actors [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

pub(super) fn run(args: Args, log: Option<&str>) -> Result<(), CliError> {
    log::start("bench", log, "warn")?;
    let data =
        tempfile::tempdir().map_err(|error| CliError::System("make a temporary folder", error))?;
    let (how, peer, trust) = match args.what {
        What::Local { how } => {
            // Nobody joins it: its secret is one that nobody has.
            let secret = format!("{:032x}", rand::random::<u128>());
            let alone = Trust {
                cookie: Some(secret),
                cookie_file: None,
                plaintext: false,
            };
            (how, None, alone)
        }
        What::Remote { peer, how, trust } => (how, Some(peer), trust),
    };
    let module = how.component()?;
    let host = match &peer {
        Some(peer) if !peer.is_long() => "localhost",
        _ => "127.0.0.1",
    };
    let name = format!("bench-{}@{host}", std::process::id());
    let name = name
        .parse()
        .map_err(|error| CliError::Usage(format!("{error}")))?;
    let mut dist = DistConfig::new(name, client::incarnation(), trust.cookie()?);
    dist.security = trust.security();
    dist.epmd = epmd_mode(peer.is_none())?;
    let config = NodeConfig {
        dist,
        data_dir: data.path().into(),
        module_dirs: Vec::new(),
        app: None,
        http: None,
        connect: Vec::new(),
        workers: how.workers.map(usize::from),
    };
    super::start::block_on_node(async {
        match &peer {
            None => crate::bench::local(config, module).await?,
            Some(peer) => crate::bench::remote(config, module, peer).await?,
        }
        Ok(())
    })
}

impl How {
    fn component(&self) -> Result<Bytes, CliError> {
        let path = match &self.module {
            Some(path) => path.clone(),
            None => crate::build::build(BuildOptions::new(&self.source), &mut show)?.component_path,
        };
        let bytes = std::fs::read(&path).map_err(|source| CliError::Io {
            doing: "read",
            path,
            source,
        })?;
        Ok(Bytes::from(bytes))
    }
}
