//! C: wit-bindgen's C generator and the SDK (`guest-sdk/c`), both carried in this binary, then
//! clang. An actor has no WASI unless its `wasm-node.toml` says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use wit_bindgen_core::Files;

use super::config::{Config, files_with};
use super::toolchain::Clang;
use super::{
    BuildError, BuildOptions, Built, Progress, command, component, contract, finish, io, lock,
    out_path, read, stamp, work_dir, write,
};

/// The SDK's files. The third stands in for WASI.
const SDK: &[(&str, &str)] = &[
    (
        "wasm_node.h",
        include_str!("../../../guest-sdk/c/wasm_node.h"),
    ),
    (
        "wasm_node.c",
        include_str!("../../../guest-sdk/c/wasm_node.c"),
    ),
    (
        WASI_SHIM,
        include_str!("../../../guest-sdk/c/wasm_node_wasi.c"),
    ),
];
const WASI_SHIM: &str = "wasm_node_wasi.c";
/// What the generated files are called, whatever the world is.
const BINDINGS: &str = "bindings";
/// An actor's stack unless it asks for another: printf with floating point needs some 10 KiB.
const STACK_BYTES: u32 = 64 << 10;

/// Builds a folder of `.c` files, of its own and of `src`.
pub fn build(
    dir: &Path,
    config: &Config,
    options: &BuildOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Built, BuildError> {
    let name = config.name(dir);
    let work = work_dir(&dir.join("target"))?;
    let _lock = lock(&work)?;
    let out = out_path(options, &work, &name);
    let clang = Clang::find(options.install_tools, progress)?;
    let wit = contract::materialise(dir, &work)?;

    let mut inputs = stamp::Inputs::new();
    inputs.add(clang.description.as_bytes());
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
        toolchain: clang.description.clone(),
        fresh: true,
    };
    if let Some(digest) = inputs
        .as_deref()
        .and_then(|i| stamp::fresh(&stamp, i, &out))
    {
        return Ok(Built { digest, ..built });
    }

    progress(Progress::Step(format!(
        "building {} with {}",
        built.module_name, clang.description
    )));
    let generated = bindings(&wit, config.world(), &work.join("gen"))?;
    let core = work.join("core.wasm");
    compile(dir, config, &clang, &work, &generated, &core, progress)?;
    let bytes = read(&core)?;
    if !config.wasi {
        let used =
            component::wasi_preview1_imports(&bytes).map_err(|reason| BuildError::Component {
                path: core.clone(),
                reason,
            })?;
        if !used.is_empty() {
            return Err(BuildError::Component {
                path: core,
                reason: format!(
                    "it uses {} of WASI, which actors in C have only with `wasi = true` in {}",
                    used.join(", "),
                    dir.join(super::CONFIG_FILE).display()
                ),
            });
        }
    }
    let bytes = component::from_core(&bytes, &core)?;
    finish(
        built,
        &core,
        &bytes,
        inputs.as_deref().map(|i| (stamp.as_path(), i)),
    )
}

/// What the generator wrote.
struct Generated {
    dir: PathBuf,
    /// Whether the world exports `lifecycle`, which the SDK's turn loop implements.
    lifecycle: bool,
}

fn bindings(wit: &Path, world: &str, dir: &Path) -> Result<Generated, BuildError> {
    let (mut resolve, world) = contract::resolve(wit, world)?;
    let exports = resolve
        .worlds
        .get(world)
        .map(|w| w.exports.keys().cloned().collect());
    let exports: Vec<_> = exports.unwrap_or_default();
    let lifecycle = exports.iter().any(|key| {
        resolve
            .name_world_key(key)
            .starts_with("wasm-node:actor/lifecycle@")
    });
    let generator = wit_bindgen_c::Opts {
        rename_world: Some(BINDINGS.into()),
        ..Default::default()
    };
    let mut files = Files::default();
    generator
        .build()
        .generate(&mut resolve, world, &mut files)
        .map_err(|e| BuildError::Wit {
            path: wit.to_path_buf(),
            reason: format!("{e:#}"),
        })?;
    for (name, bytes) in files.iter() {
        write(&dir.join(name), bytes)?;
    }
    Ok(Generated {
        dir: dir.to_path_buf(),
        lifecycle,
    })
}

fn compile(
    dir: &Path,
    config: &Config,
    clang: &Clang,
    work: &Path,
    generated: &Generated,
    core: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), BuildError> {
    let sdk = work.join("sdk");
    for (name, text) in SDK {
        write(&sdk.join(name), text.as_bytes())?;
    }
    let mut command = Command::new(clang.program);
    command.current_dir(dir).args([
        "--target=wasm32-wasi",
        "-mexec-model=reactor",
        "-std=gnu17",
        "-O2",
        "-ffunction-sections",
        "-fdata-sections",
        "-Wall",
        "-Wextra",
    ]);
    command
        .arg("-isystem")
        .arg(&generated.dir)
        .arg("-I")
        .arg(&sdk);
    for folder in [dir.to_path_buf(), dir.join("src")] {
        for file in files_with(&folder, "c") {
            // Relative, so that diagnostics and names do not depend on where the folder lies.
            command.arg(file.strip_prefix(dir).unwrap_or(&file));
        }
    }
    if generated.lifecycle {
        command.arg(sdk.join("wasm_node.c"));
    }
    if !config.wasi {
        command.arg(sdk.join(WASI_SHIM));
    }
    command.arg(generated.dir.join(format!("{BINDINGS}.c")));
    command.arg(generated.dir.join(format!("{BINDINGS}_component_type.o")));
    command.arg(format!("-fuse-ld={}", clang.linker.display()));
    // Function names stay: a trap's backtrace shows them.
    command.args([
        "-Wl,--gc-sections",
        "-Wl,--strip-debug",
        "-Wl,--stack-first",
    ]);
    let stack = config.stack_bytes.unwrap_or(STACK_BYTES);
    command.arg(format!("-Wl,-z,stack-size={stack}"));
    command.arg("-o").arg(core);
    match std::fs::remove_file(core) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", core, e)),
        _ => {}
    }
    command::run(command, progress).map(drop)
}
