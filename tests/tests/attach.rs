//! `wasm-node spawn --attach`: the command is the group leader of what it starts. And
//! `wasm-node dump`, which shows it.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wasm_node_tests::node::{Node, PATIENCE, Site, test_actor};
use wasm_node_tests::process::{Log, Process};

const N1: &str = "n1@127.0.0.1";
const N2: &str = "n2@127.0.0.1";

fn two_nodes(modules: &[&str]) -> Result<(Site, Node, Node)> {
    let site = Site::new()?;
    for module in modules {
        site.install(N1, module, &test_actor(module)?)?;
    }
    let n1 = site.start("n1", &[])?;
    let n2 = site.start("n2", &["--connect", N1])?;
    n2.wait_up(N1)?;
    Ok((site, n1, n2))
}

/// A tool that is attached to an actor.
fn attach(site: &Site, module: &str, more: &[&str]) -> Result<Process> {
    let mut command = site.command()?;
    command.args(["spawn", N1, module, "--attach"]).args(more);
    command.stdin(Stdio::piped());
    Process::start_with_stdin(command, &Log::default())
}

fn shows(tool: &Process, line: &str) -> Result<()> {
    let what = format!("the line {line:?}");
    tool.stdout
        .wait(0, PATIENCE, &what, |text| text == line)
        .with_context(|| {
            format!(
                "it showed\n{}\nand\n{}",
                tool.stdout.tail(),
                tool.stderr.tail()
            )
        })
        .map(drop)
}

fn says(tool: &Process, words: &str) -> Result<()> {
    let what = format!("{words:?}");
    tool.stderr
        .wait(0, PATIENCE, &what, |text| text.contains(words))
        .with_context(|| {
            format!(
                "it showed\n{}\nand\n{}",
                tool.stdout.tail(),
                tool.stderr.tail()
            )
        })
        .map(drop)
}

fn ends(tool: &mut Process) -> Result<Option<i32>> {
    Ok(tool.wait(PATIENCE)?.code())
}

#[test]
fn a_tool_talks_with_the_actor_that_it_started_elsewhere() -> Result<()> {
    let (site, n1, n2) = two_nodes(&["speaker"])?;
    for (end, code, words) in [
        ("normal", 0, ""),
        ("shutdown", 0, ""),
        (
            "in tears",
            1,
            "speaker on n2@127.0.0.1 has ended: error: in tears",
        ),
    ] {
        let args = format!("interview {end}");
        let mut tool = attach(&site, "speaker", &["--args", &args, "--on", N2])?;
        tool.type_in("Ada\nGrace\n")?;
        shows(&tool, "Your name? Hello Ada!")?;
        shows(&tool, "Your name? Hello Grace!")?;
        // Only now, so that it has to wait.
        tool.type_in("Barbara")?;
        tool.end_input();
        shows(&tool, "Your name? Hello Barbara!")?;
        shows(&tool, "Your name? Nobody is left.")?;
        says(&tool, &format!("It ends with {end:?}."))?;
        says(&tool, words)?;
        ensure!(ends(&mut tool)? == Some(code), "{end}");
    }
    for node in [&n1, &n2] {
        let shown = node.stdout.since(0);
        ensure!(
            !shown.iter().any(|line| line.contains("Your name")),
            "{shown:?}"
        );
        ensure!(node.count_log(&["It ends"]) == 0);
    }
    Ok(())
}

#[test]
fn what_cannot_start_says_why_behind_what_it_said() -> Result<()> {
    let (site, n1, _n2) = two_nodes(&["speaker"])?;
    let mut tool = attach(&site, "speaker", &["--args", "fail", "--on", N2])?;
    ensure!(ends(&mut tool)? == Some(1));
    shows(&tool, "before it fails")?;
    says(
        &tool,
        "could not spawn speaker on n2@127.0.0.1: init failed: error: it cannot begin",
    )?;
    let mut tool = attach(&site, "nothing", &[])?;
    ensure!(ends(&mut tool)? == Some(1));
    says(
        &tool,
        "no module \"nothing\" on this node: put nothing.wasm",
    )?;
    let mut tool = attach(&site, "speaker", &["--on", "n9@127.0.0.1"])?;
    ensure!(ends(&mut tool)? == Some(1));
    says(
        &tool,
        "could not spawn speaker on n9@127.0.0.1: noconnection",
    )?;
    // What was for them is not left behind.
    wasm_node_tests::node::eventually("nothing is left", || {
        Ok(site.ask(&["ps", N1])?["total"] == 0)
    })?;
    drop(n1);
    Ok(())
}

#[test]
fn children_too_are_seen_until_the_tool_leaves() -> Result<()> {
    let (site, mut n1, n2) = two_nodes(&["speaker", "speaker-c", "speaker-js"])?;
    let mut tool = attach(&site, "speaker", &["--local-name", "it"])?;
    wasm_node_tests::node::eventually("it runs", || {
        Ok(site.run(["whereis", N1, "it"])?.status.success())
    })?;
    let it = |words: &str| site.ok(&["call", N1, "it", words, "--timeout", "60000"]);
    for module in ["speaker", "speaker-c", "speaker-js"] {
        let child = it(&format!("start {N2} {module}"))?;
        it(&format!(
            "ask {child} print {module} by its parent's leader"
        ))?;
        shows(&tool, &format!("{module} by its parent's leader"))?;
        it(&format!("ask {child} error {module} complains"))?;
        says(&tool, &format!("{module} complains"))?;
        tool.type_in(&format!("for {module}\n"))?;
        ensure!(it(&format!("ask {child} read"))? == format!("line for {module}"));
    }
    // Killed, as by Ctrl-C: the actors live on, and their own nodes show what they print.
    let child = it(&format!("start {N2} speaker"))?;
    tool.kill();
    n1.wait_log(&["node down", "node=cli-"])?;
    it(&format!("ask {child} print the child is alone"))?;
    n2.wait_print("the child is alone")?;
    it("print the parent is alone")?;
    n1.wait_print("the parent is alone")?;

    // Ended as a supervisor does.
    let mut tool = attach(&site, "speaker", &["--local-name", "other"])?;
    wasm_node_tests::node::eventually("it runs", || {
        Ok(site.run(["whereis", N1, "other"])?.status.success())
    })?;
    site.ok(&["exit", N1, "other", "--reason", "shutdown"])?;
    ensure!(ends(&mut tool)? == Some(0));
    // The node goes.
    let mut tool = attach(&site, "speaker", &["--local-name", "third"])?;
    wasm_node_tests::node::eventually("it runs", || {
        Ok(site.run(["whereis", N1, "third"])?.status.success())
    })?;
    n1.crash();
    ensure!(ends(&mut tool)? == Some(1));
    says(
        &tool,
        "the connection to n1@127.0.0.1 is lost, and speaker with it",
    )
}

#[test]
fn much_text_arrives_whole_before_the_end() -> Result<()> {
    const LINES: usize = 5_000;
    let (site, _n1, _n2) = two_nodes(&["speaker"])?;
    let mut tool = attach(&site, "speaker", &["--local-name", "it", "--on", N2])?;
    wasm_node_tests::node::eventually("it runs", || {
        Ok(site.run(["whereis", N2, "it"])?.status.success())
    })?;
    let flood = format!("flood {LINES} line");
    site.ok(&["call", N2, "it", &flood, "--timeout", "60000"])?;
    site.ok(&["call", N2, "it", "stop normal"])?;
    ensure!(ends(&mut tool)? == Some(0));
    shows(&tool, &format!("line {}", LINES - 1))?;
    let lines = tool.stdout.since(0);
    ensure!(lines.len() == LINES, "{} lines", lines.len());
    for (at, line) in lines.iter().enumerate() {
        ensure!(*line == format!("line {at}"), "{at}: {line}");
    }
    Ok(())
}

#[test]
fn a_dump_shows_what_a_node_is_made_of() -> Result<()> {
    const MEMBERS: usize = 4_500;
    let (site, n1, _n2) = two_nodes(&["speaker", "contract"])?;
    let speaker = site.spawn(&n1, "speaker", "", &["--local-name", "loud"])?;
    let child = site.call(&n1, "loud", "start here speaker")?;
    let dump = |args: &[&str]| -> Result<Value> {
        let text = site.ok(&[&["dump", N1], args].concat())?;
        serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
    };
    let all = dump(&[])?;
    ensure!(
        all["node"]["name"] == N1 && all["node"]["processes"] == 2,
        "{all}"
    );
    ensure!(
        all["memory"]["resident_bytes"].as_u64() > Some(1 << 20),
        "{all}"
    );
    let nodes = all["nodes"].as_array().context("no nodes")?;
    ensure!(nodes.iter().any(|node| node["name"] == N2), "{all}");
    ensure!(
        all["modules"]
            .as_array()
            .is_some_and(|modules| modules.len() == 2)
    );
    ensure!(all["groups"]["groups"] == 0 && all["global_names"]["total"] == 0);
    let actors = all["actors"].as_array().context("no actors")?;
    let of = |pid: &str| {
        let found = actors.iter().find(|actor| actor["pid"] == pid);
        found.with_context(|| format!("no {pid} in {all}"))
    };
    let loud = of(&speaker)?;
    ensure!(
        loud["names"][0] == "loud" && loud["module"] == "speaker",
        "{loud}"
    );
    ensure!(loud["mailbox"] == 0 && loud["in_turn"] == false, "{loud}");
    ensure!(
        loud["group_leader"] == "<0.0.1>" && loud["turns"].as_u64() > Some(0),
        "{loud}"
    );
    let digests = all["modules"].as_array().context("no modules")?;
    let digest = digests.iter().find(|module| module["name"] == "speaker");
    ensure!(
        digest.is_some_and(|module| module["digest"] == loud["digest"]),
        "{all}"
    );
    let other = actors.iter().find(|actor| actor["id"] == *child);
    ensure!(
        other.is_some_and(|other| other["parent"] == *speaker),
        "{all}"
    );

    // More than fit into one page; into a file that nobody has yet.
    let herd = site.spawn(&n1, "contract", "herd contract", &[])?;
    site.ok(&[
        "call",
        N1,
        &herd,
        &format!("spawn {MEMBERS}"),
        "--timeout",
        "100000",
    ])?;
    let file = site.path("dump.json");
    let out = file.to_string_lossy();
    let ran = site.run(["dump", N1, "--out", &out])?;
    ensure!(ran.status.success() && ran.stdout.is_empty(), "{ran:?}");
    let expected = MEMBERS + 3;
    ensure!(
        ran.stderr.contains(&format!("{expected} actors are in ")),
        "{ran:?}"
    );
    let all: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    let actors = all["actors"].as_array().context("no actors")?;
    ensure!(actors.len() == expected, "{} actors", actors.len());
    let said = site.fails(1, &["dump", N1, "--out", &out])?;
    ensure!(
        said.contains("could not create ") && said.contains("exists"),
        "{said}"
    );
    let said = site.fails(1, &["dump", "n9@127.0.0.1"])?;
    ensure!(said.contains("knows no node \"n9\""), "{said}");
    Ok(())
}
