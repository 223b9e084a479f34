//! The call of a `wasi:http/incoming-handler` component with one request.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::{Request, Response};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::{
    WasiBody, WasiHttpView,
    p2::bindings::{
        ProxyPre,
        http::types::{ErrorCode, Scheme},
    },
};

use super::{HandlerError, RequestBody};

/// Prepares a call of the component with one request, in a store of its own.
///
/// Gives the guest's whole run, to be polled where guests run, and the response that it will
/// give on the way. The run goes on after the response until the guest has written the body
/// and returns; it fails with the guest's trap. Dropping it ends the guest; dropping only the
/// [`Reply`], or the response's body, makes the guest's next write fail.
pub fn call_component<T>(
    mut store: Store<T>,
    pre: ProxyPre<T>,
    request: Request<RequestBody>,
) -> Result<
    (
        impl Future<Output = wasmtime::Result<()>> + Send + use<T>,
        Reply,
    ),
    HandlerError,
>
where
    T: WasiHttpView + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let mut http = store.data_mut().http();
    let request = http
        .new_incoming_request(Scheme::Http, request)
        .map_err(|error| HandlerError::Request(error.to_string()))?;
    let out = http
        .new_response_outparam(sender)
        .map_err(|error| HandlerError::Unavailable(error.to_string()))?;
    let run = async move {
        let proxy = pre.instantiate_async(&mut store).await?;
        proxy
            .wasi_http_incoming_handler()
            .call_handle(&mut store, request, out)
            .await
    };
    Ok((run, Reply(receiver)))
}

/// The response that a guest will give. Resolves when the guest gives its head, or ends.
pub struct Reply(oneshot::Receiver<Result<Response<WasiBody>, ErrorCode>>);

impl Future for Reply {
    type Output = Result<Response<WasiBody>, HandlerError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|reply| match reply {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(code)) => Err(HandlerError::Guest(format!("it answered {code:?}"))),
                Err(_) => Err(HandlerError::Guest("it ended without a response".into())),
            })
    }
}
