//! Messages that both copies hold: recipients that the loser finished are marked as done at the primary, so that nobody gets the
//! message from both (`spec/mail.md` "Hand-over that follows", point 5). Both sides of it; says nothing about what only one has.
//!
//! What the loser tells is evidence, never a guess, since a recipient marked wrongly loses the message:
//!
//! - a record `D` in its file: Postfix writes it after the next hop's answer. Not told when the recipient is in the message's
//!   bounce log: the sender would never hear of it, so the primary tries again and reports by itself;
//! - a file that is gone, where the loser's copy certainly had it: listed in its own manifest, or common by the primary's
//!   manifest with a copy of the same unbroken history. An acknowledged file is on stable storage before its `250`, so only the
//!   end of its delivery takes it away, and a power failure can bring it back but not make it vanish.
//!
//! Recipients whose mailboxes are here are told last: the loser's copy of their message, which it stored, is durable here before this
//! unit gives up its own.
//!
//! On the primary a mark is one byte in place, `R` to `D` (Postfix `rec_type.h`), idempotent and durable before it is answered.

use super::item::Key;
use super::manifest::Manifest;
use super::message::{Finished, Recipients};
use super::queue_file::{self, Envelope, Recipient};
use super::{Layout, scan};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Longest queue file or log that is read, bytes: above the largest message that the appliance takes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Bytes of a recipient or message in a request beside its address: key, offset, lengths.
const ENTRY_BYTES: usize = 32;

/// Holds deliveries back while queue files are marked: the queue manager keeps recipients in memory once it has read a file.
pub trait Deliveries: Send + Sync {
    /// Runs `work` while no new delivery begins; those under way are waited for within a limit. Afterwards the queue is read
    /// anew from its files. Returns what `work` returns.
    ///
    /// # Errors
    /// Those of `work`.
    fn hold_back(&self, work: &mut dyn FnMut() -> io::Result<Marked>) -> io::Result<Marked>;

    /// Domains whose mail is stored in mailboxes here, in lower case.
    fn local_domains(&self) -> BTreeSet<String>;
}

/// What was marked as done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// Queue id and addresses of each message that was changed.
    pub messages: Vec<(String, Vec<String>)>,
}

impl Marked {
    /// Notes recipients of a queue file.
    pub fn add(&mut self, path: &Path, recipients: &[Recipient]) {
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.messages.push((id, recipients.iter().map(|one| one.address.clone()).collect()));
    }

    /// Recipients, all messages together.
    #[must_use]
    pub fn recipients(&self) -> usize {
        self.messages.iter().map(|(_, recipients)| recipients.len()).sum()
    }
}

/// The loser's copy, as far as it tells what became of common messages.
#[derive(Debug)]
pub struct Copy<'a> {
    manifest: &'a Manifest,
    logs: PathBuf,
    kept: HashMap<Key, PathBuf>,
}

impl<'a> Copy<'a> {
    /// Lists a copy. `None` without a spool: then nothing may be concluded from a file that is not there.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn read(layout: &Layout, manifest: &'a Manifest) -> io::Result<Option<Self>> {
        if !scan::DELIVERED.iter().all(|queue| layout.spool().join(queue).is_dir()) {
            return Ok(None);
        }
        let logs = layout.spool().join("bounce");
        Ok(Some(Self { manifest, logs, kept: scan::places(layout, scan::KEPT)? }))
    }

    /// What this copy has finished of these messages of the primary, as [`super::message::Response::Common`] has them.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn finished(&self, theirs: &[(Key, bool)], parted: Option<(u64, u64)>) -> io::Result<Vec<Finished>> {
        let same_history = parted == Some((self.manifest.since, self.manifest.unit));
        let mut all = Vec::new();
        for (key, common) in theirs {
            let recipients = match self.kept.get(key) {
                Some(path) => Recipients::Some(done(path, &self.logs)?),
                None if self.manifest.had(key) || (same_history && *common) => Recipients::All,
                None => continue,
            };
            if recipients != Recipients::Some(Vec::new()) {
                all.push(Finished { key: *key, recipients });
            }
        }
        Ok(all)
    }
}

/// Those of the told messages that have something to mark here. Recipients in the domains `later` are left alone.
///
/// # Errors
/// The queue cannot be read.
pub fn unmarked(
    layout: &Layout,
    finished: &[Finished],
    later: &BTreeSet<String>,
) -> io::Result<Vec<Finished>> {
    let places = scan::places(layout, scan::DELIVERED)?;
    let mut all = Vec::new();
    for one in finished {
        if !open(&places, one, later)?.is_empty() {
            all.push(one.clone());
        }
    }
    Ok(all)
}

/// Marks on the primary what the loser finished. Only while deliveries are held back; what is not in the queue any more was
/// finished here as well. Durable when it returns.
///
/// # Errors
/// The volume cannot be read or written; what was marked stays so, and marking it again changes nothing.
pub fn mark(layout: &Layout, finished: &[Finished], later: &BTreeSet<String>) -> io::Result<Marked> {
    let places = scan::places(layout, scan::DELIVERED)?;
    let mut marked = Marked::default();
    for one in finished {
        let (open, Some(path)) = (open(&places, one, later)?, places.get(&one.key)) else { continue };
        if open.is_empty() {
            continue;
        }
        mark_file(path, &open)?;
        marked.add(path, &open);
    }
    rustix::fs::syncfs(File::open(&layout.queue)?)?;
    Ok(marked)
}

/// Not durable by itself.
pub fn mark_file(path: &Path, recipients: &[Recipient]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    recipients.iter().try_for_each(|one| file.write_all_at(b"D", one.offset))
}

/// Recipients that the loser finished and this unit has not. None of a file that is not there or cannot be read: it is delivered a
/// second time at worst.
fn open(
    places: &HashMap<Key, PathBuf>,
    told: &Finished,
    later: &BTreeSet<String>,
) -> io::Result<Vec<Recipient>> {
    let Some(path) = places.get(&told.key) else { return Ok(Vec::new()) };
    let Some(envelope) = envelope(path)? else { return Ok(Vec::new()) };
    let some: BTreeMap<u64, &str> = match &told.recipients {
        Recipients::All => BTreeMap::new(),
        Recipients::Some(some) => some.iter().map(|(at, to)| (*at, to.as_str())).collect(),
    };
    let is_told = |one: &Recipient| {
        told.recipients == Recipients::All || some.get(&one.offset) == Some(&one.address.as_str())
    };
    let is_later = |one: &Recipient| {
        one.address.rsplit_once('@').is_some_and(|(_, domain)| later.contains(&domain.to_lowercase()))
    };
    Ok(envelope.recipients.into_iter().filter(|one| !one.done && is_told(one) && !is_later(one)).collect())
}

/// Splits into requests of at most `messages` entries and about `bytes` bytes each; a message with many recipients may be told in
/// several.
#[must_use]
pub fn batches(all: Vec<Finished>, messages: usize, bytes: usize) -> Vec<Vec<Finished>> {
    let mut batches: Vec<Vec<Finished>> = Vec::new();
    let mut room = 0;
    let mut add = |key: Key, recipient: Option<(u64, String)>| {
        let size = ENTRY_BYTES + recipient.as_ref().map_or(0, |(_, address)| address.len());
        let goes_on = |batch: &Vec<Finished>| batch.last().is_some_and(|last| last.key == key);
        let full = |batch: &Vec<Finished>| batch.len() == messages && !goes_on(batch);
        if size > room || batches.last().is_none_or(full) {
            batches.push(Vec::new());
            room = bytes;
        }
        room = room.saturating_sub(size);
        let Some(batch) = batches.last_mut() else { return };
        match (recipient, batch.last_mut()) {
            (None, _) => batch.push(Finished { key, recipients: Recipients::All }),
            (Some(one), Some(Finished { key: last, recipients: Recipients::Some(some) })) if *last == key => {
                some.push(one);
            }
            (Some(one), _) => batch.push(Finished { key, recipients: Recipients::Some(vec![one]) }),
        }
    };
    for Finished { key, recipients } in all {
        match recipients {
            Recipients::All => add(key, None),
            Recipients::Some(some) => some.into_iter().for_each(|one| add(key, Some(one))),
        }
    }
    batches
}

/// Recipients of a file that are done for good.
fn done(path: &Path, logs: &Path) -> io::Result<Vec<(u64, String)>> {
    let Some(envelope) = envelope(path)? else { return Ok(Vec::new()) };
    let failed = match whole(&logs.join(path.file_name().unwrap_or_default())) {
        Ok(log) => offsets(&String::from_utf8_lossy(&log)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let Some(failed) = failed else { return Ok(Vec::new()) };
    let done = envelope.recipients.into_iter().filter(|one| one.done && !failed.contains(&one.offset));
    Ok(done.map(|one| (one.offset, one.address)).collect())
}

/// Offsets of the recipients in a bounce log; `None` when it does not tell them all.
/// `recipient=` and `offset=` stand in each record (Postfix `bounce_append_service.c`).
fn offsets(log: &str) -> Option<BTreeSet<u64>> {
    let records = log.lines().filter(|line| line.starts_with("recipient=")).count();
    let offsets: Vec<u64> =
        log.lines().filter_map(|line| line.strip_prefix("offset=")?.parse().ok()).collect();
    (records > 0 && offsets.len() == records).then(|| offsets.into_iter().collect())
}

/// `None` when the file vanished, is not whole, or too long.
fn envelope(path: &Path) -> io::Result<Option<Envelope>> {
    match whole(path) {
        Ok(bytes) => Ok(queue_file::envelope(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A queue file or log.
///
/// # Errors
/// It cannot be read.
pub fn whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounce_log_names_its_recipients_by_offset() {
        let record = |offset: &str| {
            format!("\n<a@example.test>: host said no\nrecipient=a@example.test\n{offset}\naction=failed\n")
        };
        let two = record("offset=95") + &record("offset=130");
        assert_eq!(offsets(&two), Some(BTreeSet::from([95, 130])));
        assert_eq!(offsets(&(record("offset=95") + &record("status=5.1.1"))), None);
        assert_eq!(offsets("damaged"), None);
    }

    #[test]
    fn requests_are_split_and_nothing_is_left_out() {
        let some =
            |count: u64| Recipients::Some((0..count).map(|at| (at, "a@example.test".into())).collect());
        let all = vec![
            Finished { key: [1; 16], recipients: Recipients::All },
            Finished { key: [2; 16], recipients: some(10) },
            Finished { key: [3; 16], recipients: some(1) },
        ];
        assert_eq!(batches(all.clone(), 9, 4096), vec![all.clone()]);
        assert_eq!(batches(all.clone(), 1, 4096).len(), 3);
        let small = batches(all.clone(), 9, 200);
        assert!(small.len() > 2);
        let recipients = |list: &[Finished]| {
            let count = |one: &Finished| match &one.recipients {
                Recipients::All => 100,
                Recipients::Some(some) => some.len(),
            };
            list.iter().map(count).sum::<usize>()
        };
        assert_eq!(small.iter().map(|batch| recipients(batch)).sum::<usize>(), recipients(&all));
        assert_eq!(batches(Vec::new(), 9, 9), Vec::<Vec<Finished>>::new());
    }
}
