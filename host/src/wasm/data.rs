//! What stands behind one instance: its process, its limits, and WASI if it uses it.

use std::sync::Arc;

use wasm_node_protocol::{CapabilityKind, OutputKind};
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::core::Space;
use super::engine::{MAX_PARTS_PER_COMPONENT, MAX_TABLE_ELEMENTS};
use super::keyvalue::KeyvalueView;
use super::services::Services;
use super::stdio::{Input, Output};
use super::version::{About, Flavour};
use super::wasi::{self, FolderError, Wasi};
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

    /// Opens the folders that its actor holds, before it begins: later it would only see that
    /// they are not there.
    pub(super) fn with_folders(mut self) -> Result<Self, FolderError> {
        let waits = self.version.flavour().may_wait();
        let held = self.process.capabilities();
        if waits && held.has(CapabilityKind::Files) {
            let mut ctx = self.wasi_builder();
            wasi::open_folders(&mut ctx, &held)?;
            self.wasi = Some(self.new_wasi(ctx));
        }
        Ok(self)
    }

    fn wasi(&mut self) -> &mut Wasi {
        let there = self.wasi.take();
        let wasi = there.unwrap_or_else(|| self.new_wasi(self.wasi_builder()));
        self.wasi.insert(wasi)
    }

    /// What every component may use.
    fn wasi_builder(&self) -> WasiCtxBuilder {
        let (process, runtime) = (&self.process, &self.runtime);
        let output = |kind| Output::new(process.clone(), runtime.clone(), kind);
        let mut ctx = WasiCtx::builder();
        ctx.stdin(Input::new(process.clone(), runtime.clone()))
            .stdout(output(OutputKind::Stdout))
            .stderr(output(OutputKind::Stderr));
        ctx
    }

    fn new_wasi(&self, mut ctx: WasiCtxBuilder) -> Box<Wasi> {
        let store = self.keyvalue_store.clone();
        Box::new(Wasi::new(&mut ctx, &self.process.capabilities(), store))
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
