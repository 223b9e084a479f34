//! `wasm-node bench`: what actors cost, one line a figure; `tests/bench/` compares and draws.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use tempfile::TempDir;
use wasm_node_protocol::NodeName;

use super::build::show;
use super::error::CliError;
use super::options::{Trust, epmd_mode, node_name};
use super::{client, log};
use crate::bench::{
    self, IsolationOptions, LOCAL_MESSAGES, LocalFigure, ROUNDS, RemoteFigure, Rogues,
    ScaleOptions, StartOptions,
};
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
        /// Only these figures
        #[arg(long, value_name = "FIGURE", value_delimiter = ',')]
        only: Vec<LocalFigure>,
        /// How many calls or messages make a round; a third as many spawns
        #[arg(long, value_name = "N", default_value_t = LOCAL_MESSAGES,
              value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
        messages: u64,
        #[command(flatten)]
        how: How,
    },
    /// A node of its own and a peer that runs
    Remote {
        /// The peer
        #[arg(long, value_name = "NODE", value_parser = node_name)]
        peer: NodeName,
        /// Begin when so many other nodes are connected
        #[arg(long, value_name = "N", default_value_t = 1)]
        nodes: usize,
        /// Only these figures
        #[arg(long, value_name = "FIGURE", value_delimiter = ',')]
        only: Vec<RemoteFigure>,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        trust: Trust,
    },
    /// Messages per second by worker threads and live actors; idle actors by the ten thousands
    Scale {
        /// Numbers of actors that pass messages at once
        #[arg(long, value_name = "N", value_delimiter = ',', default_value = "10,1000,100000",
              value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
        actors: Vec<u64>,
        /// How many messages they pass in all
        #[arg(long, value_name = "N", default_value_t = 1_000_000,
              value_parser = clap::value_parser!(u64).range(2..=1_000_000_000))]
        messages: u64,
        /// Numbers of idle actors
        #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1000,10000,30000,100000",
              value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        idle: Vec<u64>,
        /// Only one half
        #[arg(long, value_enum)]
        only: Option<ScaleHalf>,
        #[command(flatten)]
        how: How,
    },
    /// How soon a node is ready and a new module runs, and what compiling does to running actors
    Start {
        /// The modules of the nodes that are started [default: the benchmark actor alone]
        #[arg(long, value_name = "DIR")]
        modules: Option<PathBuf>,
        #[command(flatten)]
        how: How,
    },
    /// How actors fare beside others that loop, block, crash and take all memory
    Isolation {
        /// The folder with the sources of rogue and rogue-wasi
        #[arg(long, value_name = "DIR", default_value = "tests/actors")]
        rogues: PathBuf,
        /// How many of each kind at once [default: one more than cores]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
        each: Option<u16>,
        /// How long calls are watched beside each kind
        #[arg(long, value_name = "MS", default_value_t = 3_000,
              value_parser = clap::value_parser!(u32).range(100..=600_000))]
        watch: u32,
        #[command(flatten)]
        how: How,
    },
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum ScaleHalf {
    /// Messages per second
    Messages,
    /// Idle actors
    Idle,
}

#[derive(clap::Args, Debug)]
struct How {
    /// The component of the benchmark actor [default: built from --source]
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// The benchmark actor's source folder
    #[arg(long, value_name = "DIR", default_value = "actors/bench")]
    source: PathBuf,
    /// How many threads run actors [default: one a core; `scale`: from one to that, each in turn]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// How often each figure is measured
    #[arg(long, value_name = "N", default_value_t = ROUNDS,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
}

pub(super) fn run(args: Args, filter: Option<&str>) -> Result<(), CliError> {
    let default = match &args.what {
        // What the node does about so many actors belongs to the result.
        What::Scale { .. } => "info",
        // Each crash would be a report.
        What::Isolation { .. } => "off",
        _ => "warn",
    };
    log::start("bench", filter, default)?;
    let folder =
        tempfile::tempdir().map_err(|error| CliError::System("make a temporary folder", error))?;
    match args.what {
        What::Local {
            only,
            messages,
            how,
        } => {
            let module = how.component()?;
            let config = alone(&folder, &how, &secret())?;
            let figures = all_unless(only);
            measure(bench::local(config, module, &figures, how.rounds, messages))
        }
        What::Remote {
            peer,
            nodes,
            only,
            how,
            trust,
        } => {
            let module = how.component()?;
            let host = if peer.is_long() {
                "127.0.0.1"
            } else {
                "localhost"
            };
            let mut config = node_config(&folder, &how, host, &trust)?;
            config.dist.epmd = epmd_mode(false)?;
            let figures = all_unless(only);
            measure(bench::remote(
                config, module, &peer, nodes, &figures, how.rounds,
            ))
        }
        What::Scale {
            actors,
            messages,
            idle,
            only,
            how,
        } => {
            let module = how.component_file()?;
            if only != Some(ScaleHalf::Idle) {
                match how.workers {
                    Some(workers) => {
                        let options = ScaleOptions {
                            workers,
                            actors,
                            messages,
                            rounds: how.rounds,
                        };
                        let config = alone(&folder, &how, &secret())?;
                        measure(bench::scale(config, read(module.clone())?, &options))?;
                    }
                    None => each_worker_count(&module, &actors, messages, how.rounds)?,
                }
            }
            if only != Some(ScaleHalf::Messages) {
                match idle.as_slice() {
                    [actors] => {
                        let config = alone(&folder, &how, &secret())?;
                        measure(bench::scale_idle(config, read(module)?, *actors))?;
                    }
                    numbers => each_idle_number(&module, numbers, how.workers)?,
                }
            }
            Ok(())
        }
        What::Start { modules, how } => {
            let cookie = secret();
            let config = alone(&folder, &how, &cookie)?;
            let options = StartOptions {
                cookie,
                modules,
                rounds: how.rounds,
                folder: folder.path().join("others"),
            };
            measure(bench::start(config, how.component()?, &options))
        }
        What::Isolation {
            rogues,
            each,
            watch,
            how,
        } => {
            let module = how.component()?;
            let rogues = Rogues {
                plain: built(rogues.join("rogue"))?,
                wasi: built(rogues.join("rogue-wasi"))?,
            };
            let cookie = secret();
            let config = alone(&folder, &how, &cookie)?;
            let options = IsolationOptions {
                cookie,
                rogues_each: each.map_or(cores() + 1, usize::from),
                watched: Duration::from_millis(watch.into()),
                folder: folder.path().join("peer"),
            };
            measure(bench::isolation(config, module, rogues, &options))
        }
    }
}

fn measure(measuring: impl Future<Output = Result<(), bench::BenchError>>) -> Result<(), CliError> {
    super::start::block_on_node(async { Ok(measuring.await?) })
}

/// Messages per second with one worker, then with more, up to one a core.
fn each_worker_count(
    module: &Path,
    actors: &[u64],
    messages: u64,
    rounds: u32,
) -> Result<(), CliError> {
    let actors: Vec<_> = actors.iter().map(u64::to_string).collect();
    for workers in worker_counts(cores()) {
        let options = [
            ("--only", "messages".into()),
            ("--workers", workers.to_string()),
            ("--actors", actors.join(",")),
            ("--messages", messages.to_string()),
            ("--rounds", rounds.to_string()),
        ];
        scale_alone(module, &options)?;
    }
    Ok(())
}

fn each_idle_number(module: &Path, numbers: &[u64], workers: Option<u16>) -> Result<(), CliError> {
    for number in numbers {
        let mut options = vec![("--only", "idle".into()), ("--idle", number.to_string())];
        options.extend(workers.map(|workers| ("--workers", workers.to_string())));
        scale_alone(module, &options)?;
    }
    Ok(())
}

/// One point in a process of its own, so that none begins with the memory that another has left
/// behind.
fn scale_alone(module: &Path, options: &[(&str, String)]) -> Result<(), CliError> {
    let program = std::env::current_exe()
        .map_err(|error| CliError::System("find this program's own file", error))?;
    let mut command = Command::new(program);
    command.args(["bench", "scale", "--module"]).arg(module);
    for (option, value) in options {
        command.args([option, value.as_str()]);
    }
    let status = command
        .status()
        .map_err(|error| CliError::System("start this program again", error))?;
    match status.success() {
        true => Ok(()),
        false => Err(CliError::Cluster(format!(
            "bench scale {options:?} failed ({status}); its words are above"
        ))),
    }
}

/// All up to four, then doublings, and all of them.
fn worker_counts(cores: usize) -> Vec<usize> {
    let mut counts: Vec<_> = (1..=cores.min(4)).collect();
    let mut next = 8;
    while next < cores {
        counts.push(next);
        next *= 2;
    }
    if cores > 4 {
        counts.push(cores);
    }
    counts
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// A cookie that nobody else has.
fn secret() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// A node that knows no port mapper.
fn alone(folder: &TempDir, how: &How, cookie: &str) -> Result<NodeConfig, CliError> {
    let trust = Trust {
        cookie: Some(cookie.into()),
        cookie_file: None,
        plaintext: false,
    };
    let mut config = node_config(folder, how, "127.0.0.1", &trust)?;
    config.dist.epmd = epmd_mode(true)?;
    Ok(config)
}

fn node_config(
    folder: &TempDir,
    how: &How,
    host: &str,
    trust: &Trust,
) -> Result<NodeConfig, CliError> {
    let name = format!("bench-{}@{host}", std::process::id());
    let name = name
        .parse()
        .map_err(|error| CliError::Usage(format!("{error}")))?;
    let mut dist = DistConfig::new(name, client::incarnation(), trust.cookie()?);
    dist.security = trust.security();
    Ok(NodeConfig {
        dist,
        data_dir: folder.path().join("data"),
        module_dirs: Vec::new(),
        app: None,
        policy: crate::app::Policy::default(),
        http: None,
        connect: Vec::new(),
        workers: how.workers.map(usize::from),
    })
}

/// The figures asked for, or all of their kind.
fn all_unless<F: ValueEnum + Clone>(only: Vec<F>) -> Vec<F> {
    match only.is_empty() {
        true => F::value_variants().to_vec(),
        false => only,
    }
}

/// An actor's component, built if it is not up to date.
fn built(source: PathBuf) -> Result<Bytes, CliError> {
    read(crate::build::build(BuildOptions::new(source), &mut show)?.component_path)
}

fn read(path: PathBuf) -> Result<Bytes, CliError> {
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Bytes::from(bytes)),
        Err(source) => Err(CliError::Io {
            doing: "read",
            path,
            source,
        }),
    }
}

impl How {
    fn component_file(&self) -> Result<PathBuf, CliError> {
        match &self.module {
            Some(path) => Ok(path.clone()),
            None => {
                Ok(crate::build::build(BuildOptions::new(&self.source), &mut show)?.component_path)
            }
        }
    }

    fn component(&self) -> Result<Bytes, CliError> {
        read(self.component_file()?)
    }
}

#[cfg(test)]
mod tests {
    use super::worker_counts;

    #[test]
    fn worker_counts_end_with_all_cores() {
        assert_eq!(worker_counts(1), [1]);
        assert_eq!(worker_counts(2), [1, 2]);
        assert_eq!(worker_counts(6), [1, 2, 3, 4, 6]);
        assert_eq!(worker_counts(8), [1, 2, 3, 4, 8]);
        assert_eq!(worker_counts(24), [1, 2, 3, 4, 8, 16, 24]);
    }
}
