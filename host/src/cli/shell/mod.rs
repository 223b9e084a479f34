//! `wasm-node shell`: a remote shell, Erlang's `-remsh`.
//!
//! It joins the cluster as a hidden node, and is the group leader of all that it starts: their text is
//! shown here, wherever they run, and a line that is typed while one of them waits for input goes to
//! that one. Its commands are those of the program that ask a node, without naming it.
//!
//! - `session`: the connection, and what commands do with it
//! - `desk`: the signals of actors that it leads
//! - `reader`: lines, typed or piped, with history and completion

mod desk;
mod reader;
mod session;

use clap::{CommandFactory as _, Parser, Subcommand};
use wasm_node_protocol::NodeName;

use super::Asking;
use super::client::{Node, Via};
use super::error::CliError;
use super::options::node_name;

use reader::Reader;
pub(super) use session::Session;

/// Talk with a node: commands without naming it; shows what the actors print that are started here
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: Node,
}

/// One line.
#[derive(Parser, Debug)]
#[command(
    name = "",
    no_binary_name = true,
    disable_help_flag = true,
    disable_version_flag = true,
    help_template = "{subcommands}"
)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    #[command(flatten)]
    Asking(Asking),
    #[command(flatten)]
    Own(Own),
}

/// What only a shell has.
#[derive(Subcommand, Debug)]
enum Own {
    /// Turn to another node of the cluster
    Node {
        /// Which, as in node2@127.0.0.1
        #[arg(value_name = "NODE", value_parser = node_name)]
        to: NodeName,
    },
    /// Leave; what was started goes on
    Quit,
}

/// What a line comes to.
enum Said {
    Nothing,
    Quit,
}

pub(super) fn run(args: Args, log: Option<&str>) -> Result<(), CliError> {
    super::log::start("wasm-node", log, "off")?;
    let commands = Line::command();
    let names = commands
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .chain(["help".to_owned()]);
    let reader = Reader::start(names.collect())?;
    let interactive = reader.is_interactive();
    let session = Session::open(&args.node, reader)?;
    if interactive {
        eprintln!(
            "hidden node in the cluster of {}; help lists the commands, Tab completes, Ctrl-D leaves",
            args.node.node
        );
    }
    let mut failed = None;
    let ended = loop {
        let line = match session.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => break Ok(()),
            Err(lost) => break Err(lost),
        };
        match say(&session, &line) {
            Ok(Said::Nothing) => {}
            Ok(Said::Quit) => break Ok(()),
            Err(error) => {
                eprintln!("error: {error}");
                failed = Some(error);
            }
        }
        session.settle();
    };
    session.close();
    match (ended, failed) {
        // A script wants to know.
        (Ok(()), Some(error)) if !interactive => Err(CliError::Script(Box::new(error))),
        (ended, _) => ended,
    }
}

fn say(session: &Session, text: &str) -> Result<Said, CliError> {
    let Some(words) = shlex::split(text) else {
        return Err(CliError::Usage("a quote is not closed".into()));
    };
    let Some(first) = words.first().filter(|first| !first.starts_with('#')) else {
        return Ok(Said::Nothing);
    };
    if first == "help" {
        help(words.get(1));
        return Ok(Said::Nothing);
    }
    let asks = Asking::has_subcommand(first);
    // All that ask a node name it first.
    let node = asks.then(|| session.name());
    let rest = words.iter().skip(1).cloned();
    let line = [first.clone()].into_iter().chain(node).chain(rest);
    let parsed = Line::try_parse_from(line).map_err(|error| CliError::Usage(told(&error)))?;
    match parsed.command {
        Command::Asking(asking) => asking.run(Via::Shell(session))?,
        Command::Own(Own::Node { to }) => session.turn_to(&to)?,
        Command::Own(Own::Quit) => return Ok(Said::Quit),
    }
    Ok(Said::Nothing)
}

/// What is wrong with a line, as if nobody had put the node's name into it.
fn told(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.trim_start_matches("error: ").replace("<NODE> ", "");
    text.trim_end().to_owned()
}

fn help(of: Option<&String>) {
    let mut commands = Line::command();
    let found = of.and_then(|name| commands.find_subcommand_mut(name));
    let help = match found {
        Some(command) => command.render_help().to_string().replace("<NODE> ", ""),
        None => commands.render_help().to_string(),
    };
    super::output::line(help.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Line::command().debug_assert();
    }

    #[test]
    fn a_mistake_is_told_without_the_node() {
        let error = Line::try_parse_from(["call", "n1@127.0.0.1"]).unwrap_err();
        let said = told(&error);
        assert!(
            said.contains("<NAME|PID> <TEXT>") && !said.contains("NODE"),
            "{said}"
        );
        let error = Line::try_parse_from(["bark"]).unwrap_err();
        assert!(told(&error).contains("'bark'"), "{error}");
    }
}
