//! The program under test, and the actors it runs: each built once a test process.
//!
//! `WASM_NODE_BIN` names a program to test in place of the one built here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use anyhow::{Context, Result, bail, ensure};

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a folder of the repository")
}

/// The program: built on first use, with the profile and into the folder of the running test.
pub fn program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| build_program().map_err(|error| format!("{error:#}")));
    match built {
        Ok(path) => Ok(path),
        Err(error) => bail!("{error}"),
    }
}

/// A file with the component of an actor, given its folder under `actors`. `wasm-node build`
/// makes it, which installs the toolchains that are missing if it may.
pub fn actor(folder: &str) -> Result<PathBuf> {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(path) = built.get(folder) {
        return Ok(path.clone());
    }
    let out = shared_folder("actors")?.join(format!("{}.wasm", folder.replace('/', "-")));
    let output = Command::new(program()?)
        .arg("build")
        .arg(repository().join("actors").join(folder))
        .arg("--out")
        .arg(&out)
        .output()
        .context("cannot run `wasm-node build`")?;
    ensure!(
        output.status.success(),
        "`wasm-node build {folder}` failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    built.insert(folder.into(), out.clone());
    Ok(out)
}

/// A folder that outlives the tests, beside what cargo built.
pub fn shared_folder(name: &str) -> Result<PathBuf> {
    let folder = profile_folder()?.join("wasm-node-tests").join(name);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// `target/debug` or its like.
fn profile_folder() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("cannot find the running test's own file")?;
    match exe.parent().and_then(Path::parent) {
        Some(folder) => Ok(folder.into()),
        None => bail!("{} is not in a folder of cargo's", exe.display()),
    }
}

fn build_program() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("WASM_NODE_BIN") {
        return Ok(given.into());
    }
    let folder = profile_folder()?;
    let target = folder
        .parent()
        .context("the profile's folder is in target")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => bail!("{} names no profile", folder.display()),
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // With `--workspace`, the features of dependencies are those that the tests were built with,
    // so that nothing heavy is built again.
    let output = Command::new(cargo)
        .args([
            "build",
            "--workspace",
            "--bin",
            "wasm-node",
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(repository())
        .output()
        .context("cannot run cargo to build the program")?;
    ensure!(
        output.status.success(),
        "cannot build the program ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(folder.join("wasm-node"))
}
