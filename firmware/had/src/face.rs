//! The supervisor's side of `api`: listens on the socket, reads one request a line, answers one reply a line. Never acts by
//! itself: verbs go to the decisions as events, and what they refuse is told to the operator.

use crate::heartbeat::Input;
use crate::main_unit::Unit;
use crate::{leftovers, sync, upkeep, words};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use twinpost_api::{LINE_BYTES_MAX, Reply, Request, SOCKET};
use twinpost_ha::{Command, Event, Note};
use twinpost_mail::init_client;
use twinpost_types::{ConfiguredMode, EffectiveMode};

/// Most faces at once: consoles, harness, and some to spare. Others wait in the listen queue.
const FACES_MAX: usize = 16;
/// How long a refusal of the decisions may take; they answer within one turn of the heartbeat thread.
const REFUSAL_WAIT: Duration = Duration::from_millis(300);

/// Serves faces until the program ends.
///
/// # Errors
/// The socket cannot be made.
pub async fn serve(unit: Arc<Unit>) -> std::io::Result<()> {
    if let Some(folder) = Path::new(SOCKET).parent() {
        std::fs::create_dir_all(folder)?;
    }
    let _ = std::fs::remove_file(SOCKET);
    let listener = UnixListener::bind(SOCKET)?;
    std::fs::set_permissions(SOCKET, std::fs::Permissions::from_mode(0o600))?;
    let places = Arc::new(tokio::sync::Semaphore::new(FACES_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let unit = Arc::clone(&unit);
        tokio::spawn(async move {
            // A face that goes away in the middle of an answer needs no attention.
            let _ = talk(&unit, stream).await;
            drop(place);
        });
    }
}

async fn talk(unit: &Arc<Unit>, stream: UnixStream) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut reader = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let n = (&mut reader).take(limit).read_until(b'\n', &mut line).await?;
        if n == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => answer(unit, request).await,
            Err(error) => Reply::Refused { message: format!("not a request ({error}); nothing was changed") },
        };
        let mut text = serde_json::to_vec(&reply)?;
        text.push(b'\n');
        write.write_all(&text).await?;
    }
}

async fn answer(unit: &Arc<Unit>, request: Request) -> Reply {
    match request {
        Request::Status => Reply::Status(Box::new(unit.status().await)),
        Request::Events { after } => Reply::Events { events: unit.shared.events().after(after) },
        Request::Log { lines } => upkeep::log(lines).await,
        Request::Failover => verb(unit, Command::Failover).await,
        Request::Restore => verb(unit, Command::Restore).await,
        Request::Restart => verb(unit, Command::Restart).await,
        Request::ForcePrimary => verb(unit, Command::ForcePrimary).await,
        Request::Sync => sync::now(unit).await,
        Request::QueueList => leftovers::list(unit).await,
        Request::QueueReport => leftovers::report(unit).await,
        Request::QueueAdopt => leftovers::adopt(unit),
        Request::QueueDiscard { confirmed } => leftovers::discard(unit, confirmed),
        Request::Reboot => verb(unit, Command::Reboot).await,
        Request::Shutdown => verb(unit, Command::Shutdown).await,
        Request::SetClock { unix_s } => upkeep::set_clock(unit, unix_s).await,
        Request::Stress { kind, seconds } => upkeep::stress(&unit.shared, kind, seconds),
        Request::Kill { service, signal } => {
            unit.shared.event("operator", &format!("signal {signal} to {service}"));
            told(init_client::signal(&service, signal).await, format!("signal {signal} sent to {service}"))
        }
        Request::Service { service, start: true } => mail_service(unit, &service, true).await,
        Request::Service { service, start: false } => mail_service(unit, &service, false).await,
    }
}

/// Mail services run on the PRIMARY only: starting one elsewhere would serve what is not mounted.
async fn mail_service(unit: &Unit, service: &str, start: bool) -> Reply {
    let effective = unit.shared.view().ha.map_or(EffectiveMode::Off, |ha| ha.effective);
    if start && matches!(service, "postfix" | "dovecot") && effective != EffectiveMode::Primary {
        let message =
            format!("{service} runs on the PRIMARY only and this unit is {effective}; nothing was changed");
        return Reply::Refused { message };
    }
    let verb = if start { "start" } else { "stop" };
    unit.shared.event("operator", &format!("{verb} {service}"));
    let done = format!("{service}: {verb} done");
    match (start, service) {
        (true, _) => told(init_client::start(service).await, done),
        (false, "postfix") => told(unit.executor.mail.stop_postfix().await, done),
        (false, _) => told(init_client::stop(service).await, done),
    }
}

fn told<T, E: std::error::Error>(result: Result<T, E>, done: String) -> Reply {
    match result {
        Ok(_) => Reply::Accepted { message: done },
        Err(error) => Reply::Refused { message: crate::provision::chain(&error) },
    }
}

/// Passes a verb to the decisions and waits shortly for a refusal.
async fn verb(unit: &Unit, command: Command) -> Reply {
    unit.shared.event("operator", words::command_words(command));
    if unit.config.ha().mode == ConfiguredMode::Off || unit.shared.view().ha.is_none() {
        return without_ha(command).await;
    }
    let mut notes = unit.notes.subscribe();
    if !unit.inputs.send(Input::Event(Event::Operator(command))) {
        return Reply::Refused {
            message: "the supervisor is overloaded; nothing was changed, try again".to_string(),
        };
    }
    let refusal = async {
        loop {
            match notes.recv().await {
                Ok(Note::Refused { command: refused, why }) if refused == command => return words::stay(why),
                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(_) => std::future::pending().await,
            }
        }
    };
    match tokio::time::timeout(REFUSAL_WAIT, refusal).await {
        Ok(why) => Reply::Refused {
            message: format!("{} refused, nothing was changed: {why}", words::command_words(command)),
        },
        Err(_) => Reply::Accepted {
            message: format!("{}: under way; the event log tells the outcome", words::command_words(command)),
        },
    }
}

/// What remains of the verbs while HA is off.
async fn without_ha(command: Command) -> Reply {
    match command {
        Command::Reboot => told(init_client::reboot().await, "rebooting".to_string()),
        Command::Shutdown => told(init_client::poweroff().await, "switching off".to_string()),
        _ => Reply::Refused {
            message: format!(
                "{} refused, nothing was changed: {}",
                words::command_words(command),
                words::stay(twinpost_ha::Stay::HaOff)
            ),
        },
    }
}
