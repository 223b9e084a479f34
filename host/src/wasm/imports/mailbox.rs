//! `wasm-node:actor/mailbox`.

use std::time::Duration;

use bytes::Bytes;
use wasm_node_protocol::Signal;

use crate::process::{MAX_BODY_BYTES, Message as HostMessage};
use crate::wasm::bindings::wasm_node::actor::mailbox::Host;
use crate::wasm::bindings::wasm_node::actor::types::{Destination, Message, Pid, Ref, ReplyTo};
use crate::wasm::data::ActorData;
use crate::wasm::values::destination;

impl ActorData {
    /// What `next` gives, as the host has it.
    pub(in crate::wasm) fn next_message(&mut self) -> Option<HostMessage> {
        if self.budget == 0 {
            return None;
        }
        self.budget -= 1;
        let (message, more) = self.runtime.next(&self.process);
        self.more_waits = more;
        message
    }
}

impl Host for ActorData {
    fn send(&mut self, to: Pid, body: Vec<u8>) -> wasmtime::Result<Result<(), ()>> {
        if body.len() > MAX_BODY_BYTES {
            return Ok(Err(()));
        }
        self.runtime
            .send_from(&self.process, to.into(), Signal::Info(Bytes::from(body)));
        Ok(Ok(()))
    }

    fn send_to(&mut self, to: Destination, body: Vec<u8>) -> wasmtime::Result<Result<(), ()>> {
        if body.len() > MAX_BODY_BYTES {
            return Ok(Err(()));
        }
        self.runtime.send_to(
            &self.process,
            &destination(to),
            Signal::Info(Bytes::from(body)),
        );
        Ok(Ok(()))
    }

    fn cast(&mut self, to: Destination, body: Vec<u8>) -> wasmtime::Result<Result<(), ()>> {
        if body.len() > MAX_BODY_BYTES {
            return Ok(Err(()));
        }
        self.runtime.send_to(
            &self.process,
            &destination(to),
            Signal::Cast(Bytes::from(body)),
        );
        Ok(Ok(()))
    }

    fn request(
        &mut self,
        to: Destination,
        body: Vec<u8>,
        timeout_ms: Option<u32>,
    ) -> wasmtime::Result<Ref> {
        let timeout = timeout_ms.map(|ms| Duration::from_millis(u64::from(ms)));
        let tag = self
            .runtime
            .request(&self.process, &destination(to), Bytes::from(body), timeout);
        Ok(tag.into())
    }

    fn forget(&mut self, request: Ref) -> wasmtime::Result<()> {
        self.runtime.forget(&self.process, request.into());
        Ok(())
    }

    fn reply(&mut self, to: ReplyTo, body: Vec<u8>) -> wasmtime::Result<Result<(), ()>> {
        if body.len() > MAX_BODY_BYTES {
            return Ok(Err(()));
        }
        self.runtime.reply(
            &self.process,
            to.pid.into(),
            to.tag.into(),
            Bytes::from(body),
        );
        Ok(Ok(()))
    }

    fn next(&mut self) -> wasmtime::Result<Option<Message>> {
        Ok(self.next_message().map(Into::into))
    }
}
