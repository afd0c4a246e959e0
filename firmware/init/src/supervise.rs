//! Decides about services: start, restart with back-off and budget, stop with a deadline. Pure: `handle(now, event)`, then
//! drain `next_action()`, then `next_deadline()`. Processes, signals and clocks are `run.rs` and `spawn.rs`.
//!
//! ```text
//!            Executed                 Exited            Emptied, wanted
//! Starting ───────────▶ Running ───────────▶ Emptying ─────────────────▶ Waiting ──(time)──▶ Starting
//!    ▲                    │ Stop                ▲  │ Emptied, not wanted     │ budget gone
//!    │ Start              ▼        Exited       │  ▼                         ▼
//! Stopped ◀──────────  Stopping ────────────────┘ Stopped                  Failed ──(5 min)──▶ Starting
//! ```

use crate::service::{Service, Start};
use core::time::Duration;
use std::collections::VecDeque;

/// First wait before a restart.
pub const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait before a restart.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// A service that ran this long starts with the first wait again.
pub const STABLE: Duration = Duration::from_secs(10);
/// Wait after a normal exit, for instance of an operator's session.
pub const NORMAL_EXIT_WAIT: Duration = Duration::from_secs(1);
/// Restarts in [`BUDGET_WINDOW`] before a service counts as failed. The doubling wait allows nine in that time.
pub const BUDGET: usize = 8;
/// See [`BUDGET`].
pub const BUDGET_WINDOW: Duration = Duration::from_secs(60);
/// A failed service is tried again after this time.
pub const FAILED_WAIT: Duration = Duration::from_secs(300);
/// Most actions waiting: every service can have a few.
const ACTIONS_MAX: usize = 64;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody asks for a start.
    Start(usize),
    /// Somebody asks for a stop.
    Stop(usize),
    /// The program was executed.
    Executed(usize, u32),
    /// The program could not be executed.
    NotExecuted(usize),
    /// The main process ended; `true` = with status 0.
    Exited(usize, bool),
    /// No process of the service is left.
    Emptied(usize),
    /// A deadline may have passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Execute the program; answer with `Executed` or `NotExecuted`.
    Execute(usize),
    /// Ask all processes of the service to end.
    Terminate(usize),
    /// Kill all processes of the service; answer with `Emptied` when none is left.
    Kill(usize),
    /// Tell people: it ended without being asked.
    Ended(usize),
    /// Tell people: it keeps dying, the next try is far off.
    GaveUp(usize),
}

/// State of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not running and not wanted.
    Stopped,
    /// Being executed.
    Starting,
    /// Running since.
    Running(Duration),
    /// Told to end; killed at this time.
    Stopping(Duration),
    /// The main process ended, the rest is being killed.
    Emptying,
    /// Waits for a restart at this time.
    Waiting(Duration),
    /// Restart budget gone; tried again at this time.
    Failed(Duration),
}

impl State {
    /// Word on the socket.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running(_) => "running",
            Self::Stopping(_) | Self::Emptying => "stopping",
            Self::Waiting(_) => "waiting",
            Self::Failed(_) => "failed",
        }
    }
}

#[derive(Clone, Debug)]
struct Unit {
    state: State,
    wanted: bool,
    pid: Option<u32>,
    restarts: u64,
    back_off: Duration,
    /// When the last restarts were decided, at most [`BUDGET`].
    recent: VecDeque<Duration>,
    /// How the main process ended: normal, or how long it ran.
    normal_exit: bool,
    killed: bool,
}

/// All services of one table.
#[derive(Debug)]
pub struct Supervisor {
    table: &'static [Service],
    units: Vec<Unit>,
    actions: VecDeque<Action>,
    closing: bool,
}

impl Supervisor {
    /// All services stopped.
    #[must_use]
    pub fn new(table: &'static [Service]) -> Self {
        let unit = Unit {
            state: State::Stopped,
            wanted: false,
            pid: None,
            restarts: 0,
            back_off: BACK_OFF_MIN,
            recent: VecDeque::with_capacity(BUDGET),
            normal_exit: false,
            killed: false,
        };
        Self { table, units: vec![unit; table.len()], actions: VecDeque::new(), closing: false }
    }

    /// Takes one event. Events that make no sense in the state of the service are ignored.
    pub fn handle(&mut self, now: Duration, event: Event) {
        match event {
            Event::Start(index) => self.start(index),
            Event::Stop(index) => self.stop(now, index),
            Event::Executed(index, pid) => self.executed(now, index, pid),
            Event::NotExecuted(index) => self.not_executed(now, index),
            Event::Exited(index, normal) => self.exited(now, index, normal),
            Event::Emptied(index) => self.emptied(now, index),
            Event::Tick => self.tick(now),
        }
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When a `Tick` is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let deadline = |unit: &Unit| match unit.state {
            State::Waiting(at) | State::Failed(at) => Some(at),
            State::Stopping(at) if !unit.killed => Some(at),
            _ => None,
        };
        self.units.iter().filter_map(deadline).min()
    }

    /// State of a service; `Stopped` for one that does not exist.
    #[must_use]
    pub fn state(&self, index: usize) -> State {
        self.units.get(index).map_or(State::Stopped, |unit| unit.state)
    }

    /// Main process while there is one.
    #[must_use]
    pub fn pid(&self, index: usize) -> Option<u32> {
        self.units.get(index)?.pid
    }

    /// Index of the service with this main process.
    #[must_use]
    pub fn with_pid(&self, pid: u32) -> Option<usize> {
        self.units.iter().position(|unit| unit.pid == Some(pid))
    }

    /// `name state pid restarts`, pid 0 when there is none.
    #[must_use]
    pub fn line(&self, index: usize) -> String {
        let (Some(unit), Some(service)) = (self.units.get(index), self.table.get(index)) else {
            return String::new();
        };
        format!("{} {} {} {}", service.name, unit.state.name(), unit.pid.unwrap_or(0), unit.restarts)
    }

    /// From now on nothing is started; stops are still carried out.
    pub fn close(&mut self) {
        self.closing = true;
        for unit in &mut self.units {
            if matches!(unit.state, State::Waiting(_) | State::Failed(_)) {
                unit.state = State::Stopped;
            }
        }
    }

    fn act(&mut self, action: Action) {
        // Actions are drained after every event, so the queue stays short; a full one is a bug.
        assert!(self.actions.len() < ACTIONS_MAX, "actions are not drained");
        self.actions.push_back(action);
    }

    fn start(&mut self, index: usize) {
        let closing = self.closing;
        let Some(unit) = self.units.get_mut(index).filter(|_| !closing) else { return };
        unit.wanted = true;
        // A person or the supervisor asks: earlier deaths are forgiven.
        unit.back_off = BACK_OFF_MIN;
        unit.recent.clear();
        if matches!(unit.state, State::Stopped | State::Waiting(_) | State::Failed(_)) {
            unit.state = State::Starting;
            self.act(Action::Execute(index));
        }
    }

    fn stop(&mut self, now: Duration, index: usize) {
        let (Some(unit), Some(service)) = (self.units.get_mut(index), self.table.get(index)) else { return };
        unit.wanted = false;
        match unit.state {
            State::Running(_) => {
                unit.state = State::Stopping(now + service.stop_time);
                unit.killed = false;
                self.act(Action::Terminate(index));
            }
            State::Waiting(_) | State::Failed(_) => unit.state = State::Stopped,
            _ => {}
        }
    }

    fn executed(&mut self, now: Duration, index: usize, pid: u32) {
        let Some(unit) = self.units.get_mut(index).filter(|unit| unit.state == State::Starting) else {
            return;
        };
        unit.pid = Some(pid);
        unit.state = State::Running(now);
        if !unit.wanted {
            self.stop(now, index);
        }
    }

    fn not_executed(&mut self, now: Duration, index: usize) {
        let Some(unit) = self.units.get_mut(index).filter(|unit| unit.state == State::Starting) else {
            return;
        };
        unit.normal_exit = false;
        self.again(now, index);
    }

    fn exited(&mut self, now: Duration, index: usize, normal: bool) {
        let (Some(unit), Some(service)) = (self.units.get_mut(index), self.table.get(index)) else { return };
        match unit.state {
            State::Running(since) => {
                unit.normal_exit = normal && service.may_exit;
                if now.saturating_sub(since) >= STABLE {
                    unit.back_off = BACK_OFF_MIN;
                }
                if !unit.normal_exit {
                    self.act(Action::Ended(index));
                }
            }
            State::Stopping(_) => {}
            _ => return,
        }
        let unit = &mut self.units[index];
        unit.pid = None;
        unit.state = State::Emptying;
        self.act(Action::Kill(index));
    }

    fn emptied(&mut self, now: Duration, index: usize) {
        let Some(unit) = self.units.get_mut(index).filter(|unit| unit.state == State::Emptying) else {
            return;
        };
        if unit.wanted && !self.closing {
            self.again(now, index);
        } else {
            unit.state = State::Stopped;
        }
    }

    /// Decides when a wanted service is started again.
    fn again(&mut self, now: Duration, index: usize) {
        let closing = self.closing;
        let unit = &mut self.units[index];
        if closing || !unit.wanted {
            unit.state = State::Stopped;
            return;
        }
        unit.restarts = unit.restarts.saturating_add(1);
        if unit.normal_exit {
            unit.state = State::Waiting(now + NORMAL_EXIT_WAIT);
            return;
        }
        while unit.recent.front().is_some_and(|at| now.saturating_sub(*at) >= BUDGET_WINDOW) {
            unit.recent.pop_front();
        }
        if unit.recent.len() >= BUDGET {
            unit.recent.clear();
            unit.back_off = BACK_OFF_MIN;
            unit.state = State::Failed(now + FAILED_WAIT);
            self.act(Action::GaveUp(index));
            return;
        }
        unit.recent.push_back(now);
        unit.state = State::Waiting(now + unit.back_off);
        unit.back_off = (unit.back_off * 2).min(BACK_OFF_MAX);
    }

    fn tick(&mut self, now: Duration) {
        for index in 0..self.units.len() {
            let unit = &mut self.units[index];
            match unit.state {
                State::Waiting(at) | State::Failed(at) if now >= at => {
                    unit.state = State::Starting;
                    self.act(Action::Execute(index));
                }
                State::Stopping(at) if now >= at && !unit.killed => {
                    unit.killed = true;
                    self.act(Action::Kill(index));
                }
                _ => {}
            }
        }
    }
}

/// Services that start at boot.
pub fn at_boot(table: &[Service]) -> impl Iterator<Item = usize> + '_ {
    table.iter().enumerate().filter(|(_, service)| service.start == Start::Boot).map(|(index, _)| index)
}

#[cfg(test)]
#[path = "supervise_tests.rs"]
mod tests;
