//! Golden vectors: `vectors/NN-name.input` is a story told to one unit, `NN-name.output` is what it does. Differences are
//! shown; `TWINPOST_BLESS=1` writes the outputs anew. The words of a story are in `script::Script::line`.

mod script;

use std::path::{Path, PathBuf};

#[test]
fn stories_have_their_known_ends() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut inputs: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("vectors/ is part of the crate")
        .map(|entry| entry.expect("readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "input"))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty());
    let mut wrong = Vec::new();
    for input in inputs {
        let story = std::fs::read_to_string(&input).expect("readable vector");
        let told = script::tell(&story);
        let output = input.with_extension("output");
        if std::env::var_os("TWINPOST_BLESS").is_some() {
            std::fs::write(&output, &told).expect("writable vector");
            continue;
        }
        let known = std::fs::read_to_string(&output).unwrap_or_default();
        if known != told {
            let line = known.lines().zip(told.lines()).position(|(a, b)| a != b);
            wrong.push(format!("{}: first difference at line {line:?}\n{told}", output.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
