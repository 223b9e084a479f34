//! Core modules and components for tests, made from the contract's text as a tool would.

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::abi::{AbiVariant, WasmSignature, WasmType};
use wit_parser::{Resolve, SourceMap, WorldId, WorldItem};

use crate::contract::WIT_FILES;

/// The contract after a change of its text, and one of its worlds.
pub(super) fn contract(world: &str, change: impl Fn(String) -> String) -> (Resolve, WorldId) {
    let mut sources = SourceMap::new();
    for (name, text) in WIT_FILES.iter().filter(|(name, _)| !name.contains('/')) {
        sources.push_str(name, change(text.to_string()));
    }
    let mut resolve = Resolve::default();
    let package = resolve.push_group(sources.parse().map_err(|(_, e)| e).unwrap());
    let world = resolve
        .select_world(&[package.unwrap()], Some(world))
        .unwrap();
    (resolve, world)
}

/// What a module has beside the contract's imports and exports.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    /// Mutable globals.
    pub(super) globals: usize,
    /// One more, for a reference.
    pub(super) reference: bool,
    /// Exports `_initialize`.
    pub(super) initializes: bool,
    /// Has a start function of its own.
    pub(super) start: bool,
    /// In a function's body, which leaves nothing on the stack.
    pub(super) operator: &'static [u8],
    /// What its strings are said to be.
    pub(super) encoding: StringEncoding,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            globals: 1,
            reference: false,
            initializes: false,
            start: false,
            operator: &[],
            encoding: StringEncoding::UTF8,
        }
    }
}

/// A module for a world, none of whose functions does anything.
pub(super) fn core_module(resolve: &Resolve, world: WorldId, parts: Parts) -> Vec<u8> {
    let (mut types, mut imports, mut exports) = (Vec::new(), Vec::new(), Vec::new());
    let mut functions = Vec::new();
    for (key, item) in &resolve.worlds[world].imports {
        match item {
            WorldItem::Interface { id, .. } => {
                for (name, function) in &resolve.interfaces[*id].functions {
                    let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
                    imports.push((resolve.name_world_key(key), name.clone(), types.len()));
                    types.push(signature_type(&signature));
                }
            }
            WorldItem::Function(function) => {
                let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
                imports.push(("$root".into(), function.name.clone(), types.len()));
                types.push(signature_type(&signature));
            }
            WorldItem::Type { .. } => {}
        }
    }
    let first = imports.len();
    let mut define = |name: &str, ty: Vec<u8>| {
        exports.push((name.to_owned(), 0, first + functions.len()));
        functions.push(types.len());
        types.push(ty);
    };
    let int = 0x7f;
    define("cabi_realloc", function_type(&[int; 4], &[int]));
    for (key, item) in &resolve.worlds[world].exports {
        let WorldItem::Interface { id, .. } = item else {
            continue;
        };
        for (name, function) in &resolve.interfaces[*id].functions {
            let signature = resolve.wasm_signature(AbiVariant::GuestExport, function);
            let name = format!("{}#{name}", resolve.name_world_key(key));
            define(&name, signature_type(&signature));
        }
    }
    if parts.initializes {
        define("_initialize", function_type(&[], &[]));
    }
    // The last one, which can be a start function.
    functions.push(types.len());
    types.push(function_type(&[], &[]));
    exports.push(("memory".into(), 2, 0));

    let mut module = b"\0asm\x01\0\0\0".to_vec();
    vector(&mut module, 1, types);
    vector(
        &mut module,
        2,
        imports.into_iter().map(|(interface, name, ty)| {
            [text(&interface), text(&name), vec![0], leb128(ty)].concat()
        }),
    );
    let bodies = functions.len();
    vector(&mut module, 3, functions.into_iter().map(leb128));
    vector(&mut module, 4, [vec![0x70, 0, 1]]);
    vector(&mut module, 5, [vec![0, 1]]);
    let mut globals = vec![vec![int, 1, 0x41, 7, 0x0b]; parts.globals];
    if parts.reference {
        globals.push(vec![0x70, 1, 0xd0, 0x70, 0x0b]);
    }
    vector(&mut module, 6, globals);
    vector(
        &mut module,
        7,
        exports
            .into_iter()
            .map(|(name, kind, index)| [text(&name), vec![kind], leb128(index)].concat()),
    );
    if parts.start {
        section(&mut module, 8, &leb128(first + bodies - 1));
    }
    // Segments that are not put anywhere by themselves: of elements, and of data.
    vector(&mut module, 9, [vec![1, 0, 0]]);
    section(&mut module, 12, &[1]);
    vector(
        &mut module,
        10,
        (0..bodies).map(|index| {
            let code: &[u8] = match index == bodies - 1 {
                true => parts.operator,
                // Gives whatever is wanted.
                false => &[0],
            };
            let body = [&[0], code, &[0x0b]].concat();
            [leb128(body.len()), body].concat()
        }),
    );
    vector(&mut module, 11, [vec![1, 1, b'x']]);
    wit_component::embed_component_metadata(&mut module, resolve, world, parts.encoding).unwrap();
    module
}

/// A component of that module.
pub(super) fn component(_: &Resolve, _: WorldId, module: &[u8]) -> Vec<u8> {
    let mut encoder = ComponentEncoder::default().validate(true);
    encoder = encoder.module(module).unwrap();
    encoder.encode().unwrap()
}

fn signature_type(signature: &WasmSignature) -> Vec<u8> {
    let code = |ty: &WasmType| match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => 0x7f,
        WasmType::I64 | WasmType::PointerOrI64 => 0x7e,
        WasmType::F32 => 0x7d,
        WasmType::F64 => 0x7c,
    };
    let params: Vec<u8> = signature.params.iter().map(code).collect();
    let results: Vec<u8> = signature.results.iter().map(code).collect();
    function_type(&params, &results)
}

fn function_type(params: &[u8], results: &[u8]) -> Vec<u8> {
    let (before, between) = (leb128(params.len()), leb128(results.len()));
    [&[0x60], &before[..], params, &between, results].concat()
}

fn text(text: &str) -> Vec<u8> {
    [leb128(text.len()), text.as_bytes().to_vec()].concat()
}

fn vector(module: &mut Vec<u8>, id: u8, items: impl IntoIterator<Item = Vec<u8>>) {
    let items: Vec<Vec<u8>> = items.into_iter().collect();
    if !items.is_empty() {
        section(module, id, &[leb128(items.len()), items.concat()].concat());
    }
}

/// Appends a section.
pub(super) fn section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    module.push(id);
    module.extend(leb128(content.len()));
    module.extend_from_slice(content);
}

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
