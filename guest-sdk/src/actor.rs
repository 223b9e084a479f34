//! The lowest layer: an actor as the host sees it, and the exports that reach it.
//!
//! [`GenServer`](crate::GenServer)s and tasks are actors of this kind. Implement it directly
//! where every nanosecond counts; the `mailbox` and other imports are in
//! [`bindings`](crate::bindings).

use std::cell::UnsafeCell;

use crate::{ExitReason, Outcome, SaveError, Start};

/// An actor as the host sees it. None of the three is called while another runs.
pub trait Actor: Sized + 'static {
    /// Comes first and once. An error ends the actor with that reason.
    fn init(start: Start) -> Result<(Self, Outcome), ExitReason>;

    /// Handles what waits in the mailbox, until `mailbox::next` gives none.
    fn turn(&mut self) -> Outcome;

    /// The state, from which `init` with [`Start::Restored`] goes on.
    fn save(&mut self) -> Result<Vec<u8>, SaveError> {
        Err(SaveError::Refused(
            "this actor keeps no state that could be saved".into(),
        ))
    }
}

/// Where a component keeps its one actor.
#[doc(hidden)]
pub struct Holder<A>(UnsafeCell<Option<A>>);

// SAFETY: a component is single-threaded, and the host never enters it while it runs.
unsafe impl<A> Sync for Holder<A> {}

impl<A: Actor> Holder<A> {
    #[expect(clippy::new_without_default, reason = "const, for statics")]
    pub const fn new() -> Self {
        Self(UnsafeCell::new(None))
    }

    #[expect(clippy::mut_from_ref, reason = "the host calls one export at a time")]
    fn actor(&self) -> &mut Option<A> {
        // SAFETY: the host never calls two exports at once (contract of `lifecycle`), and no
        // reference outlives its call.
        unsafe { &mut *self.0.get() }
    }

    pub fn init(&self, start: Start) -> Result<Outcome, ExitReason> {
        crate::io::install_panic_hook();
        let (actor, outcome) = A::init(start)?;
        *self.actor() = Some(actor);
        Ok(outcome)
    }

    pub fn turn(&self) -> Outcome {
        match self.actor() {
            Some(actor) => actor.turn(),
            None => Outcome::Stop(ExitReason::Error("turn came before init".into())),
        }
    }

    pub fn save(&self) -> Result<Vec<u8>, SaveError> {
        match self.actor() {
            Some(actor) => actor.save(),
            None => Err(SaveError::Busy),
        }
    }
}

/// Makes this crate the component of an [`Actor`]. Once a component.
#[macro_export]
macro_rules! export_actor {
    ($actor:ty) => {
        const _: () = {
            static HOLDER: $crate::actor::Holder<$actor> = $crate::actor::Holder::new();
            struct Export;
            impl $crate::bindings::exports::wasm_node::actor::lifecycle::Guest for Export {
                fn init(
                    start: $crate::Start,
                ) -> ::core::result::Result<$crate::Outcome, $crate::ExitReason> {
                    HOLDER.init(start)
                }
                fn turn() -> $crate::Outcome {
                    HOLDER.turn()
                }
                fn save() -> ::core::result::Result<::std::vec::Vec<u8>, $crate::SaveError> {
                    HOLDER.save()
                }
            }
    $crate::bindings::export_lifecycle!(Export with_types_in $crate::bindings);
        };
    };
}

/// Makes this crate the component of a [`GenServer`](crate::GenServer). Once a component.
#[macro_export]
macro_rules! export_gen_server {
    ($server:ty) => {
        $crate::export_actor!($crate::gen_server::GenServerActor<$server>);
    };
}

/// Makes this crate the component of a task: `async fn main(args: Vec<u8>) -> ExitReason`.
#[macro_export]
macro_rules! export_task {
    ($main:path) => {
        const _: () = {
            struct Main;
            impl $crate::task::Task for Main {
                async fn main(args: ::std::vec::Vec<u8>) -> $crate::ExitReason {
                    $main(args).await
                }
            }
            $crate::export_actor!($crate::task::TaskActor<Main>);
        };
    };
}
