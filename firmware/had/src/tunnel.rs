//! Encryption of replication: one WireGuard tunnel a heartbeat link, whose public keys the units tell each other over the control
//! channel. DRBD gets the addresses inside of the tunnels, so a unit with `encryption enable` has no way to replicate in clear: without
//! a tunnel it does not replicate, and says so. `spec/ha.md` section 2.
//!
//! ```text
//! raise     interface, private key (once a boot, kept by the kernel), address     at start, until it succeeds
//! exchange  every 5 s and whenever the channel comes up: own keys ─▶ peer, its keys ◀─    either unit may ask
//! admit     the peer's key changed: it rebooted. Both sides begin a handshake at once
//! renew     heartbeats arrive on the link, but nothing through its tunnel to either side: both begin anew, each by itself
//! ```

use crate::control::{CallError, Control};
use crate::network::tunnel;
use crate::provision::chain;
use crate::shared::Shared;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use twinpost_api::EncryptionStatus;
use twinpost_config::Config;
use twinpost_control::Service;
use twinpost_net::wireguard::{PublicKey, Tunnel, TunnelError, Tunnels};
use twinpost_types::{LINKS, LinkId};

/// Pause between two exchanges, and between two tries to raise a tunnel.
const EVERY: Duration = Duration::from_secs(5);
/// How long replication waits for the peer's key before it is refused: the steps behind it wait too. The decisions ask again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Rounds without a byte through a tunnel whose link works, until it is begun anew. One of two living peers sends every second: what
/// arrives puts off the receiver's own keepalive, so the sender may hear nothing for long. A handshake that was lost is repeated by the
/// kernel after 5 s.
const SILENT_ROUNDS: u8 = 3;
/// Of the message below.
const VERSION: u8 = 1;
/// Version, encryption on or off, for each link a key and whether something comes through its tunnel.
const OFFER_BYTES: usize = 2 + 33 * LINKS;

/// What one unit tells the other: whether it encrypts, its keys, and which tunnels bring it something. All zero is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offer {
    enabled: bool,
    keys: [PublicKey; LINKS],
    hears: [bool; LINKS],
}

impl Offer {
    fn encode(&self) -> Vec<u8> {
        let hears = self.hears.map(u8::from);
        [&[VERSION, u8::from(self.enabled)][..], self.keys.as_flattened(), &hears].concat()
    }

    /// What a newer release appends is ignored.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (offer, _) = bytes.split_first_chunk::<OFFER_BYTES>()?;
        let [VERSION, enabled @ (0 | 1), rest @ ..] = offer else { return None };
        let (keys, hears) = rest.split_last_chunk::<LINKS>()?;
        let mut offer =
            Self { enabled: *enabled == 1, keys: [[0; 32]; LINKS], hears: hears.map(|one| one == 1) };
        offer.keys.as_flattened_mut().copy_from_slice(keys);
        Some(offer)
    }
}

/// The tunnels of a unit.
pub struct Encryption {
    enabled: bool,
    tunnels: [Option<Tunnel>; LINKS],
    kernel: Option<Tunnels>,
    own: Mutex<[PublicKey; LINKS]>,
    /// The peer's key is in force on this link.
    admitted: watch::Sender<[bool; LINKS]>,
    /// Something has come through the tunnel since the last look: to this unit, to the peer.
    hears: Mutex<[[bool; LINKS]; 2]>,
    shared: Arc<Shared>,
}

/// Life of one tunnel: bytes received at the last look, and rounds since they grew or the peer's did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heard {
    received: u64,
    hears: bool,
    silent: u8,
}

impl Heard {
    /// The next look; true when the tunnel is to be begun anew.
    fn look(&mut self, received: u64, link_up: bool, peer_hears: bool) -> bool {
        self.hears = received != self.received;
        let alive = self.hears || peer_hears || !link_up;
        self.received = received;
        self.silent = if alive { 0 } else { self.silent + 1 };
        let due = self.silent >= SILENT_ROUNDS;
        if due {
            self.silent = 0;
        }
        due
    }
}

impl Encryption {
    /// As configured; nothing is set up yet. Call it inside a tokio runtime.
    #[must_use]
    pub fn new(config: &Config, shared: &Arc<Shared>) -> Arc<Self> {
        let enabled = config.ha().encryption;
        let kernel = enabled.then(Tunnels::connect).and_then(|kernel| {
            let told = |error: &TunnelError| {
                shared.alarm("encryption", &format!("no replication: {}", chain(error)))
            };
            kernel.inspect_err(told).ok()
        });
        Arc::new(Self {
            enabled,
            tunnels: LinkId::ALL.map(|link| tunnel(config, link).filter(|_| enabled)),
            kernel,
            own: Mutex::default(),
            admitted: watch::Sender::new([false; LINKS]),
            hears: Mutex::default(),
            shared: Arc::clone(shared),
        })
    }

    /// Raises the tunnels and keeps the keys of both units in force.
    pub fn start(self: &Arc<Self>, control: &Arc<Control>) {
        let own = Arc::clone(self);
        control.serve(Service::Keys, move |request| {
            let own = Arc::clone(&own);
            async move {
                let offer = Offer::parse(&request).ok_or("keys of an unknown form")?;
                own.consider(offer).await;
                Ok(own.offer().encode())
            }
        });
        tokio::spawn(Arc::clone(self).run(Arc::clone(control)));
    }

    /// Waits shortly until replication may begin over `link`.
    ///
    /// # Errors
    /// A sentence why it may not.
    pub async fn ready(&self, link: LinkId) -> Result<(), String> {
        if !self.enabled {
            return Ok(());
        }
        let mut admitted = self.admitted.subscribe();
        let ready = admitted.wait_for(|admitted| admitted[link.index()]);
        match tokio::time::timeout(PATIENCE, ready).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(format!(
                "replication is encrypted and the other unit's key for {link} has not come over the control channel"
            )),
        }
    }

    /// As faces show it.
    #[must_use]
    pub fn status(&self) -> EncryptionStatus {
        let admitted = *self.admitted.borrow();
        let used = LinkId::ALL.into_iter().filter(|link| self.tunnels[link.index()].is_some());
        EncryptionStatus { enabled: self.enabled, keyed: used.map(|link| admitted[link.index()]).collect() }
    }

    async fn run(self: Arc<Self>, control: Arc<Control>) {
        let mut state = control.state();
        let mut heard = [Heard::default(); LINKS];
        loop {
            let raised = self.raise().await;
            if state.borrow_and_update().link.is_some() && raised {
                match control.call(Service::Keys, self.offer().encode()).await {
                    Ok(answer) => match Offer::parse(&answer) {
                        Some(offer) => self.consider(offer).await,
                        None => {
                            self.shared.alarm("encryption", "the other unit's keys are of an unknown form")
                        }
                    },
                    // The channel tells its own troubles; what the peer said before may not hold any more.
                    Err(CallError::Unreachable(_) | CallError::Broken(_) | CallError::TimedOut(_)) => {
                        self.hears()[1] = Default::default();
                    }
                    Err(error) => self.shared.alarm("encryption", &format!("no keys: {error}")),
                }
            }
            self.renew(&mut heard).await;
            // Sooner when the channel comes up: the peer has rebooted.
            let _ = tokio::time::timeout(EVERY, state.changed()).await;
        }
    }

    /// True when all tunnels are up.
    async fn raise(&self) -> bool {
        let Some(kernel) = &self.kernel else { return !self.enabled };
        let mut all = true;
        for link in LinkId::ALL {
            let Some(tunnel) = &self.tunnels[link.index()] else { continue };
            if self.own()[link.index()] != [0; 32] {
                continue;
            }
            let key = format!("tunnel-{}", link.index());
            match kernel.raise(tunnel).await {
                Ok(public) => {
                    self.shared.clear(&key);
                    self.own()[link.index()] = public;
                    // A restart of the supervisor leaves the session as it is.
                    let known = matches!(kernel.peer(tunnel).await, Ok(Some(_)));
                    self.admitted.send_modify(|admitted| admitted[link.index()] |= known);
                }
                Err(error) => {
                    all = false;
                    let text =
                        format!("no replication over {link}, which is to be encrypted: {}", chain(&error));
                    self.shared.alarm(&key, &text);
                }
            }
        }
        all
    }

    /// Begins tunnels anew that carry nothing although their link works.
    async fn renew(&self, heard: &mut [Heard; LINKS]) {
        let Some(kernel) = &self.kernel else { return };
        let up = self.shared.view().ha.map_or([false; LINKS], |ha| ha.link_up);
        for link in LinkId::ALL {
            let Some(tunnel) = &self.tunnels[link.index()] else { continue };
            let Ok(Some(peer)) = kernel.peer(tunnel).await else { continue };
            let place = link.index();
            let peer_hears = self.hears()[1][place];
            let due = heard[place].look(peer.received, up[place], peer_hears);
            self.hears()[0][place] = heard[place].hears;
            if due {
                self.shared.event("tunnel", &format!("{link}: nothing comes through, begun anew"));
                if let Err(error) = kernel.begin(tunnel, peer.key).await {
                    self.shared.alarm("encryption", &format!("{link}: {}", chain(&error)));
                }
            }
        }
    }

    /// Takes what the peer says about itself.
    async fn consider(&self, offer: Offer) {
        if offer.enabled != self.enabled {
            let word = |enabled| if enabled { "enable" } else { "disable" };
            self.admitted.send_replace([false; LINKS]);
            return self.shared.alarm(
                "encryption",
                &format!(
                    "replication stays down: encryption is {} here and {} on the other unit; set both alike and reboot that unit",
                    word(self.enabled),
                    word(offer.enabled)
                ),
            );
        }
        self.shared.clear("encryption");
        self.hears()[1] = offer.hears;
        let Some(kernel) = &self.kernel else { return };
        for link in LinkId::ALL {
            let (Some(tunnel), key) = (&self.tunnels[link.index()], offer.keys[link.index()]) else {
                continue;
            };
            if key == [0; 32] || self.own()[link.index()] == [0; 32] {
                continue;
            }
            match kernel.admit(tunnel, key).await {
                Ok(new) => {
                    if new {
                        self.shared.event("tunnel", &format!("{link}: new key of the other unit in force"));
                    }
                    self.admitted
                        .send_if_modified(|admitted| !std::mem::replace(&mut admitted[link.index()], true));
                }
                Err(error) => self.shared.alarm("encryption", &format!("{link}: {}", chain(&error))),
            }
        }
    }

    fn offer(&self) -> Offer {
        Offer { enabled: self.enabled, keys: *self.own(), hears: self.hears()[0] }
    }

    fn hears(&self) -> MutexGuard<'_, [[bool; LINKS]; 2]> {
        self.hears.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(&self) -> MutexGuard<'_, [PublicKey; LINKS]> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_begun_anew_only_while_its_link_works() {
        let mut heard = Heard::default();
        let mut look = |received, up, peer| heard.look(received, up, peer);
        assert!(!look(100, true, false) && !look(100, true, false) && !look(100, true, false));
        assert!(look(100, true, false), "silent for three rounds");
        assert!(!look(100, true, false), "once, then it has time");
        assert!(!look(100, false, false) && !look(100, true, false) && !look(100, true, false));
        assert!(!look(132, true, false) && !look(132, true, false), "a byte is life");
        assert!((0..9).all(|_| !look(132, true, true)), "the peer hears this unit, and need not speak");
    }

    #[test]
    fn offers_come_back_and_others_are_refused() {
        let offer = Offer { enabled: true, keys: [[3; 32], [0; 32]], hears: [true, false] };
        let bytes = offer.encode();
        assert_eq!((bytes.len(), Offer::parse(&bytes)), (OFFER_BYTES, Some(offer)));
        assert_eq!(Offer::parse(&[bytes.clone(), vec![9; 7]].concat()), Some(offer), "of a newer release");
        assert!((0..bytes.len()).all(|length| Offer::parse(&bytes[..length]).is_none()));
        for (at, value) in [(0, 2), (1, 2)] {
            let mut other = bytes.clone();
            other[at] = value;
            assert_eq!(Offer::parse(&other), None);
        }
    }
}
