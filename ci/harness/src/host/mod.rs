//! Hosts of the bench that live in this process: an IP stack (smoltcp) on a switch port, driven by one thread, and the
//! applications on it. What the applications say is in `mail`.
//!
//! ```text
//!  Plug ──frames──▶ Wire (smoltcp device, watches ARP) ──▶ Interface ──▶ sockets ──▶ Application::poll
//! ```

mod connection;
mod wire;

pub use connection::{Connection, LINE_BYTES_MAX, serve_each};
pub use wire::{Mac, Seen};

use crate::clock::Micros;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use twinpost_switch::Plug;
use wire::Wire;

/// Longest sleep of a host's thread: applications have no finer deadlines than this.
const TICK: Duration = Duration::from_millis(5);
/// First ephemeral port (RFC 6335).
const EPHEMERAL_FIRST: u16 = 49_152;

/// Something that runs on a host. Called after every batch of frames and at least every 5 ms.
pub trait Application: Send {
    /// Does what can be done now, without waiting.
    fn poll(&mut self, now: Micros, net: &mut Net<'_>);
}

/// What an application may use of its host.
pub struct Net<'a> {
    pub(crate) iface: &'a mut Interface,
    pub(crate) sockets: &'a mut SocketSet<'static>,
    next_port: &'a mut u16,
}

impl Net<'_> {
    fn ephemeral_port(&mut self) -> u16 {
        let port = *self.next_port;
        *self.next_port = if port == u16::MAX { EPHEMERAL_FIRST } else { port + 1 };
        port
    }
}

/// Name and addresses of a host.
#[derive(Clone, Copy, Debug)]
pub struct HostSettings {
    /// Ethernet address.
    pub mac: Mac,
    /// IPv4 address in a /24.
    pub ip: Ipv4Address,
}

/// A running host. Dropping it ends its thread.
pub struct Host {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
}

impl Host {
    /// Starts the thread of a host with its applications.
    #[must_use]
    pub fn start(settings: HostSettings, plug: Plug, applications: Vec<Box<dyn Application>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let wire = Wire::new(plug, settings, Arc::clone(&seen));
        let flag = Arc::clone(&stop);
        std::thread::spawn(move || run(settings, wire, applications, &flag));
        Self { stop, seen }
    }

    /// The Ethernet address that last spoke for `ip`, and when.
    #[must_use]
    pub fn speaker(&self, ip: IpAddr) -> Option<(Mac, Micros)> {
        self.seen.lock().ok()?.last(ip)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run(
    settings: HostSettings,
    mut wire: Wire,
    mut applications: Vec<Box<dyn Application>>,
    stop: &AtomicBool,
) {
    let started = Micros::now();
    let stack_now = || Instant::from_micros(i64::try_from(Micros::now().0).unwrap_or(i64::MAX));
    let mut config = Config::new(EthernetAddress(settings.mac).into());
    config.random_seed = started.0;
    let mut iface = Interface::new(config, &mut wire, stack_now());
    iface.update_ip_addrs(|addresses| {
        // The list is empty and holds at least one address (smoltcp's smallest build has two).
        let _ = addresses.push(IpCidr::new(settings.ip.into(), 24));
    });
    let mut sockets = SocketSet::new(Vec::new());
    let spread = u16::try_from(started.0 % 8192).unwrap_or(0);
    let mut next_port = EPHEMERAL_FIRST + spread;
    while !stop.load(Ordering::Relaxed) {
        iface.poll(stack_now(), &mut wire, &mut sockets);
        let mut net = Net { iface: &mut iface, sockets: &mut sockets, next_port: &mut next_port };
        for application in &mut applications {
            application.poll(Micros::now(), &mut net);
        }
        iface.poll(stack_now(), &mut wire, &mut sockets);
        let wait = iface.poll_delay(stack_now(), &sockets).map_or(TICK, Duration::from).min(TICK);
        wire.wait(wait);
    }
}
