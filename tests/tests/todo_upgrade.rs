//! The component of the lists' servers is overwritten while clients write.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use wasm_node_tests::cluster::{Cluster, EVENT_TIMEOUT};
use wasm_node_tests::component::with_custom_section;
use wasm_node_tests::todo::Client;

const WRITERS: usize = 6;
/// How many further entries each writer adds before a test goes on.
const SOME: usize = 10;

#[test]
fn servers_move_to_a_new_version_while_clients_write() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let file = cluster.modules().join("todo-server.wasm");
    let good = std::fs::read(&file).context("cannot read the component")?;
    let stop = AtomicBool::new(false);
    let counts: [AtomicUsize; WRITERS] = Default::default();
    let added = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (url, stop, count) = (cluster.http(1 + writer % 3), &stop, &counts[writer]);
                scope.spawn(move || write_until(url, writer, stop, count))
            })
            .collect();
        let result = upgrade(&cluster, &file, &good, &counts, &|| {
            writers
                .iter()
                .any(std::thread::ScopedJoinHandle::is_finished)
        });
        stop.store(true, Ordering::Relaxed);
        let mut added = Vec::new();
        for writer in writers {
            added.push(writer.join().map_err(|_| anyhow!("a writer panicked"))??);
        }
        result?;
        anyhow::Ok(added)
    })?;
    for (writer, expected) in added.iter().enumerate() {
        println!("writer {writer} added {}", expected.len());
        for number in 1..=3 {
            let titles = Client::new(cluster.http(number)).titles(&own_list(writer))?;
            assert_eq!(
                &titles, expected,
                "the list of writer {writer} through node{number}"
            );
        }
    }
    // All wrote to this one too: each entry is there once, and each writer's are in order.
    let common = Client::new(cluster.http(1)).titles("common")?;
    let expected: usize = added.iter().map(Vec::len).sum();
    assert_eq!(common.len(), expected);
    for (writer, expected) in added.iter().enumerate() {
        let prefix = format!("{writer}-");
        let of_writer: Vec<_> = common
            .iter()
            .filter(|title| title.starts_with(&prefix))
            .collect();
        assert_eq!(of_writer, expected.iter().collect::<Vec<_>>());
    }
    Ok(())
}

/// A broken file, then a good one, then another that is written in place, as `cp` does.
fn upgrade(
    cluster: &Cluster,
    file: &std::path::Path,
    good: &[u8],
    counts: &[AtomicUsize],
    has_failed: &dyn Fn() -> bool,
) -> Result<()> {
    let log = &cluster.sandbox.log;
    go_on(counts, has_failed)?;
    let first = digests(cluster)?;
    ensure!(
        first.iter().all(|digest| *digest == first[0]),
        "all run one version: {first:?}"
    );

    for broken in [&b"no component"[..], &good[..good.len() / 2], b""] {
        let position = log.position();
        std::fs::write(file, broken).context("cannot write the component")?;
        for number in 1..=3 {
            let line = cluster.wait_for_log(
                number,
                position,
                "version refused, nothing has changed",
                EVENT_TIMEOUT,
            )?;
            ensure!(
                line.contains("todo-server"),
                "the line names the module: {line}"
            );
        }
        go_on(counts, has_failed)?;
        assert_eq!(digests(cluster)?, first, "a broken file changes nothing");
        let moved = log
            .since(0)
            .iter()
            .any(|line| line.contains("moved to the new version"));
        assert!(!moved);
    }

    let mut before = first;
    for version in ["by renaming", "in place"] {
        let position = log.position();
        let new = with_custom_section(good, version.as_bytes());
        if version == "in place" {
            std::fs::write(file, new).context("cannot write the component")?;
        } else {
            let temporary = file.with_extension("new");
            std::fs::write(&temporary, new).context("cannot write the component")?;
            std::fs::rename(&temporary, file).context("cannot rename the component")?;
        }
        let pids = servers(cluster)?;
        for (index, on_node) in pids.iter().enumerate() {
            for _ in on_node.iter().take(1) {
                cluster.wait_for_log(
                    index + 1,
                    position,
                    "moved to the new version",
                    EVENT_TIMEOUT,
                )?;
            }
        }
        go_on(counts, has_failed)?;
        let after = digests(cluster)?;
        ensure!(
            after.iter().all(|digest| *digest == after[0]),
            "all run one version: {after:?}"
        );
        ensure!(
            after != before,
            "{version}: the version has not changed: {after:?}"
        );
        assert_eq!(servers(cluster)?, pids, "the servers are the same actors");
        let moved = log.since(position).into_iter();
        let moved = moved.filter(|line| line.contains("moved to the new version"));
        assert_eq!(
            moved.count(),
            pids.iter().flatten().count(),
            "each moved once"
        );
        let stayed = log
            .since(position)
            .into_iter()
            .find(|line| line.contains("stays with the old"));
        assert_eq!(stayed, None);
        before = after;
    }
    Ok(())
}

/// Adds to a list of its own and to one common to all until told to stop. No request fails.
fn write_until(
    url: &str,
    writer: usize,
    stop: &AtomicBool,
    count: &AtomicUsize,
) -> Result<Vec<String>> {
    let mut client = Client::new(url);
    let mut added = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let title = format!("{writer}-{}", added.len());
        client.add(&own_list(writer), &title)?;
        client.add("common", &title)?;
        added.push(title);
        count.store(added.len(), Ordering::Relaxed);
    }
    Ok(added)
}

/// Waits until each writer has added some more.
fn go_on(counts: &[AtomicUsize], has_failed: &dyn Fn() -> bool) -> Result<()> {
    let from: Vec<_> = counts
        .iter()
        .map(|count| count.load(Ordering::Relaxed))
        .collect();
    let deadline = Instant::now() + EVENT_TIMEOUT;
    let behind = || {
        let pairs = counts.iter().zip(&from);
        pairs
            .filter(|(count, from)| count.load(Ordering::Relaxed) < **from + SOME)
            .count()
    };
    while behind() > 0 {
        ensure!(!has_failed(), "a writer has failed");
        ensure!(Instant::now() < deadline, "writers do not get on");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn own_list(writer: usize) -> String {
    format!("of writer {writer}")
}

/// The digest of the servers' module on each node.
fn digests(cluster: &Cluster) -> Result<Vec<String>> {
    let of_node = |number| {
        let list = cluster
            .sandbox
            .json(["modules", &cluster.node(number).name, "--json"])?;
        let rows = list["modules"].as_array().context("no modules")?;
        let row = rows
            .iter()
            .find(|row| row["name"] == "todo-server")
            .context("no such module")?;
        Ok(row["digest"].as_str().context("no digest")?.to_string())
    };
    (1..=cluster.len()).map(of_node).collect()
}

/// The pids of the lists' servers on each node.
fn servers(cluster: &Cluster) -> Result<Vec<Vec<String>>> {
    let of_node = |number| {
        let list = cluster
            .sandbox
            .json(["ps", &cluster.node(number).name, "--json"])?;
        let rows = list["processes"].as_array().context("no processes")?;
        let of_module = rows.iter().filter(|row| row["module"] == "todo-server");
        let mut pids: Vec<_> = of_module.map(|row| row["pid"].to_string()).collect();
        pids.sort();
        Ok(pids)
    };
    (1..=cluster.len()).map(of_node).collect()
}
