//! What the SDK itself puts around a server's saved state.
//!
//! Mostly nothing: then the bytes are the user's own, so that other languages can read and
//! write them. When there is something to add, it comes in front, behind a mark; user bytes
//! that begin with the mark get an (empty) front too, so a reader never mistakes them.

use serde::{Deserialize, Serialize};

use crate::runtime::Orphan;
use crate::{Message, Ref, codec};

/// The mark in front of saved state: then postcard of [`Front`], then the state.
const SAVED_MARK: &[u8] = b"\0wasm-node-sdk saved 1\0";

#[derive(Serialize, Deserialize, Default)]
struct Front {
    timeout_ms: Option<u32>,
    stash: Vec<Message>,
    orphans: Vec<(Ref, Orphan)>,
}

/// Saved state, taken apart.
#[derive(Debug)]
pub(crate) struct Snapshot<'a> {
    pub timeout_ms: Option<u32>,
    pub stash: Vec<Message>,
    pub orphans: Vec<(Ref, Orphan)>,
    pub state: &'a [u8],
}

pub(crate) fn seal(
    timeout_ms: Option<u32>,
    stash: Vec<Message>,
    orphans: Vec<(Ref, Orphan)>,
    state: Vec<u8>,
) -> Vec<u8> {
    let nothing = timeout_ms.is_none() && stash.is_empty() && orphans.is_empty();
    if nothing && !state.starts_with(SAVED_MARK) {
        return state;
    }
    [
        SAVED_MARK,
        &codec::encode(&Front {
            timeout_ms,
            stash,
            orphans,
        }),
        &state,
    ]
    .concat()
}

pub(crate) fn open(bytes: &[u8]) -> Result<Snapshot<'_>, String> {
    let Some(bytes) = bytes.strip_prefix(SAVED_MARK) else {
        return Ok(Snapshot {
            timeout_ms: None,
            stash: Vec::new(),
            orphans: Vec::new(),
            state: bytes,
        });
    };
    let (front, state) = postcard::take_from_bytes(bytes)
        .map_err(|error| format!("the saved state is damaged: {error}"))?;
    let Front {
        timeout_ms,
        stash,
        orphans,
    } = front;
    Ok(Snapshot {
        timeout_ms,
        stash,
        orphans,
        state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_state_stays_as_it_is() {
        let sealed = seal(None, Vec::new(), Vec::new(), b"42 1".to_vec());
        assert_eq!(sealed, b"42 1");
        assert_eq!(open(b"42 1").unwrap().state, b"42 1");
    }

    #[test]
    fn whatever_is_sealed_opens_again() {
        let marked = [SAVED_MARK, b"x"].concat();
        for state in [b"".to_vec(), b"42".to_vec(), marked] {
            for stash in [vec![], vec![Message::Cast(vec![1]), Message::Timeout]] {
                for timeout in [None, Some(0), Some(70_000)] {
                    let orphan = (Ref { node: 1, serial: 2 }, Orphan::Dies);
                    let orphans = vec![orphan; stash.len() / 2];
                    let sealed = seal(timeout, stash.clone(), orphans.clone(), state.clone());
                    let opened = open(&sealed).unwrap();
                    assert_eq!(opened.timeout_ms, timeout);
                    assert_eq!(opened.stash, stash);
                    assert_eq!(opened.orphans, orphans);
                    assert_eq!(opened.state, state);
                }
            }
        }
    }
}
