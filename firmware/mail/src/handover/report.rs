//! The reconciliation report of a takeover and of the hand-overs after it: what was queued, handed over, delivered, at risk
//! (`spec/ha.md` section 8). A file of the queue volume, begun before the mail service starts and completed with what the queue
//! holds when somebody asks. For people: nothing is decided by it, so it is not synced by itself.

use super::manifest::{self, Volume};
use super::message::Counts;
use super::{FOLDER, Layout, queue_file, scan, server};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use twinpost_api::{AT_RISK_MAX, AtRisk, MailReport};

/// Name of the file in the hand-over folder of the queue volume.
const NAME: &str = "report";
/// Recipients that are named with a message at risk.
const NAMED_MAX: usize = 3;
/// Longest address that is kept, characters.
const ADDRESS_CHARS_MAX: usize = 80;
/// Files larger than this are listed without their envelope: the takeover waits for the list, bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// What the file holds.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    report: MailReport,
    /// Queue ids of all messages at risk, also of those that are not listed.
    at_risk: Vec<String>,
}

/// Begins the report of a new role, `completed` messages of an interrupted hand-over included. The mail service does not run yet.
///
/// # Errors
/// The queue cannot be read, or the report not be written.
pub fn begin(layout: &Layout, epoch: u64, completed: u64) -> io::Result<MailReport> {
    let queued = number(scan::places(layout, scan::DELIVERED)?.len());
    // Postfix moves a message to `active` before it delivers it; that move may be younger than what this copy holds.
    let mut exposed: Vec<PathBuf> = scan::places(layout, &["active", "incoming"])?.into_values().collect();
    exposed.sort_unstable();
    let at_risk: Vec<String> = exposed.iter().map(|path| id(path)).collect();
    let report = MailReport {
        epoch,
        queued,
        still_queued: queued,
        at_risk: number(at_risk.len()),
        at_risk_queued: number(at_risk.len()),
        listed: exposed.iter().take(AT_RISK_MAX).map(|path| listed(path)).collect(),
        completed,
        ..MailReport::default()
    };
    write(layout, &Kept { report: report.clone(), at_risk })?;
    Ok(report)
}

/// Adds deliveries into mailboxes that were found made and not recorded.
///
/// # Errors
/// The report cannot be read or written.
pub fn add_recognised(layout: &Layout, recognised: u64) -> io::Result<()> {
    change(layout, |report| report.recognised += recognised)
}

/// Adds a hand-over that ended.
///
/// # Errors
/// The report cannot be read or written.
pub fn add_hand_over(layout: &Layout, counts: Counts) -> io::Result<()> {
    change(layout, |report| {
        report.hand_overs += 1;
        report.handed_queue += counts.queue_passed;
        report.handed_mail += counts.mail_passed;
        report.settled += counts.settled_recipients;
    })
}

/// The report with what the queue holds now; `None` before the first takeover. The volumes are mounted.
///
/// # Errors
/// The queue, its list or the report cannot be read.
pub fn now(layout: &Layout) -> io::Result<Option<MailReport>> {
    let Some(Kept { mut report, at_risk }) = read(layout)? else { return Ok(None) };
    let queued = scan::places(layout, scan::DELIVERED)?;
    let had = manifest::read(layout, Volume::Queue).map_err(io::Error::other)?.unwrap_or_default();
    let is_queued = |id: &String| queued.contains_key(&scan::queue_key(id));
    report.still_queued = number(queued.keys().filter(|key| had.had(key)).count());
    report.at_risk_queued = number(at_risk.iter().filter(|id| is_queued(id)).count());
    report.listed.iter_mut().for_each(|one| one.queued = is_queued(&one.id));
    let handed = server::ledger(layout)?.into_iter().filter(|item| queued.contains_key(&item.key()));
    report.handed_queued = number(handed.count());
    Ok(Some(report))
}

/// A message that was under way. One that cannot be read is listed by its id.
fn listed(path: &Path) -> AtRisk {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    let envelope = read.ok().and_then(|_| queue_file::envelope(&bytes));
    let Some(envelope) = envelope else { return AtRisk { id: id(path), queued: true, ..AtRisk::default() } };
    let open: Vec<_> = envelope.recipients.iter().filter(|one| !one.done).collect();
    AtRisk {
        id: id(path),
        sender: short(&envelope.sender),
        recipients: open.iter().take(NAMED_MAX).map(|one| short(&one.address)).collect(),
        open: number(open.len()),
        queued: true,
    }
}

fn change(layout: &Layout, change: impl FnOnce(&mut MailReport)) -> io::Result<()> {
    let mut kept = read(layout)?.unwrap_or_default();
    change(&mut kept.report);
    write(layout, &kept)
}

/// A damaged one counts as none: it is for people.
fn read(layout: &Layout) -> io::Result<Option<Kept>> {
    match std::fs::read(layout.queue.join(FOLDER).join(NAME)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Not synced: the volume is, several times a second.
fn write(layout: &Layout, kept: &Kept) -> io::Result<()> {
    let folder = layout.queue.join(FOLDER);
    let new = folder.join(format!("{NAME}.new"));
    std::fs::write(&new, serde_json::to_vec(kept)?)?;
    std::fs::rename(&new, folder.join(NAME))
}

fn id(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn short(address: &str) -> String {
    address.chars().take(ADDRESS_CHARS_MAX).collect()
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
