//! Global names and groups across nodes.

use wasm_node_protocol::groups::{GroupChange, GroupEvent};

use super::*;

#[tokio::test]
async fn one_of_three_wins_a_global_name() {
    let mut nodes = [start("a").await, start("b").await, start("c").await];
    connect(&nodes[1], &nodes[0]).await.unwrap();
    connect(&nodes[2], &nodes[0]).await.unwrap();
    until("a full mesh", || {
        nodes
            .iter()
            .all(|node| node.dist.nodes(NodeSet::All).len() == 2)
    })
    .await;
    for round in 0..20 {
        let name = format!("name{round}");
        for node in &nodes {
            node.register(&name, node.pid(round), node.tag(round));
        }
        let mut winners = Vec::new();
        let mut told = Vec::new();
        for node in &mut nodes {
            match node.next().await {
                Seen::Registered(tag, Ok(())) if tag == node.tag(round) => {
                    winners.push(node.pid(round))
                }
                Seen::Registered(tag, Err(RegisterError::Taken(holder)))
                    if tag == node.tag(round) =>
                {
                    told.push(holder)
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(told, [winners[0], winners[0]], "the others learn who won");
        until("all know", || {
            nodes
                .iter()
                .all(|node| node.dist.whereis(&name) == Some(winners[0]))
        })
        .await;
        let holder = nodes
            .iter()
            .find(|node| node.incarnation() == winners[0].node)
            .unwrap();
        if round % 2 == 0 {
            assert!(holder.dist.unregister(&name));
        } else {
            holder.dist.actor_gone(winners[0]);
        }
        assert_eq!(holder.dist.whereis(&name), None, "at once here");
        until("none has it", || {
            nodes.iter().all(|node| node.dist.whereis(&name).is_none())
        })
        .await;
    }
    stop(nodes).await;
}

#[tokio::test]
async fn two_holders_that_meet_leave_one() {
    let mut nodes = [start("a").await, start("b").await];
    for node in &mut nodes {
        node.register("name", node.pid(1), node.tag(1));
        assert!(matches!(node.next().await, Seen::Registered(_, Ok(()))));
    }
    connect(&nodes[0], &nodes[1]).await.unwrap();
    let [a, b] = &mut nodes;
    let told = tokio::select! { told = a.next() => told, told = b.next() => told };
    let Seen::Conflict(loser, name, holder) = told else {
        panic!("{told:?}")
    };
    assert_eq!((name.as_str(), loser.serial, holder.serial), ("name", 1, 1));
    assert_ne!(loser, holder);
    until("both know", || {
        nodes
            .iter()
            .all(|node| node.dist.whereis("name") == Some(holder))
    })
    .await;
    stop(nodes).await;
}

#[tokio::test]
async fn names_and_members_go_with_their_node() {
    let (mut a, b) = (start("a").await, start("b").await);
    a.register("early", a.pid(1), a.tag(1));
    assert!(matches!(a.next().await, Seen::Registered(_, Ok(()))));
    a.dist.join("s", "group", &[a.pid(1)]).unwrap();
    assert_eq!(a.dist.members("s", "group"), [a.pid(1)], "at once here");
    connect(&a, &b).await.unwrap();
    b.dist.join("s", "group", &[b.pid(2), b.pid(2)]).unwrap();
    until("b knows", || {
        b.dist.whereis("early") == Some(a.pid(1)) && b.dist.members("s", "group").len() == 3
    })
    .await;
    until("a knows", || a.dist.members("s", "group").len() == 3).await;
    assert_eq!(b.dist.local_members("s", "group"), [b.pid(2), b.pid(2)]);
    assert!(b.dist.leave("s", "group", &[b.pid(2)]));
    until("a knows", || a.dist.members("s", "group").len() == 2).await;
    a.dist.stop().await;
    until("gone", || {
        b.dist.whereis("early").is_none() && b.dist.members("s", "group") == [b.pid(2)]
    })
    .await;
    b.dist.actor_gone(b.pid(2));
    assert!(b.dist.groups("s").is_empty() && !b.dist.leave("s", "group", &[b.pid(2)]));
    stop([b]).await;
}

#[tokio::test]
async fn a_monitor_tells_each_change_of_a_group_once() {
    let (mut a, b) = (start("a").await, start("b").await);
    let (watcher, monitor) = (a.pid(9), a.tag(9));
    a.dist.join("s", "g", &[a.pid(1)]).unwrap();
    let seen = a
        .dist
        .monitor_groups(monitor, watcher, "s", Some("g"))
        .unwrap();
    assert_eq!(seen, [("g".into(), vec![a.pid(1)])]);
    b.dist.join("s", "g", &[b.pid(1), b.pid(2)]).unwrap();
    b.dist.join("s", "other", &[b.pid(1)]).unwrap();
    connect(&a, &b).await.unwrap();
    until("a knows", || a.dist.members("s", "g").len() == 3).await;
    b.dist.leave("s", "g", &[b.pid(2)]);
    b.dist.join("s", "g", &[b.pid(1)]).unwrap();

    let told = |change, pids: &[Pid]| {
        let event = GroupEvent {
            group: "g".into(),
            change,
            pids: pids.into(),
        };
        Seen::Group(watcher, monitor, event)
    };
    let mut expected = [
        told(GroupChange::Joined, &[b.pid(1), b.pid(2)]),
        told(GroupChange::Left, &[b.pid(2)]),
        told(GroupChange::Joined, &[b.pid(1)]),
        told(GroupChange::Left, &[b.pid(1), b.pid(1)]),
    ]
    .into_iter();
    for expected in expected.by_ref().take(3) {
        assert_eq!(a.next_group().await, expected);
    }
    let (b_groups, dist) = (a.dist.groups("s"), b.dist.clone());
    assert_eq!(b_groups, ["g", "other"]);
    assert_eq!(a.dist.local_groups("s"), ["g"]);
    dist.stop().await;
    assert_eq!(Some(a.next_group().await), expected.next());
    assert_eq!(a.dist.members("s", "g"), [a.pid(1)]);
    assert!(a.dist.demonitor_groups(monitor, watcher));
    assert!(!a.dist.demonitor_groups(monitor, watcher));
    stop([a, b]).await;
}
