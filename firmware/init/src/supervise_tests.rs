//! Tests of the restart policy: every transition of the drawing in `supervise.rs`, with a clock that is a number.

use super::*;
use crate::service::TABLE;

const HAD: usize = 0;
const CONSOLE: usize = 1;
const POSTFIX: usize = 3;

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn drain(supervisor: &mut Supervisor) -> Vec<Action> {
    std::iter::from_fn(|| supervisor.next_action()).collect()
}

fn running(index: usize) -> Supervisor {
    let mut s = Supervisor::new(TABLE);
    s.handle(ms(0), Event::Start(index));
    assert_eq!(drain(&mut s), [Action::Execute(index)]);
    s.handle(ms(1), Event::Executed(index, 77));
    s
}

/// The service dies at `now`; returns when it is started again, or `None` if it counts as failed.
fn die(s: &mut Supervisor, index: usize, now: Duration) -> Option<Duration> {
    s.handle(now, Event::Exited(index, false));
    assert!(drain(s).contains(&Action::Kill(index)));
    s.handle(now, Event::Emptied(index));
    drain(s);
    match s.state(index) {
        State::Waiting(at) => Some(at),
        State::Failed(at) => {
            assert_eq!(at, now + FAILED_WAIT);
            None
        }
        other => panic!("{other:?}"),
    }
}

fn revive(s: &mut Supervisor, index: usize, at: Duration) {
    assert_eq!(s.next_deadline(), Some(at));
    s.handle(at, Event::Tick);
    assert_eq!(drain(s), [Action::Execute(index)]);
    s.handle(at, Event::Executed(index, 78));
}

#[test]
fn waits_double_and_the_budget_ends_it() {
    let mut s = running(HAD);
    let (mut now, mut waits) = (ms(10), Vec::new());
    while let Some(at) = die(&mut s, HAD, now) {
        waits.push((at - now).as_millis());
        revive(&mut s, HAD, at);
        now = at;
        assert!(waits.len() <= BUDGET, "bounded");
    }
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800]);
    let again = s.next_deadline().expect("tried again");
    assert_eq!(again, now + FAILED_WAIT);
    revive(&mut s, HAD, again);
    assert!(matches!(s.state(HAD), State::Running(_)));
    assert_eq!(s.line(HAD), "had running 78 9");
}

#[test]
fn a_stable_service_starts_with_the_first_wait_again() {
    let mut s = running(HAD);
    let mut now = ms(0);
    for _ in 0..50 {
        now += STABLE + ms(1000);
        let at = die(&mut s, HAD, now).expect("one death in 11 s is within the budget");
        assert_eq!(at - now, BACK_OFF_MIN);
        revive(&mut s, HAD, at);
    }
}

#[test]
fn a_program_that_cannot_be_executed_backs_off_too() {
    let mut s = Supervisor::new(TABLE);
    s.handle(ms(0), Event::Start(HAD));
    drain(&mut s);
    s.handle(ms(0), Event::NotExecuted(HAD));
    assert_eq!(s.state(HAD), State::Waiting(BACK_OFF_MIN));
}

#[test]
fn leaving_the_console_is_no_failure() {
    let mut s = running(CONSOLE);
    let mut now = ms(0);
    for _ in 0..20 {
        now += ms(50);
        s.handle(now, Event::Exited(CONSOLE, true));
        s.handle(now, Event::Emptied(CONSOLE));
        assert_eq!(drain(&mut s), [Action::Kill(CONSOLE)], "nothing to report");
        now += NORMAL_EXIT_WAIT;
        revive(&mut s, CONSOLE, now);
    }
}

#[test]
fn stop_terminates_then_kills_and_is_done_when_empty() {
    let mut s = running(POSTFIX);
    s.handle(ms(100), Event::Stop(POSTFIX));
    assert_eq!(drain(&mut s), [Action::Terminate(POSTFIX)]);
    assert_eq!(s.next_deadline(), Some(ms(2100)));
    s.handle(ms(2099), Event::Tick);
    assert!(drain(&mut s).is_empty());
    s.handle(ms(2100), Event::Tick);
    assert_eq!(drain(&mut s), [Action::Kill(POSTFIX)]);
    assert_eq!(s.next_deadline(), None, "killed once");
    s.handle(ms(2110), Event::Exited(POSTFIX, false));
    assert_eq!(s.state(POSTFIX).name(), "stopping");
    s.handle(ms(2110), Event::Emptied(POSTFIX));
    assert_eq!(s.state(POSTFIX), State::Stopped);
}

#[test]
fn stop_then_start_runs_again_at_once_after_it_is_empty() {
    let mut s = running(POSTFIX);
    s.handle(ms(100), Event::Stop(POSTFIX));
    s.handle(ms(110), Event::Start(POSTFIX));
    s.handle(ms(120), Event::Exited(POSTFIX, true));
    s.handle(ms(120), Event::Emptied(POSTFIX));
    assert!(matches!(s.state(POSTFIX), State::Waiting(_)));
}

#[test]
fn stop_while_waiting_or_failed_is_done_at_once_and_closing_starts_nothing() {
    let mut s = running(HAD);
    die(&mut s, HAD, ms(5)).expect("waits");
    s.handle(ms(6), Event::Stop(HAD));
    assert_eq!(s.state(HAD), State::Stopped);
    s.close();
    s.handle(ms(7), Event::Start(HAD));
    assert!(drain(&mut s).is_empty());
}

#[test]
fn foreign_events_change_nothing() {
    let mut s = Supervisor::new(TABLE);
    for event in [
        Event::Exited(HAD, false),
        Event::Emptied(HAD),
        Event::Executed(HAD, 5),
        Event::NotExecuted(HAD),
        Event::Start(99),
        Event::Stop(99),
        Event::Exited(99, true),
        Event::Tick,
    ] {
        s.handle(ms(1), event);
    }
    assert!(drain(&mut s).is_empty());
    assert_eq!(s.line(HAD), "had stopped 0 0");
}
