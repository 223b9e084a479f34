//! Global names and locks on real nodes: claims that race, holders that go, partitions that heal.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wasm_node_tests::node::{Node, Site, eventually, test_actor};

/// Lost nodes are noticed in half a second.
const TICKS: [&str; 2] = ["--tick-time", "400"];

/// Nodes n1, n2... that are connected, each with an actor named `clerk` (`tests/actors/clerk`).
struct Office {
    site: Site,
    nodes: Vec<Node>,
}

impl Office {
    fn new(count: usize, more: &[&str]) -> Result<Self> {
        let site = Site::new()?;
        let clerk = test_actor("clerk")?;
        let mut office = Self {
            site,
            nodes: Vec::new(),
        };
        for number in 1..=count {
            let name = format!("n{number}");
            office.site.install(&full_name(number), "clerk", &clerk)?;
            let first = full_name(1);
            let mut args = [&TICKS[..], more].concat();
            if number > 1 {
                args.extend(["--connect", first.as_str()]);
            }
            let node = office.site.start(&name, &args)?;
            office.nodes.push(node);
            office.hire(number, "clerk")?;
        }
        for number in 1..=count {
            office.sees(number, count - 1)?;
        }
        Ok(office)
    }

    fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// Another clerk on a node, by its name there.
    fn hire(&self, number: usize, name: &str) -> Result<()> {
        let named = ["--local-name", name];
        self.site
            .spawn(self.node(number), "clerk", "", &named)
            .map(drop)
    }

    fn dismiss(&self, number: usize, name: &str) -> Result<()> {
        self.site
            .ok(&["exit", &full_name(number), name, "--reason", "kill"])
            .map(drop)
    }

    /// Waits until a node sees so many others.
    fn sees(&self, number: usize, others: usize) -> Result<()> {
        let node = full_name(number);
        eventually(&format!("{node} sees {others} others"), || {
            Ok(self.site.nodes_of(&node, &[])?.len() == others)
        })
    }

    /// Tells a node's clerk something; gives its answer.
    fn tell(&self, number: usize, words: &str) -> Result<String> {
        self.tell_to(number, "clerk", words)
    }

    fn tell_to(&self, number: usize, clerk: &str, words: &str) -> Result<String> {
        let node = full_name(number);
        let patience = ["--timeout", "60000"];
        self.site
            .ok(&[&["call", node.as_str(), clerk, words], &patience[..]].concat())
    }

    fn eventually_says(&self, number: usize, words: &str, answer: &str) -> Result<()> {
        let what = format!("n{number}: {words}: {answer}");
        eventually(&what, || Ok(self.tell(number, words)? == answer))
    }

    /// Cuts one node's links to these others, on both sides.
    fn cut(&self, number: usize, others: &[usize]) -> Result<()> {
        for &other in others {
            let words = format!("disconnect {}", full_name(other));
            assert_eq!(self.tell(number, &words)?, "true");
        }
        self.sees(number, 0)?;
        for &other in others {
            self.sees(other, self.nodes.len() - 2)?;
        }
        Ok(())
    }

    /// Links two nodes again.
    fn heal(&self, number: usize, other: usize) -> Result<()> {
        self.site
            .ok(&["connect", &full_name(number), &full_name(other)])
            .map(drop)
    }
}

fn full_name(number: usize) -> String {
    format!("n{number}@127.0.0.1")
}

#[test]
fn of_many_claims_at_once_one_wins_and_the_others_learn_who() -> Result<()> {
    let office = Office::new(3, &[])?;
    let ids: Vec<_> = (1..=3)
        .map(|number| office.tell(number, "id"))
        .collect::<Result<_>>()?;
    for round in 0..8 {
        let words = format!("register name{round}");
        let answers: Vec<_> = std::thread::scope(|scope| {
            let claim = |number| {
                let (office, words) = (&office, &words);
                scope.spawn(move || office.tell(number, words))
            };
            let claims: Vec<_> = (1..=3).map(claim).collect();
            let answers = claims.into_iter().map(|claim| claim.join().unwrap());
            answers.collect::<Result<_>>()
        })?;
        let winners: Vec<_> = (0..3).filter(|&index| answers[index] == "ok").collect();
        ensure!(winners.len() == 1, "round {round}: {answers:?}");
        let taken = format!("taken {}", ids[winners[0]]);
        let losers = answers.iter().filter(|answer| **answer == taken);
        assert_eq!(losers.count(), 2, "round {round}: {answers:?}");
        for number in 1..=3 {
            let words = format!("whereis name{round}");
            office.eventually_says(number, &words, &ids[winners[0]])?;
        }
    }
    let listed = office.site.ask(&["whereis", &full_name(2)])?;
    let names = listed.get("names").and_then(Value::as_array);
    let names = names.context("no list of names")?;
    assert_eq!(names.len(), 8);
    assert_eq!(listed.get("total"), Some(&8.into()));
    let first = &names[0];
    assert_eq!(first.get("name"), Some(&"name0".into()));
    let node = first.get("node").and_then(Value::as_str);
    ensure!(
        node.is_some_and(|node| node.ends_with("@127.0.0.1")),
        "{first}"
    );
    let text = office.site.ok(&["whereis", &full_name(3)])?;
    assert_eq!(text.lines().count(), 9, "{text}");
    Ok(())
}

#[test]
fn names_and_locks_go_with_their_actor_and_with_its_node() -> Result<()> {
    let mut office = Office::new(3, &[])?;
    office.hire(3, "mortal")?;
    let id = office.tell_to(3, "mortal", "id")?;
    assert_eq!(office.tell_to(3, "mortal", "register brief")?, "ok");
    assert_eq!(office.tell_to(3, "mortal", "lock safe try")?, "ok");
    office.eventually_says(1, "whereis brief", &id)?;
    office.eventually_says(1, "lock safe try", &format!("taken {id}"))?;
    let timeout = office.tell(1, "lock safe 50")?;
    assert_eq!(timeout, format!("taken {id}"));
    // The end of the holder is the turn of whoever waits, and so is the end of its node.
    office.hire(1, "patient")?;
    let mut doomed = office.nodes.remove(2);
    std::thread::scope(|scope| -> Result<()> {
        let office = &office;
        let next = scope.spawn(|| office.tell(3, "lock safe endless"));
        office.dismiss(3, "mortal")?;
        assert_eq!(next.join().unwrap()?, "ok");
        office.eventually_says(1, "whereis brief", "none")?;
        assert_eq!(office.tell(3, "register mine")?, "ok");
        let id = office.tell(3, "id")?;
        office.eventually_says(1, "whereis mine", &id)?;
        let patient = scope.spawn(|| office.tell_to(1, "patient", "lock safe endless"));
        doomed.crash();
        assert_eq!(patient.join().unwrap()?, "ok");
        Ok(())
    })?;
    office.eventually_says(2, "whereis mine", "none")?;
    assert_eq!(office.tell(2, "register mine")?, "ok");
    Ok(())
}

#[test]
fn a_holder_is_replaced_without_a_gap() -> Result<()> {
    let office = Office::new(3, &[])?;
    office.hire(3, "watchman")?;
    assert_eq!(office.tell(1, "register post")?, "ok");
    let second = office.tell(2, "id")?;
    let third = office.tell(3, "id")?;
    let first = office.tell(1, "id")?;
    office.eventually_says(3, "whereis post", &first)?;
    let gaps = std::thread::scope(|scope| -> Result<String> {
        let watch = scope.spawn(|| office.tell_to(3, "watchman", "watch post 3000"));
        for _ in 0..3 {
            for (number, id) in [(2, &second), (3, &third), (1, &first)] {
                assert_eq!(office.tell(number, "re-register post")?, "ok");
                assert_eq!(office.tell(number, "whereis post")?, *id);
            }
        }
        watch.join().unwrap()
    })?;
    assert_eq!(gaps, "0");
    for number in 1..=3 {
        office.eventually_says(number, "whereis post", &first)?;
        assert_eq!(office.tell(number, "seen")?, "", "nobody is told");
    }
    // A free name, too.
    assert_eq!(office.tell(2, "re-register free")?, "ok");
    Ok(())
}

#[test]
fn a_lock_keeps_what_belongs_together_together() -> Result<()> {
    let office = Office::new(3, &[])?;
    office.hire(1, "counter")?;
    assert_eq!(office.tell_to(1, "counter", "register counter")?, "ok");
    for number in 2..=3 {
        let id = office.tell_to(1, "counter", "id")?;
        office.eventually_says(number, "whereis counter", &id)?;
    }
    for (number, name) in [(1, "other"), (2, "other"), (3, "other")] {
        office.hire(number, name)?;
    }
    std::thread::scope(|scope| -> Result<()> {
        let office = &office;
        let workers = (1..=3).flat_map(|number| [(number, "clerk"), (number, "other")]);
        let work = |(number, clerk)| {
            scope.spawn(move || office.tell_to(number, clerk, "count counter till 20"))
        };
        let working: Vec<_> = workers.map(work).collect();
        for worker in working {
            assert_eq!(worker.join().unwrap()?, "ok");
        }
        Ok(())
    })?;
    assert_eq!(office.tell_to(1, "counter", "get")?, "120");
    // Of one requester, several hold it together; others wait for the last of them.
    assert_eq!(office.tell(1, "lock room try guild")?, "ok");
    assert_eq!(office.tell(2, "lock room try guild")?, "ok");
    assert_eq!(office.tell(2, "lock room try guild")?, "ok");
    assert_eq!(office.tell(2, "unlock room guild")?, "true");
    assert_eq!(office.tell(2, "unlock room guild")?, "false");
    ensure!(office.tell(3, "lock room try")?.starts_with("taken "));
    assert_eq!(office.tell(1, "unlock room guild")?, "true");
    office.eventually_says(3, "lock room try", "ok")?;
    Ok(())
}

#[test]
fn servers_and_other_nodes_actors_have_global_names() -> Result<()> {
    let office = Office::new(2, &[])?;
    let started = office.tell(1, "start server")?;
    let server = started.strip_prefix("started ").context(started.clone())?;
    office.eventually_says(2, "whereis server", server)?;
    let again = office.tell(2, "start server")?;
    assert_eq!(again, format!("already-started {server}"));
    assert_eq!(office.tell(2, "ask server id")?, server);
    assert_eq!(office.tell(2, "send server hello")?, server);
    assert_eq!(office.tell(2, "ask server seen")?, "message hello");
    assert_eq!(office.tell(2, "send nobody hello")?, "none");
    // Any node may name any node's actor, and take the name away.
    let second = office.tell(2, "id")?;
    assert_eq!(office.tell(1, &format!("register-for far {second}"))?, "ok");
    assert_eq!(office.tell(1, "whereis far")?, second);
    assert_eq!(office.tell(2, "whereis far")?, second);
    let taken = office.tell(1, &format!("register-for far {server}"))?;
    assert_eq!(taken, format!("taken {second}"));
    assert_eq!(office.tell(1, "unregister far")?, "true");
    office.eventually_says(1, "whereis far", "none")?;
    office.eventually_says(2, "whereis far", "none")?;
    let nowhere = office.tell(1, &format!("register-for far {}", "0".repeat(32)))?;
    ensure!(nowhere.starts_with("noconnection"), "{nowhere}");
    Ok(())
}

#[test]
fn when_two_parts_meet_each_name_is_resolved_as_its_holder_asked() -> Result<()> {
    let office = Office::new(2, &[])?;
    for judge in ["own", "other", "neither", "silent"] {
        let name = format!("judge-{judge}");
        office.hire(1, &name)?;
        assert_eq!(office.tell_to(1, &name, &format!("verdict {judge}"))?, "ok");
    }
    office.cut(2, &[1])?;
    let (first, second) = (office.tell(1, "id")?, office.tell(2, "id")?);
    // By the resolver of n1's holder: who keeps it. What n2's asks for does not count.
    let names = [
        ("notify-loser", Some(&first)),
        ("exit-loser", Some(&first)),
        ("notify-all", None),
        ("ask:judge-own", Some(&first)),
        ("ask:judge-other", Some(&second)),
        ("ask:judge-neither", None),
        ("ask:judge-silent", Some(&first)),
        ("ask:nobody", Some(&first)),
    ];
    for (by, _) in names {
        assert_eq!(office.tell(1, &format!("register {by} {by}"))?, "ok");
        assert_eq!(office.tell(2, &format!("register {by} notify-all"))?, "ok");
    }
    assert_eq!(office.tell(1, "lock safe try")?, "ok");
    assert_eq!(office.tell(2, "lock safe try")?, "ok");
    office.heal(2, 1)?;
    for (by, holder) in names {
        let holder = holder.map_or("none", String::as_str);
        for number in [1, 2] {
            let words = format!("whereis {by}");
            office.eventually_says(number, &words, holder)?;
        }
    }
    let told = |number: usize, by: &str| -> Result<bool> {
        let winner = if number == 1 { &second } else { &first };
        let seen = office.tell(number, "seen")?;
        Ok(seen.contains(&format!("conflict {by} {winner}")))
    };
    // The one that nobody resolves takes longest, and is all that is not decided yet.
    eventually("silence is an answer", || told(2, "ask:judge-silent"))?;
    for (by, holder) in names {
        for (number, id) in [(1, &first), (2, &second)] {
            let loses = holder != Some(id);
            assert_eq!(told(number, by)?, loses, "n{number} about {by}");
        }
    }
    let exits = office
        .tell(2, "seen")?
        .matches("exit error: name-conflict")
        .count();
    assert_eq!(exits, 1, "of exit-loser alone");
    // Both parts' locks stay, and nobody gets one until both are let go.
    office.hire(2, "third")?;
    ensure!(
        office
            .tell_to(2, "third", "lock safe try")?
            .starts_with("taken ")
    );
    assert_eq!(office.tell(1, "unlock safe")?, "true");
    ensure!(
        office
            .tell_to(2, "third", "lock safe try")?
            .starts_with("taken ")
    );
    assert_eq!(office.tell(2, "unlock safe")?, "true");
    let granted = office.tell_to(2, "third", "lock safe endless")?;
    assert_eq!(granted, "ok");
    Ok(())
}

#[test]
fn the_smaller_part_refuses_if_it_is_told_to() -> Result<()> {
    let policy = ["--partition-policy", "minority-refuses"];
    let office = Office::new(3, &[&policy[..], &["--cluster-size", "3"]].concat())?;
    assert_eq!(office.tell(3, "register before")?, "ok");
    office.cut(3, &[1, 2])?;
    for words in ["register name", "re-register before", "lock safe endless"] {
        let refused = office.tell(3, words)?;
        ensure!(
            refused.contains("1 of 3 nodes") && refused.contains("minority-refuses"),
            "{words}: {refused}"
        );
    }
    let third = office.tell(3, "id")?;
    assert_eq!(
        office.tell(3, "whereis before")?,
        third,
        "what is held stays"
    );
    for words in ["register name", "lock safe try"] {
        assert_eq!(office.tell(1, words)?, "ok", "{words}");
    }
    // Whoever was cut off by a user is so until a user links it again.
    office.heal(3, 1)?;
    office.heal(3, 2)?;
    office.sees(3, 2)?;
    let first = office.tell(1, "id")?;
    office.eventually_says(3, "register name", &format!("taken {first}"))?;
    // The option alone says nothing.
    let said = office
        .site
        .fails(2, &["start", "--name", "n4", "--cluster-size", "3"])?;
    ensure!(said.contains("--partition-policy"), "{said}");
    Ok(())
}
