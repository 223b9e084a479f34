//! What wit-bindgen makes of `wit/`: the values and the imports. Only this crate sees it.

#![allow(missing_docs, clippy::all)]

wit_bindgen::generate!({
    path: "../wit",
    world: "blocking-actor",
    pub_export_macro: true,
    export_macro_name: "export_lifecycle",
    default_bindings_module: "wasm_node_sdk::bindings",
    runtime_path: "wasm_node_sdk::__wit_bindgen_rt",
    disable_run_ctors_once_workaround: true,
    generate_all,
    additional_derives_ignore: ["spawn-options"],
    additional_derives: [
        PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
    ],
});
