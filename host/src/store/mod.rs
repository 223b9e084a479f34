//! Durable buckets of keys and values in one file.
//!
//! A write is on the disk before it is acknowledged. Writers share commits: one thread owns
//! all writing, takes every write that waits and syncs the file once for all of them. Reads
//! go straight to the last commit and never wait for the writer. Buckets are separated by
//! name; who may open which is decided with [`BucketGrants`] and enforced by whoever hands
//! buckets out. This module knows nothing of guests, actors or other nodes.

mod bucket;
mod error;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use redb::{Database, DatabaseError, ReadOnlyTable, ReadableDatabase, TableDefinition};
use tokio::sync::mpsc;

pub use self::{
    bucket::{BucketGrants, BucketName, MAX_BUCKET_NAME_BYTES},
    error::StoreError,
};
use self::{
    error::failed,
    writer::{Answer, Op, WriteQueue},
};

/// Longest key; a longer one is refused.
pub const MAX_KEY_BYTES: usize = 4 * 1024;
/// Longest value; a longer one is refused.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// Most pairs or keys in one `*_many` call; a longer batch is refused.
pub const MAX_BATCH_KEYS: usize = 4096;
/// Most bytes of keys and values that one call may write or get; more is refused.
pub const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Most keys on one page of [`Store::list_keys`]; the rest is on the next page.
pub const MAX_PAGE_KEYS: usize = 1000;
/// Most bytes of keys on one page of [`Store::list_keys`]; the rest is on the next page.
pub const MAX_PAGE_BYTES: usize = 256 * 1024;
/// Most writes that wait for a commit, and most that share one; the next sender waits.
pub const MAX_QUEUED_WRITES: usize = 1024;
/// Most bytes of keys and values that wait for a commit; the next sender waits.
pub const MAX_QUEUED_BYTES: usize = 64 * 1024 * 1024;
/// Memory for pages of the file; beyond it they are read again.
const PAGE_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// All pairs of all buckets, by (bucket, key): a bucket's keys lie together, in byte order.
const PAIRS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("pairs");

/// A handle to the store in one file. Clones share it; the last one to go waits for the
/// writes in the queue and closes the file.
#[derive(Clone)]
pub struct Store {
    // Declared before `inner`, so that the last handle's queue ends before it joins the writer.
    writes: WriteQueue,
    inner: Arc<Inner>,
}

struct Inner {
    db: Arc<Database>,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

/// One page of a bucket's keys, in byte order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<String>,
    /// The last key here, if there are more: pass it as `after` to get the next page.
    pub next: Option<String>,
}

/// What a compare-and-swap compares: the digest of the value that a key had, or its absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueTag(Option<blake3::Hash>);

impl ValueTag {
    /// The tag of that value; `None` is an absent key.
    pub fn of(value: Option<&[u8]>) -> Self {
        Self(value.map(blake3::hash))
    }
}

impl Store {
    /// Opens the store in the file at `path`, creating file and folder if need be (mode 0600),
    /// and starts its writer thread. Blocks; after a crash it checks the file first.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let cannot = |error: std::io::Error| StoreError::Open {
            path: path.into(),
            cause: error.to_string(),
        };
        create_file(path).map_err(cannot)?;
        let database = Database::builder()
            .set_cache_size(PAGE_CACHE_BYTES)
            .create(path)
            .map_err(|error| open_error(path, error))?;
        Self::start(database, path)
    }

    fn start(database: Database, path: &Path) -> Result<Self, StoreError> {
        let db = Arc::new(database);
        writer::create_table(&db).map_err(failed)?;
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_WRITES);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn({
                let db = db.clone();
                move || writer::run(&db, receiver)
            })
            .map_err(|error| StoreError::Open {
                path: path.into(),
                cause: format!("cannot start the writer thread: {error}"),
            })?;
        Ok(Self {
            writes: WriteQueue::new(sender),
            inner: Arc::new(Inner {
                db,
                writer: Some(writer),
            }),
        })
    }

    /// The key's value as of the last commit. Like all reads it may touch the disk, for some
    /// microseconds as a rule, and sees every write that was acknowledged before it began.
    pub fn get(&self, bucket: &BucketName, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        check_key(key)?;
        let pairs = self.pairs()?;
        let value = pairs.get((bucket.as_str(), key)).map_err(failed)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    /// Whether the key has a value.
    pub fn exists(&self, bucket: &BucketName, key: &str) -> Result<bool, StoreError> {
        check_key(key)?;
        let pairs = self.pairs()?;
        Ok(pairs.get((bucket.as_str(), key)).map_err(failed)?.is_some())
    }

    /// The keys' values, all as of the same commit, in the order asked.
    pub fn get_many(
        &self,
        bucket: &BucketName,
        keys: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        check_batch(keys.iter().map(|key| (key.as_str(), 0)))?;
        let pairs = self.pairs()?;
        let mut bytes = 0;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let value = pairs
                .get((bucket.as_str(), key.as_str()))
                .map_err(failed)?
                .map(|value| value.value().to_vec());
            bytes += value.as_ref().map_or(0, Vec::len);
            if bytes > MAX_BATCH_BYTES {
                return Err(StoreError::BatchBytes { bytes });
            }
            values.push(value);
        }
        Ok(values)
    }

    /// Up to `limit` keys (at most [`MAX_PAGE_KEYS`]) that come after `after` in byte order.
    /// `after` need not be a key, so paging survives deletions.
    pub fn list_keys(
        &self,
        bucket: &BucketName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<KeyPage, StoreError> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let start = match after {
            Some(key) => {
                check_key(key)?;
                Excluded((bucket.as_str(), key))
            }
            None => Included((bucket.as_str(), "")),
        };
        let limit = limit.clamp(1, MAX_PAGE_KEYS);
        let pairs = self.pairs()?;
        let range = pairs
            .range::<(&str, &str)>((start, Unbounded))
            .map_err(failed)?;
        let mut page = KeyPage::default();
        let mut bytes = 0;
        for pair in range {
            let (key, _) = pair.map_err(failed)?;
            let (owner, key) = key.value();
            if owner != bucket.as_str() {
                break;
            }
            if page.keys.len() == limit || bytes + key.len() > MAX_PAGE_BYTES {
                page.next = page.keys.last().cloned();
                break;
            }
            bytes += key.len();
            page.keys.push(key.to_owned());
        }
        Ok(page)
    }

    /// Sets the key's value. When this returns, the write is on the disk. As with every write
    /// here: dropping the future does not undo one that is already queued, writes of one
    /// caller that awaits each take effect in that order, and after [`StoreError::Failed`]
    /// it may or may not be stored.
    pub async fn set(
        &self,
        bucket: &BucketName,
        key: String,
        value: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.set_many(bucket, vec![(key, value)]).await
    }

    /// Removes the key; one that is absent is no error.
    pub async fn delete(&self, bucket: &BucketName, key: String) -> Result<(), StoreError> {
        self.delete_many(bucket, vec![key]).await
    }

    /// Sets all pairs, in order and in one commit: after a crash all are there or none.
    pub async fn set_many(
        &self,
        bucket: &BucketName,
        pairs: Vec<(String, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        let bytes = check_batch(pairs.iter().map(|(key, value)| (key.as_str(), value.len())))?;
        self.write(bucket, Op::Set(pairs), bytes).await.map(drop)
    }

    /// Removes all those keys in one commit.
    pub async fn delete_many(
        &self,
        bucket: &BucketName,
        keys: Vec<String>,
    ) -> Result<(), StoreError> {
        let bytes = check_batch(keys.iter().map(|key| (key.as_str(), 0)))?;
        self.write(bucket, Op::Delete(keys), bytes).await.map(drop)
    }

    /// Adds to the decimal number under the key, which counts as 0 while absent, and returns
    /// the sum. Atomic. Refused if the value is no such number or the sum leaves `i64`.
    pub async fn increment(
        &self,
        bucket: &BucketName,
        key: String,
        delta: i64,
    ) -> Result<i64, StoreError> {
        let bytes = check_batch([(key.as_str(), 0)])?;
        match self
            .write(bucket, Op::Increment { key, delta }, bytes)
            .await?
        {
            Answer::Sum(sum) => Ok(sum),
            Answer::Done | Answer::Stale => Err(StoreError::Closed),
        }
    }

    /// Sets the key's value if its present one still has the tag `seen`. Atomic. `false`: it
    /// has changed, and nothing was written.
    pub async fn swap(
        &self,
        bucket: &BucketName,
        key: String,
        seen: ValueTag,
        value: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let bytes = check_batch([(key.as_str(), value.len())])?;
        let op = Op::Swap { key, seen, value };
        Ok(!matches!(
            self.write(bucket, op, bytes).await?,
            Answer::Stale
        ))
    }

    async fn write(&self, bucket: &BucketName, op: Op, bytes: usize) -> Result<Answer, StoreError> {
        self.writes.write(bucket.clone(), op, bytes).await
    }

    fn pairs(
        &self,
    ) -> Result<ReadOnlyTable<(&'static str, &'static str), &'static [u8]>, StoreError> {
        let transaction = self.inner.db.begin_read().map_err(failed)?;
        transaction.open_table(PAIRS).map_err(failed)
    }
}

/// Makes the file, and syncs the folder: a new file's name is not durable before that.
fn create_file(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    std::fs::create_dir_all(&folder)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => File::open(folder)?.sync_all(),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.into() },
        error => StoreError::Open {
            path: path.into(),
            cause: error.to_string(),
        },
    }
}

fn check_key(key: &str) -> Result<(), StoreError> {
    if key.len() > MAX_KEY_BYTES {
        return Err(StoreError::KeyTooLong { bytes: key.len() });
    }
    Ok(())
}

/// Checks each (key, length of the value) and the whole against the limits; returns the bytes.
fn check_batch<'a>(pairs: impl IntoIterator<Item = (&'a str, usize)>) -> Result<usize, StoreError> {
    let (mut count, mut bytes) = (0, 0);
    for (key, value_bytes) in pairs {
        check_key(key)?;
        if value_bytes > MAX_VALUE_BYTES {
            return Err(StoreError::ValueTooLong { bytes: value_bytes });
        }
        count += 1;
        bytes += key.len() + value_bytes;
    }
    if count > MAX_BATCH_KEYS {
        return Err(StoreError::BatchKeys { keys: count });
    }
    if bytes > MAX_BATCH_BYTES {
        return Err(StoreError::BatchBytes { bytes });
    }
    Ok(bytes)
}
