//! `twinpost-bench`: measurements that no unit test may hang on, because they depend on the machine. `cargo xtask bench` builds and
//! starts it: how long mail is not reachable when the primary dies, beside keepalived (`spec/ha.md` section 5), and how fast mail is
//! handed over (section 8).
//!
//! ```text
//! failover (switch: bridges, cables)      a network namespace each: all of them vanish with this process
//!   ├─ enclose ─ probe                    the client, 192.0.2.1: one ICMP echo a millisecond to the virtual IP
//!   ├─ enclose ─ node | keepalived        unit a; `cut` takes all its links down at once and kills it
//!   └─ enclose ─ node | keepalived        unit b
//! ```
//!
//! Exit codes: 0 measured (goals met or not: the table says so), 1 could not measure, 3 measured and a goal was missed
//! with `--strict`.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a tool that runs programs and measures time")]

mod cases;
mod enclose;
mod failover;
mod handover;
mod lan;
mod load;
mod node;
mod probe;
mod report;
mod scripts;
mod unit;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Measurements beside other programs of the field")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Outage of one virtual IP at a power cut, beside keepalived; CPU and lateness of the heartbeat
    Failover(failover::FailoverArgs),
    /// Messages a second that a unit hands over after a split brain
    Handover(handover::HandOverArgs),
    /// A namespace of its own that obeys its standard input
    #[command(hide = true)]
    Enclose,
    /// A unit's heartbeat thread without volumes and mail
    #[command(hide = true)]
    Node(node::NodeArgs),
    /// The client
    #[command(hide = true)]
    Probe,
}

fn main() -> std::process::ExitCode {
    let done = match Args::parse().verb {
        Verb::Failover(args) => failover::failover(&args),
        Verb::Handover(args) => handover::hand_over(&args),
        Verb::Enclose => enclose::enclose(),
        Verb::Node(args) => node::node(&args),
        Verb::Probe => probe::probe(),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
