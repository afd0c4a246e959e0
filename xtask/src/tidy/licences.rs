//! Licences of everything that is linked, against the list in deny.toml. cargo-deny checks the same and more; this runs
//! everywhere.

use super::files::Tree;
use super::{Finding, required};
use anyhow::Context;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Checks every package that takes part in a build; the lock file also names those behind features that are off.
pub(crate) fn check(metadata: &Value, tree: &Tree) -> anyhow::Result<Vec<Finding>> {
    let settings: toml::Table = required(tree, "deny.toml")?.parse().context("in deny.toml")?;
    let allow = settings.get("licenses").and_then(|l| l.get("allow")).and_then(toml::Value::as_array);
    let allow: Vec<_> =
        allow.context("deny.toml lists licenses.allow")?.iter().filter_map(toml::Value::as_str).collect();
    let mut findings = Vec::new();
    let linked = linked(metadata)?;
    let packages = metadata["packages"].as_array().context("metadata has packages")?;
    for package in
        packages.iter().filter(|package| linked.contains(package["id"].as_str().unwrap_or_default()))
    {
        let licence = package["license"].as_str().unwrap_or("none");
        if !is_allowed(licence, &allow) {
            let what = format!("{} has the licence {licence}", package["name"].as_str().unwrap_or_default());
            findings.push(Finding::new(
                "Cargo.lock",
                1,
                what,
                "do without it, or allow the licence in deny.toml",
            ));
        }
    }
    Ok(findings)
}

/// Ids of all packages that a member depends on by any way, tests included.
fn linked(metadata: &Value) -> anyhow::Result<BTreeSet<&str>> {
    let nodes = metadata["resolve"]["nodes"].as_array().context("metadata has a resolve")?;
    let below: BTreeMap<_, _> =
        nodes.iter().map(|node| (node["id"].as_str(), &node["dependencies"])).collect();
    let members = metadata["workspace_members"].as_array().context("metadata has workspace_members")?;
    let mut waiting: Vec<_> = members.iter().filter_map(Value::as_str).collect();
    let mut linked = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if linked.insert(id) {
            let next = below.get(&Some(id)).and_then(|list| list.as_array()).into_iter().flatten();
            waiting.extend(next.filter_map(Value::as_str));
        }
    }
    Ok(linked)
}

/// An SPDX expression is allowed if one of its alternatives is, with all its parts. Parentheses are opened from the inside.
fn is_allowed(expression: &str, allow: &[&str]) -> bool {
    let mut text = expression.replace('/', " OR ");
    while let Some(close) = text.find(')') {
        let Some(open) = text[..close].rfind('(') else { return false };
        let inside = if is_allowed(&text[open + 1..close], allow) { "ALLOWED" } else { "REFUSED" };
        text.replace_range(open..=close, inside);
    }
    let part = |part: &str| part.trim() == "ALLOWED" || allow.contains(&part.trim());
    text.split(" OR ").any(|alternative| alternative.split(" AND ").all(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read() {
        let allow = ["MIT", "Unicode-3.0"];
        for good in [
            "MIT",
            "Apache-2.0 OR MIT",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "MIT AND Unicode-3.0",
        ] {
            assert!(is_allowed(good, &allow), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "none", "(MIT", "(GPL-3.0) AND MIT"] {
            assert!(!is_allowed(bad, &allow), "{bad}");
        }
    }
}
