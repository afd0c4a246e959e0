//! The files of the checkout, read once: everything but build results, hidden folders (except `.ci` and `.cargo`) and
//! files that are not text.

use anyhow::Context;
use std::collections::BTreeMap;
use std::path::Path;

/// Larger files are data, not something that people read; bytes.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Text files by path from the root of the checkout.
pub(crate) struct Tree {
    texts: BTreeMap<String, String>,
    /// All paths, folders too.
    paths: std::collections::BTreeSet<String>,
}

impl Tree {
    /// Reads the tree.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let mut tree = Self { texts: BTreeMap::new(), paths: Default::default() };
        tree.folder(root, "")?;
        Ok(tree)
    }

    fn folder(&mut self, root: &Path, prefix: &str) -> anyhow::Result<()> {
        let folder = root.join(prefix);
        for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let hidden = name.starts_with('.') && ![".ci", ".cargo", ".gitignore"].contains(&name.as_str());
            if hidden || (prefix.is_empty() && name == "target") {
                continue;
            }
            let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            self.paths.insert(path.clone());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.folder(root, &path)?;
            } else if kind.is_file() && entry.metadata()?.len() <= TEXT_BYTES_MAX {
                // Files may disappear while an editor writes them; what is not text is no business of tidy.
                if let Ok(text) = std::fs::read_to_string(entry.path()) {
                    self.texts.insert(path, text);
                }
            }
        }
        Ok(())
    }

    /// One text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// True for a file or a folder.
    pub fn has(&self, path: &str) -> bool {
        self.paths.contains(path.trim_end_matches('/'))
    }

    /// All texts whose name ends so.
    pub fn ending(&self, end: &str) -> impl Iterator<Item = (&str, &str)> {
        self.texts
            .iter()
            .filter(move |(path, _)| path.ends_with(end))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// All texts.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Tree {
        /// A tree of given files, for tests of the checks.
        pub fn of(files: &[(&str, &str)]) -> Self {
            let mut tree = Self { texts: BTreeMap::new(), paths: Default::default() };
            for (path, text) in files {
                tree.texts.insert((*path).into(), (*text).into());
                let mut path = *path;
                tree.paths.insert(path.into());
                while let Some((folder, _)) = path.rsplit_once('/') {
                    tree.paths.insert(folder.into());
                    path = folder;
                }
            }
            tree
        }
    }
}
