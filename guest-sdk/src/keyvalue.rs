//! `wasi:keyvalue`: durable storage on this node. Each call waits for the disk, so the actor
//! runs on a stack of its own; keep storage in actors whose job it is. Their module must be granted
//! `keyvalue:BUCKET`, and so must those of the actors above them.

#[allow(missing_docs, clippy::all)]
mod wit {
    wit_bindgen::generate!({
        path: ["../wit/deps/keyvalue", "wit"],
        world: "wasm-node:sdk/storage",
        runtime_path: "wasm_node_sdk::__wit_bindgen_rt",
        disable_run_ctors_once_workaround: true,
        generate_all,
    });
}

use wit::wasi::keyvalue::{batch, store};

/// Why storage failed: there is no such bucket, this module may not open it, or what the store
/// says.
pub use store::Error;

/// An open bucket. A write is durable when it has returned.
pub struct Bucket(store::Bucket);

/// Some of a bucket's keys.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The keys, in the store's order.
    pub keys: Vec<String>,
    /// For the next [`Bucket::list_keys`]; none after the last key.
    pub cursor: Option<String>,
}

impl Bucket {
    /// Opens the bucket of this name.
    pub fn open(name: &str) -> Result<Self, Error> {
        store::open(name).map(Self)
    }

    /// The value of a key, if there is one.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key)
    }

    /// Sets a value.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.0.set(key, value)
    }

    /// Deletes a key, if it is there.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.0.delete(key)
    }

    /// Whether a key is there.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        self.0.exists(key)
    }

    /// Some keys, from the start or from where `cursor` says.
    pub fn list_keys(&self, cursor: Option<&str>) -> Result<Keys, Error> {
        let found = self.0.list_keys(cursor)?;
        Ok(Keys {
            keys: found.keys,
            cursor: found.cursor,
        })
    }

    /// All keys.
    pub fn all_keys(&self) -> Result<Vec<String>, Error> {
        let mut found = self.list_keys(None)?;
        let mut keys = std::mem::take(&mut found.keys);
        while let Some(cursor) = found.cursor.take() {
            found = self.list_keys(Some(&cursor))?;
            keys.append(&mut found.keys);
        }
        Ok(keys)
    }

    /// The values of those keys that are there.
    pub fn get_many(&self, keys: &[String]) -> Result<Vec<(String, Vec<u8>)>, Error> {
        Ok(batch::get_many(&self.0, keys)?
            .into_iter()
            .flatten()
            .collect())
    }

    /// Sets several values, in one commit.
    pub fn set_many(&self, pairs: &[(String, Vec<u8>)]) -> Result<(), Error> {
        batch::set_many(&self.0, pairs)
    }

    /// Deletes several keys, in one commit.
    pub fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        batch::delete_many(&self.0, keys)
    }
}
