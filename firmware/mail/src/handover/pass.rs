//! The loser's side of a hand-over: reads its own copy, offers every message that may be missing at the primary, sends what the
//! primary wants, and ends when all of it is confirmed durable. May be ended at any point and begun again. Reads its copy
//! between the calls, so it belongs on a thread that may wait for a drive.

use super::item::Item;
use super::manifest::{self, Manifest, ManifestError, Volume};
use super::message::{
    Counts, MESSAGE_BYTES_MAX, MessageError, OFFER_MAX, PIECES_MAX, Piece, Request, Response,
    UNCONFIRMED_MAX, VERSION,
};
use super::queue_file::{self, Envelope};
use super::scan::{self, Found};
use super::server;
use super::settle::{self, Copy};
use super::{Channel, ChannelError, Layout};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Content in one request: what the limit leaves after the longest names of all its pieces would not fit, so small files are
/// counted with [`PIECE_OVERHEAD_BYTES`] each.
const BATCH_BYTES: usize = MESSAGE_BYTES_MAX - 64 * 1024;
/// Name, offset and length of a piece at their longest.
const PIECE_OVERHEAD_BYTES: usize = 1200;
/// Bytes between two confirmations: several requests share one pass over the primary's volume.
const UNCONFIRMED_BYTES: u64 = 8 << 20;
/// Items between two confirmations, with room for the logs of the last one.
const UNCONFIRMED_ITEMS: usize = UNCONFIRMED_MAX - 8;

/// Longest queue file whose envelope is shown.
const ENVELOPE_FILE_BYTES: u64 = 1 << 20;

/// Why a hand-over is not complete. What was confirmed stays so.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The primary was not reached.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The primary asks to come again.
    #[error("the primary is not ready: {0}")]
    NotNow(String),
    /// The primary will not.
    #[error("the primary refuses: {0}")]
    Refused(String),
    /// It was told to stop, or out of time.
    #[error("the hand-over was stopped and resumes later")]
    Stopped,
    /// The own copy cannot be read.
    #[error("the own copy cannot be read: {0}")]
    Copy(#[from] io::Error),
    /// The own copy's manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The primary answers what nobody asked.
    #[error("the primary answered wrongly: {0}")]
    Answer(&'static str),
    /// Bytes of another language.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// What a hand-over has done so far, readable while it goes on.
#[derive(Debug, Default)]
pub struct Progress {
    counts: Mutex<Counts>,
    stop: AtomicBool,
}

impl Progress {
    /// Totals up to now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the hand-over before its next request.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn update(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A copy that will be overwritten. It is only read.
    Replica {
        /// It is not in the middle of a resynchronisation: that something is not there means something.
        whole: bool,
    },
    /// Volumes that are not replicated. All that is on them is offered, and removed once the primary has it, or had it before.
    Local,
}

/// Passes everything that the primary lacks. What both have is settled first, since the primary may try it at any time; but for
/// mailboxes of the primary only when it has all of their messages, so that a unit that dies in between takes none with it.
///
/// # Errors
/// See [`PassError`].
pub async fn pass<C: Channel>(
    copy: &Layout,
    source: Source,
    channel: &C,
    progress: &Progress,
) -> Result<Counts, PassError> {
    progress.update(|counts| *counts = Counts::default());
    let empties = source == Source::Local;
    let mut sender =
        Sender { channel, progress, empties, batch: Batch::default(), unconfirmed: HashMap::new(), bytes: 0 };
    let Response::Ready { unit, .. } = sender.call(&Request::Begin { version: VERSION }).await? else {
        return Err(PassError::Answer("no readiness"));
    };
    let own = match source {
        Source::Replica { .. } => Own::read(copy, |writer| writer != unit)?,
        Source::Local => Some(Own::forgotten(copy)?),
    };
    let Some(own) = own else { return Ok(Counts::default()) };
    let tells = source == (Source::Replica { whole: true });
    if tells {
        sender.settle(copy, &own, false).await?;
    }
    let queue = scan::queue(copy)?.into_iter();
    let queue: Vec<Found> = queue.filter(|found| !own.common(Volume::Queue, &found.item)).collect();
    progress.update(|counts| counts.queue_found += number(queue.len()));
    sender.offer(copy, &queue).await?;
    for folder in scan::mail_folders(copy)? {
        let mail = scan::mail(&folder)?.0.into_iter();
        let mail: Vec<Found> = mail.filter(|found| !own.common(Volume::Data, &found.item)).collect();
        progress.update(|counts| counts.mail_found += number(mail.len()));
        sender.offer(copy, &mail).await?;
    }
    sender.confirm().await?;
    if tells {
        sender.settle(copy, &own, true).await?;
    }
    if empties {
        // What came back after a power failure would be offered again, and refused by the primary's ledger only while it has it.
        for root in [&copy.queue, &copy.data] {
            rustix::fs::syncfs(File::open(root)?).map_err(io::Error::from)?;
        }
    }
    let counts = progress.counts();
    match sender.call(&Request::Finish(counts)).await? {
        Response::Finished => Ok(counts),
        _ => Err(PassError::Answer("no end")),
    }
}

/// A message that only one copy may hold, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// What it is.
    pub item: Item,
    /// Who sends to whom; only of the first queue messages, and only of whole files.
    pub envelope: Option<Envelope>,
}

/// What a copy of `unit` holds that the primary may lack, as far as the copy alone can tell; queue messages first, the first
/// `opened` of them with their envelopes.
///
/// # Errors
/// The copy cannot be read.
pub fn leftovers(copy: &Layout, unit: u64, opened: usize) -> Result<Vec<Leftover>, PassError> {
    let Some(own) = Own::read(copy, |writer| writer == unit)? else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for found in scan::queue(copy)?.into_iter().filter(|found| !own.common(Volume::Queue, &found.item)) {
        let envelope = if all.len() < opened { envelope(&found)? } else { None };
        all.push(Leftover { item: found.item, envelope });
    }
    for folder in scan::mail_folders(copy)? {
        let items = scan::mail(&folder)?.0.into_iter().map(|found| found.item);
        let items = items.filter(|item| !own.common(Volume::Data, item));
        all.extend(items.map(|item| Leftover { item, envelope: None }));
    }
    Ok(all)
}

/// The envelope is at the beginning; recipients that were added behind a long message are left out with it.
fn envelope(found: &Found) -> io::Result<Option<Envelope>> {
    let mut bytes = Vec::new();
    File::open(&found.path)?.take(ENVELOPE_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(queue_file::envelope(&bytes))
}

/// The manifests of the last promotion that the copy knows.
struct Own {
    queue: Option<Manifest>,
    data: Option<Manifest>,
}

impl Own {
    /// Of volumes that are not replicated, whose records are dropped: they speak of messages that the primary may hand back one day,
    /// and must not keep this unit from taking them.
    fn forgotten(copy: &Layout) -> Result<Self, PassError> {
        server::forget(copy)?;
        manifest::forget(copy, Volume::Queue)?;
        manifest::forget(copy, Volume::Data)?;
        Ok(Self { queue: None, data: None })
    }

    /// `None` when the primary was the last to write to the copy: then it has everything. Without a manifest everything is
    /// offered.
    fn read(copy: &Layout, is_own: impl Fn(u64) -> bool) -> Result<Option<Self>, PassError> {
        let read = |volume| match manifest::read(copy, volume) {
            Err(ManifestError::Damaged) => Ok(None),
            other => other,
        };
        let (queue, data) = (read(Volume::Queue)?, read(Volume::Data)?);
        if queue.as_ref().or(data.as_ref()).is_some_and(|manifest| !is_own(manifest.unit)) {
            return Ok(None);
        }
        // The list of mailboxes is made later than the queue's: an older one tells nothing of this promotion.
        let promotion = queue.as_ref().map(|manifest| (manifest.epoch, manifest.unit));
        let data = data.filter(|manifest| promotion.is_none_or(|one| one == (manifest.epoch, manifest.unit)));
        Ok(Some(Self { queue, data }))
    }

    fn common(&self, volume: Volume, item: &Item) -> bool {
        let manifest = match volume {
            Volume::Queue => &self.queue,
            Volume::Data => &self.data,
        };
        manifest.as_ref().is_some_and(|manifest| manifest.is_common(&item.key()))
    }
}

/// Pieces of the next request.
#[derive(Default)]
struct Batch {
    pieces: Vec<Piece>,
    bytes: usize,
}

struct Sender<'a, C> {
    channel: &'a C,
    progress: &'a Progress,
    /// Files are removed once the primary has them.
    empties: bool,
    batch: Batch,
    /// Sent and not confirmed: key, digest, whether it is a message and of which kind, length.
    unconfirmed: HashMap<super::item::Key, Sent>,
    bytes: u64,
}

struct Sent {
    digest: [u8; 32],
    item: Item,
    path: PathBuf,
    length: u64,
}

impl<C: Channel> Sender<'_, C> {
    /// Tells what this copy finished of the messages that both have.
    async fn settle(&mut self, copy: &Layout, own: &Own, mailboxes: bool) -> Result<(), PassError> {
        let Some(manifest) = &own.queue else { return Ok(()) };
        let Some(copy) = Copy::read(copy, manifest)? else { return Ok(()) };
        let mut after = None;
        loop {
            let Response::Common { keys, parted } = self.call(&Request::Common { after }).await? else {
                return Err(PassError::Answer("no list of what both have"));
            };
            let Some((last, _)) = keys.last().copied() else { return Ok(()) };
            if after.is_some_and(|after| last <= after) {
                return Err(PassError::Answer("a list that does not go on"));
            }
            after = Some(last);
            for finished in settle::batches(copy.finished(&keys, parted)?, OFFER_MAX, BATCH_BYTES) {
                let told = Request::Settle { finished, mailboxes };
                let Response::Settled { messages, recipients } = self.call(&told).await? else {
                    return Err(PassError::Answer("no word of what was settled"));
                };
                self.progress.update(|counts| {
                    counts.settled_messages += messages;
                    counts.settled_recipients += recipients;
                });
            }
        }
    }

    async fn offer(&mut self, copy: &Layout, all: &[Found]) -> Result<(), PassError> {
        for chunk in all.chunks(OFFER_MAX) {
            let keys = chunk.iter().map(|found| found.item.key()).collect();
            let Response::Wanted(wanted) = self.call(&Request::Offer(keys)).await? else {
                return Err(PassError::Answer("no choice"));
            };
            if wanted.len() != chunk.len() {
                return Err(PassError::Answer("a choice of another length"));
            }
            for (found, wanted) in chunk.iter().zip(wanted) {
                if !wanted {
                    self.remove(&found.path)?;
                    continue;
                }
                for log in scan::logs(copy, &found.item) {
                    self.send(log).await?;
                }
                self.send(found.clone()).await?;
                // Between messages only, so that a log and its message are confirmed together.
                if self.bytes >= UNCONFIRMED_BYTES || self.unconfirmed.len() >= UNCONFIRMED_ITEMS {
                    self.confirm().await?;
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, found: Found) -> Result<(), PassError> {
        let mut file = File::open(&found.path)?;
        let length = file.metadata()?.len();
        let mut hash = Sha256::new();
        let mut offset = 0;
        loop {
            let room = BATCH_BYTES.saturating_sub(self.batch.bytes + PIECE_OVERHEAD_BYTES);
            if self.batch.pieces.len() == PIECES_MAX || (room == 0 && !self.batch.pieces.is_empty()) {
                self.flush().await?;
                continue;
            }
            let left = usize::try_from(length - offset).unwrap_or(usize::MAX);
            let mut bytes = vec![0; left.min(room)];
            file.read_exact(&mut bytes)?;
            hash.update(&bytes);
            self.batch.bytes += bytes.len() + PIECE_OVERHEAD_BYTES;
            let next = offset + number(bytes.len());
            self.batch.pieces.push(Piece { item: found.item.clone(), offset, length, bytes });
            offset = next;
            if offset == length {
                break;
            }
        }
        self.bytes += length;
        let sent = Sent { digest: hash.finalize().into(), item: found.item, path: found.path, length };
        self.unconfirmed.insert(sent.item.key(), sent);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), PassError> {
        let Batch { pieces, .. } = std::mem::take(&mut self.batch);
        if pieces.is_empty() {
            return Ok(());
        }
        match self.call(&Request::Store(pieces)).await? {
            Response::Stored => Ok(()),
            _ => Err(PassError::Answer("no receipt")),
        }
    }

    async fn confirm(&mut self) -> Result<(), PassError> {
        self.flush().await?;
        if self.unconfirmed.is_empty() {
            return Ok(());
        }
        let Response::Confirmed(confirmed) = self.call(&Request::Confirm).await? else {
            return Err(PassError::Answer("no confirmation"));
        };
        for (key, digest) in confirmed {
            let Some(sent) = self.unconfirmed.remove(&key).filter(|sent| sent.digest == digest) else {
                return Err(PassError::Answer("a digest of something else"));
            };
            self.remove(&sent.path)?;
            self.progress.update(|counts| {
                counts.bytes += sent.length;
                match &sent.item {
                    Item::Mail { .. } => counts.mail_passed += 1,
                    Item::Queue { folder, .. } if folder.is_log() => {}
                    Item::Queue { .. } => counts.queue_passed += 1,
                }
            });
        }
        self.bytes = 0;
        if self.unconfirmed.is_empty() { Ok(()) } else { Err(PassError::Answer("not all was confirmed")) }
    }

    /// The primary has it, or had it.
    fn remove(&self, path: &Path) -> Result<(), PassError> {
        if !self.empties {
            return Ok(());
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn call(&self, request: &Request) -> Result<Response, PassError> {
        if self.progress.stop.load(Ordering::Relaxed) {
            return Err(PassError::Stopped);
        }
        let bytes = self.channel.call(request.encode()?).await?;
        match Response::decode(&bytes)? {
            Response::NotNow(why) => Err(PassError::NotNow(why)),
            Response::Refused(why) => Err(PassError::Refused(why)),
            response => Ok(response),
        }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
