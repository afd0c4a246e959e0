//! `cargo xtask bench failover`: all cases, each program in turn, as often as asked; then what the heartbeat costs and how late it
//! is under load. Judges against the goals of the issue but fails only with `--strict`: figures depend on the machine.

use crate::cases::{self, CASES, Outage, Program};
use crate::lan;
use crate::load;
use crate::report::{Row, Table};
use crate::unit::Unit;
use anyhow::{Context, ensure};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Tells the program that it is in its own namespace.
const INSIDE: &str = "TWINPOST_BENCH_INSIDE";
/// Exit code with `--strict` when a goal was missed.
const MISSED: u8 = 3;

/// Arguments of `cargo xtask bench failover`.
#[derive(clap::Args)]
pub struct FailoverArgs {
    /// Power cuts of each program in each case
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Only these, separated by commas: 10ms, 100ms, default, cpu, stress
    #[arg(long, value_delimiter = ',', default_value = "10ms,100ms,default,cpu,stress")]
    only: Vec<String>,
    /// How long processor time is measured
    #[arg(long, default_value_t = 30)]
    cpu_seconds: u64,
    /// How long the machine is loaded
    #[arg(long, default_value_t = 300)]
    stress_seconds: u64,
    /// Write all figures here as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Exit code 3 when a goal is missed
    #[arg(long)]
    strict: bool,
}

/// Measures.
pub fn failover(args: &FailoverArgs) -> anyhow::Result<ExitCode> {
    if std::env::var_os(INSIDE).is_none() {
        return Err(enter());
    }
    let known = |name: &String| {
        CASES.iter().any(|case| case.name == name) || ["cpu", "stress"].contains(&name.as_str())
    };
    let unknown: Vec<_> = args.only.iter().filter(|name| !known(name)).collect();
    ensure!(unknown.is_empty(), "there is no {unknown:?}; see --help");
    ensure!(args.runs > 0 && args.cpu_seconds > 0 && args.stress_seconds > 0, "nothing to measure");
    let folder = tempfile::tempdir().context("no scratch folder")?;
    lan::make_switches().context("cannot make the switches")?;
    let mut client = lan::connect_client().context("cannot connect the client")?;
    client.order(&format!("start {} probe", std::env::current_exe()?.display()))?;
    client.expect("probing", std::time::Duration::from_secs(5))?;
    let table = measure(args, &mut client, folder.path())?;
    print!("{table}");
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_string_pretty(&table)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(if args.strict && !table.all_met() { ExitCode::from(MISSED) } else { ExitCode::SUCCESS })
}

/// Starts this program again in a namespace of its own; returns only if that fails.
fn enter() -> anyhow::Error {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return error.into(),
    };
    let error = Command::new("unshare")
        .args(["--net", "--mount", "--"])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    anyhow::Error::from(error).context("cannot run unshare (package util-linux)")
}

fn measure(args: &FailoverArgs, client: &mut Unit, folder: &Path) -> anyhow::Result<Table> {
    let wanted = |name: &str| args.only.iter().any(|only| only == name);
    let mut table = Table::default();
    for case in CASES.iter().filter(|case| wanted(case.name)) {
        let mut outages = [const { Vec::new() }; 3];
        for run in 0..args.runs {
            for (program, outages) in Program::ALL.into_iter().zip(&mut outages) {
                let outage = one(program, case, client, folder)
                    .with_context(|| format!("{program:?} in case {}, run {run}", case.name))?;
                outages.push(outage);
            }
            let [ref with, ref without, ref other] = outages;
            let last = |all: &Vec<Outage>| all.last().map_or(0.0, |outage| outage.us as f64 / 1e3);
            eprintln!(
                "{} {}/{}: with carrier proof {:.0} ms, without {:.0} ms, keepalived {:.0} ms",
                case.name,
                run + 1,
                args.runs,
                last(with),
                last(without),
                last(other)
            );
        }
        table.rows.push(Row::new(case, &outages));
    }
    if wanted("cpu") {
        eprintln!("processor time: {} s, twice", args.cpu_seconds);
        table.cpu = load::cpu(args.cpu_seconds, client, folder)?;
    }
    if wanted("stress") {
        eprintln!("load: {} s", args.stress_seconds);
        table.stress = Some(load::stress(args.stress_seconds, client, folder)?);
    }
    Ok(table)
}

fn one(program: Program, case: &cases::Case, client: &mut Unit, folder: &Path) -> anyhow::Result<Outage> {
    let pair = cases::start(program, case, client, folder)?;
    cases::cut(pair, case, client)
}
