//! The keys of a tree, checked: what goes together by OTP's rules, and where a mistake is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{
    AutoShutdown, Child, ChildType, DynamicSupervisor, Name, Restart, Shutdown, Strategy,
    Supervisor, Work,
};
use crate::app::capabilities::checked_capabilities;
use crate::app::limits::{RawLimits, RawSize};
use crate::app::manifest::{Module, Wrong, checked_name, known_module, wrong};

/// Supervisors below one another, at most; a manifest with more is refused.
const MAX_SUPERVISOR_DEPTH: usize = 16;
/// The module of a supervisor unless the manifest names another.
const SUPERVISOR_MODULE: &str = "supervisor";
/// The same of a dynamic one.
const DYNAMIC_SUPERVISOR_MODULE: &str = "dynamic-supervisor";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::app) struct RawSupervisor {
    module: Option<Spanned<String>>,
    #[serde(default)]
    strategy: Strategy,
    intensity: Option<u32>,
    period_ms: Option<Spanned<u32>>,
    #[serde(default)]
    auto_shutdown: AutoShutdown,
    #[serde(default)]
    child: Vec<RawChild>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDynamic {
    module: Option<Spanned<String>>,
    intensity: Option<u32>,
    period_ms: Option<Spanned<u32>>,
    max_children: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChild {
    id: Spanned<String>,
    module: Option<Spanned<String>>,
    supervisor: Option<Box<Spanned<RawSupervisor>>>,
    dynamic: Option<Spanned<RawDynamic>>,
    #[serde(rename = "type")]
    kind: Option<Spanned<ChildType>>,
    name: Option<Spanned<String>>,
    global: Option<Spanned<String>>,
    args: Option<Spanned<toml::Value>>,
    args_hex: Option<Spanned<String>>,
    #[serde(default)]
    restart: Restart,
    shutdown_ms: Option<Spanned<RawShutdown>>,
    significant: Option<Spanned<bool>>,
    capabilities: Option<Spanned<Vec<Spanned<String>>>>,
    memory_limit: Option<Spanned<RawSize>>,
    mailbox_limit: Option<Spanned<u32>>,
    message_limit: Option<Spanned<RawSize>>,
    turn_cpu_limit_ms: Option<Spanned<u32>>,
    cpu_limit_ms: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawShutdown {
    Ms(i64),
    Word(String),
}

const DEFAULT_INTENSITY: u32 = 3;
const DEFAULT_PERIOD_MS: u32 = 5_000;
const DEFAULT_SHUTDOWN: Shutdown = Shutdown::After(Duration::from_millis(5_000));

/// What a tree is checked against.
#[derive(Clone, Copy)]
pub(in crate::app) struct Surroundings<'a> {
    pub(in crate::app) modules: &'a BTreeMap<String, Module>,
    /// The manifest's.
    pub(in crate::app) folder: &'a Path,
}

/// The root of a tree.
pub(in crate::app) fn checked_supervisor(
    raw: Spanned<RawSupervisor>,
    around: Surroundings,
) -> Result<Supervisor, Wrong> {
    check_supervisor(raw, around, 1)
}

fn check_supervisor(
    raw: Spanned<RawSupervisor>,
    around: Surroundings,
    depth: usize,
) -> Result<Supervisor, Wrong> {
    let span = raw.span();
    if depth > MAX_SUPERVISOR_DEPTH {
        let what = format!(
            "there are more than {MAX_SUPERVISOR_DEPTH} supervisors below each other: flatten the tree"
        );
        return Err(Wrong { span, what });
    }
    let raw = raw.into_inner();
    let module = module_or(raw.module, SUPERVISOR_MODULE, span, around)?;
    let mut seen = BTreeSet::new();
    let mut children = Vec::new();
    for child in raw.child {
        if !seen.insert(child.id.as_ref().clone()) {
            let id = child.id.as_ref();
            return Err(wrong(
                &child.id,
                format!("there is a child {id:?} already: rename one"),
            ));
        }
        children.push(check_child(child, raw.auto_shutdown, around, depth)?);
    }
    Ok(Supervisor {
        module,
        strategy: raw.strategy,
        intensity: raw.intensity.unwrap_or(DEFAULT_INTENSITY),
        period: checked_period(raw.period_ms)?,
        auto_shutdown: raw.auto_shutdown,
        children,
    })
}

fn check_child(
    child: RawChild,
    auto_shutdown: AutoShutdown,
    around: Surroundings,
    depth: usize,
) -> Result<Child, Wrong> {
    let significant = checked_significant(&child, auto_shutdown)?;
    let shutdown = child.shutdown_ms.map(checked_shutdown).transpose()?;
    let name = checked_names(child.name, child.global)?;
    let capabilities = child
        .capabilities
        .map(|raw| checked_capabilities(raw, around.folder))
        .transpose()?;
    let limits = RawLimits {
        memory: child.memory_limit,
        mailbox: child.mailbox_limit,
        message: child.message_limit,
        turn_cpu_ms: child.turn_cpu_limit_ms,
        cpu_ms: child.cpu_limit_ms,
    };
    let limits = limits.check()?;
    let actor = ActorKeys {
        kind: child.kind,
        args: child.args,
        args_hex: child.args_hex,
    };
    let work = match (child.module, child.supervisor, child.dynamic) {
        (Some(module), None, None) => actor.check(known_module(module, around.modules)?)?,
        (None, Some(below), None) => {
            actor.must_be_absent()?;
            Work::Supervisor(check_supervisor(*below, around, depth + 1)?)
        }
        (None, None, Some(dynamic)) => {
            actor.must_be_absent()?;
            Work::Dynamic(check_dynamic(dynamic, around)?)
        }
        (None, None, None) => {
            return Err(wrong(
                &child.id,
                "a child has a module = \"NAME\", or is a table [..child.supervisor] or [..child.dynamic]: add one",
            ));
        }
        _ => {
            return Err(wrong(
                &child.id,
                "a child has a module, or is a supervisor, or a dynamic one: keep one",
            ));
        }
    };
    let default = match &work {
        Work::Actor {
            kind: ChildType::Worker,
            ..
        } => DEFAULT_SHUTDOWN,
        // Its children have their own times.
        _ => Shutdown::Infinity,
    };
    Ok(Child {
        id: checked_name(child.id, "a child's id")?,
        work,
        name,
        restart: child.restart,
        shutdown: shutdown.unwrap_or(default),
        significant,
        capabilities,
        limits,
    })
}

/// The keys that only a child with a module has.
struct ActorKeys {
    kind: Option<Spanned<ChildType>>,
    args: Option<Spanned<toml::Value>>,
    args_hex: Option<Spanned<String>>,
}

impl ActorKeys {
    fn check(self, module: String) -> Result<Work, Wrong> {
        let args = match (self.args, self.args_hex) {
            (None, None) => Vec::new(),
            (Some(value), None) => args_bytes(value)?,
            (None, Some(hex)) => hex_bytes(&hex)?,
            (Some(_), Some(hex)) => {
                return Err(wrong(
                    &hex,
                    "a child has args or args_hex, not both: keep one",
                ));
            }
        };
        let kind = self.kind.map(Spanned::into_inner).unwrap_or_default();
        Ok(Work::Actor { module, args, kind })
    }

    fn must_be_absent(&self) -> Result<(), Wrong> {
        let spans = [
            self.kind.as_ref().map(Spanned::span),
            self.args.as_ref().map(Spanned::span),
            self.args_hex.as_ref().map(Spanned::span),
        ];
        match spans.into_iter().flatten().next() {
            None => Ok(()),
            Some(span) => Err(Wrong {
                span,
                what: "a supervisor's arguments and type follow from its table: remove this key, or give the child a module".into(),
            }),
        }
    }
}

fn check_dynamic(
    raw: Spanned<RawDynamic>,
    around: Surroundings,
) -> Result<DynamicSupervisor, Wrong> {
    let span = raw.span();
    let raw = raw.into_inner();
    Ok(DynamicSupervisor {
        module: module_or(raw.module, DYNAMIC_SUPERVISOR_MODULE, span, around)?,
        intensity: raw.intensity.unwrap_or(DEFAULT_INTENSITY),
        period: checked_period(raw.period_ms)?,
        max_children: raw.max_children,
    })
}

fn module_or(
    named: Option<Spanned<String>>,
    default: &str,
    at: Range<usize>,
    around: Surroundings,
) -> Result<String, Wrong> {
    let named = named.unwrap_or_else(|| Spanned::new(at, default.to_owned()));
    known_module(named, around.modules)
}

fn checked_period(period: Option<Spanned<u32>>) -> Result<Duration, Wrong> {
    match period {
        None => Ok(Duration::from_millis(DEFAULT_PERIOD_MS.into())),
        Some(ms) if *ms.as_ref() == 0 => Err(wrong(
            &ms,
            "no restart is within no time: give a period of at least 1",
        )),
        Some(ms) => Ok(Duration::from_millis(ms.into_inner().into())),
    }
}

/// The rules of OTP's `supervisor` for `significant`.
fn checked_significant(child: &RawChild, auto_shutdown: AutoShutdown) -> Result<bool, Wrong> {
    let Some(significant) = child.significant.as_ref().filter(|key| *key.as_ref()) else {
        return Ok(false);
    };
    if child.restart == Restart::Permanent {
        return Err(wrong(
            significant,
            "a permanent child is always started again, so it cannot be significant: make it transient or temporary",
        ));
    }
    if auto_shutdown == AutoShutdown::Never {
        return Err(wrong(
            significant,
            "no child ends this supervisor: give it auto_shutdown = \"any-significant\" or \"all-significant\"",
        ));
    }
    Ok(true)
}

fn checked_shutdown(raw: Spanned<RawShutdown>) -> Result<Shutdown, Wrong> {
    let checked = match raw.as_ref() {
        RawShutdown::Ms(ms) => u32::try_from(*ms)
            .ok()
            .map(|ms| Shutdown::After(Duration::from_millis(ms.into()))),
        RawShutdown::Word(word) => match word.as_str() {
            "infinity" => Some(Shutdown::Infinity),
            "brutal-kill" => Some(Shutdown::BrutalKill),
            _ => None,
        },
    };
    checked.ok_or_else(|| {
        wrong(
            &raw,
            "no time: write milliseconds as a number, \"infinity\" or \"brutal-kill\"",
        )
    })
}

fn checked_names(
    local: Option<Spanned<String>>,
    global: Option<Spanned<String>>,
) -> Result<Option<Name>, Wrong> {
    match (local, global) {
        (None, None) => Ok(None),
        (Some(name), None) => {
            checked_name(name, "an actor's name").map(|name| Some(Name::Local(name)))
        }
        (None, Some(name)) => {
            checked_name(name, "an actor's name").map(|name| Some(Name::Global(name)))
        }
        (Some(_), Some(name)) => Err(wrong(
            &name,
            "a child has a name or a global name: keep one",
        )),
    }
}

fn args_bytes(value: Spanned<toml::Value>) -> Result<Vec<u8>, Wrong> {
    match value.as_ref() {
        toml::Value::String(text) => Ok(text.clone().into_bytes()),
        other => serde_json::to_vec(other)
            .map_err(|error| wrong(&value, format!("these args have no form in JSON: {error}"))),
    }
}

fn hex_bytes(hex: &Spanned<String>) -> Result<Vec<u8>, Wrong> {
    let digits: Option<Vec<u32>> = hex.as_ref().chars().map(|c| c.to_digit(16)).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => Ok(digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |n, &d| n << 4 | d as u8))
            .collect()),
        _ => Err(wrong(hex, "no hex: write two hexadecimal digits a byte")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Manifest;

    const HEAD: &str = "[app]\nname = \"a\"\n[modules.supervisor]\nfile = \"s.wasm\"\n\
        [modules.dynamic-supervisor]\nfile = \"d.wasm\"\n[modules.w]\nfile = \"w.wasm\"\n[supervisor]\n";

    /// From line 10 on.
    fn parse(tree: &str) -> Result<Supervisor, String> {
        let text = format!("{HEAD}{tree}");
        let parsed = Manifest::parse(&text, Path::new("app.toml"), Path::new("/apps"));
        match parsed {
            Ok(manifest) => Ok(manifest.supervisor.unwrap()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn child(keys: &str) -> Result<Child, String> {
        let text = format!("[[supervisor.child]]\nid = \"c\"\nmodule = \"w\"\n{keys}\n");
        parse(&text).map(|mut supervisor| supervisor.children.remove(0))
    }

    #[test]
    fn args_are_text_json_or_hex() {
        let args = |keys: &str| {
            child(keys).map(|child| match child.work {
                Work::Actor { args, .. } => args,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(args("args = \"h\u{e9}\"").unwrap(), "h\u{e9}".as_bytes());
        assert_eq!(
            args("args = { a = 1, b = [true] }").unwrap(),
            b"{\"a\":1,\"b\":[true]}"
        );
        assert_eq!(args("args_hex = \"00fF\"").unwrap(), [0, 255]);
        assert_eq!(args("").unwrap(), b"");
        let odd = args("args_hex = \"0\"").unwrap_err();
        assert!(odd.starts_with("app.toml:13: no hex"), "{odd}");
        let both = args("args = 1\nargs_hex = \"00\"").unwrap_err();
        assert!(both.contains("not both"), "{both}");
    }

    #[test]
    fn a_shutdown_is_a_time_or_a_word() {
        let shutdown = |keys: &str| child(keys).map(|child| child.shutdown);
        let ms = |ms| Ok(Shutdown::After(Duration::from_millis(ms)));
        assert_eq!(shutdown(""), ms(5_000));
        assert_eq!(shutdown("type = \"supervisor\""), Ok(Shutdown::Infinity));
        assert_eq!(shutdown("shutdown_ms = 0"), ms(0));
        assert_eq!(
            shutdown("shutdown_ms = \"infinity\""),
            Ok(Shutdown::Infinity)
        );
        assert_eq!(
            shutdown("shutdown_ms = \"brutal-kill\""),
            Ok(Shutdown::BrutalKill)
        );
        for wrong in ["-1", "5000000000", "\"soon\""] {
            let said = shutdown(&format!("shutdown_ms = {wrong}")).unwrap_err();
            assert!(said.starts_with("app.toml:13: no time"), "{wrong}: {said}");
        }
    }

    #[test]
    fn a_child_has_limits_and_rights_of_its_own() {
        let of =
            child("capabilities = [\"keyvalue:a\"]\nmemory_limit = \"1MiB\"\ncpu_limit_ms = 9");
        let of = of.unwrap();
        assert_eq!(of.capabilities.unwrap().to_texts(), ["keyvalue:a"]);
        assert_eq!(of.limits.memory_bytes, Some(1 << 20));
        assert_eq!(of.limits.cpu_ms, Some(9));
        let wrong = child("capabilities = [\"disk\"]").unwrap_err();
        assert!(
            wrong.starts_with("app.toml:13: \"disk\" is no capability"),
            "{wrong}"
        );
    }

    #[test]
    fn a_tree_has_branches() {
        let root = parse(
            "auto_shutdown = \"any-significant\"\n\
             [[supervisor.child]]\nid = \"branch\"\nname = \"branch\"\n\
             restart = \"transient\"\nsignificant = true\n\
             [supervisor.child.supervisor]\nstrategy = \"one-for-all\"\nintensity = 0\n\
             [[supervisor.child.supervisor.child]]\nid = \"leaf\"\nmodule = \"w\"\n\
             [[supervisor.child.supervisor.child]]\nid = \"pool\"\n\
             [supervisor.child.supervisor.child.dynamic]\nmax_children = 7\nperiod_ms = 9\n",
        )
        .unwrap();
        assert_eq!(root.auto_shutdown, AutoShutdown::AnySignificant);
        let [branch] = &root.children[..] else {
            panic!("{root:?}")
        };
        assert!(branch.significant);
        assert_eq!(branch.shutdown, Shutdown::Infinity);
        assert_eq!(branch.name, Some(Name::Local("branch".into())));
        let Work::Supervisor(below) = &branch.work else {
            panic!("{branch:?}")
        };
        assert_eq!((below.strategy, below.intensity), (Strategy::OneForAll, 0));
        let dynamic = DynamicSupervisor {
            module: "dynamic-supervisor".into(),
            intensity: 3,
            period: Duration::from_millis(9),
            max_children: Some(7),
        };
        assert_eq!(below.children[1].work, Work::Dynamic(dynamic));
        let modules: Vec<&str> = root.supervisor_modules().into_iter().collect();
        assert_eq!(modules, ["dynamic-supervisor", "supervisor"]);
    }

    #[test]
    fn errors_name_the_line_and_what_to_do() {
        let cases = [
            (
                "[[supervisor.child]]\nid = \"c\"\n",
                "app.toml:11: a child has a module = ",
            ),
            (
                "[[supervisor.child]]\nid = \"c\"\nmodule = \"w\"\n[supervisor.child.dynamic]\n",
                "app.toml:11: a child has a module, or is a supervisor, or a dynamic one: keep one",
            ),
            (
                "[[supervisor.child]]\nid = \"c\"\nargs = 1\n[supervisor.child.supervisor]\n",
                "app.toml:12: a supervisor's arguments and type follow from its table",
            ),
            (
                "[[supervisor.child]]\nid = \"c\"\n[supervisor.child.dynamic]\nstrategy = \"one-for-all\"\n",
                "app.toml:13: unknown field `strategy`",
            ),
            (
                "[[supervisor.child]]\nid = \"c\"\n[supervisor.child.dynamic]\nmodule = \"nobody\"\n",
                "app.toml:13: there is no module \"nobody\"",
            ),
            (
                "[[supervisor.child]]\nid = \"c\"\nmodule = \"w\"\nsignificant = true\n",
                "app.toml:13: a permanent child is always started again",
            ),
            (
                "[[supervisor.child]]\nid = \"c\"\nmodule = \"w\"\nrestart = \"temporary\"\nsignificant = true\n",
                "app.toml:14: no child ends this supervisor: give it auto_shutdown",
            ),
            (
                "period_ms = 0\n",
                "app.toml:10: no restart is within no time",
            ),
            (
                "[[supervisor.child]]\nid = \"c\"\nmodule = \"w\"\n[[supervisor.child]]\nid = \"c\"\nmodule = \"w\"\n",
                "app.toml:14: there is a child \"c\"",
            ),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text:?} gave {error:?}");
        }
    }

    #[test]
    fn a_tree_is_not_too_deep() {
        let of_depth = |depth: usize| {
            let mut text = String::new();
            let mut path = "supervisor".to_owned();
            for _ in 1..depth {
                text += &format!("[[{path}.child]]\nid = \"c\"\n[{path}.child.supervisor]\n");
                path += ".child.supervisor";
            }
            parse(&text)
        };
        assert!(of_depth(MAX_SUPERVISOR_DEPTH).is_ok());
        let deep = of_depth(MAX_SUPERVISOR_DEPTH + 1).unwrap_err();
        assert!(deep.contains("flatten the tree"), "{deep}");
    }
}
