//! An app's modules in one folder, each under its own name: what the manifest says is built or
//! copied there.

use std::io;
use std::path::Path;

use crate::app::{Manifest, Origin};
use crate::build::{BuildOptions, build_all};
use crate::cli::build::show;
use crate::cli::error::CliError;

/// Fills the folder. A file that would not change is left alone.
pub(in crate::cli) fn prepare(manifest: &Manifest, folder: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(folder).map_err(|source| CliError::Io {
        doing: "create",
        path: folder.into(),
        source,
    })?;
    let mut builds = Vec::new();
    for (name, module) in &manifest.modules {
        let target = folder.join(format!("{name}.wasm"));
        match &module.origin {
            Origin::Source(source) => {
                builds.push(BuildOptions {
                    out: Some(target),
                    ..BuildOptions::new(source)
                });
            }
            Origin::File(file) => copy(file, &target)?,
        }
    }
    if !builds.is_empty() {
        eprintln!("building {} modules of {}", builds.len(), manifest.name);
        build_all(&builds, &mut show)?;
    }
    Ok(())
}

/// Makes the nodes of one machine share compiled code: each looks in its own data folder, where
/// a link leads to the common one. They run the same program as the same user.
pub(super) fn share_compiled(data: &Path, common: &Path) -> Result<(), CliError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| CliError::Io {
            doing: "create",
            path,
            source,
        }
    };
    std::fs::create_dir_all(data).map_err(failed(data))?;
    std::fs::create_dir_all(common).map_err(failed(common))?;
    let link = data.join("compiled");
    match std::os::unix::fs::symlink(common, &link) {
        // A folder or a link from before is as good.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(&link)(error)),
        _ => Ok(()),
    }
}

/// In one step, so that a node that watches never sees half a file.
fn copy(from: &Path, to: &Path) -> Result<(), CliError> {
    let bytes = std::fs::read(from).map_err(|source| CliError::Io {
        doing: "read",
        path: from.into(),
        source,
    })?;
    if std::fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let failed = |source| CliError::Io {
        doing: "write",
        path: to.into(),
        source,
    };
    let folder = to.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    io::Write::write_all(&mut file, &bytes).map_err(failed)?;
    file.persist(to).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_module_is_copied_under_its_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.wasm"), "bytes").unwrap();
        let text = "[app]\nname = \"a\"\n[modules.m]\nfile = \"x.wasm\"\n";
        let manifest = Manifest::parse(text, Path::new("a.toml"), folder.path()).unwrap();
        let modules = folder.path().join("modules");
        prepare(&manifest, &modules).unwrap();
        prepare(&manifest, &modules).unwrap();
        assert_eq!(std::fs::read(modules.join("m.wasm")).unwrap(), b"bytes");
        assert_eq!(std::fs::read_dir(&modules).unwrap().count(), 1);
    }

    #[test]
    fn compiled_code_is_shared_once() {
        let folder = tempfile::tempdir().unwrap();
        let common = folder.path().join("compiled");
        for _ in 0..2 {
            share_compiled(&folder.path().join("node1"), &common).unwrap();
        }
        std::fs::write(folder.path().join("node1/compiled/a"), "a").unwrap();
        assert!(common.join("a").exists());
    }
}
