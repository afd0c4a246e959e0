//! Every prefix of a write leaves the old or the new content; damage is reported; a full partition stores epochs.

use super::*;
use proptest::prelude::*;
use std::fs;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

#[test]
fn reads_back_the_newest_write() {
    let (_dir, store) = store();
    assert_eq!(store.read("config").unwrap(), None);
    assert_eq!(store.write("config", b"one").unwrap(), 1);
    assert_eq!(store.write("config", b"two").unwrap(), 2);
    assert_eq!(store.write("config", b"three").unwrap(), 3);
    let record = store.read("config").unwrap().unwrap();
    assert_eq!((record.data.as_slice(), record.generation, record.damaged), (&b"three"[..], 3, None));
}

#[test]
fn refuses_names_and_sizes_that_are_not_allowed() {
    let (_dir, store) = store();
    for name in ["", "../config", "UPPER", "a.b", &"x".repeat(33)] {
        assert!(matches!(store.write(name, b""), Err(WriteError::Name { .. })), "{name}");
        assert!(matches!(store.read(name), Err(ReadError::Name { .. })), "{name}");
    }
    let error = store.write("config", &vec![0; BYTES_MAX + 1]).unwrap_err();
    assert!(error.to_string().contains("1048577 bytes"));
}

#[test]
fn reports_a_damaged_copy_and_repairs_it_with_the_next_write() {
    let (dir, store) = store();
    store.write("config", b"one").unwrap();
    store.write("config", b"two").unwrap();
    fs::write(dir.path().join("config.b"), b"garbage").unwrap();
    let record = store.read("config").unwrap().unwrap();
    assert_eq!(record.data, b"one");
    assert!(record.damaged.unwrap().contains("copy b"));
    store.write("config", b"three").unwrap();
    let record = store.read("config").unwrap().unwrap();
    assert_eq!((record.data.as_slice(), record.damaged), (&b"three"[..], None));
}

#[test]
fn tells_what_to_do_when_both_copies_are_damaged() {
    let (dir, store) = store();
    store.write("config", b"one").unwrap();
    fs::write(dir.path().join("config.a"), b"").unwrap();
    let error = store.read("config").unwrap_err().to_string();
    assert!(error.contains("damaged in both copies") && error.contains("provision"), "{error}");
}

#[test]
fn a_torn_epoch_write_leaves_the_epoch_before() {
    let (dir, store) = store();
    assert_eq!(store.read_epoch().unwrap(), None);
    for epoch in 1..5 {
        store.write_epoch(Epoch(epoch)).unwrap();
        assert_eq!(store.read_epoch().unwrap(), Some(Epoch(epoch)));
    }
    // Epoch 4 is in slot b (1 a, 2 b, 3 a, 4 b): the next write goes to a; tear it at every byte.
    let whole = {
        slot::write(&dir.path().join("epoch-slot.a"), 5).unwrap();
        fs::read(dir.path().join("epoch-slot.a")).unwrap()
    };
    slot::write(&dir.path().join("epoch-slot.a"), 3).unwrap();
    let before = fs::read(dir.path().join("epoch-slot.a")).unwrap();
    for cut in 0..=20 {
        let mut torn = before.clone();
        torn[..cut].copy_from_slice(&whole[..cut]);
        fs::write(dir.path().join("epoch-slot.a"), &torn).unwrap();
        let epoch = store.read_epoch().unwrap();
        assert!(epoch == Some(Epoch(4)) || epoch == Some(Epoch(5)), "cut {cut}: {epoch:?}");
    }
}

#[test]
fn reopening_keeps_the_epoch() {
    let (dir, store) = store();
    store.write_epoch(Epoch(7)).unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().read_epoch().unwrap(), Some(Epoch(7)));
}

#[test]
fn a_missing_folder_says_what_to_check() {
    let error = Store::open(Path::new("/nonexistent/state")).unwrap_err().to_string();
    assert!(error.contains("state partition is mounted"), "{error}");
}

/// Needs the right to mount a tiny tmpfs; elsewhere the system test of the image covers it.
#[test]
fn a_full_partition_refuses_records_and_still_stores_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = rustix::mount::mount(
        "tmpfs",
        dir.path(),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        Some(c"size=64k"),
    );
    if mounted.is_err() {
        return;
    }
    let store = Store::open(dir.path()).unwrap();
    store.write("config", b"old").unwrap();
    let _ = fs::write(dir.path().join("filler"), vec![1; 128 * 1024]);
    let error = store.write("config", &[2; 8192]).unwrap_err();
    let kept = store.read("config").unwrap().unwrap().data;
    let epochs = (1..20).all(|epoch| store.write_epoch(Epoch(epoch)).is_ok());
    let read = store.read_epoch().unwrap();
    rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(matches!(error, WriteError::Full { .. }), "{error}");
    assert!(error.to_string().contains("/state"));
    assert_eq!(kept, b"old");
    assert!(epochs);
    assert_eq!(read, Some(Epoch(19)));
}

proptest! {
    /// A power cut at any byte of the new file, before or after the rename, gives the old or the new content.
    #[test]
    fn every_prefix_of_a_write_leaves_old_or_new(old in proptest::collection::vec(any::<u8>(), 0..200),
        new in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..260, renamed in any::<bool>()) {
        let (dir, store) = store();
        store.write("config", &old).unwrap();
        store.write("config", &new).unwrap();
        // The second write went to copy b. Its file as a crash may leave it: cut off, in place or beside it.
        let path = dir.path().join("config.b");
        let whole = fs::read(&path).unwrap();
        let cut = cut.min(whole.len());
        let target = if renamed { path.clone() } else { fs::remove_file(&path).unwrap(); path.with_added_extension("new") };
        fs::write(target, &whole[..cut]).unwrap();
        let data = store.read("config").unwrap().unwrap().data;
        let expected = if renamed && cut == whole.len() { &new } else { &old };
        prop_assert_eq!(&data, expected);
        store.write("config", b"after").unwrap();
        prop_assert_eq!(store.read("config").unwrap().unwrap().data, b"after".to_vec());
    }

    /// No bytes make the reader panic or return content that was not written.
    #[test]
    fn garbage_is_never_a_record(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (dir, store) = store();
        fs::write(dir.path().join("config.a"), &bytes).unwrap();
        prop_assert!(store.read("config").is_err());
    }
}
