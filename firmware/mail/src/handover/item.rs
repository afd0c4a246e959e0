//! What is handed over, by name: queue files, their logs, mailbox messages. Names come from another unit and become paths,
//! so they are checked here and nowhere else. Pure.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// Longest queue id: long ids have 10 to 20 characters (Postfix `mail_queue.h`).
const ID_BYTES_MAX: usize = 32;
/// Longest file name (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;
/// Most letters of flags after `:2,`; Dovecot has 6 and 26 keywords.
const FLAGS_MAX: usize = 40;

/// What tells a message from every other one: the beginning of a SHA-256 of its name. Half of the digest leaves accidents
/// impossible in practice and keeps manifests small.
pub type Key = [u8; 16];

/// Where a queue file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueFolder {
    /// Mail under way; also what waited in `active` and `deferred`.
    Incoming,
    /// Held by an operator.
    Hold,
    /// Submitted locally and not picked up yet.
    Maildrop,
    /// Recipients that failed for good, to be reported when the message is done.
    Bounce,
    /// Recipients for whom a delivery report was asked.
    Trace,
}

impl QueueFolder {
    /// Its folder below the spool.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Hold => "hold",
            Self::Maildrop => "maildrop",
            Self::Bounce => "bounce",
            Self::Trace => "trace",
        }
    }

    /// A log that belongs to a message of the same id, not a message.
    #[must_use]
    pub fn is_log(self) -> bool {
        matches!(self, Self::Bounce | Self::Trace)
    }
}

/// Name of something that is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// A file of the queue.
    Queue {
        /// Where it goes.
        folder: QueueFolder,
        /// Its queue id.
        id: String,
    },
    /// A message in a Maildir.
    Mail {
        /// Domain of the mailbox.
        domain: String,
        /// Local part.
        user: String,
        /// Maildir++ folder, `.Sent` for instance; empty = the inbox.
        folder: String,
        /// Unique name: what stands before `:2,`.
        unique: String,
        /// Letters after `:2,`; `None` = in `new`, no client has seen it.
        flags: Option<String>,
    },
}

impl Item {
    /// A message of a Maildir by the name of its file; `None` if no Maildir names a file so.
    #[must_use]
    pub fn of_mail(domain: &str, user: &str, folder: &str, seen: bool, file: &str) -> Option<Self> {
        let (unique, flags) = file.split_once(":2,").unwrap_or((file, ""));
        let item = Self::Mail {
            domain: domain.to_owned(),
            user: user.to_owned(),
            folder: folder.to_owned(),
            unique: unique.to_owned(),
            flags: seen.then(|| flags.to_owned()),
        };
        item.is_valid().then_some(item)
    }

    /// The key: the same wherever the message lies and whatever its flags are.
    #[must_use]
    pub fn key(&self) -> Key {
        let name = match self {
            Self::Queue { folder, id } if folder.is_log() => format!("{}/{id}", folder.name()),
            Self::Queue { id, .. } => format!("queue/{id}"),
            Self::Mail { domain, user, unique, .. } => format!("mail/{domain}/{user}/{unique}"),
        };
        let digest: [u8; 32] = Sha256::digest(name.as_bytes()).into();
        let mut key = Key::default();
        key.copy_from_slice(&digest[..16]);
        key
    }

    /// Whether the name can be a path below its volume and nowhere else.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        match self {
            Self::Queue { id, .. } => {
                (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric())
            }
            Self::Mail { domain, user, folder, unique, flags } => {
                let is_folder = folder.is_empty()
                    || (folder.starts_with('.') && folder.len() > 1 && is_component(folder));
                let letters = |flags: &String| {
                    flags.len() <= FLAGS_MAX && flags.bytes().all(|b| b.is_ascii_alphabetic())
                };
                let length = unique.len() + flags.as_ref().map_or(0, |flags| flags.len() + 3);
                [domain, user].into_iter().all(|name| is_component(name) && !name.starts_with('.'))
                    && is_folder
                    && is_component(unique)
                    && !unique.starts_with('.')
                    && !unique.contains(':')
                    && length <= NAME_BYTES_MAX
                    && flags.as_ref().is_none_or(letters)
            }
        }
    }

    /// Whether it goes to the data volume.
    #[must_use]
    pub fn is_mail(&self) -> bool {
        matches!(self, Self::Mail { .. })
    }

    /// The folder that holds it and its file name, below the spool or below the mailboxes.
    #[must_use]
    pub fn place(&self) -> (PathBuf, String) {
        match self {
            Self::Queue { folder, id } => (PathBuf::from(folder.name()), id.clone()),
            Self::Mail { domain, user, folder, unique, flags } => {
                let maildir = Path::new(domain).join(user).join("Maildir").join(folder);
                match flags {
                    None => (maildir.join("new"), unique.clone()),
                    Some(flags) => (maildir.join("cur"), format!("{unique}:2,{flags}")),
                }
            }
        }
    }
}

/// Digits of a key or digest, in lower case.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// One component of a path that is neither special nor too long.
fn is_component(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b != b'/' && !b.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    #[test]
    fn a_message_keeps_its_key_where_it_lies_and_with_any_flags() {
        let name = "1700000000.M12P34.unit-a,S=5,W=6";
        let fresh = Item::of_mail("local.test", "alice", "", false, name).unwrap();
        let read = Item::of_mail("local.test", "alice", ".Old", true, &format!("{name}:2,FS")).unwrap();
        assert_eq!(fresh.key(), read.key());
        assert_eq!(read.place().1, format!("{name}:2,FS"));
        assert_eq!(read.place().0, Path::new("local.test/alice/Maildir/.Old/cur"));
        let queue = |folder| Item::Queue { folder, id: "4abcDEF123".into() };
        assert_eq!(queue(QueueFolder::Hold).key(), queue(QueueFolder::Incoming).key());
        assert_ne!(queue(QueueFolder::Bounce).key(), queue(QueueFolder::Incoming).key());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for (domain, user, folder, file) in [
            ("..", "alice", "", "x"),
            ("local.test", "a/b", "", "x"),
            ("local.test", "alice", "Maildir", "x"),
            ("local.test", "alice", "..", "x"),
            ("local.test", "alice", "", ""),
            ("local.test", "alice", "", ".hidden"),
            ("local.test", "alice", "", "x:2,../"),
            ("local.test", "alice", "", "x:1,S"),
        ] {
            assert_eq!(
                Item::of_mail(domain, user, folder, true, file),
                None,
                "{domain} {user} {folder} {file}"
            );
        }
        for id in ["", "../x", "a.b", &"x".repeat(33)] {
            assert!(!Item::Queue { folder: QueueFolder::Incoming, id: id.into() }.is_valid(), "{id}");
        }
    }

    proptest! {
        #[test]
        fn valid_names_stay_below_their_volume(domain: String, user: String, folder: String, unique: String, flags: Option<String>) {
            let item = Item::Mail { domain, user, folder, unique, flags };
            if item.is_valid() {
                let (folder, name) = item.place();
                prop_assert!(folder.join(name).components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
