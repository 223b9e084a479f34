//! Tests of what every server answers and reports by itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::*;
use crate::testing::Node;
use crate::{CallError, ServerRef, sleep};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Safe {
    combination: u32,
    idle: u32,
}

impl GenServer for Safe {
    const MODULE: &'static str = "safe";
    type Args = u32;
    type Call = ();
    type Reply = ();
    type Cast = ExitReason;

    async fn init(combination: u32) -> Init<Self> {
        let safe = Self {
            combination,
            idle: 0,
        };
        Init::OkThen(safe, Next::Timeout(Duration::from_millis(100)))
    }

    async fn handle_call(&mut self, (): (), _: Caller<()>) -> CallReturn<()> {
        CallReturn::ReplyThen((), Next::Hibernate)
    }

    async fn handle_cast(&mut self, reason: ExitReason) -> Next {
        Next::Stop(reason)
    }

    async fn handle_info(&mut self, info: Info) -> Next {
        assert_eq!(info, Info::Timeout);
        self.idle += 1;
        Next::Wait
    }

    fn format_status(&self) -> String {
        format!("idle {} times", self.idle)
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

fn safe(node: &Node) -> ServerRef<Safe> {
    node.module::<Safe>();
    node.start(&1234).unwrap()
}

#[test]
fn its_status_and_state_can_be_asked_for() {
    let node = Node::new();
    let safe = safe(&node);
    node.run(async move {
        assert_eq!(safe.status(PATIENCE).await, Ok("idle 0 times".into()));
        let state = Safe {
            combination: 1234,
            idle: 0,
        };
        assert_eq!(safe.state(PATIENCE).await, Ok(state));
        let nobody = ServerRef::<Safe>::local("nobody").status(PATIENCE).await;
        assert_eq!(nobody, Err(CallError::Noproc));
    });
}

#[test]
fn a_question_does_not_put_its_time_out_off() {
    let node = Node::new();
    let safe = safe(&node);
    node.run(async move {
        sleep(Duration::from_millis(60)).await;
        assert_eq!(safe.status(PATIENCE).await, Ok("idle 0 times".into()));
        sleep(Duration::from_millis(39)).await;
        assert_eq!(safe.status(PATIENCE).await, Ok("idle 0 times".into()));
        sleep(Duration::from_millis(1)).await;
        assert_eq!(safe.status(PATIENCE).await, Ok("idle 1 times".into()));
        // One that hibernates goes on doing so.
        assert_eq!(safe.call(()).await, Ok(()));
        assert_eq!(safe.status(PATIENCE).await, Ok("idle 1 times".into()));
    });
}

#[test]
fn only_an_end_that_is_not_clean_is_reported() {
    for (reason, reported) in [
        (ExitReason::Shutdown, None),
        (
            ExitReason::error("broke"),
            Some("server terminated reason=error: broke last_message=a cast state=idle 0 times\n"),
        ),
    ] {
        let node = Node::new();
        let safe = safe(&node);
        node.cast(&safe, reason.clone());
        assert_eq!(node.exit_reason(safe.as_pid().unwrap()), Some(reason));
        let printed = node.printed();
        let said = printed.first().map(|printed| printed.text.as_str());
        assert!(
            match (said, reported) {
                (None, None) => true,
                (Some(said), Some(wanted)) => said.ends_with(wanted),
                _ => false,
            },
            "{printed:?}"
        );
    }
}
