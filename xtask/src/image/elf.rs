//! Do all programs and libraries of the image find the libraries they need?
//!
//! Follows ld.so's rules as far as the image uses them: RUNPATH and RPATH with `$ORIGIN`, then the default folders. No
//! ld.so.cache is shipped, so that nothing has to be run to make one.

use super::tree::{Node, Tree};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, elf};
use std::collections::BTreeMap;

/// Where ld.so of Debian looks by itself, on a merged-usr system.
const DEFAULT_DIRS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib"];

/// What an ELF file asks of the loader.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    libraries: Vec<String>,
    search: Vec<String>,
    interpreter: Option<String>,
}

/// Parts of glibc that programs load by name, or that only old programs ask for.
const GLIBC: [&str; 11] = [
    "libanl",
    "libdl",
    "libmvec",
    "libnsl",
    "libnss_compat",
    "libnss_dns",
    "libnss_files",
    "libpthread",
    "librt",
    "libthread_db",
    "libutil",
];

/// `file needs library` for every library that is not found, sorted.
pub fn unresolved(tree: &Tree) -> Vec<String> {
    let mut problems = vec![];
    for (path, needs) in all_needs(tree) {
        if let Some(interpreter) = &needs.interpreter
            && resolve(tree, interpreter.trim_start_matches('/')).is_none()
        {
            problems.push(format!("{path} needs interpreter {interpreter}"));
        }
        for library in &needs.libraries {
            if find(tree, path, &needs, library).is_none() {
                problems.push(format!("{path} needs {library}"));
            }
        }
    }
    problems
}

/// Shared libraries in the default folders that nothing asks for: candidates for the recipe's exclusions.
pub fn unused(tree: &Tree) -> Vec<String> {
    let mut used: Vec<String> = vec![];
    for (path, needs) in all_needs(tree) {
        used.extend(needs.libraries.iter().filter_map(|library| find(tree, path, &needs, library)));
    }
    tree.files()
        .filter(|(path, contents)| contents.starts_with(b"\x7fELF") && path.contains(".so"))
        .filter(|(path, _)| path.rsplit_once('/').is_some_and(|(dir, _)| DEFAULT_DIRS.contains(&dir)))
        .filter(|(path, _)| !GLIBC.iter().any(|name| path.contains(&format!("/{name}.so"))))
        .filter(|(path, _)| !used.iter().any(|used| used == path))
        .map(|(path, _)| path.to_owned())
        .collect()
}

fn all_needs(tree: &Tree) -> BTreeMap<&str, Needs> {
    tree.files()
        .filter(|(path, contents)| contents.starts_with(b"\x7fELF") && !path.ends_with(".ko"))
        .filter_map(|(path, contents)| Some((path, needs(contents)?)))
        .collect()
}

fn needs(contents: &[u8]) -> Option<Needs> {
    let header = elf::FileHeader64::<Endianness>::parse(contents).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, contents).ok()?;
    let mut needs = Needs::default();
    let mut dynamic: &[elf::Dyn64<Endianness>] = &[];
    for segment in segments {
        if let Ok(Some(interpreter)) = segment.interpreter(endian, contents) {
            needs.interpreter = Some(String::from_utf8_lossy(interpreter).into_owned());
        }
        if let Ok(Some(entries)) = segment.dynamic(endian, contents) {
            dynamic = entries;
        }
    }
    let tag_of = |entry: &elf::Dyn64<Endianness>| entry.d_tag(endian);
    let value = |tag| dynamic.iter().find(|entry| tag_of(entry) == tag).map(|entry| entry.d_val(endian));
    let Some(strings) = value(elf::DT_STRTAB) else { return Some(needs) };
    let strings = segments.iter().find_map(|segment| {
        let start = segment.p_vaddr(endian);
        let inside = segment.p_type(endian) == elf::PT_LOAD
            && (start..start + segment.p_filesz(endian)).contains(&strings);
        inside.then(|| segment.p_offset(endian) + strings - start)
    })?;
    let text = |at: u64| -> Option<String> {
        let bytes = contents.get((strings + at) as usize..)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    };
    for entry in dynamic {
        match tag_of(entry) {
            elf::DT_NEEDED => needs.libraries.extend(text(entry.d_val(endian))),
            elf::DT_RUNPATH | elf::DT_RPATH => {
                let path = text(entry.d_val(endian)).unwrap_or_default();
                needs.search.extend(path.split(':').map(str::to_owned));
            }
            _ => {}
        }
    }
    Some(needs)
}

fn find(tree: &Tree, path: &str, needs: &Needs, library: &str) -> Option<String> {
    let origin = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let own = needs.search.iter().map(|dir| {
        let dir = dir.replace("$ORIGIN", &format!("/{origin}")).replace("${ORIGIN}", &format!("/{origin}"));
        dir.trim_matches('/').to_owned()
    });
    own.chain(DEFAULT_DIRS.map(str::to_owned)).find_map(|dir| resolve(tree, &format!("{dir}/{library}")))
}

/// Follows links to a file; gives the file's path.
fn resolve(tree: &Tree, path: &str) -> Option<String> {
    let mut path = normal(path);
    // Links of links of links: more than these is a loop.
    for _ in 0..16 {
        let (head, rest) = path.split_once('/').unwrap_or((&path, ""));
        if let Some(Node::Link(target)) = tree.get(head).map(|entry| &entry.node) {
            path = normal(&format!("{target}/{rest}"));
            continue;
        }
        match &tree.get(&path)?.node {
            Node::File(_) => return Some(path),
            Node::Dir => return None,
            Node::Link(target) if target.starts_with('/') => path = normal(target),
            Node::Link(target) => {
                let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                path = normal(&format!("{dir}/{target}"));
            }
        }
    }
    None
}

/// Without leading slash, `.` and `..`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = vec![];
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed() {
        let mut tree = Tree::default();
        tree.link("lib64", "usr/lib64");
        tree.link("usr/lib64/ld.so", "../lib/x/ld-2.so");
        tree.file("usr/lib/x/ld-2.so", 0o755, vec![]);
        assert_eq!(resolve(&tree, "/lib64/ld.so"), Some("usr/lib/x/ld-2.so".to_owned()));
        assert_eq!(resolve(&tree, "lib64/none"), None);
    }

    #[test]
    fn a_program_of_the_host_names_its_libraries() {
        let needs = needs(&std::fs::read("/bin/ls").unwrap()).unwrap();
        assert!(needs.libraries.iter().any(|library| library == "libc.so.6"), "{needs:?}");
        assert!(needs.interpreter.is_some());
    }
}
