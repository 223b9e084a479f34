//! The command line: parse, ask a node, print.
//!
//! One file a command. Data goes to standard output and talk to standard error; `--json` is
//! for scripts. Exit codes: 0 all is well, 1 it failed, 2 it was asked for wrongly. Knows of a
//! running node nothing but the control API, which other tools may use too; only `start` and
//! `up` know how a node is put together.

mod attach;
mod bench;
mod build;
mod call;
mod client;
mod connect;
mod cookie;
mod disconnect;
mod dump;
mod error;
mod exit;
mod info;
mod log;
mod modules;
mod names;
mod nodes;
mod options;
mod output;
mod ping;
mod ps;
mod shell;
mod spawn;
mod start;
mod status;
mod stop;
mod up;
mod whereis;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use client::Via;
use error::CliError;

/// A node of a cluster of actors that are WebAssembly components.
#[derive(Parser, Debug)]
#[command(name = "wasm-node", version, arg_required_else_help = true)]
struct Cli {
    /// What to log, as in "debug" or "wasm_node::dist=trace" (default: RUST_LOG, or "info")
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Start(start::Args),
    Up(up::Args),
    Build(build::Args),
    Names(names::Args),
    Shell(shell::Args),
    #[command(flatten)]
    Asking(Asking),
    Bench(bench::Args),
}

/// The commands that ask a node, which a shell has, too.
#[derive(Subcommand, Debug)]
enum Asking {
    Info(info::Args),
    Nodes(nodes::Args),
    Ps(ps::Args),
    Dump(dump::Args),
    Modules(modules::Args),
    Spawn(spawn::Args),
    Call(call::Args),
    Status(status::Args),
    Whereis(whereis::Args),
    Exit(exit::Args),
    Connect(connect::Args),
    Disconnect(disconnect::Args),
    Ping(ping::Args),
    Cookie(cookie::Args),
    Stop(stop::Args),
}

impl Asking {
    fn run(self, via: Via<'_>) -> Result<(), CliError> {
        match self {
            Self::Info(args) => info::run(args, via),
            Self::Nodes(args) => nodes::run(args, via),
            Self::Ps(args) => ps::run(args, via),
            Self::Dump(args) => dump::run(args, via),
            Self::Modules(args) => modules::run(args, via),
            Self::Spawn(args) => spawn::run(args, via),
            Self::Call(args) => call::run(args, via),
            Self::Status(args) => status::run(args, via),
            Self::Whereis(args) => whereis::run(args, via),
            Self::Exit(args) => exit::run(args, via),
            Self::Connect(args) => connect::run(args, via),
            Self::Disconnect(args) => disconnect::run(args, via),
            Self::Ping(args) => ping::run(args, via),
            Self::Cookie(args) => cookie::run(args, via),
            Self::Stop(args) => stop::run(args, via),
        }
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    let log = cli.log.as_deref();
    match cli.command {
        Command::Start(args) => start::run(args, log),
        Command::Up(args) => up::run(args, log),
        Command::Build(args) => build::run(args),
        Command::Names(args) => names::run(args),
        Command::Shell(args) => shell::run(args, log),
        Command::Asking(asking) => asking.run(Via::Own(log)),
        Command::Bench(args) => bench::run(args, log),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }
}
