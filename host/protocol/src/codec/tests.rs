//! Every kind of message there and back; any bytes at all without a panic.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::capability::Capabilities;
use crate::exit::{CallError, ExitReason};
use crate::frame::{Batch, FrameReader, FrameWriter, MAX_MESSAGE_BYTES};
use crate::global::NameFact;
use crate::groups::{GroupChange, GroupEvent, Members};
use crate::ids::NodeName;
use crate::signal::{Aliased, Limits, NodeEvent, NodeKind, OutputKind};

fn pid() -> impl Strategy<Value = Pid> {
    (any::<u64>(), any::<u64>()).prop_map(|(node, serial)| Pid {
        node: Incarnation(node),
        serial,
    })
}

fn reference() -> impl Strategy<Value = Ref> {
    (any::<u64>(), any::<u64>()).prop_map(|(node, serial)| Ref {
        node: Incarnation(node),
        serial,
    })
}

fn body() -> impl Strategy<Value = Bytes> {
    prop_oneof![4 => vec(any::<u8>(), 0..100), 1 => vec(any::<u8>(), 0..100_000)]
        .prop_map(Bytes::from)
}

fn text() -> impl Strategy<Value = String> {
    "[^\\x00]{0,40}"
}

fn name() -> impl Strategy<Value = NodeName> {
    "[a-z0-9_]{1,10}@[a-z0-9.]{1,10}".prop_map(|name| name.parse().unwrap())
}

fn reason() -> impl Strategy<Value = ExitReason> {
    prop_oneof![
        Just(ExitReason::Normal),
        Just(ExitReason::Kill),
        Just(ExitReason::NoConnection),
        pid().prop_map(ExitReason::AlreadyStarted),
        text().prop_map(ExitReason::Trap),
        body().prop_map(ExitReason::Custom),
    ]
}

fn signal() -> impl Strategy<Value = Signal> {
    let call_error = prop_oneof![Just(CallError::Timeout), reason().prop_map(CallError::Exit)];
    let spawn_error = prop_oneof![
        Just(SpawnError::TooManyActors),
        reason().prop_map(SpawnError::InitFailed)
    ];
    let register_error = prop_oneof![
        Just(RegisterError::Timeout),
        pid().prop_map(RegisterError::Taken)
    ];
    prop_oneof![
        body().prop_map(Signal::Info),
        body().prop_map(Signal::Cast),
        (pid(), reference(), body()).prop_map(|(from, tag, body)| Signal::Request {
            from,
            tag,
            body
        }),
        (reference(), prop::result::maybe_ok(body(), call_error))
            .prop_map(|(tag, result)| Signal::Response { tag, result }),
        reference().prop_map(|tag| Signal::Forget { tag }),
        pid().prop_map(|from| Signal::Link { from }),
        (pid(), any::<u64>()).prop_map(|(from, id)| Signal::Unlink { from, id }),
        (pid(), any::<u64>()).prop_map(|(from, id)| Signal::UnlinkAck { from, id }),
        (reference(), body()).prop_map(|(alias, body)| Signal::Alias {
            alias,
            message: Box::new(Aliased::Info(body)),
        }),
        (pid(), reference()).prop_map(|(from, tag)| Signal::Monitor { from, tag }),
        reference().prop_map(|tag| Signal::Demonitor { tag }),
        (reference(), pid(), reason()).prop_map(|(tag, pid, reason)| Signal::Down {
            tag,
            pid,
            reason
        }),
        (pid(), reason(), any::<bool>()).prop_map(|(from, reason, link)| Signal::Exit {
            from,
            reason,
            link
        }),
        (reference(), prop::result::maybe_ok(pid(), spawn_error))
            .prop_map(|(tag, result)| Signal::Spawned { tag, result }),
        (
            reference(),
            prop::result::maybe_ok(Just(()), register_error)
        )
            .prop_map(|(tag, result)| Signal::Registered { tag, result }),
        (text(), pid()).prop_map(|(name, holder)| Signal::NameConflict { name, holder }),
        (name(), text()).prop_map(|(node, reason)| {
            Signal::NodeDown(NodeEvent {
                node,
                kind: NodeKind::Hidden,
                reason,
            })
        }),
        (reference(), text(), vec(pid(), 0..5)).prop_map(|(tag, group, pids)| {
            let change = GroupChange::Left;
            let event = GroupEvent {
                group,
                change,
                pids,
            };
            Signal::Group { tag, event }
        }),
        (pid(), any::<bool>(), body()).prop_map(|(from, error, text)| {
            let kind = match error {
                true => OutputKind::Stderr,
                false => OutputKind::Stdout,
            };
            Signal::Output { from, kind, text }
        }),
        (pid(), reference(), any::<Option<u32>>()).prop_map(|(from, tag, timeout_ms)| {
            Signal::InputRequest {
                from,
                tag,
                timeout_ms,
            }
        }),
        (pid(), pid()).prop_map(|(from, leader)| Signal::GroupLeader { from, leader }),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let trace =
        (any::<u128>(), any::<u64>(), any::<u8>()).prop_map(|(trace_id, span_id, flags)| {
            TraceContext {
                trace_id,
                span_id,
                flags,
            }
        });
    prop_oneof![
        Just(Metadata::default()),
        (prop::option::of(trace), any::<Option<u32>>())
            .prop_map(|(trace, deadline_ms)| Metadata { trace, deadline_ms }),
    ]
}

fn message() -> impl Strategy<Value = WireMessage> {
    let target = prop_oneof![4 => pid().prop_map(Target::Pid), 1 => text().prop_map(Target::Name)];
    let options = (
        any::<bool>(),
        any::<bool>(),
        prop::option::of(text()),
        prop::option::of(pid()),
        any::<[Option<u32>; 2]>(),
    );
    let options = options.prop_map(
        |(link, await_init, name, group_leader, limits)| SpawnOptions {
            link,
            monitor: !link,
            await_init,
            global: name.clone().filter(|_| link),
            capabilities: await_init.then(|| Capabilities::parse(["env:A", "files:/a"]).unwrap()),
            name,
            group_leader,
            limits: Limits {
                mailbox_messages: limits[0],
                turn_cpu_ms: limits[1],
                ..Limits::default()
            },
        },
    );
    let request = prop_oneof![
        (
            pid(),
            reference(),
            any::<[u8; 32]>(),
            text(),
            body(),
            options
        )
            .prop_map(
                |(parent, tag, digest, module, args, options)| NodeRequest::Spawn {
                    parent,
                    tag,
                    digest: Digest(digest),
                    module,
                    args,
                    options: Box::new(options)
                }
            ),
        any::<[u8; 32]>().prop_map(|digest| NodeRequest::FetchCode {
            digest: Digest(digest)
        }),
        body().prop_map(NodeRequest::Control),
        text().prop_map(NodeRequest::WhereisName),
    ];
    let reply = prop_oneof![
        prop::result::maybe_ok(pid(), Just(SpawnError::NoConnection)).prop_map(NodeReply::Spawned),
        prop::option::of(body()).prop_map(NodeReply::Code),
        body().prop_map(NodeReply::Control),
        prop::option::of(pid()).prop_map(NodeReply::Whereis),
        Just(NodeReply::Registered(Err(RegisterError::Minority {
            seen: 1,
            known: 3
        }))),
    ];
    prop_oneof![
        1 => Just(WireMessage::Tick),
        8 => (target, metadata(), signal())
            .prop_map(|(to, metadata, signal)| WireMessage::Signal { to, metadata, signal }),
        1 => vec((name(), prop::option::of(text())), 0..5)
            .prop_map(|nodes| WireMessage::Membership(MembershipMessage::Nodes(nodes))),
        1 => (text(), any::<u64>())
            .prop_map(|(name, claim)| {
                let bid = crate::global::Bid::Register(name);
                WireMessage::Global(GlobalMessage::Prepare { bid, claim })
            }),
        1 => vec((text(), pid()), 0..5).prop_map(|names| {
            let facts = names.into_iter().map(|(name, pid)| crate::global::NameFact { name, pid, resolver: Resolver::ExitLoser });
            WireMessage::Global(GlobalMessage::Publish { facts: facts.collect(), claim: Some(1) })
        }),
        1 => vec((text(), text(), vec(any::<u64>(), 0..5)), 0..5).prop_map(|all| {
            let all = all.into_iter();
            let all = all.map(|(scope, group, serials)| Members { scope, group, serials });
            WireMessage::Groups(GroupsMessage::Joined(all.collect()))
        }),
        2 => (any::<u64>(), request).prop_map(|(id, request)| WireMessage::Request { id, request }),
        2 => (any::<u64>(), reply).prop_map(|(id, reply)| WireMessage::Reply { id, reply }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn messages_survive_the_way_through_frames(messages in vec(message(), 1..5)) {
        let mut writer = FrameWriter::new();
        for message in &messages {
            writer.push_with(message.lane(), |out| message.encode(out)).unwrap();
        }
        let mut wire = Batch::default();
        writer.fill(&mut wire, usize::MAX);
        let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
        wire.slices().for_each(|slice| reader.feed(slice));
        let mut received = Vec::new();
        while let Some((lane, payload)) = reader.next_message().unwrap() {
            let message = decode(&payload).unwrap();
            prop_assert_eq!(message.lane(), lane);
            received.push(message);
        }
        let in_lanes = |messages: &[WireMessage]| {
            let mut sorted = messages.to_vec();
            sorted.sort_by_key(|message| message.lane() as u8);
            sorted
        };
        prop_assert_eq!(in_lanes(&received), in_lanes(&messages));
    }

    #[test]
    fn any_bytes_decode_or_fail(bytes in vec(any::<u8>(), 0..300)) {
        let _ = decode(&Payload::Whole(&bytes));
        let _ = decode(&Payload::Joined(bytes.into()));
    }

    #[test]
    fn damaged_messages_decode_or_fail(message in message(), at in any::<prop::sample::Index>(), with: u8, cut in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let place = at.index(bytes.len());
        bytes[place] = with;
        let _ = decode(&Payload::Whole(&bytes));
        bytes.truncate(cut.index(bytes.len()));
        let _ = decode(&Payload::Whole(&bytes));
    }
}

#[test]
fn small_signals_have_fixed_headers() {
    let id = Pid {
        node: Incarnation(1),
        serial: 2,
    };
    let tag = Ref {
        node: Incarnation(1),
        serial: 3,
    };
    let length = |signal| {
        let mut out = Vec::new();
        encode_signal(&Target::Pid(id), &Metadata::default(), &signal, &mut out);
        out.len()
    };
    assert_eq!(length(Signal::Info(Bytes::new())), 17);
    assert_eq!(
        length(Signal::Request {
            from: id,
            tag,
            body: Bytes::new()
        }),
        49
    );
    assert_eq!(
        length(Signal::Response {
            tag,
            result: Ok(Bytes::new())
        }),
        33
    );
}

#[test]
fn a_small_body_does_not_keep_a_large_buffer_and_a_large_one_is_not_copied() {
    let id = Pid {
        node: Incarnation(1),
        serial: 2,
    };
    let mut bytes = Vec::new();
    encode_signal(
        &Target::Pid(id),
        &Metadata::default(),
        &Signal::Info(vec![7; 100_000].into()),
        &mut bytes,
    );
    let whole = Bytes::from(bytes);
    let Ok(WireMessage::Signal {
        signal: Signal::Info(body),
        ..
    }) = decode(&Payload::Joined(whole.clone()))
    else {
        panic!("an info signal");
    };
    assert_eq!(body.as_ptr(), whole[17..].as_ptr());
}

#[test]
fn a_claimed_length_allocates_nothing() {
    // A general message: Publish (of Global) of 2^60 names.
    let mut bytes = vec![KIND_GENERAL, 3, 6];
    bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert!(matches!(
        decode(&Payload::Whole(&bytes)),
        Err(CodecError::Malformed(_))
    ));
}

#[test]
fn what_is_behind_the_end_is_refused() {
    let mut bytes = Vec::new();
    WireMessage::Global(GlobalMessage::Turn { claim: 1 }).encode(&mut bytes);
    bytes.push(0);
    assert_eq!(
        decode(&Payload::Whole(&bytes)),
        Err(CodecError::Trailing(1))
    );
    assert_eq!(
        decode(&Payload::Whole(&[KIND_TICK, 0])),
        Err(CodecError::Trailing(1))
    );
    assert_eq!(decode(&Payload::Whole(&[200])), Err(CodecError::Kind(200)));
}

#[test]
fn long_lists_of_short_entries_are_refused() {
    let holder = Pid {
        node: Incarnation(1),
        serial: 1,
    };
    let facts = vec![NameFact {
        name: "n".into(),
        pid: holder,
        resolver: Resolver::NotifyLoser,
    }];
    for (message, place) in [
        (
            WireMessage::Global(GlobalMessage::Publish { facts, claim: None }),
            GLOBAL,
        ),
        (
            WireMessage::Groups(GroupsMessage::Joined(Vec::new())),
            GROUPS,
        ),
        (
            WireMessage::Membership(MembershipMessage::Leaving),
            MEMBERSHIP,
        ),
    ] {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(bytes[..2], [KIND_GENERAL, place], "{message:?}");
        bytes.resize(MAX_CONTROL_BYTES + 2, 0);
        let decoded = decode(&Payload::Whole(&bytes));
        assert_eq!(decoded, Err(CodecError::TooLong(MAX_CONTROL_BYTES + 1)));
    }
}
