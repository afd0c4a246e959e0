//! One power cut of each program, to show that the measurement still measures. The figures are not judged: they depend on the
//! machine. Needs root, iproute2 and keepalived; says SKIPPED where no namespace can be made.
#![allow(clippy::disallowed_methods, reason = "runs the program")]

use std::process::Command;

#[test]
fn one_power_cut_of_each_is_measured() {
    let namespace = Command::new("unshare").args(["--net", "--mount", "true"]).status();
    if !namespace.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no network namespace can be made here; run as root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_twinpost-bench"))
        .args(["failover", "--runs", "1", "--only", "10ms", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said} (keepalived: apt-get install keepalived)");
    let figures: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    for program in ["with_carrier_proof", "without_carrier_proof", "keepalived"] {
        let outage = figures["rows"][0][program]["median_ms"].as_f64().unwrap();
        assert!((3.0..30_000.0).contains(&outage), "{program}: {outage} ms");
    }
}

#[test]
fn a_queue_is_handed_over_whole() {
    let output = Command::new(env!("CARGO_BIN_EXE_twinpost-bench"))
        .args(["handover", "--messages", "300", "--bytes", "700"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("300 messages of 700 bytes handed over") && said.contains("lost 0, doubled 0"),
        "{said}"
    );
}
