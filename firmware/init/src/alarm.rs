//! Alarms of `init` for the operator: `/run/twinpost/alarms/<name>`, one sentence each that says what to do. `had`
//! shows them. Alarms of boot phases last until the next boot.

use std::path::Path;

/// Folder of the alarms.
pub const FOLDER: &str = "/run/twinpost/alarms";

/// Raises an alarm, also on the console. A sentence that is there already is replaced.
pub fn raise(name: &str, sentence: &str) {
    crate::console::say(&format!("alarm {name}: {sentence}"));
    let folder = Path::new(FOLDER);
    let _ = std::fs::create_dir_all(folder);
    let _ = std::fs::write(folder.join(name), format!("{sentence}\n"));
}

/// The reason for an alarm is gone.
pub fn clear(name: &str) {
    let _ = std::fs::remove_file(Path::new(FOLDER).join(name));
}

/// What to do about a failed phase, added to its cause.
#[must_use]
pub fn advice(name: &str) -> &'static str {
    match name {
        "state" => "the unit has lost its configuration: replace the disk or provision it again",
        "log" => "logs are kept in memory only: check the disk",
        "partitions" => {
            "fit a disk that is whole and large enough, write the image to it, and start this unit from it"
        }
        "ports" => "check the network cards and the board file",
        "watchdog" => "a hang will not reset this unit: check the board file",
        "modules" => "a device may be missing: check the hardware, then install the firmware again",
        _ => "install the firmware again",
    }
}
