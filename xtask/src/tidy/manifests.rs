//! Manifests: every version once, in the workspace, with the reason beside it; members take it from there; nothing is
//! declared that nobody uses; versions agree with the change log.

use super::files::Tree;
use super::{Finding, required};
use anyhow::Context;
use toml::{Table, Value};

/// Tables of a member's manifest that name dependencies.
const TABLES: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];
/// What members take from the workspace.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license"];

/// Checks all manifests.
pub(crate) fn check(tree: &Tree) -> anyhow::Result<Vec<Finding>> {
    let text = required(tree, "Cargo.toml")?;
    let root: Table = text.parse().context("in Cargo.toml")?;
    let workspace = root["workspace"].as_table().context("Cargo.toml has a workspace")?;
    let declared = workspace["dependencies"].as_table().context("the workspace has dependencies")?;
    let mut findings = Vec::new();
    declarations(text, declared, &mut findings);

    let mut used = std::collections::BTreeSet::new();
    for (path, text) in tree.ending("Cargo.toml").filter(|(path, _)| *path != "Cargo.toml") {
        let manifest: Table = text.parse().with_context(|| format!("in {path}"))?;
        member(path, text, &manifest, tree, &mut used, &mut findings);
    }
    let ours = |name: &String| declared[name].get("path").is_some();
    for name in declared.keys().filter(|name| !used.contains(*name) && !ours(name)) {
        findings.push(Finding::new(
            "Cargo.toml",
            line_of(text, name),
            format!("{name} is used by no crate"),
            "remove it",
        ));
    }
    let version = workspace["package"].get("version").and_then(Value::as_str).unwrap_or_default();
    change_log(tree, version, &mut findings);
    Ok(findings)
}

/// The workspace's own table: pinned, justified, only our crates by path.
fn declarations(text: &str, declared: &Table, findings: &mut Vec<Finding>) {
    for (name, value) in declared {
        let line = line_of(text, name);
        let has = |key: &str| value.get(key).is_some();
        if has("path") {
            continue;
        }
        if has("git") || !(value.is_str() || has("version")) {
            let what = format!("{name} has no version of the registry");
            findings.push(Finding::new("Cargo.toml", line, what, "pin a released version"));
        }
        let words = text
            .lines()
            .nth(line - 1)
            .and_then(|l| l.split_once("# "))
            .map_or(0, |(_, c)| c.split(' ').count());
        if words < 2 {
            let what = format!("{name} has no reason beside it");
            findings.push(Finding::new("Cargo.toml", line, what, "say in one line why it was chosen"));
        }
    }
}

fn member(
    path: &str,
    text: &str,
    manifest: &Table,
    tree: &Tree,
    used: &mut std::collections::BTreeSet<String>,
    findings: &mut Vec<Finding>,
) {
    let folder = path.trim_end_matches("Cargo.toml");
    let sources: Vec<_> =
        tree.ending(".rs").filter(|(file, _)| file.starts_with(folder)).map(|(_, t)| t).collect();
    for table in TABLES {
        for (name, value) in manifest.get(*table).and_then(Value::as_table).into_iter().flatten() {
            used.insert(name.clone());
            let line = line_of(text, name);
            if value.get("workspace").and_then(Value::as_bool) != Some(true) {
                let what = format!("{name} is not taken from the workspace");
                findings.push(Finding::new(
                    path,
                    line,
                    what,
                    "write `workspace = true`, and the version in the root",
                ));
            }
            let ident = name.replace('-', "_");
            if !sources.iter().any(|source| source.contains(&ident)) {
                findings.push(Finding::new(path, line, format!("{name} is not used"), "remove it"));
            }
        }
    }
    let package = manifest.get("package").and_then(Value::as_table);
    for key in INHERITED {
        let inherited =
            package.and_then(|p| p.get(*key)).and_then(|v| v.get("workspace")).and_then(Value::as_bool);
        if inherited != Some(true) {
            findings.push(Finding::new(
                path,
                1,
                format!("{key} is its own"),
                format!("write `{key}.workspace = true`"),
            ));
        }
    }
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
    if lints != Some(true) {
        findings.push(Finding::new(path, 1, "lints are its own", "write `[lints] workspace = true`"));
    }
}

/// The change log knows the present version, or collects for the next one.
fn change_log(tree: &Tree, version: &str, findings: &mut Vec<Finding>) {
    let Some(text) = tree.text("CHANGELOG.md") else { return };
    let first = text.lines().position(|line| line.starts_with("## "));
    let heading = first.and_then(|index| text.lines().nth(index)).unwrap_or_default();
    if !heading.contains("Unreleased") && !heading.contains(version) {
        let line = first.map_or(1, |index| index + 1);
        let what = format!("the change log begins with `{heading}`, the workspace has version {version}");
        findings.push(Finding::new("CHANGELOG.md", line, what, "make them agree"));
    }
}

/// The line that begins with this name.
fn line_of(text: &str, name: &str) -> usize {
    let begins = |line: &str| {
        let rest = line.trim_start().trim_start_matches('"').strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '.', '=', '"']))
    };
    text.lines().position(begins).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_checked() {
        let root = "[workspace]\nmembers = []\n[workspace.package]\nversion = \"0.1.0\"\n[workspace.dependencies]\n\
                    a = \"1\" # good because\nb = \"2\"\nc = { git = \"https://example.test\" } # not so good\nd = { path = \"d\" }\n";
        let member = "[package]\nname = \"m\"\nversion.workspace = true\nedition.workspace = true\n\
                      rust-version.workspace = true\nlicense.workspace = true\n[dependencies]\na.workspace = true\n\
                      b = \"2\"\nc.workspace = true\nd = { path = \"../d\" }\n";
        let tree = Tree::of(&[
            ("Cargo.toml", root),
            ("m/Cargo.toml", member),
            ("m/src/lib.rs", "use a; use b; use c; use d;"),
            ("CHANGELOG.md", "# Log\n\n## [0.2.0]\n"),
        ]);
        let found: Vec<_> = check(&tree)
            .unwrap()
            .iter()
            .map(|f| format!("{}:{}: {}", f.file.display(), f.line, f.what))
            .collect();
        assert_eq!(
            found,
            [
                "Cargo.toml:7: b has no reason beside it",
                "Cargo.toml:8: c has no version of the registry",
                "m/Cargo.toml:9: b is not taken from the workspace",
                "m/Cargo.toml:11: d is not taken from the workspace",
                "m/Cargo.toml:1: lints are its own",
                "CHANGELOG.md:3: the change log begins with `## [0.2.0]`, the workspace has version 0.1.0",
            ]
        );
    }
}
