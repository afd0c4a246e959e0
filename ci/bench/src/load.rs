//! What the heartbeat costs, and how late it is on a machine that is overloaded: a standing pair at an interval of 10 ms on two links.

use crate::cases::{CASES, Pair, Program, start};
use crate::node::Stats;
use crate::unit::Unit;
use anyhow::{Context, ensure};
use serde::Serialize;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Processor time of one unit.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cpu {
    /// How the heartbeat links are laid. The kernel does the work of an emulated switch in the time of whoever sends.
    pub cables: &'static str,
    /// Of the whole process, % of one core; the worse of both units.
    pub percent: f64,
    /// Of its heartbeat thread.
    pub heartbeat_percent: f64,
    /// Measured for this long.
    pub seconds: f64,
    /// Heartbeats heard meanwhile, by the unit that is shown.
    pub heard: u64,
}

/// Lateness under load.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Stress {
    /// Worst lateness of both heartbeat threads, ms.
    pub late_ms: f64,
    /// Changes of mode while nothing was wrong with either unit.
    pub false_failovers: usize,
    /// Loaded for this long.
    pub seconds: u64,
}

/// Lets pairs stand for `seconds` and reads what they used: one whose heartbeat links are direct cables, one with switches in them.
pub fn cpu(seconds: u64, client: &mut Unit, folder: &Path) -> anyhow::Result<Vec<Cpu>> {
    let ways = [(Program::TwinpostCarrier, "direct cables"), (Program::Twinpost, "through switches")];
    ways.into_iter().map(|(program, cables)| cpu_of(program, cables, seconds, client, folder)).collect()
}

fn cpu_of(
    program: Program,
    cables: &'static str,
    seconds: u64,
    client: &mut Unit,
    folder: &Path,
) -> anyhow::Result<Cpu> {
    let mut pair = start(program, &CASES[0], client, folder)?;
    let before = stats(&mut pair)?;
    std::thread::sleep(Duration::from_secs(seconds));
    let after = stats(&mut pair)?;
    let mut worst: Option<Cpu> = None;
    for (before, after) in before.iter().zip(&after) {
        let time_ns = (after.now_us - before.now_us) as f64 * 1e3;
        let percent = |used: u64| used as f64 / time_ns * 100.0;
        let cpu = Cpu {
            cables,
            percent: percent(after.cpu_ns - before.cpu_ns),
            heartbeat_percent: percent(after.heartbeat_ns - before.heartbeat_ns),
            seconds: time_ns / 1e9,
            heard: after.heard - before.heard,
        };
        if worst.is_none_or(|worst| cpu.percent > worst.percent) {
            worst = Some(cpu);
        }
    }
    worst.context("two units")
}

/// Loads the machine with processes, disk and memory for `seconds` while a pair stands.
pub fn stress(seconds: u64, client: &mut Unit, folder: &Path) -> anyhow::Result<Stress> {
    let mut pair = start(Program::Twinpost, &CASES[0], client, folder)?;
    for unit in &mut pair.units {
        unit.drain();
    }
    let load = Load::start(seconds, folder)?;
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(500));
    }
    load.end()?;
    let late_us = stats(&mut pair)?.map(|stats| stats.late_us);
    let changes = |unit: &mut Unit| unit.drain().iter().filter(|line| line.starts_with("mode ")).count();
    Ok(Stress {
        late_ms: late_us[0].max(late_us[1]) as f64 / 1e3,
        false_failovers: pair.units.iter_mut().map(changes).sum(),
        seconds,
    })
}

fn stats(pair: &mut Pair) -> anyhow::Result<[Stats; 2]> {
    let mut both = [Stats::default(); 2];
    for (unit, stats) in pair.units.iter_mut().zip(&mut both) {
        unit.order("tell stats")?;
        *stats = serde_json::from_str(&unit.expect("stats ", Duration::from_secs(10))?)?;
    }
    Ok(both)
}

/// stress-ng: two hogs a core, four writers that sync, four that write files, half of the free memory in use.
struct Load(Child);

impl Load {
    fn start(seconds: u64, folder: &Path) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let child = Command::new("stress-ng")
            .args(["--quiet", "--timeout", &format!("{}", seconds + 60)])
            .args(["--cpu", &format!("{}", cores * 2)])
            .args(["--io", "4", "--hdd", "4", "--hdd-bytes", "256m"])
            .args(["--vm", "2", "--vm-bytes", "50%"])
            .arg("--temp-path")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run stress-ng")?;
        Ok(Self(child))
    }

    /// Ends the load; it must have lasted until now.
    fn end(mut self) -> anyhow::Result<()> {
        ensure!(self.0.try_wait()?.is_none(), "stress-ng ended by itself");
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It takes its workers along on this signal only.
            let _gone_already = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _reaped = self.0.wait();
    }
}
