//! What actors' imports ask of the node beyond their own process.

use std::sync::Arc;

use wasm_node_protocol::global::{Requester, Wish};
use wasm_node_protocol::groups::{ByGroup, GroupError};
use wasm_node_protocol::{Capabilities, Limits, NodeKind, Pid, Ref, SpawnError, SpawnOptions};

use super::version::UpgradeReport;
use crate::process::Process;

/// What a module may do beyond messaging.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// What its actors may hold: each gets what of these its parent holds and passes on.
    pub capabilities: Capabilities,
    /// What one of its actors may use, at most.
    pub limits: Limits,
}

/// A set of nodes, as `node.nodes` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeSet {
    /// Those of one kind.
    Of(NodeKind),
    /// All.
    All,
}

/// A module on this node, at its current version.
#[derive(Clone, Debug)]
pub struct ModuleInfo {
    /// Its name.
    pub name: String,
    /// Of the current version, in hex.
    pub digest: String,
    /// How many actors of the module live here.
    pub actors: u32,
    /// The interfaces that it imports, sorted.
    pub imports: Vec<String>,
    /// What it is granted.
    pub capabilities: Capabilities,
}

/// The node, as its actors see it. Nothing here waits; what takes time is answered by a
/// signal with the ref.
pub trait Services: Send + Sync {
    /// Starts an actor on this node.
    fn spawn(
        &self,
        parent: &Arc<Process>,
        module: &str,
        args: Vec<u8>,
        options: SpawnOptions,
    ) -> Result<(Pid, Ref), SpawnError>;
    /// Starts an actor on a node; answered by `Spawned`.
    fn spawn_on(
        &self,
        parent: &Arc<Process>,
        node: &str,
        module: &str,
        args: Vec<u8>,
        options: SpawnOptions,
    ) -> Ref;
    /// Claims a global name or a lock for an actor; answered by `Registered`.
    fn claim(&self, asker: &Arc<Process>, actor: Pid, wish: Wish) -> Ref;
    /// Lets a lock go, or gives up waiting for it; whether the actor held it.
    fn unlock(&self, actor: Pid, resource: &str, requester: &Requester) -> bool;
    /// Gives up a global name.
    fn global_unregister(&self, name: &str) -> bool;
    /// Who holds a global name.
    fn global_whereis(&self, name: &str) -> Option<Pid>;
    /// All global names known here.
    fn global_registered(&self) -> Vec<String>;
    /// Adds actors of this node to a group.
    ///
    /// # Errors
    /// A bad name, an actor of another node, too many memberships.
    fn join(&self, scope: &str, group: &str, actors: &[Pid]) -> Result<(), GroupError>;
    /// Takes each out of a group once; whether any was in.
    fn leave(&self, scope: &str, group: &str, actors: &[Pid]) -> bool;
    /// The members of a group on all nodes, or on this one.
    fn members(&self, scope: &str, group: &str, local: bool) -> Vec<Pid>;
    /// The groups of a scope with members on any node, or on this one.
    fn groups(&self, scope: &str, local: bool) -> Vec<String>;
    /// Tells the actor of each change of a group, or of all of a scope, from now on; their
    /// members now.
    ///
    /// # Errors
    /// A bad name, or too many monitors.
    fn monitor_groups(
        &self,
        actor: &Process,
        scope: &str,
        group: Option<&str>,
    ) -> Result<(Ref, ByGroup), GroupError>;
    /// Ends such a monitor, and takes its messages back; whether there was one.
    fn demonitor_groups(&self, actor: &Process, monitor: Ref) -> bool;
    /// The nodes connected to this one, sorted.
    fn nodes(&self, which: NodeSet) -> Vec<String>;
    /// The name of a pid's node.
    fn node_of(&self, actor: Pid) -> Option<String>;
    /// Connects to a node; answered by `Connected`.
    fn connect(&self, asker: &Arc<Process>, node: &str) -> Ref;
    /// Cuts the connection to a node; whether there was one.
    fn disconnect(&self, node: &str) -> bool;
    /// Whether the actor gets `NodeUp` and `NodeDown` from now on.
    fn monitor_nodes(&self, actor: &Process, on: bool);
    /// One monitor of a node more, or less; see `wit/node.wit`.
    fn monitor_node(&self, actor: &Arc<Process>, node: &str, on: bool);
    /// The current version of each module.
    fn modules(&self) -> Vec<ModuleInfo>;
    /// How the move of an actor to a new version went.
    fn upgraded(&self, report: UpgradeReport);
    /// An event of an actor's own, for this node's log. What is too long is cut.
    fn log(
        &self,
        actor: &Process,
        level: tracing::Level,
        text: String,
        fields: Vec<(String, String)>,
    );
}
