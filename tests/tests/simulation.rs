//! Simulated clusters: many seeds, several scenarios, and the proof that the checks bite.

use std::sync::atomic::{AtomicU64, Ordering};

use wasm_node_protocol::global::Mutations;
use wasm_node_tests::sim::{self, Failure, Scenario, Stats};

/// Seeds a scenario, unless `WASM_NODE_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 60;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs seeds on two threads, until one fails.
fn run_seeds(first: u64, count: u64, scenario: &Scenario) -> Result<Stats, Box<Failure>> {
    let next = AtomicU64::new(first);
    let worker = || -> Result<Stats, Box<Failure>> {
        let mut total = Stats::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return Ok(total);
            }
            total += sim::run(seed, scenario)
                .inspect_err(|_| next.store(u64::MAX / 2, Ordering::Relaxed))?;
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(worker);
        let mine = worker();
        let mut total = other.join().expect("the worker does not panic")?;
        total += mine?;
        Ok(total)
    })
}

fn must_hold(scenario: &Scenario) -> Stats {
    let (first, count) = match number("WASM_NODE_SIM_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("WASM_NODE_SIM_SEEDS").unwrap_or(SEEDS)),
    };
    match run_seeds(first, count, scenario) {
        Ok(stats) => {
            eprintln!("{count} seeds: {stats:?}");
            stats
        }
        Err(failure) => panic!("\n{failure}\n{scenario:?}"),
    }
}

#[test]
fn three_nodes_with_faults() {
    let stats = must_hold(&Scenario::default());
    assert!(stats.granted > 0 && stats.taken > 0 && stats.signals > 0);
}

#[test]
fn five_nodes_with_faults() {
    must_hold(&Scenario {
        nodes: 5,
        active_ms: 15_000,
        names: 2,
        ..Scenario::default()
    });
}

#[test]
fn a_hidden_node_takes_part() {
    must_hold(&Scenario {
        nodes: 3,
        hidden: true,
        ..Scenario::default()
    });
}

#[test]
fn users_disconnect_nodes() {
    must_hold(&Scenario {
        nodes: 4,
        disconnects: true,
        ..Scenario::default()
    });
}

#[test]
fn without_faults_nothing_goes_down_and_no_claim_times_out() {
    let stats = must_hold(&Scenario {
        fault_every_ms: 0,
        nodes: 4,
        ..Scenario::default()
    });
    assert_eq!(stats.timeouts, 0);
}

/// Runs seeds until the mistake is found. Says what the checks said.
fn must_find(scenario: &Scenario) -> String {
    match run_seeds(0, 2000, scenario) {
        Ok(stats) => panic!("not found: {scenario:?}\n{stats:?}"),
        Err(failure) => {
            assert!(!failure.trace.is_empty());
            eprintln!("found with seed {}: {}", failure.seed, failure.what);
            failure.what
        }
    }
}

#[test]
fn finds_promises_given_twice() {
    let mutations = Mutations {
        promise_always: true,
        ..Mutations::default()
    };
    let what = must_find(&Scenario {
        mutations,
        ..Scenario::default()
    });
    assert!(
        what.contains("was granted") || what.contains("two holders"),
        "{what}"
    );
}

#[test]
fn finds_newcomers_that_are_not_asked() {
    let mutations = Mutations {
        ignore_newcomers: true,
        ..Mutations::default()
    };
    let what = must_find(&Scenario {
        mutations,
        fault_every_ms: 100,
        action_every_ms: 10,
        names: 1,
        ..Scenario::default()
    });
    assert!(what.contains("was granted"), "{what}");
}

#[test]
fn finds_orphaned_promises() {
    let mutations = Mutations {
        orphan_promises: true,
        ..Mutations::default()
    };
    let what = must_find(&Scenario {
        mutations,
        ..Scenario::default()
    });
    assert!(what.contains("for ever"), "{what}");
}

#[test]
fn finds_names_kept_after_a_conflict() {
    let mutations = Mutations {
        keep_lost_names: true,
        ..Mutations::default()
    };
    let what = must_find(&Scenario {
        mutations,
        ..Scenario::default()
    });
    assert!(
        what.contains("holds") || what.contains("two holders"),
        "{what}"
    );
}

#[test]
fn finds_signals_that_overtake() {
    let what = must_find(&Scenario {
        reorder_signals: true,
        fault_every_ms: 0,
        ..Scenario::default()
    });
    assert!(what.contains("signal"), "{what}");
}
