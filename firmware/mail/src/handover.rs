//! Hand-over of mail: a unit that lost its role passes every message that only its own copy has to the primary, before that
//! copy is overwritten (`spec/ha.md` section 8, `spec/mail.md` "Queue files"). Decides nothing about roles, and knows neither
//! replication nor the control channel: it is given two mounted copies and a [`Channel`].
//!
//! ```text
//! loser    scan (own copy) ─ own manifest ─▶ pass ─ settle, offer, store, confirm ─▶ Channel ─┐
//! primary  server ─ manifest, ledger ─▶ settle: marks in the queue; parts/ ─ durable ─▶ ledger ─ rename ─▶ queue, mailboxes
//! ```
//!
//! A message goes to the primary's own queue under its own id, not through a second Postfix: long queue ids of two units never
//! collide, ids that the primary has or had are refused, and what was placed survives another takeover without a program that
//! would have to take up draining. The order *durable part, ledger, rename* makes an interruption at any point harmless:
//! a part without a ledger entry was never confirmed, one with an entry is placed by [`server::recover`].

pub mod item;
mod ledger;
pub mod manifest;
pub mod message;
pub mod pass;
mod place;
pub mod queue_file;
pub mod report;
pub mod scan;
mod sender;
pub mod server;
pub mod settle;
mod twin;

pub(crate) use place::wake;
use std::future::Future;
use std::path::{Path, PathBuf};

/// Folder of the hand-over on both volumes.
pub(crate) const FOLDER: &str = "handover";

/// One call over the control channel: request bytes there, response bytes back.
pub trait Channel: Send + Sync {
    /// Sends `request` to the primary's [`server::Server`] and waits for its answer.
    fn call(&self, request: Vec<u8>) -> impl Future<Output = Result<Vec<u8>, ChannelError>> + Send;
}

/// The primary was not reached; nothing is known of what it did with the request.
#[derive(Debug, thiserror::Error)]
#[error("the primary does not answer on the control channel: {0}")]
pub struct ChannelError(pub String);

/// Where the mail of one copy is, and whom files belong to.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Root of the queue volume.
    pub queue: PathBuf,
    /// Root of the data volume.
    pub data: PathBuf,
    /// User and group of queue files.
    pub postfix: (u32, u32),
    /// User and group of mailboxes.
    pub vmail: (u32, u32),
}

impl Layout {
    /// Volumes mounted elsewhere than usual, with the appliance's users.
    #[must_use]
    pub fn at(queue: &Path, data: &Path) -> Self {
        Self { queue: queue.to_path_buf(), data: data.to_path_buf(), postfix: (100, 102), vmail: (106, 106) }
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.queue.join("spool")
    }

    pub(crate) fn mailboxes(&self) -> PathBuf {
        self.data.join("mailboxes")
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self::at(Path::new("/mail/queue"), Path::new("/mail/data"))
    }
}

#[cfg(test)]
mod tests;
