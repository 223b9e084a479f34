//! The clock as an argument.
//!
//! Owns the unit every machine counts in. Deliberately does not know what time it is: a
//! shell reads a monotonic clock and passes the result in, a simulator invents it.

use std::ops::{Add, Sub};

/// Milliseconds since an origin that the shell chooses (the node's start, say). Never goes
/// back; each machine sees one origin for its whole life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Millis(pub u64);

impl Add<u64> for Millis {
    type Output = Self;
    /// That many milliseconds later.
    fn add(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl Sub for Millis {
    type Output = u64;
    /// Milliseconds from `earlier` to this; 0 if it is not earlier.
    fn sub(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The next number of a SplitMix64 sequence: what the machines spread their retries with,
/// from a seed that the shell draws once. Not for secrets.
pub(crate) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
