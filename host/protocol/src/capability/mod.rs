//! What an actor may touch besides other actors: capabilities, and sets of them that only shrink.
//!
//! Owns their text and their algebra. Contract: what parses prints as a text that parses to the
//! same; [`Capabilities::meet`] allows exactly what both sides allow, so no chain of spawns
//! ever widens a set. Of two capabilities for one kind of thing, either one covers the other or
//! they have nothing in common (folders excepted, where the inner one takes the lesser access): a
//! set that was met with another is at most as long as both together.
//!
//! Deliberately does not know interfaces, modules or who grants what, nor whether a folder, a
//! host or a bucket exists.

mod set;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

pub use set::{Capabilities, MAX_CAPABILITIES, TooMany};

/// The longest capability, in bytes of its text; a longer one is refused.
pub const MAX_CAPABILITY_BYTES: usize = 1024;
/// The longest name of a bucket or of an environment variable, in bytes.
pub const MAX_CAPABILITY_NAME_BYTES: usize = 255;

/// Stands for all of a kind, and alone for everything.
const ANY: &str = "*";

/// Something that an actor may do beyond messaging.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// `keyvalue:BUCKET`: open that bucket of its node's store; `*` is any.
    KeyValue(Any<String>),
    /// `http:HOST`, `http:HOST:PORT`, `http:*`: make HTTP requests to there.
    Http(Any<Endpoint>),
    /// `sockets:HOST`, `sockets:HOST:PORT`, `sockets:*`: connect to there, send there, and listen
    /// there.
    Sockets(Any<Endpoint>),
    /// `files:PATH`, `files-read-only:PATH`: use the files of that folder of its node's machine.
    Files {
        /// Absolute, without `.`, `..` and a slash at the end; empty for the root.
        folder: String,
        /// What it may do there.
        access: Access,
    },
    /// `env:NAME`: see that environment variable of its node; `*` is all.
    Env(Any<String>),
}

/// One of a kind, or all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Any<T> {
    /// `*`.
    All,
    /// That one.
    One(T),
}

/// Somewhere in the network. A name and an address are different hosts, whatever the name
/// resolves to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The host.
    pub host: EndpointHost,
    /// Its port; `None` is any.
    pub port: Option<u16>,
}

/// A host, as a capability names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointHost {
    /// By its address.
    Ip(IpAddr),
    /// By its name, in lower case.
    Name(String),
}

/// What may be done with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Look.
    ReadOnly,
    /// Look, and change.
    ReadWrite,
}

/// What a capability is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CapabilityKind {
    /// [`Capability::KeyValue`].
    KeyValue,
    /// [`Capability::Http`].
    Http,
    /// [`Capability::Sockets`].
    Sockets,
    /// [`Capability::Files`].
    Files,
    /// [`Capability::Env`].
    Env,
}

/// Why a text is no capability. The fault of whoever wrote it; says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// It begins like none.
    #[error(
        "{0:?} is no capability: there are \"keyvalue:BUCKET\", \"http:HOST\", \"sockets:HOST:PORT\", \
         \"files:PATH\", \"files-read-only:PATH\", \"env:NAME\", and \"*\" for all"
    )]
    Unknown(String),
    /// Nothing, or too much, behind the colon, or what no text can hold.
    #[error("{0:?} is no capability: {1}")]
    Malformed(String, &'static str),
    /// Longer than [`MAX_CAPABILITY_BYTES`].
    #[error("a capability has at most {MAX_CAPABILITY_BYTES} bytes, this one {0}")]
    TooLong(usize),
    /// More than [`MAX_CAPABILITIES`].
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

impl Capability {
    /// What it is about.
    pub fn kind(&self) -> CapabilityKind {
        match self {
            Self::KeyValue(_) => CapabilityKind::KeyValue,
            Self::Http(_) => CapabilityKind::Http,
            Self::Sockets(_) => CapabilityKind::Sockets,
            Self::Files { .. } => CapabilityKind::Files,
            Self::Env(_) => CapabilityKind::Env,
        }
    }

    /// What both allow, if there is anything.
    pub fn meet(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::KeyValue(a), Self::KeyValue(b)) => meet_names(a, b).map(Self::KeyValue),
            (Self::Env(a), Self::Env(b)) => meet_names(a, b).map(Self::Env),
            (Self::Http(a), Self::Http(b)) => meet_endpoints(a, b).map(Self::Http),
            (Self::Sockets(a), Self::Sockets(b)) => meet_endpoints(a, b).map(Self::Sockets),
            (
                Self::Files {
                    folder: a,
                    access: to_a,
                },
                Self::Files {
                    folder: b,
                    access: to_b,
                },
            ) => {
                let inner = if is_within(a, b) {
                    a
                } else if is_within(b, a) {
                    b
                } else {
                    return None;
                };
                Some(Self::Files {
                    folder: inner.clone(),
                    access: *to_a.min(to_b),
                })
            }
            _ => None,
        }
    }

    /// Whether it allows all that `other` does.
    pub fn covers(&self, other: &Self) -> bool {
        self.meet(other).as_ref() == Some(other)
    }
}

impl CapabilityKind {
    /// How its capabilities are written.
    pub fn form(self) -> &'static str {
        match self {
            Self::KeyValue => "keyvalue:BUCKET",
            Self::Http => "http:HOST",
            Self::Sockets => "sockets:HOST:PORT",
            Self::Files => "files:PATH",
            Self::Env => "env:NAME",
        }
    }
}

impl Any<Endpoint> {
    /// Whether it is that port of that host.
    pub fn includes(&self, host: &EndpointHost, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::One(end) => end.host == *host && end.port.is_none_or(|own| own == port),
        }
    }
}

impl EndpointHost {
    /// The host that this text names, as in a URL; `None` if that can be none.
    pub fn parse(text: &str) -> Option<Self> {
        let bracketed = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        if let Some(address) = bracketed {
            let address: Ipv6Addr = address.parse().ok()?;
            return Some(Self::Ip(IpAddr::V6(address)));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Ip(IpAddr::V4(address)));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let name = !text.is_empty() && text.len() <= MAX_CAPABILITY_NAME_BYTES;
        (name && text.chars().all(plain)).then(|| Self::Name(text.to_ascii_lowercase()))
    }
}

fn meet_names(a: &Any<String>, b: &Any<String>) -> Option<Any<String>> {
    match (a, b) {
        (Any::All, other) | (other, Any::All) => Some(other.clone()),
        (Any::One(x), Any::One(y)) => (x == y).then(|| a.clone()),
    }
}

fn meet_endpoints(a: &Any<Endpoint>, b: &Any<Endpoint>) -> Option<Any<Endpoint>> {
    match (a, b) {
        (Any::All, other) | (other, Any::All) => Some(other.clone()),
        (Any::One(x), Any::One(y)) if x.host != y.host => None,
        (Any::One(x), Any::One(y)) => match (x.port, y.port) {
            (None, _) => Some(b.clone()),
            (_, None) => Some(a.clone()),
            (p, q) => (p == q).then(|| a.clone()),
        },
    }
}

fn is_within(inner: &str, outer: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl FromStr for Capability {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        if text.len() > MAX_CAPABILITY_BYTES {
            return Err(CapabilityError::TooLong(text.len()));
        }
        let malformed = |what| CapabilityError::Malformed(text.into(), what);
        if text.chars().any(char::is_control) {
            return Err(malformed("it holds control characters"));
        }
        let unknown = || CapabilityError::Unknown(text.into());
        let (kind, of) = text.split_once(':').ok_or_else(unknown)?;
        let name = |what| match of {
            ANY => Ok(Any::All),
            name if name.is_empty() || name.len() > MAX_CAPABILITY_NAME_BYTES => {
                Err(malformed(what))
            }
            name => Ok(Any::One(name.to_owned())),
        };
        let place = |what| endpoint(of).ok_or_else(|| malformed(what));
        let folder = |access| {
            let folder = folder(of).ok_or_else(|| {
                malformed("write an absolute path without \".\" and \"..\" behind the colon")
            })?;
            Ok(Self::Files { folder, access })
        };
        match kind {
            "keyvalue" => name("write \"keyvalue:BUCKET\", with 1 to 255 bytes, or \"keyvalue:*\"")
                .map(Self::KeyValue),
            "env" if of.contains('=') => Err(malformed("no variable has \"=\" in its name")),
            "env" => name("write \"env:NAME\", with 1 to 255 bytes, or \"env:*\"").map(Self::Env),
            "http" => {
                place("write \"http:HOST\", \"http:HOST:PORT\" or \"http:*\"; IPv6 as \"[::1]\"")
                    .map(Self::Http)
            }
            "sockets" => place(
                "write \"sockets:HOST:PORT\", \"sockets:HOST\" or \"sockets:*\"; IPv6 as \"[::1]\"",
            )
            .map(Self::Sockets),
            "files" => folder(Access::ReadWrite),
            "files-read-only" => folder(Access::ReadOnly),
            _ => Err(unknown()),
        }
    }
}

fn endpoint(text: &str) -> Option<Any<Endpoint>> {
    if text == ANY {
        return Some(Any::All);
    }
    let (host, port) = match text.rsplit_once(':') {
        // Within the brackets of an address.
        Some(_) if text.ends_with(']') => (text, None),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let port = match port {
        Some(digits) if !digits.bytes().all(|byte| byte.is_ascii_digit()) => return None,
        Some(digits) => Some(digits.parse().ok().filter(|port| *port > 0)?),
        None => None,
    };
    let host = EndpointHost::parse(host)?;
    Some(Any::One(Endpoint { host, port }))
}

fn folder(text: &str) -> Option<String> {
    let rest = text.strip_prefix('/')?;
    let parts = rest.strip_suffix('/').unwrap_or(rest);
    if parts.is_empty() {
        return Some(String::new());
    }
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    let plain = parts.split('/').all(plain);
    plain.then(|| format!("/{parts}"))
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyValue(bucket) => write!(f, "keyvalue:{bucket}"),
            Self::Http(place) => write!(f, "http:{place}"),
            Self::Sockets(place) => write!(f, "sockets:{place}"),
            Self::Files { folder, access } => {
                let kind = match access {
                    Access::ReadOnly => "files-read-only",
                    Access::ReadWrite => "files",
                };
                let folder = if folder.is_empty() { "/" } else { folder };
                write!(f, "{kind}:{folder}")
            }
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Any<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str(ANY),
            Self::One(one) => one.fmt(f),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            EndpointHost::Ip(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            EndpointHost::Ip(address) => write!(f, "{address}")?,
            EndpointHost::Name(name) => f.write_str(name)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}
