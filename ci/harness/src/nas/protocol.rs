//! The procedures of NFS version 3 and of its mount service (RFC 1813), and of the port mapper (RFC 1833) as far as the kernel of a unit asks it, over
//! one file tree. Everything that is answered is stored: there is no cache that could be lost. Without locks, which units keep to themselves.

use super::tree::{Changes, Kind, NAME_BYTES_MAX, Node, Refusal, Stamp, Tree, Who};
use super::xdr::{Accepted, Call, Reader, Writer, reply};
use std::time::Duration;

/// TCP port of NFS and of the mount service here.
pub const PORT: u16 = 2049;
/// TCP port of the port mapper.
pub const MAPPER_PORT: u16 = 111;
/// Largest read and write, bytes: a record of it fits a connection's buffer.
const TRANSFER_BYTES: u32 = 16 * 1024;
const PROGRAM_MAPPER: u32 = 100_000;
const PROGRAM_NFS: u32 = 100_003;
const PROGRAM_MOUNT: u32 = 100_005;
/// `ftype3`.
const REGULAR: u32 = 1;
const DIRECTORY: u32 = 2;
const SYMLINK: u32 = 5;
/// `FILE_SYNC`: what was written is stable.
const STABLE: u32 = 2;
/// Links, symbolic links, the same for all files, times can be set.
const PROPERTIES: u32 = 1 | 2 | 8 | 16;
/// Optional attributes that a refusal of each procedure carries, all left out.
const REFUSAL_WORDS: [usize; 22] = [0, 0, 2, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 4, 3, 1, 1, 1, 1, 1, 2];

/// The server.
pub struct Server {
    export: Vec<u8>,
    tree: Tree,
}

/// Why a procedure has no results.
enum Failure {
    Refused(Refusal),
    /// The arguments are not those of the procedure.
    Garbage,
    NoProcedure,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

type Answer = Result<Writer, Failure>;

/// A field that must be there.
fn need<T>(field: Option<T>) -> Result<T, Failure> {
    field.ok_or(Failure::Garbage)
}

impl Server {
    /// An empty export of this path.
    pub fn new(export: &str, now: Duration) -> Self {
        Self { export: export.as_bytes().to_vec(), tree: Tree::new(now) }
    }

    /// Answers one call; `None` for what is none. `now` since 1970.
    pub fn answer(&mut self, record: &[u8], now: Duration) -> Option<Vec<u8>> {
        let mut call = Call::parse(record)?;
        let refusal_words = match call.program {
            PROGRAM_NFS => REFUSAL_WORDS.get(usize::try_from(call.procedure).ok()?).copied().unwrap_or(0),
            _ => 0,
        };
        let answer = match (call.program, call.version) {
            (PROGRAM_NFS, 3) => self.nfs(&call.who, call.procedure, &mut call.arguments, now),
            (PROGRAM_MOUNT, 3) => self.mount(call.procedure, &mut call.arguments),
            (PROGRAM_MAPPER, 2) => mapper(call.procedure, &mut call.arguments),
            (PROGRAM_NFS | PROGRAM_MOUNT | PROGRAM_MAPPER, _) => {
                return Some(reply(call.id, Accepted::OtherVersion, &[]));
            }
            _ => return Some(reply(call.id, Accepted::NoProgram, &[])),
        };
        Some(match answer {
            Ok(results) => reply(call.id, Accepted::Success, &results.0),
            Err(Failure::Refused(refusal)) => {
                let mut results = Writer::default();
                results.word(refusal as u32);
                for _ in 0..refusal_words {
                    results.word(0);
                }
                reply(call.id, Accepted::Success, &results.0)
            }
            Err(Failure::Garbage) => reply(call.id, Accepted::Garbage, &[]),
            Err(Failure::NoProcedure) => reply(call.id, Accepted::NoProcedure, &[]),
        })
    }

    fn mount(&self, procedure: u32, arguments: &mut Reader<'_>) -> Answer {
        let mut results = Writer::default();
        match procedure {
            // Nothing, and the end of a mount.
            0 | 3 => Ok(results),
            1 => {
                let path = need(arguments.bytes())?;
                if path != self.export {
                    return Err(Refusal::NoEntry.into());
                }
                // Ok, the root, and credentials of one kind.
                results.word(0).bytes(&Tree::ROOT.to_be_bytes()).word(1).word(1);
                Ok(results)
            }
            _ => Err(Failure::NoProcedure),
        }
    }

    fn nfs(&mut self, who: &Who, procedure: u32, a: &mut Reader<'_>, now: Duration) -> Answer {
        match procedure {
            0 => Ok(Writer::default()),
            1 => {
                let node = handle(a)?;
                let mut results = ok();
                attributes(&mut results, node, self.tree.get(node)?);
                Ok(results)
            }
            2 => self.set(who, a, now),
            3 => self.lookup(who, a),
            4 => self.access(who, a),
            5 => self.read_link(a),
            6 => self.read(who, a),
            7 => self.write(who, a, now),
            8..=10 => self.make(who, procedure, a, now),
            11 => Err(Refusal::NotSupported.into()),
            12 | 13 => {
                let (folder, name) = entry(a)?;
                self.tree.remove(who, folder, name, procedure == 13, now)?;
                let mut results = ok();
                self.changed(&mut results, folder);
                Ok(results)
            }
            14 => {
                let (from, to) = (entry(a)?, entry(a)?);
                self.tree.rename(who, from, to, now)?;
                let mut results = ok();
                self.changed(&mut results, from.0);
                self.changed(&mut results, to.0);
                Ok(results)
            }
            15 => {
                let (node, (folder, name)) = (handle(a)?, entry(a)?);
                self.tree.link(who, node, folder, name, now)?;
                let mut results = ok();
                self.present(&mut results, node);
                self.changed(&mut results, folder);
                Ok(results)
            }
            16 | 17 => self.list(who, a, procedure == 17),
            18..=20 => self.about(procedure, a),
            21 => {
                let node = handle(a)?;
                let mut results = ok();
                self.changed(&mut results, node);
                results.long(0);
                Ok(results)
            }
            _ => Err(Failure::NoProcedure),
        }
    }

    fn set(&mut self, who: &Who, a: &mut Reader<'_>, now: Duration) -> Answer {
        let (node, changes) = (handle(a)?, changes(a)?);
        let _guard = need(a.maybe(Reader::long))?;
        self.tree.change(who, node, &changes, now)?;
        let mut results = ok();
        self.changed(&mut results, node);
        Ok(results)
    }

    fn lookup(&self, who: &Who, a: &mut Reader<'_>) -> Answer {
        let (folder, name) = entry(a)?;
        let node = self.tree.lookup(who, folder, name)?;
        let mut results = ok();
        results.bytes(&node.to_be_bytes());
        self.present(&mut results, node);
        self.present(&mut results, folder);
        Ok(results)
    }

    /// Bits of `ACCESS3`: read, look up, modify, extend, delete, execute.
    fn access(&self, who: &Who, a: &mut Reader<'_>) -> Answer {
        let (node, asked) = (handle(a)?, need(a.word())?);
        let rights = self.tree.rights(who, node)?;
        let is_folder = matches!(self.tree.get(node)?.kind, Kind::Folder(_));
        let [read, write, execute] = [4, 2, 1].map(|right| rights & right != 0);
        let granted = [
            (0x01, read),
            (0x02, is_folder && execute),
            (0x04, write),
            (0x08, write),
            (0x10, is_folder && write),
            (0x20, !is_folder && execute),
        ];
        let granted: u32 = granted.into_iter().filter(|(_, has)| *has).map(|(bit, _)| bit).sum();
        let mut results = ok();
        self.present(&mut results, node);
        results.word(granted & asked);
        Ok(results)
    }

    fn read_link(&self, a: &mut Reader<'_>) -> Answer {
        let node = handle(a)?;
        let Kind::Link(text) = &self.tree.get(node)?.kind else { return Err(Refusal::Invalid.into()) };
        let mut results = ok();
        self.present(&mut results, node);
        results.bytes(text);
        Ok(results)
    }

    fn read(&self, who: &Who, a: &mut Reader<'_>) -> Answer {
        let (node, offset, count) = (handle(a)?, need(a.long())?, need(a.word())?);
        let count = usize::try_from(count.min(TRANSFER_BYTES)).unwrap_or(0);
        let (bytes, ends) = self.tree.read(who, node, offset, count)?;
        let mut results = ok();
        self.present(&mut results, node);
        results.word(u32::try_from(bytes.len()).unwrap_or(0)).word(u32::from(ends)).bytes(bytes);
        Ok(results)
    }

    fn write(&mut self, who: &Who, a: &mut Reader<'_>, now: Duration) -> Answer {
        let (node, offset, _count, _stable) = (handle(a)?, need(a.long())?, need(a.word())?, need(a.word())?);
        let bytes = need(a.bytes())?;
        self.tree.write(who, node, offset, bytes, now)?;
        let mut results = ok();
        self.changed(&mut results, node);
        results.word(u32::try_from(bytes.len()).unwrap_or(0)).word(STABLE).long(0);
        Ok(results)
    }

    fn make(&mut self, who: &Who, procedure: u32, a: &mut Reader<'_>, now: Duration) -> Answer {
        let at = entry(a)?;
        let node = match procedure {
            8 => match need(a.word())? {
                // An open that makes the file if need be.
                0 => {
                    let changes = changes(a)?;
                    match self.tree.lookup(who, at.0, at.1) {
                        Ok(node) => {
                            let size = Changes { size: changes.size, ..Changes::default() };
                            self.tree.change(who, node, &size, now).map(|()| node)
                        }
                        Err(Refusal::NoEntry) => {
                            self.tree.make(who, at, Kind::File(Vec::new()), &changes, now)
                        }
                        Err(other) => Err(other),
                    }
                }
                1 => self.tree.make(who, at, Kind::File(Vec::new()), &changes(a)?, now),
                2 => self.tree.make_once(who, at, need(a.fixed())?, now),
                _ => return Err(Failure::Garbage),
            },
            9 => self.tree.make(who, at, Tree::new_folder(), &changes(a)?, now),
            _ => {
                let changes = changes(a)?;
                self.tree.make(who, at, Kind::Link(need(a.bytes())?.to_vec()), &changes, now)
            }
        }?;
        let mut results = ok();
        results.word(1).bytes(&node.to_be_bytes());
        self.present(&mut results, node);
        self.changed(&mut results, at.0);
        Ok(results)
    }

    /// Entries of a folder, as many as fit; `plus` with what they are.
    fn list(&self, who: &Who, a: &mut Reader<'_>, plus: bool) -> Answer {
        /// What an entry takes besides its name, at most.
        const ENTRY_BYTES: usize = 4 + 8 + 4 + 3 + 8 + 4 + 84 + 4 + 12;
        let (folder, after, _verifier) = (handle(a)?, need(a.long())?, need(a.long())?);
        let mut count = need(a.word())?;
        if plus {
            count = need(a.word())?;
        }
        let most = usize::try_from(count.min(TRANSFER_BYTES)).unwrap_or(0);
        let mut results = ok();
        self.present(&mut results, folder);
        results.long(0);
        let mut whole = true;
        for (place, name, node) in self.tree.list(who, folder, after)? {
            if results.0.len() + name.len() + ENTRY_BYTES > most {
                whole = false;
                break;
            }
            results.word(1).long(node).bytes(&name).long(place);
            if plus {
                self.present(&mut results, node);
                results.word(1).bytes(&node.to_be_bytes());
            }
        }
        results.word(0).word(u32::from(whole));
        Ok(results)
    }

    /// Room, what the server can do, and its limits.
    fn about(&self, procedure: u32, a: &mut Reader<'_>) -> Answer {
        let node = handle(a)?;
        self.tree.get(node)?;
        let mut results = ok();
        self.present(&mut results, node);
        match procedure {
            18 => {
                let (all, free) = (self.tree.room(), self.tree.room() - self.tree.bytes());
                results.long(all).long(free).long(free).long(1 << 20).long(1 << 19).long(1 << 19).word(0);
            }
            19 => {
                let [most, best, multiple] = [TRANSFER_BYTES, TRANSFER_BYTES, 4096];
                results.word(most).word(best).word(multiple).word(most).word(best).word(multiple).word(best);
                results.long(1 << 26).word(0).word(1).word(PROPERTIES);
            }
            _ => {
                // Links, name length, no truncation, chown by root only, case matters and is kept.
                let name = u32::try_from(NAME_BYTES_MAX).unwrap_or(0);
                results.word(32_000).word(name).word(1).word(1).word(0).word(1);
            }
        }
        Ok(results)
    }

    /// `post_op_attr`.
    fn present(&self, results: &mut Writer, node: u64) {
        match self.tree.get(node) {
            Ok(there) => {
                results.word(1);
                attributes(results, node, there);
            }
            Err(_) => {
                results.word(0);
            }
        }
    }

    /// `wcc_data`, without what was before.
    fn changed(&self, results: &mut Writer, node: u64) {
        results.word(0);
        self.present(results, node);
    }
}

/// Where a program listens: `GETPORT` of program, version, protocol.
fn mapper(procedure: u32, arguments: &mut Reader<'_>) -> Answer {
    let mut results = Writer::default();
    match procedure {
        0 => Ok(results),
        3 => {
            let (program, version) = (need(arguments.word())?, need(arguments.word())?);
            let known = matches!((program, version), (PROGRAM_NFS | PROGRAM_MOUNT, 3));
            results.word(if known { PORT.into() } else { 0 });
            Ok(results)
        }
        _ => Err(Failure::NoProcedure),
    }
}

fn ok() -> Writer {
    let mut results = Writer::default();
    results.word(0);
    results
}

/// A file handle is the number of its node.
fn handle(a: &mut Reader<'_>) -> Result<u64, Failure> {
    let bytes = need(a.bytes())?;
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| Refusal::Stale.into())
}

fn entry<'a>(a: &mut Reader<'a>) -> Result<(u64, &'a [u8]), Failure> {
    Ok((handle(a)?, need(a.bytes())?))
}

/// `sattr3`.
fn changes(a: &mut Reader<'_>) -> Result<Changes, Failure> {
    let stamp = |a: &mut Reader<'_>| {
        Ok(match need(a.word())? {
            0 => None,
            1 => Some(Stamp::Now),
            2 => Some(Stamp::At(Duration::new(need(a.word())?.into(), need(a.word())?.min(999_999_999)))),
            _ => return Err(Failure::Garbage),
        })
    };
    Ok(Changes {
        mode: need(a.maybe(Reader::word))?,
        user: need(a.maybe(Reader::word))?,
        group: need(a.maybe(Reader::word))?,
        size: need(a.maybe(Reader::long))?,
        accessed: stamp(a)?,
        modified: stamp(a)?,
    })
}

/// `fattr3`.
fn attributes(results: &mut Writer, id: u64, node: &Node) {
    let (kind, size) = match &node.kind {
        Kind::File(_) => (REGULAR, node.size()),
        Kind::Folder(_) => (DIRECTORY, 4096),
        Kind::Link(text) => (SYMLINK, u64::try_from(text.len()).unwrap_or(0)),
    };
    results.word(kind).word(node.mode).word(node.links).word(node.user).word(node.group);
    results.long(size).long(size).long(0).long(1).long(id);
    for time in [node.accessed, node.modified, node.changed] {
        results.word(u32::try_from(time.as_secs()).unwrap_or(u32::MAX)).word(time.subsec_nanos());
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
