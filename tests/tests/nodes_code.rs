//! Code that travels: a module on one node runs on others, shipped once.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wasm_node_tests::component::with_custom_section;
use wasm_node_tests::node::{PATIENCE, Site, component};
use wasm_node_tests::process::{Log, Process};

const N1: &str = "n1@127.0.0.1";
const N2: &str = "n2@127.0.0.1";

/// The digests of the versions of a module that a node has.
fn digests(site: &Site, node: &str) -> Result<Vec<String>> {
    let listed = site.ask(&["modules", node])?;
    let rows = listed.get("modules").and_then(Value::as_array);
    let digests = rows
        .context("no list of modules")?
        .iter()
        .filter_map(|row| row.get("digest").and_then(Value::as_str));
    Ok(digests.map(String::from).collect())
}

#[test]
fn a_module_of_one_node_runs_on_another_and_is_shipped_once() -> Result<()> {
    let site = Site::new()?;
    site.install(N1, "counter", &component("examples/counter-c")?)?;
    let n1 = site.start("n1", &[])?;
    let n2 = site.start("n2", &["--connect", N1])?;
    n1.wait_up(N2)?;
    assert!(digests(&site, N2)?.is_empty());
    // Many at once, of which only one may ship the code.
    let mut spawns = Vec::new();
    for first in 0..4 {
        let mut command: Command = site.command()?;
        command.args([
            "spawn",
            N1,
            "counter",
            "--on",
            N2,
            "--args",
            &first.to_string(),
        ]);
        spawns.push(Process::start(command, &Log::default())?);
    }
    for (first, mut spawn) in spawns.into_iter().enumerate() {
        let status = spawn.wait(PATIENCE)?;
        ensure!(status.success(), "a spawn failed: {}", spawn.stderr.tail());
        let pid = spawn
            .stdout
            .wait(0, PATIENCE, "a pid", |line| line.starts_with('<'))?;
        ensure!(!pid.starts_with("<0."), "{pid} is not of another node");
        assert_eq!(site.call(&n1, &pid, "get")?, first.to_string());
    }
    let name = ["--on", N2, "--local-name", "last"];
    site.spawn(&n1, "counter", "9", &name)?;
    assert_eq!(site.call(&n2, "last", "get")?, "9");
    assert_eq!(n2.count_log(&["fetching code", "counter"]), 1);
    assert_eq!(n1.count_log(&["fetching code"]), 0);
    assert_eq!(digests(&site, N2)?, digests(&site, N1)?);
    // It printed where its group leader is: that of the node that was asked.
    n1.wait_print("counter-c starts at 9")
}

#[test]
fn nodes_with_different_versions_each_run_what_was_asked_for() -> Result<()> {
    let site = Site::new()?;
    let (c, rust) = (
        component("examples/counter-c")?,
        component("examples/counter-rust")?,
    );
    site.install(N1, "counter", &c)?;
    site.install(N2, "counter", &rust)?;
    let n1 = site.start("n1", &[])?;
    let n2 = site.start("n2", &["--connect", N1])?;
    n1.wait_up(N2)?;
    // The module means what its name means where the spawn comes from.
    site.spawn(
        &n1,
        "counter",
        "1",
        &["--on", N2, "--local-name", "foreign"],
    )?;
    site.spawn(&n2, "counter", "2", &["--local-name", "own"])?;
    n1.wait_print("counter-c starts at 1")?;
    n2.wait_print("counter-rust starts at 2")?;
    // A new version on n2 moves its own actor, and leaves the other one alone.
    let position = n2.stderr.position();
    site.install(N2, "counter", &with_custom_section(&rust, b"2"))?;
    n2.wait_log_since(position, PATIENCE, &["moved to the new version"])?;
    assert_eq!(site.call(&n2, "own", "get")?, "2");
    assert_eq!(site.call(&n2, "foreign", "add 1")?, "2");
    assert_eq!(n2.count_log(&["moved to the new version"]), 1);
    Ok(())
}

#[test]
fn a_digest_names_a_version() -> Result<()> {
    let site = Site::new()?;
    site.install(N1, "counter", &component("examples/counter-c")?)?;
    let n1 = site.start("n1", &[])?;
    let [digest] = digests(&site, N1)?
        .try_into()
        .ok()
        .context("not one module")?;
    assert_eq!(digest.len(), 64);
    let pid = site.spawn(&n1, &digest, "3", &[])?;
    assert_eq!(site.call(&n1, &pid, "get")?, "3");
    let nobodys = "0".repeat(64);
    let said = site.fails(1, &["spawn", N1, &nobodys])?;
    assert!(said.contains("no module"), "{said}");
    Ok(())
}

#[test]
fn a_removed_file_leaves_actors_and_module_as_they_are() -> Result<()> {
    let site = Site::new()?;
    site.install(N1, "counter", &component("examples/counter-c")?)?;
    let n1 = site.start("n1", &[])?;
    site.spawn(&n1, "counter", "3", &["--local-name", "it"])?;
    std::fs::remove_file(site.modules(N1)?.join("counter.wasm"))?;
    n1.wait_log(&["module file removed", "counter"])?;
    assert_eq!(site.call(&n1, "it", "add 1")?, "4");
    Ok(())
}
