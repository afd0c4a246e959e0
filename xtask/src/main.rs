//! `cargo xtask`: every build, test and release verb of the project. Stays thin: work is done in the modules.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a tool runs programs and measures time")]

mod hostdeps;
mod image;
mod run;
mod tidy;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, run, test and release Twinpost")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the firmware and the disk image: target/image/twinpost-<version>.img and its SBOM
    Image(image::ImageArgs),
    /// Resolve image/packages.lock again from the machine's package sources and print the difference
    Lock(image::LockArgs),
    /// Do all set-up, boot a pair in QEMU, cut the primary's power under load and report what became of the mail
    Demo(run::DemoArgs),
    /// Pass all tests, or one ring of them
    Test(run::TestArgs),
    /// Run scenario files on real images in QEMU, or on simulated units
    Scenario(run::ScenarioArgs),
    /// Measure: `bench failover --help` (beside keepalived), `bench handover --help` (figures depend on the machine; no test hangs on them)
    #[command(disable_help_flag = true)]
    Bench(run::BenchArgs),
    /// Play random scenarios on simulated units and check them at every step
    Sim(run::SimArgs),
    /// Check the model of the pair's election, fencing and hand-over exhaustively and print how many states there are
    Model,
    /// Fuzz the parsers, each for some seconds
    Fuzz(run::FuzzArgs),
    /// Join this terminal to the console of a unit of the running demo
    Console(run::ConsoleArgs),
    /// Check walls, style and the files that describe the project
    Tidy(tidy::TidyArgs),
}

fn main() {
    let result = match Args::parse().verb {
        Verb::Image(args) => image::image(args),
        Verb::Lock(args) => image::lock(args),
        Verb::Demo(args) => run::demo(args),
        Verb::Test(args) => run::test(args),
        Verb::Scenario(args) => run::scenario(args),
        Verb::Bench(args) => run::bench(&args),
        Verb::Sim(args) => run::sim(args),
        Verb::Model => run::model(),
        Verb::Fuzz(args) => run::fuzz(&args),
        Verb::Console(args) => run::console(args),
        Verb::Tidy(args) => tidy::tidy(args),
    };
    match result {
        Ok(code) => std::process::exit(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::exit(1);
        }
    }
}
