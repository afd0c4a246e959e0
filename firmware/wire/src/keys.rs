//! Keys: the group's master key from the HA password, one key a boot from the master key, and the group tag that tells
//! foreign groups from forgeries. Holds no session state. RFC 9106 (Argon2), RFC 2104 (HMAC).

use argon2::{Algorithm, Argon2, Params, Version};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use twinpost_types::{BootId, UnitId};
use zeroize::Zeroizing;

/// Memory of Argon2id, KiB. 8 MiB is what a small unit can spare for a moment at start; it is given back at once.
const ARGON2_MEMORY_KIB: u32 = 8 * 1024;
/// Passes of Argon2id over its memory (RFC 9106 section 4 uses 3 for small memory).
const ARGON2_PASSES: u32 = 3;
/// Lanes: the derivation runs on one thread.
const ARGON2_LANES: u32 = 1;
/// Bytes of the group tag in each header.
pub(crate) const GROUP_BYTES: usize = 8;
/// Bytes of every key here.
pub(crate) const KEY_BYTES: usize = 32;

/// The keys of one group. Wiped from memory when dropped.
#[derive(Clone)]
pub struct Keys {
    master: Zeroizing<[u8; KEY_BYTES]>,
    group: [u8; GROUP_BYTES],
}

/// What a key is for, besides the heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The control channel between the units.
    Control,
    /// What replication proves to its peer when it connects.
    Replication,
}

/// Why the master key could not be derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key derivation from the HA password failed (it needs {ARGON2_MEMORY_KIB} KiB of memory): {0}")]
pub struct DeriveError(argon2::Error);

impl Keys {
    /// Derives the master key with Argon2id (8 MiB, 3 passes, 1 lane; salt from the group's name). Done once at start:
    /// it takes tens of milliseconds and is the only place of this crate that allocates.
    ///
    /// The group tag depends on the group's name alone. Units of one group with different passwords therefore see
    /// [`crate::Drop::Forged`] on both sides, units of other groups [`crate::Drop::ForeignGroup`].
    ///
    /// # Errors
    ///
    /// [`DeriveError`] when there is no memory for the derivation.
    pub fn derive(password: &str, group: &str) -> Result<Self, DeriveError> {
        let params = Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, Some(KEY_BYTES));
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.map_err(DeriveError)?);
        let salt = labelled(b"twinpost heartbeat salt v1", group.as_bytes());
        let mut master = Zeroizing::new([0; KEY_BYTES]);
        argon2
            .hash_password_into(password.as_bytes(), &salt[..16], master.as_mut_slice())
            .map_err(DeriveError)?;
        Ok(Self { master, group: group_tag(group) })
    }

    /// Keys from a master key that was derived elsewhere (simulation and tests, where Argon2 would cost too much).
    #[must_use]
    pub fn from_master(master: [u8; KEY_BYTES], group: &str) -> Self {
        Self { master: Zeroizing::new(master), group: group_tag(group) }
    }

    /// A key for another purpose than the heartbeat. Keys of two purposes say nothing about each other.
    #[must_use]
    pub fn for_purpose(&self, purpose: Purpose) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.master.as_slice()).expect("HMAC takes keys of any length");
        mac.update(match purpose {
            Purpose::Control => b"twinpost control key v1".as_slice(),
            Purpose::Replication => b"twinpost replication key v1",
        });
        mac.update(&self.group);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        key.copy_from_slice(&mac.finalize().into_bytes());
        key
    }

    /// Tag of the group in the cleartext header.
    pub(crate) fn group(&self) -> [u8; GROUP_BYTES] {
        self.group
    }

    /// Key that `unit` seals with during `boot`.
    pub(crate) fn boot_key(&self, unit: UnitId, boot: BootId) -> BootKey {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.master.as_slice()).expect("HMAC takes keys of any length");
        mac.update(b"twinpost heartbeat key v1");
        mac.update(&unit.0.to_le_bytes());
        mac.update(&boot.0.to_le_bytes());
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        key.copy_from_slice(&mac.finalize().into_bytes());
        BootKey(key)
    }
}

/// Key of one boot of one unit. Wiped from memory when dropped.
#[derive(Clone)]
pub(crate) struct BootKey(Zeroizing<[u8; KEY_BYTES]>);

impl BootKey {
    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

fn group_tag(group: &str) -> [u8; GROUP_BYTES] {
    let hash = labelled(b"twinpost heartbeat group v1", group.as_bytes());
    let mut tag = [0; GROUP_BYTES];
    tag.copy_from_slice(&hash[..GROUP_BYTES]);
    tag
}

fn labelled(label: &[u8], bytes: &[u8]) -> [u8; 32] {
    // The length keeps label and content apart whatever they are.
    let length = u8::try_from(label.len()).expect("labels here are short");
    Sha256::new().chain_update([length]).chain_update(label).chain_update(bytes).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_different_purposes_and_groups_differ() {
        let of = |group| Keys::from_master([7; KEY_BYTES], group);
        let control = of("a").for_purpose(Purpose::Control);
        assert_eq!(control, of("a").for_purpose(Purpose::Control));
        assert_ne!(control, of("a").for_purpose(Purpose::Replication));
        assert_ne!(control, of("b").for_purpose(Purpose::Control));
        assert_ne!(control.as_slice(), of("a").boot_key(UnitId(0), BootId(0)).bytes());
    }
}
