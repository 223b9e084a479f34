//! `wasm-node shell`: a hidden node that talks with others, and leads the actors that it starts.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use wasm_node_tests::node::{Node, PATIENCE, Site, eventually, test_actor};
use wasm_node_tests::process::{Log, Process};

const N1: &str = "n1@127.0.0.1";
const N2: &str = "n2@127.0.0.1";

fn two_nodes() -> Result<(Site, Node, Node)> {
    let site = Site::new()?;
    site.install(N1, "speaker", &test_actor("speaker")?)?;
    let n1 = site.start("n1", &[])?;
    let n2 = site.start("n2", &["--connect", N1])?;
    n2.wait_up(N1)?;
    Ok((site, n1, n2))
}

/// A shell whose input is a pipe.
fn shell(site: &Site) -> Result<Process> {
    let mut command = site.command()?;
    command.args(["shell", N1]).stdin(Stdio::piped());
    Process::start_with_stdin(command, &Log::default())
}

/// Waits for a line of its output that has these words; gives it.
fn shows(shell: &Process, words: &str) -> Result<String> {
    wait(shell, &shell.stdout, words)
}

fn says(shell: &Process, words: &str) -> Result<String> {
    wait(shell, &shell.stderr, words)
}

fn wait(shell: &Process, log: &Log, words: &str) -> Result<String> {
    log.wait(0, PATIENCE, &format!("{words:?}"), |line| {
        line.contains(words)
    })
    .with_context(|| {
        let (out, err) = (shell.stdout.tail(), shell.stderr.tail());
        format!("it showed\n{out}\nand\n{err}")
    })
}

fn ends(shell: &mut Process, code: i32) -> Result<()> {
    let ended = shell.wait(PATIENCE)?.code();
    let (out, err) = (shell.stdout.tail(), shell.stderr.tail());
    ensure!(
        ended == Some(code),
        "{ended:?}; it showed\n{out}\nand\n{err}"
    );
    Ok(())
}

#[test]
fn a_shell_asks_nodes_and_shows_what_its_actors_print() -> Result<()> {
    let (site, n1, n2) = two_nodes()?;
    let mut shell = shell(&site)?;
    shell.type_in("# a comment\n\nspawn speaker --local-name here\n")?;
    shows(&shell, "<0.")?;
    // On the other node, which has not its code; what it says is shown here, and nowhere else.
    shell.type_in(&format!("spawn speaker --args child --on {N2}\n"))?;
    shows(&shell, "speaks")?;
    // It is hidden.
    ensure!(site.nodes_of(N1, &[])? == [N2] && site.nodes_of(N2, &[])? == [N1]);
    let hidden = site.ok(&["nodes", N1, "--hidden"])?;
    ensure!(hidden.starts_with("cli-"), "{hidden}");

    shell.type_in("whereis here --json\nps\n")?;
    shows(&shell, "\"pid\"")?;
    shows(&shell, "here")?;
    shell.type_in(&format!("node {N2}\ninfo --json\n"))?;
    shows(&shell, N2)?;
    shell.type_in("quit\nps\n")?;
    ends(&mut shell, 0)?;
    // What it started goes on.
    site.ok(&["whereis", N1, "here"])?;
    for node in [&n1, &n2] {
        let shown = node.stdout.since(0);
        ensure!(
            !shown.iter().any(|line| line.contains("speaks")),
            "{shown:?}"
        );
    }
    eventually("it is gone", || {
        Ok(site.ok(&["nodes", N1, "--hidden"])?.is_empty())
    })?;
    Ok(())
}

#[test]
fn lines_go_to_the_actor_in_the_foreground_then_to_the_shell() -> Result<()> {
    let (site, _n1, _n2) = two_nodes()?;
    let mut shell = shell(&site)?;
    let interview = "spawn speaker --args \"interview in tears\" --attach";
    shell.type_in(&format!("{interview} --on {N2}\n"))?;
    shows(&shell, "Your name? ")?;
    shell.type_in("Ada\n")?;
    shows(&shell, "Hello Ada!")?;
    // The end of the input ends the interview, and then the shell.
    shell.end_input();
    says(
        &shell,
        "error: speaker on n2@127.0.0.1 has ended: error: in tears",
    )?;
    says(&shell, "error: a command failed")?;
    ends(&mut shell, 1)
}

#[test]
fn mistakes_are_told_and_the_shell_goes_on() -> Result<()> {
    let (site, n1, _n2) = two_nodes()?;
    let mut shell = shell(&site)?;
    shell.type_in("bark\ncall nobody\ncall nobody hello\nspawn 'speaker\n")?;
    says(&shell, "'bark'")?;
    let usage = says(&shell, "Usage: call")?;
    ensure!(
        usage.contains("<NAME|PID> <TEXT>") && !usage.contains("NODE"),
        "{usage}"
    );
    says(
        &shell,
        "called nobody on n1@127.0.0.1, got no reply: noproc",
    )?;
    says(&shell, "a quote is not closed")?;
    shell.type_in("node n9@127.0.0.1\n")?;
    says(&shell, "n9@127.0.0.1")?;
    shell.type_in("help spawn\nhelp\n")?;
    shows(&shell, "--local-name <NAME>")?;
    shows(&shell, "Leave; what was started goes on")?;
    // Its node goes, and so does it.
    drop(n1);
    says(&shell, "error: the connection to n1@127.0.0.1 is lost")?;
    ends(&mut shell, 1)
}

#[test]
fn at_a_terminal_there_are_completion_and_history() -> Result<()> {
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: there is no `script` (util-linux) to make a terminal");
        return Ok(());
    }
    let (site, n1, _n2) = two_nodes()?;
    site.spawn(&n1, "speaker", "", &["--local-name", "speaks-well"])?;
    let inner = site.command()?;
    let mut command = Command::new("script");
    let program = inner.get_program().to_str().context("no UTF-8")?;
    command.args(["--quiet", "--return", "--flush", "--command"]);
    command
        .arg(format!("'{program}' shell {N1}"))
        .arg("/dev/null");
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("TERM", "xterm").env_remove("XDG_STATE_HOME");
    command.stdin(Stdio::piped());
    let mut shell = Process::start_with_stdin(command, &Log::default())?;
    shows(&shell, "Tab completes")?;
    shell.type_in("where\t speaks-\t\r")?;
    shows(&shell, "<0.")?;
    // Up, and once more.
    shell.type_in("\u{1b}[A --json\r")?;
    shows(&shell, "\"pid\"")?;
    // Ctrl-D would be lost if it came between two prompts.
    shell.type_in("quit\r")?;
    ends(&mut shell, 0)?;
    let home = inner
        .get_envs()
        .find_map(|(name, value)| (name == "HOME").then_some(value).flatten());
    let home = std::path::Path::new(home.context("no home")?);
    let history = std::fs::read_to_string(home.join(".local/state/wasm-node/shell_history"))?;
    ensure!(history.contains("whereis speaks-well --json"), "{history}");
    Ok(())
}
