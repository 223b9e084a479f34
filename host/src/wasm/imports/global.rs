//! `wasm-node:actor/global`.

use wasm_node_protocol::global::{Patience, Requester, Wish};

use crate::wasm::bindings::wasm_node::actor::global::{Host, Resolver};
use crate::wasm::bindings::wasm_node::actor::types::{Pid, Ref};
use crate::wasm::data::ActorData;

impl ActorData {
    fn claim_name(&mut self, name: String, actor: Pid, by: Resolver, replace: bool) -> Ref {
        let wish = Wish::Name {
            name,
            replace,
            resolver: by.into(),
        };
        let claim = self.services.claim(&self.process, actor.into(), wish);
        claim.into()
    }

    fn requester(&self, name: Option<String>) -> Requester {
        match name {
            Some(name) => Requester::Named(name),
            None => Requester::Actor(self.process.pid),
        }
    }
}

impl Host for ActorData {
    fn register(&mut self, name: String, actor: Pid) -> wasmtime::Result<Ref> {
        Ok(self.claim_name(name, actor, Resolver::NotifyLoser, false))
    }

    fn register_with(&mut self, name: String, actor: Pid, by: Resolver) -> wasmtime::Result<Ref> {
        Ok(self.claim_name(name, actor, by, false))
    }

    fn re_register(&mut self, name: String, actor: Pid, by: Resolver) -> wasmtime::Result<Ref> {
        Ok(self.claim_name(name, actor, by, true))
    }

    fn unregister(&mut self, name: String) -> wasmtime::Result<bool> {
        Ok(self.services.global_unregister(&name))
    }

    fn whereis(&mut self, name: String) -> wasmtime::Result<Option<Pid>> {
        Ok(self.services.global_whereis(&name).map(Into::into))
    }

    fn registered(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.services.global_registered())
    }

    fn set_lock(
        &mut self,
        resource: String,
        requester: Option<String>,
        timeout_ms: Option<u32>,
    ) -> wasmtime::Result<Ref> {
        let wish = Wish::Lock {
            resource,
            requester: self.requester(requester),
            patience: match timeout_ms {
                Some(0) => Patience::None,
                Some(ms) => Patience::Millis(ms.into()),
                None => Patience::Endless,
            },
        };
        let actor = self.process.pid;
        Ok(self.services.claim(&self.process, actor, wish).into())
    }

    fn del_lock(&mut self, resource: String, requester: Option<String>) -> wasmtime::Result<bool> {
        let requester = self.requester(requester);
        let actor = self.process.pid;
        Ok(self.services.unlock(actor, &resource, &requester))
    }
}
