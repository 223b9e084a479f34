//! Our layouts against those that `wit-parser` works out from the contract's text, and values of
//! guests that mean no good.

use rand::{Rng, SeedableRng, rngs::StdRng};
use wasmtime::{Module, ValRaw, ValType};
use wit_parser::abi::{FlatTypes, WasmType};
use wit_parser::{Resolve, SizeAlign, Type, TypeDefKind, TypeId};

use super::abi::{Layout, Lift};
use super::linker;
use super::test_modules::{Parts, contract, core_module};
use crate::process;
use crate::wasm::Engine;
use crate::wasm::bindings::wasm_node::actor::code::ModuleInfo;
use crate::wasm::bindings::wasm_node::actor::global::Resolver;
use crate::wasm::bindings::wasm_node::actor::groups::GroupError;
use crate::wasm::bindings::wasm_node::actor::io::LogLevel;
use crate::wasm::bindings::wasm_node::actor::node::NodeSet;
use crate::wasm::bindings::wasm_node::actor::process::{
    AliasMode, InfoItem, Limits, SpawnFlags, SpawnOptions, Status,
};
use crate::wasm::bindings::wasm_node::actor::types as wit;

struct Contract {
    resolve: Resolve,
    sizes: SizeAlign,
}

impl Contract {
    fn new() -> Self {
        let (resolve, _) = contract("actor", |text| text);
        let mut sizes = SizeAlign::default();
        sizes.fill(&resolve);
        Self { resolve, sizes }
    }

    fn find(&self, name: &str) -> TypeId {
        let types = self.resolve.types.iter();
        // Where it is defined, not where it is used.
        let mut found = types.filter(|(_, ty)| {
            ty.name.as_deref() == Some(name) && !matches!(ty.kind, TypeDefKind::Type(_))
        });
        found.next().unwrap_or_else(|| panic!("no type {name}")).0
    }

    fn same_layout<T: Layout>(&self, name: &str) {
        let ty = Type::Id(self.find(name));
        let size = self.sizes.size(&ty).size_wasm32();
        let align = self.sizes.align(&ty).align_wasm32();
        assert_eq!(
            (T::SIZE, T::ALIGN),
            (size, align),
            "size and alignment of {name}"
        );
        let mut room = [WasmType::I32; 64];
        let mut flat = FlatTypes::new(&mut room);
        assert!(self.resolve.push_flat(&ty, &mut flat));
        let flat: Vec<ValType> = flat.to_vec().iter().map(val_type).collect();
        let mut ours = Vec::new();
        T::flatten(&mut ours);
        let same =
            ours.len() == flat.len() && ours.iter().zip(&flat).all(|(a, b)| ValType::eq(a, b));
        assert!(same, "{name} is {ours:?}, not {flat:?}");
        assert_eq!(T::FLATS, flat.len(), "{name}");
    }

    /// The names of a variant's cases, as Rust writes them, and whether each has a value.
    fn cases(&self, name: &str) -> (Vec<(String, bool)>, usize) {
        match &self.resolve.types[self.find(name)].kind {
            TypeDefKind::Variant(variant) => {
                let cases = variant.cases.iter();
                let cases = cases.map(|case| (camel(&case.name), case.ty.is_some()));
                let types = variant.cases.iter().map(|case| case.ty.as_ref());
                let at = self.sizes.payload_offset(variant.tag(), types);
                (cases.collect(), at.size_wasm32())
            }
            TypeDefKind::Enum(of) => {
                let cases = of.cases.iter().map(|case| (camel(&case.name), false));
                (cases.collect(), 1)
            }
            other => panic!("{name} is {other:?}"),
        }
    }

    /// That each tag means the case that it stands for, and the next one is refused, from memory
    /// and from arguments.
    fn same_cases<T: Lift + std::fmt::Debug>(&self, name: &str) {
        let (cases, _) = self.cases(name);
        for (tag, (case, has_value)) in (0..).zip(&cases) {
            let mut memory = vec![0; 256];
            memory[0] = tag;
            let mut flats = vec![ValRaw::u64(0); T::FLATS];
            flats[0] = ValRaw::u32(u32::from(tag));
            for value in [T::load(&memory, 0), T::lift(&flats, &memory)] {
                let value = format!("{:?}", value.unwrap());
                let (said, rest) = value.split_at(value.find('(').unwrap_or(value.len()));
                let said = said.rsplit("::").next().unwrap();
                assert_eq!(
                    (said, !rest.is_empty()),
                    (case.as_str(), *has_value),
                    "{name} {tag}"
                );
            }
        }
        for tag in [cases.len() as u32, 0x7f, 0xff, u32::MAX, 1 << 31, 256] {
            let mut memory = vec![0; 256];
            memory[0] = tag as u8;
            if tag <= 0xff {
                assert!(T::load(&memory, 0).is_err(), "{name}: {tag}");
            }
            let mut flats = vec![ValRaw::u64(0); T::FLATS];
            flats[0] = ValRaw::u32(tag);
            assert!(T::lift(&flats, &memory).is_err(), "{name}: {tag}");
        }
    }
}

fn val_type(ty: &WasmType) -> ValType {
    match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => ValType::I32,
        WasmType::I64 | WasmType::PointerOrI64 => ValType::I64,
        WasmType::F32 => ValType::F32,
        WasmType::F64 => ValType::F64,
    }
}

fn camel(kebab: &str) -> String {
    let words = kebab.split('-').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    words.collect()
}

#[test]
fn every_type_lies_where_the_contract_says() {
    let contract = Contract::new();
    contract.same_layout::<wit::Pid>("pid");
    contract.same_layout::<wit::Ref>("ref");
    contract.same_layout::<wit::ReplyTo>("reply-to");
    contract.same_layout::<wit::ExitReason>("exit-reason");
    contract.same_layout::<wit::Destination>("destination");
    contract.same_layout::<wit::CallError>("call-error");
    contract.same_layout::<wit::SpawnError>("spawn-error");
    contract.same_layout::<wit::RegisterError>("register-error");
    contract.same_layout::<wit::NodeKind>("node-kind");
    contract.same_layout::<GroupError>("group-error");
    contract.same_layout::<wit::NodeEvent>("node-event");
    contract.same_layout::<process::Message>("message");
    contract.same_layout::<wit::Outcome>("outcome");
    contract.same_layout::<wit::Start>("start");
    contract.same_layout::<wit::SaveError>("save-error");
    contract.same_layout::<SpawnFlags>("spawn-flags");
    contract.same_layout::<SpawnOptions>("spawn-options");
    contract.same_layout::<Limits>("limits");
    contract.same_layout::<AliasMode>("alias-mode");
    contract.same_layout::<Status>("status");
    contract.same_layout::<InfoItem>("info-item");
    contract.same_layout::<Resolver>("resolver");
    contract.same_layout::<NodeSet>("node-set");
    contract.same_layout::<wit::OutputKind>("output-kind");
    contract.same_layout::<LogLevel>("log-level");
    contract.same_layout::<ModuleInfo>("module-info");
}

#[test]
fn every_tag_means_its_case() {
    let contract = Contract::new();
    contract.same_cases::<wit::ExitReason>("exit-reason");
    contract.same_cases::<wit::Destination>("destination");
    contract.same_cases::<wit::CallError>("call-error");
    contract.same_cases::<wit::SpawnError>("spawn-error");
    contract.same_cases::<wit::RegisterError>("register-error");
    contract.same_cases::<wit::NodeKind>("node-kind");
    contract.same_cases::<GroupError>("group-error");
    contract.same_cases::<wit::Outcome>("outcome");
    contract.same_cases::<wit::Start>("start");
    contract.same_cases::<wit::SaveError>("save-error");
    contract.same_cases::<AliasMode>("alias-mode");
    contract.same_cases::<Status>("status");
    contract.same_cases::<InfoItem>("info-item");
    contract.same_cases::<Resolver>("resolver");
    contract.same_cases::<NodeSet>("node-set");
    contract.same_cases::<wit::OutputKind>("output-kind");
    contract.same_cases::<LogLevel>("log-level");
}

#[test]
fn values_come_from_where_they_lie() {
    let contract = Contract::new();
    let (_, at) = contract.cases("exit-reason");
    let mut memory = vec![0; 128];
    memory[8] = 6;
    memory[8 + at..][..8].copy_from_slice(&(1u64 << 52).to_le_bytes());
    memory[8 + at + 8..][..8].copy_from_slice(&77u64.to_le_bytes());
    let reason = wit::ExitReason::load(&memory, 8).unwrap();
    assert!(
        matches!(&reason, wit::ExitReason::AlreadyStarted(pid) if pid.node == 1 << 52 && pid.serial == 77),
        "{reason:?}"
    );
    let (_, at) = contract.cases("outcome");
    memory[16] = 2;
    memory[16 + at..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(
        wit::Outcome::load(&memory, 16).unwrap(),
        wit::Outcome::WaitFor(u32::MAX)
    ));
    // A text in the last bytes of the memory, and an empty one at its end.
    let text = "\u{1f980}".as_bytes();
    memory[124..].copy_from_slice(text);
    assert_eq!(
        String::lift(&[ValRaw::u32(124), ValRaw::u32(4)], &memory).unwrap(),
        "\u{1f980}"
    );
    assert_eq!(
        String::lift(&[ValRaw::u32(128), ValRaw::u32(0)], &memory).unwrap(),
        ""
    );
    // Bits of no flag, and what is above 32 bits in an argument, count for nothing.
    let flags = SpawnFlags::lift(&[ValRaw::u64(0xffff_ffff_0000_00fa)], &memory).unwrap();
    assert!(flags == SpawnFlags::MONITOR);
    assert!(bool::lift(&[ValRaw::u32(1 << 31)], &memory).unwrap());
}

/// Every import of the world, with the type that the canonical ABI gives it, and no other.
#[test]
fn every_import_is_there_and_takes_what_the_contract_says() {
    let engine = Engine::new().unwrap();
    let linker = linker(engine.inner()).unwrap();
    let (resolve, world) = contract("actor", |text| text);
    let module = core_module(&resolve, world, Parts::default());
    let module = Module::new(engine.inner(), module).unwrap();
    assert!(module.imports().count() > 40);
    linker.instantiate_pre(&module).unwrap();
    // Not just any type.
    let (resolve, world) = contract("actor", |text| {
        text.replace(
            "is-alive: func(target: pid)",
            "is-alive: func(target: pid, how: u32)",
        )
    });
    let module = core_module(&resolve, world, Parts::default());
    let module = Module::new(engine.inner(), module).unwrap();
    assert!(linker.instantiate_pre(&module).is_err());
}

#[test]
fn hostile_values_are_errors() {
    let memory = vec![0xff; 64];
    for (at, length) in [
        (0, 65),
        (64, 1),
        (65, 0),
        (63, 2),
        (u32::MAX, 1),
        (1, u32::MAX),
        (u32::MAX, u32::MAX),
        (1 << 31, 1 << 31),
    ] {
        let flats = [ValRaw::u32(at), ValRaw::u32(length)];
        assert!(Vec::<u8>::lift(&flats, &memory).is_err(), "{at} {length}");
        assert!(String::lift(&flats, &memory).is_err(), "{at} {length}");
        assert!(
            Vec::<wit::Pid>::lift(&flats, &memory).is_err(),
            "{at} {length}"
        );
        let mut memory = memory.clone();
        memory[..4].copy_from_slice(&at.to_le_bytes());
        memory[4..8].copy_from_slice(&length.to_le_bytes());
        assert!(Vec::<u8>::load(&memory, 0).is_err(), "{at} {length}");
        memory[..8].rotate_left(0);
        memory.copy_within(0..8, 8);
        // A reason of its own words, with that text.
        memory[0] = 9;
        assert!(wit::ExitReason::load(&memory, 0).is_err(), "{at} {length}");
    }
    for bytes in [
        &b"\xff"[..],
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"a\xf0\x9f\xa6",
        b"\xf8\x88\x80\x80\x80",
    ] {
        let flats = [ValRaw::u32(0), ValRaw::u32(bytes.len() as u32)];
        assert!(String::lift(&flats, bytes).is_err(), "{bytes:x?}");
    }
    // A value that begins within the memory and ends beyond, or lies beyond.
    for at in [57, 63, 64, 65, 1 << 20, u32::MAX as usize] {
        assert!(u64::load(&memory, at).is_err(), "{at}");
        assert!(wit::Pid::load(&memory, at).is_err(), "{at}");
        assert!(Vec::<u8>::load(&memory, at).is_err(), "{at}");
        let zeros = [0; 64];
        assert!(wit::Start::load(&zeros, at).is_err(), "{at}");
        assert!(<(wit::Pid, wit::Ref)>::load(&zeros, at).is_err(), "{at}");
    }
    assert!(wit::Outcome::load(&[], 0).is_err());
}

fn any<T: Lift>(random: &mut StdRng, memory: &[u8]) {
    let flats: Vec<ValRaw> = (0..T::FLATS)
        .map(|_| match random.random_range(0..4) {
            0 => ValRaw::u64(random.random()),
            1 => ValRaw::u32(random.random_range(0..300)),
            _ => ValRaw::u32(random.random_range(0..12)),
        })
        .collect();
    let _ = T::lift(&flats, memory);
    let at = random.random_range(0..memory.len() + 20);
    let _ = T::load(memory, at);
}

#[test]
fn no_value_panics() {
    let mut random = StdRng::seed_from_u64(3);
    for _ in 0..20_000 {
        let length = random.random_range(0..300);
        let small: bool = random.random();
        let byte = |random: &mut StdRng| match small {
            true => random.random_range(0..12),
            false => random.random(),
        };
        let memory: Vec<u8> = (0..length).map(|_| byte(&mut random)).collect();
        any::<wit::ExitReason>(&mut random, &memory);
        any::<(wit::Destination, Vec<u8>, Option<u32>)>(&mut random, &memory);
        any::<(String, Vec<u8>, SpawnOptions)>(&mut random, &memory);
        any::<(String, String, Vec<u8>, SpawnOptions)>(&mut random, &memory);
        any::<(wit::ReplyTo, Vec<u8>)>(&mut random, &memory);
        any::<(String, String, Vec<wit::Pid>)>(&mut random, &memory);
        any::<wit::Outcome>(&mut random, &memory);
        any::<Result<wit::Outcome, wit::ExitReason>>(&mut random, &memory);
        any::<Result<Vec<u8>, wit::SaveError>>(&mut random, &memory);
        any::<Option<Vec<String>>>(&mut random, &memory);
        any::<(u32, wit::Pid, Vec<u8>)>(&mut random, &memory);
        any::<NodeSet>(&mut random, &memory);
        any::<bool>(&mut random, &memory);
    }
}
