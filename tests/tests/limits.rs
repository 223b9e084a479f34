//! What actors may use, per spawn and per module, on this node and on another; what they have used;
//! and their neighbours, who do not notice.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wasm_node_tests::node::{Node, Site, component, eventually, test_actor};

const N1: &str = "n1@127.0.0.1";
const N2: &str = "n2@127.0.0.1";

fn with_rogues(site: &Site) -> Result<Node> {
    for rogue in ["rogue", "rogue-wasi"] {
        site.install(N1, rogue, &test_actor(rogue)?)?;
    }
    site.install(N1, "counter-c", &component("examples/counter-c")?)?;
    let node = site.start("n1", &[])?;
    site.spawn(&node, "counter-c", "0", &["--local-name", "neighbour"])?;
    Ok(node)
}

#[test]
fn limits_of_a_spawn_end_it_with_their_name_here_and_there() -> Result<()> {
    let site = Site::new()?;
    let n1 = with_rogues(&site)?;
    let n2 = site.start("n2", &["--connect", N1])?;
    n1.wait_up(N2)?;
    let cases = [
        (
            "rogue",
            "spin",
            "turn-cpu-ms=40",
            "limit: cpu: a turn computed for more than 40 ms",
        ),
        (
            "rogue-wasi",
            "spin",
            "turn-cpu-ms=40",
            "limit: cpu: a turn computed for more than 40 ms",
        ),
        (
            "rogue",
            "fill",
            "cpu-ms=150",
            "limit: cpu: it computed for more than 150 ms in all",
        ),
        ("rogue", "grow", "memory-bytes=8388608", "8388608 allowed"),
    ];
    let mut count = 0;
    for (module, how, limit, reason) in cases {
        for (on, node) in [(N1, &n1), (N2, &n2)] {
            site.spawn(&n1, module, how, &["--on", on, "--limit", limit])?;
            let ended = ["actor ended", reason];
            eventually(reason, || Ok(node.count_log(&ended) > 0))
                .with_context(|| format!("{module} {how} with {limit} on {on}"))?;
            count += 1;
            assert_eq!(site.call(&n1, "neighbour", "add 1")?, count.to_string());
        }
    }
    // What a module needs to begin with may be more than a spawn allows.
    let said = site.fails(
        1,
        &["spawn", N1, "counter-c", "--limit", "memory-bytes=4096"],
    )?;
    assert!(said.contains("limit: memory: "), "{said}");
    assert!(said.contains("4096 allowed"), "{said}");
    for limit in ["cpu-ms=0", "cpu-ms", "speed=1", "turn-cpu-ms=9999999999"] {
        site.fails(2, &["spawn", N1, "counter-c", "--limit", limit])?;
    }
    Ok(())
}

#[test]
fn a_mailbox_and_a_message_are_as_large_as_allowed() -> Result<()> {
    let site = Site::new()?;
    let n1 = with_rogues(&site)?;
    let limits = ["--local-name", "victim", "--limit", "mailbox-messages=500"];
    site.spawn(&n1, "rogue", "spin", &limits)?;
    let flooder = site.spawn(&n1, "rogue", "flood victim", &[])?;
    n1.wait_log(&["actor ended", "limit: mailbox: more than 500 messages"])?;
    site.ok(&["exit", N1, &flooder, "--reason", "kill"])?;
    // A message that is too large does not reach the actor, and does not end it.
    let limits = ["--local-name", "small", "--limit", "message-bytes=20"];
    site.spawn(&n1, "counter-c", "7", &limits)?;
    let said = site.fails(1, &["call", N1, "small", "a request of more than 20 bytes"])?;
    assert!(said.contains("too large"), "{said}");
    assert_eq!(site.call(&n1, "small", "add 1")?, "8");
    Ok(())
}

#[test]
fn a_module_s_limits_hold_and_a_spawn_only_lowers_them() -> Result<()> {
    let site = Site::new()?;
    let file = test_actor("rogue")?;
    for module in ["brief", "tiny"] {
        site.install(N1, module, &file)?;
    }
    let modules = site.modules(N1)?;
    let manifest = site.path("limits.toml");
    let path = |module: &str| modules.join(format!("{module}.wasm"));
    let text = format!(
        "[app]\nname = \"limits\"\n\
         [modules.brief]\nfile = {:?}\nturn_cpu_limit_ms = 50\n\
         [modules.tiny]\nfile = {:?}\nmessage_limit = \"16\"\n",
        path("brief"),
        path("tiny"),
    );
    std::fs::write(&manifest, text)?;
    let n1 = site.start("n1", &["--app", &manifest.to_string_lossy()])?;
    site.spawn(&n1, "brief", "spin", &["--limit", "turn-cpu-ms=5000"])?;
    n1.wait_log(&["actor ended", "a turn computed for more than 50 ms"])?;
    site.spawn(&n1, "brief", "spin", &["--limit", "turn-cpu-ms=20"])?;
    n1.wait_log(&["actor ended", "a turn computed for more than 20 ms"])?;
    site.spawn(&n1, "tiny", "echo", &["--local-name", "tiny"])?;
    let said = site.fails(1, &["call", N1, "tiny", "far more than sixteen bytes"])?;
    assert!(said.contains("too large"), "{said}");
    Ok(())
}

#[test]
fn ps_tells_who_computes_and_who_is_large() -> Result<()> {
    let site = Site::new()?;
    let n1 = with_rogues(&site)?;
    let spinner = site.spawn(&n1, "rogue", "spin", &[])?;
    let filler = site.spawn(&n1, "rogue", "fill", &[])?;
    for _ in 0..10 {
        site.call(&n1, "neighbour", "add 1")?;
    }
    let first = |sort: &str| -> Result<Value> {
        let listed = site.ask(&["ps", N1, "--sort", sort])?;
        let rows = listed.get("processes").and_then(Value::as_array);
        let row = rows.and_then(|rows| rows.first()).context("no actors")?;
        Ok(row.clone())
    };
    let number = |row: &Value, key: &str| row.get(key).and_then(Value::as_u64);
    eventually("rogues are charged for what they compute", || {
        let row = first("cpu")?;
        let rogue =
            [&spinner, &filler].map(|pid| Some(&Value::from(pid.as_str())) == row.get("pid"));
        Ok(rogue.contains(&true) && number(&row, "cpu_us") > Some(100_000))
    })?;
    let listed = site.ask(&["ps", N1])?;
    let rows = listed.get("processes").and_then(Value::as_array);
    let row = |pid: &str| {
        let rows = rows.context("no list")?;
        let found = rows.iter().find(|row| row.get("pid") == Some(&pid.into()));
        found.context("it is gone")
    };
    assert_eq!(row(&spinner)?.get("status"), Some(&"running".into()));
    let neighbour = rows
        .context("no list")?
        .iter()
        .find(|row| row.get("name") == Some(&"neighbour".into()))
        .context("no neighbour")?;
    ensure!(number(neighbour, "cpu_us") < number(row(&spinner)?, "cpu_us"));
    assert_eq!(neighbour.get("status"), Some(&"waiting".into()));
    ensure!(number(neighbour, "messages_in") >= Some(10), "{neighbour}");
    ensure!(number(neighbour, "messages_out") >= Some(10), "{neighbour}");
    ensure!(
        number(neighbour, "memory_bytes") >= Some(64 << 10),
        "{neighbour}"
    );
    ensure!(number(neighbour, "turns") >= Some(10), "{neighbour}");
    for pid in [&spinner, &filler] {
        site.ok(&["exit", N1, pid, "--reason", "kill"])?;
    }
    Ok(())
}
