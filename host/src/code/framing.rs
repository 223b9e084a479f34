//! Whether bytes are framed like a whole component: the header, then sections whose lengths
//! end exactly at the end of the file. Cheap, and enough to tell a file that is still being
//! written from one that is done; whether the sections make sense is the compiler's to say.

/// The first bytes of every wasm file.
const MAGIC: &[u8] = b"\0asm";
/// What follows in a component: version 13, layer 1.
const COMPONENT: &[u8] = &[0x0d, 0, 1, 0];
/// What follows in a core module: version 1, layer 0.
const CORE_MODULE: &[u8] = &[1, 0, 0, 0];

/// What bytes look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// A whole component.
    Component,
    /// The beginning of one; says what is missing.
    Incomplete(&'static str),
    /// Something else; says what.
    Other(&'static str),
}

/// Looks at the frame of a file.
pub(super) fn framing(bytes: &[u8]) -> Framing {
    if bytes.is_empty() {
        return Framing::Incomplete("it is empty");
    }
    let magic = bytes.len().min(MAGIC.len());
    if bytes[..magic] != MAGIC[..magic] {
        return Framing::Other("it is no WebAssembly file: it does not begin with \\0asm");
    }
    let Some((version, mut rest)) = bytes.get(MAGIC.len()..).and_then(|b| b.split_at_checked(4))
    else {
        return Framing::Incomplete("it ends within its header");
    };
    if version == CORE_MODULE {
        return Framing::Other(
            "it is a core module, not a component: build it with `wasm-node build`",
        );
    }
    if version != COMPONENT {
        return Framing::Other("it is of a version of WebAssembly that this node does not know");
    }
    if rest.is_empty() {
        return Framing::Incomplete("it ends after its header");
    }
    while let Some((_id, body)) = rest.split_first() {
        let Some((length, body)) = leb128_u32(body) else {
            return Framing::Incomplete("it ends within a section's header");
        };
        let Some(after) = body.get(length as usize..) else {
            return Framing::Incomplete("it ends within a section");
        };
        rest = after;
    }
    Framing::Component
}

/// A length and what follows it; `None` if it is cut off or no 32-bit number.
fn leb128_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0u32;
    for (place, &byte) in bytes.iter().enumerate().take(5) {
        let low = u32::from(byte & 0x7f);
        value |= low
            .checked_shl(7 * place as u32)
            .filter(|v| v >> (7 * place) == low)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[place + 1..]));
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A whole component with one custom section of this content.
    pub(in super::super) fn component(content: &[u8]) -> Vec<u8> {
        let mut bytes = [MAGIC, COMPONENT].concat();
        bytes.push(0);
        let mut length = content.len() + 2;
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend([1, b'x']);
        bytes.extend(content);
        bytes
    }

    #[test]
    fn every_prefix_of_a_component_is_incomplete() {
        let bytes = component(&[7; 300]);
        assert_eq!(framing(&bytes), Framing::Component);
        for end in 0..bytes.len() {
            let found = framing(&bytes[..end]);
            assert!(matches!(found, Framing::Incomplete(_)), "{end}: {found:?}");
        }
    }

    #[test]
    fn other_files_are_told_apart() {
        assert!(matches!(framing(b"#!/bin/sh\n"), Framing::Other(_)));
        assert!(matches!(framing(b"\0asm\x01\0\0\0"), Framing::Other(why) if why.contains("core")));
        assert!(matches!(framing(b"\0asm\x0c\0\x01\0"), Framing::Other(_)));
    }

    #[test]
    fn an_endless_length_is_not_followed() {
        let bytes = [MAGIC, COMPONENT, &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 1]].concat();
        assert!(matches!(framing(&bytes), Framing::Incomplete(_)));
        let bytes = [MAGIC, COMPONENT, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
        assert!(matches!(framing(&bytes), Framing::Incomplete(_)));
    }
}
