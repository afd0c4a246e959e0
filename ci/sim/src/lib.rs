//! The simulator: two units with the real decisions (`twinpost-ha`) and, where a run asks for it, the real heartbeat datagrams
//! (`twinpost-wire`), in a world of cables, power, disks, clocks, replication with data generations, a watchdog, leases, a mail client and a
//! next hop. Deterministic: everything follows from a scenario and a seed. The library has no threads, no clock and no
//! files; the program around it (`main.rs`, run by `cargo xtask sim` and `cargo xtask scenario --on sim`) brings those.
//!
//! ```text
//!  Scenario ─▶ play ─▶ World ─┬─ faults   what a line does to the world
//!    ▲                        ├─ world    time, events in, actions out ─▶ Ha a, Ha b
//!  random, shrink             ├─ network  cables, datagrams, probes, leases
//!                             ├─ replication, steps, disk   what the executors make of the machine
//!                             ├─ mail     client, ledger, deliveries
//!                             └─ judge    what must hold at every step ─▶ Violation
//! ```
//!
//! What it simplifies: both volumes are one; a step takes a fixed time. Where the checks live in the shell (had), their outcome is told as the shell would tell it.
#![forbid(unsafe_code)]
#![allow(
    clippy::wildcard_imports,
    reason = "the vocabulary of twinpost-types is used throughout, as in a test"
)]

mod bits;
mod disk;
mod faults;
mod judge;
mod mail;
mod mutation;
mod network;
mod play;
mod random;
mod replication;
mod rng;
mod settings;
mod shrink;
mod steps;
mod unit;
mod world;

pub use judge::{Check, Violation};
pub use mutation::Mutation;
pub use play::{Failure, Outcome, RunError, Simulator};
pub use random::scenario as random_scenario;
pub use settings::{PairSettings, SettingError};
pub use shrink::shrink;
