//! The app manifest: a TOML file, parsed once into types that cannot be wrong.
//!
//! Everything a manifest can get wrong is found here, with the file and the line, before
//! anything is built or started. Paths are resolved against the manifest's own folder.
//!
//! The whole format, with every key there is:
//!
//! ```toml
//! [app]
//! name = "todo"                       # required: letters, digits, '-' and '_'
//!
//! # One table a module. Its name is what actors spawn and what its file is called.
//! [modules.todo-server]
//! source = "todo-server"              # a folder that `wasm-node build` can build, or
//! # file = "build/todo-server.wasm"   # a component that is built already
//! capabilities = ["keyvalue:todo"]    # what it may do beyond messages, see below; default: nothing
//! memory_limit = "64MiB"              # of one actor; default: the node's own
//! mailbox_limit = 10000               # in messages, of one actor; default: the node's own
//! message_limit = "1MiB"              # of one message to it; default: the node's own
//! turn_cpu_limit_ms = 1000            # what one turn may compute; default: no limit
//! cpu_limit_ms = 60000                # what all turns of one actor may; default: no limit
//!
//! [modules.todo-web]
//! source = "todo-web"
//!
//! [modules.supervisor]
//! source = "supervisor"
//!
//! [modules.dynamic-supervisor]
//! source = "dynamic-supervisor"
//!
//! # Any number of listeners. Every node of a cluster has each of them, on its own port.
//! [[http]]
//! module = "todo-web"                 # exports wasi:http/incoming-handler
//! listen = "127.0.0.1:5454"           # port 0, or one that is taken: any free port
//!
//! # The root of the tree; it runs on every node.
//! [supervisor]
//! module = "supervisor"               # default: "supervisor"
//! strategy = "one-for-one"            # default; or "one-for-all", "rest-for-one"
//! intensity = 3                       # restarts within `period_ms`; default 3
//! period_ms = 5000                    # default 5000
//! auto_shutdown = "never"             # default; or "any-significant", "all-significant"
//!
//! # Started in this order, stopped in the reverse one.
//! [[supervisor.child]]
//! id = "database"                     # required, unique
//! module = "todo-server"              # required, but for supervisors: one of the modules above
//! name = "database"                   # optional: its name in the node's registry,
//! # global = "database"               # or its name in the whole cluster
//! args = "text"                       # optional: its arguments, see below
//! restart = "permanent"               # default; or "transient", "temporary"
//! shutdown_ms = 5000                  # default: then it is killed; or "infinity", "brutal-kill"
//! significant = false                 # default; see auto_shutdown
//! type = "worker"                     # default; or "supervisor": "infinity" is the default then
//! # capabilities = ["keyvalue:todo"]  # of what its module is granted, no more than this
//! # memory_limit = "1MiB"             # and the other limits: its own, within its module's
//!
//! # A child may be a supervisor, with all that [supervisor] may have ...
//! [[supervisor.child]]
//! id = "branch"
//! [supervisor.child.supervisor]
//! strategy = "one-for-all"
//! [[supervisor.child.supervisor.child]]
//! id = "leaf"
//! module = "todo-server"
//!
//! # ... or a dynamic one, which begins without children.
//! [[supervisor.child]]
//! id = "lists"
//! name = "lists"
//! [supervisor.child.dynamic]
//! module = "dynamic-supervisor"       # default: "dynamic-supervisor"
//! intensity = 3                       # default 3
//! period_ms = 5000                    # default 5000
//! max_children = 1000                 # default: no limit
//! ```
//!
//! `args` becomes the bytes that the actor's `init(fresh(args))` gets: a text as its UTF-8, a
//! table, list, number or truth value as JSON. `args_hex` gives the bytes themselves, in hex,
//! for arguments in any other encoding. Without either there are no bytes at all.
//!
//! # Capabilities
//!
//! | text | its actors may |
//! | --- | --- |
//! | `keyvalue:BUCKET`, `keyvalue:*` | open that bucket of the node's store (`wasi:keyvalue`) |
//! | `http:HOST`, `http:HOST:PORT`, `http:*` | make HTTP requests there (`wasi:http/outgoing-handler`) |
//! | `sockets:HOST`, `sockets:HOST:PORT`, `sockets:*` | connect, send and listen there (`wasi:sockets`); datagrams come from there only |
//! | `files:PATH`, `files-read-only:PATH` | use that folder of the node's machine, under the same path (`wasi:filesystem`) |
//! | `env:NAME`, `env:*` | see that environment variable of the node (`wasi:cli/environment`); all of them may have the cluster's cookie among them |
//! | `*` | all of that |
//!
//! Messages, links, names, groups, spawns and nodes take no capability, as in Erlang. A folder that
//! is not absolute is relative to the manifest's own, must exist, and is where its links lead.
//!
//! An actor holds what its module is granted *and* its parent holds *and* its spawn passes on: it may
//! use that, and pass it on. So what an actor holds only shrinks from parent to child, and a module
//! that starts others must be granted what they need, whether it imports it itself or not. Only the
//! modules of the tree's supervisors need not say so: without the key they are granted all that the
//! app's modules are together. A component that imports what its actor would not hold is not started.
//!
//! These are the app's wishes: a node's policy (see [`super::policy`]) bounds them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use wasm_node_protocol::{Capabilities, Limits};

use super::capabilities::checked_capabilities;
use super::limits::{RawLimits, RawSize};
use super::tree::{RawSupervisor, Supervisor, Surroundings, checked_supervisor};

/// The largest manifest that is read, in bytes; a larger file is refused.
pub const MAX_MANIFEST_BYTES: u64 = 1024 * 1024;
/// The longest name of an app, a module or a child, in bytes; a longer one is refused.
pub const MAX_NAME_BYTES: usize = 128;

/// An app, as its manifest describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The app's name.
    pub name: String,
    /// Its modules, by name.
    pub modules: BTreeMap<String, Module>,
    /// Its HTTP listeners, in the manifest's order.
    pub http: Vec<Http>,
    /// The root of its supervision tree, if it has one.
    pub supervisor: Option<Supervisor>,
}

/// A module of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Where its component comes from.
    pub origin: Origin,
    /// What its actors may hold; `None` if the manifest does not say: nothing, or all that the
    /// app's modules are granted, for the supervisors of its tree.
    pub capabilities: Option<Capabilities>,
    /// What one of its actors may use; where there is `None`, the node's default holds.
    pub limits: Limits,
}

/// Where a module's component comes from. Paths are those of the manifest's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A folder of source, built by `wasm-node build`.
    Source(PathBuf),
    /// A component that is built already.
    File(PathBuf),
}

/// An HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// The module that handles its requests.
    pub module: String,
    /// Where it would like to listen.
    pub listen: SocketAddr,
}

/// Why a manifest is no good. Always the user's fault.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file could not be read.
    #[error(
        "could not read the app manifest {path}: {source}; name a manifest, as in actors/todo.toml"
    )]
    Read {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The file is larger than [`MAX_MANIFEST_BYTES`].
    #[error(
        "the app manifest {path} has {bytes} bytes, more than the {MAX_MANIFEST_BYTES} allowed; is it a manifest?"
    )]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
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

impl Manifest {
    /// Reads and checks a manifest file.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let read_error = |source| ManifestError::Read {
            path: path.into(),
            source,
        };
        let bytes = std::fs::metadata(path).map_err(read_error)?.len();
        if bytes > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge {
                path: path.into(),
                bytes,
            });
        }
        let text = std::fs::read_to_string(path).map_err(read_error)?;
        // Made absolute so that the manifest means the same to a child process elsewhere.
        let absolute = std::path::absolute(path).map_err(read_error)?;
        let folder = absolute.parent().unwrap_or(Path::new("/"));
        Self::parse(&text, path, folder)
    }

    /// Checks a manifest's text; `path` is for error messages, `folder` what relative paths in
    /// it are relative to.
    pub fn parse(text: &str, path: &Path, folder: &Path) -> Result<Self, ManifestError> {
        let raw: RawManifest = toml::from_str(text).map_err(|error| ManifestError::Content {
            path: path.into(),
            line: line_of(text, error.span()),
            what: error.message().into(),
        })?;
        raw.check(folder)
            .map_err(|Wrong { span, what }| ManifestError::Content {
                path: path.into(),
                line: line_of(text, Some(span)),
                what,
            })
    }
}

impl Origin {
    /// The folder or file.
    pub fn path(&self) -> &Path {
        match self {
            Origin::Source(path) | Origin::File(path) => path,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    app: RawApp,
    #[serde(default)]
    modules: BTreeMap<Spanned<String>, Spanned<RawModule>>,
    #[serde(default)]
    http: Vec<RawHttp>,
    supervisor: Option<Spanned<RawSupervisor>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApp {
    name: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModule {
    source: Option<PathBuf>,
    file: Option<PathBuf>,
    capabilities: Option<Spanned<Vec<Spanned<String>>>>,
    memory_limit: Option<Spanned<RawSize>>,
    mailbox_limit: Option<Spanned<u32>>,
    message_limit: Option<Spanned<RawSize>>,
    turn_cpu_limit_ms: Option<Spanned<u32>>,
    cpu_limit_ms: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttp {
    module: Spanned<String>,
    listen: Spanned<String>,
}

/// Something wrong, and where.
pub(super) struct Wrong {
    pub(super) span: Range<usize>,
    pub(super) what: String,
}

pub(super) fn wrong<T>(at: &Spanned<T>, what: impl Into<String>) -> Wrong {
    Wrong {
        span: at.span(),
        what: what.into(),
    }
}

impl RawManifest {
    fn check(self, folder: &Path) -> Result<Manifest, Wrong> {
        let name = checked_name(self.app.name, "an app's name")?;
        let mut modules = BTreeMap::new();
        for (module, raw) in self.modules {
            let module = checked_name(module, "a module's name")?;
            let checked = check_module(&module, raw, folder)?;
            modules.insert(module, checked);
        }
        let mut http = Vec::new();
        for raw in self.http {
            let listen = raw.listen.as_ref().parse().map_err(|_| {
                let text = raw.listen.as_ref();
                wrong(
                    &raw.listen,
                    format!("{text:?} is no address: write \"127.0.0.1:5454\""),
                )
            })?;
            http.push(Http {
                module: known_module(raw.module, &modules)?,
                listen,
            });
        }
        let supervisor = self
            .supervisor
            .map(|raw| {
                let modules = &modules;
                checked_supervisor(raw, Surroundings { modules, folder })
            })
            .transpose()?;
        Ok(Manifest {
            name,
            modules,
            http,
            supervisor,
        })
    }
}

fn check_module(name: &str, raw: Spanned<RawModule>, folder: &Path) -> Result<Module, Wrong> {
    let span = raw.span();
    let at = |what: String| Wrong {
        span: span.clone(),
        what,
    };
    let raw = raw.into_inner();
    let origin = match (raw.source, raw.file) {
        (Some(source), None) => Origin::Source(folder.join(source)),
        (None, Some(file)) => Origin::File(folder.join(file)),
        (None, None) => {
            return Err(at(format!(
                "module {name:?} has no code: give it source = \"FOLDER\" or file = \"X.wasm\""
            )));
        }
        (Some(_), Some(_)) => {
            return Err(at(format!(
                "module {name:?} has a source and a file: keep one"
            )));
        }
    };
    let capabilities = raw
        .capabilities
        .map(|raw| checked_capabilities(raw, folder))
        .transpose()?;
    let limits = RawLimits {
        memory: raw.memory_limit,
        mailbox: raw.mailbox_limit,
        message: raw.message_limit,
        turn_cpu_ms: raw.turn_cpu_limit_ms,
        cpu_ms: raw.cpu_limit_ms,
    };
    let limits = limits.check()?;
    Ok(Module {
        origin,
        capabilities,
        limits,
    })
}

pub(super) fn checked_name(name: Spanned<String>, what: &str) -> Result<String, Wrong> {
    let text = name.as_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.chars().all(plain) {
        return Err(wrong(
            &name,
            format!(
                "{text:?} cannot be {what}: use 1 to {MAX_NAME_BYTES} letters, digits, '-' and '_'"
            ),
        ));
    }
    Ok(name.into_inner())
}

pub(super) fn known_module(
    name: Spanned<String>,
    modules: &BTreeMap<String, Module>,
) -> Result<String, Wrong> {
    if modules.contains_key(name.as_ref()) {
        return Ok(name.into_inner());
    }
    let known: Vec<_> = modules.keys().map(String::as_str).collect();
    let known = if known.is_empty() {
        "none".into()
    } else {
        known.join(", ")
    };
    let text = name.as_ref();
    Err(wrong(
        &name,
        format!(
            "there is no module {text:?}: add [modules.{text}], or name one of those there are ({known})"
        ),
    ))
}

pub(super) fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start).min(text.len());
    1 + text
        .as_bytes()
        .iter()
        .take(start)
        .filter(|&&byte| byte == b'\n')
        .count()
}

#[cfg(test)]
mod tests {
    use super::super::tree::Strategy;
    use super::*;

    fn parse(text: &str) -> Result<Manifest, String> {
        Manifest::parse(text, Path::new("app.toml"), Path::new("/apps"))
            .map_err(|error| error.to_string())
    }

    /// The example in this module's documentation, which is what people copy.
    fn documented() -> String {
        let source = include_str!("manifest.rs");
        source
            .lines()
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| line.trim_start_matches("//!").trim_start().to_string() + "\n")
            .collect()
    }

    #[test]
    fn the_documented_example_parses() {
        let manifest = parse(&documented()).unwrap();
        assert_eq!(manifest.name, "todo");
        let server = &manifest.modules["todo-server"];
        assert_eq!(server.origin, Origin::Source("/apps/todo-server".into()));
        let held = server.capabilities.as_ref().unwrap();
        assert_eq!(held.to_texts(), ["keyvalue:todo"]);
        assert_eq!(manifest.modules["supervisor"].capabilities, None);
        assert_eq!(server.limits.memory_bytes, Some(64 << 20));
        assert_eq!(server.limits.mailbox_messages, Some(10_000));
        assert_eq!(manifest.http[0].listen, "127.0.0.1:5454".parse().unwrap());
        let supervisor = manifest.supervisor.unwrap();
        assert_eq!(supervisor.strategy, Strategy::OneForOne);
        assert_eq!(supervisor.children.len(), 3);
        assert_eq!(supervisor.children[0].id, "database");
    }

    #[test]
    fn a_minimal_manifest_needs_a_name_only() {
        let manifest = parse("[app]\nname = \"a\"\n").unwrap();
        assert!(manifest.modules.is_empty() && manifest.http.is_empty());
        assert_eq!(manifest.supervisor, None);
    }

    #[test]
    fn errors_name_the_line_and_what_to_do() {
        let cases = [
            ("[app\n", "app.toml:1: "),
            (
                "[app]\nname = \"a\"\ncolour = 1\n",
                "app.toml:3: unknown field `colour`",
            ),
            (
                "[app]\nname = \"a b\"\n",
                "app.toml:2: \"a b\" cannot be an app's name",
            ),
            (
                "[app]\nname = \"a\"\n[modules.x]\n",
                "app.toml:3: module \"x\" has no code: give it source",
            ),
            (
                "[app]\nname = \"a\"\n\n[[http]]\nmodule = \"w\"\nlisten = \"127.0.0.1:1\"\n",
                "app.toml:5: there is no module \"w\": add [modules.w]",
            ),
            (
                "[app]\nname = \"a\"\n[modules.w]\nfile=\"w\"\n[[http]]\nmodule = \"w\"\nlisten = \"5454\"\n",
                "app.toml:7: \"5454\" is no address",
            ),
            (
                "[app]\nname = \"a\"\n[modules.w]\nfile=\"w\"\ncapabilities = [\n\"disk\"]\n",
                "app.toml:6: \"disk\" is no capability",
            ),
            (
                "[app]\nname = \"a\"\n[modules.w]\nfile=\"w\"\nmemory_limit = \"1 GB\"\n",
                "app.toml:5: no size",
            ),
            (
                "[app]\nname = \"a\"\n[supervisor]\nintensity = 1\n",
                "app.toml:3: there is no module \"supervisor\"",
            ),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text:?} gave {error:?}");
        }
    }

    #[test]
    fn a_missing_file_says_which() {
        let error = Manifest::load(Path::new("/no/such.toml"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/no/such.toml") && error.contains("todo.toml"),
            "{error}"
        );
    }
}
