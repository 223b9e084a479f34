//! `wasm-node build`: from an actor's source folder to its component.
//!
//! Owns the choice of a way (which language, which toolchain), the run of the tools, and the
//! step from a core module to a component that is checked to be an actor. A build is
//! synchronous and may take minutes: run it off the executor. It deliberately does not know
//! nodes, the code store or the engine: it reads a folder and writes a file.

mod c;
mod command;
mod component;
mod config;
mod contract;
mod js;
mod rust;
mod stamp;
mod toolchain;

use std::path::{Path, PathBuf};

use config::{Config, Language};

pub use component::imports_and_exports;
pub use config::CONFIG_FILE;

/// One actor to build.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The source folder.
    pub dir: PathBuf,
    /// Where the component goes: a file, or an existing folder, which gets `NAME.wasm`. None:
    /// `target/wasm-node/NAME.wasm` in the source folder or, for Rust, in its workspace.
    pub out: Option<PathBuf>,
    /// Optimise. Off only for Rust's debug profile.
    pub release: bool,
    /// Whether missing system packages may be installed (needs root and apt-get).
    pub install_tools: bool,
}

impl BuildOptions {
    /// An optimised build of this folder, installing what it needs where it may.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            out: None,
            release: true,
            install_tools: true,
        }
    }
}

/// What a build is doing, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A step begins: a sentence.
    Step(String),
    /// A line that a tool printed.
    Output(String),
}

/// A finished build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The module's name: the Rust package's, `name` in `wasm-node.toml` or `package.json`, or
    /// else the folder's.
    pub module_name: String,
    /// The component's file.
    pub component_path: PathBuf,
    /// BLAKE3 of the component's bytes, in hex: the version of the code.
    pub digest: String,
    /// Which tools made it, for people.
    pub toolchain: String,
    /// Whether the file was up to date already, and was left alone.
    pub fresh: bool,
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The folder holds no source that we know. The user's.
    #[error(
        "{dir} has nothing to build: expected a Cargo.toml (Rust), a .c file (C), or a package.json or .js file (JavaScript)"
    )]
    NoSource {
        /// The folder.
        dir: PathBuf,
    },
    /// A file could not be read or written. The user's, or the machine's.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried, as in "read".
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// `wasm-node.toml`, `Cargo.toml` or `package.json` says something that cannot be. The user's.
    #[error("{path}: {reason}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// A tool is missing and was not installed. The machine's.
    #[error("building {what} needs {missing}, which this machine lacks. {remedy}")]
    ToolMissing {
        /// As in "Rust actors".
        what: &'static str,
        /// What was looked for.
        missing: String,
        /// The exact command that helps.
        remedy: String,
    },
    /// A tool failed. Mostly the user's source.
    #[error("`{command}` failed ({status}):\n{output}")]
    Tool {
        /// The command line.
        command: String,
        /// Its exit status, or the time-out.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// The compiled code does not make a component. The user's.
    #[error("{path} does not make a component: {reason}")]
    Component {
        /// The core module or component.
        path: PathBuf,
        /// What the encoder said.
        reason: String,
    },
    /// A component, but no actor. The user's.
    #[error(
        "{path} is a component but no actor: it exports {exports}; an actor exports `wasm-node:actor/lifecycle@0.1.0` \
         (world `actor` or `blocking-actor`), an HTTP handler `wasi:http/incoming-handler`"
    )]
    NotAnActor {
        /// The component.
        path: PathBuf,
        /// What it exports, or "nothing".
        exports: String,
    },
    /// The contract in this binary or in the folder's `wit` does not parse. Ours, or the user's.
    #[error("the interfaces in {path} cannot be read: {reason}")]
    Wit {
        /// The folder.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
}

/// Builds one actor's folder.
pub fn build(
    options: BuildOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Built, BuildError> {
    let dir = options.dir.clone();
    let mut built = build_all(std::slice::from_ref(&options), progress)?;
    match built.len() {
        1 => Ok(built.remove(0)),
        0 => Err(BuildError::NoSource { dir }),
        n => Err(BuildError::Manifest {
            path: dir.join("Cargo.toml"),
            reason: format!("this is a workspace of {n} actors; name one of their folders"),
        }),
    }
}

/// Builds several folders, Rust crates of one workspace with one run of cargo; a folder that is
/// such a workspace stands for all its actors. The results are in the order given; the first
/// failure ends it.
pub fn build_all(
    all: &[BuildOptions],
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Built>, BuildError> {
    let mut built: Vec<(usize, Built)> = Vec::new();
    let mut rust = Vec::new();
    for (place, options) in all.iter().enumerate() {
        let dir = canonical(&options.dir)?;
        let config = Config::read(&dir)?;
        match config.language(&dir)? {
            Language::Rust => rust.push(rust::Request {
                place,
                dir,
                config,
                options,
            }),
            Language::C => built.push((place, c::build(&dir, &config, options, progress)?)),
            Language::JavaScript => {
                built.push((place, js::build(&dir, &config, options, progress)?));
            }
        }
    }
    built.extend(rust::build(rust, progress)?);
    built.sort_by_key(|(place, _)| *place);
    Ok(built.into_iter().map(|(_, built)| built).collect())
}

/// The end of each build: checks the component, replaces the file, stamps it. `path` is what an
/// error names.
fn finish(
    built: Built,
    path: &Path,
    component: &[u8],
    stamp: Option<(&Path, &str)>,
) -> Result<Built, BuildError> {
    component::check(component, path)?;
    write_atomically(&built.component_path, component)?;
    let digest = blake3::hash(component).to_hex().to_string();
    if let Some((stamp, inputs)) = stamp {
        stamp::record(stamp, inputs, &digest)?;
    }
    Ok(Built {
        digest,
        fresh: false,
        ..built
    })
}

/// Where the component of `name` goes.
fn out_path(options: &BuildOptions, default_dir: &Path, name: &str) -> PathBuf {
    let file = format!("{name}.wasm");
    match &options.out {
        Some(out) if out.is_dir() => out.join(file),
        Some(out) => out.clone(),
        None => default_dir.join(file),
    }
}

/// `target/wasm-node` of a folder or workspace, made so that git ignores it.
fn work_dir(target: &Path) -> Result<PathBuf, BuildError> {
    let dir = target.join("wasm-node");
    std::fs::create_dir_all(&dir).map_err(|e| io("create", &dir, e))?;
    write(&dir.join(".gitignore"), b"*\n")?;
    Ok(dir)
}

/// Waits until no other build works in a folder; the file returned keeps others out.
fn lock(work: &Path) -> Result<std::fs::File, BuildError> {
    let path = work.join(".lock");
    let open = || {
        let file = std::fs::File::create(&path)?;
        file.lock()?;
        Ok(file)
    };
    open().map_err(|e| io("lock", &path, e))
}

fn io(doing: &'static str, path: &Path, source: std::io::Error) -> BuildError {
    BuildError::Io {
        doing,
        path: path.to_path_buf(),
        source,
    }
}

fn canonical(dir: &Path) -> Result<PathBuf, BuildError> {
    dir.canonicalize()
        .map_err(|e| io("open the folder", dir, e))
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    std::fs::read(path).map_err(|e| io("read", path, e))
}

/// Writes a file unless it has these bytes already, so that its time changes only with it.
fn write(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| io("create", parent, e))?;
    }
    std::fs::write(path, bytes).map_err(|e| io("write", path, e))
}

/// Replaces a file in one step, so that a watcher never sees half a component.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let parent = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|e| io("create", parent, e))?;
    let mut file = tempfile::Builder::new()
        .prefix(".wasm-node-")
        .tempfile_in(parent)
        .map_err(|e| io("write into", parent, e))?;
    std::io::Write::write_all(&mut file, bytes).map_err(|e| io("write", path, e))?;
    // Temporary files are private; a component is as readable as any build product.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o644);
        file.as_file()
            .set_permissions(mode)
            .map_err(|e| io("write", path, e))?;
    }
    file.persist(path).map_err(|e| io("write", path, e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests;
