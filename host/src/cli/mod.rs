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
mod spawn;
mod start;
mod status;
mod stop;
mod up;
mod whereis;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    Bench(bench::Args),
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
        Command::Info(args) => info::run(args, log),
        Command::Nodes(args) => nodes::run(args, log),
        Command::Ps(args) => ps::run(args, log),
        Command::Dump(args) => dump::run(args, log),
        Command::Modules(args) => modules::run(args, log),
        Command::Spawn(args) => spawn::run(args, log),
        Command::Call(args) => call::run(args, log),
        Command::Status(args) => status::run(args, log),
        Command::Whereis(args) => whereis::run(args, log),
        Command::Exit(args) => exit::run(args, log),
        Command::Connect(args) => connect::run(args, log),
        Command::Disconnect(args) => disconnect::run(args, log),
        Command::Ping(args) => ping::run(args, log),
        Command::Cookie(args) => cookie::run(args, log),
        Command::Stop(args) => stop::run(args, log),
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
