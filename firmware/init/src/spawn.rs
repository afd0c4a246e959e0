//! Starts and kills services: session, control group, terminal, pipe. Decides nothing (`supervise.rs` does).
//! `unsafe`: one `pre_exec`, whose closure makes only calls that are safe between fork and exec.

use crate::service::{ENVIRONMENT, Service, Terminal};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Root of the control groups.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// Speed of serial consoles, as on the kernel command line.
const CONSOLE_BAUD: u32 = 115_200;

/// Why a service was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The board has no such console.
    #[error("this board has no such console")]
    NoConsole,
    /// The console cannot be opened.
    #[error("cannot open {}", path.display())]
    Console {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No pipe for the output.
    #[error("cannot make a pipe")]
    Pipe(#[source] io::Error),
    /// Not executed.
    #[error("cannot execute {program}")]
    Execute {
        /// Which.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Names of the board's terminals in `/dev`.
#[derive(Clone, Debug)]
pub struct Terminals {
    /// For a person at a serial line.
    pub console: Option<String>,
    /// For a person at a screen.
    pub screen: Option<String>,
    /// For a machine.
    pub machine: Option<String>,
}

impl Terminals {
    /// Whether a service with this terminal can run on the board.
    #[must_use]
    pub fn offer(&self, terminal: Terminal) -> bool {
        terminal == Terminal::Log || self.name(terminal).is_some()
    }

    fn name(&self, terminal: Terminal) -> Option<&str> {
        match terminal {
            Terminal::Log => None,
            Terminal::Console => self.console.as_deref(),
            Terminal::Screen => self.screen.as_deref(),
            Terminal::Machine => self.machine.as_deref(),
        }
    }
}

/// Executes a service. Returns its process number and the end of the pipe that its output comes from.
///
/// # Errors
/// See [`SpawnError`]; nothing runs then.
pub fn execute(service: &Service, terminals: &Terminals) -> Result<(u32, Option<OwnedFd>), SpawnError> {
    let mut command = Command::new(service.program);
    command.args(service.arguments).current_dir("/").env_clear();
    command.envs(ENVIRONMENT.iter().chain(service.environment).copied());
    let (console, pipe) = match service.terminal {
        Terminal::Log => (None, Some(logged(&mut command).map_err(SpawnError::Pipe)?)),
        terminal => (Some(terminals.name(terminal).ok_or(SpawnError::NoConsole)?), None),
    };
    if let Some(name) = console {
        attach(&mut command, name, service.terminal == Terminal::Machine)?;
    }
    let group = group(service.name);
    let _ = fs::create_dir(&group);
    let members = OpenOptions::new().write(true).open(group.join("cgroup.procs")).ok();
    let takes_terminal = console.is_some();
    let nice = service.nice;
    // SAFETY: between fork and exec the closure makes only system calls on descriptors that exist; it allocates nothing
    // and takes no lock.
    unsafe {
        command.pre_exec(move || {
            // PID 1 takes its signals from a descriptor and has them blocked; a service must not inherit that.
            nix::sys::signal::SigSet::empty().thread_set_mask()?;
            rustix::process::setsid()?;
            // Without the right to do so it runs with what PID 1 has.
            let _ = rustix::process::setpriority_process(None, nice);
            if takes_terminal {
                // A terminal of an earlier session that did not end well is taken over (argument 1).
                if libc::ioctl(0, libc::TIOCSCTTY, 1) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            if let Some(members) = &members {
                // Without a control group the process group has to do.
                let _ = rustix::io::write(members.as_fd(), b"0");
            }
            Ok(())
        });
    }
    let child = command.spawn().map_err(|source| SpawnError::Execute { program: service.program, source })?;
    let _ = fs::write(format!("/proc/{}/oom_score_adj", child.id()), service.oom_score);
    Ok((child.id(), pipe))
}

/// Standard input from nothing, both outputs into one pipe; returns its other end.
fn logged(command: &mut Command) -> io::Result<OwnedFd> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    Ok(reader)
}

fn attach(command: &mut Command, name: &str, machine: bool) -> Result<(), SpawnError> {
    let path = Path::new("/dev").join(name);
    let failed = |source| SpawnError::Console { path: path.clone(), source };
    // Not blocking: a serial line whose settings wait for a modem must not stop PID 1.
    let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let terminal: File =
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path).map_err(failed)?;
    settings(&terminal, machine).map_err(failed)?;
    rustix::io::ioctl_fionbio(&terminal, false).map_err(|error| failed(error.into()))?;
    let both = |file: &File| file.try_clone().map_err(failed);
    command.stdin(both(&terminal)?).stdout(both(&terminal)?).stderr(terminal);
    Ok(())
}

/// Machines get every byte as it is; people get echo, line editing and newlines that return the carriage, whatever the
/// session before left behind.
fn settings(terminal: &File, machine: bool) -> io::Result<()> {
    use rustix::termios::{
        ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, tcgetattr, tcsetattr,
    };
    let mut modes = tcgetattr(terminal)?;
    modes.control_modes |= ControlModes::CLOCAL;
    // Terminals that are no serial lines have no speed.
    let _ = modes.set_speed(CONSOLE_BAUD);
    if machine {
        modes.make_raw();
    } else {
        modes.input_modes |= InputModes::ICRNL;
        modes.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
        modes.local_modes |=
            LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHOE | LocalModes::ISIG | LocalModes::IEXTEN;
    }
    Ok(tcsetattr(terminal, OptionalActions::Now, &modes)?)
}

/// Sends SIGTERM to the process group of a service.
pub fn terminate(pid: Option<u32>) {
    signal_group(pid, Signal::TERM);
}

/// Kills every process of a service.
pub fn kill(name: &str, pid: Option<u32>) {
    signal_group(pid, Signal::KILL);
    let _ = fs::write(group(name).join("cgroup.kill"), "1");
}

/// Whether no process of a service is left. Without control groups only the main process is known, and it has ended.
#[must_use]
pub fn is_empty(name: &str) -> bool {
    match fs::read_to_string(group(name).join("cgroup.events")) {
        Ok(text) => text.lines().any(|line| line == "populated 0"),
        Err(_) => true,
    }
}

fn signal_group(pid: Option<u32>, signal: Signal) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process_group(pid, signal);
    }
}

fn group(name: &str) -> PathBuf {
    Path::new(CGROUPS).join(name)
}
