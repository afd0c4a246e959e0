//! Tells from the bytes of DRBD's internal metadata whether a partition was ever prepared, and from the generation
//! identifiers whether it was ever used (`drbd_int.h` of 8.4: `struct meta_data_on_disk`, big-endian, in the last
//! aligned 4 KiB). Metadata is written by `drbdmeta` and the kernel; here it is read, or ended.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Metadata lies in the last whole block of this size.
const BLOCK_BYTES: u64 = 4096;
/// Where the flags are in that block, and the one of a copy that is no half of a resynchronisation (`MDF_CONSISTENT`).
const FLAGS_AT: usize = 56;
const CONSISTENT: u32 = 1;
/// Where the magic is.
const MAGIC_AT: usize = 60;
/// `DRBD_MD_MAGIC_08`: clean, as `drbdmeta` writes it.
const MAGIC_CLEAN: u32 = 0x8374_026b;
/// `DRBD_MD_MAGIC_84_UNCLEAN`: attached, or the unit crashed while it was.
const MAGIC_UNCLEAN: u32 = 0x8374_026c;
/// `UUID_JUST_CREATED`: the generation that new metadata starts with.
const JUST_CREATED: u64 = 4;

/// What the metadata says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Current data generation.
    pub generation: u64,
    /// The copy is a file system of one moment, though perhaps an old one.
    pub consistent: bool,
}

/// Reads the metadata of a partition; `None` when there is none.
pub fn read(device: &Path) -> io::Result<Option<Superblock>> {
    let mut file = File::open(device)?;
    let Some(at) = place(&mut file)? else { return Ok(None) };
    file.seek(SeekFrom::Start(at))?;
    let mut block = [0; BLOCK_BYTES as usize];
    file.read_exact(&mut block)?;
    Ok(parse(&block))
}

/// Ends the metadata of a partition, durably: DRBD does not know it any more, what is stored on it stays.
pub fn erase(device: &Path) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).open(device)?;
    let Some(at) = place(&mut file)? else { return Ok(()) };
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&[0; BLOCK_BYTES as usize])?;
    file.sync_all()
}

fn place(file: &mut File) -> io::Result<Option<u64>> {
    let size = file.seek(SeekFrom::End(0))?;
    Ok((size / BLOCK_BYTES).checked_sub(1).map(|block| block * BLOCK_BYTES))
}

/// True for the answer of `get-gi` of a volume that was never part of a pair.
pub fn is_just_created(get_gi: &str) -> bool {
    let current = get_gi.trim().split(':').next().unwrap_or_default();
    u64::from_str_radix(current, 16).is_ok_and(|current| current == JUST_CREATED)
}

fn parse(block: &[u8]) -> Option<Superblock> {
    let magic = block.get(MAGIC_AT..MAGIC_AT + 4)?.try_into().ok().map(u32::from_be_bytes)?;
    if magic != MAGIC_CLEAN && magic != MAGIC_UNCLEAN {
        return None;
    }
    let generation = block.get(8..16)?.try_into().ok().map(u64::from_be_bytes)?;
    let flags = block.get(FLAGS_AT..MAGIC_AT)?.try_into().ok().map(u32::from_be_bytes)?;
    Some(Superblock { generation, consistent: flags & CONSISTENT != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from a partition of 128 MiB that was in use.
    const USED: &str = "0000000000 03ffb0 b4f1cc9881f8e12c 18dd02d057363af3 0000000000000000 0000000000000000 0000000000000000 0000000000000000 00000001 8374026c";

    fn block(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| byte.is_ascii_hexdigit()).collect();
        let mut block: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        block.resize(4096, 0);
        block
    }

    #[test]
    fn reads_metadata_as_the_kernel_left_it() {
        assert_eq!(
            parse(&block(USED)),
            Some(Superblock { generation: 0xb4f1_cc98_81f8_e12c, consistent: true })
        );
        assert_eq!(parse(&vec![0; 4096]), None);
        assert_eq!(parse(&[0; 10]), None);
    }

    #[test]
    fn finds_it_in_the_last_whole_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let mut disk = vec![0; 3 * 4096];
        disk.extend(block(USED));
        disk.extend([0; 512]);
        std::fs::write(&path, disk).unwrap();
        assert!(read(&path).unwrap().is_some());
        std::fs::write(&path, [0; 100]).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn knows_new_metadata_by_its_generation() {
        assert!(is_just_created(
            "0000000000000004:0000000000000000:0000000000000000:0000000000000000:0:0:0:0:0:0:0\n"
        ));
        assert!(!is_just_created(
            "18DD02D057363AF2:0000000000000000:0000000000000000:0000000000000000:1:1:0:1:0:0:0\n"
        ));
        assert!(!is_just_created(""));
    }
}
