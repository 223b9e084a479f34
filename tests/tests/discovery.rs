//! Process groups, remote calls and consistent hashing between real nodes, used by the actor in
//! `tests/actors/discovery`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wasm_node_tests::node::{Node, Site, eventually, test_actor};
use wasm_node_tests::process::wait_stopped;

const N1: &str = "n1@127.0.0.1";
const N2: &str = "n2@127.0.0.1";
const N3: &str = "n3@127.0.0.1";
/// The name of the actor on each node.
const ACTOR: &str = "d";
/// How much later than its time-out an answer may come on a machine that does other things too.
const GRACE_MS: u64 = 4_000;

struct Nodes {
    site: Site,
    nodes: Vec<Node>,
}

impl Nodes {
    /// So many nodes, all connected, each with the module and its actor.
    fn start(count: usize, args: &[&str]) -> Result<Self> {
        let mut all = Self {
            site: Site::new()?,
            nodes: Vec::new(),
        };
        for number in 1..=count {
            let node = all.start_one(number, args)?;
            all.nodes.push(node);
        }
        for node in &all.nodes {
            for other in &all.nodes {
                if node.name() != other.name() {
                    node.wait_up(other.name())?;
                }
            }
        }
        Ok(all)
    }

    fn start_one(&self, number: usize, args: &[&str]) -> Result<Node> {
        let name = format!("n{number}");
        let full = format!("{name}@127.0.0.1");
        self.site
            .install(&full, "discovery", &test_actor("discovery")?)?;
        let connect = if number == 1 {
            vec![]
        } else {
            vec!["--connect", N1]
        };
        let node = self.site.start(&name, &[&connect, args].concat())?;
        self.site
            .spawn(&node, "discovery", "", &["--local-name", ACTOR])
            .with_context(|| format!("on {full}"))?;
        Ok(node)
    }

    /// What the actor on a node answers; nodes count from 1.
    fn ask(&self, number: usize, text: &str) -> Result<String> {
        let name = self.nodes[number - 1].name();
        self.site
            .ok(&["call", name, ACTOR, text, "--timeout", "60000"])
    }

    fn says(&self, number: usize, text: &str, answer: &str) -> Result<()> {
        let said = self.ask(number, text)?;
        ensure!(
            said == answer,
            "n{number} answered {text:?} with {said:?}, not {answer:?}"
        );
        Ok(())
    }

    fn comes_to_say(&self, number: usize, text: &str, answer: &str) -> Result<()> {
        let mut last = String::new();
        let what = format!("n{number}: {text:?} -> {answer:?}");
        eventually(&what, || {
            last = self.ask(number, text)?;
            Ok(last == answer)
        })
        .with_context(|| format!("it says {last:?}"))
    }

    /// Waits until the actor has heard all of this, in this order, and nothing else.
    fn hears(&self, number: usize, expected: &[&str]) -> Result<()> {
        let mut heard: Vec<String> = Vec::new();
        let waited = eventually("it hears all", || {
            let more = self.ask(number, "heard")?;
            heard.extend(
                more.split("; ")
                    .filter(|one| !one.is_empty())
                    .map(Into::into),
            );
            Ok(heard.len() >= expected.len())
        });
        ensure!(
            heard == expected,
            "n{number} heard {heard:?}, not {expected:?} ({waited:?})"
        );
        Ok(())
    }

    /// A remote call's answer, and the milliseconds that it took.
    fn rpc(&self, number: usize, text: &str) -> Result<(String, u64)> {
        let said = self.ask(number, &format!("rpc {text}"))?;
        let (took, answer) = said.split_once(' ').context("no time")?;
        Ok((answer.into(), took.parse().context("no time")?))
    }

    fn rpc_says(&self, number: usize, text: &str, answer: &str) -> Result<()> {
        let (said, _) = self.rpc(number, text)?;
        ensure!(
            said == answer,
            "n{number} answered {text:?} with {said:?}, not {answer:?}"
        );
        Ok(())
    }

    /// How many actors of the module a node has.
    fn actors(&self, number: usize) -> Result<u64> {
        let listed = self.site.ask(&["ps", self.nodes[number - 1].name()])?;
        let total = listed.get("total").and_then(serde_json::Value::as_u64);
        total.context("no total")
    }

    fn freeze(&self, number: usize) -> Result<()> {
        let node = &self.nodes[number - 1];
        node.signal(libc::SIGSTOP)?;
        wait_stopped(node.os_pid(), Duration::from_secs(10))
    }

    fn thaw(&self, number: usize) -> Result<()> {
        self.nodes[number - 1].signal(libc::SIGCONT)
    }
}

#[test]
fn groups_have_members_on_three_nodes() -> Result<()> {
    let mut all = Nodes::start(3, &[])?;
    all.says(1, "group monitor game room", "")?;
    all.says(2, "group monitor-scope game", "")?;
    for number in 1..=3 {
        all.says(number, "group join game room", "Ok(())")?;
        // One after the other, so that all hear them in one order.
        for other in 1..=3 {
            let members = ["n1", "n1,n2", "n1,n2,n3"][number - 1];
            all.comes_to_say(other, "group members game room", members)?;
        }
    }
    all.says(2, "group local game room", "n2")?;
    all.says(2, "group members other room", "")?;
    all.hears(1, &["joined room n1", "joined room n2", "joined room n3"])?;
    all.hears(2, &["joined room n1", "joined room n2", "joined room n3"])?;

    // Others of the same node, several at once, one of them twice.
    let child = all.ask(3, "spawn")?;
    let twice = format!("group join game hall {child} {child}");
    all.says(3, &twice, "Ok(())")?;
    all.hears(2, &["joined hall n3,n3"])?;
    all.says(1, "group members game hall", "n3,n3")?;
    all.says(1, "group which game", "hall room")?;
    all.says(1, "group which-local game", "room")?;
    let foreign = all.ask(1, &format!("group join game hall {child}"))?;
    ensure!(foreign.contains("NotLocal"), "{foreign}");
    all.says(3, &format!("group leave game hall {child}"), "true")?;
    all.hears(2, &["left hall n3"])?;
    // A first result has what there is, and nothing of it comes again.
    all.says(1, "group monitor-scope game", "hall n3; room n1,n2,n3")?;

    // Gone when they die: the actor, and then its node.
    all.says(3, &format!("kill {child}"), "ok")?;
    all.hears(2, &["left hall n3"])?;
    all.hears(1, &["left hall n3"])?;
    all.nodes[2].crash();
    all.hears(2, &["left room n3"])?;
    // Both of its monitors tell.
    all.hears(1, &["left room n3", "left room n3"])?;
    all.says(1, "group members game room", "n1,n2")?;

    // A restarted node is another one: a member when it joins, and not before.
    all.nodes[2] = all.start_one(3, &[])?;
    all.comes_to_say(3, "group members game room", "n1,n2")?;
    all.says(3, "group join game room", "Ok(())")?;
    all.hears(2, &["joined room n3"])?;
    all.says(1, "group demonitor -", "[true, true]")?;
    all.says(3, "group leave game room", "true")?;
    all.says(3, "group leave game room", "false")?;
    all.hears(2, &["left room n3"])?;
    all.comes_to_say(1, "group members game room", "n1,n2")?;
    let heard = all.ask(1, "heard")?;
    ensure!(
        heard.is_empty() || heard.split("; ").all(|one| one == "joined room n3"),
        "after its monitors' end: {heard}"
    );
    Ok(())
}

#[test]
fn members_come_back_once_after_a_cut() -> Result<()> {
    let all = Nodes::start(2, &[])?;
    for number in 1..=2 {
        all.says(number, "group join s g", "Ok(())")?;
        all.says(number, "group join s g", "Ok(())")?;
    }
    for number in 1..=2 {
        all.comes_to_say(number, "group members s g", "n1,n1,n2,n2")?;
    }
    all.says(1, "group monitor s g", "n1,n1,n2,n2")?;
    all.says(2, "group monitor s g", "n1,n1,n2,n2")?;
    for _ in 0..3 {
        all.says(1, &format!("disconnect {N2}"), "true")?;
        all.hears(1, &["left g n2,n2"])?;
        all.hears(2, &["left g n1,n1"])?;
        all.says(1, "group members s g", "n1,n1")?;
        // What changes meanwhile is told in its last state.
        all.says(2, "group leave s g", "true")?;
        all.hears(2, &["left g n2"])?;
        all.says(2, "group join s g", "Ok(())")?;
        all.hears(2, &["joined g n2"])?;
        all.says(1, &format!("connect {N2}"), &format!("Ok({N2:?})"))?;
        all.hears(1, &["joined g n2,n2"])?;
        all.hears(2, &["joined g n1,n1"])?;
        for number in 1..=2 {
            all.says(number, "group members s g", "n1,n1,n2,n2")?;
        }
    }
    Ok(())
}

#[test]
fn members_come_back_once_after_an_outage() -> Result<()> {
    let all = Nodes::start(2, &["--tick-time", "1000"])?;
    for number in 1..=2 {
        all.says(number, "group join s g", "Ok(())")?;
    }
    for number in 1..=2 {
        all.comes_to_say(number, "group members s g", "n1,n2")?;
        all.says(number, "group monitor-scope s", "g n1,n2")?;
    }
    // Not closed: just silent.
    all.freeze(2)?;
    all.hears(1, &["left g n2"])?;
    all.says(1, "group members s g", "n1")?;
    all.thaw(2)?;
    // They may find each other by themselves before.
    all.says(1, &format!("connect {N2}"), &format!("Ok({N2:?})"))?;
    all.hears(1, &["joined g n2"])?;
    all.hears(2, &["left g n1", "joined g n1"])?;
    for number in 1..=2 {
        all.says(number, "group members s g", "n1,n2")?;
    }
    Ok(())
}

#[test]
fn a_function_runs_on_another_node() -> Result<()> {
    let all = Nodes::start(2, &[])?;
    for (node, name) in [(N1, "\"n1@127.0.0.1\""), (N2, "\"n2@127.0.0.1\"")] {
        all.rpc_says(1, &format!("call {node} 20000 add 2 40"), "Ok(42)")?;
        let here = format!("Ok({name})");
        all.rpc_says(1, &format!("call {node} 20000 where_am_i"), &here)?;
        all.rpc_says(1, &format!("call {node} 20000 divide 6 3"), "Ok(Ok(2))")?;
        let own = "Ok(Err(\"not by zero\"))";
        all.rpc_says(1, &format!("call {node} 20000 divide 6 0"), own)?;
        let (trap, _) = all.rpc(1, &format!("call {node} 20000 fails"))?;
        ensure!(trap.starts_with("Err(Trap(\""), "{trap}");
        all.rpc_says(
            1,
            &format!("untyped {node} 20000 discovery nothing_such"),
            "Err(NoSuchFunction)",
        )?;
        let (said, _) = all.rpc(1, &format!("untyped {node} 20000 discovery where_am_i"))?;
        ensure!(said.starts_with("Err(BadArguments(\""), "{said}");
        all.rpc_says(
            1,
            &format!("untyped {node} 20000 nothing_such add"),
            "Err(NoSuchModule(\"nothing_such\"))",
        )?;
        let large = format!("call {node} 60000 large {}", 3 << 20);
        all.rpc_says(1, &large, &format!("Ok({})", 3 << 20))?;
    }
    let (said, _) = all.rpc(1, "call nobody@127.0.0.1 20000 add 1 2")?;
    ensure!(said == "Err(NoConnection)", "{said}");
    let (said, _) = all.rpc(1, "call what 20000 add 1 2")?;
    ensure!(said == "Err(NoConnection)", "{said}");

    // Nobody waits for a cast; it runs all the same.
    all.rpc_says(1, &format!("cast {N2} 10"), "ok")?;
    all.hears(1, &["info begun", "info done"])?;
    // Only the two servers are left.
    for number in 1..=2 {
        eventually("what was called has ended", || Ok(all.actors(number)? == 1))?;
    }
    Ok(())
}

#[test]
fn what_takes_too_long_is_ended() -> Result<()> {
    let all = Nodes::start(2, &[])?;
    for node in [N1, N2] {
        let (said, took) = all.rpc(1, &format!("call {node} 700 dawdles 600000"))?;
        ensure!(
            said == "Err(Timeout)" && took >= 700,
            "{said} after {took} ms"
        );
        all.hears(1, &["info begun"])?;
        let (said, took) = all.rpc(1, &format!("call {node} 700 spins"))?;
        ensure!(
            said == "Err(Timeout)" && took >= 700,
            "{said} after {took} ms"
        );
    }
    for number in 1..=2 {
        eventually("what was called is ended", || Ok(all.actors(number)? == 1))?;
    }
    all.says(1, "heard", "")
}

#[test]
fn code_travels_with_the_call() -> Result<()> {
    let site = Site::new()?;
    site.install(N1, "discovery", &test_actor("discovery")?)?;
    let n1 = site.start("n1", &[])?;
    let n2 = site.start("n2", &[])?;
    site.spawn(&n1, "discovery", "", &["--local-name", ACTOR])?;
    // Not connected, and never seen the module.
    let said = site.call(&n1, ACTOR, &format!("rpc call {N2} 60000 where_am_i"))?;
    ensure!(said.ends_with(&format!("Ok({N2:?})")), "{said}");
    n2.wait_log(&["fetching code", "discovery"])?;
    let said = site.call(&n1, ACTOR, &format!("rpc call {N2} 60000 add 1 1"))?;
    ensure!(said.ends_with("Ok(2)"), "{said}");
    ensure!(n2.count_log(&["fetching code", "discovery"]) == 1);
    Ok(())
}

#[test]
fn a_node_that_stands_still_costs_the_time_out_and_no_more() -> Result<()> {
    // It is not called down while this lasts.
    let all = Nodes::start(3, &["--tick-time", "60000"])?;
    all.freeze(2)?;
    let fine = |node: &str| format!("({node:?}, Ok({node:?}))");
    let nodes = format!("{N1} {N2} nobody@127.0.0.1 {N3}");
    let (said, took) = all.rpc(1, &format!("all 1500 {nodes}"))?;
    let expected = format!(
        "[{}, ({N2:?}, Err(Timeout)), (\"nobody@127.0.0.1\", Err(NoConnection)), {}] failed [{N2:?}, \"nobody@127.0.0.1\"]",
        fine(N1),
        fine(N3)
    );
    ensure!(said == expected, "{said}");
    ensure!((1500..1500 + GRACE_MS).contains(&took), "{took} ms");

    // Asked by itself, one node cannot answer: the other two.
    let begun = Instant::now();
    let (said, took) = all.rpc(
        3,
        &format!("multi-call {ACTOR} 1500 node {N1} {N2} nobody@127.0.0.1"),
    )?;
    let expected = format!(
        "[({N1:?}, {N1:?})] [({N2:?}, CallError::Timeout), (\"nobody@127.0.0.1\", CallError::Noconnection)]"
    );
    ensure!(said == expected, "{said}");
    ensure!(
        (1500..1500 + GRACE_MS).contains(&took),
        "{took} ms, {:?}",
        begun.elapsed()
    );
    let (said, took) = all.rpc(1, &format!("call {N2} 500 dawdles 0"))?;
    ensure!(
        said == "Err(Timeout)" && took < 500 + GRACE_MS,
        "{said} after {took} ms"
    );
    all.rpc_says(1, &format!("abcast {ACTOR} hello {N1} {N2} {N3}"), "ok")?;
    all.hears(3, &["info hello", "cast hello"])?;

    // When it goes on, nothing comes late but what was sent for good.
    all.thaw(2)?;
    all.hears(2, &["info hello", "cast hello"])?;
    let (said, _) = all.rpc(1, &format!("call {N2} 60000 where_am_i"))?;
    ensure!(said == format!("Ok({N2:?})"), "{said}");
    eventually("what came too late is ended", || Ok(all.actors(2)? == 1))?;
    let heard = all.ask(1, "heard")?;
    // The function may have begun before it was ended; its result and its birth are not told.
    ensure!(
        heard
            .split("; ")
            .all(|one| ["info hello", "cast hello", "info begun", "info done"].contains(&one)),
        "{heard}"
    );
    all.says(3, "heard", "")
}

#[test]
fn a_key_has_one_node_from_everywhere() -> Result<()> {
    let mut all = Nodes::start(3, &[])?;
    let keys: Vec<String> = (0..120).map(|n| format!("user{n}")).collect();
    let owners = |all: &Nodes, number: usize| -> Result<BTreeMap<String, String>> {
        let said = all.ask(number, &format!("owner {}", keys.join(" ")))?;
        let owners = said.split(' ').map(String::from);
        Ok(keys.iter().cloned().zip(owners).collect())
    };
    let before = owners(&all, 1)?;
    for number in 2..=3 {
        ensure!(
            owners(&all, number)? == before,
            "n{number} sees it otherwise"
        );
    }
    for node in [N1, N2, N3] {
        let share = before.values().filter(|owner| *owner == node).count();
        ensure!((20..=60).contains(&share), "{node}: {share} of 120");
    }
    // Routed there, whoever asks.
    for (key, owner) in before.iter().take(6) {
        for number in 1..=3 {
            all.says(number, &format!("route {key}"), &format!("Ok({owner:?})"))?;
        }
        let three = all.ask(2, &format!("owners 3 {key}"))?;
        ensure!(
            three.starts_with(owner) && three.split(' ').count() == 3,
            "{three}"
        );
    }

    all.nodes[2].crash();
    let without = |number| -> Result<BTreeMap<String, String>> {
        let mut now = BTreeMap::new();
        eventually("n3 is gone", || {
            now = owners(&all, number)?;
            Ok(!now.values().any(|owner| owner == N3))
        })?;
        Ok(now)
    };
    let (first, second) = (without(1)?, without(2)?);
    ensure!(first == second, "n1 and n2 do not agree");
    for (key, owner) in &before {
        if owner == N3 {
            let next = all.ask(1, &format!("owners 1 {key}"))?;
            ensure!(first[key] == next, "{key}");
        } else {
            ensure!(
                first[key] == *owner,
                "{key} moved from {owner} to {}",
                first[key]
            );
        }
    }
    Ok(())
}
