//! Starts the workers of a node, restarts one that ends, and ends itself if that happens too
//! often, for its supervisor to decide. It knows nothing of lists or records.

use serde::{Deserialize, Serialize};
use todo_core::list::{DATABASE, WORKERS, worker_name};
use wasm_node_sdk::{
    ExitReason, Info, Next, Pid, SpawnOptions, encode, exit, join_all, start, time, trap_exit,
};

use crate::Role;

/// So many restarts of workers within [`RESTART_PERIOD_MS`] are borne; one more ends the manager.
const MAX_RESTARTS: usize = 10;
/// See [`MAX_RESTARTS`]; in milliseconds.
const RESTART_PERIOD_MS: u64 = 10_000;

/// The manager's state.
#[derive(Serialize, Deserialize)]
pub struct Manager {
    /// By number.
    workers: Vec<Pid>,
    /// When workers were restarted lately, in milliseconds.
    restarts_ms: Vec<u64>,
}

impl Manager {
    /// Starts the workers and waits until each has read its store.
    pub async fn start() -> Result<Self, String> {
        trap_exit(true);
        let started = join_all((0..WORKERS).map(start_worker)).await;
        let workers = started.into_iter().collect::<Result<_, _>>()?;
        Ok(Self {
            workers,
            restarts_ms: Vec::new(),
        })
    }

    /// A worker may have ended, or the supervisor may want this to end.
    pub async fn info(&mut self, info: Info) -> Next {
        let Info::Exit { pid, reason } = info else {
            return Next::Wait;
        };
        let Some(number) = self.workers.iter().position(|worker| *worker == pid) else {
            return Next::Stop(reason);
        };
        wasm_node_sdk::eprintln!(
            "{} ended: {reason:?}; restarting it",
            worker_name(number as u32)
        );
        let now_ms = time::now() / 1_000_000;
        self.restarts_ms
            .retain(|at_ms| now_ms - at_ms < RESTART_PERIOD_MS);
        self.restarts_ms.push(now_ms);
        if self.restarts_ms.len() > MAX_RESTARTS {
            let why = format!("workers of {DATABASE} ended more than {MAX_RESTARTS} times in 10 s");
            return Next::Stop(ExitReason::Error(why));
        }
        match start_worker(number as u32).await {
            Ok(worker) => {
                self.workers[number] = worker;
                Next::Wait
            }
            Err(why) => Next::Stop(ExitReason::Error(why)),
        }
    }

    /// Ends the workers.
    pub fn end(&mut self) {
        self.workers
            .iter()
            .for_each(|worker| exit(*worker, ExitReason::Shutdown));
    }
}

async fn start_worker(number: u32) -> Result<Pid, String> {
    let options = SpawnOptions::new().link().name(worker_name(number));
    match start(DATABASE, &encode(&Role::Worker(number)), &options).await {
        Ok(started) => Ok(started.pid),
        Err(error) => Err(format!("{} did not start: {error:?}", worker_name(number))),
    }
}
