//! One unit as the tasks of the supervisor share it. Only holds; see `start` for how it is made.

use crate::channel::Sender;
use crate::checks::Board;
use crate::executor::Executor;
use crate::heartbeat::Input;
use crate::shared::Shared;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use twinpost_api::Status;
use twinpost_config::Config;
use twinpost_ha::Note;
use twinpost_mail::MailHealth;
use twinpost_storage::fence::FenceQuestion;
use twinpost_types::{VOLUMES, VolumeReport};

/// The shared parts of a unit.
pub struct Unit {
    /// Settings in force.
    pub config: Config,
    /// Revision of the settings.
    pub revision: u64,
    /// Board id.
    pub board: String,
    /// View, alarms, events.
    pub shared: Arc<Shared>,
    /// To the heartbeat thread.
    pub inputs: Sender<Input>,
    /// Notes of the decisions, for verbs that wait for a refusal.
    pub notes: tokio::sync::broadcast::Sender<Note>,
    /// Volumes as DRBD tells them.
    pub volumes: tokio::sync::watch::Receiver<[VolumeReport; VOLUMES]>,
    /// Runs the steps.
    pub executor: Executor,
    /// Open fence questions.
    pub fence_questions: Mutex<Vec<FenceQuestion>>,
    /// Checks of this unit and of its peer.
    pub checks: Board,
    /// Last mail check and queue count.
    pub mail: Mutex<(MailHealth, u64)>,
    /// µs from kernel start until ready for service; 0 = not yet.
    pub ready_us: AtomicU64,
}

impl Unit {
    /// Status for faces.
    pub async fn status(&self) -> Status {
        let (mail, queued) = *self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        crate::status::collect(self, mail, queued).await
    }
}
