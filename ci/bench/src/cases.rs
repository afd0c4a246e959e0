//! What is measured: one power cut of the primary, by one program, under one case.

use crate::lan::{Cables, connect_units};
use crate::probe::Report;
use crate::scripts;
use crate::unit::Unit;
use anyhow::{Context, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

/// Most time until a pair stands.
const UP_MAX: Duration = Duration::from_secs(30);
/// Once it stands it is left alone this long, and twenty intervals more: until it knows how late heartbeats come.
const SETTLE: Duration = Duration::from_millis(500);
/// Most time until the other unit answers. Twinpost's threshold without proof is 15 s, and a probe of the virtual IP follows.
const OUTAGE_MAX: Duration = Duration::from_secs(30);

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Name on the command line.
    pub name: &'static str,
    /// Time between heartbeats and between adverts; `None` = each program's default.
    pub interval: Option<Duration>,
    /// What that is for Twinpost.
    pub own_interval: Duration,
}

/// All cases.
pub const CASES: [Case; 3] = [
    Case { name: "10ms", interval: Some(Duration::from_millis(10)), own_interval: Duration::from_millis(10) },
    Case {
        name: "100ms",
        interval: Some(Duration::from_millis(100)),
        own_interval: Duration::from_millis(100),
    },
    Case { name: "default", interval: None, own_interval: Duration::from_millis(200) },
];

/// Whose failover it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// With heartbeat cables that lose their carrier.
    TwinpostCarrier,
    /// With heartbeat links through a switch.
    Twinpost,
    /// keepalived, VRRP on the service network. Its heartbeat links lie idle.
    Keepalived,
}

impl Program {
    /// In the order of the table's columns.
    pub const ALL: [Program; 3] = [Program::TwinpostCarrier, Program::Twinpost, Program::Keepalived];
}

/// A pair that stands.
pub struct Pair {
    /// The primary and the other one.
    pub units: [Unit; 2],
}

/// One power cut.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// Time without an answer, µs.
    pub us: u64,
    /// The client's own worst lateness meanwhile, µs.
    pub client_late_us: u64,
    /// How long it took to take all links down, µs.
    pub cut_us: u64,
}

/// Starts a pair and waits until it stands.
pub fn start(program: Program, case: &Case, client: &mut Unit, folder: &Path) -> anyhow::Result<Pair> {
    let cables = if program == Program::TwinpostCarrier { Cables::Direct } else { Cables::Switched };
    let mut units = connect_units(cables)?;
    // What the client knows of the pair before is wrong now.
    client.order("ip neigh flush all")?;
    client.order("tell reset")?;
    for (index, unit) in units.iter_mut().enumerate() {
        let line = match program {
            Program::Keepalived => keepalived(index, case, folder)?,
            _ => twinpost(index, case, folder)?,
        };
        unit.order(&format!("start {line}"))?;
    }
    if program == Program::Keepalived {
        units[0].expect("stderr: ", UP_MAX).context("keepalived is silent")?;
        wait_for_keepalived(&mut units)?;
    } else {
        units[0].expect("mode PRIMARY", UP_MAX)?;
        units[0].expect("vips held", UP_MAX)?;
        units[1].expect("mode SECONDARY", UP_MAX)?;
    }
    wait_for_answers(client, UP_MAX)?;
    std::thread::sleep(SETTLE + case.own_interval * 20);
    Ok(Pair { units })
}

fn twinpost(unit: usize, case: &Case, folder: &Path) -> anyhow::Result<String> {
    let script = folder.join(format!("unit{unit}.conf"));
    std::fs::write(&script, scripts::twinpost(unit, case.interval))?;
    let log = folder.join(format!("log{unit}"));
    std::fs::create_dir_all(&log)?;
    let own = std::env::current_exe()?;
    Ok(format!("{} node {} {}", own.display(), script.display(), log.display()))
}

fn keepalived(unit: usize, case: &Case, folder: &Path) -> anyhow::Result<String> {
    let at = |name: &str| folder.join(format!("keepalived{unit}.{name}"));
    std::fs::write(at("conf"), scripts::keepalived(unit, case.interval))?;
    let [conf, pid, vrrp] = ["conf", "pid", "vrrp.pid"].map(|name| at(name).display().to_string());
    Ok(format!("keepalived --dont-fork --vrrp --log-console --use-file {conf} --pid {pid} --vrrp_pid {vrrp}"))
}

/// keepalived tells its states in its log only.
fn wait_for_keepalived(units: &mut [Unit; 2]) -> anyhow::Result<()> {
    for (unit, state) in units.iter_mut().zip(["MASTER STATE", "BACKUP STATE"]) {
        let end = Instant::now() + UP_MAX;
        loop {
            let lines = unit.drain();
            if lines.iter().any(|line| line.contains(state)) {
                break;
            }
            ensure!(Instant::now() < end, "keepalived does not enter {state}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Cuts the primary's power and waits until the other unit answers; then both are gone.
pub fn cut(mut pair: Pair, case: &Case, client: &mut Unit) -> anyhow::Result<Outage> {
    // The cut falls anywhere between two heartbeats.
    let phase = twinpost_net::rt::random_u64() % u64::try_from(case.own_interval.as_micros())?.max(1);
    std::thread::sleep(Duration::from_micros(phase));
    client.order("tell reset")?;
    std::thread::sleep(Duration::from_millis(50));
    let cut = pair.units[0].order("cut")?;
    let times: Vec<u64> = cut.split(' ').map(|word| word.parse().context("cut")).collect::<Result<_, _>>()?;
    let [begun, cut_us] = times[..] else { anyhow::bail!("a cut answered {cut}") };
    let end = Instant::now() + OUTAGE_MAX;
    loop {
        let report = report(client)?;
        // The first echo after the gap left after the cut, and answers go on.
        let over = report.gap_end_us > begun && report.last_us > report.gap_end_us + 20_000;
        if over && report.gap_us >= 3_000 {
            return Ok(Outage { us: report.gap_us, client_late_us: report.late_us, cut_us });
        }
        ensure!(
            Instant::now() < end,
            "nobody took over within {} s of the cut at {begun} µs; the client saw {report:?}; unit b said {:?}",
            OUTAGE_MAX.as_secs(),
            pair.units[1].drain()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the client saw.
pub fn report(client: &mut Unit) -> anyhow::Result<Report> {
    client.order("tell report")?;
    let line = client.expect("report ", Duration::from_secs(5))?;
    Ok(serde_json::from_str(&line)?)
}

fn wait_for_answers(client: &mut Unit, limit: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + limit;
    while report(client)?.answered < 20 {
        ensure!(Instant::now() < end, "the virtual IP does not answer within {} s", limit.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
