//! What can go wrong with the store, and whose fault it is.

use std::path::PathBuf;

use super::{
    MAX_BATCH_BYTES, MAX_BATCH_KEYS, MAX_BUCKET_NAME_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES,
};

/// Why the store could not be opened, or did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The user's: the file cannot be used.
    #[error(
        "cannot open the store {}: {cause}; check the path, its permissions and the disk, \
         or name another file",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// The reason.
        cause: String,
    },
    /// The user's: another process, most likely another node, has the file open.
    #[error(
        "cannot open the store {}: another process has it open; stop that node or give \
         this one a file of its own",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The caller's: not the name of a bucket.
    #[error("a bucket's name has 1 to {MAX_BUCKET_NAME_BYTES} bytes, this one has {bytes}")]
    BucketName {
        /// Its length.
        bytes: usize,
    },
    /// The caller's: a key over the limit.
    #[error("the key has {bytes} bytes, the limit is {MAX_KEY_BYTES}; use a shorter one")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The caller's: a value over the limit.
    #[error("the value has {bytes} bytes, the limit is {MAX_VALUE_BYTES}; split it")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The caller's: too many keys in one call.
    #[error("the batch has {keys} keys, the limit is {MAX_BATCH_KEYS}; split it")]
    BatchKeys {
        /// How many.
        keys: usize,
    },
    /// The caller's: too many bytes in one call, or in its answer.
    #[error("the batch has at least {bytes} bytes, the limit is {MAX_BATCH_BYTES}; split it")]
    BatchBytes {
        /// How many were counted.
        bytes: usize,
    },
    /// The caller's: it increments what is not a number.
    #[error("cannot increment: the key's value is not a decimal number within 64 bits")]
    NotANumber,
    /// The caller's: the sum leaves 64 bits.
    #[error("cannot increment: the sum does not fit in 64 bits")]
    Overflow,
    /// Ours: the writer has ended.
    #[error("the store is closed; open it again")]
    Closed,
    /// Ours, or the disk's. For a write: it may or may not be stored.
    #[error("the store failed: {cause}; check the disk, then restart the node")]
    Failed {
        /// What the database said.
        cause: String,
    },
}

/// A failure of the database below.
pub(super) fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Failed {
        cause: error.into().to_string(),
    }
}
