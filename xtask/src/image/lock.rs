//! `image/packages.lock`: which Debian packages the image is made of, by version and hash.
//!
//! One line a package, two sections: what is shipped, and what builds. This file knows the format and differences;
//! resolving is `apt`'s duty, fetching the store's.

use std::fmt;

/// One locked package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Debian's name.
    pub name: String,
    /// Debian's version, with epoch.
    pub version: String,
    /// `amd64` or `all`.
    pub arch: String,
    /// Bytes of the package file.
    pub size: u64,
    /// SHA-256 of the package file, 64 hexadecimal digits.
    pub sha256: String,
}

/// The whole lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// Packages that are shipped, sorted by name.
    pub image: Vec<Package>,
    /// Packages whose programs build the image, sorted by name.
    pub build: Vec<Package>,
}

/// Why a lock cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LockError {
    /// A line is neither a section, a comment nor a package.
    #[error("line {line}: expected `name version arch size sha256`, found `{text}`")]
    Line {
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// A package before the first section.
    #[error("line {line}: a package outside of [image] and [build]")]
    NoSection {
        /// Counted from 1.
        line: usize,
    },
}

const HEAD: &str =
    "# Debian packages of the image, written by `cargo xtask lock`: name version arch size sha256\n";

impl Lock {
    /// Reads a lock file's text.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let mut lock = Self::default();
        let mut section = None;
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            match line.trim() {
                "" => {}
                comment if comment.starts_with('#') => {}
                "[image]" => section = Some(true),
                "[build]" => section = Some(false),
                text => {
                    let package = parse_line(text)
                        .ok_or_else(|| LockError::Line { line: line_number, text: text.to_owned() })?;
                    match section {
                        Some(true) => lock.image.push(package),
                        Some(false) => lock.build.push(package),
                        None => return Err(LockError::NoSection { line: line_number }),
                    }
                }
            }
        }
        Ok(lock)
    }

    /// What changed from `self` to `new`, one line a package: `+` added, `-` removed, `~` another version or file.
    pub fn difference(&self, new: &Self) -> Vec<String> {
        let mut lines = vec![];
        for (section, old, new) in [("image", &self.image, &new.image), ("build", &self.build, &new.build)] {
            for package in old {
                match new.iter().find(|other| other.name == package.name) {
                    None => lines.push(format!("- {section}: {} {}", package.name, package.version)),
                    Some(other) if other.version != package.version => {
                        lines.push(format!(
                            "~ {section}: {} {} -> {}",
                            package.name, package.version, other.version
                        ));
                    }
                    Some(other) if other != package => {
                        lines.push(format!("~ {section}: {} {}: other file", package.name, package.version));
                    }
                    Some(_) => {}
                }
            }
            for package in new.iter().filter(|package| !old.iter().any(|other| other.name == package.name)) {
                lines.push(format!("+ {section}: {} {}", package.name, package.version));
            }
        }
        lines
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        for (section, packages) in [("image", &self.image), ("build", &self.build)] {
            writeln!(f, "\n[{section}]")?;
            for Package { name, version, arch, size, sha256 } in packages {
                writeln!(f, "{name} {version} {arch} {size} {sha256}")?;
            }
        }
        Ok(())
    }
}

fn parse_line(text: &str) -> Option<Package> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [name, version, arch, size, sha256] = words[..] else { return None };
    let is_hash = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then_some(())?;
    Some(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        arch: arch.to_owned(),
        size: size.parse().ok()?,
        sha256: sha256.to_ascii_lowercase(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            arch: "amd64".to_owned(),
            size: 42,
            sha256: "ab".repeat(32),
        }
    }

    #[test]
    fn round_trip() {
        let lock =
            Lock { image: vec![package("a", "1:2-3"), package("b", "1")], build: vec![package("c", "2")] };
        assert_eq!(Lock::parse(&lock.to_string()), Ok(lock));
    }

    #[test]
    fn difference_names_every_change() {
        let old = Lock { image: vec![package("a", "1"), package("b", "1")], build: vec![] };
        let new = Lock { image: vec![package("b", "2")], build: vec![package("c", "2")] };
        assert_eq!(old.difference(&new), ["- image: a 1", "~ image: b 1 -> 2", "+ build: c 2"]);
        assert!(old.difference(&old).is_empty());
    }

    #[test]
    fn errors_tell_the_line() {
        assert_eq!(
            Lock::parse("[image]\nx 1 amd64 7 nohash\n"),
            Err(LockError::Line { line: 2, text: "x 1 amd64 7 nohash".to_owned() })
        );
        assert_eq!(
            Lock::parse(&format!("x 1 amd64 7 {}\n", "0".repeat(64))),
            Err(LockError::NoSection { line: 1 })
        );
    }
}
