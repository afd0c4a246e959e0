//! Replies as text for a person at three in the morning: what matters first, one fact a line, what is wrong in capitals.
//! Pure; every line is bounded by what the supervisor sends, and control characters never reach the terminal.

use std::fmt::Write;
use twinpost_api::{
    CheckStatus, EventRecord, Leftovers, LinkStatus, MailReport, PeerStatus, Reply, Status, Timeline,
};
use twinpost_types::{DiskState, Replication, VolumeId, VolumeReport};

/// Width of the first column, characters.
const LABEL: usize = 13;

/// Text of a reply, without the last line end.
#[must_use]
pub fn reply(reply: &Reply) -> String {
    let text = match reply {
        Reply::Status(status) => status_text(status),
        Reply::Events { events } if events.is_empty() => "no records".into(),
        Reply::Events { events } => events.iter().map(event).collect::<Vec<_>>().join("\n"),
        Reply::Log { lines } if lines.is_empty() => "nothing was printed yet".into(),
        Reply::Log { lines } => lines.join("\n"),
        Reply::Queue(leftovers) => queue(leftovers),
        Reply::Report(report) => mail_report(report),
        Reply::Accepted { message } => message.clone(),
        Reply::Refused { message } => format!("refused: {message}"),
    };
    text.trim_end().chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

/// Leftovers: a sentence, numbers, names.
fn queue(leftovers: &Leftovers) -> String {
    let (found, confirmed) = leftovers.passing;
    let mut lines = vec![
        leftovers.state.clone(),
        format!("hand-over: {confirmed} of {found} confirmed; taken as PRIMARY: {} files", leftovers.taken),
    ];
    let named = u64::try_from(leftovers.items.len()).unwrap_or(u64::MAX);
    lines.extend(leftovers.items.iter().cloned());
    if leftovers.found > named {
        lines.push(format!("and {} more", leftovers.found - named));
    }
    lines.join("\n")
}

/// What was queued, handed over, delivered, at risk; then each message at risk.
fn mail_report(report: &MailReport) -> String {
    let gone = |all: u64, left: u64| {
        format!("{} delivered or returned, {left} still queued", all.saturating_sub(left))
    };
    let mut lines = vec![
        format!("since this unit took the role in epoch {}:", report.epoch),
        format!("queued then: {}; {}", report.queued, gone(report.queued, report.still_queued)),
        format!(
            "handed over by {} hand-overs: {} queue messages, of which {} are still queued, and {} mailbox messages; {} recipients \
             that the other unit had finished were marked as done; {} messages of an interrupted hand-over completed",
            report.hand_overs,
            report.handed_queue,
            report.handed_queued,
            report.handed_mail,
            report.settled,
            report.completed
        ),
        format!("deliveries into mailboxes that were recognised and not repeated: {}", report.recognised),
        format!(
            "at risk of a second delivery, under way when the other unit ended: {}; {}",
            report.at_risk,
            gone(report.at_risk, report.at_risk_queued)
        ),
    ];
    lines.extend(report.listed.iter().map(|one| {
        let more = one.open.saturating_sub(u64::try_from(one.recipients.len()).unwrap_or(u64::MAX));
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let state = if one.queued { "still queued" } else { "delivered or returned" };
        format!("  {} from <{}> to {}{more}: {state}", one.id, one.sender, one.recipients.join(", "))
    }));
    let named = u64::try_from(report.listed.len()).unwrap_or(u64::MAX);
    if report.at_risk > named {
        lines.push(format!("  and {} more", report.at_risk - named));
    }
    lines.join("\n")
}

fn status_text(status: &Status) -> String {
    let mut out = String::new();
    let mut line = |label: &str, text: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{label:LABEL$}{text}");
    };
    let since = duration(status.now_us.saturating_sub(status.since_us));
    line("Unit", &format!("{}: {} (configured {})", status.host, status.effective, status.configured.name()));
    line("", &format!("for {since}: {}", status.why));
    line("Peer", &status.peer.as_ref().map_or("NOT HEARD since this unit started".into(), peer));
    line("Mail safety", &safety(status));
    match &status.alarms[..] {
        [] => line("Alarms", "none"),
        alarms => alarms.iter().for_each(|alarm| line("ALARM", alarm)),
    }
    for (index, link) in status.links.iter().enumerate() {
        line(&format!("Heartbeat {}", index + 1), &link_text(link));
    }
    if !status.links.is_empty() {
        line("Control", &control(status));
        line("Encryption", &encryption(status));
    }
    for (id, report) in VolumeId::ALL.iter().zip(&status.volumes) {
        line(&format!("Volume {}", id.name()), &volume_of(status, *id, report));
    }
    for vip in &status.vips {
        let holder = if vip.held { "held by this unit" } else { "not held by this unit" };
        line("Virtual IP", &format!("{} on {}: {holder}", vip.address, vip.port));
    }
    let yes = |up: bool| if up { "answers" } else { "does not answer" };
    let mail = &status.mail;
    line("Mail", &format!("SMTP {}, IMAP {}, {} in the queue", yes(mail.smtp), yes(mail.imap), mail.queued));
    for check in &status.checks {
        line("Check", &check_text(check, status.now_us));
    }
    for service in &status.services {
        let restarts =
            if service.restarts == 1 { "1 restart" } else { &format!("{} restarts", service.restarts) };
        let pid = if service.pid == 0 { String::new() } else { format!(", process {}", service.pid) };
        line("Service", &format!("{} {}{pid}, {restarts}", service.name, service.state));
    }
    if let Some(takeover) = &status.takeover {
        line("Takeover", &format!("epoch {}: {}", takeover.epoch.0, takeover.evidence));
        line("", &timeline(takeover));
    }
    system_lines(status, &mut line);
    out
}

/// The facts about the box itself.
fn system_lines(status: &Status, line: &mut dyn FnMut(&str, &str)) {
    let ready = match status.ready_us {
        0 => "NOT READY for service yet".into(),
        us => format!("ready {} after kernel start", seconds(us)),
    };
    let up = duration(status.now_us);
    line(
        "System",
        &format!(
            "Twinpost {} on {}, up {up}, {ready}, epoch {}",
            status.version, status.board, status.epoch.0
        ),
    );
    let (had, init) = status.memory_kib;
    let late = status.lateness_us_max as f64 / 1e3;
    line(
        "",
        &format!("heartbeat late by at most {late:.1} ms, memory: supervisor {had} KiB, init {init} KiB"),
    );
    let dropped: Vec<_> =
        status.dropped.iter().filter(|(_, n)| *n > 0).map(|(why, n)| format!("{why} {n}")).collect();
    if !dropped.is_empty() {
        line("", &format!("heartbeat packets dropped: {}", dropped.join(", ")));
    }
}

pub(crate) fn peer(peer: &PeerStatus) -> String {
    let heard = duration(peer.age_ms.saturating_mul(1000));
    let state = if peer.verdict == "alive" {
        format!("{}, alive, heard {heard} ago", peer.effective)
    } else {
        format!("{}: was {} when last heard {heard} ago", peer.verdict.to_uppercase(), peer.effective)
    };
    format!("{state}, epoch {}, Twinpost {}", peer.epoch.0, peer.version)
}

fn control(status: &Status) -> String {
    match status.control.link {
        Some(link) => format!("up over heartbeat {link}"),
        None => format!("DOWN: {}", status.control.why),
    }
}

/// Whether mail that is replicated can be read on the cable.
fn encryption(status: &Status) -> String {
    let encryption = &status.encryption;
    if !encryption.enabled {
        return "off: replication can be read on the heartbeat cables".into();
    }
    let link = |(index, keyed): (usize, &bool)| {
        format!("heartbeat {} {}", index + 1, if *keyed { "ready" } else { "WAITS for the other unit's key" })
    };
    let links: Vec<_> = encryption.keyed.iter().enumerate().map(link).collect();
    format!("on, nothing is replicated in clear; {}", links.join(", "))
}

/// The one sentence an operator looks for.
pub(crate) fn safety(status: &Status) -> String {
    let replicated =
        VolumeId::ALL.iter().zip(&status.volumes).filter(|(id, _)| is_synchronised(status, **id));
    let replicated: Vec<VolumeReport> = replicated.map(|(_, report)| *report).collect();
    if status.unsynchronised.is_empty() {
        return copies(&replicated);
    }
    if let Some(nfs) = &status.nfs {
        return format!(
            "mailboxes are on the NFS server {} and nowhere else, the units do not copy them. Of the queue: {}",
            nfs.export,
            copies(&replicated)
        );
    }
    format!(
        "ONE COPY of volume {}, whose synchronisation is disabled: acknowledged mail waits on the unit that took it until that unit is \
         back. Of the other volume: {}",
        status.unsynchronised.join(", "),
        copies(&replicated)
    )
}

fn is_synchronised(status: &Status, volume: VolumeId) -> bool {
    !status.unsynchronised.iter().any(|name| name == volume.name())
}

/// A volume; one that is not synchronised has no copy to tell of.
pub(crate) fn volume_of(status: &Status, id: VolumeId, report: &VolumeReport) -> String {
    if is_synchronised(status, id) {
        return volume(report);
    }
    if let Some(nfs) = status.nfs.as_ref().filter(|_| id == VolumeId::Data) {
        let mounted = if nfs.mounted { "MOUNTED here" } else { "not mounted here, the PRIMARY mounts it" };
        return format!("on NFS {}, {mounted}", nfs.export);
    }
    let used = if report.promoted { "in use here" } else { "handed over to the PRIMARY when there is one" };
    format!("SYNCHRONISATION DISABLED: what is stored here is on this unit only, {used}")
}

fn copies(volumes: &[VolumeReport]) -> String {
    let current = |v: &VolumeReport| v.local == DiskState::UpToDate && v.peer == DiskState::UpToDate;
    let syncing =
        |v: &VolumeReport| matches!(v.replication, Replication::SyncSource | Replication::SyncTarget);
    if volumes.is_empty() {
        return "not known: the volumes have not been read yet".into();
    }
    if volumes.iter().all(|v| v.replication.is_connected() && current(v)) {
        return "every message is on both units".into();
    }
    let missing: u64 = volumes.iter().map(|v| u64::from(v.out_of_sync_kib)).sum();
    if volumes.iter().any(syncing) {
        return format!("ONE COPY until the resynchronisation ends ({} to go)", kib(missing));
    }
    format!("ONE COPY: the units are not in sync ({} differ)", kib(missing))
}

fn check_text(check: &CheckStatus, now_us: u64) -> String {
    let state = if check.state == "good" { check.state.clone() } else { check.state.to_uppercase() };
    if !check.runs {
        return format!("{} does not run in this mode", check.name);
    }
    let mut text = format!("{} {state}", check.name);
    if check.failures > 0 {
        text.push_str(&format!(", {} of {} failures in a row", check.failures, check.retries));
    }
    if check.last_us > 0 {
        let ago = duration(now_us.saturating_sub(check.last_us));
        text.push_str(&format!(", {ago} ago: {}", check.last));
    }
    match check.next_us {
        0 => text + "; runs now",
        at => text + &format!("; next in {}", duration(at.saturating_sub(now_us))),
    }
}

fn link_text(link: &LinkStatus) -> String {
    let state = match (link.up, link.carrier) {
        (true, _) => "up",
        (false, true) => "SILENT (carrier is there)",
        (false, false) => "DOWN (no carrier)",
    };
    let replication = if link.replication { ", carries replication" } else { "" };
    format!("{} {state}, {} received, {} lost{replication}", link.port, link.received, link.lost)
}

fn volume(report: &VolumeReport) -> String {
    let mut text = format!("{:?}, peer's copy {:?}, {:?}", report.local, report.peer, report.replication);
    if report.out_of_sync_kib > 0 {
        text.push_str(&format!(", {} out of sync", kib(report.out_of_sync_kib.into())));
    }
    for (set, word) in
        [(report.promoted, "in use here"), (report.fresh, "never used"), (report.suspended, "WRITES WAIT")]
    {
        if set {
            text.push_str(", ");
            text.push_str(word);
        }
    }
    format!("{text}, {} MiB", report.size_mib)
}

/// Phases as time since the verdict; a phase that was not reached is said.
fn timeline(takeover: &Timeline) -> String {
    let phases = [
        ("fenced", takeover.fenced_us),
        ("promoted", takeover.promoted_us),
        ("mounted", takeover.mounted_us),
        ("services", takeover.services_us),
        ("claimed", takeover.claimed_us),
    ];
    let mut out = format!("verdict at {}", seconds(takeover.verdict_us));
    for (name, at) in phases {
        match at {
            0 => out.push_str(&format!(", {name} NOT REACHED")),
            at => out.push_str(&format!(", {name} +{}", seconds(at.saturating_sub(takeover.verdict_us)))),
        }
    }
    out
}

fn event(record: &EventRecord) -> String {
    let EventRecord { seq, boot, at_us, wall_ms, name, text } = record;
    format!(
        "{seq:>6}  {}  boot {boot} +{}  {name}: {text}",
        twinpost_api::date::utc(*wall_ms),
        seconds(*at_us)
    )
}

fn seconds(us: u64) -> String {
    format!("{}.{:03} s", us / 1_000_000, us / 1000 % 1000)
}

fn duration(us: u64) -> String {
    let s = us / 1_000_000;
    match s {
        0 => format!("{} ms", us / 1000),
        1..=59 => format!("{s} s"),
        60..=3599 => format!("{} min {} s", s / 60, s % 60),
        3600..=86_399 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} days {} h", s / 86_400, s / 3600 % 24),
    }
}

fn kib(kib: u64) -> String {
    match kib {
        0..=9999 => format!("{kib} KiB"),
        10_000..=9_999_999 => format!("{} MiB", kib / 1024),
        _ => format!("{} GiB", kib / 1024 / 1024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinpost_api::NfsStatus;

    #[test]
    fn mail_data_on_a_server_is_not_told_as_a_copy() {
        let report =
            VolumeReport { local: DiskState::UpToDate, peer: DiskState::UpToDate, ..VolumeReport::default() };
        let nfs = |mounted| Some(NfsStatus { export: "192.0.2.30:/export/mail".into(), mounted });
        let mut status = Status {
            volumes: vec![report; 2],
            unsynchronised: vec!["data".into()],
            nfs: nfs(true),
            ..Status::default()
        };
        let told = volume_of(&status, VolumeId::Data, &report);
        assert_eq!(told, "on NFS 192.0.2.30:/export/mail, MOUNTED here");
        assert!(!volume_of(&status, VolumeId::Queue, &report).contains("NFS"));
        assert!(safety(&status).contains("mailboxes are on the NFS server 192.0.2.30:/export/mail"));
        status.nfs = nfs(false);
        assert!(volume_of(&status, VolumeId::Data, &report).contains("not mounted here"));
    }

    #[test]
    fn control_characters_stay_away_from_the_terminal() {
        assert_eq!(reply(&Reply::Accepted { message: "a\u{1b}[2Jb\n".into() }), "a?[2Jb");
    }
}
