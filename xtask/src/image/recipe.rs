//! `image/recipe.toml` as types: what is shipped, what is left out, owners, modules, disk layout, boot settings.

use anyhow::Context;
use serde::Deserialize;
use std::path::Path;

/// The whole recipe.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seconds since 1970 of every time stamp in the image.
    pub source_date_epoch: u32,
    /// Packages wanted and cut off.
    pub packages: Packages,
    /// Files left out.
    pub files: Files,
    /// Owners and modes that differ from the packages' ones.
    pub permissions: Vec<Permission>,
    /// Folders and links.
    pub tree: TreeParts,
    /// Kernel modules.
    pub modules: Modules,
    /// Compression of the root file system.
    pub squash: Squash,
    /// Verity.
    pub verity: Verity,
    /// Partitions.
    pub disk: Disk,
    /// Boot loader.
    pub boot: Boot,
}

/// Package names.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Wanted on the appliance.
    pub image: Vec<String>,
    /// Wanted for building.
    pub build: Vec<String>,
    /// Cut off the closure of both.
    pub exclude: Vec<String>,
}

/// Patterns of paths.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Left out.
    pub drop: Vec<String>,
    /// Kept although left out by a pattern of `drop`.
    pub keep: Vec<String>,
}

/// Owner and mode of one path.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    /// Without leading slash.
    pub path: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Mode with setid bits.
    pub mode: u32,
}

/// Folders and links to make.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeParts {
    /// Folders, mode 0755.
    pub dirs: Vec<String>,
    /// `[link, target]`.
    pub links: Vec<(String, String)>,
}

/// Kernel modules by name; what they depend on comes along.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// In the initrd.
    pub initrd: Vec<String>,
    /// In the root file system.
    pub root: Vec<String>,
}

/// Compression of the root file system.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Squash {
    /// zstd level of releases.
    pub level: u32,
    /// zstd level of `--fast`.
    pub fast_level: u32,
    /// Bytes of a block.
    pub block: u32,
}

/// Verity.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verity {
    /// Hexadecimal.
    pub salt: String,
}

/// Partitions in the order on the disk.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are the partitions' names")]
pub struct Disk {
    pub guid: String,
    pub bios: Partition,
    pub esp: Partition,
    pub bootstate: Partition,
    pub boot_a: Partition,
    pub root_a: Partition,
    pub boot_b: Partition,
    pub root_b: Partition,
}

/// One partition.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Size in MiB.
    pub mib: u64,
    /// Fixed, so that images are the same.
    pub guid: String,
}

/// Boot loader.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Kernel command line, without what the slot adds.
    pub cmdline: String,
    /// GRUB modules of both firmwares.
    pub modules: Vec<String>,
    /// GRUB modules of legacy BIOS only.
    pub bios_modules: Vec<String>,
    /// GRUB modules of UEFI only.
    pub efi_modules: Vec<String>,
}

impl Recipe {
    /// Reads the recipe of a workspace.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let path = root.join("image/recipe.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("in {}", path.display()))
    }
}

impl Files {
    /// True if the recipe leaves this path out.
    pub fn drops(&self, path: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, path));
        any(&self.drop) && !any(&self.keep)
    }
}

/// `*` matches any run of characters, `/` included.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((head, tail)) => match path.strip_prefix(head) {
            None => false,
            Some(rest) => (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| matches(tail, rest))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert!(matches("a/*", "a/b/c"));
        assert!(matches("*.a", "usr/lib/x.a"));
        assert!(matches("a*fts*", "a/lib_fts_x"));
        assert!(!matches("a/*", "b/a/c"));
        assert!(!matches("a", "ab"));
    }

    #[test]
    fn the_recipe_of_this_workspace_reads() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let recipe = Recipe::read(&root).unwrap();
        assert!(recipe.files.drops("usr/share/doc/x/copyright"));
        assert!(!recipe.files.drops("etc/services"));
    }
}
