//! How nodes find, accept and lose each other: real processes, driven as a user would.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wasm_node_tests::node::{Node, Site, component, eventually, free_ports};

const N1: &str = "n1@127.0.0.1";
const N2: &str = "n2@127.0.0.1";
const N3: &str = "n3@127.0.0.1";
/// The promise: a frozen node is called down within this at the default tick time.
const DOWN_WITHIN: Duration = Duration::from_secs(5);

fn assert_visible(site: &Site, node: &str, others: &[&str]) -> Result<()> {
    assert_eq!(site.nodes_of(node, &[])?, others, "what {node} lists");
    Ok(())
}

#[test]
fn nodes_that_join_one_node_see_all() -> Result<()> {
    let site = Site::new()?;
    let n1 = site.start("n1", &[])?;
    let n2 = site.start("n2", &["--connect", N1])?;
    n1.wait_up(N2)?;
    let n3 = site.start("n3", &["--connect", N1])?;
    n1.wait_up(N3)?;
    n2.wait_up(N3)?;
    n3.wait_up(N2)?;
    assert_visible(&site, N1, &[N2, N3])?;
    assert_visible(&site, N2, &[N1, N3])?;
    assert_visible(&site, N3, &[N1, N2])?;
    // The commands that asked were hidden nodes, and never passed on.
    assert_eq!(n1.count_log(&["node up", "kind=Visible"]), 2);
    assert!(n1.count_log(&["node up", "node=cli-", "kind=Hidden"]) >= 1);
    Ok(())
}

#[test]
fn connect_joins_two_clusters() -> Result<()> {
    let site = Site::new()?;
    let n1 = site.start("n1", &[])?;
    let n2 = site.start("n2", &[])?;
    let n3 = site.start("n3", &["--connect", N2])?;
    n2.wait_up(N3)?;
    assert_visible(&site, N1, &[])?;
    site.ok(&["connect", N1, N2])?;
    n1.wait_up(N3)?;
    n3.wait_up(N1)?;
    assert_visible(&site, N1, &[N2, N3])
}

#[test]
fn a_wrong_cookie_is_refused_on_both_sides_with_a_reason() -> Result<()> {
    let site = Site::new()?;
    let n1 = site.start("n1", &[])?;
    let n2 = site.start("n2", &["--cookie", "another", "--connect", N1])?;
    n1.wait_log(&["WARN", "wrong cookie"])?;
    n2.wait_log(&["WARN", "not connected", "n1", "wrong cookie"])?;
    let said = site.fails(1, &["nodes", N1, "--cookie", "another"])?;
    assert!(
        said.contains(&format!("cannot connect to {N1}: wrong cookie")),
        "{said}"
    );
    assert!(
        said.contains("give both the same --cookie or --cookie-file"),
        "{said}"
    );
    let said = site.fails(1, &["connect", N2, N1, "--cookie", "another"])?;
    assert!(
        said.contains("n2@127.0.0.1 refused") && said.contains("wrong cookie"),
        "{said}"
    );
    assert_visible(&site, N1, &[])?;
    assert_eq!(n1.count_log(&["node up", "kind=Visible"]), 0);
    Ok(())
}

#[test]
fn without_a_cookie_the_first_node_makes_a_private_one() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new()?;
    let file = site.path(".wasm-node.cookie");
    ensure!(!file.exists(), "there is a cookie already");
    let _n1 = site.start_without_cookie("n1", &[])?;
    let mode = std::fs::metadata(&file)?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "readable by its owner only");
    ensure!(
        std::fs::read_to_string(&file)?.trim().len() >= 16,
        "a short secret"
    );
    let n2 = site.start_without_cookie("n2", &["--connect", N1])?;
    n2.wait_up(N1)?;
    // What the environment has is another cookie.
    let said = site.fails(1, &["nodes", N1])?;
    assert!(said.contains("wrong cookie"), "{said}");
    Ok(())
}

#[test]
fn long_and_short_names_refuse_each_other() -> Result<()> {
    let site = Site::new()?;
    let n1 = site.start("n1", &[])?;
    let at = n1.listens()?;
    let said = site.fails(2, &["start", "--sname", "s1", "--connect", N1])?;
    assert!(
        said.contains("cannot connect s1@localhost to n1@127.0.0.1"),
        "{said}"
    );
    assert!(
        said.contains("long (--name) and short (--sname) names do not mix"),
        "{said}"
    );

    // By address, the two only find out when they meet.
    let naming = ["--sname", "s1"];
    let s1 = site.launch_as(&naming, "s1@localhost", &["--connect", &at])?;
    s1.wait_ready()?;
    let reason = [
        "n1@127.0.0.1",
        "s1@localhost",
        "long (--name) and short (--sname) names do not mix",
    ];
    n1.wait_log(&reason)?;
    s1.wait_log(&reason)?;
    assert_visible(&site, N1, &[])?;
    assert_visible(&site, "s1@localhost", &[])?;

    let said = site.fails(1, &["nodes", "n1@localhost"])?;
    assert!(said.contains("names do not mix"), "{said}");
    let said = site.fails(2, &["start", "--name", "s2@localhost"])?;
    assert!(said.contains("use --sname s2@localhost"), "{said}");
    let said = site.fails(2, &["start", "--sname", "s2@10.0.0.1"])?;
    assert!(said.contains("use --name s2@10.0.0.1"), "{said}");
    Ok(())
}

#[test]
fn short_names_connect() -> Result<()> {
    let site = Site::new()?;
    let s1 = site.launch_as(&["--sname", "s1"], "s1@localhost", &[])?;
    s1.wait_ready()?;
    let s2 = site.launch_as(
        &["--sname", "s2"],
        "s2@localhost",
        &["--connect", "s1@localhost"],
    )?;
    s2.wait_up("s1@localhost")?;
    s1.wait_up("s2@localhost")?;
    assert_visible(&site, "s1@localhost", &["s2@localhost"])
}

#[test]
fn a_hidden_node_is_reachable_but_not_listed() -> Result<()> {
    let site = Site::new()?;
    let h = "h@127.0.0.1";
    let n1 = site.start("n1", &[])?;
    let n2 = site.start("n2", &["--connect", N1])?;
    n1.wait_up(N2)?;
    let hidden = site.start("h", &["--hidden", "--connect", N1])?;
    n1.wait_up(h)?;
    hidden.wait_up(N1)?;
    assert_visible(&site, N1, &[N2])?;
    assert_eq!(site.nodes_of(N1, &["--hidden"])?, [h]);
    assert_eq!(site.nodes_of(N1, &["--all"])?, [h, N2]);
    // Not passed on, in either direction.
    assert_eq!(site.nodes_of(N2, &["--all"])?, [N1]);
    assert_eq!(site.nodes_of(h, &["--all"])?, [N1]);

    site.install(N1, "counter-c", &component("examples/counter-c")?)?;
    n1.wait_log(&["module loaded", "counter-c"])?;
    let pid = site.spawn(&n1, "counter-c", "4", &["--on", h])?;
    assert_eq!(site.call(&n1, &pid, "add 1")?, "5");
    assert_eq!(n2.count_log(&["node up", h]), 0);
    Ok(())
}

#[test]
fn a_node_listens_inside_its_range_or_says_why_not() -> Result<()> {
    let site = Site::new()?;
    let first = free_ports(3)?;
    let (min, max) = (first.to_string(), (first + 2).to_string());
    let range = ["--listen-min", &min, "--listen-max", &max];
    // One port is taken: the others serve.
    let taken = TcpListener::bind(("127.0.0.1", first))?;
    let n1 = site.start("n1", &range)?;
    let n2 = site.start("n2", &range)?;
    let mut ports = [port_of(&n1)?, port_of(&n2)?];
    ports.sort_unstable();
    assert_eq!(ports, [first + 1, first + 2]);
    site.ok(&["connect", N1, N2])?;
    n1.wait_up(N2)?;

    let mut n3 = site.launch("n3", &range)?;
    assert_eq!(n3.wait_end()?, Some(1));
    n3.wait_log(&["n3@127.0.0.1 did not start: cannot listen on", &min, &max])?;
    drop(taken);

    let mut n3 = site.launch("n3", &["--listen-min", &max, "--listen-max", &min])?;
    ensure!(n3.wait_end()? != Some(0), "a range from above to below");
    n3.wait_log(&["--listen-min", "is above --listen-max", "swap them"])?;
    let said = site.fails(2, &["start", "--name", N3, "--listen-max", &max])?;
    assert!(said.contains("--listen-max needs --listen-min"), "{said}");
    Ok(())
}

#[test]
fn a_name_that_is_taken_is_refused() -> Result<()> {
    let site = Site::new()?;
    let n1 = site.start("n1", &[])?;
    let mut again = site.launch_as(&["--name", N1], "other-data", &[])?;
    assert_eq!(again.wait_end()?, Some(1));
    again.wait_log(&["n1@127.0.0.1 did not start", "taken"])?;
    // The first goes on as if nothing had been.
    assert_visible(&site, N1, &[])?;
    assert_eq!(
        site.ok(&["names"])?,
        format!("name n1 at port {}", port_of(&n1)?)
    );
    Ok(())
}

#[test]
fn nodes_connect_by_address_without_a_port_mapper() -> Result<()> {
    let site = Site::new()?;
    let n1 = site.start("n1", &["--no-epmd"])?;
    let at = n1.listens()?;
    let n2 = site.start("n2", &["--no-epmd", "--connect", &at])?;
    n1.wait_up(N2)?;
    n2.wait_up(N1)?;
    // The third learns the second's address from the first.
    let n3 = site.start("n3", &["--no-epmd", "--connect", &at])?;
    n3.wait_up(N2)?;
    n2.wait_up(N3)?;
    let listed = site.ok(&["nodes", N1, "--address", &at])?;
    assert_eq!(listed, format!("{N2}\n{N3}"));
    let said = site.fails(1, &["names"])?;
    assert!(said.contains("port mapper"), "{said}");
    let said = site.fails(1, &["nodes", N1])?;
    assert!(said.contains("cannot connect to n1@127.0.0.1"), "{said}");
    let said = site.fails(2, &["nodes", N2, "--address", &at])?;
    assert!(said.contains("is n1@127.0.0.1, not n2@127.0.0.1"), "{said}");
    Ok(())
}

#[test]
fn four_nodes_that_dial_each_other_at_once_form_one_mesh() -> Result<()> {
    let site = Site::new()?;
    let names: Vec<String> = (1..=4).map(|n| format!("n{n}@127.0.0.1")).collect();
    let mut nodes = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let others = names.iter().filter(|other| *other != name);
        let args: Vec<&str> = others
            .flat_map(|other| ["--connect", other.as_str()])
            .collect();
        nodes.push(site.launch(&format!("n{}", at + 1), &args)?);
    }
    for node in &nodes {
        node.wait_ready()?;
    }
    for node in &nodes {
        for other in names.iter().filter(|other| *other != node.name()) {
            node.wait_up(other)?;
        }
    }
    for name in &names {
        let others: Vec<_> = names
            .iter()
            .filter(|other| *other != name)
            .cloned()
            .collect();
        assert_eq!(site.nodes_of(name, &[])?, others);
    }
    // However the dials crossed, nobody saw another come twice, or go.
    for node in &nodes {
        assert_eq!(
            node.count_log(&["node up", "kind=Visible"]),
            3,
            "{}",
            node.name()
        );
        assert_eq!(
            node.count_log(&["node down", "node=n"]),
            0,
            "{}",
            node.name()
        );
    }
    Ok(())
}

#[test]
fn a_restarted_node_is_another_one() -> Result<()> {
    let site = Site::new()?;
    let counter = component("examples/counter-c")?;
    site.install(N1, "counter-c", &counter)?;
    let n1 = site.start("n1", &[])?;
    let mut n2 = site.start("n2", &["--connect", N1])?;
    n1.wait_up(N2)?;
    let old = site.spawn(&n1, "counter-c", "7", &["--on", N2])?;
    assert_eq!(site.call(&n1, &old, "get")?, "7");
    let position = n1.stderr.position();
    n2.crash();
    n1.wait_log_since(position, Duration::from_secs(60), &["node down", N2])?;
    let said = site.fails(1, &["call", N1, &old, "get"])?;
    assert!(
        said.contains("noproc") || said.contains("noconnection"),
        "{said}"
    );

    let n2 = site.start("n2", &["--connect", N1])?;
    n1.wait_log_since(position, Duration::from_secs(60), &["node up", N2])?;
    let new = site.spawn(&n1, "counter-c", "1", &["--on", N2])?;
    assert_ne!(old, new);
    assert_eq!(site.call(&n1, &new, "get")?, "1");
    // The old pid means nobody, though the new node has an actor in the same place.
    let said = site.fails(1, &["call", N1, &old, "get"])?;
    assert!(
        said.contains("noproc") || said.contains("noconnection"),
        "{said}"
    );
    // Its code was kept on disk: nothing is shipped again.
    assert_eq!(n2.count_log(&["fetching code"]), 0);
    Ok(())
}

#[test]
fn a_frozen_node_is_called_down_and_comes_back() -> Result<()> {
    let site = Site::new()?;
    let n1 = site.start("n1", &[])?;
    let n2 = site.start("n2", &["--connect", N1])?;
    let n3 = site.start("n3", &["--connect", N1])?;
    n2.wait_up(N3)?;
    n3.wait_up(N2)?;
    let positions = [n1.stderr.position(), n2.stderr.position()];
    let frozen = Instant::now();
    n3.signal(libc::SIGSTOP)?;
    for (node, from) in [&n1, &n2].into_iter().zip(positions) {
        let left = DOWN_WITHIN.saturating_sub(frozen.elapsed());
        node.wait_log_since(from, left, &["node down", N3, "no sign of life"])?;
    }
    // The others did not suffer.
    assert_visible(&site, N1, &[N2])?;
    n3.signal(libc::SIGCONT)?;
    for (node, from) in [&n1, &n2].into_iter().zip(positions) {
        node.wait_log_since(from, Duration::from_secs(60), &["node up", N3])?;
    }
    assert_visible(&site, N1, &[N2, N3])
}

#[test]
fn a_stopped_node_leaves_in_order() -> Result<()> {
    let site = Site::new()?;
    let n1 = site.start("n1", &[])?;
    let mut n2 = site.start("n2", &["--connect", N1])?;
    n1.wait_up(N2)?;
    site.ok(&["stop", N2])?;
    assert_eq!(n2.wait_end()?, Some(0));
    n1.wait_log(&["node down", N2, "the node was stopped"])?;
    assert_visible(&site, N1, &[])?;
    eventually("its name is free", || {
        Ok(!site.ok(&["names"])?.contains("name n2 "))
    })?;
    // Ctrl-C is as good.
    let mut n2 = site.start("n2", &["--connect", N1])?;
    n2.signal(libc::SIGINT)?;
    assert_eq!(n2.wait_end()?, Some(0));
    Ok(())
}

#[test]
fn plaintext_and_encrypted_nodes_do_not_mix() -> Result<()> {
    let site = Site::new()?;
    let n1 = site.start("n1", &["--plaintext"])?;
    let n2 = site.start("n2", &["--plaintext", "--connect", N1])?;
    n1.wait_up(N2)?;
    n2.wait_up(N1)?;
    let n3 = site.start("n3", &["--connect", N1])?;
    n3.wait_log(&["not connected", "n1"])?;
    let said = site.fails(1, &["nodes", N1])?;
    assert!(said.contains("--plaintext"), "{said}");
    let listed = site.ok(&["nodes", N1, "--plaintext"])?;
    assert_eq!(listed, N2);
    // Even there, the cookie must be right.
    let said = site.fails(1, &["nodes", N1, "--plaintext", "--cookie", "another"])?;
    assert!(said.contains("wrong cookie"), "{said}");
    Ok(())
}

fn port_of(node: &Node) -> Result<u16> {
    let at = node.listens()?;
    Ok(at.rsplit(':').next().context("no port")?.parse()?)
}
