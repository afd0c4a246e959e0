//! `cargo xtask demo`: all set-up, then the demonstration on a live screen or in plain lines.

use super::{Bench, UnitArgs};
use anyhow::Context;
use std::io::IsTerminal;
use std::path::PathBuf;
use twinpost_harness::demo::{DemoError, DemoSettings, Lines, Screen, run};

/// Exit code when the visitor quit before the report.
const EXIT_QUIT: i32 = 130;

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct DemoArgs {
    #[command(flatten)]
    units: UnitArgs,
    /// Messages a second
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Plain lines even on a terminal, and no hands-on use at the end
    #[arg(long)]
    plain: bool,
}

/// Runs it. Exit code 0 only if nothing was lost or duplicated and the pair is whole again.
pub fn demo(args: DemoArgs) -> anyhow::Result<i32> {
    anyhow::ensure!((0.1..=500.0).contains(&args.rate), "--rate: allowed: 0.1 to 500");
    let bench = Bench::set_up(&args.units)?;
    let live = !args.plain && std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    let settings = DemoSettings {
        pair: bench.pair_in("demo"),
        accelerator: bench.accelerator,
        rate: args.rate,
        stay: live,
    };
    println!("units run under {}", bench.accelerator.name());
    let result = if live {
        let mut screen = Screen::open().context("the terminal cannot be used; try --plain")?;
        let result = run(&settings, &mut screen);
        for line in screen.into_story() {
            println!("{line}");
        }
        result
    } else {
        run(&settings, &mut Lines::new())
    };
    let report = match result {
        Ok(report) => report,
        Err(DemoError::Quit) => return Ok(EXIT_QUIT),
        Err(error) => return Err(error.into()),
    };
    if let Some(path) = &args.json {
        let json = serde_json::to_string(&report)? + "\n";
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(i32::from(!report.is_good()))
}
