//! Rust: cargo builds a core module with wit-bindgen's custom section in it, one run of cargo for
//! all crates of a workspace; then each becomes a component.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::config::Config;
use super::toolchain::Rust;
use super::{
    BuildError, BuildOptions, Built, Progress, command, component, finish, out_path, read, stamp,
    work_dir,
};

/// An actor's stack unless it asks for another. Rust's own default, 1 MiB, makes an actor's memory
/// seventeen pages and its start slower; an overflow traps cleanly, for the stack comes first.
const STACK_BYTES: u32 = 32 << 10;

/// One folder with a Cargo.toml.
pub struct Request<'a> {
    /// Its place among all folders.
    pub place: usize,
    /// The folder, canonical.
    pub dir: PathBuf,
    /// Its `wasm-node.toml`.
    pub config: Config,
    /// What was asked for.
    pub options: &'a BuildOptions,
}

/// The part of `cargo metadata` that we read.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    id: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

impl Package {
    fn is_cdylib(&self) -> bool {
        self.targets
            .iter()
            .any(|t| t.crate_types.iter().any(|kind| kind == "cdylib"))
    }
}

/// The part of cargo's messages that we read.
#[derive(Deserialize)]
struct Message {
    reason: String,
    package_id: Option<String>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// One package to build.
struct Job<'a> {
    place: usize,
    id: String,
    name: String,
    options: &'a BuildOptions,
}

/// The jobs by the run of cargo that does them.
type Groups<'a> = BTreeMap<Group, Vec<Job<'a>>>;

/// What the jobs of one run of cargo have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    root: PathBuf,
    target_dir: PathBuf,
    target: String,
    stack_bytes: u32,
    release: bool,
    install: bool,
}

/// Builds all requests; each result comes with its request's place.
pub fn build(
    requests: Vec<Request<'_>>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<(usize, Built)>, BuildError> {
    let mut groups = Groups::new();
    let mut known: Vec<Metadata> = Vec::new();
    for request in requests {
        let manifest = request.dir.join("Cargo.toml");
        let seen = known.iter().position(|m| {
            m.workspace_root == request.dir
                || m.packages.iter().any(|p| p.manifest_path == manifest)
        });
        let index = match seen {
            Some(index) => index,
            None => {
                known.push(metadata(&request.dir)?);
                known.len() - 1
            }
        };
        let Some(metadata) = known.get(index) else {
            continue;
        };
        let own = metadata
            .packages
            .iter()
            .find(|p| p.manifest_path == manifest);
        let packages: Vec<_> = match own {
            Some(package) if package.is_cdylib() => vec![package],
            Some(_) => {
                return Err(BuildError::Manifest {
                    path: manifest,
                    reason: "an actor is a library of the crate type cdylib: add\n[lib]\ncrate-type = [\"cdylib\"]"
                        .into(),
                });
            }
            // A workspace without a package of its own.
            None => metadata.packages.iter().filter(|p| p.is_cdylib()).collect(),
        };
        let alone = own.is_some();
        for package in packages {
            let dir = package.manifest_path.parent().unwrap_or(&request.dir);
            let config = if alone {
                request.config.clone()
            } else {
                Config::read(dir)?
            };
            let group = Group {
                root: metadata.workspace_root.clone(),
                target_dir: metadata.target_directory.clone(),
                target: config
                    .target
                    .clone()
                    .unwrap_or_else(|| "wasm32-unknown-unknown".into()),
                stack_bytes: config.stack_bytes.unwrap_or(STACK_BYTES),
                release: request.options.release,
                install: request.options.install_tools,
            };
            groups.entry(group).or_default().push(Job {
                place: request.place,
                id: package.id.clone(),
                name: config.name.unwrap_or_else(|| package.name.clone()),
                options: request.options,
            });
        }
    }
    let mut built = Vec::new();
    for (group, jobs) in groups {
        let root = &group.root;
        let toolchain = Rust::find(root, &group.target, group.install, progress)?;
        let names = jobs
            .iter()
            .map(|job| job.name.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        progress(Progress::Step(format!(
            "building {names} with {}",
            toolchain.description
        )));
        let mut cargo = toolchain.cargo_build(root, group.release, group.stack_bytes);
        cargo.arg("--lib");
        for job in &jobs {
            cargo.args(["-p", &job.id]);
        }
        let messages = command::run(cargo, progress)?;
        let work = work_dir(&group.target_dir)?;
        for job in jobs {
            let core = core_module(&messages, &job.id).ok_or_else(|| BuildError::Manifest {
                path: root.join("Cargo.toml"),
                reason: format!("cargo built {}, but made no .wasm file of it", job.name),
            })?;
            let place = job.place;
            built.push((
                place,
                componentize(&core, &work, job, &toolchain, progress)?,
            ));
        }
    }
    Ok(built)
}

fn componentize(
    core: &Path,
    work: &Path,
    job: Job<'_>,
    toolchain: &Rust,
    progress: &mut dyn FnMut(Progress),
) -> Result<Built, BuildError> {
    let out = out_path(job.options, work, &job.name);
    let bytes = read(core)?;
    let mut inputs = stamp::Inputs::new();
    inputs.add(&bytes);
    let inputs = inputs.digest();
    let stamp = work.join(format!("{}.stamp", job.name));
    let built = Built {
        module_name: job.name,
        component_path: out.clone(),
        digest: String::new(),
        toolchain: toolchain.description.clone(),
        fresh: true,
    };
    if let Some(digest) = stamp::fresh(&stamp, &inputs, &out) {
        return Ok(Built { digest, ..built });
    }
    progress(Progress::Step(format!(
        "making the component {}",
        out.display()
    )));
    let bytes = component::from_core(&bytes, core)?;
    finish(built, core, &bytes, Some((&stamp, &inputs)))
}

/// Asks cargo about the workspace of a folder. Any cargo can tell; Debian's serves where there is
/// no other.
fn metadata(dir: &Path) -> Result<Metadata, BuildError> {
    let cargo = if command::find("cargo").is_some() {
        "cargo"
    } else {
        "/usr/bin/cargo"
    };
    let mut command = Command::new(cargo);
    command.current_dir(dir).env_remove("CARGO_TARGET_DIR");
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    let json = command::run(command, &mut |_| {})?;
    serde_json::from_slice(&json).map_err(|e| BuildError::Manifest {
        path: dir.join("Cargo.toml"),
        reason: format!("`cargo metadata` said something that cannot be read: {e}"),
    })
}

/// The last .wasm file that cargo says it made of a package.
fn core_module(messages: &[u8], id: &str) -> Option<PathBuf> {
    messages
        .split(|&b| b == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter(|m| m.reason == "compiler-artifact" && m.package_id.as_deref() == Some(id))
        .flat_map(|m| m.filenames)
        .rfind(|path| path.extension().is_some_and(|e| e == "wasm"))
}
