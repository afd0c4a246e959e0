//! The loser's side of a hand-over: reads its own copy, offers every message that may be missing at the primary, sends what the
//! primary wants, and ends when all of it is confirmed durable. May be ended at any point and begun again. Reads its copy
//! between the calls, so it belongs on a thread that may wait for a drive.

use super::item::Item;
use super::manifest::{self, Manifest, ManifestError, Volume};
use super::message::{Counts, MessageError, OFFER_MAX, Request, Response, VERSION};
use super::queue_file::{self, Envelope};
use super::scan::{self, Found, Logs};
use super::sender::{BATCH_BYTES, Sender};
use super::server;
use super::settle::{self, Copy};
use super::{Channel, ChannelError, Layout};
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

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

    /// Another pass goes on where one was ended: what was passed stays counted, and what is found is counted anew.
    pub fn resume(&self) {
        self.stop.store(false, Ordering::Relaxed);
    }

    /// Ends the hand-over before its next request.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Counts)) {
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
    progress.update(|counts| (counts.queue_found, counts.mail_found) = (0, 0));
    let empties = source == Source::Local;
    let mut sender = Sender::new(channel, progress, empties);
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
        settle(&mut sender, progress, copy, &own, false).await?;
    }
    let logs = Logs::of(copy)?;
    let queue = scan::queue(copy)?.into_iter();
    let queue: Vec<Found> = queue.filter(|found| !own.common(Volume::Queue, &found.item)).collect();
    progress.update(|counts| counts.queue_found += number(queue.len()));
    sender.offer(&logs, &queue).await?;
    for folder in scan::mail_folders(copy)? {
        let mail = scan::mail(&folder)?.0.into_iter();
        let mail: Vec<Found> = mail.filter(|found| !own.common(Volume::Data, &found.item)).collect();
        progress.update(|counts| counts.mail_found += number(mail.len()));
        sender.offer(&logs, &mail).await?;
    }
    sender.confirm_all().await?;
    if tells {
        settle(&mut sender, progress, copy, &own, true).await?;
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

/// Tells what this copy finished of the messages that both have.
async fn settle<C: Channel>(
    sender: &mut Sender<'_, C>,
    progress: &Progress,
    copy: &Layout,
    own: &Own,
    mailboxes: bool,
) -> Result<(), PassError> {
    let Some(manifest) = &own.queue else { return Ok(()) };
    let Some(copy) = Copy::read(copy, manifest)? else { return Ok(()) };
    let mut after = None;
    loop {
        let Response::Common { keys, parted } = sender.call(&Request::Common { after }).await? else {
            return Err(PassError::Answer("no list of what both have"));
        };
        let Some((last, _)) = keys.last().copied() else { return Ok(()) };
        if after.is_some_and(|after| last <= after) {
            return Err(PassError::Answer("a list that does not go on"));
        }
        after = Some(last);
        for finished in settle::batches(copy.finished(&keys, parted)?, OFFER_MAX, BATCH_BYTES) {
            let told = Request::Settle { finished, mailboxes };
            let Response::Settled { messages, recipients } = sender.call(&told).await? else {
                return Err(PassError::Answer("no word of what was settled"));
            };
            progress.update(|counts| {
                counts.settled_messages += messages;
                counts.settled_recipients += recipients;
            });
        }
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

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
