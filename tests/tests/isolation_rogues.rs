//! Actors that misbehave, and their neighbours, who must not notice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wasm_node_tests::node::{Node, Site, component, eventually, test_actor};

const N1: &str = "n1@127.0.0.1";
const N2: &str = "n2@127.0.0.1";
/// How long rogues and a peer are left alone together.
const WATCHED_FOR: Duration = Duration::from_secs(10);
/// Far above what is promised (5 ms, and 50 ms for a kill), since a command's own start, its key
/// derivation and its handshake are in it, on a machine that other tests keep busy too.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// A node with all rogues and a counter that is called `neighbour`.
fn node_with_rogues(site: &Site) -> Result<Node> {
    for rogue in ["rogue", "rogue-wasi"] {
        site.install(N1, rogue, &test_actor(rogue)?)?;
    }
    site.install(N1, "counter-c", &component("examples/counter-c")?)?;
    let node = site.start("n1", &[])?;
    site.spawn(&node, "counter-c", "0", &["--local-name", "neighbour"])?;
    Ok(node)
}

/// The crash report of an actor, with the lines of its backtrace.
fn crash_report(node: &Node, pid: &str) -> Result<String> {
    let actor = format!("actor={pid} ");
    node.wait_log(&["actor ended", &actor])?;
    let lines = node.stderr.since(0);
    let first = lines
        .iter()
        .position(|line| line.contains("actor ended") && line.contains(&actor));
    let first = first.context("the line is gone")?;
    let mut report: Vec<_> = lines.iter().skip(first).take(1).cloned().collect();
    report.extend(
        lines
            .iter()
            .skip(first + 1)
            .take_while(|line| !line.starts_with(N1))
            .cloned(),
    );
    Ok(report.join("\n"))
}

#[test]
fn each_kind_ends_with_the_true_reason_and_alone() -> Result<()> {
    let site = Site::new()?;
    let node = node_with_rogues(&site)?;
    let cases: [(&str, &str, &[&str]); 6] = [
        (
            "rogue",
            "divide",
            &["trap: ", "integer divide by zero", "!divide", "!on_timer"],
        ),
        ("rogue", "recurse", &["trap: ", "!recurse"]),
        ("rogue", "grow", &["limit: memory: ", "134217728 allowed"]),
        ("rogue", "exit", &["trap: ", "unreachable", "!exit"]),
        ("rogue-wasi", "exit", &["error: exit code"]),
        // An actor's own refusal is told as such.
        (
            "counter-c",
            "words",
            &["error: the arguments are no count: words"],
        ),
    ];
    for (count, (module, args, reason)) in (1..).zip(cases) {
        let pid = match site.run(["spawn", N1, module, "--args", args])? {
            ran if ran.status.success() => ran.stdout,
            ran => {
                ensure!(
                    reason.iter().all(|word| ran.stderr.contains(word)),
                    "{ran:?}"
                );
                continue;
            }
        };
        let report = crash_report(&node, &pid)?;
        for word in reason {
            // The backtrace may still be on its way through the pipe.
            eventually(word, || Ok(crash_report(&node, &pid)?.contains(word)))
                .with_context(|| format!("{module} {args}: {report}"))?;
        }
        ensure!(!site.lives(&node, &pid)?, "{module} {args} lives on");
        assert_eq!(site.call(&node, "neighbour", "add 1")?, count.to_string());
    }
    Ok(())
}

#[test]
fn a_call_to_a_rogue_fails_in_bounded_time() -> Result<()> {
    let site = Site::new()?;
    let node = node_with_rogues(&site)?;
    let spinner = site.spawn(&node, "rogue", "spin", &[])?;
    std::thread::sleep(Duration::from_millis(500));
    let said = site.fails(1, &["call", N1, &spinner, "x", "--timeout", "500"])?;
    assert!(said.contains("timeout: no reply in time"), "{said}");
    // Who waits for an answer learns of the end.
    let mut waiting = wasm_node_tests::process::Process::start(
        {
            let mut command = site.command()?;
            command.args(["call", N1, &spinner, "x", "--timeout", "60000"]);
            command
        },
        &wasm_node_tests::process::Log::default(),
    )?;
    eventually("the call waits in its mailbox", || {
        let listed = site.ask(&["ps", N1])?;
        let rows = listed
            .get("processes")
            .and_then(serde_json::Value::as_array);
        let of_it = |row: &&serde_json::Value| row.get("pid") == Some(&spinner.as_str().into());
        let row = rows
            .context("no list")?
            .iter()
            .find(of_it)
            .context("it is gone")?;
        Ok(row.get("mailbox").and_then(serde_json::Value::as_u64) >= Some(2))
    })?;
    site.ok(&["exit", N1, &spinner, "--reason", "kill"])?;
    assert_eq!(waiting.wait(ANSWER_WITHIN)?.code(), Some(1));
    let said = waiting
        .stderr
        .wait(0, ANSWER_WITHIN, "an error", |line| line.contains("error"))?;
    assert!(said.contains("killed"), "{said}");
    Ok(())
}

#[test]
fn more_rogues_than_cores_leave_neighbours_links_and_commands_alone() -> Result<()> {
    let site = Site::new()?;
    let n1 = node_with_rogues(&site)?;
    let n2 = site.start("n2", &["--connect", N1])?;
    n1.wait_up(N2)?;
    let far = site.spawn(&n1, "counter-c", "0", &["--on", N2])?;
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut rogues = Vec::new();
    for _ in 0..=cores {
        rogues.push(site.spawn(&n1, "rogue", "spin", &[])?);
        rogues.push(site.spawn(&n1, "rogue-wasi", "spin", &[])?);
    }
    rogues.push(site.spawn(&n1, "rogue", "fill", &[])?);
    rogues.push(site.spawn(&n1, "rogue", "fill", &[])?);
    for _ in 0..=cores {
        rogues.push(site.spawn(&n1, "rogue-wasi", "sleep", &[])?);
    }
    site.spawn(&n1, "counter-c", "0", &["--local-name", "flooded"])?;
    rogues.push(site.spawn(&n1, "rogue", "flood flooded", &[])?);
    rogues.push(site.spawn(&n1, "rogue", "flood flooded", &[])?);

    let begun = Instant::now();
    let (mut near_count, mut slowest) = (0, Duration::ZERO);
    while begun.elapsed() < WATCHED_FOR || near_count < 5 {
        near_count += 1;
        for actor in ["neighbour", &far] {
            let asked = Instant::now();
            assert_eq!(site.call(&n1, actor, "add 1")?, near_count.to_string());
            slowest = slowest.max(asked.elapsed());
        }
    }
    println!(
        "{} rogues, {near_count} rounds of calls, the slowest took {slowest:?}",
        rogues.len()
    );
    ensure!(slowest < ANSWER_WITHIN, "a call took {slowest:?}");
    for (node, peer) in [(&n1, N2), (&n2, N1)] {
        assert_eq!(node.count_log(&["node down", &format!("node={peer} ")]), 0);
    }

    // Each is alive until it is killed, and gone then.
    for pid in &rogues {
        ensure!(
            site.lives(&n1, pid)?,
            "{pid} has ended by itself: {}",
            n1.stderr.tail()
        );
        let asked = Instant::now();
        site.ok(&["exit", N1, pid, "--reason", "kill"])?;
        eventually("it is gone", || Ok(!site.lives(&n1, pid)?))?;
        ensure!(
            asked.elapsed() < ANSWER_WITHIN * 2,
            "killing took {:?}",
            asked.elapsed()
        );
    }
    assert_eq!(site.call(&n1, "neighbour", "get")?, near_count.to_string());
    assert_eq!(site.call(&n1, "flooded", "get")?, "0");
    for (node, peer) in [(&n1, N2), (&n2, N1)] {
        assert_eq!(node.count_log(&["node down", &format!("node={peer} ")]), 0);
    }
    Ok(())
}

#[test]
fn limits_of_a_module_end_its_actors_with_their_name() -> Result<()> {
    let site = Site::new()?;
    // The same code under names that have limits.
    let rogue = test_actor("rogue")?;
    for module in ["rogue", "small-mailbox", "small-memory"] {
        site.install(N1, module, &rogue)?;
    }
    site.install(N1, "supervisor", &component("supervisor")?)?;
    site.install(N1, "counter-c", &component("examples/counter-c")?)?;
    let modules = site.modules(N1)?;
    let manifest = site.path("limits.toml");
    let file = |module: &str| modules.join(format!("{module}.wasm"));
    std::fs::write(
        &manifest,
        format!(
            "[app]\nname = \"limits\"\n\
             [modules.supervisor]\nfile = {:?}\n\
             [modules.counter-c]\nfile = {:?}\n\
             [modules.small-mailbox]\nfile = {:?}\nmailbox_limit = 1000\n\
             [modules.small-memory]\nfile = {:?}\nmemory_limit = \"8MiB\"\n\
             [supervisor]\n\
             [[supervisor.child]]\nid = \"c\"\nmodule = \"counter-c\"\nname = \"neighbour\"\n",
            file("supervisor"),
            file("counter-c"),
            file("small-mailbox"),
            file("small-memory"),
        ),
    )?;
    let n1 = site.start("n1", &["--app", &manifest.to_string_lossy()])?;
    let grows = site.spawn(&n1, "small-memory", "grow", &[])?;
    let line = n1.wait_log(&["actor ended", &format!("actor={grows} "), "limit: memory: "])?;
    assert!(line.contains("8388608 allowed"), "{line}");

    // It takes nothing from its mailbox, and is sent more and more.
    let name = ["--local-name", "victim"];
    let victim = site.spawn(&n1, "small-mailbox", "spin", &name)?;
    let flooder = site.spawn(&n1, "rogue", "flood victim", &[])?;
    let line = n1.wait_log(&[
        "actor ended",
        &format!("actor={victim} "),
        "limit: mailbox: ",
    ])?;
    assert!(line.contains("more than 1000 messages"), "{line}");
    ensure!(site.lives(&n1, &flooder)?, "sending to no one is no crime");
    assert_eq!(site.call(&n1, "neighbour", "add 1")?, "1");
    site.ok(&["exit", N1, &flooder, "--reason", "kill"])
        .map(drop)
}
