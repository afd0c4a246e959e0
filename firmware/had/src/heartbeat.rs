//! The heartbeat thread: the one place where the decisions run. Sockets, timers and messages in, decisions, frames and
//! messages out. After its start it allocates nothing, touches no file and logs nothing; what takes time goes to the
//! executors. `spec/ha.md` sections 3 and 5.
//!
//! ```text
//!  link sockets ─┐                        ┌─ link sockets (heartbeats)
//!  neighbours   ─┼─▶ poll ─▶ Ha::handle ──┼─ neighbours (probes, announcements)
//!  carrier      ─┤     ▲                  └─ Output ─▶ executors (steps, fence answers, notes)
//!  Input ◀ executors   └ next deadline
//! ```

mod links;
mod neighbours;

pub use links::{LinkSetup, Links};
pub use neighbours::{Neighbours, SERVICE_PORTS_MAX, ServicePort, ServiceSetup, ServiceVip};

use crate::channel::{Inbox, Sender};
use crate::shared::{LinkView, Shared, View};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use twinpost_ha::{Action, Event, FenceAnswer, Ha, Note, Step, VipAnswer};
use twinpost_net::{lease::Pulse, links::LinkWatch, rt};
use twinpost_types::{EffectiveMode, Instant, LINKS, LinkId, Report, ServiceAddress, Version};

/// Most events of one source in one turn, so that a flood on one socket starves no other.
const EVENTS_A_TURN: usize = 32;
/// Longest sleep: the turn counter proves life to the address lease and to init.
const TURN_MAX: Duration = Duration::from_millis(100);
/// Carriers are read once an interval, at least this often, and whenever the kernel tells of a change. It may tell up to a second late.
const CARRIERS_READ_MAX: Duration = TURN_MAX;
/// After a carrier was lost the others are read this often, for a second one is told late.
const CARRIER_TURN: Duration = Duration::from_millis(1);
/// And for this long: a box that loses power takes all its carriers within a few milliseconds.
const CARRIER_TURNS: Duration = Duration::from_millis(20);

/// Inbox, carrier changes, heartbeat links, service ports.
const FDS_MAX: usize = 2 + LINKS + SERVICE_PORTS_MAX;

/// What the executors tell the thread.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// An event for the decisions.
    Event(Event),
    /// The virtual IPs were claimed (true) or released.
    VipsHeld(bool),
    /// The peer's SMTP greeting on the virtual IP was asked for.
    Greeting(bool),
}

/// What the thread tells the executors.
#[derive(Clone, Copy, Debug)]
pub enum Output {
    /// Run a step.
    Run(Step),
    /// Answer the open fence questions.
    AnswerFence(FenceAnswer),
    /// Show the mode.
    Mode(EffectiveMode),
    /// Write down.
    Note(Note),
    /// Run all remote checks once.
    AskRemote,
    /// Look for an SMTP greeting on the first virtual IP.
    AskGreeting,
}

/// What stays the same in every heartbeat of this unit.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Revision of the configuration.
    pub config_revision: u64,
    /// Checksum of its synchronised part.
    pub config_checksum: u32,
    /// Firmware.
    pub firmware: Version,
    /// Own address on the service network.
    pub service: ServiceAddress,
}

/// Everything that the thread owns.
pub struct Heartbeat {
    /// The decisions.
    pub ha: Ha,
    /// Heartbeat links.
    pub links: Links,
    /// The service network.
    pub neighbours: Neighbours,
    /// Carrier changes as the kernel tells them; it may tell them late, so silent links are read besides.
    pub watch: LinkWatch,
    /// What goes into every heartbeat.
    pub identity: Identity,
    /// Time between heartbeats.
    pub interval: Duration,
    /// From the executors.
    pub inbox: Inbox<Input>,
    /// To the executors.
    pub outbox: Sender<Output>,
    /// What others may see.
    pub shared: Arc<Shared>,
    /// Proof of life for the lease of the virtual IPs.
    pub pulse: Arc<Pulse>,
}

/// Which descriptors have something to read.
#[derive(Clone, Copy)]
struct Ready {
    inbox: bool,
    watch: bool,
    links: [bool; LINKS],
    ports: [bool; SERVICE_PORTS_MAX],
}

impl Ready {
    /// Read them all.
    const ALL: Self =
        Self { inbox: true, watch: true, links: [true; LINKS], ports: [true; SERVICE_PORTS_MAX] };
}

/// What changes from turn to turn.
struct Turn {
    view: View,
    next_heartbeat: Instant,
    carriers: [Option<bool>; LINKS],
    service_carrier: Option<bool>,
    /// Carriers are read again then.
    carriers_next: Instant,
    /// And in every turn until then.
    carriers_until: Instant,
}

impl Heartbeat {
    /// Runs for ever. `started` is the first event.
    pub fn run(mut self, started: Event) -> ! {
        let mut turn = Turn {
            view: View::default(),
            next_heartbeat: rt::now(),
            carriers: [None; LINKS],
            service_carrier: None,
            carriers_next: Instant::default(),
            carriers_until: Instant::default(),
        };
        self.take_carriers(true, &mut turn);
        self.decide(rt::now(), started, &mut turn);
        loop {
            let deadline = self.deadline(&turn);
            let mut ready = self.wait(deadline);
            let now = rt::now();
            if now > deadline {
                let late = u64::try_from(now.since(deadline).as_micros()).unwrap_or(u64::MAX);
                turn.view.lateness_us_max = turn.view.lateness_us_max.max(late);
            }
            if self.ha.next_deadline().is_some_and(|at| at <= now) {
                // Something is about to be decided for want of news: a thread that stalled just now may have some since it polled.
                ready = Ready::ALL;
            }
            self.take_carriers(ready.watch, &mut turn);
            self.take_links(ready, &mut turn);
            self.take_neighbours(ready, &mut turn);
            if ready.inbox {
                self.take_inputs(&mut turn);
            }
            self.expire(&mut turn);
            self.publish(&mut turn);
        }
    }

    fn deadline(&self, turn: &Turn) -> Instant {
        let now = rt::now();
        let turn_max = if now < turn.carriers_until { CARRIER_TURN } else { TURN_MAX };
        let mut deadline = turn.next_heartbeat.min(now + turn_max);
        for at in [self.ha.next_deadline(), self.neighbours.next_deadline()].into_iter().flatten() {
            deadline = deadline.min(at);
        }
        deadline
    }

    /// Sleeps until something can be read or `deadline`.
    fn wait(&self, deadline: Instant) -> Ready {
        let inbox = self.inbox.fd();
        let carrier = self.watch.as_fd();
        let first = [&inbox, &carrier].map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN));
        let links = self.links.fds();
        let sockets = links.into_iter().flatten().chain(self.neighbours.fds());
        let sockets = sockets.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let mut fds: heapless::Vec<PollFd<'_>, FDS_MAX> = first.into_iter().chain(sockets).collect();
        let left = Timespec::try_from(deadline.since(rt::now())).unwrap_or_default();
        if poll(&mut fds, Some(&left)).is_err() {
            // Interrupted: one early turn.
            return Ready::ALL;
        }
        // An error on a descriptor is found by reading it.
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || ready.next().unwrap_or(false);
        Ready {
            inbox: next(),
            watch: next(),
            links: links.map(|link| link.is_some() && next()),
            ports: core::array::from_fn(|_| next()),
        }
    }

    /// Reads every carrier that is due and tells the decisions those that changed. The descriptors are held open, but a read costs as much
    /// as a heartbeat.
    fn take_carriers(&mut self, told: bool, turn: &mut Turn) {
        if told {
            // Only the wake-up counts: the values are read below.
            let _ = self.watch.read(|_| ());
        }
        let now = rt::now();
        if !told && now >= turn.carriers_until && now < turn.carriers_next {
            return;
        }
        turn.carriers_next = now + self.interval.min(CARRIERS_READ_MAX);
        for link in LinkId::ALL {
            let Some(up) = self.links.carrier(link) else { continue };
            if turn.carriers[link.index()] != Some(up) {
                turn.carriers[link.index()] = Some(up);
                let now = rt::now();
                if !up {
                    turn.carriers_until = now + CARRIER_TURNS;
                }
                self.decide(now, Event::Carrier { link, up }, turn);
            }
        }
        let service = self.neighbours.carrier();
        if let Some(up) = service.filter(|_| turn.service_carrier != service) {
            turn.service_carrier = service;
            self.decide(rt::now(), Event::ServiceCarrier { up }, turn);
        }
    }

    fn take_links(&mut self, ready: Ready, turn: &mut Turn) {
        for link in LinkId::ALL.into_iter().filter(|link| ready.links[link.index()]) {
            for _ in 0..EVENTS_A_TURN {
                let Some(heard) = self.links.receive(link) else { break };
                let now = rt::now();
                match heard {
                    links::Heard::Accepted(accepted) => {
                        self.neighbours.peer_is(accepted.report.service);
                        turn.view.heard_us = now.0;
                        let event = Event::Heartbeat {
                            link,
                            from: accepted.from,
                            rebooted: accepted.rebooted,
                            report: accepted.report,
                        };
                        self.decide(now, event, turn);
                        if accepted.introduced {
                            self.beat(now);
                        }
                    }
                    links::Heard::MustAnswer => self.beat(now),
                    links::Heard::Neighbour(ip) => {
                        if let Some(target) = self.links.probe_target(link, ip) {
                            self.decide(now, Event::ProbeAnswered { target }, turn);
                        }
                    }
                    links::Heard::Nothing => {}
                }
            }
        }
    }

    fn take_neighbours(&mut self, ready: Ready, turn: &mut Turn) {
        for port in (0..SERVICE_PORTS_MAX).filter(|port| ready.ports[*port]) {
            for _ in 0..EVENTS_A_TURN {
                let Some(heard) = self.neighbours.receive(port) else { break };
                if let Some(event) = heard {
                    self.decide(rt::now(), event, turn);
                }
            }
        }
    }

    fn take_inputs(&mut self, turn: &mut Turn) {
        self.inbox.clear();
        for _ in 0..EVENTS_A_TURN {
            let Some(input) = self.inbox.next() else { return };
            let now = rt::now();
            match input {
                Input::Event(event) => self.decide(now, event, turn),
                Input::VipsHeld(held) => {
                    turn.view.vips_held = held;
                    self.neighbours.hold(now, held);
                }
                Input::Greeting(mail) => self.decide(now, Event::VipsProbed(VipAnswer::Peer { mail }), turn),
            }
        }
        // The rest waits for the next turn, which comes at once.
        self.inbox.rearm();
    }

    /// Whatever is due by now: decisions, announcements, the virtual IP probe, heartbeats.
    fn expire(&mut self, turn: &mut Turn) {
        let now = rt::now();
        if self.ha.next_deadline().is_some_and(|at| at <= now) {
            self.decide(now, Event::Tick, turn);
        }
        match self.neighbours.expire(now) {
            Some(VipAnswer::Peer { .. }) => self.tell(Output::AskGreeting, turn),
            Some(answer) => self.decide(now, Event::VipsProbed(answer), turn),
            None => {}
        }
        if turn.next_heartbeat <= now {
            self.beat(now);
            turn.next_heartbeat = if now.since(turn.next_heartbeat) < self.interval {
                turn.next_heartbeat + self.interval
            } else {
                now + self.interval
            };
        }
    }

    fn decide(&mut self, now: Instant, event: Event, turn: &mut Turn) {
        self.ha.handle(now, event);
        while let Some(action) = self.ha.next_action() {
            match action {
                Action::HeartbeatNow => self.beat(now),
                Action::Probe(target) => match target {
                    twinpost_ha::ProbeTarget::PeerHeartbeat(link) => self.links.probe(link),
                    target => self.neighbours.probe(target),
                },
                Action::ProbeVips => self.neighbours.probe_vips(now),
                Action::AskRemote => self.tell(Output::AskRemote, turn),
                Action::Announce => self.neighbours.announce_again(now),
                Action::Run(step) => self.tell(Output::Run(step), turn),
                Action::AnswerFence(answer) => self.tell(Output::AnswerFence(answer), turn),
                Action::Mode(mode) => self.tell(Output::Mode(mode), turn),
                Action::Note(note) => self.tell(Output::Note(note), turn),
            }
        }
    }

    fn tell(&self, output: Output, turn: &mut Turn) {
        if !self.outbox.send(output) {
            turn.view.overflows += 1;
        }
    }

    /// One heartbeat on every link.
    fn beat(&mut self, now: Instant) {
        let mut report: Report = self.ha.report(now);
        report.config_revision = self.identity.config_revision;
        report.config_checksum = self.identity.config_checksum;
        report.firmware = self.identity.firmware;
        report.service = self.identity.service;
        self.links.send(now, &mut report);
    }

    fn publish(&mut self, turn: &mut Turn) {
        turn.view.ha = Some(self.ha.status());
        turn.view.counters = *self.links.counters();
        for link in LinkId::ALL {
            let carrier = turn.carriers[link.index()] == Some(true);
            let state = self.links.state(link);
            turn.view.links[link.index()] =
                LinkView { carrier, received: state.accepted, lost: state.missed };
        }
        turn.view.service_carrier = turn.service_carrier == Some(true);
        self.shared.publish(&turn.view);
        let now = rt::now();
        self.shared.turn_us.store(now.0, Ordering::Relaxed);
        self.pulse.beat(now);
    }
}
