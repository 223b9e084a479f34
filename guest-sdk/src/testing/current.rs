//! Which actor runs on this thread, if one does.

use std::cell::RefCell;
use std::rc::Rc;

use super::imports::Imports;
use super::world::{View, World};
use crate::Pid;

pub(super) type Shared = Rc<RefCell<World>>;

thread_local! {
    static CURRENT: RefCell<Option<(Shared, Pid)>> = const { RefCell::new(None) };
}

/// Makes an actor the one that runs, until this is dropped.
pub(super) struct Entered(Option<(Shared, Pid)>);

impl Entered {
    pub(super) fn new(world: &Shared, actor: Pid) -> Self {
        Self(CURRENT.replace(Some((world.clone(), actor))))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// One import of the actor that runs.
pub(super) fn with<R>(import: impl FnOnce(&mut dyn Imports) -> R) -> R {
    let current = CURRENT.with_borrow(Clone::clone);
    match current {
        Some((world, me)) => import(&mut View::new(&mut world.borrow_mut(), me)),
        #[cfg(test)]
        None => super::scripted::with(|host| import(host)),
        #[cfg(not(test))]
        None => panic!("only an actor can do this: put it into `testing::Node::run`"),
    }
}
