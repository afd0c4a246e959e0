//! Licences of everything that is linked, against the list in deny.toml. cargo-deny checks the same and more; this runs
//! everywhere.

use super::files::Tree;
use super::{Finding, required};
use anyhow::Context;

/// Checks every package that takes part in a build; `linked` has a line `name version|licence` for each.
pub(crate) fn check(linked: &str, tree: &Tree) -> anyhow::Result<Vec<Finding>> {
    let settings: toml::Table = required(tree, "deny.toml")?.parse().context("in deny.toml")?;
    let allow = settings.get("licenses").and_then(|l| l.get("allow")).and_then(toml::Value::as_array);
    let allow: Vec<_> =
        allow.context("deny.toml lists licenses.allow")?.iter().filter_map(toml::Value::as_str).collect();
    let packages = linked.lines().filter_map(|line| line.trim_end_matches(" (*)").split_once('|'));
    let refused = packages.filter(|(_, licence)| !is_allowed(licence, &allow));
    Ok(refused
        .map(|(name, licence)| {
            let name = name.split(" (").next().unwrap_or(name);
            let licence = if licence.is_empty() { "none" } else { licence };
            let what = format!("{name} has the licence {licence}");
            Finding::new("Cargo.lock", 1, what, "do without it, or allow the licence in deny.toml")
        })
        .collect())
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
    fn packages_are_compared_with_the_list() {
        let tree = Tree::of(&[("deny.toml", "[licenses]\nallow = [\"MIT\"]\n")]);
        let found = check("a v1.0.0|MIT\nb v2.0.0 (proc-macro)|GPL-2.0 (*)\nc v3.0.0|\n", &tree).unwrap();
        let found: Vec<_> = found.iter().map(|f| f.what.as_str()).collect();
        assert_eq!(found, ["b v2.0.0 has the licence GPL-2.0", "c v3.0.0 has the licence none"]);
    }

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
