//! Runs scenario files (`twinpost-scenario`) on QEMU units.

mod check;
mod drill;
mod report;
mod run;
mod start;

pub use check::Invariants;
pub use report::{Failure, write_events};
pub use run::{Outcome, RunError, RunSettings, run};
pub use start::{StartError, StartLimits, bring_up, is_whole};
