//! The bill of materials: CycloneDX 1.5 JSON of the packages and crates that are shipped.

use super::firmware::{PACKAGES, cargo};
use super::lock::Lock;
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Makes the bill. The same inputs give the same text.
pub fn make(root: &Path, lock: &Lock, version: &str, locked: bool) -> anyhow::Result<String> {
    let mut components: Vec<Value> = lock
        .image
        .iter()
        .map(|package| {
            let encoded = package.version.replace(':', "%3A").replace('+', "%2B");
            let purl =
                format!("pkg:deb/debian/{}@{encoded}?arch={}&distro=bookworm", package.name, package.arch);
            json!({
                "type": if package.name.starts_with("linux-image-") { "operating-system" } else { "library" },
                "bom-ref": purl,
                "name": package.name,
                "version": package.version,
                "purl": purl,
                "hashes": [{ "alg": "SHA-256", "content": package.sha256 }],
            })
        })
        .collect();
    // GRUB is shipped as an image made from its package.
    components.extend(lock.build.iter().filter(|package| package.name.starts_with("grub-")).map(|package| {
        let purl = format!("pkg:deb/debian/{}@{}?arch={}&distro=bookworm", package.name, package.version.replace('+', "%2B"), package.arch);
        json!({
            "type": "application", "bom-ref": purl, "name": package.name, "version": package.version, "purl": purl,
            "hashes": [{ "alg": "SHA-256", "content": package.sha256 }],
        })
    }));
    components.extend(crates(root, locked)?);
    let bom = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": { "type": "firmware", "bom-ref": "twinpost", "name": "twinpost", "version": version } },
        "components": components,
    });
    Ok(serde_json::to_string_pretty(&bom)? + "\n")
}

/// Crates that the shipped programs are linked from, sorted by name and version.
fn crates(root: &Path, locked: bool) -> anyhow::Result<Vec<Value>> {
    let mut command = cargo(root);
    command.args(["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"]);
    if locked {
        command.arg("--locked");
    }
    let output = command.output().context("starting cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo's metadata")?;
    let mut found: BTreeMap<(String, String), Value> = BTreeMap::new();
    let used = closure(&metadata);
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        if !used.contains(&text("id")) {
            continue;
        }
        let (name, version) = (text("name"), text("version"));
        let purl = format!("pkg:cargo/{name}@{version}");
        let licence = text("license");
        let mut component =
            json!({ "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl });
        if !licence.is_empty() {
            component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
        }
        found.insert((name, version), component);
    }
    Ok(found.into_values().collect())
}

/// Ids of the shipped packages and of all they link; neither build nor test dependencies.
fn closure(metadata: &Value) -> BTreeSet<String> {
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let mut open: Vec<&str> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|package| package["name"].as_str().is_some_and(|name| PACKAGES.contains(&name)))
        .filter_map(|package| package["id"].as_str())
        .collect();
    let mut used = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !used.insert(id.to_owned()) {
            continue;
        }
        for dependency in nodes.get(id).and_then(|node| node["deps"].as_array()).into_iter().flatten() {
            let normal =
                dependency["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"].is_null());
            if normal {
                open.extend(dependency["pkg"].as_str());
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_linked_crates_are_listed() {
        let metadata = json!({
            "packages": [{ "name": "twinpost-had", "id": "h" }, { "name": "x", "id": "x" }, { "name": "y", "id": "y" }],
            "resolve": { "nodes": [
                { "id": "h", "deps": [
                    { "pkg": "x", "dep_kinds": [{ "kind": null }] },
                    { "pkg": "y", "dep_kinds": [{ "kind": "dev" }] },
                ] },
                { "id": "x", "deps": [] },
                { "id": "y", "deps": [] },
            ] },
        });
        assert_eq!(closure(&metadata), ["h".to_owned(), "x".to_owned()].into());
    }
}
