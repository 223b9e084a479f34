//! The module `registry`: the SDK's [`key_registry`](wasm_node_sdk::key_registry) as a component.

wasm_node_sdk::export_gen_server!(wasm_node_sdk::key_registry::RegistryServer);
