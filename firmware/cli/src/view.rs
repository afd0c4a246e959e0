//! Views of the status for one question each: are both units alike, who is there, which configuration. Text only; in JSON every
//! view is the whole status. Pure.

use crate::command::View;
use crate::render::{peer, safety, volume_of};
use std::fmt::Write;
use twinpost_api::Status;
use twinpost_types::VolumeId;

/// Text of a view, without the last line end.
#[must_use]
pub fn text(view: View, status: &Status) -> String {
    let text = match view {
        View::Sync => sync(status),
        View::Cluster => cluster(status),
        View::Checksums { all } => checksums(status, all),
    };
    text.trim_end().chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

fn cluster(status: &Status) -> String {
    let other = status.peer.as_ref().map_or("NOT HEARD since this unit started".into(), peer);
    format!(
        "this unit: {}, {} (configured {}), epoch {}\nother unit: {other}",
        status.host,
        status.effective,
        status.configured.name(),
        status.epoch.0
    )
}

fn sync(status: &Status) -> String {
    let mut out = format!("data: {}\n", safety(status));
    for (id, report) in VolumeId::ALL.iter().zip(&status.volumes) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  volume {}: {}", id.name(), volume_of(status, *id, report));
    }
    out + &format!("configuration: {}", compared(status))
}

fn checksums(status: &Status, all: bool) -> String {
    let line = |whose: &str, (revision, checksum): (u64, u32)| {
        format!("{whose}: revision {revision}, checksum {checksum:08x}")
    };
    let own = line("this unit", (status.config.revision, status.config.checksum));
    if !all {
        return own;
    }
    let other = status.config.peer.map_or("other unit: NOT HEARD".into(), |peer| line("other unit", peer));
    format!("{own}\n{other}\n{}", compared(status))
}

fn compared(status: &Status) -> String {
    match status.config.peer {
        None => "not compared: the other unit was not heard".into(),
        Some((_, checksum)) if checksum == status.config.checksum => {
            "what both units must have alike is the same".into()
        }
        Some(_) => "DIFFERENT in what both units must have alike; this release does not synchronise it: \
                    give both units the same settings"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinpost_api::ConfigStatus;

    #[test]
    fn views_say_what_differs_and_what_is_not_known() {
        let mut status = Status { host: "a\u{7}".into(), ..Status::default() };
        assert!(text(View::Cluster, &status).starts_with("this unit: a?, "));
        assert!(text(View::Cluster, &status).ends_with("NOT HEARD since this unit started"));
        assert!(text(View::Sync, &status).contains("not compared"));
        status.config = ConfigStatus { revision: 3, checksum: 0xab, peer: Some((4, 0xab)) };
        assert_eq!(text(View::Checksums { all: false }, &status), "this unit: revision 3, checksum 000000ab");
        assert!(text(View::Checksums { all: true }, &status).ends_with("is the same"));
        status.config.peer = Some((4, 0xac));
        assert!(text(View::Checksums { all: true }, &status).contains("DIFFERENT"));
    }
}
