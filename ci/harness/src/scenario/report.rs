//! What is shown of a scenario that failed: the line, the reason, both units' last status and event logs, and where the rest lies,
//! their service logs among it.

use crate::clock::Micros;
use crate::mail::{Ledger, Summary};
use crate::pair::{Pair, UNITS};
use std::fmt::Write as _;
use std::time::Duration;

/// Events shown of each unit: enough for a scenario of some minutes.
const EVENTS_SHOWN: usize = 200;
/// Longest wait for a unit's service log: half a thousand lines through an emulated console.
const LOG_WITHIN: Duration = Duration::from_secs(10);
/// Messages named when some are lost or duplicated.
const MESSAGES_SHOWN: usize = 10;

/// The first expectation that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Line in the scenario file; 0 when it was no line but something always checked.
    pub line: usize,
    /// The line's text, or the name of the check.
    pub text: String,
    /// What was seen instead.
    pub why: String,
}

/// Keeps the service logs of the units beside their disks, and looks whether the mail servers of the unit `primary` are in them.
///
/// # Errors
/// Why not, in words.
pub fn keep_service_logs(pair: &Pair, primary: Option<usize>) -> Result<(), String> {
    for (unit, name) in UNITS.iter().enumerate().filter(|(unit, _)| pair.is_powered(*unit)) {
        let lines = pair.watch(unit).service_log(LOG_WITHIN).map_err(|error| format!("{name}: {error}"))?;
        let path = pair.layout(unit).folder.join("service.log");
        std::fs::write(&path, lines.join("\n")).map_err(|error| format!("{}: {error}", path.display()))?;
        if primary == Some(unit) && !lines.iter().any(|line| line.contains("postfix/smtpd[")) {
            return Err(format!(
                "{name} serves mail and its service log has no line of Postfix: {}",
                path.display()
            ));
        }
    }
    Ok(())
}

/// Renders both event logs, the last status, the trouble of the ledger, and the paths of consoles and captures.
/// Times are seconds after `zero`.
#[must_use]
pub fn write_events(pair: &Pair, zero: Micros) -> String {
    let mut out = String::new();
    let seconds = |at: Micros| at.ms_since(zero) as f64 / 1000.0;
    for (unit, name) in UNITS.iter().enumerate() {
        if pair.is_powered(unit) {
            pair.watch(unit).refresh();
        }
        let _ = writeln!(out, "event log of {name}:");
        let events = pair.watch(unit).events(0);
        for event in events.iter().skip(events.len().saturating_sub(EVENTS_SHOWN)) {
            let at = event.at.map_or_else(|| "       ?".to_owned(), |at| format!("{:8.2}", seconds(at)));
            let record = &event.record;
            let _ = writeln!(
                out,
                "  {at}s boot {} #{} {}: {}",
                record.boot, record.seq, record.name, record.text
            );
        }
        match pair.watch(unit).samples().last() {
            Some(sample) => {
                let status = &sample.status;
                let _ = writeln!(
                    out,
                    "  last status at {:.2}s: {} ({}), epoch {}, volumes {:?}, alarms {:?}",
                    seconds(sample.answered),
                    status.effective,
                    status.why,
                    status.epoch.0,
                    status.volumes,
                    status.alarms
                );
            }
            None => {
                let _ = writeln!(out, "  no status since the last power change");
            }
        }
        let layout = pair.layout(unit);
        let _ = writeln!(out, "  console: {}", layout.console_log().display());
    }
    if let Some(folder) = pair.layout(0).folder.parent() {
        let _ = writeln!(out, "captures: {}/*.pcap", folder.display());
    }
    write_ledger(&mut out, &pair.ledger, zero);
    out
}

fn write_ledger(out: &mut String, ledger: &Ledger, zero: Micros) {
    let summary = ledger.summary();
    let _ = writeln!(out, "ledger: {summary:?}, {} strangers", ledger.book().strangers());
    for (id, at) in ledger.book().missing(MESSAGES_SHOWN) {
        let _ = writeln!(out, "  message {id} acknowledged at {} ms has not arrived", at.ms_since(zero));
    }
    for (id, times) in ledger.book().repeated(MESSAGES_SHOWN) {
        let times: Vec<i64> = times.iter().map(|at| at.ms_since(zero)).collect();
        let _ = writeln!(out, "  message {id} arrived at {times:?} ms");
    }
}

/// The effective mode of a unit and why, in words.
pub(super) fn describe(pair: &Pair, unit: usize) -> String {
    match pair.watch(unit).status(Micros::default()) {
        Some(status) => format!("{} is {} ({})", UNITS[unit], status.effective, status.why),
        None => format!("{} gives no status", UNITS[unit]),
    }
}

/// The ledger in words.
pub(super) fn describe_mail(mail: &Summary) -> String {
    format!(
        "acknowledged {}, delivered {}, lost {}, duplicated {}, in flight {}",
        mail.acknowledged, mail.delivered, mail.lost, mail.duplicated, mail.in_flight
    )
}
