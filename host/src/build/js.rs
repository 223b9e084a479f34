//! JavaScript: componentize-qjs puts the source into a component with the QuickJS engine, its
//! modules loaded at build time. The tool comes from npm, once, into a folder of the user's cache.
//! The SDK (`guest-sdk/js`) is carried in this binary and is the package `wasm-node`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::config::{Config, files_with};
use super::{
    BuildError, BuildOptions, Built, Progress, command, contract, finish, io, lock, out_path, read,
    stamp, toolchain, work_dir, write,
};

/// The version of componentize-qjs that this was tried with.
const COMPONENTIZER_VERSION: &str = "0.4.5";

/// The SDK's files.
const SDK: &[(&str, &str)] = &[
    (
        "package.json",
        include_str!("../../../guest-sdk/js/package.json"),
    ),
    ("index.js", include_str!("../../../guest-sdk/js/index.js")),
    (
        "prelude.js",
        include_str!("../../../guest-sdk/js/prelude.js"),
    ),
];

/// The part of a package.json that we read.
#[derive(Default, Deserialize)]
struct Package {
    name: Option<String>,
    main: Option<String>,
}

/// Builds a folder whose main file is named by `wasm-node.toml` or `package.json`, is called
/// `index.js`, or is the only `.js` file.
pub fn build(
    dir: &Path,
    config: &Config,
    options: &BuildOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Built, BuildError> {
    let package = package(dir)?;
    let main = main_file(dir, config, &package)?;
    let name = match (&config.name, package.name) {
        // A scope is a folder's name to npm, not part of a module's.
        (None, Some(name)) => name.rsplit('/').next().unwrap_or_default().to_owned(),
        _ => config.name(dir),
    };
    let work = work_dir(&dir.join("target"))?;
    let _lock = lock(&work)?;
    let out = out_path(options, &work, &name);
    let wit = contract::materialise(dir, &work)?;

    let mut inputs = stamp::Inputs::new();
    inputs.add(COMPONENTIZER_VERSION.as_bytes());
    for (_, text) in SDK {
        inputs.add(text.as_bytes());
    }
    let complete = inputs.add_folder(dir)? && inputs.add_folder(&wit)?;
    let inputs = complete.then(|| inputs.digest());
    let stamp = work.join(format!("{name}.stamp"));
    let built = Built {
        module_name: name,
        component_path: out.clone(),
        digest: String::new(),
        toolchain: format!("componentize-qjs {COMPONENTIZER_VERSION} (QuickJS)"),
        fresh: true,
    };
    if let Some(digest) = inputs
        .as_deref()
        .and_then(|i| stamp::fresh(&stamp, i, &out))
    {
        return Ok(Built { digest, ..built });
    }

    let tool = componentizer(options.install_tools, progress)?;
    progress(Progress::Step(format!(
        "building {} with {}",
        built.module_name, built.toolchain
    )));
    let root = module_root(dir, &work)?;
    let component = work.join("component.wasm");
    let mut node = Command::new("node");
    node.arg(&tool)
        .arg("--wit")
        .arg(&wit)
        .args(["--world", config.world()]);
    node.arg("--js")
        .arg(root.join("app").join(&main))
        .arg("--module-root")
        .arg(&root);
    // The engine without the component model's own async: turns are plain calls.
    node.arg("--sync");
    if !config.wasi {
        node.arg("--stub-wasi");
    }
    node.arg("-o").arg(&component);
    command::run(node, progress)?;
    let bytes = read(&component)?;
    finish(
        built,
        &component,
        &bytes,
        inputs.as_deref().map(|i| (stamp.as_path(), i)),
    )
}

fn package(dir: &Path) -> Result<Package, BuildError> {
    let path = dir.join("package.json");
    if !path.is_file() {
        return Ok(Package::default());
    }
    serde_json::from_slice(&read(&path)?).map_err(|e| BuildError::Manifest {
        path,
        reason: e.to_string(),
    })
}

/// The main file, relative to the folder.
fn main_file(dir: &Path, config: &Config, package: &Package) -> Result<PathBuf, BuildError> {
    let named = config.main.as_ref().or(package.main.as_ref());
    if let Some(main) = named {
        let inside = !main.starts_with('/') && !main.split('/').any(|part| part == "..");
        if inside && dir.join(main).is_file() {
            return Ok(main.into());
        }
        return Err(BuildError::Manifest {
            path: dir.join(if config.main.is_some() {
                super::CONFIG_FILE
            } else {
                "package.json"
            }),
            reason: format!("the main file {main} does not exist in this folder"),
        });
    }
    let files = [files_with(dir, "js"), files_with(dir, "mjs")].concat();
    let names = files.iter().filter_map(|file| file.strip_prefix(dir).ok());
    let names: Vec<&Path> = names.collect();
    match names.as_slice() {
        [only] => Ok(only.to_path_buf()),
        many if many.contains(&Path::new("index.js")) => Ok("index.js".into()),
        _ => Err(BuildError::Manifest {
            path: dir.to_path_buf(),
            reason: "which file is the actor? Name it index.js, or set \"main\" in package.json"
                .into(),
        }),
    }
}

/// The folder that the engine may load modules from: a copy of the actor's and the SDK.
fn module_root(dir: &Path, work: &Path) -> Result<PathBuf, BuildError> {
    let root = work.join("js");
    match std::fs::remove_dir_all(&root) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io("empty", &root, e)),
        _ => {}
    }
    let mut files = Vec::new();
    if !stamp::list(dir, &mut files)? {
        return Err(BuildError::Manifest {
            path: dir.to_path_buf(),
            reason: format!("it holds more than {} files", stamp::MAX_SOURCE_FILES),
        });
    }
    for file in files {
        let inside = file.strip_prefix(dir).unwrap_or(&file);
        write(&root.join("app").join(inside), &read(&file)?)?;
    }
    for (name, text) in SDK {
        write(
            &root.join("node_modules/wasm-node").join(name),
            text.as_bytes(),
        )?;
    }
    Ok(root)
}

/// The componentizer's program, installed if it is not there yet.
fn componentizer(install: bool, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, BuildError> {
    let package = format!("componentize-qjs@{COMPONENTIZER_VERSION}");
    toolchain::node(install, progress)?;
    let cache = cache_dir();
    let home = cache.join(format!("componentize-qjs-{COMPONENTIZER_VERSION}"));
    let program = Path::new("node_modules/componentize-qjs/bin/componentize-qjs");
    if home.join(program).is_file() {
        return Ok(home.join(program));
    }
    // Into a folder of its own first, so that nobody sees half an installation, and two builds at
    // once do not hurt each other.
    std::fs::create_dir_all(&cache).map_err(|e| io("create", &cache, e))?;
    let fresh = tempfile::Builder::new()
        .prefix("componentize-qjs-")
        .tempdir_in(&cache)
        .map_err(|e| io("create a folder in", &cache, e))?;
    progress(Progress::Step(format!(
        "installing {package} from npm into {}",
        home.display()
    )));
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--prefix"])
        .arg(fresh.path())
        .arg(&package);
    command::run(npm, progress).map_err(|e| BuildError::ToolMissing {
        what: "JavaScript actors",
        missing: package.clone(),
        remedy: format!("Installing it failed: {e}"),
    })?;
    let renamed = std::fs::rename(fresh.path(), &home);
    if home.join(program).is_file() {
        return Ok(home.join(program));
    }
    Err(match renamed {
        Err(e) => io("create", &home, e),
        Ok(()) => BuildError::ToolMissing {
            what: "JavaScript actors",
            missing: package,
            remedy: format!("Delete {} and try again.", home.display()),
        },
    })
}

/// Where tools are kept between builds.
fn cache_dir() -> PathBuf {
    let of = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    of("XDG_CACHE_HOME")
        .or_else(|| of("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("wasm-node")
}
