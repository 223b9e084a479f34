//! Components as bytes: what a test needs to make a new version of one without a compiler.

/// The same component with a custom section at its end: other bytes, so another digest and
/// another version; the same behaviour.
pub fn with_custom_section(component: &[u8], content: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"wasm-node-test";
    let mut body = leb128(NAME.len());
    body.extend_from_slice(NAME);
    body.extend_from_slice(content);
    // A custom section has the id 0, in components as in core modules.
    [component, &[0], &leb128(body.len()), &body].concat()
}

/// The same component with a core module at its end that nobody uses, and which has a memory of
/// its own. The node then leaves it to wasmtime's component layer.
pub fn with_second_memory(component: &[u8]) -> Vec<u8> {
    // A core module with one section, of memories: one, of no pages.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0\x05\x03\x01\x00\x00";
    [component, &[1], &leb128(MODULE.len()), MODULE].concat()
}

fn leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
