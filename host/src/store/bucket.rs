//! Names of buckets, and the right to use them.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::StoreError;

/// Longest name of a bucket; a longer one is refused.
pub const MAX_BUCKET_NAME_BYTES: usize = 255;

/// The name of a bucket: any text of 1 to [`MAX_BUCKET_NAME_BYTES`] bytes, never a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BucketName(Arc<str>);

impl BucketName {
    /// Checks the name.
    pub fn new(name: &str) -> Result<Self, StoreError> {
        if name.is_empty() || name.len() > MAX_BUCKET_NAME_BYTES {
            return Err(StoreError::BucketName { bytes: name.len() });
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which buckets somebody may use. Clones share the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BucketGrants {
    /// Every bucket.
    All,
    /// These; by default none.
    Only(Arc<BTreeSet<BucketName>>),
}

impl Default for BucketGrants {
    fn default() -> Self {
        Self::Only(Arc::default())
    }
}

impl FromIterator<BucketName> for BucketGrants {
    fn from_iter<I: IntoIterator<Item = BucketName>>(names: I) -> Self {
        Self::Only(Arc::new(names.into_iter().collect()))
    }
}

impl BucketGrants {
    /// Whether this bucket may be used.
    pub fn allow(&self, bucket: &BucketName) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(bucket),
        }
    }
}
