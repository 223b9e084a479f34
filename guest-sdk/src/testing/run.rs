//! Running actors' code: one turn of one actor at a time, each with its own executor.
//!
//! A panic ends its actor as a trap does. Nothing of the world is borrowed while code runs.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::current::{Entered, Shared};
use crate::runtime::{self, Runtime};
use crate::{Actor, ExitReason, Outcome, Pid, SaveError, Start};

pub(super) type Factory = Rc<dyn Fn() -> Box<dyn Instance>>;

/// What a component is to its host.
pub(super) trait Instance {
    fn init(&mut self, start: Start) -> Result<Outcome, ExitReason>;
    fn turn(&mut self) -> Outcome;
    fn save(&mut self) -> Result<Vec<u8>, SaveError>;
}

/// The component of an [`Actor`].
pub(super) struct Holder<A>(pub(super) Option<A>);

impl<A: Actor> Instance for Holder<A> {
    fn init(&mut self, start: Start) -> Result<Outcome, ExitReason> {
        let (actor, outcome) = A::init(start)?;
        self.0 = Some(actor);
        Ok(outcome)
    }
    fn turn(&mut self) -> Outcome {
        match &mut self.0 {
            Some(actor) => actor.turn(),
            None => Outcome::Stop(ExitReason::error("turn came before init")),
        }
    }
    fn save(&mut self) -> Result<Vec<u8>, SaveError> {
        self.0.as_mut().map_or(Err(SaveError::Busy), Actor::save)
    }
}

/// The component of a closure: a task.
pub(super) struct Closure<F>(pub(super) Rc<F>);

impl<F, R> Instance for Closure<F>
where
    F: Fn(Vec<u8>) -> R,
    R: Future<Output = ExitReason> + 'static,
{
    fn init(&mut self, start: Start) -> Result<Outcome, ExitReason> {
        let Start::Fresh(args) = start else {
            return Err(ExitReason::error("a task cannot go on from saved state"));
        };
        runtime::start_main((self.0)(args));
        Ok(self.turn())
    }
    fn turn(&mut self) -> Outcome {
        runtime::run().map_or(Outcome::Wait, Outcome::Stop)
    }
    fn save(&mut self) -> Result<Vec<u8>, SaveError> {
        Err(SaveError::Refused("a task has no state to save".into()))
    }
}

/// An actor's code and memory.
pub(super) struct Body {
    pub(super) instance: Box<dyn Instance>,
    pub(super) runtime: Runtime,
}

impl Body {
    fn new(factory: &Factory) -> Self {
        Self {
            instance: factory(),
            runtime: Runtime::new(),
        }
    }

    /// Runs some of the actor's code, as the actor.
    fn enter<R>(
        &mut self,
        world: &Shared,
        me: Pid,
        work: impl FnOnce(&mut dyn Instance) -> R,
    ) -> Result<R, Box<dyn Any + Send>> {
        let _entered = Entered::new(world, me);
        runtime::swap(&self.runtime);
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut *self.instance)));
        runtime::swap(&self.runtime);
        result
    }
}

/// Lets one actor take its turn; false if none has anything to do.
pub(super) fn step(world: &Shared) -> bool {
    let (pid, start, body) = {
        let mut world = world.borrow_mut();
        let at = match (world.shuffled, world.ready.len() as u64) {
            (_, 0) => return false,
            (true, ready) => (world.next_random() % ready) as usize,
            (false, _) => 0,
        };
        let Some(pid) = world.ready.remove(at) else {
            return false;
        };
        let Some(actor) = world.actors.get_mut(&pid) else {
            return true;
        };
        actor.queued = false;
        let start = actor.start.take();
        if start.is_some()
            && let Some(name) = actor.claims.take()
        {
            if let Some(holder) = world.globals.get(&name).copied() {
                world.end(pid, ExitReason::AlreadyStarted(holder));
                return true;
            }
            world.globals.insert(name, pid);
        }
        let Some(actor) = world.actors.get_mut(&pid) else {
            return true;
        };
        actor.running = true;
        actor.idle = None;
        let (module, body) = (actor.module.clone(), actor.body.take());
        (
            pid,
            start,
            body.or_else(|| Some(Body::new(world.modules.get(&module)?))),
        )
    };
    let Some(mut body) = body else {
        let reason = ExitReason::error("its module was taken away");
        world.borrow_mut().settle(pid, Outcome::Stop(reason));
        return true;
    };
    let ran = body.enter(world, pid, |instance| match start {
        Some(start) => instance.init(start).unwrap_or_else(Outcome::Stop),
        None => instance.turn(),
    });
    let outcome = ran.unwrap_or_else(|panic| Outcome::Stop(ExitReason::Trap(words(&*panic))));
    let mut world = world.borrow_mut();
    if let Some(actor) = world.actors.get_mut(&pid) {
        actor.body = Some(body);
    }
    world.settle(pid, outcome);
    true
}

/// Replaces an actor's code: what it saves, another instance goes on from.
pub(super) fn upgrade(world: &Shared, pid: Pid, to: &Factory) -> Result<(), SaveError> {
    let gone = || SaveError::Refused(format!("{} does not run", pid.to_hex()));
    let mut old = {
        let mut world = world.borrow_mut();
        let actor = world.actors.get_mut(&pid).ok_or_else(gone)?;
        actor.running = true;
        actor.body.take().ok_or(SaveError::Busy)?
    };
    let saved = old.enter(world, pid, |instance| instance.save());
    let saved = saved.unwrap_or_else(|panic| Err(SaveError::Refused(words(&*panic))));
    let upgraded = saved.and_then(|saved| {
        let mut new = Body::new(to);
        let start = Start::Restored(saved);
        match new.enter(world, pid, |instance| instance.init(start)) {
            Ok(Ok(outcome)) => Ok((new, outcome)),
            Ok(Err(reason)) => Err(SaveError::Refused(reason.describe().into_owned())),
            Err(panic) => Err(SaveError::Refused(words(&*panic))),
        }
    });
    let (body, outcome, result) = match upgraded {
        Ok((new, outcome)) => {
            std::mem::forget(old);
            (new, outcome, Ok(()))
        }
        Err(error) => (old, Outcome::Wait, Err(error)),
    };
    let mut world = world.borrow_mut();
    if let Some(actor) = world.actors.get_mut(&pid) {
        actor.body = Some(body);
    }
    world.settle(pid, outcome);
    world.wake(pid);
    result
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").into()
}
