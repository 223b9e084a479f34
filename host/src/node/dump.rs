//! A crash dump on demand: what a node is made of, in pages that fit into replies.
//!
//! Actors go on meanwhile, so it is no picture of one moment. Of an actor in the middle of a turn
//! only what others see of it is known.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Inner;
use crate::control::{ActorRow, DumpHead, DumpPage, MAX_DUMPED_ACTORS, MAX_DUMPED_NAMES, Memory};
use crate::process::{Process, Vitals};

impl Inner {
    /// The page of the actors from this slot on; with the first, what is known of the node.
    pub(super) fn dump(&self, from: u32) -> DumpPage {
        let head = (from == 0).then(|| DumpHead {
            unix_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| {
                    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
                }),
            info: self.info(),
            nodes: self.node_rows(),
            modules: self.module_rows(),
            global_names: self.name_list(),
            groups: self.dist().group_counts(),
            memory: memory(),
        });
        let (actors, next) = self.runtime.page(from, MAX_DUMPED_ACTORS);
        DumpPage {
            head,
            actors: actors.iter().map(|actor| self.actor_row(actor)).collect(),
            next,
        }
    }

    fn actor_row(&self, actor: &Arc<Process>) -> ActorRow {
        let info = actor.info();
        let inside = actor.look_inside();
        let age = u64::try_from(actor.age().as_millis()).unwrap_or(u64::MAX);
        let total = info.names.len() as u64;
        ActorRow {
            pid: self.row(actor.pid),
            module: info.label,
            names: info.names.into_iter().take(MAX_DUMPED_NAMES).collect(),
            names_total: total,
            parent: actor.parent().map(|parent| self.row(parent)),
            age_ms: age,
            turns: actor.turns(),
            mailbox: info.mailbox as u64,
            is_ending: actor.is_doomed(),
            digest: inside
                .as_ref()
                .and_then(|(_, digest)| digest.map(|digest| digest.to_string())),
            inside: inside.map(|(vitals, _)| self.inside_row(vitals)),
        }
    }

    fn inside_row(&self, vitals: Vitals) -> crate::control::InsideRow {
        crate::control::InsideRow {
            links: vitals.links as u64,
            monitors: vitals.monitors as u64,
            monitored_by: vitals.monitored_by as u64,
            pending_requests: vitals.pending as u64,
            group_leader: self.row(vitals.group_leader),
            traps_exits: vitals.traps_exits,
        }
    }
}

/// What the operating system says of this process; 0 where it says nothing.
fn memory() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |key: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or(0)
    };
    Memory {
        resident_bytes: kib("VmRSS:") * 1024,
        peak_resident_bytes: kib("VmHWM:") * 1024,
        virtual_bytes: kib("VmSize:") * 1024,
        threads: kib("Threads:"),
    }
}
