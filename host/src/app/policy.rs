//! A node's policy: a TOML file in which its operator says what modules may do here, whatever
//! the app's manifest asks for.
//!
//! As the manifest's, everything that can be wrong is found here, with the file and the line. The
//! whole format:
//!
//! ```toml
//! # What modules may that no table below names. Without this table: what the app asks for.
//! [default]
//! capabilities = []
//!
//! # A module, by its name.
//! [modules.todo-database]
//! capabilities = ["keyvalue:*"]      # required: [] for nothing, ["*"] for all that is asked for
//! memory_limit = "256MiB"            # of one actor; the manifest's own limit, if that is lower
//! mailbox_limit = 10000              # likewise, as message_limit, turn_cpu_limit_ms, cpu_limit_ms
//! shipped = false                    # whether it is also for code that comes from another node
//!                                    # under this name; default: only for this node's own files
//!
//! # Or one version of it, by its digest (`wasm-node modules`), wherever it comes from.
//! [modules.5c1e8d0f7a2b4c6d8e9f0a1b2c3d4e5f60718293a4b5c6d7e8f9012345678901]
//! capabilities = ["http:example.com"]
//! ```
//!
//! The capabilities are those of the manifest ([`super::manifest`]). A module that a manifest lists
//! gets what both allow; one that no manifest lists gets what the policy says. The root of an app's
//! tree, if the manifest is silent about it, passes on what the app's modules got, unless a table
//! here has its name. Code from another
//! node may send messages, and nothing else unless its digest or, with `shipped`, its name is here:
//! another node says what the code's name is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use wasm_node_protocol::{Capabilities, Digest, Limits};

use super::capabilities::checked_capabilities;
use super::limits::{RawLimits, RawSize};
use super::manifest::{MAX_MANIFEST_BYTES, MAX_NAME_BYTES, Wrong, line_of, wrong};

/// A node's policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// For modules that nothing else names, if there is such a rule.
    pub default: Option<Rule>,
    /// By names.
    pub modules: BTreeMap<String, Rule>,
    /// By digests.
    pub versions: BTreeMap<Digest, Rule>,
}

/// What a module may do at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// What its actors may hold.
    pub capabilities: Capabilities,
    /// What one of its actors may use.
    pub limits: Limits,
    /// Whether it is for code from other nodes, too.
    pub shipped: bool,
}

/// Why a policy is no good. Always the fault of whoever wrote it.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file could not be read, or is too large.
    #[error("could not read the policy {0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// Something in it is wrong; the text says what to do.
    #[error("{path}:{line}: {what}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what to do.
        what: String,
    },
}

impl Policy {
    /// Reads and checks a policy file.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let failed = |error| PolicyError::Read(path.into(), error);
        let bytes = std::fs::metadata(path).map_err(failed)?.len();
        if bytes > MAX_MANIFEST_BYTES {
            let text = format!("it has {bytes} bytes, more than the {MAX_MANIFEST_BYTES} allowed");
            return Err(failed(std::io::Error::other(text)));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let absolute = std::path::absolute(path).map_err(failed)?;
        Self::parse(&text, path, absolute.parent().unwrap_or(Path::new("/")))
    }

    /// Checks a policy's text; `path` is for error messages, `folder` what relative paths in it
    /// are relative to.
    pub fn parse(text: &str, path: &Path, folder: &Path) -> Result<Self, PolicyError> {
        let content = |span, what| PolicyError::Content {
            path: path.into(),
            line: line_of(text, span),
            what,
        };
        let raw: RawPolicy = toml::from_str(text)
            .map_err(|error| content(error.span(), error.message().to_owned()))?;
        raw.check(folder)
            .map_err(|Wrong { span, what }| content(Some(span), what))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    default: Option<RawRule>,
    #[serde(default)]
    modules: BTreeMap<Spanned<String>, RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    capabilities: Spanned<Vec<Spanned<String>>>,
    memory_limit: Option<Spanned<RawSize>>,
    mailbox_limit: Option<Spanned<u32>>,
    message_limit: Option<Spanned<RawSize>>,
    turn_cpu_limit_ms: Option<Spanned<u32>>,
    cpu_limit_ms: Option<Spanned<u64>>,
    shipped: Option<Spanned<bool>>,
}

impl RawPolicy {
    fn check(self, folder: &Path) -> Result<Policy, Wrong> {
        let mut policy = Policy::default();
        if let Some(rule) = self.default {
            if let Some(shipped) = &rule.shipped {
                let what = "shipped is for a module by its name: code that came from another node \
                            under a name that nothing here has may only send messages";
                return Err(wrong(shipped, what));
            }
            policy.default = Some(rule.check(folder)?);
        }
        for (name, rule) in self.modules {
            if let Ok(digest) = name.as_ref().parse::<Digest>() {
                if let Some(shipped) = &rule.shipped {
                    let what = "a digest is one version wherever it comes from: leave shipped out";
                    return Err(wrong(shipped, what));
                }
                policy.versions.insert(digest, rule.check(folder)?);
                continue;
            }
            if name.as_ref().is_empty() || name.as_ref().len() > MAX_NAME_BYTES {
                let what = format!("a module's name has 1 to {MAX_NAME_BYTES} bytes");
                return Err(wrong(&name, what));
            }
            policy
                .modules
                .insert(name.into_inner(), rule.check(folder)?);
        }
        Ok(policy)
    }
}

impl RawRule {
    fn check(self, folder: &Path) -> Result<Rule, Wrong> {
        let limits = RawLimits {
            memory: self.memory_limit,
            mailbox: self.mailbox_limit,
            message: self.message_limit,
            turn_cpu_ms: self.turn_cpu_limit_ms,
            cpu_ms: self.cpu_limit_ms,
        };
        Ok(Rule {
            capabilities: checked_capabilities(self.capabilities, folder)?,
            limits: limits.check()?,
            shipped: self.shipped.is_some_and(Spanned::into_inner),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, String> {
        Policy::parse(text, Path::new("policy.toml"), Path::new("/"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_documented_example_parses() {
        let source = include_str!("policy.rs");
        let example: String = source
            .lines()
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| line.trim_start_matches("//!").trim_start().to_string() + "\n")
            .collect();
        let policy = parse(&example).unwrap();
        assert_eq!(policy.default, Some(Rule::default()));
        let database = &policy.modules["todo-database"];
        assert_eq!(database.capabilities.to_texts(), ["keyvalue:*"]);
        assert_eq!(database.limits.memory_bytes, Some(256 << 20));
        assert_eq!(
            (database.limits.mailbox_messages, database.shipped),
            (Some(10_000), false)
        );
        let [version] = policy.versions.values().collect::<Vec<_>>()[..] else {
            panic!("{policy:?}");
        };
        assert_eq!(version.capabilities.to_texts(), ["http:example.com"]);
    }

    #[test]
    fn errors_name_the_line_and_what_to_do() {
        let digest = "0".repeat(64);
        let by_digest = format!("[modules.{digest}]\ncapabilities = []\nshipped = true\n");
        let cases = [
            ("[default\n", "policy.toml:1: "),
            (
                "[modules.x]\n",
                "policy.toml:1: missing field `capabilities`",
            ),
            (
                "[modules.x]\ncapabilities = [\n\"env:\"]\n",
                "policy.toml:3: \"env:\" is no capability: write \"env:NAME\"",
            ),
            (
                "[modules.x]\ncapabilities = []\nlimit = 1\n",
                "policy.toml:3: unknown field `limit`",
            ),
            (
                "[modules.x]\ncapabilities = []\nmailbox_limit = 0\n",
                "policy.toml:3: a mailbox of no message",
            ),
            (
                "[default]\ncapabilities = []\nshipped = true\n",
                "policy.toml:3: shipped is for a module by its name",
            ),
            (by_digest.as_str(), "policy.toml:3: a digest is one version"),
            (
                "[modules.x]\ncapabilities = [\"files:/no/such\"]\n",
                "policy.toml:2: \"files:/no/such\": the folder /no/such cannot be used",
            ),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text:?} gave {error:?}");
        }
        let error = Policy::load(Path::new("/no/such.toml")).unwrap_err();
        assert!(error.to_string().contains("/no/such.toml"), "{error}");
    }
}
