//! What `bindgen!` makes of `wit/`: types and traits for the imports, sync but for `blocking`.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "wasm-node:actor/blocking-actor",
    imports: {
        "wasm-node:actor/blocking": async | trappable,
        default: trappable,
    },
});
