//! The power of one unit: starts and kills its QEMU process, pulls its cables. A power cut is SIGKILL of that process: nothing is
//! flushed or said any more. The host's page cache survives, so what the guest wrote and did not flush survives too; a test of
//! unflushed writes needs another tool (`spec/appliance.md` section 6).
//!
//! QEMU runs under `setpriv --pdeathsig KILL`, so that it ends with the bench however the bench ends. The kernel sends that signal when
//! the *thread* ends that started QEMU: a thread of its own lives as long as the process.

use super::command::{Layout, MachineSettings, NicSocket, OVMF_VARS, arguments};
use super::qmp::{Qmp, QmpError};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use twinpost_scenario::{DiskFault, Firmware, MachineKind};

/// Why a unit could not be switched on or controlled.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// QEMU could not be started at all.
    #[error("cannot start qemu-system-x86_64 (install qemu-system-x86 and, for UEFI, ovmf)")]
    Start(#[source] std::io::Error),
    /// QEMU ended at once.
    #[error("QEMU of unit {unit} does not run; it said: {said}")]
    Ended {
        /// Which unit.
        unit: String,
        /// The end of its messages.
        said: String,
        /// What the control socket showed.
        #[source]
        source: QmpError,
    },
    /// A signal could not be sent.
    #[error("cannot freeze or thaw unit {unit}")]
    Signal {
        /// Which unit.
        unit: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A command failed.
    #[error("cannot control unit {unit}")]
    Control {
        /// Which unit.
        unit: String,
        /// Why.
        #[source]
        source: QmpError,
    },
}

/// One unit's hardware.
pub struct Machine {
    name: String,
    layout: Layout,
    settings: MachineSettings,
    nics: Vec<NicSocket>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    qmp: Qmp,
    /// What ails the drive; `None` while it is well.
    drive: Option<DiskFault>,
}

impl Machine {
    /// Hardware that is switched off. Its disks must exist before it is switched on.
    #[must_use]
    pub fn new(name: &str, layout: Layout, settings: MachineSettings, nics: Vec<NicSocket>) -> Self {
        Self { name: name.to_owned(), layout, settings, nics, running: None }
    }

    /// Switches on; `carrier` tells for each port whether its cable has a living other end.
    ///
    /// # Errors
    /// QEMU does not start.
    pub fn power_on(&mut self, carrier: &[bool]) -> Result<(), MachineError> {
        self.power_cut();
        if self.settings.firmware == Firmware::Ovmf && !self.layout.vars().exists() {
            std::fs::copy(OVMF_VARS, self.layout.vars()).map_err(MachineError::Start)?;
        }
        let mut child = self.spawn().map_err(MachineError::Start)?;
        let qmp = Qmp::connect(&self.layout.qmp(), || matches!(child.try_wait(), Ok(None)));
        let qmp = match qmp {
            Ok(qmp) => qmp,
            Err(source) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(MachineError::Ended { unit: self.name.clone(), said: self.last_words(), source });
            }
        };
        self.running = Some(Running { child, qmp, drive: None });
        for (index, up) in carrier.iter().enumerate().filter(|(_, up)| !**up) {
            self.set_link(index + 1, *up)?;
        }
        self.run("cont")
    }

    /// Cuts the power: SIGKILL, by process id, and waits until the process is gone. Returns false when it was off.
    pub fn power_cut(&mut self) -> bool {
        let Some(mut running) = self.running.take() else { return false };
        // Both fail only if the process is gone already.
        let _ = running.child.kill();
        let _ = running.child.wait();
        true
    }

    /// True while the QEMU process lives. A guest that switched itself off is off.
    pub fn is_on(&mut self) -> bool {
        let on = self.running.as_mut().is_some_and(|running| matches!(running.child.try_wait(), Ok(None)));
        if !on {
            self.running = None;
        }
        on
    }

    /// Pulls or plugs the cable of port `port` (from 1).
    ///
    /// # Errors
    /// QEMU does not answer. A unit that is off has no carrier to set: that is no error.
    pub fn set_link(&mut self, port: usize, up: bool) -> Result<(), MachineError> {
        self.control(|qmp| qmp.set_link(port, up))
    }

    /// Lets the unit's drive hang or fail, or mends it. A drive that gets its power back is well again.
    ///
    /// # Errors
    /// QEMU does not answer. A unit that is off has no drive to spoil: that is no error.
    pub fn drive(&mut self, fault: DiskFault) -> Result<(), MachineError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let Running { qmp, drive, .. } = running;
        let mended = match drive.take() {
            Some(DiskFault::Hang) => qmp.hang_drive(false),
            Some(DiskFault::Fail) => qmp.fail_drive(false),
            Some(DiskFault::Restore) | None => Ok(()),
        };
        let done = mended.and_then(|()| match fault {
            DiskFault::Hang => qmp.hang_drive(true),
            DiskFault::Fail => qmp.fail_drive(true),
            DiskFault::Restore => Ok(()),
        });
        *drive = Some(fault);
        done.map_err(|source| MachineError::Control { unit: self.name.clone(), source })
    }

    /// Freezes the whole unit: SIGSTOP of its process. Its clock runs on, as it does on a box that a fault or a host holds
    /// up. Until [`Machine::thaw`] it cannot be controlled, only its power can be cut.
    ///
    /// # Errors
    /// The signal cannot be sent. A unit that is off cannot be frozen: that is no error.
    pub fn freeze(&mut self) -> Result<(), MachineError> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen unit go on.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn thaw(&mut self) -> Result<(), MachineError> {
        self.signal(Signal::CONT)
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn reset(&mut self) -> Result<(), MachineError> {
        self.run("system_reset")
    }

    /// Its hardware.
    #[must_use]
    pub fn kind(&self) -> MachineKind {
        self.settings.kind
    }

    /// Where the unit's files are.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    fn signal(&self, signal: Signal) -> Result<(), MachineError> {
        let Some(running) = &self.running else { return Ok(()) };
        let sent = kill_process(Pid::from_child(&running.child), signal);
        sent.map_err(|errno| MachineError::Signal { unit: self.name.clone(), source: errno.into() })
    }

    fn run(&mut self, command: &str) -> Result<(), MachineError> {
        self.control(|qmp| qmp.execute(command, json!({})).map(|_| ()))
    }

    fn control(&mut self, act: impl FnOnce(&mut Qmp) -> Result<(), QmpError>) -> Result<(), MachineError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        act(&mut running.qmp).map_err(|source| MachineError::Control { unit: self.name.clone(), source })
    }

    fn spawn(&self) -> std::io::Result<Child> {
        for stale in [self.layout.qmp(), self.layout.console(), self.layout.machine()] {
            let _ = std::fs::remove_file(stale);
        }
        for nic in &self.nics {
            let _ = std::fs::remove_file(&nic.local);
        }
        let log = File::options().create(true).append(true).open(self.layout.qemu_log())?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.args(arguments(&self.name, &self.layout, self.settings, &self.nics));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        start_from_a_lasting_thread(command)
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.layout.qemu_log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("; ")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.power_cut();
    }
}

type Job = (Command, Sender<std::io::Result<Child>>);

fn start_from_a_lasting_thread(command: Command) -> std::io::Result<Child> {
    static STARTER: OnceLock<Sender<Job>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (jobs, queue) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in queue {
                // The asker waits for the answer; it cannot have gone away.
                let _ = answer.send(command.spawn());
            }
        });
        jobs
    });
    let gone = || std::io::Error::other("the thread that starts programs has ended");
    let (answer, result) = channel();
    starter.send((command, answer)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}
