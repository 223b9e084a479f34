//! Signals, ends and scheduling, with native programs in place of wasm.

mod addresses;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use wasm_node_protocol::{
    CallError, Capabilities, Destination, ExitReason, Incarnation, Limits, OutputKind, Pid, Ref,
    Signal, SpawnError, SpawnOptions,
};

use super::{
    MAILBOX_HIGH_MESSAGES, Message, Native, Process, Program, Runtime, SpawnRequest, Step, User,
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
        capabilities: Capabilities::default(),
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
            capabilities: Capabilities::default(),
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
        capabilities: Capabilities::default(),
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

/// What a node's own group leader was told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Text(Pid, OutputKind, String),
    Asked(Pid, Ref),
    Forgot(Ref),
    Down(Incarnation),
}

#[derive(Default)]
struct Recorder(parking_lot::Mutex<Vec<Told>>);

impl User for Recorder {
    fn print(&self, actor: Pid, kind: OutputKind, text: &[u8]) {
        let text = String::from_utf8_lossy(text).into_owned();
        self.0.lock().push(Told::Text(actor, kind, text));
    }
    fn read_line(&self, asker: Pid, tag: Ref, _: Option<Duration>) {
        self.0.lock().push(Told::Asked(asker, tag));
    }
    fn forget(&self, tag: Ref) {
        self.0.lock().push(Told::Forgot(tag));
    }
    fn node_down(&self, node: Incarnation) {
        self.0.lock().push(Told::Down(node));
    }
}

impl Recorder {
    fn of(runtime: &Runtime) -> Arc<Self> {
        let recorder = Arc::new(Self::default());
        runtime.set_user(recorder.clone());
        recorder
    }

    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.0.lock())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_goes_to_the_group_leader_or_else_to_user() {
    let runtime = runtime();
    let recorder = Recorder::of(&runtime);
    let user = runtime.user();
    assert_eq!(runtime.whereis("user"), Some(user));
    assert!(runtime.is_alive(user));
    assert_eq!(runtime.count(), 0);
    let printer = Native::spawn(&runtime, "printer").unwrap();
    let (out, err) = (OutputKind::Stdout, OutputKind::Stderr);
    let text = |kind, text: &str| Told::Text(printer.pid(), kind, text.into());
    runtime.print(printer.process(), out, b"one");
    assert_eq!(recorder.take(), [text(out, "one")]);

    let mut leader = Native::spawn(&runtime, "leader").unwrap();
    runtime.set_group_leader(printer.process(), printer.pid(), leader.pid());
    runtime.print(printer.process(), err, b"two");
    let two = Message::Output {
        from: printer.pid(),
        kind: err,
        text: "two".into(),
    };
    assert_eq!(next(&mut leader).await, two);
    assert_eq!(recorder.take(), []);
    // One that is spawned with it has it from its start.
    let options = SpawnOptions {
        group_leader: Some(leader.pid()),
        ..SpawnOptions::default()
    };
    let request = SpawnRequest {
        label: "child".into(),
        parent: Some((printer.pid(), runtime.make_ref())),
        options,
        limits: Limits::default(),
        capabilities: Capabilities::default(),
    };
    let child = runtime.spawn(request).unwrap();
    assert_eq!(child.with_actor(|actor| actor.group_leader()), leader.pid());
    assert_eq!(child.parent(), Some(printer.pid()));

    // It ends; what it did not take and what comes later is shown all the same, in order.
    let gone = leader.pid();
    let sleeper = {
        let request = SpawnRequest {
            label: "never begun".into(),
            parent: None,
            options: SpawnOptions::default(),
            limits: Limits::default(),
            capabilities: Capabilities::default(),
        };
        runtime.spawn(request).unwrap()
    };
    runtime.set_group_leader(printer.process(), printer.pid(), sleeper.pid);
    for number in 0..10 {
        runtime.print(printer.process(), out, format!("{number}").as_bytes());
    }
    let asked = runtime.read_line(printer.process(), None);
    sleeper.doom(ExitReason::Killed);
    wait_until(|| !runtime.is_alive(sleeper.pid)).await;
    runtime.print(printer.process(), out, b"10");
    let texts = |told: Vec<Told>| -> Vec<String> {
        let texts = told.into_iter().filter_map(|told| match told {
            Told::Text(_, _, text) => Some(text),
            _ => None,
        });
        texts.collect()
    };
    wait_until(|| recorder.0.lock().len() >= 12).await;
    let told = recorder.take();
    assert!(
        told.contains(&Told::Asked(printer.pid(), asked)),
        "{told:?}"
    );
    let mut shown = texts(told);
    shown.sort_by_key(|text| text.parse::<u32>().unwrap());
    let expected: Vec<_> = (0..=10).map(|number| number.to_string()).collect();
    assert_eq!(shown, expected);
    drop(leader);
    wait_until(|| !runtime.is_alive(gone)).await;
    runtime.set_group_leader(printer.process(), printer.pid(), gone);
    runtime.print(printer.process(), out, b"late");
    assert_eq!(recorder.take(), [text(out, "late")]);
    // And that of a node that nobody knows.
    let elsewhere = Pid::user(Incarnation(99));
    runtime.set_group_leader(printer.process(), printer.pid(), elsewhere);
    runtime.print(printer.process(), out, b"far");
    assert_eq!(recorder.take(), [text(out, "far")]);
    runtime.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_not_wanted_any_more_is_taken_back() {
    let runtime = runtime();
    let recorder = Recorder::of(&runtime);
    let mut reader = Native::spawn(&runtime, "reader").unwrap();
    let asked = runtime.read_line(reader.process(), None);
    assert_eq!(recorder.take(), [Told::Asked(reader.pid(), asked)]);
    let line = Bytes::from_static(b"a line\n");
    let answer = |tag| Signal::Response {
        tag,
        result: Ok(Bytes::from_static(b"a line\n")),
    };
    runtime.signal(reader.pid(), answer(asked));
    let answered = Message::Response {
        tag: asked,
        result: Ok(line),
    };
    assert_eq!(next(&mut reader).await, answered);
    // Given up, timed out, ended.
    let asked = runtime.read_line(reader.process(), None);
    runtime.forget(reader.process(), asked);
    assert!(recorder.take().contains(&Told::Forgot(asked)));
    let soon = Some(Duration::from_millis(20));
    let asked = runtime.read_line(reader.process(), soon);
    let late = Message::Response {
        tag: asked,
        result: Err(CallError::Timeout),
    };
    assert_eq!(next(&mut reader).await, late);
    recorder.take();
    let asked = runtime.read_line(reader.process(), None);
    drop(reader);
    wait_until(|| recorder.0.lock().contains(&Told::Forgot(asked))).await;
    runtime.node_down(Incarnation(3));
    assert!(recorder.take().contains(&Told::Down(Incarnation(3))));
    runtime.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_own_group_leader_is_there_for_good() {
    let runtime = runtime();
    let _recorder = Recorder::of(&runtime);
    let mut native = Native::spawn(&runtime, "other").unwrap();
    let user = runtime.user();
    runtime.monitor(native.process(), &to(user));
    runtime.link(native.process(), user);
    runtime.exit(native.process(), user, ExitReason::Kill);
    let hello = Bytes::from_static(b"hello");
    let refused = native.call(&to(user), hello, PATIENCE).await;
    assert!(
        matches!(&refused, Err(CallError::Exit(ExitReason::Error(why))) if why.contains("no calls")),
        "{refused:?}"
    );
    assert!(runtime.is_alive(user));
    // Nothing came of it: what comes next is this.
    runtime.signal(native.pid(), Signal::Info("next".into()));
    assert_eq!(next(&mut native).await, Message::Info("next".into()));
    runtime.stop();
}

/// Waits until something happens that nobody tells of.
async fn wait_until(holds: impl Fn() -> bool) {
    let waits = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waits)
        .await
        .expect("it happens in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_nodes_own_code_ends_one_actor_alone() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "watcher").unwrap();
    let server = echo(&runtime);
    // More of them than lanes.
    for _ in 0..4 {
        let fragile = spawn(&runtime, None, |runtime, me| match runtime.next(me) {
            // With its state borrowed, as in the middle of an import.
            (Some(_), _) => me.with_actor(|_| panic!("on purpose")),
            (None, _) => Step::Wait,
        });
        let tag = runtime.monitor(native.process(), &to(fragile.pid));
        runtime.signal(fragile.pid, Signal::Info("go".into()));
        match next(&mut native).await {
            Message::Down {
                tag: of, reason, ..
            } => {
                assert_eq!(of, tag);
                let why = "the node's own code failed: on purpose";
                assert_eq!(reason, ExitReason::Trap(why.into()));
            }
            other => panic!("{other:?}"),
        }
        assert!(runtime.get(fragile.pid).is_none());
    }
    let hello = Bytes::from_static(b"hello");
    let answer = native.call(&to(server.pid), hello.clone(), PATIENCE).await;
    assert_eq!(answer, Ok(hello));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_comes_too_late_is_ended() {
    let runtime = runtime();
    let mut native = Native::spawn(&runtime, "parent").unwrap();
    let child = echo(&runtime);
    let watch = runtime.monitor(native.process(), &to(child.pid));
    // Of a spawn that it was told the failure of, so that it does not know the tag any more.
    let tag = runtime.make_ref();
    let result = Ok(child.pid);
    runtime.signal(native.pid(), Signal::Spawned { tag, result });
    match next(&mut native).await {
        Message::Down { tag, reason, .. } => {
            assert_eq!((tag, reason), (watch, ExitReason::Killed));
        }
        other => panic!("{other:?}"),
    }
}
