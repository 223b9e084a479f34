//! From what an actor of this node wishes to a claim, or to an answer at once; and back, when
//! it lets go.

use super::api::{Bid, Key, Patience, Requester, Resolver, Wish};
use super::claims::{Claim, Terms};
use super::locks::LetGo;
use super::{
    Global, GlobalMessage, GlobalOutput, MAX_LOCKS_PER_NODE, MAX_NAME_BYTES, MAX_NAMES_PER_NODE,
    MAX_PENDING_CLAIMS, REGISTER_TIMEOUT_MS, RequestId,
};
use crate::exit::RegisterError;
use crate::ids::Pid;
use crate::time::Millis;

impl Global {
    pub(super) fn claim(&mut self, now: Millis, request: RequestId, pid: Pid, wish: Wish) {
        let terms = terms(now, wish);
        match self.answer_at_once(&terms, pid) {
            None => self.queue_up(Claim::new(now, request, pid, terms)),
            Some(result) => self
                .outputs
                .push_back(GlobalOutput::Registered { request, result }),
        }
    }

    /// What needs nobody's consent, or is hopeless.
    fn answer_at_once(&mut self, terms: &Terms, pid: Pid) -> Option<Result<(), RegisterError>> {
        let bid = &terms.bid;
        let is_long = |text: &str| text.is_empty() || text.len() > MAX_NAME_BYTES;
        let bad = |why: String| Some(Err(RegisterError::BadName(why)));
        let (what, held, most) = match bid {
            Bid::Register(_) | Bid::Replace(_) => {
                let held = self.table.count(&self.own);
                ("global names", held, MAX_NAMES_PER_NODE)
            }
            Bid::Lock { .. } => ("locks", self.locks.count(&self.own), MAX_LOCKS_PER_NODE),
        };
        let named = match (bid, &terms.resolver) {
            (
                Bid::Lock {
                    requester: Requester::Named(name),
                    ..
                },
                _,
            )
            | (_, Resolver::Ask(name)) => Some(name),
            _ => None,
        };
        if is_long(bid.text()) || named.is_some_and(|name| is_long(name)) {
            return bad(format!(
                "names, resources, requesters and resolvers have 1 to {MAX_NAME_BYTES} bytes"
            ));
        }
        if let Bid::Lock {
            resource,
            requester,
        } = bid
            && self.locks.requester(&self.own, resource) == Some(requester)
        {
            self.locks.take(resource, pid);
            return Some(Ok(()));
        }
        if let Some(refusal) = self.quorum.refusal(self.members.len() + 1) {
            return Some(Err(refusal));
        }
        if let (Some(holder), false) = (self.obstacle(bid), terms.waits) {
            return Some(Err(RegisterError::Taken(holder)));
        }
        // Those under way may all be granted.
        if held + self.claims.count() >= most {
            return bad(format!("this node holds {most} {what} already"));
        }
        if self.claims.count() >= MAX_PENDING_CLAIMS {
            return bad(format!("{MAX_PENDING_CLAIMS} claims are under way already"));
        }
        None
    }

    /// An actor lets a lock go, or gives up waiting for it; whether it held it.
    pub(super) fn let_go(&mut self, resource: &str, requester: &Requester, pid: Pid) -> bool {
        let key = Key::Lock(resource.into());
        for number in self.claims.of_key(&key) {
            let given_up = self.claims.get(number).is_some_and(|(by, bid)| {
                let same = matches!(bid, Bid::Lock { requester: of, .. } if of == requester);
                by == pid && same
            });
            if given_up {
                self.finish(number, Err(RegisterError::Timeout));
            }
        }
        match self.locks.let_go(&self.own, resource, requester, pid) {
            LetGo::Nothing => return false,
            LetGo::Shared(fact) => self.broadcast(&GlobalMessage::Locked {
                facts: vec![fact],
                claim: None,
            }),
            LetGo::Ended => {
                self.broadcast(&GlobalMessage::Unlocked {
                    resource: resource.into(),
                });
                self.next_turn(&key);
            }
        }
        true
    }
}

fn terms(now: Millis, wish: Wish) -> Terms {
    let by_default = Some(now + REGISTER_TIMEOUT_MS);
    match wish {
        Wish::Name {
            name,
            replace,
            resolver,
        } => Terms {
            bid: match replace {
                true => Bid::Replace(name),
                false => Bid::Register(name),
            },
            resolver,
            waits: false,
            deadline: by_default,
        },
        Wish::Lock {
            resource,
            requester,
            patience,
        } => Terms {
            bid: Bid::Lock {
                resource,
                requester,
            },
            resolver: Resolver::default(),
            waits: patience != Patience::None,
            deadline: match patience {
                Patience::None => by_default,
                Patience::Millis(ms) => Some(now + ms),
                Patience::Endless => None,
            },
        },
    }
}
