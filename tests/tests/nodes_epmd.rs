//! The port mapper: ours, the original `epmd`, and Erlang's own nodes beside ours.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wasm_node_tests::cluster::run_to_end;
use wasm_node_tests::node::{Site, eventually};
use wasm_node_tests::process::{Log, Process};
use wasm_node_tests::program::repository;

const N1: &str = "n1@127.0.0.1";
const N2: &str = "n2@127.0.0.1";
const N3: &str = "n3@127.0.0.1";

/// A program of the package `erlang-base`, which is installed if it is missing and we are root.
/// `None`, with the reason printed, if there is none.
fn erlang(tool: &str) -> Result<Option<PathBuf>> {
    if let Some(path) = find(tool) {
        return Ok(Some(path));
    }
    // SAFETY: takes nothing, gives a number.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: no `{tool}` here, and not root; `apt-get install erlang-base` helps");
        return Ok(None);
    }
    let mut install = Command::new("apt-get");
    install
        .args(["install", "--yes", "--no-install-recommends", "erlang-base"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .current_dir(repository());
    let ran = run_to_end(install);
    match find(tool) {
        Some(path) => Ok(Some(path)),
        None => {
            println!("skipped: no `{tool}` here, and it could not be installed: {ran:?}");
            Ok(None)
        }
    }
}

fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(tool))
        .find(|file| file.is_file())
}

/// What `epmd -names` prints about a site, without its first line.
fn epmd_names(site: &Site, epmd: &PathBuf) -> Result<Vec<String>> {
    let mut command = Command::new(epmd);
    command
        .arg("-names")
        .env("ERL_EPMD_PORT", site.epmd_port().to_string());
    let ran = run_to_end(command)?;
    ensure!(ran.status.success(), "`epmd -names` failed: {ran:?}");
    let mut lines = ran.stdout.lines();
    let head = lines.next().unwrap_or_default();
    ensure!(
        head.starts_with("epmd: up and running on port"),
        "it said {head:?}"
    );
    let mut names: Vec<_> = lines.map(String::from).collect();
    names.sort();
    Ok(names)
}

fn our_names(site: &Site) -> Result<Vec<String>> {
    let mut names: Vec<_> = site.ok(&["names"])?.lines().map(String::from).collect();
    names.sort();
    Ok(names)
}

fn start_epmd(site: &Site, epmd: &PathBuf) -> Result<Process> {
    let mut command = Command::new(epmd);
    command.args([
        "-address",
        "127.0.0.1",
        "-port",
        &site.epmd_port().to_string(),
    ]);
    let process = Process::start(command, &Log::default())?;
    let at = ("127.0.0.1", site.epmd_port());
    eventually("epmd listens", || {
        Ok(std::net::TcpStream::connect(at).is_ok())
    })?;
    Ok(process)
}

#[test]
fn the_original_lists_our_nodes() -> Result<()> {
    let Some(epmd) = erlang("epmd")? else {
        return Ok(());
    };
    let site = Site::new()?;
    let n1 = site.start("n1", &[])?;
    n1.wait_log(&["no port mapper answered: this node serves as one"])?;
    let n2 = site.start("n2", &["--connect", N1])?;
    let line = |name: &str, at: String| {
        format!(
            "name {name} at port {}",
            at.rsplit(':').next().unwrap_or_default()
        )
    };
    let expected = [line("n1", n1.listens()?), line("n2", n2.listens()?)];
    assert_eq!(epmd_names(&site, &epmd)?, expected);
    assert_eq!(our_names(&site)?, expected);
    let json = site.ask(&["names"])?;
    let first = json.pointer("/names/0/name").and_then(|name| name.as_str());
    assert_eq!(first, Some("n1"), "{json}");
    Ok(())
}

#[test]
fn our_nodes_use_an_original_that_runs() -> Result<()> {
    let Some(epmd) = erlang("epmd")? else {
        return Ok(());
    };
    let site = Site::new()?;
    let original = start_epmd(&site, &epmd)?;
    let n1 = site.start("n1", &[])?;
    let mut n2 = site.start("n2", &["--connect", N1])?;
    n1.wait_up(N2)?;
    assert_eq!(epmd_names(&site, &epmd)?, our_names(&site)?);
    assert_eq!(our_names(&site)?.len(), 2);
    assert_eq!(
        n1.count_log(&["serves as one"]) + n2.count_log(&["serves as one"]),
        0
    );
    // A second of a name is refused by it too.
    let mut again = site.launch_as(&["--name", N2], "other-data", &[])?;
    assert_eq!(again.wait_end()?, Some(1));
    again.wait_log(&["n2@127.0.0.1 did not start", "taken"])?;
    // A dead node's name goes.
    n2.crash();
    eventually("the name of a dead node goes", || {
        Ok(epmd_names(&site, &epmd)?.len() == 1)
    })?;
    // It dies: the nodes that are left see to a new one.
    drop(original);
    n1.wait_log(&["the port mapper went away"])?;
    n1.wait_log(&["serves as one"])?;
    eventually("registered anew", || {
        Ok(epmd_names(&site, &epmd)?.len() == 1)
    })
}

#[test]
fn an_erlang_node_registers_with_our_port_mapper() -> Result<()> {
    let Some(erl) = erlang("erl")? else {
        return Ok(());
    };
    let site = Site::new()?;
    let _n1 = site.start("n1", &[])?;
    let mut command = Command::new(erl);
    command
        .args(["-noshell", "-start_epmd", "false", "-name", "beam@127.0.0.1"])
        .args(["-setcookie", "other", "-eval"])
        .arg("{ok, Names} = erl_epmd:names(\"127.0.0.1\"), io:format(\"~p~n\", [lists:sort(Names)]).")
        .env("ERL_EPMD_PORT", site.epmd_port().to_string())
        .env("HOME", site.path(""));
    let erlang = Process::start(command, &Log::default())?;
    let printed = erlang
        .stdout
        .wait(0, Duration::from_secs(120), "its names", |_| true);
    let printed = printed.with_context(|| erlang.stderr.tail())?;
    ensure!(
        printed.contains("\"beam\"") && printed.contains("\"n1\""),
        "{printed}"
    );
    assert!(
        our_names(&site)?
            .iter()
            .any(|line| line.starts_with("name beam at port "))
    );
    // It is found, dialled, and refused in words: it speaks another protocol.
    let said = site.fails(1, &["nodes", "beam@127.0.0.1"])?;
    assert!(said.contains("cannot connect to beam@127.0.0.1"), "{said}");
    drop(erlang);
    eventually("its name goes", || {
        Ok(!our_names(&site)?
            .iter()
            .any(|line| line.starts_with("name beam ")))
    })
}

#[test]
fn the_port_mapper_outlives_the_node_that_served_it() -> Result<()> {
    let site = Site::new()?;
    let mut n1 = site.start("n1", &[])?;
    let n2 = site.start("n2", &["--connect", N1])?;
    let n3 = site.start("n3", &["--connect", N1])?;
    n2.wait_up(N3)?;
    n3.wait_up(N2)?;
    n1.wait_log(&["serves as one"])?;
    n1.crash();
    n2.wait_log(&["node down", N1])?;
    let names = |site: &Site| -> Result<Vec<String>> {
        let listed = site.run(["names"])?;
        let mut names: Vec<_> = listed
            .stdout
            .lines()
            .filter_map(|line| line.split(' ').nth(1).map(String::from))
            .collect();
        names.sort();
        Ok(names)
    };
    eventually("the nodes that are left are listed", || {
        Ok(names(&site)? == ["n2", "n3"])
    })?;
    let served = n2.count_log(&["serves as one"]) + n3.count_log(&["serves as one"]);
    assert_eq!(served, 1, "one of the two took it over");
    // New nodes are found, and the first comes back under its name.
    let n4 = site.start("n4", &["--connect", N3])?;
    n4.wait_up(N2)?;
    let n1 = site.start("n1", &["--connect", N2])?;
    n1.wait_up("n4@127.0.0.1")?;
    assert_eq!(names(&site)?, ["n1", "n2", "n3", "n4"]);
    Ok(())
}
