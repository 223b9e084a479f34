//! A node's own group leader, Erlang's `user`: its standard output, error and input.
//!
//! Also that of a tool that has no actors of its own, but is the group leader of others'.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wasm_node_protocol::{CallError, Incarnation, OutputKind, Pid, Ref};

use super::input::Input;
use super::output::Output;
use crate::process::User;

/// A process' standard streams, for actors of any node.
pub(crate) struct Console {
    output: Output,
    input: Input,
}

impl Console {
    /// `answer` brings a line of input to who asked for it; it is called on any thread.
    pub(crate) fn new(
        output: Output,
        answer: impl Fn(Pid, Ref, Result<Bytes, CallError>) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let input = Input::new(answer);
        Arc::new(Self { output, input })
    }
}

impl User for Console {
    fn print(&self, actor: Pid, kind: OutputKind, text: &[u8]) {
        self.output.print(actor, kind, text);
    }

    fn read_line(&self, asker: Pid, tag: Ref, timeout: Option<Duration>) {
        // What it asked for is seen before the answer is waited for.
        self.output.prompt(asker);
        self.input.ask(asker, tag, timeout);
    }

    fn forget(&self, tag: Ref) {
        self.input.forget(tag);
    }

    fn node_down(&self, node: Incarnation) {
        self.input.node_down(node);
    }
}
