//! Instances that are kept between requests.
//!
//! To instantiate a component costs more than most requests do. So an instance that has
//! answered waits for the next request. It still serves one at a time, and none after a
//! trap. What a guest keeps in its memory is thus seen by its later requests.

use std::sync::{Arc, OnceLock, Weak};

use hyper::Request;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use wasmtime::Store;
use wasmtime_wasi_http::{WasiHttpView, p2::bindings::ProxyPre};

use super::{
    HandlerError, RequestBody, RequestHandler, ResponseFuture,
    component::{Call, CallState, Instance},
};

/// Instances of one handler that wait; one more ends when it has answered.
pub const MAX_IDLE_INSTANCES: usize = 64;
/// Requests that one instance answers, after which it ends: what the guest leaks goes with it.
pub const MAX_REQUESTS_PER_INSTANCE: u32 = 10_000;

/// Ends an instance at once, wherever it is. More than one call does no harm.
pub type EndInstance = Box<dyn Fn() + Send + Sync>;

/// Where instances come from, and where they run.
pub trait InstanceSource: Send + Sync {
    /// Changes when instances made before must get no further requests: with the version of
    /// the component's code.
    fn generation(&self) -> u64;

    /// Makes a home for one instance (an actor) and has it run [`Worker::run`].
    fn start(&self, worker: Worker) -> Result<EndInstance, HandlerError>;
}

/// Answers requests with the instances of a source, as many as there are requests at once.
pub struct Instances<S> {
    source: S,
    shelf: Arc<Mutex<Shelf>>,
}

/// The instances that wait, the latest on top: it is the one whose memory is warm.
#[derive(Default)]
struct Shelf {
    generation: u64,
    idle: Vec<Arc<Seat>>,
}

/// The way to one instance. Held by the shelf, or by the request that the instance works on;
/// when it is dropped, the instance ends.
struct Seat {
    generation: u64,
    work: mpsc::Sender<Work>,
    end: OnceLock<EndInstance>,
}

struct Work {
    call: Call,
    seat: Arc<Seat>,
}

/// One instance to be: run it where guests run.
pub struct Worker {
    work: mpsc::Receiver<Work>,
    shelf: Weak<Mutex<Shelf>>,
}

impl<S: InstanceSource> Instances<S> {
    /// With no instance yet.
    pub fn new(source: S) -> Self {
        Self {
            source,
            shelf: Arc::default(),
        }
    }

    /// Gives the call to an instance that waits, or to a new one.
    fn assign(&self, mut call: Call) -> Result<Arc<Seat>, HandlerError> {
        let generation = self.source.generation();
        loop {
            let Some(seat) = self.shelf.lock().take(generation) else {
                break;
            };
            match seat.send(call) {
                None => return Ok(seat),
                // It has ended while it waited: killed, most likely.
                Some(unsent) => call = unsent,
            }
        }
        let (sender, receiver) = mpsc::channel(1);
        let seat = Arc::new(Seat {
            generation,
            work: sender,
            end: OnceLock::new(),
        });
        let worker = Worker {
            work: receiver,
            shelf: Arc::downgrade(&self.shelf),
        };
        let end = self.source.start(worker)?;
        let _ = seat.end.set(end);
        match seat.send(call) {
            None => Ok(seat),
            Some(_) => Err(HandlerError::Guest("its instance ended at once".into())),
        }
    }
}

impl<S: InstanceSource> RequestHandler for Instances<S> {
    fn handle(&self, request: Request<RequestBody>) -> ResponseFuture {
        let (call, reply) = Call::new(request);
        let assigned = self.assign(call);
        let state = reply.state();
        Box::pin(async move {
            let _cancel = CancelOnDrop {
                state,
                seat: assigned?,
            };
            reply.await
        })
    }
}

/// Ends an instance when nobody waits for its answer any more.
struct CancelOnDrop {
    state: CallState,
    seat: Arc<Seat>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // Once it has answered, the instance may be at work for somebody else.
        if self.state.cancel()
            && let Some(end) = self.seat.end.get()
        {
            end();
        }
    }
}

impl Shelf {
    fn take(&mut self, generation: u64) -> Option<Arc<Seat>> {
        if self.generation != generation {
            self.generation = generation;
            self.idle.clear();
        }
        self.idle.pop()
    }

    fn put(&mut self, seat: Arc<Seat>) {
        if seat.generation == self.generation && self.idle.len() < MAX_IDLE_INSTANCES {
            self.idle.push(seat);
        }
    }
}

impl Seat {
    /// Gives the call back if the instance has ended.
    fn send(self: &Arc<Self>, call: Call) -> Option<Call> {
        let work = Work {
            call,
            seat: self.clone(),
        };
        let unsent = self.work.try_send(work).err()?;
        Some(unsent.into_inner().call)
    }
}

impl Worker {
    /// Instantiates the component in the store, then answers what comes, until there is
    /// nobody left to answer. Fails with the guest's trap. Dropping it ends the guest.
    pub async fn run<T>(mut self, store: Store<T>, pre: ProxyPre<T>) -> wasmtime::Result<()>
    where
        T: WasiHttpView + Send + 'static,
    {
        let mut instance = Instance::start(store, &pre).await?;
        for _ in 0..MAX_REQUESTS_PER_INSTANCE {
            let Some(Work { call, seat }) = self.work.recv().await else {
                break;
            };
            let state = call.state();
            instance.serve(call).await?;
            if state.is_cancelled() {
                break;
            }
            match self.shelf.upgrade() {
                Some(shelf) => shelf.lock().put(seat),
                None => break,
            }
        }
        Ok(())
    }
}
