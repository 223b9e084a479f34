//! Random children under random supervisors that end, fail to start, are slow, and are asked for
//! things: what holds whatever happens.

use std::collections::BTreeMap;

use proptest::prelude::{Just, ProptestConfig, Strategy, prop, prop_assert, prop_oneof, proptest};

use super::*;

const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];
const INTENSITY: u32 = 4;
const PERIOD_MS: u64 = 1_000;

#[derive(Debug, Clone)]
enum Act {
    /// Of those that start: it has, or it failed.
    Start {
        which: usize,
        fails: bool,
    },
    /// Of those that run or end: it ends.
    End {
        which: usize,
        reason: ExitReason,
    },
    Timer,
    Later(u64),
    Terminate(usize),
    Restart(usize),
    Delete(usize),
    Stop,
}

fn act() -> impl Strategy<Value = Act> {
    let reason = prop_oneof![
        Just(ExitReason::Normal),
        Just(ExitReason::Shutdown),
        Just(crash()),
        Just(ExitReason::Killed),
    ];
    prop_oneof![
        6 => (0..5usize, prop::bool::weighted(0.15))
            .prop_map(|(which, fails)| Act::Start { which, fails }),
        4 => (0..5usize, reason).prop_map(|(which, reason)| Act::End { which, reason }),
        1 => Just(Act::Timer),
        2 => (0..400u64).prop_map(Act::Later),
        1 => (0..5usize).prop_map(Act::Terminate),
        1 => (0..5usize).prop_map(Act::Restart),
        1 => (0..5usize).prop_map(Act::Delete),
        1 => prop::bool::weighted(0.1).prop_map(|stop| match stop {
            true => Act::Stop,
            false => Act::Later(1),
        }),
    ]
}

/// What lives in the test's world, and what was seen of it.
struct Run {
    test: Test,
    /// Spawned and not answered; alive.
    starting: Vec<(String, Pid, Ref)>,
    alive: BTreeMap<Pid, String>,
    /// Those that were asked to end, and live.
    asked: Vec<Pid>,
}

impl Run {
    fn new(spec: SupervisorSpec) -> Self {
        let mut run = Self {
            test: Test::of(spec),
            starting: Vec::new(),
            alive: BTreeMap::new(),
            asked: Vec::new(),
        };
        run.look();
        run
    }

    /// Takes in what the machine did.
    fn look(&mut self) {
        for did in self.test.did() {
            match did {
                Spawn(id) => {
                    let (pid, tag) = self.test.actors.find(&id);
                    assert!(
                        !self.alive.values().any(|other| *other == id),
                        "{id} starts while another of it lives"
                    );
                    self.starting.push((id.clone(), pid, tag));
                    self.alive.insert(pid, id);
                }
                Exit(id, _) => {
                    let of_it = |(_, other): &(&Pid, &String)| **other == id;
                    let found = self.alive.iter().find(of_it);
                    self.asked.extend(found.map(|(pid, _)| *pid));
                }
                Did::Reply(..) => {}
            }
        }
    }

    fn act(&mut self, act: &Act) {
        let (machine, actors) = (&mut self.test.machine, &mut self.test.actors);
        match act {
            Act::Start { which, fails } => {
                if self.starting.is_empty() {
                    return;
                }
                let (_, pid, tag) = self.starting.remove(which % self.starting.len());
                if *fails {
                    let error = Err(SpawnError::InitFailed(crash()));
                    machine.spawned(actors, tag, error);
                    machine.exited(actors, pid, crash());
                    self.alive.remove(&pid);
                } else {
                    machine.spawned(actors, tag, Ok(pid));
                }
            }
            Act::End { which, reason } => {
                let starts = |pid: &Pid| self.starting.iter().any(|(_, other, _)| other == pid);
                let up: Vec<Pid> = self
                    .alive
                    .keys()
                    .copied()
                    .filter(|pid| !starts(pid))
                    .collect();
                if let Some(pid) = up.get(which % up.len().max(1)) {
                    self.alive.remove(pid);
                    machine.exited(actors, *pid, reason.clone());
                }
            }
            Act::Timer => {
                if !actors.timers.is_empty() {
                    let (_, timer) = actors.timers.remove(0);
                    machine.timer(actors, timer);
                }
            }
            Act::Later(ms) => actors.now += ms,
            Act::Terminate(which) => machine.terminate_child(actors, IDS[*which], 1),
            Act::Restart(which) => machine.restart_child(actors, IDS[*which], 2),
            Act::Delete(which) => {
                let _ = machine.delete_child(actors, IDS[*which]);
            }
            Act::Stop => machine.stop(actors, ExitReason::Shutdown),
        }
        self.look();
        self.check();
    }

    fn check(&self) {
        let children = self.test.machine.children();
        let counts = self.test.machine.counts();
        assert_eq!(counts.specs as usize, children.len());
        let running = children.iter().filter_map(|child| child.pid());
        let running: Vec<Pid> = running.collect();
        assert_eq!(counts.active as usize, running.len());
        for pid in running {
            assert!(self.alive.contains_key(&pid), "a pid of nobody who lives");
        }
        if self.test.machine.finished().is_some() {
            assert!(self.alive.is_empty(), "it ends before its children");
        }
    }

    /// Everybody does what they are asked to, until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let asked = &self.asked;
            self.starting.retain(|(_, pid, _)| !asked.contains(pid));
            if !self.starting.is_empty() {
                self.act(&Act::Start {
                    which: 0,
                    fails: false,
                });
                continue;
            }
            let (machine, actors) = (&mut self.test.machine, &mut self.test.actors);
            if let Some(pid) = self.asked.pop() {
                if self.alive.remove(&pid).is_some() {
                    machine.exited(actors, pid, ExitReason::Shutdown);
                    self.look();
                }
            } else if !actors.timers.is_empty() {
                self.act(&Act::Timer);
            } else {
                return;
            }
        }
    }
}

fn restart() -> impl Strategy<Value = Restart> {
    prop_oneof![Just(Permanent), Just(Transient), Just(Temporary)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn whatever_happens(
        strategy in prop_oneof![
            Just(super::Strategy::OneForOne),
            Just(super::Strategy::OneForAll),
            Just(super::Strategy::RestForOne)
        ],
        restarts in prop::collection::vec(restart(), 1..=5),
        acts in prop::collection::vec(act(), 0..80),
    ) {
        let children = IDS.iter().zip(&restarts);
        let children = children.map(|(id, restart)| ChildSpec::new(*id, "m", vec![]).restart(*restart));
        let mut run = Run::new(SupervisorSpec {
            strategy,
            intensity: INTENSITY,
            period_ms: PERIOD_MS as u32,
            children: children.collect(),
            ..SupervisorSpec::default()
        });
        for act in &acts {
            run.act(act);
            if run.test.machine.finished().is_some() {
                break;
            }
        }
        run.settle();
        if run.test.machine.is_stopping() {
            prop_assert!(run.test.machine.finished().is_some());
            prop_assert!(run.alive.is_empty());
        } else {
            // All that should run do.
            for child in run.test.machine.children() {
                prop_assert!(child.state != ChildState::Restarting, "{} hangs", child.id);
            }
        }
    }
}
