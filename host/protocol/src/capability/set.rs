//! Sets of capabilities: what an actor holds.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ANY, Access, Any, Capability, CapabilityError, CapabilityKind, MAX_CAPABILITY_BYTES};

/// Most capabilities in one set; a larger one is refused.
pub const MAX_CAPABILITIES: usize = 128;

/// A set would have more than [`MAX_CAPABILITIES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_CAPABILITIES} capabilities: name fewer and wider ones")]
pub struct TooMany;

/// The capabilities that somebody holds or grants: none of them covers another. Clones share
/// them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Capabilities(Held);

#[derive(Clone, Default, PartialEq, Eq)]
enum Held {
    #[default]
    Nothing,
    /// Sorted, and neither empty nor everything.
    These(Arc<[Capability]>),
    Everything,
}

/// What [`Held::Everything`] is.
static EVERYTHING: [Capability; 5] = [
    Capability::KeyValue(Any::All),
    Capability::Http(Any::All),
    Capability::Sockets(Any::All),
    Capability::Files {
        folder: String::new(),
        access: Access::ReadWrite,
    },
    Capability::Env(Any::All),
];

impl Capabilities {
    /// Everything there is: the node's own.
    pub const EVERYTHING: Self = Self(Held::Everything);

    /// Those that the texts name; `*` is everything.
    ///
    /// # Errors
    /// A text is no capability, or there are too many.
    pub fn parse<T: AsRef<str>>(
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Self, CapabilityError> {
        let mut all = Vec::new();
        for (at, text) in texts.into_iter().enumerate() {
            if at >= MAX_CAPABILITIES {
                return Err(TooMany.into());
            }
            match text.as_ref() {
                ANY => all.extend_from_slice(&EVERYTHING),
                text => all.push(text.parse()?),
            }
        }
        Ok(Self::new(all)?)
    }

    /// The set of these.
    ///
    /// # Errors
    /// There are too many that do not cover each other.
    pub fn new(all: impl IntoIterator<Item = Capability>) -> Result<Self, TooMany> {
        let all: BTreeSet<Capability> = all.into_iter().collect();
        let covered = |one: &Capability| all.iter().any(|other| other != one && other.covers(one));
        let held: Vec<Capability> = all.iter().filter(|one| !covered(one)).cloned().collect();
        Ok(Self(match held.len() {
            0 => Held::Nothing,
            _ if held == EVERYTHING => Held::Everything,
            1..=MAX_CAPABILITIES => Held::These(held.into()),
            _ => return Err(TooMany),
        }))
    }

    /// What both allow.
    ///
    /// # Errors
    /// That cannot be said in so few capabilities.
    pub fn meet(&self, other: &Self) -> Result<Self, TooMany> {
        match (&self.0, &other.0) {
            (Held::Nothing, _) | (_, Held::Nothing) => Ok(Self::default()),
            (Held::Everything, _) => Ok(other.clone()),
            (_, Held::Everything) => Ok(self.clone()),
            (Held::These(these), Held::These(those)) if Arc::ptr_eq(these, those) => {
                Ok(self.clone())
            }
            (Held::These(these), Held::These(those)) => {
                let met = |one: &Capability| {
                    let one = one.clone();
                    those.iter().filter_map(move |other| one.meet(other))
                };
                Self::new(these.iter().flat_map(met))
            }
        }
    }

    /// What either allows.
    ///
    /// # Errors
    /// There are too many.
    pub fn join(&self, other: &Self) -> Result<Self, TooMany> {
        Self::new(self.iter().chain(other.iter()).cloned())
    }

    /// Whether `other` allows nothing that this one does not.
    pub fn covers(&self, other: &Self) -> bool {
        let covered = |one: &Capability| self.iter().any(|own| own.covers(one));
        other.iter().all(covered)
    }

    /// Whether there is one of that kind.
    pub fn has(&self, kind: CapabilityKind) -> bool {
        self.iter().any(|held| held.kind() == kind)
    }

    /// All of them, sorted.
    pub fn iter(&self) -> std::slice::Iter<'_, Capability> {
        match &self.0 {
            Held::Nothing => [].iter(),
            Held::These(these) => these.iter(),
            Held::Everything => EVERYTHING.iter(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0 == Held::Nothing
    }

    /// As texts, which [`Capabilities::parse`] takes.
    pub fn to_texts(&self) -> Vec<String> {
        match self.0 {
            Held::Everything => vec![ANY.into()],
            _ => self.iter().map(Capability::to_string).collect(),
        }
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.to_texts()).finish()
    }
}

/// For people: the texts, with commas.
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_empty() {
            true => f.write_str("nothing"),
            false => f.write_str(&self.to_texts().join(", ")),
        }
    }
}

/// One text with a line a capability, none of which can hold a line's end: a list of short texts
/// would take a decoder many times its own length.
impl Serialize for Capabilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_texts().join("\n"))
    }
}

impl<'de> Deserialize<'de> for Capabilities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lines;
        impl Visitor<'_> for Lines {
            type Value = Capabilities;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("capabilities, one a line")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Capabilities, E> {
                if text.len() > MAX_CAPABILITIES * (MAX_CAPABILITY_BYTES + 1) {
                    return Err(E::custom(TooMany));
                }
                let lines = text.split('\n').filter(|line| !line.is_empty());
                Capabilities::parse(lines).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Lines)
    }
}
