//! What both supervisors share: the restart rules ([`restart`]), the reports ([`report`]), the
//! effects that a machine asks for ([`World`]), those of a real actor ([`Host`]) and how that one
//! feeds its machine ([`shell`]). It knows no strategy.

use std::time::Duration;

use wasm_node_sdk::process::{self, SpawnOptions};
use wasm_node_sdk::supervisor::spec::ChildSpec;
use wasm_node_sdk::{Caller, ExitReason, Pid, Ref, SpawnError, time};

pub mod report;
pub mod restart;
pub mod shell;

pub use report::Report;
pub use shell::Machine;

/// How long after a failed restart the next is tried, in milliseconds: it counts as another.
pub const RETRY_MS: u32 = 100;

/// What a supervisor's machine has done for it. `C` is whom to answer, `R` the answer.
pub trait World<C, R> {
    /// Starts a child, linked to this actor; `spawned` follows with the ref.
    fn spawn(&mut self, child: &ChildSpec) -> Result<(Pid, Ref), SpawnError>;
    /// Sends an exit signal; `exited` follows when the child has ended.
    fn exit(&mut self, pid: Pid, reason: ExitReason);
    /// `timer` follows with the ref.
    fn start_timer(&mut self, after_ms: u32) -> Ref;
    /// The timer may still come; a machine does not mind.
    fn cancel_timer(&mut self, timer: Ref);
    /// Any clock that does not go back.
    fn now_ms(&mut self) -> u64;
    /// Answers a call.
    fn reply(&mut self, to: C, reply: R);
    /// Something for the log.
    fn report(&mut self, report: &Report<'_>);
}

/// The world of a real actor.
pub struct Host;

impl<R: serde::Serialize> World<Caller<R>, R> for Host {
    fn spawn(&mut self, child: &ChildSpec) -> Result<(Pid, Ref), SpawnError> {
        let mut options = SpawnOptions::new().link();
        if let Some(name) = child.name.clone() {
            options = options.named(name);
        }
        if let Some(only) = child.capabilities.clone() {
            options = options.capabilities(only);
        }
        if let Some(limits) = child.limits {
            options = options.limits(limits);
        }
        process::begin_start(&child.module, &child.args, &options)
    }

    fn exit(&mut self, pid: Pid, reason: ExitReason) {
        process::exit(pid, reason);
    }

    fn start_timer(&mut self, after_ms: u32) -> Ref {
        time::start_timer(Duration::from_millis(after_ms.into()))
    }

    fn cancel_timer(&mut self, timer: Ref) {
        time::cancel_timer(timer);
    }

    fn now_ms(&mut self) -> u64 {
        time::now() / 1_000_000
    }

    fn reply(&mut self, to: Caller<R>, reply: R) {
        to.reply(&reply);
    }

    fn report(&mut self, report: &Report<'_>) {
        report.log();
    }
}
