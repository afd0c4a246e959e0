//! What the tests with namespaces have in common: ports, waiting.

use core::time::Duration;
use std::time::Instant;
use twinpost_net::Port;

pub fn port(name: &str) -> Port {
    Port::find(name).expect("made before")
}

/// Waits until `check` holds; how long that took.
pub fn until(limit_ms: u64, mut check: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !check() {
        assert!(begin.elapsed() < Duration::from_millis(limit_ms), "not within {limit_ms} ms");
        std::thread::sleep(Duration::from_millis(5));
    }
    begin.elapsed()
}
