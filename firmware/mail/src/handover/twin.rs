//! Handed-over mailbox messages that the primary delivers, or has delivered, by itself: both copies held the message in their queue
//! when they parted. Run on parts that the ledger names and that are not placed yet, before the mail service starts or at a
//! confirmation; run again after an interruption it comes to the same end. `spec/ha.md` section 8, "nothing is delivered twice".
//!
//! Two files are the same delivery when they lie in mailboxes of the same owner and are the same byte for byte from the `Received`
//! header on in which Postfix wrote its queue id, or, with the same name in the Maildir, from the first byte on. What stands before
//! that header is written by each delivery (`Return-Path`, `Delivered-To`, the LMTP server's `Received`). That header holds the id,
//! the accepting unit, its client and the time, so two messages that were acknowledged differ in it, whatever unit gave the id: no
//! list has to tell which ids were common, and what differs anywhere in its content is another message.
//!
//! ```text
//! part durable ─ ledger durable ─▶ queued here and open for the owner: marked as done, durable ─▶ in the mailbox already: part dropped
//!                                                                                               └▶ else: placed by the caller
//! ```
//! Deliveries are held back meanwhile, but only where one may be open. A message that has left the queue was delivered before, so
//! queues are listed before mailboxes.
//!
//! What the primary delivered and its user has deleted since comes back once: nothing there tells it from a message never delivered.

use super::item::{Item, Key};
use super::ledger::Ledger;
use super::manifest::Manifest;
use super::queue_file::{self, Recipient};
use super::settle::{self, Deliveries, Marked};
use super::{Layout, place, scan};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// The headers up to Postfix's own lie within this, bytes.
const HEAD_BYTES: u64 = 4096;
/// Files of one mailbox whose headers are read, the newest: those that came since the copies parted are far fewer.
const READ_MAX: usize = 20_000;
/// A client that renames messages while they are listed is waited out this often.
const ROUNDS: usize = 3;

/// What became of handed-over mailbox messages.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Those that the mailbox holds already; their parts are gone.
    pub dropped: u64,
    /// Queued here for the owner, who now has the message: not delivered again.
    pub marked: Marked,
}

/// Marks recipients in the queue whose message a part is, and drops the parts of messages that their mailboxes hold. What is left is to
/// be placed. Without `deliveries` no mail service runs.
///
/// # Errors
/// A volume cannot be read or written; all of it is done again by the next call.
pub fn settle(
    layout: &Layout,
    items: &[Item],
    had: &Manifest,
    ledger: &Ledger,
    deliveries: Option<&dyn Deliveries>,
) -> io::Result<Outcome> {
    let arrivals = arrivals(layout, items)?;
    let mut outcome = Outcome::default();
    let work = |open: &[Open], outcome: &mut Outcome| -> io::Result<()> {
        outcome.marked = mark(layout, open)?;
        for (owner, all) in by_owner(&arrivals) {
            outcome.dropped += drop_twins(layout, owner, &all, had, ledger)?;
        }
        Ok(())
    };
    let open = open(layout, &arrivals)?;
    match deliveries.filter(|_| !open.is_empty()) {
        None => work(&open, &mut outcome)?,
        Some(deliveries) => {
            deliveries.hold_back(&mut || {
                let open = self::open(layout, &arrivals)?;
                work(&open, &mut outcome)?;
                Ok(outcome.marked.clone())
            })?;
        }
    }
    Ok(outcome)
}

/// A part of a mailbox message.
struct Arrival<'a> {
    key: Key,
    owner: (&'a str, &'a str),
    part: PathBuf,
    trace: Option<Trace>,
}

/// Where the own content of a delivered message begins: the `Received` header that Postfix wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trace {
    header: String,
    offset: u64,
    id: String,
}

/// A queued message that is not done for an owner of an arrival. No recipients: it moved while it was looked at.
struct Open {
    path: PathBuf,
    recipients: Vec<Recipient>,
}

fn arrivals<'a>(layout: &Layout, items: &'a [Item]) -> io::Result<Vec<Arrival<'a>>> {
    let mut all = Vec::new();
    for item in items {
        let Item::Mail { domain, user, .. } = item else { continue };
        let part = place::part(layout, item);
        let mut file = match File::open(&part) {
            Ok(file) => file,
            // Placed or dropped before the interruption.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let trace = trace(&head(&mut file)?);
        all.push(Arrival { key: item.key(), owner: (domain, user), part, trace });
    }
    Ok(all)
}

fn by_owner<'a>(arrivals: &'a [Arrival<'a>]) -> BTreeMap<(&'a str, &'a str), Vec<&'a Arrival<'a>>> {
    let mut owners: BTreeMap<_, Vec<_>> = BTreeMap::new();
    arrivals.iter().for_each(|arrival| owners.entry(arrival.owner).or_default().push(arrival));
    owners
}

/// Queued messages that a delivery here would bring into a mailbox to which they were handed over.
fn open(layout: &Layout, arrivals: &[Arrival]) -> io::Result<Vec<Open>> {
    let traced: Vec<(&Trace, String)> = arrivals
        .iter()
        .filter_map(|one| Some((one.trace.as_ref()?, format!("{}@{}", one.owner.1, one.owner.0))))
        .collect();
    let mut all = Vec::new();
    if traced.is_empty() {
        return Ok(all);
    }
    let places = scan::places(layout, scan::DELIVERED)?;
    for (trace, owner) in traced {
        let Some(path) = places.get(&scan::queue_key(&trace.id)) else { continue };
        let bytes = match settle::whole(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                all.push(Open { path: path.clone(), recipients: Vec::new() });
                continue;
            }
            Err(error) => return Err(error),
        };
        // The same id with another header is another message.
        if queue_file::first_header(&bytes).as_ref() != Some(&trace.header) {
            continue;
        }
        let recipients = queue_file::envelope(&bytes).map(|envelope| envelope.recipients).unwrap_or_default();
        let is_owner = |one: &Recipient| !one.done && one.address.to_lowercase() == owner.to_lowercase();
        let recipients: Vec<Recipient> = recipients.into_iter().filter(is_owner).collect();
        if !recipients.is_empty() {
            all.push(Open { path: path.clone(), recipients });
        }
    }
    Ok(all)
}

/// Durable before a part is dropped or placed: whoever is primary then must not deliver it.
fn mark(layout: &Layout, open: &[Open]) -> io::Result<Marked> {
    let mut marked = Marked::default();
    for Open { path, recipients } in open.iter().filter(|open| !open.recipients.is_empty()) {
        settle::mark_file(path, recipients)?;
        marked.add(path, recipients);
    }
    if !marked.messages.is_empty() {
        rustix::fs::syncfs(File::open(&layout.queue)?)?;
    }
    Ok(marked)
}

/// Number of parts that were dropped.
fn drop_twins(
    layout: &Layout,
    (domain, user): (&str, &str),
    arrivals: &[&Arrival],
    had: &Manifest,
    ledger: &Ledger,
) -> io::Result<u64> {
    let wanted = Wanted {
        keys: arrivals.iter().map(|one| one.key).collect(),
        headers: arrivals.iter().filter_map(|one| Some(one.trace.as_ref()?.header.as_str())).collect(),
        had,
        ledger,
    };
    let mailbox = Mailbox::read(layout, domain, user, &wanted)?;
    let mut dropped = 0;
    for arrival in arrivals {
        if mailbox.holds(arrival)? {
            std::fs::remove_file(&arrival.part)?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

/// What is looked for in a mailbox.
struct Wanted<'a> {
    keys: HashSet<Key>,
    headers: HashSet<&'a str>,
    had: &'a Manifest,
    ledger: &'a Ledger,
}

impl Wanted<'_> {
    /// Not what both copies held in the mailbox already, nor what the same hand-over brought: a copy that the user made in another
    /// folder there is one of its own.
    fn may_be_own_delivery(&self, key: &Key) -> bool {
        !self.had.is_common(key) && !self.ledger.has(key)
    }
}

/// Digests of those messages of a mailbox that are looked for.
#[derive(Default)]
struct Mailbox {
    named: HashMap<Key, [u8; 32]>,
    traced: HashMap<String, Vec<[u8; 32]>>,
}

impl Mailbox {
    fn read(layout: &Layout, domain: &str, user: &str, wanted: &Wanted) -> io::Result<Self> {
        let mut mailbox = Self::default();
        for _ in 0..ROUNDS {
            let mut moved = false;
            for (key, path) in listed(layout, domain, user, wanted)? {
                moved |= !mailbox.look(key, &path, wanted)?;
            }
            if !moved {
                break;
            }
        }
        Ok(mailbox)
    }

    /// False when the file is not there any more.
    fn look(&mut self, key: Key, path: &Path, wanted: &Wanted) -> io::Result<bool> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if wanted.keys.contains(&key) {
            self.named.insert(key, digest(&mut file, 0)?);
            file.rewind()?;
        }
        let trace = trace(&head(&mut file)?).filter(|trace| wanted.headers.contains(trace.header.as_str()));
        if let Some(Trace { header, offset, .. }) = trace.filter(|_| wanted.may_be_own_delivery(&key)) {
            let digest = digest(&mut file, offset)?;
            self.traced.entry(header).or_default().push(digest);
        }
        Ok(true)
    }

    fn holds(&self, arrival: &Arrival) -> io::Result<bool> {
        if let Some(named) = self.named.get(&arrival.key)
            && digest(&mut File::open(&arrival.part)?, 0)? == *named
        {
            return Ok(true);
        }
        let Some(trace) = &arrival.trace else { return Ok(false) };
        let Some(traced) = self.traced.get(&trace.header) else { return Ok(false) };
        Ok(traced.contains(&digest(&mut File::open(&arrival.part)?, trace.offset)?))
    }
}

/// Files of all folders of a mailbox that are worth a look, the newest first.
fn listed(layout: &Layout, domain: &str, user: &str, wanted: &Wanted) -> io::Result<Vec<(Key, PathBuf)>> {
    let mut all = Vec::new();
    for folder in scan::mail_folders_of(layout, domain, user)? {
        for found in scan::mail(&folder)?.0 {
            let key = found.item.key();
            if wanted.keys.contains(&key) || wanted.may_be_own_delivery(&key) {
                all.push((scan::stored_s(&found.item).unwrap_or(0), key, found.path));
            }
        }
    }
    all.sort_unstable_by_key(|(stored_s, ..)| std::cmp::Reverse(*stored_s));
    all.truncate(READ_MAX);
    Ok(all.into_iter().map(|(_, key, path)| (key, path)).collect())
}

/// The header that Postfix wrote when it took the message, if only a delivery's own headers stand before it.
fn trace(head: &[u8]) -> Option<Trace> {
    let mut offset = 0;
    loop {
        let header = header_at(head, offset)?;
        let text = std::str::from_utf8(header).ok()?;
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let name = words.first()?.to_ascii_lowercase();
        let by_lmtp = words.windows(2).any(|pair| pair[0] == "with" && pair[1].starts_with("LMTP"));
        match name.as_str() {
            "return-path:" | "delivered-to:" | "x-original-to:" => {}
            "received:" if by_lmtp => {}
            "received:" => {
                let at = words.iter().position(|word| word.starts_with("(Postfix"))?;
                let id = words[at..].windows(2).find(|pair| pair[0] == "id")?[1].trim_end_matches(';');
                let offset = u64::try_from(offset).ok()?;
                return Some(Trace { header: text.trim_end().to_owned(), offset, id: id.to_owned() });
            }
            _ => return None,
        }
        offset += header.len();
    }
}

/// One header with its continuation lines and line ends; `None` when its end is not among the bytes, or the headers are over.
fn header_at(head: &[u8], offset: usize) -> Option<&[u8]> {
    let rest = head.get(offset..)?;
    if matches!(rest.first()?, b'\n' | b'\r' | b' ' | b'\t') {
        return None;
    }
    let ends = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let end =
        ends.filter_map(|end| Some((end, *rest.get(end)?))).find(|(_, next)| !matches!(next, b' ' | b'\t'));
    Some(&rest[..end?.0])
}

fn head(file: &mut File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok(head)
}

/// Of everything from an offset on.
fn digest(file: &mut File, offset: u64) -> io::Result<[u8; 32]> {
    file.seek(SeekFrom::Start(offset))?;
    let mut hash = Sha256::new();
    let mut some = vec![0; 64 * 1024];
    loop {
        match file.read(&mut some)? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(&some[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POSTFIX: &str =
        "Received: from c (unknown [192.0.2.7])\n\tby mail.test (Postfix) with ESMTP id 4abcDEF;\n\tdate\n";

    #[test]
    fn the_header_of_postfix_is_found_behind_those_of_a_delivery() {
        let before = "Return-Path: <s@test>\nDelivered-To: a@test\nReceived: from mail.test\n\tby mail.test with LMTP\n\tid wrong\n";
        let message =
            format!("{before}{POSTFIX}Received: by x (Postfix) id older; date\nSubject: s\n\nbody\n");
        let trace = trace(message.as_bytes()).unwrap();
        assert_eq!((trace.id.as_str(), trace.offset), ("4abcDEF", u64::try_from(before.len()).unwrap()));
        assert_eq!(trace.header, POSTFIX.trim_end());
    }

    #[test]
    fn other_messages_have_none() {
        for message in [
            format!("Subject: composed by a client\n{POSTFIX}\nbody"),
            format!("Return-Path: <>\n\n{POSTFIX}\n"),
            "Received: from c by other.test (Exim) with ESMTP id 4abc; date\n\n".to_owned(),
            "Received: from c by mail.test (Postfix) with ESMTP\n\n".to_owned(),
            POSTFIX.to_owned(),
            String::new(),
        ] {
            assert_eq!(trace(message.as_bytes()), None, "{message}");
        }
    }

    #[test]
    fn a_queue_file_begins_with_the_same_header() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/queue/01-one-of-two-delivered");
        let header = queue_file::first_header(&std::fs::read(file).unwrap()).unwrap();
        let trace = trace(format!("Return-Path: <a@b>\n{header}\nSubject: x\n").as_bytes()).unwrap();
        assert_eq!((trace.header, trace.id.as_str()), (header, "4jXLDn6QfYzn"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_fault(bytes: Vec<u8>, text in "(Received: |by|id|\\(Postfix|[\n\t :;x]){0,40}") {
            let _ = trace(&bytes);
            if let Some(trace) = trace(text.as_bytes()) {
                let offset = usize::try_from(trace.offset).unwrap();
                prop_assert!(text[offset..].starts_with(&trace.header));
            }
        }
    }
}
