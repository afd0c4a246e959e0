//! After a takeover: recipients whose message already lies in their mailbox are marked as done in the queue, so that nothing is
//! delivered into a local mailbox twice (`spec/ha.md` section 8, `spec/mail.md` "Durability"). The unit that died had stored the
//! message, but its mark in the queue file was younger than the last sync. Postfix moves a message to `active` before every delivery, and
//! that move may have been younger as well: so `incoming` is looked at too, and what is due in `deferred`. Runs before Postfix starts; relayed
//! mail is not looked at. Handed-over messages are looked at before they are placed: their unit may have died in the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Envelopes are at the beginning of a queue file; recipients beyond this are not looked at, bytes.
const ENVELOPE_BYTES: u64 = 256 * 1024;
/// The `Received` header that Postfix puts on top of a stored message lies within this, bytes.
const HEADER_BYTES: u64 = 4096;
/// Newest messages of a mailbox that are looked at: what was stored in the last second, many times over.
const NEWEST: usize = 64;
/// The same for handed-over messages: their unit has been away for a while.
const NEWEST_LATER: usize = 256;
/// Most files of `active` (`qmgr_message_active_limit`), and as many of `incoming`.
const FILES_MAX: usize = 20_000;
/// Most files of `deferred` that are looked at, those that are due only: a takeover waits for it, and what was just moved is among few
/// unless the next hop has been away for long.
const DUE_MAX: usize = 1000;
/// Folders below `deferred` (`hash_queue_depth` is 1), bytes of their names.
const HASH_NAME_BYTES: usize = 1;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Recipients of local domains whose delivery was not recorded.
    pub open: u64,
    /// Those of them whose message was in their mailbox: marked as done.
    pub marked: u64,
}

/// A recipient of a queue file that is not done, and where its record begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Recipient {
    address: String,
    offset: u64,
}

/// Looks through the queue below `spool` and the mailboxes below `mailboxes`.
///
/// # Errors
/// `active` or `incoming` cannot be listed. A single file that cannot be read or written is left to Postfix.
pub fn settle(spool: &Path, mailboxes: &Path, domains: &BTreeSet<String>) -> io::Result<Settled> {
    settle_at(spool, mailboxes, domains, SystemTime::now())
}

fn settle_at(
    spool: &Path,
    mailboxes: &Path,
    domains: &BTreeSet<String>,
    now: SystemTime,
) -> io::Result<Settled> {
    let mut stored = Stored::new(mailboxes, domains, NEWEST);
    if domains.is_empty() {
        return Ok(stored.settled);
    }
    for folder in ["active", "incoming"] {
        for entry in std::fs::read_dir(spool.join(folder))?.take(FILES_MAX) {
            let entry = entry?;
            stored.settle(&entry.path(), &entry.file_name().to_string_lossy());
        }
    }
    for path in due(&spool.join("deferred"), now) {
        stored.settle(&path, &path.file_name().unwrap_or_default().to_string_lossy());
    }
    Ok(stored.settled)
}

/// Deferred files whose time has come: that of the next attempt is their modification time (Postfix `qmgr_deliver.c`).
fn due(deferred: &Path, now: SystemTime) -> Vec<PathBuf> {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let hashed = entries(deferred).filter(|entry| entry.file_name().len() == HASH_NAME_BYTES);
    let files = hashed.flat_map(|folder| entries(&folder.path()));
    let is_due = |entry: &std::fs::DirEntry| {
        entry.metadata().and_then(|data| data.modified()).is_ok_and(|time| time <= now)
    };
    files.filter(is_due).take(DUE_MAX).map(|entry| entry.path()).collect()
}

/// As [`settle`], for one file that was handed over and is not in the queue yet: its path and queue id.
pub(crate) fn settle_handed_over(files: &[(PathBuf, String)], mailboxes: &Path, domains: &BTreeSet<String>) {
    if domains.is_empty() {
        return;
    }
    let mut stored = Stored::new(mailboxes, domains, NEWEST_LATER);
    files.iter().for_each(|(path, id)| stored.settle(path, id));
}

/// Whether a queue file is still to be delivered to one of these domains.
pub(crate) fn concerns(file: &[u8], domains: &BTreeSet<String>) -> bool {
    let is_local = |one: Recipient| {
        one.address.rsplit_once('@').is_some_and(|(_, domain)| domains.contains(&domain.to_lowercase()))
    };
    !domains.is_empty() && recipients(file).into_iter().any(is_local)
}

/// What mailboxes hold, read once each.
struct Stored<'a> {
    mailboxes: &'a Path,
    domains: &'a BTreeSet<String>,
    newest: usize,
    ids: BTreeMap<String, BTreeSet<String>>,
    settled: Settled,
}

impl<'a> Stored<'a> {
    fn new(mailboxes: &'a Path, domains: &'a BTreeSet<String>, newest: usize) -> Self {
        Self { mailboxes, domains, newest, ids: BTreeMap::new(), settled: Settled::default() }
    }

    /// A file that cannot be read or written is left to Postfix.
    fn settle(&mut self, path: &Path, id: &str) {
        let Ok(envelope) = head(path, ENVELOPE_BYTES) else { return };
        for recipient in recipients(&envelope) {
            let Some(mailbox) = mailbox(self.mailboxes, self.domains, &recipient.address) else { continue };
            self.settled.open += 1;
            let newest = self.newest;
            let ids = self.ids.entry(recipient.address.to_lowercase());
            let ids = ids.or_insert_with(|| ids_stored(&mailbox, newest));
            if ids.contains(id) && mark_done(path, recipient.offset).is_ok() {
                self.settled.marked += 1;
            }
        }
    }
}

/// Recipients that are not done, of an envelope as `cleanup` writes it (Postfix `rec_type.h`, `record.c`): records of a type,
/// a length in groups of seven bits with the lowest first, and data; `R` is a recipient, `M` begins the message.
fn recipients(envelope: &[u8]) -> Vec<Recipient> {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(kind) = envelope.get(at).copied().filter(|kind| *kind != b'M') {
        let Some((length, begin)) = length(envelope, at + 1) else { break };
        let Some(data) = begin.checked_add(length).and_then(|end| envelope.get(begin..end)) else { break };
        if kind == b'R'
            && let (Ok(address), Ok(offset)) = (std::str::from_utf8(data), u64::try_from(at))
        {
            all.push(Recipient { address: address.to_owned(), offset });
        }
        at = begin + length;
    }
    all
}

/// Length and first byte of a record's data.
fn length(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let byte = usize::from(*bytes.get(at)?);
        at += 1;
        length |= (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((length, at));
        }
    }
    None
}

fn mailbox(root: &Path, domains: &BTreeSet<String>, address: &str) -> Option<PathBuf> {
    let address = address.to_lowercase();
    let (user, domain) = address.rsplit_once('@')?;
    let plain = !user.is_empty() && !user.starts_with('.') && !user.contains('/');
    (plain && domains.contains(domain)).then(|| root.join(domain).join(user).join("Maildir"))
}

/// Queue ids in the headers of the newest messages of a mailbox.
fn ids_stored(maildir: &Path, newest: usize) -> BTreeSet<String> {
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for folder in ["new", "cur"] {
        for entry in std::fs::read_dir(maildir.join(folder)).into_iter().flatten().flatten() {
            let modified = entry.metadata().and_then(|data| data.modified());
            files.push((modified.unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
        }
    }
    files.sort_unstable_by_key(|(modified, _)| std::cmp::Reverse(*modified));
    let heads = files.iter().take(newest).filter_map(|(_, path)| head(path, HEADER_BYTES).ok());
    heads.flat_map(|head| received_ids(&String::from_utf8_lossy(&head))).collect()
}

/// What follows ` id ` in the headers: Postfix writes its queue id there (RFC 5321 section 4.4).
fn received_ids(head: &str) -> Vec<String> {
    let headers = head.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = headers.split_whitespace().collect();
    let ids = words.windows(2).filter(|pair| pair[0] == "id");
    ids.map(|pair| pair[1].trim_end_matches(';').to_owned()).collect()
}

fn head(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(bytes).read_to_end(&mut head)?;
    Ok(head)
}

fn mark_done(path: &Path, offset: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all_at(b"D", offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(kind: u8, data: &str) -> Vec<u8> {
        let mut length = data.len();
        let mut bytes = vec![kind];
        loop {
            let low = u8::try_from(length & 0x7f).unwrap();
            length >>= 7;
            bytes.push(if length > 0 { low | 0x80 } else { low });
            if length == 0 {
                break;
            }
        }
        bytes.extend(data.as_bytes());
        bytes
    }

    fn queue_file(recipients: &[(u8, &str)]) -> Vec<u8> {
        let mut file = record(b'C', &" ".repeat(95));
        file.extend(record(b'T', "1700000000 123456"));
        file.extend(record(b'S', "sender@example.test"));
        for (kind, address) in recipients {
            file.extend(record(*kind, address));
        }
        file.extend(record(b'M', ""));
        file.extend(record(b'N', "Subject: R is no recipient here"));
        file
    }

    #[test]
    fn what_lies_in_the_mailbox_is_marked_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let active = root.path().join("spool/active");
        let inbox = root.path().join("mail/local.test/alice/Maildir/new");
        let incoming = root.path().join("spool/incoming");
        for folder in [&active, &incoming, &inbox] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let stored = "Return-Path: <>\nReceived: from x\n\tby unit-a (Postfix) with ESMTP id 4abc;\n\tdate\n\nid 4new\n";
        std::fs::write(inbox.join("1.M1.a"), stored).unwrap();
        let recipients = [(b'D', "alice@local.test"), (b'R', "Alice@local.test"), (b'R', "far@example.test")];
        std::fs::write(active.join("4abc"), queue_file(&recipients)).unwrap();
        std::fs::write(active.join("4new"), queue_file(&[(b'R', "alice@local.test")])).unwrap();
        let domains = BTreeSet::from(["local.test".to_owned()]);
        let settled = settle(&root.path().join("spool"), &root.path().join("mail"), &domains).unwrap();
        assert_eq!(settled, Settled { open: 2, marked: 1 });
        let after = super::recipients(&std::fs::read(active.join("4abc")).unwrap());
        assert_eq!(after.iter().map(|one| one.address.as_str()).collect::<Vec<_>>(), ["far@example.test"]);
        assert_eq!(super::recipients(&std::fs::read(active.join("4new")).unwrap()).len(), 1);
    }

    #[test]
    fn a_move_that_was_not_durable_is_seen_where_it_began() {
        let root = tempfile::tempdir().unwrap();
        let (spool, mail) = (root.path().join("spool"), root.path().join("mail"));
        let inbox = mail.join("local.test/alice/Maildir/new");
        for folder in [&spool.join("active"), &spool.join("incoming"), &spool.join("deferred/4"), &inbox] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let now = SystemTime::now();
        let later = now + std::time::Duration::from_secs(60);
        for (name, time) in [("incoming/4in", now), ("deferred/4/4due", now), ("deferred/4/4wait", later)] {
            let id = name.rsplit('/').next().unwrap();
            std::fs::write(inbox.join(id), format!("Received: by a (Postfix) id {id};\n\n")).unwrap();
            let path = spool.join(name);
            std::fs::write(&path, queue_file(&[(b'R', "alice@local.test")])).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }
        let domains = BTreeSet::from(["local.test".to_owned()]);
        let settled = settle_at(&spool, &mail, &domains, now).unwrap();
        assert_eq!(settled, Settled { open: 2, marked: 2 });
        let left = |name| super::recipients(&std::fs::read(spool.join(name)).unwrap()).len();
        assert_eq!([left("incoming/4in"), left("deferred/4/4due"), left("deferred/4/4wait")], [0, 0, 1]);
    }

    #[test]
    fn addresses_lead_to_mailboxes_of_local_domains_only() {
        let domains = BTreeSet::from(["local.test".to_owned()]);
        let lead = |address| mailbox(Path::new("/m"), &domains, address);
        assert_eq!(lead("Bob@LOCAL.test"), Some(PathBuf::from("/m/local.test/bob/Maildir")));
        for address in ["bob@example.test", "bob", "../x@local.test", "a/b@local.test", "@local.test"] {
            assert_eq!(lead(address), None, "{address}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_fault(bytes: Vec<u8>) {
            for recipient in recipients(&bytes) {
                prop_assert_eq!(bytes[usize::try_from(recipient.offset).unwrap()], b'R');
            }
        }

        #[test]
        fn long_records_are_found(length in 0_usize..40_000) {
            let mut file = record(b'A', &"x".repeat(length));
            let offset = u64::try_from(file.len()).unwrap();
            file.extend(record(b'R', "a@b"));
            prop_assert_eq!(recipients(&file), vec![Recipient { address: "a@b".into(), offset }]);
        }
    }
}
