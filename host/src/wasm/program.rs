//! One actor's code: an instance between turns, in a turn, or moving to a new version.
//!
//! The move (DESIGN section 4): `save` in the old instance, `init(restored)` in one of the
//! new version. The old one is dropped only when the new one has accepted, so a refusal
//! costs nothing. Mailbox, links, monitors and pid belong to the process and never notice.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use wasm_node_protocol::{Digest, ExitReason};
use wasmtime::component::TypedFunc;
use wasmtime::{Store, Trap, WasmBacktrace};

use super::bindings::wasm_node::actor::types as wit;
use super::core::{Asleep, CoreInstance, MemoryLimit};
use super::data::ActorData;
use super::services::Services;
use super::stack::TooManyFibers;
use super::version::{Code, Flavour, ModuleSlot, UpgradeReport, Version};
use crate::process::{Process, Program, Runtime, Step, TURN_BUDGET_MESSAGES};
use crate::store::Store as KeyvalueStore;

/// Bytes of a trap's text that go into the exit reason; the rest is cut.
const MAX_TRAP_TEXT_BYTES: usize = 4 << 10;

/// An actor's code, as a process runs it.
pub struct WasmProgram {
    home: Home,
    slot: Arc<ModuleSlot>,
    /// The slot's generation that was looked at last.
    seen: u64,
    /// A new version was there, but the actor was busy: asked again after the next turn.
    upgrade_waits: bool,
    /// The version that it runs, or ran last.
    runs: Option<Digest>,
    phase: Phase,
}

/// What every instance of an actor needs, whatever its version.
#[derive(Clone)]
pub struct Home {
    /// The actor, to the others.
    pub process: Arc<Process>,
    /// Where it lives.
    pub runtime: Arc<Runtime>,
    /// What it may ask of the node.
    pub services: Arc<dyn Services>,
    /// The node's store.
    pub keyvalue: KeyvalueStore,
}

enum Phase {
    /// Not begun.
    Fresh(Vec<u8>),
    /// Between turns.
    Ready(Instance),
    /// Between turns, its state put aside: of an instance of this version.
    Asleep(Box<Asleep>, Arc<Version>),
    /// In a turn, in `init`, or in a move to another version, and waiting.
    Waiting(Pin<Box<dyn Future<Output = Done> + Send>>),
    /// Ended.
    Over,
}

/// What comes out of a wait.
struct Done {
    instance: Option<Instance>,
    result: Result<Step, ExitReason>,
    /// Of a move to another version only.
    upgraded: Option<Upgrade>,
}

enum Upgrade {
    Done,
    Busy,
}

impl Done {
    /// A turn, in the version that there was.
    fn turn(instance: Instance, result: Result<Step, ExitReason>) -> Self {
        let instance = Some(instance);
        Self {
            instance,
            result,
            upgraded: None,
        }
    }

    /// A turn after a move was tried; in the old instance if that failed.
    async fn turn_after(upgrade: Upgrade, mut instance: Instance) -> Self {
        let result = instance.any_turn().await;
        Self {
            upgraded: Some(upgrade),
            ..Self::turn(instance, result)
        }
    }

    /// There is no instance any more.
    fn over(reason: ExitReason) -> Self {
        Self {
            instance: None,
            result: Err(reason),
            upgraded: None,
        }
    }
}

/// An instance, and the version that it is of.
struct Instance {
    version: Arc<Version>,
    code: Running,
}

enum Running {
    Core(Box<CoreInstance>),
    Component(Box<ComponentInstance>),
}

struct ComponentInstance {
    store: Store<ActorData>,
    turn: TypedFunc<(), (wit::Outcome,)>,
    save: TypedFunc<(), (Result<Vec<u8>, wit::SaveError>,)>,
}

impl WasmProgram {
    /// The code of an actor that has not begun. It runs the slot's version at that moment.
    pub fn new(home: Home, slot: Arc<ModuleSlot>, args: Vec<u8>) -> Self {
        slot.actor_began();
        Self {
            home,
            slot,
            seen: 0,
            upgrade_waits: false,
            runs: None,
            phase: Phase::Fresh(args),
        }
    }

    /// A synchronous call has returned, or its instance is no more.
    fn settled(&mut self, result: Result<(Instance, wit::Outcome), ExitReason>) -> Poll<Step> {
        Poll::Ready(match result {
            Ok((instance, wit::Outcome::Hibernate)) if !self.home.process.has_messages() => {
                self.phase = instance.sleep();
                Step::Wait
            }
            Ok((instance, outcome)) => {
                self.phase = Phase::Ready(instance);
                outcome.into()
            }
            Err(reason) => Step::Stop(reason),
        })
    }

    fn wake(&self, asleep: &Asleep, version: Arc<Version>) -> Result<Instance, ExitReason> {
        let Code::Core(code) = version.code() else {
            return Err(ExitReason::Error("only core instances sleep".into()));
        };
        let woken = code.wake(asleep, self.home.data(&version));
        let code = woken.map_err(|error| instance_error(&error))?;
        Ok(Instance {
            version,
            code: Running::Core(code),
        })
    }

    fn wait(&mut self, mut future: Pin<Box<dyn Future<Output = Done> + Send>>) -> Poll<Step> {
        let waker = Waker::from(self.home.process.clone());
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                self.phase = Phase::Waiting(future);
                Poll::Pending
            }
            Poll::Ready(Done {
                instance,
                result,
                upgraded,
            }) => {
                if let (Some(Upgrade::Done), Some(instance)) = (&upgraded, &instance) {
                    self.runs = Some(instance.version.digest());
                }
                self.phase = instance.map_or(Phase::Over, Phase::Ready);
                match upgraded {
                    Some(Upgrade::Done) => self.upgrade_waits = false,
                    Some(Upgrade::Busy) => self.upgrade_waits = true,
                    None => {}
                }
                Poll::Ready(result.unwrap_or_else(Step::Stop))
            }
        }
    }
}

impl Program for WasmProgram {
    fn run(&mut self, process: &Arc<Process>) -> Poll<Step> {
        let phase = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Asleep(asleep, version) => match self.wake(&asleep, version) {
                Ok(instance) => {
                    // Whatever was asked of the instance before.
                    process.take_rest();
                    Phase::Ready(instance)
                }
                Err(reason) => return Poll::Ready(Step::Stop(reason)),
            },
            phase => phase,
        };
        match phase {
            Phase::Fresh(args) => {
                self.seen = self.slot.generation();
                let version = self.slot.current();
                // A newer one, perhaps, than its spawn was checked for.
                if let Err(why) = self.home.narrow(&version) {
                    return Poll::Ready(Step::Stop(ExitReason::Error(why)));
                }
                self.runs = Some(version.digest());
                if version.flavour() == Flavour::Core {
                    let start = wit::Start::Fresh(args);
                    let begun = Instance::start_core(&self.home, version, &start);
                    return self.settled(begun);
                }
                let home = self.home.clone();
                let first = async move {
                    match Instance::start(&home, version, wit::Start::Fresh(args)).await {
                        Ok((instance, step)) => Done::turn(instance, Ok(step)),
                        Err(reason) => Done::over(reason),
                    }
                };
                self.wait(Box::pin(first))
            }
            Phase::Ready(instance) if self.upgrade_waits || self.slot.generation() != self.seen => {
                self.seen = self.slot.generation();
                let (home, version) = (self.home.clone(), self.slot.current());
                self.wait(Box::pin(upgrade_then_turn(home, instance, version)))
            }
            // One that is busy rests later: it is asked only once.
            Phase::Ready(instance) if process.rest_is_asked() && !process.has_messages() => {
                process.take_rest();
                self.phase = instance.sleep();
                // Nothing has happened: what it waits for stays as it is.
                Poll::Pending
            }
            Phase::Ready(mut instance) if !instance.flavour().may_wait() => {
                let result = instance.turn();
                self.settled(result.map(|outcome| (instance, outcome)))
            }
            Phase::Ready(mut instance) => {
                let turn = async move {
                    let result = instance.any_turn().await;
                    Done::turn(instance, result)
                };
                self.wait(Box::pin(turn))
            }
            Phase::Waiting(future) => self.wait(future),
            Phase::Asleep(..) | Phase::Over => Poll::Ready(Step::Stop(ExitReason::Normal)),
        }
    }

    fn wants_turn(&self) -> bool {
        match &self.phase {
            Phase::Fresh(_) | Phase::Waiting(_) => true,
            Phase::Ready(_) => {
                self.slot.generation() != self.seen || self.home.process.rest_is_asked()
            }
            Phase::Asleep(..) => self.slot.generation() != self.seen,
            Phase::Over => false,
        }
    }

    fn code(&self) -> Option<Digest> {
        self.runs
    }

    fn memory_bytes(&self) -> u64 {
        let bytes = match &self.phase {
            Phase::Ready(Instance { code, .. }) => match code {
                Running::Core(instance) => instance.memory_bytes(),
                Running::Component(component) => component.store.data().memory_bytes,
            },
            Phase::Asleep(asleep, _) => asleep.kept_bytes(),
            Phase::Fresh(_) | Phase::Waiting(_) | Phase::Over => 0,
        };
        bytes as u64
    }
}

impl Drop for WasmProgram {
    fn drop(&mut self) {
        if let Phase::Ready(instance) = std::mem::replace(&mut self.phase, Phase::Over) {
            instance.vacate();
        }
        self.slot.actor_ended();
    }
}

impl Home {
    /// Takes from the actor what a version of its code is not granted. Says why it cannot run that,
    /// and takes nothing, if it then holds nothing of what the version imports.
    fn narrow(&self, version: &Version) -> Result<(), String> {
        let (name, held) = (version.name(), self.process.capabilities());
        let narrower = held.meet(&version.grants().capabilities);
        let narrower = narrower.map_err(|error| format!("the module {name:?}: {error}"))?;
        if let Some(need) = version.imports().unmet(&narrower) {
            return Err(format!(
                "the module {name:?} {need}, which this actor was not given when it was spawned"
            ));
        }
        if narrower != held {
            self.process.hold(narrower);
        }
        Ok(())
    }

    fn data(&self, version: &Version) -> ActorData {
        let Self {
            process,
            runtime,
            services,
            keyvalue,
        } = self.clone();
        ActorData::new(
            process,
            runtime,
            services,
            version.about().clone(),
            keyvalue,
        )
    }
}

impl Instance {
    /// Instantiates a version and lets it begin.
    async fn start(
        home: &Home,
        version: Arc<Version>,
        start: wit::Start,
    ) -> Result<(Self, Step), ExitReason> {
        let (pre, exports) = match version.code() {
            Code::Component(pre, exports) => (pre, exports),
            Code::Core(_) => {
                let (instance, outcome) = Self::start_core(home, version, &start)?;
                return Ok((instance, outcome.into()));
            }
            Code::Http(_) => {
                return Err(ExitReason::Error(format!(
                    "module {} answers HTTP requests, it is no actor",
                    version.name()
                )));
            }
        };
        let plain = version.flavour() == Flavour::Plain;
        let data = home.data(&version).with_folders();
        let data = data.map_err(|error| ExitReason::Error(error.to_string()))?;
        let mut store = data.into_store(pre.engine());
        let begun = async {
            let instance = if plain {
                pre.instantiate(&mut store)?
            } else {
                pre.instantiate_async(&mut store).await?
            };
            let init = instance
                .get_typed_func::<(wit::Start,), (Result<wit::Outcome, wit::ExitReason>,)>(
                    &mut store,
                    exports.init,
                )?;
            let turn = instance.get_typed_func(&mut store, exports.turn)?;
            let save = instance.get_typed_func(&mut store, exports.save)?;
            let (outcome,) = if plain {
                init.call(&mut store, (start,))?
            } else {
                init.call_async(&mut store, (start,)).await?
            };
            wasmtime::Result::Ok((turn, save, outcome))
        };
        match begun.await {
            Ok((turn, save, Ok(outcome))) => {
                let code = Running::Component(Box::new(ComponentInstance { store, turn, save }));
                Ok((Self { version, code }, outcome.into()))
            }
            Ok((_, _, Err(reason))) => Err(reason.into()),
            Err(error) => Err(reason_of(&error, store.data_mut())),
        }
    }

    fn start_core(
        home: &Home,
        version: Arc<Version>,
        start: &wit::Start,
    ) -> Result<(Self, wit::Outcome), ExitReason> {
        let Code::Core(code) = version.code() else {
            return Err(ExitReason::Error("no core module".into()));
        };
        let occupied = code.occupy(home.data(&version));
        let mut instance = occupied.map_err(|error| instance_error(&error))?;
        match instance.init(start) {
            Ok(Ok(outcome)) => {
                let code = Running::Core(instance);
                Ok((Self { version, code }, outcome))
            }
            Ok(Err(reason)) => {
                code.vacate(instance);
                Err(reason.into())
            }
            Err(error) => Err(reason_of(&error, instance.data_mut())),
        }
    }

    /// Its state as data, if it is of a kind that can be.
    fn sleep(self) -> Phase {
        let Self { version, code } = self;
        let code = match (version.code(), code) {
            (Code::Core(core), Running::Core(instance)) => match core.sleep(instance) {
                Ok(asleep) => return Phase::Asleep(Box::new(asleep), version),
                Err(instance) => Running::Core(instance),
            },
            (_, code) => code,
        };
        Phase::Ready(Self { version, code })
    }

    /// Its actor has ended, and it is not in a call.
    fn vacate(self) {
        let Self { version, code } = self;
        if let (Code::Core(core), Running::Core(instance)) = (version.code(), code) {
            core.vacate(instance);
        }
    }

    fn flavour(&self) -> Flavour {
        self.version.flavour()
    }

    /// A turn, if the version never waits.
    fn turn(&mut self) -> Result<wit::Outcome, ExitReason> {
        match &mut self.code {
            Running::Core(instance) => {
                instance.data_mut().budget = TURN_BUDGET_MESSAGES;
                let outcome = instance.turn();
                outcome.map_err(|error| reason_of(&error, instance.data_mut()))
            }
            Running::Component(component) => {
                let ComponentInstance { store, turn, .. } = &mut **component;
                prepare(store);
                let outcome = turn.call(&mut *store, ());
                let outcome = outcome.map(|(outcome,)| outcome);
                outcome.map_err(|error| reason_of(&error, store.data_mut()))
            }
        }
    }

    async fn save(&mut self) -> Result<Result<Vec<u8>, wit::SaveError>, ExitReason> {
        let waits = self.flavour().may_wait();
        match &mut self.code {
            Running::Core(instance) => {
                let saved = instance.save();
                saved.map_err(|error| reason_of(&error, instance.data_mut()))
            }
            Running::Component(component) => {
                let ComponentInstance { store, save, .. } = &mut **component;
                prepare(store);
                let saved = match waits {
                    false => save.call(&mut *store, ()),
                    true => save.call_async(&mut *store, ()).await,
                };
                saved
                    .map(|(saved,)| saved)
                    .map_err(|error| reason_of(&error, store.data_mut()))
            }
        }
    }

    async fn any_turn(&mut self) -> Result<Step, ExitReason> {
        match &mut self.code {
            Running::Component(component) if self.version.flavour().may_wait() => {
                let ComponentInstance { store, turn, .. } = &mut **component;
                prepare(store);
                let outcome = turn.call_async(&mut *store, ()).await;
                let outcome = outcome.map(|(outcome,)| outcome.into());
                outcome.map_err(|error| reason_of(&error, store.data_mut()))
            }
            _ => self.turn().map(Into::into),
        }
    }
}

fn prepare(store: &mut Store<ActorData>) {
    store.data_mut().budget = TURN_BUDGET_MESSAGES;
    store.set_epoch_deadline(1);
}

/// Moves an actor to another version if both agree, then runs a turn, in the old version or
/// in the new one: what woke the actor may be a message.
async fn upgrade_then_turn(home: Home, mut old: Instance, version: Arc<Version>) -> Done {
    let (from, to) = (old.version.digest(), version.digest());
    if from == to {
        return Done::turn_after(Upgrade::Done, old).await;
    }
    let saved = match old.save().await {
        Ok(Ok(saved)) => saved,
        Ok(Err(wit::SaveError::Busy)) => return Done::turn_after(Upgrade::Busy, old).await,
        Ok(Err(wit::SaveError::Refused(why))) => {
            let why = format!("the running version cannot be saved: {why}");
            report(&home, from, to, Err(why));
            return Done::turn_after(Upgrade::Done, old).await;
        }
        Err(reason) => return Done::over(reason),
    };
    let held = home.process.capabilities();
    if let Err(why) = home.narrow(&version) {
        report(&home, from, to, Err(why));
        return Done::turn_after(Upgrade::Done, old).await;
    }
    match Instance::start(&home, version, wit::Start::Restored(saved)).await {
        Ok((new, step)) => {
            report(&home, from, to, Ok(()));
            drop(old);
            match step {
                Step::Wait | Step::Starting => Done::turn_after(Upgrade::Done, new).await,
                step => Done {
                    upgraded: Some(Upgrade::Done),
                    ..Done::turn(new, Ok(step))
                },
            }
        }
        Err(reason) => {
            home.process.hold(held);
            let why = format!("the new version refused the state: {reason}");
            report(&home, from, to, Err(why));
            Done::turn_after(Upgrade::Done, old).await
        }
    }
}

fn report(home: &Home, from: Digest, to: Digest, result: Result<(), String>) {
    let (actor, module) = (home.process.pid, home.process.label().to_owned());
    home.services.upgraded(UpgradeReport {
        actor,
        module,
        from,
        to,
        result,
    });
}

/// Why wasm stopped, as an exit reason.
fn reason_of(error: &wasmtime::Error, data: &mut ActorData) -> ExitReason {
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return match exit.0 {
            0 => ExitReason::Normal,
            code => ExitReason::Error(format!("exit code {code}")),
        };
    }
    if let Some(limit) = data.refused() {
        return ExitReason::Limit(limit);
    }
    instance_error(error)
}

/// Why there is no instance, or no longer.
fn instance_error(error: &wasmtime::Error) -> ExitReason {
    if let Some(error) = error.downcast_ref::<TooManyFibers>() {
        return ExitReason::Limit(error.to_string());
    }
    if let Some(MemoryLimit(limit)) = error.downcast_ref() {
        return ExitReason::Limit(limit.clone());
    }
    trap_reason(error)
}

/// What wasmtime says, cut to a bounded length: the trap, then the backtrace.
pub fn trap_reason(error: &wasmtime::Error) -> ExitReason {
    let mut text = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => format!("{:#}", error.root_cause()),
    };
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        text = format!("{text}\n{backtrace}");
    }
    if text.len() > MAX_TRAP_TEXT_BYTES {
        let cut = (0..=MAX_TRAP_TEXT_BYTES)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(cut);
    }
    ExitReason::Trap(text)
}

/// A store for an instance that answers HTTP requests, at home in its process.
///
/// # Errors
/// A folder that it holds cannot be opened; says why.
pub fn http_store(
    engine: &wasmtime::Engine,
    home: &Home,
    version: &Version,
) -> Result<Store<ActorData>, String> {
    let data = home.data(version).with_folders();
    let data = data.map_err(|error| error.to_string())?;
    Ok(data.into_store(engine))
}
