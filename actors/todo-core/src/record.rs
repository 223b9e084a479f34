//! Records: the immutable facts that the database keeps and copies. A list is what its records
//! say, whatever the order in which they came.

use serde::{Deserialize, Serialize};

use crate::date::Date;
use crate::list::ListName;

/// One run of one database worker: random, drawn at each start, so that a sequence number is
/// never given out twice, also when a crash lost records that other nodes had already got.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Origin(pub u64);

/// A record's identity. `seq` counts from 1 within its origin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RecordId {
    /// The run of the worker that wrote it first.
    pub origin: Origin,
    /// Its number there.
    pub seq: u64,
}

/// When a record was written: a hybrid logical clock. The wall clock's milliseconds in the upper
/// 48 bits, so that entries made on two sides of a partition end up in the order made as far as
/// clocks can tell; a count below them, so that a record always comes after all that its writer
/// had seen, whatever the clocks say.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The next stamp of a writer that has seen `self`, at this wall-clock time.
    pub fn next(self, wall_ms: u64) -> Self {
        Self((wall_ms << 16).max(self.0.saturating_add(1)))
    }
}

/// What makes two adds the same one: a digest of the client's idempotency key and of what it
/// asked for. A key that is used again for something else is another request, so that no entry is
/// acknowledged and dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RequestId(pub u128);

impl RequestId {
    /// The identity of an add under a key, the client's or one drawn for this request.
    pub fn of(key: &[u8], date: Date, title: &str) -> Self {
        let date = date.to_string();
        let length = (key.len() as u64).to_le_bytes();
        Self(fnv1a(&[&length, key, date.as_bytes(), title.as_bytes()]))
    }
}

/// One to-do entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its day.
    pub date: Date,
    /// Its text, without line breaks.
    pub title: String,
    /// The request that added it.
    pub request: RequestId,
}

/// What a record says about its list. New kinds go at the end: the position is on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Change {
    /// An entry was added.
    Add(Entry),
}

/// One change of one list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its identity.
    pub id: RecordId,
    /// Its place in the order of the list's changes; equal stamps are ordered by `id`.
    pub stamp: Stamp,
    /// Its list.
    pub list: ListName,
    /// What changed.
    pub change: Change,
}

/// Where a record stands among all of its list.
pub type Place = (Stamp, RecordId);

/// What a record's key in the store tells: all but the change, so that a worker can index its
/// store without reading a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// The record's identity.
    pub id: RecordId,
    /// Its stamp.
    pub stamp: Stamp,
    /// Its list.
    pub list: ListName,
}

impl Key {
    /// The key's text: three numbers in fixed-width hex, so that keys sort by origin and number,
    /// then the list's name as it is.
    pub fn to_text(&self) -> String {
        let RecordId { origin, seq } = self.id;
        format!(
            "{:016x}{seq:016x}{:016x}{}",
            origin.0, self.stamp.0, self.list
        )
    }

    /// Reads what [`Key::to_text`] wrote; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |at: usize| u64::from_str_radix(text.get(at..at + 16)?, 16).ok();
        Some(Self {
            id: RecordId {
                origin: Origin(number(0)?),
                seq: number(16)?,
            },
            stamp: Stamp(number(32)?),
            list: text.get(48..)?.to_string().try_into().ok()?,
        })
    }
}

impl Record {
    /// Its place among its list's records.
    pub fn place(&self) -> Place {
        (self.stamp, self.id)
    }

    /// Its key in the store.
    pub fn key(&self) -> Key {
        Key {
            id: self.id,
            stamp: self.stamp,
            list: self.list.clone(),
        }
    }

    /// About how many bytes it takes in a message.
    pub fn size_bytes(&self) -> usize {
        let Change::Add(entry) = &self.change;
        64 + self.list.as_str().len() + entry.title.len()
    }

    /// Its value in the store: a format number, and the change.
    pub fn to_value(&self) -> Vec<u8> {
        postcard::to_extend(&self.change, vec![VALUE_FORMAT]).unwrap_or_default()
    }

    /// The record of a key and a value that [`Record::to_value`] wrote; none for anything else.
    pub fn from_stored(key: Key, value: &[u8]) -> Option<Self> {
        let (&VALUE_FORMAT, change) = value.split_first()? else {
            return None;
        };
        let change = postcard::from_bytes(change).ok()?;
        Some(Self {
            id: key.id,
            stamp: key.stamp,
            list: key.list,
            change,
        })
    }
}

const VALUE_FORMAT: u8 = 1;

/// FNV-1a, 128 bits, over the parts one after the other. Stable for ever: worker numbers and
/// request identities on disk come from it. Not meant to withstand an attacker.
pub fn fnv1a(parts: &[&[u8]]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(list: &str) -> Record {
        Record {
            id: RecordId {
                origin: Origin(u64::MAX - 1),
                seq: 7,
            },
            stamp: Stamp(1 << 60),
            list: list.to_string().try_into().expect("a name"),
            change: Change::Add(Entry {
                date: "2018-12-19".parse().expect("a day"),
                title: "Dentist é".into(),
                request: RequestId(u128::MAX / 3),
            }),
        }
    }

    #[test]
    fn a_record_survives_the_store() {
        for list in ["bob", "a/b/c", "\0", "0000", "é"] {
            let record = record(list);
            let key = Key::parse(&record.key().to_text()).expect("a key");
            assert_eq!(key, record.key());
            assert_eq!(Record::from_stored(key, &record.to_value()), Some(record));
        }
    }

    #[test]
    fn foreign_keys_and_values_are_no_records() {
        let full = record("x").key().to_text();
        for text in ["", "abc", &full[..48], &full.replace('f', "é")] {
            assert_eq!(Key::parse(text), None, "{text:?}");
        }
        let value = record("x").to_value();
        for value in [
            &b""[..],
            &[2],
            &value[..value.len() - 1],
            &[&[9], &value[1..]].concat(),
        ] {
            assert_eq!(
                Record::from_stored(record("x").key(), value),
                None,
                "{value:?}"
            );
        }
    }

    #[test]
    fn stamps_follow_the_clock_and_never_go_back() {
        let first = Stamp::default().next(1000);
        assert_eq!(first, Stamp(1000 << 16));
        assert_eq!(first.next(1000), Stamp((1000 << 16) + 1));
        assert_eq!(first.next(3), Stamp((1000 << 16) + 1));
        assert!(first.next(1001) > first.next(1000));
        assert_eq!(Stamp(u64::MAX).next(0), Stamp(u64::MAX));
    }

    #[test]
    fn the_same_key_means_the_same_request_only_for_the_same_entry() {
        let day = |text: &str| text.parse::<Date>().expect("a day");
        let one = RequestId::of(b"k", day("2018-12-19"), "a");
        assert_eq!(one, RequestId::of(b"k", day("2018-12-19"), "a"));
        assert_ne!(one, RequestId::of(b"k", day("2018-12-19"), "b"));
        assert_ne!(one, RequestId::of(b"k", day("2018-12-20"), "a"));
        assert_ne!(one, RequestId::of(b"", day("2018-12-19"), "a"));
    }
}
