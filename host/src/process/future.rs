//! A future of the host as a process: runs on the workers, with a pid and a mailbox.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use wasm_node_protocol::ExitReason;

use super::{Process, Program, Step};

/// Runs a future to its end; what it gives is the process' exit reason.
pub struct FutureProgram(Pin<Box<dyn Future<Output = ExitReason> + Send>>);

impl FutureProgram {
    /// Does nothing until the process begins.
    pub fn new(future: impl Future<Output = ExitReason> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl Program for FutureProgram {
    fn run(&mut self, process: &Arc<Process>) -> Poll<Step> {
        let waker = Waker::from(process.clone());
        self.0
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .map(Step::Stop)
    }

    fn wants_turn(&self) -> bool {
        true
    }
}
