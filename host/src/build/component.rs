//! From core modules to components, and what a component must have to be an actor. Pure: bytes
//! in, bytes out.

use std::path::Path;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::ComponentEncoder;
use wit_parser::decoding::{DecodedWasm, decode};

use super::BuildError;

/// What an actor exports, at any version of ours.
const LIFECYCLE: &str = "wasm-node:actor/lifecycle@";
/// What an HTTP handler exports, at any version of WASI 0.2.
const HTTP_HANDLER: &str = "wasi:http/incoming-handler@0.2";

/// The names of a component's imports and exports, sorted. The error says why the bytes are no
/// component.
pub fn imports_and_exports(component: &[u8]) -> Result<(Vec<String>, Vec<String>), String> {
    let decoded = decode(component).map_err(|e| format!("{e:#}"))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err("it holds interfaces (WIT), but no code".into());
    };
    let world = resolve.worlds.get(world).ok_or("it has no world")?;
    let names = |items: Vec<_>| {
        let mut names: Vec<String> = items
            .into_iter()
            .map(|key| resolve.name_world_key(key))
            .collect();
        names.sort();
        names
    };
    Ok((
        names(world.imports.keys().collect()),
        names(world.exports.keys().collect()),
    ))
}

/// The functions of WASI 0.1 that a core module imports. The error says why the bytes are no
/// module.
pub fn wasi_preview1_imports(core: &[u8]) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(core) {
        if let wasmparser::Payload::ImportSection(section) = payload.map_err(|e| e.to_string())? {
            for import in section.into_imports() {
                let import = import.map_err(|e| e.to_string())?;
                if import.module == WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME {
                    names.push(import.name.to_owned());
                }
            }
        }
    }
    Ok(names)
}

/// Makes a component of a core module whose custom sections say what it imports and exports.
/// The adapter of WASI 0.1 goes in only if the module imports WASI 0.1.
pub fn from_core(core: &[u8], path: &Path) -> Result<Vec<u8>, BuildError> {
    let fail = |reason: String| BuildError::Component {
        path: path.to_path_buf(),
        reason,
    };
    let encode = || {
        ComponentEncoder::default()
            .module(core)?
            .adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            )?
            .validate(true)
            .encode()
    };
    encode().map_err(|e| fail(format!("{e:#}")))
}

/// Checks that a component is an actor or an HTTP handler.
pub fn check(component: &[u8], path: &Path) -> Result<(), BuildError> {
    let (_, exports) = imports_and_exports(component).map_err(|reason| BuildError::Component {
        path: path.to_path_buf(),
        reason,
    })?;
    let runs = |name: &String| name.starts_with(LIFECYCLE) || name.starts_with(HTTP_HANDLER);
    if exports.iter().any(runs) {
        return Ok(());
    }
    let exports = match exports.as_slice() {
        [] => "nothing".into(),
        names => names
            .iter()
            .map(|n| format!("`{n}`"))
            .collect::<Vec<_>>()
            .join(", "),
    };
    Err(BuildError::NotAnActor {
        path: path.to_path_buf(),
        exports,
    })
}
