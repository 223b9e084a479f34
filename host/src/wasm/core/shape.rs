//! Which components hold one core module and nothing that matters beside it.
//!
//! Such is what `wit-component` makes of a module compiled for the world `actor`: the module,
//! two small ones that only pass calls on, and declarations. Everything else is left to the
//! component layer, with the reason in the debug log. By the convention of all binding
//! generators the module's imports and exports carry the names of the interfaces that they are
//! lowered from; a component that wires them otherwise is not one that a tool makes.

use std::collections::HashMap;
use std::sync::OnceLock;

use wasm_encoder::{Encode, ExportKind, RawSection, Section};
use wasmparser::{
    CanonicalFunction, CanonicalOption, Operator, Parser, Payload, Validator, WasmFeatures,
};
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{Function, Resolve, SourceMap, Type, TypeDefKind, WorldItem};

use crate::contract::WIT_FILES;

/// The module in a component, ready to be compiled.
pub struct CoreModule {
    /// Its bytes, with its mutable globals exported under `global_name`.
    pub bytes: Vec<u8>,
    /// Mutable globals.
    pub globals: u32,
    /// Whether it wants `INITIALIZE` called, first of all.
    pub initializes: bool,
    /// Whether its memory and its mutable globals are all of its state.
    pub restorable: bool,
}

/// What a module without a start function has initialised by.
pub(super) const INITIALIZE: &str = "_initialize";

/// The name under which a mutable global is exported.
pub(super) fn global_name(index: u32) -> String {
    format!("wasm-node:global/{index}")
}

/// The core module of a component that needs no component layer. The error says why it does.
/// The bytes need not be valid.
pub fn unbundle(component: &[u8]) -> Result<CoreModule, String> {
    let fail = |error: wasmparser::BinaryReaderError| error.to_string();
    let mut validator = Validator::new_with_features(WasmFeatures::default());
    validator.validate_all(component).map_err(fail)?;
    let mut modules: Vec<&[u8]> = Vec::new();
    let mut lowered = 0;
    // Nested parts are skipped over here: modules are looked at below, and a nested component
    // must hold declarations only.
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(fail)? {
            Payload::ModuleSection {
                unchecked_range, ..
            } if depth == 0 => {
                let bytes = component.get(unchecked_range).ok_or("cut short")?;
                modules.push(bytes);
                depth += 1;
            }
            Payload::ModuleSection { .. } => return Err("modules within components".into()),
            Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= i32::from(depth > 0),
            Payload::ComponentStartSection { .. } => return Err("it has a start function".into()),
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    match function.map_err(fail)? {
                        CanonicalFunction::Lower { options, .. } => {
                            plain_options(&options)?;
                            lowered += 1;
                        }
                        CanonicalFunction::Lift { options, .. } => plain_options(&options)?,
                        _ => return Err("resources, threads or async".into()),
                    }
                }
            }
            _ => {}
        }
    }
    let (main, others) = modules.split_first().ok_or("it has no module")?;
    let mut starts = false;
    for other in others {
        starts |= passes_calls_on(other)?;
    }
    same_types(component)?;
    let imports = imports(main)?;
    if imports != lowered {
        return Err(format!("{imports} imports for {lowered} lowered functions"));
    }
    let core = prepared(main)?;
    // The one thing that they do beside: call this when all is there. `instance` does.
    match starts == core.initializes {
        true => Ok(core),
        false => Err("a start function in a module beside the main one".into()),
    }
}

fn plain_options(options: &[CanonicalOption]) -> Result<(), String> {
    let plain = options.iter().all(|option| {
        matches!(
            option,
            CanonicalOption::UTF8
                | CanonicalOption::Memory(_)
                | CanonicalOption::Realloc(_)
                | CanonicalOption::PostReturn(_)
        )
    });
    match plain {
        true => Ok(()),
        false => Err("strings that are not UTF-8, or async functions".into()),
    }
}

/// Whether a module is one of those by which `wit-component` closes the circle of imports; gives
/// whether it has a start function.
fn passes_calls_on(module: &[u8]) -> Result<bool, String> {
    let mut starts = false;
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(|error| error.to_string())? {
            Payload::MemorySection(_) | Payload::DataSection(_) => {
                return Err("several modules".into());
            }
            Payload::StartSection { .. } => starts = true,
            Payload::CodeSectionEntry(body) => {
                let operators = body.get_operators_reader().map_err(|e| e.to_string())?;
                for operator in operators {
                    match operator.map_err(|error| error.to_string())? {
                        Operator::LocalGet { .. }
                        | Operator::I32Const { .. }
                        | Operator::CallIndirect { .. }
                        | Operator::End => {}
                        _ => return Err("several modules".into()),
                    }
                }
            }
            _ => {}
        }
    }
    Ok(starts)
}

fn imports(module: &[u8]) -> Result<usize, String> {
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ImportSection(section) = payload.map_err(|error| error.to_string())? {
            return Ok(section.into_imports().count());
        }
    }
    Ok(0)
}

/// Exports the mutable globals, and finds out whether there is other state.
fn prepared(module: &[u8]) -> Result<CoreModule, String> {
    let fail = |error: wasmparser::BinaryReaderError| error.to_string();
    let mut bytes = module.get(..8).ok_or("cut short")?.to_vec();
    let mut mutable: Vec<u32> = Vec::new();
    let mut imported = 0;
    let mut restorable = true;
    let mut initializes = false;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(fail)?;
        match &payload {
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    let import = import.map_err(fail)?;
                    match import.ty {
                        wasmparser::TypeRef::Func(_) => {}
                        wasmparser::TypeRef::Global(_) => imported += 1,
                        _ => return Err("it imports a memory or a table".into()),
                    }
                }
            }
            Payload::MemorySection(section) => {
                let memories = section.clone().into_iter();
                let plain = memories.map(|memory| memory.map(|m| !m.memory64 && !m.shared));
                match plain.collect::<Result<Vec<bool>, _>>().map_err(fail)?[..] {
                    [true] => {}
                    _ => return Err("not one plain memory".into()),
                }
            }
            Payload::GlobalSection(section) => {
                for (index, global) in section.clone().into_iter().enumerate() {
                    let global = global.map_err(fail)?.ty;
                    if global.mutable {
                        restorable &= !matches!(global.content_type, wasmparser::ValType::Ref(_));
                        mutable.push(imported + u32::try_from(index).unwrap_or(u32::MAX));
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader().map_err(fail)? {
                    restorable &= !matches!(
                        operator.map_err(fail)?,
                        Operator::TableSet { .. }
                            | Operator::TableGrow { .. }
                            | Operator::TableFill { .. }
                            | Operator::TableCopy { .. }
                            | Operator::TableInit { .. }
                            | Operator::ElemDrop { .. }
                            | Operator::DataDrop { .. }
                    );
                }
            }
            _ => {}
        }
        let Some((id, range)) = payload.as_section() else {
            continue;
        };
        let section = module.get(range).ok_or("cut short")?;
        if let Payload::ExportSection(exports) = &payload {
            for export in exports.clone() {
                initializes |= export.map_err(fail)?.name == INITIALIZE;
            }
            let mut with_globals = Vec::new();
            let count = exports.count() as usize + mutable.len();
            count.encode(&mut with_globals);
            // After the old count, as the old entries stand.
            let first = exports.clone().into_iter_with_offsets().next();
            if let Some(first) = first {
                let (offset, _) = first.map_err(fail)?;
                let entries = module.get(offset..exports.range().end);
                with_globals.extend_from_slice(entries.ok_or("cut short")?);
            }
            for (name, index) in (0..).zip(&mutable) {
                global_name(name).as_str().encode(&mut with_globals);
                ExportKind::Global.encode(&mut with_globals);
                index.encode(&mut with_globals);
            }
            let data = &with_globals;
            RawSection { id, data }.append_to(&mut bytes);
        } else {
            RawSection { id, data: section }.append_to(&mut bytes);
        }
    }
    Ok(CoreModule {
        bytes,
        globals: u32::try_from(mutable.len()).map_err(|error| error.to_string())?,
        initializes,
        restorable,
    })
}

/// Whether each function that a component imports or exports has the type that the contract
/// gives it, and whether it imports nothing else.
fn same_types(component: &[u8]) -> Result<(), String> {
    let decoded = decode(component).map_err(|error| format!("{error:#}"))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err("it is no component".into());
    };
    let world = &resolve.worlds[world];
    let mut exports = world.exports.keys();
    if !exports.any(|key| resolve.name_world_key(key) == LIFECYCLE) {
        return Err("it is no actor".into());
    }
    for (key, item) in world.imports.iter().chain(&world.exports) {
        let WorldItem::Interface { id, .. } = item else {
            return Err("it imports or exports functions of no interface".into());
        };
        let interface = resolve.name_world_key(key);
        for function in resolve.interfaces[*id].functions.values() {
            let name = format!("{interface}#{}", function.name);
            if contract().get(&name) != Some(&signature(&resolve, function)) {
                return Err(format!("{name} is not of this contract"));
            }
        }
    }
    Ok(())
}

/// The world whose actors never wait; what is only in others is none of this contract.
const WORLD: &str = "actor";
const LIFECYCLE: &str = "wasm-node:actor/lifecycle@0.1.0";

/// The types of that world's functions, by interface and name.
fn contract() -> &'static HashMap<String, String> {
    static CONTRACT: OnceLock<HashMap<String, String>> = OnceLock::new();
    CONTRACT.get_or_init(|| {
        let mut sources = SourceMap::new();
        for (name, text) in WIT_FILES.iter().filter(|(name, _)| !name.contains('/')) {
            sources.push_str(name, *text);
        }
        let mut resolve = Resolve::default();
        let parsed = sources.parse().map_err(|(_, error)| error.to_string());
        let pushed = parsed.and_then(|group| {
            resolve
                .push_group(group)
                .map_err(|error| format!("{error:?}"))
        });
        if let Err(error) = pushed {
            // Everything then runs under the component layer.
            tracing::error!(error, "the contract in this binary cannot be read");
        }
        let mut types = HashMap::new();
        let world = resolve.worlds.iter().find(|(_, world)| world.name == WORLD);
        let items = world.map(|(_, world)| world.imports.iter().chain(&world.exports));
        for (key, item) in items.into_iter().flatten() {
            let WorldItem::Interface { id, .. } = item else {
                continue;
            };
            let interface = resolve.name_world_key(key);
            for function in resolve.interfaces[*id].functions.values() {
                let name = format!("{interface}#{}", function.name);
                types.insert(name, signature(&resolve, function));
            }
        }
        types
    })
}

/// A function's type in full, so that equal text means equal type.
fn signature(resolve: &Resolve, function: &Function) -> String {
    let params = function.params.iter().map(|param| text(resolve, &param.ty));
    let result = function.result.map(|result| text(resolve, &result));
    let params: Vec<String> = params.collect();
    format!("({})->{}", params.join(","), result.unwrap_or_default())
}

fn text(resolve: &Resolve, ty: &Type) -> String {
    let optional = |ty: &Option<Type>| ty.map_or_else(String::new, |ty| text(resolve, &ty));
    let Type::Id(id) = ty else {
        return format!("{ty:?}");
    };
    match &resolve.types[*id].kind {
        TypeDefKind::Record(record) => {
            let fields = record.fields.iter();
            let fields = fields.map(|f| format!("{}:{}", f.name, text(resolve, &f.ty)));
            format!("record{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter();
            let cases = cases.map(|case| format!("{}({})", case.name, optional(&case.ty)));
            format!("variant{{{}}}", cases.collect::<Vec<_>>().join(","))
        }
        TypeDefKind::Flags(flags) => {
            let names: Vec<&str> = flags.flags.iter().map(|flag| flag.name.as_str()).collect();
            format!("flags{{{}}}", names.join(","))
        }
        TypeDefKind::Enum(cases) => {
            let names: Vec<&str> = cases.cases.iter().map(|case| case.name.as_str()).collect();
            format!("enum{{{}}}", names.join(","))
        }
        TypeDefKind::Tuple(tuple) => {
            let types: Vec<String> = tuple.types.iter().map(|ty| text(resolve, ty)).collect();
            format!("tuple<{}>", types.join(","))
        }
        TypeDefKind::Option(ty) => format!("option<{}>", text(resolve, ty)),
        TypeDefKind::Result(result) => {
            format!("result<{},{}>", optional(&result.ok), optional(&result.err))
        }
        TypeDefKind::List(ty) => format!("list<{}>", text(resolve, ty)),
        TypeDefKind::Type(ty) => text(resolve, ty),
        // Not in the contract, so never equal to anything in it.
        other => format!("?{}", other.as_str()),
    }
}
