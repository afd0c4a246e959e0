//! Volumes whose synchronisation is switched off (`mailqueue-data-sync`, `mail-data-sync`): what a unit stored waits on it alone. As
//! soon as this unit is SECONDARY of a PRIMARY that it can talk to, all of it is handed over and removed here. So is what was left on its
//! partition of a volume that lies on a server now; of that a PRIMARY takes in its own as well. No part of the decisions: nothing waits
//! for it, and a unit that is about to serve ends it first. `spec/ha.md` section 8.

use super::{HandOver, HandOverError, Wire, lock, words};
use crate::provision::chain;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use twinpost_mail::handover::message::Counts;
use twinpost_mail::handover::pass::{self, PassError, Source};
use twinpost_mail::handover::server::Server;
use twinpost_mail::handover::{Channel, ChannelError, Layout};
use twinpost_storage::stale::{Look, StaleCopies};
use twinpost_storage::volume::{self, Place};
use twinpost_types::{EffectiveMode, VOLUMES, VolumeId};

/// Between two looks whether there is something to hand over and somebody to take it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a hand-over that is told to stop may need: it drops its request and unmounts. A drive that hangs longer fails the mount.
const STOP_LIMIT: Duration = Duration::from_secs(8);

/// What is remembered of volumes that are not replicated.
pub(super) struct Local {
    volumes: [bool; VOLUMES],
    /// Those of them that lie on a server: what their partition holds was left there.
    left: [bool; VOLUMES],
    /// This unit, as PRIMARY, takes in what is left on its own partition.
    taking_in: AtomicBool,
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
    pub(super) fn new(places: &[Place; VOLUMES]) -> Self {
        let serving = VolumeId::ALL.into_iter().any(volume::is_mounted);
        Self {
            volumes: places.each_ref().map(|place| *place != Place::Replicated),
            left: places.each_ref().map(|place| matches!(place, Place::Server(_))),
            taking_in: AtomicBool::new(false),
            serving: serving.into(),
            emptied: AtomicBool::new(false),
            stop: Arc::default(),
        }
    }

    /// Whether this unit takes in its own.
    pub(super) fn takes_in(&self) -> bool {
        self.taking_in.load(Ordering::SeqCst)
    }

    /// Whether this volume is one of them.
    pub(super) fn is(&self, volume: VolumeId) -> bool {
        self.volumes[volume.index()]
    }

    /// How to look at these, and at the replicated ones.
    pub(super) fn looks(&self, local: Look, replicated: Look) -> [Look; VOLUMES] {
        VolumeId::ALL.map(|volume| match (self.volumes[volume.index()], self.left[volume.index()]) {
            (false, _) => replicated,
            (true, true) if local == Look::Itself => Look::Left,
            (true, _) => local,
        })
    }

    /// What a PRIMARY looks at: only what it does not serve with.
    fn own_looks(&self) -> [Look; VOLUMES] {
        self.left.map(|left| if left { Look::Left } else { Look::Nothing })
    }
}

/// Who takes what this unit's own volumes hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taker {
    /// The other unit.
    Peer,
    /// This unit.
    Own,
}

/// The own server as a channel.
struct Own(Arc<Server>);

impl Channel for Own {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        let server = Arc::clone(&self.0);
        let work = move || {
            let answer = server.handle(&request);
            server.write_pending();
            answer
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| ChannelError(error.to_string()))
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

    /// Before the volumes are unmounted: the own server is about to close.
    pub(super) fn end_take_in(&self) {
        if self.local.takes_in() {
            lock(&self.run).progress.stop();
            self.local.stop.notify_waiters();
        }
    }

    /// Hands over what volumes hold that are not replicated, whenever there is a PRIMARY. Runs for ever.
    pub async fn keep_empty(self: Arc<Self>) {
        let mut told = String::new();
        while self.has_local() {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(taker) = self.taker() else { continue };
            if self.local.emptied.load(Ordering::SeqCst) {
                continue;
            }
            let passed = match taker {
                Taker::Peer => self.pass_local().await,
                Taker::Own => self.take_in().await,
            };
            match passed {
                Ok(counts) => {
                    told.clear();
                    // What a volume on a server left here grows no more, whoever serves.
                    let grows = taker == Taker::Peer && self.local.serving.load(Ordering::SeqCst);
                    self.local.emptied.store(!grows, Ordering::SeqCst);
                    let what = match taker {
                        Taker::Peer => "of volumes that are not synchronised, to the PRIMARY",
                        Taker::Own => "left on this unit's own partition, to the mail data on the server",
                    };
                    let pace = self.complete();
                    // Most units have nothing that was left; that is no news at every start.
                    if taker == Taker::Peer || counts.queue_found + counts.mail_found > 0 {
                        self.shared.event("handover-done", &format!("{what} {pace}: {}", words(counts)));
                    }
                }
                Err(HandOverError::Pass(PassError::Stopped)) => {}
                // The lists are made a while after the mail service started.
                Err(HandOverError::Pass(PassError::NotNow(_))) if taker == Taker::Own => {}
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

    /// Who can take it now.
    fn taker(&self) -> Option<Taker> {
        let ha = self.shared.view().ha?;
        let follows = ha.peer.is_some_and(|peer| peer.effective == EffectiveMode::Primary);
        match ha.effective {
            EffectiveMode::Secondary if follows => Some(Taker::Peer),
            EffectiveMode::Primary if self.local.left.contains(&true) => Some(Taker::Own),
            _ => None,
        }
    }

    async fn pass_local(&self) -> Result<Counts, HandOverError> {
        let control = self.control.clone().ok_or(HandOverError::NoChannel)?;
        self.pass_from(Taker::Peer, self.local.looks(Look::Itself, Look::Nothing), Wire(control)).await
    }

    async fn take_in(&self) -> Result<Counts, HandOverError> {
        self.local.taking_in.store(true, Ordering::SeqCst);
        let own = Own(Arc::clone(&self.server));
        let taken = self.pass_from(Taker::Own, self.local.own_looks(), own).await;
        self.local.taking_in.store(false, Ordering::SeqCst);
        taken
    }

    async fn pass_from(
        &self,
        taker: Taker,
        looks: [Look; VOLUMES],
        channel: impl Channel + 'static,
    ) -> Result<Counts, HandOverError> {
        let turn = Arc::clone(&self.passing).try_lock_owned().map_err(|_| HandOverError::Busy)?;
        let progress = self.begin();
        if taker == Taker::Peer && self.local.serving.load(Ordering::SeqCst) {
            return Err(HandOverError::Pass(PassError::Stopped));
        }
        let open = move || -> Result<_, HandOverError> { Ok((StaleCopies::open(looks)?, turn)) };
        let (copies, turn) = tokio::task::spawn_blocking(open).await.map_err(HandOverError::Thread)??;
        let layout = Layout::at(&copies.root(VolumeId::Queue), &copies.root(VolumeId::Data));
        let runtime = tokio::runtime::Handle::current();
        let stop = Arc::clone(&self.local.stop);
        let work = move || {
            // A request to a PRIMARY that has just died must not hold up the takeover.
            let passed = runtime.block_on(async {
                tokio::select! {
                    passed = pass::pass(&layout, Source::Local, &channel, &progress) => passed,
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
