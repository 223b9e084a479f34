//! When what was sent goes out: at once, or together with what the same thread sends next.
//!
//! Contract: a thread that runs actors' turns ([`turn_over`]) writes when a turn is over and
//! [`CORK_US`] have passed since the first send, when it rests, or when there is plenty; any
//! other thread writes at once, or at the end of what it holds ([`hold`]). A turn that goes on
//! for long is the watchdog's business: it leaves the writing to the links' writers.
//!
//! Does not know what is sent.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::link::Link;
use super::outbox::Pushed;

/// How long sends may wait for those of the following turns on the same thread, in
/// microseconds: a few times what a write costs.
const CORK_US: u64 = 30;

thread_local! {
    static CORK: RefCell<Cork> = const {
        RefCell::new(Cork { turns: false, holds: 0, links: Vec::new(), since: None })
    };
}

struct Cork {
    /// Whether this thread runs turns.
    turns: bool,
    holds: u32,
    /// Where something of this thread waits.
    links: Vec<Arc<Link>>,
    since: Option<Instant>,
}

/// After a push: whether the caller has to flush the link now.
#[must_use]
pub(super) fn is_due(link: &Arc<Link>, pushed: Pushed) -> bool {
    match pushed {
        Pushed::Closed | Pushed::TooLarge => return false,
        Pushed::Ok | Pushed::Plenty | Pushed::Congested => {}
    }
    CORK.with_borrow_mut(|cork| {
        let waits = cork.holds > 0 || (cork.turns && pushed == Pushed::Ok);
        if waits && !cork.links.iter().any(|known| Arc::ptr_eq(known, link)) {
            cork.links.push(link.clone());
            cork.since.get_or_insert_with(Instant::now);
        }
        !waits
    })
}

/// A turn is over on this thread, and another may follow.
pub(super) fn turn_over() {
    let due = CORK.with_borrow_mut(|cork| {
        cork.turns = true;
        let patience = Duration::from_micros(CORK_US);
        cork.since.is_some_and(|since| since.elapsed() >= patience)
    });
    if due {
        flush();
    }
}

/// Writes all that this thread has sent.
pub(super) fn flush() {
    let links = CORK.with_borrow_mut(|cork| {
        cork.since = None;
        std::mem::take(&mut cork.links)
    });
    for link in &links {
        link.flush();
    }
    // Keeps the vector's memory.
    CORK.with_borrow_mut(|cork| {
        if cork.links.is_empty() {
            cork.links = links;
            cork.links.clear();
        }
    });
}

/// While this is held, sends of this thread wait.
pub(super) struct Held(());

/// Lets sends of this thread wait until what this returns is dropped.
pub(super) fn hold() -> Held {
    CORK.with_borrow_mut(|cork| cork.holds += 1);
    Held(())
}

impl Drop for Held {
    fn drop(&mut self) {
        let last = CORK.with_borrow_mut(|cork| {
            cork.holds -= 1;
            cork.holds == 0 && !cork.turns && !cork.links.is_empty()
        });
        if last {
            flush();
        }
    }
}
