//! A pair of units on its network: two machines, service and management switch, two heartbeat cables, mail client and next hop.
//! Offers the acts of a scenario; what they must lead to is judged in `scenario`.
//!
//! Cables: a heartbeat port is joined to the peer's by a direct cable, so it has carrier only while the peer has power and
//! neither end is pulled. Service and management ports hang on switches: only their own cable counts.

use crate::clock::{Micros, wait_until};
use crate::console::{Console, ConsoleError};
use crate::host::{Host, HostSettings, Mac};
use crate::mail::{
    Ledger, Load, LoadSettings, Mailbox, MailboxLogin, MailboxOrders, NextHop, Outages, Probe, WebPage,
};
use crate::nas::Nas;
use crate::provision::{self, Setting};
use crate::qemu::{
    DiskError, Layout, Machine, MachineError, MachineSettings, NicSocket, factory_disk, provisioning_disk,
};
use crate::watch::Watch;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
/// Names of the units; index 0 is the configured primary.
pub use twinpost_scenario::UNITS;
use twinpost_scenario::{DiskFault, Firmware, MachineKind, PORTS};
use twinpost_switch::{Faults, Kind, Lan, LanError, PortId};

/// First port (from 0) that is a direct cable.
const FIRST_CABLE: usize = 2;
/// An operator's command is answered within this time, even by a unit that is emulated and busy.
const COMMAND_WITHIN: Duration = Duration::from_secs(10);

/// What the pair is made of.
#[derive(Clone, Debug)]
pub struct PairSettings {
    /// Disk image as it leaves the factory.
    pub image: PathBuf,
    /// Folder for disks, sockets, logs and captures of this run; emptied first.
    pub folder: PathBuf,
    /// Boot firmware of both units.
    pub firmware: Firmware,
    /// Hardware of each unit.
    pub machines: [MachineKind; 2],
    /// True with KVM.
    pub kvm: bool,
    /// Memory of each unit, MiB.
    pub memory_mib: u32,
    /// Processors of each unit.
    pub processors: u32,
    /// HA settings beyond those of the bench.
    pub settings: Vec<Setting>,
    /// Mail data is on the bench's NFS server.
    pub nfs: bool,
    /// Seed of losses.
    pub seed: u64,
}

/// Why the pair could not be set up or controlled.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A folder could not be made.
    #[error("cannot prepare the folder {path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A disk could not be made.
    #[error("no disk for a unit")]
    Disk(#[from] DiskError),
    /// A switch could not be set up.
    #[error("no network for the pair")]
    Lan(#[from] LanError),
    /// QEMU failed.
    #[error("a unit cannot be controlled")]
    Machine(#[from] MachineError),
    /// The bench's web page does not start.
    #[error("no web page for the units to check")]
    Web(#[from] tokio_rustls::rustls::Error),
}

/// One unit with its cables.
struct Unit {
    machine: Machine,
    watch: Watch,
    ports: [PortId; PORTS],
    cut: [bool; PORTS],
    carrier: [bool; PORTS],
    powered: bool,
    frozen: bool,
}

/// The pair.
pub struct Pair {
    units: [Unit; 2],
    lans: [Lan; PORTS],
    client: Host,
    has_vip6: bool,
    _next_hop: Host,
    _nas: Option<Host>,
    /// The NFS server answers.
    nas_answers: Arc<AtomicBool>,
    /// The book of all mail.
    pub ledger: Ledger,
    /// What the client sends.
    pub load: LoadSettings,
    /// What the probe sees.
    pub outages: Outages,
    /// Readings of the mailbox.
    pub mailbox: MailboxOrders,
}

impl Pair {
    /// Prepares disks and network; both units are off.
    ///
    /// # Errors
    /// See [`PairError`].
    pub fn prepare(settings: &PairSettings) -> Result<Self, PairError> {
        let folder = &settings.folder;
        let make = |path: &Path| {
            std::fs::create_dir_all(path)
                .map_err(|source| PairError::Folder { path: path.to_owned(), source })
        };
        // What an earlier run left; a missing folder is as good as an empty one.
        let _ = std::fs::remove_dir_all(folder);
        for name in UNITS {
            make(&folder.join(name))?;
        }
        let lans = start_lans(settings)?;
        let units = [unit(settings, 0, &lans)?, unit(settings, 1, &lans)?];
        let ledger = Ledger::new(&format!("r{:x}", Micros::now().0 ^ (u64::from(std::process::id()) << 32)));
        let (load, outages, mailbox) =
            (LoadSettings::default(), Outages::default(), MailboxOrders::default());
        let login = MailboxLogin {
            user: format!("{}@{}", provision::MAILBOX_USER, provision::MAILBOX_DOMAIN),
            password: provision::MAILBOX_PASSWORD.to_owned(),
        };
        let vip = provision::VIP;
        let client = Host::start(
            HostSettings { mac: [0x52, 0x54, 0, 0xC, 0, 1], ip: provision::CLIENT },
            lans[0].add_plug(),
            vec![
                Box::new(Load::new(vip, ledger.clone(), load.clone(), outages.clone())),
                Box::new(Probe::new(vip, outages.clone())),
                Box::new(Mailbox::new(vip, ledger.clone(), login, mailbox.clone())),
            ],
        );
        let next_hop = Host::start(
            HostSettings { mac: [0x52, 0x54, 0, 0xC, 0, 25], ip: provision::NEXT_HOP },
            lans[0].add_plug(),
            vec![Box::new(NextHop::new(ledger.clone())), Box::new(WebPage::new(ledger.clone())?)],
        );
        let nas_answers = Arc::new(AtomicBool::new(true));
        let nas = settings.nfs.then(|| {
            Host::start(
                HostSettings { mac: [0x52, 0x54, 0, 0xC, 0, 30], ip: provision::NAS },
                lans[0].add_plug(),
                vec![Box::new(Nas::new(provision::NAS_EXPORT, Arc::clone(&nas_answers)))],
            )
        });
        Ok(Self {
            units,
            lans,
            client,
            has_vip6: settings.settings.iter().any(|(_, value)| value.contains(&provision::VIP6.to_string())),
            _next_hop: next_hop,
            _nas: nas,
            nas_answers,
            ledger,
            load,
            outages,
            mailbox,
        })
    }

    /// Gives a unit power. A unit that has it is left alone.
    ///
    /// # Errors
    /// QEMU does not start.
    pub fn power_on(&mut self, unit: usize) -> Result<(), PairError> {
        if self.units[unit].powered {
            return Ok(());
        }
        self.units[unit].powered = true;
        let carrier = self.carrier(unit);
        let this = &mut self.units[unit];
        this.carrier = carrier;
        if let Err(error) = this.machine.power_on(&carrier) {
            this.powered = false;
            return Err(error.into());
        }
        this.watch.set_powered(true);
        self.settle_carriers()
    }

    /// Cuts a unit's power; the moment of the cut.
    ///
    /// # Errors
    /// The peer's carrier could not be taken.
    pub fn power_cut(&mut self, unit: usize) -> Result<Micros, PairError> {
        let at = Micros::now();
        self.ledger.book().cut(at);
        self.units[unit].machine.power_cut();
        self.units[unit].powered = false;
        self.units[unit].frozen = false;
        let settled = self.settle_carriers();
        self.units[unit].watch.set_powered(false);
        settled.map(|()| at)
    }

    /// Notices units that switched themselves off: their cables lose carrier like after a power cut.
    ///
    /// # Errors
    /// The peer's carrier could not be taken.
    pub fn notice_power_off(&mut self) -> Result<(), PairError> {
        for unit in 0..2 {
            if self.units[unit].powered && !self.units[unit].machine.is_on() {
                self.units[unit].powered = false;
                self.units[unit].watch.set_powered(false);
                self.settle_carriers()?;
            }
        }
        Ok(())
    }

    /// Pulls (`up` false) or plugs the cable of a port (from 1).
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn link(&mut self, unit: usize, port: usize, up: bool) -> Result<(), PairError> {
        self.units[unit].cut[port - 1] = !up;
        self.lans[port - 1].set_faults(self.units[unit].ports[port - 1], |faults| {
            *faults = Faults { cut: !up, ..Faults::default() };
        });
        self.settle_carriers()
    }

    /// Changes other faults of a port (from 1) of a unit; the carrier stays.
    pub fn fault(&self, unit: usize, port: usize, change: impl FnOnce(&mut Faults)) {
        self.lans[port - 1].set_faults(self.units[unit].ports[port - 1], change);
    }

    /// A plug on the wire of a port (from 1): hears every frame there and can send any.
    #[must_use]
    pub fn tap(&self, port: usize) -> twinpost_switch::Plug {
        self.lans[port - 1].add_plug()
    }

    /// Lets the NFS server answer, or not.
    pub fn set_nas(&self, answers: bool) {
        self.nas_answers.store(answers, Ordering::Relaxed);
    }

    /// Freezes a unit or lets it go on. What happens to its cables meanwhile reaches it afterwards.
    ///
    /// # Errors
    /// The signal cannot be sent, or QEMU does not answer afterwards.
    pub fn freeze(&mut self, unit: usize, frozen: bool) -> Result<(), PairError> {
        let this = &mut self.units[unit];
        if frozen {
            this.machine.freeze()?
        } else {
            this.machine.thaw()?
        }
        this.frozen = frozen;
        self.settle_carriers()
    }

    /// Lets a unit's drive hang or fail, or mends it.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn drive(&mut self, unit: usize, fault: DiskFault) -> Result<(), PairError> {
        Ok(self.units[unit].machine.drive(fault)?)
    }

    /// An operator's command on a unit's machine console.
    ///
    /// # Errors
    /// See [`ConsoleError`].
    pub fn command(&self, unit: usize, command: &str) -> Result<String, ConsoleError> {
        self.units[unit].watch.command(command, COMMAND_WITHIN)
    }

    /// What is known of a unit.
    #[must_use]
    pub fn watch(&self, unit: usize) -> &Watch {
        &self.units[unit].watch
    }

    /// True while a unit has power.
    #[must_use]
    pub fn is_powered(&self, unit: usize) -> bool {
        self.units[unit].powered
    }

    /// What hardware a unit is made of.
    #[must_use]
    pub fn kind(&self, unit: usize) -> MachineKind {
        self.units[unit].machine.kind()
    }

    /// Where a unit's files are.
    #[must_use]
    pub fn layout(&self, unit: usize) -> &Layout {
        self.units[unit].machine.layout()
    }

    /// Which unit last spoke for the virtual IP, and when, as the mail client sees it. With an IPv6 one in the settings both must
    /// be the same unit's, and the earlier of the two times counts.
    #[must_use]
    pub fn vip_owner(&self) -> Option<(usize, Micros)> {
        let owner = |ip| {
            let (speaker, at) = self.client.speaker(ip)?;
            (0..2).find(|unit| mac(*unit, 0) == speaker).map(|unit| (unit, at))
        };
        let (unit, at) = owner(provision::VIP.into())?;
        if !self.has_vip6 {
            return Some((unit, at));
        }
        let (unit6, at6) = owner(provision::VIP6.into())?;
        (unit == unit6).then_some((unit, at.min(at6)))
    }

    /// Waits until every acknowledged message has arrived; false when `limit` passed first.
    #[must_use]
    pub fn drain(&self, limit: Duration) -> bool {
        /// After the last arrival, second copies may still come.
        const AFTERMATH: Duration = Duration::from_secs(3);
        self.load.set(None);
        let end = Micros::now() + limit;
        let all_arrived = || {
            if self.ledger.book().has_mailbox() {
                let readings = self.mailbox.readings();
                self.mailbox.ask();
                let left = end.since(Micros::now());
                wait_until(left, Duration::from_millis(50), || self.mailbox.readings() > readings);
            }
            self.ledger.summary().lost == 0
        };
        let every = Duration::from_millis(250);
        // Sessions that are just sending may still be acknowledged: wait first, then count.
        std::thread::sleep(AFTERMATH);
        wait_until(end.since(Micros::now()), every, all_arrived) && {
            std::thread::sleep(AFTERMATH);
            wait_until(end.since(Micros::now()).max(every), every, all_arrived)
        }
    }

    /// Sets every carrier to what cables and power say.
    fn settle_carriers(&mut self) -> Result<(), PairError> {
        for unit in 0..2 {
            let carrier = self.carrier(unit);
            let this = &mut self.units[unit];
            if !this.powered || this.frozen {
                continue;
            }
            for (port, (wanted, known)) in carrier.iter().zip(&mut this.carrier).enumerate() {
                if wanted != known {
                    this.machine.set_link(port + 1, *wanted)?;
                    *known = *wanted;
                }
            }
        }
        Ok(())
    }

    fn carrier(&self, unit: usize) -> [bool; PORTS] {
        let (this, peer) = (&self.units[unit], &self.units[1 - unit]);
        std::array::from_fn(|port| {
            let cable = !this.cut[port];
            if port < FIRST_CABLE { cable } else { cable && !peer.cut[port] && peer.powered }
        })
    }
}

/// Ethernet address of a unit's port (from 0): a's are lower than b's.
pub(crate) fn mac(unit: usize, port: usize) -> Mac {
    let byte = |value: usize| u8::try_from(value).unwrap_or(0xFF);
    [0x52, 0x54, 0, byte(0xA + unit), 0, byte(port + 1)]
}

fn start_lans(settings: &PairSettings) -> Result<[Lan; PORTS], LanError> {
    let lan = |kind, name: &str, salt| {
        let capture = settings.folder.join(format!("{name}.pcap"));
        Lan::start(kind, settings.seed.wrapping_add(salt), Some(&capture))
    };
    Ok([
        lan(Kind::Switch, "service", 1)?,
        lan(Kind::Switch, "management", 2)?,
        lan(Kind::Cable, "heartbeat1", 3)?,
        lan(Kind::Cable, "heartbeat2", 4)?,
    ])
}

fn unit(settings: &PairSettings, index: usize, lans: &[Lan; PORTS]) -> Result<Unit, PairError> {
    let layout = Layout { folder: settings.folder.join(UNITS[index]) };
    factory_disk(&settings.image, &layout.disk())?;
    provisioning_disk(&provision::script(index, &settings.settings, settings.nfs), &layout.provisioning())?;
    let (mut nics, mut ports) = (Vec::new(), [0; PORTS]);
    for (port, lan) in lans.iter().enumerate() {
        let socket = lan.add_unix(&layout.folder.join(format!("port{}", port + 1)))?;
        ports[port] = socket.id;
        nics.push(NicSocket { local: socket.unit_path, remote: socket.switch_path, mac: mac(index, port) });
    }
    let machine = MachineSettings {
        memory_mib: settings.memory_mib,
        processors: settings.processors,
        firmware: settings.firmware,
        kind: settings.machines[index],
        kvm: settings.kvm,
    };
    let watch = Watch::start(Console::of(&layout, machine.kind));
    let machine = Machine::new(UNITS[index], layout, machine, nics);
    Ok(Unit {
        machine,
        watch,
        ports,
        cut: [false; PORTS],
        carrier: [true; PORTS],
        powered: false,
        frozen: false,
    })
}
