//! Why datagrams are dropped, and how many of each. Only counts; alarms and their limits are the shell's.

/// Why a datagram was not accepted. All but `Hello` are to be counted and forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// Shorter than the shortest datagram.
    Truncated,
    /// Longer than [`crate::DATAGRAM_BYTES_MAX`].
    Oversized,
    /// Not a heartbeat at all.
    Magic,
    /// A protocol version that this release does not speak.
    Version,
    /// The tag of another group.
    ForeignGroup,
    /// Own group, but the key does not fit: damaged, forged, or the HA passwords differ.
    Forged,
    /// Seen before, older than what was seen, or of a boot that another one of the same unit has replaced.
    Replayed,
    /// Sent by this unit itself: a cable loop, a recording, or two units with one identity.
    Reflected,
    /// Sealed for the other link: the cables are swapped, or somebody copies between them.
    WrongLink,
    /// Sealed with the right key, but the content makes no sense to this release.
    Malformed,
    /// From a boot that has not yet echoed the current challenge: no proof of life.
    Hello {
        /// Send a heartbeat on this link at once: it carries the echo that the other side waits for.
        must_answer: bool,
    },
}

/// Counts since the session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Accepted as heartbeats.
    pub accepted: u64,
    /// See [`Drop::Truncated`].
    pub truncated: u64,
    /// See [`Drop::Oversized`].
    pub oversized: u64,
    /// See [`Drop::Magic`].
    pub magic: u64,
    /// See [`Drop::Version`].
    pub version: u64,
    /// See [`Drop::ForeignGroup`].
    pub foreign_group: u64,
    /// See [`Drop::Forged`].
    pub forged: u64,
    /// See [`Drop::Replayed`].
    pub replayed: u64,
    /// See [`Drop::Reflected`].
    pub reflected: u64,
    /// See [`Drop::WrongLink`].
    pub wrong_link: u64,
    /// See [`Drop::Malformed`].
    pub malformed: u64,
    /// See [`Drop::Hello`].
    pub hello: u64,
}

impl Counters {
    /// The reasons that something was dropped, with their names for status views, in a fixed order. `hello` is part of every
    /// normal start and not among them.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        [
            ("truncated", self.truncated),
            ("oversized", self.oversized),
            ("magic", self.magic),
            ("version", self.version),
            ("foreign-group", self.foreign_group),
            ("forged", self.forged),
            ("replayed", self.replayed),
            ("reflected", self.reflected),
            ("wrong-link", self.wrong_link),
            ("malformed", self.malformed),
        ]
        .into_iter()
    }

    /// Counts one dropped datagram.
    pub(crate) fn count(&mut self, why: Drop) {
        let counter = match why {
            Drop::Truncated => &mut self.truncated,
            Drop::Oversized => &mut self.oversized,
            Drop::Magic => &mut self.magic,
            Drop::Version => &mut self.version,
            Drop::ForeignGroup => &mut self.foreign_group,
            Drop::Forged => &mut self.forged,
            Drop::Replayed => &mut self.replayed,
            Drop::Reflected => &mut self.reflected,
            Drop::WrongLink => &mut self.wrong_link,
            Drop::Malformed => &mut self.malformed,
            Drop::Hello { .. } => &mut self.hello,
        };
        *counter = counter.saturating_add(1);
    }
}

impl Drop {
    /// Stable name for logs and status views.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Oversized => "oversized",
            Self::Magic => "magic",
            Self::Version => "version",
            Self::ForeignGroup => "foreign-group",
            Self::Forged => "forged",
            Self::Replayed => "replayed",
            Self::Reflected => "reflected",
            Self::WrongLink => "wrong-link",
            Self::Malformed => "malformed",
            Self::Hello { .. } => "hello",
        }
    }
}

impl core::fmt::Display for Drop {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}
