//! What the fuzz targets do with arbitrary bytes, one function a parser: it must not panic, not hang, and what it says must hold.
//! The programs in `bin` hand these to libFuzzer; `cargo xtask fuzz` builds them with coverage and runs them.
#![forbid(unsafe_code)]

/// Ports of the board that scripts are read for.
const PORTS: [&str; 4] = ["port1", "port2", "port3", "port4"];

/// What a target does with its bytes.
pub type Target = fn(&[u8]);

/// All targets, in the order in which they are run: name and what it does.
pub const TARGETS: [(&str, Target); 8] = [
    ("wire", wire),
    ("config", config),
    ("control", control),
    ("check", check),
    ("scenario", scenario),
    ("api", api),
    ("board", board),
    ("queue", queue),
];

/// Heartbeat datagrams and their bodies, frames, ARP: nothing that nobody sealed is accepted.
pub fn wire(data: &[u8]) {
    twinpost_wire::fuzz_open(data);
}

/// Scripts in the operator's syntax: what is accepted is printed, and read again as the same.
///
/// # Panics
/// When it is not.
pub fn config(data: &[u8]) {
    let Ok(config) = twinpost_config::parse_bytes(data, &PORTS) else { return };
    for text in [twinpost_config::print(&config), twinpost_config::print_full(&config)] {
        match twinpost_config::parse(&text, &PORTS) {
            Ok(again) => assert_eq!(again, config, "printed and read as another one:\n{text}"),
            Err(error) => panic!("printed and not accepted: {error}\n{text}"),
        }
    }
}

/// Handshakes and messages of the control channel.
pub fn control(data: &[u8]) {
    twinpost_control::fuzz(data);
}

/// What services answer to the checks.
pub fn check(data: &[u8]) {
    twinpost_check::fuzz_bytes(data);
    if let Ok(text) = core::str::from_utf8(data) {
        let _ = twinpost_check::read_only_mount(text, &["/mail/queue", "/mail/data"]);
    }
}

/// Scenario files.
pub fn scenario(data: &[u8]) {
    if let Ok(text) = core::str::from_utf8(data) {
        let _ = twinpost_scenario::parse("fuzz", text);
    }
}

/// Lines of the api: what is understood is written, and understood again.
///
/// # Panics
/// When it is not.
pub fn api(data: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<twinpost_api::Request>(data) {
        let line = serde_json::to_vec(&request).expect("a request that was read can be written");
        let again: Result<twinpost_api::Request, _> = serde_json::from_slice(&line);
        assert_eq!(again.ok(), Some(request), "written and read as another one");
    }
    let _ = serde_json::from_slice::<twinpost_api::Reply>(data);
}

/// Board files.
pub fn board(data: &[u8]) {
    if let Ok(text) = core::str::from_utf8(data) {
        let _ = twinpost_board::Board::parse(text);
    }
}

/// Postfix queue files and messages of the hand-over: both come from a copy or a peer that may be damaged.
pub fn queue(data: &[u8]) {
    use twinpost_mail::handover::{message, queue_file};
    let _ = queue_file::envelope(data);
    let _ = message::Request::decode(data);
    let _ = message::Response::decode(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_its_program_and_takes_nothing_and_anything() {
        for (name, target) in TARGETS {
            let program = format!("{}/src/bin/{name}.rs", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&program).unwrap_or_else(|_| panic!("no {program}"));
            assert!(text.contains(&format!("twinpost_fuzz::{name}(data)")), "{program} runs another target");
            target(b"");
            target(&[0xff; 2000]);
            target(b"config system ha\n    set mode primary\nend\n");
        }
    }
}
