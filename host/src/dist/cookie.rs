//! The cluster's shared secret: where it comes from and the key made of it.
//!
//! Contract: the cookie itself never leaves this module, is never sent and never printed;
//! links use [`Cookie::key`]. Does not know how links prove that they have it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};

/// The file in the home folder that holds the cookie unless another is named.
pub const FILE_NAME: &str = ".wasm-node.cookie";

/// The longest cookie, in bytes. Longer ones are refused.
const MAX_COOKIE_BYTES: usize = 4096;

/// What makes a guess at a short cookie dear: memory in KiB, and passes.
const ARGON2_MEMORY_KIB: u32 = 19 * 1024;
const ARGON2_PASSES: u32 = 2;

/// The same for all nodes, as nothing else is known to both ends of a link beforehand.
const ARGON2_SALT: &[u8] = b"wasm-node distribution cookie v1";

/// A key made of a cookie. As secret as the cookie itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cookie {
    key: [u8; 32],
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(..)")
    }
}

/// Where a cookie comes from. The user's choice.
#[derive(Clone, PartialEq, Eq)]
pub enum CookieSource {
    /// Given in words (`--cookie`).
    Text(String),
    /// In a file (`--cookie-file`), which must exist.
    File(PathBuf),
    /// In [`FILE_NAME`] in this home folder; made, with 256 random bits, if there is none.
    Home(PathBuf),
}

impl fmt::Debug for CookieSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => write!(f, "File({path:?})"),
            Self::Home(path) => write!(f, "Home({path:?})"),
        }
    }
}

/// Why there is no cookie. The user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum CookieError {
    /// Nothing, or nothing but blanks.
    #[error("the cookie {0} is empty: give the same secret text to all nodes of the cluster")]
    Empty(String),
    /// Longer than 4096 bytes.
    #[error("the cookie {0} is longer than {MAX_COOKIE_BYTES} bytes")]
    TooLong(String),
    /// Not readable.
    #[error("the cookie file {0} cannot be read: {1}")]
    Read(PathBuf, io::Error),
    /// Others may read it.
    #[error(
        "the cookie file {path} may be read by others (mode {mode:03o}): run `chmod 600 {path}`"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to another user.
    #[error(
        "the cookie file {path} belongs to another user (uid {owner}, this is uid {me}): use one of your own with --cookie-file"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user that this node runs as.
        me: u32,
    },
    /// It could not be made.
    #[error("no cookie file {0} could be made: {1}; name one with --cookie-file, or give --cookie")]
    Create(PathBuf, io::Error),
}

impl Cookie {
    /// Reads the cookie, making it where `source` says so, and derives the key. Takes tens of
    /// milliseconds and 19 MiB: call it once a process, off the async threads.
    pub fn load(source: &CookieSource) -> Result<Self, CookieError> {
        match source {
            CookieSource::Text(text) => Self::from_text(text, "given"),
            CookieSource::File(path) => {
                Self::from_text(&read(path)?, &format!("in {}", path.display()))
            }
            CookieSource::Home(home) => {
                let path = home.join(FILE_NAME);
                if !path.exists() {
                    create(&path).map_err(|e| CookieError::Create(path.clone(), e))?;
                }
                Self::from_text(&read(&path)?, &format!("in {}", path.display()))
            }
        }
    }

    /// The key of this cookie, which both ends of a link must have.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// What may be shown of it: the same for the same cookie. It takes the slow hash to try a
    /// guess against it.
    pub fn fingerprint(&self) -> String {
        let hash = blake3::derive_key("wasm-node cookie fingerprint 1", &self.key);
        hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Without the slow hash, which tests of links need not wait for.
    #[cfg(test)]
    pub(crate) fn for_tests(text: &str) -> Self {
        let mut key = [0; 32];
        key[..text.len()].copy_from_slice(text.as_bytes());
        Self { key }
    }

    fn from_text(text: &str, place: &str) -> Result<Self, CookieError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(CookieError::Empty(place.into()));
        }
        if text.len() > MAX_COOKIE_BYTES {
            return Err(CookieError::TooLong(place.into()));
        }
        let mut key = [0; 32];
        let params =
            Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, 1, Some(key.len())).unwrap_or_default();
        // Fails on lengths out of range only, and these are all checked or constant.
        let hashed = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
            text.as_bytes(),
            ARGON2_SALT,
            &mut key,
        );
        hashed.map_err(|_| CookieError::TooLong(place.into()))?;
        Ok(Self { key })
    }
}

fn read(path: &Path) -> Result<String, CookieError> {
    let failed = |e| CookieError::Read(path.into(), e);
    let file = File::open(path).map_err(failed)?;
    // Of the open file, not of the path, which may point elsewhere by now.
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CookieError::Exposed {
            path: path.into(),
            mode,
        });
    }
    // SAFETY: has no preconditions and cannot fail.
    let me = unsafe { libc::geteuid() };
    if metadata.uid() != me && me != 0 {
        return Err(CookieError::Foreign {
            path: path.into(),
            owner: metadata.uid(),
            me,
        });
    }
    let mut text = String::new();
    let limit = MAX_COOKIE_BYTES as u64 + 64;
    file.take(limit).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Makes the file with its content and mode in one step, so that nodes that start together
/// agree on one cookie and none reads half of it.
fn create(path: &Path) -> io::Result<()> {
    let secret: [u8; 32] = rand::random();
    let text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let draft = path.with_extension(format!(
        "cookie.{}.{:08x}",
        std::process::id(),
        rand::random::<u32>()
    ));
    let made = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        // Unlike a rename, a link never replaces what another node made meanwhile.
        std::fs::hard_link(&draft, path)
    };
    let linked = made();
    let _ = std::fs::remove_file(&draft);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_once_and_private() {
        let home = tempfile::tempdir().unwrap();
        let source = CookieSource::Home(home.path().into());
        let loads: Vec<_> = (0..4)
            .map(|_| {
                let source = source.clone();
                std::thread::spawn(move || Cookie::load(&source).unwrap())
            })
            .collect();
        let cookies: Vec<_> = loads.into_iter().map(|load| load.join().unwrap()).collect();
        assert!(
            cookies.iter().all(|cookie| *cookie == cookies[0]),
            "nodes that start together agree"
        );
        let path = home.path().join(FILE_NAME);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim().len(), 64);
        assert_eq!(
            std::fs::read_dir(home.path()).unwrap().count(),
            1,
            "no drafts are left"
        );
    }

    #[test]
    fn exposed_empty_or_missing_files_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("cookie");
        let source = CookieSource::File(path.clone());
        assert!(matches!(Cookie::load(&source), Err(CookieError::Read(..))));
        std::fs::write(&path, "secret").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let error = Cookie::load(&source).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
        let text = CookieSource::Text("secret".into());
        assert!(
            Cookie::load(&source).unwrap() == Cookie::load(&text).unwrap(),
            "the same secret, the same key"
        );
        let empty = CookieSource::Text(" \n".into());
        assert!(matches!(Cookie::load(&empty), Err(CookieError::Empty(_))));
    }

    #[test]
    fn does_not_print_itself() {
        let source = CookieSource::Text("hunter2".into());
        let printed = format!("{source:?} {:?}", Cookie::load(&source).unwrap());
        assert_eq!(printed, "Text(..) Cookie(..)");
    }
}
