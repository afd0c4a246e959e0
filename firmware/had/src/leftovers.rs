//! The operator's view of mail that a copy holds alone: `diagnose system ha queue list|report|adopt|discard`. Answers only; the work is
//! done by `handover.rs`.

use crate::main_unit::Unit;
use crate::provision::chain;
use std::sync::Arc;
use twinpost_api::{LEFTOVERS_MAX, Leftovers, Reply};
use twinpost_mail::handover::item::Item;
use twinpost_mail::handover::pass::Leftover;
use twinpost_mail::handover::{Layout, report};
use twinpost_types::EffectiveMode;

/// What there is.
pub async fn list(unit: &Unit) -> Reply {
    let (counts, taken) = unit.executor.handover.counts();
    let found = counts.queue_found + counts.mail_found;
    let mut answer = Leftovers {
        passing: (found, counts.queue_passed + counts.mail_passed),
        taken,
        ..Leftovers::default()
    };
    match unit.executor.handover.under_way().or_else(|| in_use(unit)) {
        Some(state) => answer.state = state,
        None => match unit.executor.handover.leftovers(LEFTOVERS_MAX).await {
            Ok(all) => {
                answer.found = u64::try_from(all.len()).unwrap_or(u64::MAX);
                answer.items = all.iter().take(LEFTOVERS_MAX).map(words).collect();
                answer.state = match answer.found {
                    0 => "nothing: this copy holds no message of its own".to_string(),
                    _ => "this copy holds messages that the PRIMARY may lack; they are passed when the control channel is up"
                        .to_string(),
                };
            }
            Err(error) => answer.state = chain(&error),
        },
    }
    Reply::Queue(Box::new(answer))
}

/// What became of the mail since this unit took the role.
pub async fn report(unit: &Unit) -> Reply {
    let effective = unit.shared.view().ha.map_or(EffectiveMode::Off, |ha| ha.effective);
    if effective != EffectiveMode::Primary {
        let message = format!("this unit is {effective}: the PRIMARY has the report; nothing was changed");
        return Reply::Refused { message };
    }
    let read = tokio::task::spawn_blocking(|| report::now(&Layout::default())).await;
    match read.map_err(std::io::Error::other).and_then(|read| read) {
        Ok(Some(report)) => Reply::Report(Box::new(report)),
        Ok(None) => Reply::Refused { message: "no takeover was recorded on this queue".to_string() },
        Err(error) => Reply::Refused { message: format!("the queue cannot be read: {error}") },
    }
}

/// Passes now, whatever the decisions wait for.
pub fn adopt(unit: &Arc<Unit>) -> Reply {
    if let Some(why) = in_use(unit) {
        return Reply::Refused { message: format!("{why}; nothing was changed") };
    }
    unit.shared.event("operator", "queue adopt");
    if unit.executor.handover.has_local() {
        unit.executor.handover.look_again();
    }
    if is_replicated(unit) {
        return Reply::Accepted {
            message: "what is not synchronised is passed to the PRIMARY within seconds".to_string(),
        };
    }
    let unit = Arc::clone(unit);
    tokio::spawn(async move {
        if let Err(error) = unit.executor.handover.pass().await {
            unit.shared.event("handover", &format!("not complete: {}", chain(&error)));
        }
    });
    Reply::Accepted {
        message: "the PRIMARY is given what it lacks; the event log tells the outcome".to_string(),
    }
}

/// Gives up, after a confirmation.
pub fn discard(unit: &Unit, confirmed: bool) -> Reply {
    if let Some(why) = in_use(unit) {
        return Reply::Refused { message: format!("{why}; nothing was changed") };
    }
    if unit.executor.handover.has_local() && is_replicated(unit) {
        let message = "what is not synchronised is handed over as soon as there is a PRIMARY, and cannot be discarded; nothing was changed";
        return Reply::Refused { message: message.to_string() };
    }
    if !confirmed {
        let message = "messages that only this unit's copy holds would be lost: see them with 'diagnose system ha queue list', then \
                       repeat with the word confirm; nothing was changed";
        return Reply::Refused { message: message.to_string() };
    }
    unit.shared.event("operator", "queue discard confirm");
    unit.executor.handover.discard();
    let message = "this copy's own messages are given up with the next connection to the PRIMARY".to_string();
    Reply::Accepted { message }
}

/// Why the copy cannot be looked at now.
fn in_use(unit: &Unit) -> Option<String> {
    let effective = unit.shared.view().ha.map_or(EffectiveMode::Off, |ha| ha.effective);
    let volumes = *unit.volumes.borrow();
    if effective == EffectiveMode::Primary || volumes.iter().any(|volume| volume.promoted) {
        return Some("this unit's copy is in service, nothing is left over on it".to_string());
    }
    if is_replicated(unit) && !unit.executor.handover.has_local() {
        return Some("this unit's copy is being replicated, nothing is left over on it".to_string());
    }
    None
}

fn is_replicated(unit: &Unit) -> bool {
    unit.volumes.borrow().iter().any(|volume| volume.replication.is_connected())
}

fn words(one: &Leftover) -> String {
    match (&one.item, &one.envelope) {
        (Item::Queue { folder, id }, Some(envelope)) => {
            let open = envelope.recipients.iter().filter(|recipient| !recipient.done).count();
            let to = envelope.recipients.first().map_or("nobody", |recipient| &recipient.address);
            let sender = &envelope.sender;
            format!(
                "queue {} {id} from <{sender}> to <{to}>, {open} recipients open, arrived {}",
                folder.name(),
                envelope.arrived
            )
        }
        (Item::Queue { folder, id }, None) => format!("queue {} {id}", folder.name()),
        (Item::Mail { domain, user, folder, unique, .. }, _) => {
            format!("mailbox {user}@{domain} {folder} {unique}")
        }
    }
}
