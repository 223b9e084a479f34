//! Tasks, agents and registries of the SDK on real nodes.

use anyhow::{Result, ensure};
use wasm_node_tests::node::{Node, Site, component, eventually, test_actor};

const N1: &str = "n1@127.0.0.1";
const N2: &str = "n2@127.0.0.1";
const N3: &str = "n3@127.0.0.1";

fn install(site: &Site, on: &str) -> Result<()> {
    for actor in ["assistant", "board"] {
        site.install(on, actor, &test_actor(actor)?)?;
    }
    for module in ["registry", "dynamic-supervisor"] {
        site.install(on, module, &component(module)?)?;
    }
    Ok(())
}

fn node(site: &Site) -> Result<Node> {
    install(site, N1)?;
    let node = site.start("n1", &[])?;
    site.spawn(&node, "assistant", "", &["--local-name", "assistant"])?;
    Ok(node)
}

#[test]
fn tasks_run_here_and_on_another_node() -> Result<()> {
    let site = Site::new()?;
    let first = node(&site)?;
    let _second = site.start("n2", &["--connect", N1])?;
    eventually("the nodes meet", || Ok(site.nodes_of(N1, &[])? == [N2]))?;
    let ask = |text: &str| site.ok(&["call", N1, "assistant", text, "--timeout", "60000"]);
    // The same fold as the assistant's.
    let squares = (0..40u64).fold(0, |sum, n| sum * 3 % 1_000_003 + n * n);
    for on in [N1, N2] {
        assert_eq!(ask(&format!("task {on}"))?, format!("Ok({on:?}) Ok(81)"));
        assert_eq!(ask(&format!("trap {on}"))?, "trap");
        let slow = ask(&format!("slow {on}"))?;
        let ends = "Err(Timeout) killed, None killed, None shutdown";
        assert_eq!(slow, ends, "on {on}");
        assert_eq!(ask(&format!("stream {on}"))?, squares.to_string());
    }
    // A supervisor starts modules of its own node.
    install(&site, N3)?;
    let _third = site.start("n3", &["--connect", N1])?;
    eventually("the third joins", || Ok(site.nodes_of(N1, &[])?.len() == 2))?;
    for on in [N1, N3] {
        let supervised = ask(&format!("supervised {on}"))?;
        let full = "Some(NotStarted(MaxChildren)) 2 385";
        let kept = "Err(Exit(ExitReason::Killed))";
        assert_eq!(supervised, format!("{on} true {full} {kept}"));
    }
    // Nothing is left over but the assistant.
    eventually("the tasks are gone", || {
        let listed = site.ask(&["ps", N1])?;
        let rows = listed.get("processes").and_then(|rows| rows.as_array());
        Ok(rows.is_some_and(|rows| rows.len() == 1))
    })?;
    // A link takes the owner along.
    let pid = site.ok(&["whereis", first.name(), "assistant"])?;
    let said = site.fails(1, &["call", N1, "assistant", "linked-trap"])?;
    ensure!(
        said.contains("the callee ended: trap"),
        "{pid} was to end with its task: {said}"
    );
    Ok(())
}

#[test]
fn an_agent_keeps_state_and_a_registry_forgets_the_dead() -> Result<()> {
    let site = Site::new()?;
    let node = node(&site)?;
    assert_eq!(site.call(&node, "assistant", "agent")?, "Some(8) 7 true");
    assert_eq!(
        site.call(&node, "assistant", "registry")?,
        "true Some((true, 2)) 1"
    );
    Ok(())
}
