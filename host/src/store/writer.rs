//! The one thread that writes: many waiting writes become one commit.
//!
//! While a commit syncs the file, the next writes gather in the queue; so the more writers
//! there are, the more share the cost of a sync, and a lone one waits for nobody.

use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, Table};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::error::failed;
use super::{BucketName, MAX_QUEUED_BYTES, MAX_QUEUED_WRITES, PAIRS, StoreError, ValueTag};

/// What to write.
pub(super) enum Op {
    Set(Vec<(String, Vec<u8>)>),
    Delete(Vec<String>),
    Increment {
        key: String,
        delta: i64,
    },
    Swap {
        key: String,
        seen: ValueTag,
        value: Vec<u8>,
    },
}

/// What came of it.
pub(super) enum Answer {
    Done,
    Sum(i64),
    /// A swap found another value than it had seen.
    Stale,
}

/// A write in the queue.
pub(super) struct Write {
    bucket: BucketName,
    op: Op,
    reply: oneshot::Sender<Result<Answer, StoreError>>,
    /// Its share of [`MAX_QUEUED_BYTES`], given back when it is committed.
    _bytes: OwnedSemaphorePermit,
}

/// The sending end, bounded in writes and in bytes; senders wait in turn.
#[derive(Clone)]
pub(super) struct WriteQueue {
    sender: mpsc::Sender<Write>,
    bytes: Arc<Semaphore>,
}

impl WriteQueue {
    pub(super) fn new(sender: mpsc::Sender<Write>) -> Self {
        Self {
            sender,
            bytes: Arc::new(Semaphore::new(MAX_QUEUED_BYTES)),
        }
    }

    /// How many writes are in the queue.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }

    /// Queues a write of that many bytes and waits until it is committed.
    pub(super) async fn write(
        &self,
        bucket: BucketName,
        op: Op,
        bytes: usize,
    ) -> Result<Answer, StoreError> {
        // A batch is far smaller than the whole queue, so the cast and the wait are sound.
        let permits = u32::try_from(bytes).map_err(|_| StoreError::BatchBytes { bytes })?;
        let permit = self
            .bytes
            .clone()
            .acquire_many_owned(permits)
            .await
            .map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let write = Write {
            bucket,
            op,
            reply,
            _bytes: permit,
        };
        self.sender
            .send(write)
            .await
            .map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// Makes sure that there is a table to read.
pub(super) fn create_table(db: &Database) -> Result<(), redb::Error> {
    if db.begin_read()?.open_table(PAIRS).is_ok() {
        return Ok(());
    }
    let transaction = db.begin_write()?;
    transaction.open_table(PAIRS)?;
    transaction.commit()?;
    Ok(())
}

/// Commits what comes through the queue, until every sender is gone.
pub(super) fn run(db: &Database, mut queue: mpsc::Receiver<Write>) {
    while let Some(first) = queue.blocking_recv() {
        let mut group = vec![first];
        while group.len() < MAX_QUEUED_WRITES
            && let Ok(write) = queue.try_recv()
        {
            group.push(write);
        }
        match commit(db, &group) {
            Ok(answers) => {
                for (write, answer) in group.into_iter().zip(answers) {
                    // Whoever no longer waits has been killed, and needs no answer.
                    let _ = write.reply.send(answer);
                }
            }
            Err(error) => {
                let error = failed(error);
                tracing::error!(writes = group.len(), %error, "cannot commit to the store");
                for write in group {
                    let _ = write.reply.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Applies the writes in order in one transaction. A refused one leaves the others alone.
///
/// One-phase commits: a crash then costs a check of the file at the next start (a second for
/// 500 MB), where redb's quick repair would cost every commit half its speed.
fn commit(db: &Database, group: &[Write]) -> Result<Vec<Result<Answer, StoreError>>, redb::Error> {
    let mut transaction = db.begin_write()?;
    transaction
        .set_durability(Durability::Immediate)
        .map_err(redb::Error::from)?;
    let mut answers = Vec::with_capacity(group.len());
    {
        let mut pairs = transaction.open_table(PAIRS)?;
        for write in group {
            answers.push(apply(&mut pairs, &write.bucket, &write.op)?);
        }
    }
    transaction.commit()?;
    Ok(answers)
}

type Pairs<'t> = Table<'t, (&'static str, &'static str), &'static [u8]>;

fn apply(
    pairs: &mut Pairs<'_>,
    bucket: &BucketName,
    op: &Op,
) -> Result<Result<Answer, StoreError>, redb::Error> {
    let bucket = bucket.as_str();
    match op {
        Op::Set(new) => {
            for (key, value) in new {
                pairs.insert((bucket, key.as_str()), value.as_slice())?;
            }
            Ok(Ok(Answer::Done))
        }
        Op::Delete(keys) => {
            for key in keys {
                pairs.remove((bucket, key.as_str()))?;
            }
            Ok(Ok(Answer::Done))
        }
        Op::Increment { key, delta } => {
            let key = (bucket, key.as_str());
            let sum = match pairs.get(key)? {
                Some(value) => sum(value.value(), *delta),
                None => Ok(*delta),
            };
            if let Ok(sum) = sum {
                pairs.insert(key, sum.to_string().as_bytes())?;
            }
            Ok(sum.map(Answer::Sum))
        }
        Op::Swap { key, seen, value } => {
            let key = (bucket, key.as_str());
            let now = ValueTag::of(pairs.get(key)?.as_ref().map(|now| now.value()));
            if now != *seen {
                return Ok(Ok(Answer::Stale));
            }
            pairs.insert(key, value.as_slice())?;
            Ok(Ok(Answer::Done))
        }
    }
}

fn sum(value: &[u8], delta: i64) -> Result<i64, StoreError> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse::<i64>().ok())
        .ok_or(StoreError::NotANumber)?
        .checked_add(delta)
        .ok_or(StoreError::Overflow)
}
