//! Golden vectors: what one release seals, every later one of the same protocol version must seal and open alike.
//! `vectors/NN-name.input` is read line by line (`key value`), `vectors/NN-name.output` holds what follows from it.
//! `TWINPOST_BLESS=1 cargo test -p twinpost-wire --test vectors` writes the outputs anew.

use core::fmt::Write;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use twinpost_types::{
    BootId, ConfiguredMode, DiskState, EffectiveMode, Epoch, Health, Heard, Intent, LinkId, Replication,
    Report, ServiceAddress, UnitId, Version, VolumeReport,
};
use twinpost_wire::{DATAGRAM_BYTES_MAX, Keys, Session};

#[test]
fn vectors_have_not_changed() {
    let bless = std::env::var_os("TWINPOST_BLESS").is_some_and(|value| value == "1");
    let inputs = inputs();
    assert!(inputs.len() >= 4, "the vectors are missing: {inputs:?}");
    for input in inputs {
        let text = std::fs::read_to_string(&input).expect("readable");
        let got = run(&text);
        let output = input.with_extension("output");
        if bless {
            std::fs::write(&output, &got).expect("writable");
        }
        let expected = std::fs::read_to_string(&output).unwrap_or_default();
        assert_eq!(got, expected, "{} (TWINPOST_BLESS=1 refreshes it)", output.display());
    }
}

fn inputs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut inputs: Vec<_> = std::fs::read_dir(folder)
        .expect("vectors")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "input"))
        .collect();
    inputs.sort();
    inputs
}

fn run(input: &str) -> String {
    let fields: BTreeMap<_, _> =
        input.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' ')).collect();
    let keys = Keys::derive(fields["password"], fields["group"]).expect("memory");
    let receiver_keys = fields.get("receiver-password").map_or_else(
        || keys.clone(),
        |password| {
            Keys::derive(password, fields.get("receiver-group").unwrap_or(&fields["group"])).expect("memory")
        },
    );
    let number = |name: &str| fields[name].parse::<u64>().expect("number");
    let unit = UnitId(number("unit"));
    let mut sender = Session::new(keys, unit, BootId(number("boot").into()), number("challenge"));
    let mut receiver = Session::new(receiver_keys, UnitId(number("receiver")), BootId(77), 77);
    let report = report(fields["report"]);
    let mut output = String::new();
    let mut bytes = [0; DATAGRAM_BYTES_MAX];
    for _ in 0..2 {
        for link in LinkId::ALL {
            let length = sender.seal(link, &report, &mut bytes);
            writeln!(output, "{link} {}", hex(&bytes[..length])).expect("string");
            let verdict = receiver.open(link, &bytes[..length], 78);
            writeln!(output, "{link} {verdict:?}").expect("string");
        }
        let length = receiver.seal(LinkId::ALL[0], &Report::default(), &mut bytes);
        let answer = sender.open(LinkId::ALL[0], &bytes[..length], 79);
        writeln!(output, "answer {}", answer.map_or_else(|why| why.name(), |_| "accepted")).expect("string");
    }
    output
}

fn report(name: &str) -> Report {
    match name {
        "default" => Report::default(),
        "full" => Report {
            epoch: Epoch(7),
            configured: ConfiguredMode::Primary,
            effective: EffectiveMode::Primary,
            intent: Intent::HandOver(Epoch(8)),
            health: Health { service_port: true, third_party: true, mail: true, storage: true },
            volumes: [VolumeReport {
                local: DiskState::UpToDate,
                peer: DiskState::Inconsistent,
                replication: Replication::SyncSource,
                promoted: true,
                fresh: false,
                suspended: true,
                out_of_sync_kib: 123_456,
                size_mib: 2048,
            }; twinpost_types::VOLUMES],
            replication_link: LinkId::new(1),
            config_revision: 300,
            config_checksum: 0xdead_beef,
            firmware: Version { major: 1, minor: 2, patch: 3 },
            service: ServiceAddress { ipv4: [192, 0, 2, 11], mac: [2, 0, 0, 0, 0, 1] },
            heard: [Heard { sequence: 1000, age_ms: 200, lost: 3 }; twinpost_types::LINKS],
        },
        other => panic!("no report is named `{other}`"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("string");
        text
    })
}
