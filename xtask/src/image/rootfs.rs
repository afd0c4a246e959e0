//! The root file system: base, overlay and our own programs, packed as squashfs with its verity tree.

use super::firmware::Programs;
use super::recipe::Recipe;
use super::tree::{Entry, Node, Tree};
use super::{base, elf, verity};
use anyhow::{Context, bail};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Adds the overlay and our programs to the base, sets permissions, and checks that all programs find their libraries.
pub fn complete(
    root: &Path,
    recipe: &Recipe,
    base: &Tree,
    programs: &Programs,
    version: &str,
) -> anyhow::Result<Tree> {
    let mut tree = base.clone();
    tree.remove(base::KERNEL);
    tree.remove("boot");
    overlay(&mut tree, &root.join("image/rootfs"), "")?;
    tree.file("usr/sbin/init", 0o755, programs.init.clone());
    tree.file("usr/sbin/had", 0o755, programs.had.clone());
    tree.file("usr/bin/twinpostctl", 0o755, programs.twinpostctl.clone());
    tree.file("etc/twinpost-version", 0o644, format!("{version}\n").into_bytes());
    base::permissions(recipe, &mut tree)?;
    let unresolved = elf::unresolved(&tree);
    if !unresolved.is_empty() {
        bail!(
            "programs of the image lack libraries; see exclude and drop in image/recipe.toml:\n  {}",
            unresolved.join("\n  ")
        );
    }
    Ok(tree)
}

/// Packs a tree as squashfs into `file`, with nothing of the machine in it.
///
/// By `mksquashfs -tar`: sqfstar of squashfs-tools 4.5.1 refuses every compressor option.
pub fn squash(tree: &Tree, file: &Path, level: u32, block: u32, mtime: u32) -> anyhow::Result<()> {
    let _ = std::fs::remove_file(file);
    let mtime_text = mtime.to_string();
    let mut child = Command::new("mksquashfs")
        .args(["-"])
        .arg(file)
        .arg("-tar")
        .args(["-comp", "zstd", "-Xcompression-level", &level.to_string(), "-b", &block.to_string()])
        .args(["-reproducible", "-no-xattrs", "-no-progress", "-quiet", "-exit-on-error"])
        .args([
            "-mkfs-time",
            &mtime_text,
            "-root-time",
            &mtime_text,
            "-root-mode",
            "755",
            "-root-uid",
            "0",
            "-root-gid",
            "0",
        ])
        .env_remove("SOURCE_DATE_EPOCH")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting mksquashfs")?;
    let stdin = child.stdin.take().expect("stdin was asked for as a pipe");
    let written = tree.write_tar(BufWriter::with_capacity(1 << 20, stdin), mtime);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("mksquashfs ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    written.context("giving the root file system to mksquashfs")
}

/// Appends the hash tree to a squashfs file. Returns the root hash and the tree's offset.
pub fn seal(file: &Path, salt: &[u8]) -> anyhow::Result<([u8; 32], u64)> {
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(file)?;
    let mut data = vec![];
    file.read_to_end(&mut data)?;
    data.resize(data.len().next_multiple_of(verity::BLOCK), 0);
    let tree = verity::hash_tree(&data, salt);
    file.set_len(data.len() as u64)?;
    file.seek(SeekFrom::End(0))?;
    file.write_all(&tree.blocks)?;
    Ok((tree.root, data.len() as u64))
}

/// Adds a folder of the workspace. Modes are 0755 and 0644 whatever the umask of the checkout was.
fn overlay(tree: &mut Tree, dir: &Path, prefix: &str) -> anyhow::Result<()> {
    for item in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let item = item?;
        let path = format!("{prefix}{}", item.file_name().to_string_lossy());
        let metadata = std::fs::symlink_metadata(item.path())?;
        if metadata.is_dir() {
            tree.dir(&path, 0o755);
            overlay(tree, &item.path(), &format!("{path}/"))?;
        } else if metadata.is_symlink() {
            tree.link(&path, &std::fs::read_link(item.path())?.to_string_lossy());
        } else {
            let mode = if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            tree.insert(&path, Entry { uid: 0, gid: 0, mode, node: Node::File(std::fs::read(item.path())?) });
        }
    }
    Ok(())
}
