//! The bounded way between the heartbeat thread and the executors: a preallocated queue and a socket pair that wakes
//! the other side, which may be a poll or an event loop. Sending never blocks and never allocates; a full queue is a fault that the sender sees.

use rustix::fd::{AsFd, BorrowedFd};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// The sending side; cheap to clone.
pub struct Sender<T> {
    queue: SyncSender<T>,
    wake: Arc<UnixStream>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), wake: Arc::clone(&self.wake) }
    }
}

/// The receiving side; poll [`Inbox::fd`] for reading.
pub struct Inbox<T> {
    queue: Receiver<T>,
    woken: UnixStream,
    wake: Arc<UnixStream>,
}

/// A queue of at most `bound` messages.
///
/// # Errors
/// The kernel has no socket pair to give.
pub fn bounded<T>(bound: usize) -> std::io::Result<(Sender<T>, Inbox<T>)> {
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let wake = Arc::new(wake);
    let (queue, inbox) = sync_channel(bound);
    Ok((Sender { queue, wake: Arc::clone(&wake) }, Inbox { queue: inbox, woken, wake }))
}

impl<T> Sender<T> {
    /// Puts one message into the queue; false when it is full or nobody reads it any more.
    #[must_use]
    pub fn send(&self, message: T) -> bool {
        let sent = self.queue.try_send(message).is_ok();
        ring(&self.wake);
        sent
    }
}

impl<T> Inbox<T> {
    /// What to poll.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    /// The same for tokio's event loop.
    ///
    /// # Errors
    /// No descriptor to be had, or no event loop here.
    pub fn for_event_loop(&self) -> std::io::Result<tokio::net::UnixStream> {
        tokio::net::UnixStream::from_std(self.woken.try_clone()?)
    }

    /// Clears the wake-up; call before draining.
    pub fn clear(&self) {
        let mut bells = [0u8; 512];
        // Nothing to read means that it is clear.
        while (&self.woken).read(&mut bells).is_ok_and(|n| n == bells.len()) {}
    }

    /// Makes the next poll return at once: something was left in the queue.
    pub fn rearm(&self) {
        ring(&self.wake);
    }

    /// The next message; `None` when there is none now.
    #[must_use]
    pub fn next(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }
}

/// A pair that takes no more bytes wakes its reader just as well.
fn ring(mut wake: &UnixStream) {
    let _ = wake.write(&[1]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_is_seen_by_the_sender() {
        let (tx, rx) = bounded(2).unwrap();
        assert!(tx.send(1) && tx.send(2) && !tx.send(3));
        rx.clear();
        assert_eq!((rx.next(), rx.next(), rx.next()), (Some(1), Some(2), None));
    }
}
