//! The disk image: GPT with fixed GUIDs, boot loaders, boot state and both slots, written as a sparse file.

use super::grub::{Grub, embed};
use super::recipe::{Disk, Partition};
use anyhow::{Context, ensure};
use gpt::partition_types;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;

/// What is written into the partitions.
#[derive(Debug)]
pub struct Contents<'a> {
    /// Boot loaders.
    pub grub: &'a Grub,
    /// Archive with GRUB's environment blocks.
    pub boot_state: &'a [u8],
    /// Archive of a boot slot, for both slots.
    pub boot_slot: &'a [u8],
    /// File with the root file system and its hash tree, for both slots.
    pub root: &'a Path,
}

/// Writes the whole image.
pub fn write(path: &Path, layout: &Disk, contents: &Contents<'_>) -> anyhow::Result<()> {
    let partitions = placed(layout);
    let end = partitions.last().map_or(MIB, |last| last.start + last.partition.mib * MIB);
    let scratch = path.with_extension("img.new");
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&scratch)?;
    // One MiB at the end holds the backup table and keeps the size even.
    file.set_len(end + MIB)?;
    let bios = partitions.first().context("the layout begins with the bios partition")?;
    let (boot, core) = embed(contents.grub, bios.start / SECTOR)?;
    ensure!(
        core.len() as u64 <= bios.partition.mib * MIB,
        "GRUB's core does not fit into the bios partition"
    );
    table(&mut file, layout, &partitions, &boot)?;
    for place in &partitions {
        let data = match place.name {
            "bios" => core.clone(),
            "esp" => esp(&contents.grub.efi, place.partition.mib)?,
            "bootstate" => contents.boot_state.to_vec(),
            "boot-A" | "boot-B" => contents.boot_slot.to_vec(),
            _ => std::fs::read(contents.root)?,
        };
        ensure!(
            data.len() as u64 <= place.partition.mib * MIB,
            "{} needs {} bytes and has {} MiB; change image/recipe.toml",
            place.name,
            data.len(),
            place.partition.mib
        );
        write_sparse(&mut file, place.start, &data)?;
    }
    file.sync_all()?;
    std::fs::rename(&scratch, path)?;
    Ok(())
}

struct Place<'a> {
    name: &'static str,
    partition: &'a Partition,
    kind: partition_types::Type,
    start: u64,
}

fn placed(layout: &Disk) -> Vec<Place<'_>> {
    let linux = partition_types::LINUX_FS;
    let list = [
        ("bios", &layout.bios, partition_types::BIOS),
        ("esp", &layout.esp, partition_types::EFI),
        ("bootstate", &layout.bootstate, linux.clone()),
        ("boot-A", &layout.boot_a, linux.clone()),
        ("root-A", &layout.root_a, linux.clone()),
        ("boot-B", &layout.boot_b, linux.clone()),
        ("root-B", &layout.root_b, linux),
    ];
    let mut start = MIB;
    list.into_iter()
        .map(|(name, partition, kind)| {
            let place = Place { name, partition, kind, start };
            start += partition.mib * MIB;
            place
        })
        .collect()
}

fn table(file: &mut File, layout: &Disk, partitions: &[Place<'_>], boot: &[u8]) -> anyhow::Result<()> {
    let sectors = file.metadata()?.len() / SECTOR;
    let mut mbr = gpt::mbr::ProtectiveMBR::with_lb_size(u32::try_from(sectors - 1).unwrap_or(u32::MAX));
    mbr.set_bootcode(boot.try_into().context("boot code is 440 bytes")?);
    mbr.overwrite_lba0(file)?;
    let guid = layout.guid.parse().context("disk.guid in the recipe")?;
    let mut disk = gpt::GptConfig::new().writable(true).create_from_device(file, Some(guid))?;
    let mut table = BTreeMap::new();
    for (index, place) in (1..).zip(partitions) {
        let first_lba = place.start / SECTOR;
        let partition = gpt::partition::Partition {
            part_type_guid: place.kind.clone(),
            part_guid: place
                .partition
                .guid
                .parse()
                .with_context(|| format!("guid of {} in the recipe", place.name))?,
            first_lba,
            last_lba: first_lba + place.partition.mib * MIB / SECTOR - 1,
            flags: 0,
            name: place.name.to_owned(),
        };
        table.insert(index, partition);
    }
    disk.update_partitions(table)?;
    disk.write()?;
    Ok(())
}

/// A FAT file system with GRUB where UEFI firmware looks for it. `fatfs` without a clock writes no time stamps.
fn esp(efi: &[u8], mib: u64) -> anyhow::Result<Vec<u8>> {
    let mut disk = Cursor::new(vec![0u8; (mib * MIB) as usize]);
    let label = *b"TWINPOST   ";
    fatfs::format_volume(
        &mut disk,
        fatfs::FormatVolumeOptions::new().volume_label(label).volume_id(0x7477_7031),
    )?;
    {
        let volume = fatfs::FileSystem::new(&mut disk, fatfs::FsOptions::new().update_accessed_date(false))?;
        let folder = volume.root_dir().create_dir("EFI")?.create_dir("BOOT")?;
        let mut file = folder.create_file("BOOTX64.EFI")?;
        file.write_all(efi)?;
        file.flush()?;
    }
    let mut bytes = vec![];
    disk.seek(SeekFrom::Start(0))?;
    disk.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes data into a file of zeros, leaving holes where the data is zero.
fn write_sparse(file: &mut File, start: u64, data: &[u8]) -> anyhow::Result<()> {
    const CHUNK: usize = 64 * 1024;
    for (index, chunk) in data.chunks(CHUNK).enumerate() {
        if chunk.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(start + (index * CHUNK) as u64))?;
            file.write_all(chunk)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::recipe::Recipe;

    #[test]
    fn same_bits_and_a_table_that_reads_back() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let layout = Recipe::read(&root).unwrap().disk;
        let grub = Grub { boot_img: vec![1; 512], core_img: vec![2; 40_000], efi: vec![3; 300_000] };
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().join("root");
        std::fs::write(&rootfs, vec![4; 8192]).unwrap();
        let contents =
            Contents { grub: &grub, boot_state: &[5; 4096], boot_slot: &[6; 10_000], root: &rootfs };
        let (one, two) = (dir.path().join("1.img"), dir.path().join("2.img"));
        write(&one, &layout, &contents).unwrap();
        write(&two, &layout, &contents).unwrap();
        assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap());

        let disk = gpt::GptConfig::new().open(&one).unwrap();
        let names: Vec<&str> = disk.partitions().values().map(|partition| partition.name.as_str()).collect();
        assert_eq!(names, ["bios", "esp", "bootstate", "boot-A", "root-A", "boot-B", "root-B"]);
        let mut file = File::open(&one).unwrap();
        let start = disk.partitions()[&6].first_lba * SECTOR;
        file.seek(SeekFrom::Start(start)).unwrap();
        let mut byte = [0];
        file.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [6]);
    }
}
