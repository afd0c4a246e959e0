//! A heartbeat thread for tests of the lease.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use twinpost_net::lease::Pulse;
use twinpost_net::rt;

/// Beats a pulse until told to stop, as the heartbeat thread does.
pub struct Beating {
    pub pulse: Arc<Pulse>,
    stop: Arc<AtomicBool>,
}

impl Beating {
    pub fn start() -> Self {
        let (pulse, stop) = (Arc::new(Pulse::new()), Arc::new(AtomicBool::new(false)));
        pulse.beat(rt::now());
        let (of_thread, told) = (Arc::clone(&pulse), Arc::clone(&stop));
        std::thread::spawn(move || {
            rt::become_realtime(rt::Priority::Heartbeat).expect("root");
            while !told.load(Ordering::Acquire) {
                of_thread.beat(rt::now());
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { pulse, stop }
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}
