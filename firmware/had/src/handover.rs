//! The hand-over of mail in the supervisor: the primary's server on the control channel with the lists that it answers from, and
//! the pass of a unit whose copy is about to be overwritten. What is handed over, and how, is `twinpost_mail::handover`; when, the
//! decisions say. `spec/ha.md` section 8.
//!
//! ```text
//! PRIMARY  mounted ─▶ recover, list the queue ─▶ mail starts ─▶ list mailboxes (behind) ── serves ── unmount: closes
//! loser    PassMail ─▶ a thread that may wait: snapshot of both copies ─ pass ─▶ control channel
//! SECONDARY with volumes that are not replicated ─▶ local: the volumes themselves ─ pass, emptied ─▶ control channel
//! PRIMARY with a volume on a server ─▶ local: what is left of it on its own partition ─ pass, emptied ─▶ its own server
//! ```

mod local;

use crate::control::Control;
use crate::provision::chain;
use crate::shared::Shared;
use local::Local;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use twinpost_api::{AtRisk, MailReport};
use twinpost_control::Service;
use twinpost_mail::Mail;
use twinpost_mail::handover::item::{Item, QueueFolder};
use twinpost_mail::handover::manifest::{self, ManifestError, Promotion, Volume};
use twinpost_mail::handover::message::Counts;
use twinpost_mail::handover::pass::{self, Leftover, PassError, Progress, Source};
use twinpost_mail::handover::report;
use twinpost_mail::handover::scan;
use twinpost_mail::handover::server::{self, Server};
use twinpost_mail::handover::{Channel, ChannelError, Layout};
use twinpost_storage::stale::{Look, StaleCopies, StaleError};
use twinpost_storage::volume::Place;
use twinpost_types::{DiskState, Epoch, Replication, VOLUMES, VolumeId, VolumeReport};

/// After this much work a pass reports back and is asked again, so that the decisions can change their mind.
const PASS_TIME: Duration = Duration::from_secs(60);
/// What was stored so shortly before a promotion is not taken as known to both: names carry the clock of the unit that stored.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);
/// Pause before mailboxes are listed: a takeover needs the drive for other things first.
const LIST_AFTER: Duration = Duration::from_secs(2);
/// How often, and how many times, the primary looks whether handed-over mail has left its queue: for ten minutes.
const FOLLOW_EVERY: Duration = Duration::from_secs(5);
const FOLLOW_TIMES: u32 = 120;

/// A request of the other unit under way ends within this, or its storage hangs.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Messages at risk that one event names, and most events for them; the report has more of them.
const AT_RISK_AN_EVENT: usize = 10;
const AT_RISK_EVENTS_MAX: usize = 5;

/// Both sides of the hand-over on this unit.
pub struct HandOver {
    unit: u64,
    control: Option<Arc<Control>>,
    shared: Arc<Shared>,
    volumes: watch::Receiver<[VolumeReport; VOLUMES]>,
    server: Arc<Server>,
    /// What replication knew of the copies before the promotion, and when that was, seconds since 1970. A supervisor that was
    /// restarted since knows neither.
    promotion: Mutex<([bool; VOLUMES], u64)>,
    listing: Mutex<Option<Listing>>,
    run: Mutex<Run>,
    /// Held by the thread that passes: a drive that hangs must not get a second one.
    passing: Arc<tokio::sync::Mutex<()>>,
    /// The operator gives up what only this copy holds.
    discard: AtomicBool,
    /// Volumes that are not replicated; `local` has their work.
    local: Local,
}

/// A hand-over from its beginning until all is confirmed: a pass, or several of them.
struct Run {
    progress: Arc<Progress>,
    began: Instant,
    complete: bool,
}

impl Default for Run {
    fn default() -> Self {
        Self { progress: Arc::default(), began: Instant::now(), complete: true }
    }
}

struct Listing {
    stop: Arc<AtomicBool>,
    done: JoinHandle<()>,
}

/// Why a pass is not complete.
#[derive(Debug, Error)]
pub enum HandOverError {
    /// HA is off, so there is nobody to pass to.
    #[error("there is no control channel to the other unit")]
    NoChannel,
    /// An earlier pass still waits for its drive.
    #[error("an earlier pass still reads the own copy: its drive hangs or is slow")]
    Busy,
    /// The own copy is not readable.
    #[error(transparent)]
    Copy(#[from] StaleError),
    /// Not all was passed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The thread ended.
    #[error("the pass ended without a result")]
    Thread(#[source] tokio::task::JoinError),
}

impl HandOverError {
    /// Asked again it goes on at once.
    pub fn is_unfinished(&self) -> bool {
        matches!(self, Self::Pass(PassError::Stopped))
    }
}

/// Why the queue is not ready for a mail service.
#[derive(Debug, Error)]
pub enum QueueError {
    /// A hand-over that was interrupted cannot be completed.
    #[error("mail that was handed over cannot be put into the queue")]
    Recover(#[source] io::Error),
    /// The list of the queue cannot be made.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl HandOver {
    /// Serves the other unit on the control channel; refuses it until the volumes are mounted.
    pub fn new(
        unit: u64,
        control: Option<Arc<Control>>,
        mail: &Arc<Mail>,
        volumes: watch::Receiver<[VolumeReport; VOLUMES]>,
        places: &[Place; VOLUMES],
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        let this = Arc::new(Self {
            unit,
            control: control.clone(),
            shared,
            volumes,
            server: Arc::new(Server::new(Layout::default(), unit, Box::new(Arc::clone(mail)))),
            promotion: Mutex::default(),
            listing: Mutex::default(),
            run: Mutex::default(),
            passing: Arc::default(),
            discard: AtomicBool::new(false),
            local: Local::new(places),
        });
        if let Some(control) = control {
            let served = Arc::clone(&this);
            control.serve(Service::HandOver, move |request| Arc::clone(&served).serve(request));
        }
        this
    }

    async fn serve(self: Arc<Self>, request: Vec<u8>) -> Result<Vec<u8>, String> {
        if self.local.takes_in() {
            return Err("the PRIMARY takes in what is left on its own partition first".to_string());
        }
        let before = self.server.served();
        let server = Arc::clone(&self.server);
        let answer = tokio::task::spawn_blocking(move || server.handle(&request));
        let answer = answer.await.map_err(|error| error.to_string())?;
        // Not waited for: meanwhile the other unit hears the answer and sends more, and nothing here waits for the drive.
        let server = Arc::clone(&self.server);
        tokio::task::spawn_blocking(move || server.write_pending());
        let after = self.server.served();
        if after.recognised > before.recognised {
            let text = format!(
                "{} mailbox messages of the other unit had been delivered here as well and are in their mailboxes once",
                after.recognised - before.recognised
            );
            self.shared.event("handover-recognised", &text);
        }
        if after.ended > before.ended {
            self.shared.event("handover-received", &format!("from the other unit: {}", words(after.last)));
            tokio::spawn(follow(Arc::clone(&self.shared)));
        }
        Ok(answer)
    }

    /// Before the volumes are promoted: remembers what replication knows of the copies.
    pub fn before_promotion(&self) {
        let volumes = *self.volumes.borrow();
        // What replication last counted as different while it was down is older than the writes since.
        let equal = volumes.map(|volume| {
            volume.replication == Replication::Connected
                && (volume.local, volume.peer) == (DiskState::UpToDate, DiskState::UpToDate)
        });
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Two volumes that are not replicated have nothing in common.
        let equal = VolumeId::ALL.map(|volume| equal[volume.index()] && !self.local.is(volume));
        // Whatever is passed next is another hand-over.
        lock(&self.run).complete = true;
        *lock(&self.promotion) = (equal, now.saturating_sub(CLOCKS_DIFFER).as_secs());
    }

    /// Between mount and start of the mail service: completes what was interrupted, lists the queue, reports what was found,
    /// and lists the mailboxes behind the service.
    ///
    /// # Errors
    /// See [`QueueError`]; the mail service must not start then, since nobody could tell later what was in its queue before.
    pub async fn before_mail(&self, epoch: Epoch) -> Result<(), QueueError> {
        let (equal, before_s) = *lock(&self.promotion);
        let promotion = |volume: VolumeId| Promotion {
            epoch: epoch.0,
            unit: self.unit,
            copies_equal: equal[volume.index()],
            local: self.local.is(volume),
            before_s,
        };
        let (queue, data) = (promotion(VolumeId::Queue), promotion(VolumeId::Data));
        let work = move || -> Result<Option<MailReport>, QueueError> {
            let layout = Layout::default();
            let placed = server::recover(&layout).map_err(QueueError::Recover)?;
            let first = manifest::note(&layout, Volume::Queue, queue, &AtomicBool::new(false))?;
            if queue.copies_equal && data.copies_equal {
                // No other copy is left that could offer any of it again.
                server::forget(&layout).map_err(QueueError::Recover)?;
            }
            let begin = || report::begin(&layout, epoch.0, placed);
            first.then(begin).transpose().map_err(QueueError::Recover)
        };
        let done = tokio::task::spawn_blocking(work).await;
        if let Some(report) = done.map_err(|error| QueueError::Recover(io::Error::other(error)))?? {
            self.tell(&report);
        }
        self.server.open(epoch.0);
        self.list_mailboxes(data);
        Ok(())
    }

    /// What a takeover found: counts, and the messages at risk by name.
    fn tell(&self, report: &MailReport) {
        let text = format!(
            "{} queued, {} of them perhaps under way to their next hop when the other unit ended, so that those may be delivered a \
             second time; {} completed from an interrupted hand-over",
            report.queued, report.at_risk, report.completed
        );
        self.shared.event("mail-report", &text);
        for some in report.listed.chunks(AT_RISK_AN_EVENT).take(AT_RISK_EVENTS_MAX) {
            let names: Vec<String> = some.iter().map(at_risk_words).collect();
            self.shared.event("mail-at-risk", &names.join("; "));
        }
        if report.queued > 0 {
            tokio::spawn(follow_queue(Arc::clone(&self.shared), report.epoch));
        }
    }

    /// Deliveries into mailboxes were recognised when the mail service started.
    pub async fn recognised(&self, count: u64) {
        let work = move || report::add_recognised(&Layout::default(), count);
        // The event tells them as well.
        let _ = tokio::task::spawn_blocking(work).await;
    }

    fn list_mailboxes(&self, promotion: Promotion) {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, shared) = (Arc::clone(&stop), Arc::clone(&self.shared));
        let done = tokio::spawn(async move {
            tokio::time::sleep(LIST_AFTER).await;
            let list = move || {
                if stopped.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                manifest::note(&Layout::default(), Volume::Data, promotion, &stopped)
            };
            if let Ok(Err(error)) = tokio::task::spawn_blocking(list).await {
                shared.event("handover", &format!("mailboxes were not listed: {}", chain(&error)));
            }
        });
        *lock(&self.listing) = Some(Listing { stop, done });
    }

    /// Before the volumes are unmounted: nothing here uses them any more.
    pub async fn before_unmount(&self) {
        self.end_take_in();
        let listing = lock(&self.listing).take();
        if let Some(Listing { stop, done }) = listing {
            stop.store(true, Ordering::Relaxed);
            // A list that waits for its pause holds nothing; one that reads ends at its next folder.
            let _ = tokio::time::timeout(LIST_AFTER + LIST_AFTER, done).await;
        }
        let server = Arc::clone(&self.server);
        // A request that waits for the server of an export ends only when the volume is unmounted by force.
        let _ = tokio::time::timeout(CLOSE_LIMIT, tokio::task::spawn_blocking(move || server.close())).await;
    }

    /// Passes what only this unit's copies hold. Replication is cut and the volumes are not promoted.
    ///
    /// # Errors
    /// See [`HandOverError`].
    pub async fn pass(&self) -> Result<(), HandOverError> {
        if self.discard.swap(false, Ordering::Relaxed) {
            self.shared.event("handover-discarded", "the operator gave up what only this unit's copy holds");
            return Ok(());
        }
        let control = self.control.clone().ok_or(HandOverError::NoChannel)?;
        let turn = Arc::clone(&self.passing).try_lock_owned().map_err(|_| HandOverError::Busy)?;
        let progress = self.begin();
        let runtime = tokio::runtime::Handle::current();
        let shared = Arc::clone(&progress);
        let [queue, _] = *self.volumes.borrow();
        let source = Source::Replica { whole: queue.local != DiskState::Inconsistent };
        let looks = self.local.looks(Look::Nothing, Look::Snapshot);
        let work = move || -> Result<Counts, HandOverError> {
            let _turn = turn;
            let copies = StaleCopies::open(looks)?;
            let layout = Layout::at(&copies.root(VolumeId::Queue), &copies.root(VolumeId::Data));
            Ok(runtime.block_on(pass::pass(&layout, source, &Wire(control), &shared))?)
        };
        let mut pass = tokio::task::spawn_blocking(work);
        let ended = tokio::select! {
            ended = &mut pass => ended,
            () = tokio::time::sleep(PASS_TIME) => {
                progress.stop();
                pass.await
            }
        };
        let counts = ended.map_err(HandOverError::Thread)??;
        let text =
            format!("passed to the PRIMARY and confirmed there {}: {}", self.complete(), words(counts));
        self.shared.event("handover-done", &text);
        Ok(())
    }

    /// A pass begins, or goes on where one was ended before all was confirmed.
    fn begin(&self) -> Arc<Progress> {
        let mut run = lock(&self.run);
        if run.complete {
            *run = Run { complete: false, ..Run::default() };
        }
        run.progress.resume();
        Arc::clone(&run.progress)
    }

    /// All is confirmed; how long that took since the first pass began, and how fast it was.
    fn complete(&self) -> String {
        let mut run = lock(&self.run);
        run.complete = true;
        pace(&run)
    }

    /// How far a pass is, while one goes on.
    pub fn under_way(&self) -> Option<String> {
        let run = lock(&self.run);
        if run.complete || self.passing.try_lock().is_ok() {
            return None;
        }
        let counts = run.progress.counts();
        let (found, confirmed) = (counts.queue_found + counts.mail_found, passed(counts));
        Some(format!(
            "what only this unit holds is being passed to the PRIMARY: of {found} messages found so far {confirmed} are confirmed {}",
            pace(&run)
        ))
    }

    /// What this copy holds that the other unit may lack, the first `opened` with envelopes. Only while the volumes are not promoted; of
    /// volumes that are being replicated nothing is left over.
    ///
    /// # Errors
    /// See [`HandOverError`].
    pub async fn leftovers(&self, opened: usize) -> Result<Vec<Leftover>, HandOverError> {
        let turn = Arc::clone(&self.passing).try_lock_owned().map_err(|_| HandOverError::Busy)?;
        let unit = self.unit;
        let replicated = self.volumes.borrow().iter().any(|volume| volume.replication.is_connected());
        let looks = self.local.looks(Look::Itself, if replicated { Look::Nothing } else { Look::Snapshot });
        let work = move || -> Result<_, HandOverError> {
            let _turn = turn;
            let copies = StaleCopies::open(looks)?;
            let layout = Layout::at(&copies.root(VolumeId::Queue), &copies.root(VolumeId::Data));
            Ok(pass::leftovers(&layout, unit, opened)?)
        };
        tokio::task::spawn_blocking(work).await.map_err(HandOverError::Thread)?
    }

    /// The next pass gives up what only this copy holds.
    pub fn discard(&self) {
        self.discard.store(true, Ordering::Relaxed);
    }

    /// What the pass that goes on, or the last one, has done; and what this unit took as primary.
    pub fn counts(&self) -> (Counts, u64) {
        (lock(&self.run).progress.counts(), self.server.served().taken)
    }
}

/// The control channel as the hand-over sees it.
struct Wire(Arc<Control>);

impl Channel for Wire {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        let answer = self.0.call(Service::HandOver, request).await;
        answer.map_err(|error| ChannelError(error.to_string()))
    }
}

/// Tells when all that was handed over has left the queue, or what is left after some time.
async fn follow(shared: Arc<Shared>) {
    for round in 1..=FOLLOW_TIMES {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let counted = tokio::task::spawn_blocking(|| left_in_queue(&Layout::default())).await;
        // Unmounted meanwhile: whoever is primary now delivers them.
        let Ok(Ok((taken, left))) = counted else { return };
        if left == 0 || round == FOLLOW_TIMES {
            let text = format!(
                "of {taken} queue messages handed over {} were delivered or returned, {left} are still queued",
                taken - left
            );
            shared.event("handover-report", &text);
            return;
        }
    }
}

/// Queue messages in the ledger, and those of them that are still queued.
fn left_in_queue(layout: &Layout) -> io::Result<(usize, usize)> {
    let live: std::collections::HashSet<_> = scan::queue_keys(layout)?.into_iter().collect();
    let taken = server::ledger(layout)?.into_iter().filter(is_message).map(|item| item.key());
    let taken: Vec<_> = taken.collect();
    Ok((taken.len(), taken.iter().filter(|key| live.contains(*key)).count()))
}

/// Tells what became of the messages that were queued at a takeover, when all are gone or after some time.
async fn follow_queue(shared: Arc<Shared>, epoch: u64) {
    for round in 1..=FOLLOW_TIMES {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let read = tokio::task::spawn_blocking(|| report::now(&Layout::default())).await;
        // Unmounted, or another takeover: its report follows.
        let Ok(Ok(Some(report))) = read else { return };
        if report.epoch != epoch {
            return;
        }
        if report.still_queued == 0 || round == FOLLOW_TIMES {
            let text = format!(
                "of {} messages queued at the takeover {} were delivered or returned, {} are still queued; of {} at risk {} were \
                 delivered or returned",
                report.queued,
                report.queued.saturating_sub(report.still_queued),
                report.still_queued,
                report.at_risk,
                report.at_risk.saturating_sub(report.at_risk_queued)
            );
            shared.event("mail-report", &text);
            return;
        }
    }
}

/// How long it has taken, and how fast that is.
fn pace(run: &Run) -> String {
    let seconds = run.began.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let rate = passed(run.progress.counts()) as f64 / seconds.max(0.001);
    format!("in {seconds:.1} s, {rate:.0} messages a second")
}

fn passed(counts: Counts) -> u64 {
    counts.queue_passed + counts.mail_passed
}

fn at_risk_words(one: &AtRisk) -> String {
    let to = one.recipients.first().map_or("", String::as_str);
    format!("{} from <{}> to <{to}>, {} open", one.id, one.sender, one.open)
}

fn is_message(item: &Item) -> bool {
    matches!(item, Item::Queue { folder, .. } if !folder.is_log() && *folder != QueueFolder::Maildrop)
}

fn words(counts: Counts) -> String {
    format!(
        "{} of {} queue messages and {} of {} mailbox messages, {} bytes; the PRIMARY had the others. Of messages that both had, {} \
         recipients of {} were marked as done at the PRIMARY",
        counts.queue_passed,
        counts.queue_found,
        counts.mail_passed,
        counts.mail_found,
        counts.bytes,
        counts.settled_recipients,
        counts.settled_messages
    )
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
