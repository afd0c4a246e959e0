//! The way of DRBD's questions to the supervisor: the kernel runs `drbd-helper` ([`helper_main`]), which asks on
//! [`FENCE_SOCKET`] and exits with the number it reads back. Answers nothing by itself except "heard" to mere notices;
//! without a supervisor a question stays undecided and writes stay frozen (`drbd.conf(5)` `fence-peer`).
//!
//! Recorded from DRBD 8.4.11: `fence-peer <resource>`, but `split-brain minor-<n>` and all other events that concern a
//! volume; `before-resync-source` and `before-resync-target` break the connection unless the answer is 0.

mod helper;

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use twinpost_types::VolumeId;

pub use helper::helper_main;

/// Where the supervisor listens.
pub const FENCE_SOCKET: &str = "/run/twinpost/fence.sock";
/// "Not decided": DRBD stays frozen. Any number but 3 to 7 means it.
pub const UNDECIDED: u8 = 1;
/// Questions that wait to be taken; DRBD asks at most one a volume at a time, notices come in bursts of a few.
const QUEUE: usize = 64;
/// Longest question, bytes.
const LINE_BYTES_MAX: u64 = 256;
/// How long a helper has to say its question.
const ASK: Duration = Duration::from_secs(2);

/// What DRBD calls its helper for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperEvent {
    /// What became of the peer? Writes or a promotion wait for the answer.
    FencePeer,
    /// The copies diverged and the connection is dropped.
    SplitBrain,
    /// This side begins to receive changed blocks.
    BeforeResyncTarget,
    /// This side is up to date again.
    AfterResyncTarget,
    /// The own drive failed and was given up.
    LocalIoError,
    /// This side lost the right to write.
    PriLost,
    /// Something else, by its name.
    Other(String),
}

impl HelperEvent {
    fn parse(word: &str) -> Self {
        match word {
            "fence-peer" => Self::FencePeer,
            "split-brain" => Self::SplitBrain,
            "before-resync-target" => Self::BeforeResyncTarget,
            "after-resync-target" => Self::AfterResyncTarget,
            "local-io-error" => Self::LocalIoError,
            "pri-lost" | "pri-lost-after-sb" => Self::PriLost,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// A question or notice of DRBD.
#[derive(Debug)]
pub struct FenceQuestion {
    /// What.
    pub event: HelperEvent,
    /// The resource's name, or `minor-<n>`.
    pub resource: String,
    reply: Option<oneshot::Sender<u8>>,
}

impl FenceQuestion {
    /// The volume that it is about.
    #[must_use]
    pub fn volume(&self) -> Option<VolumeId> {
        let is = |volume: &VolumeId| {
            self.resource == volume.name() || self.resource == format!("minor-{}", volume.index())
        };
        VolumeId::ALL.into_iter().find(is)
    }

    /// Answers with DRBD's number (4 peer outdated, 5 peer down, 6 peer is primary). A question that is dropped stays
    /// undecided. Without effect on notices.
    pub fn answer(mut self, code: u8) {
        if let Some(reply) = self.reply.take() {
            // The helper may have been killed meanwhile: nobody left to tell.
            let _ = reply.send(code);
        }
    }
}

/// Takes questions in.
#[derive(Debug)]
pub struct FenceListener {
    questions: mpsc::Receiver<FenceQuestion>,
}

/// Listens on `path`, which is replaced if it is left over. Needs a tokio runtime.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(path: &Path) -> io::Result<FenceListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    let (sender, questions) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while !sender.is_closed() {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(serve(stream, sender.clone()))),
                // Out of descriptors: let others end first.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Ok(FenceListener { questions })
}

impl FenceListener {
    /// The next question or notice.
    pub async fn next(&mut self) -> FenceQuestion {
        match self.questions.recv().await {
            Some(question) => question,
            // The accepting task holds a sender as long as `self` lives; if the runtime ends, nothing is asked any more.
            None => std::future::pending().await,
        }
    }
}

async fn serve(stream: UnixStream, questions: mpsc::Sender<FenceQuestion>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut limited = (&mut stream).take(LINE_BYTES_MAX);
    if !matches!(tokio::time::timeout(ASK, limited.read_line(&mut line)).await, Ok(Ok(bytes)) if bytes > 0) {
        return;
    }
    let Some((event, resource)) = line.trim().split_once(' ') else { return };
    let event = HelperEvent::parse(event);
    let resource = resource.trim().to_owned();
    let code = if event == HelperEvent::FencePeer {
        let (reply, answer) = oneshot::channel();
        let question = FenceQuestion { event, resource, reply: Some(reply) };
        match questions.send(question).await {
            Ok(()) => answer.await.unwrap_or(UNDECIDED),
            Err(_) => UNDECIDED,
        }
    } else {
        // Mere notices never hold DRBD up; when nobody takes them in time they are lost, the state itself is in `events2`.
        let _ = questions.try_send(FenceQuestion { event, resource, reply: None });
        0
    };
    // The helper may be gone; then nobody waits for it either.
    let _ = stream.get_mut().write_all(format!("{code}\n").as_bytes()).await;
}

#[cfg(test)]
mod tests;
