//! Whether a child starts again: by its kind, and by how often children did lately.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use wasm_node_sdk::ExitReason;
use wasm_node_sdk::supervisor::spec::Restart;

/// Whether a child of that kind starts again after that end.
pub fn starts_again(restart: Restart, reason: &ExitReason) -> bool {
    match restart {
        Restart::Permanent => true,
        Restart::Transient => !reason.is_clean(),
        Restart::Temporary => false,
    }
}

/// OTP's maximum restart intensity: so many restarts in so many milliseconds are borne.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Intensity {
    restarts: u32,
    period_ms: u32,
    /// When there were some, in ms: those of the last period.
    past: VecDeque<u64>,
}

impl Intensity {
    /// So many in so many milliseconds; there were none yet.
    pub fn new(restarts: u32, period_ms: u32) -> Self {
        Self {
            restarts,
            period_ms,
            past: VecDeque::new(),
        }
    }

    /// Notes a restart at `now` ms; whether it is borne.
    pub fn bears(&mut self, now: u64) -> bool {
        let period = u64::from(self.period_ms);
        while self
            .past
            .front()
            .is_some_and(|&at| now.saturating_sub(at) >= period)
        {
            self.past.pop_front();
        }
        self.past.push_back(now);
        self.past.len() <= self.restarts as usize
    }

    /// Why a supervisor ends that bears no more.
    pub fn reached(&self) -> String {
        format!(
            "reached_max_restart_intensity: more than {} in {} ms",
            self.restarts, self.period_ms
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, prop_assert, proptest};

    const PERIOD_MS: u32 = 1_000;

    #[test]
    fn the_kind_and_the_reason_say_whether() {
        for (restart, normal, error) in [
            (Restart::Permanent, true, true),
            (Restart::Transient, false, true),
            (Restart::Temporary, false, false),
        ] {
            assert_eq!(starts_again(restart, &ExitReason::Normal), normal);
            assert_eq!(starts_again(restart, &ExitReason::Shutdown), normal);
            assert_eq!(starts_again(restart, &ExitReason::Killed), error);
        }
    }

    #[test]
    fn restarts_leave_the_period() {
        let mut two = Intensity::new(2, PERIOD_MS);
        assert!(two.bears(0) && two.bears(999) && two.bears(1_000));
        assert!(!two.bears(1_001));
        assert!(!Intensity::new(0, PERIOD_MS).bears(0));
    }

    proptest! {
        #[test]
        fn restarts_are_never_more_than_the_intensity_allows(
            gaps in prop::collection::vec(0..600u64, 1..40),
            restarts in 0..6u32,
        ) {
            let (mut intensity, mut borne, mut now) =
                (Intensity::new(restarts, PERIOD_MS), Vec::new(), 0);
            for gap in gaps {
                now += gap;
                if !intensity.bears(now) {
                    break;
                }
                borne.push(now);
            }
            for (at, first) in borne.iter().enumerate() {
                let period = u64::from(PERIOD_MS);
                let within = borne[at..].iter().filter(|at| *at - first < period);
                prop_assert!(within.count() <= restarts as usize);
            }
        }
    }
}
