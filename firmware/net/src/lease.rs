//! Virtual IPs on a lease that the kernel holds: each is added with a lifetime of one second, and a thread of its own renews
//! it four times a second, but only while the heartbeat thread shows that it lives. When the supervisor is killed,
//! stopped or stuck, the addresses vanish by themselves. Says nothing to the neighbours: that is [`crate::announce`].
//! `spec/ha.md` section 6.
//!
//! ```text
//! heartbeat thread ── Pulse::beat ──▶ lease thread ── RTM_NEWADDR, lifetime 1 s, every 250 ms ──▶ kernel
//! executor ── claim, release ──▶ (same lock, same socket)
//! ```
//!
//! A lease that ran out is never renewed: the peer may hold the address by now. It is [`LeaseState::Lost`] until the next claim.

use crate::address::bits;
use crate::gate::Gate;
use crate::netlink::{Message, Socket, messages};
use crate::rt::{Priority, RtError, Wake, become_realtime, now, timespec};
use crate::{Cidr, Port};
use core::net::IpAddr;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use core::time::Duration;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use twinpost_types::{Instant, VIPS_MAX};

/// Lifetime that the kernel is told, seconds: the shortest it knows.
const LIFETIME_S: u32 = 1;
/// Between renewals: three may fail before the address goes.
const REFRESH: Duration = Duration::from_millis(250);
/// Age of a heartbeat thread's last sign of life from which nothing is renewed any more.
const PULSE_AGE_MAX: Duration = Duration::from_millis(500);
/// Age of the last renewal from which the lease counts as lost. Shorter than the lifetime, so that the kernel has not yet
/// dropped the address when this thread decides.
const LOST_AFTER: Duration = Duration::from_millis(900);

/// Sign of life of the heartbeat thread: the time of its last turn.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU64);

impl Pulse {
    /// A pulse that has not beaten yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The heartbeat thread is alive at `now`. Called at every turn of it, at least every 250 ms.
    pub fn beat(&self, now: Instant) {
        self.0.store(now.0, Ordering::Release);
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let last = self.0.load(Ordering::Acquire);
        last != 0 && now.since(Instant(last)) <= PULSE_AGE_MAX
    }
}

/// A virtual IP on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vip {
    port: u32,
    address: IpAddr,
    prefix: u8,
    /// Outgoing connections may come from it.
    preferred: bool,
}

impl Vip {
    /// The virtual IP `vip` beside the address `own` of `port`. In the same subnet it is added as a host address (/32, /128): no second
    /// route to the subnet, no primary and secondary addresses that could take each other along. In another subnet it
    /// brings its own route. Outgoing connections keep coming from the own address.
    #[must_use]
    pub fn beside(port: &Port, own: Cidr, vip: Cidr) -> Self {
        let prefix = if own.contains(vip.address()) { bits(vip.address()) } else { vip.prefix() };
        Self { port: port.index, address: vip.address(), prefix, preferred: vip.address().is_ipv4() }
    }

    /// The virtual IP `vip` in place of the own address of `port`: with the route to its subnet, and outgoing connections come from
    /// it. Who claims it takes the own address away afterwards.
    #[must_use]
    pub fn instead(port: &Port, vip: Cidr) -> Self {
        Self { port: port.index, address: vip.address(), prefix: vip.prefix(), preferred: true }
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

/// What became of the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Nothing is claimed.
    Free,
    /// The virtual IPs are held and renewed.
    Held,
    /// The lease ran out although nobody released it: the supervisor stalled. The addresses are gone.
    Lost,
}

/// Why a claim, a release or the start failed.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// More addresses than [`VIPS_MAX`].
    #[error("{count} virtual IPs are more than {VIPS_MAX}")]
    TooMany {
        /// How many were asked for.
        count: usize,
    },
    /// The heartbeat thread shows no life: the lease would run out at once.
    #[error("the heartbeat thread has shown no life for {} ms", PULSE_AGE_MAX.as_millis())]
    NoPulse,
    /// The kernel refused.
    #[error("the kernel refused to {what} the virtual IP {address}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// For which address.
        address: IpAddr,
        /// Its answer.
        #[source]
        source: Errno,
    },
    /// The gate of the bridge could not be moved.
    #[error("the kernel refused to move the gate of the bridge")]
    Gate(#[source] Errno),
    /// The lease thread could not be started.
    #[error("cannot start the lease thread: {what}")]
    Start {
        /// At which step.
        what: &'static str,
        /// The answer.
        #[source]
        source: std::io::Error,
    },
    /// The lease thread could not be set up.
    #[error("cannot set the lease thread up")]
    Setup(#[from] RtError),
}

/// Claims virtual IPs and keeps them. Dropping it releases them.
#[derive(Debug)]
pub struct LeaseKeeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    lease: Mutex<Lease>,
    pulse: Arc<Pulse>,
    wake: Wake,
    state: AtomicU8,
    stop: AtomicBool,
}

impl LeaseKeeper {
    /// Starts the lease thread; it has real-time priority below the heartbeat thread's.
    ///
    /// # Errors
    ///
    /// [`LeaseError::Start`] or [`LeaseError::Setup`].
    pub fn start(pulse: Arc<Pulse>) -> Result<Self, LeaseError> {
        let start = |what| move |source| LeaseError::Start { what, source };
        let socket = Socket::open(0).map_err(|errno| start("netlink socket")(errno.into()))?;
        let shared = Arc::new(Shared {
            lease: Mutex::new(Lease::new(socket)),
            pulse,
            wake: Wake::new()?,
            state: AtomicU8::new(encode(LeaseState::Free)),
            stop: AtomicBool::new(false),
        });
        let (ready, is_ready) = mpsc::sync_channel(1);
        let of_thread = Arc::clone(&shared);
        let run = move || {
            let result = become_realtime(Priority::Lease);
            let failed = result.is_err();
            let _starter_waits_for_it = ready.send(result);
            if !failed {
                of_thread.keep();
            }
        };
        let builder = std::thread::Builder::new().name("lease".into()).stack_size(128 * 1024);
        let thread = builder.spawn(run).map_err(start("thread"))?;
        is_ready.recv().expect("the thread sends once before it can end")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// From now on `gate` is open while a claim is held, and shut otherwise.
    pub fn guard(&self, gate: Gate) {
        self.shared.lock().gate = Some(gate);
    }

    /// Claims `vips` (none is a claim too: the gate opens) and nothing else; returns when the kernel has them. Claiming what is held already renews it. Takes
    /// microseconds; executors call it, never the heartbeat thread.
    ///
    /// # Errors
    ///
    /// [`LeaseError`]; nothing is held then.
    pub fn claim(&self, vips: &[Vip]) -> Result<(), LeaseError> {
        if vips.len() > VIPS_MAX {
            return Err(LeaseError::TooMany { count: vips.len() });
        }
        let mut lease = self.shared.lock();
        let result = if self.shared.pulse.is_fresh(now()) {
            lease.claim(vips, now())
        } else {
            lease.release().and(Err(LeaseError::NoPulse))
        };
        self.shared.publish(&lease);
        drop(lease);
        self.shared.wake.notify();
        result
    }

    /// Gives all virtual IPs up at once; returns when they are gone. Nothing held is no error.
    ///
    /// # Errors
    ///
    /// [`LeaseError::Refused`]; what could not be removed vanishes within a second.
    pub fn release(&self) -> Result<(), LeaseError> {
        let mut lease = self.shared.lock();
        let result = lease.release();
        self.shared.publish(&lease);
        result
    }

    /// What became of the claim. Never waits.
    #[must_use]
    pub fn state(&self) -> LeaseState {
        decode(self.shared.state.load(Ordering::Acquire))
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.notify();
        if let Some(thread) = self.thread.take() {
            let _only_a_panic_is_reported = thread.join();
        }
        let _gone_within_a_second_otherwise = self.release();
    }
}

impl Shared {
    /// The lease thread. Allocates nothing.
    fn keep(&self) {
        while !self.stop.load(Ordering::Acquire) {
            let held = self.state.load(Ordering::Acquire) == encode(LeaseState::Held);
            let limit = held.then(|| timespec(REFRESH));
            // A wake-up or an interruption only makes the renewal earlier.
            let _woken = poll(&mut [PollFd::new(&self.wake, PollFlags::IN)], limit.as_ref());
            self.wake.drain();
            let mut lease = self.lock();
            lease.turn(self.pulse.is_fresh(now()));
            self.publish(&lease);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lease> {
        // A panic while the lock was held leaves at worst a lease that is not renewed.
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, lease: &Lease) {
        self.state.store(encode(lease.state), Ordering::Release);
    }
}

/// The claim itself and the messages for it, built once.
#[derive(Debug)]
struct Lease {
    socket: Socket,
    sequence: u32,
    state: LeaseState,
    held: heapless::Vec<Held, VIPS_MAX>,
    gate: Option<Gate>,
    renewed: Instant,
}

#[derive(Clone, Debug)]
struct Held {
    vip: Vip,
    add: Message,
    delete: Message,
}

impl Lease {
    fn new(socket: Socket) -> Self {
        let held = heapless::Vec::new();
        Self { socket, sequence: 0, state: LeaseState::Free, held, gate: None, renewed: Instant(0) }
    }

    fn claim(&mut self, vips: &[Vip], at: Instant) -> Result<(), LeaseError> {
        if self.held.iter().any(|held| !vips.contains(&held.vip)) {
            self.release()?;
        }
        self.held.clear();
        for vip in vips {
            let held = Held { vip: *vip, add: add_message(vip), delete: delete_message(vip) };
            self.held.push(held).expect("the caller has checked the number");
        }
        if let Err(error) = self.renew() {
            let _gone_within_a_second_otherwise = self.release();
            return Err(error);
        }
        self.renewed = at;
        self.state = LeaseState::Held;
        Ok(())
    }

    fn release(&mut self) -> Result<(), LeaseError> {
        self.state = LeaseState::Free;
        let result = self.delete_all();
        self.held.clear();
        result
    }

    /// One turn of the lease thread: renews, waits for the heartbeat thread, or gives up.
    fn turn(&mut self, pulse: bool) {
        if self.state != LeaseState::Held {
            return;
        }
        let begin = now();
        if begin.since(self.renewed) < LOST_AFTER {
            if !pulse || self.renew().is_err() {
                return;
            }
            // Stalled between the check and here? Then the kernel may have dropped the address and the renewal has added it again.
            if now().since(self.renewed) < LOST_AFTER {
                self.renewed = begin;
                return;
            }
        }
        let _gone_within_a_second_otherwise = self.delete_all();
        self.held.clear();
        self.state = LeaseState::Lost;
    }

    fn renew(&mut self) -> Result<(), LeaseError> {
        let until = now() + Duration::from_secs(u64::from(LIFETIME_S));
        for place in 0..self.held.len() {
            let Held { vip, add, .. } = self.held[place].clone();
            self.transact(add).map_err(|source| LeaseError::Refused {
                what: "claim",
                address: vip.address,
                source,
            })?;
        }
        self.set_gate(until)
    }

    fn set_gate(&self, until: Instant) -> Result<(), LeaseError> {
        self.gate.as_ref().map_or(Ok(()), |gate| gate.open_until(until).map_err(LeaseError::Gate))
    }

    fn delete_all(&mut self) -> Result<(), LeaseError> {
        let mut result = self.set_gate(Instant(0));
        for place in 0..self.held.len() {
            let Held { vip, delete, .. } = self.held[place].clone();
            match self.transact(delete) {
                // It was not there, or the port is not: as wanted.
                Ok(()) | Err(Errno::ADDRNOTAVAIL | Errno::NODEV) => {}
                Err(source) => {
                    let refused = LeaseError::Refused { what: "release", address: vip.address, source };
                    result = result.and(Err(refused));
                }
            }
        }
        result
    }

    /// Sends one message and reads its acknowledgement, which the kernel has queued when the sending returns.
    fn transact(&mut self, mut message: Message) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        message.set_sequence(self.sequence);
        self.socket.send(&message)?;
        let mut buffer = [0; 1024];
        while let Some(datagram) = self.socket.recv(&mut buffer)? {
            for answer in messages(datagram) {
                let is_ours = answer.sequence == self.sequence;
                if is_ours && i32::from(answer.kind) == libc::NLMSG_ERROR {
                    return answer.verdict();
                }
            }
        }
        Err(Errno::NOMSG)
    }
}

// linux/if_addr.h; libc lacks them.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
/// The kernel does not probe an IPv6 address again before it answers for it: it was probed before the claim.
const IFA_F_NODAD: u8 = 2;

fn add_message(vip: &Vip) -> Message {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    // struct ifa_cacheinfo: preferred and valid lifetime in seconds, two time stamps that only the kernel sets.
    let preferred = if vip.preferred { LIFETIME_S } else { 0 };
    let mut lifetimes = [0; 16];
    lifetimes[..4].copy_from_slice(&preferred.to_ne_bytes());
    lifetimes[4..8].copy_from_slice(&LIFETIME_S.to_ne_bytes());
    address_message(libc::RTM_NEWADDR, flags, vip).attribute(IFA_CACHEINFO, &lifetimes)
}

fn delete_message(vip: &Vip) -> Message {
    address_message(libc::RTM_DELADDR, libc::NLM_F_REQUEST | libc::NLM_F_ACK, vip)
}

fn address_message(kind: u16, flags: libc::c_int, vip: &Vip) -> Message {
    // struct ifaddrmsg: family, prefix length, flags, scope, index.
    let mut header = [0; 8];
    let family = if vip.address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    header[0] = u8::try_from(family).expect("address families here have 8 bits");
    header[1] = vip.prefix;
    header[4..].copy_from_slice(&vip.port.to_ne_bytes());
    match vip.address {
        IpAddr::V4(address) => {
            let octets = address.octets();
            Message::new(kind, flags, &header).attribute(IFA_LOCAL, &octets).attribute(IFA_ADDRESS, &octets)
        }
        IpAddr::V6(address) => {
            header[2] = IFA_F_NODAD;
            Message::new(kind, flags, &header).attribute(IFA_ADDRESS, &address.octets())
        }
    }
}

fn encode(state: LeaseState) -> u8 {
    match state {
        LeaseState::Free => 0,
        LeaseState::Held => 1,
        LeaseState::Lost => 2,
    }
}

fn decode(state: u8) -> LeaseState {
    match state {
        0 => LeaseState::Free,
        1 => LeaseState::Held,
        _ => LeaseState::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulse_is_fresh_for_half_a_second() {
        let pulse = Pulse::new();
        assert!(!pulse.is_fresh(Instant(1_000)), "never beaten");
        pulse.beat(Instant(1_000_000));
        assert!(pulse.is_fresh(Instant(1_500_000)));
        assert!(!pulse.is_fresh(Instant(1_500_001)));
    }

    #[test]
    fn states_survive_their_encoding() {
        for state in [LeaseState::Free, LeaseState::Held, LeaseState::Lost] {
            assert_eq!(decode(encode(state)), state);
        }
    }
}
