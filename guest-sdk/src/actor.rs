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

    /// Handles what waits in the mailbox, until [`inbox::next`](crate::inbox::next) gives none.
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
        let begun = A::init(start);
        crate::inbox::turn_over();
        let (actor, outcome) = begun?;
        *self.actor() = Some(actor);
        Ok(outcome)
    }

    pub fn turn(&self) -> Outcome {
        let outcome = match self.actor() {
            Some(actor) => actor.turn(),
            None => Outcome::Stop(ExitReason::Error("turn came before init".into())),
        };
        crate::inbox::turn_over();
        outcome
    }

    pub fn save(&self) -> Result<Vec<u8>, SaveError> {
        match self.actor() {
            Some(actor) => actor.save(),
            None => Err(SaveError::Busy),
        }
    }
}

/// Makes this crate the component of an [`Actor`]; with the functions of
/// [`rpc_functions!`](crate::rpc_functions) as the second argument, if it offers some. Once a
/// component.
#[macro_export]
macro_rules! export_actor {
    ($actor:ty, $functions:ty $(,)?) => {
        $crate::export_actor!($crate::rpc::WithFunctions<$actor, $functions>);
    };
    ($actor:ty) => {
        const _: () = {
            static HOLDER: $crate::actor::Holder<$actor> = $crate::actor::Holder::new();
            #[allow(dead_code)]
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
            // Other linkers than wasm's do not take the contract's export names.
            #[cfg(target_arch = "wasm32")]
            const _: () = {
        $crate::bindings::export_lifecycle!(Export with_types_in $crate::actor::slim);
            };
        };
    };
}

/// Makes this crate the component of a [`GenServer`](crate::GenServer); with the functions of
/// [`rpc_functions!`](crate::rpc_functions) as the second argument, if it offers some. Once a
/// component.
#[macro_export]
macro_rules! export_gen_server {
    ($server:ty $(, $functions:ty)? $(,)?) => {
        $crate::export_actor!($crate::gen_server::GenServerActor<$server> $(, $functions)?);
    };
}

/// Makes this crate the component of a
/// [`GenStateMachine`](crate::gen_state_machine::GenStateMachine); with the functions of
/// [`rpc_functions!`](crate::rpc_functions) as the second argument, if it offers some. Once a
/// component.
#[macro_export]
macro_rules! export_gen_state_machine {
    ($machine:ty $(, $functions:ty)? $(,)?) => {
        $crate::export_gen_server!($crate::gen_state_machine::Machine<$machine> $(, $functions)?);
    };
}

/// Makes this crate the component of functions alone, as
/// [`rpc_functions!`](crate::rpc_functions) declares them. Once a component.
#[macro_export]
macro_rules! export_functions {
    ($functions:ty) => {
        $crate::export_actor!($crate::rpc::NoActor, $functions);
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

/// Where wit-bindgen's export macro finds the one for the interface `lifecycle`: ours, which
/// leaves out two of the functions that would free a result once the host has read it. What
/// `init` and `turn` return owns memory only when the actor ends, and calling these functions
/// would cost every turn a second entry into wasm.
#[doc(hidden)]
pub mod slim {
    pub mod exports {
        pub mod wasm_node {
            pub mod actor {
                pub mod lifecycle {
                    pub use crate::__export_slim_lifecycle as __export_wasm_node_actor_lifecycle_0_1_0_cabi;
                    pub use crate::bindings::exports::wasm_node::actor::lifecycle::{
                        __post_return_save, _export_init_cabi, _export_save_cabi, _export_turn_cabi,
                    };
                }
            }
        }
    }
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_slim_lifecycle {
    ($ty:ident with_types_in $($path:tt)*) => {
        const _: () = {
            #[unsafe(export_name = "wasm-node:actor/lifecycle@0.1.0#init")]
            unsafe extern "C" fn init(kind: i32, bytes: *mut u8, length: usize) -> *mut u8 {
                unsafe { $($path)*::_export_init_cabi::<$ty>(kind, bytes, length) }
            }
            #[unsafe(export_name = "wasm-node:actor/lifecycle@0.1.0#turn")]
            unsafe extern "C" fn turn() -> *mut u8 {
                unsafe { $($path)*::_export_turn_cabi::<$ty>() }
            }
            #[unsafe(export_name = "wasm-node:actor/lifecycle@0.1.0#save")]
            unsafe extern "C" fn save() -> *mut u8 {
                unsafe { $($path)*::_export_save_cabi::<$ty>() }
            }
            #[unsafe(export_name = "cabi_post_wasm-node:actor/lifecycle@0.1.0#save")]
            unsafe extern "C" fn post_save(result: *mut u8) {
                unsafe { $($path)*::__post_return_save::<$ty>(result) }
            }
        };
    };
}
