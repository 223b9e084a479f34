//! Many actors that are all awake: pairs that pass a ball to and fro.

use wasm_node_sdk::bindings::wasm_node::actor::{mailbox, process, timer};
use wasm_node_sdk::{Message, Pid, Ref};

use crate::work::{BATCH_MESSAGES, BATCH_SPAWNS, Failed, GO_ON, args, send, spawn};

/// One game, from the making of its players to their end.
pub struct Mesh {
    /// An even number, once all are made.
    players: Vec<Pid>,
    wanted: u64,
    /// How often each ball is passed.
    passes: u64,
    phase: Phase,
}

enum Phase {
    /// Makes players; so many have said `hi`.
    Gather { there: u64 },
    /// Throws balls in, one a pair; so many have come to rest.
    Play {
        since: u64,
        thrown: usize,
        rested: u64,
    },
    /// Its time is taken.
    Leave { elapsed: u64, last: Ref },
}

impl Mesh {
    /// Begins to make so many players, for so many messages in all.
    pub fn begin(actors: u64, messages: u64) -> Result<Self, Failed> {
        let pairs = actors / 2;
        if pairs == 0 || messages < pairs {
            return Err("a mesh needs two actors, and a message for each pair".into());
        }
        send(process::self_(), GO_ON);
        Ok(Self {
            players: Vec::with_capacity(pairs as usize * 2),
            wanted: pairs * 2,
            passes: messages / pairs,
            phase: Phase::Gather { there: 0 },
        })
    }

    /// Takes a message; done, with the messages that were passed and the nanoseconds that took,
    /// or not.
    pub fn step(&mut self, message: &Message) -> Result<Option<String>, Failed> {
        match (&mut self.phase, message) {
            (Phase::Gather { .. }, Message::Info(word)) if word == GO_ON => self.gather()?,
            (Phase::Gather { there }, Message::Info(_)) => {
                *there += 1;
                if *there == self.wanted {
                    self.phase = Phase::Play {
                        since: timer::now(),
                        thrown: 0,
                        rested: 0,
                    };
                    self.throw();
                }
            }
            (Phase::Play { .. }, Message::Info(word)) if word == GO_ON => self.throw(),
            (Phase::Play { since, rested, .. }, Message::Info(_)) => {
                *rested += 1;
                if *rested * 2 == self.wanted {
                    let elapsed = timer::now() - *since;
                    self.leave(elapsed);
                }
            }
            (Phase::Leave { elapsed, last }, Message::Down((tag, _, _))) if tag == last => {
                let messages = self.passes * self.wanted / 2;
                return Ok(Some(format!("{messages} {elapsed}")));
            }
            _ => {}
        }
        Ok(None)
    }

    fn gather(&mut self) -> Result<(), Failed> {
        let args = args(b'p', process::self_());
        let missing = self.wanted - self.players.len() as u64;
        for _ in 0..missing.min(BATCH_SPAWNS) {
            match spawn(&args) {
                Ok(player) => self.players.push(player),
                Err(error) => {
                    let made = self.players.len();
                    self.end_players();
                    return Err(format!("after {made} actors: {error}"));
                }
            }
        }
        if missing > BATCH_SPAWNS {
            send(process::self_(), GO_ON);
        }
        Ok(())
    }

    fn throw(&mut self) {
        let Phase::Play { thrown, .. } = &mut self.phase else {
            return;
        };
        let all = self.players.chunks_exact(2);
        for pair in all.skip(*thrown).take(BATCH_MESSAGES as usize) {
            if let [one, other] = pair {
                // The first pass is this one, in the name of the pair's one.
                let _ = mailbox::send(*other, &ball(*one, self.passes - 1));
            }
            *thrown += 1;
        }
        if *thrown * 2 < self.players.len() {
            send(process::self_(), GO_ON);
        }
    }

    fn leave(&mut self, elapsed: u64) {
        if let Some(&last) = self.players.last() {
            let last = process::monitor(&last.into());
            self.phase = Phase::Leave { elapsed, last };
        }
        self.end_players();
    }

    fn end_players(&self) {
        for &player in &self.players {
            send(player, b"stop");
        }
    }
}

/// A ball on its way: who passed it, and how often it is to be passed on.
pub fn ball(from: Pid, left: u64) -> [u8; 24] {
    let mut body = [0; 24];
    body[..16].copy_from_slice(&from.to_bytes());
    body[16..].copy_from_slice(&left.to_be_bytes());
    body
}

/// What [`ball`] made.
pub fn caught(body: &[u8]) -> Option<(Pid, u64)> {
    let (from, left) = body.split_at_checked(16)?;
    let from = Pid::from_bytes(from.try_into().ok()?);
    Some((from, u64::from_be_bytes(left.try_into().ok()?)))
}
