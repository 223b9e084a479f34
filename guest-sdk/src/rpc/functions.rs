//! The side that is called: functions, and the actor that runs one of them and ends.
//!
//! An invocation is the arguments of a spawn, behind a mark: postcard of [`Invocation`], then the
//! function's own arguments. The answer is an exit reason with data: a mark, one byte that says
//! what it is, then the bytes of that.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::{
    Actor, Either, ExitReason, Message, Outcome, Pid, SaveError, Start, codec, race, runtime, time,
};

const CALL_MARK: &[u8] = b"\0wasm-node-sdk rpc 1\0";
/// The same of a task: it gives its result as the reply to its owner's request, and ends normally.
const TASK_MARK: &[u8] = b"\0wasm-node-sdk task 1\0";
const ANSWER_MARK: &[u8] = b"\0wasm-node-sdk answer 1\0";

/// Arguments and results may be so long: the host's limit for messages, less the marks.
const MAX_BYTES: usize = (64 << 20) - 4096;

const RETURNED: u8 = 0;
const NO_SUCH_FUNCTION: u8 = 1;
const BAD_ARGUMENTS: u8 = 2;
const TIMED_OUT: u8 = 3;
const TOO_LARGE: u8 = 4;

/// What a module offers. [`rpc_functions!`](crate::rpc_functions) implements it.
pub trait Functions: 'static {
    /// The name of the module (the component file, without `.wasm`) that this compiles to.
    const MODULE: &'static str;

    /// Runs the function of that name; its result in postcard.
    fn call(function: &str, args: &[u8]) -> impl Future<Output = Result<Vec<u8>, Refusal>>;
}

/// Why a function did not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is none of that name.
    NoSuchFunction,
    /// It takes other arguments.
    BadArguments(String),
}

/// Arguments from their bytes; for the macro.
#[doc(hidden)]
pub fn arguments<A: DeserializeOwned>(bytes: &[u8]) -> Result<A, Refusal> {
    whole(bytes).map_err(Refusal::BadArguments)
}

/// A value that these bytes are, to the last of them: callers and functions may have been written
/// apart, and what is left over is a sign of that.
fn whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!(
            "{} bytes behind a {}",
            rest.len(),
            std::any::type_name::<T>()
        )),
        // It says more.
        Err(_) => codec::decode(bytes),
    }
}

/// A result's bytes; for the macro.
#[doc(hidden)]
pub fn result<R: Serialize>(result: &R) -> Vec<u8> {
    codec::encode(result)
}

#[derive(Serialize, Deserialize)]
struct Invocation<'a> {
    function: Cow<'a, str>,
    /// After so long the caller waits no more.
    timeout_ms: Option<u32>,
}

/// The arguments of the spawn that runs a function. An error if they are too many bytes.
pub(super) fn invoke(
    function: &str,
    args: &[u8],
    timeout_ms: Option<u32>,
) -> Result<Vec<u8>, Error> {
    if args.len() > MAX_BYTES {
        return Err(Error::TooLarge);
    }
    let invocation = Invocation {
        function: function.into(),
        timeout_ms,
    };
    Ok([CALL_MARK, &codec::encode(&invocation), args].concat())
}

/// What becomes of a task's result, and when the task begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TaskKind {
    /// It runs, then this actor asks.
    Awaited,
    /// It runs when this actor asks, so that its end comes after: for one that a supervisor starts.
    AskedFirst,
    /// Nobody asks.
    Forgotten,
    /// Nobody asks, and it has begun before it runs: whoever starts it need not wait.
    ForgottenAtOnce,
}

/// The arguments of the spawn that runs a function as a task of this actor. An error if they are
/// too many bytes.
pub(crate) fn invoke_task(function: &str, args: &[u8], kind: TaskKind) -> Result<Vec<u8>, Error> {
    if args.len() > MAX_BYTES {
        return Err(Error::TooLarge);
    }
    let task = Invoked {
        function: function.into(),
        owner: crate::self_pid(),
        kind,
    };
    Ok([TASK_MARK, &codec::encode(&task), args].concat())
}

/// A task, to the actor that runs it.
#[derive(Serialize, Deserialize)]
struct Invoked<'a> {
    function: Cow<'a, str>,
    /// Who asks for the result, if anybody does.
    owner: Pid,
    kind: TaskKind,
}

/// How long a task that is to be asked first waits for that, in milliseconds; then it ends. Its
/// owner gave up while it started.
const MAX_ASKED_AFTER_MS: u64 = 60_000;

/// What a task replied.
pub(crate) fn task_result<R: DeserializeOwned>(reply: &[u8]) -> Result<R, Error> {
    match reply.split_first() {
        Some((what, bytes)) => told(*what, bytes),
        None => Err(Error::BadResult("nothing".into())),
    }
}

fn told<R: DeserializeOwned>(what: u8, bytes: &[u8]) -> Result<R, Error> {
    Err(match what {
        RETURNED => return whole(bytes).map_err(Error::BadResult),
        NO_SUCH_FUNCTION => Error::NoSuchFunction,
        BAD_ARGUMENTS => Error::BadArguments(String::from_utf8_lossy(bytes).into_owned()),
        TIMED_OUT => Error::Timeout,
        TOO_LARGE => Error::TooLarge,
        what => Error::BadResult(format!("an answer of the unknown kind {what}")),
    })
}

/// What the end of the actor that ran a function says.
pub(crate) fn answer<R: DeserializeOwned>(reason: ExitReason) -> Result<R, Error> {
    let data = match reason {
        ExitReason::Custom(data) => data,
        ExitReason::Noconnection => return Err(Error::NoConnection),
        ExitReason::Trap(words) => return Err(Error::Trap(words)),
        reason => return Err(Error::Exit(reason)),
    };
    match data.strip_prefix(ANSWER_MARK).and_then(<[u8]>::split_first) {
        Some((what, bytes)) => told(*what, bytes),
        None => Err(Error::Exit(ExitReason::Custom(data))),
    }
}

fn reason(what: u8, bytes: &[u8]) -> ExitReason {
    ExitReason::Custom([ANSWER_MARK, &[what], bytes].concat())
}

/// The end of an actor that is asked for a function and has none; none if it is asked for
/// something else.
pub(crate) fn refuse_call(start: &Start) -> Option<ExitReason> {
    let called = matches!(start, Start::Fresh(args) if is_call(args));
    called.then(|| reason(NO_SUCH_FUNCTION, &[]))
}

fn is_call(args: &[u8]) -> bool {
    args.starts_with(CALL_MARK) || args.starts_with(TASK_MARK)
}

async fn run<F: Functions>(args: Vec<u8>) -> ExitReason {
    if let Some(task) = args.strip_prefix(TASK_MARK) {
        return run_task::<F>(task).await;
    }
    let parsed = args.strip_prefix(CALL_MARK).map(postcard::take_from_bytes);
    let Some(Ok((invocation, args))) = parsed else {
        return reason(BAD_ARGUMENTS, b"the invocation is damaged");
    };
    let Invocation {
        function,
        timeout_ms,
    } = invocation;
    let call = F::call(&function, args);
    let result = match timeout_ms {
        None => call.await,
        Some(ms) => match time::timeout(Duration::from_millis(ms.into()), call).await {
            Ok(result) => result,
            Err(_) => return reason(TIMED_OUT, &[]),
        },
    };
    let (what, bytes) = outcome(result);
    reason(what, &bytes)
}

/// What came of a function, for the wire.
fn outcome(result: Result<Vec<u8>, Refusal>) -> (u8, Vec<u8>) {
    match result {
        Ok(result) if result.len() > MAX_BYTES => (TOO_LARGE, Vec::new()),
        Ok(result) => (RETURNED, result),
        Err(Refusal::NoSuchFunction) => (NO_SUCH_FUNCTION, Vec::new()),
        Err(Refusal::BadArguments(words)) => (BAD_ARGUMENTS, words.into_bytes()),
    }
}

async fn run_task<F: Functions>(task: &[u8]) -> ExitReason {
    let Ok((invoked, args)) = postcard::take_from_bytes::<Invoked>(task) else {
        return ExitReason::error("the task's invocation is damaged");
    };
    let call = F::call(&invoked.function, args);
    if let TaskKind::Forgotten | TaskKind::ForgottenAtOnce = invoked.kind {
        if invoked.kind == TaskKind::ForgottenAtOnce {
            time::sleep(Duration::ZERO).await;
        }
        return match outcome(call.await) {
            (RETURNED, _) => ExitReason::Normal,
            (what, bytes) => reason(what, &bytes),
        };
    }
    // An owner that ends before it has asked will not ask.
    let watch = crate::monitor(invoked.owner);
    let asked = || async move {
        let asked = crate::task::receive_match(|message| matches!(message, Message::Request(_)));
        match race(asked, watch.down()).await {
            Either::Left(Message::Request((from, _))) => Some(from),
            _ => None,
        }
    };
    let mut from = None;
    if invoked.kind == TaskKind::AskedFirst {
        let within = Duration::from_millis(MAX_ASKED_AFTER_MS);
        from = time::timeout(within, asked()).await.unwrap_or(None);
        if from.is_none() {
            return ExitReason::Normal;
        }
    }
    let (what, bytes) = outcome(call.await);
    if from.is_none() {
        from = asked().await;
    }
    if let Some(from) = from {
        // Not too large: `outcome` has seen to that.
        let _ = crate::sys::mailbox::reply(from, &[&[what], bytes.as_slice()].concat());
    }
    ExitReason::Normal
}

/// An actor whose module offers functions too: what `export_functions!`,
/// `export_gen_server!(Server, Functions)` and `export_actor!(Actor, Functions)` export.
pub struct WithFunctions<A, F> {
    /// None while it runs a function.
    actor: Option<A>,
    functions: PhantomData<F>,
}

impl<A: Actor, F: Functions> Actor for WithFunctions<A, F> {
    fn init(start: Start) -> Result<(Self, Outcome), ExitReason> {
        let (actor, outcome) = match start {
            Start::Fresh(args) if is_call(&args) => {
                runtime::start_main(run::<F>(args));
                (None, after(runtime::run()))
            }
            start => {
                let (actor, outcome) = A::init(start)?;
                (Some(actor), outcome)
            }
        };
        let functions = PhantomData;
        Ok((Self { actor, functions }, outcome))
    }

    fn turn(&mut self) -> Outcome {
        match &mut self.actor {
            Some(actor) => actor.turn(),
            None => after(runtime::run()),
        }
    }

    fn save(&mut self) -> Result<Vec<u8>, SaveError> {
        match &mut self.actor {
            Some(actor) => actor.save(),
            None => Err(SaveError::Refused(
                "a function that was called has no state to save".into(),
            )),
        }
    }
}

fn after(exit: Option<ExitReason>) -> Outcome {
    exit.map_or(Outcome::Wait, Outcome::Stop)
}

/// The actor of a module that only offers functions: there is none.
#[doc(hidden)]
pub struct NoActor;

impl Actor for NoActor {
    fn init(_: Start) -> Result<(Self, Outcome), ExitReason> {
        Err(ExitReason::error(
            "this module offers functions only: call them with rpc",
        ))
    }

    fn turn(&mut self) -> Outcome {
        Outcome::Stop(ExitReason::Normal)
    }
}

/// Says which functions a module offers: a type that is named after them, with a function for
/// each that makes a [`Call`](crate::rpc::Call) of it. The functions themselves are those of the
/// same names in the same Rust module.
///
/// ```no_run
/// # fn main() {}
/// async fn greet(name: String) -> String {
///     format!("hello, {name}")
/// }
///
/// wasm_node_sdk::rpc_functions! {
///     /// What the module `greeter` offers.
///     pub Greeter = "greeter" {
///         /// Greets somebody.
///         async fn greet(name: String) -> String;
///     }
/// }
/// wasm_node_sdk::export_functions!(Greeter);
/// ```
///
/// Arguments and results are any types that `serde` and postcard take. The arguments of
/// `Greeter::greet` are encoded when it is called, so a call can be sent to many nodes.
#[macro_export]
macro_rules! rpc_functions {
    (@result) => { () };
    (@result $result:ty) => { $result };
    (
        $(#[$meta:meta])* $vis:vis $name:ident = $module:literal {
            $(
                $(#[$about:meta])*
                async fn $function:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $result:ty)?;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        $vis struct $name;

        #[allow(dead_code)]
        impl $name {
            $(
                $(#[$about])*
                $vis fn $function(
                    $($arg: $ty),*
                ) -> $crate::rpc::Call<$crate::rpc_functions!(@result $($result)?)> {
                    $crate::rpc::Call::new($module, stringify!($function), &($($arg,)*))
                }
            )*
        }

        impl $crate::rpc::Functions for $name {
            const MODULE: &'static str = $module;

            async fn call(
                function: &str,
                args: &[u8],
            ) -> ::core::result::Result<::std::vec::Vec<u8>, $crate::rpc::Refusal> {
                match function {
                    $(
                        stringify!($function) => {
                            let ($($arg,)*): ($($ty,)*) = $crate::rpc::arguments(args)?;
                            let result: $crate::rpc_functions!(@result $($result)?) =
                                $function($($arg),*).await;
                            ::core::result::Result::Ok($crate::rpc::result(&result))
                        }
                    )*
                    _ => ::core::result::Result::Err($crate::rpc::Refusal::NoSuchFunction),
                }
            }
        }
    };
}
