//! The modules of a node: which versions it has, compiled and linked, under which names.
//!
//! Contract: a name's current version changes only when the new one has been compiled and
//! linked; bytes from other nodes run only if their digest is what was asked for; compiling
//! happens on a thread of its own. Does not know where bytes come from.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;
use wasm_node_protocol::Digest;

use crate::code::{Change, CodeStore, CompileCache, CompileError, StoreError, Versions};
use crate::panic;
use crate::wasm::{
    Compiled, Engine, Identity, Imports, LinkError, ModuleInfo, ModuleSlot, Version, unbundle,
};

use super::grants::{Granting, not_granted};

/// Why a module cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// Its bytes could not be kept or read. Ours, or the disk's fault.
    #[error("its code could not be stored: {0}")]
    Store(#[from] StoreError),
    /// It does not compile. Its author's fault.
    #[error("it does not compile: {0}")]
    Compile(#[from] CompileError),
    /// The compiler failed. Ours, or the compiler's fault.
    #[error("compiling it failed, which is a mistake of this program: {0}")]
    Panicked(String),
    /// It does not fit this node. Its author's fault.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It imports what it is not granted, and there is a version that does not. The fault of its
    /// author, or of who should have granted it.
    #[error("{0}")]
    NotGranted(String),
    /// This node does not have those bytes.
    #[error("this node does not have the code with digest {0}")]
    Missing(Digest),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// What loading a module changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loaded {
    /// The module has a new current version.
    New(Digest),
    /// It is the current version already.
    Same,
}

struct Job {
    name: String,
    digest: Digest,
    /// `None` for code that came from another node and is kept already.
    bytes: Option<Bytes>,
    done: oneshot::Sender<Result<Arc<Version>, ModuleError>>,
}

struct Inner {
    engine: Engine,
    code: CodeStore,
    cache: CompileCache,
    granting: RwLock<Granting>,
    slots: RwLock<HashMap<String, Arc<ModuleSlot>>>,
    /// Versions other than the current ones that actors asked for by digest.
    pinned: RwLock<HashMap<(String, Digest), Arc<ModuleSlot>>>,
    versions: Mutex<Versions>,
}

/// A handle; clones share the modules.
#[derive(Clone)]
pub(super) struct Modules {
    inner: Arc<Inner>,
    jobs: std::sync::mpsc::Sender<Job>,
}

impl Modules {
    pub(super) fn open(engine: Engine, data: &Path) -> Result<Self, ModuleError> {
        let code = CodeStore::open(&data.join("code"))?;
        let cache = CompileCache::open(&data.join("compiled"), engine.inner())?;
        let inner = Arc::new(Inner {
            engine,
            code,
            cache,
            granting: RwLock::default(),
            slots: RwLock::default(),
            pinned: RwLock::default(),
            versions: Mutex::new(Versions::new()),
        });
        let (jobs, queue) = std::sync::mpsc::channel::<Job>();
        let worker = inner.clone();
        let life = move || {
            // Compiling must not compete with actors.
            // SAFETY: changes this thread's own scheduling attribute.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, libc::gettid() as libc::id_t, 10) };
            for job in queue {
                // Code of others must not end this thread, whatever it makes the compiler do.
                let prepare = || worker.prepare(&job.name, job.digest, job.bytes.as_deref());
                let result = catch_unwind(AssertUnwindSafe(prepare))
                    .unwrap_or_else(|panic| Err(ModuleError::Panicked(panic::words(&*panic))));
                let _ = job.done.send(result.map(Arc::new));
            }
        };
        std::thread::Builder::new()
            .name("compile".into())
            .spawn(life)
            .map_err(|_| ModuleError::Stopping)?;
        Ok(Self { inner, jobs })
    }

    /// Says what modules may do, from their next versions on.
    pub(super) fn grant(&self, granting: Granting) {
        *self.inner.granting.write() = granting;
    }

    /// Makes these bytes the current version of a module. On any error nothing changes.
    pub(super) async fn load(&self, name: &str, bytes: Bytes) -> Result<Loaded, ModuleError> {
        let digest = Digest::of(&bytes);
        if self.inner.versions.lock().current(name) == Some(digest) {
            return Ok(Loaded::Same);
        }
        let version = self.prepare(name, digest, Some(bytes)).await?;
        let mut slots = self.inner.slots.write();
        match slots.get(name) {
            Some(slot) => {
                let unmet = |version: &Version| {
                    let need = version.imports().unmet(&version.grants().capabilities)?;
                    Some(not_granted(version, need))
                };
                // Its actors go on with what runs; where nothing could, nothing is lost.
                if let (Some(why), None) = (unmet(&version), unmet(&slot.current())) {
                    return Err(ModuleError::NotGranted(why));
                }
                slot.replace(version);
            }
            None => {
                slots.insert(name.into(), Arc::new(ModuleSlot::new(version)));
            }
        }
        Ok(match self.inner.versions.lock().load(name, digest) {
            Change::Unchanged => Loaded::Same,
            _ => Loaded::New(digest),
        })
    }

    async fn prepare(
        &self,
        name: &str,
        digest: Digest,
        bytes: Option<Bytes>,
    ) -> Result<Arc<Version>, ModuleError> {
        let (done, answer) = oneshot::channel();
        let job = Job {
            name: name.into(),
            digest,
            bytes,
            done,
        };
        self.jobs.send(job).map_err(|_| ModuleError::Stopping)?;
        answer.await.map_err(|_| ModuleError::Stopping)?
    }

    /// The module of that name, or with that digest in hex.
    pub(super) fn find(&self, module: &str) -> Option<Arc<ModuleSlot>> {
        if let Some(slot) = self.inner.slots.read().get(module) {
            return Some(slot.clone());
        }
        let digest: Digest = module.parse().ok()?;
        self.with_digest(None, digest)
    }

    /// A slot that stands at that version, of that name if one is given.
    fn with_digest(&self, name: Option<&str>, digest: Digest) -> Option<Arc<ModuleSlot>> {
        let fits = |slot: &&Arc<ModuleSlot>| {
            name.is_none_or(|name| slot.name() == name) && slot.current().digest() == digest
        };
        if let Some(slot) = self.inner.slots.read().values().find(fits) {
            return Some(slot.clone());
        }
        self.inner.pinned.read().values().find(fits).cloned()
    }

    /// A slot at exactly that version of a module, if it is compiled already.
    pub(super) fn at_hand(&self, name: &str, digest: Digest) -> Option<Arc<ModuleSlot>> {
        self.with_digest(Some(name), digest)
    }

    /// A slot at exactly that version of a module, whatever the current one is here. If the
    /// name is new here, the version becomes its current one.
    pub(super) async fn exactly(
        &self,
        name: &str,
        digest: Digest,
    ) -> Result<Arc<ModuleSlot>, ModuleError> {
        if let Some(slot) = self.with_digest(Some(name), digest) {
            return Ok(slot);
        }
        if !self.inner.code.contains(digest) {
            return Err(ModuleError::Missing(digest));
        }
        let version = self.prepare(name, digest, None).await?;
        let fresh = Arc::new(ModuleSlot::new(version));
        let mut pinned = self.inner.pinned.write();
        Ok(pinned.entry((name.into(), digest)).or_insert(fresh).clone())
    }

    /// Keeps bytes from another node, if they are what their digest says.
    pub(super) fn keep(&self, digest: Digest, bytes: &[u8]) -> Result<(), ModuleError> {
        Ok(self.inner.code.put_verified(digest, bytes)?)
    }

    /// The bytes with that digest, for another node.
    pub(super) fn bytes(&self, digest: Digest) -> Option<Vec<u8>> {
        match self.inner.code.get(digest) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%digest, %error, "cannot read the code of a module");
                None
            }
        }
    }

    /// All modules with their current versions, sorted by name; then those that only actors
    /// from elsewhere run.
    pub(super) fn list(&self) -> Vec<ModuleInfo> {
        let info = |slot: &Arc<ModuleSlot>| ModuleInfo {
            name: slot.name().into(),
            digest: slot.current().digest().to_string(),
            actors: slot.actors(),
            imports: slot.current().imports().names().to_vec(),
            capabilities: slot.current().grants().capabilities.clone(),
        };
        let mut list: Vec<_> = self.inner.slots.read().values().map(info).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list.extend(self.inner.pinned.read().values().map(info));
        list
    }
}

impl Inner {
    /// Stores, compiles (or finds compiled) and links. Takes its time.
    fn prepare(
        &self,
        name: &str,
        digest: Digest,
        bytes: Option<&[u8]>,
    ) -> Result<Version, ModuleError> {
        let shipped = bytes.is_none();
        let stored;
        let bytes = match bytes {
            Some(bytes) => {
                self.code.put_verified(digest, bytes)?;
                bytes
            }
            None => {
                stored = self.code.get(digest)?.ok_or(ModuleError::Missing(digest))?;
                &stored
            }
        };
        let (engine, cache) = (self.engine.inner(), &self.cache);
        let compiled = match unbundle(bytes) {
            Ok(core) => {
                let module = cache.load_or_compile(engine, digest, &core.bytes)?;
                Compiled::Core(core, module)
            }
            Err(why) => {
                tracing::debug!(module = name, why, "runs under the component layer");
                Compiled::Component(cache.load_or_compile(engine, digest, bytes)?)
            }
        };
        let granting = self.granting.read();
        let identity = Identity {
            name: name.into(),
            digest,
            shipped,
            imports: Imports::of(bytes),
            grants: match shipped {
                true => granting.shipped(name, digest),
                false => granting.own(name, digest),
            },
        };
        Ok(Version::link(&self.engine, &compiled, identity)?)
    }
}
