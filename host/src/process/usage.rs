//! What a process may use and what it has used.
//!
//! Owns the bounds of one process and its processor time. Contract: bounds only ever become
//! tighter. Processor time is sampled: every [`super::EPOCH_TICK`] the watchdog charges what a
//! lane's thread has computed since its last look to whoever it finds there, so that the sum over
//! all processes is exact and a single one's share is right on average; a turn that computes for
//! more than two ticks is charged exactly. No turn reads a clock for this.
//!
//! Does not know who looks, nor how a process is ended.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use wasm_node_protocol::Limits;

use super::{EPOCH_TICK, MAILBOX_LIMIT_MESSAGES};

/// A bound that is not there.
const NONE_32: u32 = u32::MAX;
const NONE_64: u64 = u64::MAX;

/// The bounds of one process.
pub(super) struct Bounds {
    memory_bytes: AtomicU64,
    mailbox_messages: AtomicU32,
    message_bytes: AtomicU32,
    turn_cpu_ms: AtomicU32,
    cpu_ms: AtomicU64,
}

impl Bounds {
    pub(super) fn new(limits: Limits) -> Self {
        let default = MAILBOX_LIMIT_MESSAGES as u32;
        Self {
            memory_bytes: AtomicU64::new(limits.memory_bytes.unwrap_or(NONE_64)),
            mailbox_messages: AtomicU32::new(limits.mailbox_messages.unwrap_or(default)),
            message_bytes: AtomicU32::new(limits.message_bytes.unwrap_or(NONE_32)),
            turn_cpu_ms: AtomicU32::new(limits.turn_cpu_ms.unwrap_or(NONE_32)),
            cpu_ms: AtomicU64::new(limits.cpu_ms.unwrap_or(NONE_64)),
        }
    }

    /// Those of `limits` that are tighter hold from now on.
    pub(super) fn tighten(&self, limits: Limits) {
        fn least_32(bound: &AtomicU32, limit: Option<u32>) {
            limit.map(|limit| bound.fetch_min(limit, Ordering::Relaxed));
        }
        fn least_64(bound: &AtomicU64, limit: Option<u64>) {
            limit.map(|limit| bound.fetch_min(limit, Ordering::Relaxed));
        }
        least_64(&self.memory_bytes, limits.memory_bytes);
        least_32(&self.mailbox_messages, limits.mailbox_messages);
        least_32(&self.message_bytes, limits.message_bytes);
        least_32(&self.turn_cpu_ms, limits.turn_cpu_ms);
        least_64(&self.cpu_ms, limits.cpu_ms);
    }

    pub(super) fn limits(&self) -> Limits {
        let some_32 = |bound: &AtomicU32| {
            let bound = bound.load(Ordering::Relaxed);
            (bound != NONE_32).then_some(bound)
        };
        let some_64 = |bound: &AtomicU64| {
            let bound = bound.load(Ordering::Relaxed);
            (bound != NONE_64).then_some(bound)
        };
        Limits {
            memory_bytes: some_64(&self.memory_bytes),
            mailbox_messages: some_32(&self.mailbox_messages),
            message_bytes: some_32(&self.message_bytes),
            turn_cpu_ms: some_32(&self.turn_cpu_ms),
            cpu_ms: some_64(&self.cpu_ms),
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn mailbox_messages(&self) -> usize {
        self.mailbox_messages.load(Ordering::Relaxed) as usize
    }

    /// Whether a message with a body of so many bytes may reach it.
    pub(super) fn admits(&self, bytes: usize) -> bool {
        bytes <= self.message_bytes.load(Ordering::Relaxed) as usize
    }
}

/// The processor time of one process. Written by the watchdog, but for the end of a turn.
#[derive(Default)]
pub(super) struct CpuTime {
    total_ns: AtomicU64,
    turn_ns: AtomicU64,
}

/// How a look of the watchdog found a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// It ran at the last look, too: all that was computed since is its.
    Again,
    /// It has begun since the last look, and may have computed less than is charged to it.
    First,
    /// There is none: what was computed was of turns that are over.
    None,
}

impl CpuTime {
    pub(super) fn total(&self) -> Duration {
        Duration::from_nanos(self.total_ns.load(Ordering::Relaxed))
    }

    /// What the thread that runs the process has computed since the last look; the bound that
    /// this went over, in words.
    pub(super) fn charge(&self, bounds: &Bounds, computed: Duration, look: Look) -> Option<String> {
        let ns = computed.as_nanos() as u64;
        let total = self.total_ns.fetch_add(ns, Ordering::Relaxed) + ns;
        let cpu_ms = bounds.cpu_ms.load(Ordering::Relaxed);
        if total / 1_000_000 > cpu_ms {
            return Some(format!("cpu: it computed for more than {cpu_ms} ms in all"));
        }
        let of_turn = match look {
            Look::Again => ns,
            // A late watchdog must not charge a turn that has only just begun.
            Look::First => ns.min(EPOCH_TICK.as_nanos() as u64),
            Look::None => return None,
        };
        let turn = self.turn_ns.fetch_add(of_turn, Ordering::Relaxed) + of_turn;
        let turn_cpu_ms = bounds.turn_cpu_ms.load(Ordering::Relaxed);
        (turn / 1_000_000 > u64::from(turn_cpu_ms))
            .then(|| format!("cpu: a turn computed for more than {turn_cpu_ms} ms"))
    }

    /// A turn is over. A charge at this very moment may count for the next one.
    pub(super) fn turn_over(&self) {
        self.turn_ns.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn bounds(limits: Limits) -> Bounds {
        Bounds::new(limits)
    }

    #[test]
    fn bounds_only_become_tighter() {
        let given = Limits {
            memory_bytes: Some(1 << 20),
            turn_cpu_ms: Some(50),
            ..Limits::default()
        };
        let bounds = bounds(given);
        bounds.tighten(Limits {
            memory_bytes: Some(1 << 30),
            turn_cpu_ms: Some(20),
            message_bytes: Some(100),
            ..Limits::default()
        });
        let now = bounds.limits();
        assert_eq!(now.memory_bytes, Some(1 << 20));
        assert_eq!(now.turn_cpu_ms, Some(20));
        assert_eq!(now.message_bytes, Some(100));
        assert_eq!(now.mailbox_messages, Some(MAILBOX_LIMIT_MESSAGES as u32));
        assert!(bounds.admits(100) && !bounds.admits(101));
    }

    #[test]
    fn a_turn_is_charged_by_itself_and_all_of_them_together() {
        let bounds = bounds(Limits {
            turn_cpu_ms: Some(10),
            cpu_ms: Some(30),
            ..Limits::default()
        });
        let cpu = CpuTime::default();
        assert_eq!(cpu.charge(&bounds, 10 * MS, Look::Again), None);
        cpu.turn_over();
        // A watchdog that comes late does not charge the turn that it happens to find.
        assert_eq!(cpu.charge(&bounds, 8 * MS, Look::First), None);
        assert_eq!(cpu.charge(&bounds, 8 * MS, Look::Again), None);
        let over = cpu.charge(&bounds, 2 * MS, Look::Again).unwrap();
        assert_eq!(over, "cpu: a turn computed for more than 10 ms");
        assert_eq!(cpu.total(), 28 * MS);
        cpu.turn_over();
        let over = cpu.charge(&bounds, 3 * MS, Look::None).unwrap();
        assert_eq!(over, "cpu: it computed for more than 30 ms in all");
    }
}
