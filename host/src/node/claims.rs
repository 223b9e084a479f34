//! Global names and locks for actors: who claims for whom, who hears how it went, and who decides
//! when two parts of the cluster meet.
//!
//! A claim is made by the node of the actor that is to hold the name; another node's actor may
//! ask for it. Does not know how nodes agree (`wasm_node_protocol::global` does).

use std::sync::Arc;
use std::time::Duration;

use wasm_node_protocol::codec::{NodeReply, NodeRequest};
use wasm_node_protocol::global::{
    Conflict, NoVerdict, REGISTER_TIMEOUT_MS, RESOLVE_TIMEOUT_MS, Wish,
};
use wasm_node_protocol::{Destination, ExitReason, Pid, Ref, RegisterError, Signal};

use super::{Inner, Registering};
use crate::dist::{Answer, Dispute, RequestError};
use crate::process::{Native, Process};

/// The longest that another node may take to claim a name for an actor of its own: the claim,
/// and the ways there and back.
const REGISTER_THERE_TIMEOUT: Duration = Duration::from_millis(REGISTER_TIMEOUT_MS + 5_000);

impl Inner {
    /// Claims a global name or a lock for an actor, as `asker` wants it; it hears how it went.
    pub(super) fn claim_for_asker(&self, asker: &Process, actor: Pid, wish: Wish) -> Ref {
        let tag = self.runtime.make_ref();
        if actor.node != self.runtime.node() {
            self.claim_there(asker.pid, actor, wish, tag);
            return tag;
        }
        let Some(process) = self.runtime.get(actor) else {
            let result = Err(RegisterError::NoProc);
            self.runtime
                .signal(asker.pid, Signal::Registered { tag, result });
            return tag;
        };
        if asker.pid != actor {
            let asker = Registering::For(asker.pid);
            self.registering.lock().insert(tag, asker);
        }
        self.claim_here(&process, wish, tag);
        tag
    }

    /// Claims a global name or a lock for an actor of this node; `Host::registered` hears how
    /// it went.
    pub(super) fn claim_here(&self, actor: &Process, wish: Wish, tag: Ref) {
        self.runtime.note_cluster_tables(actor);
        self.dist().claim(actor.pid, wish, tag);
        // If it ended just before it was noted, nobody else gives up the name.
        if self.runtime.get(actor.pid).is_none() {
            self.dist().actor_gone(actor.pid);
        }
    }

    /// Has the node of an actor claim a global name for it.
    fn claim_there(&self, asker: Pid, actor: Pid, wish: Wish, tag: Ref) {
        let Wish::Name {
            name,
            replace,
            resolver,
        } = wish
        else {
            return; // A lock is for the asker itself.
        };
        let request = NodeRequest::Register {
            pid: actor,
            name,
            replace,
            resolver,
        };
        let this = self.this();
        let on_reply = move |reply| {
            let result = match reply {
                Ok(NodeReply::Registered(result)) => result,
                Err(RequestError::Timeout) => Err(RegisterError::Timeout),
                Ok(_) | Err(_) => Err(RegisterError::NoConnection),
            };
            this.runtime
                .signal(asker, Signal::Registered { tag, result });
        };
        self.dist()
            .request_then(actor.node, request, Some(REGISTER_THERE_TIMEOUT), on_reply);
    }

    /// Another node wants a global name for an actor of this one.
    pub(super) fn claim_for(&self, actor: Pid, wish: Wish, answer: Answer) {
        match self.runtime.get(actor) {
            Some(process) => {
                let tag = self.runtime.make_ref();
                let waiting = Registering::ForNode(answer);
                self.registering.lock().insert(tag, waiting);
                self.claim_here(&process, wish, tag);
            }
            None => answer.send(NodeReply::Registered(Err(RegisterError::NoProc))),
        }
    }

    /// Asks an actor of this node who keeps a global name.
    pub(super) async fn ask_resolver(self: Arc<Self>, dispute: Dispute) {
        let Dispute {
            question,
            resolver,
            name,
            own,
            other,
        } = dispute;
        let answer = async {
            let body = postcard::to_allocvec(&(&name, own, other)).ok()?;
            let mut native = Native::spawn(&self.runtime, "resolver").ok()?;
            let to = Destination::Name(resolver.clone());
            let timeout = Duration::from_millis(RESOLVE_TIMEOUT_MS);
            let answer = native.call(&to, body.into(), timeout).await;
            let usable = answer
                .map_err(|error| error.to_string())
                .and_then(|body| postcard::from_bytes(&body).map_err(|error| error.to_string()));
            match usable {
                Ok(keep) => Some(keep),
                Err(error) => {
                    tracing::warn!(name, resolver, error, "nobody says who keeps a global name");
                    None
                }
            }
        };
        let keep = answer.await.ok_or(NoVerdict);
        self.dist().verdict(question, keep);
    }

    /// The answer to a claim of an actor of this node.
    pub(super) fn claim_answered(&self, tag: Ref, owner: Pid, result: Result<(), RegisterError>) {
        let waiting = self.registering.lock().remove(&tag);
        let asker = match (waiting, &result) {
            (None, _) => owner,
            (Some(Registering::For(asker)), _) => asker,
            (Some(Registering::ForNode(answer)), _) => {
                return answer.send(NodeReply::Registered(result));
            }
            (Some(Registering::ToBegin(process, program)), Ok(())) => {
                return self.runtime.begin(&process, program);
            }
            (Some(Registering::ToBegin(process, _)), Err(RegisterError::Taken(holder))) => {
                return process.doom(ExitReason::AlreadyStarted(*holder));
            }
            (Some(Registering::ToBegin(process, _)), Err(error)) => {
                return process.doom(ExitReason::Error(format!("global name: {error}")));
            }
        };
        self.runtime
            .signal(asker, Signal::Registered { tag, result });
    }

    /// Tells an actor that it lost a name; ends it if it asked for that.
    pub(super) fn name_lost(&self, conflict: Conflict) {
        let Conflict {
            name,
            loser,
            holder,
            exit,
        } = conflict;
        tracing::warn!(name, loser = %loser.display(0), exit, "lost a global name in a conflict");
        let reason = ExitReason::Error(format!(
            "name-conflict: another actor holds the global name {name:?}, as two parts of the cluster met"
        ));
        self.runtime
            .signal(loser, Signal::NameConflict { name, holder });
        if exit {
            let from = Pid {
                node: self.runtime.node(),
                serial: 0,
            };
            let link = false;
            self.runtime
                .signal(loser, Signal::Exit { from, reason, link });
        }
    }
}
