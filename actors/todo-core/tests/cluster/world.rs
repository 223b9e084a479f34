//! A worker's world: a disk that may fail, a clock that is the simulation's.

use std::collections::BTreeMap;

use todo_core::list::ListName;
use todo_core::messages::{Address, PeerCall, PeerReply, ServerCast};
use todo_core::records::Store;
use todo_core::worker::{Ticket, World};

use super::Peer;

/// What a worker does, kept until its handler has ended: a crash in a write loses what follows.
pub(crate) struct Host<'a> {
    pub(crate) disk: &'a mut BTreeMap<String, Vec<u8>>,
    pub(crate) peers: Vec<String>,
    pub(crate) now_ms: u64,
    pub(crate) random: &'a mut u64,
    pub(crate) troubles: bool,
    pub(crate) crashed: bool,
    pub(crate) out: Vec<Out>,
}

pub(crate) enum Out {
    Tell(Address, ServerCast),
    Refresh(ListName),
    Reply(Peer, PeerReply),
    Ask(Vec<(String, Ticket)>, PeerCall, u32),
    Flush,
}

pub(crate) fn next(random: &mut u64) -> u64 {
    *random = random
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    let mixed = (*random ^ (*random >> 33)).wrapping_mul(0xff51afd7ed558ccd);
    mixed ^ (mixed >> 33)
}

impl Store for Host<'_> {
    fn write(&mut self, pairs: &[(String, Vec<u8>)]) -> Result<(), String> {
        if self.crashed {
            return Err("crashed".into());
        }
        if self.troubles && next(self.random).is_multiple_of(300) {
            self.crashed = next(self.random).is_multiple_of(2);
            // A crash may come before or after the disk has it.
            if !self.crashed || next(self.random).is_multiple_of(2) {
                return Err("disk full".into());
            }
        }
        self.disk.extend(pairs.iter().cloned());
        Ok(())
    }

    fn read(&mut self, keys: &[String]) -> Result<Vec<Vec<u8>>, String> {
        let value = |key| self.disk.get(key).cloned().ok_or("lost".to_string());
        keys.iter().map(value).collect()
    }
}

impl Host<'_> {
    fn out(&mut self, out: Out) {
        if !self.crashed {
            self.out.push(out);
        }
    }
}

impl World<Peer> for Host<'_> {
    fn now_ms(&mut self) -> u64 {
        self.now_ms
    }
    fn wall_ms(&mut self) -> u64 {
        self.now_ms
    }
    fn random(&mut self) -> u64 {
        next(self.random)
    }
    fn nodes(&mut self) -> Vec<String> {
        self.peers.clone()
    }
    fn tell(&mut self, server: Address, cast: &ServerCast) {
        self.out(Out::Tell(server, cast.clone()));
    }
    fn refresh(&mut self, list: &ListName) {
        self.out(Out::Refresh(list.clone()));
    }
    fn reply(&mut self, peer: Peer, reply: &PeerReply) {
        self.out(Out::Reply(peer, reply.clone()));
    }
    fn ask(&mut self, nodes: Vec<(String, Ticket)>, call: &PeerCall, timeout_ms: u32) {
        self.out(Out::Ask(nodes, call.clone(), timeout_ms));
    }
    fn flush_soon(&mut self) {
        self.out(Out::Flush);
    }
    fn report(&mut self, _: &str) {}
}
