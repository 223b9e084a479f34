//! What actors print: whole lines on this node's standard output and standard error.
//!
//! One thread owns the pipes and the unfinished lines, so that a reader who stops reading
//! never holds up an actor. Text that finds the queue full is dropped, and counted.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use wasm_node_protocol::Pid;

/// Pieces of text that may wait for the pipes; what comes while it is full is dropped.
const MAX_QUEUED_PIECES: usize = 16_384;

/// Bytes that an actor may print without ending the line; then the line is ended for it.
const MAX_LINE_BYTES: usize = 64 << 10;

/// How long an unfinished line is held back.
const UNFINISHED_LINE_WAIT: Duration = Duration::from_millis(500);

struct Piece {
    actor: Pid,
    error: bool,
    text: Vec<u8>,
}

/// Where actors print.
#[derive(Clone)]
pub(super) struct Output {
    pieces: SyncSender<Piece>,
    dropped: Arc<AtomicU64>,
}

impl Output {
    pub(super) fn start() -> std::io::Result<Self> {
        let (pieces, receiver) = sync_channel(MAX_QUEUED_PIECES);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = dropped.clone();
        std::thread::Builder::new()
            .name("output".into())
            .spawn(move || write(&receiver, &lost))?;
        Ok(Self { pieces, dropped })
    }

    pub(super) fn print(&self, actor: Pid, text: &[u8], error: bool) {
        if self
            .pieces
            .try_send(Piece {
                actor,
                error,
                text: text.to_vec(),
            })
            .is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Default)]
struct Line {
    text: Vec<u8>,
    since: Option<Instant>,
}

fn write(pieces: &Receiver<Piece>, dropped: &AtomicU64) {
    let mut lines: HashMap<(Pid, bool), Line> = HashMap::new();
    loop {
        let wait = if lines.is_empty() {
            Duration::from_secs(3600)
        } else {
            UNFINISHED_LINE_WAIT
        };
        match pieces.recv_timeout(wait) {
            Ok(Piece { actor, error, text }) => {
                let line = lines.entry((actor, error)).or_default();
                line.text.extend_from_slice(&text);
                let whole = line
                    .text
                    .iter()
                    .rposition(|&byte| byte == b'\n')
                    .map(|at| at + 1);
                let whole = whole.or((line.text.len() > MAX_LINE_BYTES).then_some(line.text.len()));
                if let Some(end) = whole {
                    emit(&line.text[..end], error);
                    line.text.drain(..end);
                    line.since = None;
                }
                if line.text.is_empty() {
                    lines.remove(&(actor, error));
                } else {
                    line.since.get_or_insert_with(Instant::now);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        lines.retain(|(_, error), line| {
            let old = line
                .since
                .is_some_and(|since| since.elapsed() >= UNFINISHED_LINE_WAIT);
            if old {
                emit(&line.text, *error);
            }
            !old
        });
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(
                lost,
                "dropped text that actors printed: nobody reads it fast enough"
            );
        }
    }
}

/// Writes text as whole lines. A closed pipe is no reason to stop a node.
fn emit(text: &[u8], error: bool) {
    let end: &[u8] = if text.ends_with(b"\n") { b"" } else { b"\n" };
    let _ = match error {
        true => {
            let mut pipe = std::io::stderr().lock();
            pipe.write_all(text).and_then(|()| pipe.write_all(end))
        }
        false => {
            let mut pipe = std::io::stdout().lock();
            pipe.write_all(text)
                .and_then(|()| pipe.write_all(end))
                .and_then(|()| pipe.flush())
        }
    };
}
