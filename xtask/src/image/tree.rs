//! A file tree in memory, written as a deterministic tar stream: sorted, one time stamp, numeric owners.

use anyhow::{Context, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Folder.
    Dir,
    /// Regular file with its contents.
    File(Vec<u8>),
    /// Symbolic link with its target.
    Link(String),
}

/// A path's node with owner and mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Mode without the type.
    pub mode: u32,
    /// Contents.
    pub node: Node,
}

/// The tree. Paths have no leading slash and no `..`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

/// A folder that no package describes.
const PLAIN_DIR: Entry = Entry { uid: 0, gid: 0, mode: 0o755, node: Node::Dir };

/// Folders that are links on a merged-usr system.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

impl Tree {
    /// Adds or replaces a file of root.
    pub fn file(&mut self, path: &str, mode: u32, contents: Vec<u8>) {
        self.insert(path, Entry { uid: 0, gid: 0, mode, node: Node::File(contents) });
    }

    /// Adds or replaces a link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.insert(path, Entry { uid: 0, gid: 0, mode: 0o777, node: Node::Link(target.to_owned()) });
    }

    /// Adds a folder of root if nothing is there.
    pub fn dir(&mut self, path: &str, mode: u32) {
        self.entries.entry(path.to_owned()).or_insert(Entry { uid: 0, gid: 0, mode, node: Node::Dir });
    }

    /// Adds or replaces an entry.
    pub fn insert(&mut self, path: &str, entry: Entry) {
        self.entries.insert(path.to_owned(), entry);
    }

    /// Removes one path.
    pub fn remove(&mut self, path: &str) -> Option<Entry> {
        self.entries.remove(path)
    }

    /// The entry of a path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The entry of a path, to change it.
    pub fn get_mut(&mut self, path: &str) -> Option<&mut Entry> {
        self.entries.get_mut(path)
    }

    /// All entries, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Files with their contents, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter().filter_map(|(path, entry)| match &entry.node {
            Node::File(contents) => Some((path, contents.as_slice())),
            _ => None,
        })
    }

    /// Removes folders in which nothing is left, except those given.
    pub fn prune(&mut self, keep: &[String]) {
        let mut used: BTreeSet<String> = keep.iter().cloned().collect();
        for (path, entry) in &self.entries {
            if entry.node != Node::Dir || keep.contains(path) {
                used.extend(parents(path).map(str::to_owned));
            }
        }
        self.entries.retain(|path, entry| entry.node != Node::Dir || used.contains(path));
    }

    /// Reads a tar stream and adds those paths that `wanted` accepts, as a merged-usr system has them.
    pub fn unpack(&mut self, stream: impl Read, wanted: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let mut archive = tar::Archive::new(stream);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = merged(&clean(&entry.path()?.to_string_lossy())?);
            if path.is_empty() || !wanted(&path) {
                continue;
            }
            let header = entry.header();
            let kind = header.entry_type();
            let (uid, gid, mode) = (header.uid()? as u32, header.gid()? as u32, header.mode()? & 0o7777);
            let node = match kind {
                tar::EntryType::Directory if MERGED.contains(&path.as_str()) => continue,
                tar::EntryType::Directory => {
                    self.dir(&path, mode);
                    continue;
                }
                tar::EntryType::Symlink => {
                    let target = entry.link_name()?.context("a link without target")?;
                    Node::Link(target.to_string_lossy().into_owned())
                }
                tar::EntryType::Link => {
                    let target = entry.link_name()?.context("a hard link without target")?;
                    let target = merged(&clean(&target.to_string_lossy())?);
                    match self.entries.get(&target) {
                        Some(original) => original.node.clone(),
                        None => bail!("hard link {path} to {target}, which is not there"),
                    }
                }
                tar::EntryType::Regular => {
                    let mut contents = Vec::with_capacity(entry.size() as usize);
                    entry.read_to_end(&mut contents)?;
                    Node::File(contents)
                }
                other => bail!("{path} is of type {other:?}, which the image does not use"),
            };
            self.insert(&path, Entry { uid, gid, mode, node });
        }
        Ok(())
    }

    /// All entries and the folders above them that were never added, sorted by path.
    pub fn with_parents(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let mut all: BTreeMap<&str, &Entry> =
            self.entries.keys().flat_map(|path| parents(path)).map(|path| (path, &PLAIN_DIR)).collect();
        all.extend(self.iter());
        all.into_iter()
    }

    /// Writes the tree as a tar stream that depends on nothing but the tree and the time given (seconds since 1970).
    pub fn write_tar(&self, out: impl Write, mtime: u32) -> anyhow::Result<()> {
        let mut builder = tar::Builder::new(out);
        for (path, entry) in self.with_parents() {
            let mut header = tar::Header::new_gnu();
            header.set_mtime(mtime.into());
            header.set_uid(entry.uid.into());
            header.set_gid(entry.gid.into());
            header.set_mode(entry.mode);
            header.set_size(0);
            match &entry.node {
                Node::Dir => {
                    header.set_entry_type(tar::EntryType::Directory);
                    builder.append_data(&mut header, format!("{path}/"), std::io::empty())
                }
                Node::File(contents) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(contents.len() as u64);
                    builder.append_data(&mut header, path, contents.as_slice())
                }
                Node::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    builder.append_link(&mut header, path, target)
                }
            }
            .with_context(|| format!("writing {path} into a tar stream"))?;
        }
        builder.into_inner()?.flush()?;
        Ok(())
    }
}

/// All folders above a path, outermost first.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(move |(at, _)| &path[..at])
}

/// A tar path without `./` and slashes at the ends.
fn clean(path: &str) -> anyhow::Result<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        bail!("{path} leaves its archive");
    }
    Ok(parts.join("/"))
}

/// The path on a system where /bin, /sbin, /lib and /lib64 are links into /usr.
fn merged(path: &str) -> String {
    match path.split_once('/') {
        Some((head, _)) if MERGED.contains(&head) => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tree {
        let mut tree = Tree::default();
        tree.file("usr/bin/b", 0o755, b"contents".to_vec());
        tree.link("bin", "usr/bin");
        tree.dir("empty/inner", 0o700);
        tree
    }

    #[test]
    fn tar_round_trip_and_same_bits() {
        let (mut one, mut two) = (vec![], vec![]);
        sample().write_tar(&mut one, 7).unwrap();
        sample().write_tar(&mut two, 7).unwrap();
        assert_eq!(one, two);
        let mut tree = Tree::default();
        tree.unpack(one.as_slice(), |_| true).unwrap();
        assert_eq!(tree.get("usr/bin/b"), sample().get("usr/bin/b"));
        assert_eq!(tree.get("usr").map(|entry| entry.mode), Some(0o755));
    }

    #[test]
    fn prune_keeps_used_and_named_folders() {
        let mut tree = sample();
        tree.dir("usr/bin", 0o755);
        tree.dir("gone", 0o755);
        tree.prune(&["empty/inner".to_owned()]);
        assert!(tree.get("gone").is_none());
        assert!(tree.get("empty/inner").is_some() && tree.get("usr/bin").is_some());
    }

    #[test]
    fn merged_usr_and_no_escape() {
        assert_eq!(merged("lib/x86_64-linux-gnu/libc.so.6"), "usr/lib/x86_64-linux-gnu/libc.so.6");
        assert_eq!(merged("library/x"), "library/x");
        assert!(clean("./a/../../b").is_err());
    }
}
