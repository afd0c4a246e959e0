//! dm-verity table of a root partition (kernel documentation: admin-guide/device-mapper/verity) and the check that a
//! partition's hash tree belongs to the root hash, so that a wrong disk or a broken tree gets a clear line instead of a
//! kernel panic. Pure; the ioctls are in `dm.rs`.

use crate::cmdline::{BLOCK_BYTES, BootArgs, to_hex};
use sha2::{Digest as _, Sha256};

/// Unit of device-mapper lengths, bytes.
const SECTOR_BYTES: u64 = 512;

/// Sectors that the mapped device has.
#[must_use]
pub fn sectors(args: &BootArgs) -> u64 {
    args.hash_offset / SECTOR_BYTES
}

/// Parameters of the target `verity` on the device `major:minor`.
#[must_use]
pub fn parameters(args: &BootArgs, device: &str) -> String {
    let salt = if args.salt.is_empty() { "-".to_owned() } else { to_hex(&args.salt) };
    let blocks = args.hash_offset / BLOCK_BYTES;
    format!(
        "1 {device} {device} {BLOCK_BYTES} {BLOCK_BYTES} {blocks} {blocks} sha256 {} {salt} 1 panic_on_corruption",
        to_hex(&args.root_hash)
    )
}

/// Whether `top`, the first block of the hash tree, is the one that the root hash names. The tree begins with its top
/// level, which is one block.
#[must_use]
pub fn tree_fits(args: &BootArgs, top: &[u8]) -> bool {
    let mut hash = Sha256::new();
    hash.update(&args.salt);
    hash.update(top);
    hash.finalize().as_slice() == args.root_hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::Slot;

    #[test]
    fn table_and_top_block() {
        let top = [7_u8; 4096];
        let root_hash: [u8; 32] = Sha256::new().chain_update([1, 2]).chain_update(top).finalize().into();
        let args = BootArgs { slot: Slot::A, root_hash, hash_offset: 40960, salt: vec![1, 2] };
        assert!(tree_fits(&args, &top));
        assert!(!tree_fits(&args, &[8; 4096]));
        assert_eq!(sectors(&args), 80);
        let text = parameters(&args, "254:5");
        assert!(text.starts_with("1 254:5 254:5 4096 4096 10 10 sha256 "), "{text}");
        assert!(text.ends_with(" 0102 1 panic_on_corruption"), "{text}");
    }
}
