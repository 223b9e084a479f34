//! Panics of the node's own code that are caught, so that one mistake does not end everything: in an
//! actor's turn, and while code is compiled.

use std::any::Any;

/// What a panic said, if it said something.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it did not say why".into())
}
