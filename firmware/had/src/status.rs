//! Assembles the status that faces show from what the parts know. Only reads; decides nothing. `spec/ha.md` section 10.

use crate::main_unit::Unit;
use crate::shared::View;
use crate::words;
use twinpost_api::{
    ConfigStatus, ControlStatus, LinkStatus, MailStatus, NfsStatus, PeerStatus, Status, Timeline, VipStatus,
};
use twinpost_ha::Verdict;
use twinpost_mail::{MailHealth, init_client};
use twinpost_storage::volume::{self, Place};
use twinpost_types::{Instant, LinkId, VolumeId};

/// Collects the status of this unit. The only slow part is init's answer, which has a limit of its own.
pub async fn collect(unit: &Unit, mail: MailHealth, queued: u64) -> Status {
    let view = unit.shared.view();
    let services = init_client::status().await.unwrap_or_default();
    let mut status = Status {
        host: unit.config.host_name().to_string(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        board: unit.board.clone(),
        now_us: crate::shared::now_us(),
        configured: unit.config.ha().mode,
        why: words::stay(twinpost_ha::Stay::HaOff).to_string(),
        links: LinkId::ALL.iter().filter_map(|link| link_status(unit, &view, *link)).collect(),
        vips: unit
            .config
            .vips()
            .map(|vip| VipStatus {
                address: vip.to_string(),
                port: vip.port.to_string(),
                held: view.vips_held,
            })
            .collect(),
        mail: MailStatus { smtp: mail.smtp, imap: mail.imap, queued },
        alarms: unit.shared.alarms(),
        services,
        lateness_us_max: view.lateness_us_max,
        dropped: dropped(unit, &view),
        config: ConfigStatus {
            revision: unit.revision,
            checksum: twinpost_config::synchronised_checksum(&unit.config),
            peer: view.ha.and_then(|ha| ha.peer).map(|peer| (peer.config_revision, peer.config_checksum)),
        },
        control: control(unit),
        encryption: unit
            .executor
            .encryption
            .as_ref()
            .map(|encryption| encryption.status())
            .unwrap_or_default(),
        memory_kib: (resident_kib("self"), resident_kib("1")),
        ready_us: unit.ready_us.load(std::sync::atomic::Ordering::Relaxed),
        checks: unit.checks.status(),
        volumes: unit.volumes.borrow().to_vec(),
        unsynchronised: VolumeId::ALL
            .into_iter()
            .filter(|volume| unit.executor.drbd.is_local(*volume))
            .map(|volume| volume.name().to_string())
            .collect(),
        nfs: nfs(unit),
        ..Status::default()
    };
    if let Some(ha) = &view.ha {
        decided(&mut status, ha, &view);
    }
    status
}

/// The server's export with the mail data. Whether it is mounted, the kernel says; the server is not asked.
fn nfs(unit: &Unit) -> Option<NfsStatus> {
    let [_, Place::Server(export)] = &unit.executor.places else { return None };
    Some(NfsStatus { export: export.to_string(), mounted: volume::is_mounted(VolumeId::Data) })
}

fn control(unit: &Unit) -> ControlStatus {
    let Some(control) = &unit.executor.control else { return ControlStatus::default() };
    let state = control.state().borrow().clone();
    let number = |link: LinkId| u8::try_from(link.index() + 1).unwrap_or(u8::MAX);
    ControlStatus { link: state.link.map(number), why: state.why }
}

/// What came in on the heartbeat links and was dropped, by reason.
fn dropped(unit: &Unit, view: &View) -> Vec<(String, u64)> {
    let control = unit.executor.control.iter().flat_map(|control| control.counters.all());
    let all = view.counters.dropped().chain(control);
    all.filter(|(_, n)| *n > 0).map(|(name, n)| (name.to_string(), n)).collect()
}

/// The part that the decisions own.
fn decided(status: &mut Status, ha: &twinpost_ha::Status, view: &View) {
    status.effective = ha.effective;
    status.since_us = ha.since.0;
    status.why = match ha.waiting {
        Some(stay) => words::stay(stay).to_string(),
        None => words::reason(ha.reason).to_string(),
    };
    status.epoch = ha.epoch;
    status.peer = ha.peer.map(|peer| PeerStatus {
        effective: peer.effective,
        epoch: peer.epoch,
        version: peer.firmware.to_string(),
        age_ms: status.now_us.saturating_sub(view.heard_us) / 1000,
        verdict: words::verdict_word(ha.verdict).to_string(),
    });
    status.takeover = ha.takeover.as_ref().map(timeline);
}

fn link_status(unit: &Unit, view: &View, link: LinkId) -> Option<LinkStatus> {
    let heartbeat = unit.config.heartbeat(link)?;
    let seen = view.links[link.index()];
    let ha = view.ha.as_ref();
    Some(LinkStatus {
        port: heartbeat.port.to_string(),
        up: ha.is_some_and(|ha| ha.link_up[link.index()]),
        carrier: seen.carrier,
        received: seen.received,
        lost: seen.lost,
        replication: ha.is_some_and(|ha| ha.replication_link == Some(link)),
    })
}

/// The takeover's phases as faces show them.
#[must_use]
pub fn timeline(t: &twinpost_ha::Timeline) -> Timeline {
    let us = |at: Option<Instant>| at.map_or(0, |at| at.0);
    let evidence = if t.verdict == Verdict::Alive {
        "handed over by the peer".to_string()
    } else {
        format!("peer {}: {}", words::verdict_word(t.verdict), words::evidence(&t.evidence))
    };
    Timeline {
        epoch: t.epoch,
        evidence,
        verdict_us: t.begun.0,
        fenced_us: us(t.fenced.or(t.stored)),
        promoted_us: us(t.promoted),
        mounted_us: us(t.mounted),
        services_us: us(t.services),
        claimed_us: us(t.claimed),
    }
}

/// Resident memory of a process, KiB; 0 when it cannot be read.
fn resident_kib(process: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
