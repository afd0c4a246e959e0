//! A gate in the kernel before the ports of the bridge: a small BPF program (XDP, generic) lets frames in only until a time that
//! [`crate::lease`] moves on while the supervisor lives. When it is killed or stuck the ports pass nothing after a second, by the
//! kernel's clock alone; the program stays on a port until it is taken off. Knows nothing of bridges. bpf(2).
//!
//! Without it two units would bridge the same two networks after a takeover from a stuck supervisor: a loop that no
//! spanning tree ends.

use crate::Port;
use crate::netlink::{Message, Socket, messages};
use crate::port::last_errno;
use core::mem::size_of;
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use twinpost_types::Instant;

/// The gate. Opening and closing it allocates nothing.
#[derive(Debug)]
pub struct Gate {
    deadline: OwnedFd,
    program: OwnedFd,
}

/// Why there is no gate.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused to {what}")]
pub struct GateError {
    what: &'static str,
    #[source]
    source: Errno,
}

impl Gate {
    /// A gate that is shut and stands before no port yet.
    ///
    /// # Errors
    ///
    /// [`GateError`]; it needs `CAP_BPF`, `CAP_NET_ADMIN`.
    pub fn new() -> Result<Self, GateError> {
        let fail = |what| move |source| GateError { what, source };
        let map = MapCreate { kind: MAP_ARRAY, key_size: 4, value_size: 8, max_entries: 1 };
        let deadline = bpf_fd(MAP_CREATE, &map).map_err(fail("make the gate's time"))?;
        let program = program(deadline.as_raw_fd());
        let load = ProgLoad {
            kind: PROG_XDP,
            instructions: u32::try_from(program.len()).expect("the program is short"),
            program: address_of(program.as_ptr()),
            license: address_of(c"Apache-2.0".as_ptr()),
            log_level: 0,
            log_size: 0,
            log: 0,
        };
        let program = bpf_fd(PROG_LOAD, &load).map_err(fail("load the gate"))?;
        Ok(Self { deadline, program })
    }

    /// Puts the gate before a port, in place of an older one.
    ///
    /// # Errors
    ///
    /// [`GateError`].
    pub fn put_before(&self, port: &Port) -> Result<(), GateError> {
        set_program(port, self.program.as_raw_fd())
            .map_err(|source| GateError { what: "put the gate before a port", source })
    }

    /// Takes any gate away from a port.
    ///
    /// # Errors
    ///
    /// [`GateError`].
    pub fn take_from(port: &Port) -> Result<(), GateError> {
        set_program(port, -1).map_err(|source| GateError { what: "take the gate from a port", source })
    }

    /// Open until `deadline` (of the kernel's monotonic clock); shut from then on.
    pub(crate) fn open_until(&self, deadline: Instant) -> Result<(), Errno> {
        let nanoseconds = deadline.0.saturating_mul(1000);
        let update = MapUpdate {
            map: self.deadline.as_raw_fd().cast_unsigned(),
            padding: 0,
            key: address_of(&raw const KEY),
            value: address_of(&raw const nanoseconds),
            flags: 0,
        };
        bpf(MAP_UPDATE, &update).map(drop)
    }
}

/// The only entry of the map.
static KEY: u32 = 0;

// linux/bpf.h; libc lacks them.
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const MAP_ARRAY: u32 = 2;
const PROG_XDP: u32 = 6;
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const HELPER_LOOKUP: i32 = 1;
const HELPER_TIME: i32 = 5;
/// linux/if_link.h: generic XDP, which every driver has.
const XDP_FLAGS_SKB_MODE: u32 = 2;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
struct MapUpdate {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgLoad {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// `struct bpf_insn`: operation, registers (source in the high half), offset, number.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    number: i32,
}

/// Drops a frame unless the time in the map is still to come.
fn program(map: i32) -> [Instruction; 15] {
    const fn i(code: u8, registers: u8, offset: i16, number: i32) -> Instruction {
        Instruction { code, registers, offset, number }
    }
    [
        // The key, 0, on the stack; r2 points to it.
        i(0x62, 0x0a, -4, 0),
        i(0xbf, 0xa2, 0, 0),
        i(0x07, 0x02, 0, -4),
        // r1 = the map (a double instruction; source register 1 marks the number as a descriptor).
        i(0x18, 0x11, 0, map),
        i(0x00, 0x00, 0, 0),
        i(0x85, 0x00, 0, HELPER_LOOKUP),
        // No entry: drop.
        i(0x15, 0x00, 6, 0),
        // r6 = the time; r0 = now; r6 > r0: pass.
        i(0x79, 0x06, 0, 0),
        i(0x85, 0x00, 0, HELPER_TIME),
        i(0x2d, 0x06, 1, 0),
        i(0x05, 0x00, 2, 0),
        i(0xb7, 0x00, 0, XDP_PASS),
        i(0x95, 0x00, 0, 0),
        i(0xb7, 0x00, 0, XDP_DROP),
        i(0x95, 0x00, 0, 0),
    ]
}

fn set_program(port: &Port, program: i32) -> Result<(), Errno> {
    let socket = Socket::open(0)?;
    // struct ifinfomsg: family, padding, type, index, flags, change.
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&port.index.to_ne_bytes());
    // Two attributes of 8 bytes within one.
    let mut nested = [0; 16];
    for (place, (kind, value)) in
        [(IFLA_XDP_FD, program.cast_unsigned()), (IFLA_XDP_FLAGS, XDP_FLAGS_SKB_MODE)].into_iter().enumerate()
    {
        let at = place * 8;
        nested[at..at + 2].copy_from_slice(&8_u16.to_ne_bytes());
        nested[at + 2..at + 4].copy_from_slice(&kind.to_ne_bytes());
        nested[at + 4..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
    let kind = IFLA_XDP | u16::try_from(libc::NLA_F_NESTED).expect("a flag of 16 bits");
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
    let mut message = Message::new(libc::RTM_SETLINK, flags, &header).attribute(kind, &nested);
    message.set_sequence(1);
    socket.send(&message)?;
    // The kernel has queued its answer when the sending returns.
    let mut buffer = [0; 1024];
    let answer = socket.recv(&mut buffer)?.and_then(|datagram| messages(datagram).next());
    answer.map_or(Err(Errno::NOMSG), |answer| answer.verdict())
}

fn address_of<T>(pointer: *const T) -> u64 {
    u64::try_from(pointer.expose_provenance()).expect("addresses have 64 bits at most")
}

fn bpf_fd<T>(command: libc::c_int, attributes: &T) -> Result<OwnedFd, Errno> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> Result<i32, Errno> {
    let size = u32::try_from(size_of::<T>()).expect("attributes are small");
    // SAFETY: the kernel reads `size` bytes of `attributes`, which is alive and of just that size, and what the addresses in it
    // point to: the caller's program, licence, key and value, alive until this returns and as long as the attributes say.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, core::ptr::from_ref(attributes), size) };
    if result < 0 { Err(last_errno()) } else { i32::try_from(result).map_err(|_| Errno::INVAL) }
}
