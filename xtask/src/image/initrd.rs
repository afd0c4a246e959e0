//! The initrd: our init and the modules that find the root, as a deterministic newc archive (kernel's
//! driver-api/early-userspace/buffer-format), compressed with zstd.

use super::modules::{self, Modules};
use super::recipe::Recipe;
use super::tree::{Node, Tree};
use anyhow::Context;
use std::path::Path;

/// zstd level: the kernel unpacks all levels alike fast, and the archive is small.
const LEVEL: i32 = 19;

/// Builds the initrd from the base tree (for modules) and our init.
pub fn build(root: &Path, recipe: &Recipe, base: &Tree, init: &[u8]) -> anyhow::Result<Vec<u8>> {
    let modules = Modules::read(base)?;
    let mut names = recipe.modules.initrd.clone();
    names.extend(modules::of_boards(root)?.initrd);
    let names = modules.closure(&names)?;
    let from = format!("usr/lib/modules/{}", modules.version);
    let to = format!("lib/modules/{}", modules.version);
    let mut archive = Archive::default();
    let mut dirs: Vec<String> = ["dev", "proc", "sys", "run", "sysroot"].map(str::to_owned).into();
    let mut files = vec![];
    for name in &names {
        let path = modules.path(name).context("a module of the closure has a path")?;
        let Some(Node::File(contents)) = base.get(&format!("{from}/{path}")).map(|entry| &entry.node) else {
            anyhow::bail!("module {name} is not in the base tree");
        };
        files.push((format!("{to}/{path}"), contents.clone()));
    }
    files.push((format!("{to}/modules.dep"), modules.dep(&names)?.into_bytes()));
    files.push((format!("{to}/modules.alias"), modules.alias(&names).into_bytes()));
    for (path, _) in &files {
        dirs.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
    }
    dirs.sort();
    dirs.dedup();
    for dir in &dirs {
        archive.add(dir, 0o040_755, (0, 0), &[], recipe.source_date_epoch);
    }
    // The kernel opens it for /init before anybody can mount devtmpfs.
    archive.add("dev/console", 0o020_600, (5, 1), &[], recipe.source_date_epoch);
    archive.add("init", 0o100_755, (0, 0), init, recipe.source_date_epoch);
    for (path, contents) in &files {
        archive.add(path, 0o100_644, (0, 0), contents, recipe.source_date_epoch);
    }
    zstd::bulk::compress(&archive.finish(), LEVEL).context("compressing the initrd")
}

/// A newc archive in the making.
#[derive(Debug, Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8], mtime: u32) {
        self.inode += 1;
        let inode = self.inode;
        self.entry(path, [inode, mode, 0, 0, 1, mtime], device, contents);
    }

    /// `head`: inode, mode, uid, gid, links, mtime.
    fn entry(&mut self, path: &str, head: [u32; 6], device: (u32, u32), contents: &[u8]) {
        let size = u32::try_from(contents.len()).expect("no file of the initrd has 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("paths are short");
        let tail = [size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in head.iter().chain(&tail) {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", [0, 0, 0, 0, 1, 0], (0, 0), &[]);
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newc_layout() {
        let mut archive = Archive::default();
        archive.add("init", 0o100_755, (0, 0), b"abc", 1);
        let bytes = archive.finish();
        assert_eq!(&bytes[..6], b"070701");
        // inode 1, mode 0100755, mtime 1, size 3 at their places.
        assert_eq!(&bytes[6..22], b"00000001000081ED");
        assert_eq!(&bytes[46..62], b"0000000100000003");
        assert_eq!(&bytes[94..102], b"00000005");
        assert_eq!(&bytes[110..116], b"init\0\0");
        assert_eq!(&bytes[116..120], b"abc\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert_eq!(bytes.len() % 4, 0);
    }
}
