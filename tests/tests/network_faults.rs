//! Five nodes on five hosts of a network that fails: links are cut, slow and lossy, the cluster
//! falls apart and heals, all under load. What the simulator says of the machines is seen here
//! of the program, as users see it.
//!
//! Needs root and network namespaces; says why if it has to skip.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wasm_node_tests::cluster::run_to_end;
use wasm_node_tests::net::{Net, Rule, address};
use wasm_node_tests::node::{Node, Site, eventually, test_actor};

const NODES: usize = 5;

/// A silent node is down after so many milliseconds.
const TICK_TIME_MS: &str = "1000";

const CUT: Rule = Rule {
    cut: true,
    loss_percent: 0,
    delay: Duration::ZERO,
};

const FINE: Rule = Rule { cut: false, ..CUT };

/// What one of the actors that talk without end saw.
#[derive(Debug, Default)]
struct Report {
    heard: u64,
    disorder: u64,
    set: u64,
    fired: u64,
    twice: u64,
    watching: u64,
}

struct World {
    // In the order they have to go: nodes before the network that they use.
    nodes: Vec<Node>,
    net: Net,
    site: Site,
}

fn name(node: usize) -> String {
    format!("n{}@{}", node + 1, address(node))
}

impl World {
    fn start(net: Net) -> Result<Self> {
        let site = Site::new()?;
        let mut world = Self {
            nodes: Vec::new(),
            net,
            site,
        };
        let contract = test_actor("contract")?;
        for node in 0..NODES {
            world.site.install(&name(node), "contract", &contract)?;
            let node = world.launch(node)?;
            node.wait_ready()?;
            world.nodes.push(node);
        }
        world.wait_mesh("after the start")?;
        for node in 0..NODES {
            let others = (0..NODES).filter(|other| *other != node).map(name);
            let args = format!("chatter {}", others.collect::<Vec<_>>().join(" "));
            let own = name(node);
            world.ok(
                node,
                &[
                    "spawn",
                    &own,
                    "contract",
                    "--args",
                    &args,
                    "--local-name",
                    "chatter",
                ],
            )?;
        }
        Ok(world)
    }

    fn launch(&self, node: usize) -> Result<Node> {
        let (own, first) = (name(node), name(0));
        let listen = address(node);
        let mut args = vec!["--listen-host", &listen, "--tick-time", TICK_TIME_MS];
        if node > 0 {
            args.extend(["--connect", &first]);
        }
        let command = self.site.start_command(&["--name", &own], &own, &args)?;
        Node::launch(own, self.net.on(node, &command))
    }

    /// Runs a command on a node's host.
    fn ok(&self, host: usize, args: &[&str]) -> Result<String> {
        let mut command = self.site.command()?;
        command.args(args);
        let ran = run_to_end(self.net.on(host, &command))?;
        ensure!(ran.status.success(), "wasm-node {args:?} failed: {ran:?}");
        Ok(ran.stdout)
    }

    /// Which nodes a node lists.
    fn sees(&self, node: usize) -> Result<Vec<String>> {
        let listed: Value =
            serde_json::from_str(&self.ok(node, &["nodes", &name(node), "--json"])?)?;
        let rows = listed.get("nodes").and_then(Value::as_array);
        let names = rows.context("no list of nodes")?.iter();
        let names = names.filter_map(|row| row.get("name").and_then(Value::as_str));
        Ok(names.map(String::from).collect())
    }

    fn wait_sees(&self, node: usize, others: &[usize], when: &str) -> Result<()> {
        let others: Vec<_> = others.iter().map(|other| name(*other)).collect();
        eventually(&format!("{} lists {others:?} {when}", name(node)), || {
            Ok(self.sees(node)? == others)
        })
    }

    /// Membership converges: each lists all others.
    fn wait_mesh(&self, when: &str) -> Result<()> {
        for node in 0..NODES {
            let others: Vec<_> = (0..NODES).filter(|other| *other != node).collect();
            self.wait_sees(node, &others, when)?;
        }
        Ok(())
    }

    fn register(&self, node: usize, global: &str) -> Result<()> {
        self.ok(node, &["call", &name(node), "chatter", global])?;
        Ok(())
    }

    /// Who holds a global name, as a node knows it: an id that is the same everywhere.
    fn holder(&self, node: usize, global: &str) -> Result<Option<String>> {
        let mut command = self.site.command()?;
        let global = format!("global:{global}");
        command.args(["whereis", &name(node), &global, "--json"]);
        let ran = run_to_end(self.net.on(node, &command))?;
        if !ran.status.success() {
            return Ok(None);
        }
        let found: Value = serde_json::from_str(&ran.stdout)?;
        Ok(found.get("id").and_then(Value::as_str).map(String::from))
    }

    /// One holder, in all these nodes' eyes.
    fn wait_one_holder(&self, nodes: &[usize], global: &str) -> Result<String> {
        let mut holder = None;
        eventually(&format!("{nodes:?} agree on {global}"), || {
            let seen = nodes.iter().map(|node| self.holder(*node, global));
            let seen = seen.collect::<Result<Vec<_>>>()?;
            holder = seen[0].clone();
            Ok(holder.is_some() && seen.iter().all(|other| *other == holder))
        })?;
        holder.context("nobody holds it")
    }

    fn report(&self, node: usize) -> Result<Report> {
        let text = self.ok(node, &["call", &name(node), "chatter", "report"])?;
        let mut report = Report::default();
        let words: Vec<_> = text.split_whitespace().collect();
        for pair in words.chunks(2) {
            let [what, number] = pair else { continue };
            let number = number.parse().with_context(|| text.clone())?;
            match *what {
                "heard" => report.heard = number,
                "disorder" => report.disorder = number,
                "set" => report.set = number,
                "fired" => report.fired = number,
                "twice" => report.twice = number,
                "watching" => report.watching = number,
                _ => {}
            }
        }
        Ok(report)
    }

    /// Order, and monitors that fire once; and that all hear of each other again.
    fn check_talk(&self, when: &str) -> Result<()> {
        for node in 0..NODES {
            let before = self.report(node)?;
            let mut now = Report::default();
            eventually(&format!("{} watches all others {when}", name(node)), || {
                now = self.report(node)?;
                Ok(now.watching == NODES as u64 - 1 && now.heard > before.heard + 20)
            })?;
            assert_eq!(now.disorder, 0, "{} {when}: {now:?}", name(node));
            assert_eq!(now.twice, 0, "{} {when}: {now:?}", name(node));
            assert_eq!(now.set, now.fired + now.watching, "{when}: {now:?}");
        }
        Ok(())
    }
}

#[test]
fn five_nodes_on_a_network_that_fails() -> Result<()> {
    let net = match Net::new(NODES) {
        Ok(net) => net,
        Err(error) => {
            println!("skipped: no network of its own here: {error:#}");
            return Ok(());
        }
    };
    let world = World::start(net)?;
    let all: Vec<_> = (0..NODES).collect();
    world.check_talk("at first")?;
    world.register(0, "before")?;
    world.wait_one_holder(&all, "before")?;

    // One link of ten: two nodes lose each other, the others nobody.
    world.net.between(0, 1, CUT);
    world.wait_sees(0, &[2, 3, 4], "while it is cut from the second")?;
    world.wait_sees(1, &[2, 3, 4], "while it is cut from the first")?;
    world.wait_sees(2, &[0, 1, 3, 4], "while two others are cut")?;
    let fired = world.report(0)?.fired;
    assert!(fired >= 1, "nobody was told of the end of a connection");
    world.net.between(0, 1, FINE);
    world.wait_mesh("after one link healed")?;
    world.check_talk("after one link healed")?;

    // One direction of one link.
    world.net.one_way(2, 3, CUT);
    world.wait_sees(3, &[0, 1, 4], "while it hears nothing of the third")?;
    world.wait_sees(2, &[0, 1, 4], "while the fourth hears nothing of it")?;
    world.net.one_way(2, 3, FINE);
    world.wait_mesh("after one direction healed")?;

    // Slow and lossy everywhere, as a bad line: nothing may go down that comes back late only.
    world.net.everywhere(Rule {
        delay: Duration::from_millis(80),
        loss_percent: 2,
        ..FINE
    });
    world.register(4, "slowly")?;
    world.wait_one_holder(&all, "slowly")?;
    world.net.everywhere(FINE);
    world.wait_mesh("after the line was bad")?;
    world.check_talk("after the line was bad")?;

    // Three against two: each side takes the same name, and keeps the one it had.
    world.net.partition(&[3, 4]);
    world.wait_sees(0, &[1, 2], "in the larger side")?;
    world.wait_sees(1, &[0, 2], "in the larger side")?;
    world.wait_sees(2, &[0, 1], "in the larger side")?;
    world.wait_sees(3, &[4], "in the smaller side")?;
    world.wait_sees(4, &[3], "in the smaller side")?;
    world.register(1, "contested")?;
    world.register(3, "contested")?;
    let larger = world.wait_one_holder(&[0, 1, 2], "contested")?;
    let smaller = world.wait_one_holder(&[3, 4], "contested")?;
    assert_ne!(larger, smaller, "each side has its own");
    world.wait_one_holder(&[0, 1, 2], "before")?;
    world.net.everywhere(FINE);
    world.wait_mesh("after the partition")?;
    let holder = world.wait_one_holder(&all, "contested")?;
    assert!(holder == larger || holder == smaller, "{holder}");
    world.wait_one_holder(&all, "before")?;
    world.wait_one_holder(&all, "slowly")?;
    world.check_talk("after the partition")
}
