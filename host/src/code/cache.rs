//! Compiled code on disk, so that a node that starts again need not compile again.
//!
//! Loading machine code runs it, so a file is only loaded if it is what this node's user wrote
//! here: the folder is private, the file is owned by the user and not writable by others, and
//! its bytes have the digest noted beside it. Compiled code never comes from, nor goes to,
//! another node. A file that fails any of this is compiled anew and replaced; a cache that
//! cannot be written costs time and nothing else.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use wasm_node_protocol::Digest;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::bulk::in_pieces;
use super::store::{StoreError, create_private_folder, persist};

/// The largest compiled component that is cached, in bytes; a larger one is compiled each time.
pub const MAX_COMPILED_BYTES: u64 = 1024 * 1024 * 1024;

/// The folder of compiled code of one node, for one engine and those compatible with it.
#[derive(Debug, Clone)]
pub struct CompileCache {
    folder: PathBuf,
}

/// Why code does not compile. The fault of whoever made it.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Says where in the component and why.
    #[error("module {digest} does not compile: {reason}")]
    Invalid {
        /// Its digest.
        digest: Digest,
        /// What the compiler says.
        reason: String,
    },
}

impl CompileCache {
    /// Opens the cache in this folder for this engine, and for those that are compatible. What
    /// is missing is made, readable by its user only.
    pub fn open(folder: &Path, engine: &Engine) -> Result<Self, StoreError> {
        let folder = folder.join(compatibility(engine));
        create_private_folder(&folder).map_err(|source| StoreError::Io {
            doing: "create",
            path: folder.clone(),
            source,
        })?;
        Ok(Self { folder })
    }

    /// The code of these bytes, from the cache or else compiled and then cached. Blocks
    /// for as long as compiling takes, seconds for large components: call it on a thread for
    /// that.
    pub fn load_or_compile<C: Code>(
        &self,
        engine: &Engine,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<C, CompileError> {
        let entry = Entry::new(&self.folder, digest, C::EXTENSION);
        match entry.load(engine) {
            Ok(Some(code)) => return Ok(code),
            Ok(None) => {}
            Err(Unusable(why)) => {
                tracing::warn!(path = %entry.code.display(), "compiled code not used: {why}");
            }
        }
        let code =
            C::compile(engine, &in_pieces(bytes)).map_err(|error| CompileError::Invalid {
                digest,
                reason: format!("{error:#}"),
            })?;
        if let Err(Unusable(why)) = entry.save(&code) {
            tracing::warn!(path = %entry.code.display(), "compiled code not kept: {why}");
        }
        Ok(code)
    }
}

/// What can be compiled and kept: a component, or a core module.
pub trait Code: Sized {
    /// Tells its files from those of the other kind.
    const EXTENSION: &'static str;
    /// Compiles it.
    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self>;
    /// As bytes, for [`Self::load`].
    fn serialize(&self) -> wasmtime::Result<Vec<u8>>;
    /// From what [`Self::serialize`] wrote into a file.
    ///
    /// # Safety
    /// The file holds exactly that, and does not change while the code lives.
    unsafe fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Self>;
}

impl Code for Component {
    // With a number that changes with what `bulk` makes of the same component.
    const EXTENSION: &'static str = "2.cwasm";
    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self> {
        Self::from_binary(engine, bytes)
    }
    fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        Component::serialize(self)
    }
    unsafe fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Self> {
        // SAFETY: the caller's.
        unsafe { Self::deserialize_file(engine, path) }
    }
}

impl Code for Module {
    // As above, and with what `wasm::unbundle` makes of it.
    const EXTENSION: &'static str = "core2.cwasm";
    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self> {
        Self::from_binary(engine, bytes)
    }
    fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        Module::serialize(self)
    }
    unsafe fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Self> {
        // SAFETY: the caller's.
        unsafe { Self::deserialize_file(engine, path) }
    }
}

/// Why a cached file is not used or kept, in words.
struct Unusable(String);

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

struct Entry {
    folder: PathBuf,
    code: PathBuf,
    /// Holds the digest of `code`'s bytes.
    check: PathBuf,
}

impl Entry {
    fn new(folder: &Path, digest: Digest, extension: &str) -> Self {
        Self {
            code: folder.join(format!("{digest}.{extension}")),
            check: folder.join(format!("{digest}.{extension}.check")),
            folder: folder.into(),
        }
    }

    fn load<C: Code>(&self, engine: &Engine) -> Result<Option<C>, Unusable> {
        let check = match fs::read_to_string(&self.check) {
            Ok(check) => check,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let expected: Digest = check
            .trim()
            .parse()
            .map_err(|()| Unusable("its digest is damaged".into()))?;
        self.require_private()?;
        if Digest::of(&fs::read(&self.code)?) != expected {
            return Err(Unusable("its bytes do not have their digest".into()));
        }
        // SAFETY: deserialising is sound for unmodified output of `Code::serialize` of a
        // compatible engine. That the engine is compatible is checked by wasmtime, from what
        // it wrote into the file, and holds already by the folder's name. That the bytes are unmodified output follows from the
        // digest written by `save`, given that nobody else could write here: the folder and
        // the files belong to this user and are closed to others, checked above. Nothing
        // here changes a file in place, so the mapping stays what it is.
        match unsafe { C::load(engine, &self.code) } {
            Ok(code) => Ok(Some(code)),
            Err(error) => Err(Unusable(format!("{error:#}"))),
        }
    }

    fn save(&self, code: &impl Code) -> Result<(), Unusable> {
        let code = code
            .serialize()
            .map_err(|error| Unusable(format!("{error:#}")))?;
        if code.len() as u64 > MAX_COMPILED_BYTES {
            return Err(Unusable(format!("{} bytes are too many", code.len())));
        }
        // The digest goes last: without it the code is not looked at. With the digest of
        // earlier bytes, after a crash in between, it is found wrong and compiled again.
        persist(&self.folder, &self.code, &code)?;
        persist(
            &self.folder,
            &self.check,
            Digest::of(&code).to_string().as_bytes(),
        )?;
        Ok(())
    }

    fn require_private(&self) -> Result<(), Unusable> {
        // SAFETY: takes nothing and cannot fail.
        let user = unsafe { libc::geteuid() };
        let folder = fs::metadata(&self.folder)?;
        if folder.uid() != user || folder.mode() & 0o077 != 0 {
            return Err(Unusable("its folder is not private to this user".into()));
        }
        for path in [&self.code, &self.check] {
            let file = fs::symlink_metadata(path)?;
            if !file.is_file() || file.uid() != user || file.mode() & 0o022 != 0 {
                return Err(Unusable(format!(
                    "{} may be written by others",
                    path.display()
                )));
            }
            if file.len() > MAX_COMPILED_BYTES {
                return Err(Unusable(format!("{} is too large", path.display())));
            }
        }
        Ok(())
    }
}

/// What must be equal for compiled code to be loadable, in hex.
fn compatibility(engine: &Engine) -> String {
    struct Blake3(blake3::Hasher);
    impl Hasher for Blake3 {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            let [a, b, c, d, e, f, g, h, ..] = *self.0.finalize().as_bytes();
            u64::from_le_bytes([a, b, c, d, e, f, g, h])
        }
    }
    let mut hasher = Blake3(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Two components that differ, made by the same encoder as `wasm-node build`'s.
    fn wasm(number: u8) -> Vec<u8> {
        // A component whose one core module exports a function that returns `number`.
        let core = [
            b"\0asm\x01\0\0\0".as_slice(),
            &[1, 5, 1, 0x60, 0, 1, 0x7f],
            &[3, 2, 1, 0],
            &[7, 5, 1, 1, b'f', 0, 0],
            &[10, 6, 1, 4, 0, 0x41, number, 0x0b],
        ]
        .concat();
        let mut bytes = b"\0asm\x0d\0\x01\0\x01".to_vec();
        bytes.push(core.len() as u8);
        bytes.extend(core);
        bytes
    }

    struct Rig {
        folder: tempfile::TempDir,
        engine: Engine,
        bytes: Vec<u8>,
        digest: Digest,
    }

    impl Rig {
        fn new() -> Self {
            let bytes = wasm(7);
            let digest = Digest::of(&bytes);
            Self {
                folder: tempfile::tempdir().unwrap(),
                engine: Engine::default(),
                bytes,
                digest,
            }
        }

        fn load(&self) -> Result<Component, CompileError> {
            self.cache()
                .load_or_compile(&self.engine, self.digest, &self.bytes)
        }

        fn cache(&self) -> CompileCache {
            CompileCache::open(&self.folder.path().join("compiled"), &self.engine).unwrap()
        }

        fn entry(&self) -> Entry {
            Entry::new(&self.cache().folder, self.digest, Component::EXTENSION)
        }

        fn is_cached(&self) -> bool {
            matches!(self.entry().load::<Component>(&self.engine), Ok(Some(_)))
        }
    }

    #[test]
    fn compiled_once_then_loaded() {
        let rig = Rig::new();
        assert!(!rig.is_cached());
        rig.load().unwrap();
        assert!(rig.is_cached());
        let inode = fs::metadata(rig.entry().code).unwrap().ino();
        rig.load().unwrap();
        assert_eq!(
            fs::metadata(rig.entry().code).unwrap().ino(),
            inode,
            "compiled twice"
        );
    }

    #[test]
    fn damaged_code_is_compiled_again() {
        let rig = Rig::new();
        rig.load().unwrap();
        let mut code = fs::read(rig.entry().code).unwrap();
        let middle = code.len() / 2;
        code[middle] ^= 1;
        for damaged in [&code[..], &code[..middle], b""] {
            fs::write(rig.entry().code, damaged).unwrap();
            assert!(!rig.is_cached());
            rig.load().unwrap();
            assert!(rig.is_cached());
        }
        fs::write(rig.entry().check, "nonsense").unwrap();
        assert!(!rig.is_cached());
        rig.load().unwrap();
        assert!(rig.is_cached());
    }

    #[test]
    fn code_that_others_could_have_written_is_not_loaded() {
        let rig = Rig::new();
        rig.load().unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&rig.entry().code, 0o666);
        assert!(!rig.is_cached());
        mode(&rig.entry().code, 0o600);
        assert!(rig.is_cached());
        let entry = rig.entry();
        mode(&entry.folder, 0o755);
        assert!(entry.load::<Component>(&rig.engine).is_err());
    }

    #[test]
    fn engines_that_differ_do_not_share_code() {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let other = Engine::new(&config).unwrap();
        assert_ne!(compatibility(&Engine::default()), compatibility(&other));
        assert_eq!(
            compatibility(&Engine::default()),
            compatibility(&Engine::default())
        );
    }

    #[test]
    fn invalid_code_says_why_and_is_not_cached() {
        let mut rig = Rig::new();
        rig.bytes.truncate(rig.bytes.len() - 3);
        rig.digest = Digest::of(&rig.bytes);
        let error = rig.load().err().unwrap().to_string();
        assert!(error.contains("does not compile"), "{error}");
        assert!(!rig.is_cached());
    }
}
