//! `cargo xtask bench handover`: how fast the queue of the unit that gives way reaches the primary. Both sides are the product's
//! code, between two folders over the sealed control channel on the loopback interface; Postfix and replication are not there,
//! so a pair is slower by what its drives and its links need. Fails when a message is missing, doubled or altered.

use anyhow::{Context, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use twinpost_control::{ControlKey, Greeting, Service};
use twinpost_had::control::{Control, Setup, Way};
use twinpost_mail::handover::manifest::{self, Promotion, Volume};
use twinpost_mail::handover::pass::{self, Progress, Source};
use twinpost_mail::handover::server::Server;
use twinpost_mail::handover::settle::{Deliveries, Marked};
use twinpost_mail::handover::{Channel, ChannelError, Layout};
use twinpost_types::{BootId, LinkId, UnitId};

/// Own addresses of the loser and of the primary.
const UNITS: [[u8; 4]; 2] = [[127, 77, 1, 1], [127, 77, 1, 2]];
/// The loser's copy.
const WHOLE: Source = Source::Replica { whole: true };
/// Below the ephemeral ports, and none of the product's.
const PORT: u16 = 17_901;
/// Messages a second that the issue asks for.
const GOAL: f64 = 200.0;
/// Exit code with `--strict` when the goal was missed.
const MISSED: u8 = 3;

/// Arguments of `cargo xtask bench handover`.
#[derive(clap::Args)]
pub struct HandOverArgs {
    /// Queued messages that only the loser holds
    #[arg(long, default_value_t = 10_000)]
    messages: usize,
    /// Size of each, bytes
    #[arg(long, default_value_t = 4096)]
    bytes: usize,
    /// Where both copies lie; a temporary folder otherwise
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Read the loser's copy from the drive, as after a boot: the kernel drops what it holds in memory (root)
    #[arg(long)]
    cold: bool,
    /// Exit code 3 when the goal is missed
    #[arg(long)]
    strict: bool,
}

/// Measures.
pub fn hand_over(args: &HandOverArgs) -> anyhow::Result<ExitCode> {
    ensure!((1..=100_000).contains(&args.messages), "--messages: 1 to 100000");
    ensure!((1..=10 << 20).contains(&args.bytes), "--bytes: 1 to 10485760");
    let folder = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let folder = folder.context("no scratch folder")?;
    let [loser, primary] = ["loser", "primary"].map(|name| layout(&folder.path().join(name)));
    for (copy, unit, epoch) in [(&loser, 1, 5), (&primary, 2, 6)] {
        make(copy, unit, epoch)?;
    }
    let queued = fill(&loser, args)?;
    if args.cold {
        rustix::fs::sync();
        fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop what the kernel holds in memory")?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let seconds = runtime.block_on(measure(&loser, &primary, args.messages))?;
    let arrived = read(&primary)?;
    ensure!(arrived == queued, "the primary's queue is not what the loser held");
    // The product of two numbers of people: no figure is lost that matters.
    #[allow(clippy::cast_precision_loss, reason = "at most 100000")]
    let rate = args.messages as f64 / seconds;
    let verdict = if rate >= GOAL { "met" } else { "MISSED" };
    println!(
        "{} messages of {} bytes handed over in {seconds:.2} s: {rate:.0} a second; goal {GOAL} a second: {verdict}; lost 0, doubled 0",
        args.messages, args.bytes
    );
    let missed = args.strict && rate < GOAL;
    Ok(if missed { ExitCode::from(MISSED) } else { ExitCode::SUCCESS })
}

/// One pass, timed, and a second one that has nothing left to do.
async fn measure(loser: &Layout, primary: &Layout, messages: usize) -> anyhow::Result<f64> {
    let [caller, server] = [0, 1].map(channel);
    let taker = Arc::new(Server::new(primary.clone(), 2, Box::new(NoPostfix)));
    taker.open(6);
    server.serve(Service::HandOver, move |request| {
        let taker = Arc::clone(&taker);
        async move {
            let writer = Arc::clone(&taker);
            let answer = tokio::task::spawn_blocking(move || taker.handle(&request)).await;
            tokio::task::spawn_blocking(move || writer.write_pending());
            answer.map_err(|error| error.to_string())
        }
    });
    server.start(|link, trouble| {
        if let Some(why) = trouble {
            eprintln!("the control channel is not served on {link}: {why}");
        }
    });
    let wire = Wire(caller);
    while wire.0.call(Service::Ping, Vec::new()).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let began = Instant::now();
    let counts = pass::pass(loser, WHOLE, &wire, &Progress::default()).await?;
    let seconds = began.elapsed().as_secs_f64();
    let again = pass::pass(loser, WHOLE, &wire, &Progress::default()).await?;
    let passed = [counts.queue_passed, again.queue_passed].map(usize::try_from);
    ensure!(
        passed == [Ok(messages), Ok(0)],
        "passed {} and again {}",
        counts.queue_passed,
        again.queue_passed
    );
    Ok(seconds)
}

fn channel(own: usize) -> Arc<Control> {
    let at = |unit: usize| SocketAddr::from((UNITS[unit], PORT));
    Control::new(Setup {
        key: ControlKey::new([7; 32]),
        own: Greeting { unit: UnitId(u64::from(UNITS[own][3])), boot: BootId(1) },
        ways: vec![Way { link: LinkId::ALL[0], device: None, own: at(own), peer: at(1 - own) }],
    })
}

struct Wire(Arc<Control>);

impl Channel for Wire {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        let answer = self.0.call(Service::HandOver, request).await;
        answer.map_err(|error| ChannelError(error.to_string()))
    }
}

/// Nothing is delivered here.
struct NoPostfix;

impl Deliveries for NoPostfix {
    fn hold_back(&self, work: &mut dyn FnMut() -> std::io::Result<Marked>) -> std::io::Result<Marked> {
        work()
    }

    fn local_domains(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }
}

fn layout(root: &Path) -> Layout {
    let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    Layout { postfix: own, vmail: own, ..Layout::at(&root.join("queue"), &root.join("data")) }
}

/// An empty copy that was promoted.
fn make(copy: &Layout, unit: u64, epoch: u64) -> anyhow::Result<()> {
    for queue in ["incoming", "active", "deferred", "hold", "maildrop", "bounce", "trace"] {
        fs::create_dir_all(copy.queue.join("spool").join(queue))?;
    }
    fs::create_dir_all(copy.data.join("mailboxes"))?;
    let promotion = Promotion { epoch, unit, copies_equal: true, local: false, before_s: 0 };
    for volume in [Volume::Queue, Volume::Data] {
        manifest::note(copy, volume, promotion, &AtomicBool::new(false))?;
    }
    Ok(())
}

/// Deferred messages, as Postfix hashes them: in folders by the first character of their ids.
fn fill(copy: &Layout, args: &HandOverArgs) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for number in 0..args.messages {
        let id = format!("{:X}bench{number:06}", number % 16);
        let content: Vec<u8> = id.bytes().cycle().take(args.bytes).collect();
        let folder = copy.queue.join("spool/deferred").join(&id[..1]);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(&id), &content)?;
        fs::set_permissions(folder.join(&id), fs::Permissions::from_mode(0o700))?;
        all.insert(id, content);
    }
    Ok(all)
}

fn read(copy: &Layout) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(copy.queue.join("spool/incoming"))? {
        let entry = entry?;
        all.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(all)
}
