//! Registries on a test's node.

use super::*;
use crate::testing::Node;
use crate::{Message, SpawnOptions, spawn, task};

fn node() -> Node {
    let node = Node::new();
    node.module::<RegistryServer>();
    node.task("waits", |_| async { std::future::pending().await });
    node
}

fn child() -> Pid {
    spawn("waits", b"", &SpawnOptions::new()).unwrap().pid
}

#[test]
fn a_unique_key_has_one_actor_until_that_ends() {
    node().run(async {
        let names = Registry::<String, u8>::start(Keys::Unique, "names")
            .await
            .unwrap();
        let (a, b) = (child(), child());
        let key = "x".to_owned();
        assert_eq!(names.register(&key, a, &1).await, Ok(()));
        assert_eq!(
            names.register(&key, b, &2).await,
            Err(RegistryError::AlreadyRegistered(a))
        );
        assert_eq!(names.update_value(&key, a, &9).await, Ok(true));
        assert_eq!(names.update_value(&key, b, &9).await, Ok(false));
        assert_eq!(names.lookup(&key).await, Ok(vec![(a, 9)]));
        assert_eq!(names.keys(a).await, Ok(vec![key.clone()]));
        crate::exit(a, ExitReason::Kill);
        crate::monitor(a).down().await;
        assert_eq!(names.whereis(&key).await, Ok(None));
        assert_eq!(names.count().await, Ok(0));
        // One that is dead already is gone again after a moment.
        assert_eq!(names.register(&key, a, &1).await, Ok(()));
        assert_eq!(names.count().await, Ok(0));
        assert_eq!(names.register(&key, b, &2).await, Ok(()));
        assert_eq!(names.unregister(&key, b).await, Ok(true));
        assert_eq!(names.unregister(&key, b).await, Ok(false));
    });
}

#[test]
fn duplicate_keys_are_dispatched_to_all_and_listeners_hear_of_it() {
    node().run(async {
        let rooms = Registry::<u32, u8>::start(Keys::Duplicate, "rooms")
            .await
            .unwrap();
        let me = crate::self_pid();
        let other = child();
        rooms.register(&1, me, &1).await.unwrap();
        rooms.register(&1, me, &2).await.unwrap();
        rooms.listen(me).await.unwrap();
        rooms.register(&1, other, &3).await.unwrap();
        assert_eq!(rooms.count().await, Ok(3));
        rooms.dispatch(&1, b"hi");
        crate::exit(other, ExitReason::Kill);
        let event = |event| Message::Info(codec::encode(&event));
        let key = codec::encode(&1u32);
        assert_eq!(
            task::receive().await,
            event(Event::Registered(key.clone(), other, vec![3]))
        );
        for _ in 0..2 {
            assert_eq!(task::receive().await, Message::Info(b"hi".to_vec()));
        }
        assert_eq!(
            task::receive().await,
            event(Event::Unregistered(key, other))
        );
        assert_eq!(rooms.select().await, Ok(vec![(1, me, 1), (1, me, 2)]));
    });
}

#[test]
fn a_server_is_started_once_a_key() {
    node().run(async {
        let via = Registry::<u8, ()>::start(Keys::Unique, "via")
            .await
            .unwrap();
        let start = || via.start_server::<RegistryServer>(&1, &Keys::Unique, &());
        let (one, two) = crate::join(start(), start()).await;
        let (started, refused) = match (one, two) {
            (Ok(server), Err(error)) | (Err(error), Ok(server)) => (server, error),
            other => panic!("one of two: {:?} {:?}", other.0.is_ok(), other.1.is_ok()),
        };
        let holder = started.as_pid().unwrap();
        let already = RegistryError::Start(StartError::AlreadyStarted(holder));
        assert_eq!(refused, already);
        assert_eq!(start().await, Err(already));
    });
}
