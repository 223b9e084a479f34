//! Nothing that a peer sends makes a decoder panic, take more memory than its length justifies,
//! or hang: the fuzz targets of `host/protocol/fuzz`, called with their corpus and with seeded
//! mutations of it. Memory is counted by this test's own allocator.
//!
//! `WASM_NODE_FUZZ_RUNS` sets how many mutations each target gets. `WASM_NODE_FUZZ_CORPUS=1`
//! writes the part of the corpus that is made of valid messages anew.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[path = "../../host/protocol/fuzz/src/targets.rs"]
mod targets;

/// Mutations a target, unless `WASM_NODE_FUZZ_RUNS` says otherwise.
const RUNS: usize = 20_000;

/// What a decoder may take whatever comes, in bytes: the frame reader's first room, and what
/// serde makes ready for a list before it has read any of it.
const ALLOWED_BYTES: usize = 6 * 1024 * 1024;

/// What it may take for each byte that came: entries of a few bytes become strings and tables,
/// and a growing list is in memory twice while it moves.
const ALLOWED_FOR_EACH: usize = 100;

/// The longest input tried, in bytes.
const MAX_INPUT_BYTES: usize = 64 * 1024;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count(more: usize, less: usize) {
    let _ = NOW.try_with(|now| {
        now.set((now.get() + more).saturating_sub(less));
        let _ = MOST.try_with(|most| most.set(most.get().max(now.get())));
    });
}

// SAFETY: all is the system allocator's; what is counted are numbers of this thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are in memory while it moves.
        count(size, 0);
        count(0, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that was taken at one time meanwhile, in bytes.
fn most_taken(run: impl FnOnce()) -> usize {
    let before = NOW.with(Cell::get);
    MOST.with(|most| most.set(before));
    run();
    MOST.with(Cell::get) - before
}

fn corpus_of(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../host/protocol/fuzz/corpus/{target}"))
}

fn read_corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(corpus_of(target)).expect("the corpus is in the repository");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .map(|path| (path.clone(), std::fs::read(&path).expect("a readable file")))
        .collect();
    files.sort();
    files
}

/// As fuzzers do: flips, numbers that are too large, pieces cut out, doubled or of another file.
fn mutate(rng: &mut StdRng, corpus: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let pick = |rng: &mut StdRng| corpus[rng.random_range(0..corpus.len())].1.clone();
    let mut bytes = pick(rng);
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..bytes.len() + 1);
        let end = (at + rng.random_range(0..40)).min(bytes.len());
        match rng.random_range(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => bytes[at..end].fill([0, 0xff, 0x7f, 0x80][rng.random_range(0..4)]),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                for _ in 0..rng.random_range(1..200) {
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
            5 => {
                let other = pick(rng);
                bytes.splice(at..at, other);
            }
            _ => bytes.truncate(at),
        }
        bytes.truncate(MAX_INPUT_BYTES);
    }
    bytes
}

fn try_input((name, target): &targets::Target, from: &str, input: &[u8]) -> usize {
    let taken = std::panic::catch_unwind(|| most_taken(|| target(input)));
    let keep = || {
        let path = std::env::temp_dir().join(format!("wasm-node-fuzz-{name}"));
        let _ = std::fs::write(&path, input);
        path
    };
    let Ok(taken) = taken else {
        panic!("{name}, {from}: panicked; the input is in {:?}", keep());
    };
    let allowed = ALLOWED_BYTES + ALLOWED_FOR_EACH * input.len();
    assert!(
        taken <= allowed,
        "{name}, {from}: {taken} bytes of memory for {} of input; it is in {:?}",
        input.len(),
        keep()
    );
    taken
}

fn fuzz(name: &str) {
    let target = targets::ALL.iter().find(|(known, _)| *known == name);
    let target = target.expect("a target of that name");
    let corpus = read_corpus(name);
    assert!(!corpus.is_empty(), "no corpus of {name}");
    let mut most = 0;
    for (path, input) in &corpus {
        most = most.max(try_input(target, &path.display().to_string(), input));
    }
    let runs = std::env::var("WASM_NODE_FUZZ_RUNS").ok();
    let runs = runs.and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let mut rng = StdRng::seed_from_u64(1);
    for run in 0..runs {
        let input = mutate(&mut rng, &corpus);
        most = most.max(try_input(target, &format!("mutation {run}"), &input));
    }
    eprintln!(
        "{name}: {} files, {runs} mutations, at most {most} bytes of memory",
        corpus.len()
    );
}

#[test]
fn frames() {
    fuzz("frame");
}

#[test]
fn handshakes() {
    fuzz("handshake");
}

#[test]
fn the_port_mappers_protocol() {
    fuzz("epmd");
}

#[test]
fn messages() {
    fuzz("message");
}

#[test]
fn signals() {
    fuzz("signal");
}

#[test]
fn control_messages() {
    fuzz("control");
}

/// An announced length is not believed: memory comes with the bytes.
#[test]
fn a_message_that_never_comes_takes_no_memory() {
    use wasm_node_protocol::frame::{FrameReader, MAX_MESSAGE_BYTES};
    let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
    let mut first = 65_000_u32.to_le_bytes().to_vec();
    first.push(0x80 | 0x40 | 1);
    first.extend((MAX_MESSAGE_BYTES as u32).to_le_bytes());
    let taken = most_taken(|| {
        reader.feed(&first);
        assert!(reader.next_message().is_ok_and(|message| message.is_none()));
    });
    assert!((1..5 << 20).contains(&taken), "{taken} bytes");
}

mod corpus {
    //! The corpus of valid messages, as this code writes them.

    use bytes::Bytes;
    use wasm_node_protocol::codec::{Metadata, NodeReply, NodeRequest, TraceContext, WireMessage};
    use wasm_node_protocol::frame::{Batch, FrameWriter, Lane};
    use wasm_node_protocol::global::{Bid, GlobalMessage, LockFact, NameFact, Requester, Resolver};
    use wasm_node_protocol::groups::{GroupsMessage, Members};
    use wasm_node_protocol::handshake::{Accepting, Dialling, Hello, Refusal};
    use wasm_node_protocol::membership::MembershipMessage;
    use wasm_node_protocol::{
        Aliased, CallError, Capabilities, Digest, ExitReason, Incarnation, NodeEvent, NodeKind,
        NodeName, OutputKind, Pid, Ref, RegisterError, Signal, SpawnError, SpawnOptions, Target,
    };

    fn pid(serial: u64) -> Pid {
        Pid {
            node: Incarnation(0x000f_1234_5678_9abc),
            serial,
        }
    }

    fn tag(serial: u64) -> Ref {
        let node = pid(0).node;
        Ref { node, serial }
    }

    fn name(name: &str) -> NodeName {
        name.parse().expect("a valid name")
    }

    fn event() -> NodeEvent {
        NodeEvent {
            node: name("c@127.0.0.1"),
            kind: NodeKind::Hidden,
            reason: "silent for 4500 ms".into(),
        }
    }

    fn signals() -> Vec<Signal> {
        let body = Bytes::from_static(b"what actors say");
        let reasons = [
            ExitReason::Normal,
            ExitReason::AlreadyStarted(pid(7)),
            ExitReason::Trap("unreachable".into()),
            ExitReason::Custom(body.clone()),
        ];
        let errors = [
            CallError::Timeout,
            CallError::NoProc,
            CallError::Exit(ExitReason::Killed),
        ];
        let mut signals = vec![
            Signal::Info(body.clone()),
            Signal::Cast(Bytes::new()),
            Signal::Request {
                from: pid(1),
                tag: tag(1),
                body: body.clone(),
            },
            Signal::Response {
                tag: tag(2),
                result: Ok(body),
            },
            Signal::Forget { tag: tag(3) },
            Signal::Link { from: pid(2) },
            Signal::Unlink {
                from: pid(3),
                id: 7,
            },
            Signal::UnlinkAck {
                from: pid(3),
                id: 7,
            },
            Signal::Alias {
                alias: tag(5),
                message: Box::new(Aliased::Cast(Bytes::from_static(b"to an alias"))),
            },
            Signal::Monitor {
                from: pid(4),
                tag: tag(4),
            },
            Signal::Demonitor { tag: tag(5) },
            Signal::Spawned {
                tag: tag(6),
                result: Err(SpawnError::NoSuchModule("todo".into())),
            },
            Signal::Timer { tag: tag(7) },
            Signal::Registered {
                tag: tag(8),
                result: Err(RegisterError::Taken(pid(5))),
            },
            Signal::Connected {
                tag: tag(9),
                result: Err("no".into()),
            },
            Signal::NameConflict {
                name: "a name".into(),
                holder: pid(6),
            },
            Signal::NodeUp(event()),
            Signal::NodeDown(event()),
            Signal::Output {
                from: pid(12),
                kind: OutputKind::Stderr,
                text: Bytes::from_static(b"a line\n"),
            },
            Signal::InputRequest {
                from: pid(13),
                tag: tag(13),
                timeout_ms: Some(1_000),
            },
            Signal::GroupLeader {
                from: pid(14),
                leader: pid(15),
            },
        ];
        signals.extend(reasons.map(|reason| Signal::Down {
            tag: tag(10),
            pid: pid(8),
            reason: reason.clone(),
        }));
        signals.extend(errors.map(|error| Signal::Response {
            tag: tag(11),
            result: Err(error),
        }));
        signals
    }

    pub fn messages() -> Vec<WireMessage> {
        let mut messages: Vec<_> = signals()
            .into_iter()
            .map(|signal| WireMessage::Signal {
                to: Target::Pid(pid(9)),
                metadata: Metadata::default(),
                signal,
            })
            .collect();
        let trace = TraceContext {
            trace_id: 1 << 100,
            span_id: 5,
            flags: 1,
        };
        messages.push(WireMessage::Signal {
            to: Target::Name("somebody".into()),
            metadata: Metadata {
                trace: Some(trace),
                deadline_ms: Some(5_000),
            },
            signal: Signal::Cast(Bytes::from_static(b"hello")),
        });
        messages.push(WireMessage::Tick);
        let others = vec![
            (name("b@127.0.0.1"), Some("127.0.0.1:9000".to_owned())),
            (name("c@127.0.0.1"), None),
        ];
        let membership = [
            MembershipMessage::Nodes(others),
            MembershipMessage::Disconnect,
            MembershipMessage::Leaving,
            MembershipMessage::View {
                digest: 0x1234_5678_9abc_def0,
                answer: true,
            },
        ];
        messages.extend(membership.map(WireMessage::Membership));
        let claim = 3;
        let register = Bid::Register("server".into());
        let lock = Bid::Lock {
            resource: "disk".into(),
            requester: Requester::Named("backup".into()),
        };
        let held = |name: &str, serial, resolver| NameFact {
            name: name.into(),
            pid: pid(serial),
            resolver,
        };
        let global = [
            GlobalMessage::Claim {
                bid: register.clone(),
                claim,
                waits: false,
            },
            GlobalMessage::Turn { claim },
            GlobalMessage::Prepare { bid: lock, claim },
            GlobalMessage::Promised { claim },
            GlobalMessage::Refused {
                claim,
                holder: Some(pid(4)),
            },
            GlobalMessage::Abandon {
                key: register.key(),
                claim,
            },
            GlobalMessage::Publish {
                facts: vec![
                    held("server", 1, Resolver::NotifyAll),
                    held("another", 2, Resolver::Ask("judge".into())),
                ],
                claim: Some(claim),
            },
            GlobalMessage::Unpublish {
                name: "server".into(),
                replaced: true,
            },
            GlobalMessage::Locked {
                facts: vec![LockFact {
                    resource: "disk".into(),
                    requester: Requester::Actor(pid(1)),
                    pid: pid(1),
                }],
                claim: None,
            },
            GlobalMessage::Unlocked {
                resource: "disk".into(),
            },
            GlobalMessage::Release {
                name: "server".into(),
                pid: pid(2),
            },
            GlobalMessage::Settled {
                name: "server".into(),
                loser: pid(2),
                other: pid(1),
            },
        ];
        messages.extend(global.map(WireMessage::Global));
        let members = |serials: &[u64]| Members {
            scope: "pg".into(),
            group: "workers".into(),
            serials: serials.to_vec(),
        };
        let groups = [
            GroupsMessage::Joined(vec![members(&[1, 2]), members(&[3])]),
            GroupsMessage::Left(vec![members(&[1])]),
        ];
        messages.extend(groups.map(WireMessage::Groups));
        let requests = [
            NodeRequest::Spawn {
                parent: pid(1),
                tag: tag(1),
                digest: Digest::of(b"code"),
                module: "todo".into(),
                args: Bytes::from_static(b"args"),
                options: Box::new(SpawnOptions {
                    link: true,
                    name: Some("worker".into()),
                    group_leader: Some(pid(3)),
                    capabilities: Capabilities::parse(["env:A", "keyvalue:b"]).ok(),
                    ..SpawnOptions::default()
                }),
            },
            NodeRequest::FetchCode {
                digest: Digest::of(b"code"),
            },
            NodeRequest::Control(Bytes::from_static(&[1])),
            NodeRequest::WhereisName("server".into()),
        ];
        messages.extend(requests.map(|request| WireMessage::Request { id: 5, request }));
        let replies = [
            NodeReply::Spawned(Ok(pid(2))),
            NodeReply::Code(Some(Bytes::from_static(b"\0asm"))),
            NodeReply::Control(Bytes::from_static(&[2, 3])),
            NodeReply::Whereis(Some(pid(3))),
        ];
        messages.extend(replies.map(|reply| WireMessage::Reply { id: 5, reply }));
        messages
    }

    fn encoded() -> Vec<Vec<u8>> {
        let encode = |message: &WireMessage| {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            bytes
        };
        messages().iter().map(encode).collect()
    }

    fn frames() -> Vec<Vec<u8>> {
        let mut files = Vec::new();
        for (how, large) in [
            (0, 0),
            (255, 0),
            (2, 0),
            (1, 0),
            (254, 150_000),
            (252, 70_000),
        ] {
            let mut writer = FrameWriter::new();
            for bytes in encoded() {
                writer.push(Lane::Signal, bytes.into()).expect("short");
            }
            writer.push(Lane::Control, vec![1].into()).expect("short");
            if large > 0 {
                writer
                    .push(Lane::Bulk, vec![7; large].into())
                    .expect("not too long");
            }
            let mut batch = Batch::default();
            writer.fill(&mut batch, usize::MAX);
            let mut file = vec![how];
            file.extend(batch.slices().flatten());
            files.push(file);
        }
        files
    }

    fn hello(of: &str, run: u64) -> Hello {
        let mut hello = Hello::new(name(of), Incarnation(run), NodeKind::Visible, 4_000);
        hello.address = Some("127.0.0.1:9000".into());
        hello
    }

    fn handshakes() -> Vec<Vec<u8>> {
        let step = |step: u8, message: &[u8]| [&[step], message].concat();
        let (_, theirs) = Dialling::start(hello("b@h", 2), None);
        let accept = || Accepting::start(hello("b@h", 2));
        let (_, ours) = Dialling::start(hello("a@h", 1), None);
        let (_, answer) = accept().on_message(&ours).expect("fits").accept();
        let refused = accept()
            .on_message(&ours)
            .expect("fits")
            .refuse(Refusal::Simultaneous);
        let (dialling, _) = Dialling::start(hello("a@h", 1), None);
        let (_, confirmation) = dialling.on_message(&answer).expect("fits").accept();
        let refused = refused.reply.unwrap_or_default();
        vec![
            step(0, b"WASMNODN"),
            step(0, b"WASMNODP"),
            step(1, &answer),
            step(1, &refused),
            step(2, &theirs),
            step(3, &confirmation),
            step(3, &refused),
            step(4, &[9; 64]),
            step(5, &[9; 32]),
            step(6, &[&[0][..], &[9; 32]].concat()),
        ]
    }

    fn epmd() -> Vec<Vec<u8>> {
        // As Erlang's documentation lays them out.
        let entry = b"\x9c\x40\x4d\x00\x00\x06\x00\x05\x00\x05node1\x00\x09wasm-node";
        vec![
            [&[120][..], entry].concat(),
            b"znode1".to_vec(),
            b"n".to_vec(),
            b"k".to_vec(),
            [&[119, 0][..], entry].concat(),
            vec![119, 1],
            b"\0\0\x11\x11name node1 at port 40000\nname node2 at port 40001\n".to_vec(),
        ]
    }

    fn control() -> Vec<Vec<u8>> {
        // Each variant by its number, with room for its fields; and pids as people type them.
        let mut files: Vec<_> = (0..18)
            .map(|variant| [&[variant][..], &[4], b"todo", &[3, 1, 2, 3, 0, 1, 2, 2, 1]].concat())
            .collect();
        files.push(b"<2.17.3>".to_vec());
        files.push(b"node1@127.0.0.1".to_vec());
        files
    }

    pub fn all() -> Vec<(&'static str, Vec<Vec<u8>>)> {
        let is_signal = |bytes: &&Vec<u8>| matches!(bytes.first(), Some(2..=5));
        vec![
            ("frame", frames()),
            ("handshake", handshakes()),
            ("epmd", epmd()),
            (
                "signal",
                encoded().iter().filter(is_signal).cloned().collect(),
            ),
            ("message", encoded()),
            ("control", control()),
        ]
    }
}

/// The corpus reads as this code writes: what is in the repository is not of another version.
#[test]
fn the_corpus_is_of_this_version() {
    let write = std::env::var_os("WASM_NODE_FUZZ_CORPUS").is_some();
    for (target, files) in corpus::all() {
        for (number, valid) in files.iter().enumerate() {
            let path = corpus_of(target).join(format!("valid-{number:02}"));
            if write {
                std::fs::create_dir_all(corpus_of(target)).expect("a folder");
                std::fs::write(&path, valid).expect("written");
            }
            let kept = std::fs::read(&path).unwrap_or_default();
            assert!(
                kept == *valid,
                "{path:?} is not what this version writes: WASM_NODE_FUZZ_CORPUS=1 writes it anew"
            );
        }
    }
}
