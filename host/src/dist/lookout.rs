//! Who hears first that a link has something to read.
//!
//! A thread that runs actors and has none to run waits here instead of sleeping: the kernel
//! wakes it when a peer sends, and it reads, delivers and runs the receiver, all without
//! another change of threads. While no such thread waits, the kernel wakes the link's reader
//! task instead. That choice is the kernel's: a socket is in two sets, exclusively in each
//! ([`libc::EPOLLEXCLUSIVE`]), and of these it wakes the first that somebody waits for: ours,
//! then the link's own [`Watch`], which the reader task waits for.
//!
//! Often a thread has just sent a question, and the answer is there before it waits, as the
//! kernel prefers to run whom it woke. A reader that is woken for that leaves again
//! ([`Lookout::leave`]), since whoever has taken the lookout is about to look, and stays away
//! until nobody has looked for a while ([`Lookout::is_deserted`]).
//!
//! Contract: every arrival is seen, at once if any thread is free for it, and else in some
//! milliseconds. Does not know what is read.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use wasm_node_protocol::membership::LinkId;

use super::link::Link;

/// In place of a link's number: the bell.
const BELL: u64 = u64::MAX;

/// Links whose arrivals are learnt of by one call of the system; there are further calls for
/// further links.
const EVENTS: usize = 64;

/// A connection that the peer closes wakes all, exclusive or not.
const ARRIVALS: u32 = (libc::EPOLLIN | libc::EPOLLET | libc::EPOLLEXCLUSIVE) as u32;
/// Patience, as the system call takes it.
const FOR_EVER: libc::c_int = -1;
const NOT_AT_ALL: libc::c_int = 0;

const ENDS: u32 = (libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// The set that threads without work wait for, one at a time.
pub(super) struct Lookout {
    set: OwnedFd,
    bell: OwnedFd,
    /// Some thread waits, or is about to.
    taken: AtomicBool,
    /// Somebody relied on that.
    left: AtomicBool,
    /// How often it was taken.
    times: AtomicU64,
    links: Mutex<HashMap<u64, Arc<Link>>>,
}

/// A link that has something to read, or has ended.
pub(super) struct Arrival {
    pub link: Arc<Link>,
    pub ended: bool,
}

impl Lookout {
    pub fn new() -> io::Result<Self> {
        let set = new_set()?;
        // SAFETY: no pointers; the result is checked and owned by nobody else.
        let bell = owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // Never read: each write is an edge of its own.
        add(&set, &bell, BELL, (libc::EPOLLIN | libc::EPOLLET) as u32)?;
        Ok(Self {
            set,
            bell,
            taken: AtomicBool::new(false),
            left: AtomicBool::new(false),
            times: AtomicU64::new(0),
            links: Mutex::default(),
        })
    }

    /// From now on, arrivals wake who waits here; call it before the link's [`Watch`] is made.
    pub fn add(&self, link: &Arc<Link>) -> io::Result<()> {
        self.links.lock().insert(link.id.0, link.clone());
        add(&self.set, &link.wire, link.id.0, ARRIVALS)
    }

    /// Undoes [`Lookout::add`].
    pub fn remove(&self, link: LinkId) {
        if let Some(link) = self.links.lock().remove(&link.0) {
            let nothing = std::ptr::null_mut();
            let (set, socket) = (self.set.as_raw_fd(), link.wire.as_raw_fd());
            // SAFETY: deleting takes no pointer; both are open, as they are owned here.
            unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_DEL, socket, nothing) };
        }
    }

    /// Makes the calling thread the one that waits; false if another does.
    pub fn take(&self) -> bool {
        let taken = !self.taken.swap(true, Ordering::SeqCst);
        if taken {
            // Whatever was left before this is seen by the wait itself.
            self.left.store(false, Ordering::SeqCst);
            self.times.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Whether nobody waits, and nobody has taken it since it was taken `seen` times, which is
    /// brought up to date.
    pub fn is_deserted(&self, seen: &AtomicU64) -> bool {
        let times = self.times.load(Ordering::Relaxed);
        seen.swap(times, Ordering::Relaxed) == times && !self.taken.load(Ordering::SeqCst)
    }

    /// Whether an arrival can be left to the thread that waits, or is about to.
    pub fn leave(&self) -> bool {
        self.left.store(true, Ordering::SeqCst);
        self.taken.load(Ordering::SeqCst)
    }

    /// After [`Lookout::take`]: waits until something arrives or the bell rings.
    pub fn wait(&self) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        self.collect(&mut arrivals, FOR_EVER);
        self.taken.store(false, Ordering::SeqCst);
        // What was left to this thread after it had looked.
        if self.left.load(Ordering::SeqCst) {
            self.collect(&mut arrivals, NOT_AT_ALL);
        }
        arrivals
    }

    fn collect(&self, arrivals: &mut Vec<Arrival>, mut patience: libc::c_int) {
        loop {
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
            let set = self.set.as_raw_fd();
            // SAFETY: the kernel writes at most as many events as there is room for.
            let count = unsafe {
                libc::epoll_wait(set, events.as_mut_ptr(), EVENTS as libc::c_int, patience)
            };
            let Ok(count) = usize::try_from(count) else {
                if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return;
            };
            let links = self.links.lock();
            for event in &events[..count.min(EVENTS)] {
                let (token, flags) = (event.u64, event.events);
                if let Some(link) = links.get(&token) {
                    arrivals.push(Arrival {
                        link: link.clone(),
                        ended: flags & ENDS != 0,
                    });
                }
            }
            if count < EVENTS {
                return;
            }
            patience = NOT_AT_ALL;
        }
    }

    /// Ends the wait of whoever waits now or next.
    pub fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: writes eight bytes of our own.
        unsafe { libc::write(self.bell.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

/// Readable when a link has something to read that nobody in the [`Lookout`] was woken for.
pub(super) struct Watch(OwnedFd);

impl Watch {
    pub fn new(link: &Link) -> io::Result<Self> {
        let set = new_set()?;
        add(&set, &link.wire, 0, ARRIVALS)?;
        Ok(Self(set))
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn new_set() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked and owned by nobody else.
    owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system has just made it for the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn add(set: &OwnedFd, what: &impl AsRawFd, token: u64, events: u32) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: token };
    let (set, what) = (set.as_raw_fd(), what.as_raw_fd());
    // SAFETY: the event is only read, during the call.
    match unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, what, &mut event) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
