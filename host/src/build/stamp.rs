//! Stamps: whether an output is still what its inputs make. A stamp is a small file beside the
//! output's working files with the digests of both; deleting it only costs a rebuild.

use std::path::{Path, PathBuf};

use super::{BuildError, io, read, write};

/// A source folder with more files is not stamped, and so rebuilt each time.
pub const MAX_SOURCE_FILES: usize = 20_000;

/// The digest of everything that determines an output.
pub struct Inputs(blake3::Hasher);

impl Inputs {
    /// Starts with this program's version, since another may build otherwise.
    pub fn new() -> Self {
        let mut inputs = Self(blake3::Hasher::new());
        inputs.add(env!("CARGO_PKG_VERSION").as_bytes());
        inputs
    }

    /// Adds one input; its length goes in too, so that neighbours do not run together.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0
            .update(&(bytes.len() as u64).to_le_bytes())
            .update(bytes);
    }

    /// Adds the files under a folder, names and contents, without `target` and dot files.
    /// False: there are more than [`MAX_SOURCE_FILES`].
    pub fn add_folder(&mut self, dir: &Path) -> Result<bool, BuildError> {
        let mut files = Vec::new();
        if !list(dir, &mut files)? {
            return Ok(false);
        }
        files.sort();
        for path in &files {
            self.add(path.as_os_str().as_encoded_bytes());
            self.add(&read(path)?);
        }
        Ok(true)
    }

    /// The digest, in hex.
    pub fn digest(self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// All files under a folder but those of `target` and dot files. False: too many.
pub fn list(dir: &Path, files: &mut Vec<PathBuf>) -> Result<bool, BuildError> {
    for entry in std::fs::read_dir(dir).map_err(|e| io("list", dir, e))? {
        let entry = entry.map_err(|e| io("list", dir, e))?;
        let name = entry.file_name();
        if name == "target" || name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        // Symbolic links count as what they point to, but links to folders could be circular.
        let kind = entry.file_type().map_err(|e| io("list", dir, e))?;
        if kind.is_dir() {
            if !list(&path, files)? {
                return Ok(false);
            }
        } else if path.is_file() {
            files.push(path);
        }
        if files.len() > MAX_SOURCE_FILES {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The digest of `output` if the stamp says that these inputs made exactly its bytes.
pub fn fresh(stamp: &Path, inputs: &str, output: &Path) -> Option<String> {
    let text = std::fs::read_to_string(stamp).ok()?;
    let (old_inputs, old_output) = text.trim_end().split_once(' ')?;
    let bytes = std::fs::read(output).ok()?;
    let digest = blake3::hash(&bytes).to_hex().to_string();
    (old_inputs == inputs && old_output == digest).then_some(digest)
}

/// Records that these inputs made an output of this digest.
pub fn record(stamp: &Path, inputs: &str, output_digest: &str) -> Result<(), BuildError> {
    write(stamp, format!("{inputs} {output_digest}\n").as_bytes())
}
