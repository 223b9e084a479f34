//! Nodes are killed, frozen, started again and started empty: no acknowledged entry is lost,
//! nothing stale is served, every request is answered in bounded time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use wasm_node_tests::cluster::{Cluster, EVENT_TIMEOUT};
use wasm_node_tests::http::Connection;
use wasm_node_tests::todo::{
    ANSWER_WITHIN, Client, DAY, SCHEDULING, entries_target, server_name, titles_of,
};

/// A silent node is called down within this at the default tick time.
const DOWN_WITHIN: Duration = Duration::from_secs(5);
/// How soon after a node was called down a write is through.
const WRITE_AFTER_DOWN: Duration = Duration::from_secs(1);
/// How many further requests all writers together make before a test goes on.
const SOME_WRITES: usize = 60;

#[test]
fn a_list_whose_node_is_killed_is_served_by_another() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let mut expected = Vec::new();
    let mut client = Client::new(cluster.http(2));
    for number in 0..40 {
        expected.push(format!("entry {number}"));
        client.add("bob", &format!("entry {number}"))?;
    }
    let holder = cluster.holder(1, &server_name("bob"))?;
    let position = cluster.sandbox.log.position();
    cluster.kill(holder)?;
    let others: Vec<_> = (1..=3).filter(|&number| number != holder).collect();
    for &number in &others {
        let mut client = Client::new(cluster.http(number));
        // The first request already, without a failure.
        assert_eq!(client.titles("bob")?, expected, "through node{number}");
        let title = format!("after, by node{number}");
        client.add("bob", &title)?;
        expected.push(title);
    }
    for &number in &others {
        cluster.wait_for_log(number, position, "node down", EVENT_TIMEOUT)?;
        assert_eq!(Client::new(cluster.http(number)).titles("bob")?, expected);
    }
    let new_holder = cluster.holder(others[0], &server_name("bob"))?;
    assert!(others.contains(&new_holder));
    Ok(())
}

#[test]
fn the_smaller_part_starts_no_list_if_up_was_told_so() -> Result<()> {
    let policy = ["--partition-policy", "minority-refuses"];
    let cluster = Cluster::start_with(3, 4_000, &policy)?;
    Client::new(cluster.http(1)).add("old", "before")?;
    for killed in [2, 3] {
        let position = cluster.sandbox.log.position();
        cluster.kill(killed)?;
        cluster.wait_for_log(1, position, "node down", EVENT_TIMEOUT)?;
    }
    let answer = Connection::open(cluster.http(1))?.request("GET", &entries_target("new", DAY))?;
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    ensure!(
        answer.status >= 500 && said.contains("minority"),
        "{} {said}",
        answer.status
    );
    Ok(())
}

#[test]
fn a_frozen_node_is_called_down_while_writes_go_on_and_comes_back_by_itself() -> Result<()> {
    let cluster = Cluster::start(3)?;
    // Each list's server is probably where the list was first asked for: one on each node.
    let lists = ["of-1", "of-2", "of-3"];
    for (index, list) in lists.iter().enumerate() {
        Client::new(cluster.http(index + 1)).add(list, "before")?;
    }
    assert_eq!(
        cluster.holder(1, &server_name("of-3"))?,
        3,
        "the frozen node holds a list"
    );

    // A reader of the node that will be frozen. It asks while the node is frozen, so that its
    // question is the first thing that the node sees when it wakes up.
    let mut waiting = Connection::open(cluster.http(3))?;
    let question = entries_target("of-3", DAY);
    assert_eq!(waiting.request("GET", &question)?.status, 200);

    let (stop, writes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut acknowledged, mut asked): (BTreeSet<_>, BTreeSet<_>) = Default::default();
    for list in lists {
        acknowledged.insert((list.to_string(), "before".to_string()));
    }
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let url = cluster.http(1 + writer % 2);
                let (stop, writes) = (&stop, &writes);
                scope.spawn(move || write_until(url, writer, &lists, stop, writes))
            })
            .collect();
        let result = go_on(&writes)
            .and_then(|()| freeze_and_see(&cluster))
            .and_then(|()| go_on(&writes));
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            let written = writer.join().map_err(|_| anyhow!("a writer panicked"))??;
            acknowledged.extend(written.acknowledged);
            asked.extend(written.refused);
        }
        result
    })?;

    waiting.send(format!("GET {question} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
    // It wakes up. From its first answer on it tells all that was acknowledged, or that it
    // cannot tell.
    let position = cluster.sandbox.log.position();
    cluster.thaw(3)?;
    let answer = waiting.receive(false)?;
    println!("the question that waited: {}", answer.status);
    match answer.status {
        200 => check("of-3", &titles_of(&answer)?, &acknowledged, &asked)?,
        status => ensure!(status == 503, "{status}: {}", answer.text()),
    }
    let mut thawed = Client::new(cluster.http(3));
    for list in lists {
        let (response, took) = thawed.try_titles(list)?;
        println!(
            "{list} through the thawed node: {} after {took:?}",
            response.status
        );
        ensure!(took < ANSWER_WITHIN + SCHEDULING, "an answer took {took:?}");
        let titles = match response.status {
            200 => titles_of(&response)?,
            503 => thawed.titles_in_time(list)?,
            status => return Err(anyhow!("{status}: {}", response.text())),
        };
        check(list, &titles, &acknowledged, &asked)?;
    }
    for number in [1, 2] {
        cluster
            .sandbox
            .log
            .wait(position, EVENT_TIMEOUT, "that node3 is back", |line| {
                line.starts_with(&format!("node{number}@"))
                    && line.contains("node up")
                    && line.contains("node3@")
            })?;
    }
    // Now writes reach all again, and all tell the same.
    for list in lists {
        Client::new(cluster.http(3)).add(list, "after")?;
        acknowledged.insert((list.to_string(), "after".to_string()));
        let all: Vec<_> = (1..=3)
            .map(|number| Client::new(cluster.http(number)).titles_in_time(list))
            .collect::<Result<_>>()?;
        assert_eq!(all[0], all[1]);
        assert_eq!(all[0], all[2]);
        check(list, &all[0], &acknowledged, &asked)?;
    }
    Ok(())
}

/// Freezes node 3, sees it called down by both others in time, and lists, the ones that it held
/// and new ones, work again at once.
fn freeze_and_see(cluster: &Cluster) -> Result<()> {
    let position = cluster.sandbox.log.position();
    let frozen = Instant::now();
    cluster.freeze(3)?;
    for number in [1, 2] {
        cluster
            .sandbox
            .log
            .wait(position, EVENT_TIMEOUT, "that node3 is down", |line| {
                line.starts_with(&format!("node{number}@"))
                    && line.contains("node down")
                    && line.contains("node3@")
            })?;
        let after = frozen.elapsed();
        println!("node{number} called node3 down after {after:?}");
        ensure!(
            after <= DOWN_WITHIN,
            "node{number} called it down after {after:?} only"
        );
    }
    for (number, list) in [
        (1, "of-3"),
        (2, "of-3"),
        (1, "of-1"),
        (2, "new-1"),
        (1, "new-2"),
    ] {
        let mut client = Client::new(cluster.http(number));
        let (response, took) = client.try_add(list, "once it was down")?;
        println!(
            "{list} through node{number}: {} after {took:?}",
            response.status
        );
        ensure!(
            response.status == 200,
            "{}: {}",
            response.status,
            response.text()
        );
        ensure!(
            took <= WRITE_AFTER_DOWN + SCHEDULING,
            "a write took {took:?}"
        );
    }
    Ok(())
}

/// Waits until the writers have made some more requests.
fn go_on(writes: &AtomicUsize) -> Result<()> {
    let (from, deadline) = (
        writes.load(Ordering::Relaxed),
        Instant::now() + EVENT_TIMEOUT,
    );
    while writes.load(Ordering::Relaxed) < from + SOME_WRITES {
        ensure!(Instant::now() < deadline, "writers do not get on");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[derive(Default)]
struct Written {
    /// Answered `OK`.
    acknowledged: BTreeSet<(String, String)>,
    /// Answered 503: added, or not.
    refused: BTreeSet<(String, String)>,
}

/// Adds to each list in turn until told to stop. Each request is answered in bounded time.
fn write_until(
    url: &str,
    writer: usize,
    lists: &[&str],
    stop: &AtomicBool,
    writes: &AtomicUsize,
) -> Result<Written> {
    let mut client = Client::new(url);
    let (mut written, mut longest) = (Written::default(), Duration::ZERO);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let list = lists[number % lists.len()];
        let title = format!("{writer}-{number}");
        let (response, took) = client.try_add(list, &title)?;
        longest = longest.max(took);
        writes.fetch_add(1, Ordering::Relaxed);
        ensure!(
            took <= ANSWER_WITHIN + SCHEDULING,
            "writer {writer}: an answer took {took:?}"
        );
        let entry = (list.to_string(), title);
        match response.status {
            200 => written.acknowledged.insert(entry),
            503 => {
                ensure!(
                    response.header("retry-after").is_some(),
                    "503 says when to try again"
                );
                written.refused.insert(entry)
            }
            status => return Err(anyhow!("{status}: {}", response.text())),
        };
    }
    println!(
        "writer {writer}: {} added, {} refused, the longest wait {longest:?}",
        written.acknowledged.len(),
        written.refused.len()
    );
    Ok(written)
}

/// All acknowledged titles are there, each once, and nothing that nobody added.
fn check(
    list: &str,
    titles: &[String],
    acknowledged: &BTreeSet<(String, String)>,
    refused: &BTreeSet<(String, String)>,
) -> Result<()> {
    let marks = ["once it was down"];
    for (of, title) in acknowledged {
        let count = titles.iter().filter(|there| *there == title).count();
        ensure!(
            of != list || count == 1,
            "{title:?} is there {count} times in {list}: {titles:?}"
        );
    }
    for title in titles {
        let entry = (list.to_string(), title.clone());
        let known = acknowledged.contains(&entry) || refused.contains(&entry);
        ensure!(
            known || marks.contains(&title.as_str()),
            "nobody added {title:?} to {list}"
        );
    }
    Ok(())
}

#[test]
fn acknowledged_entries_survive_the_death_of_all_nodes() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let mut expected = Vec::new();
    for round in 0..3 {
        let title = format!("round {round}");
        let mut client = Client::new(cluster.http(1 + round % 3));
        client.add("bob", &title)?;
        cluster.kill_all()?;
        expected.push(title);
        // Each in turn comes back alone first: each has it on its own disk.
        let first = 1 + (round + 1) % 3;
        cluster.start_again(first, &[])?;
        let alone = Client::new(cluster.http(first)).titles("bob")?;
        assert_eq!(alone, expected, "node{first} alone, in round {round}");
        let mut up = vec![first];
        for number in (1..=3).filter(|&number| number != first) {
            cluster.start_again(number, &up)?;
            up.push(number);
        }
        for number in 1..=3 {
            assert_eq!(Client::new(cluster.http(number)).titles("bob")?, expected);
        }
    }
    Ok(())
}

#[test]
fn a_node_that_was_away_catches_up_before_it_serves() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    Client::new(cluster.http(3)).add("bob", "while all were there")?;
    cluster.kill(3)?;
    let mut expected = vec!["while all were there".to_string()];
    for number in 0..50 {
        expected.push(format!("while node3 was away {number}"));
        Client::new(cluster.http(1 + number % 2)).add("bob", &expected[number + 1])?;
    }
    // It comes back, once with its old data and once with none, and is the first to load the
    // list, so that what it serves is what it has.
    for data in ["old", "none"] {
        if data == "none" {
            cluster.kill(3)?;
            std::fs::remove_dir_all(cluster.data(3)).context("cannot remove the data of node3")?;
        }
        let server = format!("global:{}", server_name("bob"));
        let node1 = cluster.node(1).name.clone();
        // Its server may have ended with node 3.
        let _ = cluster
            .sandbox
            .run(["exit", &node1, &server, "--reason", "kill"])?;
        cluster.restart(3)?;
        assert_eq!(
            Client::new(cluster.http(3)).titles("bob")?,
            expected,
            "with {data} data"
        );
        let title = format!("by node3 with {data} data");
        Client::new(cluster.http(3)).add("bob", &title)?;
        expected.push(title);
        for number in 1..=3 {
            assert_eq!(Client::new(cluster.http(number)).titles("bob")?, expected);
        }
    }
    // What it caught up with is its own now.
    cluster.kill(1)?;
    cluster.kill(2)?;
    assert_eq!(
        Client::new(cluster.http(3)).titles("bob")?,
        expected,
        "node3 alone"
    );
    Ok(())
}
