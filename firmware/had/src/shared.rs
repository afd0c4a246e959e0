//! What the parts of the supervisor know in common: the heartbeat thread's view, alarms, the event log. Writers never wait:
//! the heartbeat thread uses `try_lock` and comes again with its next view. No decisions.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use twinpost_alert::EventLog;
use twinpost_api::EventRecord;
use twinpost_types::LINKS;

/// Folder in which other programs of the appliance leave alarms, one sentence a file.
const ALARM_FOLDER: &str = "/run/twinpost/alarms";
/// Most alarm files that are read, so that a runaway writer cannot fill a status view.
const ALARM_FILES_MAX: usize = 32;

/// What the heartbeat thread publishes after each turn.
#[derive(Clone, Copy, Default)]
pub struct View {
    /// The decisions' status; `None` while HA is off.
    pub ha: Option<twinpost_ha::Status>,
    /// Heartbeat links.
    pub links: [LinkView; LINKS],
    /// Own service port has carrier.
    pub service_carrier: bool,
    /// Virtual IPs are claimed.
    pub vips_held: bool,
    /// Datagram counters.
    pub counters: twinpost_wire::Counters,
    /// Worst lateness of the heartbeat thread, µs.
    pub lateness_us_max: u64,
    /// Last heartbeat of the peer, µs since boot; 0 = never.
    pub heard_us: u64,
    /// Messages that found the executors' queue full. Never more than 0 in a sound unit.
    pub overflows: u64,
}

/// One heartbeat link as the thread sees it.
#[derive(Clone, Copy, Default)]
pub struct LinkView {
    /// Carrier.
    pub carrier: bool,
    /// Heartbeats accepted.
    pub received: u64,
    /// Heartbeats missed.
    pub lost: u64,
}

/// Everything that is shared.
pub struct Shared {
    view: Mutex<View>,
    alarms: Mutex<BTreeMap<String, String>>,
    events: EventLog,
    /// µs since boot of the heartbeat thread's last turn: its proof of life for the address lease and for init.
    pub turn_us: std::sync::Arc<AtomicU64>,
}

impl Shared {
    /// Shares this event log.
    #[must_use]
    pub fn new(events: EventLog) -> Self {
        Self { view: Mutex::default(), alarms: Mutex::default(), events, turn_us: std::sync::Arc::default() }
    }

    /// Publishes a view unless somebody reads just now.
    pub fn publish(&self, view: &View) {
        if let Ok(mut slot) = self.view.try_lock() {
            *slot = *view;
        }
    }

    /// The last view.
    #[must_use]
    pub fn view(&self) -> View {
        *relock(&self.view)
    }

    /// Writes an event down.
    pub fn event(&self, name: &str, text: &str) -> EventRecord {
        self.events.append(name, text, now_us(), wall_ms())
    }

    /// The event log.
    #[must_use]
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// Puts an alarm into force; written down when it is new or changed.
    pub fn alarm(&self, key: &str, sentence: &str) {
        let before = relock(&self.alarms).insert(key.to_string(), sentence.to_string());
        if before.as_deref() != Some(sentence) {
            self.event("alarm", sentence);
        }
    }

    /// Takes an alarm back; written down when it was in force.
    pub fn clear(&self, key: &str) {
        if let Some(sentence) = relock(&self.alarms).remove(key) {
            self.event("alarm-cleared", &sentence);
        }
    }

    /// All alarms in force, also those of init.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        let mut all: Vec<String> = relock(&self.alarms).values().cloned().collect();
        if let Ok(folder) = std::fs::read_dir(ALARM_FOLDER) {
            let files = folder.flatten().take(ALARM_FILES_MAX);
            all.extend(
                files
                    .filter_map(|file| std::fs::read_to_string(file.path()).ok())
                    .map(|text| text.trim().to_string()),
            );
        }
        all.extend(self.events.trouble());
        all
    }
}

/// Microseconds since boot.
#[must_use]
pub fn now_us() -> u64 {
    twinpost_net::rt::now().0
}

/// The wall clock, for people only.
fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// A poisoned lock only means that a reader panicked; the value is whole.
fn relock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
