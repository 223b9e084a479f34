//! What each module is granted on this node: what its app asks for, within the node's policy.
//!
//! Owns the merging of both, and the words with which a spawn is refused. Contract: code from
//! another node is granted what the policy grants it, never what a manifest asks for: that speaks
//! of this node's own files. Does not know actors: what one holds is what its parent passes on of
//! these (`services`).

use std::collections::HashMap;

use wasm_node_protocol::capability::TooMany;
use wasm_node_protocol::{Capabilities, Digest, Pid, SpawnError};

use crate::app::{Manifest, Policy, Rule, Supervisor};
use crate::wasm::{Grants, Need, Version};

/// All that modules are granted.
#[derive(Default)]
pub(super) struct Granting {
    policy: Policy,
    /// What the app's modules ask for.
    asked: HashMap<String, Rule>,
}

impl Granting {
    /// What an app asks for within a policy.
    ///
    /// # Errors
    /// The app's modules ask for too much together.
    pub(super) fn new(policy: Policy, manifest: Option<&Manifest>) -> Result<Self, TooMany> {
        let mut granting = Self {
            policy,
            asked: HashMap::new(),
        };
        let Some(manifest) = manifest else {
            return Ok(granting);
        };
        for (name, module) in &manifest.modules {
            let rule = Rule {
                capabilities: module.capabilities.clone().unwrap_or_default(),
                limits: module.limits,
                shipped: false,
            };
            granting.asked.insert(name.clone(), rule);
        }
        let root = manifest.supervisor.as_ref();
        let mut silent = root.map(Supervisor::supervisor_modules).unwrap_or_default();
        silent.retain(|name| {
            let module = manifest.modules.get(*name);
            module.is_some_and(|module| module.capabilities.is_none())
        });
        if silent.is_empty() {
            return Ok(granting);
        }
        let mut all = Capabilities::default();
        for name in manifest.modules.keys() {
            all = all.join(&granting.of(name, None).capabilities)?;
        }
        for name in silent {
            if let Some(rule) = granting.asked.get_mut(name) {
                rule.capabilities = all.clone();
            }
            // It passes on what the others may have: a rule for all others is none for it.
            let own = granting.policy.modules.get(name).cloned();
            let unbounded = || Rule {
                capabilities: Capabilities::EVERYTHING,
                ..granting.policy.default.clone().unwrap_or_default()
            };
            let bound = own.unwrap_or_else(unbounded);
            granting.policy.modules.insert(name.to_owned(), bound);
        }
        Ok(granting)
    }

    /// What a module may do whose file is this node's own.
    pub(super) fn own(&self, name: &str, digest: Digest) -> Grants {
        self.of(name, Some(digest))
    }

    /// What code may do that came from another node under this name.
    pub(super) fn shipped(&self, name: &str, digest: Digest) -> Grants {
        let by_name = || self.policy.modules.get(name).filter(|rule| rule.shipped);
        let named = self.policy.versions.get(&digest).or_else(by_name);
        match (named, &self.policy.default) {
            (Some(rule), _) => grants(rule),
            (None, Some(default)) => Grants {
                capabilities: Capabilities::default(),
                ..grants(default)
            },
            (None, None) => Grants::default(),
        }
    }

    fn of(&self, name: &str, digest: Option<Digest>) -> Grants {
        let by_digest = digest.and_then(|digest| self.policy.versions.get(&digest));
        let by_name = || self.policy.modules.get(name);
        let ruled = by_digest.or_else(by_name).or(self.policy.default.as_ref());
        match (self.asked.get(name), ruled) {
            (Some(asked), Some(rule)) => both(asked, rule),
            (Some(rule), None) | (None, Some(rule)) => grants(rule),
            (None, None) => Grants::default(),
        }
    }
}

fn grants(rule: &Rule) -> Grants {
    Grants {
        capabilities: rule.capabilities.clone(),
        limits: rule.limits,
    }
}

/// What both allow.
fn both(asked: &Rule, rule: &Rule) -> Grants {
    let met = asked.capabilities.meet(&rule.capabilities);
    grants(&Rule {
        // Two lists of a file each: that they do not fit together is told, and grants nothing.
        capabilities: met.unwrap_or_else(|error| {
            tracing::error!(%error, "what an app asks for and what the policy allows make");
            Capabilities::default()
        }),
        limits: asked.limits.and(rule.limits),
        shipped: false,
    })
}

/// What a new actor of a version holds, whose parent passes on so much. Refused if the version
/// imports what that does not allow.
pub(super) fn held(
    version: &Version,
    passed_on: &Capabilities,
    parent: Option<Pid>,
) -> Result<Capabilities, SpawnError> {
    let granted = &version.grants().capabilities;
    let refused = |words: String| SpawnError::BadModule(words);
    let met = granted.meet(passed_on);
    let held = met.map_err(|error| refused(format!("the module {:?}: {error}", version.name())))?;
    match version.imports().unmet(&held) {
        None => Ok(held),
        Some(need) => Err(refused(refusal(version, need, passed_on, parent))),
    }
}

fn refusal(
    version: &Version,
    need: &Need,
    passed_on: &Capabilities,
    parent: Option<Pid>,
) -> String {
    let granted = &version.grants().capabilities;
    if !granted.has(need.kind) {
        return not_granted(version, need);
    }
    let name = version.name();
    let parent = parent.map_or_else(
        || "this node".into(),
        |parent| format!("its parent {}", parent.display(0)),
    );
    if !passed_on.has(need.kind) {
        return format!(
            "the module {name:?} {need}: it is granted that, but {parent} does not pass it on; grant it \
             to the parent's module, too, and to those above, and leave it in the spawn's option capabilities"
        );
    }
    format!(
        "the module {name:?} {need}: it is granted {granted} and {parent} passes on {passed_on}, which \
         have nothing in common for that"
    )
}

/// Why a version cannot run here whoever starts it.
pub(super) fn not_granted(version: &Version, need: &Need) -> String {
    let (name, form) = (version.name(), need.kind.form());
    match version.is_shipped() {
        false => format!(
            "the module {name:?} {need}; grant it in the node's policy or the app's manifest \
             ([modules.{name}] capabilities = [{form:?}])"
        ),
        true => format!(
            "the module {name:?}, whose code came from another node, {need}; grant it in this node's \
             policy ([modules.{}] capabilities = [{form:?}], or shipped = true in [modules.{name}])",
            version.digest()
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn granting(policy: &str, app: Option<&str>) -> Granting {
        let path = Path::new("x.toml");
        let policy = Policy::parse(policy, path, Path::new("/")).unwrap();
        let app = app.map(|text| {
            let text = format!("[app]\nname = \"a\"\n{text}");
            Manifest::parse(&text, path, Path::new("/")).unwrap()
        });
        Granting::new(policy, app.as_ref()).unwrap()
    }

    fn own(of: &Granting, name: &str) -> Vec<String> {
        of.own(name, Digest([0; 32])).capabilities.to_texts()
    }

    const APP: &str = "[modules.supervisor]\nfile = \"s\"\n[modules.silent]\nfile = \"n\"\n\
        [modules.db]\nfile = \"d\"\ncapabilities = [\"keyvalue:a\", \"keyvalue:b\"]\nmemory_limit = 100\n\
        [modules.web]\nfile = \"w\"\ncapabilities = [\"http:example.com\"]\nmailbox_limit = 5\n\
        [modules.pool]\nfile = \"p\"\n[supervisor]\n[[supervisor.child]]\nid = \"pool\"\n\
        [supervisor.child.dynamic]\nmodule = \"pool\"\n";

    #[test]
    fn an_app_gets_what_it_asks_for_without_a_policy() {
        let of = granting("", Some(APP));
        assert_eq!(own(&of, "db"), ["keyvalue:a", "keyvalue:b"]);
        assert!(own(&of, "silent").is_empty() && own(&of, "unknown").is_empty());
        // The supervisors of the tree pass on what they have together.
        let all = ["keyvalue:a", "keyvalue:b", "http:example.com"];
        assert_eq!(own(&of, "supervisor"), all);
        assert_eq!(own(&of, "pool"), all);
    }

    #[test]
    fn a_policy_bounds_what_an_app_asks_for() {
        let of = granting(
            "[default]\ncapabilities = [\"http:*\"]\nmailbox_limit = 3\n\
             [modules.db]\ncapabilities = [\"keyvalue:b\", \"env:A\"]\nmemory_limit = 50\n",
            Some(APP),
        );
        assert_eq!(own(&of, "db"), ["keyvalue:b"]);
        assert_eq!(own(&of, "web"), ["http:example.com"]);
        assert_eq!(own(&of, "unknown"), ["http:*"]);
        assert!(own(&of, "silent").is_empty());
        // What the default rule allows modules is no bound for what it passes on.
        assert_eq!(own(&of, "supervisor"), ["keyvalue:b", "http:example.com"]);
        let limits = |name| {
            let grants = of.own(name, Digest([0; 32]));
            (grants.limits.memory_bytes, grants.limits.mailbox_messages)
        };
        assert_eq!(limits("db"), (Some(50), None));
        assert_eq!(limits("web"), (None, Some(3)));
        assert_eq!(limits("supervisor"), (None, Some(3)));
        // A rule of its own is.
        let of = granting("[modules.supervisor]\ncapabilities = []\n", Some(APP));
        assert!(own(&of, "supervisor").is_empty());
    }

    #[test]
    fn shipped_code_gets_what_the_policy_says_of_it_and_nothing_else() {
        let (known, other) = (Digest([1; 32]), Digest([2; 32]));
        let of = granting(
            &format!(
                "[default]\ncapabilities = [\"*\"]\nmailbox_limit = 3\n\
                 [modules.own]\ncapabilities = [\"env:A\"]\n\
                 [modules.any]\ncapabilities = [\"env:B\"]\nshipped = true\n\
                 [modules.{known}]\ncapabilities = [\"env:C\"]\n"
            ),
            Some(APP),
        );
        let shipped = |name, digest| of.shipped(name, digest).capabilities.to_texts();
        assert!(shipped("unknown", other).is_empty());
        assert!(shipped("db", other).is_empty() && shipped("own", other).is_empty());
        assert_eq!(shipped("any", other), ["env:B"]);
        assert_eq!(shipped("own", known), ["env:C"]);
        assert_eq!(of.own("own", known).capabilities.to_texts(), ["env:C"]);
        assert_eq!(
            of.shipped("unknown", other).limits.mailbox_messages,
            Some(3)
        );
        let nothing = granting("", Some(APP)).shipped("db", other);
        assert!(nothing.capabilities.is_empty());
    }
}
