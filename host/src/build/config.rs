//! `wasm-node.toml`, which a source folder may have, and what a folder's files say without it.

use std::path::Path;

use serde::Deserialize;

use super::{BuildError, io};

/// The name of the optional file.
pub const CONFIG_FILE: &str = "wasm-node.toml";

/// The languages that `wasm-node build` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// A cargo package.
    Rust,
    /// `.c` files.
    C,
    /// A `package.json` or a `.js` file.
    JavaScript,
}

/// The optional file's content. All of it has defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The module's name.
    pub name: Option<String>,
    /// The language, where the files do not tell.
    pub language: Option<Language>,
    /// The world in WIT that the actor is built for, as `actor` (the default) or
    /// `blocking-actor`; with a `wit` folder of its own, a world in there. Rust names its world in
    /// its source instead.
    pub world: Option<String>,
    /// The main file, for JavaScript.
    pub main: Option<String>,
    /// The target triple, for Rust: `wasm32-unknown-unknown` (the default) or `wasm32-wasip1`.
    pub target: Option<String>,
    /// Whether C gets all of WASI (files, sockets, the environment), and with it the adapter:
    /// a bigger, slower actor. Without, `printf`, clocks, randomness and memory work.
    #[serde(default)]
    pub wasi: bool,
    /// The actor's stack, for Rust and C. An overflow traps.
    pub stack_bytes: Option<u32>,
}

impl Config {
    /// Reads `wasm-node.toml` in a folder, or takes the defaults if there is none.
    pub fn read(dir: &Path) -> Result<Self, BuildError> {
        let path = dir.join(CONFIG_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(io("read", &path, e)),
        };
        toml::from_str(&text).map_err(|e| BuildError::Manifest {
            path,
            reason: e.to_string().trim_end().to_owned(),
        })
    }

    /// The language: as set, or as the files say.
    pub fn language(&self, dir: &Path) -> Result<Language, BuildError> {
        if let Some(language) = self.language {
            return Ok(language);
        }
        let has = |extension: &str| !files_with(dir, extension).is_empty();
        if dir.join("Cargo.toml").is_file() {
            Ok(Language::Rust)
        } else if has("c") || !files_with(&dir.join("src"), "c").is_empty() {
            Ok(Language::C)
        } else if dir.join("package.json").is_file() || has("js") || has("mjs") {
            Ok(Language::JavaScript)
        } else {
            Err(BuildError::NoSource {
                dir: dir.to_path_buf(),
            })
        }
    }

    /// The module's name: as set, or the folder's.
    pub fn name(&self, dir: &Path) -> String {
        let folder = || {
            dir.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        self.name.clone().unwrap_or_else(folder)
    }

    /// The world: as set, or `actor`.
    pub fn world(&self) -> &str {
        self.world.as_deref().unwrap_or("actor")
    }
}

/// The files in a folder that end so, sorted; none if there is no such folder.
pub fn files_with(dir: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}
