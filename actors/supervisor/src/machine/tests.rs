//! The machine against a world whose actors are in the test's hands.

use supervisor_core::Report;
use wasm_node_sdk::supervisor::ChildState;
use wasm_node_sdk::supervisor::spec::Name;

use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Did {
    /// Spawned: the child's id.
    Spawn(String),
    /// Exit signal, by the id of the child.
    Exit(String, ExitReason),
    Reply(u32, Reply),
}
use Did::{Exit, Spawn};

#[derive(Default)]
struct Actors {
    did: Vec<Did>,
    /// Living or starting: id, pid, tag.
    all: Vec<(String, Pid, Ref)>,
    refuse: Option<SpawnError>,
    timers: Vec<(u32, Ref)>,
    serial: u64,
    now: u64,
}

impl Actors {
    fn new_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn find(&self, id: &str) -> (Pid, Ref) {
        let found = self.all.iter().rev().find(|(name, ..)| name == id);
        found
            .map(|&(_, pid, tag)| (pid, tag))
            .unwrap_or_else(|| panic!("no actor {id}"))
    }

    fn did(&mut self) -> Vec<Did> {
        std::mem::take(&mut self.did)
    }
}

impl World<u32, Reply> for Actors {
    fn spawn(&mut self, child: &ChildSpec) -> Result<(Pid, Ref), SpawnError> {
        if let Some(error) = &self.refuse {
            return Err(error.clone());
        }
        let (pid, tag) = (self.new_serial(), self.new_serial());
        let (pid, tag) = (
            Pid {
                node: 1,
                serial: pid,
            },
            Ref {
                node: 1,
                serial: tag,
            },
        );
        self.all.push((child.id.clone(), pid, tag));
        self.did.push(Spawn(child.id.clone()));
        Ok((pid, tag))
    }
    fn exit(&mut self, pid: Pid, reason: ExitReason) {
        let (id, ..) = self
            .all
            .iter()
            .find(|(_, p, _)| *p == pid)
            .expect("a child");
        self.did.push(Exit(id.clone(), reason));
    }
    fn start_timer(&mut self, after_ms: u32) -> Ref {
        let timer = Ref {
            node: 1,
            serial: self.new_serial(),
        };
        self.timers.push((after_ms, timer));
        timer
    }
    fn cancel_timer(&mut self, timer: Ref) {
        self.timers.retain(|(_, t)| *t != timer);
    }
    fn now_ms(&mut self) -> u64 {
        self.now
    }
    fn reply(&mut self, to: u32, reply: Reply) {
        self.did.push(Did::Reply(to, reply));
    }
    fn report(&mut self, _: &Report<'_>) {}
}

struct Test {
    machine: Machine<u32>,
    actors: Actors,
}

impl Test {
    fn new(strategy: Strategy, children: &[(&str, Restart)]) -> Self {
        let child =
            |&(id, restart): &(&str, Restart)| ChildSpec::new(id, "m", vec![]).restart(restart);
        let children = children.iter().map(child).collect();
        let spec = SupervisorSpec {
            strategy,
            intensity: 2,
            period_ms: 1000,
            children,
            ..SupervisorSpec::default()
        };
        Self::of(spec)
    }

    fn of(spec: SupervisorSpec) -> Self {
        let mut test = Self {
            machine: Machine::new(spec).unwrap(),
            actors: Actors::default(),
        };
        test.machine.begin(&mut test.actors);
        test
    }

    /// All of its children started.
    fn up(strategy: Strategy, children: &[(&str, Restart)]) -> Self {
        let mut test = Self::new(strategy, children);
        for (id, _) in children {
            test.starts(id);
        }
        assert!(!test.machine.is_starting());
        test.actors.did();
        test
    }

    fn starts(&mut self, id: &str) {
        let (pid, tag) = self.actors.find(id);
        self.machine.spawned(&mut self.actors, tag, Ok(pid));
    }

    fn fails_to_start(&mut self, id: &str, reason: ExitReason) {
        let (pid, tag) = self.actors.find(id);
        let error = Err(SpawnError::InitFailed(reason.clone()));
        self.machine.spawned(&mut self.actors, tag, error);
        self.machine.exited(&mut self.actors, pid, reason);
    }

    fn ends(&mut self, id: &str, reason: ExitReason) {
        let (pid, _) = self.actors.find(id);
        self.machine.exited(&mut self.actors, pid, reason);
    }

    fn fire(&mut self) -> u32 {
        let (ms, timer) = self.actors.timers.remove(0);
        self.machine.timer(&mut self.actors, timer);
        ms
    }

    fn did(&mut self) -> Vec<Did> {
        self.actors.did()
    }

    fn states(&self) -> Vec<String> {
        let children = self.machine.children().into_iter();
        let shown = children.map(|child| {
            let state = match child.state {
                ChildState::Running(_) => "running",
                ChildState::Restarting => "restarting",
                ChildState::Undefined => "undefined",
            };
            format!("{} {state}", child.id)
        });
        shown.collect()
    }

    fn ids(&self) -> Vec<String> {
        self.machine
            .children()
            .into_iter()
            .map(|child| child.id)
            .collect()
    }
}

fn spawn(id: &str) -> Did {
    Spawn(id.into())
}
fn shutdown(id: &str) -> Did {
    Exit(id.into(), ExitReason::Shutdown)
}
fn crash() -> ExitReason {
    ExitReason::Error("crash".into())
}

use Restart::{Permanent, Temporary, Transient};
const ABC: &[(&str, Restart)] = &[("a", Permanent), ("b", Permanent), ("c", Permanent)];

#[test]
fn children_start_in_order_each_after_the_one_before() {
    let mut test = Test::new(Strategy::OneForOne, ABC);
    for id in ["a", "b", "c"] {
        assert_eq!(test.did(), [spawn(id)]);
        assert!(test.machine.is_starting());
        test.starts(id);
    }
    assert!(!test.machine.is_starting());
    assert_eq!(test.did(), []);
}

#[test]
fn a_first_child_that_fails_ends_those_before_it_in_reverse() {
    let mut test = Test::new(Strategy::OneForOne, ABC);
    test.starts("a");
    test.starts("b");
    test.did();
    test.fails_to_start("c", crash());
    assert_eq!(test.did(), [shutdown("b")]);
    assert_eq!(test.machine.finished(), None);
    test.ends("b", ExitReason::Shutdown);
    assert_eq!(test.did(), [shutdown("a")]);
    test.ends("a", ExitReason::Shutdown);
    let reason = test.machine.finished().cloned();
    assert!(matches!(reason, Some(ExitReason::Error(words)) if words.contains("\"c\"")));
}

#[test]
fn an_exit_signal_of_another_is_ignored_and_stop_ends_all_in_reverse() {
    let mut test = Test::up(Strategy::OneForOne, ABC);
    test.machine.exited(
        &mut test.actors,
        Pid { node: 9, serial: 9 },
        ExitReason::Shutdown,
    );
    assert_eq!(test.did(), []);
    test.machine.stop(&mut test.actors, ExitReason::Shutdown);
    for id in ["c", "b", "a"] {
        assert_eq!(test.did(), [shutdown(id)]);
        assert_eq!(test.machine.finished(), None);
        test.ends(id, ExitReason::Shutdown);
    }
    assert_eq!(test.machine.finished(), Some(&ExitReason::Shutdown));
    assert_eq!(test.actors.timers, []);
}

#[test]
fn one_that_does_not_go_in_time_is_killed() {
    let mut test = Test::up(Strategy::OneForOne, &[("a", Permanent)]);
    test.machine.stop(&mut test.actors, ExitReason::Shutdown);
    assert_eq!(test.did(), [shutdown("a")]);
    assert_eq!(test.fire(), 5000);
    assert_eq!(test.did(), [Exit("a".into(), ExitReason::Kill)]);
    test.ends("a", ExitReason::Killed);
    assert_eq!(test.machine.finished(), Some(&ExitReason::Shutdown));
}

#[test]
fn restart_types() {
    use ExitReason::{Normal, Shutdown};
    for (restart, reason, again) in [
        (Permanent, Normal, true),
        (Permanent, crash(), true),
        (Transient, Normal, false),
        (Transient, Shutdown, false),
        (Transient, crash(), true),
        (Transient, ExitReason::Killed, true),
        (Temporary, crash(), false),
    ] {
        let mut test = Test::up(Strategy::OneForOne, &[("a", restart), ("b", Permanent)]);
        test.ends("a", reason.clone());
        let did = test.did();
        assert_eq!(did == [spawn("a")], again, "{restart:?} {reason:?} {did:?}");
        let kept = again || restart != Temporary;
        assert_eq!(test.ids().len(), if kept { 2 } else { 1 });
    }
}

#[test]
fn one_for_all_ends_the_others_in_reverse_and_starts_all_in_order() {
    let mut test = Test::up(Strategy::OneForAll, &[ABC, &[("d", Temporary)]].concat());
    test.ends("b", crash());
    for id in ["d", "c", "a"] {
        assert_eq!(test.did(), [shutdown(id)]);
        test.ends(id, ExitReason::Shutdown);
    }
    for id in ["a", "b", "c"] {
        assert_eq!(test.did(), [spawn(id)]);
        test.starts(id);
    }
    assert_eq!(test.did(), []);
    assert_eq!(
        test.ids(),
        ["a", "b", "c"],
        "a temporary child does not start again"
    );
}

#[test]
fn rest_for_one_leaves_those_before_alone() {
    let mut test = Test::up(Strategy::RestForOne, ABC);
    test.ends("b", crash());
    assert_eq!(test.did(), [shutdown("c")]);
    test.ends("c", ExitReason::Shutdown);
    assert_eq!(test.did(), [spawn("b")]);
    test.starts("b");
    assert_eq!(test.did(), [spawn("c")]);
}

#[test]
fn two_that_crash_together_are_one_restart_of_the_group() {
    let mut test = Test::up(Strategy::OneForAll, ABC);
    test.ends("a", crash());
    assert_eq!(test.did(), [shutdown("c")]);
    test.ends("b", crash());
    test.ends("c", ExitReason::Shutdown);
    for id in ["a", "b", "c"] {
        assert_eq!(test.did(), [spawn(id)]);
        test.starts(id);
    }
    assert!(!test.machine.is_stopping());
}

#[test]
fn a_crash_while_the_group_starts_begins_anew() {
    let mut test = Test::up(Strategy::OneForAll, ABC);
    test.ends("c", crash());
    test.ends("b", ExitReason::Shutdown);
    test.ends("a", ExitReason::Shutdown);
    test.starts("a");
    test.did();
    test.ends("a", crash());
    // b was starting; it goes, then all start.
    assert_eq!(test.did(), [shutdown("b")]);
    test.ends("b", ExitReason::Shutdown);
    for id in ["a", "b", "c"] {
        assert_eq!(test.did(), [spawn(id)]);
        test.starts(id);
    }
    assert_eq!(test.did(), []);
}

#[test]
fn too_many_restarts_end_the_supervisor() {
    let mut test = Test::up(Strategy::OneForOne, ABC);
    for _ in 0..2 {
        test.ends("b", crash());
        test.starts("b");
    }
    test.did();
    test.ends("b", crash());
    assert_eq!(test.did(), [shutdown("c")]);
    test.ends("c", ExitReason::Shutdown);
    test.ends("a", ExitReason::Shutdown);
    assert_eq!(test.machine.finished(), Some(&ExitReason::Shutdown));
}

#[test]
fn a_restart_that_fails_is_tried_again_and_counts() {
    let mut test = Test::up(Strategy::OneForOne, &[("a", Permanent)]);
    test.ends("a", crash());
    test.fails_to_start("a", crash());
    assert_eq!(test.did(), [spawn("a")]);
    assert_eq!(test.fire(), RETRY_MS);
    assert_eq!(test.did(), [spawn("a")]);
    test.actors.now = 5000;
    test.fails_to_start("a", crash());
    test.actors.refuse = Some(SpawnError::NoSuchModule("m".into()));
    test.fire();
    assert!(!test.machine.is_stopping());
    test.actors.refuse = None;
    test.fire();
    test.starts("a");
    assert_eq!(test.ids(), ["a"]);
}

#[test]
fn a_slow_start_holds_up_no_other() {
    let mut test = Test::up(Strategy::OneForOne, &[]);
    let name = |id: &str| ChildSpec::new(id, "m", vec![]).name(Name::Global(id.into()));
    test.machine.start_child(&mut test.actors, name("slow"), 1);
    test.machine.start_child(&mut test.actors, name("fast"), 2);
    assert_eq!(test.did(), [spawn("slow"), spawn("fast")]);
    test.starts("fast");
    let fast = test.actors.find("fast").0;
    assert_eq!(test.did(), [Did::Reply(2, Reply::Started(Ok(fast)))]);

    // Asked for again while it starts: whoever asks may already call it.
    let slow = test.actors.find("slow").0;
    test.machine.start_child(&mut test.actors, name("slow"), 3);
    let already = Reply::Started(Err(StartError::AlreadyStarted(slow)));
    assert_eq!(test.did(), [Did::Reply(3, already)]);

    // Its global name turns out to be taken elsewhere.
    let holder = Pid { node: 2, serial: 5 };
    test.fails_to_start("slow", ExitReason::AlreadyStarted(holder));
    let taken = Reply::Started(Err(StartError::AlreadyStarted(holder)));
    assert_eq!(test.did(), [Did::Reply(1, taken)]);
    assert_eq!(test.ids(), ["fast"]);
    assert!(!test.machine.is_stopping());
}

#[test]
fn terminated_children_stay_without_a_process_until_asked_for() {
    let mut test = Test::up(Strategy::OneForAll, ABC);
    test.machine.terminate_child(&mut test.actors, "b", 1);
    test.machine.terminate_child(&mut test.actors, "b", 2);
    test.machine.terminate_child(&mut test.actors, "nobody", 3);
    assert_eq!(
        test.did(),
        [shutdown("b"), Did::Reply(3, Reply::Terminated(false))]
    );
    test.ends("b", ExitReason::Shutdown);
    let gone = |who| Did::Reply(who, Reply::Terminated(true));
    assert_eq!(test.did(), [gone(1), gone(2)]);
    assert_eq!(test.states(), ["a running", "b undefined", "c running"]);

    let machine = &mut test.machine;
    let actors = &mut test.actors;
    machine.start_child(actors, ChildSpec::new("b", "m", vec![]), 4);
    let present = Reply::Started(Err(StartError::AlreadyPresent));
    assert_eq!(actors.did(), [Did::Reply(4, present)]);
    machine.restart_child(actors, "a", 5);
    machine.restart_child(actors, "nobody", 6);
    let refused = |who, error| Did::Reply(who, Reply::Restarted(Err(error)));
    let (running, unknown) = (ChildError::Running, ChildError::NotFound);
    assert_eq!(actors.did(), [refused(5, running), refused(6, unknown)]);
    assert_eq!(machine.delete_child(actors, "a"), Err(ChildError::Running));
    assert_eq!(
        machine.delete_child(actors, "nobody"),
        Err(ChildError::NotFound)
    );
    machine.restart_child(actors, "b", 7);
    assert_eq!(actors.did(), [spawn("b")]);
    test.starts("b");
    let b = test.actors.find("b").0;
    assert_eq!(test.did(), [Did::Reply(7, Reply::Restarted(Ok(b)))]);
    test.machine.terminate_child(&mut test.actors, "b", 8);
    test.ends("b", ExitReason::Shutdown);
    assert_eq!(test.machine.delete_child(&mut test.actors, "b"), Ok(()));
    assert_eq!(test.states(), ["a running", "c running"]);
}

#[test]
fn a_group_starts_again_with_those_that_had_no_process() {
    let children = [("a", Permanent), ("b", Transient), ("c", Permanent)];
    let mut test = Test::up(Strategy::OneForAll, &children);
    test.ends("b", ExitReason::Normal);
    assert_eq!(test.states(), ["a running", "b undefined", "c running"]);
    test.ends("c", crash());
    assert_eq!(test.did(), [shutdown("a")]);
    test.ends("a", ExitReason::Shutdown);
    for id in ["a", "b", "c"] {
        assert_eq!(test.did(), [spawn(id)]);
        test.starts(id);
    }
}

#[test]
fn a_child_that_chooses_not_to_start_is_kept_unless_it_is_temporary() {
    let mut test = Test::new(Strategy::OneForOne, &[("a", Permanent), ("b", Temporary)]);
    test.fails_to_start("a", ExitReason::Normal);
    test.fails_to_start("b", ExitReason::Normal);
    assert!(!test.machine.is_starting());
    assert_eq!(test.states(), ["a undefined"]);
    let counts = test.machine.counts();
    assert_eq!((counts.specs, counts.active, counts.workers), (1, 0, 1));
}

/// Supervisors with significant children: which ends end them.
#[test]
fn significant_children_end_the_supervisor() {
    use AutoShutdown::{AllSignificant, AnySignificant};
    for (auto_shutdown, ends, ended) in [
        (AnySignificant, &["a"][..], true),
        (AnySignificant, &["c"], false),
        (AllSignificant, &["a"], false),
        (AllSignificant, &["a", "b"], true),
    ] {
        let child = |id: &str| ChildSpec::new(id, "m", vec![]).restart(Transient);
        let spec = SupervisorSpec {
            auto_shutdown,
            children: vec![
                child("a").significant(),
                child("b").significant(),
                child("c"),
            ],
            ..SupervisorSpec::default()
        };
        let mut test = Test::of(spec);
        for id in ["a", "b", "c"] {
            test.starts(id);
        }
        for id in ends {
            test.ends(id, ExitReason::Normal);
        }
        assert_eq!(
            test.machine.is_stopping(),
            ended,
            "{auto_shutdown:?} {ends:?}"
        );
    }
    // Not if a user ends one, nor if it starts again.
    let child = ChildSpec::new("a", "m", vec![])
        .restart(Transient)
        .significant();
    let spec = SupervisorSpec {
        auto_shutdown: AnySignificant,
        children: vec![child],
        ..SupervisorSpec::default()
    };
    let mut test = Test::of(spec);
    test.starts("a");
    test.ends("a", crash());
    test.starts("a");
    test.machine.terminate_child(&mut test.actors, "a", 1);
    test.ends("a", ExitReason::Shutdown);
    assert!(!test.machine.is_stopping());
}

#[test]
fn significant_children_that_make_no_sense_are_refused() {
    let child = || ChildSpec::new("a", "m", vec![]).significant();
    let spec = |child, auto_shutdown| SupervisorSpec {
        children: vec![child],
        auto_shutdown,
        ..SupervisorSpec::default()
    };
    let transient = || child().restart(Transient);
    let any = AutoShutdown::AnySignificant;
    assert!(Machine::<u32>::new(spec(transient(), AutoShutdown::Never)).is_err());
    assert!(Machine::<u32>::new(spec(child(), any)).is_err());
    assert!(Machine::<u32>::new(spec(transient(), any)).is_ok());
}

#[test]
fn one_that_may_take_its_time_is_waited_for() {
    let spec = SupervisorSpec {
        children: vec![ChildSpec::supervisor("a", &SupervisorSpec::default())],
        ..SupervisorSpec::default()
    };
    let mut test = Test::of(spec);
    test.starts("a");
    assert_eq!(test.machine.counts().supervisors, 1);
    test.machine.stop(&mut test.actors, ExitReason::Shutdown);
    assert!(test.actors.timers.is_empty());
    assert_eq!(test.machine.finished(), None);
    test.ends("a", ExitReason::Shutdown);
    assert_eq!(test.machine.finished(), Some(&ExitReason::Shutdown));
}

mod random;

#[test]
fn a_child_terminated_while_it_starts_goes_once() {
    let mut test = Test::up(Strategy::OneForOne, &[]);
    test.machine
        .start_child(&mut test.actors, ChildSpec::new("a", "m", vec![]), 1);
    test.machine.terminate_child(&mut test.actors, "a", 2);
    let (pid, tag) = test.actors.find("a");
    let failed = Reply::Started(Err(StartError::Failed(ExitReason::Shutdown)));
    assert_eq!(
        test.did(),
        [spawn("a"), Did::Reply(1, failed), shutdown("a")]
    );
    let error = Err(SpawnError::InitFailed(ExitReason::Shutdown));
    test.machine.spawned(&mut test.actors, tag, error);
    test.machine
        .exited(&mut test.actors, pid, ExitReason::Shutdown);
    assert_eq!(test.did(), [Did::Reply(2, Reply::Terminated(true))]);
    assert_eq!(test.states(), ["a undefined"]);
}

#[test]
fn two_children_of_one_id_are_refused() {
    let child = || ChildSpec::new("a", "m", vec![]);
    let spec = SupervisorSpec {
        children: vec![child(), child()],
        ..Default::default()
    };
    assert!(Machine::<u32>::new(spec).is_err());
}
