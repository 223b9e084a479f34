//! The command line as people and scripts meet it: help, JSON, exit codes, errors that help.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wasm_node_tests::node::{Site, component};
use wasm_node_tests::program::repository;

const N1: &str = "n1@127.0.0.1";

#[test]
fn help_names_every_command() -> Result<()> {
    let site = Site::new()?;
    let help = site.ok(&["--help"])?;
    let expected = "\
A node of a cluster of actors that are WebAssembly components

Usage: wasm-node [OPTIONS] <COMMAND>

Commands:
  start       Start a node in the foreground
  up          Run an app on a cluster of nodes on this machine, until Ctrl-C
  build       Build an actor's source folder into a component, and print the component's path
  names       List the nodes on this machine that the port mapper knows, with their ports
  shell       Talk with a node: commands without naming it; shows what the actors print that are started here
  info        Show what a node says about itself
  nodes       List the nodes that a node is connected to
  ps          List the actors of a node
  dump        Write down what a node is made of, as JSON: itself, its modules, its names, all of its actors
  modules     List the modules of a node: the digests of their versions, and what they are granted
  spawn       Start an actor on a node, and print its pid
  call        Call an actor with a text, and print its reply
  status      Show what a server written with the Rust SDK says of its state (its format_status)
  whereis     Print the pid of the actor that has a name, as a node knows it; without a name, all global names with their holders
  exit        Send an actor an exit signal, as Erlang's exit/2
  connect     Connect a node to another, and so to all that one knows
  disconnect  Cut a node's connection to another, and to no third; they stay apart until one names the other
  ping        Let a node connect to another and wait for its answer, as Erlang's net_adm:ping/1
  cookie      Show the fingerprints of a node's cookies, or set one for handshakes from now on
  stop        Stop a node: its app first, then its links; returns when it has left the cluster
  bench       Measure what actors cost, one line NAME VALUE UNIT a figure";
    assert!(help.starts_with(expected), "{help}");

    // Each command's own help says how it is used, and what its options mean.
    let commands = [
        (
            "start",
            "wasm-node start [OPTIONS] <--name <NAME>|--sname <NAME>>",
            "--listen-min <PORT>",
        ),
        ("up", "wasm-node up [OPTIONS] <APP>", "--nodes <N>"),
        ("build", "wasm-node build [OPTIONS] <DIR>", "--out <FILE>"),
        ("names", "wasm-node names [OPTIONS]", "--json"),
        ("nodes", "wasm-node nodes [OPTIONS] <NODE>", "--hidden"),
        (
            "ps",
            "wasm-node ps [OPTIONS] <NODE>",
            "--cookie-file <FILE>",
        ),
        (
            "spawn",
            "wasm-node spawn [OPTIONS] <NODE> <MODULE>",
            "--on <NODE>",
        ),
        (
            "call",
            "wasm-node call [OPTIONS] <NODE> <NAME|PID> <TEXT>",
            "--timeout <MS>",
        ),
        (
            "exit",
            "wasm-node exit [OPTIONS] <NODE> <NAME|PID>",
            "--reason <TEXT>",
        ),
        (
            "disconnect",
            "wasm-node disconnect [OPTIONS] <NODE> <OTHER>",
            "--address <HOST:PORT>",
        ),
        ("ping", "wasm-node ping [OPTIONS] <NODE> <OTHER>", "--json"),
        (
            "cookie",
            "wasm-node cookie [OPTIONS] <NODE>",
            "--set-file <FILE>",
        ),
        (
            "stop",
            "wasm-node stop [OPTIONS] <NODE>",
            "--address <HOST:PORT>",
        ),
    ];
    for (command, usage, option) in commands {
        let help = site.ok(&[command, "--help"])?;
        assert!(help.contains(&format!("Usage: {usage}\n")), "{help}");
        assert!(help.contains(option), "{help}");
    }
    let version = site.ok(&["--version"])?;
    assert!(version.starts_with("wasm-node 0."), "{version}");
    Ok(())
}

#[test]
fn what_is_asked_wrongly_fails_with_two_and_says_what_to_write() -> Result<()> {
    let site = Site::new()?;
    let cases: &[(&[&str], &str)] = &[
        (&["dance"], "unrecognized subcommand 'dance'"),
        (&["start"], "--sname <NAME>"),
        (
            &["start", "--name", "a", "--sname", "b"],
            "cannot be used with",
        ),
        (&["start", "--name", "a b@127.0.0.1"], "node name"),
        (
            &["start", "--name", "a", "--tick-time", "1"],
            "200..=3600000",
        ),
        (
            &["start", "--name", "a", "--http", "127.0.0.1:0"],
            "--http needs --app",
        ),
        (&["start", "--name", "a", "--log", "=="], "is no log filter"),
        (&["nodes", "n1"], "write NAME@HOST, as in node1@127.0.0.1"),
        (&["nodes", N1, "--address", "here"], "write HOST:PORT"),
        (
            &["call", N1, "<0.1>", "x"],
            "write it as `wasm-node ps` does",
        ),
        (&["call", N1, "global:", "x"], "global:NAME"),
        (
            &[
                "call",
                N1,
                "name",
                "xyz",
                "--hex",
                "--address",
                "127.0.0.1:9",
            ],
            "is no hex",
        ),
        (&["up", "app.toml", "--nodes", "0"], "--nodes"),
    ];
    for (args, words) in cases {
        let said = site.fails(2, args)?;
        assert!(said.contains(words), "{args:?}: {said}");
    }
    Ok(())
}

#[test]
fn what_fails_ends_with_one_and_says_what_to_do() -> Result<()> {
    let site = Site::new()?;
    let said = site.fails(1, &["names"])?;
    assert!(said.contains("port mapper"), "{said}");
    let said = site.fails(1, &["ps", N1])?;
    assert!(said.contains("cannot connect to n1@127.0.0.1"), "{said}");
    let said = site.fails(1, &["up", "nothing.toml"])?;
    assert!(said.contains("nothing.toml"), "{said}");
    std::fs::create_dir(site.path("empty"))?;
    let said = site.fails(1, &["build", "empty"])?;
    assert!(
        said.contains("has nothing to build: expected a Cargo.toml"),
        "{said}"
    );

    site.install(N1, "counter-c", &component("examples/counter-c")?)?;
    let n1 = site.start("n1", &[])?;
    let said = site.fails(1, &["ps", "n9@127.0.0.1"])?;
    assert!(
        said.contains("knows no node \"n9\"") && said.contains("wasm-node names"),
        "{said}"
    );
    let said = site.fails(1, &["spawn", N1, "nothing"])?;
    assert!(
        said.contains("no module \"nothing\" on this node: put nothing.wasm"),
        "{said}"
    );
    let said = site.fails(1, &["spawn", N1, "counter-c", "--on", "n9@127.0.0.1"])?;
    assert!(
        said.contains("could not spawn counter-c on n9@127.0.0.1: noconnection"),
        "{said}"
    );
    for nobody in ["nobody", "global:nobody", "<0.77.0>"] {
        let said = site.fails(1, &["call", N1, nobody, "x"])?;
        assert!(
            said.contains(&format!("called {nobody} on {N1}, got no reply: noproc")),
            "{said}"
        );
        let said = site.fails(1, &["whereis", N1, nobody])?;
        assert!(
            said.contains(&format!("there is no {nobody} on {N1}")),
            "{said}"
        );
        let said = site.fails(1, &["exit", N1, nobody])?;
        assert!(
            said.contains("`wasm-node ps n1@127.0.0.1` lists its actors"),
            "{said}"
        );
    }
    site.spawn(&n1, "counter-c", "", &["--local-name", "it"])?;
    let said = site.fails(1, &["spawn", N1, "counter-c", "--local-name", "it"])?;
    assert!(said.contains("the name is taken"), "{said}");
    let said = site.fails(1, &["spawn", N1, "counter-c", "--args", "many"])?;
    assert!(
        said.contains("init failed: error: the arguments are no count: many"),
        "{said}"
    );
    let said = site.fails(1, &["connect", N1, "n9@127.0.0.1"])?;
    assert!(
        said.contains("n1@127.0.0.1 refused") && said.contains("n9"),
        "{said}"
    );
    Ok(())
}

#[test]
fn json_is_one_line_with_what_the_text_has() -> Result<()> {
    let site = Site::new()?;
    site.install(N1, "counter-c", &component("examples/counter-c")?)?;
    let n1 = site.start("n1", &[])?;
    let ready = n1.wait_ready()?;
    assert_eq!(ready.get("name"), Some(&json!(N1)));
    assert_eq!(ready.get("os_pid"), Some(&json!(n1.os_pid())));
    let at = n1.listens()?;

    let spawned = site.ask(&[
        "spawn",
        N1,
        "counter-c",
        "--args",
        "5",
        "--local-name",
        "it",
    ])?;
    let pid = spawned
        .get("pid")
        .and_then(Value::as_str)
        .context("no pid")?;
    let id = spawned.get("id").and_then(Value::as_str).context("no id")?;
    ensure!(pid.starts_with("<0.") && id.len() == 32, "{spawned}");
    assert_eq!(site.ask(&["whereis", N1, "it"])?, spawned);
    assert_eq!(site.ok(&["whereis", N1, "it"])?, pid);

    assert_eq!(
        site.ask(&["call", N1, "it", "add 2"])?,
        json!({ "reply": "7" })
    );
    assert_eq!(site.ok(&["call", N1, "it", "676574", "--hex"])?, "7");
    let mut ps = site.ask(&["ps", N1])?;
    let row = ps["processes"][0].as_object_mut().context("no row")?;
    let figure = |row: &mut serde_json::Map<String, Value>, key: &str| {
        let figure = row.remove(key);
        figure
            .as_ref()
            .and_then(Value::as_u64)
            .context(key.to_owned())
    };
    // A page of its own at least, what was spawned and asked, three answers of `call` and `spawn`.
    ensure!(figure(row, "memory_bytes")? >= 65_536, "{row:?}");
    ensure!(figure(row, "turns")? >= 3, "{row:?}");
    for counted in ["cpu_us", "messages_in", "messages_out"] {
        figure(row, counted)?;
    }
    assert_eq!(
        ps,
        json!({
            "processes": [{
                "pid": pid, "module": "counter-c", "name": "it",
                "mailbox": 0, "status": "waiting", "links": 0,
            }],
            "total": 1,
        })
    );
    let ps = site.ok(&["ps", N1, "--sort", "turns"])?;
    let words: Vec<Vec<&str>> = ps.lines().map(|l| l.split_whitespace().collect()).collect();
    let columns = "PID MODULE NAME MAILBOX STATUS CPU_MS MEM_KIB TURNS";
    assert_eq!(words[0].join(" "), columns);
    assert_eq!(words[1][..5], [pid, "counter-c", "it", "0", "waiting"]);
    assert_eq!((words.len(), words[1].len()), (2, 8));

    let modules = site.ask(&["modules", N1])?;
    assert_eq!(
        modules.pointer("/modules/0/name"),
        Some(&json!("counter-c"))
    );
    assert_eq!(modules.pointer("/modules/0/actors"), Some(&json!(1)));
    assert_eq!(modules.pointer("/modules/0/capabilities"), Some(&json!([])));
    let imports = modules.pointer("/modules/0/imports");
    let imports = imports.and_then(|all| all.as_array()).context("none")?;
    assert!(imports.contains(&json!("wasm-node:actor/mailbox@0.1.0")));
    let info = site.ask(&["info", N1])?;
    assert_eq!(info.get("listen"), Some(&json!(at)));
    assert_eq!(info.get("processes"), Some(&json!(1)));
    assert_eq!(info.get("kind"), Some(&json!("visible")));
    assert_eq!(site.ask(&["nodes", N1])?, json!({ "nodes": [] }));
    let port: u16 = at.rsplit(':').next().context("no port")?.parse()?;
    assert_eq!(
        site.ask(&["names"])?,
        json!({ "names": [{ "name": "n1", "port": port }] })
    );
    assert_eq!(site.ok(&["names"])?, format!("name n1 at port {port}"));

    let folder = repository().join("actors/examples/counter-c");
    let folder = folder.to_string_lossy();
    let out = site.path("built.wasm");
    let built = site.ask(&["build", &folder, "--out", &out.to_string_lossy()])?;
    assert_eq!(built.get("module"), Some(&json!("counter-c")));
    assert_eq!(built.get("digest"), modules.pointer("/modules/0/digest"));
    ensure!(out.is_file(), "{built}");
    Ok(())
}

#[test]
fn data_goes_to_standard_output_and_talk_to_standard_error() -> Result<()> {
    let site = Site::new()?;
    let _n1 = site.start("n1", &[])?;
    let ran = site.run(["nodes", N1])?;
    assert_eq!(
        (ran.status.code(), ran.stdout.as_str(), ran.stderr.as_str()),
        (Some(0), "", "")
    );
    let ran = site.run(["stop", N1])?;
    assert_eq!((ran.status.code(), ran.stdout.as_str()), (Some(0), ""));
    assert_eq!(ran.stderr, "n1@127.0.0.1 has stopped");
    Ok(())
}
