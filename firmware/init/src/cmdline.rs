//! What the boot loader tells through the kernel command line (ARCHITECTURE.md "Boot chain"). Pure.

/// Slot and root of this boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootArgs {
    /// Slot.
    pub slot: Slot,
    /// Root hash, 32 bytes.
    pub root_hash: [u8; 32],
    /// Where the hash tree begins in the root partition, bytes; a multiple of 4096.
    pub hash_offset: u64,
    /// Salt; may be empty.
    pub salt: Vec<u8>,
}

/// One of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Slot A.
    A,
    /// Slot B.
    B,
}

impl Slot {
    /// The letter.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::A => 'A',
            Self::B => 'B',
        }
    }
}

/// Why the command line is not usable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// A word is missing.
    #[error("kernel command line lacks {0}")]
    Missing(&'static str),
    /// A word has a bad value.
    #[error("kernel command line: {0} has a bad value")]
    Bad(&'static str),
}

/// Longest salt, bytes; dm-verity takes no more.
const SALT_BYTES_MAX: usize = 256;
/// Block of data and of hashes, bytes.
pub const BLOCK_BYTES: u64 = 4096;

/// The slot alone, for messages before and besides [`parse`].
#[must_use]
pub fn slot(text: &str) -> Option<Slot> {
    match value(text, "twinpost.slot")? {
        "A" => Some(Slot::A),
        "B" => Some(Slot::B),
        _ => None,
    }
}

/// Parses `/proc/cmdline`.
///
/// # Errors
/// Names the word that is missing or bad.
pub fn parse(text: &str) -> Result<BootArgs, CommandLineError> {
    const SLOT: &str = "twinpost.slot";
    const HASH: &str = "twinpost.roothash";
    const OFFSET: &str = "twinpost.hashoffset";
    const SALT: &str = "twinpost.salt";
    let get = |key: &'static str| value(text, key).ok_or(CommandLineError::Missing(key));
    get(SLOT)?;
    let slot = slot(text).ok_or(CommandLineError::Bad(SLOT))?;
    let root_hash = hex(get(HASH)?)
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .ok_or(CommandLineError::Bad(HASH))?;
    let hash_offset: u64 = get(OFFSET)?.parse().map_err(|_| CommandLineError::Bad(OFFSET))?;
    if hash_offset == 0 || !hash_offset.is_multiple_of(BLOCK_BYTES) {
        return Err(CommandLineError::Bad(OFFSET));
    }
    let salt = match get(SALT)? {
        "" | "-" => Vec::new(),
        digits => hex(digits).filter(|s| s.len() <= SALT_BYTES_MAX).ok_or(CommandLineError::Bad(SALT))?,
    };
    Ok(BootArgs { slot, root_hash, hash_offset, salt })
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len() / 2)
        .map(|i| {
            let pair = &text[2 * i..2 * i + 2];
            if pair.starts_with('+') { None } else { u8::from_str_radix(pair, 16).ok() }
        })
        .collect()
}

/// Lower-case hexadecimal.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> String {
        format!(
            "quiet twinpost.slot=B twinpost.roothash={} twinpost.hashoffset=8192 twinpost.salt=0a0b\n",
            "ab".repeat(32)
        )
    }

    #[test]
    fn good() {
        let args = parse(&line()).expect("good");
        assert_eq!(args.slot, Slot::B);
        assert_eq!(args.root_hash, [0xab; 32]);
        assert_eq!((args.hash_offset, args.salt), (8192, vec![10, 11]));
    }

    #[test]
    fn bad_is_named() {
        for (from, to, expected) in [
            ("slot=B", "slot=C", CommandLineError::Bad("twinpost.slot")),
            ("twinpost.slot=B", "", CommandLineError::Missing("twinpost.slot")),
            ("=abab", "=xxab", CommandLineError::Bad("twinpost.roothash")),
            ("=8192", "=8193", CommandLineError::Bad("twinpost.hashoffset")),
            ("=8192", "=0", CommandLineError::Bad("twinpost.hashoffset")),
            ("=0a0b", "=0a0", CommandLineError::Bad("twinpost.salt")),
        ] {
            assert_eq!(parse(&line().replace(from, to)), Err(expected), "{from} → {to}");
        }
        assert!(parse("").is_err());
    }
}
