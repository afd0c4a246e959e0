//! Volumes whose synchronisation is switched off (`mailqueue-data-sync`, `mail-data-sync`): what a unit stored waits on it alone. As
//! soon as this unit is SECONDARY of a PRIMARY that it can talk to, all of it is handed over and removed here. No part of the
//! decisions: nothing waits for it, and a unit that is about to serve ends it first. `spec/ha.md` section 8.

use super::{HandOver, HandOverError, Wire, lock, words};
use crate::provision::chain;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use twinpost_mail::handover::Layout;
use twinpost_mail::handover::message::Counts;
use twinpost_mail::handover::pass::{self, PassError, Source};
use twinpost_storage::stale::{Look, StaleCopies};
use twinpost_storage::volume;
use twinpost_types::{EffectiveMode, VOLUMES, VolumeId};

/// Between two looks whether there is something to hand over and somebody to take it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a hand-over that is told to stop may need: it drops its request and unmounts. A drive that hangs longer fails the mount.
const STOP_LIMIT: Duration = Duration::from_secs(8);

/// What is remembered of volumes that are not replicated.
pub(super) struct Local {
    volumes: [bool; VOLUMES],
    /// This unit serves or is about to.
    serving: AtomicBool,
    /// Nothing was stored since all was handed over.
    emptied: AtomicBool,
    stop: Arc<Notify>,
}

/// A hand-over that was told to stop goes on, so the volume cannot be mounted for service.
#[derive(Debug, thiserror::Error)]
#[error("a hand-over of this unit's own volumes did not end within {} s: its drive hangs", STOP_LIMIT.as_secs())]
pub struct StillPassing;

impl Local {
    /// None is mounted yet, or this unit serves with them already.
    pub(super) fn new(volumes: [bool; VOLUMES]) -> Self {
        let serving = VolumeId::ALL.into_iter().any(volume::is_mounted);
        Self { volumes, serving: serving.into(), emptied: AtomicBool::new(false), stop: Arc::default() }
    }

    /// Whether this volume is one of them.
    pub(super) fn is(&self, volume: VolumeId) -> bool {
        self.volumes[volume.index()]
    }

    /// How to look at these, and at the replicated ones.
    pub(super) fn looks(&self, local: Look, replicated: Look) -> [Look; VOLUMES] {
        self.volumes.map(|is_local| if is_local { local } else { replicated })
    }
}

impl HandOver {
    /// Whether some volume is not replicated.
    pub fn has_local(&self) -> bool {
        self.local.volumes.contains(&true)
    }

    /// Before the volumes are mounted for service: nobody else uses them any more.
    ///
    /// # Errors
    /// [`StillPassing`].
    pub async fn before_mount(&self) -> Result<(), StillPassing> {
        if !self.has_local() {
            return Ok(());
        }
        self.local.serving.store(true, Ordering::SeqCst);
        let ended = async {
            loop {
                lock(&self.run).progress.stop();
                self.local.stop.notify_waiters();
                match self.passing.try_lock() {
                    Ok(_) => return,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(STOP_LIMIT, ended).await.map_err(|_| StillPassing)
    }

    /// After the volumes were unmounted: what was stored meanwhile waits here.
    pub fn after_unmount(&self) {
        self.local.emptied.store(false, Ordering::SeqCst);
        self.local.serving.store(false, Ordering::SeqCst);
    }

    /// The operator asks for it.
    pub fn look_again(&self) {
        self.local.emptied.store(false, Ordering::SeqCst);
    }

    /// Hands over what volumes hold that are not replicated, whenever there is a PRIMARY. Runs for ever.
    pub async fn keep_empty(self: Arc<Self>) {
        let mut told = String::new();
        while self.has_local() {
            tokio::time::sleep(LOOK_EVERY).await;
            let ha = self.shared.view().ha;
            let follows = ha.is_some_and(|ha| {
                let primary = ha.peer.is_some_and(|peer| peer.effective == EffectiveMode::Primary);
                ha.effective == EffectiveMode::Secondary && primary
            });
            if !follows || self.local.emptied.load(Ordering::SeqCst) {
                continue;
            }
            match self.pass_local().await {
                Ok(counts) => {
                    told.clear();
                    self.local.emptied.store(!self.local.serving.load(Ordering::SeqCst), Ordering::SeqCst);
                    let text = format!(
                        "of volumes that are not synchronised, to the PRIMARY {}: {}",
                        self.complete(),
                        words(counts)
                    );
                    self.shared.event("handover-done", &text);
                }
                Err(HandOverError::Pass(PassError::Stopped)) => {}
                Err(error) => {
                    let text = chain(&error);
                    if text != told {
                        self.shared
                            .event("handover", &format!("of volumes that are not synchronised: {text}"));
                        told = text;
                    }
                }
            }
        }
    }

    async fn pass_local(&self) -> Result<Counts, HandOverError> {
        let control = self.control.clone().ok_or(HandOverError::NoChannel)?;
        let turn = Arc::clone(&self.passing).try_lock_owned().map_err(|_| HandOverError::Busy)?;
        let progress = self.begin();
        if self.local.serving.load(Ordering::SeqCst) {
            return Err(HandOverError::Pass(PassError::Stopped));
        }
        let looks = self.local.looks(Look::Itself, Look::Nothing);
        let open = move || -> Result<_, HandOverError> { Ok((StaleCopies::open(looks)?, turn)) };
        let (copies, turn) = tokio::task::spawn_blocking(open).await.map_err(HandOverError::Thread)??;
        let layout = Layout::at(&copies.root(VolumeId::Queue), &copies.root(VolumeId::Data));
        let wire = Wire(control);
        let runtime = tokio::runtime::Handle::current();
        let stop = Arc::clone(&self.local.stop);
        let work = move || {
            // A request to a PRIMARY that has just died must not hold up the takeover.
            let passed = runtime.block_on(async {
                tokio::select! {
                    passed = pass::pass(&layout, Source::Local, &wire, &progress) => passed,
                    () = stop.notified() => Err(PassError::Stopped),
                }
            });
            // Unmounts before another one may begin.
            drop(copies);
            drop(turn);
            passed
        };
        Ok(tokio::task::spawn_blocking(work).await.map_err(HandOverError::Thread)??)
    }
}
