//! Components on disk under their digests.
//!
//! A file is complete or not there, whatever crashes: bytes go to a temporary file in the same
//! folder, are synced, and are renamed. Reads verify the digest, so a damaged file is an error
//! and never code. All calls block on the disk; run them off the executor's threads.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use wasm_node_protocol::Digest;

use super::MAX_COMPONENT_BYTES;

/// The folder of components of one node.
#[derive(Debug, Clone)]
pub struct CodeStore {
    folder: PathBuf,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk's or the user's fault.
    #[error("could not {doing} {path}: {source}")]
    Io {
        /// What was tried, as in "read".
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// More than [`MAX_COMPONENT_BYTES`]. The fault of whoever made it.
    #[error(
        "a component of {0} bytes is too large: at most {MAX_COMPONENT_BYTES}; strip its debug sections"
    )]
    TooLarge(u64),
    /// Not the bytes of that digest: the disk is damaged, or a peer lies.
    #[error("{what} should have the digest {expected} but has {found}; it was not used")]
    Digest {
        /// Which file or whose bytes.
        what: String,
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
}

impl CodeStore {
    /// Opens the store in this folder, which is made if needed, readable by its user only.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        create_private_folder(folder).map_err(|source| StoreError::Io {
            doing: "create",
            path: folder.into(),
            source,
        })?;
        Ok(Self {
            folder: folder.into(),
        })
    }

    /// Keeps a component; returns its digest once it is durable. Keeping it again costs a read.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        check_size(bytes.len() as u64)?;
        let digest = Digest::of(bytes);
        // A damaged file of that name is no reason to keep it: it is replaced.
        if !matches!(self.get(digest), Ok(Some(_))) {
            let path = self.path(digest);
            persist(&self.folder, &path, bytes).map_err(|source| StoreError::Io {
                doing: "write",
                path,
                source,
            })?;
        }
        Ok(digest)
    }

    /// Keeps a component that came from elsewhere under a digest it is said to have.
    pub fn put_verified(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        check_size(bytes.len() as u64)?;
        verify(digest, bytes, || "the component received".into())?;
        self.put(bytes).map(|_| ())
    }

    /// The component of this digest, or `None` if it is not here.
    pub fn get(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(digest);
        let bytes = match read_bounded(&path) {
            Ok(bytes) => bytes,
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        verify(digest, &bytes, || path.display().to_string())?;
        Ok(Some(bytes))
    }

    /// Whether a file of this digest is here; it may still turn out to be damaged.
    pub fn contains(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }
}

/// The bytes of a file of at most [`MAX_COMPONENT_BYTES`].
pub(super) fn read_bounded(path: &Path) -> Result<Vec<u8>, StoreError> {
    let io_error = |source| StoreError::Io {
        doing: "read",
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(io_error)?;
    let size = file.metadata().map_err(io_error)?.len();
    check_size(size)?;
    let mut bytes = Vec::with_capacity(size as usize);
    // It may grow while it is read: one byte over the limit is enough to know.
    file.take(MAX_COMPONENT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(io_error)?;
    check_size(bytes.len() as u64)?;
    Ok(bytes)
}

/// Writes a file in one step: after a crash it is the old one, none, or the new one.
pub(super) fn persist(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename itself is durable once the folder is.
    File::open(folder)?.sync_all()
}

/// Makes a folder, and those above it, that nobody but this user may enter.
pub(super) fn create_private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

fn check_size(bytes: u64) -> Result<(), StoreError> {
    if bytes > MAX_COMPONENT_BYTES as u64 {
        return Err(StoreError::TooLarge(bytes));
    }
    Ok(())
}

fn verify(expected: Digest, bytes: &[u8], what: impl FnOnce() -> String) -> Result<(), StoreError> {
    let found = Digest::of(bytes);
    if found != expected {
        return Err(StoreError::Digest {
            what: what(),
            expected,
            found,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn store() -> (tempfile::TempDir, CodeStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = CodeStore::open(&folder.path().join("a/code")).unwrap();
        (folder, store)
    }

    #[test]
    fn what_is_put_is_found_by_digest() {
        let (_folder, store) = store();
        let digest = store.put(b"component").unwrap();
        assert_eq!(digest, Digest::of(b"component"));
        assert_eq!(
            store.get(digest).unwrap().as_deref(),
            Some(&b"component"[..])
        );
        assert_eq!(store.put(b"component").unwrap(), digest);
        assert!(store.contains(digest));
        assert_eq!(store.get(Digest::of(b"other")).unwrap(), None);
        let names: Vec<_> = fs::read_dir(&store.folder).unwrap().collect();
        assert_eq!(names.len(), 1, "temporary files are left: {names:?}");
    }

    #[test]
    fn a_damaged_file_is_an_error_until_put_again() {
        let (_folder, store) = store();
        let digest = store.put(b"component").unwrap();
        fs::write(store.path(digest), b"componenT").unwrap();
        let error = store.get(digest).unwrap_err();
        assert!(matches!(error, StoreError::Digest { expected, .. } if expected == digest));
        store.put(b"component").unwrap();
        assert!(store.get(digest).unwrap().is_some());
    }

    #[test]
    fn a_peers_lie_is_not_kept() {
        let (_folder, store) = store();
        let digest = Digest::of(b"honest");
        assert!(matches!(
            store.put_verified(digest, b"lie"),
            Err(StoreError::Digest { .. })
        ));
        assert!(!store.contains(digest));
        store.put_verified(digest, b"honest").unwrap();
        assert!(store.contains(digest));
    }

    #[test]
    fn a_file_over_the_limit_is_refused_unread() {
        let (_folder, store) = store();
        let path = store.path(Digest::of(b""));
        File::create(&path)
            .unwrap()
            .set_len(MAX_COMPONENT_BYTES as u64 + 1)
            .unwrap();
        assert!(matches!(read_bounded(&path), Err(StoreError::TooLarge(_))));
    }

    #[test]
    fn the_folder_is_private() {
        let (_folder, store) = store();
        let mode = fs::metadata(&store.folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
