//! Text for people, on this actor's group leader: `println!` and `eprintln!` of this crate.

use crate::sys::io;

/// Prints text as it is; [`println!`](crate::println) adds the line's end.
pub fn print(text: &str) {
    io::print(text);
}

/// Prints text to the error output.
pub fn print_error(text: &str) {
    io::print_error(text);
}

/// As std's, to this actor's group leader.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::io::print(&(::std::format!($($arg)*) + "\n")) };
}

/// As std's, to this actor's group leader.
#[macro_export]
macro_rules! eprintln {
    ($($arg:tt)*) => { $crate::io::print_error(&(::std::format!($($arg)*) + "\n")) };
}

/// A trap says only `unreachable`; this prints the panic's message and place before it.
pub(crate) fn install_panic_hook() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|info| print_error(&format!("{info}\n"))));
}
