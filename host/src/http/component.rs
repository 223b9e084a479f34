//! Calls of a `wasi:http/incoming-handler` component, one at a time in one instance.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    Request, Response,
    body::{Body, Frame, SizeHint},
};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::{
    Error, WasiBody, WasiHttpView,
    p2::bindings::{
        Proxy, ProxyPre,
        http::types::{ErrorCode, Scheme},
    },
};

use super::{HandlerError, RequestBody};

/// A component's instance, which answers one request after another.
pub(super) struct Instance<T: 'static> {
    store: Store<T>,
    proxy: Proxy,
}

impl<T: WasiHttpView + Send + 'static> Instance<T> {
    pub(super) async fn start(mut store: Store<T>, pre: &ProxyPre<T>) -> wasmtime::Result<Self> {
        let proxy = pre.instantiate_async(&mut store).await?;
        Ok(Self { store, proxy })
    }

    /// Runs the guest for one request, to its end. After an error the instance is of no use.
    pub(super) async fn serve(&mut self, call: Call) -> wasmtime::Result<()> {
        let Call {
            request,
            sender,
            state,
        } = call;
        // On a trap this goes before the store does, and with it the body's own end: so the
        // body learns first that it is cut off.
        let (end, ended) = oneshot::channel();
        let mut http = self.store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let out = http.new_response_outparam_from_callback(move |reply| {
            if state.answer() {
                // A receiver that is gone has been told by its body's end.
                let _ = sender.send(reply.map(|response| bounded(response, ended)));
            }
        })?;
        self.proxy
            .wasi_http_incoming_handler()
            .call_handle(&mut self.store, request, out)
            .await?;
        let _ = end.send(());
        Ok(())
    }
}

/// A request on its way to an instance.
pub(super) struct Call {
    request: Request<RequestBody>,
    sender: oneshot::Sender<Result<Response<WasiBody>, ErrorCode>>,
    state: CallState,
}

impl Call {
    pub(super) fn new(request: Request<RequestBody>) -> (Self, Reply) {
        let (sender, receiver) = oneshot::channel();
        let state = CallState::default();
        let call = Self {
            request,
            sender,
            state: state.clone(),
        };
        (call, Reply { receiver, state })
    }

    pub(super) fn state(&self) -> CallState {
        self.state.clone()
    }
}

/// How a call ends, on which its two ends must agree: answered, or cancelled before that.
#[derive(Clone, Default)]
pub(super) struct CallState(Arc<AtomicU8>);

const RUNNING: u8 = 0;
const ANSWERED: u8 = 1;
const CANCELLED: u8 = 2;

impl CallState {
    fn leave_running(&self, to: u8) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let left = self.0.compare_exchange(RUNNING, to, success, failure);
        left.is_ok()
    }

    fn answer(&self) -> bool {
        self.leave_running(ANSWERED)
    }

    /// Notes that nobody waits for the response. True if there is none yet, so that whatever
    /// works on this call, and on no other, may be ended.
    pub(super) fn cancel(&self) -> bool {
        self.leave_running(CANCELLED)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) == CANCELLED
    }
}

/// The response that a guest will give. Resolves when the guest gives its head, or ends.
pub(super) struct Reply {
    receiver: oneshot::Receiver<Result<Response<WasiBody>, ErrorCode>>,
    state: CallState,
}

impl Reply {
    pub(super) fn state(&self) -> CallState {
        self.state.clone()
    }
}

impl Future for Reply {
    type Output = Result<Response<WasiBody>, HandlerError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let received = Pin::new(&mut self.receiver).poll(context);
        received.map(|reply| match reply {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(code)) => Err(HandlerError::Guest(format!("it answered {code:?}"))),
            Err(_) => Err(HandlerError::Guest("it ended without a response".into())),
        })
    }
}

/// Ties the body's end to the guest's.
fn bounded(response: Response<WasiBody>, ended: oneshot::Receiver<()>) -> Response<WasiBody> {
    response.map(|inner| {
        let guest = Guest::Running(ended);
        GuestBody { inner, guest }.boxed_unsync()
    })
}

/// A body as the guest writes it. By itself it would end as if complete when the guest traps
/// half way, and not at all when the guest returns with its stream left open.
struct GuestBody {
    inner: WasiBody,
    guest: Guest,
}

enum Guest {
    Running(oneshot::Receiver<()>),
    Returned,
    Trapped,
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            let frame = Pin::new(&mut self.inner).poll_frame(context);
            if let Poll::Ready(Some(frame)) = frame {
                return Poll::Ready(Some(frame));
            }
            // Looked at after the frame: a guest that traps says so before its body ends.
            if let Guest::Running(ended) = &mut self.guest
                && let Poll::Ready(ended) = Pin::new(ended).poll(context)
            {
                self.guest = ended.map_or(Guest::Trapped, |()| Guest::Returned);
                if frame.is_pending() {
                    // It may have written more before it ended.
                    continue;
                }
            }
            return match self.guest {
                Guest::Running(_) => frame,
                Guest::Returned => Poll::Ready(None),
                Guest::Trapped => Poll::Ready(Some(Err(Error::HttpResponseIncomplete))),
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
