//! The clock of one simulated node: a rate of its own, and jumps.
//!
//! Contract: it never goes back, as no monotonic clock does. Machines see only what it shows;
//! the world plans in true time.

use wasm_node_protocol::Millis;

use super::network::Micros;

/// Parts of a rate.
const MILLION: u128 = 1_000_000;

/// How true time becomes a node's time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Millionths by which it is faster, or slower.
    drift_ppm: i32,
    /// Milliseconds that it has jumped ahead by.
    jumped_ms: u64,
}

impl Clock {
    /// A clock that runs so many millionths fast, or slow.
    pub fn new(drift_ppm: i32) -> Self {
        Self {
            drift_ppm,
            jumped_ms: 0,
        }
    }

    fn rate(self) -> u128 {
        MILLION.saturating_add_signed(i128::from(self.drift_ppm))
    }

    /// What it shows at a true time.
    pub fn at(self, now: Micros) -> Millis {
        let shown = u128::from(now) * self.rate() / MILLION / 1000;
        Millis(shown as u64 + self.jumped_ms)
    }

    /// The earliest true time at which it shows so much.
    pub fn when(self, shown: Millis) -> Micros {
        let micros = u128::from(shown.0.saturating_sub(self.jumped_ms)) * 1000;
        (micros * MILLION).div_ceil(self.rate()) as Micros
    }

    /// It jumps ahead.
    pub fn jump(&mut self, millis: u64) {
        self.jumped_ms += millis;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planned_for_a_time_finds_it_shown() {
        for drift in [-50_000, -1, 0, 3, 50_000] {
            let mut clock = Clock::new(drift);
            for shown in [0, 1, 999, 4_500, 123_456_789] {
                let shown = Millis(shown);
                assert!(clock.at(clock.when(shown)) >= shown, "{drift} {shown:?}");
                let before = clock.when(shown).saturating_sub(1);
                assert!(before == 0 || clock.at(before) < shown, "{drift} {shown:?}");
            }
            let before = clock.at(5_000_000);
            clock.jump(70);
            assert_eq!(clock.at(5_000_000), before + 70);
        }
    }
}
