//! `wasm-node:actor/blocking`: waits on the actor's fiber.
//!
//! A wait is a future that looks into the mailbox whenever the process is run; every signal
//! and every deadline runs it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::process::{Message as HostMessage, Process, Runtime};
use crate::wasm::bindings::wasm_node::actor::blocking::Host;
use crate::wasm::bindings::wasm_node::actor::types::{CallError, Destination, Message, Ref};
use crate::wasm::data::ActorData;
use crate::wasm::values::destination;

/// What a wait holds on to: not the store's data, which is not `Sync`.
struct Waiting {
    runtime: Arc<Runtime>,
    process: Arc<Process>,
}

impl Waiting {
    fn of(data: &ActorData) -> Self {
        Self {
            runtime: data.runtime.clone(),
            process: data.process.clone(),
        }
    }

    /// Waits until `look` finds something, or until then.
    async fn until<T>(
        &self,
        deadline: Option<Instant>,
        look: impl Fn(&Runtime, &Process) -> Option<T>,
    ) -> Option<T> {
        poll_fn(|_| {
            if let Some(found) = look(&self.runtime, &self.process) {
                return Poll::Ready(Some(found));
            }
            match deadline {
                Some(at) if Instant::now() >= at => Poll::Ready(None),
                Some(at) => {
                    self.runtime.wake_at(&self.process, at);
                    Poll::Pending
                }
                None => Poll::Pending,
            }
        })
        .await
    }
}

fn deadline(timeout_ms: Option<u32>) -> Option<Instant> {
    timeout_ms.map(|ms| Instant::now() + Duration::from_millis(u64::from(ms)))
}

impl Host for ActorData {
    async fn call(
        &mut self,
        to: Destination,
        body: Vec<u8>,
        timeout_ms: Option<u32>,
    ) -> wasmtime::Result<Result<Vec<u8>, CallError>> {
        let at = deadline(timeout_ms);
        let tag = self
            .runtime
            .request(&self.process, &destination(to), Bytes::from(body), None);
        let answer = Waiting::of(self)
            .until(at, |runtime, process| runtime.next_answering(process, tag))
            .await;
        Ok(match answer {
            Some(HostMessage::Response { result, .. }) => result.map(Vec::from).map_err(Into::into),
            _ => {
                self.runtime.forget(&self.process, tag);
                Err(CallError::Timeout)
            }
        })
    }

    async fn receive(&mut self, timeout_ms: Option<u32>) -> wasmtime::Result<Option<Message>> {
        let at = deadline(timeout_ms);
        let next = |runtime: &Runtime, process: &Process| runtime.next(process).0;
        let message = Waiting::of(self).until(at, next).await;
        Ok(message.map(Into::into))
    }

    async fn receive_ref(
        &mut self,
        tag: Ref,
        timeout_ms: Option<u32>,
    ) -> wasmtime::Result<Option<Message>> {
        let (at, tag) = (deadline(timeout_ms), tag.into());
        let message = Waiting::of(self)
            .until(at, |runtime, process| runtime.next_answering(process, tag))
            .await;
        Ok(message.map(Into::into))
    }

    async fn sleep(&mut self, ms: u32) -> wasmtime::Result<()> {
        let _: Option<()> = Waiting::of(self)
            .until(deadline(Some(ms)), |_, _| None)
            .await;
        Ok(())
    }
}
