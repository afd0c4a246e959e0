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
/// The tree is given to mksquashfs 4.5.1 as a pseudo file. Its tar modes would not do: sqfstar refuses every compressor
/// option, and both give the root folder to the user who runs them.
pub fn squash(tree: &Tree, file: &Path, level: u32, block: u32, mtime: u32) -> anyhow::Result<()> {
    let _ = std::fs::remove_file(file);
    let pseudo = file.with_extension("pseudo");
    write_pseudo(tree, &pseudo, mtime).context("writing the root file system for mksquashfs")?;
    let output = Command::new("mksquashfs")
        .arg("-")
        .arg(file)
        .args(["-comp", "zstd", "-Xcompression-level", &level.to_string(), "-b", &block.to_string()])
        .args(["-reproducible", "-no-xattrs", "-no-progress", "-quiet", "-exit-on-error"])
        .args(["-mkfs-time", &mtime.to_string(), "-pf"])
        .arg(&pseudo)
        .env_remove("SOURCE_DATE_EPOCH")
        .stdin(Stdio::null())
        .output()
        .context("starting mksquashfs")?;
    std::fs::remove_file(&pseudo)?;
    // It prints what it does not understand and goes on: every word on stderr is a failure.
    if !output.status.success() || !output.stderr.is_empty() {
        bail!("mksquashfs ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// mksquashfs's pseudo file format: definitions, a mark, then the contents of all files.
fn write_pseudo(tree: &Tree, path: &Path, mtime: u32) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    writeln!(out, "/ D {mtime} 755 0 0")?;
    let mut offset = 0;
    for (path, entry) in tree.with_parents() {
        let Entry { uid, gid, mode, node } = entry;
        let name = pseudo_name(path);
        match node {
            Node::Dir => writeln!(out, "{name} D {mtime} {mode:o} {uid} {gid}")?,
            Node::Link(target) => writeln!(out, "{name} S {mtime} {mode:o} {uid} {gid} {target}")?,
            Node::File(contents) => {
                writeln!(out, "{name} R {mtime} {mode:o} {uid} {gid} {} {offset}", contents.len())?;
                offset += contents.len();
            }
        }
    }
    out.write_all(b"#\n# START OF DATA - DO NOT MODIFY\n#\n")?;
    for (_, contents) in tree.files() {
        out.write_all(contents)?;
    }
    Ok(out.flush()?)
}

/// A name as the pseudo file format wants it.
fn pseudo_name(path: &str) -> String {
    let mut name = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter.is_whitespace() || matches!(letter, '\\' | '"') {
            name.push('\\');
        }
        name.push(letter);
    }
    name
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squashfs_has_our_owners_and_the_same_bits_twice() {
        let mut tree = Tree::default();
        tree.file("usr/bin/[", 0o755, b"applet".to_vec());
        tree.file("a b", 0o644, vec![7; 300_000]);
        tree.link("bin", "usr/bin");
        tree.insert("usr/sbin/postdrop", Entry { uid: 0, gid: 103, mode: 0o2555, node: Node::File(vec![1]) });
        let dir = tempfile::tempdir().unwrap();
        let files = [dir.path().join("1"), dir.path().join("2")];
        for file in &files {
            squash(&tree, file, 1, 131_072, 9).unwrap();
        }
        assert!(std::fs::read(&files[0]).unwrap() == std::fs::read(&files[1]).unwrap());
        let list = Command::new("unsquashfs").arg("-lln").arg(&files[0]).output().unwrap();
        let list = String::from_utf8_lossy(&list.stdout);
        let line = |end: &str| list.lines().find(|line| line.ends_with(end)).unwrap_or_default().to_owned();
        assert!(line("squashfs-root").starts_with("drwxr-xr-x 0/0 "), "{list}");
        assert!(line("postdrop").starts_with("-r-xr-sr-x 0/103 "), "{list}");
        assert!(line("a b").contains(" 300000 "), "{list}");
    }
}
