//! What tools ask of a node: the command line, and any other. Types and their bytes only.
//!
//! A tool joins the node as a hidden node and sends a [`ControlRequest`] inside the
//! distribution's own request for that; the node answers each with one [`ControlReply`]. Pids
//! travel with the text that the node asked would print for them, since `<2.7.0>` means
//! something on that node only; [`PrintedPid`] is the way back.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wasm_node_protocol::{
    CallError, ExitReason, Incarnation, Limits, NodeKind, NodeName, Pid, Ref, SpawnError,
};

/// How many actors one [`ProcessList`] holds at most; it says how many there are in all.
pub const MAX_LISTED_PROCESSES: usize = 10_000;

/// How many names one [`NameList`] holds at most; it says how many there are in all.
pub const MAX_LISTED_NAMES: usize = 10_000;

/// How many actors one [`DumpPage`] holds at most.
pub const MAX_DUMPED_ACTORS: usize = 2_000;

/// How many of its names an [`ActorRow`] holds at most; it says how many there are in all.
pub const MAX_DUMPED_NAMES: usize = 16;

/// The key made of a cookie, which links prove to have. The secret itself, so never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookieKey(pub [u8; 32]);

impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieKey(..)")
    }
}

/// What a tool asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ControlRequest {
    /// Who are you? Answered by [`ControlReply::Info`].
    Info,
    /// Which nodes are you connected to? Answered by [`ControlReply::Nodes`].
    Nodes,
    /// Which actors live on you? Answered by [`ControlReply::Processes`].
    Processes,
    /// Which modules do you have? Answered by [`ControlReply::Modules`].
    Modules,
    /// Start an actor, without a parent; answered when its `init` is done, by
    /// [`ControlReply::Spawned`].
    Spawn {
        /// A module of the node asked, by name or by digest in hex.
        module: String,
        /// What its `init` gets.
        args: Bytes,
        /// Its name in the registry of the node it runs on.
        name: Option<String>,
        /// Where it runs; `None` is the node asked.
        on: Option<NodeName>,
        /// What it may use, within its module's limits.
        limits: Limits,
    },
    /// Call an actor; answered by [`ControlReply::Called`].
    Call {
        /// Which.
        to: Address,
        /// What is asked.
        body: Bytes,
        /// How long its reply may take, in milliseconds.
        timeout_ms: u32,
    },
    /// Send an actor an exit signal; answered by [`ControlReply::Exited`].
    Exit {
        /// Which.
        to: Address,
        /// The signal's reason.
        reason: ExitReason,
    },
    /// Which actor has this name? Answered by [`ControlReply::Whereis`].
    Whereis(Address),
    /// Which global names do you know? Answered by [`ControlReply::GlobalNames`].
    GlobalNames,
    /// Connect to a node; answered by [`ControlReply::Connected`].
    Connect(NodeName),
    /// Cut the connection to a node, until somebody asks for one; answered by
    /// [`ControlReply::Disconnected`].
    Disconnect(NodeName),
    /// Connect to a node if need be, and ask it for a sign of life; answered by
    /// [`ControlReply::Pinged`].
    Ping(NodeName),
    /// Which cookies have you? Answered by [`ControlReply::Cookies`].
    Cookies,
    /// Use this cookie from now on, for one peer or for all that have none of their own.
    /// Answered by [`ControlReply::CookieSet`]. Not for links in clear: it is the secret.
    SetCookie {
        /// For whom; `None` for all others.
        peer: Option<NodeName>,
        /// The cookie's key.
        cookie: CookieKey,
    },
    /// Stop, actors first. Answered by [`ControlReply::Stopping`] before it does.
    Stop,
    /// As `Spawn`, for a tool that stays: `leader` gets, as signals, all that the actor and its
    /// children print, and their questions for input, to be answered to whoever asks. When the
    /// actor has ended, or could not start, `Down` with `end` comes last.
    Attach {
        /// A module of the node asked, by name or by digest in hex.
        module: String,
        /// What its `init` gets.
        args: Bytes,
        /// Its name in the registry of the node it runs on.
        name: Option<String>,
        /// Where it runs; `None` is the node asked.
        on: Option<NodeName>,
        /// What it may use, within its module's limits.
        limits: Limits,
        /// Of the tool's own node.
        leader: Pid,
        /// The tag of that `Down`.
        end: Ref,
    },
    /// What are you made of? Answered by [`ControlReply::Dump`], page by page.
    Dump {
        /// 0 at first, then what the page before says.
        from: u32,
    },
}

/// What the node answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ControlReply {
    /// About the node.
    Info(NodeInfo),
    /// The nodes it is connected to, hidden ones too, sorted by name.
    Nodes(Vec<NodeRow>),
    /// Its actors.
    Processes(ProcessList),
    /// Its modules, sorted by name.
    Modules(Vec<ModuleRow>),
    /// The new actor, or why there is none.
    Spawned(Result<PidRow, SpawnError>),
    /// The actor's reply, or why there is none.
    Called(Result<Bytes, CallError>),
    /// Whether there was such an actor.
    Exited(bool),
    /// The name's holder, if there is one.
    Whereis(Option<PidRow>),
    /// The global names, sorted.
    GlobalNames(NameList),
    /// Whether it is connected now, or why not.
    Connected(Result<(), String>),
    /// Whether it was connected.
    Disconnected(bool),
    /// How long the round trip took, in microseconds, or why there was none.
    Pinged(Result<u64, String>),
    /// Its cookies: the one for all first, then those for single peers, sorted.
    Cookies(Vec<CookieRow>),
    /// It is used from now on.
    CookieSet,
    /// It will.
    Stopping,
    /// It will not, or cannot; says why.
    Refused(String),
    /// A page of a dump.
    Dump(Box<DumpPage>),
}

/// An actor, as a person names it to the node asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Address {
    /// By pid, as that node prints it.
    Pid(PrintedPid),
    /// By its name in that node's registry.
    Name(String),
    /// By its global name.
    Global(String),
}

/// A pid as a node prints it: `<node.slot.generation>`, where `node` numbers the runs of nodes
/// that this node has met and is 0 for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PrintedPid {
    /// The node's number.
    pub node: u32,
    /// Its place there: [`Pid::serial`].
    pub serial: u64,
}

/// A pid and what the node asked prints for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PidRow {
    /// The pid.
    pub pid: Pid,
    /// Its text.
    pub printed: String,
}

/// Global names, as a node knows them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NameList {
    /// At most [`MAX_LISTED_NAMES`].
    pub rows: Vec<NameRow>,
    /// How many there are.
    pub total: u64,
}

/// A global name and its holder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NameRow {
    /// The name.
    pub name: String,
    /// Who holds it.
    pub holder: PidRow,
    /// On which node.
    pub node: Option<NodeName>,
}

/// About a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name.
    pub name: NodeName,
    /// This run of it.
    pub incarnation: Incarnation,
    /// Whether others list it.
    pub kind: NodeKind,
    /// Its operating system's process.
    pub os_pid: u32,
    /// How long it has been running, in milliseconds.
    pub uptime_ms: u64,
    /// How many actors live on it.
    pub processes: u64,
    /// Where other nodes reach it, if it listens.
    pub listen: Option<String>,
    /// Its HTTP listeners, as URLs.
    pub http: Vec<String>,
    /// The version of its program.
    pub version: String,
}

/// A node that another is connected to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its name.
    pub name: NodeName,
    /// Whether it is listed.
    pub kind: NodeKind,
}

/// A cookie of a node, as far as it shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CookieRow {
    /// The peer that it is for; `None` for all that have none of their own.
    pub peer: Option<NodeName>,
    /// The same for the same cookie, and of no use to guess it by.
    pub fingerprint: String,
}

/// The actors of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessList {
    /// At most [`MAX_LISTED_PROCESSES`] of them, oldest slot first.
    pub rows: Vec<ProcessRow>,
    /// How many there are.
    pub total: u64,
}

/// An actor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessRow {
    /// Its pid, as the node prints it.
    pub pid: String,
    /// Its module, or what it is if it has none.
    pub module: String,
    /// Its name in the node's registry.
    pub name: Option<String>,
    /// How many messages wait for it.
    pub mailbox: u64,
    /// What it is doing, as Erlang's `process_info` says it.
    pub status: String,
    /// Processor time, in microseconds.
    pub cpu_us: u64,
    /// Turns that it has begun.
    pub turns: u64,
    /// What is only seen between turns; none of an actor that computes for long.
    pub state: Option<ProcessState>,
}

/// More about an actor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessState {
    /// Linear memory, in bytes.
    pub memory_bytes: u64,
    /// Messages that it took.
    pub messages_in: u64,
    /// Messages that it sent.
    pub messages_out: u64,
    /// How many others it is linked to.
    pub links: u64,
}

/// A module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ModuleRow {
    /// Its name.
    pub name: String,
    /// The digest of a version, in hex.
    pub digest: String,
    /// How many actors run that version here.
    pub actors: u64,
    /// The interfaces that it imports, sorted.
    pub imports: Vec<String>,
    /// What it is granted, as a policy has it.
    pub capabilities: Vec<String>,
}

/// A part of a dump.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DumpPage {
    /// What concerns the node as a whole; with the first page only.
    pub head: Option<DumpHead>,
    /// At most [`MAX_DUMPED_ACTORS`].
    pub actors: Vec<ActorRow>,
    /// Where to go on from, if there are more.
    pub next: Option<u32>,
}

/// What a dump says of the node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DumpHead {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
    /// Who it is.
    pub info: NodeInfo,
    /// Whom it is connected to.
    pub nodes: Vec<NodeRow>,
    /// Its modules.
    pub modules: Vec<ModuleRow>,
    /// The global names that it knows.
    pub global_names: NameList,
    /// The process groups that it knows.
    pub groups: GroupCounts,
    /// What it takes of the machine.
    pub memory: Memory,
}

/// How many process groups a node knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GroupCounts {
    /// Scopes with groups.
    pub scopes: u64,
    /// Groups with members.
    pub groups: u64,
    /// Memberships; an actor that joined twice has two.
    pub memberships: u64,
}

/// What the operating system says of a node's process; 0 for what it does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// In memory.
    pub resident_bytes: u64,
    /// The most that ever was.
    pub peak_resident_bytes: u64,
    /// Addresses in use.
    pub virtual_bytes: u64,
    /// Its threads.
    pub threads: u64,
}

/// An actor in a dump.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ActorRow {
    /// Which.
    pub pid: PidRow,
    /// Its module, or what it is if it has none.
    pub module: String,
    /// The version that it runs, in hex, if that is known.
    pub digest: Option<String>,
    /// Its local names, at most [`MAX_DUMPED_NAMES`].
    pub names: Vec<String>,
    /// How many it has.
    pub names_total: u64,
    /// Who spawned it, unless the node did.
    pub parent: Option<PidRow>,
    /// How long it has lived, in milliseconds.
    pub age_ms: u64,
    /// Turns that it has begun, as far as 32 bits tell.
    pub turns: u64,
    /// Messages that wait for it.
    pub mailbox: u64,
    /// Whether it has to end, and did not yet.
    pub is_ending: bool,
    /// What only it knows; nothing if it was in a turn.
    pub inside: Option<InsideRow>,
}

/// What an actor knows of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InsideRow {
    /// Its links.
    pub links: u64,
    /// Those whom it monitors.
    pub monitors: u64,
    /// Monitors of it.
    pub monitored_by: u64,
    /// Requests whose answers it waits for.
    pub pending_requests: u64,
    /// Its group leader.
    pub group_leader: PidRow,
    /// Whether exit signals become messages.
    pub traps_exits: bool,
}

/// Bytes that are no request or reply. The peer's fault: a broken one, or one of a version that
/// does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not understood ({0}): is the node of another version than this program?")]
pub struct ControlCodecError(postcard::Error);

impl ControlRequest {
    /// Its bytes.
    pub fn encode(&self) -> Result<Bytes, ControlCodecError> {
        encode(self)
    }

    /// The request that these bytes are.
    pub fn decode(bytes: &[u8]) -> Result<Self, ControlCodecError> {
        postcard::from_bytes(bytes).map_err(ControlCodecError)
    }
}

impl ControlReply {
    /// Its bytes.
    pub fn encode(&self) -> Result<Bytes, ControlCodecError> {
        encode(self)
    }

    /// The reply that these bytes are.
    pub fn decode(bytes: &[u8]) -> Result<Self, ControlCodecError> {
        postcard::from_bytes(bytes).map_err(ControlCodecError)
    }
}

fn encode(value: &impl Serialize) -> Result<Bytes, ControlCodecError> {
    postcard::to_stdvec(value)
        .map(Bytes::from)
        .map_err(ControlCodecError)
}

impl FromStr for PrintedPid {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let inner = text
            .strip_prefix('<')
            .and_then(|text| text.strip_suffix('>'))
            .ok_or(())?;
        let mut parts = inner
            .split('.')
            .map(|part| part.parse::<u32>().map_err(|_| ()));
        let mut part = || parts.next().unwrap_or(Err(()));
        let (node, slot, generation) = (part()?, part()?, part()?);
        match parts.next() {
            None => Ok(Self {
                node,
                serial: Pid::serial(slot, generation),
            }),
            Some(_) => Err(()),
        }
    }
}

/// How a person writes an address: `<0.42.0>`, `global:NAME`, or `NAME`.
impl FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('<') {
            return text.parse().map(Address::Pid).map_err(|()| {
                format!("{text:?} is no pid: write it as `wasm-node ps` does, \"<0.42.0>\"")
            });
        }
        match text.strip_prefix("global:") {
            Some("") => Err("global: which name? write \"global:NAME\"".into()),
            Some(name) => Ok(Address::Global(name.into())),
            None if text.is_empty() => {
                Err("whom? write \"<0.42.0>\", a name or global:NAME".into())
            }
            None => Ok(Address::Name(text.into())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Pid(PrintedPid { node, serial }) => {
                let (slot, generation) = Pid::slot_and_generation(*serial);
                write!(f, "<{node}.{slot}.{generation}>")
            }
            Address::Name(name) => write!(f, "{name}"),
            Address::Global(name) => write!(f, "global:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_printed() {
        for text in [
            "<0.42.0>",
            "<3.7.2147483647>",
            "database",
            "global:todo-bob",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "<0.42>", "<0.1.2.3>", "<0.1.x>", "<0.1.0", "global:"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_printed_pid_has_the_serial_that_printed_it() {
        let pid = Pid {
            node: Incarnation(9),
            serial: Pid::serial(42, 5),
        };
        let printed: PrintedPid = pid.display(3).parse().unwrap();
        assert_eq!(
            printed,
            PrintedPid {
                node: 3,
                serial: pid.serial
            }
        );
    }

    #[test]
    fn requests_and_replies_survive_their_bytes() {
        let request = ControlRequest::Spawn {
            module: "counter".into(),
            args: Bytes::from_static(b"1"),
            name: Some("c".into()),
            limits: Limits::default(),
            on: Some("node2@127.0.0.1".parse().unwrap()),
        };
        assert_eq!(
            ControlRequest::decode(&request.encode().unwrap()),
            Ok(request)
        );
        let reply = ControlReply::Called(Err(CallError::Exit(ExitReason::Normal)));
        assert_eq!(ControlReply::decode(&reply.encode().unwrap()), Ok(reply));
        assert!(ControlReply::decode(&[200]).is_err());
    }
}
