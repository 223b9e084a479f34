//! What a component imports, and which of that takes a capability.
//!
//! Owns the list of such interfaces. All others are messaging, or touch nothing outside the
//! component as they are linked here: `wasi:filesystem` shows the granted folders, and
//! `wasi:cli/environment` the granted variables, of which there may be none; every component in
//! C or Python imports them without using them. Does not decide what is granted.

use std::fmt;

use wasm_node_protocol::{Capabilities, CapabilityKind};
use wasmparser::{Parser, Payload};

/// The interfaces that take a capability, by the beginnings of their names.
const NEEDS: [(&str, CapabilityKind); 3] = [
    ("wasi:keyvalue/", CapabilityKind::KeyValue),
    ("wasi:http/outgoing-handler", CapabilityKind::Http),
    ("wasi:sockets/", CapabilityKind::Sockets),
];

/// An import that takes a capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The interface.
    pub import: String,
    /// What it takes.
    pub kind: CapabilityKind,
}

/// What a component imports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imports {
    names: Vec<String>,
    /// The first import of each kind.
    needs: Vec<Need>,
}

impl Imports {
    /// Those of a component's bytes, if they are one: what is none has failed to compile.
    pub fn of(component: &[u8]) -> Self {
        let mut names = Vec::new();
        let mut nested = 0u32;
        for payload in Parser::new(0).parse_all(component) {
            match payload {
                Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => nested += 1,
                Ok(Payload::End(_)) => nested = nested.saturating_sub(1),
                Ok(Payload::ComponentImportSection(section)) if nested == 0 => {
                    let imports = section.into_iter().flatten();
                    names.extend(imports.map(|import| import.name.name.to_owned()));
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Self::named(names)
    }

    fn named(mut names: Vec<String>) -> Self {
        names.sort();
        let needs = NEEDS.iter().filter_map(|(start, kind)| {
            let import = names.iter().find(|name| name.starts_with(start))?.clone();
            Some(Need {
                import,
                kind: *kind,
            })
        });
        Self {
            needs: needs.collect(),
            names,
        }
    }

    /// Their names, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// One that takes a capability of which these hold none.
    pub fn unmet(&self, by: &Capabilities) -> Option<&Need> {
        self.needs.iter().find(|need| !by.has(need.kind))
    }
}

/// What a module imports, and what that takes; without the version, which matters to nobody here.
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let import = self.import.split('@').next().unwrap_or_default();
        let form = self.kind.form();
        write!(f, "imports {import}, which needs the capability {form:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reaches_outside_takes_a_capability() {
        let held = |texts: &[&str]| Capabilities::parse(texts).unwrap();
        let plain = Imports::named(
            [
                "wasm-node:actor/process@0.1.0",
                "wasm-node:actor/blocking@0.1.0",
                "wasi:cli/environment@0.2.6",
                "wasi:filesystem/types@0.2.6",
                "wasi:http/types@0.2.6",
                "wasi:random/random@0.2.6",
            ]
            .map(String::from)
            .into(),
        );
        assert_eq!(plain.unmet(&held(&[])), None);
        let names = [
            "wasi:sockets/udp@0.2.6",
            "wasi:sockets/tcp@0.2.6",
            "wasi:keyvalue/store@0.2.0",
        ];
        let both = Imports::named(names.map(String::from).into());
        let said = |texts: &[&str]| both.unmet(&held(texts)).map(Need::to_string);
        assert_eq!(
            said(&["keyvalue:a", "http:*"]).unwrap(),
            "imports wasi:sockets/tcp, which needs the capability \"sockets:HOST:PORT\""
        );
        assert_eq!(
            said(&["sockets:*"]).unwrap(),
            "imports wasi:keyvalue/store, which needs the capability \"keyvalue:BUCKET\""
        );
        assert_eq!(said(&["sockets:a:1", "keyvalue:a"]), None);
    }
}
