//! What one node decides about links, input by input.

use super::*;
use crate::global::RequestId;
use crate::handshake::VERSION_MAX;

const NOW: Millis = Millis(1_000);

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn node(own: &str, kind: NodeKind) -> Membership {
    Membership::new(Hello::new(name(own), Incarnation(1_000), kind, 4_000), 7)
}

fn peer(text: &str, run: u64) -> Peer {
    Peer {
        name: name(text),
        incarnation: Incarnation(run),
        kind: NodeKind::Visible,
        tick_time_ms: 4_000,
        address: Some(format!("127.0.0.1:{run}")),
        asked: false,
        version: VERSION_MAX,
    }
}

fn outputs(node: &mut Membership) -> Vec<MembershipOutput> {
    std::iter::from_fn(|| node.poll_output()).collect()
}

fn dials(outputs: &[MembershipOutput]) -> Vec<(LinkId, DialTarget, bool)> {
    let dials = outputs.iter().filter_map(|output| match output {
        MembershipOutput::Dial {
            link,
            target,
            asked,
        } => Some((*link, target.clone(), *asked)),
        _ => None,
    });
    dials.collect()
}

fn ups_and_downs(outputs: &[MembershipOutput]) -> Vec<(bool, u64)> {
    let events = outputs.iter().filter_map(|output| match output {
        MembershipOutput::NodeUp { peer, .. } => Some((true, peer.incarnation.0)),
        MembershipOutput::NodeDown { peer, .. } => Some((false, peer.incarnation.0)),
        _ => None,
    });
    events.collect()
}

fn connect(node: &mut Membership, request: u64, to: &str, keep: bool) -> Vec<MembershipOutput> {
    let target = DialTarget::Node {
        name: name(to),
        address: None,
    };
    node.handle(
        NOW,
        MembershipInput::Connect {
            request: RequestId(request),
            target,
            keep,
        },
    );
    outputs(node)
}

/// An accepted link to this peer, up.
fn accept(node: &mut Membership, peer: Peer) -> (LinkId, Vec<MembershipOutput>) {
    let link = node.accept_link();
    node.judge(link, &peer).unwrap();
    node.handle(NOW, MembershipInput::LinkUp { link, peer });
    (link, outputs(node))
}

fn down(node: &mut Membership, link: LinkId, refusal: Option<Refusal>) -> Vec<MembershipOutput> {
    node.handle(
        NOW,
        MembershipInput::LinkDown {
            link,
            reason: "reset".into(),
            refusal,
        },
    );
    outputs(node)
}

/// The outputs when the next deadline has passed; one that was put off does nothing.
fn wait(node: &mut Membership) -> Vec<MembershipOutput> {
    let mut all = Vec::new();
    for _ in 0..4 {
        let at = node.next_deadline().unwrap();
        node.timer(at);
        all = outputs(node);
        if !all.is_empty() {
            break;
        }
    }
    all
}

/// That nothing will happen by itself.
fn is_quiet(node: &mut Membership) -> bool {
    if let Some(at) = node.next_deadline() {
        node.timer(at);
    }
    node.poll_output().is_none() && node.next_deadline().is_none()
}

#[test]
fn a_connect_request_is_answered_when_the_link_is_up() {
    let mut node = node("a@h", NodeKind::Visible);
    let first = connect(&mut node, 1, "b@h", false);
    let [(link, _, true)] = dials(&first)[..] else {
        panic!("{first:?}")
    };
    assert!(connect(&mut node, 2, "b@h", false).is_empty());
    node.hello_sent(link);
    node.judge(link, &peer("b@h", 2)).unwrap();
    node.handle(
        NOW,
        MembershipInput::LinkUp {
            link,
            peer: peer("b@h", 2),
        },
    );
    let outputs = outputs(&mut node);
    for request in [1, 2].map(RequestId) {
        assert!(outputs.contains(&MembershipOutput::Connected {
            request,
            result: Ok(name("b@h"))
        }));
    }
    assert_eq!(ups_and_downs(&outputs), [(true, 2)]);
    assert_eq!(node.peers().count(), 1);
}

#[test]
fn a_connect_request_that_fails_is_not_tried_again_unless_it_is_to_be_kept() {
    let mut node = node("a@h", NodeKind::Visible);
    let [(link, ..)] = dials(&connect(&mut node, 1, "b@h", false))[..] else {
        panic!()
    };
    let failed = down(&mut node, link, None);
    assert_eq!(
        failed,
        [MembershipOutput::Connected {
            request: RequestId(1),
            result: Err("reset".into())
        }]
    );
    assert!(is_quiet(&mut node));
    let [(link, ..)] = dials(&connect(&mut node, 2, "b@h", true))[..] else {
        panic!()
    };
    assert_eq!(down(&mut node, link, None).len(), 1);
    let again = dials(&wait(&mut node));
    assert!(matches!(again[..], [(_, _, true)]), "{again:?}");
}

#[test]
fn a_lost_node_is_redialled_ever_more_slowly() {
    let mut node = node("a@h", NodeKind::Visible);
    let (mut link, _) = accept(&mut node, peer("b@h", 2));
    // The comparison of views.
    let mut last = node.next_deadline().unwrap();
    wait(&mut node);
    let lost = MembershipInput::LinkDown {
        link,
        reason: "reset".into(),
        refusal: None,
    };
    node.handle(last, lost);
    assert_eq!(ups_and_downs(&outputs(&mut node)), [(false, 2)]);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let at = node.next_deadline().unwrap();
        pauses.push(at - last);
        let outputs = wait(&mut node);
        let [(dialled, DialTarget::Node { address, .. }, false)] = &dials(&outputs)[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!(address.as_deref(), Some("127.0.0.1:2"));
        (link, last) = (*dialled, at);
        node.handle(
            at,
            MembershipInput::LinkDown {
                link,
                reason: "refused".into(),
                refusal: None,
            },
        );
    }
    assert!(
        (REDIAL_MIN_MS / 2..=REDIAL_MIN_MS).contains(&pauses[0]),
        "{pauses:?}"
    );
    assert!(
        (REDIAL_MAX_MS / 2..=REDIAL_MAX_MS).contains(&pauses[7]),
        "{pauses:?}"
    );
    node.timer(last + (REDIAL_FOR_MS + 1));
    assert_eq!(
        (dials(&outputs(&mut node)).len(), node.next_deadline()),
        (0, None)
    );
}

#[test]
fn nodes_that_a_peer_knows_are_dialled_once() {
    let mut node = node("a@h", NodeKind::Visible);
    let asked = |name, run| Peer {
        asked: true,
        ..peer(name, run)
    };
    let (link, up) = accept(&mut node, asked("b@h", 2));
    assert!(up.contains(&MembershipOutput::Send {
        link,
        message: MembershipMessage::Nodes(vec![])
    }));
    let known = vec![
        (name("a@h"), None),
        (name("b@h"), None),
        (name("c@h"), Some("127.0.0.1:3".into())),
        (name("long@h.org"), None),
        (name("d@h"), Some("x".repeat(1000))),
    ];
    let nodes = MembershipMessage::Nodes(known);
    node.receive(NOW, link, nodes.clone());
    let dialled = dials(&outputs(&mut node));
    let target = DialTarget::Node {
        name: name("c@h"),
        address: Some("127.0.0.1:3".into()),
    };
    assert_eq!(
        dialled
            .iter()
            .map(|(_, target, asked)| (target, *asked))
            .collect::<Vec<_>>(),
        [(&target, false)]
    );
    node.receive(NOW, link, nodes);
    assert!(outputs(&mut node).is_empty());
    let (_, up) = accept(&mut node, asked("d@h", 4));
    let told = vec![(name("b@h"), Some("127.0.0.1:2".into()))];
    assert!(up.iter().any(|output| {
        matches!(output, MembershipOutput::Send { message: MembershipMessage::Nodes(nodes), .. } if *nodes == told)
    }));
}

/// The digest that a node sends when its view has settled, for each link that is new.
fn compared(node: &mut Membership) -> Vec<(LinkId, u64)> {
    let views = wait(node).into_iter().filter_map(|output| match output {
        MembershipOutput::Send {
            link,
            message: MembershipMessage::View { digest, .. },
        } => Some((link, digest)),
        _ => None,
    });
    views.collect()
}

#[test]
fn nodes_that_met_unasked_compare_their_views_and_tell_of_what_differs() {
    let mut a = node("a@h", NodeKind::Visible);
    let mut b = node("b@h", NodeKind::Visible);
    let (_, up) = accept(&mut a, peer("c@h", 3));
    assert!(
        !up.iter()
            .any(|output| matches!(output, MembershipOutput::Send { .. }))
    );
    let (to_b, _) = accept(&mut a, peer("b@h", 2));
    let (to_a, _) = accept(&mut b, peer("a@h", 1));
    let views = compared(&mut a);
    assert_eq!(views.len(), 2, "once a link, both at once: {views:?}");
    assert_eq!(views[0].1, views[1].1);
    let [(_, view_of_b)] = compared(&mut b)[..] else {
        panic!()
    };
    let message = MembershipMessage::View {
        digest: view_of_b,
        answer: false,
    };
    a.receive(NOW, to_b, message);
    let told = outputs(&mut a);
    let [MembershipOutput::Send { link, message }] = &told[..] else {
        panic!("{told:?}")
    };
    let others = MembershipMessage::Nodes(vec![(name("c@h"), Some("127.0.0.1:3".into()))]);
    assert_eq!((*link, message), (to_b, &others));
    // Now b sees c, too: they agree, and say nothing.
    accept(&mut b, peer("c@h", 3));
    let message = MembershipMessage::View {
        digest: views[0].1,
        answer: false,
    };
    b.receive(NOW, to_a, message);
    assert!(outputs(&mut b).is_empty());
    // A view that is still changing is not compared yet: b asks again when it has settled.
    let message = MembershipMessage::View {
        digest: 1,
        answer: false,
    };
    b.receive(NOW, to_a, message);
    assert!(outputs(&mut b).is_empty());
    let asks = |output: &MembershipOutput| matches!(output, MembershipOutput::Send { link, message: MembershipMessage::View { answer: true, .. } } if *link == to_a);
    assert_eq!(wait(&mut b).iter().filter(|output| asks(output)).count(), 1);
}

#[test]
fn hidden_nodes_are_told_nothing_and_passed_on_to_nobody() {
    let mut visible = node("a@h", NodeKind::Visible);
    let hidden = Peer {
        kind: NodeKind::Hidden,
        ..peer("b@h", 2)
    };
    let (link, up) = accept(&mut visible, hidden);
    assert!(
        !up.iter()
            .any(|output| matches!(output, MembershipOutput::Send { .. }))
    );
    let asked = Peer {
        asked: true,
        ..peer("c@h", 3)
    };
    let (_, up) = accept(&mut visible, asked);
    assert!(up.iter().any(|output| {
        matches!(output, MembershipOutput::Send { message: MembershipMessage::Nodes(nodes), .. } if nodes.is_empty())
    }));
    let nodes = MembershipMessage::Nodes(vec![(name("d@h"), None)]);
    visible.receive(NOW, link, nodes.clone());
    assert!(outputs(&mut visible).is_empty());
    // The comparison of views, with the visible one alone.
    assert_eq!(wait(&mut visible).len(), 1);
    // A lost hidden node is nobody's loss.
    down(&mut visible, link, None);
    assert!(is_quiet(&mut visible));

    let mut own = node("a@h", NodeKind::Hidden);
    let (link, up) = accept(&mut own, peer("b@h", 2));
    assert!(
        !up.iter()
            .any(|output| matches!(output, MembershipOutput::Send { .. }))
    );
    own.receive(NOW, link, nodes);
    assert!(outputs(&mut own).is_empty());
}

#[test]
fn a_disconnected_node_stays_away_until_asked_for() {
    let mut node = node("a@h", NodeKind::Visible);
    let (link, _) = accept(&mut node, peer("b@h", 2));
    node.handle(NOW, MembershipInput::Disconnect { node: name("b@h") });
    let cut = outputs(&mut node);
    assert_eq!(
        cut[0],
        MembershipOutput::Send {
            link,
            message: MembershipMessage::Disconnect
        }
    );
    assert!(matches!(cut[1], MembershipOutput::Close { .. }));
    assert_eq!(ups_and_downs(&cut), [(false, 2)]);
    assert!(down(&mut node, link, None).is_empty());
    assert!(is_quiet(&mut node));
    let link = node.accept_link();
    assert_eq!(
        node.judge(link, &peer("b@h", 2)),
        Err(Refusal::Disconnected)
    );
    assert_eq!(
        node.judge(
            link,
            &Peer {
                asked: true,
                ..peer("b@h", 2)
            }
        ),
        Ok(())
    );
    // Another run of it is welcome, too.
    let link = node.accept_link();
    assert_eq!(node.judge(link, &peer("b@h", 3)), Ok(()));
    assert_eq!(
        dials(&connect(&mut node, 1, "b@h", false)).len(),
        0,
        "its own dial is under way"
    );
}

#[test]
fn the_disconnected_side_does_not_redial_either() {
    let mut node = node("a@h", NodeKind::Visible);
    let (link, _) = accept(&mut node, peer("b@h", 2));
    node.receive(NOW, link, MembershipMessage::Disconnect);
    assert_eq!(ups_and_downs(&outputs(&mut node)), [(false, 2)]);
    down(&mut node, link, None);
    assert!(is_quiet(&mut node));
    assert_eq!(dials(&connect(&mut node, 1, "b@h", false)).len(), 1);
}

#[test]
fn a_node_that_leaves_is_not_redialled() {
    let mut node = node("a@h", NodeKind::Visible);
    let (link, _) = accept(&mut node, peer("b@h", 2));
    node.receive(NOW, link, MembershipMessage::Leaving);
    assert_eq!(ups_and_downs(&outputs(&mut node)), [(false, 2)]);
    assert!(is_quiet(&mut node));
    let (link, _) = accept(&mut node, peer("b@h", 3));
    node.handle(NOW, MembershipInput::Leave);
    let left = outputs(&mut node);
    assert_eq!(
        left[0],
        MembershipOutput::Send {
            link,
            message: MembershipMessage::Leaving
        }
    );
    assert_eq!(ups_and_downs(&left), [(false, 3)]);
    let link = node.accept_link();
    assert!(matches!(
        node.judge(link, &peer("c@h", 4)),
        Err(Refusal::Unavailable(_))
    ));
}

#[test]
fn a_restarted_node_takes_the_place_of_its_earlier_run() {
    let mut node = node("a@h", NodeKind::Visible);
    let (old, _) = accept(&mut node, peer("b@h", 2));
    let link = node.accept_link();
    assert_eq!(
        node.judge(link, &peer("b@h", 2)),
        Err(Refusal::AlreadyConnected)
    );
    let (new, events) = accept(&mut node, peer("b@h", 3));
    assert_eq!(ups_and_downs(&events), [(false, 2), (true, 3)]);
    assert!(
        events
            .iter()
            .any(|output| matches!(output, MembershipOutput::Close { link, .. } if *link == old))
    );
    assert!(down(&mut node, old, None).is_empty());
    assert_eq!(node.link_to(&name("b@h")), Some(new));
    let link = node.accept_link();
    assert_eq!(node.judge(link, &peer("b@h", 2)), Err(Refusal::Superseded));
    assert_eq!(node.node_of(Incarnation(2)), Some(&name("b@h")));
}

#[test]
fn the_late_handshake_of_an_earlier_run_does_not_end_the_later() {
    let mut node = node("a@h", NodeKind::Visible);
    let late = node.accept_link();
    node.judge(late, &peer("b@h", 2)).unwrap();
    let (new, _) = accept(&mut node, peer("b@h", 3));
    let peer = peer("b@h", 2);
    node.handle(NOW, MembershipInput::LinkUp { link: late, peer });
    let events = outputs(&mut node);
    assert!(ups_and_downs(&events).is_empty());
    assert!(
        events
            .iter()
            .any(|output| matches!(output, MembershipOutput::Close { link, .. } if *link == late))
    );
    assert_eq!(node.link_to(&name("b@h")), Some(new));
}

/// Two nodes dial each other at once; in whatever order their hellos meet, one link is left.
#[test]
fn of_two_simultaneous_dials_both_sides_keep_the_same() {
    // The order of: a's hello at b (0), b's hello at a (1), b's answer at a (2), a's at b (3).
    for order in [
        [0, 1, 2, 3],
        [1, 0, 2, 3],
        [0, 1, 3, 2],
        [1, 0, 3, 2],
        [0, 2, 1, 3],
        [1, 3, 0, 2],
    ] {
        let mut nodes = [
            node("a@h", NodeKind::Visible),
            node("b@h", NodeKind::Visible),
        ];
        let peers = [peer("a@h", 1), peer("b@h", 2)];
        let dialled = [0, 1].map(|side| {
            let [(link, ..)] =
                dials(&connect(&mut nodes[side], 1, ["b@h", "a@h"][side], false))[..]
            else {
                panic!()
            };
            nodes[side].hello_sent(link);
            link
        });
        // What became of each side's dial: the acceptor's verdict, then the dialler's.
        let mut verdicts = [None, None];
        let mut confirmed = [false, false];
        for step in order {
            let dialler = step % 2;
            if step < 2 {
                let link = nodes[1 - dialler].accept_link();
                verdicts[dialler] = Some(nodes[1 - dialler].judge(link, &peers[dialler]));
            } else if verdicts[dialler] == Some(Ok(())) {
                let verdict = nodes[dialler].judge(dialled[dialler], &peers[1 - dialler]);
                confirmed[dialler] = verdict.is_ok();
            }
        }
        assert_eq!(
            confirmed.iter().filter(|up| **up).count(),
            1,
            "{order:?}: {verdicts:?}"
        );
    }
}

#[test]
fn a_connect_asks_again_while_the_other_side_has_a_link_that_was_cut() {
    let mut node = node("a@h", NodeKind::Visible);
    let (link, ..) = dials(&connect(&mut node, 1, "b@h", false))[0].clone();
    // No answer yet: the old link will be gone in a moment.
    assert_eq!(down(&mut node, link, Some(Refusal::AlreadyConnected)), []);
    assert_eq!(dials(&wait(&mut node)).len(), 1);
}
