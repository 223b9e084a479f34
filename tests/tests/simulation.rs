//! Simulated clusters: many seeds, several scenarios, and the proof that the checks bite.
//!
//! `WASM_NODE_SIM_SEEDS` sets how many seeds each scenario runs, `WASM_NODE_SIM_SEED` runs one
//! alone, `WASM_NODE_SIM_FIRST` starts elsewhere. The ignored test `soak` runs for as long as
//! `WASM_NODE_SIM_MINUTES` says.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wasm_node_protocol::{global, groups, membership};
use wasm_node_tests::sim::{self, Failure, Faults, Mistakes, Scenario, Stats};

/// Seeds a scenario, unless `WASM_NODE_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 400;

/// For how long [`soak`] runs, in minutes, unless `WASM_NODE_SIM_MINUTES` says otherwise.
const SOAK_MINUTES: u64 = 10;

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
        None => (
            number("WASM_NODE_SIM_FIRST").unwrap_or(0),
            number("WASM_NODE_SIM_SEEDS").unwrap_or(SEEDS),
        ),
    };
    match run_seeds(first, count, scenario) {
        Ok(stats) => {
            eprintln!("{count} seeds: {stats:?}");
            stats
        }
        Err(failure) => panic!("\n{failure}\n{scenario:?}"),
    }
}

fn five_nodes() -> Scenario {
    Scenario {
        nodes: 5,
        active_ms: 15_000,
        names: 2,
        ..Scenario::default()
    }
}

fn with_a_hidden_node() -> Scenario {
    Scenario {
        hidden: true,
        ..Scenario::default()
    }
}

fn with_disconnects() -> Scenario {
    Scenario {
        nodes: 4,
        disconnects: true,
        ..Scenario::default()
    }
}

fn with_constant_faults() -> Scenario {
    Scenario {
        nodes: 4,
        active_ms: 10_000,
        fault_every_ms: 150,
        action_every_ms: 8,
        names: 1,
        ..Scenario::default()
    }
}

fn with_bad_paths_alone() -> Scenario {
    Scenario {
        nodes: 6,
        active_ms: 12_000,
        fault_every_ms: 700,
        faults: Faults {
            crashes: false,
            stops: false,
            clocks: false,
            ..Faults::ALL
        },
        ..Scenario::default()
    }
}

#[test]
fn three_nodes_with_faults() {
    let stats = must_hold(&Scenario::default());
    let happened = [
        stats.granted,
        stats.taken,
        stats.locked,
        stats.messages,
        stats.monitors_fired,
        stats.links_fired,
        stats.answered,
    ];
    assert!(happened.iter().all(|count| *count > 0), "{stats:?}");
}

#[test]
fn five_nodes_with_faults() {
    must_hold(&five_nodes());
}

#[test]
fn a_hidden_node_takes_part() {
    must_hold(&with_a_hidden_node());
}

#[test]
fn users_disconnect_nodes() {
    must_hold(&with_disconnects());
}

#[test]
fn faults_come_faster_than_they_are_noticed() {
    must_hold(&with_constant_faults());
}

#[test]
fn paths_fail_and_nodes_do_not() {
    must_hold(&with_bad_paths_alone());
}

#[test]
fn without_faults_nothing_goes_down_and_no_claim_times_out() {
    let stats = must_hold(&Scenario {
        fault_every_ms: 0,
        nodes: 4,
        active_ms: 10_000,
        ..Scenario::default()
    });
    assert_eq!(stats.timeouts, 0, "{stats:?}");
}

/// All scenarios, with seeds that no other test runs, for long.
#[test]
#[ignore = "for as long as WASM_NODE_SIM_MINUTES says"]
fn soak() {
    let minutes = number("WASM_NODE_SIM_MINUTES").unwrap_or(SOAK_MINUTES);
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    let scenarios = [
        Scenario::default(),
        five_nodes(),
        with_a_hidden_node(),
        with_disconnects(),
        with_constant_faults(),
        with_bad_paths_alone(),
    ];
    let mut first = number("WASM_NODE_SIM_FIRST").unwrap_or(1_000_000);
    let mut runs = 0;
    while Instant::now() < until {
        for scenario in &scenarios {
            if let Err(failure) = run_seeds(first, SEEDS, scenario) {
                panic!("\n{failure}\n{scenario:?}");
            }
            runs += SEEDS;
        }
        first += SEEDS;
        eprintln!("{runs} runs, seeds below {first}");
    }
}

/// The figures are for people; that a mesh forms, rests and agrees on a name is tested.
fn mesh(nodes: usize) {
    let began = Instant::now();
    let figures = sim::measure_mesh(nodes).unwrap_or_else(|error| panic!("{nodes} nodes: {error}"));
    eprintln!("{figures:?} in {:.1} s", began.elapsed().as_secs_f32());
    // Two round trips, and what a slow path takes longer.
    assert!(figures.register_ms < 1_000, "{figures:?}");
    // Nothing but ticks: some bytes to each of the others.
    let others = nodes as u64 - 1;
    assert!(figures.rest_bytes_per_s < 200 * others, "{figures:?}");
}

#[test]
fn fifty_nodes_form_a_full_mesh() {
    mesh(50);
}

#[test]
fn two_hundred_nodes_form_a_full_mesh() {
    mesh(200);
}

#[test]
#[ignore = "takes ten minutes; alone, it says what a node takes in memory"]
fn a_thousand_nodes_form_a_full_mesh() {
    mesh(1000);
}

/// Runs seeds until the mistake is found, by the invariant that it breaks.
fn must_find(mistakes: Mistakes, invariants: &[&str], scenario: Scenario) {
    let scenario = Scenario {
        mistakes,
        ..scenario
    };
    match run_seeds(0, 500, &scenario) {
        Ok(stats) => panic!("not found: {scenario:?}\n{stats:?}"),
        Err(failure) => {
            assert!(
                invariants.contains(&failure.invariant),
                "found by another invariant:\n{failure}"
            );
            assert!(!failure.trace.is_empty());
            eprintln!(
                "found by {:?} with seed {}: {}",
                failure.invariant, failure.seed, failure.what
            );
        }
    }
}

const NAMES: &str = "one holder a global name";
const LOCKS: &str = "locks are exclusive and never orphaned";
const ORPHANS: &str = "no orphaned promises and claims";

fn global_mistake(mutations: global::Mutations) -> Mistakes {
    Mistakes {
        global: mutations,
        ..Mistakes::default()
    }
}

#[test]
fn finds_promises_given_twice() {
    let mistakes = global_mistake(global::Mutations {
        promise_always: true,
        ..Default::default()
    });
    must_find(mistakes, &[NAMES, LOCKS], Scenario::default());
}

#[test]
fn finds_locks_of_the_dead() {
    let mistakes = global_mistake(global::Mutations {
        orphan_locks: true,
        ..Default::default()
    });
    must_find(mistakes, &[LOCKS], Scenario::default());
}

#[test]
fn finds_newcomers_that_are_not_asked() {
    let mistakes = global_mistake(global::Mutations {
        ignore_newcomers: true,
        ..Default::default()
    });
    must_find(mistakes, &[NAMES, LOCKS], with_constant_faults());
}

#[test]
fn finds_orphaned_promises() {
    let mistakes = global_mistake(global::Mutations {
        orphan_promises: true,
        ..Default::default()
    });
    must_find(mistakes, &[ORPHANS], Scenario::default());
}

#[test]
fn finds_names_kept_after_a_conflict() {
    let mistakes = global_mistake(global::Mutations {
        keep_lost_names: true,
        ..Default::default()
    });
    must_find(mistakes, &[NAMES], Scenario::default());
}

#[test]
fn finds_nodes_that_are_not_dialled_again() {
    let mistakes = Mistakes {
        membership: membership::Mutations {
            forget_lost_nodes: true,
            ..Default::default()
        },
        ..Mistakes::default()
    };
    must_find(mistakes, &["membership converges"], Scenario::default());
}

#[test]
fn finds_nodes_that_nobody_is_told_of() {
    let mistakes = Mistakes {
        membership: membership::Mutations {
            never_compare: true,
            ..Default::default()
        },
        ..Mistakes::default()
    };
    must_find(mistakes, &["membership converges"], five_nodes());
}

#[test]
fn finds_connect_requests_that_are_forgotten() {
    let mistakes = Mistakes {
        membership: membership::Mutations {
            forget_requests: true,
            ..Default::default()
        },
        ..Mistakes::default()
    };
    must_find(
        mistakes,
        &["connect requests are answered once"],
        with_constant_faults(),
    );
}

#[test]
fn finds_dead_members_of_groups() {
    let mistakes = Mistakes {
        groups: groups::Mutations {
            keep_dead_members: true,
        },
        ..Mistakes::default()
    };
    must_find(mistakes, &["groups converge"], Scenario::default());
}

#[test]
fn finds_messages_that_overtake() {
    let mistakes = Mistakes {
        reorder_signals: true,
        ..Mistakes::default()
    };
    must_find(
        mistakes,
        &["messages keep their order"],
        Scenario::default(),
    );
}

#[test]
fn finds_ends_of_connections_that_are_not_told() {
    let mistakes = Mistakes {
        forget_remote: true,
        ..Mistakes::default()
    };
    let invariants = [
        "every link fires exactly once",
        "every monitor fires exactly once",
    ];
    must_find(mistakes, &invariants, Scenario::default());
}

#[test]
fn finds_requests_that_outlive_their_timeout() {
    let mistakes = Mistakes {
        no_timers: true,
        ..Mistakes::default()
    };
    must_find(
        mistakes,
        &["no request outlives its time-out"],
        Scenario::default(),
    );
}

#[test]
fn finds_queues_without_a_bound() {
    let mistakes = Mistakes {
        never_suspend: true,
        ..Mistakes::default()
    };
    must_find(mistakes, &["queues are bounded"], with_bad_paths_alone());
}
