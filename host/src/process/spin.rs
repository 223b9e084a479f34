//! A lock for what takes a few instructions.
//!
//! Contract: whoever waits for it spins, then yields its processor, and is never put to sleep.
//! A lock that sleeps forms convoys where many threads take it a million times a second each: the
//! one that is woken has to be scheduled while the others already wait again. Nothing that
//! blocks, nor anything long, may be done while it is held.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::lock_api::{GuardNoSend, Mutex, RawMutex};

/// Looks at the lock before the processor is yielded: the holder may need it.
const SPINS_BEFORE_YIELD: u32 = 64;

/// What it protects, and the lock.
pub(super) type SpinMutex<T> = Mutex<Spin, T>;

/// The lock itself.
pub(super) struct Spin(AtomicBool);

// SAFETY: whoever changes it from false to true has it, alone, until it is false again.
unsafe impl RawMutex for Spin {
    const INIT: Self = Self(AtomicBool::new(false));
    type GuardMarker = GuardNoSend;

    #[inline]
    fn lock(&self) {
        let mut spins = 0;
        while !self.try_lock() {
            while self.0.load(Ordering::Relaxed) {
                spins += 1;
                match spins < SPINS_BEFORE_YIELD {
                    true => std::hint::spin_loop(),
                    false => std::thread::yield_now(),
                }
            }
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        !self.0.swap(true, Ordering::Acquire)
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}
