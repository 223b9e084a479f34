//! What the log says when an actor ends: OTP's crash reports.
//!
//! Ends that somebody asked for are no news; each of the others is one event with what is known of
//! the actor, taken before its links and monitors are told.

use wasm_node_protocol::{Digest, ExitReason, Pid};

use super::actor::Vitals;
use super::handle::Process;
use super::runtime::Runtime;

/// Names that a report shows; it says how many there are.
const MAX_SHOWN_NAMES: usize = 8;

/// Ancestors that a report shows, from the parent on.
const MAX_ANCESTORS: usize = 8;

/// Whether an end with this reason is a crash.
pub(super) fn is_crash(reason: &ExitReason) -> bool {
    !matches!(
        reason,
        ExitReason::Normal
            | ExitReason::Shutdown
            | ExitReason::Killed
            | ExitReason::Kill
            | ExitReason::AlreadyStarted(_)
            // Data for whoever watches, such as the result of a function called remotely.
            | ExitReason::Custom(_)
            | ExitReason::ShutdownWith(_)
    )
}

impl Runtime {
    /// Says that a process has ended.
    pub(super) fn report_end(
        &self,
        process: &Process,
        reason: &ExitReason,
        code: Option<Digest>,
        names: &[String],
        vitals: Vitals,
    ) {
        let (actor, module) = (self.show(process.pid), process.label());
        if !is_crash(reason) {
            tracing::debug!(%actor, module, %reason, "actor ended");
            return;
        }
        let digest = code.map_or_else(|| "-".into(), |digest| digest.to_string());
        let shown = names.iter().take(MAX_SHOWN_NAMES).cloned();
        let mut shown: Vec<_> = shown.collect();
        if names.len() > MAX_SHOWN_NAMES {
            shown.push(format!("and {} more", names.len() - MAX_SHOWN_NAMES));
        }
        let (names, ancestors) = (shown.join(","), self.ancestors(process).join(","));
        tracing::error!(
            %actor,
            module,
            digest,
            names,
            ancestors,
            group_leader = self.show(vitals.group_leader),
            mailbox = vitals.mailbox,
            links = vitals.links,
            monitors = vitals.monitors,
            monitored_by = vitals.monitored_by,
            pending_requests = vitals.pending,
            traps_exits = vitals.traps_exits,
            turns = process.turns(),
            uptime_ms = u64::try_from(process.age().as_millis()).unwrap_or(u64::MAX),
            %reason,
            "crash report: actor ended"
        );
    }

    /// Whoever spawned it, whoever spawned that one, and on, as far as they live here.
    fn ancestors(&self, process: &Process) -> Vec<String> {
        let mut ancestors = Vec::new();
        let mut next = process.parent();
        while let Some(pid) = next
            && ancestors.len() < MAX_ANCESTORS
        {
            ancestors.push(self.show(pid));
            next = self.get(pid).and_then(|parent| parent.parent());
        }
        ancestors
    }

    /// A pid for people, of another node with its node's name if that is known.
    fn show(&self, pid: Pid) -> String {
        if pid.node == self.node() {
            return pid.display(0);
        }
        match self.network().name_of(pid.node) {
            Some(node) => format!("{}@{node}", pid.display(0)),
            None => format!("{:016x}{:016x}", pid.node.0, pid.serial),
        }
    }
}
