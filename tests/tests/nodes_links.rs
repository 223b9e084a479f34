//! Links that are cut, watched and stopped; cookies at run time: real processes, driven as a user
//! would.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wasm_node_tests::node::{Node, PATIENCE, Site, eventually, free_ports, test_actor};
use wasm_node_tests::process::{Log, Process};

const N1: &str = "n1@127.0.0.1";
const N2: &str = "n2@127.0.0.1";
const N3: &str = "n3@127.0.0.1";
const N4: &str = "n4@127.0.0.1";

/// An actor that does what it is told (`tests/actors/contract`), under a local name.
fn member(site: &Site, node: &Node, name: &str) -> Result<()> {
    site.spawn(node, "contract", "member 0", &["--local-name", name])?;
    Ok(())
}

fn start(site: &Site, node: &str, args: &[&str]) -> Result<Node> {
    let full = format!("{node}@127.0.0.1");
    site.install(&full, "contract", &test_actor("contract")?)?;
    site.start(node, args)
}

/// Waits until a member's events are these.
fn events(site: &Site, node: &Node, name: &str, wanted: &[String]) -> Result<()> {
    let wanted = wanted.join(",");
    let mut had = String::new();
    let came = eventually(&wanted, || {
        had = site.call(node, name, "events")?;
        Ok(had.split(',').count() >= wanted.split(',').count())
    });
    came.with_context(|| format!("had {had}"))?;
    ensure!(had == wanted, "had {had}\nnot {wanted}");
    Ok(())
}

#[test]
fn two_that_are_disconnected_stay_apart_and_all_else_stays() -> Result<()> {
    let site = Site::new()?;
    let n1 = start(&site, "n1", &[])?;
    let n2 = site.start("n2", &["--connect", N1])?;
    let n3 = site.start("n3", &["--connect", N1])?;
    n2.wait_up(N3)?;
    n3.wait_up(N2)?;
    n1.wait_up(N3)?;
    let said = site.run(["disconnect", N1, N2])?;
    ensure!(said.status.success() && said.stdout.is_empty(), "{said:?}");
    assert_eq!(said.stderr, format!("{N1} and {N2} are disconnected"));
    n1.wait_log(&["node down", N2, "disconnect: by a user here"])?;
    n2.wait_log(&["node down", N1, "disconnect: by a user there"])?;
    // Another node knows both and tells each of the other.
    let n4 = site.start("n4", &["--connect", N3])?;
    for (node, other) in [(&n1, N4), (&n2, N4), (&n4, N1), (&n4, N2)] {
        node.wait_up(other)?;
    }
    assert_eq!(site.nodes_of(N1, &[])?, [N3, N4]);
    assert_eq!(site.nodes_of(N2, &[])?, [N3, N4]);
    assert_eq!(site.nodes_of(N3, &[])?, [N1, N2, N4]);
    assert_eq!(n1.count_log(&["node up", &format!("node={N2} ")]), 1);
    let said = site.fails(1, &["disconnect", N1, N2])?;
    assert!(
        said.contains("n1@127.0.0.1 is not connected to n2"),
        "{said}"
    );

    // Either of the two may ask for it again; the one that was told to part, too.
    site.ok(&["connect", N2, N1])?;
    n1.wait_log(&["node up", N2])?;
    eventually("they are connected", || {
        Ok(site.nodes_of(N1, &[])? == [N2, N3, N4])
    })?;
    // As in Erlang, a name is enough to ask.
    site.ok(&["disconnect", N1, N2])?;
    let position = n1.stderr.position();
    member(&site, &n1, "m")?;
    assert_eq!(
        site.call(&n1, "m", &format!("blast 1 1 nobody {N2}"))?,
        "blasted"
    );
    n1.wait_log_since(position, PATIENCE, &["node up", N2])?;
    Ok(())
}

#[test]
fn a_ping_connects_and_says_pong_or_why_not() -> Result<()> {
    let site = Site::new()?;
    let n1 = site.start("n1", &[])?;
    let _n2 = site.start("n2", &[])?;
    assert!(site.ok(&["ping", N1, N2])?.starts_with("pong "));
    n1.wait_up(N2)?;
    let asked = site.ask(&["ping", N1, N2])?;
    assert_eq!(asked.get("pong"), Some(&json!(N2)));
    ensure!(
        asked.get("micros").is_some_and(|micros| micros.is_u64()),
        "{asked}"
    );
    let said = site.fails(1, &["ping", N1, N3])?;
    assert!(
        said.contains("pang: n1@127.0.0.1 does not reach n3@127.0.0.1: "),
        "{said}"
    );
    assert_eq!(site.ask(&["ping", N1, N1])?.get("micros"), Some(&json!(0)));
    Ok(())
}

#[test]
fn watchers_hear_of_each_event_once_with_kind_and_reason() -> Result<()> {
    let site = Site::new()?;
    let n1 = start(&site, "n1", &[])?;
    for name in ["all", "one", "gone"] {
        member(&site, &n1, name)?;
    }
    // One that asks twice hears once; monitors of one node count.
    let told = |name: &str, text: &str| site.call(&n1, name, text);
    for _ in 0..2 {
        told("all", "watch-nodes")?;
    }
    // A node that is not there: at once.
    told("one", &format!("watch-node {N3}"))?;
    let mut heard: Vec<String> = Vec::new();
    eventually("it is down already", || {
        let had = told("one", "events")?;
        Ok(had.starts_with("down:n3@127.0.0.1:"))
    })?;
    heard.push(told("one", "events")?);

    let n2 = site.start("n2", &["--connect", N1])?;
    n1.wait_up(N2)?;
    let mut hidden = site.start("h", &["--hidden", "--connect", N1])?;
    n1.wait_up("h@127.0.0.1")?;
    for text in ["watch-node", "watch-node", "watch-node", "unwatch-node"] {
        told("one", &format!("{text} {N2}"))?;
    }
    told("gone", &format!("watch-node {N2}"))?;
    site.ok(&["exit", N1, "gone", "--reason", "kill"])?;
    let mut all = vec![
        format!("up:{N2}:visible:connected"),
        "up:h@127.0.0.1:hidden:connected".into(),
    ];
    events(&site, &n1, "all", &all)?;

    hidden.crash();
    all.push("down:h@127.0.0.1:hidden:connection_closed: closed by the other node".into());
    events(&site, &n1, "all", &all)?;
    site.ok(&["disconnect", N1, N2])?;
    all.push(format!("down:{N2}:visible:disconnect: by a user here"));
    events(&site, &n1, "all", &all)?;
    for _ in 0..2 {
        heard.push(format!("down:{N2}:visible:disconnect: by a user here"));
    }
    events(&site, &n1, "one", &heard)?;

    // A monitor connects to a node that can be reached, and is used up by one end of it.
    told("one", &format!("watch-node {N2}"))?;
    all.push(format!("up:{N2}:visible:connected"));
    events(&site, &n1, "all", &all)?;
    site.ok(&["stop", N2])?;
    heard.push(format!(
        "down:{N2}:visible:connection_closed: the node was stopped"
    ));
    all.push(format!(
        "down:{N2}:visible:connection_closed: the node was stopped"
    ));
    events(&site, &n1, "one", &heard)?;
    events(&site, &n1, "all", &all)?;
    drop(n2);
    told("all", "watch-nodes off")?;
    let n2 = site.start("n2", &["--connect", N1])?;
    n1.wait_up(N2)?;
    drop(n2);
    events(&site, &n1, "one", &heard)?;
    events(&site, &n1, "all", &all)
}

#[test]
fn a_monitor_of_a_name_on_another_node_can_be_taken_back() -> Result<()> {
    let site = Site::new()?;
    let n1 = start(&site, "n1", &[])?;
    let n2 = start(&site, "n2", &["--connect", N1])?;
    n1.wait_up(N2)?;
    for name in ["keeps", "takes-back"] {
        member(&site, &n1, name)?;
        member(&site, &n2, name)?;
        site.call(&n1, name, &format!("monitor-name {name} {N2}"))?;
    }
    site.call(&n1, "takes-back", "demonitor-names")?;
    for name in ["takes-back", "keeps"] {
        site.ok(&["exit", N2, name, "--reason", "gone now"])?;
    }
    events(&site, &n1, "keeps", &["down:error: gone now".into()])?;
    assert_eq!(site.call(&n1, "takes-back", "events")?, "");
    Ok(())
}

#[test]
fn cookies_are_set_at_run_time_for_all_and_for_one_peer() -> Result<()> {
    let site = Site::new()?;
    let n1 = site.start("n1", &[])?;
    let n2 = site.start("n2", &["--connect", N1])?;
    n1.wait_up(N2)?;
    let n3 = site.start("n3", &["--cookie", "nougat"])?;
    let refused = |from: &str, to: &str, cookie: &[&str]| -> Result<()> {
        let said = site.fails(1, &[&["connect", from, to], cookie].concat())?;
        ensure!(
            said.contains("wrong cookie: the nodes' cookies differ"),
            "{said}"
        );
        Ok(())
    };
    let nougat = ["--cookie", "nougat"];
    refused(N1, N3, &[])?;
    n3.wait_log(&["WARN", "by its own words n1@127.0.0.1", "wrong cookie"])?;
    n1.wait_log(&["WARN", "n3@127.0.0.1", "wrong cookie"])?;

    // One side has the other's cookie for that peer: enough, as the other has it for all.
    let file = site.path("for-n3");
    std::fs::write(&file, "nougat\n")?;
    let said = site.fails(
        1,
        &[
            "cookie",
            N1,
            "--peer",
            N3,
            "--set-file",
            &file.to_string_lossy(),
        ],
    )?;
    ensure!(said.contains("chmod 600"), "{said}");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600))?;
    site.ok(&[
        "cookie",
        N1,
        "--peer",
        N3,
        "--set-file",
        &file.to_string_lossy(),
    ])?;
    site.ok(&["connect", N1, N3])?;
    n3.wait_up(N1)?;
    // The third is told of it, and has no such cookie.
    refused(N2, N3, &[])?;
    assert_eq!(site.nodes_of(N1, &[])?, [N2, N3]);
    let table = site.ok(&["cookie", N1])?;
    let own = site.ask(&[&["cookie", N3][..], &nougat].concat())?;
    let print = own
        .pointer("/cookies/0/fingerprint")
        .and_then(|print| print.as_str());
    let print = print.context("no fingerprint")?;
    ensure!(
        !table.contains("nougat"),
        "the cookie itself is shown: {table}"
    );
    let row = format!("{N3}  {print}");
    ensure!(
        table
            .lines()
            .any(|line| line.trim_start() == row || line.starts_with(N3) && line.ends_with(print)),
        "{table}"
    );

    // For all: links that are up stay, commands need the new one.
    site.ok(&[&["cookie", N2][..], &["--set", "nougat"]].concat())?;
    let said = site.fails(1, &["nodes", N2])?;
    ensure!(said.contains("wrong cookie"), "{said}");
    site.ok(&[&["connect", N2, N3][..], &nougat].concat())?;
    n3.wait_up(N2)?;
    assert_eq!(n2.count_log(&["node down", N1]), 0);
    // A secret is not sent in clear.
    let plain = site.start("n4", &["--plaintext"])?;
    let said = site.fails(2, &["cookie", N4, "--plaintext", "--set", "x"])?;
    ensure!(said.contains("not sent over a link in clear"), "{said}");
    drop(plain);
    Ok(())
}

#[test]
fn of_two_nodes_of_one_name_the_later_is_the_one_and_the_other_is_told() -> Result<()> {
    // Without a port mapper nobody refuses the name.
    let site = Site::new()?;
    let n1 = site.start("n1", &["--no-epmd"])?;
    let at = n1.listens()?;
    let first = site.start("n2", &["--no-epmd", "--connect", &at])?;
    n1.wait_up(N2)?;
    let naming = ["--name", N2];
    let second = site.launch_as(&naming, "second", &["--no-epmd", "--connect", &at])?;
    second.wait_ready()?;
    n1.wait_log(&["node down", N2, "the node restarted"])?;
    second.wait_up(N1)?;
    first.wait_log(&["WARN", "a later start of this node has taken its place"])?;
    let listed = site.ok(&["nodes", N1, "--address", &at])?;
    assert_eq!(listed, N2);
    let listed = site.ok(&["nodes", N2, "--address", &first.listens()?])?;
    assert_eq!(listed, "");
    // It does not come back to contend for the name.
    assert_eq!(n1.count_log(&["node up", &format!("node={N2} ")]), 2);
    // Nodes of one name do not connect to each other.
    let said = site.launch_as(
        &naming,
        "third",
        &["--no-epmd", "--connect", &second.listens()?],
    )?;
    said.wait_log(&["not connected", "both nodes are named n2@127.0.0.1"])?;
    Ok(())
}

#[test]
fn a_node_that_was_away_is_found_again_by_address() -> Result<()> {
    let site = Site::new()?;
    // The one that is to be found is not there yet.
    let port = free_ports(1)?.to_string();
    let at = format!("127.0.0.1:{port}");
    let n1 = site.start("n1", &["--no-epmd", "--connect", &at])?;
    n1.wait_log(&["not connected", &at])?;
    let listen = ["--no-epmd", "--listen-min", &port];
    let mut n2 = site.start("n2", &listen)?;
    n1.wait_up(N2)?;
    n2.crash();
    n1.wait_log(&["node down", N2])?;
    let position = n1.stderr.position();
    // Another run of it, which knows of nobody, at the same place.
    let n2 = site.start("n2", &listen)?;
    n1.wait_log_since(position, PATIENCE, &["node up", N2])?;
    n2.wait_up(N1)
}

#[test]
fn a_stopped_peer_suspends_its_senders_only_and_memory_is_bounded() -> Result<()> {
    /// What a suspended sender may cost: the queue's high mark, a message, and what copies of
    /// it the allocator keeps.
    const COST_BYTES: u64 = 100 << 20;
    let site = Site::new()?;
    // Time enough to look around before it is called down.
    let slowly = ["--tick-time", "12000"];
    let n1 = start(&site, "n1", &slowly)?;
    let more = [&slowly[..], &["--connect", N1]].concat();
    let n2 = start(&site, "n2", &more)?;
    let n3 = start(&site, "n3", &more)?;
    for (node, other) in [(&n1, N2), (&n1, N3), (&n2, N3)] {
        node.wait_up(other)?;
    }
    for (node, name) in [
        (&n1, "suspended"),
        (&n1, "free"),
        (&n2, "sink"),
        (&n3, "sink"),
    ] {
        member(&site, node, name)?;
    }
    let before = peak_bytes(&n1)?;
    let position = n1.stderr.position();
    n3.signal(libc::SIGSTOP)?;
    let mut flood = site.command()?;
    let blast = format!("blast 400 1000000 sink {N3}");
    flood.args(["call", N1, "suspended", &blast, "--timeout", "120000"]);
    let mut flood = Process::start(flood, &Log::default())?;
    // 8 MiB wait and the system has taken its share: from now on it is suspended.
    for _ in 0..5 {
        assert_eq!(site.call(&n1, "free", "get")?, "0");
        assert_eq!(
            site.call(&n1, "free", &format!("blast 20 1000000 sink {N2}"))?,
            "blasted"
        );
        assert!(site.ok(&["ping", N1, N2])?.starts_with("pong"));
        assert!(site.ok(&["ping", N2, N1])?.starts_with("pong"));
    }
    ensure!(
        flood.stdout.position() == 0,
        "the sender to the stopped node went on"
    );
    ensure!(n1.count_log(&["node down", N3]) == 0, "too early");
    eventually("all else arrived", || {
        let events = site.call(&n2, "sink", "events")?;
        Ok(events.matches("cast:1000000").count() == 100)
    })?;
    n1.wait_log_since(
        position,
        Duration::from_secs(30),
        &["node down", N3, "four ticks missed"],
    )?;
    ensure!(flood.wait(PATIENCE)?.success(), "{}", flood.stderr.tail());
    let grown = peak_bytes(&n1)?.saturating_sub(before);
    ensure!(grown < COST_BYTES, "the node grew by {grown} bytes");
    println!("a sender suspended for a tick time: {} MiB", grown >> 20);
    n3.signal(libc::SIGCONT)?;
    n1.wait_log_since(position, PATIENCE, &["node up", N3])?;
    Ok(())
}

/// The most memory that a node ever had.
fn peak_bytes(node: &Node) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.os_pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.context("no VmHWM")?.trim().trim_end_matches(" kB");
    Ok(kib.parse::<u64>()? << 10)
}
