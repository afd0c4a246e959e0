//! Lines on the console through the kernel's log, so that they keep their order with the kernel's own, and the clock
//! that they carry. Never fails: there is nobody to tell.

use core::time::Duration;
use std::io::Write as _;

/// Kernel log level of everything said here: also shown with `quiet` on the command line, since each line is one that
/// a person at the console needs when the boot goes wrong.
const LEVEL: u8 = 3;
/// Longest line, bytes; the kernel cuts records at about 1000.
const LINE_BYTES_MAX: usize = 900;

/// Time since the kernel started.
#[must_use]
pub fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// One line on the console.
pub fn say(text: &str) {
    let mut line = format!("<{LEVEL}>twinpost: {}", text.replace('\n', " "));
    while line.len() > LINE_BYTES_MAX {
        line.pop();
    }
    line.push('\n');
    let kmsg = std::fs::OpenOptions::new().write(true).open("/dev/kmsg");
    if kmsg.and_then(|mut file| file.write_all(line.as_bytes())).is_err() {
        let _ = std::io::stderr().write_all(&line.as_bytes()[3..]);
    }
}

/// A phase ended well.
pub fn phase(name: &str) {
    say(&format!("{name} at {:.2} s", now().as_secs_f64()));
}

/// An error and its causes on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += ": ";
        text += &cause.to_string();
        source = cause.source();
    }
    text
}

/// Waits for nothing but time; only where no event tells that a device appeared.
pub fn pause(time: Duration) {
    let _ = rustix::thread::nanosleep(&rustix::thread::Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    });
}
