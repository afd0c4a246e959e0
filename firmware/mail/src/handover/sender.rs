//! Requests of the loser, one ahead: while the primary works at one, the files of the next are read. Each answer is looked at before
//! the next request is sent, so that never more than one is on the way. The order of a hand-over is `pass`'s.

use super::item::{Item, Key};
use super::message::{
    Counts, MESSAGE_BYTES_MAX, OFFER_MAX, PIECES_MAX, Piece, Request, Response, UNCONFIRMED_MAX,
};
use super::pass::{PassError, Progress};
use super::scan::{Found, Logs};
use super::{Channel, ChannelError};
use rustix::fs::Advice;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::{self, Read as _};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;

/// Content in one request: what the limit leaves after the longest names of all its pieces would not fit, so small files are
/// counted with [`PIECE_OVERHEAD_BYTES`] each.
pub const BATCH_BYTES: usize = MESSAGE_BYTES_MAX - 64 * 1024;
/// Name, offset and length of a piece at their longest.
const PIECE_OVERHEAD_BYTES: usize = 1200;
/// Bytes between two confirmations: several requests share one pass over the primary's volume.
const UNCONFIRMED_BYTES: u64 = 8 << 20;
/// Items between two confirmations, with room for the logs of the last one.
const UNCONFIRMED_ITEMS: usize = UNCONFIRMED_MAX - 8;

/// Files that are opened, and asked from the drive, ahead of the one that is read: a copy that nobody has read since the boot comes from
/// the drive, and one after the other would wait for each.
const AHEAD: usize = 32;
/// Of each no more than this, bytes: what is read on is fetched by the kernel anyhow.
const AHEAD_BYTES: NonZeroU64 = NonZeroU64::new(64 * 1024).expect("a product of numbers above 0 is above 0");

/// Offers files and sends those that are wanted.
pub struct Sender<'a, C> {
    channel: &'a C,
    progress: &'a Progress,
    /// Files are removed once the primary has them.
    empties: bool,
    batch: Batch,
    /// Sent, and no confirmation asked for.
    unconfirmed: HashMap<Key, Sent>,
    bytes: u64,
    under_way: Option<UnderWay<'a>>,
}

/// Pieces of the next request.
#[derive(Default)]
struct Batch {
    pieces: Vec<Piece>,
    bytes: usize,
}

struct Sent {
    digest: [u8; 32],
    item: Item,
    path: PathBuf,
    length: u64,
}

type Answer = Result<Vec<u8>, ChannelError>;

/// A request whose answer was not looked at.
struct UnderWay<'a> {
    answer: Pin<Box<dyn Future<Output = Answer> + Send + 'a>>,
    answered: Option<Answer>,
    /// What a confirmation has to name; `None` = the request stores.
    confirms: Option<HashMap<Key, Sent>>,
}

impl<'a, C: Channel> Sender<'a, C> {
    /// With nothing sent.
    pub fn new(channel: &'a C, progress: &'a Progress, empties: bool) -> Self {
        let (batch, unconfirmed) = (Batch::default(), HashMap::new());
        Self { channel, progress, empties, batch, unconfirmed, bytes: 0, under_way: None }
    }

    /// Sends of these what the primary wants, with their logs. Not all is confirmed when it returns.
    ///
    /// # Errors
    /// See [`PassError`].
    pub async fn offer(&mut self, logs: &Logs, all: &[Found]) -> Result<(), PassError> {
        for chunk in all.chunks(OFFER_MAX) {
            let keys = chunk.iter().map(|found| found.item.key()).collect();
            let Response::Wanted(wanted) = self.call(&Request::Offer(keys)).await? else {
                return Err(PassError::Answer("no choice"));
            };
            if wanted.len() != chunk.len() {
                return Err(PassError::Answer("a choice of another length"));
            }
            let mut opened = VecDeque::new();
            for (found, wanted) in chunk.iter().zip(wanted) {
                if !wanted {
                    self.remove(&found.path)?;
                    continue;
                }
                let files = logs.with(&found.item).into_iter().chain([found.clone()]).map(open);
                opened.push_back(files.collect::<io::Result<Vec<_>>>()?);
                if opened.len() > AHEAD
                    && let Some(message) = opened.pop_front()
                {
                    self.send_message(message).await?;
                }
            }
            for message in opened {
                self.send_message(message).await?;
            }
        }
        Ok(())
    }

    /// Ends when all that was sent is confirmed.
    ///
    /// # Errors
    /// See [`PassError`].
    pub async fn confirm_all(&mut self) -> Result<(), PassError> {
        self.confirm().await?;
        self.hear().await
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// See [`PassError`].
    pub async fn call(&mut self, request: &Request) -> Result<Response, PassError> {
        self.hear().await?;
        let request = self.encode(request)?;
        response(self.channel.call(request).await)
    }

    /// Its logs come first.
    async fn send_message(&mut self, files: Vec<(Found, File)>) -> Result<(), PassError> {
        for (found, file) in files {
            self.send(found, file).await?;
        }
        // Between messages only, so that a log and its message are confirmed together.
        if self.bytes >= UNCONFIRMED_BYTES || self.unconfirmed.len() >= UNCONFIRMED_ITEMS {
            self.confirm().await?;
        }
        Ok(())
    }

    async fn send(&mut self, found: Found, mut file: File) -> Result<(), PassError> {
        let length = file.metadata()?.len();
        let mut hash = Sha256::new();
        let mut offset = 0;
        loop {
            let room = BATCH_BYTES.saturating_sub(self.batch.bytes + PIECE_OVERHEAD_BYTES);
            if self.batch.pieces.len() == PIECES_MAX || (room == 0 && !self.batch.pieces.is_empty()) {
                self.flush().await?;
                continue;
            }
            let left = usize::try_from(length - offset).unwrap_or(usize::MAX);
            let mut bytes = vec![0; left.min(room)];
            file.read_exact(&mut bytes)?;
            hash.update(&bytes);
            self.batch.bytes += bytes.len() + PIECE_OVERHEAD_BYTES;
            let next = offset + u64::try_from(bytes.len()).unwrap_or(0);
            self.batch.pieces.push(Piece { item: found.item.clone(), offset, length, bytes });
            offset = next;
            if offset == length {
                break;
            }
        }
        self.bytes += length;
        let sent = Sent { digest: hash.finalize().into(), item: found.item, path: found.path, length };
        self.unconfirmed.insert(sent.item.key(), sent);
        self.nudge().await;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), PassError> {
        let Batch { pieces, .. } = std::mem::take(&mut self.batch);
        if pieces.is_empty() { Ok(()) } else { self.begin(&Request::Store(pieces), None).await }
    }

    async fn confirm(&mut self) -> Result<(), PassError> {
        self.flush().await?;
        self.bytes = 0;
        let unconfirmed = std::mem::take(&mut self.unconfirmed);
        if unconfirmed.is_empty() { Ok(()) } else { self.begin(&Request::Confirm, Some(unconfirmed)).await }
    }

    /// Sends, and leaves the answer to [`Self::hear`].
    async fn begin(
        &mut self,
        request: &Request,
        confirms: Option<HashMap<Key, Sent>>,
    ) -> Result<(), PassError> {
        self.hear().await?;
        let request = self.encode(request)?;
        let answer = Box::pin(self.channel.call(request));
        self.under_way = Some(UnderWay { answer, answered: None, confirms });
        self.nudge().await;
        Ok(())
    }

    /// Lets the request under way go on as far as it can without waiting: its bytes are sent while files are read.
    async fn nudge(&mut self) {
        let Some(UnderWay { answer, answered: answered @ None, .. }) = &mut self.under_way else { return };
        *answered = poll_fn(|context| {
            Poll::Ready(match answer.as_mut().poll(context) {
                Poll::Ready(answer) => Some(answer),
                Poll::Pending => None,
            })
        })
        .await;
    }

    /// Waits for the answer to the request under way, if there is one.
    async fn hear(&mut self) -> Result<(), PassError> {
        let Some(UnderWay { answer, answered, confirms }) = self.under_way.take() else { return Ok(()) };
        let answer = match answered {
            Some(answer) => answer,
            None => answer.await,
        };
        match (response(answer)?, confirms) {
            (Response::Stored, None) => Ok(()),
            (_, None) => Err(PassError::Answer("no receipt")),
            (Response::Confirmed(confirmed), Some(sent)) => self.confirmed(confirmed, sent),
            (_, Some(_)) => Err(PassError::Answer("no confirmation")),
        }
    }

    fn confirmed(
        &self,
        confirmed: Vec<(Key, [u8; 32])>,
        mut all: HashMap<Key, Sent>,
    ) -> Result<(), PassError> {
        for (key, digest) in confirmed {
            let Some(sent) = all.remove(&key).filter(|sent| sent.digest == digest) else {
                return Err(PassError::Answer("a digest of something else"));
            };
            self.remove(&sent.path)?;
            self.progress.update(|counts| count(counts, &sent));
        }
        if all.is_empty() { Ok(()) } else { Err(PassError::Answer("not all was confirmed")) }
    }

    /// The primary has it, or had it.
    fn remove(&self, path: &Path) -> Result<(), PassError> {
        if !self.empties {
            return Ok(());
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn encode(&self, request: &Request) -> Result<Vec<u8>, PassError> {
        if self.progress.is_stopped() { Err(PassError::Stopped) } else { Ok(request.encode()?) }
    }
}

fn open(found: Found) -> io::Result<(Found, File)> {
    let file = File::open(&found.path)?;
    // Advice: without it the file is read when its turn comes.
    let _ = rustix::fs::fadvise(&file, 0, Some(AHEAD_BYTES), Advice::WillNeed);
    Ok((found, file))
}

fn count(counts: &mut Counts, sent: &Sent) {
    counts.bytes += sent.length;
    match &sent.item {
        Item::Mail { .. } => counts.mail_passed += 1,
        Item::Queue { folder, .. } if folder.is_log() => {}
        Item::Queue { .. } => counts.queue_passed += 1,
    }
}

fn response(answer: Answer) -> Result<Response, PassError> {
    match Response::decode(&answer?)? {
        Response::NotNow(why) => Err(PassError::NotNow(why)),
        Response::Refused(why) => Err(PassError::Refused(why)),
        response => Ok(response),
    }
}
