//! `had`, the HA supervisor, as init starts it. Under the name `drbd-helper` it is the program that the DRBD module calls. All
//! work is done in the library.
//!
//! Exit codes: 0 never in service; 1 start failed (init starts it again); as `drbd-helper` those of drbd.conf(5).
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

/// The name under which the DRBD module calls this program.
const HELPER_NAME: &str = "drbd-helper";

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if Path::new(&name).file_name().is_some_and(|file| file == HELPER_NAME) {
        return ExitCode::from(twinpost_storage::fence::helper_main(args));
    }
    match twinpost_had::supervise() {
        Ok(never) => never,
        Err(error) => {
            eprintln!("had: cannot start: {}", twinpost_had::chain(&error));
            ExitCode::FAILURE
        }
    }
}
