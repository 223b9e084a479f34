//! What OTP documents, on real nodes: the table in `tests/conformance`, each case on one node and,
//! where it applies, on two. Where an Erlang is installed, a script plays the same table there, so
//! that what is expected here is known to be true.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use wasm_node_tests::conformance::{Subject, failures, folder, request};
use wasm_node_tests::node::{Site, component, test_actor};
use wasm_node_tests::process::{Log, Process};

const N1: &str = "n1@127.0.0.1";
const N2: &str = "n2@127.0.0.1";
/// How many cases run at once: most of them wait most of the time.
const MAX_RUNNING: usize = 24;
/// Within this a suite has answered.
const SUITE_TIMEOUT_MS: &str = "120000";
/// Within this Erlang has played the whole table.
const ERLANG_TIMEOUT: Duration = Duration::from_secs(240);
/// The table may grow, and not shrink.
const MIN_CASES: usize = 150;

/// One test a file of cases, and the list of them all.
macro_rules! subjects {
    ($($name:ident)*) => {
        const SUBJECTS: &[&str] = &[$(stringify!($name)),*];
        $(#[test]
        fn $name() -> Result<()> {
            play(stringify!($name))
        })*
    };
}

subjects! {
    aliases
    connections
    exit_signals
    gen_server
    gen_statem
    groups
    links
    messages
    monitors
    names
    spawn
    supervisor
    timers
}

fn read(name: &str) -> Result<Subject> {
    Subject::read(&folder().join(format!("{name}.toml")))
}

fn play(name: &str) -> Result<()> {
    let subject = read(name)?;
    let site = Site::new()?;
    let (actors, supervisor) = (test_actor("conformance")?, component("supervisor")?);
    for node in [N1, N2] {
        site.install(node, "conformance", &actors)?;
        site.install(node, "supervisor", &supervisor)?;
    }
    let n1 = site.start("n1", &[])?;
    let n2 = site.start("n2", &["--connect", N1])?;
    n1.wait_up(N2)?;
    n2.wait_up(N1)?;
    let suite = site.spawn(&n1, "conformance", &format!("suite {N2}"), &[])?;
    let runs = subject.runs();
    let most = if subject.serial { 1 } else { MAX_RUNNING };
    let begun = Instant::now();
    let asked = request(&runs, most)?;
    let answer = site.ok(&["call", N1, &suite, &asked, "--timeout", SUITE_TIMEOUT_MS])?;
    let took = begun.elapsed().as_millis();
    let failed = failures(&runs, &answer)?;
    let cases = subject.cases.len();
    let differ = subject.cases.iter().filter(|case| case.differs.is_some());
    println!(
        "{}: {cases} cases, {} runs in {took} ms, {} differ from Erlang",
        subject.subject,
        runs.len(),
        differ.count()
    );
    // What the nodes log of actors that end is no help here.
    ensure!(
        failed.is_empty(),
        "{name}.toml: {} of {} runs failed:\n{}",
        failed.len(),
        runs.len(),
        failed.join("\n")
    );
    Ok(())
}

#[test]
fn the_table_is_whole() -> Result<()> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let stem = path.file_stem().context("no name")?;
            files.push(stem.to_string_lossy().into_owned());
        }
    }
    files.sort();
    ensure!(
        files == SUBJECTS,
        "{files:?} are there, {SUBJECTS:?} are run"
    );
    let (mut cases, mut runs) = (0, 0);
    let (mut differ, mut pending) = (Vec::new(), Vec::new());
    for name in SUBJECTS {
        let subject = read(name)?;
        cases += subject.cases.len();
        runs += subject.runs().len();
        for case in &subject.cases {
            if let Some(why) = &case.differs {
                differ.push(format!("{name}: {}: {why}", case.name));
            }
            if let Some(why) = &case.pending {
                pending.push(format!("{name}: {}: {why}", case.name));
            }
        }
    }
    println!(
        "{cases} cases, {runs} runs; {} differ from Erlang:\n{}\n{} are pending:\n{}",
        differ.len(),
        differ.join("\n"),
        pending.len(),
        pending.join("\n")
    );
    let played = cases - pending.len();
    ensure!(played >= MIN_CASES, "only {played} cases are played");
    Ok(())
}

#[test]
fn erlang_does_the_same() -> Result<()> {
    for program in ["erl", "escript", "epmd"] {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output()
            .context("cannot run sh")?;
        if !found.status.success() {
            println!(
                "skipped: there is no `{program}`, so the table's expectations are not checked \
                 against Erlang; `apt-get install erlang` or https://www.erlang.org/downloads \
                 brings it"
            );
            return Ok(());
        }
    }
    let log = Log::default();
    let mut command = Command::new("escript");
    command.arg(folder().join("run_erlang.escript"));
    let mut erlang = Process::start(command, &log)?;
    let status = erlang.wait(ERLANG_TIMEOUT)?;
    let said = erlang.stdout.all()?.join("\n");
    println!("{said}");
    if !status.success() {
        bail!(
            "Erlang does not do what the table says:\n{said}\n{}",
            log.tail()
        );
    }
    Ok(())
}
