use super::*;
use crate::code::framing::tests::component;
use std::io::Write;

/// How long a test waits for an event that must come.
const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    _watcher: Watcher,
    events: mpsc::Receiver<ModuleEvent>,
}

impl Rig {
    fn start(folders: &[&Path]) -> (Self, Vec<ModuleEvent>) {
        let folders = folders.iter().map(|path| path.to_path_buf()).collect();
        let (watcher, initial, events) = Watcher::start(folders).unwrap();
        (
            Self {
                _watcher: watcher,
                events,
            },
            initial,
        )
    }

    fn next(&mut self) -> ModuleEvent {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.events.try_recv() {
                Ok(event) => return event,
                Err(mpsc::error::TryRecvError::Disconnected) => panic!("the watcher ended"),
                Err(mpsc::error::TryRecvError::Empty) => {
                    assert!(Instant::now() < deadline, "no event came");
                    std::thread::park_timeout(Duration::from_millis(5));
                }
            }
        }
    }
}

fn changed(name: &str, bytes: &[u8]) -> ModuleEvent {
    ModuleEvent::Changed {
        name: name.into(),
        digest: Digest::of(bytes),
        bytes: Bytes::copy_from_slice(bytes),
    }
}

#[test]
fn what_is_there_at_the_start_is_returned_and_changes_follow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wasm");
    let (one, two) = (component(b"one"), component(b"two, longer"));
    fs::write(&path, &one).unwrap();
    fs::write(folder.path().join("notes.txt"), "no module").unwrap();
    fs::write(folder.path().join(".hidden.wasm"), &one).unwrap();
    let (mut rig, initial) = Rig::start(&[folder.path()]);
    assert_eq!(initial, [changed("a", &one)]);

    fs::write(&path, &two).unwrap();
    assert_eq!(rig.next(), changed("a", &two));

    let temporary = folder.path().join(".tmp");
    fs::write(&temporary, &one).unwrap();
    fs::rename(&temporary, &path).unwrap();
    assert_eq!(rig.next(), changed("a", &one));

    fs::write(folder.path().join("b.wasm"), &two).unwrap();
    assert_eq!(rig.next(), changed("b", &two));

    fs::remove_file(&path).unwrap();
    assert_eq!(rig.next(), ModuleEvent::Removed { name: "a".into() });
}

#[test]
fn a_slow_writer_makes_one_event() {
    let folder = tempfile::tempdir().unwrap();
    let (mut rig, initial) = Rig::start(&[folder.path()]);
    assert_eq!(initial, []);
    let bytes = component(&[9; 4000]);
    let mut file = fs::File::create(folder.path().join("slow.wasm")).unwrap();
    // Each pause is longer than the time to settle: only the frame tells that it is not done.
    for part in bytes.chunks(1500) {
        file.write_all(part).unwrap();
        file.flush().unwrap();
        std::thread::sleep(SETTLE * 2);
    }
    drop(file);
    assert_eq!(rig.next(), changed("slow", &bytes));
}

#[test]
fn a_broken_file_is_told_once_and_a_repaired_one_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wasm");
    let whole = component(b"x");
    fs::write(&path, &whole).unwrap();
    let (mut rig, _) = Rig::start(&[folder.path()]);
    fs::write(&path, "not wasm at all").unwrap();
    let ModuleEvent::Broken { name, reason, .. } = rig.next() else {
        panic!("not broken")
    };
    assert_eq!(name, "a");
    assert!(reason.contains("no WebAssembly file"), "{reason}");
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let ModuleEvent::Broken { reason, .. } = rig.next() else {
        panic!("not broken")
    };
    assert!(reason.contains("ends within a section"), "{reason}");
    // The code is told again, so that whoever heard that it broke hears that it is well.
    fs::write(&path, &whole).unwrap();
    assert_eq!(rig.next(), changed("a", &whole));
}

#[test]
fn the_earlier_folder_wins() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (component(b"1"), component(b"2"));
    fs::write(first.path().join("a.wasm"), &one).unwrap();
    fs::write(second.path().join("a.wasm"), &two).unwrap();
    let (mut rig, initial) = Rig::start(&[first.path(), second.path()]);
    assert_eq!(initial, [changed("a", &one)]);
    fs::remove_file(first.path().join("a.wasm")).unwrap();
    assert_eq!(rig.next(), changed("a", &two));
}

#[test]
fn a_folder_that_comes_back_is_found_by_polling() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("modules");
    let one = component(b"1");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.wasm"), &one).unwrap();
    let (mut rig, _) = Rig::start(&[&folder]);
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(rig.next(), ModuleEvent::Removed { name: "a".into() });
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.wasm"), &one).unwrap();
    assert_eq!(rig.next(), changed("a", &one));
}

#[test]
fn a_missing_folder_is_an_error_that_names_it() {
    let error = Watcher::start(vec!["/no/such/folder".into()])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/no/such/folder") && error.contains("--modules"),
        "{error}"
    );
}

#[test]
fn steady_writes_do_not_settle_and_do_not_starve() {
    let mut names = Names::default();
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let stamp = |bytes| {
        Some(Stamp {
            bytes,
            modified: None,
            inode: (0, 0),
        })
    };
    let clock = SystemTime::now();
    for step in 0..20 {
        let now = at(step * 50);
        names.touch("a", now);
        assert_eq!(names.observe("a", stamp(step), now, clock), Step::Wait);
    }
    let settled = at(19 * 50) + SETTLE;
    assert_eq!(names.next_deadline(), Some(settled));
    assert_eq!(names.observe("a", stamp(19), settled, clock), Step::Look);
}

#[test]
fn what_was_written_long_ago_needs_no_wait() {
    let mut names = Names::default();
    let (now, clock) = (Instant::now(), SystemTime::now());
    let written = |modified| {
        Some(Stamp {
            bytes: 1,
            modified: Some(modified),
            inode: (0, 0),
        })
    };
    for (modified, step) in [
        (clock - SETTLE, Step::Look),
        (clock - SETTLE / 2, Step::Wait),
        (clock + SETTLE * 2, Step::Wait),
    ] {
        names.touch("a", now);
        assert_eq!(names.observe("a", written(modified), now, clock), step);
        names = Names::default();
    }
}
