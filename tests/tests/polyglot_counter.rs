//! One counter in Rust, C and JavaScript: the contract, proven for languages without our SDK.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wasm_node_tests::component::with_custom_section;
use wasm_node_tests::node::{Node, PATIENCE, Site, component, eventually, test_actor};

const N1: &str = "n1@127.0.0.1";
const LANGUAGES: [&str; 3] = ["rust", "c", "js"];

fn counter(language: &str) -> Result<Vec<u8>> {
    component(&format!("examples/counter-{language}"))
}

/// A node with the three counters, each running under its language's name.
fn node_with_counters(site: &Site) -> Result<Node> {
    for language in LANGUAGES {
        site.install(N1, &format!("counter-{language}"), &counter(language)?)?;
    }
    let node = site.start("n1", &[])?;
    for (at, language) in LANGUAGES.into_iter().enumerate() {
        let (module, first) = (format!("counter-{language}"), (at * 100).to_string());
        site.spawn(&node, &module, &first, &["--local-name", language])?;
    }
    Ok(node)
}

/// The pid of an actor as `watch` takes it.
fn id_of(site: &Site, node: &Node, name: &str) -> Result<String> {
    let found = site.ask(&["whereis", node.name(), name])?;
    let id = found.get("id").and_then(Value::as_str);
    Ok(id.context("no id")?.into())
}

#[test]
fn each_is_called_from_the_others() -> Result<()> {
    let site = Site::new()?;
    let node = node_with_counters(&site)?;
    let mut expected = [0, 100, 200];
    for (from, caller) in LANGUAGES.into_iter().enumerate() {
        for (to, callee) in LANGUAGES.into_iter().enumerate() {
            if from == to {
                continue;
            }
            let add = format!("call local {callee} add {}", from + 1);
            expected[to] += from as i64 + 1;
            assert_eq!(site.call(&node, caller, &add)?, expected[to].to_string());
            // Through two of them.
            let third = LANGUAGES[3 - from - to];
            let far = format!("call local {callee} call local {third} get");
            assert_eq!(
                site.call(&node, caller, &far)?,
                expected[3 - from - to].to_string()
            );
        }
        let nobody = site.call(&node, caller, "call local nobody get")?;
        assert_eq!(nobody, "error: noproc", "{caller}");
        let pid = site.call(&node, caller, "pid")?;
        assert_eq!(pid, id_of(&site, &node, caller)?, "{caller}");
        let wrong = site.call(&node, caller, "dance")?;
        assert!(wrong.starts_with("error: "), "{caller} said {wrong:?}");
    }
    for (language, count) in LANGUAGES.into_iter().zip(expected) {
        assert_eq!(site.call(&node, language, "get")?, count.to_string());
    }
    Ok(())
}

#[test]
fn each_prints_to_the_nodes_output() -> Result<()> {
    let site = Site::new()?;
    let node = node_with_counters(&site)?;
    node.wait_print("counter-rust starts at 0")?;
    node.wait_print("counter-c starts at 100")?;
    node.wait_print("counter-js starts at 200")
}

#[test]
fn each_refuses_arguments_that_are_no_count() -> Result<()> {
    let site = Site::new()?;
    let node = node_with_counters(&site)?;
    for language in LANGUAGES {
        let module = format!("counter-{language}");
        let said = site.fails(1, &["spawn", node.name(), &module, "--args", "many"])?;
        assert!(said.contains("init failed"), "{language}: {said}");
    }
    Ok(())
}

#[test]
fn each_sees_the_others_end() -> Result<()> {
    let site = Site::new()?;
    let node = node_with_counters(&site)?;
    site.install(N1, "rogue", &test_actor("rogue")?)?;
    node.wait_log(&["module loaded", "\"rogue\""])?;
    let watched = site.spawn(&node, "rogue", "none", &["--local-name", "watched"])?;
    let id = id_of(&site, &node, "watched")?;
    for language in LANGUAGES {
        assert_eq!(site.call(&node, language, &format!("watch {id}"))?, "ok");
        assert_eq!(site.call(&node, language, "downs")?, "0");
    }
    site.ok(&["exit", node.name(), &watched, "--reason", "kill"])?;
    for language in LANGUAGES {
        // The `down` was sent before this call.
        eventually("the down message", || {
            Ok(site.call(&node, language, "downs")? == "1")
        })?;
        // Watching the dead is answered at once.
        assert_eq!(site.call(&node, language, &format!("watch {id}"))?, "ok");
        eventually("the second down message", || {
            Ok(site.call(&node, language, "downs")? == "2")
        })?;
    }
    Ok(())
}

#[test]
fn each_is_called_across_nodes_by_its_global_name() -> Result<()> {
    let site = Site::new()?;
    let probe = test_actor("probe")?;
    let mut nodes: Vec<Node> = Vec::new();
    for (at, language) in LANGUAGES.into_iter().enumerate() {
        let (node, module) = (format!("n{}", at + 1), format!("counter-{language}"));
        let name = format!("{node}@127.0.0.1");
        site.install(&name, "probe", &probe)?;
        site.install(&name, &module, &counter(language)?)?;
        let join: &[&str] = if at > 0 { &["--connect", N1] } else { &[] };
        let node = site.start(&node, join)?;
        site.spawn(&node, "probe", "", &["--local-name", "probe"])?;
        let first = at.to_string();
        site.spawn(&node, &module, &first, &["--local-name", language])?;
        let registered = site.call(&node, "probe", &format!("globally {language}"))?;
        assert_eq!(registered, "ok", "{language}");
        nodes.push(node);
    }
    for node in &nodes {
        for language in LANGUAGES {
            eventually("the name is known everywhere", || {
                let args = ["whereis", node.name(), &format!("global:{language}")];
                Ok(site.run(args)?.status.success())
            })?;
        }
    }
    let mut expected = [0, 1, 2];
    for (from, caller) in LANGUAGES.into_iter().enumerate() {
        for (to, callee) in LANGUAGES.into_iter().enumerate() {
            if from == to {
                continue;
            }
            // The command asks a node that has neither: all three travel.
            let asked = &nodes[3 - from - to];
            let add = format!("call global {callee} add 10");
            expected[to] += 10;
            let reply = site.call(asked, &format!("global:{caller}"), &add)?;
            assert_eq!(reply, expected[to].to_string(), "{caller} called {callee}");
        }
    }
    // A pid travels too, and a monitor holds across nodes: until the node is gone.
    let c = site.call(&nodes[0], "global:c", "pid")?;
    for language in ["rust", "js"] {
        let reply = site.call(
            &nodes[0],
            &format!("global:{language}"),
            &format!("watch {c}"),
        )?;
        assert_eq!(reply, "ok");
    }
    nodes[1].crash();
    for language in ["rust", "js"] {
        eventually("the down message of a dead node's actor", || {
            Ok(site.call(&nodes[0], &format!("global:{language}"), "downs")? == "1")
        })?;
        let called = site.call(
            &nodes[2],
            &format!("global:{language}"),
            "call global c get",
        )?;
        assert!(called.starts_with("error: no"), "{language}: {called}");
    }
    Ok(())
}

#[test]
fn a_manifest_gives_each_language_its_global_name() -> Result<()> {
    let site = Site::new()?;
    site.install(N1, "supervisor", &component("supervisor")?)?;
    let mut manifest = String::from("[app]\nname = \"counters\"\n[supervisor]\n");
    let folder = site.modules(N1)?;
    manifest.push_str(&format!(
        "[modules.supervisor]\nfile = {:?}\n",
        folder.join("supervisor.wasm")
    ));
    for (at, language) in LANGUAGES.into_iter().enumerate() {
        let module = format!("counter-{language}");
        site.install(N1, &module, &counter(language)?)?;
        let file = folder.join(format!("{module}.wasm"));
        manifest.push_str(&format!(
            "[modules.{module}]\nfile = {file:?}\n[[supervisor.child]]\nid = \"{language}\"\n\
             module = \"{module}\"\nglobal = \"{language}\"\nargs = \"{at}\"\n"
        ));
    }
    let path = site.path("counters.toml");
    std::fs::write(&path, manifest)?;
    let node = site.start("n1", &["--app", &path.to_string_lossy()])?;
    for (at, language) in LANGUAGES.into_iter().enumerate() {
        let name = format!("global:{language}");
        assert_eq!(site.call(&node, &name, "get")?, at.to_string());
    }
    Ok(())
}

#[test]
fn state_survives_new_versions_and_new_languages() -> Result<()> {
    let site = Site::new()?;
    site.install(N1, "counter", &counter("rust")?)?;
    site.install(N1, "rogue", &test_actor("rogue")?)?;
    let node = site.start("n1", &[])?;
    let pid = site.spawn(&node, "counter", "40", &["--local-name", "it"])?;
    let id = id_of(&site, &node, "it")?;
    assert_eq!(site.call(&node, "it", "add 1")?, "41");
    // The same again in another version; then all languages, and back to the first.
    let again = with_custom_section(&counter("rust")?, b"2");
    let steps = [
        ("rust", again),
        ("c", counter("c")?),
        ("js", counter("js")?),
        ("rust", counter("rust")?),
    ];
    for (before, (language, version)) in steps.into_iter().enumerate() {
        // Each step adds one to both.
        let (count, downs) = (41 + before, before);
        let watched = site.spawn(&node, "rogue", "none", &["--local-name", language])?;
        let watched_id = id_of(&site, &node, language)?;
        assert_eq!(
            site.call(&node, "it", &format!("watch {watched_id}"))?,
            "ok"
        );
        let position = node.stderr.position();
        site.install(N1, "counter", &version)?;
        node.wait_log_since(position, PATIENCE, &["moved to the new version"])?;
        node.wait_print(&format!("counter-{language} goes on at {count}"))?;
        // The same actor, by pid and name, with its count and its monitor.
        assert_eq!(id_of(&site, &node, "it")?, id);
        assert_eq!(site.call(&node, &pid, "downs")?, downs.to_string());
        site.ok(&["exit", node.name(), &watched, "--reason", "kill"])?;
        eventually("the monitor holds in the new version", || {
            Ok(site.call(&node, "it", "downs")? == (downs + 1).to_string())
        })?;
        assert_eq!(site.call(&node, "it", "add 1")?, (count + 1).to_string());
    }
    Ok(())
}

#[test]
fn a_version_that_does_not_fit_changes_nothing_and_says_why() -> Result<()> {
    let site = Site::new()?;
    site.install(N1, "counter", &counter("c")?)?;
    let node = site.start("n1", &[])?;
    site.spawn(&node, "counter", "5", &["--local-name", "it"])?;
    let digest = |site: &Site| -> Result<String> {
        let listed = site.ask(&["modules", N1])?;
        let row = listed.pointer("/modules/0").context("no module")?;
        ensure!(
            row.get("name").and_then(Value::as_str) == Some("counter"),
            "{row}"
        );
        let digest = row.get("digest").and_then(Value::as_str);
        Ok(digest.context("no digest")?.into())
    };
    let first = digest(&site)?;
    let whole = counter("c")?;
    let bad: [(&str, &[u8]); 4] = [
        ("no wasm at all", b"this is no component"),
        ("a core module", b"\0asm\x01\0\0\0"),
        (
            "cut short",
            whole.get(..whole.len() / 2).unwrap_or_default(),
        ),
        ("no actor: an empty component", b"\0asm\x0d\0\x01\0"),
    ];
    for (what, bytes) in bad {
        let position = node.stderr.position();
        site.install(N1, "counter", bytes)?;
        let words = ["version refused, nothing has changed", "counter"];
        let line = node.wait_log_since(position, Duration::from_secs(60), &words)?;
        ensure!(
            line.contains("reason=") || line.contains("error="),
            "{what}: {line}"
        );
        println!("{what}: {line}");
        assert_eq!(digest(&site)?, first, "{what}");
        assert_eq!(site.call(&node, "it", "get")?, "5", "{what}");
        site.spawn(&node, "counter", "1", &[])?;
    }

    // A version that compiles but refuses the state: whoever runs, goes on.
    let position = node.stderr.position();
    site.install(N1, "counter", &test_actor("rogue")?)?;
    let words = [
        "stays with the old version, with its state",
        "the new version refused the state",
    ];
    let line = node.wait_log_since(position, PATIENCE, &words)?;
    assert!(line.contains("a rogue takes nothing over"), "{line}");
    assert_eq!(site.call(&node, "it", "add 1")?, "6");

    // And the next good one is taken.
    let position = node.stderr.position();
    site.install(N1, "counter", &with_custom_section(&whole, b"good"))?;
    node.wait_log_since(position, PATIENCE, &["moved to the new version"])?;
    node.wait_print("counter-c goes on at 6")?;
    assert_eq!(site.call(&node, "it", "get")?, "6");
    Ok(())
}
