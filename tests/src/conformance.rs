//! The table of cases in `tests/conformance`: what a file says, and what it must not say. Its
//! README tells what the steps mean; what they do is known to those that run them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::program::repository;

/// Where the table is.
pub fn folder() -> PathBuf {
    repository().join("tests/conformance")
}

/// One file: the cases of a subject.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// What it is about.
    pub subject: String,
    /// Whether its cases disturb each other, so that only one may run at a time.
    #[serde(default)]
    pub serial: bool,
    /// The cases.
    #[serde(rename = "case")]
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What must hold, in words joined by `_`.
    pub name: String,
    /// Where OTP documents it.
    pub otp: String,
    /// On which nodes it runs.
    #[serde(rename = "where")]
    pub places: Places,
    /// Why wasm-node differs from Erlang here, if it does.
    pub differs: Option<String>,
    /// What wasm-node lacks for it, if it does: Erlang plays it, and nobody here.
    pub pending: Option<String>,
    /// The steps.
    pub script: String,
}

/// On which nodes a case runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Places {
    /// All on one.
    Here,
    /// On two.
    Apart,
    /// Once so and once so.
    Both,
}

/// One step, with what has to come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Counted from 1, within the script.
    pub line: usize,
    /// What is done.
    pub words: String,
    /// What comes of it in Erlang.
    pub erlang: String,
    /// What comes of it here, if that is something else.
    pub ours: Option<String>,
}

/// A case, on one node or on two.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The case.
    pub case: &'a Case,
    /// Whether its processes whose names begin with `b` are on the other node.
    pub apart: bool,
}

impl Subject {
    /// Reads a file and checks that its cases are well formed.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let subject: Self = toml::from_str(&text).with_context(|| format!("{}", file.display()))?;
        let mut names = BTreeSet::new();
        for case in &subject.cases {
            ensure!(
                names.insert(&case.name),
                "{}: two cases are named {}",
                file.display(),
                case.name
            );
            case.check()
                .with_context(|| format!("{}: {}", file.display(), case.name))?;
        }
        Ok(subject)
    }

    /// All runs of all cases that are not pending.
    pub fn runs(&self) -> Vec<Run<'_>> {
        let runs = |case: &'_ Case| match case.places {
            Places::Here => vec![false],
            Places::Apart => vec![true],
            Places::Both => vec![false, true],
        };
        let cases = self.cases.iter().filter(|case| case.pending.is_none());
        let all = cases.flat_map(|case| {
            let runs = runs(case).into_iter();
            runs.map(move |apart| Run { case, apart })
        });
        all.collect()
    }
}

impl Case {
    /// The steps, in order.
    pub fn steps(&self) -> Result<Vec<Step>> {
        let mut steps: Vec<Step> = Vec::new();
        for (at, line) in self.script.lines().enumerate() {
            let text = line.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (words, wanted) = match text.split_once("=>") {
                Some((words, wanted)) => (words.trim(), wanted.trim()),
                None => (text, "ok"),
            };
            ensure!(
                !wanted.is_empty(),
                "line {} of the script expects nothing: {text}",
                at + 1
            );
            match (words, steps.last_mut()) {
                ("ours", Some(step)) => step.ours = Some(wanted.into()),
                ("ours" | "", _) => bail!("line {} of the script has no step: {text}", at + 1),
                _ => steps.push(Step {
                    line: at + 1,
                    words: words.split_whitespace().collect::<Vec<_>>().join(" "),
                    erlang: wanted.into(),
                    ours: None,
                }),
            }
        }
        Ok(steps)
    }

    fn check(&self) -> Result<()> {
        ensure!(
            !self.otp.is_empty() && !self.name.contains(' '),
            "the name has spaces, or OTP's document is not named"
        );
        let steps = self.steps()?;
        ensure!(!steps.is_empty(), "it has no steps");
        let differs = steps.iter().any(|step| step.ours.is_some());
        ensure!(
            differs == self.differs.is_some(),
            "`ours =>` in a script and `differs`, which says why, go together"
        );
        Ok(())
    }
}

/// What a suite (`tests/actors/conformance`) is called with, to run these.
pub fn request(runs: &[Run<'_>], most: usize) -> Result<String> {
    let mut text = format!("most {most}\n");
    for (id, run) in runs.iter().enumerate() {
        let place = if run.apart { "apart" } else { "here" };
        let _ = writeln!(text, "run {id} {place} {}", run.case.name);
        for step in run.case.steps()? {
            let _ = writeln!(text, "{} {}", step.line, step.words);
        }
    }
    Ok(text)
}

/// Compares what a suite answered with what had to come: a text for each run that failed.
pub fn failures(runs: &[Run<'_>], answer: &str) -> Result<Vec<String>> {
    let mut came: BTreeMap<usize, BTreeMap<usize, &str>> = BTreeMap::new();
    let mut current = None;
    for line in answer.lines() {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (first, current) {
            ("run", _) => current = Some(rest.parse().context("no number of a run")?),
            (number, Some(run)) => {
                let number = number
                    .parse()
                    .with_context(|| format!("the suite answered {line:?}"))?;
                came.entry(run).or_default().insert(number, rest);
            }
            _ => bail!("the suite answered {answer}"),
        }
    }
    let mut failures = Vec::new();
    for (id, run) in runs.iter().enumerate() {
        let lines = came.remove(&id).unwrap_or_default();
        let mut wrong = String::new();
        if let Some(error) = lines.get(&0) {
            let _ = writeln!(wrong, "    {error}");
        }
        for step in run.case.steps()? {
            let wanted = step.ours.as_ref().unwrap_or(&step.erlang);
            let got = lines.get(&step.line).copied().unwrap_or("no answer");
            // Erlang leaves open what comes of it.
            if got != wanted && wanted != "*" {
                let _ = writeln!(
                    wrong,
                    "    line {}: {}\n      expected {wanted}\n      got      {got}",
                    step.line, step.words
                );
            }
        }
        if !wrong.is_empty() {
            let place = if run.apart {
                "on two nodes"
            } else {
                "on one node"
            };
            failures.push(format!(
                "  {} ({place}; {})\n{wrong}",
                run.case.name, run.case.otp
            ));
        }
    }
    Ok(failures)
}
