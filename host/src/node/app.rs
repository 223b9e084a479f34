//! An app on one node: its supervision tree, its HTTP listeners.

use std::net::SocketAddr;
use std::sync::Arc;

use wasm_node_protocol::{Destination, ExitReason, Pid, Signal, SpawnOptions};

use super::{APP_TIMEOUT, Inner, NodeError};
use crate::app::{Manifest, spec};
use crate::http::Ingress;
use crate::process::{Message, Native};

/// A running app.
pub(super) struct App {
    root: Option<Pid>,
    listeners: Vec<Ingress>,
}

impl App {
    /// Starts the tree, then the listeners.
    pub(super) async fn start(
        inner: &Arc<Inner>,
        manifest: Manifest,
        http: Option<SocketAddr>,
    ) -> Result<Self, NodeError> {
        let failed = |why: String| NodeError::App(manifest.name.clone(), why);
        let root = match &manifest.supervisor {
            Some(supervisor) => {
                let args =
                    spec::supervisor_args(supervisor).map_err(|error| failed(error.to_string()))?;
                let module = supervisor.module.clone();
                Some(start_root(inner, module, args).await.map_err(failed)?)
            }
            None => None,
        };
        let mut listeners = Vec::new();
        for (at, listener) in manifest.http.iter().enumerate() {
            let asked = http.filter(|_| at == 0);
            let listen = asked.unwrap_or(listener.listen);
            let ingress = match inner.listen_http(listen, &listener.module) {
                // What the manifest prefers is taken, by another node perhaps.
                Err(error) if asked.is_none() && error.address_in_use() => {
                    inner.listen_http(SocketAddr::new(listen.ip(), 0), &listener.module)
                }
                other => other,
            };
            listeners.push(ingress?);
        }
        Ok(Self { root, listeners })
    }

    pub(super) fn http_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Ingress::local_addr).collect()
    }

    /// Ends the listeners, then the tree, in order.
    pub(super) async fn stop(self, inner: &Arc<Inner>) {
        for listener in self.listeners {
            listener.stop().await;
        }
        let Some(root) = self.root else { return };
        let Ok(mut native) = Native::spawn(&inner.runtime, "app-stop") else {
            return;
        };
        inner
            .runtime
            .monitor(native.process(), &Destination::Pid(root));
        // Supervisors obey their parent alone, which here is whoever started the tree.
        let parent = inner.runtime.get(root).and_then(|root| root.parent());
        let exit = Signal::Exit {
            from: parent.unwrap_or(native.pid()),
            reason: ExitReason::Shutdown,
            link: false,
        };
        inner.runtime.signal(root, exit);
        let ended =
            async { while !matches!(native.receive().await, Some(Message::Down { .. }) | None) {} };
        if tokio::time::timeout(APP_TIMEOUT, ended).await.is_err() {
            tracing::warn!(
                "the app did not stop in {} s; it is killed",
                APP_TIMEOUT.as_secs()
            );
            inner.kill(root);
        }
    }
}

/// Starts the root supervisor, waits for its `init`, and watches it: when it ends, the node
/// stops, as with a permanent OTP application.
async fn start_root(inner: &Arc<Inner>, module: String, args: Vec<u8>) -> Result<Pid, String> {
    let mut native = Native::spawn(&inner.runtime, "app").map_err(|error| error.to_string())?;
    let options = SpawnOptions {
        monitor: true,
        await_init: true,
        ..Default::default()
    };
    let services: &dyn crate::wasm::Services = &**inner;
    let (root, tag) = services
        .spawn(native.process(), &module, args, options)
        .map_err(|error| error.to_string())?;
    let started = async {
        loop {
            match native.receive().await {
                Some(Message::Spawned { tag: of, result }) if of == tag => {
                    return result.map_err(|error| error.to_string());
                }
                Some(_) => {}
                None => return Err("the node is stopping".to_owned()),
            }
        }
    };
    let root = match tokio::time::timeout(APP_TIMEOUT, started).await {
        Ok(started) => started?,
        Err(_) => {
            inner.kill(root);
            return Err(format!(
                "its tree did not start in {} s",
                APP_TIMEOUT.as_secs()
            ));
        }
    };
    let stopping = inner.stopping.clone();
    inner.runtime.io().spawn(async move {
        loop {
            match native.receive().await {
                Some(Message::Down { reason, .. }) => {
                    let asked_for = stopping.send_replace(true);
                    match reason {
                        _ if asked_for => {}
                        ExitReason::Normal | ExitReason::Shutdown => {
                            tracing::info!(%reason, "the app's tree has ended, the node stops");
                        }
                        reason => {
                            tracing::error!(%reason, "the app's tree has ended, the node stops");
                        }
                    }
                    return;
                }
                Some(_) => {}
                None => return,
            }
        }
    });
    Ok(root)
}
