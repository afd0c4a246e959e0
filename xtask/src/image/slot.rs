//! What is written raw into boot partitions: the archives of the slots and of the boot state (ustar), and GRUB's
//! environment blocks.

use super::{hex, sha256};
use anyhow::{Context, ensure};

/// What a slot's `slot.cfg` tells GRUB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSettings {
    /// Version of the image.
    pub version: String,
    /// Kernel command line without the slot's own words.
    pub cmdline: String,
    /// Verity root hash, hexadecimal.
    pub roothash: String,
    /// Verity salt, hexadecimal.
    pub salt: String,
    /// Where the hash tree begins on the root partition, in bytes.
    pub hashoffset: u64,
}

/// The archive of a boot slot. `sums` comes first and covers all the rest.
pub fn boot_slot(
    settings: &SlotSettings,
    kernel: &[u8],
    initrd: &[u8],
    mtime: u32,
) -> anyhow::Result<Vec<u8>> {
    let config = slot_cfg(settings)?;
    let files: [(&str, &[u8]); 3] =
        [("slot.cfg", config.as_bytes()), ("vmlinuz", kernel), ("initrd", initrd)];
    let sums: String =
        files.iter().map(|(name, contents)| format!("{}  {name}\n", hex(&sha256(contents)))).collect();
    let mut all = vec![("sums", sums.as_bytes())];
    all.extend(files);
    ustar(&all, mtime)
}

/// The archive of the boot state as it leaves the factory: both slots hold the released image, count as good and have all tries.
pub fn boot_state(mtime: u32) -> anyhow::Result<Vec<u8>> {
    let state = env_block(&[("generation", "1"), ("order", "A B"), ("good_A", "1"), ("good_B", "1")])?;
    let tries = env_block(&[("tries_generation", "1"), ("tries_A", "3"), ("tries_B", "3")])?;
    ustar(&[("state", &state), ("tries", &tries)], mtime)
}

/// A raw ustar archive of plain files.
pub fn ustar(files: &[(&str, &[u8])], mtime: u32) -> anyhow::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(vec![]);
    for (name, contents) in files {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(mtime.into());
        builder.append_data(&mut header, name, *contents).with_context(|| format!("adding {name}"))?;
    }
    Ok(builder.into_inner()?)
}

/// Bytes of a GRUB environment block.
const ENV_BLOCK: usize = 1024;

/// A GRUB environment block: a signature, `name=value` lines, filled up with `#`.
pub fn env_block(variables: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
    let mut text = String::from("# GRUB Environment Block\n");
    for (name, value) in variables {
        ensure!(!value.contains(['\n', '\\']), "{name} would need escapes in GRUB's environment block");
        text.push_str(&format!("{name}={value}\n"));
    }
    ensure!(text.len() <= ENV_BLOCK, "GRUB's environment block is full");
    let mut block = text.into_bytes();
    block.resize(ENV_BLOCK, b'#');
    Ok(block)
}

fn slot_cfg(settings: &SlotSettings) -> anyhow::Result<String> {
    let hashoffset = settings.hashoffset.to_string();
    let variables = [
        ("slot_version", settings.version.as_str()),
        ("slot_cmdline", &settings.cmdline),
        ("slot_roothash", &settings.roothash),
        ("slot_salt", &settings.salt),
        ("slot_hashoffset", &hashoffset),
    ];
    let mut text = String::new();
    for (name, value) in variables {
        ensure!(!value.contains(['\'', '\n']), "{name} cannot be quoted for GRUB");
        text.push_str(&format!("set {name}='{value}'\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn settings() -> SlotSettings {
        SlotSettings {
            version: "1".to_owned(),
            cmdline: "quiet".to_owned(),
            roothash: "00".to_owned(),
            salt: "01".to_owned(),
            hashoffset: 4096,
        }
    }

    #[test]
    fn slot_archive_has_sums_first_and_they_match() {
        let bytes = boot_slot(&settings(), b"kernel", b"initrd", 7).unwrap();
        assert_eq!(&bytes[257..263], b"ustar\0");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut files = vec![];
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut contents = String::new();
            entry.read_to_string(&mut contents).unwrap();
            files.push((entry.path().unwrap().to_string_lossy().into_owned(), contents));
        }
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["sums", "slot.cfg", "vmlinuz", "initrd"]);
        assert!(files[0].1.contains(&format!("{}  vmlinuz\n", hex(&sha256(b"kernel")))));
        assert!(files[1].1.contains("set slot_hashoffset='4096'\n"));
    }

    #[test]
    fn environment_block() {
        let block = env_block(&[("a", "1"), ("b", "A B")]).unwrap();
        assert_eq!(block.len(), 1024);
        assert!(block.starts_with(b"# GRUB Environment Block\na=1\nb=A B\n####"));
        assert!(env_block(&[("a", "x\ny")]).is_err());
    }

    #[test]
    fn boot_state_is_two_blocks_at_known_places() {
        let bytes = boot_state(0).unwrap();
        assert!(bytes[512..].starts_with(b"# GRUB Environment Block\ngeneration=1\norder=A B\n"));
        assert!(bytes[2048..].starts_with(b"# GRUB Environment Block\ntries_generation=1\n"));
    }
}
