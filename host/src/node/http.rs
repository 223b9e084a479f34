//! An HTTP listener of the node: instances of a handler module, each an actor of the node.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use wasm_node_protocol::{ExitReason, SpawnOptions};

use super::grants::not_granted;
use super::spawns::module_limits;
use super::{Inner, NodeError};
use crate::http::{
    EndInstance, HandlerError, HttpConfig, HttpLimits, Ingress, InstanceSource, Instances, Worker,
};
use crate::process::{FutureProgram, SpawnRequest};
use crate::wasm::{ModuleSlot, http_store, trap_reason};

/// Instances of one module, at its current version.
struct Source {
    inner: Weak<Inner>,
    slot: Arc<ModuleSlot>,
}

impl Inner {
    /// Serves requests with a module, at its current version at each request.
    pub(super) fn listen_http(
        self: &Arc<Self>,
        listen: SocketAddr,
        module: &str,
    ) -> Result<Ingress, NodeError> {
        let slot = self.modules.find(module).ok_or_else(|| {
            NodeError::App(
                module.into(),
                format!("no module {module:?} for the HTTP listener {listen}"),
            )
        })?;
        let version = slot.current();
        let capabilities = &version.grants().capabilities;
        if let Some(need) = version.imports().unmet(capabilities) {
            let why = not_granted(&version, need);
            return Err(NodeError::App(module.into(), why));
        }
        let source = Source {
            inner: Arc::downgrade(self),
            slot,
        };
        let config = HttpConfig {
            listen,
            limits: HttpLimits::default(),
        };
        let handler = Arc::new(Instances::new(source));
        let ingress = Ingress::start(self.runtime.io(), config, handler)?;
        self.http.lock().push(ingress.local_addr());
        Ok(ingress)
    }
}

impl InstanceSource for Source {
    fn generation(&self) -> u64 {
        self.slot.generation()
    }

    fn start(&self, worker: Worker) -> Result<EndInstance, HandlerError> {
        let inner = self
            .inner
            .upgrade()
            .ok_or_else(|| HandlerError::Unavailable("the node is stopping".into()))?;
        let version = self.slot.current();
        let pre = version.http().cloned().ok_or_else(|| {
            HandlerError::Guest(format!(
                "module {} exports no incoming-handler",
                version.name()
            ))
        })?;
        let spawned = inner.runtime.spawn(SpawnRequest {
            label: version.name().into(),
            parent: None,
            options: SpawnOptions::default(),
            limits: module_limits(&version),
            capabilities: version.grants().capabilities.clone(),
        });
        let process = spawned.map_err(|error| HandlerError::Unavailable(error.to_string()))?;
        let store = http_store(pre.engine(), &inner.home(process.clone()), &version);
        let program = FutureProgram::new(async move {
            let store = match store {
                Ok(store) => store,
                Err(why) => return ExitReason::Error(why),
            };
            match worker.run(store, pre).await {
                Ok(()) => ExitReason::Normal,
                Err(error) => trap_reason(&error),
            }
        });
        inner.runtime.begin(&process, Box::new(program));
        Ok(Box::new(move || process.doom(ExitReason::Killed)))
    }
}
