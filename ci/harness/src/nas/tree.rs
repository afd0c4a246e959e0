//! A file tree in memory, as a server of NFS version 3 keeps it: nodes by number, owners, modes, times. Checks rights as a server does that
//! squashes nobody. Knows no protocol; all bounds are errors, nothing panics.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Most nodes: a scenario stores some thousand messages, each with a few nodes at most.
const NODES_MAX: usize = 1 << 20;
/// Most bytes in all files together, and in one of them.
const BYTES_MAX: u64 = 1 << 30;
const FILE_BYTES_MAX: u64 = 1 << 26;
/// Longest name, bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Places in a folder's list before its first entry: `.` and `..`.
const FIRST_PLACE: u64 = 3;

/// Why something was not done (`nfsstat3`, RFC 1813 section 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotOwner = 1,
    NoEntry = 2,
    Access = 13,
    Exists = 17,
    NotFolder = 20,
    IsFolder = 21,
    Invalid = 22,
    TooLarge = 27,
    NoSpace = 28,
    NameTooLong = 63,
    NotEmpty = 66,
    Stale = 70,
    NotSupported = 10_004,
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Who {
    pub user: u32,
    pub groups: Vec<u32>,
}

/// What is stored. A time is one since 1970.
#[derive(Debug)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub user: u32,
    pub group: u32,
    pub links: u32,
    pub accessed: Duration,
    pub modified: Duration,
    pub changed: Duration,
    /// Who made it and was not sure.
    verifier: Option<[u8; 8]>,
}

#[derive(Debug)]
pub enum Kind {
    File(Vec<u8>),
    Folder(Folder),
    Link(Vec<u8>),
}

/// Entries by name, and in the order in which they came: a list that goes on in several answers stays right while entries come and go.
#[derive(Debug)]
pub struct Folder {
    parent: u64,
    names: BTreeMap<Vec<u8>, (u64, u64)>,
    places: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

/// What is to be set.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub mode: Option<u32>,
    pub user: Option<u32>,
    pub group: Option<u32>,
    pub size: Option<u64>,
    pub accessed: Option<Stamp>,
    pub modified: Option<Stamp>,
}

/// A time to be set.
#[derive(Clone, Copy, Debug)]
pub enum Stamp {
    Now,
    At(Duration),
}

/// Rights as in a mode: 4 read, 2 write, 1 execute.
pub const READ: u32 = 4;
pub const WRITE: u32 = 2;
pub const EXECUTE: u32 = 1;

/// The tree.
#[derive(Debug)]
pub struct Tree {
    nodes: HashMap<u64, Node>,
    last: u64,
    bytes: u64,
}

type Done<T> = Result<T, Refusal>;

impl Tree {
    /// Number of the root.
    pub const ROOT: u64 = 1;

    /// An empty folder of root.
    pub fn new(now: Duration) -> Self {
        let root = Node::new(Kind::Folder(Folder::new(Self::ROOT)), 0o755, &Who::default(), now);
        Self { nodes: HashMap::from([(Self::ROOT, root)]), last: Self::ROOT, bytes: 0 }
    }

    pub fn get(&self, node: u64) -> Done<&Node> {
        self.nodes.get(&node).ok_or(Refusal::Stale)
    }

    pub fn lookup(&self, who: &Who, folder: u64, name: &[u8]) -> Done<u64> {
        let entries = self.folder(folder)?;
        self.permit(who, folder, EXECUTE)?;
        match name {
            b"." => Ok(folder),
            b".." => Ok(entries.parent),
            _ => entries.names.get(name).map(|(node, _)| *node).ok_or(Refusal::NoEntry),
        }
    }

    /// Makes a node with a new name.
    pub fn make(
        &mut self,
        who: &Who,
        (folder, name): (u64, &[u8]),
        kind: Kind,
        changes: &Changes,
        now: Duration,
    ) -> Done<u64> {
        self.may_name(who, folder, name)?;
        if self.nodes.len() >= NODES_MAX {
            return Err(Refusal::NoSpace);
        }
        let kind = match kind {
            Kind::Folder(_) => Kind::Folder(Folder::new(folder)),
            other => other,
        };
        self.last += 1;
        let id = self.last;
        let mut node = Node::new(kind, changes.mode.unwrap_or(0) & 0o7777, who, now);
        if who.user == 0 {
            node.user = changes.user.unwrap_or(node.user);
        }
        node.group =
            changes.group.filter(|group| who.user == 0 || who.groups.contains(group)).unwrap_or(node.group);
        self.nodes.insert(id, node);
        self.enter(folder, name, id, now)?;
        Ok(id)
    }

    /// Makes an empty folder's value; [`Tree::make`] puts it into its place.
    pub fn new_folder() -> Kind {
        Kind::Folder(Folder::new(0))
    }

    /// As `make` for a file, where the same client may ask again without knowing whether it was done.
    pub fn make_once(&mut self, who: &Who, at: (u64, &[u8]), verifier: [u8; 8], now: Duration) -> Done<u64> {
        if let Ok(node) = self.lookup(who, at.0, at.1) {
            let same = self.get(node)?.verifier == Some(verifier);
            return if same { Ok(node) } else { Err(Refusal::Exists) };
        }
        let node = self.make(who, at, Kind::File(Vec::new()), &Changes::default(), now)?;
        if let Some(made) = self.nodes.get_mut(&node) {
            made.verifier = Some(verifier);
        }
        Ok(node)
    }

    /// Takes a name away; the node goes with its last name.
    pub fn remove(
        &mut self,
        who: &Who,
        folder: u64,
        name: &[u8],
        is_folder: bool,
        now: Duration,
    ) -> Done<()> {
        let node = self.lookup(who, folder, name)?;
        self.permit(who, folder, WRITE | EXECUTE)?;
        match (&self.get(node)?.kind, is_folder) {
            (Kind::Folder(_), false) => return Err(Refusal::IsFolder),
            (Kind::Folder(entries), true) if !entries.names.is_empty() => return Err(Refusal::NotEmpty),
            (Kind::Folder(_), true) | (_, false) => {}
            (_, true) => return Err(Refusal::NotFolder),
        }
        self.leave(folder, name, now)?;
        self.drop_name(node, now);
        Ok(())
    }

    /// Gives a node another name, in place of what had it.
    pub fn rename(
        &mut self,
        who: &Who,
        (from, old): (u64, &[u8]),
        (to, new): (u64, &[u8]),
        now: Duration,
    ) -> Done<()> {
        let node = self.lookup(who, from, old)?;
        self.permit(who, from, WRITE | EXECUTE)?;
        let moves_folder = matches!(self.get(node)?.kind, Kind::Folder(_));
        match self.lookup(who, to, new) {
            Ok(there) if there == node => return Ok(()),
            Ok(_) => self.remove(who, to, new, moves_folder, now)?,
            Err(Refusal::NoEntry) => self.may_name(who, to, new)?,
            Err(other) => return Err(other),
        }
        self.leave(from, old, now)?;
        self.enter(to, new, node, now)?;
        if let Some(Node { kind: Kind::Folder(entries), .. }) = self.nodes.get_mut(&node) {
            entries.parent = to;
        }
        Ok(())
    }

    /// Gives a file one more name.
    pub fn link(&mut self, who: &Who, node: u64, folder: u64, name: &[u8], now: Duration) -> Done<()> {
        if matches!(self.get(node)?.kind, Kind::Folder(_)) {
            return Err(Refusal::IsFolder);
        }
        self.may_name(who, folder, name)?;
        self.enter(folder, name, node, now)?;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.links += 1;
            node.changed = now;
        }
        Ok(())
    }

    /// At most `count` bytes from `offset`, and whether the file ends with them.
    pub fn read(&self, who: &Who, node: u64, offset: u64, count: usize) -> Done<(&[u8], bool)> {
        self.permit_owner(who, node, READ)?;
        let Kind::File(bytes) = &self.get(node)?.kind else { return Err(Refusal::Invalid) };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let to = from.saturating_add(count).min(bytes.len());
        Ok((&bytes[from..to], to == bytes.len()))
    }

    pub fn write(&mut self, who: &Who, node: u64, offset: u64, data: &[u8], now: Duration) -> Done<()> {
        self.permit_owner(who, node, WRITE)?;
        let end =
            offset.checked_add(u64::try_from(data.len()).unwrap_or(u64::MAX)).ok_or(Refusal::TooLarge)?;
        let size = self.size(node)?.max(end);
        self.resize(node, size)?;
        let Some(Node { kind: Kind::File(bytes), modified, changed, .. }) = self.nodes.get_mut(&node) else {
            return Err(Refusal::Invalid);
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        bytes[from..from + data.len()].copy_from_slice(data);
        (*modified, *changed) = (now, now);
        Ok(())
    }

    /// Changes what may be changed; all or nothing.
    pub fn change(&mut self, who: &Who, node: u64, changes: &Changes, now: Duration) -> Done<()> {
        let there = self.get(node)?;
        let owns = who.user == 0 || who.user == there.user;
        let gives = changes.user.is_some_and(|user| user != there.user);
        let regroups =
            changes.group.is_some_and(|group| group != there.group && !who.groups.contains(&group));
        let dates =
            [changes.accessed, changes.modified].iter().any(|stamp| matches!(stamp, Some(Stamp::At(_))));
        if who.user != 0 && (gives || regroups) || !owns && (changes.mode.is_some() || dates) {
            return Err(Refusal::NotOwner);
        }
        if let Some(size) = changes.size {
            self.permit_owner(who, node, WRITE)?;
            self.resize(node, size)?;
        }
        let there = self.nodes.get_mut(&node).ok_or(Refusal::Stale)?;
        there.mode = changes.mode.map_or(there.mode, |mode| mode & 0o7777);
        there.user = changes.user.unwrap_or(there.user);
        there.group = changes.group.unwrap_or(there.group);
        let stamp = |stamp: Option<Stamp>, old: Duration| match stamp {
            Some(Stamp::Now) => now,
            Some(Stamp::At(time)) => time,
            None => old,
        };
        there.accessed = stamp(changes.accessed, there.accessed);
        there.modified = stamp(changes.modified, if changes.size.is_some() { now } else { there.modified });
        there.changed = now;
        Ok(())
    }

    /// Entries behind a place, each with its own.
    pub fn list(&self, who: &Who, folder: u64, after: u64) -> Done<Vec<(u64, Vec<u8>, u64)>> {
        self.permit(who, folder, READ)?;
        let entries = self.folder(folder)?;
        let dots = [(1, b".".to_vec(), folder), (2, b"..".to_vec(), entries.parent)];
        let behind = entries.places.range(after.saturating_add(1)..);
        let named = behind.filter_map(|(place, name)| {
            let (node, _) = entries.names.get(name)?;
            Some((*place, name.clone(), *node))
        });
        Ok(dots.into_iter().filter(|(place, ..)| *place > after).chain(named).collect())
    }

    /// Which of these rights somebody has.
    pub fn rights(&self, who: &Who, node: u64) -> Done<u32> {
        let there = self.get(node)?;
        if who.user == 0 {
            return Ok(READ | WRITE | EXECUTE);
        }
        let shift = if who.user == there.user {
            6
        } else if who.groups.contains(&there.group) {
            3
        } else {
            0
        };
        Ok(there.mode >> shift & 7)
    }

    /// Bytes stored in all.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that fit.
    pub fn room(&self) -> u64 {
        BYTES_MAX
    }

    fn permit(&self, who: &Who, node: u64, wanted: u32) -> Done<()> {
        if self.rights(who, node)? & wanted == wanted { Ok(()) } else { Err(Refusal::Access) }
    }

    /// A file's owner may read and write what he opened before he took the right away, as servers do.
    fn permit_owner(&self, who: &Who, node: u64, wanted: u32) -> Done<()> {
        if self.get(node)?.user == who.user { Ok(()) } else { self.permit(who, node, wanted) }
    }

    /// Whether a new name may be entered.
    fn may_name(&self, who: &Who, folder: u64, name: &[u8]) -> Done<()> {
        let entries = self.folder(folder)?;
        self.permit(who, folder, WRITE | EXECUTE)?;
        match name {
            b"" | b"." | b".." => Err(Refusal::Exists),
            _ if name.len() > NAME_BYTES_MAX => Err(Refusal::NameTooLong),
            _ if entries.names.contains_key(name) => Err(Refusal::Exists),
            _ => Ok(()),
        }
    }

    fn folder(&self, node: u64) -> Done<&Folder> {
        match &self.get(node)?.kind {
            Kind::Folder(folder) => Ok(folder),
            _ => Err(Refusal::NotFolder),
        }
    }

    fn entries(&mut self, folder: u64, now: Duration) -> Done<&mut Folder> {
        let node = self.nodes.get_mut(&folder).ok_or(Refusal::Stale)?;
        (node.modified, node.changed) = (now, now);
        match &mut node.kind {
            Kind::Folder(entries) => Ok(entries),
            _ => Err(Refusal::NotFolder),
        }
    }

    fn enter(&mut self, folder: u64, name: &[u8], node: u64, now: Duration) -> Done<()> {
        let entries = self.entries(folder, now)?;
        let place = entries.next;
        entries.next += 1;
        entries.places.insert(place, name.to_vec());
        entries.names.insert(name.to_vec(), (node, place));
        Ok(())
    }

    fn leave(&mut self, folder: u64, name: &[u8], now: Duration) -> Done<()> {
        let entries = self.entries(folder, now)?;
        let (_, place) = entries.names.remove(name).ok_or(Refusal::NoEntry)?;
        entries.places.remove(&place);
        Ok(())
    }

    fn drop_name(&mut self, node: u64, now: Duration) {
        let Some(there) = self.nodes.get_mut(&node) else { return };
        there.links -= 1;
        there.changed = now;
        if there.links == 0
            && let Some(gone) = self.nodes.remove(&node)
        {
            self.bytes -= gone.size();
        }
    }

    fn size(&self, node: u64) -> Done<u64> {
        Ok(self.get(node)?.size())
    }

    fn resize(&mut self, node: u64, size: u64) -> Done<()> {
        let others = self.bytes - self.size(node)?;
        if size > FILE_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        if others + size > BYTES_MAX {
            return Err(Refusal::NoSpace);
        }
        let Some(Node { kind: Kind::File(bytes), .. }) = self.nodes.get_mut(&node) else {
            return Err(Refusal::Invalid);
        };
        bytes.resize(usize::try_from(size).unwrap_or(usize::MAX), 0);
        self.bytes = others + size;
        Ok(())
    }
}

impl Node {
    fn new(kind: Kind, mode: u32, who: &Who, now: Duration) -> Self {
        let group = who.groups.first().copied().unwrap_or(0);
        let (accessed, modified, changed) = (now, now, now);
        Self { kind, mode, user: who.user, group, links: 1, accessed, modified, changed, verifier: None }
    }

    /// Size of a file or of a link's text, bytes.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::File(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Kind::Folder(_) | Kind::Link(_) => 0,
        }
    }
}

impl Folder {
    fn new(parent: u64) -> Self {
        Self { parent, names: BTreeMap::new(), places: BTreeMap::new(), next: FIRST_PLACE }
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
