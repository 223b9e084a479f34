//! `wasi:keyvalue` for guests: buckets of the node's [`Store`], as far as granted.
//!
//! Owns the translation, and what a guest may hold open at once. Reads are plain host calls;
//! only writes wait, until they are on the disk. Every error reaches the guest as a
//! `store.error`; only a handle that the guest does not own traps. It does not decide who is
//! granted what, and knows nothing of how data is stored.

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/deps/keyvalue",
        world: "wasi:keyvalue/imports",
        imports: {
            "wasi:keyvalue/store.[method]bucket.set": async | trappable,
            "wasi:keyvalue/store.[method]bucket.delete": async | trappable,
            "wasi:keyvalue/batch.set-many": async | trappable,
            "wasi:keyvalue/batch.delete-many": async | trappable,
            "wasi:keyvalue/atomics.increment": async | trappable,
            "wasi:keyvalue/atomics.swap": async | trappable,
            default: trappable,
        },
        with: {
            "wasi:keyvalue/store.bucket": super::Bucket,
            "wasi:keyvalue/atomics.cas": super::Cas,
        },
        trappable_error_type: {
            "wasi:keyvalue/store.error" => super::KeyvalueError,
        },
    });
}

use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};

use self::bindings::wasi::keyvalue::{atomics, batch, store};
use crate::store::{BucketGrants, BucketName, MAX_PAGE_KEYS, Store, StoreError, ValueTag};

/// Most buckets and compare-and-swap handles that one actor may hold; the next is refused.
pub const MAX_OPEN_HANDLES: u32 = 64;

/// What an actor's `wasi:keyvalue` stands on: the node's store, and what of it is granted.
pub struct KeyvalueCtx {
    store: Store,
    grants: BucketGrants,
    open_handles: u32,
}

impl KeyvalueCtx {
    /// Serves those buckets of that store.
    pub fn new(store: Store, grants: BucketGrants) -> Self {
        Self {
            store,
            grants,
            open_handles: 0,
        }
    }
}

/// The parts of an actor's data that a call of `wasi:keyvalue` needs.
pub struct KeyvalueView<'a> {
    /// The store and the grants.
    pub ctx: &'a mut KeyvalueCtx,
    /// Where the actor's handles are.
    pub table: &'a mut ResourceTable,
}

/// Adds `wasi:keyvalue/{store, batch, atomics}@0.2.0-draft2`. The calls that write wait on a
/// fiber, so whatever imports them must be run with wasmtime's async calls.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> KeyvalueView<'_>,
) -> wasmtime::Result<()> {
    store::add_to_linker::<_, Keyvalue>(linker, view)?;
    batch::add_to_linker::<_, Keyvalue>(linker, view)?;
    atomics::add_to_linker::<_, Keyvalue>(linker, view)
}

struct Keyvalue;

impl HasData for Keyvalue {
    type Data<'a> = KeyvalueView<'a>;
}

/// An open bucket. That it exists is the proof that it was granted.
pub struct Bucket {
    name: BucketName,
}

/// A compare-and-swap under way, with the value that the guest has seen last.
pub struct Cas {
    bucket: BucketName,
    key: String,
    seen: ValueTag,
}

/// Why a call did not do what the guest asked. All but `Handle` become the guest's error.
#[derive(Debug, thiserror::Error)]
pub enum KeyvalueError {
    /// The guest's: no bucket can have that name.
    #[error("there is no such store")]
    NoSuchStore,
    /// The guest's, or of whoever wrote its manifest: the bucket is not granted.
    #[error("access to the store is not granted")]
    AccessDenied,
    /// The guest's: too many handles.
    #[error("{MAX_OPEN_HANDLES} handles are open, which is the limit; drop one first")]
    TooManyHandles,
    /// The guest's limits, or our disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The guest's: a handle that it does not own. Traps.
    #[error("bad handle of a bucket: {0}")]
    Handle(#[from] ResourceTableError),
}

type Result<T, E = KeyvalueError> = std::result::Result<T, E>;

impl KeyvalueView<'_> {
    fn bucket(&self, bucket: &Resource<Bucket>) -> Result<BucketName> {
        Ok(self.table.get(bucket)?.name.clone())
    }

    fn hold<T: Send + 'static>(&mut self, handle: T) -> Result<Resource<T>> {
        if self.ctx.open_handles >= MAX_OPEN_HANDLES {
            return Err(KeyvalueError::TooManyHandles);
        }
        let resource = self.table.push(handle)?;
        self.ctx.open_handles += 1;
        Ok(resource)
    }

    fn release<T: 'static>(&mut self, handle: Resource<T>) -> Result<T, ResourceTableError> {
        let handle = self.table.delete(handle)?;
        self.ctx.open_handles -= 1;
        Ok(handle)
    }
}

impl store::Host for KeyvalueView<'_> {
    fn open(&mut self, identifier: String) -> Result<Resource<Bucket>> {
        let name = BucketName::new(&identifier).map_err(|_| KeyvalueError::NoSuchStore)?;
        if !self.ctx.grants.allow(&name) {
            return Err(KeyvalueError::AccessDenied);
        }
        self.hold(Bucket { name })
    }

    fn convert_error(&mut self, error: KeyvalueError) -> wasmtime::Result<store::Error> {
        Ok(match error {
            KeyvalueError::NoSuchStore => store::Error::NoSuchStore,
            KeyvalueError::AccessDenied => store::Error::AccessDenied,
            error @ (KeyvalueError::TooManyHandles | KeyvalueError::Store(_)) => {
                store::Error::Other(error.to_string())
            }
            KeyvalueError::Handle(error) => return Err(error.into()),
        })
    }
}

impl store::HostBucket for KeyvalueView<'_> {
    fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Option<Vec<u8>>> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.ctx.store.get(&bucket, &key)?)
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Result<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.ctx.store.set(&bucket, key, value).await?)
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Result<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.ctx.store.delete(&bucket, key).await?)
    }

    fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Result<bool> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.ctx.store.exists(&bucket, &key)?)
    }

    fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<String>,
    ) -> Result<store::KeyResponse> {
        let bucket = self.bucket(&bucket)?;
        let page = self
            .ctx
            .store
            .list_keys(&bucket, cursor.as_deref(), MAX_PAGE_KEYS)?;
        Ok(store::KeyResponse {
            keys: page.keys,
            cursor: page.next,
        })
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.release(bucket)?;
        Ok(())
    }
}

impl batch::Host for KeyvalueView<'_> {
    fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>> {
        let bucket = self.bucket(&bucket)?;
        let values = self.ctx.store.get_many(&bucket, &keys)?;
        Ok(keys
            .into_iter()
            .zip(values)
            .map(|(key, value)| value.map(|value| (key, value)))
            .collect())
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        pairs: Vec<(String, Vec<u8>)>,
    ) -> Result<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.ctx.store.set_many(&bucket, pairs).await?)
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Result<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.ctx.store.delete_many(&bucket, keys).await?)
    }
}

impl atomics::Host for KeyvalueView<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> Result<i64> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.ctx.store.increment(&bucket, key, delta).await?)
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<std::result::Result<(), atomics::CasError>> {
        let Cas { bucket, key, seen } = self.release(cas)?;
        let store = &self.ctx.store;
        let outcome: Result<_> = match store.swap(&bucket, key.clone(), seen, value).await {
            Ok(true) => return Ok(Ok(())),
            Ok(false) => {
                tag(store, &bucket, &key).and_then(|seen| self.hold(Cas { bucket, key, seen }))
            }
            Err(error) => Err(error.into()),
        };
        Ok(Err(match outcome {
            Ok(retry) => atomics::CasError::CasFailed(retry),
            Err(error) => atomics::CasError::StoreError(store::Host::convert_error(self, error)?),
        }))
    }
}

impl atomics::HostCas for KeyvalueView<'_> {
    fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Resource<Cas>> {
        let bucket = self.bucket(&bucket)?;
        let seen = tag(&self.ctx.store, &bucket, &key)?;
        self.hold(Cas { bucket, key, seen })
    }

    /// The value as it is now; from here on it is the one that the swap expects.
    fn current(&mut self, cas: Resource<Cas>) -> Result<Option<Vec<u8>>> {
        let cas = self.table.get_mut(&cas)?;
        let value = self.ctx.store.get(&cas.bucket, &cas.key)?;
        cas.seen = ValueTag::of(value.as_deref());
        Ok(value)
    }

    fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.release(cas)?;
        Ok(())
    }
}

fn tag(store: &Store, bucket: &BucketName, key: &str) -> Result<ValueTag> {
    Ok(ValueTag::of(store.get(bucket, key)?.as_deref()))
}

#[cfg(test)]
#[path = "keyvalue_tests.rs"]
mod tests;
