//! Locks between a few nodes.

use super::*;

impl Nodes {
    fn lock(&mut self, node: usize, request: u64, serial: u64, patience: Patience) {
        let requester = Requester::Actor(Self::pid(node, serial));
        self.lock_as(node, request, serial, requester, patience);
    }

    fn lock_as(
        &mut self,
        node: usize,
        request: u64,
        serial: u64,
        requester: Requester,
        patience: Patience,
    ) {
        let wish = Wish::Lock {
            resource: "r".into(),
            requester,
            patience,
        };
        self.claim(node, request, serial, wish);
    }

    fn unlock(&mut self, node: usize, serial: u64) -> bool {
        let requester = Requester::Actor(Self::pid(node, serial));
        self.0[node].unlock(NOW, "r", &requester, Self::pid(node, serial))
    }

    /// Rounds until nothing is left to say, with time passing.
    fn settle(&mut self) -> Vec<(u64, Result<(), RegisterError>)> {
        let mut outputs = Vec::new();
        for round in 0..40 {
            outputs.extend(self.round());
            for node in &mut self.0 {
                node.handle(Millis(round * 20), GlobalInput::Timer);
            }
        }
        answers(&outputs)
    }
}

fn shared() -> Requester {
    Requester::Named("shared".into())
}

#[test]
fn a_lock_is_one_requesters_until_it_lets_go() {
    let mut nodes = Nodes::new(3);
    nodes.lock(0, 1, 1, Patience::None);
    assert_eq!(nodes.settle(), [(1, Ok(()))]);
    nodes.lock(1, 2, 1, Patience::None);
    let taken = Err(RegisterError::Taken(Nodes::pid(0, 1)));
    assert_eq!(nodes.settle(), [(2, taken)]);
    assert!(!nodes.unlock(1, 1), "it is not its own");
    assert!(nodes.unlock(0, 1));
    nodes.settle();
    nodes.lock(1, 3, 1, Patience::None);
    assert_eq!(nodes.settle(), [(3, Ok(()))]);
    assert_eq!(nodes.0[1].held_locks().count(), 1);
    assert_eq!(nodes.0[0].locks().count(), 1);
}

#[test]
fn those_who_wait_get_it_in_turn() {
    let mut nodes = Nodes::new(3);
    nodes.lock(0, 0, 1, Patience::Endless);
    assert_eq!(nodes.settle(), [(0, Ok(()))]);
    for node in 0..3 {
        nodes.lock(node, 1 + node as u64, 2, Patience::Endless);
    }
    assert_eq!(nodes.settle(), []);
    let mut holder = (0, 1);
    for _ in 0..3 {
        assert!(nodes.unlock(holder.0, holder.1));
        let granted = nodes.settle();
        let [(request, Ok(()))] = granted[..] else {
            panic!("one at a time: {granted:?}");
        };
        holder = (request as usize - 1, 2);
    }
    assert!(nodes.unlock(holder.0, holder.1));
    nodes.settle();
    nodes.assert_nothing_left_over();
    assert!(nodes.0.iter().all(|node| node.locks().count() == 0));
}

#[test]
fn a_wait_ends_in_time_and_says_who_holds_it() {
    let mut nodes = Nodes::new(2);
    nodes.lock(0, 1, 1, Patience::None);
    nodes.settle();
    nodes.lock(1, 2, 1, Patience::Millis(300));
    let taken = Err(RegisterError::Taken(Nodes::pid(0, 1)));
    assert_eq!(nodes.settle(), [(2, taken)]);
    nodes.assert_nothing_left_over();
}

#[test]
fn a_lock_goes_with_its_holder_and_with_its_node() {
    let mut nodes = Nodes::new(3);
    nodes.lock(0, 1, 1, Patience::None);
    nodes.settle();
    nodes.lock(1, 2, 1, Patience::Endless);
    nodes.lock(2, 3, 1, Patience::Endless);
    assert_eq!(nodes.settle(), []);
    nodes.dies(0, 1);
    let granted = nodes.settle();
    let [(request, Ok(()))] = granted[..] else {
        panic!("one of the two: {granted:?}");
    };
    let (holder, waits) = if request == 2 { (1, 2) } else { (2, 1) };
    nodes.split(&[holder], &[0, waits]);
    let granted = nodes.settle();
    assert!(granted.contains(&(1 + waits as u64, Ok(()))), "{granted:?}");
}

#[test]
fn the_same_requester_gets_it_again_and_again() {
    let mut nodes = Nodes::new(3);
    nodes.lock_as(0, 1, 1, shared(), Patience::None);
    assert_eq!(nodes.settle(), [(1, Ok(()))]);
    // Another requester waits; that keeps nobody of the first one's from it.
    nodes.lock(2, 2, 9, Patience::Endless);
    assert_eq!(nodes.settle(), []);
    nodes.lock_as(0, 3, 2, shared(), Patience::None);
    nodes.lock_as(1, 4, 1, shared(), Patience::None);
    nodes.lock_as(0, 5, 1, shared(), Patience::None);
    let mut granted = nodes.settle();
    granted.sort_by_key(|(request, _)| *request);
    assert_eq!(granted, [(3, Ok(())), (4, Ok(())), (5, Ok(()))]);
    // Once each is enough, however often it was taken.
    for (node, serial) in [(0, 1), (0, 2)] {
        let pid = Nodes::pid(node, serial);
        assert!(nodes.0[node].unlock(NOW, "r", &shared(), pid));
        assert!(!nodes.0[node].unlock(NOW, "r", &shared(), pid));
        assert_eq!(nodes.settle(), []);
    }
    nodes.dies(1, 1);
    assert_eq!(nodes.settle(), [(2, Ok(()))]);
}

#[test]
fn halves_that_meet_keep_both_and_grant_nothing_until_one_is_left() {
    let mut nodes = Nodes::new(4);
    nodes.split(&[0, 1], &[2, 3]);
    nodes.settle();
    nodes.lock(0, 1, 1, Patience::None);
    nodes.lock(2, 2, 1, Patience::None);
    assert_eq!(nodes.settle(), [(1, Ok(())), (2, Ok(()))]);
    nodes.heal(&[0, 1], &[2, 3]);
    nodes.lock(1, 3, 1, Patience::Endless);
    assert_eq!(nodes.settle(), []);
    assert_eq!(nodes.0.iter().flat_map(Global::held_locks).count(), 2);
    assert!(nodes.unlock(0, 1));
    assert_eq!(nodes.settle(), []);
    assert!(nodes.unlock(2, 1));
    assert_eq!(nodes.settle(), [(3, Ok(()))]);
}

#[test]
fn whoever_gives_up_waiting_is_answered_and_leaves_nothing() {
    let mut nodes = Nodes::new(2);
    nodes.lock(0, 1, 1, Patience::None);
    nodes.settle();
    nodes.lock(1, 2, 1, Patience::Endless);
    nodes.settle();
    assert!(!nodes.unlock(1, 1), "it did not hold it");
    assert_eq!(nodes.settle(), [(2, Err(RegisterError::Timeout))]);
    nodes.assert_nothing_left_over();
}

#[test]
fn a_lock_is_not_a_name() {
    let mut nodes = Nodes::new(2);
    nodes.lock(0, 1, 1, Patience::None);
    let wish = Wish::Name {
        name: "r".into(),
        replace: false,
        resolver: Resolver::default(),
    };
    nodes.claim(1, 2, 1, wish);
    let mut granted = nodes.settle();
    granted.sort_by_key(|(request, _)| *request);
    assert_eq!(granted, [(1, Ok(())), (2, Ok(()))]);
}
