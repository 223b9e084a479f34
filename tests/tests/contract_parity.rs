//! A component runs as its core module, or under the component layer if it is not of the usual
//! shape: which of the two cannot be told from inside. `tests/actors/contract` has the actors.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wasm_node_tests::component::{with_custom_section, with_second_memory};
use wasm_node_tests::node::{Node, Site, test_actor};

/// Of two nodes that both know a holder of a global name, the smaller one's stays: this one's.
const PEER: &str = "a1@127.0.0.1";
const NODE: &str = "n1@127.0.0.1";
const CORE: &str = "contract";
const LAYER: &str = "layered";
/// Within this all of the script is done.
const SCRIPT_TIMEOUT_MS: &str = "25000";

fn start(site: &Site) -> Result<Node> {
    let component = test_actor("contract")?;
    site.install(NODE, CORE, &component)?;
    site.install(NODE, LAYER, &with_second_memory(&component))?;
    site.start("n1", &["--log", "info,wasm_node::node=debug"])
}

fn runs_under_the_component_layer(node: &Node, module: &str) -> bool {
    let module = format!("module={module:?}");
    node.count_log(&["runs under the component layer", &module]) > 0
}

fn transcript(site: &Site, node: &Node, module: &str) -> Result<String> {
    let script = site.spawn(node, module, &format!("script {PEER}"), &[])?;
    let begun = Instant::now();
    let request = format!("run {module}");
    let said = site
        .ok(&[
            "call",
            NODE,
            &script,
            &request,
            "--timeout",
            SCRIPT_TIMEOUT_MS,
        ])
        .with_context(|| format!("the script stands at\n{}", node.stdout.tail()))?;
    println!("{module}: {} ms", begun.elapsed().as_millis());
    Ok(said)
}

#[test]
fn both_ways_show_an_actor_the_same() -> Result<()> {
    // Nodes of its own for each, so that neither finds what the other left.
    let run = |module: &str, layered: bool| -> Result<String> {
        let site = Site::new()?;
        let _peer = site.start("a1", &[])?;
        let node = start(&site)?;
        let said = transcript(&site, &node, module)?;
        ensure!(
            runs_under_the_component_layer(&node, module) == layered,
            "{module} runs the other way"
        );
        Ok(said)
    };
    let core = run(CORE, false)?;
    let layer = run(LAYER, true)?;

    if core != layer {
        let differ = core
            .lines()
            .zip(layer.lines())
            .filter(|(core, layer)| core != layer);
        let shown: Vec<String> = differ
            .take(20)
            .map(|(core, layer)| format!("core:  {core}\nlayer: {layer}"))
            .collect();
        panic!(
            "{} and {} lines; the first that differ:\n{}\n\nall of core's:\n{core}",
            core.lines().count(),
            layer.lines().count(),
            shown.join("\n")
        );
    }
    // All of it came true, and every kind of message came.
    for kind in [
        "info",
        "cast",
        "request",
        "response",
        "down",
        "exit",
        "timer",
        "timeout",
        "spawned",
        "registered",
        "connected",
        "conflict",
        "node-up",
        "node-down",
        "group-joined",
        "group-left",
        "output",
        "input-request",
    ] {
        let line = format!("    {kind}");
        let own = format!("own {kind}: ");
        let taken = format!("taken: {kind} ");
        let begins = [&line, &own, &taken];
        let came = |text: &str| begins.iter().any(|begin| text.starts_with(*begin));
        ensure!(core.lines().any(came), "no message {kind} came:\n{core}");
    }
    for reason in [
        "ExitReason::Normal",
        "ExitReason::Shutdown",
        "ExitReason::Killed",
        "ExitReason::Kill",
        "ExitReason::Noproc",
        "ExitReason::Noconnection",
        "already-started p",
        "trap \"wasm trap",
        "limit \"memory",
        "error \"",
        "custom \"",
    ] {
        let line = format!(" {reason}");
        let ended = |text: &str| text.starts_with("    down") && text.contains(&line);
        ensure!(
            core.lines().any(ended),
            "no actor ended with {reason}:\n{core}"
        );
    }
    Ok(())
}

#[test]
fn an_actor_moves_between_both_with_its_state() -> Result<()> {
    let site = Site::new()?;
    let component = test_actor("contract")?;
    site.install(NODE, CORE, &component)?;
    let node = site.start("n1", &["--log", "info,wasm_node::node=debug"])?;
    let awake = site.spawn(&node, CORE, "member 3", &[])?;
    let asleep = site.spawn(&node, CORE, "member 4", &[])?;
    let says = |actor: &str, text: &str, answer: &str| -> Result<()> {
        let said = site.call(&node, actor, text)?;
        ensure!(
            said == answer,
            "{actor} answered {text:?} with {said:?}, not {answer:?}"
        );
        Ok(())
    };
    for (count, actor) in [&awake, &asleep].into_iter().enumerate() {
        says(actor, &format!("name member-{count}"), "named")?;
        says(actor, "grow 200000", "grown")?;
        says(actor, "add 1", "1")?;
    }
    let layered = with_second_memory(&component);
    let versions = [
        (layered.clone(), true),
        (component.clone(), false),
        (with_custom_section(&layered, b"2"), true),
        (with_custom_section(&component, b"2"), false),
    ];
    let mut count = 1;
    for (at, (version, is_layered)) in versions.iter().enumerate() {
        says(&asleep, "hibernate", "hibernates")?;
        // The one is asked twice before it agrees.
        says(&awake, "busy 1", "busy")?;
        let before = site.call(&node, &awake, "version")?;
        let moved = node.count_log(&["moved to the new version"]);
        site.install(NODE, CORE, version)?;
        for actor in [&awake, &asleep] {
            let wanted = moved + 2;
            wasm_node_tests::node::eventually("both moved", || {
                // Busy ones are asked again after a turn.
                site.call(&node, &awake, "get")?;
                Ok(node.count_log(&["moved to the new version"]) >= wanted)
            })?;
            ensure!(
                site.call(&node, actor, "version")? != before,
                "version {at}: it stays"
            );
            says(actor, "check", "1 whole")?;
            count += 1;
            says(actor, "add 1", &(count / 2 + 1).to_string())?;
        }
        let layers = node.count_log(&["runs under the component layer"]);
        let expected = versions[..=at]
            .iter()
            .filter(|(_, layered)| *layered)
            .count();
        ensure!(
            layers == expected,
            "version {at}: {is_layered}, {layers} of {expected}"
        );
    }
    // Names were kept over all that.
    says("member-0", "get", "5")?;
    says("member-1", "get", "5")?;
    let listed = site.ask(&["ps", NODE])?;
    let total = listed
        .get("total")
        .and_then(Value::as_u64)
        .context("no total")?;
    ensure!(total == 2, "{listed}");
    Ok(())
}
