//! One datagram as bytes: cleartext header, sealed body, tag. Knows the format and the cipher, not which boots or
//! sequence numbers are good: that is [`crate::Session`]. RFC 8439 (ChaCha20-Poly1305).
//!
//! ```text
//! 0  magic "TwHb" │ 4 version │ 5 link │ 6 group tag (8) │ 14 unit (8) │ 22 boot (16) │ 38 sequence (8) │ 46 body … │ tag (16)
//! ```
//! Numbers are little-endian. The whole header is authenticated with the body. The body is postcard; what a newer neighbouring
//! release appends to it is ignored.

use crate::Drop;
use crate::keys::{BootKey, GROUP_BYTES, Keys};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};
use serde::{Deserialize, Serialize};
use twinpost_types::{BootId, LINKS, LinkId, Report, UnitId};

/// Longest datagram, bytes. The longest body of today fills half of it; the rest is room for neighbouring releases.
pub const DATAGRAM_BYTES_MAX: usize = 512;

const MAGIC: [u8; 4] = *b"TwHb";
const VERSION: u8 = 1;
pub(crate) const HEADER_BYTES: usize = 46;
const TAG_BYTES: usize = 16;
/// Shortest datagram that can be one.
const BYTES_MIN: usize = HEADER_BYTES + TAG_BYTES;
/// Longest body.
pub(crate) const BODY_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - BYTES_MIN;

/// What is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Body {
    /// The sender's current challenge.
    pub challenge: u64,
    /// The challenges that the sender last heard: from the boot that it believes, and from one that it does not believe
    /// yet; 0 = none. Apart, so that recordings of old boots cannot push out the echo that a live one waits for.
    pub echo: [u64; 2],
    /// Highest sequence number that the sender has used on each link, this datagram included.
    pub sent: [u64; LINKS],
    /// What the sender says. Last, so that newer releases can append to it.
    pub report: Report,
}

/// The cleartext header after its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub link: LinkId,
    pub unit: UnitId,
    pub boot: BootId,
    pub sequence: u64,
}

impl Header {
    fn encode(&self, group: [u8; GROUP_BYTES]) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = link_byte(self.link);
        bytes[6..14].copy_from_slice(&group);
        bytes[14..22].copy_from_slice(&self.unit.0.to_le_bytes());
        bytes[22..38].copy_from_slice(&self.boot.0.to_le_bytes());
        bytes[38..46].copy_from_slice(&self.sequence.to_le_bytes());
        bytes
    }

    /// Checks what can be checked without a key.
    ///
    /// # Errors
    ///
    /// `Truncated`, `Oversized`, `Magic`, `Version`, `ForeignGroup`, or `Forged` for a link that does not exist.
    pub(crate) fn decode(datagram: &[u8], group: [u8; GROUP_BYTES]) -> Result<Self, Drop> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(Drop::Oversized);
        }
        if datagram.len() < BYTES_MIN {
            return Err(Drop::Truncated);
        }
        if datagram[..4] != MAGIC {
            return Err(Drop::Magic);
        }
        if datagram[4] != VERSION {
            return Err(Drop::Version);
        }
        if datagram[6..14] != group {
            return Err(Drop::ForeignGroup);
        }
        let header = Self {
            link: LinkId::new(usize::from(datagram[5])).ok_or(Drop::Forged)?,
            unit: UnitId(u64::from_le_bytes(field(datagram, 14))),
            boot: BootId(u128::from_le_bytes(field(datagram, 22))),
            sequence: u64::from_le_bytes(field(datagram, 38)),
        };
        Ok(header)
    }
}

/// Seals `body` behind `header` into `out`; returns the number of bytes.
pub(crate) fn seal(
    keys: &Keys,
    key: &BootKey,
    header: &Header,
    body: &Body,
    out: &mut [u8; DATAGRAM_BYTES_MAX],
) -> usize {
    let head = header.encode(keys.group());
    let length = postcard::to_slice(body, &mut out[HEADER_BYTES..HEADER_BYTES + BODY_BYTES_MAX])
        .expect("BODY_BYTES_MAX exceeds the longest encoding of a body; a test seals it")
        .len();
    out[..HEADER_BYTES].copy_from_slice(&head);
    let end = HEADER_BYTES + length;
    let tag = cipher(key)
        .encrypt_inout_detached(&nonce(header), &head, (&mut out[HEADER_BYTES..end]).into())
        .expect("ChaCha20-Poly1305 refuses only messages of 256 GiB");
    out[end..end + TAG_BYTES].copy_from_slice(&tag);
    end + TAG_BYTES
}

/// Opens the body of `datagram`, whose header was decoded before.
///
/// # Errors
///
/// `Forged` when the key does not fit, `Malformed` when the content makes no sense.
pub(crate) fn open(key: &BootKey, header: &Header, datagram: &[u8]) -> Result<Body, Drop> {
    let (head, sealed) = datagram.split_at_checked(HEADER_BYTES).ok_or(Drop::Truncated)?;
    let (sealed, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(Drop::Truncated)?;
    let mut body = [0; BODY_BYTES_MAX];
    let body = body.get_mut(..sealed.len()).ok_or(Drop::Oversized)?;
    body.copy_from_slice(sealed);
    cipher(key)
        .decrypt_inout_detached(&nonce(header), head, (&mut *body).into(), &Tag::from(*tag))
        .map_err(|_| Drop::Forged)?;
    decode_body(body).ok_or(Drop::Malformed)
}

/// Decodes an opened body; `None` when it makes no sense.
pub(crate) fn decode_body(bytes: &[u8]) -> Option<Body> {
    let (body, _appended_by_newer_release) = postcard::take_from_bytes::<Body>(bytes).ok()?;
    let link_exists = body.report.replication_link.is_none_or(|link| LinkId::ALL.contains(&link));
    link_exists.then_some(body)
}

/// Puts a header that passes the cleartext checks before `data`.
pub(crate) fn fuzz_prefix(keys: &Keys, data: &[u8], out: &mut [u8; DATAGRAM_BYTES_MAX]) -> usize {
    let header = Header { link: LinkId::ALL[0], unit: UnitId(2), boot: BootId(2), sequence: 1 };
    out[..HEADER_BYTES].copy_from_slice(&header.encode(keys.group()));
    let length = data.len().min(DATAGRAM_BYTES_MAX - HEADER_BYTES);
    out[HEADER_BYTES..HEADER_BYTES + length].copy_from_slice(&data[..length]);
    HEADER_BYTES + length
}

fn cipher(key: &BootKey) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(Key::cast_from_core(key.bytes()))
}

/// Unique under one boot's key: a sequence number is used once on a link.
fn nonce(header: &Header) -> Nonce {
    let mut nonce = [0; 12];
    nonce[0] = link_byte(header.link);
    nonce[4..].copy_from_slice(&header.sequence.to_le_bytes());
    Nonce::from(nonce)
}

fn link_byte(link: LinkId) -> u8 {
    u8::try_from(link.index()).expect("LINKS fits a byte")
}

fn field<const N: usize>(datagram: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&datagram[at..at + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinpost_types::{
        ConfiguredMode, DiskState, EffectiveMode, Epoch, Health, Heard, Intent, Replication, ServiceAddress,
        Version, VolumeReport,
    };

    /// The body with the longest encoding: every number at its greatest.
    fn longest() -> Body {
        let volume = VolumeReport {
            local: DiskState::UpToDate,
            peer: DiskState::UpToDate,
            replication: Replication::SyncTarget,
            promoted: true,
            fresh: true,
            suspended: true,
            out_of_sync_kib: u32::MAX,
            size_mib: u32::MAX,
        };
        let heard = Heard { sequence: u64::MAX, age_ms: u16::MAX, lost: u16::MAX };
        Body {
            challenge: u64::MAX,
            echo: [u64::MAX; 2],
            sent: [u64::MAX; LINKS],
            report: Report {
                epoch: Epoch(u64::MAX),
                configured: ConfiguredMode::ConfigSecondary,
                effective: EffectiveMode::ConfigSecondary,
                intent: Intent::HandOver(Epoch(u64::MAX)),
                health: Health { service_port: true, third_party: true, mail: true, storage: true },
                volumes: [volume; twinpost_types::VOLUMES],
                replication_link: LinkId::new(1),
                config_revision: u64::MAX,
                config_checksum: u32::MAX,
                firmware: Version { major: 255, minor: 255, patch: 255 },
                service: ServiceAddress { ipv4: [255; 4], mac: [255; 6] },
                heard: [heard; LINKS],
            },
        }
    }

    #[test]
    fn longest_body_fills_at_most_half_of_the_room() {
        let mut out = [0; DATAGRAM_BYTES_MAX];
        let keys = Keys::from_master([1; 32], "g");
        let key = keys.boot_key(UnitId(1), BootId(1));
        let header = Header { link: LinkId::ALL[1], unit: UnitId(1), boot: BootId(1), sequence: 1 };
        let n = seal(&keys, &key, &header, &longest(), &mut out);
        assert!(n <= DATAGRAM_BYTES_MAX / 2, "{n}");
        assert_eq!(Header::decode(&out[..n], keys.group()), Ok(header));
        assert_eq!(open(&key, &header, &out[..n]), Ok(longest()));
    }

    #[test]
    fn bytes_appended_by_a_newer_release_are_ignored() {
        let mut bytes = [0; 300];
        let n = postcard::to_slice(&longest(), &mut bytes).expect("fits").len();
        assert_eq!(decode_body(&bytes[..n + 7]), Some(longest()));
    }

    #[test]
    fn replication_link_that_does_not_exist_is_malformed() {
        let mut bytes = [0; 300];
        let mut body = longest();
        body.report = Report { replication_link: LinkId::new(1), ..Report::default() };
        let n = postcard::to_slice(&body, &mut bytes).expect("fits").len();
        let mut found = false;
        for at in 0..n {
            let old = core::mem::replace(&mut bytes[at], 9);
            if let Ok((decoded, _)) = postcard::take_from_bytes::<Body>(&bytes)
                && decoded.report.replication_link.is_some_and(|link| !LinkId::ALL.contains(&link))
            {
                found = true;
                assert_eq!(decode_body(&bytes), None);
            }
            bytes[at] = old;
        }
        assert!(found, "the byte of the link was not hit");
    }
}
