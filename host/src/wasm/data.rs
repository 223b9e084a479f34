//! What stands behind one instance: its process, its limits, and WASI if it uses it.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::cli::StdoutStream;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::core::Space;
use super::engine::{MAX_PARTS_PER_COMPONENT, MAX_TABLE_ELEMENTS};
use super::keyvalue::{KeyvalueCtx, KeyvalueView};
use super::services::Services;
use super::version::{About, Flavour};
use crate::process::{Process, Runtime, TURN_BUDGET_MESSAGES};
use crate::store::Store as KeyvalueStore;

/// The data of one instance's store.
pub struct ActorData {
    pub(super) process: Arc<Process>,
    pub(super) runtime: Arc<Runtime>,
    pub(super) services: Arc<dyn Services>,
    pub(super) version: Arc<About>,
    /// Where a core module keeps values; `None` under the component layer.
    pub(super) space: Option<Space>,
    /// Whether a core module asked the host something when it was initialised.
    pub(super) initialized_by_host: bool,
    /// Messages that this turn may still take.
    pub(super) budget: u32,
    /// Whether messages were left when one was taken last.
    pub(super) more_waits: bool,
    /// Linear memory that the instance has, in bytes.
    pub(super) memory_bytes: usize,
    /// What was refused for its limits.
    refused: Option<String>,
    wasi: Option<Box<Wasi>>,
    keyvalue_store: KeyvalueStore,
}

struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    http: wasmtime_wasi_http::WasiHttpCtx,
    hooks: NoOutgoingHttp,
    keyvalue: KeyvalueCtx,
}

impl ActorData {
    pub(super) fn new(
        process: Arc<Process>,
        runtime: Arc<Runtime>,
        services: Arc<dyn Services>,
        version: Arc<About>,
        keyvalue_store: KeyvalueStore,
    ) -> Self {
        Self {
            process,
            runtime,
            services,
            version,
            space: None,
            initialized_by_host: false,
            budget: TURN_BUDGET_MESSAGES,
            more_waits: true,
            memory_bytes: 0,
            refused: None,
            wasi: None,
            keyvalue_store,
        }
    }

    pub(super) fn with_space(mut self, space: Space) -> Self {
        self.space = Some(space);
        self
    }

    /// A store for it, that can be interrupted.
    pub(super) fn into_store(self, engine: &wasmtime::Engine) -> Store<Self> {
        let flavour = self.version.flavour();
        let mut store = Store::new(engine, self);
        store.limiter(|data| data);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |context| {
            let data = context.data();
            if !data.process.may_go_on(&data.runtime) {
                return Err(wasmtime::Error::msg("ended from outside"));
            }
            Ok(match flavour {
                Flavour::Core | Flavour::Plain => UpdateDeadline::Continue(1),
                Flavour::Waiting | Flavour::Http => UpdateDeadline::Yield(1),
            })
        });
        store
    }

    /// Whether all of its memories may be so large together; if not, that is noted.
    pub(super) fn may_have(&mut self, bytes: usize) -> bool {
        let allowed = self.process.memory_limit_bytes();
        let fits = bytes as u64 <= allowed;
        if !fits {
            self.refused = Some(format!(
                "memory: {bytes} bytes asked for, {allowed} allowed"
            ));
        }
        fits
    }

    /// The limit that the actor ran into, if its end may be due to that.
    pub(super) fn refused(&mut self) -> Option<String> {
        self.refused.take()
    }

    /// `wasi:keyvalue` for this actor.
    pub(super) fn keyvalue(&mut self) -> KeyvalueView<'_> {
        let wasi = self.wasi();
        KeyvalueView {
            ctx: &mut wasi.keyvalue,
            table: &mut wasi.table,
        }
    }

    fn wasi(&mut self) -> &mut Wasi {
        let output = |error| Output {
            process: self.process.clone(),
            services: self.services.clone(),
            error,
        };
        self.wasi.get_or_insert_with(|| {
            let mut ctx = WasiCtx::builder();
            ctx.stdout(output(false)).stderr(output(true));
            let buckets = self.version.grants().buckets.clone();
            Box::new(Wasi {
                ctx: ctx.build(),
                table: ResourceTable::new(),
                http: wasmtime_wasi_http::WasiHttpCtx::new(),
                hooks: NoOutgoingHttp,
                keyvalue: KeyvalueCtx::new(self.keyvalue_store.clone(), buckets),
            })
        })
    }
}

impl WasiView for ActorData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi();
        WasiCtxView {
            ctx: &mut wasi.ctx,
            table: &mut wasi.table,
        }
    }
}

impl WasiHttpView for ActorData {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let wasi = self.wasi();
        WasiHttpCtxView {
            hooks: &mut wasi.hooks,
            table: &mut wasi.table,
            ctx: &mut wasi.http,
        }
    }
}

/// Actors may answer requests, not make any: no capability for that exists yet.
struct NoOutgoingHttp;

type Sending = Box<dyn Future<Output = Result<(), HttpError>> + Send>;

impl WasiHttpHooks for NoOutgoingHttp {
    fn send_request(
        &mut self,
        _: hyper::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Sending,
    ) -> Box<dyn Future<Output = Result<(hyper::Response<WasiBody>, Sending), HttpError>> + Send>
    {
        Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)))
    }
}

impl ResourceLimiter for ActorData {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let desired = self.memory_bytes + desired.saturating_sub(current);
        let fits = self.may_have(desired);
        if fits {
            self.memory_bytes = desired;
        }
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let fits = desired <= MAX_TABLE_ELEMENTS;
        if !fits {
            self.refused = Some(format!(
                "table: {desired} elements asked for, {MAX_TABLE_ELEMENTS} allowed"
            ));
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        MAX_PARTS_PER_COMPONENT
    }

    fn tables(&self) -> usize {
        MAX_PARTS_PER_COMPONENT
    }

    fn memories(&self) -> usize {
        MAX_PARTS_PER_COMPONENT
    }
}

/// A guest's standard output or standard error.
#[derive(Clone)]
struct Output {
    process: Arc<Process>,
    services: Arc<dyn Services>,
    error: bool,
}

/// Bytes that a guest may write at once.
const WRITE_BYTES: usize = 64 << 10;

impl wasmtime_wasi::cli::IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        use std::io::IsTerminal;
        match self.error {
            true => IsTerminal::is_terminal(&std::io::stderr()),
            false => IsTerminal::is_terminal(&std::io::stdout()),
        }
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl tokio::io::AsyncWrite for Output {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.services.print(self.process.pid, bytes, self.error);
        std::task::Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.services.print(self.process.pid, &bytes, self.error);
        Ok(())
    }
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}
