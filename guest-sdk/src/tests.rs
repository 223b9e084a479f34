//! Tests of the executor and of GenServers and tasks on it, against the double in `testing::scripted`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::gen_server::GenServerActor;
use crate::task::{self, Task, TaskActor};
use crate::testing::scripted::{self as fake, Did, ME};
use crate::*;

const ASKER: ReplyTo = ReplyTo {
    pid: Pid { node: 2, serial: 7 },
    tag: Ref {
        node: 2,
        serial: 70,
    },
};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Counter {
    count: i64,
    seen: Vec<String>,
    later: Option<Caller<i64>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Ask {
    Get,
    Add(i64),
    /// Asks another server, and adds its answer.
    Fetch,
    /// Answered by `Cast::Answer`.
    Later,
    /// Answered by a task, after a call of its own.
    Aside,
    Multi,
    IdleFor(u64),
    StopNow,
}

#[derive(Debug, Serialize, Deserialize)]
enum Tell {
    Add(i64),
    Answer,
    Continue,
}

impl GenServer for Counter {
    const MODULE: &'static str = "counter";
    type Args = i64;
    type Call = Ask;
    type Reply = i64;
    type Cast = Tell;

    async fn init(count: i64) -> Init<Self> {
        match count {
            -1 => Init::Ignore,
            -2 => Init::Stop(ExitReason::error("no")),
            -3 => {
                sleep(Duration::from_millis(10)).await;
                Init::Ok(Self {
                    count,
                    seen: vec![],
                    later: None,
                })
            }
            _ => Init::Ok(Self {
                count,
                seen: vec![],
                later: None,
            }),
        }
    }

    async fn handle_call(&mut self, ask: Ask, from: Caller<i64>) -> CallReturn<i64> {
        match ask {
            Ask::Get => {}
            Ask::Add(n) => self.count += n,
            Ask::Fetch => match ServerRef::<Counter>::global("other").call(Ask::Get).await {
                Ok(n) => self.count += n,
                Err(error) => self.seen.push(format!("{error:?}")),
            },
            Ask::Later => {
                self.later = Some(from);
                return CallReturn::NoReply;
            }
            Ask::Aside => {
                spawn_local(async move {
                    let n = ServerRef::<Counter>::local("other").call(Ask::Get).await;
                    from.reply(&n.unwrap_or(-9));
                });
                return CallReturn::NoReply;
            }
            Ask::Multi => {
                let nodes = ["a@h", "b@h", "c@h"];
                let all =
                    multi_call::<Counter>(nodes, "db", Ask::Get, Duration::from_secs(1)).await;
                self.seen
                    .push(format!("{:?} {:?}", all.replies, all.failed));
            }
            Ask::IdleFor(ms) => {
                let next = Next::Timeout(Duration::from_millis(ms));
                return CallReturn::ReplyThen(self.count, next);
            }
            Ask::StopNow => {
                return CallReturn::ReplyThen(self.count, Next::Stop(ExitReason::Normal));
            }
        }
        CallReturn::Reply(self.count)
    }

    async fn handle_cast(&mut self, tell: Tell) -> Next {
        match tell {
            Tell::Add(n) => self.count += n,
            Tell::Answer => {
                if let Some(later) = self.later.take() {
                    later.reply(&self.count);
                }
            }
            Tell::Continue => return Next::Continue,
        }
        Next::Wait
    }

    async fn handle_info(&mut self, info: Info) -> Next {
        self.seen.push(format!("{info:?}"));
        Next::Wait
    }

    async fn handle_continue(&mut self) -> Next {
        self.seen.push("continue".into());
        Next::Wait
    }

    async fn terminate(&mut self, reason: &ExitReason) {
        crate::eprintln!("ends: {reason:?}");
    }
}

impl<R> PartialEq for Caller<R> {
    fn eq(&self, other: &Self) -> bool {
        self.pid() == other.pid()
    }
}

type Server = GenServerActor<Counter>;

fn started(count: i64) -> Server {
    fake::reset();
    let (server, outcome) = Server::init(Start::Fresh(encode(&count))).unwrap();
    assert_eq!(outcome, Outcome::Wait);
    server
}

fn ask(ask: Ask) -> Message {
    Message::Request((ASKER, encode(&ask)))
}

fn replied(n: i64) -> Did {
    Did::Replied(ASKER, encode(&n))
}

fn state(server: &mut Server) -> Counter {
    decode(&server.save().unwrap()).unwrap()
}

fn the_request(did: &[Did]) -> Ref {
    match did {
        [Did::Requested(_, _, Some(5000), tag)] => *tag,
        other => panic!("one request expected: {other:?}"),
    }
}

#[test]
fn calls_and_casts_are_served_in_one_turn() {
    let mut server = started(5);
    fake::deliver(ask(Ask::Add(2)));
    fake::deliver(Message::Cast(encode(&Tell::Add(10))));
    fake::deliver(ask(Ask::Get));
    assert_eq!(server.turn(), Outcome::Wait);
    assert_eq!(fake::did(), [replied(7), replied(17)]);
}

#[test]
fn init_may_wait_ignore_or_fail() {
    fake::reset();
    let ignored = Server::init(Start::Fresh(encode(&-1i64))).err();
    assert_eq!(ignored, Some(ExitReason::Normal));
    fake::reset();
    let failed = Server::init(Start::Fresh(encode(&-2i64))).err();
    assert_eq!(failed, Some(ExitReason::Error("no".into())));

    fake::reset();
    let (mut server, outcome) = Server::init(Start::Fresh(encode(&-3i64))).unwrap();
    assert_eq!(outcome, Outcome::Starting);
    assert_eq!(server.save(), Err(SaveError::Busy));
    let did = fake::did();
    let [Did::StartedTimer(10, timer)] = did[..] else {
        panic!("{did:?}")
    };
    fake::deliver(ask(Ask::Get));
    assert_eq!(server.turn(), Outcome::Starting, "a call does not end init");
    fake::deliver(Message::Timer(timer));
    assert_eq!(server.turn(), Outcome::Wait);
    assert_eq!(fake::did(), [replied(-3)]);
}

#[test]
fn a_name_that_is_held_is_told_apart_from_other_failures() {
    let error = SpawnError::InitFailed(ExitReason::AlreadyStarted(ASKER.pid));
    assert_eq!(
        StartError::from(error),
        StartError::AlreadyStarted(ASKER.pid)
    );
    let error = SpawnError::InitFailed(ExitReason::Normal);
    assert!(!matches!(
        StartError::from(error),
        StartError::AlreadyStarted(_)
    ));
}

#[test]
fn messages_behind_a_waiting_handler_keep_their_order() {
    let mut server = started(1);
    fake::deliver(ask(Ask::Fetch));
    fake::deliver(ask(Ask::Add(100)));
    assert_eq!(server.turn(), Outcome::Wait);
    let tag = the_request(&fake::did());
    assert_eq!(server.save(), Err(SaveError::Busy));

    fake::deliver(Message::Cast(encode(&Tell::Add(1000))));
    assert_eq!(server.turn(), Outcome::Wait);
    assert_eq!(fake::did(), []);

    fake::deliver(ask(Ask::Get));
    fake::deliver(Message::Response((tag, Ok(encode(&10i64)))));
    assert_eq!(server.turn(), Outcome::Wait);
    assert_eq!(fake::did(), [replied(11), replied(111), replied(1111)]);
    assert_eq!(state(&mut server).count, 1111);
}

#[test]
fn a_failed_call_is_an_error_and_a_late_answer_is_dropped() {
    let mut server = started(1);
    fake::deliver(ask(Ask::Fetch));
    server.turn();
    let tag = the_request(&fake::did());
    fake::deliver(Message::Response((tag, Err(CallError::Timeout))));
    fake::deliver(Message::Response((tag, Ok(encode(&10i64)))));
    server.turn();
    assert_eq!(fake::did(), [replied(1)]);
    assert_eq!(state(&mut server).seen, ["CallError::Timeout"]);
}

#[test]
fn replies_may_come_later() {
    let mut server = started(3);
    fake::deliver(ask(Ask::Later));
    server.turn();
    assert_eq!(fake::did(), []);
    // The caller is part of the state: another version may answer.
    let saved = server.save().unwrap();
    fake::reset();
    let (mut server, _) = Server::init(Start::Restored(saved)).unwrap();
    fake::deliver(Message::Cast(encode(&Tell::Answer)));
    server.turn();
    assert_eq!(fake::did(), [replied(3)]);
}

#[test]
fn a_local_task_runs_beside_the_handlers() {
    let mut server = started(3);
    fake::deliver(ask(Ask::Aside));
    fake::deliver(ask(Ask::Get));
    server.turn();
    let did = fake::did();
    let [Did::Replied(..), Did::Requested(_, _, _, tag)] = did[..] else {
        panic!("{did:?}")
    };
    assert_eq!(server.save(), Err(SaveError::Busy));
    fake::deliver(Message::Response((tag, Ok(encode(&44i64)))));
    server.turn();
    assert_eq!(fake::did(), [replied(44)]);
    assert!(server.save().is_ok());
}

#[test]
fn a_multicall_asks_all_at_once_and_names_who_failed() {
    let mut server = started(0);
    fake::deliver(ask(Ask::Multi));
    server.turn();
    let tags: Vec<Ref> = fake::did()
        .into_iter()
        .map(|did| match did {
            Did::Requested(Destination::RemoteName(_), _, Some(1000), tag) => tag,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tags.len(), 3);
    fake::deliver(Message::Response((tags[2], Ok(encode(&30i64)))));
    fake::deliver(Message::Response((tags[1], Err(CallError::Noconnection))));
    server.turn();
    assert_eq!(fake::did(), []);
    fake::deliver(Message::Response((tags[0], Ok(encode(&10i64)))));
    server.turn();
    assert_eq!(
        state(&mut server).seen,
        [r#"[("a@h", 10), ("c@h", 30)] [("b@h", CallError::Noconnection)]"#]
    );
}

#[test]
fn time_outs_survive_a_save_and_only_come_when_asked_for() {
    let mut server = started(0);
    fake::deliver(ask(Ask::IdleFor(500)));
    assert_eq!(server.turn(), Outcome::WaitFor(500));
    fake::advance(200);
    let saved = server.save().unwrap();
    fake::reset();
    let (mut server, outcome) = Server::init(Start::Restored(saved)).unwrap();
    assert_eq!(outcome, Outcome::WaitFor(300));
    fake::deliver(Message::Timeout);
    fake::deliver(Message::Timeout);
    assert_eq!(server.turn(), Outcome::Wait);
    assert_eq!(state(&mut server).seen, ["Timeout"]);
}

#[test]
fn stop_terminates_then_replies() {
    let mut server = started(6);
    fake::deliver(ask(Ask::StopNow));
    fake::deliver(ask(Ask::Get));
    assert_eq!(server.turn(), Outcome::Stop(ExitReason::Normal));
    assert_eq!(
        fake::did(),
        [
            Did::Printed("ends: ExitReason::Normal\n".into()),
            replied(6),
        ]
    );
}

#[test]
fn continue_comes_before_the_next_message() {
    let mut server = started(0);
    fake::deliver(Message::Cast(encode(&Tell::Continue)));
    fake::deliver(Message::Info(vec![1]));
    server.turn();
    assert_eq!(state(&mut server).seen, ["continue", "Message([1])"]);
}

#[test]
fn bytes_that_are_no_call_are_reported_and_change_nothing() {
    let mut server = started(2);
    fake::deliver(Message::Request((ASKER, vec![255])));
    fake::deliver(ask(Ask::Get));
    server.turn();
    let did = fake::did();
    assert!(
        matches!(&did[..], [Did::Printed(_), Did::Replied(..)]),
        "{did:?}"
    );
}

#[test]
fn state_that_does_not_decode_refuses_the_upgrade() {
    fake::reset();
    let refused = Server::init(Start::Restored(vec![255; 3])).err();
    assert!(matches!(refused, Some(ExitReason::Error(_))), "{refused:?}");
}

struct Picky;
impl Task for Picky {
    async fn main(_: Vec<u8>) -> ExitReason {
        let database = monitor("db");
        let late = timeout(Duration::from_millis(50), request(&"x".into(), b"?", None)).await;
        assert_eq!(late, Err(Elapsed));
        let picked = task::receive_match(|m| *m == Message::Info(vec![3])).await;
        assert_eq!(picked, Message::Info(vec![3]));
        assert_eq!(task::receive().await, Message::Info(vec![1]));
        let (_, reason) = database.down().await;
        assert_eq!(reason, ExitReason::Noproc);
        assert_eq!(task::try_receive(), Some(Message::Info(vec![2])));
        assert_eq!(task::try_receive(), Some(Message::Info(vec![4])));
        assert_eq!(task::try_receive(), None);
        ExitReason::Custom(vec![1])
    }
}

#[test]
fn a_task_picks_its_messages() {
    fake::reset();
    let (mut picky, outcome) = TaskActor::<Picky>::init(Start::Fresh(vec![])).unwrap();
    assert_eq!(outcome, Outcome::Wait);
    let did = fake::did();
    let [
        Did::Monitored(_, monitor),
        Did::Requested(_, _, None, asked),
        Did::StartedTimer(50, timer),
    ] = did[..]
    else {
        panic!("{did:?}")
    };
    fake::deliver(Message::Info(vec![1]));
    fake::deliver(Message::Down((monitor, ME, ExitReason::Noproc)));
    fake::deliver(Message::Timer(timer));
    fake::deliver(Message::Info(vec![2]));
    assert_eq!(picky.turn(), Outcome::Wait);
    assert_eq!(fake::did(), [Did::Forgot(asked)]);
    fake::deliver(Message::Info(vec![4]));
    assert_eq!(picky.turn(), Outcome::Wait);
    fake::deliver(Message::Info(vec![3]));
    assert_eq!(picky.turn(), Outcome::Stop(ExitReason::Custom(vec![1])));
}

#[test]
fn a_lock_is_let_go_whatever_becomes_of_the_work() {
    use crate::registry::global::{LockId, Wait, set_lock, trans};
    let lock = LockId::new("till");
    let taken = |timeout_ms, tag| Did::SetLock("till".into(), timeout_ms, tag);
    let tag = |serial| Ref { node: 1, serial };
    let let_go = || Did::DeletedLock("till".into());
    // Nobody waits for it any more.
    fake::reset();
    drop(set_lock(&lock, Wait::For(Duration::from_micros(1500))));
    assert_eq!(fake::did(), [taken(Some(2), tag(1)), let_go()]);
    // Taken, and the work is done; refused.
    for result in [Ok(()), Err(RegisterError::Timeout)] {
        fake::reset();
        let (granted, work) = (lock.clone(), || async { crate::io::print("work") });
        crate::runtime::start_main(async move {
            match trans(&granted, Wait::Endless, work).await {
                Ok(()) => ExitReason::Normal,
                Err(error) => ExitReason::error(error.describe()),
            }
        });
        assert_eq!(crate::runtime::run(), None);
        assert_eq!(fake::did(), [taken(None, tag(1))]);
        fake::deliver(Message::Registered((tag(1), result.clone())));
        let ended = crate::runtime::run();
        assert_eq!(ended == Some(ExitReason::Normal), result.is_ok());
        let worked = [Did::Printed("work".into()), let_go()];
        let expected: &[Did] = if result.is_ok() { &worked } else { &[] };
        assert_eq!(fake::did(), expected);
    }
}

struct Follower;
impl Task for Follower {
    async fn main(_: Vec<u8>) -> ExitReason {
        let room = groups::Scope::new("s");
        let (monitor, mut members) = room.monitor("room").unwrap();
        {
            let mut changes = monitor.changes();
            for _ in 0..3 {
                changes.next().await.apply(&mut members);
            }
        }
        assert_eq!(members, [ME]);
        // What is not followed any more comes as any message does.
        let next = task::receive().await;
        assert!(matches!(next, Message::GroupLeft(_)), "{next:?}");
        assert!(monitor.cancel());
        assert_eq!(task::receive().await, Message::Info(vec![1]));
        ExitReason::Normal
    }
}

#[test]
fn changes_of_a_group_go_to_whoever_follows_it() {
    fake::reset();
    let (mut follower, _) = TaskActor::<Follower>::init(Start::Fresh(vec![])).unwrap();
    let tag = Ref { node: 1, serial: 1 };
    let other = Pid { node: 2, serial: 1 };
    let joined = |pids: &[Pid]| Message::GroupJoined((tag, "room".into(), pids.into()));
    let left = |pids: &[Pid]| Message::GroupLeft((tag, "room".into(), pids.into()));
    fake::deliver(joined(&[ME, other, other]));
    fake::deliver(left(&[other]));
    assert_eq!(follower.turn(), Outcome::Wait);
    fake::deliver(left(&[other]));
    fake::deliver(left(&[ME]));
    // In the stash when the monitor is cancelled.
    fake::deliver(joined(&[ME]));
    fake::deliver(Message::Info(vec![1]));
    assert_eq!(follower.turn(), Outcome::Stop(ExitReason::Normal));
}

#[test]
fn a_server_hears_of_groups_as_info() {
    let mut server = started(0);
    let tag = Ref { node: 1, serial: 5 };
    fake::deliver(Message::GroupJoined((tag, "room".into(), vec![ME])));
    server.turn();
    let [seen] = &state(&mut server).seen[..] else {
        panic!("one message");
    };
    assert!(seen.starts_with("Group { monitor: GroupMonitor("), "{seen}");
    assert!(
        seen.contains(r#"change: Joined { group: "room", actors: ["#),
        "{seen}"
    );
}

struct Reader;
impl Task for Reader {
    async fn main(_: Vec<u8>) -> ExitReason {
        drop(io::read_line());
        let soon = Some(Duration::from_millis(5));
        assert_eq!(io::read_line_within(soon).await, Err(CallError::Timeout));
        assert_eq!(io::read_line().await, Ok(Some("a line\n".into())));
        let garbled = io::read_line().await;
        assert!(matches!(
            garbled,
            Err(CallError::Exit(ExitReason::Error(_)))
        ));
        assert_eq!(io::read_line().await, Ok(None));
        ExitReason::Normal
    }
}

#[test]
fn lines_are_asked_for_and_given_up() {
    fake::reset();
    let (mut reader, _) = TaskActor::<Reader>::init(Start::Fresh(vec![])).unwrap();
    let tag = |serial| Ref { node: 1, serial };
    let expected = [
        Did::ReadLine(None, tag(1)),
        Did::Forgot(tag(1)),
        Did::ReadLine(Some(5), tag(2)),
    ];
    assert_eq!(fake::did(), expected);
    let answers: [Result<&[u8], CallError>; 4] = [
        Err(CallError::Timeout),
        Ok(b"a line\n"),
        Ok(&[0xff]),
        Ok(b""),
    ];
    for (serial, answer) in (2..).zip(answers) {
        let result = answer.map(Vec::from);
        fake::deliver(Message::Response((tag(serial), result)));
        let outcome = reader.turn();
        let ended = outcome == Outcome::Stop(ExitReason::Normal);
        assert_eq!(ended, serial == 5, "{outcome:?}");
    }
}

#[test]
fn a_server_that_does_not_lead_passes_text_on() {
    let mut server = started_silent();
    let other = Pid { node: 2, serial: 9 };
    let output = |kind| Message::Output((other, kind, b"said\n".into()));
    fake::deliver(output(OutputKind::Stdout));
    fake::deliver(output(OutputKind::Stderr));
    fake::deliver(Message::InputRequest(ASKER));
    server.turn();
    let said = || Did::Printed("said\n".into());
    assert_eq!(fake::did(), [said(), said(), Did::Replied(ASKER, vec![])]);
    // Never to itself.
    process::set_group_leader(ME, ME);
    fake::did();
    fake::deliver(output(OutputKind::Stdout));
    server.turn();
    assert_eq!(fake::did(), []);
    let request = io::InputRequest(ASKER);
    request.line(7);
    request.end();
    let replies = [b"7\n".to_vec(), vec![]].map(|line| Did::Replied(ASKER, line));
    assert_eq!(fake::did(), replies);
}

/// A server with all defaults.
#[derive(Serialize, Deserialize)]
struct Silent;
impl GenServer for Silent {
    const MODULE: &'static str = "silent";
    type Args = ();
    type Call = ();
    type Reply = ();
    type Cast = ();

    async fn init((): ()) -> Init<Self> {
        Init::Ok(Self)
    }
    async fn handle_call(&mut self, (): (), _: Caller<()>) -> CallReturn<()> {
        CallReturn::NoReply
    }
}

fn started_silent() -> GenServerActor<Silent> {
    fake::reset();
    let args = Start::Fresh(encode(&()));
    let (server, _) = GenServerActor::<Silent>::init(args).unwrap();
    server
}

#[test]
fn events_have_a_text_and_named_values() {
    fake::reset();
    let (user, size) = ("bob", 7);
    log::warning!("full", user, size, limit = size + 1);
    log::debug!(format!("{user} came"));
    log::info!("here", user,);
    log::error!("lost", why = "no room");
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = [
        Did::Logged(
            "full".into(),
            vec![
                field("user", "bob"),
                field("size", "7"),
                field("limit", "8"),
            ],
        ),
        Did::Logged("bob came".into(), vec![]),
        Did::Logged("here".into(), vec![field("user", "bob")]),
        Did::Logged("lost".into(), vec![field("why", "no room")]),
    ];
    assert_eq!(fake::did(), expected);
}
