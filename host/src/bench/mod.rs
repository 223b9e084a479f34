//! `wasm-node bench`: what actors cost here, one line `NAME VALUE UNIT` a figure.
//!
//! Owns which work makes a figure and how the driver's answers become lines. The driver (module
//! `bench`, `actors/bench`) does and times all of it inside wasm. `local`, `remote` and `scale` are
//! the work of `tests/bench/beam_peer.erl`, whose lines have the same names. Does not judge:
//! goals and comparisons are in `tests/bench/`.

mod child;
mod isolation;
mod local;
mod memory;
mod remote;
mod rig;
mod scale;
mod start;

pub use isolation::{IsolationOptions, Rogues, isolation};
pub use local::{LocalFigure, MESSAGES as LOCAL_MESSAGES, local};
pub use remote::{RemoteFigure, remote};
pub use rig::BenchError;
pub use scale::{ScaleOptions, scale, scale_idle};
pub use start::{StartOptions, start};

/// How often each figure is measured unless told otherwise, as on the Erlang side.
pub const ROUNDS: u32 = 3;

fn say(name: &str, value: f64, unit: &str) {
    println!("{name} {value:.1} {unit}");
}

/// What the driver answers to `latency`, in microseconds: how long calls took, and how long after
/// the timer's time they were begun.
fn say_latencies(name: &str, [_, p50, p99, p999, max, late_p99, late_max]: [u64; 7]) {
    let figures = [
        ("p50", p50),
        ("p99", p99),
        ("p999", p999),
        ("max", max),
        ("late_p99", late_p99),
        ("late_max", late_max),
    ];
    for (what, ns) in figures {
        say(&format!("{name}_{what}"), ns as f64 / 1e3, "us");
    }
}
