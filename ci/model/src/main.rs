//! `cargo xtask model`: explores each set of bounds and prints how many states there are. Exit code 1 with the way to the state in
//! which a property does not hold.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a tool measures time")]

use stateright::{Checker, Model};
use std::process::ExitCode;
use std::time::Instant;
use twinpost_model::{Budget, Pair};

/// Bounds: what may go wrong together.
const BOUNDS: [(&str, Budget); 5] = [
    (
        "a power cut, a link cut",
        Budget { crashes: 1, cuts: 1, isolations: 0, drops: 0, switches: 0, messages: 1 },
    ),
    (
        "a lost connection, a switch, a power cut",
        Budget { crashes: 1, cuts: 0, isolations: 0, drops: 1, switches: 1, messages: 1 },
    ),
    (
        "both links cut, an isolation",
        Budget { crashes: 0, cuts: 2, isolations: 1, drops: 0, switches: 0, messages: 2 },
    ),
    ("two power cuts", Budget { crashes: 2, cuts: 0, isolations: 0, drops: 0, switches: 0, messages: 2 }),
    (
        "both links cut, an isolation, a power cut: split brain and hand-over",
        Budget { crashes: 1, cuts: 2, isolations: 1, drops: 0, switches: 0, messages: 2 },
    ),
];

fn main() -> ExitCode {
    let mut failed = false;
    for (name, budget) in BOUNDS {
        let begin = Instant::now();
        let threads = std::thread::available_parallelism().map_or(1, Into::into);
        let checker = Pair { budget, mutation: None }.checker().threads(threads).spawn_bfs().join();
        let seconds = begin.elapsed().as_secs_f64();
        println!(
            "model {name}: {} states, {} steps, {} deep, {seconds:.1} s",
            checker.unique_state_count(),
            checker.state_count(),
            checker.max_depth()
        );
        for property in checker.model().properties() {
            let Some(path) = checker.discovery(property.name) else { continue };
            if property.expectation == stateright::Expectation::Always {
                failed = true;
                println!("FAIL {}:", property.name);
                let way = path.into_vec();
                let acts: Vec<String> =
                    way.iter().filter_map(|(_, act)| Some(format!("{:?}", act.as_ref()?))).collect();
                println!("  {}", acts.join(", "));
                println!("  {:#?}", way.last());
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
