//! The interfaces that an actor is built against: the contract, joined with the `wit` folder that
//! the actor may bring for other interfaces.

use std::path::{Path, PathBuf};

use wit_parser::{Resolve, WorldId};

use super::{BuildError, io, read, stamp, write};
use crate::contract::WIT_FILES;

/// Writes the interfaces that a folder's actor is built against into `to`: our package or, if the
/// folder has a `wit` of its own, that with ours among its `deps`.
pub fn materialise(source: &Path, to: &Path) -> Result<PathBuf, BuildError> {
    let own = source.join("wit");
    let wit = to.join("wit");
    // What an earlier build left there may have been renamed since.
    match std::fs::remove_dir_all(&wit) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io("empty", &wit, e)),
        _ => {}
    }
    let has_own = own.is_dir();
    if has_own {
        let mut files = Vec::new();
        stamp::list(&own, &mut files)?;
        for file in files {
            let inside = file.strip_prefix(&own).unwrap_or(&file);
            write(&wit.join(inside), &read(&file)?)?;
        }
    }
    for (name, text) in WIT_FILES {
        // All dependencies lie side by side, ours and our own ones; the folder's go first.
        let path = match (has_own, name.starts_with("deps/")) {
            (true, false) => wit.join("deps/wasm-node-actor").join(name),
            (true, true) if own.join(name).parent().is_some_and(Path::is_dir) => continue,
            _ => wit.join(name),
        };
        write(&path, text.as_bytes())?;
    }
    Ok(wit)
}

/// Parses a folder of interfaces and picks a world in it.
pub fn resolve(wit: &Path, world: &str) -> Result<(Resolve, WorldId), BuildError> {
    let fail = |reason: String| BuildError::Wit {
        path: wit.to_path_buf(),
        reason,
    };
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit).map_err(|e| fail(format!("{e:#}")))?;
    let id = resolve
        .select_world(&[package], Some(world))
        .map_err(|e| fail(format!("{e:#}")))?;
    Ok((resolve, id))
}
