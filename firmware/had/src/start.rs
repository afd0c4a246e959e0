//! Makes a unit out of its configuration and starts its tasks, in the order in which they need each other. A part that is broken
//! becomes an alarm; the supervisor itself starts as long as it can answer the operator.

use crate::channel::{self, Inbox};
use crate::claims::Claims;
use crate::executor::Executor;
use crate::handover::HandOver;
use crate::heartbeat::{Heartbeat, Identity, Input, LinkSetup, Links, Neighbours, Output};
use crate::main_unit::Unit;
use crate::network::{endpoints, link_setup, service_setup, unit_id};
use crate::provision::{self, chain};
use crate::shared::Shared;
use crate::tunnel::Encryption;
use crate::{checks, control, face, host, minder, room, tasks};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use thiserror::Error;
use twinpost_alert::EventLog;
use twinpost_config::Config;
use twinpost_ha::{Event, Ha, Settings};
use twinpost_mail::{Mail, MailPaths};
use twinpost_net::lease::{LeaseKeeper, Pulse};
use twinpost_net::links::LinkWatch;
use twinpost_net::raw::UdpSink;
use twinpost_net::rt;
use twinpost_storage::drbd::Drbd;
use twinpost_storage::durable::{OpenError, Store};
use twinpost_storage::nfs::Export;
use twinpost_storage::volume::Place;
use twinpost_types::{
    BootId, ConfiguredMode, Epoch, LINKS, LinkId, UnitId, VOLUMES, Version, VolumeId, VolumeReport,
};
use twinpost_wire::{Keys, Session};

/// Bound of the queues to and from the heartbeat thread: far more than a takeover needs.
const QUEUE_BOUND: usize = 256;
/// Name of the group in the key derivation. One group a password: the password tells groups apart.
const GROUP: &str = "twinpost";
/// Durable record with the number of boots.
const BOOTS: &str = "boots";
/// Durable state.
const STATE: &str = "/state";
/// In memory, for a unit that has lost its durable state.
const STATE_SUBSTITUTE: &str = "/run/twinpost/no-state";
/// Keeps the boot number for restarts of the supervisor within one boot.
const BOOT_NOTE: &str = "/run/twinpost/boot";

/// Why the supervisor cannot start at all.
#[derive(Debug, Error)]
pub enum StartError {
    /// The kernel gives no event loop.
    #[error("no event loop")]
    Runtime(#[source] std::io::Error),
    /// The state partition is not usable.
    #[error(
        "the state partition /state is not usable; if it is full or damaged the console log of init says why"
    )]
    State(#[source] twinpost_storage::durable::OpenError),
    /// No queue.
    #[error("no queue to the heartbeat thread")]
    Queue(#[source] std::io::Error),
    /// No heartbeat thread.
    #[error("no heartbeat thread")]
    Thread(#[source] std::io::Error),
    /// No lease thread.
    #[error("no keeper of the virtual IPs")]
    Lease(#[source] twinpost_net::lease::LeaseError),
    /// The api socket cannot be made.
    #[error("the api socket cannot be made")]
    Face(#[source] std::io::Error),
}

/// Starts everything and stays.
///
/// # Errors
/// See [`StartError`].
pub fn supervise() -> Result<ExitCode, StartError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
    runtime.block_on(async {
        let (store, lost) = open_store(Path::new(STATE), Path::new(STATE_SUBSTITUTE))?;
        let store = Arc::new(store);
        let boot = boot_number(&store);
        let shared = Arc::new(Shared::new(EventLog::open(Path::new("/log"), boot)));
        shared.event("start", &format!("supervisor {} started, boot {boot}", env!("CARGO_PKG_VERSION")));
        let ports = host::ports();
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        let (config, revision) = match lost {
            None => configuration(&store, &ports, &shared),
            Some(error) => {
                shared.alarm("state-lost", &lost_sentence(&error));
                (Config::for_board(&ports), 0)
            }
        };
        host::names(&config, &shared);
        host::addresses(&config, &shared).await;
        unit(config, revision, store, shared).await
    })
}

/// The durable state; where it cannot be used a substitute in memory, with the reason, so that the operator is answered. A unit with a
/// substitute must stay OFF: an epoch that is forgotten could be used twice.
fn open_store(folder: &Path, substitute: &Path) -> Result<(Store, Option<OpenError>), StartError> {
    match Store::open(folder) {
        Ok(store) => Ok((store, None)),
        Err(error) => {
            // The store says so if the folder cannot be made.
            let _ = std::fs::create_dir_all(substitute);
            Ok((Store::open(substitute).map_err(StartError::State)?, Some(error)))
        }
    }
}

/// What the operator is told then.
fn lost_sentence(error: &OpenError) -> String {
    format!(
        "the state partition cannot be used ({}): this unit has no configuration and stays OFF, the other unit serves alone; check the \
         drive or replace it, then restart this unit with its provisioning disk",
        chain(error)
    )
}

/// Makes the unit and serves for ever.
async fn unit(
    config: Config,
    revision: u64,
    store: Arc<Store>,
    shared: Arc<Shared>,
) -> Result<ExitCode, StartError> {
    let board = board_in_force();
    let ha_on = config.ha().mode != ConfiguredMode::Off;
    let keys = if ha_on { derive(&config, &shared) } else { None };
    let secret = keys.as_ref().map(control::replication_secret);
    let places = places(&config);
    let local = places.each_ref().map(|place| *place != Place::Replicated);
    let left = places.each_ref().map(|place| matches!(place, Place::Server(_)));
    let drbd = Drbd::new(twinpost_storage::drbd::Settings { secret, local, left });
    let volumes = volumes(&drbd, ha_on, &shared).await;
    let mail = mail_servers(&config, &shared);
    let (inputs, inbox) = channel::bounded(QUEUE_BOUND).map_err(StartError::Queue)?;
    let (outbox, outputs) = channel::bounded(QUEUE_BOUND).map_err(StartError::Queue)?;
    let pulse = Arc::new(Pulse::new());
    let lease = LeaseKeeper::start(Arc::clone(&pulse)).map_err(StartError::Lease)?;
    let control = keys.as_ref().map(|keys| control::open(&config, keys, &shared));
    let own = unit_id(&config).0;
    let handover = HandOver::new(own, control.clone(), &mail, volumes.clone(), &places, Arc::clone(&shared));
    let executor = Executor {
        drbd: drbd.clone(),
        places,
        mail,
        store: Arc::clone(&store),
        claims: Claims::new(&config, &shared, lease).await,
        inputs: inputs.clone(),
        endpoints: LinkId::ALL.map(|link| endpoints(&config, link)),
        control,
        encryption: ha_on.then(|| Encryption::new(&config, &shared)),
        handover,
        shared: Arc::clone(&shared),
        syncer: Mutex::default(),
        mail_steps: tokio::sync::Mutex::default(),
        looking: tokio::sync::Mutex::default(),
    };
    let unit = Arc::new(Unit {
        revision,
        board: board.as_ref().map_or_else(|| "unknown".to_string(), |board| board.id.clone()),
        notes: tokio::sync::broadcast::channel(QUEUE_BOUND).0,
        volumes,
        fence_questions: Mutex::default(),
        mail: Mutex::default(),
        checks: checks::Board::new(&config),
        ready_us: 0.into(),
        config,
        shared,
        inputs,
        executor,
    });
    let _sink = if let Some(keys) = keys {
        let led = board.and_then(|board| board.led("status").map(str::to_string));
        tasks::start(&unit, outputs, led);
        let epoch = stored_epoch(&store, &unit.shared);
        let parts = HeartbeatParts { inbox, outbox, revision, pulse, epoch };
        start_control(&unit);
        Some(start_with_keys(&unit.config, &unit.shared, parts, keys)?)
    } else {
        None
    };
    tokio::spawn(minder::mind(Arc::clone(&unit)));
    tokio::spawn(minder::watch_mail(Arc::clone(&unit)));
    tokio::spawn(room::watch(Arc::clone(&unit)));
    tokio::spawn(Arc::clone(&unit.executor.handover).keep_empty());
    face::serve(unit).await.map_err(StartError::Face)?;
    Ok(ExitCode::SUCCESS)
}

/// Where the volumes lie.
fn places(config: &Config) -> [Place; VOLUMES] {
    let own = |synchronised| if synchronised { Place::Replicated } else { Place::Local };
    let data = match config.mail_export() {
        Some(export) => {
            Place::Server(Export { host: export.host, folder: export.folder.to_string(), port: export.port })
        }
        None => own(config.ha().mail_data_sync),
    };
    [own(config.ha().mailqueue_data_sync), data]
}

fn mail_servers(config: &Config, shared: &Shared) -> Arc<Mail> {
    let mail = Arc::new(Mail::new(MailPaths::default()));
    if let Err(error) = mail.prepare(&host::mail_settings(config)) {
        shared.alarm("mail-settings", &format!("the mail servers cannot be configured: {}", chain(&error)));
    }
    mail
}

/// Prepares the volumes and follows them as replication tells them; nothing while HA is off.
async fn volumes(
    drbd: &Drbd,
    ha_on: bool,
    shared: &Shared,
) -> tokio::sync::watch::Receiver<[VolumeReport; VOLUMES]> {
    if !ha_on {
        return tokio::sync::watch::channel(Default::default()).1;
    }
    prepare_volumes(drbd, shared).await;
    drbd.monitor()
}

/// The channel to the other unit, and what keeps replication's keys over it.
fn start_control(unit: &Unit) {
    if let Some(control) = &unit.executor.control {
        control::start(control, &unit.shared);
        unit.executor.encryption.iter().for_each(|encryption| encryption.start(control));
    }
}

/// The stored configuration or that of a provisioning disk; factory settings with an alarm otherwise.
fn configuration(store: &Store, ports: &[&str], shared: &Shared) -> (Config, u64) {
    match provision::load(store, ports) {
        Ok(found) => {
            if let Some(disk) = found.from_disk {
                shared.event(
                    "provisioned",
                    &format!("configuration taken from disk {disk} as revision {}", found.revision),
                );
            }
            (found.config, found.revision)
        }
        Err(error) => {
            shared.alarm("configuration", &chain(&error));
            (Config::for_board(ports), 0)
        }
    }
}

async fn prepare_volumes(drbd: &Drbd, shared: &Shared) {
    for volume in VolumeId::ALL {
        match drbd.prepare(volume).await {
            Ok(prepared) if prepared.created => {
                shared.event(
                    "volume-created",
                    &format!("new mail volume {} made on free space", volume.name()),
                );
            }
            Ok(_) => {}
            Err(error) => shared.alarm(
                &format!("volume-{}", volume.name()),
                &format!(
                    "mail volume {} is not usable, this unit cannot take over: {}",
                    volume.name(),
                    chain(&error)
                ),
            ),
        }
    }
}

/// What a heartbeat thread is made of, besides the configuration.
pub struct HeartbeatParts {
    /// From the executors.
    pub inbox: Inbox<Input>,
    /// To the executors.
    pub outbox: channel::Sender<Output>,
    /// Revision of the configuration.
    pub revision: u64,
    /// Proof of life for the lease of the virtual IPs.
    pub pulse: Arc<Pulse>,
    /// Highest epoch ever stored here.
    pub epoch: Epoch,
}

/// Starts the heartbeat thread of a unit with this configuration. Keep what it returns: a socket that keeps the kernel from
/// answering heartbeats.
///
/// # Errors
/// [`StartError::Thread`]; what is missing otherwise is an alarm, and there is no heartbeat.
pub fn start_heartbeat(
    config: &Config,
    shared: &Arc<Shared>,
    parts: HeartbeatParts,
) -> Result<Option<UdpSink>, StartError> {
    match derive(config, shared) {
        Some(keys) => start_with_keys(config, shared, parts, keys),
        None => Ok(None),
    }
}

fn start_with_keys(
    config: &Config,
    shared: &Arc<Shared>,
    parts: HeartbeatParts,
    keys: Keys,
) -> Result<Option<UdpSink>, StartError> {
    let Some((heartbeat, started, sink)) = assemble(config, shared, parts, keys) else { return Ok(None) };
    spawn(heartbeat, started, Arc::clone(shared))?;
    Ok(sink)
}

/// Everything that the heartbeat thread of a unit with this configuration owns, its first event, and a socket to be kept (see
/// [`start_heartbeat`]); `None` when something is missing, which is an alarm then.
pub fn assemble_heartbeat(
    config: &Config,
    shared: &Arc<Shared>,
    parts: HeartbeatParts,
) -> Option<(Heartbeat, Event, Option<UdpSink>)> {
    assemble(config, shared, parts, derive(config, shared)?)
}

fn assemble(
    config: &Config,
    shared: &Arc<Shared>,
    parts: HeartbeatParts,
    keys: Keys,
) -> Option<(Heartbeat, Event, Option<UdpSink>)> {
    let service = service_setup(config, shared);
    let own = service.address();
    let id = unit_id(config);
    let links = LinkId::ALL.map(|link| link_setup(config, link, shared));
    let settings = settings(config, id, &links);
    let watch = carriers(shared)?;
    let session = Session::new(keys, id, BootId(rt::random_u128()), rt::random_u64());
    let port = config.ha().base_port;
    // Without it the peer's kernel is told that nobody listens, which it ignores.
    let sink = UdpSink::open(port).ok();
    let identity = Identity {
        config_revision: parts.revision,
        config_checksum: twinpost_config::synchronised_checksum(config),
        firmware: firmware(),
        service: own,
    };
    let heartbeat = Heartbeat {
        ha: Ha::new(settings, rt::now()),
        links: Links::new(links, session, port, rt::random_u64()),
        neighbours: Neighbours::new(service),
        watch,
        identity,
        interval: config.hb_interval(),
        inbox: parts.inbox,
        outbox: parts.outbox,
        shared: Arc::clone(shared),
        pulse: parts.pulse,
    };
    Some((heartbeat, Event::Started { epoch: parts.epoch }, sink))
}

/// The highest epoch ever stored here.
fn stored_epoch(store: &Store, shared: &Shared) -> Epoch {
    let epoch = store.read_epoch().unwrap_or_else(|error| {
        shared
            .alarm("epoch", &format!("the stored epoch cannot be read, counting from 0: {}", chain(&error)));
        None
    });
    epoch.unwrap_or_default()
}

/// All keys come from this one. Derived before memory is locked: it needs 8 MiB once.
fn derive(config: &Config, shared: &Shared) -> Option<Keys> {
    let keys = Keys::derive(config.ha().password.expose(), GROUP);
    let keys = keys.map_err(|error| {
        shared.alarm("keys", &format!("no heartbeat: the key cannot be derived: {error:?}"))
    });
    keys.ok()
}

fn carriers(shared: &Shared) -> Option<LinkWatch> {
    let watch = LinkWatch::open();
    let watch = watch.map_err(|error| {
        shared.alarm("carrier", &format!("no heartbeat: carriers cannot be watched: {}", chain(&error)))
    });
    watch.ok()
}

fn spawn(heartbeat: Heartbeat, started: Event, shared: Arc<Shared>) -> Result<(), StartError> {
    let thread = move || {
        become_heartbeat(&shared);
        drop(shared);
        heartbeat.run(started);
    };
    std::thread::Builder::new()
        .name("heartbeat".to_string())
        .spawn(thread)
        .map(drop)
        .map_err(StartError::Thread)
}

/// Makes the calling thread the heartbeat thread: real-time priority, locked memory, a stack that is already there. What is
/// refused becomes an alarm.
fn become_heartbeat(shared: &Shared) {
    let realtime = rt::become_realtime(rt::Priority::Heartbeat).and_then(|()| rt::lock_memory());
    if let Err(error) = realtime {
        let text = format!(
            "the heartbeat runs without real-time priority and may be late under load: {}",
            chain(&error)
        );
        shared.alarm("realtime", &text);
    }
    rt::touch_stack();
}

fn settings(config: &Config, unit: UnitId, links: &[Option<LinkSetup>; LINKS]) -> Settings {
    let ha = config.ha();
    Settings {
        unit,
        mode: ha.mode,
        on_failure: ha.on_failure,
        reboot_action: ha.reboot_action,
        threshold: ha.threshold,
        interval: config.hb_interval(),
        fast_detect: ha.fast_detect,
        links: [0, 1].map(|i| links[i].is_some()),
        vips: config.vips().count(),
        third_party: config.gateway().is_some(),
        max_role_changes: ha.max_role_changes,
        remote_heartbeat: ha.services.as_heartbeat,
    }
}

fn firmware() -> Version {
    let part = |text: &str| text.parse().unwrap_or(0);
    Version {
        major: part(env!("CARGO_PKG_VERSION_MAJOR")),
        minor: part(env!("CARGO_PKG_VERSION_MINOR")),
        patch: part(env!("CARGO_PKG_VERSION_PATCH")),
    }
}

/// Counts boots, not starts of this program.
fn boot_number(store: &Store) -> u64 {
    if let Some(boot) = std::fs::read_to_string(BOOT_NOTE).ok().and_then(|text| text.trim().parse().ok()) {
        return boot;
    }
    let before = store.read(BOOTS).ok().flatten().and_then(|record| String::from_utf8(record.data).ok());
    let boot = before.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0).saturating_add(1);
    // A boot number that cannot be kept repeats; events are still told apart by their own numbers.
    let _ = store.write(BOOTS, boot.to_string().as_bytes());
    let _ =
        std::fs::create_dir_all("/run/twinpost").and_then(|()| std::fs::write(BOOT_NOTE, boot.to_string()));
    boot
}

/// The board that init chose.
fn board_in_force() -> Option<twinpost_board::Board> {
    let text = std::fs::read_to_string("/run/twinpost/board.toml").ok()?;
    twinpost_board::Board::parse(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_durable_state_there_is_a_substitute_and_a_reason() {
        let root = tempfile::tempdir().unwrap();
        let (good, substitute) = (root.path().join("state"), root.path().join("run/no-state"));
        std::fs::create_dir(&good).unwrap();
        assert!(open_store(&good, &substitute).unwrap().1.is_none());
        assert!(!substitute.exists(), "not made without need");
        let (store, lost) = open_store(&root.path().join("not-mounted"), &substitute).unwrap();
        store.write(BOOTS, b"1").unwrap();
        let told = lost_sentence(&lost.unwrap());
        assert!(
            told.contains("not-mounted") && told.contains("stays OFF") && told.contains("replace"),
            "{told}"
        );
    }
}
