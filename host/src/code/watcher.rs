//! Folders of modules: a file `NAME.wasm` that appears, changes or goes becomes an event.
//!
//! One thread owns all state. It believes no single notice of the file system: a notice only
//! says which name to look at, and a file is read once it has kept its size and time for
//! [`SETTLE`], or was last written to so long ago, and is framed like a whole component. So
//! partial writes, overwrites in place, atomic renames and a delete followed by a create all
//! come out as one event. Lost notices lead to a scan of everything; a folder that cannot be
//! watched is polled.
//!
//! Deliberately does not compile, and does not know what a version is used for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use wasm_node_protocol::Digest;

use super::framing::{Framing, framing};
use super::store::{StoreError, read_bounded};

/// How long a file must stay as it is before it is read.
pub const SETTLE: Duration = Duration::from_millis(100);
/// How long an incomplete file may stay as it is before it is called broken.
pub const INCOMPLETE_GRACE: Duration = Duration::from_secs(2);
/// How often folders are scanned while they cannot be watched.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How many events may wait for their reader; the watcher waits for it then.
pub const MAX_WAITING_EVENTS: usize = 16;
/// How many notices of the file system may wait; if more come, all folders are scanned instead.
const MAX_WAITING_NOTICES: usize = 1024;
/// The longest module name, in bytes; a file of a longer one is ignored.
const MAX_MODULE_NAME_BYTES: usize = 128;

/// What happened to a module's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleEvent {
    /// It is there, with bytes that it did not have before.
    Changed {
        /// The module.
        name: String,
        /// The digest of its bytes.
        digest: Digest,
        /// Its bytes: framed like a component, not checked any further.
        bytes: Bytes,
    },
    /// It is gone.
    Removed {
        /// The module.
        name: String,
    },
    /// It is there but of no use, and stays so until it changes.
    Broken {
        /// The module.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why folders could not be watched at all. The user's fault.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Not a folder that can be read.
    #[error(
        "could not read the module folder {path}: {source}; make it, or name another with --modules"
    )]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The machine's fault.
    #[error("could not start the thread that watches module folders: {0}")]
    Thread(std::io::Error),
}

/// Watches folders until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    stop: Arc<AtomicBool>,
    wake: SyncSender<Notice>,
    thread: Option<JoinHandle<()>>,
}

enum Notice {
    /// Something about this name.
    Name(String),
    /// Anything may have changed.
    Rescan,
    /// Notices will not come any more for some folder.
    Unwatched,
}

impl Watcher {
    /// Watches these folders, which must exist. Returns what is in them now, and the channel of
    /// what happens from then on; nothing falls between. If two folders have a file of the same
    /// name, the earlier folder's counts. Blocks until new files have settled.
    pub fn start(
        folders: Vec<PathBuf>,
    ) -> Result<(Self, Vec<ModuleEvent>, mpsc::Receiver<ModuleEvent>), WatchError> {
        for folder in &folders {
            fs::read_dir(folder).map_err(|source| WatchError::Folder {
                path: folder.clone(),
                source,
            })?;
        }
        let (wake, notices) = sync_channel(MAX_WAITING_NOTICES);
        let missed = Arc::new(AtomicBool::new(false));
        let watch = watch_folders(&folders, wake.clone(), missed.clone());
        let (events, receiver) = mpsc::channel(MAX_WAITING_EVENTS);
        let stop = Arc::new(AtomicBool::new(false));
        let mut worker = Worker {
            folders,
            polling: watch.is_none(),
            names: Names::default(),
            missed,
            stop: stop.clone(),
        };
        let initial = worker.initial_scan();
        let thread = std::thread::Builder::new()
            .name("module-watcher".into())
            .spawn(move || {
                let _watch = watch;
                worker.run(&notices, &events);
            })
            .map_err(WatchError::Thread)?;
        Ok((
            Self {
                stop,
                wake,
                thread: Some(thread),
            },
            initial,
            receiver,
        ))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A full channel wakes it just as well. It is not joined: it may be waiting for a
        // reader of its events, which goes away after this.
        let _ = self.wake.try_send(Notice::Rescan);
        drop(self.thread.take());
    }
}

fn watch_folders(
    folders: &[PathBuf],
    notices: SyncSender<Notice>,
    missed: Arc<AtomicBool>,
) -> Option<notify::RecommendedWatcher> {
    let roots: BTreeSet<PathBuf> = folders.iter().cloned().collect();
    let handler = move |event: notify::Result<notify::Event>| {
        let send = |notice| {
            if notices.try_send(notice).is_err() {
                missed.store(true, Ordering::Relaxed);
            }
        };
        match event {
            Err(_) => send(Notice::Rescan),
            Ok(event) if event.need_rescan() => send(Notice::Rescan),
            Ok(event) => {
                let structural = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(_));
                for path in &event.paths {
                    if structural && roots.contains(path) && !path.is_dir() {
                        send(Notice::Unwatched);
                    }
                    // Reading a file notifies too; answering that would never end.
                    if !event.kind.is_access()
                        && let Some(name) = module_name(path)
                    {
                        send(Notice::Name(name));
                    }
                }
            }
        }
    };
    let watch = notify::recommended_watcher(handler).and_then(|mut watch| {
        for folder in folders {
            watch.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watch)
    });
    watch
        .inspect_err(|error| {
            let every = POLL_INTERVAL.as_secs();
            tracing::warn!("cannot watch module folders ({error}): scanning every {every} s");
        })
        .ok()
}

/// The module whose file this is: `NAME.wasm`, not hidden.
fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_suffix(".wasm")?;
    let plain = !name.is_empty() && !name.starts_with('.') && name.len() <= MAX_MODULE_NAME_BYTES;
    plain.then(|| name.to_string())
}

/// The thread's state.
struct Worker {
    folders: Vec<PathBuf>,
    /// Whether notices cannot be relied on.
    polling: bool,
    names: Names,
    missed: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn initial_scan(&mut self) -> Vec<ModuleEvent> {
        self.scan();
        let mut events = Vec::new();
        let deadline = Instant::now() + INCOMPLETE_GRACE + SETTLE;
        loop {
            events.extend(self.check_due());
            match self.names.next_deadline() {
                Some(next) if next < deadline => {
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                // What is still being written then is an event later.
                _ => return events,
            }
        }
    }

    fn run(&mut self, notices: &Receiver<Notice>, events: &mpsc::Sender<ModuleEvent>) {
        let mut next_poll = Instant::now() + POLL_INTERVAL;
        while !self.stop.load(Ordering::Relaxed) && !events.is_closed() {
            let mut deadline = self.names.next_deadline();
            if self.polling {
                deadline = Some(deadline.map_or(next_poll, |deadline| deadline.min(next_poll)));
            }
            // An hour stands for ever: waking up then does nothing.
            let wait = deadline.map_or(Duration::from_secs(3600), |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            match notices.recv_timeout(wait) {
                Ok(Notice::Name(name)) => self.names.touch(&name, Instant::now()),
                Ok(Notice::Rescan) => self.scan(),
                Ok(Notice::Unwatched) => {
                    tracing::warn!("a module folder was removed: scanning for it from now on");
                    self.polling = true;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.missed.swap(false, Ordering::Relaxed) {
                self.scan();
            }
            if self.polling && Instant::now() >= next_poll {
                self.scan();
                next_poll = Instant::now() + POLL_INTERVAL;
            }
            for event in self.check_due() {
                if events.blocking_send(event).is_err() {
                    return;
                }
            }
        }
    }

    /// Marks every name that there is or was.
    fn scan(&mut self) {
        let mut found: BTreeSet<String> = self.names.known().map(str::to_string).collect();
        for folder in &self.folders {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            found.extend(entries.filter_map(|entry| module_name(&entry.path())));
        }
        let now = Instant::now();
        for name in found {
            self.names.touch(&name, now);
        }
    }

    fn check_due(&mut self) -> Vec<ModuleEvent> {
        let due = self.names.due(Instant::now());
        due.into_iter()
            .filter_map(|name| self.check(&name))
            .collect()
    }

    fn check(&mut self, name: &str) -> Option<ModuleEvent> {
        let file = self.locate(name);
        let stamp = file.as_ref().map(|(_, stamp)| *stamp);
        let step = self
            .names
            .observe(name, stamp, Instant::now(), SystemTime::now());
        if step == Step::Wait {
            return None;
        }
        let Some((path, stamp)) = file else {
            return self.names.report(name, None, Report::Gone);
        };
        let read = read_bounded(&path);
        // Written to while it was read: what was read is neither the old file nor the new one.
        if stamp_of(&path) != Some(stamp) {
            self.names.touch(name, Instant::now());
            return None;
        }
        let report = match read {
            Ok(bytes) => match framing(&bytes) {
                Framing::Component => Report::Code(Bytes::from(bytes)),
                Framing::Incomplete(reason) => Report::Incomplete(path, reason),
                Framing::Other(reason) => Report::Broken(path, reason.into()),
            },
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                self.names.touch(name, Instant::now());
                return None;
            }
            Err(error) => Report::Broken(path, error.to_string()),
        };
        self.names
            .report(name, Some((stamp, Instant::now())), report)
    }

    fn locate(&self, name: &str) -> Option<(PathBuf, Stamp)> {
        self.folders.iter().find_map(|folder| {
            let path = folder.join(format!("{name}.wasm"));
            stamp_of(&path).map(|stamp| (path, stamp))
        })
    }
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    inode: (u64, u64),
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    meta.is_file().then(|| Stamp {
        bytes: meta.len(),
        modified: meta.modified().ok(),
        inode: (meta.dev(), meta.ino()),
    })
}

/// What a look at a settled file gave.
enum Report {
    Gone,
    Code(Bytes),
    Incomplete(PathBuf, &'static str),
    Broken(PathBuf, String),
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Look again at the next deadline.
    Wait,
    /// It has settled: look now.
    Look,
}

/// What is known of each name, and which are to be looked at when. Pure.
#[derive(Default)]
struct Names {
    pending: BTreeMap<String, Pending>,
    last: BTreeMap<String, Last>,
}

struct Pending {
    look_at: Instant,
    /// What the file was, and since when; `None` before the first look.
    seen: Option<(Option<Stamp>, Instant)>,
}

/// What was last told about a name.
#[derive(PartialEq, Eq)]
enum Last {
    Code(Digest),
    Broken(Stamp),
    /// Broken, with code told before: going away is still worth an event.
    BrokenAfter(Digest, Stamp),
}

impl Names {
    fn known(&self) -> impl Iterator<Item = &str> {
        self.last.keys().map(String::as_str)
    }

    /// Something may have happened to it.
    fn touch(&mut self, name: &str, now: Instant) {
        // A name that waits already keeps its deadline, or steady writes would put it off
        // without bound; whether it has settled is for the stamps to say.
        self.pending.entry(name.into()).or_insert(Pending {
            look_at: now,
            seen: None,
        });
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.look_at).min()
    }

    fn due(&self, now: Instant) -> Vec<String> {
        let due = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.look_at <= now);
        due.map(|(name, _)| name.clone()).collect()
    }

    /// What the file is now, or that there is none; with the time by the clock of files, too.
    fn observe(
        &mut self,
        name: &str,
        stamp: Option<Stamp>,
        now: Instant,
        clock: SystemTime,
    ) -> Step {
        let Some(pending) = self.pending.get_mut(name) else {
            return Step::Wait;
        };
        // One that is there since long, or was moved here whole. A time in the future says nothing.
        let written = stamp.and_then(|stamp| stamp.modified);
        let unwritten_for = written.and_then(|written| clock.duration_since(written).ok());
        if unwritten_for.is_some_and(|age| age >= SETTLE) {
            pending.seen.get_or_insert((stamp, now));
            return Step::Look;
        }
        match pending.seen {
            Some((seen, since)) if seen == stamp => {
                if now.saturating_duration_since(since) >= SETTLE {
                    return Step::Look;
                }
                pending.look_at = since + SETTLE;
            }
            _ => {
                pending.seen = Some((stamp, now));
                pending.look_at = now + SETTLE;
            }
        }
        Step::Wait
    }

    /// What the look at a settled file gave; says what there is to tell.
    fn report(
        &mut self,
        name: &str,
        at: Option<(Stamp, Instant)>,
        report: Report,
    ) -> Option<ModuleEvent> {
        let (last, event) = match (report, at) {
            (Report::Code(bytes), _) => {
                let digest = Digest::of(&bytes);
                let known = self.last.get(name) == Some(&Last::Code(digest));
                let event = ModuleEvent::Changed {
                    name: name.into(),
                    digest,
                    bytes,
                };
                (Some(Last::Code(digest)), (!known).then_some(event))
            }
            (Report::Incomplete(..), Some((_, now))) if self.keep_waiting(name, now) => {
                return None;
            }
            (Report::Incomplete(path, reason), Some((stamp, _))) => {
                self.broken(name, stamp, path, reason.into())
            }
            (Report::Broken(path, reason), Some((stamp, _))) => {
                self.broken(name, stamp, path, reason)
            }
            (Report::Gone | Report::Incomplete(..) | Report::Broken(..), _) => {
                let told = self.last.get(name);
                let had_code = matches!(told, Some(Last::Code(_) | Last::BrokenAfter(..)));
                (
                    None,
                    had_code.then(|| ModuleEvent::Removed { name: name.into() }),
                )
            }
        };
        self.pending.remove(name);
        match last {
            Some(last) => self.last.insert(name.into(), last),
            None => self.last.remove(name),
        };
        event
    }

    fn broken(
        &self,
        name: &str,
        stamp: Stamp,
        path: PathBuf,
        reason: String,
    ) -> (Option<Last>, Option<ModuleEvent>) {
        let (last, known) = match self.last.get(name) {
            Some(&Last::Code(digest)) => (Last::BrokenAfter(digest, stamp), false),
            Some(&Last::BrokenAfter(digest, told)) => {
                (Last::BrokenAfter(digest, stamp), told == stamp)
            }
            Some(&Last::Broken(told)) => (Last::Broken(stamp), told == stamp),
            None => (Last::Broken(stamp), false),
        };
        let event = ModuleEvent::Broken {
            name: name.into(),
            path,
            reason,
        };
        (Some(last), (!known).then_some(event))
    }

    /// Whether an incomplete file may still be completed; if so, when to look again.
    fn keep_waiting(&mut self, name: &str, now: Instant) -> bool {
        let Some(pending) = self.pending.get_mut(name) else {
            return false;
        };
        let since = pending.seen.map_or(now, |(_, since)| since);
        pending.look_at = now + SETTLE;
        now.saturating_duration_since(since) < INCOMPLETE_GRACE
    }
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
