//! The records that one worker has: the store, and the index of it in memory.
//!
//! Invariant: a record is in the index if and only if this run knows it to be durable in the
//! store. Records are never changed or deleted.

use todo_core::list::{ListName, bucket_name};
use todo_core::log::{Have, Log};
use todo_core::messages::Position;
use todo_core::record::{Change, Key, Origin, Record, RecordId, Stamp};
use wasm_node_sdk::keyvalue::{Bucket, Error};
use wasm_node_sdk::time;

/// How many records are read from the store, or sent to a peer or a server, in one go.
pub const MAX_READ_RECORDS: usize = 512;

/// The records.
pub struct Records {
    bucket: Bucket,
    log: Log,
    /// This run of the worker, for [`Position`]s.
    run: u64,
    /// What the next record gets.
    next: RecordId,
    clock: Stamp,
}

impl Records {
    /// Opens a worker's store and reads its keys. The error says what went wrong.
    pub fn open(worker: u32) -> Result<Self, String> {
        let name = bucket_name(worker);
        let failed = |error| format!("the store {name:?}: {}", words(error));
        let bucket = Bucket::open(&name).map_err(failed)?;
        let mut log = Log::default();
        let mut foreign = 0u64;
        let mut cursor = None;
        loop {
            let page = bucket.list_keys(cursor.as_deref()).map_err(failed)?;
            for text in page.keys {
                match Key::parse(&text) {
                    Some(key) if key.list.worker() == worker => {
                        log.insert(key);
                    }
                    _ => foreign += 1,
                }
            }
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        if foreign > 0 {
            wasm_node_sdk::eprintln!("the store {name:?} has {foreign} keys that are not its own");
        }
        let clock = log.latest();
        Ok(Self {
            bucket,
            log,
            run: time::random(),
            next: new_origin(),
            clock,
        })
    }

    /// New records of changes made here and now. Not written yet.
    pub fn make(&mut self, changes: impl Iterator<Item = (ListName, Change)>) -> Vec<Record> {
        self.clock = self.clock.max(self.log.latest());
        let wall_ms = time::wall_clock();
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

    /// Writes records, in one commit; those that are here already cost nothing. When this has
    /// returned they are durable. Answers which were new, in their order, and the positions of
    /// their lists after each. The error says why nothing was written.
    pub fn write<'a>(
        &mut self,
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
        if let Err(error) = self.bucket.set_many(&pairs) {
            // The numbers given out may be in use on other nodes by now: start over as another.
            self.next = new_origin();
            return Err(format!("the store could not be written: {}", words(error)));
        }
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
    pub fn missing(&self, there: &Have) -> Result<(Vec<Record>, bool), String> {
        self.read(self.log.missing(there))
    }

    /// Some of a list's records from a position on, the position after them, and whether there
    /// are more.
    pub fn load(
        &self,
        list: &ListName,
        from: Position,
    ) -> Result<(Vec<Record>, Position, bool), String> {
        let from = if from.run == self.run {
            from.records
        } else {
            0
        };
        let (records, more) = self.read(self.log.of_list(list, from as usize))?;
        let position = Position {
            run: self.run,
            records: from + records.len() as u64,
        };
        Ok((records, position, more))
    }

    fn read(&self, mut keys: impl Iterator<Item = Key>) -> Result<(Vec<Record>, bool), String> {
        let keys_now: Vec<_> = keys.by_ref().take(MAX_READ_RECORDS).collect();
        let more = keys.next().is_some();
        if keys_now.is_empty() {
            return Ok((Vec::new(), more));
        }
        let texts: Vec<_> = keys_now.iter().map(Key::to_text).collect();
        let found = self.bucket.get_many(&texts);
        let found =
            found.map_err(|error| format!("the store could not be read: {}", words(error)))?;
        if found.len() != keys_now.len() {
            return Err("the store has lost a record".into());
        }
        let records = keys_now.into_iter().zip(found).map(|(key, (text, value))| {
            let record = Record::from_stored(key, &value);
            record.ok_or_else(|| format!("the store has a record that is damaged, {text:?}"))
        });
        Ok((records.collect::<Result<_, _>>()?, more))
    }
}

fn new_origin() -> RecordId {
    RecordId {
        origin: Origin(time::random()),
        seq: 1,
    }
}

fn words(error: Error) -> String {
    match error {
        Error::NoSuchStore => "there is no such bucket".into(),
        Error::AccessDenied => {
            "access denied: the app's manifest must grant todo-database its buckets".into()
        }
        Error::Other(words) => words,
    }
}
