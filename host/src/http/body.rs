//! A request's body within its limits of size and slowness.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::{
    StatusCode,
    body::{Body, Frame, Incoming, SizeHint},
};
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, timeout},
};
use wasmtime_wasi_http::Error;

/// A request's body as the handler reads it. Ends with an error when the client sends too
/// much, or nothing for too long; the client then gets 413 or 408, whatever the handler
/// answers.
pub struct RequestBody {
    /// `None` only while it is dropped.
    inner: Option<Incoming>,
    left_bytes: u64,
    max_bytes: u64,
    idle: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    fault: BodyFault,
    /// Where the rest of a body is read that the handler did not want; `None` leaves it unread,
    /// and the connection closes after the response.
    drain: Option<Handle>,
}

/// What a body did wrong, seen from where the response is sent.
#[derive(Clone, Default)]
pub(super) struct BodyFault(Arc<AtomicU8>);

const TOO_LARGE: u8 = 1;
const TOO_SLOW: u8 = 2;

impl BodyFault {
    pub(super) fn status(&self) -> Option<StatusCode> {
        match self.0.load(Ordering::Relaxed) {
            TOO_LARGE => Some(StatusCode::PAYLOAD_TOO_LARGE),
            TOO_SLOW => Some(StatusCode::REQUEST_TIMEOUT),
            _ => None,
        }
    }
}

impl RequestBody {
    pub(super) fn new(
        inner: Incoming,
        max_bytes: u64,
        idle: Duration,
        drain: Option<Handle>,
    ) -> (Self, BodyFault) {
        let fault = BodyFault::default();
        let body = Self {
            inner: Some(inner),
            left_bytes: max_bytes,
            max_bytes,
            idle,
            sleep: None,
            fault: fault.clone(),
            drain,
        };
        (body, fault)
    }

    fn fail(&self, fault: u8, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.fault.0.store(fault, Ordering::Relaxed);
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(inner).poll_frame(context) else {
            let idle = self.idle;
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
            ready!(sleep.as_mut().poll(context));
            return self.fail(TOO_SLOW, Error::ConnectionReadTimeout);
        };
        // Trickling bytes must not buy time for ever: each frame starts the wait anew, but
        // the request as a whole has its own limit.
        let deadline = Instant::now() + self.idle;
        if let Some(sleep) = &mut self.sleep {
            sleep.as_mut().reset(deadline);
        }
        match frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.remaining() as u64);
                let Some(left) = self.left_bytes.checked_sub(bytes) else {
                    let max = self.max_bytes;
                    return self.fail(TOO_LARGE, Error::HttpRequestBodySize(Some(max)));
                };
                self.left_bytes = left;
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.as_ref();
        inner.map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// A handler that answers without reading the body, as one that refuses the request, must not
/// cost the client its connection: within the limits, the rest is read and thrown away.
impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else {
            return;
        };
        if let Some(runtime) = &self.drain
            && self.fault.status().is_none()
            && !inner.is_end_stream()
            && inner.size_hint().lower() <= self.left_bytes
        {
            runtime.spawn(drain(inner, self.left_bytes, self.idle));
        }
    }
}

async fn drain(mut body: Incoming, mut left_bytes: u64, idle: Duration) {
    while let Ok(Some(Ok(frame))) = timeout(idle, body.frame()).await {
        let bytes = frame.data_ref().map_or(0, |data| data.remaining() as u64);
        let Some(left) = left_bytes.checked_sub(bytes) else {
            return;
        };
        left_bytes = left;
    }
}
