//! `wasi:cli/stdout`, `stderr` and `stdin` of a component: its group leader's.
//!
//! What is printed goes to the process runtime at once. A read that finds nothing asks the group
//! leader for a line and waits on the actor's fiber: the answer is a signal, and every signal has
//! the fiber polled. All handles of one actor's input share what was read.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasm_node_protocol::{CallError, OutputKind, Ref};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::process::{Message, Process, Runtime};

/// Bytes that a guest may write at once.
const WRITE_BYTES: usize = 64 << 10;

/// A guest's standard output or standard error.
#[derive(Clone)]
pub(super) struct Output {
    process: Arc<Process>,
    runtime: Arc<Runtime>,
    kind: OutputKind,
}

impl Output {
    pub(super) fn new(process: Arc<Process>, runtime: Arc<Runtime>, kind: OutputKind) -> Self {
        Self {
            process,
            runtime,
            kind,
        }
    }

    fn print(&self, bytes: &[u8]) {
        self.runtime.print(&self.process, self.kind, bytes);
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        use std::io::IsTerminal;
        match self.kind {
            OutputKind::Stderr => IsTerminal::is_terminal(&io::stderr()),
            OutputKind::Stdout => IsTerminal::is_terminal(&io::stdout()),
        }
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.print(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.print(&bytes);
        Ok(())
    }
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

/// A guest's standard input.
#[derive(Clone)]
pub(super) struct Input {
    process: Arc<Process>,
    runtime: Arc<Runtime>,
    reading: Arc<Mutex<Reading>>,
}

#[derive(Default)]
struct Reading {
    /// What is left of the last line.
    left: Bytes,
    /// The line that was asked for.
    asked: Option<Ref>,
    failed: Option<CallError>,
    ended: bool,
}

impl Input {
    pub(super) fn new(process: Arc<Process>, runtime: Arc<Runtime>) -> Self {
        Self {
            process,
            runtime,
            reading: Arc::default(),
        }
    }

    /// Whether a read would not wait. If it would, a line is on its way from now on.
    fn is_ready(&self) -> bool {
        let mut reading = self.reading.lock();
        if !reading.left.is_empty() || reading.ended || reading.failed.is_some() {
            return true;
        }
        let ask = || self.runtime.read_line(&self.process, None);
        let asked = *reading.asked.get_or_insert_with(ask);
        let Some(Message::Response { result, .. }) =
            self.runtime.next_answering(&self.process, asked)
        else {
            return false;
        };
        reading.asked = None;
        match result {
            Ok(line) if line.is_empty() => reading.ended = true,
            Ok(line) => reading.left = line,
            Err(error) => reading.failed = Some(error),
        }
        true
    }

    /// Up to so many bytes; none at the end of the input.
    fn take(&self, size: usize) -> Option<Result<Bytes, CallError>> {
        if !self.is_ready() {
            return None;
        }
        let mut reading = self.reading.lock();
        if let Some(error) = reading.failed.take() {
            return Some(Err(error));
        }
        let size = size.min(reading.left.remaining());
        Some(Ok(reading.left.split_to(size)))
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.take(into.remaining()) {
            Some(Ok(bytes)) => {
                into.put_slice(&bytes);
                Poll::Ready(Ok(()))
            }
            Some(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
            None => Poll::Pending,
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        poll_fn(|_| match self.is_ready() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        match self.take(size) {
            Some(Ok(bytes)) if bytes.is_empty() => Err(StreamError::Closed),
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(error)) => Err(StreamError::LastOperationFailed(error.into())),
            None => Ok(Bytes::new()),
        }
    }
}
