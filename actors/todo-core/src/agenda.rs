//! The content of one list: a view of its records that can be asked by day. Records may be
//! applied in any order and more than once; the result is the same.

use std::collections::BTreeMap;
use std::collections::btree_map;

use serde::{Deserialize, Serialize};

use crate::date::Date;
use crate::record::{Change, Place, Record, RequestId};

/// A list's entries, by day, each day in the order added.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Agenda {
    days: BTreeMap<Date, BTreeMap<Place, String>>,
    /// Where the entry of each request stands. A request whose answer was lost, and that was
    /// made again, may have left two records: the one with the lesser place counts, everywhere.
    requests: BTreeMap<RequestId, Place>,
}

impl Agenda {
    /// Applies a record.
    pub fn apply(&mut self, record: Record) {
        let place = record.place();
        let Change::Add(entry) = record.change;
        match self.requests.entry(entry.request) {
            btree_map::Entry::Vacant(vacant) => {
                vacant.insert(place);
            }
            btree_map::Entry::Occupied(occupied) if *occupied.get() <= place => return,
            btree_map::Entry::Occupied(mut occupied) => {
                // The date is part of the request's identity: it is the same day.
                let later = occupied.insert(place);
                self.days.entry(entry.date).or_default().remove(&later);
            }
        }
        self.days
            .entry(entry.date)
            .or_default()
            .insert(place, entry.title);
    }

    /// Whether the request's entry is here.
    pub fn has(&self, request: RequestId) -> bool {
        self.requests.contains_key(&request)
    }

    /// The titles of a day, in the order added.
    pub fn titles(&self, date: Date) -> impl Iterator<Item = &str> {
        self.days
            .get(&date)
            .into_iter()
            .flat_map(|day| day.values().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Entry, Origin, RecordId, Stamp};

    fn record(origin: u64, seq: u64, stamp: u64, day: u8, title: &str, request: u128) -> Record {
        Record {
            id: RecordId {
                origin: Origin(origin),
                seq,
            },
            stamp: Stamp(stamp),
            list: "bob".to_string().try_into().expect("a name"),
            change: Change::Add(Entry {
                date: format!("2018-12-{day:02}").parse().expect("a day"),
                title: title.into(),
                request: RequestId(request),
            }),
        }
    }

    fn titles(agenda: &Agenda, day: u8) -> Vec<&str> {
        agenda
            .titles(format!("2018-12-{day:02}").parse().expect("a day"))
            .collect()
    }

    #[test]
    fn entries_come_in_the_order_added_however_they_arrive() {
        let records = [
            record(9, 1, 100, 19, "first", 1),
            record(2, 1, 101, 19, "second", 2),
            record(9, 2, 102, 20, "other day", 3),
            record(9, 3, 103, 19, "third", 4),
            record(9, 4, 103, 19, "fourth", 5),
            // The third again: its first answer was lost.
            record(2, 7, 999, 19, "third", 4),
        ];
        let mut expected = Agenda::default();
        records
            .iter()
            .cloned()
            .for_each(|record| expected.apply(record));
        assert_eq!(
            titles(&expected, 19),
            ["first", "second", "third", "fourth"]
        );
        assert_eq!(titles(&expected, 20), ["other day"]);
        assert_eq!(titles(&expected, 21), [""; 0]);
        for shift in 0..records.len() {
            let mut agenda = Agenda::default();
            let twice = records
                .iter()
                .rev()
                .cycle()
                .skip(shift)
                .take(2 * records.len());
            twice.cloned().for_each(|record| agenda.apply(record));
            assert_eq!(agenda, expected, "shift {shift}");
        }
    }

    #[test]
    fn equal_titles_of_different_requests_are_different_entries() {
        let mut agenda = Agenda::default();
        agenda.apply(record(1, 1, 1, 1, "x", 1));
        agenda.apply(record(1, 2, 2, 1, "x", 2));
        assert_eq!(titles(&agenda, 1), ["x", "x"]);
        assert!(agenda.has(RequestId(1)) && !agenda.has(RequestId(3)));
    }

    #[test]
    fn thousands_stay_in_order() {
        let mut agenda = Agenda::default();
        (0..5000).rev().for_each(|n| {
            agenda.apply(record(1, n, n, 3, &n.to_string(), n.into()));
        });
        let expected: Vec<_> = (0..5000).map(|n| n.to_string()).collect();
        assert_eq!(titles(&agenda, 3), expected);
    }
}
