//! The index of one worker's store: which records it has, of which origin and of which list. The
//! records' contents stay in the store; here a record takes some 20 bytes.
//!
//! Contract: an index is the same whatever the order in which records were inserted, except for
//! the order within [`Log::of_list`], which is that of insertion, so that a position in it says
//! what a reader has seen.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::list::ListName;
use crate::record::{Key, Origin, RecordId, Stamp};

/// What a worker has, as it tells its peers: of each origin, the ranges of sequence numbers, first
/// and last, ascending and apart. One range from 1 unless something was lost on the way.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Have(BTreeMap<Origin, Vec<(u64, u64)>>);

impl Have {
    fn covers(&self, id: RecordId) -> bool {
        let ranges = self.0.get(&id.origin).map_or(&[][..], Vec::as_slice);
        let after = ranges.partition_point(|(first, _)| *first <= id.seq);
        after
            .checked_sub(1)
            .is_some_and(|at| ranges[at].1 >= id.seq)
    }
}

/// Which records a worker has.
#[derive(Debug, Default)]
pub struct Log {
    lists: Vec<List>,
    numbers: HashMap<ListName, u32>,
    /// Of each origin, runs of records with consecutive numbers, by their first number.
    origins: BTreeMap<Origin, BTreeMap<u64, Vec<Slot>>>,
    latest: Stamp,
}

#[derive(Debug)]
struct List {
    name: ListName,
    records: Vec<(Stamp, RecordId)>,
}

/// The list of a record, by number, and the record's place in it.
#[derive(Debug, Clone, Copy)]
struct Slot {
    list: u32,
    position: u32,
}

impl Log {
    /// Adds a record that is in the store; whether it was new here.
    pub fn insert(&mut self, key: Key) -> bool {
        let Key { id, stamp, list } = key;
        if self.has(id) {
            return false;
        }
        self.latest = self.latest.max(stamp);
        let number = match self.numbers.get(&list) {
            Some(number) => *number,
            None => {
                let number = self.lists.len() as u32;
                self.numbers.insert(list.clone(), number);
                self.lists.push(List {
                    name: list,
                    records: Vec::new(),
                });
                number
            }
        };
        let records = &mut self.lists[number as usize].records;
        let slot = Slot {
            list: number,
            position: records.len() as u32,
        };
        records.push((stamp, id));
        insert_slot(self.origins.entry(id.origin).or_default(), id.seq, slot);
        true
    }

    /// Whether the record is here.
    pub fn has(&self, id: RecordId) -> bool {
        let runs = self.origins.get(&id.origin);
        let run = runs.and_then(|runs| runs.range(..=id.seq).next_back());
        run.is_some_and(|(first, run)| id.seq - first < run.len() as u64)
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.lists.iter().map(|list| list.records.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// The greatest stamp of all.
    pub fn latest(&self) -> Stamp {
        self.latest
    }

    /// What to tell a peer that is asked for the rest.
    pub fn have(&self) -> Have {
        let ranges = |runs: &BTreeMap<u64, Vec<Slot>>| {
            runs.iter()
                .map(|(first, run)| (*first, first + (run.len() as u64 - 1)))
                .collect()
        };
        Have(
            self.origins
                .iter()
                .map(|(origin, runs)| (*origin, ranges(runs)))
                .collect(),
        )
    }

    /// The records that are here and not there, in the order of their origins and numbers.
    pub fn missing(&self, there: &Have) -> impl Iterator<Item = Key> {
        self.origins.iter().flat_map(move |(&origin, runs)| {
            runs.iter().flat_map(move |(&first, run)| {
                let skip = there.first_absent(RecordId { origin, seq: first }) - first;
                let rest = run
                    .iter()
                    .enumerate()
                    .skip(skip.min(run.len() as u64) as usize);
                rest.map(move |(at, slot)| {
                    (
                        slot,
                        RecordId {
                            origin,
                            seq: first + at as u64,
                        },
                    )
                })
                .filter(|(_, id)| !there.covers(*id))
                .map(|(slot, id)| self.key(*slot, id))
            })
        })
    }

    /// A list's records from a position in the order in which they came.
    pub fn of_list(&self, list: &ListName, from: usize) -> impl Iterator<Item = Key> {
        let list = self
            .numbers
            .get(list)
            .map(|number| &self.lists[*number as usize]);
        list.into_iter().flat_map(move |list| {
            list.records.iter().skip(from).map(|&(stamp, id)| Key {
                id,
                stamp,
                list: list.name.clone(),
            })
        })
    }

    /// How many records a list has: the position after its last.
    pub fn list_len(&self, list: &ListName) -> usize {
        let number = self.numbers.get(list);
        number.map_or(0, |number| self.lists[*number as usize].records.len())
    }

    fn key(&self, slot: Slot, id: RecordId) -> Key {
        let list = &self.lists[slot.list as usize];
        Key {
            id,
            stamp: list.records[slot.position as usize].0,
            list: list.name.clone(),
        }
    }
}

impl Have {
    /// The first number from `id`'s on that is not covered.
    fn first_absent(&self, id: RecordId) -> u64 {
        let ranges = self.0.get(&id.origin).map_or(&[][..], Vec::as_slice);
        let after = ranges.partition_point(|(first, _)| *first <= id.seq);
        match after.checked_sub(1).map(|at| ranges[at].1) {
            Some(last) if last >= id.seq => last.saturating_add(1),
            _ => id.seq,
        }
    }
}

fn insert_slot(runs: &mut BTreeMap<u64, Vec<Slot>>, seq: u64, slot: Slot) {
    // Joined with the run that follows, if there is no gap left.
    let mut tail = seq
        .checked_add(1)
        .and_then(|next| runs.remove(&next))
        .unwrap_or_default();
    match runs.range_mut(..seq).next_back() {
        Some((first, run)) if seq - first == run.len() as u64 => {
            run.push(slot);
            run.append(&mut tail);
        }
        _ => {
            tail.insert(0, slot);
            runs.insert(seq, tail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(origin: u64, seq: u64) -> Key {
        let list = format!("list{}", seq % 3).try_into().expect("a name");
        let id = RecordId {
            origin: Origin(origin),
            seq,
        };
        Key {
            id,
            stamp: Stamp(seq.saturating_add(origin * 1000)),
            list,
        }
    }

    fn log(keys: &[(u64, u64)]) -> Log {
        let mut log = Log::default();
        keys.iter()
            .for_each(|&(origin, seq)| assert!(log.insert(key(origin, seq))));
        log
    }

    fn missing(here: &Log, there: &Log) -> Vec<(u64, u64)> {
        here.missing(&there.have())
            .map(|key| (key.id.origin.0, key.id.seq))
            .collect()
    }

    #[test]
    fn a_record_counts_once() {
        let mut log = log(&[(1, 1), (1, 2)]);
        assert!(!log.insert(key(1, 2)));
        assert_eq!((log.len(), log.latest()), (2, Stamp(1002)));
    }

    #[test]
    fn order_and_gaps_make_no_difference_in_the_end() {
        let orders: [&[(u64, u64)]; 4] = [
            &[(1, 1), (1, 2), (1, 3), (1, 4), (1, 5)],
            &[(1, 5), (1, 4), (1, 3), (1, 2), (1, 1)],
            &[(1, 1), (1, 5), (1, 3), (1, 2), (1, 4)],
            &[(1, 4), (1, 2), (1, 1), (1, 5), (1, 3)],
        ];
        for order in orders {
            let log = log(order);
            assert_eq!(
                log.have(),
                Have([(Origin(1), vec![(1, 5)])].into()),
                "{order:?}"
            );
            assert!((1..=5).all(|seq| log.has(key(1, seq).id)));
            assert!(!log.has(key(1, 0).id) && !log.has(key(1, 6).id) && !log.has(key(2, 1).id));
        }
    }

    #[test]
    fn a_peer_is_told_what_it_lacks_and_nothing_else() {
        let here = log(&[(1, 1), (1, 2), (1, 3), (1, 4), (1, 7), (2, 1), (3, 2)]);
        assert_eq!(
            missing(&here, &Log::default()),
            [(1, 1), (1, 2), (1, 3), (1, 4), (1, 7), (2, 1), (3, 2)]
        );
        let there = log(&[(1, 1), (1, 2), (1, 4), (3, 1), (3, 2), (9, 9)]);
        assert_eq!(missing(&here, &there), [(1, 3), (1, 7), (2, 1)]);
        assert_eq!(missing(&there, &here), [(3, 1), (9, 9)]);
        assert_eq!(missing(&here, &here), []);
    }

    #[test]
    fn numbers_at_the_edge_do_no_harm() {
        let here = log(&[(1, u64::MAX), (1, 0), (1, u64::MAX - 1)]);
        assert!(here.has(key(1, u64::MAX).id));
        assert_eq!(missing(&here, &here), []);
        assert_eq!(
            missing(&here, &log(&[(1, 0)])),
            [(1, u64::MAX - 1), (1, u64::MAX)]
        );
    }

    #[test]
    fn a_list_is_read_on_from_a_position() {
        let log = log(&[(1, 3), (2, 6), (1, 1), (1, 6)]);
        let list: ListName = "list0".to_string().try_into().expect("a name");
        let from = |from| {
            log.of_list(&list, from)
                .map(|key| key.id.seq)
                .collect::<Vec<_>>()
        };
        assert_eq!(from(0), [3, 6, 6]);
        assert_eq!(from(2), [6]);
        assert_eq!(from(7), []);
        assert_eq!(log.list_len(&list), 3);
        assert_eq!(
            log.list_len(&"none".to_string().try_into().expect("a name")),
            0
        );
    }

    #[test]
    fn exchanging_until_nothing_is_missing_makes_equals() {
        // Three logs with random subsets of the same records, and random exchanges.
        let mut seed = 7u64;
        let mut random = move |below: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for _ in 0..50 {
            let mut logs = [Log::default(), Log::default(), Log::default()];
            for _ in 0..100 {
                let record = key(random(3), 1 + random(40));
                logs[random(3) as usize].insert(record);
            }
            for _ in 0..60 {
                let (to, from) = (random(3) as usize, random(3) as usize);
                // A bounded answer, as real ones are.
                let have = logs[to].have();
                let found: Vec<_> = logs[from].missing(&have).take(10).collect();
                found
                    .into_iter()
                    .for_each(|key| assert!(logs[to].insert(key)));
            }
            for (to, from) in [(0, 1), (0, 2), (1, 0), (2, 0)] {
                let found: Vec<_> = logs[from].missing(&logs[to].have()).collect();
                found
                    .into_iter()
                    .for_each(|key| assert!(logs[to].insert(key)));
            }
            assert_eq!(logs[0].have(), logs[1].have());
            assert_eq!(logs[0].have(), logs[2].have());
        }
    }
}
