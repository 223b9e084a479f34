//! What stands behind one instance: its process, its limits, and WASI if it uses it.

use std::sync::Arc;

use wasm_node_protocol::OutputKind;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::core::Space;
use super::engine::{DEFAULT_MEMORY_LIMIT_BYTES, MAX_PARTS_PER_COMPONENT, MAX_TABLE_ELEMENTS};
use super::keyvalue::{KeyvalueCtx, KeyvalueView};
use super::services::Services;
use super::stdio::{Input, Output};
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
    limits: Limits,
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

/// Memory, and what was refused for it.
struct Limits {
    memory_bytes: usize,
    refused: Option<String>,
}

impl ActorData {
    pub(super) fn new(
        process: Arc<Process>,
        runtime: Arc<Runtime>,
        services: Arc<dyn Services>,
        version: Arc<About>,
        keyvalue_store: KeyvalueStore,
    ) -> Self {
        let memory_bytes = version
            .grants()
            .memory_limit_bytes
            .unwrap_or(DEFAULT_MEMORY_LIMIT_BYTES);
        Self {
            process,
            runtime,
            services,
            version,
            space: None,
            initialized_by_host: false,
            budget: TURN_BUDGET_MESSAGES,
            more_waits: true,
            limits: Limits {
                memory_bytes,
                refused: None,
            },
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
        store.limiter(|data| &mut data.limits);
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

    /// The limit that the actor ran into, if its end may be due to that.
    pub(super) fn refused(&mut self) -> Option<String> {
        self.limits.refused.take()
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
        let output = |kind| Output::new(self.process.clone(), self.runtime.clone(), kind);
        let input = Input::new(self.process.clone(), self.runtime.clone());
        self.wasi.get_or_insert_with(|| {
            let mut ctx = WasiCtx::builder();
            ctx.stdin(input)
                .stdout(output(OutputKind::Stdout))
                .stderr(output(OutputKind::Stderr));
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

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let fits = desired <= self.memory_bytes;
        if !fits {
            self.refused = Some(format!(
                "memory: {desired} bytes asked for, {} allowed",
                self.memory_bytes
            ));
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
