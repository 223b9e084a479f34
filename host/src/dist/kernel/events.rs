//! What the kernel tells the host, in order: nodes' coming and going, answers, conflicts,
//! groups.
//!
//! Contract: events are carried out one at a time, in the order in which the machines wanted
//! them, by whichever thread made the step; nodes' coming and going only by the kernel's own
//! task, since it waits for what a stepping thread may hold. No lock of the machines is held
//! meanwhile.

use std::sync::Arc;

use tokio::sync::oneshot;
use wasm_node_protocol::global::Conflict;
use wasm_node_protocol::groups::GroupEvent;
use wasm_node_protocol::handshake::Peer;
use wasm_node_protocol::{NodeEvent, NodeName, Pid, Ref, RegisterError};

use super::{Kernel, OnConnected};
use crate::dist::host::Dispute;
use crate::dist::link::Link;

/// What the kernel's task does, in order.
pub(super) enum Event {
    NodeUp {
        link: Arc<Link>,
        known: Option<oneshot::Sender<()>>,
    },
    NodeDown {
        link: Arc<Link>,
        reason: String,
    },
    Connected {
        asker: OnConnected,
        result: Result<NodeName, String>,
    },
    Registered {
        tag: Ref,
        owner: Pid,
        result: Result<(), RegisterError>,
    },
    NameConflict(Conflict),
    Resolve(Dispute),
    GroupTold {
        watcher: Pid,
        monitor: Ref,
        event: GroupEvent,
    },
}

impl Event {
    /// Whether any thread may carry it out, whatever of a link it holds.
    fn is_quick(&self) -> bool {
        !matches!(self, Self::NodeUp { .. } | Self::NodeDown { .. })
    }
}

/// Which events to carry out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those before the first that is for the kernel's own task.
    Quick,
    All,
}

impl Kernel {
    /// Carries out what waits, in order, unless another thread is at it: that one looks again.
    pub(super) fn carry_out_events(&self, which: Which) {
        loop {
            let for_the_task = {
                let Some(_turn) = self.turn.try_lock() else {
                    return;
                };
                loop {
                    let event = {
                        let mut state = self.state.lock();
                        let quick = state.events.front().is_none_or(Event::is_quick);
                        if which == Which::Quick && !quick {
                            break true;
                        }
                        state.events.pop_front()
                    };
                    match event {
                        Some(event) => self.carry_out(event),
                        None => break false,
                    }
                }
            };
            if for_the_task {
                // Only now: it must find the turn free.
                self.wake.notify_one();
                return;
            }
            if self.state.lock().events.is_empty() {
                return;
            }
        }
    }

    fn carry_out(&self, event: Event) {
        match event {
            Event::NodeUp { link, known } => {
                // Not before the host has heard that an earlier link to it is down.
                self.tables.insert_link(&link);
                self.host.node_up(
                    link.peer.incarnation,
                    node_event(&link.peer, "connected".into()),
                );
                if let Some(known) = known {
                    let _ = known.send(());
                }
            }
            Event::NodeDown { link, reason } => {
                // The link may have come up and gone down in one go.
                self.tables.remove_link(&link);
                link.close_gate();
                link.end();
                self.host
                    .node_down(link.peer.incarnation, node_event(&link.peer, reason));
            }
            Event::Connected { asker, result } => {
                let _ = asker.send(result);
            }
            Event::Registered { tag, owner, result } => self.host.registered(tag, owner, result),
            Event::NameConflict(conflict) => self.host.name_conflict(conflict),
            Event::Resolve(dispute) => self.host.resolve(dispute),
            Event::GroupTold {
                watcher,
                monitor,
                event,
            } => self.host.group_told(watcher, monitor, event),
        }
    }
}

fn node_event(peer: &Peer, reason: String) -> NodeEvent {
    NodeEvent {
        node: peer.name.clone(),
        kind: peer.kind,
        reason,
    }
}
