//! A machine that does what its table says, so that each test reads as `gen_statem`'s
//! documentation does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::*;
use crate::gen_server::GenServerActor;
use crate::testing::Node;
use crate::testing::scripted as fake;
use crate::{Actor, CallError, Message, Outcome, SaveError, Start, StartError, sleep};

/// What a callback does. Contents of events say it, so that one test is one list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Do {
    Keep,
    Next(u8),
    Repeat,
    Stop,
    /// In that state the first, else the second.
    In(u8, Box<Do>, Box<Do>),
    Postpone,
    Reply(u32),
    Insert(Vec<Do>),
    After(Timeout, u64, Box<Do>),
    Update(Timeout, Box<Do>),
    Cancel(Timeout),
    Hibernate,
    /// Awaits for so many milliseconds.
    Sleep(u64),
    All(Vec<Do>),
    /// What happened so far.
    Log,
}

#[derive(Serialize, Deserialize)]
struct Toy {
    log: Vec<String>,
    /// What the entry to a state does.
    enters: Vec<(u8, Do)>,
}

impl Toy {
    fn apply(
        &self,
        what: &Do,
        state: u8,
        event: &Event<Self>,
        mut transition: Transition<Self>,
    ) -> Transition<Self> {
        match what {
            Do::Keep | Do::Next(_) | Do::Repeat | Do::Stop | Do::Log | Do::Sleep(_) => transition,
            Do::In(there, this, other) => {
                let what = if *there == state { this } else { other };
                self.apply(what, state, event, transition)
            }
            Do::Postpone => transition.postpone(),
            Do::Reply(n) => match event {
                Event::Call(from, _) => transition.reply(*from, vec![n.to_string()]),
                _ => transition,
            },
            Do::Insert(all) => {
                for one in all {
                    transition = transition.next_event(Event::Internal(one.clone()));
                }
                transition
            }
            Do::After(Timeout::Event, ms, what) => {
                transition.event_timeout(Duration::from_millis(*ms), (**what).clone())
            }
            Do::After(Timeout::State, ms, what) => {
                transition.state_timeout(Duration::from_millis(*ms), (**what).clone())
            }
            Do::After(Timeout::Named(name), ms, what) => {
                let after = Duration::from_millis(*ms);
                transition.named_timeout(name.clone(), after, (**what).clone())
            }
            Do::Update(of, what) => transition.update_timeout(of.clone(), (**what).clone()),
            Do::Cancel(of) => transition.cancel_timeout(of.clone()),
            Do::Hibernate => transition.hibernate(),
            Do::All(all) => all.iter().fold(transition, |transition, what| {
                self.apply(what, state, event, transition)
            }),
        }
    }

    fn goes(what: &Do, state: u8) -> Option<Transition<Self>> {
        match what {
            Do::Next(to) => Some(Transition::next_state(*to)),
            Do::Repeat => Some(Transition::repeat_state()),
            Do::Stop => Some(Transition::stop(ExitReason::error("told to"))),
            Do::In(there, this, other) => {
                Self::goes(if *there == state { this } else { other }, state)
            }
            Do::All(all) => all.iter().find_map(|what| Self::goes(what, state)),
            _ => None,
        }
    }
}

impl GenStateMachine for Toy {
    const MODULE: &'static str = "toy";
    type State = u8;
    type Args = (Do, Vec<(u8, Do)>);
    type Call = (String, Do);
    type Reply = Vec<String>;
    type Cast = (String, Do);
    type Internal = Do;

    async fn init((what, enters): Self::Args) -> Init<Self> {
        let toy = Self {
            log: Vec::new(),
            enters,
        };
        match what {
            Do::Stop => Init::stop(ExitReason::error("no")),
            Do::Log => Init::ignore(),
            Do::Insert(all) => all.into_iter().fold(Init::state(0, toy), |init, one| {
                init.next_event(Event::Internal(one))
            }),
            Do::After(Timeout::State, ms, what) => {
                Init::state(0, toy).state_timeout(Duration::from_millis(ms), *what)
            }
            _ => Init::state(0, toy),
        }
    }

    async fn enter(&mut self, old: &u8, state: &u8) -> Enter<Self> {
        self.log.push(format!("{state} enter {old}"));
        let what = self.enters.iter().find(|(of, _)| of == state);
        match what.map(|(_, what)| what) {
            Some(Do::Stop) => Enter::stop(ExitReason::error("at the door")),
            Some(Do::After(Timeout::State, ms, what)) => {
                Enter::done().state_timeout(Duration::from_millis(*ms), (**what).clone())
            }
            _ => Enter::done(),
        }
    }

    async fn handle_event(&mut self, state: &u8, event: &Event<Self>) -> Transition<Self> {
        let (name, what) = match event {
            Event::Call(_, (name, what)) => (name.clone(), what.clone()),
            Event::Cast((name, what)) => (name.clone(), what.clone()),
            Event::Internal(what) => ("internal".into(), what.clone()),
            Event::Timeout(of, what) => (format!("{of:?}"), what.clone()),
            Event::Info(info) => (format!("{info:?}"), Do::Keep),
        };
        if what == Do::Log {
            let log = std::mem::take(&mut self.log);
            return match event {
                Event::Call(from, _) => Transition::keep_state().reply(*from, log),
                _ => Transition::keep_state(),
            };
        }
        self.log.push(format!("{state} {name}"));
        if let Do::Sleep(ms) = what {
            sleep(Duration::from_millis(ms)).await;
        }
        let transition = Self::goes(&what, *state).unwrap_or_else(Transition::keep_state);
        self.apply(&what, *state, event, transition)
    }

    async fn terminate(&mut self, reason: &ExitReason, state: &u8) {
        crate::println!("{state} ends: {}", reason.describe());
    }
}

const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

fn toy(node: &Node, what: Do, enters: Vec<(u8, Do)>) -> StateMachineRef<Toy> {
    node.module::<Machine<Toy>>();
    node.start(&(what, enters)).unwrap()
}

fn told(node: &Node, toy: &StateMachineRef<Toy>, name: &str, what: Do) {
    node.cast(toy, (name.to_owned(), what));
}

fn log(node: &Node, toy: &StateMachineRef<Toy>) -> Vec<String> {
    node.call(toy, ("log".to_owned(), Do::Log)).unwrap()
}

fn in_state(state: u8, this: Do, other: Do) -> Do {
    Do::In(state, Box::new(this), Box::new(other))
}

fn after(of: Timeout, ms: u64, what: Do) -> Do {
    Do::After(of, ms, Box::new(what))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn postponed_events_come_again_in_order_and_before_new_ones() {
    let node = Node::new();
    let toy = toy(&node, Do::Keep, vec![]);
    let later = || in_state(0, Do::Postpone, Do::Keep);
    told(&node, &toy, "a", later());
    told(&node, &toy, "b", later());
    told(&node, &toy, "same", Do::Next(0));
    told(&node, &toy, "again", Do::Repeat);
    let go = Do::All(vec![Do::Next(1), Do::Insert(vec![Do::Keep, Do::Keep])]);
    told(&node, &toy, "go", go);
    let expected = [
        "0 enter 0",
        "0 a",
        "0 b",
        "0 same",
        "0 again",
        "0 enter 0",
        "0 go",
        "1 enter 0",
        "1 internal",
        "1 internal",
        "1 a",
        "1 b",
    ];
    assert_eq!(log(&node, &toy), expected);
}

#[test]
fn one_that_changes_the_state_and_is_postponed_comes_at_once() {
    let node = Node::new();
    let toy = toy(&node, Do::Keep, vec![]);
    let both = Do::All(vec![Do::Next(1), Do::Postpone]);
    told(&node, &toy, "x", in_state(0, both, Do::Keep));
    assert_eq!(log(&node, &toy), ["0 enter 0", "0 x", "1 enter 0", "1 x"]);
}

#[test]
fn the_state_ends_its_time_out_and_any_event_the_other() {
    let node = Node::new();
    let toy = toy(&node, Do::Keep, vec![]);
    let all = |state| {
        Do::All(vec![
            Do::Next(state),
            after(Timeout::State, 100, Do::Keep),
            after(Timeout::Event, 50, Do::Keep),
            after(Timeout::Named("n".into()), 200, Do::Keep),
        ])
    };
    told(&node, &toy, "set", all(1));
    node.advance(ms(40));
    told(&node, &toy, "stay", Do::Keep);
    node.advance(ms(59));
    assert_eq!(
        log(&node, &toy),
        ["0 enter 0", "0 set", "1 enter 0", "1 stay"]
    );
    node.advance(ms(1));
    assert_eq!(log(&node, &toy), ["1 State"]);
    told(&node, &toy, "set", all(2));
    told(&node, &toy, "leave", Do::Next(3));
    node.advance(ms(199));
    assert_eq!(
        log(&node, &toy),
        ["1 set", "2 enter 1", "2 leave", "3 enter 2"]
    );
    node.advance(ms(1));
    assert_eq!(log(&node, &toy), ["3 Named(\"n\")"]);
}

#[test]
fn no_time_at_all_is_after_what_waits_and_before_what_comes() {
    let node = Node::new();
    let toy = toy(&node, Do::Keep, vec![]);
    told(&node, &toy, "late", in_state(0, Do::Postpone, Do::Keep));
    let go = Do::All(vec![
        Do::Next(1),
        after(Timeout::Named("z".into()), 0, Do::Keep),
        // An event comes first, so this never does.
        after(Timeout::Event, 0, Do::Keep),
        after(Timeout::State, 0, Do::Next(2)),
        Do::Insert(vec![Do::Sleep(10)]),
    ]);
    let (to, also) = (toy.clone(), toy.clone());
    node.run(async move {
        to.cast(("go".to_owned(), go));
        sleep(ms(5)).await;
        // While its callback awaits.
        also.cast(("new".to_owned(), Do::Keep));
    });
    node.advance(ms(20));
    let expected = [
        "0 enter 0",
        "0 late",
        "0 go",
        "1 enter 0",
        "1 internal",
        "1 late",
        "1 Named(\"z\")",
        "1 State",
        "2 enter 1",
        "2 new",
    ];
    assert_eq!(log(&node, &toy), expected);
}

#[test]
fn time_outs_are_updated_and_cancelled() {
    let node = Node::new();
    let toy = toy(&node, Do::Keep, vec![]);
    told(&node, &toy, "set", after(Timeout::State, 100, Do::Next(1)));
    node.advance(ms(60));
    told(
        &node,
        &toy,
        "update",
        Do::Update(Timeout::State, Box::new(Do::Next(2))),
    );
    node.advance(ms(40));
    assert_eq!(log(&node, &toy).last().unwrap(), "2 enter 0");
    // One that does not run comes at once.
    told(
        &node,
        &toy,
        "update",
        Do::Update(Timeout::State, Box::new(Do::Next(3))),
    );
    assert_eq!(log(&node, &toy).last().unwrap(), "3 enter 2");
    let named = || Timeout::Named("n".into());
    told(&node, &toy, "set", after(named(), 100, Do::Keep));
    told(&node, &toy, "cancel", Do::Cancel(named()));
    node.advance(ms(500));
    assert_eq!(log(&node, &toy), ["3 set", "3 cancel"]);
}

#[test]
fn entries_set_time_outs_and_can_end_the_machine() {
    let node = Node::new();
    let enters = vec![(1, after(Timeout::State, 30, Do::Next(2))), (2, Do::Stop)];
    let toy = toy(&node, Do::Keep, enters);
    let pid = toy.as_pid().unwrap();
    let longer = Do::All(vec![Do::Next(1), after(Timeout::State, 500, Do::Keep)]);
    told(&node, &toy, "go", longer);
    node.advance(ms(29));
    assert!(node.is_alive(pid));
    node.advance(ms(1));
    assert_eq!(
        node.exit_reason(pid),
        Some(ExitReason::error("at the door"))
    );
    let printed = node.printed();
    assert_eq!(printed[0].text, "2 ends: error: at the door\n");
}

#[test]
fn a_reply_that_comes_with_the_end_is_sent() {
    let node = Node::new();
    let toy = toy(&node, Do::Keep, vec![]);
    let last = Do::All(vec![Do::Stop, Do::Reply(7)]);
    assert_eq!(
        node.call(&toy, ("bye".to_owned(), last)),
        Ok(vec!["7".into()])
    );
    let reason = node.exit_reason(toy.as_pid().unwrap());
    assert_eq!(reason, Some(ExitReason::error("told to")));
}

#[test]
fn init_decides_and_its_starter_does_not_wait_for_the_entry() {
    let node = Node::new();
    node.module::<Machine<Toy>>();
    let (stopped, ignored) = node.run(async {
        let start = |what| async move { StateMachineRef::<Toy>::start(&(what, vec![])).await };
        (start(Do::Stop).await, start(Do::Log).await)
    });
    assert_eq!(stopped, Err(StartError::Failed(ExitReason::error("no"))));
    assert_eq!(ignored, Err(StartError::Ignored));
    let started = node.run(async {
        let args = (Do::Keep, vec![(0, Do::Stop)]);
        StateMachineRef::<Toy>::start(&args).await
    });
    let pid = started.unwrap().as_pid().unwrap();
    node.run_until_idle();
    assert_eq!(
        node.exit_reason(pid),
        Some(ExitReason::error("at the door"))
    );
    let first = toy(&node, Do::Insert(vec![Do::Next(4)]), vec![]);
    assert_eq!(log(&node, &first), ["0 enter 0", "0 internal", "4 enter 0"]);
}

#[test]
fn an_upgrade_keeps_what_is_postponed_and_the_time_outs() {
    let node = Node::new();
    let toy = toy(&node, Do::Keep, vec![]);
    let pid = toy.as_pid().unwrap();
    let asked = node.run({
        let toy = toy.clone();
        async move {
            let later = in_state(0, Do::Postpone, Do::Reply(5));
            let call = toy.call_timeout(("ask".to_owned(), later), PATIENCE);
            toy.cast(("set".to_owned(), after(Timeout::State, 100, Do::Next(1))));
            sleep(ms(60)).await;
            drop(call);
            toy
        }
    });
    node.upgrade::<Machine<Toy>>(pid).unwrap();
    node.advance(ms(39));
    let seen = log(&node, &asked);
    assert_eq!(seen, ["0 enter 0", "0 ask", "0 set"]);
    node.advance(ms(1));
    assert_eq!(log(&node, &asked), ["0 State", "1 enter 0", "1 ask"]);
}

#[test]
fn postponed_callers_get_their_answers_and_the_end_reaches_the_others() {
    let node = Node::new();
    let toy = toy(&node, Do::Keep, vec![]);
    let answers = node.run(async move {
        let later = |n| ("ask".to_owned(), in_state(0, Do::Postpone, Do::Reply(n)));
        let never = ("ask".to_owned(), Do::Postpone);
        let first = toy.call_timeout(later(1), PATIENCE);
        let second = toy.call_timeout(later(2), PATIENCE);
        let third = toy.call_timeout(never, PATIENCE);
        toy.cast(("go".to_owned(), Do::Next(1)));
        let answers = (first.await, second.await);
        toy.cast(("end".to_owned(), Do::Stop));
        (answers, third.await)
    });
    let expected = (Ok(vec!["1".into()]), Ok(vec!["2".into()]));
    assert_eq!(answers.0, expected);
    let ended = ExitReason::error("told to");
    assert_eq!(answers.1, Err(CallError::Exit(ended)));
}

#[test]
fn timers_and_messages_of_its_own_are_events() {
    let node = Node::new();
    let toy = toy(&node, Do::Hibernate, vec![]);
    told(&node, &toy, "rest", Do::Hibernate);
    node.send(toy.as_pid().unwrap(), b"hi");
    let expected = ["0 enter 0", "0 rest", "0 Message([104, 105])"];
    assert_eq!(log(&node, &toy), expected);
}

#[test]
fn nothing_is_saved_before_the_first_entry() {
    fake::reset();
    let args: <Toy as GenStateMachine>::Args = (Do::Keep, vec![]);
    let started = GenServerActor::<Machine<Toy>>::init(Start::Fresh(codec::encode(&args)));
    let (mut toy, outcome) = started.unwrap();
    assert_eq!(outcome, Outcome::WaitFor(0));
    // A snapshot would not say that `enter` is still to be called.
    assert_eq!(toy.save(), Err(SaveError::Busy));
    fake::deliver(Message::Timeout);
    assert_eq!(toy.turn(), Outcome::Wait);
    assert!(toy.save().is_ok());
}

#[test]
fn its_state_and_data_can_be_asked_for() {
    let node = Node::new();
    let toy = toy(&node, Do::Keep, vec![]);
    told(&node, &toy, "go", Do::Next(3));
    let asked = toy.clone();
    let machine = node.run(async move { asked.state(Duration::from_secs(1)).await });
    let machine = machine.unwrap();
    assert_eq!((*machine.state(), machine.data().log.len()), (3, 3));
}
