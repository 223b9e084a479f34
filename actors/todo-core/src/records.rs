//! The records that one worker has: an index of its store, and how the store is written and read.
//!
//! Invariant: a record is in the index if and only if this run of the worker knows it to be
//! durable. Records are never changed or deleted.

use crate::list::ListName;
use crate::log::{Have, Log};
use crate::messages::Position;
use crate::record::{Change, Key, Origin, Record, RecordId, Stamp};

/// How many records are read from the store, or sent to a peer or a server, in one go.
pub const MAX_READ_RECORDS: usize = 512;

/// A durable store. The errors say what went wrong, in words.
pub trait Store {
    /// Sets these, all or none; when it has returned they are durable.
    fn write(&mut self, pairs: &[(String, Vec<u8>)]) -> Result<(), String>;
    /// The values of these keys, in their order; an error if one is absent.
    fn read(&mut self, keys: &[String]) -> Result<Vec<Vec<u8>>, String>;
}

/// The records.
#[derive(Debug)]
pub struct Records {
    log: Log,
    /// This run of the worker, for [`Position`]s.
    run: u64,
    /// What the next record gets.
    next: RecordId,
    clock: Stamp,
}

impl Records {
    /// The index of a store with these keys. The two random numbers are drawn for this run alone.
    pub fn new(keys: impl IntoIterator<Item = Key>, run: u64, origin: Origin) -> Self {
        let mut log = Log::default();
        keys.into_iter().for_each(|key| {
            log.insert(key);
        });
        let clock = log.latest();
        Self {
            log,
            run,
            next: RecordId { origin, seq: 1 },
            clock,
        }
    }

    /// New records of changes made here at this wall-clock time. Not written yet.
    pub fn make(
        &mut self,
        wall_ms: u64,
        changes: impl Iterator<Item = (ListName, Change)>,
    ) -> Vec<Record> {
        self.clock = self.clock.max(self.log.latest());
        changes
            .map(|(list, change)| {
                self.clock = self.clock.next(wall_ms);
                let record = Record {
                    id: self.next,
                    stamp: self.clock,
                    list,
                    change,
                };
                self.next.seq += 1;
                record
            })
            .collect()
    }

    /// Writes records, in one commit; those that are here already cost nothing. Answers which
    /// were new, in their order, with the position of its list after each. After an error none
    /// may be counted on; their numbers are not given out again, as other nodes may have them.
    pub fn write<'a>(
        &mut self,
        store: &mut impl Store,
        records: impl Iterator<Item = &'a Record>,
    ) -> Result<Vec<(ListName, Position)>, String> {
        let new = records.filter(|record| !self.log.has(record.id));
        let (keys, pairs): (Vec<_>, Vec<_>) = new
            .map(|record| {
                let key = record.key();
                let text = key.to_text();
                (key, (text, record.to_value()))
            })
            .unzip();
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        store.write(&pairs)?;
        let inserted = keys.into_iter().filter_map(|key| {
            let list = key.list.clone();
            // A record that came twice in one go is new once.
            let new = self.log.insert(key);
            new.then(|| {
                let records = self.log.list_len(&list) as u64;
                (
                    list,
                    Position {
                        run: self.run,
                        records,
                    },
                )
            })
        });
        Ok(inserted.collect())
    }

    /// What there is, to tell a peer.
    pub fn have(&self) -> Have {
        self.log.have()
    }

    /// Some of the records that are here and not there, and whether there are more.
    pub fn missing(
        &self,
        store: &mut impl Store,
        there: &Have,
    ) -> Result<(Vec<Record>, bool), String> {
        read(store, self.log.missing(there))
    }

    /// Some of a list's records from a position on, the position after them, and whether there
    /// are more.
    pub fn load(
        &self,
        store: &mut impl Store,
        list: &ListName,
        from: Position,
    ) -> Result<(Vec<Record>, Position, bool), String> {
        let from = if from.run == self.run {
            from.records
        } else {
            0
        };
        let (records, more) = read(store, self.log.of_list(list, from as usize))?;
        let position = Position {
            run: self.run,
            records: from + records.len() as u64,
        };
        Ok((records, position, more))
    }
}

fn read(
    store: &mut impl Store,
    mut keys: impl Iterator<Item = Key>,
) -> Result<(Vec<Record>, bool), String> {
    let now: Vec<_> = keys.by_ref().take(MAX_READ_RECORDS).collect();
    let more = keys.next().is_some();
    if now.is_empty() {
        return Ok((Vec::new(), more));
    }
    let texts: Vec<_> = now.iter().map(Key::to_text).collect();
    let values = store.read(&texts)?;
    if values.len() != now.len() {
        return Err("the store has lost a record".into());
    }
    let records = now.into_iter().zip(values).map(|(key, value)| {
        let text = key.to_text();
        let record = Record::from_stored(key, &value);
        record.ok_or_else(|| format!("the store has a record that is damaged, {text:?}"))
    });
    Ok((records.collect::<Result<_, _>>()?, more))
}
