//! `cargo xtask tidy`: checks the walls between crates, the style rules that a program can check, manifests, licences and
//! documents. One line a finding: `file:line: what, what to do`. Changes nothing.
//!
//! What cannot be checked here (names, reasons, whether a test proves something) is left to reviewers.

mod documents;
mod files;
mod licences;
mod manifests;
mod oversize;
mod rooms;
mod sources;
mod tools;
mod walls;

use anyhow::Context;
use std::fmt;
use std::path::{Path, PathBuf};

/// Arguments of `cargo xtask tidy`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct TidyArgs {
    /// Leave out rustfmt, clippy and cargo-deny: only what this program checks by itself, in about a second
    #[arg(long)]
    fast: bool,
    /// Also list every oversized function with its present length, for the list in xtask/src/tidy/oversize.rs
    #[arg(long)]
    sizes: bool,
}

/// Something to be changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    file: PathBuf,
    line: usize,
    what: String,
    todo: String,
}

impl Finding {
    fn new(file: impl Into<PathBuf>, line: usize, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { file: file.into(), line: line.max(1), what: what.into(), todo: todo.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}, {}", self.file.display(), self.line, self.what, self.todo)
    }
}

/// Runs all checks; 0 when nothing is found, 1 otherwise.
///
/// # Errors
/// The tree cannot be read, or a tool cannot be run.
pub fn tidy(args: TidyArgs) -> anyhow::Result<i32> {
    let root = workspace_root();
    let tree = files::Tree::read(root)?;
    let metadata = tools::metadata(root)?;
    let mut findings = Vec::new();
    findings.extend(sources::check(&tree, args.sizes));
    findings.extend(rooms::check(&metadata, &tree)?);
    findings.extend(walls::check(&metadata, &tree)?);
    findings.extend(manifests::check(&tree)?);
    findings.extend(documents::check(&tree));
    findings.extend(licences::check(&tools::linked(root)?, &tree)?);
    let mut notes = Vec::new();
    if !args.fast {
        findings.extend(tools::fmt(root)?);
        findings.extend(tools::clippy(root)?);
        findings.extend(tools::deny(root, &mut notes)?);
    }
    findings.sort();
    findings.dedup();
    for finding in &findings {
        println!("{finding}");
    }
    for note in &notes {
        println!("tidy: {note}");
    }
    match findings.len() {
        0 => println!("tidy: clean"),
        1 => println!("tidy: 1 finding"),
        n => println!("tidy: {n} findings"),
    }
    Ok(i32::from(!findings.is_empty()))
}

/// Where the workspace is: one above this package.
fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies inside of the workspace")
}

/// A file of the tree that must be there and be text.
fn required<'a>(tree: &'a files::Tree, path: &str) -> anyhow::Result<&'a str> {
    tree.text(path).with_context(|| format!("{path} is missing"))
}
