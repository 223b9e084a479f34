//! A version of a module, linked and ready to be instantiated, and the place where the
//! current one is found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::RwLock;
use wasm_node_protocol::{Digest, Pid};
use wasmtime::Module;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::core::{CoreCode, CoreModule};
use super::data::ActorData;
use super::engine::Engine;
use super::needs::Imports;
use super::services::Grants;

const LIFECYCLE: &str = "wasm-node:actor/lifecycle@0.1.0";
const BLOCKING: &str = "wasm-node:actor/blocking@";
const INCOMING_HANDLER: &str = "wasi:http/incoming-handler@0.2.";

/// How a component runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Holds one core module, which runs without the component layer; its turns are plain
    /// synchronous calls.
    Core,
    /// Imports nothing that can wait: its turns are plain synchronous calls.
    Plain,
    /// May wait in the middle of a turn: runs on a fiber.
    Waiting,
    /// Answers HTTP requests, each in an instance of its own, on a fiber.
    Http,
}

impl Flavour {
    /// Whether its calls may wait in the middle.
    pub(super) fn may_wait(self) -> bool {
        matches!(self, Self::Waiting | Self::Http)
    }
}

/// A component, compiled.
pub enum Compiled {
    /// For the component layer.
    Component(Component),
    /// The only module in it, of `unbundle`.
    Core(CoreModule, Module),
}

/// A version of a module.
pub struct Version {
    about: Arc<About>,
    code: Code,
}

/// What a version is and may do.
pub struct About {
    identity: Identity,
    flavour: Flavour,
}

/// What is known of a version before it is linked.
pub struct Identity {
    /// Its module's name.
    pub name: String,
    /// Of its bytes.
    pub digest: Digest,
    /// Whether they came from another node, and are no file of this one's.
    pub shipped: bool,
    /// What it imports.
    pub imports: Imports,
    /// What it may do.
    pub grants: Grants,
}

/// How a version's instances are made.
pub(super) enum Code {
    /// See [`Flavour::Core`].
    Core(Box<CoreCode>),
    /// See [`Flavour::Plain`] and [`Flavour::Waiting`].
    Component(InstancePre<ActorData>, Exports),
    /// See [`Flavour::Http`].
    Http(ProxyPre<ActorData>),
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
        compiled: &Compiled,
        identity: Identity,
    ) -> Result<Self, LinkError> {
        let (flavour, code) = match compiled {
            Compiled::Core(core, module) => {
                let code = CoreCode::link(engine.core(), module, core, engine.awake());
                let code = code.map_err(|error| LinkError::Import(format!("{error:#}")))?;
                (Flavour::Core, Code::Core(Box::new(code)))
            }
            Compiled::Component(component) => Code::link(engine, component)?,
        };
        let about = Arc::new(About { identity, flavour });
        Ok(Self { about, code })
    }

    /// What it is and may do.
    pub fn about(&self) -> &Arc<About> {
        &self.about
    }

    /// Its module's name.
    pub fn name(&self) -> &str {
        &self.about.identity.name
    }

    /// Its identity.
    pub fn digest(&self) -> Digest {
        self.about.identity.digest
    }

    /// How it runs.
    pub fn flavour(&self) -> Flavour {
        self.about.flavour
    }

    /// What it may do.
    pub fn grants(&self) -> &Grants {
        &self.about.identity.grants
    }

    /// What it imports.
    pub fn imports(&self) -> &Imports {
        &self.about.identity.imports
    }

    /// Whether its code came from another node.
    pub fn is_shipped(&self) -> bool {
        self.about.identity.shipped
    }

    /// How it answers HTTP requests, if it does.
    pub fn http(&self) -> Option<&ProxyPre<ActorData>> {
        match &self.code {
            Code::Http(proxy) => Some(proxy),
            _ => None,
        }
    }

    pub(super) fn code(&self) -> &Code {
        &self.code
    }
}

impl About {
    pub(super) fn digest(&self) -> Digest {
        self.identity.digest
    }

    pub(super) fn flavour(&self) -> Flavour {
        self.flavour
    }
}

impl Code {
    fn link(engine: &Engine, component: &Component) -> Result<(Flavour, Self), LinkError> {
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
        let code = match lifecycle {
            Some(exports) => Self::Component(pre, exports),
            None => Self::Http(
                ProxyPre::new(pre).map_err(|error| LinkError::Import(format!("{error:#}")))?,
            ),
        };
        Ok((flavour, code))
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
