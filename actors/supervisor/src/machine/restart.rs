//! Whether a child starts again: by its kind, and by how often children did lately.

use std::collections::VecDeque;

use wasm_node_sdk::ExitReason;
use wasm_node_sdk::supervisor::spec::Restart;

/// Notes a restart at `now`; whether that is within `intensity` restarts in `period_ms`.
pub fn note_restart(past: &mut VecDeque<u64>, now: u64, intensity: u32, period_ms: u32) -> bool {
    while past
        .front()
        .is_some_and(|&at| now.saturating_sub(at) >= u64::from(period_ms))
    {
        past.pop_front();
    }
    past.push_back(now);
    past.len() <= intensity as usize
}

/// Whether a child of that kind starts again after that end.
pub fn starts_again(restart: Restart, reason: &ExitReason) -> bool {
    match restart {
        Restart::Permanent => true,
        Restart::Transient => !reason.is_clean(),
        Restart::Temporary => false,
    }
}
