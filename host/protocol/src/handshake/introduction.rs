//! The first bytes of a connection: which protocol, which security, and who speaks.
//!
//! In clear and unproven. What follows proves it: the cookie is chosen by the names, and the
//! proof covers them.

use super::HandshakeError;
use crate::ids::NodeName;

/// Length of a [`Preamble`] on the wire, in bytes.
pub const PREAMBLE_BYTES: usize = 8;

const MAGIC: [u8; 7] = *b"WASMND2";

/// How a link is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Security {
    /// Noise, keyed by the cookie.
    Noise,
    /// A mutual challenge, then plain bytes (`--plaintext`).
    Plaintext,
}

/// The first [`PREAMBLE_BYTES`] that each side sends, before it reads any: unprotected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preamble {
    /// What the sender insists on.
    pub security: Security,
}

impl Preamble {
    /// Its bytes.
    pub fn encode(self) -> [u8; PREAMBLE_BYTES] {
        let mut bytes = [0; PREAMBLE_BYTES];
        bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
        bytes[MAGIC.len()] = match self.security {
            Security::Noise => b'N',
            Security::Plaintext => b'P',
        };
        bytes
    }

    /// Checks the peer's preamble against ours.
    ///
    /// # Errors
    /// [`HandshakeError::NotANode`] or [`HandshakeError::Security`].
    pub fn check(self, peer: &[u8; PREAMBLE_BYTES]) -> Result<(), HandshakeError> {
        let (magic, mode) = peer.split_at(MAGIC.len());
        let security = match mode {
            b"N" if magic == MAGIC => Security::Noise,
            b"P" if magic == MAGIC => Security::Plaintext,
            _ => return Err(HandshakeError::NotANode),
        };
        if security == self.security {
            Ok(())
        } else {
            Err(HandshakeError::Security {
                ours: self.security,
                theirs: security,
            })
        }
    }
}

/// What each side sends first, before it reads anything, and in clear: its preamble, one byte of
/// length, and its name. Whoever can reach the node learns the name, as from the port mapper.
pub fn introduction(preamble: Preamble, name: &NodeName) -> Vec<u8> {
    let mut bytes = preamble.encode().to_vec();
    put_name(&mut bytes, name);
    bytes
}

/// The name in an introduction, without its length.
///
/// # Errors
/// It is none: what is there is no node.
pub fn introduced_name(bytes: &[u8]) -> Result<NodeName, HandshakeError> {
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or(HandshakeError::NotANode)
}

/// What both sides bind into the proof of the cookie, so that it fails if an introduction was
/// altered on its way.
pub fn derive_transcript(preamble: Preamble, dialler: &NodeName, acceptor: &NodeName) -> Vec<u8> {
    let mut bytes = introduction(preamble, dialler);
    put_name(&mut bytes, acceptor);
    bytes
}

fn put_name(bytes: &mut Vec<u8>, name: &NodeName) {
    // Names are at most 255 bytes long.
    bytes.push(name.as_str().len() as u8);
    bytes.extend_from_slice(name.as_str().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_introduction() {
        let preamble = Preamble {
            security: Security::Noise,
        };
        let longest = format!("{}@127.0.0.1", "n".repeat(245));
        for text in ["a@b", &longest] {
            let name: NodeName = text.parse().unwrap();
            let bytes = introduction(preamble, &name);
            let (length, rest) = bytes[PREAMBLE_BYTES..].split_first().unwrap();
            assert_eq!(usize::from(*length), rest.len());
            assert_eq!(introduced_name(rest), Ok(name));
        }
        for bytes in [&b""[..], b"noname", b"\xff@h", b"a b@h"] {
            assert_eq!(introduced_name(bytes), Err(HandshakeError::NotANode));
        }
    }

    #[test]
    fn a_transcript_is_of_these_two_in_these_roles() {
        let [a, b] = ["a@h", "b@h"].map(|name| name.parse().unwrap());
        let of = |security, a, b| derive_transcript(Preamble { security }, a, b);
        let ours = of(Security::Noise, &a, &b);
        assert_ne!(ours, of(Security::Noise, &b, &a));
        assert_ne!(ours, of(Security::Plaintext, &a, &b));
        assert_ne!(ours, of(Security::Noise, &a, &a));
    }
}
