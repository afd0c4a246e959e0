//! Scenario files: text that a field engineer can write, as values, and the parser between. Pure: it opens no file and runs
//! nothing; QEMU units are run by `twinpost-harness`, the simulated pair by `twinpost-sim`. The syntax is the table of the house
//! (ARCHITECTURE.md, "Simulator and scenario files"); additions are in `ci/scenarios/README.md`.
#![forbid(unsafe_code)]

mod model;
mod parse;
mod print;
mod words;

pub use model::{
    Action, Destination, DiskFault, Expectation, Firmware, Group, LoadOrder, MachineKind, PORTS, Scenario,
    Step, Stress, UNITS, What,
};
pub use parse::parse;
pub use words::ScenarioError;
