//! Calls against the double of the imports; each called function runs on a thread of its own, as
//! an actor does.

use std::cell::RefCell;
use std::future::pending;

use super::functions::invoke;
use super::*;
use crate::gen_server::GenServerActor;
use crate::task::{Task, TaskActor};
use crate::testing::scripted::{self as fake, Did};
use crate::{
    Actor, CallReturn, Caller, ExitReason, Info, Init, Message, Next, Outcome, Pid, Ref, SaveError,
    SpawnError, Start,
};

const SOON: Duration = Duration::from_millis(500);
const CHILD: Pid = Pid {
    node: 2,
    serial: 20,
};

async fn add(a: i64, b: i64) -> i64 {
    a + b
}
async fn divide(a: i64, b: i64) -> Result<i64, String> {
    a.checked_div(b).ok_or_else(|| "not by zero".into())
}
async fn nothing() {}
async fn never() -> u8 {
    pending().await
}

crate::rpc_functions! {
    /// What the tests call.
    Sums = "sums" {
        async fn add(a: i64, b: i64) -> i64;
        async fn divide(a: i64, b: i64) -> Result<i64, String>;
        async fn nothing();
        async fn never() -> u8;
    }
}

/// How an actor of a type ends that begins with these arguments.
fn end_of<A: Actor>(args: Vec<u8>) -> ExitReason {
    let ended = std::thread::spawn(move || match A::init(Start::Fresh(args)) {
        Ok((_, Outcome::Stop(reason))) | Err(reason) => reason,
        Ok((_, outcome)) => panic!("it goes on: {outcome:?}"),
    });
    ended.join().unwrap()
}

type Module = WithFunctions<NoActor, Sums>;

thread_local! {
    static MAIN: RefCell<Option<Box<dyn FnOnce() -> Running>>> = RefCell::default();
}
type Running = std::pin::Pin<Box<dyn Future<Output = ()>>>;

struct Main;
impl Task for Main {
    async fn main(_: Vec<u8>) -> ExitReason {
        let main = MAIN.take().expect("a test");
        main().await;
        ExitReason::Normal
    }
}

/// An actor that does this, and then ends normally.
fn actor<F: Future<Output = ()> + 'static>(main: impl FnOnce() -> F + 'static) -> TaskActor<Main> {
    fake::reset();
    MAIN.set(Some(Box::new(move || Box::pin(main()))));
    TaskActor::<Main>::init(Start::Fresh(Vec::new())).unwrap().0
}

/// The one spawn, and its arguments.
fn the_spawn(did: Vec<Did>) -> (Ref, Vec<u8>) {
    let spawned = did.into_iter().filter_map(|did| match did {
        Did::SpawnedOn(node, module, args, tag) => {
            assert_eq!((node.as_str(), module.as_str()), ("b@h", "sums"));
            Some((tag, args))
        }
        _ => None,
    });
    let spawned: Vec<_> = spawned.collect();
    <[_; 1]>::try_from(spawned)
        .unwrap()
        .into_iter()
        .next()
        .unwrap()
}

fn timer(did: &[Did]) -> Ref {
    let mut timers = did.iter().filter_map(|did| match did {
        Did::StartedTimer(500, tag) => Some(*tag),
        _ => None,
    });
    timers.next().expect("a timer")
}

const STOPPED: Outcome = Outcome::Stop(ExitReason::Normal);

/// What a call of these names gives if the actor that is spawned for it ends as `end` says.
fn outcome_of<R: DeserializeOwned + std::fmt::Debug + PartialEq + 'static>(
    call: Call<R>,
    end: impl FnOnce(Vec<u8>) -> ExitReason,
    expected: Result<R, Error>,
) {
    let mut caller = actor(move || async move {
        assert_eq!(call.on("b@h", SOON).await, expected);
    });
    let (tag, args) = the_spawn(fake::did());
    fake::deliver(Message::Spawned((tag, Ok(CHILD))));
    assert_eq!(caller.turn(), Outcome::Wait);
    fake::deliver(Message::Down((tag, CHILD, end(args))));
    assert_eq!(caller.turn(), STOPPED);
    let did = fake::did();
    assert!(matches!(did[..], [Did::CancelledTimer(_)]), "{did:?}");
}

#[test]
fn results_come_back() {
    outcome_of(Sums::add(1, 2), end_of::<Module>, Ok(3));
    outcome_of(Sums::nothing(), end_of::<Module>, Ok(()));
    outcome_of(Sums::divide(6, 3), end_of::<Module>, Ok(Ok(2)));
    let own = Ok(Err("not by zero".into()));
    outcome_of(Sums::divide(6, 0), end_of::<Module>, own);
    let untyped = Call::<i64>::new("sums", "add", &(40i64, 2i64));
    outcome_of(untyped, end_of::<Module>, Ok(42));
}

#[test]
fn each_failure_is_told_apart() {
    let call = |function: &'static str| Call::<i64>::new("sums", function, &(1i64, 2i64));
    outcome_of(call("sub"), end_of::<Module>, Err(Error::NoSuchFunction));
    // A server and a task that offer nothing.
    let refused = Err(Error::NoSuchFunction);
    outcome_of(
        call("add"),
        end_of::<GenServerActor<Silent>>,
        refused.clone(),
    );
    outcome_of(call("add"), end_of::<TaskActor<Main>>, refused);

    let said = end_of::<Module>(invoke("add", b"\x02", None).unwrap());
    let bad = functions::answer::<i64>(said);
    assert!(matches!(bad, Err(Error::BadArguments(_))), "{bad:?}");
    let said = end_of::<Module>(invoke("nothing", b"\x02", None).unwrap());
    let bad = functions::answer::<()>(said);
    assert!(matches!(bad, Err(Error::BadArguments(_))), "{bad:?}");
    let said = end_of::<Module>(invoke("nothing", b"", None).unwrap());
    let bad = functions::answer::<i64>(said);
    assert!(matches!(bad, Err(Error::BadResult(_))), "{bad:?}");

    for (reason, error) in [
        (ExitReason::Noconnection, Error::NoConnection),
        (
            ExitReason::Trap("unreachable".into()),
            Error::Trap("unreachable".into()),
        ),
        (ExitReason::Killed, Error::Exit(ExitReason::Killed)),
        (ExitReason::Normal, Error::Exit(ExitReason::Normal)),
        (
            ExitReason::Custom(vec![1]),
            Error::Exit(ExitReason::Custom(vec![1])),
        ),
    ] {
        outcome_of(Sums::add(1, 2), |_| reason, Err(error));
    }
    let words = "no code";
    for (spawn, error) in [
        (SpawnError::Noconnection, Error::NoConnection),
        (SpawnError::TooManyActors, Error::TooManyActors),
        (
            SpawnError::NoSuchModule(words.into()),
            Error::NoSuchModule(words.into()),
        ),
        (
            SpawnError::BadModule(words.into()),
            Error::BadModule(words.into()),
        ),
    ] {
        let mut caller = actor(move || async move {
            assert_eq!(Sums::add(1, 2).on("b@h", SOON).await, Err(error));
        });
        let (tag, _) = the_spawn(fake::did());
        fake::deliver(Message::Spawned((tag, Err(spawn))));
        assert_eq!(caller.turn(), STOPPED);
        assert!(matches!(fake::did()[..], [Did::CancelledTimer(_)]));
    }
}

#[derive(Serialize, serde::Deserialize, Debug)]
struct Silent(Vec<String>);
impl GenServer for Silent {
    const MODULE: &'static str = "silent";
    type Args = ();
    type Call = ();
    type Reply = ();
    type Cast = ();
    async fn init((): ()) -> Init<Self> {
        Init::Ok(Silent(Vec::new()))
    }
    async fn handle_call(&mut self, (): (), _: Caller<()>) -> CallReturn<()> {
        let result = Sums::add(1, 2).on("b@h", SOON).await;
        self.0.push(format!("{result:?}"));
        CallReturn::NoReply
    }
    async fn handle_info(&mut self, info: Info) -> Next {
        self.0.push(format!("{info:?}"));
        Next::Wait
    }
}

#[test]
fn a_function_that_is_too_slow_is_ended_by_its_caller() {
    let mut caller = actor(|| async {
        assert_eq!(Sums::never().on("b@h", SOON).await, Err(Error::Timeout));
    });
    let did = fake::did();
    let (timer, (tag, _)) = (timer(&did), the_spawn(did));
    fake::deliver(Message::Spawned((tag, Ok(CHILD))));
    fake::deliver(Message::Timer(timer));
    assert_eq!(caller.turn(), STOPPED);
    let ended = [Did::Demonitored(tag), Did::Exited(CHILD, ExitReason::Kill)];
    assert_eq!(fake::did(), ended);
}

#[test]
fn and_by_itself() {
    let (told, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let args = invoke("never", b"", Some(500)).unwrap();
        let (mut called, outcome) = Module::init(Start::Fresh(args)).unwrap();
        assert_eq!(outcome, Outcome::Wait);
        assert!(matches!(called.save(), Err(SaveError::Refused(_))));
        fake::deliver(Message::Timer(timer(&fake::did())));
        told.send(called.turn()).unwrap();
    });
    let Ok(Outcome::Stop(reason)) = said.recv() else {
        panic!("it goes on");
    };
    assert_eq!(functions::answer::<u8>(reason), Err(Error::Timeout));
}

#[test]
fn what_is_spawned_too_late_is_ended_and_reaches_no_handler() {
    fake::reset();
    let no_args = Start::Fresh(crate::encode(&()));
    let (mut server, _) = GenServerActor::<Silent>::init(no_args).unwrap();
    let asker = crate::ReplyTo {
        pid: CHILD,
        tag: Ref { node: 2, serial: 9 },
    };
    fake::deliver(Message::Request((asker, crate::encode(&()))));
    server.turn();
    let did = fake::did();
    let (timer, (tag, _)) = (timer(&did), the_spawn(did));
    fake::deliver(Message::Timer(timer));
    server.turn();
    assert_eq!(fake::did(), []);

    // Also if there is another version by then.
    let saved = server.save().unwrap();
    fake::reset();
    let (mut server, _) = GenServerActor::<Silent>::init(Start::Restored(saved)).unwrap();
    fake::deliver(Message::Spawned((tag, Ok(CHILD))));
    server.turn();
    let ended = [Did::Demonitored(tag), Did::Exited(CHILD, ExitReason::Kill)];
    assert_eq!(fake::did(), ended);
    let state: Silent = crate::decode(&server.save().unwrap()).unwrap();
    assert_eq!(state.0, ["Err(Timeout)"]);
}

#[test]
fn a_call_that_is_given_up_ends_the_function() {
    let mut caller = actor(|| async {
        drop(Sums::never().on("b@h", SOON));
        crate::task::receive().await;
    });
    let (tag, _) = the_spawn(fake::did());
    fake::deliver(Message::Spawned((tag, Ok(CHILD))));
    assert_eq!(caller.turn(), Outcome::Wait);
    let ended = [Did::Demonitored(tag), Did::Exited(CHILD, ExitReason::Kill)];
    assert_eq!(fake::did(), ended);
}

#[test]
fn many_answer_in_the_order_asked_within_one_time() {
    let mut caller = actor(|| async {
        let all = Sums::add(20, 22).on_all(["a@h", "b@h", "c@h"], SOON).await;
        assert_eq!(
            all.results,
            [
                ("a@h".into(), Ok(42)),
                ("b@h".into(), Err(Error::Timeout)),
                ("c@h".into(), Err(Error::NoConnection)),
            ]
        );
        assert_eq!(all.failed(), ["b@h", "c@h"]);
        assert_eq!(all.ok().collect::<Vec<_>>(), [("a@h", &42)]);
    });
    let did = fake::did();
    let spawns: Vec<_> = did
        .iter()
        .filter_map(|did| match did {
            Did::SpawnedOn(_, _, args, tag) => Some((*tag, args.clone())),
            _ => None,
        })
        .collect();
    let timers: Vec<_> = did
        .iter()
        .filter_map(|did| match did {
            Did::StartedTimer(500, tag) => Some(*tag),
            _ => None,
        })
        .collect();
    let [(a, args), (b, _), (c, _)] = &spawns[..] else {
        panic!("{did:?}")
    };
    assert_eq!(timers.len(), 3);
    fake::deliver(Message::Spawned((*c, Err(SpawnError::Noconnection))));
    fake::deliver(Message::Spawned((*a, Ok(CHILD))));
    let reason = end_of::<Module>(args.clone());
    fake::deliver(Message::Down((*a, CHILD, reason)));
    assert_eq!(caller.turn(), Outcome::Wait);
    fake::deliver(Message::Timer(timers[1]));
    assert_eq!(caller.turn(), STOPPED);
    assert!(!fake::did().contains(&Did::Demonitored(*b)));
}

#[test]
fn casts_are_forgotten() {
    let mut caller = actor(|| async {
        cast("b@h", "sums", "add", &(1i64, 2i64));
        abcast(["a@h", "b@h"], "name", b"hi");
        server_abcast::<Silent>(["a@h"], "name", ());
        let message = crate::task::receive().await;
        assert_eq!(message, Message::Info(vec![1]), "no answer to the spawn");
    });
    let did = fake::did();
    let to = |node: &str| Destination::RemoteName(("name".into(), node.into()));
    for sent in [
        Did::Sent(to("a@h"), b"hi".into()),
        Did::Sent(to("b@h"), b"hi".into()),
        Did::Cast(to("a@h"), Vec::new()),
    ] {
        assert!(did.contains(&sent), "{did:?}");
    }
    let (tag, args) = the_spawn(did);
    assert_eq!(functions::answer(end_of::<Module>(args)), Ok(3i64));
    fake::deliver(Message::Spawned((tag, Ok(CHILD))));
    fake::deliver(Message::Info(vec![1]));
    assert_eq!(caller.turn(), STOPPED);
    assert_eq!(fake::did(), [], "it lives");
}

#[test]
fn everywhere_is_here_too() {
    assert_eq!(everywhere(), ["a@h", "b@h", "c@h", "me@h"]);
}

#[test]
fn a_multi_call_connects_first_and_its_time_is_all_there_is() {
    let mut caller = actor(|| async {
        let all = crate::multi_call::<Silent>(["a@h", "x@h", "y@h"], "name", (), SOON).await;
        assert_eq!(all.replies, [("a@h".into(), ()), ("x@h".into(), ())]);
        assert_eq!(all.failed, [("y@h".into(), crate::CallError::Timeout)]);
        let message = crate::task::receive().await;
        assert_eq!(message, Message::Info(vec![1]), "nothing comes late");
    });
    let did = fake::did();
    let [
        Did::Requested(_, _, Some(500), a),
        Did::Connected(_, x),
        Did::Connected(_, y),
        Did::StartedTimer(..),
        Did::StartedTimer(500, timer),
    ] = did[..]
    else {
        panic!("{did:?}")
    };
    fake::advance(200);
    fake::deliver(Message::Response((a, Ok(Vec::new()))));
    fake::deliver(Message::Connected((x, Ok("x@h".into()))));
    assert_eq!(caller.turn(), Outcome::Wait);
    let did = fake::did();
    let [Did::CancelledTimer(_), Did::Requested(_, _, Some(300), x)] = did[..] else {
        panic!("{did:?}")
    };
    fake::deliver(Message::Response((x, Ok(Vec::new()))));
    fake::deliver(Message::Timer(timer));
    assert_eq!(caller.turn(), Outcome::Wait);
    fake::deliver(Message::Connected((y, Ok("y@h".into()))));
    fake::deliver(Message::Info(vec![1]));
    assert_eq!(caller.turn(), STOPPED);
}
