//! Time: clocks, sleeping, time-outs, timers, random numbers.
//!
//! [`start_timer`] is `erlang:start_timer/3`, [`send_after`] `erlang:send_after/3`, [`cancel_timer`]
//! `erlang:cancel_timer/1` (after which the timer's message does not come any more, even if it waits
//! already), [`now`] `erlang:monotonic_time(nanosecond)`, [`wall_clock`] `os:system_time(millisecond)`,
//! [`random`] eight bytes of `crypto:strong_rand_bytes/1`. Nothing fires early.

use std::future::Future;
use std::time::Duration;

use crate::futures::{Either, race};
use crate::runtime::{self, Answer, Kind};
use crate::sys::timer;
use crate::{Message, Pid, Ref};

/// The time-out of [`timeout`] passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Whole milliseconds, rounded up, since nothing may fire early; at most 49 days.
pub(crate) fn millis(duration: Duration) -> u32 {
    let whole = duration.as_secs().saturating_mul(1000);
    let rest = duration.subsec_nanos().div_ceil(1_000_000);
    u32::try_from(whole.saturating_add(rest.into())).unwrap_or(u32::MAX)
}

/// Whole nanoseconds; at most 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(duration.subsec_nanos().into())
}

/// Waits, while other tasks of this actor go on.
pub async fn sleep(duration: Duration) {
    struct Cancel(Answer);
    impl Drop for Cancel {
        fn drop(&mut self) {
            if !self.0.is_done() {
                timer::cancel(self.0.tag());
            }
        }
    }
    let mut sleep = Cancel(Answer::of(timer::start(millis(duration)), Kind::Timer));
    (&mut sleep.0).await;
}

/// Drops the future if it is not done in time.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    match race(future, sleep(duration)).await {
        Either::Left(value) => Ok(value),
        Either::Right(()) => Err(Elapsed),
    }
}

/// Sends this actor [`Info::Timer`](crate::Info::Timer) with this ref, once. It outlives
/// handlers, and upgrades too: keep the ref in the state.
pub fn start_timer(after: Duration) -> Ref {
    timer::start(millis(after))
}

/// Sends an actor a plain message later.
pub fn send_after(after: Duration, to: Pid, body: &[u8]) -> Ref {
    timer::send_after(millis(after), to, body)
}

/// Whether the timer was still to fire; if so it never will. Its [`Info::Timer`](crate::Info::Timer)
/// does not come any more in either case.
pub fn cancel_timer(timer: Ref) -> bool {
    let was_pending = timer::cancel(timer);
    // The host cannot take back one that waits in here already.
    runtime::discard(|message| matches!(message, Message::Timer(tag) if *tag == timer));
    was_pending
}

/// Nanoseconds since some moment in this node's past; never goes back.
pub fn now() -> u64 {
    timer::now()
}

/// Milliseconds since 1970-01-01 UTC, by this machine's clock.
pub fn wall_clock() -> u64 {
    timer::wall_clock()
}

/// 64 random bits, fit for keys.
pub fn random() -> u64 {
    timer::random()
}
