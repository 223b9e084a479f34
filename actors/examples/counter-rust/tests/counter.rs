//! The counter without a node: `cargo test`.

use counter_rust::{Command, Counter};
use wasm_node_sdk::testing::Node;
use wasm_node_sdk::{Destination, ExitReason, ServerRef};

fn node() -> Node {
    let node = Node::new();
    node.module::<Counter>();
    node
}

#[test]
fn it_counts_and_says_where_it_starts() {
    let node = node();
    let counter = node.start::<Counter>(&5).unwrap();
    assert_eq!(node.printed()[0].text, "counter-rust starts at 5\n");
    node.cast(&counter, Some(2));
    assert_eq!(node.call(&counter, Ok(Command::Add(1))), Ok("8".into()));
    // As the command line asks.
    let pid = counter.as_pid().unwrap();
    assert_eq!(node.request(pid, b"get".to_vec()), Ok(b"8".to_vec()));
    let refused = node.request(pid, b"dance".to_vec()).unwrap();
    assert!(refused.starts_with(b"error: "));
}

#[test]
fn it_asks_others_and_hears_of_their_end() {
    let node = node();
    let counter = node.start::<Counter>(&0).unwrap();
    let other = node.run(async {
        ServerRef::<Counter>::start(&7)
            .local("other")
            .await
            .unwrap()
    });
    let ask = || Command::Call(Destination::Name("other".into()), Box::new(Command::Get));
    assert_eq!(node.call(&counter, Ok(ask())), Ok("7".into()));
    let pid = other.as_pid().unwrap();
    assert_eq!(
        node.call(&counter, Ok(Command::Watch(pid))),
        Ok("ok".into())
    );
    node.exit(pid, ExitReason::Kill);
    assert_eq!(node.call(&counter, Ok(Command::Downs)), Ok("1".into()));
    assert_eq!(node.call(&counter, Ok(ask())), Ok("error: noproc".into()));
}

#[test]
fn it_goes_on_after_an_upgrade() {
    let node = node();
    let counter = node.start::<Counter>(&41).unwrap();
    node.upgrade::<Counter>(counter.as_pid().unwrap()).unwrap();
    assert_eq!(node.call(&counter, Ok(Command::Add(1))), Ok("42".into()));
}
