//! An HTTP listener of the node: each request becomes an actor of its own, which lives until
//! it has answered.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use hyper::Request;
use wasm_node_protocol::{ExitReason, SpawnOptions};

use super::{Inner, NodeError};
use crate::http::{
    HandlerError, HttpConfig, HttpLimits, Ingress, RequestBody, RequestHandler, ResponseFuture,
    call_component,
};
use crate::process::{FutureProgram, Process, SpawnRequest};
use crate::wasm::{ModuleSlot, http_store, trap_reason};

/// Requests for one module.
struct Handler {
    inner: Weak<Inner>,
    slot: Arc<ModuleSlot>,
}

/// Ends a request's actor when nobody waits for its answer any more.
struct KillOnDrop(Option<Arc<Process>>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(process) = self.0.take() {
            process.doom(ExitReason::Killed);
        }
    }
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
        let handler = Arc::new(Handler {
            inner: Arc::downgrade(self),
            slot,
        });
        let config = HttpConfig {
            listen,
            limits: HttpLimits::default(),
        };
        let ingress = Ingress::start(self.runtime.io(), config, handler)?;
        self.http.lock().push(ingress.local_addr());
        Ok(ingress)
    }
}

impl RequestHandler for Handler {
    fn handle(&self, request: Request<RequestBody>) -> ResponseFuture {
        let begun = self.begin(request);
        Box::pin(async move {
            let (reply, mut guard) = begun?;
            let response = reply.await;
            // From here on the actor ends by itself: when the body is written, or its reader
            // has gone.
            guard.0 = None;
            response
        })
    }
}

impl Handler {
    fn begin(
        &self,
        request: Request<RequestBody>,
    ) -> Result<(crate::http::Reply, KillOnDrop), HandlerError> {
        let unavailable = |why: String| HandlerError::Unavailable(why);
        let inner = self
            .inner
            .upgrade()
            .ok_or_else(|| unavailable("the node is stopping".into()))?;
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
            mailbox_limit: version.grants().mailbox_limit,
        });
        let process = spawned.map_err(|error| unavailable(error.to_string()))?;
        let guard = KillOnDrop(Some(process.clone()));
        let services = inner.clone();
        let store = http_store(
            process.clone(),
            inner.runtime.clone(),
            services,
            inner.store.clone(),
            version,
        );
        let (run, reply) = call_component(store, pre, request)?;
        let program = FutureProgram::new(async move {
            match run.await {
                Ok(()) => ExitReason::Normal,
                Err(error) => trap_reason(&error),
            }
        });
        inner.runtime.begin(&process, Box::new(program));
        Ok((reply, guard))
    }
}
