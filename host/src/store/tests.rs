//! The store through its public face: semantics, limits, sharing of commits, and what is
//! left after a process is killed or the power fails.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write as _},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use redb::StorageBackend;

use super::*;

fn bucket(name: &str) -> BucketName {
    BucketName::new(name).unwrap()
}

fn temporary() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("deep/er/store")).unwrap();
    (folder, store)
}

#[tokio::test]
async fn a_write_is_seen_by_the_next_read_and_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let lists = bucket("lists");
    let store = Store::open(&path).unwrap();
    assert_eq!(store.get(&lists, "bob"), Ok(None));
    store
        .set(&lists, "bob".into(), b"1".to_vec())
        .await
        .unwrap();
    assert_eq!(store.get(&lists, "bob"), Ok(Some(b"1".to_vec())));
    store.set(&lists, "bob".into(), vec![]).await.unwrap();
    store
        .set(&lists, "".into(), b"empty key".to_vec())
        .await
        .unwrap();
    drop(store);

    let store = Store::open(&path).unwrap();
    assert_eq!(store.get(&lists, "bob"), Ok(Some(vec![])));
    assert_eq!(store.exists(&lists, ""), Ok(true));
    store.delete(&lists, "bob".into()).await.unwrap();
    store.delete(&lists, "never was".into()).await.unwrap();
    assert_eq!(store.exists(&lists, "bob"), Ok(false));
}

#[tokio::test]
async fn buckets_do_not_see_each_other() {
    let (_folder, store) = temporary();
    // Names that would collide if bucket and key were merely joined.
    let (a, ab) = (bucket("a"), bucket("ab"));
    store.set(&a, "bc".into(), b"a".to_vec()).await.unwrap();
    store.set(&ab, "c".into(), b"ab".to_vec()).await.unwrap();
    assert_eq!(store.get(&a, "bc"), Ok(Some(b"a".to_vec())));
    assert_eq!(store.get(&a, "c"), Ok(None));
    assert_eq!(store.list_keys(&a, None, 10).unwrap().keys, ["bc"]);
    assert_eq!(store.list_keys(&ab, None, 10).unwrap().keys, ["c"]);
    store.delete(&a, "c".into()).await.unwrap();
    assert_eq!(store.exists(&ab, "c"), Ok(true));
}

#[tokio::test]
async fn pages_hold_every_key_once_though_keys_come_and_go() {
    let (_folder, store) = temporary();
    let b = bucket("b");
    let key = |n: usize| format!("key{n:05}");
    let pairs = (0..2500).map(|n| (key(n), vec![1])).collect();
    store.set_many(&b, pairs).await.unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.list_keys(&b, after.as_deref(), usize::MAX).unwrap();
        assert!(page.keys.len() <= MAX_PAGE_KEYS);
        seen.extend(page.keys);
        let Some(next) = page.next else { break };
        // The cursor's own key goes away between two pages.
        store.delete(&b, next.clone()).await.unwrap();
        after = Some(next);
    }
    assert_eq!(seen, (0..2500).map(key).collect::<Vec<_>>());

    let one = store.list_keys(&b, None, 0).unwrap();
    assert_eq!(one.keys, [key(0)]);
    assert_eq!(one.next, Some(key(0)));

    let long = |n: usize| format!("{n:04}{}", "x".repeat(MAX_KEY_BYTES - 4));
    let wide = bucket("wide");
    let pairs = (0..100).map(|n| (long(n), vec![])).collect();
    store.set_many(&wide, pairs).await.unwrap();
    let page = store.list_keys(&wide, None, usize::MAX).unwrap();
    assert_eq!(page.keys.len(), MAX_PAGE_BYTES / MAX_KEY_BYTES);
    assert!(page.next.is_some());
}

#[tokio::test]
async fn what_is_over_a_limit_is_refused_and_nothing_written() {
    let (_folder, store) = temporary();
    let b = bucket("b");
    let long_key = "k".repeat(MAX_KEY_BYTES + 1);
    let key_too_long = StoreError::KeyTooLong {
        bytes: MAX_KEY_BYTES + 1,
    };
    assert_eq!(store.get(&b, &long_key), Err(key_too_long.clone()));
    assert_eq!(store.exists(&b, &long_key), Err(key_too_long.clone()));
    assert_eq!(
        store.list_keys(&b, Some(&long_key), 1),
        Err(key_too_long.clone())
    );
    assert_eq!(
        store.set(&b, long_key.clone(), vec![]).await,
        Err(key_too_long.clone())
    );
    assert_eq!(store.increment(&b, long_key, 1).await, Err(key_too_long));
    assert_eq!(
        store
            .set_many(
                &b,
                vec![
                    ("fine".into(), vec![]),
                    ("big".into(), vec![0; MAX_VALUE_BYTES + 1]),
                ],
            )
            .await,
        Err(StoreError::ValueTooLong {
            bytes: MAX_VALUE_BYTES + 1
        })
    );
    let many: Vec<String> = (0..=MAX_BATCH_KEYS).map(|n| n.to_string()).collect();
    let too_many = StoreError::BatchKeys {
        keys: MAX_BATCH_KEYS + 1,
    };
    assert_eq!(store.get_many(&b, &many), Err(too_many.clone()));
    assert_eq!(store.delete_many(&b, many).await, Err(too_many));
    let fat: Vec<_> = (0..=8)
        .map(|n| (format!("{n}"), vec![0; MAX_VALUE_BYTES]))
        .collect();
    assert!(matches!(
        store.set_many(&b, fat.clone()).await,
        Err(StoreError::BatchBytes { .. })
    ));
    assert_eq!(store.list_keys(&b, None, 10), Ok(KeyPage::default()));

    for (key, value) in fat {
        store.set(&b, key, value).await.unwrap();
    }
    let keys: Vec<String> = (0..=8).map(|n| n.to_string()).collect();
    assert!(matches!(
        store.get_many(&b, &keys),
        Err(StoreError::BatchBytes { .. })
    ));
    assert_eq!(store.get_many(&b, &keys[..8]).unwrap().len(), 8);

    assert!(BucketName::new("").is_err());
    assert!(BucketName::new(&"b".repeat(MAX_BUCKET_NAME_BYTES + 1)).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_and_swaps_are_atomic() {
    let (_folder, store) = temporary();
    let b = bucket("b");
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (store, b) = (store.clone(), b.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    store.increment(&b, "sum".into(), 3).await.unwrap();
                    // An optimistic append of one byte.
                    loop {
                        let old = store.get(&b, "log").unwrap();
                        let seen = ValueTag::of(old.as_deref());
                        let mut new = old.unwrap_or_default();
                        new.push(b'x');
                        if store.swap(&b, "log".into(), seen, new).await.unwrap() {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.get(&b, "sum"), Ok(Some(b"480".to_vec())));
    assert_eq!(store.get(&b, "log"), Ok(Some(vec![b'x'; 160])));

    store.set(&b, "text".into(), b"abc".to_vec()).await.unwrap();
    assert_eq!(
        store.increment(&b, "text".into(), 1).await,
        Err(StoreError::NotANumber)
    );
    store.increment(&b, "max".into(), i64::MAX).await.unwrap();
    assert_eq!(
        store.increment(&b, "max".into(), 1).await,
        Err(StoreError::Overflow)
    );
    assert_eq!(store.increment(&b, "max".into(), i64::MIN).await, Ok(-1));
}

#[test]
fn only_granted_buckets_are_allowed() {
    let (a, b) = (bucket("a"), bucket("b"));
    let only_a: BucketGrants = [a.clone()].into_iter().collect();
    assert!(!BucketGrants::default().allow(&a));
    assert!(BucketGrants::All.allow(&b));
    assert!(only_a.allow(&a) && !only_a.allow(&b));
}

#[test]
fn one_process_at_a_time_and_no_foreign_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path).unwrap();
    assert_eq!(
        Store::open(&path).err(),
        Some(StoreError::InUse { path: path.clone() })
    );
    drop(store);
    Store::open(&path).unwrap();

    let text = folder.path().join("text");
    std::fs::write(&text, "no database at all").unwrap();
    assert!(matches!(Store::open(&text), Err(StoreError::Open { .. })));
    assert!(matches!(
        Store::open(folder.path()),
        Err(StoreError::Open { .. })
    ));
}

/// A disk in memory that remembers what was synced, counts the syncs, and can hold them up.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<DiskState>);

#[derive(Debug, Default)]
struct DiskState {
    now: Mutex<Vec<u8>>,
    synced: Mutex<Vec<u8>>,
    syncs: AtomicU64,
    /// Syncs begun.
    arrived: AtomicU64,
    /// While somebody holds this, a sync waits.
    gate: Mutex<()>,
}

impl Disk {
    /// What the disk holds after the power fails at this moment.
    fn after_power_cut(&self) -> Self {
        let synced = self.0.synced.lock().unwrap().clone();
        let disk = Self::default();
        *disk.0.now.lock().unwrap() = synced;
        disk
    }

    fn open(&self) -> Store {
        let database = Database::builder()
            .create_with_backend(self.clone())
            .unwrap();
        Store::start(database, Path::new("memory")).unwrap()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.now.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let start = offset as usize;
        out.copy_from_slice(&self.0.now.lock().unwrap()[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.now.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.0.arrived.fetch_add(1, Ordering::SeqCst);
        let _open = self.0.gate.lock().unwrap();
        let now = self.0.now.lock().unwrap();
        self.0.synced.lock().unwrap().clone_from(&now);
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        let start = offset as usize;
        self.0.now.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[tokio::test]
async fn an_acknowledged_write_survives_a_power_cut_right_after() {
    let disk = Disk::default();
    let store = disk.open();
    let b = bucket("b");
    for n in 0..50_u32 {
        let pairs = (0..3).map(|part| (format!("{n}.{part}"), n.to_be_bytes().to_vec()));
        store.set_many(&b, pairs.collect()).await.unwrap();
        let after = disk.after_power_cut().open();
        for m in 0..=n {
            for part in 0..3 {
                let value = after.get(&b, &format!("{m}.{part}")).unwrap();
                assert_eq!(value, Some(m.to_be_bytes().to_vec()), "{m} of {n}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_share_commits_and_readers_do_not_wait_for_them() {
    let disk = Disk::default();
    let store = disk.open();
    let b = bucket("b");
    store
        .set(&b, "old".into(), b"value".to_vec())
        .await
        .unwrap();

    let gate = disk.0.gate.lock().unwrap();
    let before = disk.0.syncs.load(Ordering::SeqCst);
    let write = |n| {
        let (store, b) = (store.clone(), b.clone());
        tokio::spawn(async move { store.set(&b, format!("new{n}"), vec![n]).await })
    };
    // One is held up in its sync, and 99 gather behind it.
    let arrived = disk.0.arrived.load(Ordering::SeqCst);
    let mut writers = vec![write(0)];
    while disk.0.arrived.load(Ordering::SeqCst) == arrived {
        std::thread::yield_now();
    }
    writers.extend((1..100).map(write));
    while store.writes.waiting() < 99 {
        std::thread::yield_now();
    }
    assert_eq!(store.get(&b, "old"), Ok(Some(b"value".to_vec())));
    assert_eq!(store.exists(&b, "new0"), Ok(false));
    assert!(writers.iter().all(|writer| !writer.is_finished()));
    drop(gate);

    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let syncs = disk.0.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs <= 4, "100 writes took {syncs} syncs");
    assert_eq!(store.list_keys(&b, None, 200).unwrap().keys.len(), 101);
}

/// Set for the child process of the next test: the file to write to.
const CRASH_FILE: &str = "WASM_NODE_STORE_CRASH_FILE";

/// Not a test by itself: in the child process it writes until it is killed.
#[test]
fn crash_child() {
    let Some(path) = std::env::var_os(CRASH_FILE) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let store = Store::open(Path::new(&path)).unwrap();
    let start = store
        .list_keys(&bucket("rounds"), None, 1000)
        .unwrap()
        .keys
        .len();
    runtime.block_on(async {
        let round = format!("{start:04}");
        store
            .set(&bucket("rounds"), round.clone(), vec![])
            .await
            .unwrap();
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (store, round) = (store.clone(), round.clone());
                tokio::spawn(async move {
                    for n in 0_u64.. {
                        let key = format!("{round}.{writer}.{n}");
                        let value = vec![n as u8; (n as usize * 37) % 5000];
                        let pair = [("a", value.clone()), ("b", value)]
                            .map(|(half, value)| (format!("{key}.{half}"), value));
                        store.set_many(&bucket("b"), pair.into()).await.unwrap();
                        let line = format!("{key}\n");
                        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                        std::io::stdout().flush().unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

#[test]
fn no_acknowledged_write_is_lost_to_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let b = bucket("b");
    let mut acknowledged: HashMap<String, u64> = HashMap::new();
    for round in 0..25 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .arg(format!(
                "{}::crash_child",
                module_path!().split_once("::").unwrap().1
            ))
            .env(CRASH_FILE, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut take = |lines: &mut dyn Iterator<Item = std::io::Result<String>>, most: usize| {
            let mut taken = 0;
            while taken < most
                && let Some(Ok(line)) = lines.next()
            {
                // The harness prints lines of its own, and the kill may cut the last one.
                let fields: Vec<&str> = line.trim().split('.').collect();
                if let [round, _, n] = fields[..]
                    && round.len() == 4
                    && let Ok(n) = n.parse()
                {
                    acknowledged.insert(line.trim().to_owned(), n);
                    taken += 1;
                }
            }
            taken
        };
        // Kill it after ever more writes, while others are under way.
        assert!(take(&mut lines, 1 + round * 7) > 0, "round {round}");
        child.kill().unwrap();
        child.wait().unwrap();
        take(&mut lines, usize::MAX);

        let store = Store::open(&path).unwrap();
        for (key, n) in &acknowledged {
            let value = Some(vec![*n as u8; (*n as usize * 37) % 5000]);
            for half in ["a", "b"] {
                let key = format!("{key}.{half}");
                assert_eq!(store.get(&b, &key).unwrap(), value, "{key} is lost");
            }
        }
        // Acknowledged or not, a batch is there whole or not at all.
        let mut after = None;
        loop {
            let page = store.list_keys(&b, after.as_deref(), 1000).unwrap();
            for key in &page.keys {
                let other = match key.strip_suffix(".a") {
                    Some(key) => format!("{key}.b"),
                    None => format!("{}.a", key.strip_suffix(".b").unwrap()),
                };
                assert!(store.exists(&b, &other).unwrap(), "{key} without {other}");
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    assert!(acknowledged.len() > 25);
}
