//! Carries out the steps that the decisions ask for: storage, mail, addresses, the machine. One at a time, each within a
//! limit, off the heartbeat path. Decides nothing: the result goes back as an event. `spec/ha.md` section 7.

use crate::channel::Sender;
use crate::claims::Claims;
use crate::control::Control;
use crate::handover::{HandOver, HandOverError};
use crate::heartbeat::Input;
use crate::provision::chain;
use crate::shared::Shared;
use crate::tunnel::Encryption;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use twinpost_ha::{Fault, Step};
use twinpost_mail::{DrainError, Mail, init_client};
use twinpost_storage::CommandError;
use twinpost_storage::drbd::{Drbd, Endpoint};
use twinpost_storage::durable::Store;
use twinpost_storage::syncer::Syncer;
use twinpost_storage::volume::{self, Place};
use twinpost_types::{LINKS, LinkId, VOLUMES, VolumeId};

/// Everything that steps need.
pub struct Executor {
    /// Replication.
    pub drbd: Drbd,
    /// Where the volumes lie.
    pub places: [Place; VOLUMES],
    /// Mail services.
    pub mail: Arc<Mail>,
    /// Durable state.
    pub store: Arc<Store>,
    /// Virtual IPs, and what goes with them.
    pub claims: Claims,
    /// The heartbeat thread, which announces them.
    pub inputs: Sender<Input>,
    /// Replication endpoints of both volumes on each link.
    pub endpoints: [Option<[Endpoint; 2]>; LINKS],
    /// To the other unit; `None` while HA is off.
    pub control: Option<Arc<Control>>,
    /// Of replication; `None` while HA is off.
    pub encryption: Option<Arc<Encryption>>,
    /// Hands mail over to the other unit and takes it.
    pub handover: Arc<HandOver>,
    /// Alarms and events.
    pub shared: Arc<Shared>,
    /// Runs while the queue volume is mounted.
    pub syncer: Mutex<Option<Syncer>>,
    /// Held while Postfix is started or stopped, so that a restart after a failed check never comes in between.
    pub mail_steps: tokio::sync::Mutex<()>,
    /// Held while a check looks at the queue volume, which would keep it busy.
    pub looking: tokio::sync::Mutex<()>,
}

/// A look at the queue volume ends within milliseconds on a volume that works.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// A failed step, in words for the log and as the decisions understand it.
struct Failure {
    fault: Fault,
    words: String,
}

impl Executor {
    /// Runs one step within its limit. Steps are idempotent.
    pub async fn run(&self, step: Step) -> Result<(), Fault> {
        let limit = limit(step);
        let outcome = tokio::time::timeout(limit, self.dispatch(step)).await;
        let failure = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => failure,
            Err(_) => {
                Failure { fault: Fault::TimedOut, words: format!("not done within {} s", limit.as_secs()) }
            }
        };
        self.shared.event("step-failed", &format!("{}: {}", crate::words::step_words(step), failure.words));
        Err(failure.fault)
    }

    async fn dispatch(&self, step: Step) -> Result<(), Failure> {
        let [queue, data] = VolumeId::ALL;
        match step {
            Step::StoreEpoch(epoch) => {
                let store = Arc::clone(&self.store);
                blocking(move || store.write_epoch(epoch)).await
            }
            Step::Fence => both(self.drbd.cut(queue), self.drbd.cut(data)).await,
            Step::Promote => {
                self.handover.before_promotion();
                both(self.drbd.promote(queue), self.drbd.promote(data)).await
            }
            Step::PromoteForced => {
                self.handover.before_promotion();
                both(self.drbd.promote_force(queue), self.drbd.promote_force(data)).await
            }
            Step::Demote => both(self.drbd.demote(queue), self.drbd.demote(data)).await,
            Step::Outdate => both(self.drbd.outdate(queue), self.drbd.outdate(data)).await,
            Step::Initialise => both(self.drbd.initialise_pair(queue), self.drbd.initialise_pair(data)).await,
            Step::Connect(link) => self.connect(link).await,
            Step::Disconnect => both(self.drbd.disconnect(queue), self.drbd.disconnect(data)).await,
            Step::PassMail => self.pass_mail().await,
            Step::ConnectDiscarding(link) => self.connect_discarding(link).await,
            Step::Mount => self.mount().await,
            Step::Unmount => self.unmount().await,
            Step::StartMail => self.start_mail().await,
            Step::DrainMail => self.drain_mail().await,
            Step::StopMail => {
                let _alone = self.mail_steps.lock().await;
                self.mail.stop().await.map_err(failed)
            }
            Step::ClaimVips => {
                self.claims.claim().await.map_err(failed)?;
                self.vips_held(true);
                self.start_mailboxes();
                Ok(())
            }
            Step::ReleaseVips => {
                self.vips_held(false);
                self.claims.release().await.map_err(failed)
            }
            Step::Reboot => {
                self.leave().await;
                init_client::reboot().await.map(drop).map_err(failed)
            }
            Step::PowerOff => {
                self.leave().await;
                init_client::poweroff().await.map(drop).map_err(failed)
            }
            Step::Reset => {
                self.shared.event(
                    "reset",
                    "what this unit holds cannot be given up in order: resetting the machine",
                );
                let _ = self.shared.events().flush(Duration::from_millis(300));
                rustix::system::reboot(rustix::system::RebootCommand::Restart).map_err(failed)
            }
        }
    }

    async fn start_mail(&self) -> Result<(), Failure> {
        let _alone = self.mail_steps.lock().await;
        self.before_mail().await?;
        let settled = self.mail.start().await.map_err(failed)?;
        if settled.marked > 0 {
            let words = format!(
                "{} of {} deliveries into mailboxes that were not recorded had been made: marked as done",
                settled.marked, settled.open
            );
            self.shared.event("mailbox-deliveries", &words);
            self.handover.recognised(settled.marked).await;
        }
        Ok(())
    }

    async fn drain_mail(&self) -> Result<(), Failure> {
        let _alone = self.mail_steps.lock().await;
        self.mail.drain().await.map_err(|error| Failure {
            fault: match error {
                DrainError::WritesWait => Fault::Unfinished,
                DrainError::Flush(_) => Fault::Failed,
            },
            words: chain(&error),
        })
    }

    /// Takes leave of the peer's replication, so that its writes do not wait for a connection that nobody answers any more.
    async fn leave(&self) {
        let [queue, data] = VolumeId::ALL;
        // Without it the peer waits for its time limit, 0.9 s, and goes on.
        let _ = both(self.drbd.disconnect(queue), self.drbd.disconnect(data)).await;
    }

    /// After the virtual IPs, so that they do not wait for it; a failure is an event and init's restart mends it.
    fn start_mailboxes(&self) {
        let (mail, shared) = (Arc::clone(&self.mail), Arc::clone(&self.shared));
        tokio::spawn(async move {
            if let Err(error) = mail.start_mailboxes().await {
                shared.event("service", &format!("mailboxes are not served: {}", chain(&error)));
            }
        });
    }

    fn vips_held(&self, held: bool) {
        if !self.inputs.send(Input::VipsHeld(held)) {
            self.shared.event(
                "overload",
                "the heartbeat thread did not take the news of the virtual IPs; they are announced late",
            );
        }
    }

    async fn connect(&self, link: LinkId) -> Result<(), Failure> {
        let [queue, data] = self.endpoints(link).await?;
        both(self.drbd.connect(VolumeId::Queue, queue), self.drbd.connect(VolumeId::Data, data)).await
    }

    async fn connect_discarding(&self, link: LinkId) -> Result<(), Failure> {
        let [queue, data] = self.endpoints(link).await?;
        let connect = |volume, endpoint| self.drbd.connect_discarding(volume, endpoint);
        both(connect(VolumeId::Queue, queue), connect(VolumeId::Data, data)).await
    }

    /// What the hand-over needs before the first message comes in or leaves.
    async fn before_mail(&self) -> Result<(), Failure> {
        let store = Arc::clone(&self.store);
        let epoch = tokio::task::spawn_blocking(move || store.read_epoch()).await.map_err(failed)?;
        self.handover.before_mail(epoch.map_err(failed)?.unwrap_or_default()).await.map_err(failed)
    }

    /// Where replication runs over this link, once it may.
    async fn endpoints(&self, link: LinkId) -> Result<[Endpoint; 2], Failure> {
        let refused = |words| Failure { fault: Fault::Refused, words };
        let endpoints =
            self.endpoints[link.index()].ok_or_else(|| refused(format!("{link} is not configured")))?;
        if let Some(encryption) = &self.encryption {
            encryption.ready(link).await.map_err(refused)?;
        }
        Ok(endpoints)
    }

    /// The copies are read beside DRBD, so nothing may write to them meanwhile.
    async fn pass_mail(&self) -> Result<(), Failure> {
        let [queue, data] = VolumeId::ALL;
        both(self.drbd.cut(queue), self.drbd.cut(data)).await?;
        if self.drbd.status().await.map_err(failed)?.iter().any(|volume| volume.promoted) {
            let words = "the volumes are promoted: they are in service, not left over".to_string();
            return Err(Failure { fault: Fault::Refused, words });
        }
        self.handover.pass().await.map_err(|error: HandOverError| Failure {
            fault: if error.is_unfinished() { Fault::Unfinished } else { Fault::Failed },
            words: chain(&error),
        })
    }

    async fn mount(&self) -> Result<(), Failure> {
        let [queue, data] = VolumeId::ALL;
        let [queue_place, data_place] = self.places.clone();
        self.handover.before_mount().await.map_err(failed)?;
        let (first, second) = tokio::join!(
            blocking(move || volume::mount(queue, &queue_place).map(drop)),
            blocking(move || volume::mount(data, &data_place).map(drop))
        );
        first?;
        second?;
        let mut syncer = self.syncer.lock().unwrap_or_else(PoisonError::into_inner);
        if syncer.is_none() {
            *syncer = Some(Syncer::start(queue).map_err(failed)?);
        }
        Ok(())
    }

    async fn unmount(&self) -> Result<(), Failure> {
        // A look that hangs with the volume is not waited for: then the volume hangs as well.
        let _quiet = tokio::time::timeout(LOOK_LIMIT, self.looking.lock()).await;
        self.handover.before_unmount().await;
        drop(self.syncer.lock().unwrap_or_else(PoisonError::into_inner).take());
        let [queue, data] = VolumeId::ALL;
        let (first, second) =
            tokio::join!(blocking(move || volume::unmount(queue)), blocking(move || volume::unmount(data)));
        first.and(second)?;
        self.handover.after_unmount();
        Ok(())
    }
}

/// How long a step may take. Far above what is measured; a step over its limit counts as failed and its way back is walked.
fn limit(step: Step) -> Duration {
    Duration::from_secs(match step {
        Step::StoreEpoch(_) | Step::ClaimVips | Step::ReleaseVips => 5,
        Step::Fence | Step::Demote | Step::Connect(_) | Step::Outdate | Step::Reset => 10,
        Step::Disconnect | Step::ConnectDiscarding(_) | Step::DrainMail => 10,
        Step::StopMail | Step::Unmount | Step::Initialise | Step::Reboot | Step::PowerOff => 20,
        // A fence question may be open that waits for the threshold.
        Step::Promote | Step::PromoteForced => 40,
        // First use makes file systems; a journal of a large volume takes its time on a slow disk.
        Step::Mount | Step::StartMail => 60,
        // Shorter than what the decisions wait for; it ends by itself after 60 s of progress.
        Step::PassMail => 100,
    })
}

/// Runs the same step on both volumes at once; the first failure counts.
async fn both(
    queue: impl Future<Output = Result<(), CommandError>>,
    data: impl Future<Output = Result<(), CommandError>>,
) -> Result<(), Failure> {
    let (queue, data) = tokio::join!(queue, data);
    queue.and(data).map_err(|error| Failure {
        fault: if error.fault_is_timeout() {
            Fault::TimedOut
        } else if error.refused() {
            Fault::Refused
        } else {
            Fault::Failed
        },
        words: chain(&error),
    })
}

async fn blocking<E: std::error::Error + Send + 'static>(
    work: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> Result<(), Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(failed),
        Err(panicked) => Err(failed(panicked)),
    }
}

fn failed(error: impl std::error::Error) -> Failure {
    Failure { fault: Fault::Failed, words: chain(&error) }
}
