//! How many instructions a send, a call, a spawn, and encoding and decoding a message take, as
//! callgrind counts them, against the numbers in `tests/instructions.toml`. Time says little on a
//! busy machine; these counts repeat.
//!
//! Each count is the difference of two runs, of [`FEW_ROUNDS`] and [`MANY_ROUNDS`], so that what
//! every run does once (deriving keys, compiling) is not in it. `WASM_NODE_INSTRUCTIONS=write`
//! rewrites the file. Without valgrind, or where the numbers cannot hold (another architecture or
//! profile, a program given by `WASM_NODE_BIN`), the reason is printed and nothing is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use wasm_node_tests::program::{actor, program, repository};

/// The variable that, with the value "write", has the file rewritten.
const VARIABLE: &str = "WASM_NODE_INSTRUCTIONS";
/// What is allowed either way: see the file's head.
const TOLERANCE_PERCENT: f64 = 5.0;
/// The rounds of the two runs whose difference counts. The first warms up what the others use.
const FEW_ROUNDS: u64 = 1;
const MANY_ROUNDS: u64 = 2;
/// Calls in a round of the program's benchmark. What differs between two runs at their start, some
/// 0.3 million instructions, is less than one percent of so many.
const MESSAGES: u64 = 30_000;
/// The benchmark makes a third as many actors.
const SPAWNS: u64 = MESSAGES / 3;
/// A round of `ring`: a thousand actors and the driver, a hundred times around. Sends are counted
/// there: in a flood of them, turns are so long under valgrind that the watchdog takes their lanes
/// at moments that no two runs share, and counts differ by half.
const HOPS: u64 = 1_001 * 100;
/// A round of the encoder is shorter, and so is its start: more of them.
const WIRE_ROUNDS: u64 = 20;

/// What the file begins with.
const HEAD: &str = "\
# Instructions an operation, as callgrind counts them: tests/tests/instructions.rs compares within
# 5 % and rewrites this file with
#   WASM_NODE_INSTRUCTIONS=write cargo test --workspace --test instructions
# send: a hop of `bench local --only ring`: a message sent, its receiver woken, the message taken;
#   with its share of making the ring, some 5 %. call, spawn: of `bench local`'s local_call, spawn.
#   All three are with what the actors do in wasm.
# encode, decode: a message on a link, from signal to frame and back, without encryption.
# Runs of the same program, on a busy machine, differed by less than 0.4 %; the rest of the tolerance
# is for what is not ours: libc's copying, the layout of code, the state of hash tables.
# Only for the profile, the target and, within the tolerance, the compiler below.
";

/// The file.
#[derive(Deserialize)]
struct Expected {
    profile: String,
    target: String,
    rustc: String,
    instructions: BTreeMap<String, f64>,
}

/// A path through the program that is counted.
struct Counted {
    name: &'static str,
    /// Without the number of rounds, which comes last.
    command: Vec<String>,
    /// How many rounds make one of ours, and how many operations one of ours has.
    rounds: u64,
    operations: u64,
}

#[test]
fn instructions_an_operation_stay_what_they_were() -> Result<()> {
    if let Some(reason) = not_here()? {
        eprintln!("instructions: nothing compared: {reason}");
        return Ok(());
    }
    let mut found = BTreeMap::new();
    for path in counted()? {
        let count = path.count()?;
        eprintln!("{} {count:.1} instructions", path.name);
        found.insert(path.name.to_owned(), count);
    }
    if writes() {
        return write(&found);
    }
    let expected = expected()?;
    let differences = expected.differences(&found);
    ensure!(
        differences.is_empty(),
        "instructions an operation are not within {TOLERANCE_PERCENT} % of {} (made by {}; this \
         is {}):\n{}\nIf that is intended, or a gain to keep, run\n  \
         {VARIABLE}=write cargo test --workspace --test instructions\nand commit the file.",
        file().display(),
        expected.rustc,
        rustc()?,
        differences.join("\n")
    );
    Ok(())
}

/// Why nothing can be compared here, if so.
fn not_here() -> Result<Option<String>> {
    if std::env::var_os("WASM_NODE_BIN").is_some() {
        return Ok(Some("WASM_NODE_BIN names a program of unknown make".into()));
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        return Ok(Some("no valgrind here: apt-get install valgrind".into()));
    }
    if writes() {
        return Ok(None);
    }
    let (expected, profile, target) = (expected()?, profile()?, target());
    let same = expected.profile == profile && expected.target == target;
    Ok((!same).then(|| {
        format!(
            "the numbers are those of profile {} on {}, this is {profile} on {target}",
            expected.profile, expected.target
        )
    }))
}

fn counted() -> Result<Vec<Counted>> {
    let local = |name, figure: &str, operations| -> Result<Counted> {
        let command = [
            text(program()?)?,
            "bench".into(),
            "local".into(),
            "--workers=1".into(),
            format!("--only={figure}"),
            format!("--messages={MESSAGES}"),
            format!("--module={}", text(&actor("bench")?)?),
            "--rounds".into(),
        ];
        Ok(Counted {
            name,
            command: command.into(),
            rounds: 1,
            operations,
        })
    };
    let wire = |name: &'static str| -> Result<Counted> {
        let program = env!("CARGO_BIN_EXE_wire-rounds");
        Ok(Counted {
            name,
            command: vec![program.into(), name.into()],
            rounds: WIRE_ROUNDS,
            operations: WIRE_ROUNDS * messages_a_round(program)?,
        })
    };
    Ok(vec![
        local("send", "ring", HOPS)?,
        local("call", "local_call", MESSAGES)?,
        local("spawn", "spawn", SPAWNS)?,
        wire("encode")?,
        wire("decode")?,
    ])
}

fn messages_a_round(program: &str) -> Result<u64> {
    let output = Command::new(program).args(["encode", "1"]).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let text = String::from_utf8(output.stdout)?;
    let number = text.trim().parse();
    number.with_context(|| format!("{program} printed {text:?}"))
}

impl Counted {
    /// Instructions an operation. Two runs at once: as many as the smallest of machines has cores.
    fn count(&self) -> Result<f64> {
        let (few, many) = std::thread::scope(|scope| {
            let few = scope.spawn(|| self.run(FEW_ROUNDS));
            let many = self.run(MANY_ROUNDS);
            (few.join(), many)
        });
        let few = few.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let more = many?.saturating_sub(few);
        Ok(more as f64 / (self.operations * (MANY_ROUNDS - FEW_ROUNDS)) as f64)
    }

    /// All instructions of a run.
    fn run(&self, rounds: u64) -> Result<u64> {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .args(&self.command)
            .arg((rounds * self.rounds).to_string())
            .output()
            .context("cannot run valgrind")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let run = || {
            format!(
                "{:?} under valgrind ({}):\n{said}",
                self.command, output.status
            )
        };
        ensure!(output.status.success(), "{}", run());
        let count = said
            .lines()
            .find_map(|line| line.split_once("Collected : "));
        let (_, count) = count.with_context(run)?;
        count.trim().parse().with_context(run)
    }
}

impl Expected {
    /// A line for each count that is missing, superfluous or beyond the tolerance.
    fn differences(&self, found: &BTreeMap<String, f64>) -> Vec<String> {
        let names: BTreeSet<_> = self.instructions.keys().chain(found.keys()).collect();
        let compare = |name: &String| match (self.instructions.get(name), found.get(name)) {
            (Some(expected), Some(found)) => {
                let change = (found / expected - 1.0) * 100.0;
                (change.abs() > TOLERANCE_PERCENT)
                    .then(|| format!("  {name}: {found:.1}, not {expected:.1} ({change:+.1} %)"))
            }
            (Some(_), None) => Some(format!("  {name}: in the file, but not counted any more")),
            (None, _) => Some(format!("  {name}: counted, but not in the file")),
        };
        names.into_iter().filter_map(compare).collect()
    }
}

fn writes() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == "write")
}

fn file() -> PathBuf {
    repository().join("tests/instructions.toml")
}

fn expected() -> Result<Expected> {
    let file = file();
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}; {VARIABLE}=write makes it", file.display()))?;
    toml::from_str(&text).with_context(|| format!("in {}", file.display()))
}

fn write(found: &BTreeMap<String, f64>) -> Result<()> {
    let mut text = format!(
        "{HEAD}\nprofile = {:?}\ntarget = {:?}\nrustc = {:?}\n\n[instructions]\n",
        profile()?,
        target(),
        rustc()?
    );
    for (name, count) in found {
        writeln!(text, "{name} = {count:.1}")?;
    }
    let file = file();
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The folder in `target` that the running test is in: `debug` or its like.
fn profile() -> Result<String> {
    let exe = std::env::current_exe()?;
    let folder = exe.ancestors().nth(2).and_then(Path::file_name);
    let folder = folder.context("the running test is in no folder of cargo's")?;
    Ok(folder.to_string_lossy().into_owned())
}

fn target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

fn rustc() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("--version")
        .current_dir(repository())
        .output()
        .context("cannot run rustc")?;
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(String::from);
    text.with_context(|| format!("{} is not UTF-8", path.display()))
}

#[test]
fn counts_beyond_the_tolerance_are_told() {
    let counts = |pairs: &[(&str, f64)]| -> BTreeMap<_, _> {
        pairs
            .iter()
            .map(|(name, n)| (name.to_string(), *n))
            .collect()
    };
    let expected = Expected {
        profile: String::new(),
        target: String::new(),
        rustc: String::new(),
        instructions: counts(&[("call", 1000.0), ("send", 1000.0), ("gone", 1.0)]),
    };
    let told = expected.differences(&counts(&[("call", 1049.0), ("send", 940.0), ("new", 1.0)]));
    let expected = [
        "  gone: in the file, but not counted any more",
        "  new: counted, but not in the file",
        "  send: 940.0, not 1000.0 (-6.0 %)",
    ];
    assert_eq!(told, expected);
}
