//! The mailbox, without asking the host in vain.
//!
//! Contract: as the import `mailbox.next`. The host may say with each message whether another waits
//! (`wasm-node:more-waits` in `wit/actor.wit`); if none does, the next question is answered here,
//! which saves a call for each turn. What comes after that leads to another turn.

use crate::Message;
use crate::sys::mailbox;

#[cfg(target_arch = "wasm32")]
mod more_waits {
    use std::cell::UnsafeCell;

    struct Word(UnsafeCell<u32>);

    // SAFETY: a component has one thread; the host writes only while the guest is in its import.
    unsafe impl Sync for Word {}

    static WORD: Word = Word(UnsafeCell::new(1));

    /// Where the word is: for the host.
    #[unsafe(export_name = "wasm-node:more-waits")]
    extern "C" fn address() -> *const u32 {
        WORD.0.get()
    }

    pub(super) fn get() -> bool {
        // SAFETY: as for `Sync`. Volatile, as the compiler cannot see the host write.
        unsafe { WORD.0.get().read_volatile() != 0 }
    }

    pub(super) fn set() {
        // SAFETY: as above.
        unsafe { WORD.0.get().write_volatile(1) }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod more_waits {
    pub(super) fn get() -> bool {
        true
    }
    pub(super) fn set() {}
}

/// The next message; none when the mailbox is empty or the turn's budget is used up. Then the
/// turn should end: another one follows when there is more.
pub fn next() -> Option<Message> {
    match more_waits::get() {
        true => mailbox::next(),
        false => None,
    }
}

/// A turn is over, or `init`: in the next one, messages wait.
pub(crate) fn turn_over() {
    more_waits::set();
}
