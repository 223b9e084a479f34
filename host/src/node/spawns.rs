//! Actors that begin: here, on other nodes for those here, here for those on other nodes.
//!
//! Contract: who asked hears of each spawn once, in order with the child's other signals. Code that
//! another node names and this one lacks is fetched from it, once at a time. Does not know how actors
//! ask (`services`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use wasm_node_protocol::codec::{NodeReply, NodeRequest};
use wasm_node_protocol::global::{Resolver, Wish};
use wasm_node_protocol::{
    Digest, Incarnation, Limits, NodeName, Pid, Ref, Signal, SpawnError, SpawnOptions,
};

use super::modules::ModuleError;
use super::{Inner, Registering, grants};
use crate::process::{Process, SpawnRequest};
use crate::wasm::{DEFAULT_MEMORY_LIMIT_BYTES, Flavour, ModuleSlot, Version, WasmProgram};

/// The longest that a spawn on another node may take: shipping and compiling included.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(120);

/// The longest that fetching code from another node may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// Code that is on its way here, or being compiled for the first time: what came of it.
pub(super) type Obtaining = OnceCell<Result<(), Arc<ModuleError>>>;

/// An actor to be made on another node.
pub(super) struct Spawning {
    pub(super) parent: Arc<Process>,
    pub(super) tag: Ref,
    pub(super) slot: Arc<ModuleSlot>,
    pub(super) args: Vec<u8>,
    pub(super) options: SpawnOptions,
}

impl Inner {
    /// Makes an actor of a module. Before it begins, `before` hears its pid. The options'
    /// capabilities are what its parent passes on; without, nothing.
    pub(super) fn start_actor(
        &self,
        slot: Arc<ModuleSlot>,
        args: Vec<u8>,
        parent: Option<(Pid, Ref)>,
        mut options: SpawnOptions,
        before: impl FnOnce(Pid),
    ) -> Result<Pid, SpawnError> {
        let version = slot.current();
        if version.flavour() == Flavour::Http {
            return Err(SpawnError::BadModule(format!(
                "module {} answers HTTP requests: give it to an HTTP listener, it is no actor",
                slot.name()
            )));
        }
        let passed_on = options.capabilities.take().unwrap_or_default();
        let capabilities = grants::held(&version, &passed_on, parent.map(|(pid, _)| pid))?;
        let label = slot.name().to_owned();
        let limits = module_limits(&version);
        let global = options.global.clone();
        let process = self.runtime.spawn(SpawnRequest {
            label,
            parent,
            options,
            limits,
            capabilities,
        })?;
        before(process.pid);
        let pid = process.pid;
        let program = WasmProgram::new(self.home(process.clone()), slot, args);
        match global {
            None => self.runtime.begin(&process, Box::new(program)),
            Some(name) => {
                let tag = self.runtime.make_ref();
                let begin = Registering::ToBegin(process.clone(), Box::new(program));
                self.registering.lock().insert(tag, begin);
                let wish = Wish::Name {
                    name,
                    replace: false,
                    resolver: Resolver::default(),
                };
                self.claim_here(&process, wish, tag);
            }
        }
        Ok(pid)
    }

    pub(super) fn no_module(module: &str) -> SpawnError {
        SpawnError::NoSuchModule(module.into())
    }

    /// Asks another node, once it is connected, to make an actor of a module that this one has.
    pub(super) fn spawn_elsewhere(&self, node: &str, spawning: Spawning) {
        match node.parse::<NodeName>() {
            Ok(name) => match self.dist().incarnation_of(&name) {
                Some(there) => self.spawn_there(there, spawning),
                None => {
                    let connecting = self.this().connect_and_spawn(name, spawning);
                    self.runtime.io().spawn(connecting);
                }
            },
            Err(_) => {
                self.spawn_failed(spawning.parent.pid, spawning.tag, SpawnError::NoConnection)
            }
        }
    }

    /// Connects to another node, and asks it to make an actor of a module that this one has.
    async fn connect_and_spawn(self: Arc<Self>, name: NodeName, spawning: Spawning) {
        match self.dist().connect(&name).await {
            Ok(there) => {
                // It waits for the parent's turn to end, for which no link may wait.
                let spawn = move || self.spawn_there(there, spawning);
                let _ = tokio::task::spawn_blocking(spawn).await;
            }
            Err(error) => {
                tracing::warn!(node = %name, %error, "cannot spawn there");
                self.spawn_failed(spawning.parent.pid, spawning.tag, SpawnError::NoConnection);
            }
        }
    }

    /// Asks a connected node to make an actor of a module that this one has.
    fn spawn_there(&self, there: Incarnation, spawning: Spawning) {
        let Spawning {
            parent,
            tag,
            slot,
            args,
            options,
        } = spawning;
        self.runtime
            .expect_spawned(&parent, tag, there, None, &options);
        let request = NodeRequest::Spawn {
            parent: parent.pid,
            tag,
            digest: slot.current().digest(),
            module: slot.name().into(),
            args: args.into(),
            options: Box::new(options),
        };
        let (this, parent) = (self.this(), parent.pid);
        let on_reply = move |reply| match reply {
            // The child's own node told the parent, in order with the child's other signals.
            Ok(NodeReply::Spawned(Ok(_))) => {}
            Ok(NodeReply::Spawned(Err(error))) => this.spawn_failed(parent, tag, error),
            Ok(_) | Err(_) => this.spawn_failed(parent, tag, SpawnError::NoConnection),
        };
        self.dist()
            .request_then(there, request, Some(SPAWN_TIMEOUT), on_reply);
    }

    pub(super) fn spawn_failed(&self, parent: Pid, tag: Ref, error: SpawnError) {
        let result = Err(error);
        self.runtime.signal(parent, Signal::Spawned { tag, result });
    }

    /// Another node wants an actor here, of code that is to be fetched or compiled first.
    pub(super) async fn obtain_and_spawn(
        self: Arc<Self>,
        from: Incarnation,
        parent: (Pid, Ref),
        (module, digest): (String, Digest),
        args: Vec<u8>,
        options: SpawnOptions,
    ) -> Result<Pid, SpawnError> {
        let slot = self.obtain(from, &module, digest).await.map_err(|error| {
            SpawnError::BadModule(format!(
                "module {module} on {}: {error}",
                self.runtime.name()
            ))
        })?;
        self.spawn_for(parent, slot, args, options)
    }

    /// Makes an actor here for a parent that expects to be told, as of another node.
    pub(super) fn spawn_for(
        &self,
        parent: (Pid, Ref),
        slot: Arc<ModuleSlot>,
        args: Vec<u8>,
        options: SpawnOptions,
    ) -> Result<Pid, SpawnError> {
        let announce = !options.await_init;
        self.start_actor(slot, args, Some(parent), options, |pid| {
            if announce {
                let (parent, tag) = parent;
                self.runtime.signal(
                    parent,
                    Signal::Spawned {
                        tag,
                        result: Ok(pid),
                    },
                );
            }
        })
    }

    /// A version of a module, fetched from the node that named it if it is not here. Several that
    /// want the same wait for one transfer and one compilation, and get one answer.
    async fn obtain(
        &self,
        from: Incarnation,
        module: &str,
        digest: Digest,
    ) -> Result<Arc<ModuleSlot>, Arc<ModuleError>> {
        let code = (module.to_owned(), digest);
        let obtaining = self
            .obtaining
            .lock()
            .entry(code.clone())
            .or_default()
            .clone();
        let obtained = obtaining
            .get_or_init(|| self.obtain_alone(from, module, digest))
            .await;
        self.no_longer_obtains(&code, &obtaining);
        obtained.clone()?;
        self.modules.exactly(module, digest).await.map_err(Arc::new)
    }

    /// The first of those that waited takes it out; by then another may be under way.
    fn no_longer_obtains(&self, code: &(String, Digest), obtaining: &Arc<Obtaining>) {
        let mut all = self.obtaining.lock();
        if all.get(code).is_some_and(|of| Arc::ptr_eq(of, obtaining)) {
            all.remove(code);
        }
    }

    async fn obtain_alone(
        &self,
        from: Incarnation,
        module: &str,
        digest: Digest,
    ) -> Result<(), Arc<ModuleError>> {
        match self.modules.exactly(module, digest).await {
            Ok(_) => return Ok(()),
            Err(ModuleError::Missing(_)) => {}
            Err(error) => return Err(error.into()),
        }
        tracing::info!(module, %digest, "fetching code");
        let request = NodeRequest::FetchCode { digest };
        if let Ok(NodeReply::Code(Some(bytes))) =
            self.dist().request(from, request, FETCH_TIMEOUT).await
        {
            self.modules.keep(digest, &bytes)?;
        }
        self.modules.exactly(module, digest).await?;
        Ok(())
    }
}

/// The options of a spawn with what the parent passes on: what it holds, as far as it says, and its
/// group leader, unless they name another.
pub(super) fn passing_on(
    parent: &Process,
    mut options: SpawnOptions,
) -> Result<SpawnOptions, SpawnError> {
    let holds = parent.capabilities();
    let passed_on = match &options.capabilities {
        None => holds,
        Some(only) => holds.meet(only).map_err(|error| {
            SpawnError::BadModule(format!("the spawn's option capabilities: {error}"))
        })?,
    };
    options.capabilities = Some(passed_on);
    if options.group_leader.is_none() {
        options.group_leader = Some(parent.with_actor(|actor| actor.group_leader()));
    }
    Ok(options)
}

/// What one actor of a module may use.
pub(super) fn module_limits(version: &Version) -> Limits {
    let own = version.grants().limits;
    let default = DEFAULT_MEMORY_LIMIT_BYTES as u64;
    Limits {
        memory_bytes: own.memory_bytes.or(Some(default)),
        ..own
    }
}
