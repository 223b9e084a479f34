//! What a supervisor has to say about one of its children: OTP's supervisor reports, as events of
//! the node's log.

use wasm_node_sdk::supervisor::spec::{ChildSpec, Restart, Shutdown};
use wasm_node_sdk::{ExitReason, Pid, StartError, log};

use crate::restart::Intensity;

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report<'a> {
    /// What happened.
    pub context: Context,
    /// The child.
    pub child: &'a ChildSpec,
    /// Its process, if it had one.
    pub pid: Option<Pid>,
    /// Why, in words.
    pub reason: String,
}

/// What a report is about: OTP's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// A child did not start.
    StartError,
    /// A child ended by itself.
    ChildTerminated,
    /// A child did not end as it was asked to.
    ShutdownError,
    /// Children started again too often, or a significant one ended: the supervisor ends.
    Shutdown,
}

impl Context {
    /// As OTP writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StartError => "start_error",
            Self::ChildTerminated => "child_terminated",
            Self::ShutdownError => "shutdown_error",
            Self::Shutdown => "shutdown",
        }
    }
}

impl Report<'_> {
    /// Writes it to the node's log: an event whose text is `supervisor report`.
    pub fn log(&self) {
        let pid = self.pid.map_or("undefined".into(), |pid| pid.to_string());
        let restart = match self.child.restart {
            Restart::Permanent => "permanent",
            Restart::Transient => "transient",
            Restart::Temporary => "temporary",
        };
        log::error!(
            "supervisor report",
            context = self.context.as_str(),
            reason = self.reason,
            child = pid,
            id = self.child.id,
            child_module = self.child.module,
            restart,
        );
    }
}

/// Of a child that did not start.
pub fn start_error<'a>(child: &'a ChildSpec, error: &StartError) -> Report<'a> {
    Report {
        context: Context::StartError,
        child,
        pid: None,
        reason: error.to_string(),
    }
}

/// Of a child that ended by itself. Clean ends of children that end are no news.
pub fn child_terminated<'a>(
    child: &'a ChildSpec,
    pid: Option<Pid>,
    reason: &ExitReason,
) -> Option<Report<'a>> {
    let news = child.restart == Restart::Permanent || !reason.is_clean();
    news.then(|| Report {
        context: Context::ChildTerminated,
        child,
        pid,
        reason: reason.describe().into_owned(),
    })
}

/// Of a child that was asked to end, if it ended in another way.
pub fn shutdown_error<'a>(
    child: &'a ChildSpec,
    pid: Pid,
    reason: &ExitReason,
) -> Option<Report<'a>> {
    let as_asked = match child.shutdown {
        Shutdown::BrutalKill => *reason == ExitReason::Killed,
        Shutdown::After(_) | Shutdown::Infinity => reason.is_clean(),
    };
    (!as_asked).then(|| Report {
        context: Context::ShutdownError,
        child,
        pid: Some(pid),
        reason: reason.describe().into_owned(),
    })
}

/// Of the child whose restart was one too many.
pub fn shutdown<'a>(child: &'a ChildSpec, intensity: &Intensity) -> Report<'a> {
    Report {
        context: Context::Shutdown,
        child,
        pid: None,
        reason: intensity.reached(),
    }
}
