//! The store of package files, addressed by content, shared by all clones of the user.
//!
//! A file is in the store only under its own SHA-256. What the machine's sources no longer serve is replaced by the
//! candidate served now, unless the build is `--locked`; every replacement is reported.

use super::apt::Apt;
use super::lock::{Lock, Package};
use super::recipe::Recipe;
use super::{hex, sha256};
use anyhow::{Context, bail};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where package files are kept.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// What a build uses: the lock, or as much of it as is still served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The packages used.
    pub lock: Lock,
    /// `name locked-version -> used-version` of those that are not the locked ones.
    pub unlocked: Vec<String>,
}

impl Store {
    /// The user's store: `$XDG_CACHE_HOME/twinpost`, or `~/.cache/twinpost`.
    pub fn of_user() -> anyhow::Result<Self> {
        let cache = match std::env::var_os("XDG_CACHE_HOME") {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir),
            _ => PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
                .join(".cache"),
        };
        Self::at(&cache.join("twinpost"))
    }

    /// A store in the folder given.
    pub fn at(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("making the package store {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The file of a package that was fetched before. Its hash is checked again: disks forget.
    pub fn file(&self, package: &Package) -> anyhow::Result<PathBuf> {
        let path = self.path(package);
        let found = hex(&sha256(&std::fs::read(&path).with_context(|| format!("package {}", package.name))?));
        if found != package.sha256 {
            let _ = std::fs::remove_file(&path);
            bail!(
                "package {} {} in the store {} does not match its hash (locked {}, found {found}); it was removed, try again",
                package.name,
                package.version,
                self.dir.display(),
                package.sha256
            );
        }
        Ok(path)
    }

    /// Brings all packages of the lock into the store, and says which ones had to be replaced.
    pub fn fetch(
        &self,
        lock: &Lock,
        recipe: &Recipe,
        apt_dir: &Path,
        locked: bool,
    ) -> anyhow::Result<Selection> {
        if self.absent(lock).is_empty() {
            return Ok(Selection { lock: lock.clone(), unlocked: vec![] });
        }
        let apt = Apt::open(apt_dir)?;
        let mut absent = self.absent(lock);
        let names: Vec<String> =
            absent.iter().map(|package| format!("{}={}", package.name, package.version)).collect();
        let served = apt.show(&names)?;
        absent.retain(|package| {
            !served.iter().any(|other| other.name == package.name && other.version == package.version)
        });
        let selection = if absent.is_empty() {
            Selection { lock: lock.clone(), unlocked: vec![] }
        } else {
            let list: Vec<String> =
                absent.iter().map(|package| format!("{} {}", package.name, package.version)).collect();
            if locked {
                bail!(
                    "--locked: the machine's package sources no longer serve {}. Run `cargo xtask lock` and commit the new lock",
                    list.join(", ")
                );
            }
            replace(lock, &apt.resolve(&recipe.packages)?, &absent)
        };
        let wanted = self.absent(&selection.lock);
        self.download(&apt, &wanted)?;
        Ok(selection)
    }

    fn download(&self, apt: &Apt, packages: &[Package]) -> anyhow::Result<()> {
        let bytes: u64 = packages.iter().map(|package| package.size).sum();
        let progress = super::progress::Bar::new("fetching packages", bytes);
        // In portions, so that progress is seen and an interrupted download keeps what it had.
        for portion in packages.chunks(8) {
            let scratch = tempfile::tempdir_in(&self.dir)?;
            let files = apt.download(portion, scratch.path())?;
            for (package, file) in portion.iter().zip(files) {
                let contents = std::fs::read(&file).with_context(|| {
                    format!("package {}: apt downloaded no {}", package.name, file.display())
                })?;
                self.put(package, &contents)?;
                progress.add(package.size);
            }
        }
        Ok(())
    }

    /// Stores a package's file if it matches the package's hash.
    pub fn put(&self, package: &Package, contents: &[u8]) -> anyhow::Result<()> {
        let found = hex(&sha256(contents));
        if found != package.sha256 {
            bail!(
                "package {} {} does not match its hash: locked {}, served {found}. \
                 If the lock is old, run `cargo xtask lock`; otherwise do not trust this source",
                package.name,
                package.version,
                package.sha256
            );
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(contents)?;
        file.persist(self.path(package))?;
        Ok(())
    }

    fn absent(&self, lock: &Lock) -> Vec<Package> {
        let mut absent: Vec<Package> = lock
            .image
            .iter()
            .chain(&lock.build)
            .filter(|package| !self.path(package).exists())
            .cloned()
            .collect();
        absent.sort();
        absent.dedup();
        absent
    }

    fn path(&self, package: &Package) -> PathBuf {
        self.dir.join(format!("{}.deb", package.sha256))
    }
}

/// The lock with absent packages replaced by what is served now. A kernel's name carries its version.
fn replace(lock: &Lock, now: &Lock, absent: &[Package]) -> Selection {
    let mut unlocked = vec![];
    let mut section = |old: &[Package], now: &[Package]| -> Vec<Package> {
        let key = |name: &str| {
            if name.starts_with("linux-image-") { "linux-image".to_owned() } else { name.to_owned() }
        };
        let mut used: Vec<Package> = vec![];
        for package in now {
            match old.iter().find(|other| key(&other.name) == key(&package.name)) {
                Some(locked) if !absent.contains(locked) => used.push(locked.clone()),
                Some(locked) => {
                    unlocked.push(format!(
                        "{} {} -> {} {}",
                        locked.name, locked.version, package.name, package.version
                    ));
                    used.push(package.clone());
                }
                None => {
                    unlocked.push(format!("{} (not locked) -> {}", package.name, package.version));
                    used.push(package.clone());
                }
            }
        }
        used
    };
    let lock = Lock { image: section(&lock.image, &now.image), build: section(&lock.build, &now.build) };
    Selection { lock, unlocked }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, contents: &[u8]) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            arch: "all".to_owned(),
            size: contents.len() as u64,
            sha256: hex(&sha256(contents)),
        }
    }

    #[test]
    fn a_wrong_hash_stops_and_names_the_package() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path()).unwrap();
        let package = package("postfix", "3.7", b"right");
        let error = store.put(&package, b"wrong").unwrap_err().to_string();
        assert!(error.contains("postfix 3.7") && error.contains("does not match its hash"), "{error}");
        assert!(!store.path(&package).exists());

        store.put(&package, b"right").unwrap();
        assert!(store.file(&package).is_ok());
        std::fs::write(store.path(&package), b"rotten").unwrap();
        let error = store.file(&package).unwrap_err().to_string();
        assert!(error.contains("postfix 3.7"), "{error}");
    }

    #[test]
    fn only_what_is_gone_is_replaced() {
        let old = Lock {
            image: vec![
                package("a", "1", b"a1"),
                package("b", "1", b"b1"),
                package("linux-image-6.1-5", "5", b"k5"),
            ],
            build: vec![],
        };
        let now = Lock {
            image: vec![
                package("a", "2", b"a2"),
                package("b", "2", b"b2"),
                package("linux-image-6.1-6", "6", b"k6"),
            ],
            build: vec![],
        };
        let selection = replace(&old, &now, &old.image[1..2]);
        assert_eq!(selection.unlocked, ["b 1 -> b 2"]);
        assert_eq!(selection.lock.image, [old.image[0].clone(), now.image[1].clone(), old.image[2].clone()]);
    }
}
