//! What a node's own group leader shows: whole lines on standard output and standard error, and
//! the events that actors log.
//!
//! One thread owns the pipes and the unfinished lines, so that a reader who stops reading
//! never holds up an actor. What finds the queue full is dropped, and counted.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use wasm_node_protocol::{OutputKind, Pid};

use super::log::Event;

/// Pieces of text that may wait for the pipes; what comes while it is full is dropped.
const MAX_QUEUED_PIECES: usize = 16_384;

/// Bytes that may wait for the pipes.
const MAX_QUEUED_BYTES: usize = 32 << 20;

/// Bytes that an actor may print without ending the line; then the line is ended for it.
const MAX_LINE_BYTES: usize = 64 << 10;

/// Bytes of unfinished lines of all actors; beyond that, lines are ended.
const MAX_UNFINISHED_BYTES: usize = 16 << 20;

/// How long an unfinished line is held back.
const UNFINISHED_LINE_WAIT: Duration = Duration::from_millis(500);

/// How often a flush looks whether there is room for it.
const FLUSH_POLL: Duration = Duration::from_millis(5);

enum Piece {
    Text {
        actor: Pid,
        kind: OutputKind,
        text: Vec<u8>,
    },
    /// The actor waits for input: what it printed is shown, also without the line's end.
    Prompt(Pid),
    Event(Event),
    /// Answered when all before it was shown.
    Flush(SyncSender<()>),
}

/// Where actors print.
#[derive(Clone)]
pub(crate) struct Output {
    pieces: SyncSender<Piece>,
    queued_bytes: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

impl Output {
    /// Starts the thread. It ends with the last handle.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (pieces, receiver) = sync_channel(MAX_QUEUED_PIECES);
        let output = Self {
            pieces,
            queued_bytes: Arc::default(),
            dropped: Arc::default(),
        };
        let (queued, lost) = (output.queued_bytes.clone(), output.dropped.clone());
        std::thread::Builder::new()
            .name("output".into())
            .spawn(move || write(&receiver, &queued, &lost))?;
        Ok(output)
    }

    /// Shows text, soon.
    pub(crate) fn print(&self, actor: Pid, kind: OutputKind, text: &[u8]) {
        let bytes = text.len();
        let text = text.to_vec();
        self.push(Piece::Text { actor, kind, text }, bytes);
    }

    /// Shows what an actor printed so far.
    pub(crate) fn prompt(&self, actor: Pid) {
        self.push(Piece::Prompt(actor), 0);
    }

    /// Logs an event, behind what was printed before it.
    pub(super) fn log(&self, event: Event) {
        let bytes = event.bytes();
        self.push(Piece::Event(event), bytes);
    }

    /// Waits until all was shown, if somebody reads it, but not longer than that. Blocks.
    pub(crate) fn flush(&self, timeout: Duration) {
        let until = Instant::now() + timeout;
        let left = || until.saturating_duration_since(Instant::now());
        let (done, shown) = sync_channel(1);
        let mut flush = Piece::Flush(done);
        // A full queue is no reason to drop what is in it.
        while let Err(TrySendError::Full(back)) = self.pieces.try_send(flush) {
            if left().is_zero() {
                return;
            }
            std::thread::sleep(FLUSH_POLL);
            flush = back;
        }
        let _ = shown.recv_timeout(left());
    }

    /// Whether so much waits that whoever brings more should pause.
    pub(crate) fn is_busy(&self) -> bool {
        self.queued_bytes.load(Ordering::Relaxed) > MAX_QUEUED_BYTES / 8
    }

    fn push(&self, piece: Piece, bytes: usize) {
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before > MAX_QUEUED_BYTES || self.pieces.try_send(piece).is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Default)]
struct Line {
    text: Vec<u8>,
    since: Option<Instant>,
}

/// The unfinished lines.
#[derive(Default)]
struct Lines {
    lines: HashMap<(Pid, OutputKind), Line>,
    bytes: usize,
    /// When the oldest may have waited long enough.
    due: Option<Instant>,
}

impl Lines {
    fn add(&mut self, actor: Pid, kind: OutputKind, text: &[u8]) {
        // Most print whole lines, and have nothing waiting.
        if text.ends_with(b"\n") && !self.lines.contains_key(&(actor, kind)) {
            return emit(text, kind);
        }
        let line = self.lines.entry((actor, kind)).or_default();
        self.bytes -= line.text.len();
        line.text.extend_from_slice(text);
        let whole = line.text.iter().rposition(|&byte| byte == b'\n');
        let room = MAX_UNFINISHED_BYTES.saturating_sub(self.bytes);
        let too_long = line.text.len() > MAX_LINE_BYTES.min(room);
        let end = match whole {
            Some(at) => Some(at + 1),
            None => too_long.then_some(line.text.len()),
        };
        if let Some(end) = end {
            emit(&line.text[..end], kind);
            line.text.drain(..end);
            line.since = None;
        }
        if line.text.is_empty() {
            self.lines.remove(&(actor, kind));
            return;
        }
        let now = Instant::now();
        line.since.get_or_insert(now);
        self.bytes += line.text.len();
        self.due.get_or_insert(now + UNFINISHED_LINE_WAIT);
    }

    /// Shows what an actor has begun, and leaves the line open.
    fn prompt(&mut self, actor: Pid) {
        for kind in [OutputKind::Stdout, OutputKind::Stderr] {
            if let Some(line) = self.lines.remove(&(actor, kind)) {
                self.bytes -= line.text.len();
                put(&line.text, b"", kind);
            }
        }
    }

    /// Ends the lines that have waited long enough, or all.
    fn end(&mut self, all: bool) {
        let now = Instant::now();
        if !all && self.due.is_none_or(|due| now < due) {
            return;
        }
        let old = |since: Instant| now.duration_since(since) >= UNFINISHED_LINE_WAIT;
        let mut bytes = 0;
        self.lines.retain(|(_, kind), line| {
            let ends = all || line.since.is_some_and(old);
            match ends {
                true => emit(&line.text, *kind),
                false => bytes += line.text.len(),
            }
            !ends
        });
        self.bytes = bytes;
        let oldest = self.lines.values().filter_map(|line| line.since).min();
        self.due = oldest.map(|since| since + UNFINISHED_LINE_WAIT);
    }

    fn wait(&self) -> Duration {
        match self.due {
            Some(due) => due.saturating_duration_since(Instant::now()),
            None => Duration::from_secs(3600),
        }
    }
}

fn write(pieces: &Receiver<Piece>, queued_bytes: &AtomicUsize, dropped: &AtomicU64) {
    let mut lines = Lines::default();
    loop {
        match pieces.recv_timeout(lines.wait()) {
            Ok(Piece::Text { actor, kind, text }) => {
                queued_bytes.fetch_sub(text.len(), Ordering::Relaxed);
                lines.add(actor, kind, &text);
            }
            Ok(Piece::Prompt(actor)) => lines.prompt(actor),
            Ok(Piece::Event(event)) => {
                queued_bytes.fetch_sub(event.bytes(), Ordering::Relaxed);
                event.emit();
            }
            Ok(Piece::Flush(done)) => {
                lines.end(true);
                let _ = done.try_send(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return lines.end(true),
        }
        lines.end(false);
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(
                lost,
                "dropped text that actors printed: nobody reads it fast enough"
            );
        }
    }
}

/// Writes text as whole lines.
fn emit(text: &[u8], kind: OutputKind) {
    let end: &[u8] = if text.ends_with(b"\n") { b"" } else { b"\n" };
    put(text, end, kind);
}

/// A closed pipe is no reason to stop a node.
fn put(text: &[u8], end: &[u8], kind: OutputKind) {
    let _ = match kind {
        OutputKind::Stderr => {
            let mut pipe = std::io::stderr().lock();
            pipe.write_all(text).and_then(|()| pipe.write_all(end))
        }
        OutputKind::Stdout => {
            let mut pipe = std::io::stdout().lock();
            pipe.write_all(text)
                .and_then(|()| pipe.write_all(end))
                .and_then(|()| pipe.flush())
        }
    };
}
