//! Bulk instructions in pieces, so that nobody waits for one to end.
//!
//! Compiled code asks at each loop and call whether it may go on; `memory.fill` and `memory.copy`
//! are one instruction whatever their length, and gigabytes are allowed. So, before code is
//! compiled, each becomes a call of a function that this adds to its module, and that goes on in
//! pieces of [`PIECE_BYTES`]. Contract: what a module does stays the same, traps included; one
//! that has no such instruction, or one whose length is known to be short, stays as it is. Bulk
//! instructions on tables are short by a table's limits.
//!
//! Bytes that make no sense are left to the compiler to complain of.

use std::borrow::Cow;

use wasm_encoder::{BlockType, Function, Instruction};
use wasmparser::{BinaryReader, BinaryReaderError, Operator, Parser, Payload, TypeRef};

/// What is filled or copied at once: some 30 us.
const PIECE_BYTES: i32 = 256 << 10;

/// A component's, or a module's, bytes with the instructions replaced.
pub(super) fn in_pieces(wasm: &[u8]) -> Cow<'_, [u8]> {
    let replaced = match Parser::is_component(wasm) {
        true => component(wasm, 0),
        false => module(wasm),
    };
    match replaced {
        Ok(Some(bytes)) => Cow::Owned(bytes),
        Ok(None) | Err(_) => Cow::Borrowed(wasm),
    }
}

type Replaced = Result<Option<Vec<u8>>, BinaryReaderError>;

/// Magic number, version, layer.
const HEADER_BYTES: usize = 8;

/// Sections of a component that hold wasm.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;

/// Sections of a module that get more entries.
const TYPES: u8 = 1;
const FUNCTIONS: u8 = 3;
const CODE: u8 = 10;

/// `(i32, i32, i32) -> ()`, as a type section has it.
const TYPE: [u8; 6] = [0x60, 3, 0x7f, 0x7f, 0x7f, 0];
const CALL: u8 = 0x10;

/// Components within components that are looked into; what lies deeper stays as it is.
const MAX_DEPTH: u32 = 32;

fn component(wasm: &[u8], depth: u32) -> Replaced {
    if depth > MAX_DEPTH {
        return Ok(None);
    }
    let mut bytes = wasm.get(..HEADER_BYTES).unwrap_or_default().to_vec();
    let mut changed = false;
    for section in sections(wasm) {
        let (id, content) = section?;
        let replaced = match id {
            CORE_MODULE => module(content)?,
            COMPONENT => component(content, depth + 1)?,
            _ => None,
        };
        changed |= replaced.is_some();
        put_section(&mut bytes, id, replaced.as_deref().unwrap_or(content));
    }
    Ok(changed.then_some(bytes))
}

fn module(wasm: &[u8]) -> Replaced {
    let mut types = 0;
    let mut functions = 0;
    let mut memory = None;
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::TypeSection(section) => {
                for group in section {
                    types += group?.types().len() as u32;
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    match import?.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => functions += 1,
                        TypeRef::Memory(imported) => drop(memory.get_or_insert(imported)),
                        _ => {}
                    }
                }
            }
            Payload::FunctionSection(section) => functions += section.count(),
            Payload::MemorySection(section) => {
                if let Some(own) = section.into_iter().next() {
                    memory.get_or_insert(own?);
                }
            }
            Payload::CodeSectionEntry(body) => bodies.push(body),
            _ => {}
        }
    }
    if !memory.is_some_and(|memory| !memory.memory64 && memory.page_size_log2.is_none()) {
        return Ok(None);
    }
    let (fill, copy) = (functions, functions + 1);
    let mut code = Vec::new();
    leb128(&mut code, bodies.len() + 2);
    let mut changed = false;
    for body in &bodies {
        let mut replaced = Vec::new();
        let mut kept = body.range().start;
        let mut reader = body.get_operators_reader()?;
        let mut short = false;
        while !reader.eof() {
            let at = reader.original_position();
            let operator = reader.read()?;
            let callee = match operator {
                Operator::MemoryFill { mem: 0 } if !short => Some(fill),
                Operator::MemoryCopy {
                    dst_mem: 0,
                    src_mem: 0,
                } if !short => Some(copy),
                _ => None,
            };
            if let Some(callee) = callee {
                replaced.extend_from_slice(wasm.get(kept..at).unwrap_or_default());
                replaced.push(CALL);
                leb128(&mut replaced, callee as usize);
                kept = reader.original_position();
                changed = true;
            }
            // What the length is, if this comes right before.
            short = matches!(operator, Operator::I32Const { value } if (0..=PIECE_BYTES).contains(&value));
        }
        replaced.extend_from_slice(wasm.get(kept..body.range().end).unwrap_or_default());
        put(&mut code, &replaced);
    }
    if !changed {
        return Ok(None);
    }
    put(&mut code, &fill_in_pieces());
    put(&mut code, &copy_in_pieces());
    let mut ty = Vec::new();
    leb128(&mut ty, types as usize);
    let mut bytes = wasm.get(..HEADER_BYTES).unwrap_or_default().to_vec();
    for section in sections(wasm) {
        let (id, content) = section?;
        match id {
            TYPES => put_section(&mut bytes, id, &with_more(content, &[&TYPE])?),
            FUNCTIONS => put_section(&mut bytes, id, &with_more(content, &[&ty, &ty])?),
            CODE => put_section(&mut bytes, id, &code),
            _ => put_section(&mut bytes, id, content),
        }
    }
    Ok(Some(bytes))
}

/// The function that stands for `memory.fill`: where, with what, how much.
fn fill_in_pieces() -> Vec<u8> {
    const AT: u32 = 0;
    const VALUE: u32 = 1;
    const BYTES: u32 = 2;
    let fill = |function: &mut Function, bytes| {
        function.instructions().local_get(AT).local_get(VALUE);
        function.instruction(&bytes);
        function.instruction(&Instruction::MemoryFill(0));
    };
    let mut function = Function::new([]);
    at_once_if_short_or_impossible(&mut function, &[AT], |function| {
        fill(function, Instruction::LocalGet(BYTES));
    });
    function.instructions().loop_(BlockType::Empty);
    fill(&mut function, Instruction::I32Const(PIECE_BYTES));
    add(&mut function, AT, PIECE_BYTES);
    go_on_while_long(&mut function);
    fill(&mut function, Instruction::LocalGet(BYTES));
    function.instructions().end();
    function.into_raw_body()
}

/// The function that stands for `memory.copy`: to where, from where, how much.
fn copy_in_pieces() -> Vec<u8> {
    const TO: u32 = 0;
    const FROM: u32 = 1;
    const BYTES: u32 = 2;
    const COPY: Instruction = Instruction::MemoryCopy {
        src_mem: 0,
        dst_mem: 0,
    };
    let copy = |function: &mut Function, bytes: &Instruction| {
        function.instructions().local_get(TO).local_get(FROM);
        function.instruction(bytes).instruction(&COPY);
    };
    let mut function = Function::new([]);
    at_once_if_short_or_impossible(&mut function, &[TO, FROM], |function| {
        copy(function, &Instruction::LocalGet(BYTES));
    });
    // Upwards if the destination is below the source, else downwards, as they may overlap.
    function
        .instructions()
        .local_get(TO)
        .local_get(FROM)
        .i32_le_u()
        .if_(BlockType::Empty)
        .loop_(BlockType::Empty);
    copy(&mut function, &Instruction::I32Const(PIECE_BYTES));
    add(&mut function, TO, PIECE_BYTES);
    add(&mut function, FROM, PIECE_BYTES);
    go_on_while_long(&mut function);
    function.instructions().else_().loop_(BlockType::Empty);
    // The last piece first: what remains is from the same places on, and shorter.
    for place in [TO, FROM] {
        function
            .instructions()
            .local_get(place)
            .local_get(BYTES)
            .i32_add()
            .i32_const(PIECE_BYTES)
            .i32_sub();
    }
    function.instructions().i32_const(PIECE_BYTES);
    function.instruction(&COPY);
    go_on_while_long(&mut function);
    function.instructions().end();
    copy(&mut function, &Instruction::LocalGet(BYTES));
    function.instructions().end();
    function.into_raw_body()
}

/// The third parameter of both functions.
const BYTES: u32 = 2;

/// What fits a piece, and what does not fit the memory, is one instruction as before: the latter
/// traps before it changes anything.
fn at_once_if_short_or_impossible(
    function: &mut Function,
    places: &[u32],
    at_once: impl Fn(&mut Function),
) {
    function
        .instructions()
        .local_get(BYTES)
        .i32_const(PIECE_BYTES)
        .i32_le_u()
        .if_(BlockType::Empty);
    at_once(function);
    function.instructions().return_().end();
    for place in places {
        const WASM_PAGE_BYTES_LOG2: i64 = 16;
        function
            .instructions()
            .local_get(*place)
            .i64_extend_i32_u()
            .local_get(BYTES)
            .i64_extend_i32_u()
            .i64_add()
            .memory_size(0)
            .i64_extend_i32_u()
            .i64_const(WASM_PAGE_BYTES_LOG2)
            .i64_shl()
            .i64_gt_u()
            .if_(BlockType::Empty);
        at_once(function);
        function.instructions().return_().end();
    }
}

/// A piece is done; the end of the loop.
fn go_on_while_long(function: &mut Function) {
    add(function, BYTES, -PIECE_BYTES);
    function
        .instructions()
        .local_get(BYTES)
        .i32_const(PIECE_BYTES)
        .i32_gt_u()
        .br_if(0)
        .end();
}

fn add(function: &mut Function, local: u32, number: i32) {
    function
        .instructions()
        .local_get(local)
        .i32_const(number)
        .i32_add()
        .local_set(local);
}

/// The sections after the header: ids and contents.
fn sections(wasm: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), BinaryReaderError>> {
    let rest = wasm.get(HEADER_BYTES..).unwrap_or_default();
    let mut reader = BinaryReader::new(rest, HEADER_BYTES);
    std::iter::from_fn(move || (!reader.eof()).then(|| section(&mut reader)))
}

fn section<'a>(reader: &mut BinaryReader<'a>) -> Result<(u8, &'a [u8]), BinaryReaderError> {
    let id = reader.read_u8()?;
    let bytes = reader.read_var_u32()?;
    Ok((id, reader.read_bytes(bytes as usize)?))
}

/// A section's content with more entries at its end.
fn with_more(content: &[u8], entries: &[&[u8]]) -> Result<Vec<u8>, BinaryReaderError> {
    let mut reader = BinaryReader::new(content, 0);
    let count = reader.read_var_u32()? as usize;
    let mut more = Vec::with_capacity(content.len() + 16);
    leb128(&mut more, count + entries.len());
    more.extend_from_slice(reader.read_bytes(reader.bytes_remaining())?);
    entries
        .iter()
        .for_each(|entry| more.extend_from_slice(entry));
    Ok(more)
}

fn put_section(into: &mut Vec<u8>, id: u8, content: &[u8]) {
    into.push(id);
    put(into, content);
}

/// Bytes after their length.
fn put(into: &mut Vec<u8>, content: &[u8]) {
    leb128(into, content.len());
    into.extend_from_slice(content);
}

fn leb128(into: &mut Vec<u8>, number: usize) {
    wasm_encoder::Encode::encode(&number, into);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use wasm_encoder::{
        CodeSection, ExportKind, ExportSection, FunctionSection, MemorySection, MemoryType, Module,
        ModuleSection, TypeSection, ValType,
    };
    use wasmtime::{Engine, Instance, Store, TypedFunc};

    const MEMORY_BYTES: usize = 1 << 20;

    /// Exports a memory and, as `fill` and `copy`, functions that are one instruction each.
    fn wasm() -> Module {
        let mut types = TypeSection::new();
        types.ty().function([ValType::I32; 3], []);
        let mut functions = FunctionSection::new();
        functions.function(0).function(0);
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: (MEMORY_BYTES >> 16) as u64,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        let mut exports = ExportSection::new();
        exports.export("memory", ExportKind::Memory, 0);
        exports.export("fill", ExportKind::Func, 0);
        exports.export("copy", ExportKind::Func, 1);
        let mut code = CodeSection::new();
        for copies in [false, true] {
            let mut function = Function::new([]);
            let mut sink = function.instructions();
            sink.local_get(0).local_get(1).local_get(2);
            match copies {
                true => sink.memory_copy(0, 0),
                false => sink.memory_fill(0),
            };
            sink.end();
            code.function(&function);
        }
        let mut module = Module::new();
        module
            .section(&types)
            .section(&functions)
            .section(&memories)
            .section(&exports)
            .section(&code);
        module
    }

    struct Rig {
        store: Store<()>,
        instance: Instance,
    }

    impl Rig {
        fn new(wasm: &[u8]) -> Self {
            let engine = Engine::default();
            let module = wasmtime::Module::from_binary(&engine, wasm).unwrap();
            let mut store = Store::new(&engine, ());
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let mut rig = Self { store, instance };
            let bytes = rig.memory().iter_mut().enumerate();
            bytes.for_each(|(at, byte)| *byte = ((at * 31) >> 3) as u8);
            rig
        }

        fn memory(&mut self) -> &mut [u8] {
            let memory = self.instance.get_memory(&mut self.store, "memory");
            memory.unwrap().data_mut(&mut self.store)
        }

        /// Whether it did not trap.
        fn call(&mut self, name: &str, [a, b, c]: [u32; 3]) -> bool {
            let function = self.instance.get_typed_func(&mut self.store, name);
            let function: TypedFunc<(u32, u32, u32), ()> = function.unwrap();
            function.call(&mut self.store, (a, b, c)).is_ok()
        }
    }

    #[test]
    fn pieces_make_what_the_instruction_makes() {
        let wasm = wasm().finish();
        let Cow::Owned(pieces) = in_pieces(&wasm) else {
            panic!("nothing was replaced");
        };
        let (mut whole, mut pieces) = (Rig::new(&wasm), Rig::new(&pieces));
        let mut random = rand::rngs::SmallRng::seed_from_u64(7);
        let limit = MEMORY_BYTES as u32 + 1000;
        let (mut traps, mut long) = (0, 0);
        for _ in 0..400 {
            let name = ["fill", "copy"][random.random_range(0..2)];
            let bytes = match random.random_range(0..8) {
                0 => u32::MAX - random.random_range(0..3),
                1 => random.random_range(0..100),
                2 => PIECE_BYTES as u32 * random.random_range(1..4),
                _ => random.random_range(0..limit),
            };
            let args = [
                random.random_range(0..limit),
                random.random_range(0..limit),
                bytes,
            ];
            let done = whole.call(name, args);
            assert_eq!(pieces.call(name, args), done, "{name} {args:?}");
            assert!(pieces.memory() == whole.memory(), "{name} {args:?}");
            traps += u32::from(!done);
            long += u32::from(done && bytes > PIECE_BYTES as u32);
        }
        assert!(traps > 50 && long > 50, "{traps} {long}");
    }

    #[test]
    fn modules_in_components_are_found_and_others_left_alone() {
        let mut inner = wasm_encoder::Component::new();
        inner.section(&ModuleSection(&wasm()));
        let mut outer = wasm_encoder::Component::new();
        outer.section(&wasm_encoder::NestedComponentSection(&inner));
        outer.section(&ModuleSection(&Module::new()));
        let outer = outer.finish();
        let pieces = in_pieces(&outer);
        assert!(pieces.len() > outer.len());
        wasmparser::Validator::new().validate_all(&pieces).unwrap();
        assert!(
            matches!(in_pieces(&pieces), Cow::Owned(_)),
            "its own are instructions, too"
        );
        assert!(matches!(
            in_pieces(&Module::new().finish()),
            Cow::Borrowed(_)
        ));
        assert!(matches!(
            in_pieces(&outer[..outer.len() - 9]),
            Cow::Borrowed(_)
        ));
        assert!(matches!(in_pieces(b"nonsense"), Cow::Borrowed(_)));
    }
}
