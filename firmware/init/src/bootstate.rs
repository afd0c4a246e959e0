//! The part of `bootstate` that the OS writes (ARCHITECTURE.md "Boot chain"): in a raw ustar on the partition, the file
//! `state`, a GRUB environment block. A good boot adds one to `generation`, which refills the boot loader's tries, puts its
//! slot first in `order` and marks it good. `tries` belongs to the boot loader and is never written here.

use crate::cmdline::Slot;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Unit of ustar, bytes.
const TAR_BLOCK: usize = 512;
/// Size of a GRUB environment block, bytes.
const ENV_BYTES: usize = 1024;
/// Its first line.
const ENV_HEAD: &str = "# GRUB Environment Block\n";
/// As much of the partition as is looked at: two small files.
const LOOK_BYTES: usize = 16 * 1024;

/// Why the boot was not marked good.
#[derive(Debug, thiserror::Error)]
pub enum BootStateError {
    /// The partition cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// Read, write.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No file `state` of the right size in the archive.
    #[error("bootstate has no environment block named state")]
    NoState,
    /// The block does not look like one.
    #[error("bootstate: the environment block is damaged")]
    Damaged,
    /// The new text does not fit.
    #[error("bootstate: the environment block is full")]
    Full,
    /// What was read back differs.
    #[error("bootstate: the disk does not keep what is written")]
    NotKept,
}

/// Marks `slot` good in the archive on `partition`; returns the new generation.
///
/// # Errors
/// See [`BootStateError`]; the old block is in force then, or, after `NotKept`, unknown.
pub fn mark_good(partition: &Path, slot: Slot) -> Result<u64, BootStateError> {
    let failed = |what| move |source| BootStateError::Io { what, path: partition.to_owned(), source };
    let file = File::options().read(true).write(true).open(partition).map_err(failed("open"))?;
    let mut archive = vec![0; LOOK_BYTES];
    file.read_exact_at(&mut archive, 0).map_err(failed("read"))?;
    let at = find(&archive, "state").ok_or(BootStateError::NoState)?;
    let block = archive.get(at..at + ENV_BYTES).ok_or(BootStateError::NoState)?;
    let (block, generation) = good(block, slot)?;
    let offset = u64::try_from(at).unwrap_or(u64::MAX);
    file.write_all_at(&block, offset).map_err(failed("write"))?;
    file.sync_all().map_err(failed("write"))?;
    let mut back = vec![0; ENV_BYTES];
    // Past the page cache, or the disk was not asked.
    let _ = rustix::fs::fadvise(&file, offset, None, rustix::fs::Advice::DontNeed);
    file.read_exact_at(&mut back, offset).map_err(failed("read"))?;
    if back == block { Ok(generation) } else { Err(BootStateError::NotKept) }
}

/// Offset of the content of `name` if it has the size of an environment block.
fn find(archive: &[u8], name: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let header = archive.get(at..at + TAR_BLOCK)?;
        if header.get(257..262)? != b"ustar" {
            return None;
        }
        let text = |range: core::ops::Range<usize>| {
            let field = header[range].split(|byte| *byte == 0).next().unwrap_or(&[]);
            std::str::from_utf8(field).ok().map(str::trim)
        };
        let size = usize::from_str_radix(text(124..136)?, 8).ok()?;
        if text(0..100)?.trim_start_matches("./") == name {
            return (size == ENV_BYTES).then_some(at + TAR_BLOCK);
        }
        at = at.checked_add(TAR_BLOCK)?.checked_add(size.checked_next_multiple_of(TAR_BLOCK)?)?;
    }
}

/// The block after a good boot of `slot`. Other variables stay as they are.
fn good(block: &[u8], slot: Slot) -> Result<(Vec<u8>, u64), BootStateError> {
    let text = std::str::from_utf8(block).map_err(|_| BootStateError::Damaged)?;
    let body = text.strip_prefix(ENV_HEAD).ok_or(BootStateError::Damaged)?;
    let mut variables: Vec<(&str, String)> = body
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key, value.to_owned()))
        .collect();
    let old = variables.iter().find(|(key, _)| *key == "generation");
    let old: u64 = match old {
        Some((_, value)) => value.trim().parse().map_err(|_| BootStateError::Damaged)?,
        None => 0,
    };
    let generation = old.checked_add(1).ok_or(BootStateError::Full)?;
    let mut set = |key: &'static str, value: String| match variables.iter_mut().find(|(k, _)| *k == key) {
        Some(entry) => entry.1 = value,
        None => variables.push((key, value)),
    };
    set("generation", generation.to_string());
    set("order", if slot == Slot::A { "A B" } else { "B A" }.into());
    set(if slot == Slot::A { "good_A" } else { "good_B" }, "1".into());
    let mut new = ENV_HEAD.to_owned();
    for (key, value) in variables {
        new += &format!("{key}={value}\n");
    }
    if new.len() > ENV_BYTES {
        return Err(BootStateError::Full);
    }
    let mut new = new.into_bytes();
    new.resize(ENV_BYTES, b'#');
    Ok((new, generation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn entry(name: &str, text: &str) -> Vec<u8> {
        let mut header = vec![0; TAR_BLOCK];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..136].copy_from_slice(b"00000002000\0");
        header[257..263].copy_from_slice(b"ustar\0");
        let mut body = format!("{ENV_HEAD}{text}").into_bytes();
        body.resize(ENV_BYTES, b'#');
        [header, body].concat()
    }

    fn partition(state: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("scratch file");
        let archive = [entry("tries", "generation=7\ntries_A=2\n"), entry("state", state)].concat();
        file.write_all(&archive).expect("writes");
        file.as_file().set_len(1 << 20).expect("grows");
        file
    }

    #[test]
    fn round_trip_changes_the_state_only() {
        let file = partition("generation=7\norder=A B\ngood_A=1\nnote=kept\n");
        let before = std::fs::read(file.path()).expect("reads");
        assert_eq!(mark_good(file.path(), Slot::B).expect("marks"), 8);
        let after = std::fs::read(file.path()).expect("reads");
        let at = find(&after, "state").expect("there");
        assert!(after[at..].starts_with(
            b"# GRUB Environment Block\ngeneration=8\norder=B A\ngood_A=1\nnote=kept\ngood_B=1\n###"
        ));
        assert_eq!(before[..at], after[..at]);
        assert_eq!(before[at + ENV_BYTES..], after[at + ENV_BYTES..]);
        assert_eq!(mark_good(file.path(), Slot::A).expect("again"), 9);
    }

    #[test]
    fn damage_is_refused_and_not_written() {
        for state in ["generation=x\n", "generation=18446744073709551615\n"] {
            let file = partition(state);
            let before = std::fs::read(file.path()).expect("reads");
            assert!(mark_good(file.path(), Slot::A).is_err(), "{state}");
            assert_eq!(before, std::fs::read(file.path()).expect("reads"));
        }
        let empty = tempfile::NamedTempFile::new().expect("scratch file");
        empty.as_file().set_len(1 << 20).expect("grows");
        assert!(matches!(mark_good(empty.path(), Slot::A), Err(BootStateError::NoState)));
    }

    #[test]
    fn garbage_archives_end() {
        for byte in [0_u8, 0x20, 0x37, 0xff] {
            assert_eq!(find(&vec![byte; 4096], "state"), None);
        }
    }
}
