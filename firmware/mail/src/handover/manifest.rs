//! What a volume held when a unit became primary, as a sorted list of keys in one file of that volume. It answers two questions
//! after the copies have parted: what did the primary have already, and what is on both copies. Both err on the side of
//! handing a message over. The time, the epoch and whether the copies were equal come from outside.

use super::item::Key;
use super::{FOLDER, Layout, scan};
use rustix::fs::Mode;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// First bytes of the file.
const MAGIC: &[u8; 8] = b"TPMANIF2";
/// Magic, epoch, unit, count, first epoch, then first epoch and unit of the copy that was taken over (epoch 0 = none).
const HEADER_BYTES: usize = 56;
/// One key and its mark.
const ENTRY_BYTES: usize = 17;
/// SHA-256 of all before it.
const DIGEST_BYTES: usize = 32;
/// Most keys: four million messages need 68 MB while one manifest is made, and no box of this class holds more.
pub const KEYS_MAX: usize = 4 << 20;
/// Name of the file in the hand-over folder.
const NAME: &str = "manifest";

/// The manifest of one volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Epoch of the promotion.
    pub epoch: u64,
    /// The unit that was promoted.
    pub unit: u64,
    /// Epoch of this unit's first promotion since another one wrote to the copy: with the unit it names one unbroken history.
    pub since: u64,
    /// `since` and `unit` of the copy that this unit took over; `None` when there was none. What is common was on that copy.
    pub parted: Option<(u64, u64)>,
    /// Every message that the unit had since the copies parted; true = known to be on both copies.
    keys: BTreeMap<Key, bool>,
}

/// How a unit was promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// Epoch.
    pub epoch: u64,
    /// This unit.
    pub unit: u64,
    /// Replication knew of no difference between the copies before the promotion.
    pub copies_equal: bool,
    /// The volume is not replicated: what is on it is nowhere else, and what was on it was handed over.
    pub local: bool,
    /// Seconds since 1970, safely before this unit stored mail in this role: mailboxes are listed while mail comes in, and what
    /// may be younger is on this copy only.
    pub before_s: u64,
}

/// One of the two volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// The queue: listed before the mail service starts.
    Queue,
    /// Mailboxes: listed while the mail service runs.
    Data,
}

impl Volume {
    fn root(self, layout: &Layout) -> &Path {
        match self {
            Self::Queue => &layout.queue,
            Self::Data => &layout.data,
        }
    }
}

/// Why a manifest is not there.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The volume cannot be read or written.
    #[error("the list of the messages on this volume cannot be {verb}")]
    Io {
        /// `read` or `written`.
        verb: &'static str,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
    /// It is damaged.
    #[error("the list of the messages on this volume is damaged")]
    Damaged,
    /// More than [`KEYS_MAX`].
    #[error("more than {KEYS_MAX} messages on one volume")]
    Full,
}

/// Notes what the volume holds at a promotion. A second note of the same promotion changes nothing: what came later is not on
/// both copies. True when a manifest was written. Ends soon after `stop` was set, since the volume is then unmounted.
///
/// # Errors
/// The volume cannot be read or written, or it was stopped. A damaged older manifest counts as none.
pub fn note(
    layout: &Layout,
    volume: Volume,
    promotion: Promotion,
    stop: &AtomicBool,
) -> Result<bool, ManifestError> {
    let before = read(layout, volume).or_else(|error| match error {
        ManifestError::Damaged => Ok(None),
        other => Err(other),
    })?;
    if before.as_ref().is_some_and(|old| (old.epoch, old.unit) == (promotion.epoch, promotion.unit)) {
        return Ok(false);
    }
    let reading = |source| ManifestError::Io { verb: "read", source };
    let present = match volume {
        Volume::Queue => {
            let keys = scan::queue_keys(layout).map_err(reading)?;
            keys.into_iter().map(|key| (key, true)).collect()
        }
        Volume::Data => scan::mail_keys(layout, promotion.before_s, stop).map_err(reading)?,
    };
    let manifest = Manifest::at(promotion, present, before).ok_or(ManifestError::Full)?;
    write(volume.root(layout), &manifest.encode())
        .map_err(|source| ManifestError::Io { verb: "written", source })?;
    Ok(true)
}

/// Drops the manifest of a volume, if there is one.
///
/// # Errors
/// It cannot be removed.
pub fn forget(layout: &Layout, volume: Volume) -> io::Result<()> {
    match std::fs::remove_file(volume.root(layout).join(FOLDER).join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The manifest on a volume; `None` if none was ever written.
///
/// # Errors
/// See [`ManifestError`].
pub fn read(layout: &Layout, volume: Volume) -> Result<Option<Manifest>, ManifestError> {
    match std::fs::read(volume.root(layout).join(FOLDER).join(NAME)) {
        Ok(bytes) => Manifest::decode(&bytes).map(Some).ok_or(ManifestError::Damaged),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ManifestError::Io { verb: "read", source }),
    }
}

impl Manifest {
    /// The unit had this message when it was promoted, or since the copies parted.
    #[must_use]
    pub fn had(&self, key: &Key) -> bool {
        self.keys.contains_key(key)
    }

    /// The message was on both copies when they parted.
    #[must_use]
    pub fn is_common(&self, key: &Key) -> bool {
        self.keys.get(key).copied().unwrap_or(false)
    }

    /// What a promotion finds: keys, and whether each is certainly older than the promotion. A unit that takes over from the other one has nothing that the other one did not have. A unit
    /// that is promoted again keeps what it had before, because the other copy may still hold what was delivered meanwhile.
    /// `None` if there are too many.
    fn at(promotion: Promotion, present: Vec<(Key, bool)>, before: Option<Self>) -> Option<Self> {
        let Promotion { epoch, unit, copies_equal, local, .. } = promotion;
        let before = before.filter(|_| !local);
        let from_other = before.as_ref().is_some_and(|old| old.unit != unit);
        let common = copies_equal || from_other;
        let (since, parted) = match &before {
            Some(old) if from_other => (epoch, Some((old.since, old.unit))),
            Some(old) => (old.since, old.parted),
            None => (epoch, None),
        };
        let mut keys = match before {
            Some(old) if !common => old.keys,
            _ => BTreeMap::new(),
        };
        for (key, old) in present {
            keys.entry(key).or_insert(common && old);
        }
        (keys.len() <= KEYS_MAX).then_some(Self { epoch, unit, since, parted, keys })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.keys.len() * ENTRY_BYTES + DIGEST_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.unit.to_le_bytes());
        bytes.extend_from_slice(&u64::try_from(self.keys.len()).unwrap_or(u64::MAX).to_le_bytes());
        let (parted_since, parted_unit) = self.parted.unwrap_or_default();
        for number in [self.since, parted_since, parted_unit] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for (key, common) in &self.keys {
            bytes.extend_from_slice(key);
            bytes.push(u8::from(*common));
        }
        let digest: [u8; DIGEST_BYTES] = Sha256::digest(&bytes).into();
        bytes.extend_from_slice(&digest);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
        let actual: [u8; DIGEST_BYTES] = Sha256::digest(content).into();
        let (header, entries) = content.split_at_checked(HEADER_BYTES)?;
        let number = |at: usize| header.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
        let count = u64::try_from(entries.len()).ok()?;
        let sound = actual == *digest
            && header.starts_with(MAGIC)
            && rest.is_empty()
            && number(24)? == count
            && entries.len() <= KEYS_MAX;
        let entry = |entry: &[u8; ENTRY_BYTES]| {
            let (common, key) = entry.split_last()?;
            Some((Key::try_from(key).ok()?, *common != 0))
        };
        sound.then(|| {
            let keys = entries.iter().filter_map(entry).collect();
            let parted = Some((number(40)?, number(48)?)).filter(|(since, _)| *since != 0);
            Some(Self { epoch: number(8)?, unit: number(16)?, since: number(32)?, parted, keys })
        })?
    }
}

/// New file, synced, renamed over the old one, folder synced.
fn write(root: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = root.join(FOLDER);
    if !folder.is_dir() {
        std::fs::create_dir_all(&folder)?;
        rustix::fs::chmod(&folder, Mode::RWXU)?;
        File::open(root)?.sync_all()?;
    }
    let new = folder.join(format!("{NAME}.new"));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, folder.join(NAME))?;
    File::open(&folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: Promotion = Promotion { epoch: 5, unit: 1, copies_equal: true, local: false, before_s: 0 };

    fn keys(names: &[u8]) -> Vec<(Key, bool)> {
        names.iter().map(|name| ([*name; 16], name.is_ascii_lowercase())).collect()
    }

    fn at(promotion: Promotion, present: &[u8], before: Option<Manifest>) -> Manifest {
        Manifest::at(promotion, keys(present), before).unwrap()
    }

    #[test]
    fn equal_copies_have_everything_in_common() {
        let manifest = at(FIRST, b"ab", None);
        assert!(manifest.is_common(&[b'a'; 16]) && manifest.had(&[b'b'; 16]) && !manifest.had(&[b'c'; 16]));
    }

    #[test]
    fn a_unit_promoted_again_alone_remembers_what_it_had() {
        let again = Promotion { epoch: 6, copies_equal: false, ..FIRST };
        let manifest = at(again, b"bc", Some(at(FIRST, b"ab", None)));
        assert!(manifest.had(&[b'a'; 16]), "delivered meanwhile, but perhaps still on the other copy");
        assert!(manifest.is_common(&[b'b'; 16]));
        assert!(manifest.had(&[b'c'; 16]) && !manifest.is_common(&[b'c'; 16]), "came while alone");
        assert_eq!((manifest.since, manifest.parted), (5, None), "one history");
    }

    #[test]
    fn what_a_unit_takes_over_the_other_one_had() {
        let other = Promotion { epoch: 7, unit: 2, copies_equal: false, ..FIRST };
        let manifest = at(other, b"c", Some(at(FIRST, b"ab", None)));
        assert!(manifest.is_common(&[b'c'; 16]) && !manifest.had(&[b'a'; 16]));
        assert_eq!(manifest.parted, Some((5, 1)), "the copy that it took over");
        assert_eq!(Manifest::decode(&manifest.encode()), Some(manifest.clone()));
        let again = at(Promotion { epoch: 8, ..other }, b"c", Some(manifest));
        assert_eq!(again.parted, Some((5, 1)), "the copies parted then, not now");
    }

    #[test]
    fn what_may_be_younger_than_the_promotion_is_not_in_common() {
        let manifest = at(FIRST, b"aZ", None);
        assert!(manifest.had(&[b'Z'; 16]) && !manifest.is_common(&[b'Z'; 16]));
    }

    #[test]
    fn a_volume_that_is_not_replicated_knows_only_what_it_holds() {
        let local = Promotion { local: true, copies_equal: false, epoch: 6, ..FIRST };
        let manifest = at(local, b"b", Some(at(FIRST, b"ab", None)));
        assert!(manifest.had(&[b'b'; 16]) && !manifest.is_common(&[b'b'; 16]));
        assert!(!manifest.had(&[b'a'; 16]), "it was handed over, and may come back");
    }

    #[test]
    fn nothing_is_in_common_by_guess() {
        let alone = Promotion { copies_equal: false, ..FIRST };
        assert!(!at(alone, b"a", None).is_common(&[b'a'; 16]));
    }

    #[test]
    fn every_damage_is_noticed() {
        let good = at(FIRST, b"abc", None).encode();
        assert_eq!(Manifest::decode(&good), Some(at(FIRST, b"abc", None)));
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            assert_eq!(Manifest::decode(&bad), None, "byte {place}");
            assert_eq!(Manifest::decode(&good[..place]), None, "cut at {place}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_manifest_or_not(bytes: Vec<u8>) {
            let _ = Manifest::decode(&bytes);
        }
    }
}
