//! A scenario as a value. Units are 0 (a) and 1 (b), ports count from 1 as on the front panel.

use std::time::Duration;
use twinpost_types::EffectiveMode;

/// Names of the units, by index.
pub const UNITS: [&str; 2] = ["a", "b"];
/// Ports of a unit, in order: service, management, heartbeat 1, heartbeat 2.
pub const PORTS: usize = 4;

/// A whole file.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Which units there are.
    pub group: Group,
    /// What boots them (addition: `firmware bios|ovmf`).
    pub firmware: Firmware,
    /// What machine each unit is (addition: `machine <unit> q35|pc|express`).
    pub machines: [MachineKind; 2],
    /// Mail data is on the bench's NFS server (addition: `mail-data nfs`).
    pub nfs: bool,
    /// HA settings before the start, variable and value.
    pub settings: Vec<(String, String)>,
    /// Everything else in the order of the file.
    pub steps: Vec<Step>,
}

/// What boots the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    #[default]
    Bios,
    /// UEFI.
    Ovmf,
}

/// What hardware a unit is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MachineKind {
    /// QEMU's q35 with virtio devices: the board `qemu-q35`.
    #[default]
    Q35,
    /// QEMU's i440FX with an IDE drive and conventional network cards: a box that no board file knows.
    Pc,
    /// QEMU's q35 with an NVMe drive, network cards behind PCI Express ports and the chipset's watchdog: another such box.
    Express,
}

impl MachineKind {
    /// All kinds, by their word in a scenario.
    pub const ALL: [(&str, MachineKind); 3] =
        [("q35", Self::Q35), ("pc", Self::Pc), ("express", Self::Express)];
}

/// `group …`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Two units, a is the configured primary.
    ActivePassive,
    /// This many units that share their configuration.
    ConfigOnly(u8),
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Line number in the file, from 1.
    pub line: usize,
    /// Its text, for reports.
    pub text: String,
    /// `at <time>`, counted from the moment when the pair is up and in sync.
    pub at: Option<Duration>,
    /// What to do or expect.
    pub what: What,
}

/// What a line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Do something.
    Act(Action),
    /// Something must be so.
    Expect(Expectation),
}

/// Something that is done to the pair.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// `load smtp …` or `load stop`.
    Load(Option<LoadOrder>),
    /// `set <variable> <value>` on all units while they run.
    Set(String, String),
    /// `cli <unit> "<command>"`, one command a `;`.
    Cli(usize, Vec<String>),
    /// `refused <unit> "<command>"` (addition): an operator's command that the unit must refuse.
    Refused(usize, String),
    /// `power cut <unit>`
    PowerCut(usize),
    /// `power restore <unit>`
    PowerRestore(usize),
    /// `link cut <unit>.<port>`
    LinkCut(usize, usize),
    /// `link restore <unit>.<port>`: whole again, without loss, delay or one-way fault.
    LinkRestore(usize, usize),
    /// `link loss <pct> <unit>.<port>`
    LinkLoss(u8, usize, usize),
    /// `link delay <ms> <unit>.<port>`
    LinkDelay(Duration, usize, usize),
    /// `link oneway <unit>.<port>`: what that port sends no longer gets out.
    LinkOneway(usize, usize),
    /// `link flap <period> <time> <unit>.<port>` (addition): the cable is pulled and plugged again every period, for a time.
    LinkFlap(Duration, Duration, usize, usize),
    /// `freeze <unit> <time>`
    Freeze(usize, Duration),
    /// `kill <unit> <service> [signal]`
    Kill(usize, String, u8),
    /// `disk hang|fail|restore <unit>.<disk>`
    Disk(DiskFault, usize, String),
    /// `stress cpu|io|memory <unit> <time>`
    Stress(Stress, usize, Duration),
    /// `clock jump <unit> <±time>`: forward when true.
    ClockJump(usize, bool, Duration),
    /// `next-hop stop|start` (addition): the next hop refuses every message for now, so that mail stays queued; accepts when true.
    NextHop(bool),
    /// `nas stop|start` (addition): the NFS server answers nothing for now, and forgets nothing; answers when true.
    Nas(bool),
    /// `reboot <unit>`
    Reboot(usize),
    /// `service stop|start <unit> <service>`: starts when true.
    Service(usize, bool, String),
    /// `step fail <unit> <step>` (addition, simulator only): the next such step of the unit fails.
    StepFail(usize, String),
    /// `repair` (addition, simulator only): all cables, disks and services are whole again, and both units get power.
    Repair,
}

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadOrder {
    /// Messages a second.
    pub rate: f64,
    /// Size of one message, bytes.
    pub size: usize,
    /// Where to.
    pub to: Destination,
}

/// Where messages go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// Through the pair to the next hop.
    #[default]
    Relay,
    /// Into a mailbox on the pair.
    Mailbox,
}

impl Destination {
    /// The recipient's address.
    #[must_use]
    pub fn recipient(self) -> &'static str {
        match self {
            Self::Relay => "user@example.test",
            Self::Mailbox => "user@local.test",
        }
    }
}

/// What happens to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// Answers no more.
    Hang,
    /// Answers with errors.
    Fail,
    /// Well again.
    Restore,
}

/// What kind of stress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stress {
    /// All processors busy.
    Cpu,
    /// Disks busy.
    Io,
    /// Memory tight.
    Memory,
}

/// Something that must be so.
#[derive(Clone, Debug, PartialEq)]
pub enum Expectation {
    /// `expect <unit> <MODE> within <time>`
    Mode(usize, EffectiveMode, Duration),
    /// `hold <unit> <MODE> for <time>`
    Hold(usize, EffectiveMode, Duration),
    /// `expect vip <unit> within <time>`
    Vip(usize, Duration),
    /// `expect no-vip <unit> within <time>` (addition): after that time the unit says nothing more for the virtual IP.
    NoVip(usize, Duration),
    /// `expect event <unit> <name> within <time>`
    Event(usize, String, Duration),
    /// `expect whole within <time>` (addition): both units have their roles, volumes connected and up to date.
    Whole(Duration),
    /// `expect outage at-most <time>`
    Outage(Duration),
    /// `expect stall at-most <time>` (addition): longest time from the end of a message to its `250`.
    Stall(Duration),
    /// `expect ledger lost N duplicated N`
    Ledger(u64, u64),
}
