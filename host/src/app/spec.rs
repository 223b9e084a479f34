//! A supervisor's argument in the form that the module `supervisor` reads: postcard of the
//! Rust SDK's `supervisor::spec` types, mirrored here field by field and variant by variant,
//! since host and guests share no crate.

use serde::Serialize;

use super::manifest::{Child, Name, Restart, Strategy, Supervisor};

/// The bytes to start a supervisor of this description with.
pub fn supervisor_args(supervisor: &Supervisor) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(&SupervisorSpec {
        strategy: match supervisor.strategy {
            Strategy::OneForOne => StrategySpec::OneForOne,
            Strategy::OneForAll => StrategySpec::OneForAll,
            Strategy::RestForOne => StrategySpec::RestForOne,
        },
        intensity: supervisor.intensity,
        period_ms: millis(supervisor.period),
        children: supervisor.children.iter().map(child_spec).collect(),
        auto_shutdown: AutoShutdownSpec::Never,
    })
}

fn child_spec(child: &Child) -> ChildSpec<'_> {
    ChildSpec {
        id: &child.id,
        module: &child.module,
        args: &child.args,
        restart: match child.restart {
            Restart::Permanent => RestartSpec::Permanent,
            Restart::Transient => RestartSpec::Transient,
            Restart::Temporary => RestartSpec::Temporary,
        },
        shutdown: match millis(child.shutdown) {
            0 => ShutdownSpec::BrutalKill,
            after => ShutdownSpec::After(after),
        },
        name: child.name.as_ref().map(|name| match name {
            Name::Local(name) => NameSpec::Local(name),
            Name::Global(name) => NameSpec::Global(name),
        }),
        significant: false,
        kind: ChildKindSpec::Worker,
    }
}

fn millis(duration: std::time::Duration) -> u32 {
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
enum AutoShutdownSpec {
    Never,
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
    args: &'a [u8],
    restart: RestartSpec,
    shutdown: ShutdownSpec,
    name: Option<NameSpec<'a>>,
    significant: bool,
    kind: ChildKindSpec,
}

#[derive(Serialize)]
enum ChildKindSpec {
    Worker,
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
}

#[derive(Serialize)]
enum NameSpec<'a> {
    Local(&'a str),
    Global(&'a str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// The bytes are written out by hand: they are a contract with components already built.
    #[test]
    fn the_wire_form_is_the_sdks() {
        let child = |id: &str, name, shutdown| Child {
            id: id.into(),
            module: "m".into(),
            args: vec![7, 8],
            name,
            restart: Restart::Transient,
            shutdown: Duration::from_millis(shutdown),
        };
        let supervisor = Supervisor {
            module: "supervisor".into(),
            strategy: Strategy::RestForOne,
            intensity: 3,
            period: Duration::from_millis(300),
            children: vec![
                child("a", None, 0),
                child("b", Some(Name::Local("l".into())), 5),
                child("c", Some(Name::Global("g".into())), 5),
            ],
        };
        #[rustfmt::skip]
        let expected = [
            2, // rest for one
            3, // intensity
            0xac, 2, // 300 ms
            3, // children
            1, b'a', 1, b'm', 2, 7, 8, 1, 1, 0, 0, 0, // brutal kill, no name
            1, b'b', 1, b'm', 2, 7, 8, 1, 0, 5, 1, 0, 1, b'l', 0, 0, // after 5 ms, local
            1, b'c', 1, b'm', 2, 7, 8, 1, 0, 5, 1, 1, 1, b'g', 0, 0, // after 5 ms, global
            0, // no automatic shutdown
        ];
        assert_eq!(supervisor_args(&supervisor).unwrap(), expected);
    }
}
