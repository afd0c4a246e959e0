//! Documents: the files that every visitor expects, links and paths that lead somewhere, scenarios that are listed.

use super::Finding;
use super::files::Tree;

/// Files that the project does not go without.
const REQUIRED: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "deny.toml",
    "rust-toolchain.toml",
    ".ci/run",
    "docs/example.conf",
];
/// Where scenarios and their list are.
const SCENARIOS: &str = "ci/scenarios/";
/// First parts of paths that documents name in backticks.
const ROOMS: &[&str] = &["firmware/", "hal/", "board/", "image/", "xtask/", "ci/", "docs/"];

/// Checks all documents.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let missing = REQUIRED.iter().filter(|path| !tree.has(path));
    let mut findings: Vec<_> =
        missing.map(|path| Finding::new(path, 1, "file is missing", "write it")).collect();
    for (path, text) in tree.ending(".md") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut code = false;
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                code = !code;
            }
            if code {
                continue;
            }
            for target in links(line).filter(|target| !leads_somewhere(tree, folder, target)) {
                let what = format!("link to {target} leads nowhere");
                findings.push(Finding::new(path, number + 1, what, "correct the link"));
            }
            for target in paths(line).filter(|target| !tree.has(target)) {
                findings.push(Finding::new(
                    path,
                    number + 1,
                    format!("there is no {target}"),
                    "correct the path",
                ));
            }
        }
    }
    scenarios(tree, &mut findings);
    findings
}

/// Targets of `[words](target)` and `src="target"`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let markdown = line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let html = line.split("src=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(target, _)| target);
    markdown.chain(html)
}

/// Paths into the house in backticks, without patterns.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(|text| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_.-".contains(&b);
        ROOMS.iter().any(|room| text.starts_with(room) && text.len() > room.len()) && text.bytes().all(plain)
    })
}

fn leads_somewhere(tree: &Tree, folder: &str, target: &str) -> bool {
    let target = target.split(['#', ' ']).next().unwrap_or_default();
    if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let mut parts: Vec<_> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    tree.has(&parts.join("/"))
}

/// Every scenario has its line in the list.
fn scenarios(tree: &Tree, findings: &mut Vec<Finding>) {
    let list = format!("{SCENARIOS}README.md");
    let text = tree.text(&list).unwrap_or_default();
    for (path, _) in tree.ending(".scn").filter(|(path, _)| path.starts_with(SCENARIOS)) {
        let name = path.rsplit('/').next().unwrap_or(path);
        if !text.contains(name) {
            findings.push(Finding::new(path, 1, format!("not listed in {list}"), "say there what it proves"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_scenarios_are_followed() {
        let mut files: Vec<_> = REQUIRED.iter().map(|path| (*path, "")).collect();
        files.retain(|(path, _)| *path != "README.md");
        files.push((
            "README.md",
            "[a](docs/example.conf#x) [b](docs/gone.md) [c](https://example.test) `ci/gone`\n",
        ));
        files.push(("docs/a.md", "[up](../README.md)\n```\n[no](gone)\n```\n"));
        files.push(("ci/scenarios/01-a.scn", ""));
        files.push(("ci/scenarios/02-b.scn", ""));
        files.push(("ci/scenarios/README.md", "01-a.scn: proves a\n"));
        let found: Vec<_> =
            check(&Tree::of(&files)).iter().map(|f| format!("{}: {}", f.file.display(), f.what)).collect();
        assert_eq!(
            found,
            [
                "README.md: link to docs/gone.md leads nowhere",
                "README.md: there is no ci/gone",
                "ci/scenarios/02-b.scn: not listed in ci/scenarios/README.md",
            ]
        );
    }
}
