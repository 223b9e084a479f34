//! Actors that are put aside as data while they wait: nothing of them is lost, nothing of them is
//! left to others, and they cost next to nothing. `tests/actors/contract` has the actors.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wasm_node_tests::component::with_custom_section;
use wasm_node_tests::node::{Node, Site, eventually, test_actor};

const N1: &str = "n1@127.0.0.1";
const MODULE: &str = "contract";
/// Three times what stays awake.
const MANY: usize = 6_000;
/// More than instances fit into the kernel's default number of mappings.
const MORE: usize = 20_000;
/// Generous, with what the herd keeps for each, and with those of them that are awake: an
/// instance costs five times as much.
const MAX_BYTES_PER_SLEEPER: u64 = 12 << 10;
/// Within this a herd answers.
const HERD_TIMEOUT_MS: &str = "55000";

struct World {
    site: Site,
    node: Node,
    component: Vec<u8>,
}

impl World {
    fn new() -> Result<Self> {
        let component = test_actor(MODULE)?;
        let site = Site::new()?;
        site.install(N1, MODULE, &component)?;
        let node = site.start("n1", &[])?;
        Ok(Self {
            site,
            node,
            component,
        })
    }

    /// Starts an actor; gives its pid as people write it, and as 32 hex digits.
    fn spawn(&self, args: &str) -> Result<(String, String)> {
        let spawned = self.site.ask(&["spawn", N1, MODULE, "--args", args])?;
        let text = |key: &str| spawned.get(key).and_then(Value::as_str).map(String::from);
        Ok((text("pid").context("no pid")?, text("id").context("no id")?))
    }

    fn call(&self, actor: &str, text: &str) -> Result<String> {
        self.site.call(&self.node, actor, text)
    }

    /// Calls it; the answer must be this.
    fn says(&self, actor: &str, text: &str, answer: &str) -> Result<()> {
        let said = self.call(actor, text)?;
        ensure!(
            said == answer,
            "{actor} answered {text:?} with {said:?}, not {answer:?}"
        );
        Ok(())
    }

    /// An actor that sleeps after every turn.
    fn sleeper(&self, index: usize) -> Result<(String, String)> {
        let (pid, id) = self.spawn(&format!("member {index}"))?;
        self.says(&pid, "hibernate", "hibernates")?;
        Ok((pid, id))
    }

    /// Waits until this was among what happened to it.
    fn experiences(&self, actor: &str, event: &str) -> Result<()> {
        eventually(event, || {
            Ok(self.call(actor, "events")?.split(',').any(|it| it == event))
        })
    }

    /// Tells a herd; the answer must be this.
    fn herd(&self, herd: &str, text: &str, answer: &str) -> Result<()> {
        let begun = Instant::now();
        let said = self
            .site
            .ok(&["call", N1, herd, text, "--timeout", HERD_TIMEOUT_MS])?;
        println!("{text}: {} ms", begun.elapsed().as_millis());
        ensure!(
            said == answer,
            "the herd answered {text:?} with {said:?}, not {answer:?}"
        );
        Ok(())
    }

    /// What the node has in memory.
    fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.node.os_pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kib.context("no VmRSS")?.trim().parse::<u64>()? << 10)
    }

    fn upgrade(&self, content: &[u8]) -> Result<()> {
        let new = with_custom_section(&self.component, content);
        self.site.install(N1, MODULE, &new)
    }

    fn moved(&self, actors: usize) -> Result<()> {
        eventually("all moved", || {
            Ok(self.node.count_log(&["moved to the new version"]) >= actors)
        })
    }
}

#[test]
fn thousands_keep_their_state_and_their_deadlines() -> Result<()> {
    let world = World::new()?;
    let (herd, _) = world.spawn(&format!("herd {MODULE}"))?;
    let all = |text: &str, answer: &str| {
        world.herd(&herd, &format!("all {text}"), &format!("{MANY} {answer}"))
    };
    world.herd(&herd, &format!("spawn {MANY}"), &format!("{MANY} spawned"))?;
    for round in 1..=5 {
        all("add 1", &round.to_string())?;
    }
    all("grow 3000", "grown")?;
    // Most of them sleep when their time comes.
    let both = |event: &str, answer: &str| format!("{MANY} {event}\n{MANY} {answer}");
    world.herd(&herd, "twice wait-for 2000", &both("timeout", "waits"))?;
    world.herd(&herd, "twice timer 2000", &both("started", "timer"))?;
    all("events", "timeout,timer")?;
    all("check", "1 whole")?;

    // All of them at once move to a new version, the sleeping ones too.
    world.upgrade(b"2")?;
    world.moved(MANY)?;
    all("get", "5")?;
    all("check", "1 whole")?;
    all("events", "timeout,timer")?;
    world.herd(&herd, "end", &format!("{MANY} down: killed"))?;
    let listed = world.site.ask(&["ps", N1])?;
    assert_eq!(listed.get("total"), Some(&1.into()), "{listed}");
    Ok(())
}

#[test]
fn twenty_thousand_cost_little_and_can_all_be_woken_at_once() -> Result<()> {
    let world = World::new()?;
    let (herd, _) = world.spawn(&format!("herd {MODULE}"))?;
    let few = MORE / 4;
    world.herd(&herd, &format!("spawn {few}"), &format!("{few} spawned"))?;
    // As many are awake after that as ever will be.
    for _ in 0..4 {
        world.herd(&herd, "all get", &format!("{few} 0"))?;
    }
    let before = world.resident_bytes()?;
    let more = MORE - few;
    world.herd(&herd, &format!("spawn {more}"), &format!("{more} spawned"))?;
    // Each gets its message in the same turn of the herd, again and again.
    for round in 1..=6 {
        world.herd(&herd, "all add 1", &format!("{MORE} {round}"))?;
    }
    let each =
        || Ok::<_, anyhow::Error>(world.resident_bytes()?.saturating_sub(before) / more as u64);
    println!("{} bytes a sleeping actor", each()?);
    let begun = Instant::now();
    while each()? > MAX_BYTES_PER_SLEEPER {
        ensure!(
            begun.elapsed() < Duration::from_secs(10),
            "{} bytes each",
            each()?
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn whatever_comes_for_a_sleeper_reaches_it() -> Result<()> {
    let world = World::new()?;
    let (keeper, keeper_id) = world.spawn("member 0")?;
    let (sleeper, sleeper_id) = world.sleeper(5)?;
    world.says(&sleeper, "add 2", "2")?;
    // Names.
    world.says(&sleeper, "name bed", "named")?;
    world.says("bed", "add 3", "5")?;
    world.says(&sleeper, "global bed", "asked")?;
    world.experiences(&sleeper, "registered:true")?;
    world.says("global:bed", "get", "5")?;
    // A timer, and a reply to a request that it made before.
    world.says(&sleeper, "timer 10", "started")?;
    world.experiences(&sleeper, "timer")?;
    world.says(&sleeper, &format!("ask {keeper_id} hold"), "asked")?;
    world.says(&keeper, "release good morning", "released")?;
    world.experiences(&sleeper, "response:good morning")?;
    // Others see it live.
    world.says(&keeper, &format!("monitor {sleeper_id}"), "monitored")?;

    // Memory that has grown, while others use the instances in between.
    world.says(&sleeper, "grow 300000", "grown")?;
    let (other, _) = world.sleeper(6)?;
    world.says(&other, "grow 5000", "grown")?;
    for _ in 0..2 {
        world.says(&sleeper, "check", "1 whole")?;
        world.says(&other, "check", "1 whole")?;
    }
    world.says(&sleeper, "grow 2000000", "grown")?;
    world.says(&sleeper, "check", "2 whole")?;

    // Its code changes meanwhile.
    let version = world.call(&keeper, "version")?;
    world.upgrade(b"2")?;
    world.moved(3)?;
    ensure!(
        world.call(&sleeper, "version")? != version,
        "it runs the old version"
    );
    world.says(&sleeper, "get", "5")?;
    world.says(&sleeper, "check", "2 whole")?;
    world.experiences(&sleeper, "response:good morning")?;
    world.says("bed", "hibernate", "hibernates")?;

    // Links and monitors of its own.
    for (index, traps) in [(10, true), (11, false)] {
        let (friend, friend_id) = world.spawn(&format!("member {index}"))?;
        let (asleep, _) = world.sleeper(index)?;
        if traps {
            world.says(&asleep, "trap-exit", "false")?;
            world.says(&asleep, &format!("monitor {friend_id}"), "monitored")?;
        }
        world.says(&asleep, &format!("link {friend_id}"), "linked")?;
        world.says(&friend, "stop error bad dream", "stops")?;
        if traps {
            world.experiences(&asleep, "exit:error: bad dream")?;
            world.experiences(&asleep, "down:error: bad dream")?;
        } else {
            eventually("it ends with its friend", || {
                Ok(!world.site.lives(&world.node, &asleep)?)
            })?;
        }
    }

    // It ends asleep.
    world.site.ok(&["exit", N1, &sleeper, "--reason", "kill"])?;
    world.experiences(&keeper, "down:killed")?;
    let said = world.site.fails(1, &["call", N1, "bed", "get"])?;
    ensure!(said.contains("noproc"), "{said}");
    world.says(&keeper, "name bed", "named")?;
    Ok(())
}

#[test]
fn nothing_is_left_by_the_actor_before() -> Result<()> {
    let world = World::new()?;
    let mut first = None;
    for round in 0..6 {
        let (pid, _) = world.spawn("scan")?;
        let found = world.call(&pid, "events")?;
        ensure!(found.starts_with("dirty=0 "), "round {round}: {found}");
        let first = first.get_or_insert(found.clone());
        ensure!(
            *first == found,
            "round {round}: {found}, and at first {first}"
        );
        // From here on it is full, and would break if it were used again as it is.
        match round % 3 {
            // It ends by itself, awake.
            0 => {
                let _ = world.site.run(["call", N1, &pid, "dirty"])?;
            }
            // It ends by others, asleep, or awake.
            1 => {
                world.says(&pid, "hibernate", "hibernates")?;
                world.says(&pid, "grow 20000", "grown")?;
                world.says(&pid, "check", "1 whole")?;
                world.site.ok(&["exit", N1, &pid, "--reason", "kill"])?;
            }
            _ => {
                world.says(&pid, "grow 20000", "grown")?;
                world.site.ok(&["exit", N1, &pid, "--reason", "kill"])?;
            }
        }
        eventually("it is gone", || Ok(!world.site.lives(&world.node, &pid)?))?;
    }
    Ok(())
}
