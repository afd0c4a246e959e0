//! Golden vectors: `vectors/NN-input.conf` is read on a board with four ports; the canonical script, or the refusal, must be
//! `vectors/NN-output.txt`. `TWINPOST_BLESS=1` writes the outputs anew; look at the difference before it is committed.

use std::path::Path;
use twinpost_config::{parse_bytes, print};

const PORTS: [&str; 4] = ["port1", "port2", "port3", "port4"];

#[test]
fn scripts_are_answered_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let bless = std::env::var_os("TWINPOST_BLESS").is_some();
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let input = entry.unwrap().path();
        let name = input.file_name().unwrap().to_str().unwrap().to_string();
        let Some(stem) = name.strip_suffix("-input.conf") else { continue };
        let output = folder.join(format!("{stem}-output.txt"));
        let got = match parse_bytes(&std::fs::read(&input).unwrap(), &PORTS) {
            Ok(config) => print(&config),
            Err(error) => format!("{error}\n"),
        };
        if bless {
            std::fs::write(&output, &got).unwrap();
        }
        let expected = std::fs::read_to_string(&output).unwrap_or_default();
        assert_eq!(got, expected, "{name}: set TWINPOST_BLESS=1 to record a wanted change");
        count += 1;
    }
    assert!(count >= 30, "vectors are missing: {count}");
}
