//! Group leaders across real nodes: text and lines of input of actors in Rust, C, C with WASI and
//! JavaScript. `tests/actors/speaker` and its like are the actors.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wasm_node_tests::node::{Node, Site, eventually, test_actor};

const N1: &str = "n1@127.0.0.1";
const N2: &str = "n2@127.0.0.1";
const LANGUAGES: [&str; 4] = ["speaker", "speaker-c", "reader-wasi", "speaker-js"];

/// Two connected nodes; the first has all modules and, if asked for, an input pipe.
struct Pair {
    site: Site,
    n1: Node,
    n2: Node,
}

impl Pair {
    fn start(modules: &[&str], with_input: bool) -> Result<Self> {
        let site = Site::new()?;
        for module in modules {
            site.install(N1, module, &test_actor(module)?)?;
        }
        let n1 = match with_input {
            true => {
                let command = site.start_command(&["--name", N1], N1, &[])?;
                Node::launch_with_input(N1.into(), command)?
            }
            false => site.launch("n1", &[])?,
        };
        n1.wait_ready()?;
        let n2 = site.start("n2", &["--connect", N1])?;
        n2.wait_up(N1)?;
        Ok(Self { site, n1, n2 })
    }

    /// A speaker on the first node, whose group leader is that node's own; gives its pid there,
    /// and as all nodes know it.
    fn boss(&self) -> Result<(String, String)> {
        let pid = self.site.spawn(&self.n1, "speaker", "", &[])?;
        let id = self.call(&pid, "pid")?;
        Ok((pid, id))
    }

    /// An actor that a speaker starts.
    fn start_by(&self, boss: &str, words: &str) -> Result<String> {
        let id = self.call(boss, &format!("start {words}"))?;
        ensure!(id.len() == 32, "start {words}: {id}");
        Ok(id)
    }

    /// What an actor answers to a speaker who asks it.
    fn ask(&self, boss: &str, actor: &str, words: &str) -> Result<String> {
        self.call(boss, &format!("ask {actor} {words}"))
    }

    /// Calls an actor of the first node.
    fn call(&self, actor: &str, words: &str) -> Result<String> {
        self.site
            .ok(&["call", N1, actor, words, "--timeout", "60000"])
    }
}

fn prints(node: &Node, text: &str) -> Result<()> {
    node.wait_print(text).with_context(|| {
        let (out, err) = (node.stdout.tail(), node.stderr.tail());
        format!("{} printed\n{out}\nand\n{err}", node.name())
    })
}

/// Of the speaker, as the first node has it.
fn digest(site: &Site) -> Result<String> {
    let modules = site.ask(&["modules", N1])?;
    let rows = modules["modules"].as_array().context("no modules")?;
    let mut rows = rows.iter().filter(|row| row["name"] == "speaker");
    let digest = rows.next().and_then(|row| row["digest"].as_str());
    Ok(digest.context("no speaker")?.into())
}

fn printed(node: &Node, text: &str) -> bool {
    node.stdout.since(0).iter().any(|line| line.contains(text))
}

#[test]
fn text_of_every_language_appears_where_its_leader_is() -> Result<()> {
    let pair = Pair::start(&LANGUAGES, false)?;
    let (boss, _) = pair.boss()?;
    let user = pair.call(&boss, "leader")?;
    for module in LANGUAGES {
        let actor = pair.start_by(&boss, &format!("{N2} {module}"))?;
        let text = format!("{module} on the second node, \u{1f980}");
        ensure!(pair.ask(&boss, &actor, &format!("print {text}"))? == "ok");
        prints(&pair.n1, &text)?;
        if module != "reader-wasi" {
            ensure!(pair.ask(&boss, &actor, "leader")? == user, "{module}");
            let text = format!("{module} is alarmed");
            pair.ask(&boss, &actor, &format!("error {text}"))?;
            pair.n1.wait_log(&[&text])?;
            // The log is that of its own node.
            pair.ask(&boss, &actor, "log")?;
            pair.n2.wait_log(&["wasm_node::actor", "told to"])?;
        }
        ensure!(!printed(&pair.n2, module), "{module} printed at its node");
    }
    // Also the children of those.
    let child = pair.start_by(&boss, &format!("{N2} speaker"))?;
    let digest = digest(&pair.site)?;
    let grandchild = pair.ask(&boss, &child, &format!("start {N1} {digest}"))?;
    ensure!(pair.ask(&boss, &grandchild, "leader")? == user);
    ensure!(
        pair.n1.count_log(&["told to"]) == 0,
        "logged at its leader's node"
    );
    let levels = ["info", "warning", "error", "debug"];
    for level in levels {
        pair.ask(&boss, &child, &format!("log {level}"))?;
    }
    let info = pair
        .n2
        .wait_log(&["INFO", "wasm_node::actor", "it was told to"])?;
    ensure!(
        info.contains("module=\"speaker\"")
            && info.contains(r#"fields={"count":"2","module":"speaker"}"#),
        "{info}"
    );
    pair.n2.wait_log(&["WARN", "it was told to"])?;
    pair.n2.wait_log(&["ERROR", "it was told to: error"])?;
    ensure!(pair.n2.count_log(&["DEBUG", "it was told to"]) == 0);
    Ok(())
}

#[test]
fn a_leader_that_is_gone_is_stood_in_for() -> Result<()> {
    let mut pair = Pair::start(&["speaker"], false)?;
    let (boss, _) = pair.boss()?;
    let leader = pair.start_by(&boss, "here speaker")?;
    // Three whose leader is that actor: on its node, on the other, and one who never knew it alive.
    let near = pair.start_by(&boss, &format!("here speaker {leader}"))?;
    let far = pair.start_by(&boss, &format!("{N2} speaker {leader}"))?;
    for (actor, text) in [(&near, "near is heard"), (&far, "far is heard")] {
        pair.ask(&boss, actor, &format!("print {text}"))?;
        let heard = format!("{actor} out ");
        eventually("the leader has heard it", || {
            let all = pair.ask(&boss, &leader, "heard")?;
            Ok(all
                .lines()
                .any(|l| l.starts_with(&heard) && l.contains(text)))
        })?;
    }
    // A request that the leader took ends with it; those that wait for it go to the own node,
    // whose input is at its end.
    pair.ask(&boss, &leader, "stop it was told to")?;
    eventually("the leader has ended", || {
        Ok(pair
            .ask(&boss, &leader, "pid")?
            .starts_with("error: noproc"))
    })?;
    pair.ask(&boss, &near, "print near goes on")?;
    prints(&pair.n1, "near goes on")?;
    pair.ask(&boss, &far, "flood 200 far")?;
    prints(&pair.n2, "far 199")?;
    let lines: Vec<String> = pair.n2.stdout.since(0);
    let lines: Vec<&String> = lines.iter().filter(|l| l.starts_with("far ")).collect();
    ensure!(lines.len() == 200, "{lines:?}");
    for (number, line) in lines.iter().enumerate() {
        ensure!(**line == format!("far {number}"), "{lines:?}");
    }
    ensure!(pair.ask(&boss, &far, "read")? == "end");
    ensure!(pair.ask(&boss, &near, "read")? == "end");

    // The leader's node goes: the actor lives on, and its own node shows its text.
    let name = ["--local-name", "orphan"];
    let orphan = pair.site.spawn(
        &pair.n1,
        "speaker",
        "",
        &[&["--on", N2], &name[..]].concat(),
    )?;
    ensure!(orphan.starts_with('<'), "{orphan}");
    // Without the port mapper, which may go with the first node.
    let at = pair.n2.listens()?;
    let asks = |text: &str| {
        pair.site
            .ok(&["call", N2, "orphan", text, "--address", &at])
    };
    asks("print to the first node")?;
    prints(&pair.n1, "to the first node")?;
    pair.n1.crash();
    pair.n2.wait_log(&["node down", N1])?;
    asks("print to the second node")?;
    prints(&pair.n2, "to the second node")?;
    assert_eq!(asks("read")?, "end");
    Ok(())
}

#[test]
fn an_actor_leads_others_of_any_language() -> Result<()> {
    let pair = Pair::start(&LANGUAGES, false)?;
    let (boss, boss_id) = pair.boss()?;
    for module in LANGUAGES {
        let actor = pair.start_by(&boss, &format!("{N2} {module} {boss_id}"))?;
        pair.ask(&boss, &actor, &format!("print {module} speaks"))?;
        let said = format!("{module} speaks|");
        eventually("its leader hears it", || {
            let heard = pair.call(&boss, "heard")?;
            let mut voices = heard.lines();
            Ok(voices.any(|voice| voice.starts_with(&actor) && voice.ends_with(&said)))
        })?;
    }
    ensure!(!printed(&pair.n1, "speaks") && !printed(&pair.n2, "speaks"));

    // A line that its leader gives, also after the leader itself was asked by others.
    let reader = pair.start_by(&boss, &format!("{N2} speaker {boss_id}"))?;
    let name = pair.site.spawn(&pair.n1, "speaker", "", &[])?;
    std::thread::scope(|scope| -> Result<()> {
        let asked = scope.spawn(|| {
            let words = format!("ask {reader} read");
            pair.call(&name, &words)
        });
        eventually("it waits for a line", || {
            let said = pair.call(&boss, "supply by hand")?;
            Ok(said == "ok")
        })?;
        let line = asked.join().expect("no panic")?;
        ensure!(line == "line by hand", "{line}");
        Ok(())
    })?;

    // Its leader changes while it runs, from afar.
    let other = pair.start_by(&boss, "here speaker")?;
    pair.call(&boss, &format!("lead {reader} {other}"))?;
    pair.ask(&boss, &reader, "print to another")?;
    eventually("the other hears it", || {
        Ok(pair.ask(&boss, &other, "heard")?.contains("to another|"))
    })?;
    ensure!(!pair.call(&boss, "heard")?.contains("to another"));

    // Its own leader: what it prints, and the line that it gives itself.
    let own = pair.start_by(&boss, &format!("{N2} speaker-js"))?;
    pair.ask(&boss, &own, "lead-self")?;
    pair.ask(&boss, &own, "print to itself")?;
    eventually("it hears itself", || {
        Ok(pair
            .ask(&boss, &own, "heard")?
            .contains("stdout to itself;"))
    })?;
    ensure!(pair.ask(&boss, &own, "read")? == "line from itself");
    // C's default is silence then, and no circle.
    let own = pair.start_by(&boss, &format!("{N2} speaker-c"))?;
    pair.ask(&boss, &own, "lead-self")?;
    pair.ask(&boss, &own, "print to nobody")?;
    ensure!(pair.ask(&boss, &own, "read")? == "end");
    Ok(())
}

#[test]
fn lines_of_many_actors_stay_whole_and_in_order() -> Result<()> {
    const ACTORS: usize = 12;
    const LINES: usize = 300;
    let pair = Pair::start(&["speaker"], false)?;
    let (boss, _) = pair.boss()?;
    let mut voices = Vec::new();
    for number in 0..ACTORS {
        let node = if number % 2 == 0 { N2 } else { "here" };
        let pid = pair.site.spawn(&pair.n1, "speaker", "", &[])?;
        let actor = pair.call(&pid, &format!("start {node} speaker"))?;
        voices.push((pid, actor));
    }
    std::thread::scope(|scope| {
        let pair = &pair;
        let all: Vec<_> = voices
            .iter()
            .enumerate()
            .map(|(number, (pid, actor))| {
                let words = format!("ask {actor} flood {LINES} voice{number}");
                scope.spawn(move || pair.call(pid, &words))
            })
            .collect();
        all.into_iter()
            .try_for_each(|one| one.join().expect("no panic").map(drop))
    })?;
    for number in 0..ACTORS {
        prints(&pair.n1, &format!("voice{number} {}", LINES - 1))?;
    }
    let lines = pair.n1.stdout.since(0);
    for number in 0..ACTORS {
        let begin = format!("voice{number} ");
        let own: Vec<&String> = lines
            .iter()
            .filter(|line| line.starts_with(&begin))
            .collect();
        ensure!(own.len() == LINES, "{begin}: {} lines", own.len());
        for (at, line) in own.iter().enumerate() {
            ensure!(
                **line == format!("{begin}{at}"),
                "torn or out of order: {line:?}"
            );
        }
    }
    // A long line is whole too.
    let actor = &voices[0].1;
    pair.ask(&boss, actor, "long 12000")?;
    prints(&pair.n1, &"long ".repeat(12_000))?;
    Ok(())
}

#[test]
fn lines_of_input_reach_who_asks_first() -> Result<()> {
    let mut pair = Pair::start(&LANGUAGES, true)?;
    let (boss, _) = pair.boss()?;
    // Given up, and timed out: neither takes a line away.
    let here = pair.start_by(&boss, "here speaker")?;
    let far = pair.start_by(&boss, &format!("{N2} speaker"))?;
    for actor in [&here, &far] {
        ensure!(pair.ask(&boss, actor, "glance")? == "ok");
        let said = pair.ask(&boss, actor, "read-within 50")?;
        ensure!(said.starts_with("timeout"), "{said}");
    }
    std::thread::sleep(Duration::from_millis(200));
    for module in LANGUAGES {
        let actor = pair.start_by(&boss, &format!("{N2} {module}"))?;
        let (asked, boss) = (format!("ask {actor} read"), boss.clone());
        let said = std::thread::scope(|scope| {
            let site = &pair.site;
            let asking =
                scope.spawn(move || site.ok(&["call", N1, &boss, &asked, "--timeout", "60000"]));
            // Not before it waits; the question shows that, where there is one.
            std::thread::sleep(Duration::from_millis(300));
            let typed = pair.n1.type_in(&format!("for {module}\n"));
            typed.and_then(|()| asking.join().expect("no panic"))
        })?;
        ensure!(said == format!("line for {module}"), "{module}: {said}");
    }
    // A crash with a question open: the line is the next one's.
    let dies = pair.start_by(&boss, &format!("{N2} reader-wasi"))?;
    let other = pair.site.spawn(&pair.n1, "speaker", "", &[])?;
    std::thread::scope(|scope| -> Result<()> {
        let site = &pair.site;
        let words = format!("ask {dies} read");
        let asking =
            scope.spawn(move || site.ok(&["call", N1, &other, &words, "--timeout", "60000"]));
        std::thread::sleep(Duration::from_millis(300));
        let printed = pair.site.ask(&["ps", N2])?;
        let rows = printed["processes"].as_array().context("no list")?.clone();
        for row in rows.iter().filter(|row| row["module"] == "reader-wasi") {
            let pid = row["pid"].as_str().context("no pid")?;
            pair.site.ok(&["exit", N2, pid, "--reason", "kill"])?;
        }
        let said = asking.join().expect("no panic")?;
        ensure!(said.starts_with("error: the callee ended"), "{said}");
        Ok(())
    })?;
    pair.n1.type_in("for nobody but the next\n")?;
    ensure!(pair.ask(&boss, &far, "read")? == "line for nobody but the next");
    pair.n1.type_in("no line's end")?;
    pair.n1.end_input();
    ensure!(pair.ask(&boss, &here, "read")? == "line no line's end");
    for actor in [&here, &far] {
        ensure!(pair.ask(&boss, actor, "read")? == "end");
    }
    Ok(())
}

#[test]
fn a_leader_is_kept_over_upgrades_and_sleep() -> Result<()> {
    let pair = Pair::start(&["speaker"], false)?;
    let (boss, boss_id) = pair.boss()?;
    let actor = pair.start_by(&boss, &format!("here speaker {boss_id}"))?;
    let component = test_actor("speaker")?;
    let newer = wasm_node_tests::component::with_custom_section(&component, b"newer");
    pair.site.install(N1, "speaker", &newer)?;
    // Both move.
    eventually("both have moved", || {
        pair.ask(&boss, &actor, "pid")?;
        Ok(pair.n1.count_log(&["moved to the new version"]) >= 2)
    })?;
    ensure!(pair.ask(&boss, &actor, "leader")? == boss_id);
    pair.ask(&boss, &actor, "print after the move")?;
    eventually("it is heard", || {
        let heard = pair.call(&boss, "heard")?;
        Ok(heard.contains("after the move|"))
    })
}

#[test]
fn a_crash_is_one_structured_event() -> Result<()> {
    let pair = Pair::start(&["speaker"], false)?;
    let (boss, _) = pair.boss()?;
    let actor = pair.start_by(&boss, "here speaker")?;
    pair.ask(&boss, &actor, "crash")?;
    let report = pair
        .n1
        .wait_log(&["crash report: actor ended", "module=\"speaker\""])?;
    let digest = digest(&pair.site)?;
    for field in [
        "ERROR",
        &format!("digest=\"{digest}\""),
        &format!("ancestors=\"{boss},"),
        "group_leader=",
        "mailbox=0",
        "links=0",
        "monitors=0",
        "traps_exits=false",
        "turns=",
        "uptime_ms=",
        "reason=trap: wasm trap",
    ] {
        ensure!(report.contains(field), "no {field} in {report}");
    }
    // Ends that somebody asked for are none.
    let actor = pair.start_by(&boss, "here speaker")?;
    pair.ask(&boss, &actor, "stop normal")?;
    std::thread::sleep(Duration::from_millis(200));
    ensure!(pair.n1.count_log(&["crash report"]) == 1);
    Ok(())
}
