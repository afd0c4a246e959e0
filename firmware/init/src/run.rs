//! The executor of PID 1 once the boot is done: one thread, one `poll`.
//!
//! ```text
//! signalfd ── SIGCHLD ─ reap ─┐                        ┌─ spawn (execute, terminate, kill)
//! /run/init.sock ─ requests ──┼─▶ supervise.handle() ──┤
//! deadlines ──────────────────┘                        └─ console, alarms
//! pipes of services ─▶ output        proofs of life ─▶ petting ─▶ watchdog
//! ```
//!
//! Decisions about services are `supervise.rs`, about the watchdog `petting.rs`, the end is `shutdown.rs`.

use crate::cmdline::Slot;
use crate::console::{chain, now, say};
use crate::control::{self, Request};
use crate::output::{Lines, Output};
use crate::petting::{self, Petting};
use crate::service::{SERVICES_MAX, TABLE};
use crate::shutdown::{self, Kind};
use crate::socket::{self, CONNECTIONS_MAX, Connection, Read};
use crate::spawn::{self, Terminals};
use crate::supervise::{self, Action, Event, State, Supervisor};
use crate::{alarm, bootstate, partition};
use core::time::Duration;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use twinpost_hal::Watchdog;
use twinpost_hal_linux::DeviceWatchdog;

/// Longest sleep: the loop looks around at least this often.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// While processes are being killed the group is looked at this often, besides every SIGCHLD.
const EMPTY_LOOK: Duration = Duration::from_millis(10);
/// Most bytes read from one pipe in one turn, so that a chatty service does not starve the rest.
const PIPE_BYTES: usize = 4096;
/// A stop that is not done so long after its kill is answered with an error: a process hangs in the kernel.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// What the boot hands over.
#[derive(Debug)]
pub struct Booted {
    /// Terminals of the board.
    pub terminals: Terminals,
    /// Watchdog, armed.
    pub watchdog: Option<DeviceWatchdog>,
    /// Whether `/log` is mounted.
    pub durable_log: bool,
    /// Slot that was booted.
    pub slot: Option<Slot>,
}

struct Pipe {
    service: usize,
    end: OwnedFd,
    lines: Lines,
}

struct Pending {
    connection: Connection,
    request: Request,
    until: Duration,
}

/// PID 1 at work.
pub struct Runner {
    terminals: Terminals,
    watchdog: Option<DeviceWatchdog>,
    slot: Option<Slot>,
    supervisor: Supervisor,
    /// Last main process of each service: the name of its process group.
    groups: [Option<u32>; SERVICES_MAX],
    /// How the last main process of each service ended.
    how: [String; SERVICES_MAX],
    petting: Petting,
    output: Output,
    signals: SignalFd,
    listener: Option<UnixListener>,
    connections: Vec<Connection>,
    pending: Vec<Pending>,
    pipes: Vec<Pipe>,
    marked_good: bool,
    end: Option<(Kind, shutdown::Progress)>,
}

/// Nice value of PID 1: the highest there is.
const PRIORITY: i32 = -20;

impl Runner {
    /// Signals, socket, log writer; then the services that start at boot.
    ///
    /// # Errors
    /// When signals cannot be received: nothing could be supervised.
    pub fn start(booted: Booted) -> nix::Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR, Signal::SIGUSR2] {
            mask.add(signal);
        }
        // Before any thread, so that all of them have it blocked.
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let _ = rustix::system::reboot(rustix::system::RebootCommand::CadOff);
        // The watchdog is petted from here: a box full of work is no dead box. Services get their own value.
        let _ = rustix::process::setpriority_process(None, PRIORITY);
        let listener = socket::listen().map_err(|error| {
            alarm::raise(
                "init-socket",
                &format!("services cannot be controlled ({error}): restart the unit"),
            );
        });
        let mut runner = Self {
            terminals: booted.terminals,
            watchdog: booted.watchdog,
            slot: booted.slot,
            supervisor: Supervisor::new(TABLE),
            groups: [None; SERVICES_MAX],
            how: [const { String::new() }; SERVICES_MAX],
            petting: Petting::new(now()),
            output: Output::start(booted.durable_log),
            signals,
            listener: listener.ok(),
            connections: Vec::with_capacity(CONNECTIONS_MAX),
            pending: Vec::with_capacity(CONNECTIONS_MAX),
            pipes: Vec::with_capacity(2 * SERVICES_MAX),
            marked_good: false,
            end: None,
        };
        if let Some(watchdog) = &mut runner.watchdog
            && let Err(error) = watchdog.arm(petting::TIMEOUT)
        {
            say(&format!("watchdog: {}", chain(&error)));
        }
        for index in supervise::at_boot(TABLE) {
            if runner.terminals.offer(TABLE[index].terminal) {
                runner.handle(Event::Start(index));
            }
        }
        Ok(runner)
    }

    /// One turn: sleep until something happens, then handle all of it.
    pub fn turn(&mut self) {
        self.wait();
        self.take_signals();
        // Before the dead are counted, so that their last words stand above the line about their end.
        self.read_pipes();
        self.reap();
        self.accept();
        self.read_requests();
        self.handle(Event::Tick);
        self.look_for_empty();
        self.answer_pending();
        self.pet();
        self.advance_shutdown();
    }

    fn wait(&self) {
        let now = now();
        let mut wake = now + SLEEP_MAX;
        wake = self.supervisor.next_deadline().map_or(wake, |at| wake.min(at));
        if self.watchdog.is_some() {
            wake = wake.min(self.petting.next_deadline(now));
        }
        if self.emptying().next().is_some() || self.end.is_some() {
            wake = wake.min(now + EMPTY_LOOK);
        }
        let time = wake.saturating_sub(now);
        let time = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if let Some(listener) = self.listener.as_ref().filter(|_| self.connections.len() < CONNECTIONS_MAX) {
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        fds.extend(self.connections.iter().map(|connection| PollFd::new(connection, PollFlags::IN)));
        fds.extend(self.pipes.iter().map(|pipe| PollFd::new(&pipe.end, PollFlags::IN)));
        // An interrupted or failed poll is a short turn, nothing worse.
        let _ = poll(&mut fds, Some(&time));
    }

    fn handle(&mut self, event: Event) {
        self.supervisor.handle(now(), event);
        while let Some(action) = self.supervisor.next_action() {
            match action {
                Action::Execute(index) => self.execute(index),
                Action::Terminate(index) => spawn::terminate(self.supervisor.pid(index)),
                Action::Kill(index) => spawn::kill(TABLE[index].name, self.groups[index]),
                Action::Ended(index) => {
                    let how = core::mem::take(&mut self.how[index]);
                    self.report(index, &format!("ended: {how}"));
                }
                Action::GaveUp(index) => {
                    let name = TABLE[index].name;
                    let advice = "keeps dying and is tried again in 5 min: read the service log, then restart the unit";
                    alarm::raise(&format!("service-{name}"), &format!("{name} {advice}"));
                    self.output.line(now(), "init", &format!("{name} {advice}"));
                }
            }
        }
    }

    fn report(&mut self, index: usize, what: &str) {
        let name = TABLE[index].name;
        say(&format!("{name} {what}"));
        self.output.line(now(), "init", &format!("{name} {what}"));
    }

    fn execute(&mut self, index: usize) {
        match spawn::execute(&TABLE[index], &self.terminals) {
            Ok((pid, pipe)) => {
                self.groups[index] = Some(pid);
                alarm::clear(&format!("service-{}", TABLE[index].name));
                if let Some(end) = pipe {
                    // A process that outlived its service may still hold an older pipe; it is not worth a place.
                    self.pipes.retain(|pipe| pipe.service != index);
                    self.pipes.push(Pipe { service: index, end, lines: Lines::default() });
                }
                self.supervisor.handle(now(), Event::Executed(index, pid));
            }
            Err(error) => {
                self.report(index, &format!("does not start: {}", chain(&error)));
                self.supervisor.handle(now(), Event::NotExecuted(index));
                self.refuse_start(index, &chain(&error));
            }
        }
    }

    fn refuse_start(&mut self, index: usize, reason: &str) {
        for pending in self.pending.extract_if(.., |pending| pending.request == Request::Start(index)) {
            pending.connection.answer(&format!("error {reason}"));
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo).unwrap_or(0) {
                libc::SIGINT | libc::SIGTERM => self.begin_shutdown(Kind::Reboot),
                libc::SIGPWR | libc::SIGUSR2 => self.begin_shutdown(Kind::PowerOff),
                _ => {}
            }
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or(0);
            if let Some(index) = self.supervisor.with_pid(pid) {
                let how = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => format!("exit status {code}"),
                    (_, Some(signal)) => format!("signal {signal}"),
                    _ => continue,
                };
                self.how[index] = how;
                self.handle(Event::Exited(index, status.exit_status() == Some(0)));
            }
        }
    }

    fn read_pipes(&mut self) {
        let Self { pipes, output, .. } = self;
        pipes.retain_mut(|pipe| {
            let mut bytes = [0; PIPE_BYTES];
            let name = TABLE[pipe.service].name;
            match rustix::io::read(&pipe.end, &mut bytes) {
                Ok(0) => {
                    pipe.lines.finish(|line| output.line(now(), name, line));
                    false
                }
                Ok(count) => {
                    pipe.lines.feed(&bytes[..count], |line| output.line(now(), name, line));
                    true
                }
                Err(_) => true,
            }
        });
    }

    fn accept(&mut self) {
        while self.connections.len() + self.pending.len() < CONNECTIONS_MAX {
            match self.listener.as_ref().and_then(|listener| socket::accept(listener, now())) {
                Some(connection) => self.connections.push(connection),
                None => return,
            }
        }
    }

    fn read_requests(&mut self) {
        let now = now();
        let mut index = 0;
        while index < self.connections.len() {
            match self.connections[index].read() {
                Read::More if !self.connections[index].late(now) => index += 1,
                Read::More | Read::Closed => drop(self.connections.swap_remove(index)),
                Read::Line(line) => {
                    let connection = self.connections.swap_remove(index);
                    match control::parse(&line) {
                        Ok(request) => self.serve(connection, request),
                        Err(reason) => connection.answer(&format!("error {reason}")),
                    }
                }
            }
        }
    }

    fn serve(&mut self, connection: Connection, request: Request) {
        match request {
            Request::Start(index) | Request::Stop(index) => {
                if !self.terminals.offer(TABLE[index].terminal) {
                    return connection.answer("error this board has no such console");
                }
                let starts = matches!(request, Request::Start(_));
                if starts && self.end.is_some() {
                    return connection.answer("error shutting down");
                }
                self.pending.push(Pending { connection, request, until: now() + STOP_TIME_MAX });
                self.handle(if starts { Event::Start(index) } else { Event::Stop(index) });
            }
            Request::Signal(index, number) => connection.answer(&self.signal(index, number)),
            Request::Status => {
                let lines: Vec<String> = (0..TABLE.len()).map(|index| self.supervisor.line(index)).collect();
                connection.answer(&format!("{}\nok", lines.join("\n")));
            }
            Request::Alive => {
                if self.petting.alive(now()) {
                    say(&format!("supervisor is alive at {:.2} s", now().as_secs_f64()));
                }
                connection.answer("ok");
            }
            Request::Good => {
                let answer = self.mark_good();
                connection.answer(&answer);
            }
            Request::Reboot => {
                connection.answer("ok");
                self.begin_shutdown(Kind::Reboot);
            }
            Request::PowerOff => {
                connection.answer("ok");
                self.begin_shutdown(Kind::PowerOff);
            }
        }
    }

    fn signal(&self, index: usize, number: i32) -> String {
        let pid = self.supervisor.pid(index).and_then(|pid| i32::try_from(pid).ok());
        let Some(pid) = pid else { return format!("error {} is not running", TABLE[index].name) };
        match nix::sys::signal::Signal::try_from(number)
            .and_then(|signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal))
        {
            Ok(()) => "ok".into(),
            Err(error) => format!("error {error}"),
        }
    }

    fn mark_good(&mut self) -> String {
        if self.marked_good {
            return "ok already".into();
        }
        let Some(slot) = self.slot else { return "error the boot loader named no slot".into() };
        match bootstate::mark_good(&Path::new(partition::BY_LABEL).join("bootstate"), slot) {
            Ok(generation) => {
                self.marked_good = true;
                say(&format!("slot {} is good, generation {generation}", slot.letter()));
                format!("ok generation {generation}")
            }
            Err(error) => {
                say(&chain(&error));
                format!("error {}", chain(&error))
            }
        }
    }

    fn emptying(&self) -> impl Iterator<Item = usize> + '_ {
        (0..TABLE.len()).filter(|index| self.supervisor.state(*index) == State::Emptying)
    }

    fn look_for_empty(&mut self) {
        let empty: Vec<usize> = self.emptying().filter(|index| spawn::is_empty(TABLE[*index].name)).collect();
        for index in empty {
            self.handle(Event::Emptied(index));
        }
    }

    fn answer_pending(&mut self) {
        let now = now();
        let Self { pending, supervisor, .. } = self;
        let answer = |pending: &Pending| match pending.request {
            Request::Start(index) if matches!(supervisor.state(index), State::Running(_)) => Some("ok"),
            Request::Stop(index) if supervisor.state(index) == State::Stopped => Some("ok"),
            _ if now >= pending.until => Some("error not done in time, a process hangs"),
            _ => None,
        };
        for done in pending.extract_if(.., |pending| answer(pending).is_some()) {
            let text = answer(&done).unwrap_or("ok");
            done.connection.answer(text);
        }
    }

    fn pet(&mut self) {
        if let Some(watchdog) = &mut self.watchdog
            && self.petting.due(now())
            && let Err(error) = watchdog.pet()
        {
            say(&format!("watchdog: {}", chain(&error)));
        }
    }

    fn begin_shutdown(&mut self, kind: Kind) {
        if self.end.is_some() {
            return;
        }
        say(&format!("{} at {:.2} s", kind.name(), now().as_secs_f64()));
        let progress = shutdown::Progress::new(now());
        self.petting.shutting_down(progress.deadline());
        self.supervisor.close();
        self.end = Some((kind, progress));
    }

    fn advance_shutdown(&mut self) {
        let Some((kind, mut progress)) = self.end else { return };
        let supervisor = &self.supervisor;
        let step = progress.next(now(), |index| supervisor.state(index) == State::Stopped);
        self.end = Some((kind, progress));
        match step {
            shutdown::Step::Stop(index) => {
                self.handle(Event::Stop(index));
                self.advance_shutdown();
            }
            shutdown::Step::Wait => {}
            shutdown::Step::Finish => {
                say(&format!("services stopped at {:.2} s", now().as_secs_f64()));
                self.output.close();
                shutdown::finish(kind, self.watchdog.as_mut());
            }
        }
    }
}

/// Whether this process number is PID 1.
#[must_use]
pub fn is_first() -> bool {
    rustix::process::getpid() == Pid::INIT
}
