//! Aliases, links that are removed, and what one process may know of another.

use wasm_node_protocol::{Aliased, Ref};

use super::*;
use crate::process::actor::{Actor, AliasMode};
use crate::process::handle::Incoming;
use crate::process::info::DETAILS_WAIT;

fn pid(serial: u64) -> Pid {
    let node = Incarnation(1);
    Pid { node, serial }
}

/// Takes in signals; what others hear of that.
fn accept(actor: &mut Actor, signals: impl IntoIterator<Item = Signal>) -> Vec<(Pid, Signal)> {
    actor.accept(|queue| queue.extend(signals.into_iter().map(Incoming::Signal)));
    actor.take_answers()
}

fn exit_of(from: Pid) -> Signal {
    let reason = ExitReason::Error("ended".into());
    Signal::Exit {
        from,
        reason,
        link: true,
    }
}

fn is_linked(actor: &Actor, to: Pid) -> bool {
    actor.relations().0.contains(&to)
}

#[test]
fn two_that_unlink_and_link_at_once_agree_in_the_end() {
    let (a, b) = (pid(1), pid(2));
    // Each end does one of these at once, before it hears of the other's.
    #[derive(Clone, Copy, PartialEq)]
    enum Act {
        Nothing,
        Unlink,
        Relink,
    }
    let acts = [Act::Nothing, Act::Unlink, Act::Relink];
    for (of_a, of_b) in acts.into_iter().flat_map(|x| acts.map(|y| (x, y))) {
        let mut ends = [Actor::new(a, None), Actor::new(b, None)];
        ends[0].add_link(b);
        accept(&mut ends[1], [Signal::Link { from: a }]);
        let mut act = |me: usize, other: Pid, act: Act| {
            let mut said = Vec::new();
            if act != Act::Nothing {
                said.extend(ends[me].remove_link(other));
            }
            if act == Act::Relink && ends[me].add_link(other) {
                let from = [a, b][me];
                said.push(Signal::Link { from });
            }
            said
        };
        let (mut to_b, mut to_a) = (act(0, b, of_a), act(1, a, of_b));
        while !to_a.is_empty() || !to_b.is_empty() {
            let from_b = accept(&mut ends[1], to_b.drain(..));
            let from_a = accept(&mut ends[0], to_a.drain(..));
            to_a.extend(from_b.into_iter().map(|(_, signal)| signal));
            to_b.extend(from_a.into_iter().map(|(_, signal)| signal));
        }
        let linked = [is_linked(&ends[0], b), is_linked(&ends[1], a)];
        assert_eq!(linked[0], linked[1]);
        if of_a == Act::Nothing && of_b == Act::Nothing {
            assert!(linked[0]);
        }
        if of_a == Act::Unlink && of_b != Act::Relink || of_b == Act::Unlink && of_a != Act::Relink
        {
            assert!(!linked[0]);
        }
        assert!(!ends[0].is_unlinking(b) && !ends[1].is_unlinking(a));
    }
}

#[test]
fn nothing_comes_over_a_link_that_was_removed() {
    let (me, other) = (pid(1), pid(2));
    let mut actor = Actor::new(me, None);
    actor.set_trap_exit(true);
    actor.add_link(other);
    assert!(actor.remove_link(other).is_some());
    assert!(actor.remove_link(other).is_none());
    accept(&mut actor, [exit_of(other)]);
    assert_eq!(actor.next(), None);
    // It links again after the other has ended: once, with a reason.
    assert!(actor.add_link(other));
    let noproc = Signal::Exit {
        from: other,
        reason: ExitReason::NoProc,
        link: true,
    };
    accept(&mut actor, [noproc.clone(), noproc]);
    assert!(matches!(actor.next(), Some(Message::Exit { .. })));
    assert_eq!(actor.next(), None);
}

#[test]
fn an_alias_passes_messages_while_it_is_active() {
    let mut actor = Actor::new(pid(1), None);
    let node = Incarnation(1);
    let [once, always, asked] = [1, 2, 3].map(|serial| Ref { node, serial });
    actor.add_alias(once, AliasMode::Reply);
    actor.add_alias(always, AliasMode::Explicit);
    let info = |alias, text: &'static str| Signal::Alias {
        alias,
        message: Box::new(Aliased::Info(text.into())),
    };
    let all = [
        info(once, "one"),
        info(always, "two"),
        info(once, "late"),
        info(always, "three"),
    ];
    assert!(accept(&mut actor, all).is_empty());
    for text in ["one", "two", "three"] {
        assert_eq!(actor.next(), Some(Message::Info(text.into())));
    }
    assert_eq!(actor.next(), None);
    assert!(actor.remove_alias(always));
    assert!(!actor.remove_alias(always) && !actor.remove_alias(once));
    let request = Signal::Alias {
        alias: always,
        message: Box::new(Aliased::Request {
            from: pid(2),
            tag: asked,
            body: Bytes::new(),
        }),
    };
    let noproc = Signal::Response {
        tag: asked,
        result: Err(CallError::NoProc),
    };
    let answers = accept(&mut actor, [info(always, "late"), request]);
    assert_eq!(answers, [(pid(2), noproc)]);
    assert_eq!(actor.next(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_by_an_alias_are_answered_or_refused() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "asker").unwrap();
    let server = echo(&runtime);
    let alias = runtime.alias(&server, AliasMode::Reply);
    let to = Destination::Alias(server.pid, alias);
    let hello = Bytes::from_static(b"hello");
    let answer = native.call(&to, hello.clone(), PATIENCE).await;
    assert_eq!(answer, Ok(hello.clone()));
    let gone = native.call(&to, hello.clone(), PATIENCE).await;
    assert_eq!(gone, Err(CallError::NoProc));
    // Of an actor that has ended.
    let alias = runtime.alias(&server, AliasMode::Explicit);
    runtime.signal(server.pid, Signal::Info("stop".into()));
    let to = Destination::Alias(server.pid, alias);
    loop {
        match native.call(&to, hello.clone(), PATIENCE).await {
            Err(CallError::NoProc) => break,
            // It had not taken the other message in yet.
            Ok(_) | Err(CallError::Exit(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_ends_nobody() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "asker").unwrap();
    let server = echo(&runtime);
    server.tighten(Limits {
        message_bytes: Some(5),
        ..Limits::default()
    });
    let (fits, large) = (Bytes::from_static(b"12345"), Bytes::from_static(b"123456"));
    let to = to(server.pid);
    assert_eq!(
        native.call(&to, fits.clone(), PATIENCE).await,
        Ok(fits.clone())
    );
    let refused = native.call(&to, large.clone(), PATIENCE).await;
    assert_eq!(refused, Err(CallError::TooLarge));
    runtime.signal(server.pid, Signal::Info(large.clone()));
    // An answer may be too large for whoever asked, too.
    native.process().tighten(Limits {
        message_bytes: Some(4),
        ..Limits::default()
    });
    let refused = native.call(&to, fits, PATIENCE).await;
    assert_eq!(refused, Err(CallError::TooLarge));
    assert!(server.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_a_process_in_its_turn_does_not_wait_for_ever() {
    let runtime = runtime();
    let (busy, idle) = (spinner(&runtime), echo(&runtime));
    let parent = Native::spawn(&runtime, "parent").unwrap();
    runtime.link(parent.process(), idle.pid);
    // Until both have had their first turn.
    while busy.turns() == 0 || idle.info().status != crate::process::Status::Waiting {
        tokio::task::yield_now().await;
    }
    let begun = std::time::Instant::now();
    let details = runtime.details(busy.pid).unwrap();
    assert!(begun.elapsed() >= DETAILS_WAIT);
    assert_eq!(details.info.status, crate::process::Status::Running);
    assert!(details.info.vitals.is_none());
    let details = runtime.details(idle.pid).unwrap();
    assert_eq!(details.links, [parent.pid()]);
    assert!(details.info.vitals.is_some());
    assert!(runtime.details(pid(99)).is_none());
    busy.doom(ExitReason::Killed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_computes_for_too_long_ends_and_its_time_is_known() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "watcher").unwrap();
    let limited = spinner(&runtime);
    runtime.monitor(native.process(), &to(limited.pid));
    limited.tighten(Limits {
        turn_cpu_ms: Some(30),
        ..Limits::default()
    });
    let Message::Down { reason, .. } = next(&mut native).await else {
        panic!("something else came");
    };
    let words = "cpu: a turn computed for more than 30 ms";
    assert_eq!(reason, ExitReason::Limit(words.into()));
    assert!(limited.info().cpu >= Duration::from_millis(30));
}
