//! A version of a module, linked and ready to be instantiated, and the place where the
//! current one is found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::RwLock;
use wasm_node_protocol::{Digest, Pid};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::data::ActorData;
use super::engine::Engine;
use super::services::Grants;

const LIFECYCLE: &str = "wasm-node:actor/lifecycle@0.1.0";
const BLOCKING: &str = "wasm-node:actor/blocking@";
const INCOMING_HANDLER: &str = "wasi:http/incoming-handler@0.2.";

/// How a component runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Imports nothing that can wait: its turns are plain synchronous calls.
    Plain,
    /// May wait in the middle of a turn: runs on a fiber.
    Waiting,
    /// Answers HTTP requests, each in an instance of its own, on a fiber.
    Http,
}

/// A version of a module.
pub struct Version {
    name: String,
    digest: Digest,
    flavour: Flavour,
    grants: Grants,
    pre: InstancePre<ActorData>,
    exports: Option<Exports>,
    http: Option<ProxyPre<ActorData>>,
}

/// Where the functions of `lifecycle` are.
pub(super) struct Exports {
    pub(super) init: ComponentExportIndex,
    pub(super) turn: ComponentExportIndex,
    pub(super) save: ComponentExportIndex,
}

/// Why a component cannot be run here. Its author's fault.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It is no actor.
    #[error(
        "it exports neither {LIFECYCLE} nor wasi:http/incoming-handler@0.2: build it for a world of wit/actor.wit"
    )]
    NoActor,
    /// It imports what this node does not have, or in another form.
    #[error("it cannot be linked: {0}")]
    Import(String),
}

impl Version {
    /// Links a compiled component.
    pub fn link(
        engine: &Engine,
        component: &Component,
        name: &str,
        digest: Digest,
        grants: Grants,
    ) -> Result<Self, LinkError> {
        let kind = component.component_type();
        let mut imports = kind.imports(engine.inner());
        let waits =
            imports.any(|(name, _)| name.starts_with("wasi:") || name.starts_with(BLOCKING));
        let mut exports = kind.exports(engine.inner());
        let is_http = exports.any(|(name, item)| {
            name.starts_with(INCOMING_HANDLER)
                && matches!(item.ty, ComponentItem::ComponentInstance(_))
        });
        let lifecycle = lifecycle(component);
        let flavour = match (&lifecycle, is_http) {
            (Some(_), _) if waits => Flavour::Waiting,
            (Some(_), _) => Flavour::Plain,
            (None, true) => Flavour::Http,
            (None, false) => return Err(LinkError::NoActor),
        };
        let linker = if flavour == Flavour::Plain {
            engine.plain()
        } else {
            engine.full()
        };
        let pre = linker
            .instantiate_pre(component)
            .map_err(|error| LinkError::Import(format!("{error:#}")))?;
        let http = match flavour {
            Flavour::Http => Some(
                ProxyPre::new(pre.clone())
                    .map_err(|error| LinkError::Import(format!("{error:#}")))?,
            ),
            Flavour::Plain | Flavour::Waiting => None,
        };
        Ok(Self {
            name: name.into(),
            digest,
            flavour,
            grants,
            pre,
            exports: lifecycle,
            http,
        })
    }

    /// Its module's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its identity.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How it runs.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// What it may do.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// What is instantiated for each actor.
    pub fn pre(&self) -> &InstancePre<ActorData> {
        &self.pre
    }

    /// How it answers HTTP requests, if it does.
    pub fn http(&self) -> Option<&ProxyPre<ActorData>> {
        self.http.as_ref()
    }

    pub(super) fn exports(&self) -> Option<&Exports> {
        self.exports.as_ref()
    }
}

fn lifecycle(component: &Component) -> Option<Exports> {
    let (_, instance) = component.get_export(None, LIFECYCLE)?;
    let find = |name| {
        component
            .get_export(Some(&instance), name)
            .map(|(_, index)| index)
    };
    Some(Exports {
        init: find("init")?,
        turn: find("turn")?,
        save: find("save")?,
    })
}

/// How the move of one actor to a new version went.
#[derive(Debug, Clone)]
pub struct UpgradeReport {
    /// Which actor.
    pub actor: Pid,
    /// Of which module.
    pub module: String,
    /// From which version.
    pub from: Digest,
    /// To which version.
    pub to: Digest,
    /// Or why it stays with the old one, with its state.
    pub result: Result<(), String>,
}

/// Where a module's current version is found. Actors look here before each turn.
pub struct ModuleSlot {
    name: String,
    current: RwLock<Arc<Version>>,
    /// Counts changes, so that looking costs one load.
    generation: AtomicU64,
    actors: AtomicU32,
}

impl ModuleSlot {
    /// A slot with a first version.
    pub fn new(version: Arc<Version>) -> Self {
        Self {
            name: version.name().into(),
            current: RwLock::new(version),
            generation: AtomicU64::new(1),
            actors: AtomicU32::new(0),
        }
    }

    /// The module's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The current version.
    pub fn current(&self) -> Arc<Version> {
        self.current.read().clone()
    }

    /// Makes a version current. Actors move to it before their next turn; the caller wakes
    /// those that are idle.
    pub fn replace(&self, version: Arc<Version>) {
        *self.current.write() = version;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Changes with the current version.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How many actors run a version of this module.
    pub fn actors(&self) -> u32 {
        self.actors.load(Ordering::Relaxed)
    }

    pub(super) fn actor_began(&self) {
        self.actors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn actor_ended(&self) {
        self.actors.fetch_sub(1, Ordering::Relaxed);
    }
}
