//! A list's server as a pure machine: calls and the database's answers go in, replies and
//! questions to the database come out. It is plain data at any moment, so its actor can be
//! saved and go on elsewhere or as another version, with everything under way.
//!
//! It is a view of the records that its node's worker has: it adds nothing to the list that the
//! worker has not stored first. It does not know actors, nodes or clocks; `C` is whom to answer.

use std::collections::BTreeMap;
use std::collections::btree_map;

use serde::{Deserialize, Serialize};

use crate::agenda::Agenda;
use crate::date::Date;
use crate::freshness::FROZEN_AFTER_MS;
use crate::messages::{Position, ServerCall, ServerCast, ServerReply};
use crate::record::{Change, Entry, Record, RequestId};

/// How many calls may wait for the database in one server. One more is answered
/// [`ServerReply::Unavailable`].
pub const MAX_WAITING_CALLS: usize = 10_000;

/// A server that is asked loads again after so long, in milliseconds, in the background: what
/// makes up for a [`ServerCast::Refresh`] that did not find it.
pub const RELOAD_AFTER_MS: u64 = 3_000;

/// What a server wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect<C> {
    /// Answer this call.
    Reply(C, ServerReply),
    /// Send the worker [`DatabaseCast::Store`](crate::messages::DatabaseCast::Store).
    Store(Change),
    /// Send the worker [`DatabaseCast::Load`](crate::messages::DatabaseCast::Load).
    Load(Position),
}

/// The state of a list's server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server<C> {
    agenda: Agenda,
    position: Position,
    /// When it last handled anything, in milliseconds.
    seen_ms: u64,
    /// When the last load was done, in milliseconds.
    loaded_ms: u64,
    loading: Loading,
    /// Whether reads may be answered: all that the worker had at the start, or after a pause,
    /// is here.
    fresh: bool,
    /// Reads that wait until it is.
    reads: Vec<(Date, C)>,
    /// Adds that wait for the store under way.
    adds: BTreeMap<RequestId, Add<C>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Add<C> {
    entry: Entry,
    callers: Vec<C>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Loading {
    /// None is under way.
    No,
    /// One is under way.
    Yes,
    /// One is under way, and what it tells may be older than what must be known.
    YesAndAgain,
}

impl<C> Server<C> {
    /// A server with nothing, which begins by loading.
    pub fn new(now_ms: u64) -> (Self, Vec<Effect<C>>) {
        let server = Self {
            agenda: Agenda::default(),
            position: Position::default(),
            seen_ms: now_ms,
            loaded_ms: now_ms,
            loading: Loading::Yes,
            fresh: false,
            reads: Vec::new(),
            adds: BTreeMap::new(),
        };
        let first = Effect::Load(server.position);
        (server, vec![first])
    }

    /// Somebody asks.
    pub fn call(&mut self, now_ms: u64, call: ServerCall, from: C) -> Vec<Effect<C>> {
        let mut effects = Vec::new();
        // Without a word from anyone for that long, this node may have been frozen, and another
        // server may have taken over meanwhile: the worker knows, or finds out.
        if now_ms.saturating_sub(self.seen_ms) >= FROZEN_AFTER_MS {
            self.fresh = false;
            self.load_again(&mut effects);
        } else if self.loading == Loading::No
            && (!self.fresh || now_ms.saturating_sub(self.loaded_ms) >= RELOAD_AFTER_MS)
        {
            self.load_again(&mut effects);
        }
        self.seen_ms = now_ms;
        match call {
            ServerCall::Titles(date) if self.fresh => {
                effects.push(self.titles(date, from));
            }
            ServerCall::Titles(date) => match self.has_room() {
                true => self.reads.push((date, from)),
                false => effects.push(overloaded(from)),
            },
            ServerCall::Add(entry) => self.add(entry, from, &mut effects),
        }
        effects
    }

    /// The worker answers, or tells.
    pub fn told(&mut self, now_ms: u64, cast: ServerCast) -> Vec<Effect<C>> {
        let mut effects = Vec::new();
        match cast {
            ServerCast::Refresh => self.load_again(&mut effects),
            ServerCast::Stored { record, position } => {
                self.stored(record, position, &mut effects);
            }
            ServerCast::StoreFailed { request, why } => {
                let callers = self.adds.remove(&request).map(|add| add.callers);
                effects.extend(
                    callers
                        .into_iter()
                        .flatten()
                        .map(|from| unavailable(from, &why)),
                );
            }
            ServerCast::Loaded {
                records,
                position,
                more,
            } => {
                records
                    .into_iter()
                    .for_each(|record| self.agenda.apply(record));
                self.position = position;
                self.loaded(now_ms, more, &mut effects);
            }
            ServerCast::LoadFailed(why) => {
                let reads = std::mem::take(&mut self.reads);
                effects.extend(reads.into_iter().map(|(_, from)| unavailable(from, &why)));
                // The next call asks again.
                self.loading = Loading::No;
                self.fresh = false;
            }
        }
        // A gap that a call has not seen yet must not be hidden from it.
        if now_ms.saturating_sub(self.seen_ms) < FROZEN_AFTER_MS {
            self.seen_ms = now_ms;
        }
        effects
    }

    /// There is a new worker, or this server was rebuilt: whatever was asked may have been lost.
    /// A change that is stored twice counts once, by its request.
    pub fn ask_again(&mut self) -> Vec<Effect<C>> {
        self.loading = Loading::Yes;
        let stores = self
            .adds
            .values()
            .map(|add| Effect::Store(Change::Add(add.entry.clone())));
        stores.chain([Effect::Load(self.position)]).collect()
    }

    /// Whether no call waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.reads.is_empty() && self.adds.is_empty()
    }

    fn add(&mut self, entry: Entry, from: C, effects: &mut Vec<Effect<C>>) {
        if self.agenda.has(entry.request) {
            return effects.push(Effect::Reply(from, ServerReply::Added));
        }
        if !self.has_room() {
            return effects.push(overloaded(from));
        }
        match self.adds.entry(entry.request) {
            btree_map::Entry::Occupied(add) => add.into_mut().callers.push(from),
            btree_map::Entry::Vacant(vacant) => {
                effects.push(Effect::Store(Change::Add(entry.clone())));
                vacant.insert(Add {
                    entry,
                    callers: vec![from],
                });
            }
        }
    }

    fn stored(&mut self, record: Record, position: Position, effects: &mut Vec<Effect<C>>) {
        let Change::Add(entry) = &record.change;
        let callers = self.adds.remove(&entry.request).map(|add| add.callers);
        self.agenda.apply(record);
        let replies = callers.into_iter().flatten();
        effects.extend(replies.map(|from| Effect::Reply(from, ServerReply::Added)));
        // Only if nothing lies between: what does is for the next load to tell.
        let next = Position {
            records: self.position.records + 1,
            ..self.position
        };
        if position == next {
            self.position = next;
        }
    }

    fn load_again(&mut self, effects: &mut Vec<Effect<C>>) {
        self.loading = match self.loading {
            Loading::No => {
                effects.push(Effect::Load(self.position));
                Loading::Yes
            }
            Loading::Yes | Loading::YesAndAgain => Loading::YesAndAgain,
        };
    }

    fn loaded(&mut self, now_ms: u64, more: bool, effects: &mut Vec<Effect<C>>) {
        match self.loading {
            Loading::Yes if !more => {
                self.loading = Loading::No;
                self.loaded_ms = now_ms;
                self.fresh = true;
                for (date, from) in std::mem::take(&mut self.reads) {
                    effects.push(self.titles(date, from));
                }
            }
            // An answer to nobody's question.
            Loading::No => {}
            Loading::Yes => effects.push(Effect::Load(self.position)),
            Loading::YesAndAgain => {
                self.loading = Loading::Yes;
                effects.push(Effect::Load(self.position));
            }
        }
    }

    fn titles(&self, date: Date, from: C) -> Effect<C> {
        let titles = self.agenda.titles(date).map(String::from).collect();
        Effect::Reply(from, ServerReply::Titles(titles))
    }

    fn has_room(&self) -> bool {
        let adds: usize = self.adds.values().map(|add| add.callers.len()).sum();
        self.reads.len() + adds < MAX_WAITING_CALLS
    }
}

fn unavailable<C>(from: C, why: &str) -> Effect<C> {
    Effect::Reply(from, ServerReply::Unavailable(why.into()))
}

fn overloaded<C>(from: C) -> Effect<C> {
    unavailable(from, "too many requests of this list wait for the database")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Origin, RecordId, Stamp};

    type Caller = u32;

    fn day() -> Date {
        "2018-12-19".parse().expect("a day")
    }

    fn entry(title: &str) -> Entry {
        let request = RequestId::of(title.as_bytes(), day(), title);
        Entry {
            date: day(),
            title: title.into(),
            request,
        }
    }

    fn record(seq: u64, title: &str) -> Record {
        Record {
            id: RecordId {
                origin: Origin(1),
                seq,
            },
            stamp: Stamp(seq),
            list: "bob".to_string().try_into().expect("a name"),
            change: Change::Add(entry(title)),
        }
    }

    fn at(records: u64) -> Position {
        Position { run: 1, records }
    }

    fn loaded(records: Vec<Record>, position: Position) -> ServerCast {
        ServerCast::Loaded {
            records,
            position,
            more: false,
        }
    }

    fn titles(to: Caller, titles: &[&str]) -> Effect<Caller> {
        let titles = titles.iter().map(|title| title.to_string()).collect();
        Effect::Reply(to, ServerReply::Titles(titles))
    }

    /// A server that has loaded one record, "a".
    fn serving() -> Server<Caller> {
        let (mut server, effects) = Server::new(0);
        assert_eq!(effects, [Effect::Load(Position::default())]);
        assert_eq!(server.told(0, loaded(vec![record(1, "a")], at(1))), []);
        server
    }

    #[test]
    fn reads_wait_for_the_first_load_to_its_end() {
        let (mut server, _) = Server::new(0);
        assert_eq!(server.call(1, ServerCall::Titles(day()), 7), []);
        assert!(!server.is_idle());
        let first = ServerCast::Loaded {
            records: vec![record(2, "b")],
            position: at(1),
            more: true,
        };
        assert_eq!(server.told(2, first), [Effect::Load(at(1))]);
        let effects = server.told(3, loaded(vec![record(1, "a")], at(2)));
        assert_eq!(effects, [titles(7, &["a", "b"])]);
        assert_eq!(
            server.call(4, ServerCall::Titles(day()), 8),
            [titles(8, &["a", "b"])]
        );
        assert!(server.is_idle());
    }

    #[test]
    fn an_add_is_answered_when_it_is_stored_and_not_before() {
        let mut server = serving();
        let effects = server.call(1, ServerCall::Add(entry("b")), 1);
        assert_eq!(effects, [Effect::Store(Change::Add(entry("b")))]);
        assert_eq!(
            server.call(2, ServerCall::Titles(day()), 2),
            [titles(2, &["a"])]
        );
        let effects = server.told(
            3,
            ServerCast::Stored {
                record: record(2, "b"),
                position: at(2),
            },
        );
        assert_eq!(effects, [Effect::Reply(1, ServerReply::Added)]);
        assert_eq!(
            server.call(4, ServerCall::Titles(day()), 3),
            [titles(3, &["a", "b"])]
        );
    }

    #[test]
    fn the_same_request_is_stored_once() {
        let mut server = serving();
        assert_eq!(
            server.call(1, ServerCall::Add(entry("a")), 1),
            [Effect::Reply(1, ServerReply::Added)]
        );
        assert_eq!(server.call(1, ServerCall::Add(entry("b")), 2).len(), 1);
        assert_eq!(server.call(1, ServerCall::Add(entry("b")), 3), []);
        let effects = server.told(
            2,
            ServerCast::Stored {
                record: record(2, "b"),
                position: at(2),
            },
        );
        assert_eq!(
            effects,
            [2, 3].map(|to| Effect::Reply(to, ServerReply::Added))
        );
        // A second answer, to a question asked again, changes nothing.
        let again = ServerCast::Stored {
            record: record(3, "b"),
            position: at(3),
        };
        assert_eq!(server.told(2, again), []);
        assert_eq!(
            server.call(3, ServerCall::Titles(day()), 4),
            [titles(4, &["a", "b"])]
        );
    }

    #[test]
    fn a_failure_is_told_to_those_who_wait_for_it() {
        let mut server = serving();
        server.call(1, ServerCall::Add(entry("b")), 1);
        let why = "disk full".to_string();
        let failed = ServerCast::StoreFailed {
            request: entry("b").request,
            why: why.clone(),
        };
        let unavailable = Effect::Reply(1, ServerReply::Unavailable(why.clone()));
        assert_eq!(server.told(2, failed), std::slice::from_ref(&unavailable));
        server.call(2_000, ServerCall::Titles(day()), 1);
        assert_eq!(
            server.told(2_000, ServerCast::LoadFailed(why)),
            [unavailable]
        );
        assert!(server.is_idle());
        // The next one tries again.
        assert_eq!(
            server.call(2_001, ServerCall::Titles(day()), 2),
            [Effect::Load(at(1))]
        );
        assert_eq!(
            server.told(2_002, loaded(vec![], at(1))),
            [titles(2, &["a"])]
        );
    }

    #[test]
    fn records_of_others_are_fetched_from_where_it_had_got_to() {
        let mut server = serving();
        server.call(1, ServerCall::Add(entry("c")), 1);
        // The second of the list came from elsewhere, the third is its own.
        server.told(
            2,
            ServerCast::Stored {
                record: record(3, "c"),
                position: at(3),
            },
        );
        assert_eq!(server.told(3, ServerCast::Refresh), [Effect::Load(at(1))]);
        assert_eq!(server.told(4, ServerCast::Refresh), []);
        let both = vec![record(2, "b"), record(3, "c")];
        // Nobody waits for that.
        assert_eq!(
            server.call(4, ServerCall::Titles(day()), 2),
            [titles(2, &["a", "c"])]
        );
        // It was told again meanwhile, so it asks again.
        assert_eq!(server.told(5, loaded(both, at(3))), [Effect::Load(at(3))]);
        assert_eq!(server.told(6, loaded(vec![], at(3))), []);
        assert_eq!(
            server.call(7, ServerCall::Titles(day()), 2),
            [titles(2, &["a", "b", "c"])]
        );
    }

    #[test]
    fn after_a_pause_it_asks_whether_it_missed_something() {
        let mut server = serving();
        let later = FROZEN_AFTER_MS;
        // A word of the worker in the meantime does not hide the pause.
        server.told(
            later,
            ServerCast::Stored {
                record: record(1, "a"),
                position: at(1),
            },
        );
        assert_eq!(
            server.call(later, ServerCall::Titles(day()), 1),
            [Effect::Load(at(1))]
        );
        assert_eq!(server.call(later, ServerCall::Titles(day()), 2), []);
        let effects = server.told(later, loaded(vec![record(2, "b")], at(2)));
        assert_eq!(effects, [titles(1, &["a", "b"]), titles(2, &["a", "b"])]);
        assert_eq!(
            server.call(later + 1, ServerCall::Titles(day()), 3).len(),
            1
        );
    }

    #[test]
    fn now_and_then_it_loads_again_while_it_answers() {
        let mut server = serving();
        for now_ms in (0..RELOAD_AFTER_MS).step_by(500) {
            assert_eq!(
                server.call(now_ms, ServerCall::Titles(day()), 1),
                [titles(1, &["a"])]
            );
        }
        let effects = server.call(RELOAD_AFTER_MS, ServerCall::Titles(day()), 2);
        assert_eq!(effects, [Effect::Load(at(1)), titles(2, &["a"])]);
        assert_eq!(
            server.told(RELOAD_AFTER_MS, loaded(vec![record(2, "b")], at(2))),
            []
        );
        let effects = server.call(RELOAD_AFTER_MS, ServerCall::Titles(day()), 3);
        assert_eq!(effects, [titles(3, &["a", "b"])]);
    }

    #[test]
    fn saved_in_the_middle_it_goes_on() {
        let mut server = serving();
        server.call(1, ServerCall::Add(entry("b")), 1);
        let saved = postcard::to_extend(&server, Vec::new()).expect("bytes");
        let mut server: Server<Caller> = postcard::from_bytes(&saved).expect("a server");
        let store = Effect::Store(Change::Add(entry("b")));
        assert_eq!(server.ask_again(), [store, Effect::Load(at(1))]);
        assert_eq!(
            server.call(2, ServerCall::Titles(day()), 2),
            [titles(2, &["a"])]
        );
        let effects = server.told(
            3,
            ServerCast::Stored {
                record: record(2, "b"),
                position: at(2),
            },
        );
        assert_eq!(effects, [Effect::Reply(1, ServerReply::Added)]);
        assert_eq!(server.told(3, loaded(vec![], at(2))), []);
        assert_eq!(
            server.call(4, ServerCall::Titles(day()), 3),
            [titles(3, &["a", "b"])]
        );
    }

    #[test]
    fn those_who_wait_are_bounded() {
        let (mut server, _) = Server::new(0);
        for _ in 0..MAX_WAITING_CALLS {
            assert_eq!(server.call(0, ServerCall::Titles(day()), 1), []);
        }
        for call in [ServerCall::Titles(day()), ServerCall::Add(entry("x"))] {
            let effects = server.call(0, call, 2);
            assert!(matches!(
                effects[..],
                [Effect::Reply(2, ServerReply::Unavailable(_))]
            ));
        }
    }
}
