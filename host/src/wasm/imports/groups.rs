//! `wasm-node:actor/groups`.

use wasm_node_protocol as protocol;
use wasm_node_protocol::groups::ByGroup;

use crate::wasm::bindings::wasm_node::actor::groups::{GroupError, Host};
use crate::wasm::bindings::wasm_node::actor::types::{Pid, Ref};
use crate::wasm::data::ActorData;

fn own(pids: Vec<Pid>) -> Vec<protocol::Pid> {
    pids.into_iter().map(Into::into).collect()
}

fn wit(pids: Vec<protocol::Pid>) -> Vec<Pid> {
    pids.into_iter().map(Into::into).collect()
}

impl Host for ActorData {
    fn join(
        &mut self,
        scope: String,
        group: String,
        actors: Vec<Pid>,
    ) -> wasmtime::Result<Result<(), GroupError>> {
        let joined = self.services.join(&scope, &group, &own(actors));
        Ok(joined.map_err(Into::into))
    }

    fn leave(&mut self, scope: String, group: String, actors: Vec<Pid>) -> wasmtime::Result<bool> {
        Ok(self.services.leave(&scope, &group, &own(actors)))
    }

    fn members(&mut self, scope: String, group: String) -> wasmtime::Result<Vec<Pid>> {
        Ok(wit(self.services.members(&scope, &group, false)))
    }

    fn local_members(&mut self, scope: String, group: String) -> wasmtime::Result<Vec<Pid>> {
        Ok(wit(self.services.members(&scope, &group, true)))
    }

    fn which_groups(&mut self, scope: String) -> wasmtime::Result<Vec<String>> {
        Ok(self.services.groups(&scope, false))
    }

    fn which_local_groups(&mut self, scope: String) -> wasmtime::Result<Vec<String>> {
        Ok(self.services.groups(&scope, true))
    }

    fn monitor(
        &mut self,
        scope: String,
        group: String,
    ) -> wasmtime::Result<Result<(Ref, Vec<Pid>), GroupError>> {
        let services = &self.services;
        let monitored = services.monitor_groups(&self.process, &scope, Some(&group));
        let one = |groups: ByGroup| {
            let members = groups.into_iter().flat_map(|(_, members)| members);
            members.map(Into::into).collect()
        };
        Ok(monitored
            .map(|(tag, groups)| (tag.into(), one(groups)))
            .map_err(Into::into))
    }

    fn monitor_scope(
        &mut self,
        scope: String,
    ) -> wasmtime::Result<Result<(Ref, Vec<(String, Vec<Pid>)>), GroupError>> {
        let monitored = self.services.monitor_groups(&self.process, &scope, None);
        let all = |groups: ByGroup| {
            let groups = groups.into_iter();
            groups.map(|(group, pids)| (group, wit(pids))).collect()
        };
        Ok(monitored
            .map(|(tag, groups)| (tag.into(), all(groups)))
            .map_err(Into::into))
    }

    fn demonitor(&mut self, monitor: Ref) -> wasmtime::Result<bool> {
        let services = &self.services;
        Ok(services.demonitor_groups(&self.process, monitor.into()))
    }
}
