//! Registering, replacing, giving up.

use super::*;

#[test]
fn a_node_alone_registers_at_once() {
    let mut nodes = Nodes::new(1);
    nodes.register(0, 1, 1);
    assert_eq!(nodes.0[0].whereis("n"), Some(Nodes::pid(0, 1)));
    let outputs = nodes.round();
    assert_eq!(answers(&outputs), [(1, Ok(()))]);
    nodes.register(0, 2, 2);
    assert_eq!(
        answers(&nodes.round()),
        [(2, Err(RegisterError::Taken(Nodes::pid(0, 1))))]
    );
}

#[test]
fn three_nodes_need_two_round_trips() {
    let mut nodes = Nodes::new(3);
    nodes.round();
    nodes.register(0, 1, 1);
    // Claim, turn, prepare, promised: four messages one way, fewer if the arbiter is near.
    let outputs = nodes.rounds(5);
    assert_eq!(answers(&outputs), [(1, Ok(()))]);
    nodes.round();
    assert!(
        nodes
            .0
            .iter()
            .all(|node| node.whereis("n") == Some(Nodes::pid(0, 1)))
    );
    assert!(
        nodes
            .0
            .iter()
            .all(|node| node.promises().count() == 0 && node.queued().count() == 0)
    );
}

#[test]
fn of_two_claims_at_once_one_wins_and_the_other_learns_who() {
    let mut nodes = Nodes::new(3);
    nodes.round();
    for node in 0..3 {
        nodes.register(node, node as u64, 1);
    }
    let outputs = nodes.rounds(12);
    let answers = answers(&outputs);
    let winners: Vec<_> = answers
        .iter()
        .filter(|(_, result)| result.is_ok())
        .collect();
    assert_eq!((answers.len(), winners.len()), (3, 1), "{answers:?}");
    let holder = Nodes::pid(winners[0].0 as usize, 1);
    let losers = answers
        .iter()
        .filter(|(_, result)| *result == Err(RegisterError::Taken(holder)));
    assert_eq!(losers.count(), 2, "{answers:?}");
}

#[test]
fn a_name_goes_with_its_actor_and_can_be_had_again() {
    let mut nodes = Nodes::new(2);
    nodes.register(0, 1, 1);
    nodes.rounds(6);
    nodes.dies(0, 1);
    let outputs = nodes.rounds(2);
    let removed: Vec<_> = outputs
        .iter()
        .filter(|(_, output)| matches!(output, GlobalOutput::Removed { .. }))
        .collect();
    assert_eq!(removed.len(), 2);
    nodes.register(1, 2, 1);
    assert_eq!(answers(&nodes.rounds(6)), [(2, Ok(()))]);
    assert!(nodes.0[1].unregister("n"));
    assert!(!nodes.0[1].unregister("n"));
    nodes.rounds(2);
    assert_eq!(nodes.0[0].whereis("n"), None);
}

#[test]
fn names_go_with_the_link_to_their_node() {
    let mut nodes = Nodes::new(2);
    nodes.register(0, 1, 1);
    nodes.rounds(6);
    nodes.down(1, 0);
    assert_eq!(nodes.0[1].whereis("n"), None);
    assert_eq!(nodes.0[0].whereis("n"), Some(Nodes::pid(0, 1)));
}

#[test]
fn a_claim_against_silence_ends_in_time() {
    let mut nodes = Nodes::new(2);
    nodes.register(0, 1, 1);
    while nodes.0[0].poll_output().is_some() {}
    assert_eq!(
        nodes.0[0].next_deadline(),
        Some(Millis(REGISTER_TIMEOUT_MS))
    );
    nodes.0[0].handle(Millis(REGISTER_TIMEOUT_MS), GlobalInput::Timer);
    let outputs = nodes.rounds(2);
    assert_eq!(answers(&outputs), [(1, Err(RegisterError::Timeout))]);
    assert_eq!(nodes.0[0].next_deadline(), None);
    assert!(
        nodes
            .0
            .iter()
            .all(|node| node.promises().count() == 0 && node.queued().count() == 0)
    );
}

#[test]
fn a_claim_goes_on_without_a_lost_member_or_arbiter() {
    for lost_after in 0..4 {
        let mut nodes = Nodes::new(3);
        nodes.round();
        nodes.register(0, 1, 1);
        let mut outputs = nodes.rounds(lost_after);
        for gone in [1, 2] {
            nodes.down(0, gone);
            nodes.down(gone, 0);
            outputs.extend(nodes.rounds(2));
        }
        assert_eq!(
            answers(&outputs),
            [(1, Ok(()))],
            "lost after {lost_after} rounds"
        );
        assert!(
            nodes
                .0
                .iter()
                .all(|node| node.promises().count() == 0 && node.queued().count() == 0)
        );
    }
}

#[test]
fn what_a_peer_may_not_say_closes_its_link() {
    let publish = |name: String, pid| GlobalMessage::Publish {
        facts: vec![NameFact {
            name,
            pid,
            resolver: Resolver::default(),
        }],
        claim: None,
    };
    let bad = [
        publish("n".into(), Nodes::pid(2, 1)),
        publish(String::new(), Nodes::pid(1, 1)),
        publish("x".repeat(MAX_NAME_BYTES + 1), Nodes::pid(1, 1)),
        GlobalMessage::Claim {
            bid: Bid::Register("x".repeat(MAX_NAME_BYTES + 1)),
            claim: 1,
            waits: false,
        },
        GlobalMessage::Prepare {
            bid: Bid::Lock {
                resource: "r".into(),
                requester: Requester::Named(String::new()),
            },
            claim: 1,
        },
        GlobalMessage::Locked {
            facts: vec![LockFact {
                resource: "r".into(),
                requester: Requester::Named("q".into()),
                pid: Nodes::pid(2, 1),
            }],
            claim: None,
        },
    ];
    for message in bad {
        let mut nodes = Nodes::new(2);
        nodes.0[0].handle(
            NOW,
            GlobalInput::Message {
                from: Nodes::name(1),
                message,
            },
        );
        let outputs: Vec<_> = std::iter::from_fn(|| nodes.0[0].poll_output()).collect();
        assert!(
            matches!(outputs[..], [GlobalOutput::Misbehaved { .. }]),
            "{outputs:?}"
        );
    }
}

#[test]
fn bad_names_are_refused_here() {
    let mut nodes = Nodes::new(1);
    for name in [String::new(), "x".repeat(MAX_NAME_BYTES + 1)] {
        let wish = Wish::Name {
            name,
            replace: false,
            resolver: Resolver::default(),
        };
        nodes.claim(0, 1, 1, wish);
        assert!(matches!(
            answers(&nodes.round())[..],
            [(1, Err(RegisterError::BadName(_)))]
        ));
    }
}

#[test]
fn a_replaced_holder_is_followed_without_a_gap() {
    let mut nodes = Nodes::new(3);
    nodes.register(0, 1, 1);
    nodes.rounds(6);
    assert_eq!(nodes.holder(), Some(Nodes::pid(0, 1)));
    nodes.replace(2, 2, 1);
    let mut outputs = Vec::new();
    for _ in 0..8 {
        outputs.extend(nodes.round());
        assert!(nodes.0.iter().all(|node| node.whereis("n").is_some()));
    }
    assert_eq!(answers(&outputs), [(2, Ok(()))]);
    assert_eq!(nodes.holder(), Some(Nodes::pid(2, 1)));
    let told = |(_, output): &(usize, GlobalOutput)| {
        matches!(
            output,
            GlobalOutput::NameConflict(_) | GlobalOutput::Removed { .. }
        )
    };
    assert!(!outputs.iter().any(told), "{outputs:?}");
    assert_eq!(nodes.0[0].held().count(), 0);
    nodes.assert_nothing_left_over();
    // The name's next end is its new holder's.
    nodes.dies(0, 1);
    nodes.rounds(2);
    assert_eq!(nodes.holder(), Some(Nodes::pid(2, 1)));
    nodes.dies(2, 1);
    nodes.rounds(2);
    assert_eq!(nodes.holder(), None);
}

#[test]
fn whoever_hears_of_the_old_holder_first_shows_it_until_the_new_one_is_known() {
    let mut nodes = Nodes::new(3);
    nodes.register(0, 1, 1);
    nodes.rounds(6);
    nodes.replace(1, 2, 1);
    // Until node 1 has installed the name; its publishing is under way.
    while nodes.0[1].held().count() == 0 {
        nodes.round();
    }
    let mut late = Vec::new();
    let mut sends = std::iter::from_fn(|| nodes.0[1].poll_output()).collect::<Vec<_>>();
    for output in sends.drain(..) {
        if let GlobalOutput::Send { to, message } = output {
            match Nodes::index(&to) {
                2 => late.push(message),
                to => nodes.0[to].handle(
                    NOW,
                    GlobalInput::Message {
                        from: Nodes::name(1),
                        message,
                    },
                ),
            }
        }
    }
    nodes.rounds(3);
    assert_eq!(nodes.0[2].whereis("n"), Some(Nodes::pid(0, 1)));
    assert_eq!(nodes.0[2].holders().count(), 1);
    for message in late {
        let from = Nodes::name(1);
        nodes.0[2].handle(NOW, GlobalInput::Message { from, message });
    }
    nodes.rounds(3);
    assert_eq!(nodes.holder(), Some(Nodes::pid(1, 1)));
    nodes.assert_nothing_left_over();
}

#[test]
fn a_free_name_and_ones_own_can_be_replaced() {
    let mut nodes = Nodes::new(2);
    nodes.replace(1, 1, 1);
    assert_eq!(answers(&nodes.rounds(6)), [(1, Ok(()))]);
    nodes.replace(1, 2, 2);
    assert_eq!(answers(&nodes.rounds(6)), [(2, Ok(()))]);
    assert_eq!(nodes.holder(), Some(Nodes::pid(1, 2)));
    nodes.dies(1, 1);
    nodes.rounds(2);
    assert_eq!(nodes.holder(), Some(Nodes::pid(1, 2)));
    assert_eq!(nodes.0[1].held().count(), 1);
}

#[test]
fn of_replacements_at_once_all_succeed_and_the_last_stays() {
    let mut nodes = Nodes::new(3);
    nodes.register(1, 1, 1);
    nodes.rounds(6);
    for node in 0..3 {
        nodes.replace(node, 10 + node as u64, 2);
    }
    nodes.register(0, 20, 3);
    let mut outputs = Vec::new();
    for round in 0..60 {
        outputs.extend(nodes.round());
        nodes.0.iter_mut().for_each(|node| {
            node.handle(Millis(round * 20), GlobalInput::Timer);
        });
    }
    let answers = answers(&outputs);
    let granted = answers.iter().filter(|(_, result)| result.is_ok());
    assert_eq!(granted.count(), 3, "{answers:?}");
    let taken = |(request, result): &(u64, _)| {
        *request == 20 && matches!(result, Err(RegisterError::Taken(_)))
    };
    assert!(answers.iter().any(taken), "{answers:?}");
    assert!(nodes.holder().is_some());
    assert_eq!(nodes.0.iter().flat_map(Global::held).count(), 1);
    nodes.assert_nothing_left_over();
}

#[test]
fn a_replaced_holder_whose_successor_vanishes_is_the_holder_again() {
    let mut nodes = Nodes::new(3);
    nodes.register(0, 1, 1);
    nodes.rounds(6);
    nodes.replace(2, 2, 1);
    while nodes.0[2].held().count() == 0 {
        nodes.round();
    }
    // It goes down before anybody hears.
    while nodes.0[2].poll_output().is_some() {}
    nodes.split(&[2], &[0, 1]);
    nodes.rounds(3);
    assert_eq!(nodes.0[0].whereis("n"), Some(Nodes::pid(0, 1)));
    assert_eq!(nodes.0[1].whereis("n"), Some(Nodes::pid(0, 1)));
    assert_eq!(nodes.0[1].promises().count(), 0);
}

#[test]
fn any_node_may_give_up_a_name() {
    let mut nodes = Nodes::new(3);
    nodes.register(0, 1, 1);
    nodes.rounds(6);
    assert!(nodes.0[2].unregister("n"));
    nodes.rounds(3);
    assert_eq!(nodes.holder(), None);
    assert!(!nodes.0[2].unregister("n"));
}

#[test]
fn the_smaller_part_of_a_divided_cluster_refuses() {
    let policy = PartitionPolicy::MinorityRefuses { cluster_size: None };
    let mut nodes = Nodes::with_policy(3, policy);
    nodes.round();
    // A claim that is under way when the cluster divides, and one after it.
    nodes.register(2, 1, 1);
    nodes.split(&[2], &[0, 1]);
    nodes.register(2, 2, 1);
    let refused = || Err(RegisterError::Minority { seen: 1, known: 3 });
    assert_eq!(answers(&nodes.rounds(4)), [(1, refused()), (2, refused())]);
    nodes.register(0, 3, 1);
    assert_eq!(answers(&nodes.rounds(6)), [(3, Ok(()))]);
    nodes.heal(&[2], &[0, 1]);
    nodes.rounds(2);
    nodes.register(2, 4, 1);
    let taken = Err(RegisterError::Taken(Nodes::pid(0, 1)));
    assert_eq!(answers(&nodes.rounds(2)), [(4, taken)]);
}

#[test]
fn nodes_that_left_in_order_are_no_part_of_the_cluster() {
    let policy = PartitionPolicy::MinorityRefuses { cluster_size: None };
    let mut nodes = Nodes::with_policy(3, policy);
    for node in [1, 2] {
        let node = Nodes::name(node);
        nodes.0[0].handle(NOW, GlobalInput::NodeDown { node, left: true });
    }
    nodes.register(0, 1, 1);
    assert_eq!(answers(&nodes.round()), [(1, Ok(()))]);
}
