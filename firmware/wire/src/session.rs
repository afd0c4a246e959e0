//! The session of one unit with its peer: which boots are believed, which sequence numbers are new, what is echoed.
//! The rules are told at the top of the crate. Does not measure time: how long silence may last is `ha`'s decision.

use crate::datagram::{self, Body, DATAGRAM_BYTES_MAX, Header};
use crate::keys::{BootKey, Keys};
use crate::{Counters, Drop};
use twinpost_types::{BootId, LINKS, LinkId, Report, UnitId};

/// Boots of the peer that another boot of the same unit has replaced and that are remembered, so that their recordings are
/// counted as replays. Older ones are still not believed, only counted as `hello`.
const REPLACED_MAX: usize = 4;

/// One unit's end of the heartbeat, over all links. Lives as long as the supervisor's boot of it.
pub struct Session {
    keys: Keys,
    unit: UnitId,
    boot: BootId,
    key: BootKey,
    challenge: u64,
    sent: [u64; LINKS],
    peer: Option<Boot>,
    candidate: Option<Boot>,
    replaced: [Option<(UnitId, BootId)>; REPLACED_MAX],
    replaced_next: usize,
    counters: Counters,
}

/// A heartbeat that proves life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Who sent it.
    pub from: UnitId,
    /// The first datagram of a boot that was not believed before. Send a heartbeat at once: it may be what the other side
    /// waits for.
    pub introduced: bool,
    /// `introduced`, and another boot was believed before it.
    pub rebooted: bool,
    /// Sequence number on its link.
    pub sequence: u64,
    /// Datagrams missing on this link between the one before and this one.
    pub missed: u64,
    /// What it says.
    pub report: Report,
}

/// What was heard of the peer's present boot on one link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Highest sequence number accepted; 0 = none.
    pub sequence: u64,
    /// Datagrams accepted.
    pub accepted: u64,
    /// Datagrams missed.
    pub missed: u64,
}

/// One boot of another unit.
struct Boot {
    unit: UnitId,
    boot: BootId,
    key: BootKey,
    challenge: u64,
    /// Only higher sequence numbers are new.
    floor: [u64; LINKS],
    links: [LinkState; LINKS],
}

impl Session {
    /// Begins a session. `boot` is drawn at random for each start of the supervisor and `challenge` is random too; a repeated
    /// boot id would repeat nonces.
    #[must_use]
    pub fn new(keys: Keys, unit: UnitId, boot: BootId, challenge: u64) -> Self {
        let key = keys.boot_key(unit, boot);
        Self {
            keys,
            unit,
            boot,
            key,
            challenge: usable(challenge),
            sent: [0; LINKS],
            peer: None,
            candidate: None,
            replaced: [None; REPLACED_MAX],
            replaced_next: 0,
            counters: Counters::default(),
        }
    }

    /// Seals one heartbeat for `link` into `out`; returns its length in bytes.
    pub fn seal(&mut self, link: LinkId, report: &Report, out: &mut [u8; DATAGRAM_BYTES_MAX]) -> usize {
        let sequence = &mut self.sent[link.index()];
        *sequence = sequence.checked_add(1).expect("2^64 datagrams are not sent in the life of a boot");
        let header = Header { link, unit: self.unit, boot: self.boot, sequence: *sequence };
        let heard = |boot: &Option<Boot>| boot.as_ref().map_or(0, |boot| boot.challenge);
        let body = Body {
            challenge: self.challenge,
            echo: [heard(&self.peer), heard(&self.candidate)],
            sent: self.sent,
            report: *report,
        };
        datagram::seal(&self.keys, &self.key, &header, &body, out)
    }

    /// Opens what arrived on `link`. `fresh_challenge` is a new random number for each call; it is used when the datagram
    /// introduces a new boot.
    ///
    /// # Errors
    ///
    /// [`Drop`] with the reason; it is already counted.
    pub fn open(&mut self, link: LinkId, datagram: &[u8], fresh_challenge: u64) -> Result<Accepted, Drop> {
        let result = self.judge(link, datagram, fresh_challenge);
        match &result {
            Ok(_) => self.counters.accepted = self.counters.accepted.saturating_add(1),
            Err(why) => self.counters.count(*why),
        }
        result
    }

    /// What was heard of the peer's present boot on `link`; zeros while no boot is believed.
    #[must_use]
    pub fn link(&self, link: LinkId) -> LinkState {
        self.peer.as_ref().map_or(LinkState::default(), |peer| peer.links[link.index()])
    }

    /// The boot that is believed now.
    #[must_use]
    pub fn peer(&self) -> Option<(UnitId, BootId)> {
        self.peer.as_ref().map(|peer| (peer.unit, peer.boot))
    }

    /// Counts since the session began.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    fn judge(&mut self, link: LinkId, datagram: &[u8], fresh_challenge: u64) -> Result<Accepted, Drop> {
        let header = Header::decode(datagram, self.keys.group())?;
        let key = self.key_of(&header);
        let body = datagram::open(&key, &header, datagram)?;
        if header.unit == self.unit {
            return Err(Drop::Reflected);
        }
        if header.link != link {
            return Err(Drop::WrongLink);
        }
        let who = (header.unit, header.boot);
        if self.replaced.contains(&Some(who)) {
            return Err(Drop::Replayed);
        }
        if let Some(peer) = self.peer.as_mut().filter(|peer| peer.is(who)) {
            return peer.accept(&header, &body);
        }
        if body.echo.contains(&self.challenge) {
            return Ok(self.introduce(&header, &body, key, fresh_challenge));
        }
        self.hello(&header, &body, key)
    }

    /// A boot that echoed the current challenge takes the place of the one before.
    fn introduce(&mut self, header: &Header, body: &Body, key: BootKey, fresh_challenge: u64) -> Accepted {
        let mut boot = Boot::new(header, key);
        boot.challenge = body.challenge;
        // What was sent before this datagram on any link may be a recording.
        boot.floor = body.sent;
        boot.floor[header.link.index()] = header.sequence;
        boot.links[header.link.index()] = LinkState { sequence: header.sequence, accepted: 1, missed: 0 };
        let before = self.peer.replace(boot);
        if let Some(before) = before.as_ref().filter(|before| before.unit == header.unit) {
            self.replaced[self.replaced_next % REPLACED_MAX] = Some((before.unit, before.boot));
            self.replaced_next = (self.replaced_next + 1) % REPLACED_MAX;
        }
        self.candidate = None;
        self.challenge = usable(fresh_challenge);
        Accepted {
            from: header.unit,
            introduced: true,
            rebooted: before.is_some(),
            sequence: header.sequence,
            missed: 0,
            report: body.report,
        }
    }

    /// A boot that does not know the current challenge. Its own challenge is echoed from now on; nothing else changes.
    fn hello(&mut self, header: &Header, body: &Body, key: BootKey) -> Result<Accepted, Drop> {
        if !self.candidate.as_ref().is_some_and(|candidate| candidate.is((header.unit, header.boot))) {
            self.candidate = Some(Boot::new(header, key));
        }
        let candidate = self.candidate.as_mut().expect("set just above");
        let floor = &mut candidate.floor[header.link.index()];
        if header.sequence <= *floor {
            return Err(Drop::Replayed);
        }
        *floor = header.sequence;
        candidate.challenge = body.challenge;
        Err(Drop::Hello { must_answer: true })
    }

    fn key_of(&self, header: &Header) -> BootKey {
        let known = [&self.peer, &self.candidate].into_iter().flatten();
        match known.into_iter().find(|boot| boot.is((header.unit, header.boot))) {
            Some(boot) => boot.key.clone(),
            None => self.keys.boot_key(header.unit, header.boot),
        }
    }
}

impl Boot {
    fn new(header: &Header, key: BootKey) -> Self {
        Self {
            unit: header.unit,
            boot: header.boot,
            key,
            challenge: 0,
            floor: [0; LINKS],
            links: [LinkState::default(); LINKS],
        }
    }

    fn is(&self, (unit, boot): (UnitId, BootId)) -> bool {
        self.unit == unit && self.boot == boot
    }

    fn accept(&mut self, header: &Header, body: &Body) -> Result<Accepted, Drop> {
        let floor = &mut self.floor[header.link.index()];
        if header.sequence <= *floor {
            return Err(Drop::Replayed);
        }
        let missed = header.sequence - *floor - 1;
        *floor = header.sequence;
        self.challenge = body.challenge;
        let link = &mut self.links[header.link.index()];
        link.sequence = header.sequence;
        link.accepted = link.accepted.saturating_add(1);
        link.missed = link.missed.saturating_add(missed);
        Ok(Accepted {
            from: header.unit,
            introduced: false,
            rebooted: false,
            sequence: header.sequence,
            missed,
            report: body.report,
        })
    }
}

/// 0 means "none" in a body, so it is not used as a challenge.
fn usable(challenge: u64) -> u64 {
    challenge.max(1)
}
