//! Carries a [`Segment`] out: unix datagram sockets and in-process plugs, the delay thread, the capture file. Decides
//! nothing about where frames go.

use crate::fault::Faults;
use crate::pcap::{PcapError, PcapWriter};
use crate::segment::{Counters, Kind, PortId, Segment};
use std::collections::BinaryHeap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest frame: 1500 bytes of payload, header, VLAN tag, and room for QEMU's larger ones.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Frames that may wait for an in-process host.
const PLUG_QUEUE: usize = 4096;
/// Frames that may wait for a unit, as in the receive ring of a network card. The kernel's own queue of a unix datagram
/// socket holds only ten (`net.unix.max_dgram_qlen`): every burst of TCP would be lost there. Longer, and heartbeats would
/// wait behind bulk traffic to a busy unit.
const UNIX_QUEUE: usize = 96;
/// Frames that may be held back by `delay` at once.
const DELAYED_MAX: usize = 16 * 1024;
/// How often a reader looks whether the segment is gone, and how often captures are flushed.
const WAKE: Duration = Duration::from_millis(200);

/// Why a port could not be added.
#[derive(Debug, thiserror::Error)]
pub enum LanError {
    /// The socket file could not be made.
    #[error("cannot bind the switch's socket {path}")]
    Bind {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The capture could not be begun.
    #[error("no capture")]
    Capture(#[from] PcapError),
}

/// A frame that is held back.
struct Delayed {
    due: Instant,
    order: u64,
    ports: Vec<PortId>,
    frame: Vec<u8>,
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}
impl Eq for Delayed {}
impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Delayed {
    /// Reversed: `BinaryHeap` gives the greatest first, the earliest is wanted.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.order).cmp(&(self.due, self.order))
    }
}

struct State {
    segment: Segment,
    outlets: Vec<SyncSender<Vec<u8>>>,
    capture: Option<PcapWriter>,
    delayed: BinaryHeap<Delayed>,
    order: u64,
}

struct Shared {
    state: Mutex<State>,
    held_back: Condvar,
    started: Instant,
    stop: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in another port's thread must not take the whole bench with it; the state is plain data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forwards one frame that came in at `port`.
    fn accept(&self, port: PortId, frame: &[u8]) {
        let now = Instant::now();
        let mut state = self.lock();
        let egress = state.segment.accept(now.saturating_duration_since(self.started), port, frame);
        if let Some(capture) = &mut state.capture {
            // What a port sent is recorded even if a fault eats it: that is what one wants to see afterwards.
            capture.record(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), frame);
        }
        if egress.ports.is_empty() {
            return;
        }
        if egress.delay.is_zero() {
            deliver(&mut state, &egress.ports, frame);
        } else if state.delayed.len() < DELAYED_MAX {
            state.order += 1;
            let order = state.order;
            let due = now + egress.delay;
            state.delayed.push(Delayed { due, order, ports: egress.ports, frame: frame.to_vec() });
            self.held_back.notify_one();
        }
    }
}

fn deliver(state: &mut State, ports: &[PortId], frame: &[u8]) {
    for port in ports {
        let Some(outlet) = state.outlets.get(*port) else { continue };
        let taken = outlet.try_send(frame.to_vec()).is_ok();
        state.segment.delivered(*port, taken);
    }
}

/// A running switch or cable. Dropping it ends its threads.
pub struct Lan {
    shared: Arc<Shared>,
}

/// The socket paths that a QEMU `-netdev dgram` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixPort {
    /// Number on the segment.
    pub id: PortId,
    /// QEMU's own address (`local.path`).
    pub unit_path: PathBuf,
    /// The switch's address (`remote.path`).
    pub switch_path: PathBuf,
}

impl Lan {
    /// Starts a segment; `capture` names its pcap file, `seed` its losses.
    ///
    /// # Errors
    /// The capture file cannot be created.
    pub fn start(kind: Kind, seed: u64, capture: Option<&Path>) -> Result<Self, LanError> {
        let capture = capture.map(PcapWriter::create).transpose()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                segment: Segment::new(kind, seed),
                outlets: Vec::new(),
                capture,
                delayed: BinaryHeap::new(),
                order: 0,
            }),
            held_back: Condvar::new(),
            started: Instant::now(),
            stop: AtomicBool::new(false),
        });
        let worker = Arc::clone(&shared);
        std::thread::spawn(move || release_delayed(&worker));
        Ok(Self { shared })
    }

    /// Adds a port for a QEMU unit. `stem` is a path without extension; two sockets are named after it.
    ///
    /// # Errors
    /// The switch's socket cannot be bound.
    pub fn add_unix(&self, stem: &Path) -> Result<UnixPort, LanError> {
        let switch_path = stem.with_extension("sw");
        let unit_path = stem.with_extension("vm");
        let bind = || {
            let _ = std::fs::remove_file(&switch_path);
            let socket = UnixDatagram::bind(&switch_path)?;
            socket.set_read_timeout(Some(WAKE))?;
            socket.set_write_timeout(Some(WAKE))?;
            Ok((socket.try_clone()?, socket))
        };
        let (reader, writer) =
            bind().map_err(|source| LanError::Bind { path: switch_path.clone(), source })?;
        let (sender, frames) = sync_channel(UNIX_QUEUE);
        let id = self.add(sender);
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || read_unix(&shared, id, &reader));
        let remote = unit_path.clone();
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || write_unix(&shared, id, &writer, &remote, &frames));
        Ok(UnixPort { id, unit_path, switch_path })
    }

    /// Adds an in-process host.
    #[must_use]
    pub fn add_plug(&self) -> Plug {
        let (sender, frames) = sync_channel(PLUG_QUEUE);
        let id = self.add(sender);
        Plug { id, shared: Arc::clone(&self.shared), frames }
    }

    /// Changes the faults of a port.
    pub fn set_faults(&self, port: PortId, change: impl FnOnce(&mut Faults)) {
        self.shared.lock().segment.set_faults(port, change);
    }

    /// Faults of a port.
    #[must_use]
    pub fn faults(&self, port: PortId) -> Faults {
        self.shared.lock().segment.faults(port)
    }

    /// Counters of a port.
    #[must_use]
    pub fn counters(&self, port: PortId) -> Counters {
        self.shared.lock().segment.counters(port)
    }

    fn add(&self, outlet: SyncSender<Vec<u8>>) -> PortId {
        let mut state = self.shared.lock();
        state.outlets.push(outlet);
        state.segment.add_port()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.held_back.notify_all();
        if let Some(capture) = &mut self.shared.lock().capture {
            capture.flush();
        }
    }
}

/// One end of a cable in this process.
pub struct Plug {
    id: PortId,
    shared: Arc<Shared>,
    frames: Receiver<Vec<u8>>,
}

impl Plug {
    /// Number on the segment.
    #[must_use]
    pub fn id(&self) -> PortId {
        self.id
    }

    /// Sends one Ethernet frame (without checksum).
    pub fn send(&self, frame: &[u8]) {
        self.shared.accept(self.id, frame);
    }

    /// The next frame, waiting at most `limit`; `None` when none came.
    #[must_use]
    pub fn recv_timeout(&self, limit: Duration) -> Option<Vec<u8>> {
        self.frames.recv_timeout(limit).ok()
    }

    /// A frame that is already here.
    #[must_use]
    pub fn try_recv(&self) -> Option<Vec<u8>> {
        self.frames.try_recv().ok()
    }
}

fn read_unix(shared: &Shared, port: PortId, socket: &UnixDatagram) {
    let mut buffer = vec![0u8; FRAME_BYTES_MAX];
    while !shared.stop.load(Ordering::Relaxed) {
        // Errors are time-outs, or a peer that went away: the port stays for the next boot of the unit.
        if let Ok(length) = socket.recv(&mut buffer)
            && let Some(frame) = buffer.get(..length)
        {
            shared.accept(port, frame);
        }
    }
}

/// Hands frames to a unit. A unit that is stopped costs one [`WAKE`] a frame here, and nobody else anything.
fn write_unix(
    shared: &Shared,
    port: PortId,
    socket: &UnixDatagram,
    remote: &Path,
    frames: &Receiver<Vec<u8>>,
) {
    while !shared.stop.load(Ordering::Relaxed) {
        match frames.recv_timeout(WAKE) {
            Ok(frame) => {
                if socket.send_to(&frame, remote).is_err() {
                    shared.lock().segment.refused(port);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn release_delayed(shared: &Shared) {
    let mut state = shared.lock();
    while !shared.stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let wait = match state.delayed.peek() {
            Some(next) if next.due <= now => {
                if let Some(frame) = state.delayed.pop() {
                    deliver(&mut state, &frame.ports, &frame.frame);
                }
                continue;
            }
            Some(next) => next.due.saturating_duration_since(now).min(WAKE),
            None => WAKE,
        };
        if let Some(capture) = &mut state.capture {
            capture.flush();
        }
        state = shared.held_back.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn frame(tag: u8) -> Vec<u8> {
        [&[0xFF; 6][..], &[2, 0, 0, 0, 0, tag], &[0x88, 0xB5], &[tag; 46]].concat()
    }

    #[test]
    fn carries_frames_between_unix_and_plug() {
        let folder = tempfile::tempdir().unwrap();
        let capture = folder.path().join("lan.pcap");
        let lan = Lan::start(Kind::Switch, 0, Some(&capture)).unwrap();
        let port = lan.add_unix(&folder.path().join("a1")).unwrap();
        let plug = lan.add_plug();
        let unit = UnixDatagram::bind(&port.unit_path).unwrap();
        unit.set_read_timeout(Some(SOON)).unwrap();
        unit.send_to(&frame(1), &port.switch_path).unwrap();
        assert_eq!(plug.recv_timeout(SOON).unwrap(), frame(1));
        plug.send(&frame(2));
        let mut buffer = [0; 100];
        let length = unit.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], frame(2));
        drop(unit);
        std::fs::remove_file(&port.unit_path).unwrap();
        plug.send(&frame(3));
        let limit = Instant::now() + SOON;
        while lan.counters(port.id).dropped == 0 {
            assert!(Instant::now() < limit, "a frame for a unit that is off must be counted as dropped");
            std::thread::yield_now();
        }
        drop(lan);
        assert_eq!(std::fs::metadata(capture).unwrap().len(), 24 + 3 * (16 + 60));
    }

    #[test]
    fn holds_frames_back_in_order() {
        let lan = Lan::start(Kind::Cable, 0, None).unwrap();
        let (left, right) = (lan.add_plug(), lan.add_plug());
        lan.set_faults(left.id(), |faults| faults.delay = Duration::from_millis(60));
        let sent = Instant::now();
        left.send(&frame(1));
        left.send(&frame(2));
        assert_eq!(right.recv_timeout(SOON).unwrap(), frame(1));
        assert!(sent.elapsed() >= Duration::from_millis(60));
        assert_eq!(right.recv_timeout(SOON).unwrap(), frame(2));
    }
}
