//! The machine against a world whose actors are in the test's hands.

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

impl World<u32> for Actors {
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
    fn report(&mut self, _: &str) {}
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
        };
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
        let kept = restart != Temporary;
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
fn restarts_of_long_ago_do_not_count() {
    let mut past = VecDeque::new();
    assert!(note_restart(&mut past, 0, 2, 1000));
    assert!(note_restart(&mut past, 999, 2, 1000));
    assert!(note_restart(&mut past, 1000, 2, 1000));
    assert!(!note_restart(&mut past, 1001, 2, 1000));
    assert!(!note_restart(&mut VecDeque::new(), 0, 0, 1000));
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
fn terminated_children_are_kept_until_they_are_started_again_or_deleted() {
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
    assert_eq!(test.ids(), ["a", "b", "c"]);
    test.machine.terminate_child(&mut test.actors, "b", 4);
    assert_eq!(test.did(), [gone(4)]);
    let again = ChildSpec::new("b", "m", vec![]);
    test.machine.start_child(&mut test.actors, again, 5);
    let present = Reply::Started(Err(StartError::AlreadyPresent));
    assert_eq!(test.did(), [Did::Reply(5, present)]);

    // It keeps its place when a start of it fails.
    test.machine.restart_child(&mut test.actors, "b", 6);
    assert_eq!(test.did(), [spawn("b")]);
    test.fails_to_start("b", crash());
    let failed = ChildError::Start(StartError::Failed(crash()));
    assert_eq!(test.did(), [Did::Reply(6, Reply::Restarted(Err(failed)))]);
    test.machine.restart_child(&mut test.actors, "b", 7);
    test.starts("b");
    let (pid, _) = test.actors.find("b");
    let started = Did::Reply(7, Reply::Restarted(Ok(pid)));
    assert_eq!(test.did(), [spawn("b"), started]);
    assert_eq!(test.machine.delete_child("b"), Err(ChildError::Running));
    test.machine.restart_child(&mut test.actors, "b", 8);
    let running = Reply::Restarted(Err(ChildError::Running));
    assert_eq!(test.did(), [Did::Reply(8, running)]);
    assert_eq!(test.machine.count().active, 3);
}

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
    assert_eq!(test.ids(), ["a"]);
    assert_eq!(test.machine.delete_child("a"), Ok(()));
    assert_eq!(test.machine.delete_child("a"), Err(ChildError::NotFound));
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
