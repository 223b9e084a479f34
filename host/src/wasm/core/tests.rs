//! The parts alone: images, shapes, who is awake. What guests see is in
//! `tests/tests/contract_parity.rs`, and `abi_tests` has the layouts.

use std::sync::Arc;

use rand::{Rng, SeedableRng, rngs::StdRng};
use wasm_node_protocol::{Capabilities, Incarnation, Limits, SpawnOptions};
use wasmparser::{Validator, WasmFeatures};

use super::awake::{Awake, MAX_AWAKE_ACTORS};
use super::image::Image;
use super::shape::{global_name, unbundle};
use super::test_modules::{Parts, component, contract, core_module, section};
use crate::process::{Process, Runtime, SpawnRequest};

const WASM_PAGE_BYTES: usize = 64 << 10;

fn memory(random: &mut StdRng, pages: usize) -> Vec<u8> {
    let mut memory = vec![0; pages * WASM_PAGE_BYTES];
    scribble(random, &mut memory);
    memory
}

/// Changes some bytes here and there: single ones, runs, and back to zero.
fn scribble(random: &mut StdRng, memory: &mut [u8]) {
    for _ in 0..random.random_range(0..40) {
        let at = random.random_range(0..memory.len());
        let most = (memory.len() - at).min([1, 8, 100, 10_000][random.random_range(0..4)]);
        let length = random.random_range(1..=most);
        let byte = if random.random() { 0 } else { random.random() };
        memory[at..at + length].fill(byte);
    }
    // The first and the last byte are where such things go wrong.
    if let [first, .., last] = memory {
        (*first, *last) = (random.random(), random.random());
    }
}

#[test]
fn changes_make_of_a_new_memory_what_it_was() {
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..60 {
        let pages = random.random_range(1..4);
        let new = memory(&mut random, pages);
        let image = Image::of(&new);
        assert_eq!(image.bytes(), new.len());
        let mut used = new.clone();
        // Zeros at first: growing adds those.
        used.resize((pages + random.random_range(0..3)) * WASM_PAGE_BYTES, 0);
        scribble(&mut random, &mut used);
        let changes = image.changes(&used);
        let mut woken = new.clone();
        woken.resize(used.len(), 0);
        changes.apply(&mut woken);
        assert!(woken == used, "other bytes");
        // What is taken once can be taken again.
        assert!(image.changes(&woken).places() == changes.places());
    }
}

#[test]
fn a_memory_set_back_to_its_image_is_new() {
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..60 {
        let new = memory(&mut random, 2);
        let image = Image::of(&new);
        let mut used = new.clone();
        scribble(&mut random, &mut used);
        image.restore(&mut used);
        assert!(used == new, "other bytes");
        assert_eq!(image.changes(&used).places(), 0);
    }
}

#[test]
fn a_memory_of_zeros_costs_nothing_and_can_become_one() {
    let zeros = vec![0; 3 * WASM_PAGE_BYTES];
    let image = Image::of(&zeros);
    assert_eq!(image.changes(&zeros).places(), 0);
    let full = vec![0xff; 3 * WASM_PAGE_BYTES];
    let mut woken = zeros.clone();
    image.changes(&full).apply(&mut woken);
    assert!(woken == full);
    image.restore(&mut woken);
    assert!(woken == zeros);
    // The other way round: all that was there is gone.
    let image = Image::of(&full);
    let mut woken = full.clone();
    image.changes(&zeros).apply(&mut woken);
    assert!(woken == zeros);
}

/// What `wit-component` makes of a module with these parts, for a world of the contract.
fn made(world: &str, parts: Parts) -> Vec<u8> {
    let (resolve, world) = contract(world, |text| text);
    component(&resolve, world, &core_module(&resolve, world, parts))
}

#[test]
fn a_component_of_the_usual_shape_is_its_module() {
    for (parts, globals, initializes) in [
        (Parts::default(), 1, false),
        (
            Parts {
                globals: 0,
                ..Parts::default()
            },
            0,
            false,
        ),
        // So many that counts and indices take two bytes.
        (
            Parts {
                globals: 200,
                ..Parts::default()
            },
            200,
            false,
        ),
        (
            Parts {
                initializes: true,
                ..Parts::default()
            },
            1,
            true,
        ),
        (
            Parts {
                start: true,
                ..Parts::default()
            },
            1,
            false,
        ),
    ] {
        let core = unbundle(&made("actor", parts)).unwrap();
        assert_eq!((core.globals, core.initializes), (globals, initializes));
        assert!(core.restorable);
        let mut validator = Validator::new_with_features(WasmFeatures::default());
        let types = validator.validate_all(&core.bytes).unwrap();
        for index in 0..globals {
            let name = global_name(index);
            let exported = types
                .as_ref()
                .core_exports()
                .into_iter()
                .flatten()
                .any(|(it, ty)| {
                    it == name
                        && matches!(ty, wasmparser::types::EntityType::Global(g) if g.mutable)
                });
            assert!(exported, "{name} is not exported");
        }
    }
}

#[test]
fn what_cannot_be_put_aside_is_told() {
    for operator in [
        // table.set, table.grow, table.fill, table.copy, table.init, elem.drop, data.drop
        &[0x41, 0, 0xd0, 0x70, 0x26, 0][..],
        &[0xd0, 0x70, 0x41, 0, 0xfc, 15, 0, 0x1a],
        &[0x41, 0, 0xd0, 0x70, 0x41, 0, 0xfc, 17, 0],
        &[0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 14, 0, 0],
        &[0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 12, 0, 0],
        &[0xfc, 13, 0],
        &[0xfc, 9, 0],
    ] {
        let parts = Parts {
            operator,
            ..Parts::default()
        };
        let core = unbundle(&made("actor", parts)).unwrap();
        assert!(!core.restorable, "{operator:x?}");
    }
    // A mutable global that is a reference.
    let parts = Parts {
        reference: true,
        ..Parts::default()
    };
    assert!(!unbundle(&made("actor", parts)).unwrap().restorable);
    // table.get changes nothing.
    let operator = &[0x41, 0, 0x25, 0, 0x1a];
    let parts = Parts {
        operator,
        ..Parts::default()
    };
    assert!(unbundle(&made("actor", parts)).unwrap().restorable);
}

fn refused(component: &[u8], why: &str) {
    match unbundle(component) {
        Ok(_) => panic!("accepted, although: {why}"),
        Err(error) => assert!(error.contains(why), "refused for another reason: {error}"),
    }
}

#[test]
fn everything_else_is_left_to_the_component_layer() {
    let usual = made("actor", Parts::default());
    refused(&made("blocking-actor", Parts::default()), "blocking");
    // A second module, with a memory; and one that computes.
    let with = |module: &[u8]| {
        let mut component = usual.clone();
        section(&mut component, 1, module);
        component
    };
    refused(&with(b"\0asm\x01\0\0\0\x05\x03\x01\0\0"), "several modules");
    let computes =
        b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x06\x01\x04\0\x01\x01\x0b";
    refused(&with(computes), "several modules");
    let starts =
        b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x08\x01\0\x0a\x04\x01\x02\0\x0b";
    refused(&with(starts), "start function");
    refused(&with(b"\0asm\x01\0\0\0")[..usual.len() + 4], "");
    refused(&[], "");
    refused(b"\0asm\x0d\0\x01\0", "no");
    refused(b"\0asm\x01\0\0\0", "");
    // A component within the component, with a module.
    let mut nested = usual.clone();
    section(&mut nested, 4, &usual);
    refused(&nested, "");

    // Types that are not the contract's.
    for (from, to) in [
        (
            "record pid { node: u64, serial: u64 }",
            "record pid { node: u64, serial: u32 }",
        ),
        (
            "record pid { node: u64, serial: u64 }",
            "record pid { serial: u64, node: u64 }",
        ),
        ("hibernate,", "hibernate, doze,"),
        (
            "is-alive: func(target: pid) -> bool;",
            "is-alive: func(target: pid) -> u32;",
        ),
        ("visible, hidden, all", "hidden, visible, all"),
        (
            "is-alive: func(target: pid) -> bool;",
            "alive: func(target: pid) -> bool;",
        ),
    ] {
        let (resolve, world) = contract("actor", |text| text.replace(from, to));
        let core = core_module(&resolve, world, Parts::default());
        refused(
            &component(&resolve, world, &core),
            "is not of this contract",
        );
    }
    // Another version of the contract.
    let (resolve, world) = contract("actor", |text| text.replace("@0.1.0", "@0.1.1"));
    let core = core_module(&resolve, world, Parts::default());
    refused(&component(&resolve, world, &core), "");
    // WASI, and functions of no interface.
    let clock = "\ninterface clock { now: func() -> u64; }\nworld actor { import clock; ";
    let (resolve, world) = contract("actor", |text| text.replace("\nworld actor {", clock));
    let core = core_module(&resolve, world, Parts::default());
    refused(&component(&resolve, world, &core), "clock");
    let own = "\nworld actor { import now: func() -> u64; ";
    let (resolve, world) = contract("actor", |text| text.replace("\nworld actor {", own));
    let core = core_module(&resolve, world, Parts::default());
    refused(&component(&resolve, world, &core), "no interface");
    // No actor.
    let (resolve, world) = contract("actor", |text| {
        text.replace("    include imports;\n    export lifecycle;", "")
    });
    let core = core_module(&resolve, world, Parts::default());
    refused(&component(&resolve, world, &core), "no actor");
    // Strings that are not UTF-8.
    let parts = Parts {
        encoding: wit_component::StringEncoding::UTF16,
        ..Parts::default()
    };
    refused(&made("actor", parts), "not UTF-8");
}

fn process(runtime: &Arc<Runtime>) -> Arc<Process> {
    let request = SpawnRequest {
        label: "test".into(),
        parent: None,
        options: SpawnOptions::default(),
        limits: Limits::default(),
        capabilities: Capabilities::default(),
    };
    runtime.spawn(request).unwrap()
}

#[tokio::test]
async fn whoever_left_is_forgotten_and_the_longest_idle_are_asked_to_rest() {
    let io = tokio::runtime::Handle::current();
    let name = "test@localhost".parse().unwrap();
    let runtime = Runtime::start(name, Incarnation(7), 1, io, || {}).unwrap();
    let awake = Arc::<Awake>::default();
    let often = process(&runtime);
    // One that comes and goes leaves nothing behind.
    for _ in 0..50 * MAX_AWAKE_ACTORS {
        drop(awake.enter(&often));
    }
    assert!(
        awake.entries() <= MAX_AWAKE_ACTORS + 1,
        "{} entries",
        awake.entries()
    );
    assert!(!often.rest_is_asked());
    // As many as may be awake are left in peace.
    let first: Vec<_> = (0..MAX_AWAKE_ACTORS).map(|_| process(&runtime)).collect();
    let mut visits: Vec<_> = first.iter().map(|process| awake.enter(process)).collect();
    assert!(!first.iter().any(|process| process.rest_is_asked()));
    // More come: for each of them, the one that came first is asked.
    let more: Vec<_> = (0..100).map(|_| process(&runtime)).collect();
    visits.extend(more.iter().map(|process| awake.enter(process)));
    assert!(first[..100].iter().all(|process| process.rest_is_asked()));
    assert!(!first[100..].iter().any(|process| process.rest_is_asked()));
    assert!(!more.iter().any(|process| process.rest_is_asked()));
    // All of them go: there is room.
    visits.clear();
    let last = process(&runtime);
    for _ in 0..2 * MAX_AWAKE_ACTORS {
        drop(awake.enter(&last));
    }
    assert!(
        awake.entries() <= MAX_AWAKE_ACTORS + 1,
        "{} entries",
        awake.entries()
    );
    runtime.stop();
}
