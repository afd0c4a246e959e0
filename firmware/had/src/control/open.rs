//! Makes the control channel of a unit out of its configuration, and tells its state as events and alarms. Carries nothing itself.

use super::{Control, Setup, State, Way};
use crate::network::unit_id;
use crate::shared::Shared;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use twinpost_config::Config;
use twinpost_control::{ControlKey, Greeting};
use twinpost_ha::Verdict;
use twinpost_net::rt;
use twinpost_types::{BootId, LinkId};
use twinpost_wire::{Keys, Purpose};

/// A channel that stays down for this long, while the peer is heard, is an alarm: it comes up within seconds of a boot.
const PATIENCE: Duration = Duration::from_secs(20);

/// The control channel of this unit; it does not listen yet.
#[must_use]
pub fn open(config: &Config, keys: &Keys, shared: &Shared) -> Arc<Control> {
    let port = config.ha().base_port + 1;
    let way = |link: LinkId| {
        let heartbeat = config.heartbeat(link)?;
        Some(Way {
            link,
            device: Some(heartbeat.port.to_string()),
            own: SocketAddr::new(heartbeat.ip.address(), port),
            peer: SocketAddr::new(heartbeat.peer, port),
        })
    };
    let ways: Vec<Way> = LinkId::ALL.into_iter().filter_map(way).collect();
    if ways.is_empty() {
        shared.alarm("control", "the control channel has no heartbeat link; check config system ha");
    }
    Control::new(Setup {
        key: ControlKey::new(*keys.for_purpose(Purpose::Control)),
        own: Greeting { unit: unit_id(config), boot: BootId(rt::random_u128()) },
        ways,
    })
}

/// What DRBD proves to its peer: as text, and never the password itself.
#[must_use]
pub fn replication_secret(keys: &Keys) -> String {
    let key = keys.for_purpose(Purpose::Replication);
    // 31 bytes are 62 characters; DRBD takes 63.
    key[..31].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Starts the channel.
pub fn start(control: &Arc<Control>, shared: &Arc<Shared>) {
    let told = Arc::clone(shared);
    control.start(move |link, trouble| {
        let key = format!("control-{}", link.index());
        match trouble {
            Some(why) => told.alarm(&key, &format!("the control channel is not served on {link}: {why}")),
            None => told.clear(&key),
        }
    });
    tokio::spawn(watch(control.state(), Arc::clone(shared)));
}

/// Writes changes down; a channel that is down while the peer lives is an alarm.
async fn watch(mut state: tokio::sync::watch::Receiver<State>, shared: Arc<Shared>) {
    let mut link = None;
    let mut alarm_at = Instant::now() + PATIENCE;
    loop {
        let now = state.borrow_and_update().clone();
        if now.link != link {
            link = now.link;
            alarm_at = Instant::now() + PATIENCE;
            match link {
                Some(link) => shared.event("control-channel", &format!("up over {link}")),
                None => shared.event("control-channel", &format!("down: {}", now.why)),
            };
        }
        if now.link.is_some() {
            shared.clear("control");
        }
        match tokio::time::timeout_at(alarm_at, state.changed()).await {
            Ok(Ok(())) => continue,
            Ok(Err(_)) => return,
            Err(_) => alarm_at = Instant::now() + PATIENCE,
        }
        let heard = shared.view().ha.is_some_and(|ha| ha.peer.is_some() && ha.verdict == Verdict::Alive);
        if now.link.is_none() && heard {
            shared.alarm("control", &format!("the other unit's heartbeat is heard, but {}", now.why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replication_secret_fits_and_is_no_password() {
        let secret = replication_secret(&Keys::from_master([7; 32], "twinpost"));
        assert_eq!(secret.len(), 62);
        assert!(secret.len() <= twinpost_storage::drbd::SECRET_BYTES_MAX);
        assert_ne!(secret, replication_secret(&Keys::from_master([8; 32], "twinpost")));
    }
}
