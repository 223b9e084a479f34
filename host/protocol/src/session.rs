//! The life of one established link: when to tick, when to call the peer down.
//!
//! Contract: the peer is sent something at least every quarter of the shorter of the two tick
//! times, a little earlier by chance, so that a node's many links do not tick at the same
//! moment, not even after it has sent something to all at once; it is down when nothing came from it for four of our own ticks and half a tick of
//! grace. Any bytes count as life, in both directions. A node that was itself stopped
//! (SIGSTOP, a sleeping laptop) blames nobody for the silence: it starts counting afresh.
//!
//! Deliberately does not know sockets, nor what a message says.

use std::collections::VecDeque;

use crate::time::{Millis, next_random};

/// The default tick time, in milliseconds: a peer silent for as long is down.
pub const DEFAULT_TICK_TIME_MS: u32 = 4_000;

/// The shortest tick time that can be set, in milliseconds; shorter ones are raised to it,
/// a peer's too.
pub const MIN_TICK_TIME_MS: u32 = 200;

/// The longest, in milliseconds (an hour); longer ones are lowered to it.
pub const MAX_TICK_TIME_MS: u32 = 3_600_000;

/// Ticks in a tick time.
const TICKS: u64 = 4;

/// The part of its pause by which a tick may be early.
const JITTER: u64 = 8;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionInput {
    /// Bytes came from the peer.
    Received,
    /// Bytes were written to the peer (handed to the operating system).
    Sent,
    /// The deadline passed, or nothing did: look.
    Timer,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionOutput {
    /// Send a [`crate::codec::WireMessage::Tick`].
    SendTick,
    /// The peer is down: close the link. Said once; nothing follows.
    Down {
        /// For how long nothing came from it.
        silent_ms: u64,
    },
}

/// Ticks of one link.
#[derive(Debug)]
pub struct Session {
    send_every: u64,
    /// The pause before the next tick: that, or a little less.
    pause: u64,
    random: u64,
    silence_limit: u64,
    next_tick: Millis,
    last_received: Millis,
    last_run: Millis,
    down: bool,
    outputs: VecDeque<SessionOutput>,
}

impl Session {
    /// A link established at `now`. `random` spreads the first tick, so that many links of
    /// one node do not tick at the same moment.
    pub fn new(now: Millis, tick_time_ms: u32, peer_tick_time_ms: u32, random: u64) -> Self {
        let clamp = |ms: u32| u64::from(ms.clamp(MIN_TICK_TIME_MS, MAX_TICK_TIME_MS));
        let (own, peer) = (clamp(tick_time_ms), clamp(peer_tick_time_ms));
        let send_every = own.min(peer) / TICKS;
        Self {
            send_every,
            pause: send_every,
            random,
            silence_limit: own + own / TICKS / 2,
            next_tick: now + (random % send_every),
            last_received: now,
            last_run: now,
            down: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes note of what happened by `now`, and of the time itself.
    pub fn handle(&mut self, now: Millis, input: SessionInput) {
        if self.down {
            return;
        }
        // This node runs at least once a tick. If it did not, it was the one asleep.
        if now - self.last_run > 2 * self.send_every {
            self.last_received = now;
        }
        self.last_run = now;
        match input {
            SessionInput::Received => self.last_received = now,
            SessionInput::Sent => self.next_tick = now + self.pause,
            SessionInput::Timer => {}
        }
        let silent_ms = now - self.last_received;
        if silent_ms >= self.silence_limit {
            self.down = true;
            self.outputs.push_back(SessionOutput::Down { silent_ms });
        } else if now >= self.next_tick {
            let early = next_random(&mut self.random) % (self.send_every / JITTER + 1);
            self.pause = self.send_every - early;
            self.next_tick = now + self.pause;
            self.outputs.push_back(SessionOutput::SendTick);
        }
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<SessionOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Session::handle`] with [`SessionInput::Timer`] at the latest.
    pub fn next_deadline(&self) -> Option<Millis> {
        (!self.down).then(|| self.next_tick.min(self.last_received + self.silence_limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a session whose peer falls silent at `silent_from`; its outputs with their times.
    fn run(
        tick_time_ms: u32,
        peer_tick_time_ms: u32,
        silent_from: u64,
    ) -> Vec<(u64, SessionOutput)> {
        let mut session = Session::new(Millis(0), tick_time_ms, peer_tick_time_ms, 12_345);
        let mut outputs = Vec::new();
        for now in 0..200_000 {
            if now < silent_from && now % 100 == 0 {
                session.handle(Millis(now), SessionInput::Received);
            }
            if session.next_deadline().is_some_and(|at| at <= Millis(now)) {
                session.handle(Millis(now), SessionInput::Timer);
            }
            while let Some(output) = session.poll_output() {
                outputs.push((now, output));
            }
        }
        outputs
    }

    #[test]
    fn a_silent_peer_is_down_within_five_seconds_at_the_default() {
        let outputs = run(DEFAULT_TICK_TIME_MS, DEFAULT_TICK_TIME_MS, 20_000);
        let (at, last) = outputs.last().unwrap();
        assert!(
            matches!(last, SessionOutput::Down { silent_ms: 4_500 }),
            "{last:?}"
        );
        assert!((24_000..25_000).contains(at), "{at}");
        let downs = outputs
            .iter()
            .filter(|(_, output)| matches!(output, SessionOutput::Down { .. }));
        assert_eq!(downs.count(), 1);
    }

    #[test]
    fn ticks_follow_the_more_impatient_side() {
        let outputs = run(60_000, 4_000, 100_000);
        let ticks: Vec<_> = outputs
            .iter()
            .filter(|(_, output)| *output == SessionOutput::SendTick)
            .collect();
        let pauses: Vec<_> = ticks.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(pauses.iter().all(|pause| (875..=1_000).contains(pause)));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        assert!(ticks[0].0 < 1_000);
        let patient = outputs
            .iter()
            .find(|(_, output)| matches!(output, SessionOutput::Down { .. }));
        assert!(patient.is_some_and(|(at, _)| *at > 160_000));
    }

    #[test]
    fn what_is_sent_makes_ticks_unnecessary() {
        let mut session = Session::new(Millis(0), 4_000, 4_000, 999);
        for now in (0..10_000).step_by(500) {
            session.handle(Millis(now), SessionInput::Sent);
            session.handle(Millis(now), SessionInput::Received);
        }
        assert_eq!(session.poll_output(), None);
    }

    #[test]
    fn links_that_all_sent_at_once_do_not_tick_at_once() {
        let mut moments = std::collections::BTreeSet::new();
        for seed in 1..=20 {
            let mut session = Session::new(Millis(0), 4_000, 4_000, seed * 7_919);
            let mut ticks = 0;
            for now in 0..12_000 {
                let input = match now {
                    5_000 => SessionInput::Sent,
                    _ => SessionInput::Received,
                };
                session.handle(Millis(now), input);
                while session.poll_output().is_some() {
                    if now > 5_000 && ticks == 0 {
                        moments.insert(now);
                        ticks += 1;
                    }
                }
            }
        }
        assert!(moments.len() > 10, "{moments:?}");
        assert!(*moments.last().unwrap() <= 6_000);
    }

    #[test]
    fn a_node_that_was_stopped_itself_gives_its_peers_time() {
        let mut session = Session::new(Millis(0), 4_000, 4_000, 0);
        session.handle(Millis(60_000), SessionInput::Timer);
        assert_eq!(session.poll_output(), Some(SessionOutput::SendTick));
        assert_eq!(session.poll_output(), None);
    }
}
