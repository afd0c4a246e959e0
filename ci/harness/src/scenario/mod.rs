//! Scenario files: text that a field engineer can write, its parser, and its run on QEMU units. The syntax is the house's table;
//! additions are in `ci/scenarios/README.md`.

mod check;
mod model;
mod parse;
mod report;
mod run;
mod start;
mod words;

pub use check::Invariants;
pub use model::{Action, DiskFault, Expectation, Group, Scenario, Step, Stress, What};
pub use parse::parse;
pub use report::{Failure, write_events};
pub use run::{Outcome, RunError, RunSettings, run};
pub use start::{StartError, StartLimits, bring_up, is_whole};
pub use words::ScenarioError;
