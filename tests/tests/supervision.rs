//! Supervision trees of app manifests, on real nodes: who is started again, who ends with whom, in
//! what order, and what it takes to end the node. The rules themselves are tested natively
//! (`actors/supervisor`, `actors/dynamic-supervisor`) and against OTP (`tests/conformance`).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wasm_node_tests::node::{Node, Site, component, eventually, test_actor};

const N1: &str = "n1@127.0.0.1";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node that runs this tree, below the modules. `leaf` is the actor of all of them.
fn app(site: &Site, tree: &str) -> Result<Node> {
    let mut text = "[app]\nname = \"app\"\n".to_owned();
    for module in ["supervisor", "dynamic-supervisor", "leaf"] {
        text += &format!("[modules.{module}]\nfile = \"{module}.wasm\"\n");
    }
    let file = site.path("app.toml");
    std::fs::write(&file, text + tree)?;
    for module in ["supervisor", "dynamic-supervisor"] {
        site.install(N1, module, &component(module)?)?;
    }
    site.install(N1, "leaf", &test_actor("leaf")?)?;
    site.start("n1", &["--app", file.to_str().context("no UTF-8")?])
}

/// A child that is a leaf, and has its id as its local name.
fn leaf(at: &str, id: &str, keys: &str) -> String {
    format!(
        "[[{at}.child]]\nid = \"{id}\"\nname = \"{id}\"\nmodule = \"leaf\"\nargs = \"{id}\"\n{keys}\n"
    )
}

/// What actors printed since then, once this line is there: all up to that.
fn printed(node: &Node, from: usize, last: &str) -> Result<Vec<String>> {
    node.stdout
        .wait(from, PATIENCE, last, |line| line == last)
        .with_context(|| format!("printed: {:?}", node.stdout.since(from)))?;
    let mut lines = node.stdout.since(from);
    lines.retain(|line| !line.starts_with('{'));
    let at = lines.iter().position(|line| line == last);
    lines.truncate(at.map_or(0, |at| at + 1));
    Ok(lines)
}

fn pid(site: &Site, name: &str) -> Result<String> {
    site.ok(&["whereis", N1, name])
}

#[test]
fn a_branch_is_started_again_and_its_neighbours_are_not() -> Result<()> {
    let site = Site::new()?;
    let tree = [
        "[supervisor]\n".into(),
        leaf("supervisor", "before", ""),
        "[[supervisor.child]]\nid = \"branch\"\nname = \"branch\"\n\
         [supervisor.child.supervisor]\nstrategy = \"rest-for-one\"\nintensity = 2\nperiod_ms = 60000\n"
            .into(),
        leaf("supervisor.child.supervisor", "one", ""),
        leaf("supervisor.child.supervisor", "two", ""),
        leaf("supervisor.child.supervisor", "three", ""),
        leaf("supervisor", "after", "message_limit = \"12B\""),
    ];
    let node = app(&site, &tree.concat())?;
    let started = printed(&node, 0, "after up")?;
    let all = ["before up", "one up", "two up", "three up", "after up"];
    ensure!(started == all, "{started:?}");
    let which = |of| site.call(&node, "before", &format!("which {of}"));
    let children = which("branch")?;
    ensure!(
        children == "one worker, two worker, three worker",
        "{children}"
    );

    let before = (
        pid(&site, "before")?,
        pid(&site, "one")?,
        pid(&site, "after")?,
    );
    let branch = pid(&site, "branch")?;
    for _ in 0..2 {
        let from = node.stdout.position();
        site.ok(&["exit", N1, "two", "--reason", "kill"])?;
        // Those that started after it: it is gone, so the other is ended.
        let seen = printed(&node, from, "three up")?;
        ensure!(
            seen == ["three down: shutdown", "two up", "three up"],
            "{seen:?}"
        );
    }
    let now = (
        pid(&site, "before")?,
        pid(&site, "one")?,
        pid(&site, "after")?,
    );
    ensure!(now == before && pid(&site, "branch")? == branch, "{now:?}");

    // Once more is too often: the branch gives up, and is started again as a whole.
    let from = node.stdout.position();
    site.ok(&["exit", N1, "two", "--reason", "kill"])?;
    let seen = printed(&node, from, "three up")?;
    let whole = [
        "three down: shutdown",
        "one down: shutdown",
        "one up",
        "two up",
        "three up",
    ];
    ensure!(seen == whole, "{seen:?}");
    ensure!(pid(&site, "branch")? != branch);
    let now = (pid(&site, "before")?, pid(&site, "after")?);
    ensure!(now == (before.0, before.2), "{now:?}");
    node.wait_log(&["supervisor report", "reached_max_restart_intensity"])?;

    // A limit of the child's own, however often it starts.
    let old = pid(&site, "after")?;
    site.ok(&["exit", N1, "after", "--reason", "kill"])?;
    eventually("it is started again", || {
        Ok(pid(&site, "after").is_ok_and(|now| now != old))
    })?;
    site.ok(&["call", N1, "after", "twelve bytes"])?;
    let said = site.fails(1, &["call", N1, "after", "thirteen bytes"])?;
    ensure!(said.contains("too large"), "{said}");
    Ok(())
}

#[test]
fn a_root_that_gives_up_stops_the_node() -> Result<()> {
    let site = Site::new()?;
    let tree = "[supervisor]\nintensity = 0\n".to_owned() + &leaf("supervisor", "one", "");
    let mut node = app(&site, &tree)?;
    site.call(&node, "one", "fail")?;
    let code = node.wait_end()?;
    ensure!(code == Some(0), "{code:?}");
    node.wait_log(&["reached_max_restart_intensity"])?;
    node.wait_log(&["the app's tree has ended, the node stops"])?;
    Ok(())
}

#[test]
fn significant_children_take_their_supervisors_along() -> Result<()> {
    let site = Site::new()?;
    let tree = [
        "[supervisor]\nauto_shutdown = \"all-significant\"\n".into(),
        leaf("supervisor", "stays", ""),
        "[[supervisor.child]]\nid = \"job\"\nrestart = \"transient\"\nsignificant = true\n\
         [supervisor.child.supervisor]\nauto_shutdown = \"any-significant\"\n"
            .into(),
        leaf("supervisor.child.supervisor", "helper", ""),
        leaf(
            "supervisor.child.supervisor",
            "work",
            "restart = \"transient\"\nsignificant = true",
        ),
        leaf(
            "supervisor",
            "last",
            "restart = \"temporary\"\nsignificant = true",
        ),
    ];
    let mut node = app(&site, &tree.concat())?;
    // It is started again if it fails, which ends nobody.
    let from = node.stdout.position();
    ensure!(site.ok(&["status", N1, "work"])? == "the leaf work");
    site.call(&node, "work", "fail")?;
    node.wait_log(&["server terminated", "told to", "a call", "the leaf work"])?;
    let seen = printed(&node, from, "work up")?;
    ensure!(seen == ["work down: error: told to", "work up"], "{seen:?}");
    // Done, it ends its supervisor; for the root, that is one of two.
    let from = node.stdout.position();
    site.call(&node, "work", "stop")?;
    let seen = printed(&node, from, "helper down: shutdown")?;
    ensure!(
        seen == ["work down: normal", "helper down: shutdown"],
        "{seen:?}"
    );
    eventually("the branch is gone", || {
        Ok(site.call(&node, "stays", "which nobody").is_ok()
            && site.ok(&["ps", N1])?.matches("supervisor").count() == 1)
    })?;
    let from = node.stdout.position();
    site.call(&node, "last", "fail")?;
    ensure!(node.wait_end()? == Some(0));
    let seen = printed(&node, from, "stays down: shutdown")?;
    ensure!(
        seen == ["last down: error: told to", "stays down: shutdown"],
        "{seen:?}"
    );
    Ok(())
}

#[test]
fn a_tree_ends_in_reverse_each_in_its_time() -> Result<()> {
    let site = Site::new()?;
    let tree = [
        "[supervisor]\n".into(),
        leaf("supervisor", "first", ""),
        "[[supervisor.child]]\nid = \"branch\"\n[supervisor.child.supervisor]\n".into(),
        leaf("supervisor.child.supervisor", "inner", ""),
        leaf("supervisor.child.supervisor", "victim", "shutdown_ms = \"brutal-kill\""),
        "[[supervisor.child]]\nid = \"deaf\"\nmodule = \"leaf\"\nargs = \"stone deaf\"\nshutdown_ms = 50\n"
            .into(),
        leaf("supervisor", "last", "shutdown_ms = \"infinity\""),
    ];
    let mut node = app(&site, &tree.concat())?;
    let from = node.stdout.position();
    site.ok(&["stop", N1])?;
    ensure!(node.wait_end()? == Some(0));
    let seen = printed(&node, from, "first down: shutdown")?;
    let reverse = [
        "last down: shutdown",
        "stone down: shutdown",
        "inner down: shutdown",
        "first down: shutdown",
    ];
    ensure!(seen == reverse, "{seen:?}");
    // The one that did not end in time was killed, and that is said.
    node.wait_log(&["supervisor report", "shutdown_error", "deaf"])?;
    Ok(())
}

#[test]
fn a_dynamic_branch_gets_children_and_loses_them() -> Result<()> {
    let site = Site::new()?;
    let tree = [
        "[supervisor]\nstrategy = \"rest-for-one\"\n".to_owned(),
        leaf("supervisor", "boss", ""),
        "[[supervisor.child]]\nid = \"pool\"\nname = \"pool\"\n\
         [supervisor.child.dynamic]\nmax_children = 2\nintensity = 1\nperiod_ms = 60000\n"
            .into(),
    ];
    let node = app(&site, &tree.concat())?;
    let ask = |text: &str| site.call(&node, "boss", text);
    ensure!(ask("start pool a")? == "started" && ask("start pool b")? == "started");
    let full = ask("start pool c")?;
    ensure!(full.starts_with("max_children"), "{full}");
    let pool = pid(&site, "pool")?;
    let from = node.stdout.position();
    site.ok(&["exit", N1, "boss", "--reason", "kill"])?;
    // All its children at once, in no order; a new pool has none.
    let mut seen = printed(&node, from, "boss up")?;
    seen.sort();
    ensure!(
        seen == ["a down: shutdown", "b down: shutdown", "boss up"],
        "{seen:?}"
    );
    eventually("there is a new pool", || {
        Ok(pid(&site, "pool").is_ok_and(|now| now != pool))
    })?;
    ensure!(ask("count pool")? == "0 active");
    ensure!(ask("start pool d")? == "started");
    Ok(())
}
