//! Which crate is what kind of room, and which doors are between rooms: direct dependencies inside of the workspace.
//! Walls 1, 2, 3 and 6 of the house's plan, as far as manifests tell.

use super::Finding;
use super::files::Tree;
use anyhow::Context;
use serde_json::Value;

/// The kind of a crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// No runtime, no sockets, no files, no environment, no clock, no randomness.
    Pure,
    /// Hardware traits: pure, and no word of Linux.
    Traits,
    /// Knows `api`, `config`, `types` and nothing else of the product.
    Face,
    /// Talks to the kernel.
    Io,
    /// Build, test and release; never part of the product.
    Tool,
    /// A tool that is as pure as the decisions that it tries.
    PureTool,
}

/// Every crate of the workspace.
pub(crate) const ROOMS: &[(&str, Room)] = &[
    ("twinpost-types", Room::Pure),
    ("twinpost-wire", Room::Pure),
    ("twinpost-control", Room::Pure),
    ("twinpost-ha", Room::Pure),
    ("twinpost-config", Room::Pure),
    ("twinpost-check", Room::Pure),
    ("twinpost-api", Room::Pure),
    ("twinpost-board", Room::Pure),
    ("twinpost-board-qemu-q35", Room::Pure),
    ("twinpost-board-generic-x86_64", Room::Pure),
    ("twinpost-hal", Room::Traits),
    ("twinpost-hal-sim", Room::Pure),
    ("twinpost-hal-contract", Room::Pure),
    ("twinpost-hal-linux", Room::Io),
    ("twinpost-net", Room::Io),
    ("twinpost-storage", Room::Io),
    ("twinpost-mail", Room::Io),
    ("twinpost-alert", Room::Io),
    ("twinpost-had", Room::Io),
    ("twinpost-init", Room::Io),
    ("twinpost-cli", Room::Face),
    ("twinpost-bench", Room::Tool),
    ("twinpost-fuzz", Room::Tool),
    ("twinpost-model", Room::Tool),
    ("twinpost-switch", Room::Tool),
    ("twinpost-scenario", Room::PureTool),
    ("twinpost-sim", Room::Tool),
    ("twinpost-harness", Room::Tool),
    ("xtask", Room::Tool),
];

/// Doors of a face.
const FACE_DOORS: &[&str] = &["twinpost-api", "twinpost-config", "twinpost-types"];
/// Kept crates that only one room may use, and why.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("linux-embedded-hal", &["twinpost-hal-linux"], "Linux hardware lives in hal/linux"),
    ("rtnetlink", &["twinpost-net"], "netlink lives in firmware/net"),
    ("genetlink", &["twinpost-net"], "netlink lives in firmware/net"),
    (
        "anyhow",
        &["xtask", "twinpost-bench", "twinpost-harness", "twinpost-sim", "twinpost-switch"],
        "the product has one error enum an operation",
    ),
    ("clap", &["xtask", "twinpost-bench"], "the product's commands are the operator's syntax"),
];

/// The room of a crate.
pub(crate) fn room(name: &str) -> Option<Room> {
    ROOMS.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, room)| *room)
}

/// Checks the doors.
pub(crate) fn check(metadata: &Value, tree: &Tree) -> anyhow::Result<Vec<Finding>> {
    let root = metadata["workspace_root"].as_str().context("metadata has a workspace_root")?;
    let mut findings = Vec::new();
    for package in members(metadata)? {
        let name = package["name"].as_str().unwrap_or_default();
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let manifest = manifest.strip_prefix(root).unwrap_or(manifest).trim_start_matches('/');
        let text = tree.text(manifest).unwrap_or_default();
        let Some(room) = room(name) else {
            let what = format!("{name} is no room of the house");
            findings.push(Finding::new(
                manifest,
                1,
                what,
                "say in xtask/src/tidy/rooms.rs what kind of room it is",
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let other = dependency["name"].as_str().unwrap_or_default();
            let test_only = dependency["kind"].as_str() == Some("dev");
            if let Some((what, todo)) = closed(name, room, other, test_only) {
                findings.push(Finding::new(manifest, line_of(text, other), what, todo));
            }
        }
    }
    Ok(findings)
}

/// Packages of the workspace.
pub(crate) fn members(metadata: &Value) -> anyhow::Result<Vec<&Value>> {
    let ids: Vec<_> =
        metadata["workspace_members"].as_array().context("metadata has workspace_members")?.iter().collect();
    let packages = metadata["packages"].as_array().context("metadata has packages")?;
    Ok(packages.iter().filter(|package| ids.contains(&&package["id"])).collect())
}

/// Why this door is closed, and what to do.
fn closed(name: &str, from: Room, other: &str, test_only: bool) -> Option<(String, String)> {
    let what = |why: &str| {
        Some((format!("{name} depends on {other}: {why}"), "take the dependency out".to_string()))
    };
    let to = room(other);
    let tool = |room| matches!(room, Room::Tool | Room::PureTool);
    if to.is_some_and(tool) && !tool(from) {
        return what("tools are never dependencies of the product");
    }
    if let Some((_, rooms, why)) = ONLY_IN.iter().find(|(kept, ..)| *kept == other)
        && !rooms.contains(&name)
    {
        return what(why);
    }
    if test_only {
        return None;
    }
    match (from, to) {
        (Room::Pure | Room::Traits | Room::PureTool, Some(Room::Io | Room::Tool)) => {
            what("a pure crate knows no crate with IO")
        }
        (Room::Traits, Some(_)) if other != "twinpost-types" => what("hardware traits know no other room"),
        (Room::Face, Some(_)) if !FACE_DOORS.contains(&other) => {
            what("faces know api, config and types only")
        }
        (_, Some(Room::Face)) => what("nobody depends on a face"),
        _ => None,
    }
}

/// The line of a manifest that names a dependency.
fn line_of(text: &str, name: &str) -> usize {
    text.lines().position(|line| line.trim_start().starts_with(name)).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_are_closed_where_the_plan_says() {
        assert!(closed("twinpost-cli", Room::Face, "twinpost-net", false).is_some());
        assert!(closed("twinpost-cli", Room::Face, "twinpost-api", false).is_none());
        assert!(closed("twinpost-ha", Room::Pure, "twinpost-storage", false).is_some());
        assert!(closed("twinpost-had", Room::Io, "twinpost-harness", true).is_some());
        assert!(closed("twinpost-ha", Room::Pure, "twinpost-scenario", true).is_some());
        assert!(closed("twinpost-scenario", Room::PureTool, "twinpost-harness", false).is_some());
        assert!(closed("twinpost-harness", Room::Tool, "twinpost-scenario", false).is_none());
        assert!(closed("twinpost-had", Room::Io, "anyhow", false).is_some());
        assert!(closed("twinpost-hal", Room::Traits, "twinpost-api", false).is_some());
        assert!(closed("xtask", Room::Tool, "twinpost-harness", false).is_none());
    }
}
