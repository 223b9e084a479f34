//! The proof, on a plaintext link, that both sides have the cookie, which is never sent.
//!
//! Three messages: the dialler's nonce; the acceptor's nonce and proof; the dialler's
//! proof. A proof is BLAKE3, keyed by the cookie's key, over a role label and both nonces,
//! so that it is worth nothing in another run or reflected to its maker. The shell derives
//! the key from the cookie with a slow hash and draws the nonces; it must never use a
//! nonce twice.

use super::{Failed, HandshakeError, Refusal, decode, encode, refuse};

/// A random number used once, 32 bytes.
pub type Nonce = [u8; 32];
/// What the cookie was derived to, 32 bytes.
pub type Key = [u8; 32];

/// The dialler, waiting for the acceptor's proof.
pub struct DiallerChallenge {
    key: Key,
    nonce: Nonce,
}

/// The acceptor, waiting for the dialler's nonce.
pub struct AcceptorChallenge {
    key: Key,
    nonce: Nonce,
}

/// The acceptor, waiting for the dialler's proof.
pub struct AcceptorProof {
    expected: [u8; 32],
}

impl DiallerChallenge {
    /// Starts; returns the message to send.
    pub fn start(key: Key, nonce: Nonce) -> (Self, Vec<u8>) {
        (Self { key, nonce }, encode(&nonce))
    }

    /// Takes the acceptor's nonce and proof; returns our proof, to be sent. The cookie is
    /// proven then, and the hellos follow.
    ///
    /// # Errors
    /// [`HandshakeError::WrongCookie`]; the reply tells the acceptor.
    pub fn on_message(self, message: &[u8]) -> Result<Vec<u8>, Failed> {
        let (theirs, proof) = decode::<(Nonce, [u8; 32])>(message)?;
        if !equal(&proof, &prove(&self.key, "acceptor", &self.nonce, &theirs)) {
            let reply = refuse::<[u8; 32]>(Refusal::WrongCookie).reply;
            return Err(Failed {
                error: HandshakeError::WrongCookie,
                reply,
            });
        }
        let proof = prove(&self.key, "dialler", &self.nonce, &theirs);
        Ok(encode(&super::Answer::Accepted(proof)))
    }
}

impl AcceptorChallenge {
    /// Starts; nothing to send yet.
    pub fn start(key: Key, nonce: Nonce) -> Self {
        Self { key, nonce }
    }

    /// Takes the dialler's nonce; returns the message to send.
    ///
    /// # Errors
    /// It is malformed.
    pub fn on_message(self, message: &[u8]) -> Result<(AcceptorProof, Vec<u8>), Failed> {
        let theirs = decode::<Nonce>(message)?;
        let proof = prove(&self.key, "acceptor", &theirs, &self.nonce);
        let expected = prove(&self.key, "dialler", &theirs, &self.nonce);
        Ok((AcceptorProof { expected }, encode(&(self.nonce, proof))))
    }
}

impl AcceptorProof {
    /// Takes the dialler's proof.
    ///
    /// # Errors
    /// [`HandshakeError::WrongCookie`], found by either side.
    pub fn on_message(self, message: &[u8]) -> Result<(), Failed> {
        match decode::<super::Answer<[u8; 32]>>(message)? {
            super::Answer::Accepted(proof) if equal(&proof, &self.expected) => Ok(()),
            super::Answer::Accepted(_) | super::Answer::Refused(Refusal::WrongCookie) => {
                Err(HandshakeError::WrongCookie.into())
            }
            super::Answer::Refused(refusal) => Err(HandshakeError::RefusedByPeer(refusal).into()),
        }
    }
}

fn prove(key: &Key, role: &str, dialler: &Nonce, acceptor: &Nonce) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(b"wasm-node challenge 1 ");
    hasher.update(role.as_bytes());
    hasher.update(dialler);
    hasher.update(acceptor);
    *hasher.finalize().as_bytes()
}

/// In constant time, which BLAKE3's own comparison guarantees.
fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    blake3::Hash::from_bytes(*a) == blake3::Hash::from_bytes(*b)
}
