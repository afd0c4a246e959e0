//! The tasks between the heartbeat thread and the executors: outputs in, results back as events. They carry, they do not
//! decide.

use crate::channel::Inbox;
use crate::heartbeat::{Input, Output};
use crate::main_unit::Unit;
use crate::{checks, minder, words};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use twinpost_ha::{Event, FenceAnswer, Step};
use twinpost_net::greeting::{self, Greeting};
use twinpost_storage::fence::{self, FenceListener, HelperEvent};
use twinpost_types::EffectiveMode;

/// Steps that wait; the decisions ask for one at a time.
const STEPS_MAX: usize = 16;
/// How long the SMTP greeting on a virtual IP is waited for before it is claimed.
const GREETING_WAIT: Duration = Duration::from_secs(2);
/// SMTP (RFC 5321).
const SMTP: u16 = 25;

/// Starts all of them.
pub fn start(unit: &Arc<Unit>, outputs: Inbox<Output>, led: Option<String>) {
    let (steps, todo) = mpsc::channel(STEPS_MAX);
    tokio::spawn(take_outputs(Arc::clone(unit), outputs, steps, led));
    tokio::spawn(run_steps(Arc::clone(unit), todo));
    tokio::spawn(tell_volumes(Arc::clone(unit)));
    checks::start(unit);
    match fence::listen(std::path::Path::new(fence::FENCE_SOCKET)) {
        Ok(listener) => drop(tokio::spawn(take_fence_questions(Arc::clone(unit), listener))),
        Err(error) => {
            unit.shared.alarm("fence-socket", &format!("replication cannot ask about the peer: {error}"))
        }
    }
}

async fn take_outputs(
    unit: Arc<Unit>,
    outputs: Inbox<Output>,
    steps: mpsc::Sender<Step>,
    led: Option<String>,
) {
    let Ok(bell) = outputs.for_event_loop() else {
        return unit.shared.alarm("outputs", "the supervisor's event loop is broken; reboot this unit");
    };
    loop {
        if bell.readable().await.is_err() {
            return unit.shared.alarm("outputs", "the supervisor's event loop is broken; reboot this unit");
        }
        // Reading through the loop's own socket clears its readiness.
        while bell.try_read(&mut [0; 512]).is_ok_and(|n| n > 0) {}
        while let Some(output) = outputs.next() {
            match output {
                // Not behind the step that hangs, and is the reason for it.
                Output::Run(step @ Step::Reset) => drop(tokio::spawn(run_step(Arc::clone(&unit), step))),
                Output::Run(step) => {
                    if steps.try_send(step).is_err() {
                        let busy = Event::StepDone { step, result: Err(twinpost_ha::Fault::Refused) };
                        tell(&unit, Input::Event(busy));
                    }
                }
                Output::AnswerFence(answer) => answer_fence(&unit, answer),
                Output::Mode(mode) => {
                    minder::show(led.as_deref(), mode);
                    if mode == EffectiveMode::Secondary {
                        drop(tokio::spawn(warm(Arc::clone(&unit))));
                    }
                }
                Output::Note(note) => {
                    let (name, text) = words::note(&note);
                    unit.shared.event(name, &text);
                    // Nobody waits for a refusal most of the time.
                    let _ = unit.notes.send(note);
                }
                // No remote service is configured in this release: none answers.
                Output::AskRemote => drop(tokio::spawn(ask_remote(Arc::clone(&unit)))),
                Output::AskGreeting => drop(tokio::spawn(ask_greeting(Arc::clone(&unit)))),
            }
        }
    }
}

async fn run_steps(unit: Arc<Unit>, mut todo: mpsc::Receiver<Step>) {
    while let Some(step) = todo.recv().await {
        run_step(Arc::clone(&unit), step).await;
    }
}

async fn run_step(unit: Arc<Unit>, step: Step) {
    let result = unit.executor.run(step).await;
    tell(&unit, Input::Event(Event::StepDone { step, result }));
}

async fn tell_volumes(unit: Arc<Unit>) {
    let mut volumes = unit.volumes.clone();
    loop {
        let now = *volumes.borrow_and_update();
        tell(&unit, Input::Event(Event::Volumes(now)));
        if volumes.changed().await.is_err() {
            return unit.shared.alarm("volumes", "replication is no longer watched; reboot this unit");
        }
    }
}

/// Reads the mail servers into the page cache, so that a takeover does not wait for the disk.
async fn warm(unit: Arc<Unit>) {
    let mail = Arc::clone(&unit.executor.mail);
    let _ = tokio::task::spawn_blocking(move || mail.warm()).await;
}

async fn take_fence_questions(unit: Arc<Unit>, mut listener: FenceListener) {
    loop {
        let question = listener.next().await;
        match (&question.event, question.volume()) {
            (HelperEvent::FencePeer, Some(volume)) => {
                let mut open = unit.fence_questions.lock().unwrap_or_else(PoisonError::into_inner);
                open.push(question);
                drop(open);
                tell(&unit, Input::Event(Event::FenceAsked { volume }));
            }
            (event, _) => {
                if *event == HelperEvent::SplitBrain {
                    tell(&unit, Input::Event(Event::SplitBrain));
                }
                unit.shared.event("replication", &format!("{}: {event:?}", question.resource));
                question.answer(0);
            }
        }
    }
}

fn answer_fence(unit: &Unit, answer: FenceAnswer) {
    let code = match answer {
        FenceAnswer::PeerOutdated => 4,
        FenceAnswer::PeerDown => 5,
        FenceAnswer::PeerPrimary => 6,
        FenceAnswer::Undecided => 1,
    };
    let mut open = unit.fence_questions.lock().unwrap_or_else(PoisonError::into_inner);
    for question in open.drain(..) {
        question.answer(code);
    }
}

/// Whether a mail service greets on the first virtual IP, which another host holds.
async fn ask_greeting(unit: Arc<Unit>) {
    let Some(vip) = unit.config.vips().next() else { return };
    let address = SocketAddr::new(vip.address, SMTP);
    let greeting = greeting::greets(address, GREETING_WAIT).await;
    tell(&unit, Input::Greeting(greeting == Greeting::Ready));
}

/// Whether any service of the peer answers.
async fn ask_remote(unit: Arc<Unit>) {
    let answered = unit.checks.ask_remote().await;
    tell(&unit, Input::Event(Event::RemoteAnswered(answered)));
}

fn tell(unit: &Unit, input: Input) {
    if !unit.inputs.send(input) {
        unit.shared.alarm(
            "overload",
            "the heartbeat thread does not keep up; the watchdog resets this unit unless it recovers",
        );
    }
}
