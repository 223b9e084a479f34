//! Signals, ends and scheduling, with native programs in place of wasm.

mod addresses;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use wasm_node_protocol::{
    CallError, Destination, ExitReason, Incarnation, Limits, Pid, Signal, SpawnError, SpawnOptions,
};

use super::{
    MAILBOX_HIGH_MESSAGES, Message, Native, Process, Program, Runtime, SpawnRequest, Step,
};

/// Each test ends by itself; this only keeps a broken one from hanging.
const PATIENCE: Duration = Duration::from_secs(60);

struct Closure<F>(Arc<Process>, F, bool);

impl<F: FnMut(&Runtime, &Arc<Process>) -> Step + Send> Program for Closure<F> {
    fn run(&mut self, _: &Arc<Process>) -> Poll<Step> {
        self.2 = true;
        let runtime = self.0.runtime().expect("the runtime outlives the test");
        Poll::Ready((self.1)(&runtime, &self.0))
    }
    fn wants_turn(&self) -> bool {
        !self.2
    }
}

fn runtime() -> Arc<Runtime> {
    let name = "test@localhost".parse().unwrap();
    Runtime::start(
        name,
        Incarnation(7),
        2,
        tokio::runtime::Handle::current(),
        || {},
    )
    .unwrap()
}

fn spawn<F>(runtime: &Arc<Runtime>, limit: Option<usize>, program: F) -> Arc<Process>
where
    F: FnMut(&Runtime, &Arc<Process>) -> Step + Send + 'static,
{
    let request = SpawnRequest {
        label: "test".into(),
        parent: None,
        options: SpawnOptions::default(),
        limits: Limits {
            mailbox_messages: limit.map(|limit| limit as u32),
            ..Limits::default()
        },
    };
    let process = runtime.spawn(request).unwrap();
    runtime.begin(&process, Box::new(Closure(process.clone(), program, false)));
    process
}

/// Answers each request with its body, and ends on `stop`.
fn echo(runtime: &Arc<Runtime>) -> Arc<Process> {
    let strong = runtime.clone();
    spawn(runtime, None, move |_, me| {
        while let (Some(message), _) = strong.next(me) {
            match message {
                Message::Request { from, tag, body } if body != "silence" => {
                    strong.reply(me, from, tag, body);
                }
                Message::Info(body) if body == "stop" => {
                    return Step::Stop(ExitReason::Error("stopped".into()));
                }
                _ => {}
            }
        }
        Step::Wait
    })
}

/// Loops until it is ended from outside, as wasm in an endless loop does.
fn spinner(runtime: &Arc<Runtime>) -> Arc<Process> {
    spawn(runtime, None, |_, me| {
        while !me.is_doomed() {
            std::hint::spin_loop();
        }
        Step::Stop(ExitReason::Trap("interrupted".into()))
    })
}

async fn next(native: &mut Native) -> Message {
    tokio::time::timeout(PATIENCE, native.receive())
        .await
        .expect("a message in time")
        .unwrap()
}

fn to(pid: Pid) -> Destination {
    Destination::Pid(pid)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_answered_or_says_why_not() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "asker").unwrap();
    let server = echo(&runtime);
    let hello = Bytes::from_static(b"hello");
    assert_eq!(
        native.call(&to(server.pid), hello.clone(), PATIENCE).await,
        Ok(hello.clone())
    );
    let short = Duration::from_millis(30);
    let silence = Bytes::from_static(b"silence");
    let unanswered = native.call(&to(server.pid), silence.clone(), short).await;
    assert_eq!(unanswered, Err(CallError::Timeout));
    // The callee ends while it owes an answer.
    let asked = runtime.request(native.process(), &to(server.pid), silence, None);
    runtime.signal(server.pid, Signal::Info("stop".into()));
    let reason = ExitReason::Error("stopped".into());
    let died = Message::Response {
        tag: asked,
        result: Err(CallError::Exit(reason)),
    };
    assert_eq!(next(&mut native).await, died);
    let nobody = native.call(&to(server.pid), hello.clone(), PATIENCE).await;
    assert_eq!(nobody, Err(CallError::NoProc));
    let unnamed = native
        .call(&Destination::Name("nobody".into()), hello, PATIENCE)
        .await;
    assert_eq!(unnamed, Err(CallError::NoProc));
    runtime.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_monitor_raced_against_death_fires_exactly_once() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "watcher").unwrap();
    let mut expected = std::collections::HashSet::new();
    for round in 0..2000 {
        let dying = spawn(&runtime, None, |_, _| {
            Step::Stop(ExitReason::Error("done".into()))
        });
        for _ in 0..round % 3 + 1 {
            expected.insert(runtime.monitor(native.process(), &to(dying.pid)));
        }
    }
    while !expected.is_empty() {
        match next(&mut native).await {
            Message::Down { tag, reason, .. } => {
                assert!(expected.remove(&tag), "a monitor fired twice");
                assert!(
                    matches!(reason, ExitReason::NoProc | ExitReason::Error(_)),
                    "{reason:?}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    runtime.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_signals_follow_links_and_can_be_trapped() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "trapper").unwrap();
    let (first, second) = (echo(&runtime), echo(&runtime));
    runtime.link(&first, second.pid);
    runtime.link(native.process(), second.pid);
    runtime.signal(first.pid, Signal::Info("stop".into()));
    let reason = ExitReason::Error("stopped".into());
    assert_eq!(
        next(&mut native).await,
        Message::Exit {
            from: second.pid,
            reason
        }
    );
    // Linking to the dead gives the exit signal at once.
    runtime.link(native.process(), first.pid);
    let exit = next(&mut native).await;
    assert!(
        matches!(
            exit,
            Message::Exit {
                reason: ExitReason::NoProc,
                ..
            }
        ),
        "{exit:?}"
    );
    // `normal` passes by those who do not trap; `kill` stops even those who do.
    let third = echo(&runtime);
    third.with_actor(|actor| actor.set_trap_exit(true));
    let monitor = runtime.monitor(native.process(), &to(third.pid));
    runtime.exit(native.process(), third.pid, ExitReason::Shutdown);
    let still = native.call(&to(third.pid), "x".into(), PATIENCE).await;
    assert_eq!(still, Ok("x".into()));
    runtime.exit(native.process(), third.pid, ExitReason::Kill);
    let down = Message::Down {
        tag: monitor,
        pid: third.pid,
        reason: ExitReason::Killed,
    };
    assert_eq!(next(&mut native).await, down);
    runtime.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_that_never_end_hold_up_nobody_and_can_be_killed() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "asker").unwrap();
    let spinners: Vec<_> = (0..8).map(|_| spinner(&runtime)).collect();
    let server = echo(&runtime);
    for _ in 0..200 {
        let answer = native.call(&to(server.pid), "x".into(), PATIENCE).await;
        assert_eq!(answer, Ok("x".into()));
    }
    for spinner in spinners {
        let monitor = runtime.monitor(native.process(), &to(spinner.pid));
        runtime.exit(native.process(), spinner.pid, ExitReason::Kill);
        let down = Message::Down {
            tag: monitor,
            pid: spinner.pid,
            reason: ExitReason::Killed,
        };
        assert_eq!(next(&mut native).await, down);
    }
    runtime.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_over_its_limit_ends_its_actor() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "watcher").unwrap();
    let stuck = spawn(&runtime, Some(10), |_, me| {
        while !me.is_doomed() {
            std::thread::yield_now();
        }
        Step::Wait
    });
    let monitor = runtime.monitor(native.process(), &to(stuck.pid));
    for _ in 0..20 {
        runtime.signal(stuck.pid, Signal::Info("x".into()));
    }
    let limit = ExitReason::Limit("mailbox: more than 10 messages".into());
    let down = Message::Down {
        tag: monitor,
        pid: stuck.pid,
        reason: limit,
    };
    assert_eq!(next(&mut native).await, down);
    runtime.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_sender_is_suspended_until_there_is_room() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "watcher").unwrap();
    const MESSAGES: usize = 5 * MAILBOX_HIGH_MESSAGES;
    let most = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (seen, strong, done) = (most.clone(), runtime.clone(), native.pid());
    let mut taken = 0;
    let slow = spawn(&runtime, None, move |_, me| {
        seen.fetch_max(me.info().mailbox, std::sync::atomic::Ordering::Relaxed);
        while strong.next(me).0.is_some() {
            taken += 1;
            if taken % 1000 == 0 {
                break;
            }
        }
        if taken == MESSAGES {
            strong.signal(done, Signal::Info("all".into()));
        }
        Step::Wait
    });
    let (strong, target) = (runtime.clone(), slow.pid);
    spawn(&runtime, None, move |_, me| {
        for _ in 0..MESSAGES {
            strong.send_from(me, target, Signal::Info("x".into()));
        }
        Step::Stop(ExitReason::Normal)
    });
    assert_eq!(next(&mut native).await, Message::Info("all".into()));
    let most = most.load(std::sync::atomic::Ordering::Relaxed);
    // An inbox that is full, one that was just taken in, and what was left before that.
    assert!(
        most <= 5 * MAILBOX_HIGH_MESSAGES / 2 + 1,
        "{most} messages waited at once"
    );
    runtime.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_fire_once_in_order_and_not_when_cancelled() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "timed").unwrap();
    let ms = Duration::from_millis;
    let begun = std::time::Instant::now();
    let late = runtime.start_timer(native.process(), ms(40), None);
    let never = runtime.start_timer(native.process(), ms(20), None);
    let early = runtime.start_timer(native.process(), ms(10), None);
    assert!(runtime.cancel_timer(native.process(), never));
    assert!(!runtime.cancel_timer(native.process(), never));
    assert_eq!(next(&mut native).await, Message::Timer { tag: early });
    assert!(begun.elapsed() >= ms(10));
    assert_eq!(next(&mut native).await, Message::Timer { tag: late });
    assert!(begun.elapsed() >= ms(40));
    runtime.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_awaits_init_hears_of_its_end() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "parent").unwrap();
    let start = |step: fn(u32) -> Step| {
        let tag = runtime.make_ref();
        let options = SpawnOptions {
            link: true,
            await_init: true,
            ..Default::default()
        };
        let request = SpawnRequest {
            label: "child".into(),
            parent: Some((native.pid(), tag)),
            options: options.clone(),
            limits: Limits::default(),
        };
        let process = runtime.spawn(request).unwrap();
        runtime.expect_spawned(
            native.process(),
            tag,
            runtime.node(),
            Some(process.pid),
            &options,
        );
        let mut turns = 0;
        let program = move |_: &Runtime, _: &Arc<Process>| {
            turns += 1;
            step(turns)
        };
        runtime.begin(&process, Box::new(Closure(process.clone(), program, false)));
        (process, tag)
    };
    // Says `starting` first and is done at its second turn, which a message brings.
    let (process, tag) = start(|turn| {
        if turn == 1 {
            Step::Starting
        } else {
            Step::Wait
        }
    });
    runtime.signal(process.pid, Signal::Info("go on".into()));
    let (failing, failed) = start(|_| Step::Stop(ExitReason::Error("no".into())));
    let mut heard = [next(&mut native).await, next(&mut native).await];
    heard.sort_by_key(|message| message.answers());
    let error = SpawnError::InitFailed(ExitReason::Error("no".into()));
    assert_eq!(
        heard[0],
        Message::Spawned {
            tag,
            result: Ok(process.pid)
        }
    );
    assert_eq!(
        heard[1],
        Message::Spawned {
            tag: failed,
            result: Err(error)
        }
    );
    assert!(runtime.get(failing.pid).is_none());
    // The link holds now: the child's end is heard.
    runtime.exit(native.process(), process.pid, ExitReason::Kill);
    let exit = Message::Exit {
        from: process.pid,
        reason: ExitReason::Killed,
    };
    assert_eq!(next(&mut native).await, exit);
    runtime.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_unique_and_go_with_their_actor() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "watcher").unwrap();
    let server = echo(&runtime);
    runtime.register("server", server.pid).unwrap();
    assert!(runtime.register("server", native.pid()).is_err());
    assert!(runtime.register("", native.pid()).is_err());
    assert_eq!(runtime.whereis("server"), Some(server.pid));
    let monitor = runtime.monitor(native.process(), &Destination::Name("server".into()));
    runtime.signal(server.pid, Signal::Info("stop".into()));
    assert_eq!(next(&mut native).await.answers(), Some(monitor));
    assert_eq!(runtime.whereis("server"), None);
    runtime.register("server", native.pid()).unwrap();
    runtime.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_times_out_in_the_middle_of_a_turn_too() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "watcher").unwrap();
    let server = echo(&runtime);
    let request = SpawnRequest {
        label: "waiting".into(),
        parent: None,
        options: SpawnOptions::default(),
        limits: Limits::default(),
    };
    let process = runtime.spawn(request).unwrap();
    let (strong, me, done) = (runtime.clone(), process.clone(), native.pid());
    let program = super::FutureProgram::new(async move {
        let body = Bytes::from_static(b"silence");
        let tag = strong.request(&me, &to(server.pid), body, Some(Duration::from_millis(20)));
        let answer = std::future::poll_fn(|_| match strong.next_answering(&me, tag) {
            Some(message) => Poll::Ready(message),
            None => Poll::Pending,
        });
        let late = Message::Response {
            tag,
            result: Err(CallError::Timeout),
        };
        if answer.await == late {
            strong.signal(done, Signal::Info("late".into()));
        }
        ExitReason::Normal
    });
    runtime.begin(&process, Box::new(program));
    assert_eq!(next(&mut native).await, Message::Info("late".into()));
    runtime.stop();
}
