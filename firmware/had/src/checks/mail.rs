//! local-mail, the own mail service while PRIMARY: SMTP up to RCPT, a timed write to the queue volume, a queue that moves. When it fails,
//! Postfix is restarted once; only if that does not help the failure is told. A full volume is an alarm, not a failure: the peer
//! has the same volume. `spec/mail.md`, "Health checks that mean something".

use super::{Ended, remote};
use crate::main_unit::Unit;
use crate::provision::chain;
use crate::shared::now_us;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use twinpost_check::{Outcome, Protocol, QueueView, QueueWatch, Rules, Run, Subject};
use twinpost_config::{Config, Domain};
use twinpost_mail::{QueueLook, look};
use twinpost_types::{EffectiveMode, Instant};

/// SMTP (RFC 5321).
const SMTP: u16 = 25;
/// One step of a run: an overloaded host gets its time, a dead service is told at once anyway.
const STEP_LIMIT: Duration = Duration::from_secs(20);
/// Failures in a row before Postfix is restarted, and again before the failure is told.
const RETRIES: u8 = 3;

/// Not to be set by operators: it must work where nobody configured it. The limit holds two steps and a restart.
pub(super) const RULES: Rules =
    Rules { interval: Duration::from_secs(5), limit: Duration::from_secs(90), retries: RETRIES };

/// What a look at the volume found.
enum Volume {
    Well(QueueLook),
    Full,
    Bad(String),
}

/// When to restart Postfix and when to accuse the unit.
#[derive(Debug, Default)]
struct Patience {
    failures: u8,
    passes: u8,
    restarted: bool,
}

/// What follows from a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing is wrong.
    Well,
    /// So many failures in a row; not yet enough for a restart.
    Wait(u8),
    /// Restart Postfix, once until it was well for a while.
    Restart,
    /// A restart did not help: a failure of the unit.
    Accuse,
}

impl Patience {
    fn next(&mut self, failure: bool) -> Next {
        if !failure {
            self.failures = 0;
            self.passes = self.passes.saturating_add(1);
            self.restarted &= self.passes < RETRIES;
            return Next::Well;
        }
        (self.failures, self.passes) = (self.failures.saturating_add(1), 0);
        match (self.restarted, self.failures) {
            (true, _) => Next::Accuse,
            (false, n) if n < RETRIES => Next::Wait(n),
            (false, _) => {
                self.restarted = true;
                Next::Restart
            }
        }
    }
}

/// The own mail service.
pub(super) struct OwnMail {
    subject: Subject,
    queue: QueueWatch,
    patience: Patience,
    /// A look at the volume has not come back yet; at most one thread waits there.
    looking: Arc<AtomicBool>,
}

impl OwnMail {
    /// Asks with a recipient of this configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            subject: Subject::new(config.host_name().as_str(), &recipient(config)),
            queue: QueueWatch::default(),
            patience: Patience::default(),
            looking: Arc::default(),
        }
    }

    /// The unit is not PRIMARY any more.
    pub fn forget(&mut self) {
        self.patience = Patience::default();
        self.queue = QueueWatch::default();
    }

    /// One run. Failures count for the decisions only after a restart of Postfix.
    pub async fn run(&mut self, unit: &Unit) -> Ended {
        let (failure, words) = self.look(unit).await;
        match self.patience.next(failure) {
            Next::Well => Ended { run: Run::Passed, words },
            Next::Accuse => Ended { run: Run::Failed, words },
            Next::Wait(n) => {
                let words = format!("{words} ({n} of {RETRIES} failures before a restart)");
                Ended { run: Run::Passed, words }
            }
            Next::Restart => {
                let done = restart(unit, &words).await;
                Ended { run: Run::Passed, words: format!("{words}; {done}") }
            }
        }
    }

    /// Whether something is wrong, and what was found.
    async fn look(&mut self, unit: &Unit) -> (bool, String) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, SMTP));
        let talk = remote::talk(address, None, Protocol::SmtpOwn, self.subject.clone(), STEP_LIMIT);
        let smtp = talk.await;
        if smtp.outcome == Outcome::Failed {
            return (true, smtp.words.to_string());
        }
        let volume = self.look_at_volume(unit).await;
        let is_full = smtp.outcome == Outcome::Full || matches!(volume, Volume::Full);
        tell_room(unit, is_full);
        match volume {
            Volume::Bad(words) => (true, words),
            Volume::Full => (false, "the mail queue volume is full; not a failure of this unit".to_string()),
            Volume::Well(look) => {
                let view = QueueView {
                    incoming: look.incoming.as_deref(),
                    active: look.active,
                    active_mark: look.active_mark,
                };
                match self.queue.look(Instant(now_us()), view) {
                    Some(stands) => (
                        true,
                        format!("the queue has stood still for {} s with mail in it", stands.as_secs()),
                    ),
                    None => (false, smtp.words.to_string()),
                }
            }
        }
    }

    async fn look_at_volume(&self, unit: &Unit) -> Volume {
        if self.looking.swap(true, Ordering::AcqRel) {
            return Volume::Bad("the last write to the mail queue volume has not come back".to_string());
        }
        // The volume is not unmounted meanwhile.
        let _quiet = unit.executor.looking.lock().await;
        let (looking, watched) = (Arc::clone(&self.looking), self.queue.watched().to_string());
        let work = tokio::task::spawn_blocking(move || {
            let found = look::write_and_sync().and_then(|()| look::look(&watched));
            looking.store(false, Ordering::Release);
            found
        });
        match tokio::time::timeout(STEP_LIMIT, work).await {
            Ok(Ok(Ok(found))) => Volume::Well(found),
            Ok(Ok(Err(error))) if error.kind() == std::io::ErrorKind::StorageFull => Volume::Full,
            Ok(Ok(Err(error))) => Volume::Bad(format!("the mail queue volume refuses a write: {error}")),
            Ok(Err(error)) => Volume::Bad(format!("the look at the mail queue ended early: {error}")),
            Err(_) => Volume::Bad(format!(
                "a write to the mail queue volume did not end within {} s",
                STEP_LIMIT.as_secs()
            )),
        }
    }
}

/// Stops and starts Postfix, unless the role is about to change: then starting and stopping is the decisions' business.
async fn restart(unit: &Unit, why: &str) -> String {
    let _alone = unit.executor.mail_steps.lock().await;
    let stays = unit.shared.view().ha.is_some_and(|ha| ha.effective == EffectiveMode::Primary && !ha.busy);
    if !stays {
        return "not restarted, the role changes".to_string();
    }
    unit.shared.event("mail-restart", &format!("restarting Postfix: {why}"));
    match unit.executor.mail.restart().await {
        Ok(()) => "Postfix was restarted".to_string(),
        Err(error) => format!("Postfix was not restarted: {}", chain(&error)),
    }
}

fn tell_room(unit: &Unit, is_full: bool) {
    const KEY: &str = "mail-room";
    if is_full {
        unit.shared.alarm(
            KEY,
            "the mail queue volume is full: new mail is refused for now (452) and senders try again; see why mail does not leave \
             (next hop?), or delete what is not needed",
        );
    } else {
        unit.shared.clear(KEY);
    }
}

/// An address that this unit takes mail for; empty if it takes none.
fn recipient(config: &Config) -> String {
    let one = config.domains().iter().find_map(|(name, domain)| match domain {
        Domain::Relay { .. } => Some(format!("postmaster@{name}")),
        Domain::Local { users } => users.keys().next().map(|user| format!("{user}@{name}")),
    });
    one.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_comes_before_an_accusation_and_only_once() {
        let mut patience = Patience::default();
        let mut run = |failures: &[bool]| failures.iter().map(|f| patience.next(*f)).collect::<Vec<_>>();
        use Next::{Accuse, Restart, Wait, Well};
        assert_eq!(run(&[true, true, false, true]), [Wait(1), Wait(2), Well, Wait(1)]);
        assert_eq!(run(&[true, true, true, true]), [Wait(2), Restart, Accuse, Accuse]);
        assert_eq!(run(&[false, false, true]), [Well, Well, Accuse], "not well for long enough");
        assert_eq!(
            run(&[false, false, false, true, true, true]),
            [Well, Well, Well, Wait(1), Wait(2), Restart]
        );
    }

    #[test]
    fn the_recipient_is_one_that_is_accepted() {
        let config = |script: &str| twinpost_config::parse(script, &["port1"]).unwrap();
        assert_eq!(recipient(&config("")), "");
        let relay = "config domain\nedit example.test\nset relay-host 192.0.2.25\nnext\nend";
        assert_eq!(recipient(&config(relay)), "postmaster@example.test");
        let local = "config domain\nedit empty.test\nset type local\nnext\nedit local.test\nset type local\nconfig user\n\
                     edit alice\nset password x\nnext\nend\nnext\nend";
        assert_eq!(recipient(&config(local)), "alice@local.test");
    }
}
