//! The verdict on the peer: what is heard on each link, carrier, probes of its kernel, its last word; from these Alive,
//! Silent, Gone or Unresponsive with the evidence (`spec/ha.md` section 5). It decides nothing about roles.

use crate::lateness::Lateness;
use crate::{Evidence, ProbeTarget, Settings, Verdict};
use core::time::Duration;
use twinpost_types::{EffectiveMode, Instant, Intent, LINKS, LinkId, Report, VIPS_MAX};

/// Intervals of silence after which a link counts as down (section 5, 2a).
const LINK_INTERVALS: u32 = 3;
/// A link with carrier that is silent for this long carries nothing. Longer than replication's own patience (1.5 s): while
/// blocks still arrive, moving would stall writes for nothing.
const LINK_DEAD: Duration = Duration::from_secs(2);
/// Probes of the peer's kernel that must stay unanswered in a row (section 5, 2b).
const PROBES: u8 = 3;
/// Longest spacing of these probes (section 5, 2b).
const PROBE_SPACING_MAX: Duration = Duration::from_millis(100);
/// Probing begins this long after loss of carrier: long enough for the other port of a dying peer to lose it too. It is also the
/// shortest spacing of probes then: a kernel answers within a fraction of it.
const CARRIER_DELAY: Duration = Duration::from_millis(5);
/// Without any carrier the probes follow each other faster, for the cables already say what silence would: by this many times the
/// worst lateness of the peer's heartbeats in the last minute, so that a busy peer gets the time that it needs to answer.
const LATENESS_MARGIN: u32 = 4;
/// But in parts of an interval at the latest, and where no lateness is known yet.
const CARRIER_SPACINGS: u32 = 2;
/// After the last probe this part of a spacing is waited for its answer; the ones before had all the time until then.
const LAST_ANSWER: u32 = 4;
/// Once decided or answered, the peer's kernel is looked at again this often: it may die later than its program.
const PROBE_AGAIN: Duration = Duration::from_secs(1);
/// Proof of death replaces a look for the virtual IPs for this long: less than any peer needs from its own proof to its claim.
const PROOF_FRESH: Duration = Duration::from_millis(100);
/// A dying gasp needs this much silence after it when the volumes were still promoted: the beat that follows is missed.
const GASP_INTERVALS: u32 = 2;

/// One heartbeat link.
#[derive(Clone, Copy, Debug)]
struct Link {
    configured: bool,
    heard: Option<Instant>,
    up: bool,
    up_since: Instant,
    carrier: bool,
    carrier_lost: Instant,
}

/// Probes since the silence began.
#[derive(Clone, Copy, Debug)]
struct Probing {
    next: Instant,
    last: Instant,
    sent: u16,
    answered: u16,
    /// Rounds without an answer since the last answer.
    quiet: u8,
    third_party_heard: Option<Instant>,
    kernel_heard: Option<Instant>,
}

/// What one look at the time brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Links that changed: `Some(up)`.
    pub(crate) links: [Option<bool>; LINKS],
    /// A new verdict.
    pub(crate) verdict: Option<Verdict>,
    /// A round of probes is due.
    pub(crate) probe: bool,
    /// When to look again.
    pub(crate) next: Option<Instant>,
}

/// Everything known about whether the peer lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    interval: Duration,
    threshold: Duration,
    fast_detect: bool,
    third_party: bool,
    vips: usize,
    links: [Link; LINKS],
    service_carrier: bool,
    began: Instant,
    heard: Option<Instant>,
    lateness: Lateness,
    verdict: Verdict,
    told: Verdict,
    told_at: Instant,
    /// Its last heartbeat said Leaving; `Some(true)` when nothing was promoted there any more.
    left: Option<bool>,
    address_known: bool,
    probing: Option<Probing>,
}

impl Watch {
    pub(crate) fn new(settings: &Settings, now: Instant) -> Self {
        let link = |configured| Link {
            configured,
            heard: None,
            up: false,
            up_since: now,
            carrier: true,
            carrier_lost: now,
        };
        let interval = settings.interval.max(Duration::from_millis(1));
        Self {
            interval,
            // Less than three intervals would call every lost datagram a death.
            threshold: settings.threshold.max(interval * LINK_INTERVALS),
            fast_detect: settings.fast_detect,
            third_party: settings.third_party,
            vips: settings.vips.min(VIPS_MAX),
            links: settings.links.map(link),
            service_carrier: true,
            began: now,
            heard: None,
            lateness: Lateness::new(now),
            verdict: Verdict::Unknown,
            told: Verdict::Unknown,
            told_at: now,
            left: None,
            address_known: false,
            probing: None,
        }
    }

    /// Silence counts from now on: the unit has just begun to listen.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.began = now;
    }

    /// A valid heartbeat arrived.
    pub(crate) fn heartbeat(&mut self, now: Instant, link: LinkId, report: &Report) {
        let entry = &mut self.links[link.index()];
        if let Some(before) = entry.heard.replace(now) {
            self.lateness.heard(now, now.since(before), self.interval);
        }
        self.heard = Some(now);
        self.address_known = report.service.ipv4 != [0; 4];
        let demoted = report.effective != EffectiveMode::Primary
            && report.volumes.iter().all(|volume| !volume.promoted);
        self.left = (report.intent == Intent::Leaving).then_some(demoted);
        if self.left != Some(true) {
            self.verdict = Verdict::Alive;
        }
        if self.left.is_none() {
            self.probing = None;
        }
    }

    pub(crate) fn carrier(&mut self, now: Instant, link: LinkId, up: bool) {
        let entry = &mut self.links[link.index()];
        if entry.carrier && !up {
            entry.carrier_lost = now;
        }
        entry.carrier = up;
    }

    pub(crate) fn service_carrier(&mut self, up: bool) {
        self.service_carrier = up;
    }

    pub(crate) fn has_service_carrier(&self) -> bool {
        self.service_carrier
    }

    pub(crate) fn probe_answered(&mut self, now: Instant, target: ProbeTarget) {
        let again = PROBE_AGAIN.max(self.spacing());
        let Some(probing) = &mut self.probing else { return };
        if target == ProbeTarget::ThirdParty {
            probing.third_party_heard = Some(now);
            return;
        }
        probing.answered = probing.answered.saturating_add(1);
        probing.quiet = 0;
        probing.kernel_heard = Some(now);
        probing.next = probing.last + again;
    }

    /// Looks at the time: links that went down or up, the verdict, probes that are due.
    pub(crate) fn poll(&mut self, now: Instant) -> Seen {
        let mut seen = Seen::default();
        for (link, changed) in self.links.iter_mut().zip(&mut seen.links) {
            let up = link.heard.is_some_and(|heard| now.since(heard) < self.interval * LINK_INTERVALS);
            if up != link.up {
                link.up = up;
                link.up_since = now;
                *changed = Some(up);
            }
        }
        self.judge(now);
        seen.probe = self.probe_due(now);
        if self.told != self.verdict {
            (self.told, self.told_at) = (self.verdict, now);
            seen.verdict = Some(self.verdict);
        }
        seen.next = self.deadline(now);
        seen
    }

    fn judge(&mut self, now: Instant) {
        if self.verdict == Verdict::Gone {
            return;
        }
        let silence = now.since(self.heard.unwrap_or(self.began));
        self.verdict = if self.is_proven(now) {
            Verdict::Gone
        } else if silence >= self.threshold {
            Verdict::Unresponsive
        } else if self.heard.is_none() {
            Verdict::Unknown
        } else if silence < self.interval * LINK_INTERVALS {
            Verdict::Alive
        } else {
            Verdict::Silent
        };
    }

    /// Section 5, 2: (a) and (b), or a dying gasp; and in each case (c).
    fn is_proven(&self, now: Instant) -> bool {
        let gasp = match (self.left, self.heard) {
            (Some(true), Some(_)) => true,
            (Some(false), Some(heard)) => now.since(heard) >= self.interval * GASP_INTERVALS,
            _ => false,
        };
        let silent = self.fast_detect && self.is_cut(now) && self.is_kernel_silent(now);
        (gasp || silent) && self.is_on_network(now)
    }

    /// (a): every link silent for three intervals or without carrier.
    fn is_cut(&self, now: Instant) -> bool {
        self.heard.is_some()
            && self.configured().all(|link| {
                !link.carrier || now.since(link.heard.unwrap_or(self.began)) >= self.interval * LINK_INTERVALS
            })
    }

    /// (b): the last probes stayed unanswered. Needs an address of the peer's own: without one nothing is proven.
    pub(crate) fn is_kernel_silent(&self, now: Instant) -> bool {
        self.address_known
            && self
                .probing
                .is_some_and(|probing| probing.quiet >= PROBES && now >= self.answers_until(&probing))
    }

    fn answers_until(&self, probing: &Probing) -> Instant {
        let spacing = self.spacing();
        probing.last + if self.has_carrier() { spacing / LAST_ANSWER } else { spacing }
    }

    /// (c): it is not this unit that is cut off.
    pub(crate) fn is_on_network(&self, now: Instant) -> bool {
        let third_party = self.probing.and_then(|probing| probing.third_party_heard);
        self.service_carrier && (!self.third_party || self.is_fresh(third_party, now))
    }

    /// Heard within the last two rounds.
    fn is_fresh(&self, heard: Option<Instant>, now: Instant) -> bool {
        heard.is_some_and(|heard| now.since(heard) <= PROBE_AGAIN * 2 + self.spacing())
    }

    /// The peer's kernel answered within the last two rounds, although nothing is heard of its program.
    pub(crate) fn is_kernel_alive(&self, now: Instant) -> bool {
        self.is_fresh(self.probing.and_then(|probing| probing.kernel_heard), now)
    }

    fn probe_due(&mut self, now: Instant) -> bool {
        let unknown = self.heard.is_none() && self.verdict != Verdict::Unresponsive;
        if unknown || (self.verdict == Verdict::Gone && self.left.is_none()) {
            return false;
        }
        let Some(mut probing) = self.probing else {
            if now < self.probe_start() {
                return false;
            }
            self.probing = Some(Probing {
                next: now + self.spacing(),
                last: now,
                sent: 0,
                answered: 0,
                quiet: 1,
                third_party_heard: None,
                kernel_heard: None,
            });
            return true;
        };
        if now < probing.next || self.verdict == Verdict::Gone {
            return false;
        }
        probing.last = now;
        probing.quiet = probing.quiet.saturating_add(1);
        let gap = if probing.quiet < PROBES { self.spacing() } else { PROBE_AGAIN.max(self.spacing()) };
        probing.next = now + gap;
        self.probing = Some(probing);
        true
    }

    /// When probing begins: after loss of carrier or the first missed beat of every link, whichever is last; at once after
    /// a gasp. A quarter of an interval is left for a beat that is only late.
    fn probe_start(&self) -> Instant {
        if self.left.is_some() || self.heard.is_none() {
            return self.heard.unwrap_or(self.began + self.threshold);
        }
        self.configured()
            .map(|link| {
                let heard = link.heard.unwrap_or(self.began);
                let missed = heard + self.interval * 5 / 4;
                if link.carrier { missed } else { missed.min(link.carrier_lost.max(heard) + CARRIER_DELAY) }
            })
            .max()
            .unwrap_or(Instant(u64::MAX))
    }

    /// Writes down how many probes a round sent; gives the targets in order.
    pub(crate) fn probe_targets(&mut self, primary: bool) -> heapless::Vec<ProbeTarget, 12> {
        let mut targets = heapless::Vec::new();
        // 1 + 8 + 2 + 1 targets: the vector holds them all, so no push can fail.
        if self.address_known {
            let _ = targets.push(ProbeTarget::PeerService);
        }
        if !primary {
            for vip in 0..self.vips {
                let _ = targets.push(ProbeTarget::Vip(u8::try_from(vip).unwrap_or(u8::MAX)));
            }
        }
        for link in LinkId::ALL {
            let entry = &self.links[link.index()];
            if entry.configured && entry.carrier {
                let _ = targets.push(ProbeTarget::PeerHeartbeat(link));
            }
        }
        if let Some(probing) = &mut self.probing {
            let count = u16::try_from(targets.len()).unwrap_or(u16::MAX);
            probing.sent = probing.sent.saturating_add(count);
        }
        if self.third_party {
            let _ = targets.push(ProbeTarget::ThirdParty);
        }
        targets
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let links = self.links.iter().filter(|link| link.up).filter_map(|link| link.heard);
        let links = links.map(|heard| heard + self.interval * LINK_INTERVALS);
        let since = self.heard.unwrap_or(self.began);
        let probing = match self.probing {
            Some(probing) => [Some(probing.next), Some(self.answers_until(&probing))],
            None => [self.heard.map(|_| self.probe_start()), None],
        };
        let gone = self.verdict == Verdict::Gone;
        let gasp = self.left.and(self.heard).map(|heard| heard + self.interval * GASP_INTERVALS);
        let others = probing.into_iter().chain([gasp, Some(since + self.threshold)]).flatten();
        links.chain(others.filter(|_| !gone)).filter(|at| *at > now).min()
    }

    fn configured(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(|link| link.configured)
    }

    fn has_carrier(&self) -> bool {
        self.configured().any(|link| link.carrier)
    }

    /// With carrier three quarters of an interval: begun a quarter late and waited for a quarter, three probes end just when three intervals have
    /// passed in silence.
    fn spacing(&self) -> Duration {
        let spacing = if self.has_carrier() {
            self.interval * 3 / 4
        } else {
            let most = (self.interval / CARRIER_SPACINGS).max(CARRIER_DELAY);
            let late = self.lateness.worst();
            late.map_or(most, |late| (late * LATENESS_MARGIN).clamp(CARRIER_DELAY, most))
        };
        spacing.min(PROBE_SPACING_MAX)
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Proof of death that was found just now. An older one may be the isolation of a unit that is back on the service network, where nobody
    /// has looked since.
    pub(crate) fn is_proven_just_now(&self, now: Instant) -> bool {
        self.told == Verdict::Gone && now.since(self.told_at) < PROOF_FRESH
    }

    pub(crate) fn threshold(&self) -> Duration {
        self.threshold
    }

    /// The cable of this link is plugged and its other end has power.
    pub(crate) fn has_carrier_on(&self, link: LinkId) -> bool {
        self.links[link.index()].carrier
    }

    /// When the peer was last heard on any link.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// The peer said that it leaves, and nothing was promoted there.
    pub(crate) fn has_left(&self) -> bool {
        self.left == Some(true)
    }

    /// Since when heartbeats arrive on this link; `None` while they do not.
    pub(crate) fn up_since(&self, link: LinkId) -> Option<Instant> {
        let entry = &self.links[link.index()];
        entry.up.then_some(entry.up_since)
    }

    /// The link carries nothing: no carrier, or silence for so long that it is no passing delay.
    pub(crate) fn is_dead(&self, link: LinkId, now: Instant) -> bool {
        let entry = &self.links[link.index()];
        !entry.carrier || now.since(entry.heard.unwrap_or(self.began)) >= LINK_DEAD
    }

    /// The other link went on after this one fell silent: it is not the peer that is dying.
    pub(crate) fn outlived(&self, link: LinkId, other: LinkId) -> bool {
        let [ended, goes_on] = [link, other].map(|link| self.links[link.index()].heard.unwrap_or(self.began));
        goes_on >= ended + self.interval * (LINK_INTERVALS - 1)
    }

    pub(crate) fn evidence(&self, now: Instant) -> Evidence {
        let silence = |link: &Link| {
            let since = now.since(link.heard.unwrap_or(self.began)).as_millis();
            if link.configured { u32::try_from(since).unwrap_or(u32::MAX) } else { 0 }
        };
        Evidence {
            silence_ms: core::array::from_fn(|i| silence(&self.links[i])),
            carrier: core::array::from_fn(|i| self.links[i].configured && self.links[i].carrier),
            probes_sent: self.probing.map_or(0, |probing| probing.sent),
            probes_answered: self.probing.map_or(0, |probing| probing.answered),
            service_carrier: self.service_carrier,
            third_party: self.probing.is_some_and(|probing| probing.third_party_heard.is_some()),
            late_ms: self.lateness.worst().map(|late| u32::try_from(late.as_millis()).unwrap_or(u32::MAX)),
            gasp: self.left.is_some(),
        }
    }
}
