//! Events for the log of this actor's node: Erlang's `logger`, with the node's filters.
//!
//! Each is one structured event with the actor's pid and module, a text and named values. The
//! node cuts texts of more than 8 KiB, values of more than 1 KiB, and takes 32 of them. The log
//! is the node's that the actor runs on; text for whoever started the actor is
//! [`println!`](crate::println)'s.
//!
//! ```no_run
//! # let (user, size) = ("bob", 7);
//! wasm_node_sdk::log::warning!("the cart is full", user, size, limit = 5 + 2);
//! ```

use crate::sys::io;

pub use crate::bindings::wasm_node::actor::io::LogLevel as Level;

/// Logs an event: its text, and named values.
pub fn event(level: Level, text: &str, fields: &[(String, String)]) {
    io::log(level, text, fields);
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_fields {
    ([$($done:expr),*]) => { [$($done),*] };
    ([$($done:expr),*] $name:ident = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__log_fields!([$($done,)* (
            ::std::string::String::from(::core::stringify!($name)),
            ::std::string::ToString::to_string(&$value)
        )] $($($rest)*)?)
    };
    ([$($done:expr),*] $name:ident $(, $($rest:tt)*)?) => {
        $crate::__log_fields!([$($done),*] $name = $name $(, $($rest)*)?)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $text:expr $(, $($fields:tt)*)?) => {
        $crate::log::event(
            $crate::log::Level::$level,
            ::core::convert::AsRef::<str>::as_ref(&$text),
            &$crate::__log_fields!([] $($($fields)*)?),
        )
    };
}

/// Logs details: a text, then fields, as in `debug!("taken", name, count = 3)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($arg:tt)*) => { $crate::__log!(Debug, $($arg)*) };
}

/// Logs what is good to know: a text, then fields, as in `info!("taken", name, count = 3)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($arg:tt)*) => { $crate::__log!(Info, $($arg)*) };
}

/// Logs what somebody should look at: a text, then fields, as in `warning!("late", ms = 90)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warning {
    ($($arg:tt)*) => { $crate::__log!(Warning, $($arg)*) };
}

/// Logs what went wrong: a text, then fields, as in `error!("lost", name, why = "full")`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($arg:tt)*) => { $crate::__log!(Error, $($arg)*) };
}

pub use crate::{
    __log_debug as debug, __log_error as error, __log_info as info, __log_warning as warning,
};
