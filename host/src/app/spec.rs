//! The arguments of the modules `supervisor` and `dynamic-supervisor`: postcard of the Rust SDK's
//! `supervisor::spec` and `supervisor::dynamic` types, mirrored here field by field and variant by
//! variant, since host and guests share no crate.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use wasm_node_protocol::{Capabilities, Limits};

use super::tree::{
    AutoShutdown, Child, ChildType, DynamicSupervisor, Name, Restart, Shutdown, Strategy,
    Supervisor, Work,
};

/// The bytes to start a supervisor of this description with.
pub fn supervisor_args(supervisor: &Supervisor) -> Result<Vec<u8>, postcard::Error> {
    let children: Result<Vec<_>, _> = supervisor.children.iter().map(child_spec).collect();
    postcard::to_stdvec(&SupervisorSpec {
        strategy: match supervisor.strategy {
            Strategy::OneForOne => StrategySpec::OneForOne,
            Strategy::OneForAll => StrategySpec::OneForAll,
            Strategy::RestForOne => StrategySpec::RestForOne,
        },
        intensity: supervisor.intensity,
        period_ms: millis(supervisor.period),
        children: children?,
        auto_shutdown: match supervisor.auto_shutdown {
            AutoShutdown::Never => AutoShutdownSpec::Never,
            AutoShutdown::AnySignificant => AutoShutdownSpec::AnySignificant,
            AutoShutdown::AllSignificant => AutoShutdownSpec::AllSignificant,
        },
    })
}

fn dynamic_args(dynamic: &DynamicSupervisor) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(&DynamicSpec {
        intensity: dynamic.intensity,
        period_ms: millis(dynamic.period),
        max_children: dynamic.max_children,
    })
}

fn child_spec(child: &Child) -> Result<ChildSpec<'_>, postcard::Error> {
    let (module, args, kind) = match &child.work {
        Work::Actor { module, args, kind } => (module, args.into(), *kind),
        Work::Supervisor(below) => {
            let args = supervisor_args(below)?;
            (&below.module, args.into(), ChildType::Supervisor)
        }
        Work::Dynamic(below) => {
            let args = dynamic_args(below)?;
            (&below.module, args.into(), ChildType::Supervisor)
        }
    };
    Ok(ChildSpec {
        id: &child.id,
        module,
        args,
        restart: match child.restart {
            Restart::Permanent => RestartSpec::Permanent,
            Restart::Transient => RestartSpec::Transient,
            Restart::Temporary => RestartSpec::Temporary,
        },
        shutdown: match child.shutdown {
            Shutdown::BrutalKill => ShutdownSpec::BrutalKill,
            Shutdown::After(time) => ShutdownSpec::After(millis(time)),
            Shutdown::Infinity => ShutdownSpec::Infinity,
        },
        name: child.name.as_ref().map(|name| match name {
            Name::Local(name) => NameSpec::Local(name),
            Name::Global(name) => NameSpec::Global(name),
        }),
        significant: child.significant,
        kind: match kind {
            ChildType::Worker => ChildKindSpec::Worker,
            ChildType::Supervisor => ChildKindSpec::Supervisor,
        },
        capabilities: child.capabilities.as_ref().map(Capabilities::to_texts),
        limits: Some(child.limits).filter(|limits| *limits != Limits::default()),
    })
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[derive(Serialize)]
struct SupervisorSpec<'a> {
    strategy: StrategySpec,
    intensity: u32,
    period_ms: u32,
    children: Vec<ChildSpec<'a>>,
    auto_shutdown: AutoShutdownSpec,
}

#[derive(Serialize)]
struct DynamicSpec {
    intensity: u32,
    period_ms: u32,
    max_children: Option<u32>,
}

#[derive(Serialize)]
enum AutoShutdownSpec {
    Never,
    AnySignificant,
    AllSignificant,
}

#[derive(Serialize)]
enum StrategySpec {
    OneForOne,
    OneForAll,
    RestForOne,
}

#[derive(Serialize)]
struct ChildSpec<'a> {
    id: &'a str,
    module: &'a str,
    args: Cow<'a, [u8]>,
    restart: RestartSpec,
    shutdown: ShutdownSpec,
    name: Option<NameSpec<'a>>,
    significant: bool,
    kind: ChildKindSpec,
    capabilities: Option<Vec<String>>,
    /// Its fields are the SDK's.
    limits: Option<Limits>,
}

#[derive(Serialize)]
enum ChildKindSpec {
    Worker,
    Supervisor,
}

#[derive(Serialize)]
enum RestartSpec {
    Permanent,
    Transient,
    Temporary,
}

#[derive(Serialize)]
enum ShutdownSpec {
    After(u32),
    BrutalKill,
    Infinity,
}

#[derive(Serialize)]
enum NameSpec<'a> {
    Local(&'a str),
    Global(&'a str),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes are written out by hand: they are a contract with components already built.
    #[test]
    fn the_wire_form_is_the_sdks() {
        let child = |id: &str, work, name, shutdown| Child {
            id: id.into(),
            work,
            name,
            restart: Restart::Transient,
            shutdown,
            significant: id == "a",
            capabilities: (id == "b").then(|| Capabilities::parse(["env:A"]).unwrap()),
            limits: Limits {
                cpu_ms: (id == "b").then_some(9),
                ..Limits::default()
            },
        };
        let actor = |kind| Work::Actor {
            module: "m".into(),
            args: vec![7, 8],
            kind,
        };
        let period = Duration::from_millis(300);
        let below = Work::Supervisor(Supervisor {
            module: "s".into(),
            strategy: Strategy::OneForOne,
            intensity: 1,
            period,
            auto_shutdown: AutoShutdown::Never,
            children: vec![],
        });
        let dynamic = Work::Dynamic(DynamicSupervisor {
            module: "d".into(),
            intensity: 1,
            period,
            max_children: Some(9),
        });
        let (local, global) = (Name::Local("l".into()), Name::Global("g".into()));
        let after = Shutdown::After(Duration::from_millis(5));
        let (worker, boss) = (actor(ChildType::Worker), actor(ChildType::Supervisor));
        let supervisor = Supervisor {
            module: "supervisor".into(),
            strategy: Strategy::RestForOne,
            intensity: 3,
            period,
            auto_shutdown: AutoShutdown::AllSignificant,
            children: vec![
                child("a", worker.clone(), None, Shutdown::BrutalKill),
                child("b", worker, Some(local), after),
                child("c", boss, Some(global), after),
                child("d", below, None, Shutdown::Infinity),
                child("e", dynamic, None, Shutdown::Infinity),
            ],
        };
        #[rustfmt::skip]
        let expected = [
            2, // rest for one
            3, // intensity
            0xac, 2, // 300 ms
            5, // children
            1, b'a', 1, b'm', 2, 7, 8, 1, 1, 0, 1, 0, 0, 0, // brutal kill, no name, significant
            1, b'b', 1, b'm', 2, 7, 8, 1, 0, 5, 1, 0, 1, b'l', 0, 0, // after 5 ms, local
            1, 1, 5, b'e', b'n', b'v', b':', b'A', 1, 0, 0, 0, 0, 1, 9, // its own rights and limits
            1, b'c', 1, b'm', 2, 7, 8, 1, 0, 5, 1, 1, 1, b'g', 0, 1, 0, 0, // after 5 ms, global, supervisor
            1, b'd', 1, b's', 6, 0, 1, 0xac, 2, 0, 0, 1, 2, 0, 0, 1, 0, 0, // infinity
            1, b'e', 1, b'd', 5, 1, 0xac, 2, 1, 9, 1, 2, 0, 0, 1, 0, 0,
            2, // all significant
        ];
        assert_eq!(supervisor_args(&supervisor).unwrap(), expected);
    }
}
