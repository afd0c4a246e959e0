//! GRUB for both firmwares, made by the locked packages' own `grub-mkimage`, with its settings in a memdisk.

use super::base::unpack;
use super::lock::Package;
use super::recipe::Recipe;
use super::slot::ustar;
use super::store::Store;
use super::tree::Tree;
use anyhow::{Context, bail, ensure};
use std::path::Path;
use std::process::Command;

/// What the disk needs of GRUB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grub {
    /// First sector of a BIOS disk (its first 440 bytes are used).
    pub boot_img: Vec<u8>,
    /// What `boot_img` loads.
    pub core_img: Vec<u8>,
    /// `EFI/BOOT/BOOTX64.EFI`.
    pub efi: Vec<u8>,
}

const SECTOR: usize = 512;

/// Makes both cores from the build packages.
pub fn build(root: &Path, recipe: &Recipe, packages: &[Package], store: &Store) -> anyhow::Result<Grub> {
    let mut tree = Tree::default();
    for package in packages {
        unpack(&mut tree, package, store, |path| {
            path.starts_with("usr/lib/") && !path.contains("/gconv/") || path == "usr/bin/grub-mkimage"
        })?;
    }
    let scratch = tempfile::tempdir()?;
    let dir = scratch.path();
    for (path, contents) in tree.files() {
        let file = dir.join(path);
        std::fs::create_dir_all(file.parent().context("a file has a folder")?)?;
        super::write_program(&file, contents)?;
    }
    // Sonames are links; nothing else of the packages is needed.
    for (path, entry) in tree.iter() {
        if let super::tree::Node::Link(target) = &entry.node
            && path.contains(".so")
            && !target.starts_with('/')
        {
            std::os::unix::fs::symlink(target, dir.join(path))?;
        }
    }
    let config = std::fs::read(root.join("image/grub/grub.cfg")).context("reading image/grub/grub.cfg")?;
    std::fs::write(
        dir.join("memdisk.tar"),
        ustar(&[("boot/grub/grub.cfg", &config)], recipe.source_date_epoch)?,
    )?;
    let bios = [recipe.boot.modules.as_slice(), &recipe.boot.bios_modules].concat();
    let efi = [recipe.boot.modules.as_slice(), &recipe.boot.efi_modules].concat();
    let boot_img =
        std::fs::read(dir.join("usr/lib/grub/i386-pc/boot.img")).context("reading GRUB's boot.img")?;
    ensure!(boot_img.len() == SECTOR, "GRUB's boot.img is not one sector");
    Ok(Grub { boot_img, core_img: mkimage(dir, "i386-pc", &bios)?, efi: mkimage(dir, "x86_64-efi", &efi)? })
}

/// Runs grub-mkimage with the libraries of its own packages.
fn mkimage(dir: &Path, format: &str, modules: &[String]) -> anyhow::Result<Vec<u8>> {
    let out = dir.join(format!("core-{format}"));
    let libraries = dir.join("usr/lib/x86_64-linux-gnu");
    let loader = libraries.join("ld-linux-x86-64.so.2");
    let output = Command::new(&loader)
        .arg("--library-path")
        .arg(&libraries)
        .arg(dir.join("usr/bin/grub-mkimage"))
        .args(["-O", format, "-p", "(memdisk)/boot/grub"])
        .arg("-d")
        .arg(dir.join("usr/lib/grub").join(format))
        .arg("-m")
        .arg(dir.join("memdisk.tar"))
        .arg("-o")
        .arg(&out)
        .args(modules)
        .output()
        .with_context(|| format!("starting {}", loader.display()))?;
    if !output.status.success() {
        bail!("grub-mkimage -O {format}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    std::fs::read(&out).context("reading what grub-mkimage made")
}

/// Ties boot.img and core.img together for a core that lies at `lba`: returns the first 440 bytes of the disk and the core.
///
/// Offsets are those of GRUB's boot.S and diskboot.S, as grub-bios-setup fills them in.
pub fn embed(grub: &Grub, lba: u64) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let mut boot = grub.boot_img[..440].to_vec();
    boot[0x5c..0x64].copy_from_slice(&lba.to_le_bytes());
    // Two NOPs in place of a jump: trust the firmware's drive number.
    boot[0x66..0x68].copy_from_slice(&[0x90, 0x90]);
    let mut core = grub.core_img.clone();
    core.resize(core.len().next_multiple_of(SECTOR), 0);
    let rest = u16::try_from(core.len() / SECTOR - 1).context("GRUB's core has more than 32 MiB")?;
    core[0x1f4..0x1fc].copy_from_slice(&(lba + 1).to_le_bytes());
    core[0x1fc..0x1fe].copy_from_slice(&rest.to_le_bytes());
    Ok((boot, core))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_is_found_by_its_sectors() {
        let grub = Grub { boot_img: vec![1; 512], core_img: vec![2; 1300], efi: vec![] };
        let (boot, core) = embed(&grub, 2048).unwrap();
        assert_eq!(boot.len(), 440);
        assert_eq!(boot[0x5c..0x64], 2048u64.to_le_bytes());
        assert_eq!(core.len(), 1536);
        assert_eq!(core[0x1f4..0x1fe], [1, 8, 0, 0, 0, 0, 0, 0, 2, 0]);
    }
}
