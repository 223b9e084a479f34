//! `wasm-node:actor/process`.

use wasm_node_protocol::{self as protocol, Capabilities, SpawnOptions};

use crate::process::AliasMode;
use crate::wasm::bindings::wasm_node::actor::process::{
    AliasMode as WitAliasMode, Host, InfoItem, Limits, SpawnFlags, SpawnOptions as WitOptions,
};
use crate::wasm::bindings::wasm_node::actor::types::{
    Destination, ExitReason, Pid, Ref, ReplyTo, SpawnError,
};
use crate::wasm::data::ActorData;
use crate::wasm::values::{destination, info_items};

fn options(options: WitOptions) -> Result<SpawnOptions, protocol::SpawnError> {
    let capabilities = options.capabilities.map(Capabilities::parse).transpose();
    let capabilities = capabilities.map_err(|error| {
        protocol::SpawnError::BadModule(format!("the spawn's option capabilities: {error}"))
    })?;
    Ok(SpawnOptions {
        link: options.flags.contains(SpawnFlags::LINK),
        monitor: options.flags.contains(SpawnFlags::MONITOR),
        await_init: options.flags.contains(SpawnFlags::AWAIT_INIT),
        name: options.name,
        global: options.global,
        group_leader: options.group_leader.map(Into::into),
        capabilities,
        limits: options.limits.map(Into::into).unwrap_or_default(),
    })
}

impl Host for ActorData {
    fn self_(&mut self) -> wasmtime::Result<Pid> {
        Ok(self.process.pid.into())
    }

    fn spawn(
        &mut self,
        module: String,
        args: Vec<u8>,
        with: WitOptions,
    ) -> wasmtime::Result<Result<(Pid, Ref), SpawnError>> {
        let spawned =
            options(with).and_then(|with| self.services.spawn(&self.process, &module, args, with));
        Ok(spawned
            .map(|(pid, tag)| (pid.into(), tag.into()))
            .map_err(Into::into))
    }

    fn spawn_on(
        &mut self,
        node: String,
        module: String,
        args: Vec<u8>,
        with: WitOptions,
    ) -> wasmtime::Result<Ref> {
        let tag = match options(with) {
            Ok(with) => self
                .services
                .spawn_on(&self.process, &node, &module, args, with),
            Err(error) => self.runtime.spawn_refused(&self.process, error),
        };
        Ok(tag.into())
    }

    fn link(&mut self, to: Pid) -> wasmtime::Result<()> {
        self.runtime.link(&self.process, to.into());
        Ok(())
    }

    fn unlink(&mut self, to: Pid) -> wasmtime::Result<()> {
        self.runtime.unlink(&self.process, to.into());
        Ok(())
    }

    fn monitor(&mut self, target: Destination) -> wasmtime::Result<Ref> {
        Ok(self
            .runtime
            .monitor(&self.process, &destination(target))
            .into())
    }

    fn demonitor(&mut self, monitor: Ref) -> wasmtime::Result<()> {
        self.runtime.demonitor(&self.process, monitor.into());
        Ok(())
    }

    fn exit(&mut self, target: Pid, reason: ExitReason) -> wasmtime::Result<()> {
        self.runtime
            .exit(&self.process, target.into(), reason.into());
        Ok(())
    }

    fn trap_exit(&mut self, on: bool) -> wasmtime::Result<bool> {
        Ok(self.process.with_actor(|actor| actor.set_trap_exit(on)))
    }

    fn is_alive(&mut self, target: Pid) -> wasmtime::Result<bool> {
        Ok(self.runtime.is_alive(target.into()))
    }

    fn group_leader(&mut self) -> wasmtime::Result<Pid> {
        let leader = self.process.with_actor(|actor| actor.group_leader());
        Ok(leader.into())
    }

    fn set_group_leader(&mut self, target: Pid, leader: Pid) -> wasmtime::Result<()> {
        self.runtime
            .set_group_leader(&self.process, target.into(), leader.into());
        Ok(())
    }

    fn alias(&mut self, mode: WitAliasMode) -> wasmtime::Result<ReplyTo> {
        let mode = match mode {
            WitAliasMode::Explicit => AliasMode::Explicit,
            WitAliasMode::Reply => AliasMode::Reply,
        };
        Ok(ReplyTo {
            pid: self.process.pid.into(),
            tag: self.runtime.alias(&self.process, mode).into(),
        })
    }

    fn unalias(&mut self, alias: ReplyTo) -> wasmtime::Result<bool> {
        let own = self.process.pid == alias.pid.into();
        Ok(own && self.runtime.unalias(&self.process, alias.tag.into()))
    }

    fn info(&mut self, target: Pid) -> wasmtime::Result<Option<Vec<InfoItem>>> {
        Ok(self.runtime.details(target.into()).map(info_items))
    }

    fn tighten(&mut self, limits: Limits) -> wasmtime::Result<()> {
        self.process.tighten(limits.into());
        Ok(())
    }
}
