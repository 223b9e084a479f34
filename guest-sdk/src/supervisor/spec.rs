//! What a supervisor supervises, as plain data. Its wire form is postcard of these types in
//! this order of fields and variants, which a host or another language may produce: a
//! `SupervisorSpec` is the whole argument of the module `supervisor`.

use serde::{Deserialize, Serialize};

use crate::process::Limits;
pub use crate::server_ref::Name;

/// Which children a child's end concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Strategy {
    /// Only itself.
    #[default]
    OneForOne,
    /// All: they are ended in reverse order, then all start again.
    OneForAll,
    /// Those that started after it: likewise.
    RestForOne,
}

/// When a child that ended starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// Unless it ended with `normal`, `shutdown` or `shutdown-with`.
    Transient,
    /// Never; when it has ended it is forgotten.
    Temporary,
}

/// How a child is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shutdown {
    /// With `shutdown`, and with `kill` if it is not gone after so many milliseconds.
    After(u32),
    /// With `kill` at once.
    BrutalKill,
    /// With `shutdown`, and however long it takes: for supervisors, whose children have their own
    /// time-outs.
    Infinity,
}

/// What a child is: OTP's `type`. It says what `count_children` counts it as, and how it is ended
/// unless the specification says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ChildKind {
    /// Anything but a supervisor.
    #[default]
    Worker,
    /// A supervisor.
    Supervisor,
}

/// Whether a supervisor ends by itself when significant children have ended by themselves: OTP's
/// `auto_shutdown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum AutoShutdown {
    /// Never; no child may be significant.
    #[default]
    Never,
    /// When one has.
    AnySignificant,
    /// When the last one has.
    AllSignificant,
}

impl Default for Shutdown {
    /// Five seconds, as OTP's workers.
    fn default() -> Self {
        Shutdown::After(5_000)
    }
}

/// One child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildSpec {
    /// What the supervisor knows it by; unique among its children.
    pub id: String,
    /// Its module: a name, or a digest in hex.
    pub module: String,
    /// What its `init` gets.
    pub args: Vec<u8>,
    /// When it starts again.
    pub restart: Restart,
    /// How it is ended.
    pub shutdown: Shutdown,
    /// Its name on this node or in the cluster, if any.
    pub name: Option<Name>,
    /// Whether its end, if it is not started again, may end the supervisor; see
    /// [`AutoShutdown`]. Not of permanent children.
    pub significant: bool,
    /// What it is.
    pub kind: ChildKind,
    /// Of what the supervisor holds and its module is granted, no more than these:
    /// [`SpawnOptions::capabilities`](crate::SpawnOptions::capabilities). Without it, all of that.
    pub capabilities: Option<Vec<String>>,
    /// Limits of its own, within its module's.
    pub limits: Option<Limits>,
}

impl ChildSpec {
    /// A permanent child, ended within five seconds, without a name.
    pub fn new(id: impl Into<String>, module: impl Into<String>, args: Vec<u8>) -> Self {
        Self {
            id: id.into(),
            module: module.into(),
            args,
            restart: Restart::default(),
            shutdown: Shutdown::default(),
            name: None,
            significant: false,
            kind: ChildKind::Worker,
            capabilities: None,
            limits: None,
        }
    }

    /// A supervisor as a child, ended however long that takes.
    pub fn supervisor(id: impl Into<String>, spec: &SupervisorSpec) -> Self {
        let child = Self::new(id, super::MODULE, crate::encode(spec));
        Self {
            kind: ChildKind::Supervisor,
            shutdown: Shutdown::Infinity,
            ..child
        }
    }

    /// The same for a server of the SDK.
    pub fn of<S: crate::GenServer>(id: impl Into<String>, args: &S::Args) -> Self {
        Self::new(id, S::MODULE, S::encode_args(args))
    }

    /// With another restart.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// With another shutdown.
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Significant: see [`AutoShutdown`].
    pub fn significant(mut self) -> Self {
        self.significant = true;
        self
    }

    /// Holds no more than these.
    pub fn capabilities<T: Into<String>>(mut self, only: impl IntoIterator<Item = T>) -> Self {
        self.capabilities = Some(only.into_iter().map(Into::into).collect());
        self
    }

    /// With limits of its own.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// With a name.
    pub fn name(mut self, name: Name) -> Self {
        self.name = Some(name);
        self
    }
}

/// A supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorSpec {
    /// Whom a child's end concerns.
    pub strategy: Strategy,
    /// So many restarts within `period_ms` are borne; one more ends the supervisor.
    pub intensity: u32,
    /// Milliseconds.
    pub period_ms: u32,
    /// Started in this order, ended in the reverse.
    pub children: Vec<ChildSpec>,
    /// Whether it ends with its significant children.
    pub auto_shutdown: AutoShutdown,
}

impl Default for SupervisorSpec {
    /// One for one, three restarts within five seconds, no children.
    fn default() -> Self {
        Self {
            strategy: Strategy::OneForOne,
            intensity: 3,
            period_ms: 5_000,
            children: Vec::new(),
            auto_shutdown: AutoShutdown::Never,
        }
    }
}
