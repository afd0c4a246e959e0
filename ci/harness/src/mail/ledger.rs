//! The book shared by the threads of the bench, and the marks by which a message is recognised. What counts is decided in
//! `book`.

use super::book::{AttemptId, Book, Summary};
use crate::clock::Micros;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Header that carries the mark of a message.
const MARK_HEADER: &str = "X-Twinpost-Id";

/// A handle to the book. Clones share it.
#[derive(Clone)]
pub struct Ledger {
    book: Arc<Mutex<Book>>,
    next_hop_refuses: Arc<AtomicBool>,
    run: Arc<str>,
}

impl Ledger {
    /// An empty book; `run` sets the messages of this run apart from older ones that a queue may still hold.
    #[must_use]
    pub fn new(run: &str) -> Self {
        Self { book: Arc::default(), next_hop_refuses: Arc::default(), run: run.into() }
    }

    /// The book itself.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        // The book is plain data: a panic elsewhere leaves it readable.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the next hop accepts messages; it does until it is told otherwise.
    pub fn set_next_hop(&self, accepts: bool) {
        self.next_hop_refuses.store(!accepts, Ordering::Relaxed);
    }

    /// True while the next hop refuses messages.
    pub(super) fn next_hop_refuses(&self) -> bool {
        self.next_hop_refuses.load(Ordering::Relaxed)
    }

    /// Adds the book up.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.book().summary()
    }

    /// Opens an attempt and renders its message, padded to about `size` bytes, dot-stuffed and ended.
    pub(super) fn open(&self, mailbox: bool, recipient: &str, size: usize) -> Option<(AttemptId, Vec<u8>)> {
        let id = self.book().open(mailbox)?;
        let mark = format!("{}-{id}", self.run);
        let mut text = format!(
            "From: <ledger@client.test>\r\nTo: <{recipient}>\r\nSubject: Twinpost {mark}\r\n\
             Message-ID: <{mark}@client.test>\r\n{MARK_HEADER}: {mark}\r\n\r\nMessage {mark} of the ledger.\r\n"
        );
        while text.len() < size {
            text.push_str("The quick brown fox jumps over the lazy dog and back again.\r\n");
        }
        text.push_str(".\r\n");
        Some((id, text.into_bytes()))
    }

    /// The attempt that a header line of a message names.
    pub(super) fn recognise(&self, line: &[u8]) -> Option<AttemptId> {
        let line = std::str::from_utf8(line).ok()?;
        let (name, value) = line.split_once(':')?;
        if !name.eq_ignore_ascii_case(MARK_HEADER) {
            return None;
        }
        value.trim().strip_prefix(&*self.run)?.strip_prefix('-')?.parse().ok()
    }

    /// A message arrived at the next hop; `None` when it bore no mark of this run.
    pub(super) fn arrived(&self, id: Option<AttemptId>) {
        let now = Micros::now();
        match id {
            Some(id) => self.book().deliver(id, now),
            None => self.book().stranger(),
        }
    }

    /// The mailbox holds these.
    pub(super) fn mailbox_holds(&self, copies: &HashMap<AttemptId, usize>) {
        self.book().count_mailbox(copies, Micros::now());
    }
}
