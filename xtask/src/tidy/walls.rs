//! What pure crates must not know, however they come by it: crates of the operating system anywhere below them, and
//! modules of the standard library that touch files, sockets, processes, the environment or a clock. Also the device files
//! that only hal/linux opens, and `no_std` where the plan asks for it.

use super::Finding;
use super::files::Tree;
use super::rooms::{Room, members, room};
use super::sources::is_test;
use anyhow::Context;
use proc_macro2::Span;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Crates that reach the operating system.
const SYSTEM_CRATES: &[&str] = &[
    "tokio",
    "mio",
    "socket2",
    "rustix",
    "libc",
    "nix",
    "rtnetlink",
    "getrandom",
    "rand",
    "async-std",
    "linux-embedded-hal",
];
/// What pure crates must not name; a type of `std::net` that is only an address is allowed.
const SYSTEM_PATHS: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "std::io",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
];
/// Crates without the standard library.
const NO_STD: &[&str] =
    &["twinpost-types", "twinpost-wire", "twinpost-control", "twinpost-ha", "twinpost-check"];
/// Device files and folders that only hal/linux knows.
const DEVICES: &[&str] = &["/dev/watchdog", "/dev/gpiochip", "/sys/class/leds", "/sys/class/hwmon"];
/// System calls behind modules of rustix, and the rooms that may make them.
const RAW: &[(&str, &[&str])] = &[("rustix::mount", &["twinpost-storage", "twinpost-init"])];

/// Checks the walls.
pub(crate) fn check(metadata: &Value, tree: &Tree) -> anyhow::Result<Vec<Finding>> {
    let root = metadata["workspace_root"].as_str().context("metadata has a workspace_root")?;
    let graph = Graph::read(metadata)?;
    let mut findings = Vec::new();
    for package in members(metadata)? {
        let name = package["name"].as_str().unwrap_or_default();
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let manifest = manifest.strip_prefix(root).unwrap_or(manifest).trim_start_matches('/');
        let folder = manifest.trim_end_matches("Cargo.toml");
        let pure = matches!(room(name), Some(Room::Pure | Room::Traits | Room::PureTool));
        if pure {
            for way in graph.ways(package["id"].as_str().unwrap_or_default(), SYSTEM_CRATES) {
                let what = format!("a pure crate reaches the system: {}", way.join(" → "));
                findings.push(Finding::new(
                    manifest,
                    1,
                    what,
                    "take it out, or switch the feature off that pulls it in",
                ));
            }
        }
        if NO_STD.contains(&name)
            && !tree.text(&format!("{folder}src/lib.rs")).unwrap_or_default().contains("no_std]")
        {
            let file = format!("{folder}src/lib.rs");
            findings.push(Finding::new(
                file,
                1,
                format!("{name} uses the standard library"),
                "add `#![no_std]`",
            ));
        }
        let sources = tree.ending(".rs").filter(|(path, _)| path.starts_with(&format!("{folder}src/")));
        for (path, text) in sources.filter(|(path, _)| !is_test(path)) {
            names(name, pure, path, text, &mut findings);
        }
    }
    Ok(findings)
}

/// What one source names that its room must not know.
fn names(package: &str, pure: bool, path: &str, text: &str, findings: &mut Vec<Finding>) {
    let Ok(file) = syn::parse_file(text) else { return };
    let mut visitor = Names { found: Vec::new(), literals: Vec::new() };
    visitor.visit_file(&file);
    for (span, name) in &visitor.found {
        let line = span.start().line;
        let under = |prefix: &str| name == prefix || name.starts_with(&format!("{prefix}::"));
        if pure && SYSTEM_PATHS.iter().any(|system| under(system)) {
            let todo = "pass it in: pure crates know no files, sockets, processes, environment or clocks";
            findings.push(Finding::new(path, line, format!("a pure crate names {name}"), todo));
        }
        if let Some((_, rooms)) = RAW.iter().find(|(raw, _)| under(raw))
            && !rooms.contains(&package)
        {
            findings.push(Finding::new(
                path,
                line,
                format!("{package} names {name}"),
                format!("leave it to {}", rooms.join(", ")),
            ));
        }
    }
    let product = matches!(room(package), Some(Room::Io | Room::Face)) && package != "twinpost-hal-linux";
    for (span, literal) in visitor.literals.iter().filter(|_| product) {
        if let Some(device) = DEVICES.iter().find(|device| literal.contains(**device)) {
            let what = format!("{device} outside of hal/linux");
            findings.push(Finding::new(path, span.start().line, what, "go through a trait of hal/traits"));
        }
    }
}

/// Full paths and string literals of a source, tests left out.
struct Names {
    found: Vec<(Span, String)>,
    literals: Vec<(Span, String)>,
}

impl Names {
    fn tree(&mut self, prefix: &str, tree: &syn::UseTree) {
        let join = |name: String| if prefix.is_empty() { name } else { format!("{prefix}::{name}") };
        match tree {
            syn::UseTree::Path(path) => self.tree(&join(path.ident.to_string()), &path.tree),
            syn::UseTree::Name(name) => self.found.push((name.span(), join(name.ident.to_string()))),
            syn::UseTree::Rename(name) => self.found.push((name.span(), join(name.ident.to_string()))),
            syn::UseTree::Glob(glob) => self.found.push((glob.span(), prefix.to_string())),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(prefix, item)),
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let test = item.attrs.iter().any(|a| {
            a.path().is_ident("cfg")
                && matches!(&a.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
        });
        if !test {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree("", &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.found.push((path.span(), names.join("::")));
        visit::visit_path(self, path);
    }

    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.literals.push((literal.span(), literal.value()));
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

/// Who depends on whom in the product: no test and build dependencies, nothing below proc-macros.
struct Graph {
    names: BTreeMap<String, String>,
    edges: BTreeMap<String, Vec<String>>,
}

impl Graph {
    fn read(metadata: &Value) -> anyhow::Result<Self> {
        let mut names = BTreeMap::new();
        let mut macros = BTreeSet::new();
        for package in metadata["packages"].as_array().context("metadata has packages")? {
            let (id, name) = (text(&package["id"]), text(&package["name"]));
            let kinds = package["targets"].as_array().into_iter().flatten().map(|target| &target["kind"]);
            if kinds.flat_map(|kind| kind.as_array().into_iter().flatten()).any(|kind| kind == "proc-macro") {
                macros.insert(id.clone());
            }
            names.insert(id, name);
        }
        let mut edges = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array().context("metadata has a resolve")? {
            let id = text(&node["id"]);
            let dependencies = node["deps"].as_array().into_iter().flatten().filter(|dependency| {
                dependency["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"].is_null())
            });
            let below = dependencies.map(|dependency| text(&dependency["pkg"]));
            let below = if macros.contains(&id) { Vec::new() } else { below.collect() };
            edges.insert(id, below);
        }
        Ok(Self { names, edges })
    }

    /// The shortest way from a package to each of the wanted crates.
    fn ways(&self, from: &str, wanted: &[&str]) -> Vec<Vec<String>> {
        let mut seen = BTreeSet::from([from.to_string()]);
        let mut queue = std::collections::VecDeque::from([vec![from.to_string()]]);
        let mut ways = Vec::new();
        while let Some(way) = queue.pop_front() {
            let Some(below) = way.last().and_then(|id| self.edges.get(id)) else { continue };
            for next in below.iter().filter(|next| seen.insert((*next).clone())).collect::<Vec<_>>() {
                let mut longer = way.clone();
                longer.push(next.clone());
                let name = self.names.get(next).map(String::as_str).unwrap_or_default();
                if wanted.contains(&name) {
                    ways.push(
                        longer.iter().map(|id| self.names.get(id).cloned().unwrap_or_default()).collect(),
                    );
                } else {
                    queue.push_back(longer);
                }
            }
        }
        ways
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_names_are_found_outside_of_tests_only() {
        let text = "//! D.\nuse std::{fs, net::Ipv4Addr, time::{Duration, Instant}};\nfn a() { std::env::var(\"x\"); }\n\
                    #[cfg(test)]\nmod tests { use std::process::Command; }\n";
        let mut found = Vec::new();
        names("twinpost-ha", true, "a.rs", text, &mut found);
        let lines: Vec<_> = found.iter().map(|f| f.what.as_str()).collect();
        assert_eq!(
            lines,
            [
                "a pure crate names std::fs",
                "a pure crate names std::time::Instant",
                "a pure crate names std::env::var"
            ]
        );
        let mut found = Vec::new();
        names("twinpost-had", false, "a.rs", "//! D.\nconst A: &str = \"/dev/watchdog0\";\n", &mut found);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn ways_to_the_system_are_found() {
        let edge = |pkg: &str| serde_json::json!({"pkg": pkg, "dep_kinds": [{"kind": null}]});
        let package =
            |name: &str| serde_json::json!({"id": name, "name": name, "targets": [{"kind": ["lib"]}]});
        let metadata = serde_json::json!({
            "packages": [package("a"), package("b"), package("libc")],
            "resolve": {"nodes": [
                {"id": "a", "deps": [edge("b")]},
                {"id": "b", "deps": [edge("libc")]},
                {"id": "libc", "deps": []},
            ]},
        });
        let graph = Graph::read(&metadata).unwrap();
        assert_eq!(graph.ways("a", SYSTEM_CRATES), [["a", "b", "libc"]]);
    }
}
