//! The file systems that belong to one unit alone, state and log: made once, repaired by journal replay or `e2fsck -p`,
//! mounted. Never formats what carries data: only a partition that this unit made and never finished, or one without a
//! file system whose first MiB is zero.

use crate::layout::MIB;
use crate::mounts::{self, MountError};
use crate::partition;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Places of the ext4 magic number, bytes from the start.
const MAGIC_AT: usize = 1024 + 56;
/// The ext2/3/4 magic number.
const MAGIC: [u8; 2] = [0x53, 0xef];
/// A damaged file system is not written any further.
const OPTIONS: &str = "errors=remount-ro";
/// Read at a time, bytes: PID 1 stays small.
const CHUNK_BYTES: usize = 64 * 1024;

/// Why a file system is not mounted.
#[derive(Debug, thiserror::Error)]
pub enum FileSystemError {
    /// No such partition.
    #[error("there is no partition {name}")]
    Missing {
        /// GPT name.
        name: &'static str,
    },
    /// The partition cannot be read.
    #[error("cannot read partition {name}")]
    Read {
        /// GPT name.
        name: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It carries something else.
    #[error("partition {name} carries unknown data, which is not overwritten")]
    Foreign {
        /// GPT name.
        name: &'static str,
    },
    /// A tool failed.
    #[error("{tool} on {name}: {reason}")]
    Tool {
        /// Which.
        tool: &'static str,
        /// GPT name.
        name: &'static str,
        /// Exit status or error, first line of its output.
        reason: String,
    },
    /// The table could not be updated.
    #[error("file system on {name} was made, but not noted")]
    Note {
        /// GPT name.
        name: &'static str,
        /// Why.
        #[source]
        source: partition::PartitionError,
    },
    /// The kernel does not mount it.
    #[error("file system on {name} is damaged")]
    Mount {
        /// GPT name.
        name: &'static str,
        /// Why.
        #[source]
        source: MountError,
    },
}

/// What a partition carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// An ext file system.
    Ext,
    /// Nothing.
    Zero,
    /// Something else.
    Foreign,
}

/// Judges the first MiB of a partition.
///
/// # Errors
/// When it cannot be read.
pub fn content(partition: &File) -> io::Result<Content> {
    let mut chunk = vec![0; CHUNK_BYTES];
    for at in (0..MIB).step_by(CHUNK_BYTES) {
        partition.read_exact_at(&mut chunk, at)?;
        if at == 0 && chunk[MAGIC_AT..MAGIC_AT + 2] == MAGIC {
            return Ok(Content::Ext);
        }
        if chunk.iter().any(|byte| *byte != 0) {
            return Ok(Content::Foreign);
        }
    }
    Ok(Content::Zero)
}

/// Mounts partition `name` at `target`, making the file system if it never had one.
///
/// # Errors
/// See [`FileSystemError`]. Nothing was overwritten unless the partition was new.
pub fn provide(
    name: &'static str,
    target: &str,
    disk: &Path,
    sector_bytes: u64,
) -> Result<(), FileSystemError> {
    let node = Path::new(partition::BY_LABEL).join(name);
    let node = std::fs::canonicalize(&node).map_err(|_| FileSystemError::Missing { name })?;
    let unfinished = partition::unfinished(disk, sector_bytes).unwrap_or_default();
    let is_new = unfinished.iter().any(|other| other == name);
    let read = |source| FileSystemError::Read { name, source };
    match File::open(&node).and_then(|file| content(&file)).map_err(read)? {
        Content::Ext if !is_new => {}
        Content::Foreign if !is_new => return Err(FileSystemError::Foreign { name }),
        _ => {
            format(name, &node)?;
            partition::finish(disk, sector_bytes, name)
                .map_err(|source| FileSystemError::Note { name, source })?;
        }
    }
    let node_text = node.to_string_lossy();
    if mounts::ensure("ext4", &node_text, target, mounts::DATA, OPTIONS).is_ok() {
        return Ok(());
    }
    repair(name, &node)?;
    mounts::ensure("ext4", &node_text, target, mounts::DATA, OPTIONS)
        .map_err(|source| FileSystemError::Mount { name, source })
}

fn format(name: &'static str, node: &PathBuf) -> Result<(), FileSystemError> {
    let options =
        ["-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", "-L", name];
    tool("mkfs.ext4", "/sbin/mkfs.ext4", &options, name, node, 0)
}

/// `e2fsck -p`: repairs what is safe without asking; exit 1 = repaired.
fn repair(name: &'static str, node: &PathBuf) -> Result<(), FileSystemError> {
    tool("e2fsck -p", "/sbin/e2fsck", &["-p"], name, node, 1)
}

/// Runs a tool to its end. Its time is bounded by the hardware watchdog, which is armed before.
fn tool(
    tool: &'static str,
    program: &str,
    options: &[&str],
    name: &'static str,
    node: &PathBuf,
    status_max: i32,
) -> Result<(), FileSystemError> {
    let failed = |reason| FileSystemError::Tool { tool, name, reason };
    let output = Command::new(program)
        .args(options)
        .arg(node)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.code().is_some_and(|code| code <= status_max) {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    let line = String::from_utf8_lossy(&said).lines().next().unwrap_or("").to_owned();
    Err(failed(format!("{}: {line}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents() {
        let file = tempfile::tempfile().expect("scratch file");
        let put = |bytes: &[u8], at: usize| {
            file.write_all_at(bytes, u64::try_from(at).expect("small")).expect("writes");
            content(&file)
        };
        file.set_len(2 * MIB).expect("grows");
        assert_eq!(content(&file).expect("reads"), Content::Zero);
        assert_eq!(put(&[1], 1 << 20).expect("reads"), Content::Zero, "behind the first MiB");
        assert_eq!(put(&[1], (1 << 20) - 1).expect("reads"), Content::Foreign);
        assert_eq!(put(&MAGIC, MAGIC_AT).expect("reads"), Content::Ext);
        file.set_len(512).expect("shrinks");
        assert!(content(&file).is_err());
    }
}
