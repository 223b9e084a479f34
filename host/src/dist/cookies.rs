//! Which cookie a node uses with which peer: Erlang's `set_cookie/1,2` and `get_cookie/0,1`.
//!
//! Contract: a handshake uses the cookie that is set when it begins; links that are up stay.
//! Guests have no way to here.

use std::collections::BTreeMap;

use parking_lot::RwLock;
use wasm_node_protocol::NodeName;

use super::cookie::Cookie;
use crate::control::CookieRow;

/// The most peers with cookies of their own: as many as a node knows at all.
pub const MAX_PEER_COOKIES: usize = wasm_node_protocol::membership::MAX_PEERS;

/// There are [`MAX_PEER_COOKIES`] already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node has cookies for {MAX_PEER_COOKIES} single peers already")]
pub struct TooManyCookies;

pub(super) struct Cookies(RwLock<Set>);

struct Set {
    for_all: Cookie,
    for_one: BTreeMap<NodeName, Cookie>,
}

impl Cookies {
    pub fn new(for_all: Cookie) -> Self {
        Self(RwLock::new(Set {
            for_all,
            for_one: BTreeMap::new(),
        }))
    }

    /// The one to use with this peer.
    pub fn with(&self, peer: &NodeName) -> Cookie {
        let set = self.0.read();
        set.for_one.get(peer).unwrap_or(&set.for_all).clone()
    }

    pub fn set(&self, peer: Option<&NodeName>, cookie: Cookie) -> Result<(), TooManyCookies> {
        let mut set = self.0.write();
        let Some(peer) = peer else {
            set.for_all = cookie;
            return Ok(());
        };
        if set.for_one.len() >= MAX_PEER_COOKIES && !set.for_one.contains_key(peer) {
            return Err(TooManyCookies);
        }
        set.for_one.insert(peer.clone(), cookie);
        Ok(())
    }

    /// What may be shown of them, the one for all first.
    pub fn rows(&self) -> Vec<CookieRow> {
        let set = self.0.read();
        let for_all = (None, &set.for_all);
        let for_one = set
            .for_one
            .iter()
            .map(|(peer, cookie)| (Some(peer.clone()), cookie));
        let row = |(peer, cookie): (_, &Cookie)| CookieRow {
            peer,
            fingerprint: cookie.fingerprint(),
        };
        std::iter::once(for_all).chain(for_one).map(row).collect()
    }
}
