//! The dm-verity hash tree: SHA-256, 4096-byte blocks, version 1 (salt first), no superblock.
//!
//! Written by hand after the kernel's admin-guide/device-mapper/verity; a test compares it with `veritysetup`.

use sha2::{Digest, Sha256};

/// Bytes of data and hash blocks.
pub const BLOCK: usize = 4096;
const DIGEST: usize = 32;

/// A finished tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashTree {
    /// What is written behind the data: the level at the root first.
    pub blocks: Vec<u8>,
    /// Hash of the top block, known to the kernel by its command line.
    pub root: [u8; DIGEST],
}

/// Builds the tree over `data`, whose length must be a multiple of [`BLOCK`] and not zero.
pub fn hash_tree(data: &[u8], salt: &[u8]) -> HashTree {
    assert!(!data.is_empty() && data.len().is_multiple_of(BLOCK), "verity data must be whole blocks");
    let mut levels: Vec<Vec<u8>> = vec![];
    let mut current = level_above(data, salt);
    while current.len() > BLOCK {
        let next = level_above(&current, salt);
        levels.push(current);
        current = next;
    }
    let root = digest(&current, salt);
    // Data of a single block has no tree at all in the kernel's eyes: its hash is the root.
    if data.len() == BLOCK {
        return HashTree { blocks: vec![], root: digest(data, salt) };
    }
    levels.push(current);
    HashTree { blocks: levels.into_iter().rev().flatten().collect(), root }
}

/// Hashes of all blocks of a level, filled up with zeros to whole blocks.
fn level_above(data: &[u8], salt: &[u8]) -> Vec<u8> {
    let mut level = Vec::with_capacity(data.len() / BLOCK * DIGEST + BLOCK);
    for block in data.chunks(BLOCK) {
        level.extend_from_slice(&digest(block, salt));
    }
    level.resize(level.len().next_multiple_of(BLOCK), 0);
    level
}

fn digest(block: &[u8], salt: &[u8]) -> [u8; DIGEST] {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::hex;
    use std::process::Command;

    /// Counting data, so that no two blocks are alike.
    fn sample(blocks: usize) -> Vec<u8> {
        (0..blocks * BLOCK / 4).flat_map(|word| (word as u32).to_le_bytes()).collect()
    }

    #[test]
    fn levels_are_stored_top_first() {
        let tree = hash_tree(&sample(129), b"salt");
        assert_eq!(tree.blocks.len(), 3 * BLOCK);
        assert_eq!(digest(&tree.blocks[..BLOCK], b"salt"), tree.root);
        assert_eq!(digest(&tree.blocks[BLOCK..2 * BLOCK], b"salt"), tree.blocks[..DIGEST]);
        assert_eq!(digest(&sample(129)[..BLOCK], b"salt"), tree.blocks[BLOCK..BLOCK + DIGEST]);
    }

    #[test]
    fn veritysetup_agrees() {
        let program = ["/usr/sbin/veritysetup", "/sbin/veritysetup"]
            .into_iter()
            .find(|p| std::path::Path::new(p).exists());
        let program =
            program.expect("veritysetup is installed by `cargo xtask test` (package cryptsetup-bin)");
        for blocks in [2, 128, 129, 20_000] {
            let data = sample(blocks);
            let tree = hash_tree(&data, &[0xab, 0xcd]);
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut all = data.clone();
            all.extend_from_slice(&tree.blocks);
            std::fs::write(file.path(), &all).unwrap();
            let verify = |root: &str| {
                Command::new(program)
                    .args(["verify", "--no-superblock", "--format=1", "--hash=sha256", "--salt=abcd"])
                    .args(["--data-block-size=4096", "--hash-block-size=4096"])
                    .arg(format!("--data-blocks={blocks}"))
                    .arg(format!("--hash-offset={}", data.len()))
                    .args([file.path(), file.path()])
                    .arg(root)
                    .output()
                    .unwrap()
            };
            let result = verify(&hex(&tree.root));
            assert!(result.status.success(), "{blocks} blocks: {}", String::from_utf8_lossy(&result.stderr));
            assert!(!verify(&"00".repeat(32)).status.success());
        }
    }
}
