//! The primary's side of a hand-over: says which messages it lacks, takes them, confirms them when they are durable. Works on
//! mounted volumes only while it is [`Server::open`]ed; its answers are bytes for the control channel. All calls block.
//!
//! An interruption at any point loses nothing: a part that the ledger does not name is dropped and offered again, one that it
//! names is put into its place by [`recover`], which runs before the mail service starts and at every `Begin`.

use super::item::{Item, Key, QueueFolder};
use super::ledger::Ledger;
use super::manifest::{self, Manifest, Volume};
use super::message::{Counts, Finished, OFFER_MAX, Piece, Request, Response, UNCONFIRMED_MAX, VERSION};
use super::settle::{self, Deliveries};
use super::{Layout, place, report, scan, twin};
use crate::stored::{concerns, settle_handed_over};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes hand-overs for as long as this unit is primary.
pub struct Server {
    layout: Layout,
    unit: u64,
    deliveries: Box<dyn Deliveries>,
    state: Mutex<State>,
    /// Never held over work: who asks must not wait for a drive.
    served: Mutex<Served>,
}

#[derive(Debug, Default)]
struct State {
    /// Epoch in which the volumes are mounted.
    epoch: Option<u64>,
    pass: Option<Pass>,
    /// Why pieces that were answered already could not be written: the answer to the next request.
    failed: Option<Response>,
}

/// What was done since the server was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Hand-overs that ended.
    pub ended: u64,
    /// Counts of the last one.
    pub last: Counts,
    /// Files that were confirmed.
    pub taken: u64,
    /// Mailbox messages among them that this unit had delivered by itself: they are in their mailboxes once.
    pub recognised: u64,
}

/// Files, and the SHA-256 of each.
type Digests = Vec<(Key, [u8; 32])>;

/// A hand-over that goes on.
#[derive(Debug)]
struct Pass {
    /// What this unit had: by its manifests, and live in the queue.
    had: [Manifest; 2],
    /// Queue messages that it had and still has, and whether they were on the copy that it took over.
    common: BTreeMap<Key, bool>,
    live: HashSet<Key>,
    ledger: Ledger,
    /// Answered, and not written yet: it is while the next request is on its way.
    pending: Vec<Piece>,
    partial: Option<Partial>,
    whole: Vec<(Item, [u8; 32])>,
    /// Those of them, path and queue id, that may go to a mailbox here.
    local: Vec<(PathBuf, String)>,
}

#[derive(Debug)]
struct Partial {
    item: Item,
    file: File,
    hash: Sha256,
    next: u64,
    length: u64,
}

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
enum TakeError {
    #[error("{0}")]
    NotNow(&'static str),
    #[error("{0}")]
    Refused(&'static str),
    #[error("the primary cannot store handed-over mail: {0}")]
    Io(#[from] io::Error),
}

impl TakeError {
    /// Ends the pass: whatever was not confirmed is offered again after the next `Begin`.
    fn end(&self, state: &mut State) -> Response {
        state.pass = None;
        match self {
            Self::Refused(_) => Response::Refused(self.to_string()),
            Self::NotNow(_) | Self::Io(_) => Response::NotNow(self.to_string()),
        }
    }
}

/// Puts into place what the ledger names and an interruption left behind, and deletes the rest of the parts. Returns how many
/// were placed. Before the mail service starts.
///
/// # Errors
/// The volumes cannot be read or written.
pub fn recover(layout: &Layout) -> io::Result<u64> {
    complete(layout, None)
}

fn complete(layout: &Layout, deliveries: Option<&dyn Deliveries>) -> io::Result<u64> {
    place::make_folders(layout)?;
    let parts = place::parts(layout)?;
    if parts.is_empty() {
        return Ok(0);
    }
    let mut ledger = Ledger::open(&layout.queue)?;
    let mut taken = Vec::new();
    for (path, key) in parts {
        match key.and_then(|key| ledger.item(&key)) {
            Some(item) => taken.push(item.clone()),
            None => std::fs::remove_file(path)?,
        }
    }
    // A list that is damaged names nothing that both copies held, and more is looked at.
    let had = manifest::read(layout, Volume::Data).ok().flatten().unwrap_or_default();
    let dropped = put(layout, &taken, &had, &mut ledger, deliveries)?;
    Ok(u64::try_from(taken.len()).unwrap_or(u64::MAX).saturating_sub(dropped))
}

/// Puts parts that the ledger names into place, but those that their mailboxes hold already; returns how many these were.
fn put(
    layout: &Layout,
    taken: &[Item],
    had: &Manifest,
    ledger: &mut Ledger,
    deliveries: Option<&dyn Deliveries>,
) -> io::Result<u64> {
    let (mail, queue): (Vec<Item>, Vec<Item>) = taken.iter().cloned().partition(Item::is_mail);
    // Logs precede their message; what is queued is seen when its delivery is among the mailbox messages.
    queue.iter().try_for_each(|item| place::place(layout, item))?;
    let outcome = twin::settle(layout, &mail, had, ledger, deliveries)?;
    ledger.note_settled(&outcome.marked.messages)?;
    mail.iter().try_for_each(|item| place::place(layout, item))?;
    if outcome.dropped > 0 {
        // Both are as they should be; a report that cannot be written changes nothing of it.
        let _ = report::add_recognised(layout, outcome.dropped);
    }
    Ok(outcome.dropped)
}

/// Drops the ledger: both copies are the same, and what was handed over is in both. After [`recover`].
///
/// # Errors
/// It cannot be removed.
pub fn forget(layout: &Layout) -> io::Result<()> {
    Ledger::remove(&layout.queue)
}

/// What is in the ledger of a queue volume, in no order: for people.
///
/// # Errors
/// It cannot be read.
pub fn ledger(layout: &Layout) -> io::Result<Vec<Item>> {
    place::make_folders(layout)?;
    Ok(Ledger::open(&layout.queue)?.items().cloned().collect())
}

impl Server {
    /// For the volumes of `layout` on this unit; refuses everything until it is opened.
    #[must_use]
    pub fn new(layout: Layout, unit: u64, deliveries: Box<dyn Deliveries>) -> Self {
        Self { layout, unit, deliveries, state: Mutex::default(), served: Mutex::default() }
    }

    /// The volumes are mounted and this unit is primary.
    pub fn open(&self, epoch: u64) {
        *self.state() = State { epoch: Some(epoch), ..State::default() };
        *self.lock_served() = Served::default();
    }

    /// The volumes are about to be unmounted: waits for a request under way and holds no file open any more.
    pub fn close(&self) {
        let mut state = self.state();
        state.epoch = None;
        state.pass = None;
        state.failed = None;
    }

    /// What was done since this unit is primary. Waits for nothing.
    #[must_use]
    pub fn served(&self) -> Served {
        *self.lock_served()
    }

    /// Answers one request. Pieces are written by [`Self::write_pending`], or before the next answer.
    #[must_use]
    pub fn handle(&self, request: &[u8]) -> Vec<u8> {
        let response = match Request::decode(request) {
            Ok(request) => {
                let mut state = self.state();
                self.catch_up(&mut state);
                let failed = state.failed.take().filter(|_| !matches!(request, Request::Begin { .. }));
                failed.unwrap_or_else(|| {
                    self.answer(&mut state, request).unwrap_or_else(|error| error.end(&mut state))
                })
            }
            Err(error) => Response::Refused(error.to_string()),
        };
        response.encode()
    }

    /// Writes the pieces that were answered: while the loser hears the answer and sends more. What fails is told by the next answer.
    pub fn write_pending(&self) {
        self.catch_up(&mut self.state());
    }

    fn catch_up(&self, state: &mut State) {
        let Some(pass) = &mut state.pass else { return };
        let pieces = std::mem::take(&mut pass.pending);
        if pieces.is_empty() {
            return;
        }
        let domains = self.deliveries.local_domains();
        if let Err(error) = pieces.into_iter().try_for_each(|piece| pass.store(&self.layout, piece, &domains))
        {
            state.failed = Some(error.end(state));
        }
    }

    fn answer(&self, state: &mut State, request: Request) -> Result<Response, TakeError> {
        let epoch = state.epoch.ok_or(TakeError::NotNow("this unit is not primary"))?;
        if let Request::Begin { version: VERSION } = request {
            state.pass = None;
            state.pass = Some(Pass::begin(&self.layout, epoch, &*self.deliveries)?);
            // What an interrupted one confirmed need not wait for the end of this one.
            place::wake(&self.layout.spool());
            return Ok(Response::Ready { epoch, unit: self.unit });
        }
        let pass = state.pass.as_mut().ok_or(TakeError::NotNow("the hand-over has to begin again"))?;
        match request {
            Request::Begin { .. } => Err(TakeError::Refused("another version")),
            Request::Offer(keys) => Ok(Response::Wanted(keys.iter().map(|key| pass.wants(key)).collect())),
            Request::Common { after } => Ok(pass.common(after)),
            Request::Settle { finished, mailboxes } => self.settle(pass, &finished, mailboxes),
            Request::Store(pieces) => {
                pass.pending = pieces;
                Ok(Response::Stored)
            }
            Request::Confirm => {
                let (confirmed, recognised) = pass.confirm(&self.layout, &*self.deliveries)?;
                let mut served = self.lock_served();
                served.taken += u64::try_from(confirmed.len()).unwrap_or(0);
                served.recognised += recognised;
                Ok(Response::Confirmed(confirmed))
            }
            Request::Finish(counts) => {
                state.pass = None;
                let mut served = self.lock_served();
                served.ended += 1;
                served.last = counts;
                drop(served);
                // Everything is confirmed; a report that cannot be written is no reason to do it again.
                let _ = report::add_hand_over(&self.layout, counts);
                // Not before: deliveries would take the processor from the hand-over, and this unit's mail has no second copy until it
                // has ended. New mail wakes the queue manager anyhow, and it looks by itself when the loser never comes back.
                place::wake(&self.layout.spool());
                Ok(Response::Finished)
            }
        }
    }

    /// Durable marks first, then the line for people; asked again it finds nothing left to mark.
    fn settle(&self, pass: &mut Pass, finished: &[Finished], mailboxes: bool) -> Result<Response, TakeError> {
        let later = if mailboxes { BTreeSet::new() } else { self.deliveries.local_domains() };
        let had = finished.iter().filter(|one| pass.common.contains_key(&one.key));
        let had: Vec<Finished> = had.cloned().collect();
        // Deliveries are not disturbed for what a pass before, or this unit itself, has marked already.
        let had = settle::unmarked(&self.layout, &had, &later)?;
        if had.is_empty() {
            return Ok(Response::Settled { messages: 0, recipients: 0 });
        }
        let marked = self.deliveries.hold_back(&mut || settle::mark(&self.layout, &had, &later))?;
        pass.ledger.note_settled(&marked.messages)?;
        let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
        let (messages, recipients) = (number(marked.messages.len()), number(marked.recipients()));
        Ok(Response::Settled { messages, recipients })
    }

    fn lock_served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    fn begin(layout: &Layout, epoch: u64, deliveries: &dyn Deliveries) -> Result<Self, TakeError> {
        complete(layout, Some(deliveries))?;
        let had = |volume| match manifest::read(layout, volume) {
            Ok(Some(manifest)) if manifest.epoch == epoch => Ok(manifest),
            // Mailboxes are listed while the mail service runs already.
            Ok(_) => Err(TakeError::NotNow("the primary is still listing its messages")),
            Err(error) => Err(TakeError::Io(io::Error::other(error))),
        };
        let had = [had(Volume::Queue)?, had(Volume::Data)?];
        let queued = scan::places(layout, scan::DELIVERED)?.into_keys().filter(|key| had[0].had(key));
        let common = queued.map(|key| (key, had[0].is_common(&key))).collect();
        Ok(Self {
            had,
            common,
            live: scan::queue_keys(layout)?.into_iter().collect(),
            ledger: Ledger::open(&layout.queue)?,
            pending: Vec::new(),
            partial: None,
            whole: Vec::new(),
            local: Vec::new(),
        })
    }

    fn common(&self, after: Option<Key>) -> Response {
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let keys = self.common.range(behind).take(OFFER_MAX).map(|(key, common)| (*key, *common));
        Response::Common { keys: keys.collect(), parted: self.had[0].parted }
    }

    fn wants(&self, key: &Key) -> bool {
        let known = self.had.iter().any(|manifest| manifest.had(key));
        !known && !self.live.contains(key) && !self.ledger.has(key)
    }

    fn store(&mut self, layout: &Layout, piece: Piece, domains: &BTreeSet<String>) -> Result<(), TakeError> {
        if piece.offset == 0 {
            let message = !matches!(&piece.item, Item::Queue { folder, .. } if folder.is_log());
            if message && !self.wants(&piece.item.key()) {
                return Err(TakeError::Refused("a message that this unit has or had"));
            }
            if self.whole.len() >= UNCONFIRMED_MAX {
                return Err(TakeError::Refused("too many messages without a confirmation"));
            }
            let file = place::create_part(layout, &piece.item)?;
            let Piece { item, length, .. } = &piece;
            self.partial =
                Some(Partial { item: item.clone(), file, hash: Sha256::new(), next: 0, length: *length });
        }
        let mut partial = self.partial.take().ok_or(TakeError::Refused("a piece without its beginning"))?;
        if (&partial.item, partial.next, partial.length) != (&piece.item, piece.offset, piece.length) {
            return Err(TakeError::Refused("a piece out of order"));
        }
        partial.file.write_all(&piece.bytes)?;
        partial.hash.update(&piece.bytes);
        partial.next += u64::try_from(piece.bytes.len()).unwrap_or(0);
        if piece.is_last() {
            if let Item::Queue { folder: QueueFolder::Incoming | QueueFolder::Hold, id } = &partial.item
                && (piece.offset > 0 || concerns(&piece.bytes, domains))
            {
                self.local.push((place::part(layout, &partial.item), id.clone()));
            }
            self.whole.push((partial.item, partial.hash.finalize().into()));
        } else {
            self.partial = Some(partial);
        }
        Ok(())
    }

    /// What is durable now, and how many mailbox messages of it this unit had delivered by itself.
    fn confirm(&mut self, layout: &Layout, deliveries: &dyn Deliveries) -> Result<(Digests, u64), TakeError> {
        let whole = std::mem::take(&mut self.whole);
        if whole.is_empty() {
            return Ok((Vec::new(), 0));
        }
        // Their unit may have died between a delivery into a mailbox that is here as well and its mark.
        settle_handed_over(
            &std::mem::take(&mut self.local),
            &layout.mailboxes(),
            &deliveries.local_domains(),
        );
        // One pass over the volume instead of one sync a file: contents and folder entries together.
        if whole.iter().any(|(item, _)| item.is_mail()) {
            rustix::fs::syncfs(File::open(&layout.data)?).map_err(io::Error::from)?;
        }
        rustix::fs::syncfs(File::open(&layout.queue)?).map_err(io::Error::from)?;
        self.ledger.append(&whole)?;
        // From here an interruption is mended by `complete`.
        let confirmed = whole.iter().map(|(item, digest)| (item.key(), *digest)).collect();
        let taken: Vec<Item> = whole.into_iter().map(|(item, _)| item).collect();
        let recognised = put(layout, &taken, &self.had[1], &mut self.ledger, Some(deliveries))?;
        Ok((confirmed, recognised))
    }
}
