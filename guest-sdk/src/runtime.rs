//! The executor inside an actor: tasks, and which of them a message wakes.
//!
//! A turn polls the tasks that are ready. One of them, the main task, receives: it takes
//! messages straight from the host. While it waits for something else, messages are taken
//! for it: an answer (a response, a timer, `spawned`, `registered`, `connected`, `down`) goes
//! to the future that holds its ref, all others wait in `stash`, in order. Nothing here
//! waits or loops without work; a turn ends when the mailbox is empty and no task is ready.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use serde::{Deserialize, Serialize};

use crate::groups::group_of;
use crate::inbox;
use crate::sys::process;
use crate::{ExitReason, Message, Ref};

/// Messages that may wait inside an actor whose handler awaits something. One more ends the
/// actor with `limit`: its handler waits while its callers do not.
pub const MAX_STASHED_MESSAGES: usize = 1 << 20;

/// The task that receives, and whose end is the actor's.
const MAIN: usize = 0;

/// What a future waits for: refs are shared by a spawn and its monitor, so the kind counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Response,
    Down,
    Timer,
    Spawned,
    Registered,
    Connected,
}

enum Slot {
    /// Not polled yet.
    New,
    Waiting(Waker),
    Arrived(Message),
}

/// The answers that futures wait for, by key. Refs mostly grow, so this mostly appends.
struct Answers(Vec<((Ref, Kind), Slot)>);

impl Answers {
    fn find(&self, key: &(Ref, Kind)) -> Result<usize, usize> {
        match self.0.last() {
            Some((last, _)) if last < key => Err(self.0.len()),
            _ => self.0.binary_search_by(|(other, _)| other.cmp(key)),
        }
    }

    fn insert(&mut self, key: (Ref, Kind), slot: Slot) {
        match self.find(&key) {
            Ok(at) => self.0[at].1 = slot,
            Err(at) => self.0.insert(at, (key, slot)),
        }
    }

    fn get_mut(&mut self, key: &(Ref, Kind)) -> Option<&mut Slot> {
        let at = self.find(key).ok()?;
        self.0.get_mut(at).map(|(_, slot)| slot)
    }

    fn remove(&mut self, key: &(Ref, Kind)) -> Option<Slot> {
        let at = self.find(key).ok()?;
        Some(self.0.remove(at).1)
    }
}

/// What to do when the answer to a spawn, a connect or a claim comes that nobody waits for any
/// more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Orphan {
    /// Nothing.
    Lives,
    /// If it is an actor, end it.
    Dies,
}

#[derive(Default)]
struct Followed {
    messages: VecDeque<Message>,
    waker: Option<Waker>,
}

struct Task {
    /// None while it is polled, and in a free slot.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    queued: bool,
}

/// All that an actor's executor owns. One for each actor instance.
pub(crate) struct Runtime {
    tasks: RefCell<Vec<Task>>,
    free: RefCell<Vec<usize>>,
    /// Local tasks that have not ended, the main one apart.
    others: Cell<usize>,
    ready: RefCell<VecDeque<usize>>,
    answers: RefCell<Answers>,
    stash: RefCell<VecDeque<Message>>,
    /// Where messages of monitors of groups go that somebody follows.
    followed: RefCell<Vec<(Ref, Followed)>>,
    /// Spawns and connects whose answers nobody waits for any more.
    orphans: RefCell<Vec<(Ref, Orphan)>>,
    /// Tasks that found the mailbox empty.
    receivers: RefCell<Vec<Waker>>,
    exit: RefCell<Option<ExitReason>>,
}

thread_local! {
    static RUNTIME: Runtime = const { Runtime::new() };
}

/// Tasks or a handler are in the middle of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// Runs a future inside this actor, beside its handlers: for a deferred reply, for work that
/// should not hold up the next message. It is polled in turns, like everything else. An actor
/// with such a task is `busy` for upgrades until the task has ended, so a task that never
/// ends keeps its actor on its version: use a timer there.
pub fn spawn_local(future: impl Future<Output = ()> + 'static) {
    RUNTIME.with(|rt| {
        rt.others.set(rt.others.get() + 1);
        rt.add(Box::pin(async move {
            future.await;
            RUNTIME.with(|rt| rt.others.set(rt.others.get() - 1));
        }));
    });
}

/// Starts the main task: what it returns ends the actor. Must come first.
pub(crate) fn start_main(main: impl Future<Output = ExitReason> + 'static) {
    RUNTIME.with(|rt| {
        rt.add(Box::pin(async move {
            let reason = main.await;
            RUNTIME.with(|rt| *rt.exit.borrow_mut() = Some(reason));
        }));
    });
}

/// Does all the work there is. Some reason: the actor has ended.
pub(crate) fn run() -> Option<ExitReason> {
    RUNTIME.with(|rt| {
        rt.wake_receivers();
        loop {
            while let Some(task) = rt.next_ready() {
                rt.poll(task);
                if rt.exit.borrow().is_some() {
                    return rt.exit.take();
                }
            }
            if !rt.pump() {
                return rt.exit.take();
            }
        }
    })
}

/// The next message for this actor that is no answer to a future.
pub(crate) fn receive() -> impl Future<Output = Message> {
    std::future::poll_fn(|cx| RUNTIME.with(|rt| rt.poll_receive(cx)))
}

/// The first waiting message that passes, if one does; the others keep their places.
pub(crate) fn take_matching(wanted: &mut dyn FnMut(&Message) -> bool) -> Option<Message> {
    RUNTIME.with(|rt| {
        rt.fill_stash();
        let at = rt.stash.borrow().iter().position(wanted)?;
        rt.stash.borrow_mut().remove(at)
    })
}

/// Waits until a turn begins: new messages may be there. For selective receives, after
/// [`take_matching`] found none.
pub(crate) fn new_turn() -> impl Future<Output = ()> {
    let mut waited = false;
    std::future::poll_fn(move |cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        RUNTIME.with(|rt| rt.receivers.borrow_mut().push(cx.waker().clone()));
        Poll::Pending
    })
}

/// Puts messages that were never handled back, and what is not to be handled: those that came
/// with a snapshot.
pub(crate) fn restore_stash(messages: Vec<Message>, orphans: Vec<(Ref, Orphan)>) {
    RUNTIME.with(|rt| {
        *rt.stash.borrow_mut() = messages.into();
        *rt.orphans.borrow_mut() = orphans;
    });
}

/// A copy of the messages that wait, in order; [`Busy`] while a local task runs.
pub(crate) fn stash_if_quiet() -> Result<Vec<Message>, Busy> {
    RUNTIME.with(|rt| {
        if rt.others.get() > 0 {
            return Err(Busy);
        }
        Ok(rt.stash.borrow().iter().cloned().collect())
    })
}

/// The message that answers a ref. Dropping it forgets the answer; whoever made the ref
/// also tells the host.
pub(crate) struct Answer {
    key: (Ref, Kind),
    done: bool,
}

impl Answer {
    /// Must be made in the turn that made the ref, before the next message is taken.
    pub(crate) fn of(tag: Ref, kind: Kind) -> Self {
        RUNTIME.with(|rt| rt.answers.borrow_mut().insert((tag, kind), Slot::New));
        Self {
            key: (tag, kind),
            done: false,
        }
    }

    /// As [`Answer::of`], for one that may have been taken for a handler already.
    pub(crate) fn of_older(tag: Ref, kind: Kind) -> Self {
        let answer = Self::of(tag, kind);
        RUNTIME.with(|rt| {
            let at = rt
                .stash
                .borrow()
                .iter()
                .position(|m| key_of(m) == Some((tag, kind)));
            if let Some(message) = at.and_then(|at| rt.stash.borrow_mut().remove(at)) {
                rt.answers
                    .borrow_mut()
                    .insert((tag, kind), Slot::Arrived(message));
            }
        });
        answer
    }

    pub(crate) fn tag(&self) -> Ref {
        self.key.0
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// The message, if it is there and was not taken yet.
    pub(crate) fn take_arrived(&mut self) -> Option<Message> {
        RUNTIME.with(|rt| {
            let mut answers = rt.answers.borrow_mut();
            if !matches!(answers.get_mut(&self.key), Some(Slot::Arrived(_))) {
                return None;
            }
            self.done = true;
            match answers.remove(&self.key) {
                Some(Slot::Arrived(message)) => Some(message),
                _ => None,
            }
        })
    }
}

impl Future for Answer {
    type Output = Message;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Message> {
        RUNTIME.with(|rt| {
            let mut answers = rt.answers.borrow_mut();
            match answers.get_mut(&self.key) {
                Some(Slot::Arrived(_)) => {}
                Some(slot) => {
                    *slot = Slot::Waiting(cx.waker().clone());
                    return Poll::Pending;
                }
                None => return Poll::Pending,
            }
            match answers.remove(&self.key) {
                Some(Slot::Arrived(message)) => {
                    self.done = true;
                    Poll::Ready(message)
                }
                _ => Poll::Pending,
            }
        })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.done {
            let _ = RUNTIME.try_with(|rt| rt.answers.borrow_mut().remove(&self.key));
        }
    }
}

/// Nobody waits for the answer to a spawn, a connect or a claim any more: it reaches no handler.
pub(crate) fn adopt_orphan(tag: Ref, orphan: Orphan) {
    // There is no runtime any more while it is taken down itself.
    let _ = RUNTIME.try_with(|rt| rt.orphans.borrow_mut().push((tag, orphan)));
}

/// For a snapshot: upgrades must not let those answers through.
pub(crate) fn orphans() -> Vec<(Ref, Orphan)> {
    RUNTIME.with(|rt| rt.orphans.borrow().clone())
}

/// The messages of one monitor of groups, kept for whoever holds this. Dropped, what is left of
/// them goes to the handler.
#[derive(Debug)]
pub(crate) struct Subscription(Ref);

impl Subscription {
    pub(crate) fn to(tag: Ref) -> Self {
        RUNTIME.with(|rt| {
            let mut stash = rt.stash.borrow_mut();
            let (messages, others): (VecDeque<_>, _) =
                stash.drain(..).partition(|m| group_of(m) == Some(tag));
            *stash = others;
            let followed = Followed {
                messages,
                waker: None,
            };
            rt.followed.borrow_mut().push((tag, followed));
        });
        Self(tag)
    }

    pub(crate) fn next(&mut self) -> impl Future<Output = Message> {
        let tag = self.0;
        std::future::poll_fn(move |cx| {
            RUNTIME.with(|rt| {
                let mut followed = rt.followed.borrow_mut();
                let Some((_, followed)) = followed.iter_mut().find(|(of, _)| *of == tag) else {
                    return Poll::Pending;
                };
                match followed.messages.pop_front() {
                    Some(message) => Poll::Ready(message),
                    None => {
                        followed.waker = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            })
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        RUNTIME.with(|rt| {
            let mut followed = rt.followed.borrow_mut();
            let at = followed.iter().position(|(of, _)| *of == self.0);
            if let Some((_, followed)) = at.map(|at| followed.swap_remove(at)) {
                let waited = !followed.messages.is_empty();
                let mut stash = rt.stash.borrow_mut();
                // In front: they have waited while others were taken.
                let later = std::mem::replace(&mut *stash, followed.messages);
                stash.extend(later);
                drop(stash);
                if waited {
                    rt.wake_receivers();
                }
            }
        });
    }
}

/// Drops the waiting messages that pass.
pub(crate) fn discard(unwanted: impl Fn(&Message) -> bool) {
    RUNTIME.with(|rt| {
        rt.stash.borrow_mut().retain(|message| !unwanted(message));
        for (_, followed) in rt.followed.borrow_mut().iter_mut() {
            followed.messages.retain(|message| !unwanted(message));
        }
    });
}

fn key_of(message: &Message) -> Option<(Ref, Kind)> {
    Some(match message {
        Message::Response((tag, _)) => (*tag, Kind::Response),
        Message::Down((tag, _, _)) => (*tag, Kind::Down),
        Message::Timer(tag) => (*tag, Kind::Timer),
        Message::Spawned((tag, _)) => (*tag, Kind::Spawned),
        Message::Registered((tag, _)) => (*tag, Kind::Registered),
        Message::Connected((tag, _)) => (*tag, Kind::Connected),
        _ => return None,
    })
}

impl Runtime {
    pub(crate) const fn new() -> Self {
        Self {
            tasks: RefCell::new(Vec::new()),
            free: RefCell::new(Vec::new()),
            others: Cell::new(0),
            ready: RefCell::new(VecDeque::new()),
            answers: RefCell::new(Answers(Vec::new())),
            stash: RefCell::new(VecDeque::new()),
            followed: RefCell::new(Vec::new()),
            orphans: RefCell::new(Vec::new()),
            receivers: RefCell::new(Vec::new()),
            exit: RefCell::new(None),
        }
    }

    fn add(&self, future: Pin<Box<dyn Future<Output = ()>>>) {
        let mut tasks = self.tasks.borrow_mut();
        let task = Task {
            future: Some(future),
            queued: true,
        };
        let id = match self.free.borrow_mut().pop() {
            Some(id) => {
                tasks[id] = task;
                id
            }
            None => {
                tasks.push(task);
                tasks.len() - 1
            }
        };
        self.ready.borrow_mut().push_back(id);
    }

    fn wake(&self, id: usize) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(id)
            && !std::mem::replace(&mut task.queued, true)
        {
            self.ready.borrow_mut().push_back(id);
        }
    }

    fn wake_receivers(&self) {
        // By index: waking borrows other cells only, and the buffer stays for the next time.
        let mut receivers = self.receivers.borrow_mut();
        receivers.iter().for_each(Waker::wake_by_ref);
        receivers.clear();
    }

    fn next_ready(&self) -> Option<usize> {
        self.ready.borrow_mut().pop_front()
    }

    fn poll(&self, id: usize) {
        let future = self.tasks.borrow_mut().get_mut(id).and_then(|task| {
            task.queued = false;
            task.future.take()
        });
        let Some(mut future) = future else { return };
        let waker = waker(id);
        if future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
        {
            self.tasks.borrow_mut()[id].future = Some(future);
        } else if id != MAIN {
            self.free.borrow_mut().push(id);
        }
    }

    /// Takes what waits in the mailbox, unless a task does; whether a task became ready.
    fn pump(&self) -> bool {
        if self.receivers.borrow().is_empty() {
            self.fill_stash();
        }
        !self.ready.borrow().is_empty()
    }

    fn fill_stash(&self) {
        let before = self.stash.borrow().len();
        self.drain_mailbox();
        if self.stash.borrow().len() > before {
            self.wake_receivers();
        }
    }

    fn drain_mailbox(&self) {
        while let Some(message) = inbox::next() {
            if let Some(message) = self.route(message) {
                let mut stash = self.stash.borrow_mut();
                stash.push_back(message);
                if stash.len() > MAX_STASHED_MESSAGES {
                    *self.exit.borrow_mut() = Some(ExitReason::Limit(format!(
                        "more than {MAX_STASHED_MESSAGES} messages wait for a handler that awaits"
                    )));
                    return;
                }
            }
        }
    }

    fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Message> {
        if let Some(message) = self.stash.borrow_mut().pop_front() {
            return Poll::Ready(message);
        }
        while let Some(message) = inbox::next() {
            if let Some(message) = self.route(message) {
                return Poll::Ready(message);
            }
        }
        self.receivers.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }

    /// Gives an answer to the future that waits for it; any other message comes back.
    fn route(&self, message: Message) -> Option<Message> {
        let Some(key) = key_of(&message) else {
            return self.follow(message);
        };
        if self.take_orphan(&message) {
            return None;
        }
        let mut answers = self.answers.borrow_mut();
        let Some(slot) = answers.get_mut(&key) else {
            // A response that nobody waits for any more came too late to be forgotten.
            return (key.1 != Kind::Response).then_some(message);
        };
        if matches!(slot, Slot::Arrived(_)) {
            return None;
        }
        if let Slot::Waiting(waker) = std::mem::replace(slot, Slot::Arrived(message)) {
            drop(answers);
            waker.wake();
        }
        None
    }

    /// Whether the message answers what nobody waits for any more.
    fn take_orphan(&self, message: &Message) -> bool {
        let (tag, child) = match message {
            Message::Spawned((tag, spawned)) => (*tag, spawned.as_ref().ok()),
            Message::Connected((tag, _)) | Message::Registered((tag, _)) => (*tag, None),
            _ => return false,
        };
        let mut orphans = self.orphans.borrow_mut();
        let Some(at) = orphans.iter().position(|(of, _)| *of == tag) else {
            return false;
        };
        if let ((_, Orphan::Dies), Some(child)) = (orphans.swap_remove(at), child) {
            process::demonitor(tag);
            process::exit(*child, &ExitReason::Kill);
        }
        true
    }

    /// Gives a message of a monitor of groups to whoever follows it; any other comes back.
    fn follow(&self, message: Message) -> Option<Message> {
        let Some(tag) = group_of(&message) else {
            return Some(message);
        };
        let mut all = self.followed.borrow_mut();
        let Some((_, followed)) = all.iter_mut().find(|(of, _)| *of == tag) else {
            return Some(message);
        };
        followed.messages.push_back(message);
        if followed.messages.len() > MAX_STASHED_MESSAGES {
            *self.exit.borrow_mut() = Some(ExitReason::Limit(format!(
                "more than {MAX_STASHED_MESSAGES} changes of a group wait to be taken"
            )));
        }
        let waker = followed.waker.take();
        drop(all);
        waker.iter().for_each(Waker::wake_by_ref);
        None
    }
}

/// A waker is a task's number: nothing to allocate, count or free.
fn waker(id: usize) -> Waker {
    const VTABLE: RawWakerVTable = RawWakerVTable::new(
        |data| RawWaker::new(data, &VTABLE),
        |data| RUNTIME.with(|rt| rt.wake(data as usize)),
        |data| RUNTIME.with(|rt| rt.wake(data as usize)),
        |_| {},
    );
    // SAFETY: the data is a number, never read through, and the functions above only use the
    // thread's own runtime, which is what every waker of this single-threaded actor refers to.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::without_provenance(id), &VTABLE)) }
}

/// Exchanges this thread's runtime and another: natively, one thread runs many actors in turn.
#[cfg(all(not(target_arch = "wasm32"), any(test, feature = "testing")))]
pub(crate) fn swap(with: &Runtime) {
    RUNTIME.with(|rt| {
        rt.tasks.swap(&with.tasks);
        rt.free.swap(&with.free);
        rt.others.swap(&with.others);
        rt.ready.swap(&with.ready);
        rt.answers.swap(&with.answers);
        rt.stash.swap(&with.stash);
        rt.followed.swap(&with.followed);
        rt.orphans.swap(&with.orphans);
        rt.receivers.swap(&with.receivers);
        rt.exit.swap(&with.exit);
    });
}

/// Takes an actor's whole runtime down, so that one test thread can run several.
#[cfg(test)]
pub(crate) fn reset() {
    RUNTIME.with(|rt| {
        let tasks = std::mem::take(&mut *rt.tasks.borrow_mut());
        drop(tasks);
        rt.free.borrow_mut().clear();
        rt.others.set(0);
        rt.ready.borrow_mut().clear();
        rt.answers.borrow_mut().0.clear();
        rt.stash.borrow_mut().clear();
        rt.followed.borrow_mut().clear();
        rt.orphans.borrow_mut().clear();
        rt.receivers.borrow_mut().clear();
        rt.exit.borrow_mut().take();
    });
}
