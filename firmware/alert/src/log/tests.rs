//! Numbers go on over reboots, torn and foreign lines do no harm, a full or missing partition never stops an event.

use super::*;
use proptest::prelude::*;
use std::fs;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn numbers_go_on_over_reboots() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::open(dir.path(), 1);
    assert_eq!(log.append("boot", "first", 10, 20).seq, 1);
    assert_eq!(log.append("verdict", "peer\ngone", 30, 40).text, "peer gone");
    assert!(log.flush(LIMIT));
    drop(log);
    let log = EventLog::open(dir.path(), 2);
    let third = log.append("boot", "second", 5, 60);
    assert_eq!((third.seq, third.boot), (3, 2));
    let seen: Vec<(u64, u64)> = log.after(1).iter().map(|record| (record.seq, record.boot)).collect();
    assert_eq!(seen, [(2, 1), (3, 2)]);
    assert_eq!(log.trouble(), None);
}

#[test]
fn the_ring_and_the_files_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::open(dir.path(), 1);
    let text = "x".repeat(TEXT_BYTES_MAX + 100);
    for number in 0..1500 {
        let record = log.append("filler", &text, number, 0);
        assert_eq!(record.text.len(), TEXT_BYTES_MAX);
        if number % 500 == 0 {
            assert!(log.flush(LIMIT));
        }
    }
    assert!(log.flush(LIMIT));
    assert_eq!(log.after(0).len(), EVENTS_MAX);
    let sizes: Vec<u64> = ["events.log", "events.log.1"]
        .map(|name| fs::metadata(dir.path().join(name)).unwrap().len())
        .to_vec();
    assert!(sizes.iter().all(|size| *size <= crate::file::GENERATION_BYTES_MAX), "{sizes:?}");
    drop(log);
    assert_eq!(EventLog::open(dir.path(), 2).append("after", "", 0, 0).seq, 1501);
}

#[test]
fn a_missing_partition_keeps_a_ring_and_says_so() {
    let log = EventLog::open(Path::new("/nonexistent/log"), 1);
    assert_eq!(log.append("boot", "", 0, 0).seq, 1);
    assert_eq!(log.after(0).len(), 1);
    assert!(!log.flush(LIMIT));
    assert!(log.trouble().unwrap().contains("check the log partition"));
}

/// Needs the right to mount a tiny tmpfs; elsewhere the system test of the image covers it.
#[test]
fn a_full_partition_keeps_a_ring_says_so_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let flags = rustix::mount::MountFlags::empty();
    if rustix::mount::mount("tmpfs", dir.path(), "tmpfs", flags, Some(c"size=32k")).is_err() {
        return;
    }
    let log = EventLog::open(dir.path(), 1);
    log.append("first", "", 0, 0);
    let first = log.flush(LIMIT);
    let _ = fs::write(dir.path().join("filler"), vec![1; 64 * 1024]);
    (0..100).for_each(|_| drop(log.append("lost", &"x".repeat(200), 0, 0)));
    let flushed = log.flush(Duration::from_secs(1));
    let trouble = log.trouble();
    fs::remove_file(dir.path().join("filler")).unwrap();
    let last = log.append("back", "", 0, 0);
    let recovered = log.flush(LIMIT);
    let after = log.trouble();
    drop(log);
    let reopened = EventLog::open(dir.path(), 2);
    let kept = reopened.after(0);
    drop(reopened);
    // The writer thread may still hold the file for a moment.
    rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(first && !flushed && recovered);
    assert!(trouble.unwrap().contains("free space"));
    assert_eq!(after, None);
    assert_eq!(kept.last(), Some(&last));
}

proptest! {
    /// A power cut at any byte of the last line: all records before it are read, and numbering goes on.
    #[test]
    fn a_torn_last_line_spoils_nothing(cut in 1_usize..120) {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::open(dir.path(), 1);
        (0..3).for_each(|_| drop(log.append("event", "some text of an event", 1, 2)));
        prop_assert!(log.flush(LIMIT));
        drop(log);
        let path = dir.path().join("events.log");
        let bytes = fs::read(&path).unwrap();
        let last_line = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        let torn = bytes.len().saturating_sub(cut).max(last_line);
        fs::write(&path, &bytes[..torn]).unwrap();
        let log = EventLog::open(dir.path(), 2);
        let next = log.append("next", "", 0, 0);
        prop_assert!(next.seq >= 3);
        prop_assert!(log.flush(LIMIT));
        drop(log);
        let read = EventLog::open(dir.path(), 3).after(0);
        prop_assert_eq!(read.last(), Some(&next));
        prop_assert!(read.len() >= 3);
    }

    #[test]
    fn garbage_never_stops_the_log(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("events.log"), &bytes).unwrap();
        let log = EventLog::open(dir.path(), 1);
        let record = log.append("boot", "", 0, 0);
        prop_assert!(log.flush(LIMIT));
        drop(log);
        prop_assert_eq!(EventLog::open(dir.path(), 2).after(record.seq - 1), vec![record]);
    }
}
