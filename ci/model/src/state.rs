//! What the model consists of: two units, what lies on their disks, the cables and the messages between them, and how much may
//! still go wrong. Small numbers only: a state is hashed a million times.

/// What a unit is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Booted, looking.
    Off,
    /// Follows.
    Secondary,
    /// On its way into the role; nothing is promoted yet.
    Taking(Ground),
    /// Carries the service.
    Primary,
    /// Stopped and demoted; waits for the other one to take over.
    HandingOver,
}

/// On what a way into the role rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ground {
    /// The peer is silent, or lives and holds nothing that could be promoted: fence it.
    Fence,
    /// Replication is connected.
    Connected,
}

/// What survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// Epoch.
    pub epoch: u8,
    /// Present data generation.
    pub generation: u8,
    /// All generations that it went through, as bits.
    pub history: u16,
    /// A resynchronisation did not end.
    pub inconsistent: bool,
    /// Known to be old.
    pub outdated: bool,
    /// The peer's copy is known to be old.
    pub peer_outdated: bool,
    /// Messages, as bits.
    pub stored: u8,
}

/// How two copies compare when they meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Equal.
    Same,
    /// This one has what the other lacks.
    Newer,
    /// The other way round.
    Older,
    /// Both have what the other lacks.
    Diverged,
}

impl Disk {
    /// Compares data generations as DRBD does.
    pub fn compare(&self, other: &Disk) -> Compared {
        if self.generation == other.generation {
            Compared::Same
        } else if self.history & (1 << other.generation) != 0 {
            Compared::Newer
        } else if other.history & (1 << self.generation) != 0 {
            Compared::Older
        } else {
            Compared::Diverged
        }
    }
}

/// What a heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// Epoch.
    pub epoch: u8,
    /// Carries the service.
    pub primary: bool,
    /// Writes without the other one.
    pub alone: bool,
    /// Own copy must not be promoted.
    pub unusable: bool,
    /// The other one shall take over.
    pub hands_over: bool,
    /// The other one shall mark its copy outdated.
    pub asks_to_outdate: bool,
}

/// One unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    /// Has power.
    pub running: bool,
    /// Role.
    pub role: Role,
    /// What it last heard of the other one; `None` = silence for the threshold, or since boot.
    pub view: Option<Report>,
    /// Heard it at least once since boot.
    pub heard: bool,
    /// Its epoch, as last heard since boot.
    pub peer_epoch: u8,
    /// Disk.
    pub disk: Disk,
    /// The kernel says that the own copy is the newest.
    pub up_to_date: bool,
    /// Volumes promoted.
    pub promoted: bool,
    /// Writes wait for the answer to a fence question.
    pub frozen: bool,
    /// A silent peer serves: nothing is taken until it is heard.
    pub yielded: bool,
    /// Messages that the other one confirmed in the present hand-over.
    pub confirmed: u8,
}

/// How often something may still go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Power cuts.
    pub crashes: u8,
    /// Cuts of a heartbeat link.
    pub cuts: u8,
    /// Cuts of a unit's service port.
    pub isolations: u8,
    /// Losses of the replication connection without any cause.
    pub drops: u8,
    /// Orderly switches.
    pub switches: u8,
    /// Messages that clients send.
    pub messages: u8,
}

/// The pair and everything between.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Units; 0 is the configured primary.
    pub units: [Unit; 2],
    /// A heartbeat of each unit that is under way: it may arrive late or never.
    pub sent: [Option<Report>; 2],
    /// Heartbeat links that carry, of two.
    pub links: u8,
    /// Service port of each unit.
    pub service: [bool; 2],
    /// Both heartbeat links were cut at once, or a unit was cut off from the service network. The copies may diverge then, for instance
    /// when both units take over at the same time because neither carried the service: nothing is discarded, but until the
    /// hand-over a primary may lack what the other copy holds.
    pub apart: bool,
    /// Replication is connected.
    pub connected: bool,
    /// The unit from which the other one is being resynchronised.
    pub source: Option<usize>,
    /// Generations made so far.
    pub generations: u8,
    /// Messages sent so far.
    pub messages: u8,
    /// Messages that were acknowledged, as bits.
    pub acknowledged: u8,
    /// What may still go wrong.
    pub budget: Budget,
    /// A rule was broken on the way here.
    pub broken: Option<&'static str>,
}

impl World {
    /// A pair in sync; unit 0 carries the service.
    pub fn in_sync(budget: Budget) -> Self {
        let disk = Disk {
            epoch: 1,
            generation: 0,
            history: 1,
            inconsistent: false,
            outdated: false,
            peer_outdated: false,
            stored: 0,
        };
        let unit = |role, promoted| Unit {
            running: true,
            role,
            view: None,
            heard: true,
            peer_epoch: 1,
            disk,
            up_to_date: true,
            promoted,
            frozen: false,
            yielded: false,
            confirmed: 0,
        };
        let mut world = Self {
            units: [unit(Role::Primary, true), unit(Role::Secondary, false)],
            sent: [None; 2],
            links: 2,
            service: [true; 2],
            apart: false,
            connected: true,
            source: None,
            generations: 0,
            messages: 0,
            acknowledged: 0,
            budget,
            broken: None,
        };
        for unit in 0..2 {
            world.units[unit].view = Some(world.report(1 - unit));
        }
        world
    }

    /// What a unit says now.
    pub fn report(&self, unit: usize) -> Report {
        let own = &self.units[unit];
        Report {
            epoch: own.disk.epoch,
            primary: own.promoted,
            alone: own.promoted && !own.frozen && !self.connected,
            unusable: own.disk.outdated || own.disk.inconsistent,
            hands_over: own.role == Role::HandingOver,
            asks_to_outdate: own.promoted && own.frozen && !self.connected,
        }
    }

    /// Heartbeats and blocks can pass.
    pub fn carries(&self) -> bool {
        self.links > 0 && self.units.iter().all(|unit| unit.running)
    }

    /// Nothing of the other one arrives, and nothing is under way: delays are far shorter than the threshold.
    pub fn is_silent(&self, unit: usize) -> bool {
        self.units[unit].view.is_none() && self.sent[1 - unit].is_none() && !self.carries()
    }

    /// The own copy may be promoted.
    pub fn is_current(&self, unit: usize) -> bool {
        let own = &self.units[unit];
        own.up_to_date && !own.disk.outdated && !own.disk.inconsistent
    }

    /// The other one's kernel answers on the service network.
    pub fn sees(&self, unit: usize) -> bool {
        self.service == [true, true] && self.units[1 - unit].running
    }

    /// How the copies compare, seen from this unit.
    pub fn compare(&self, unit: usize) -> Compared {
        self.units[unit].disk.compare(&self.units[1 - unit].disk)
    }

    /// Nothing is wrong with the environment.
    pub fn is_whole(&self) -> bool {
        self.links > 0 && self.service == [true, true] && self.units.iter().all(|unit| unit.running)
    }
}
