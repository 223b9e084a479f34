//! Where processes are found by pid: an array of slots with generations.
//!
//! A look-up takes no lock that another look-up waits for. A slot is reused only under a
//! new generation, so a stale pid finds nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use std::sync::OnceLock;

use wasm_node_protocol::Pid;
use wasm_node_protocol::ids::GENERATION_BITS;

use super::MAX_PROCESSES;
use super::handle::Process;

const CHUNK_SLOTS: usize = 4096;
const CHUNKS: usize = MAX_PROCESSES.div_ceil(CHUNK_SLOTS);

struct Slot {
    occupant: RwLock<(u32, Option<Arc<Process>>)>,
}

/// All processes of a node.
pub(super) struct Table {
    chunks: Box<[OnceLock<Box<[Slot]>>]>,
    free: Mutex<Free>,
    live: AtomicUsize,
}

struct Free {
    /// Slots whose occupant is gone. Taken last in, first out: warm memory.
    slots: Vec<u32>,
    /// The first slot that was never used. Slot 0 stays empty, so that no pid is all zero.
    fresh: u32,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            free: Mutex::new(Free {
                slots: Vec::new(),
                fresh: 1,
            }),
            live: AtomicUsize::new(0),
        }
    }

    /// Puts in what `make` builds for the new serial; `None` when the table is full.
    pub(super) fn insert(&self, make: impl FnOnce(u64) -> Arc<Process>) -> Option<Arc<Process>> {
        let index = {
            let mut free = self.free.lock();
            match free.slots.pop() {
                Some(index) => index,
                None if (free.fresh as usize) < MAX_PROCESSES => {
                    free.fresh += 1;
                    free.fresh - 1
                }
                None => return None,
            }
        };
        let mut occupant = self.slot_or_make(index).occupant.write();
        occupant.0 = occupant.0.wrapping_add(1) & ((1 << GENERATION_BITS) - 1);
        let process = make(Pid::serial(index, occupant.0));
        occupant.1 = Some(process.clone());
        self.live.fetch_add(1, Ordering::Relaxed);
        Some(process)
    }

    pub(super) fn get(&self, serial: u64) -> Option<Arc<Process>> {
        let (index, generation) = Pid::slot_and_generation(serial);
        let occupant = self.slot(index)?.occupant.read();
        if occupant.0 == generation {
            occupant.1.clone()
        } else {
            None
        }
    }

    /// Takes out a process; does nothing if it is gone already.
    pub(super) fn remove(&self, serial: u64) {
        let (index, generation) = Pid::slot_and_generation(serial);
        let Some(slot) = self.slot(index) else {
            return;
        };
        let mut occupant = slot.occupant.write();
        if occupant.0 == generation && occupant.1.take().is_some() {
            drop(occupant);
            self.live.fetch_sub(1, Ordering::Relaxed);
            self.free.lock().slots.push(index);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Every process that lived throughout the call, and perhaps others.
    pub(super) fn all(&self) -> Vec<Arc<Process>> {
        let fresh = self.free.lock().fresh;
        (1..fresh)
            .filter_map(|index| self.slot(index)?.occupant.read().1.clone())
            .collect()
    }

    /// Up to so many processes, from a slot on, and the slot to go on from if there are more.
    pub(super) fn page(&self, from: u32, most: usize) -> (Vec<Arc<Process>>, Option<u32>) {
        let fresh = self.free.lock().fresh;
        let mut page = Vec::new();
        for index in from.max(1)..fresh {
            if page.len() == most {
                return (page, Some(index));
            }
            page.extend(
                self.slot(index)
                    .and_then(|slot| slot.occupant.read().1.clone()),
            );
        }
        (page, None)
    }

    fn slot(&self, index: u32) -> Option<&Slot> {
        let index = index as usize;
        self.chunks
            .get(index / CHUNK_SLOTS)?
            .get()?
            .get(index % CHUNK_SLOTS)
    }

    fn slot_or_make(&self, index: u32) -> &Slot {
        let index = index as usize;
        let chunk = self.chunks[index / CHUNK_SLOTS].get_or_init(|| {
            (0..CHUNK_SLOTS)
                .map(|_| Slot {
                    occupant: RwLock::new((0, None)),
                })
                .collect()
        });
        &chunk[index % CHUNK_SLOTS]
    }
}
