//! `cargo xtask demo`, `test`, `scenario`, `bench` and `console`: command lines in front of `ci/`. What those with units have in common is here:
//! the image, the accelerator, the folder of a run.

mod bench;
mod demo;
mod fuzz;
mod model;
mod rings;
mod scenario;
mod sim;

pub use bench::{BenchArgs, bench};
pub use demo::{DemoArgs, demo};
pub use fuzz::{FuzzArgs, fuzz};
pub use model::model;
pub use rings::{TestArgs, test};
pub use scenario::{ScenarioArgs, scenario};
pub use sim::{SimArgs, sim};

use crate::{hostdeps, image};
use anyhow::Context;
use std::path::{Path, PathBuf};
use twinpost_harness::pair::PairSettings;
use twinpost_harness::qemu::{Accelerator, choose};
use twinpost_scenario::{Firmware, MachineKind};

/// Longest folder of a run, bytes: a unix socket's path ends at 107, and `/a/port1.vm` follows.
const FOLDER_BYTES_MAX: usize = 90;

/// How units are run.
#[derive(clap::Args, Clone, Debug)]
pub struct UnitArgs {
    /// How to run the units; auto uses KVM only after a real boot under it worked
    #[arg(long, value_enum, default_value_t = AccelArg::Auto)]
    accel: AccelArg,
    /// Use this image instead of building one
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Memory of each unit, MiB
    #[arg(long, default_value_t = 768)]
    memory: u32,
    /// Processors of each unit
    #[arg(long, default_value_t = 1)]
    processors: u32,
    /// Seed of losses on links
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Values of `--accel`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccelArg {
    /// Find out
    Auto,
    /// Emulation
    Tcg,
    /// Virtualisation
    Kvm,
}

/// Everything needed to run units.
pub struct Bench {
    /// Settings of a pair; the folder is that of all runs.
    pub pair: PairSettings,
    /// How units are run.
    pub accelerator: Accelerator,
}

impl Bench {
    /// Checks the host, builds the image or finds that it is built, and chooses the accelerator.
    pub fn set_up(args: &UnitArgs) -> anyhow::Result<Self> {
        hostdeps::ensure(hostdeps::RUN)?;
        let image = match &args.image {
            Some(image) => image.clone(),
            None => image::build(&image::Options::default())?.image,
        };
        anyhow::ensure!(image.is_file(), "there is no image {}", image.display());
        let folder = runs_folder();
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let accelerator = match args.accel {
            AccelArg::Tcg => Accelerator::Tcg,
            AccelArg::Kvm => Accelerator::Kvm,
            AccelArg::Auto => choose(&image, &folder, &folder.join("accelerator")),
        };
        let pair = PairSettings {
            image,
            folder,
            firmware: Firmware::Bios,
            machines: [MachineKind::default(); 2],
            kvm: accelerator == Accelerator::Kvm,
            memory_mib: args.memory,
            processors: args.processors,
            settings: Vec::new(),
            nfs: false,
            seed: args.seed,
        };
        Ok(Self { pair, accelerator })
    }

    /// Settings of a pair in a folder of its own.
    pub fn pair_in(&self, name: &str) -> PairSettings {
        PairSettings { folder: self.pair.folder.join(name), ..self.pair.clone() }
    }
}

/// Where runs keep disks, sockets, logs and captures.
fn runs_folder() -> PathBuf {
    let own = image::workspace().join("target/run");
    if own.as_os_str().len() + "/power-cut-both-cold-start-b-first".len() <= FOLDER_BYTES_MAX {
        return own;
    }
    // Two users of one machine have folders of their own.
    let user = std::env::var("USER").unwrap_or_else(|_| "user".to_owned());
    std::env::temp_dir().join(format!("twinpost-{user}"))
}

/// Arguments of `cargo xtask console`.
#[derive(clap::Args)]
pub struct ConsoleArgs {
    /// Unit of the running demo (a or b), or the path of a console socket
    unit: String,
}

/// `cargo xtask console`.
pub fn console(args: ConsoleArgs) -> anyhow::Result<i32> {
    let path = match args.unit.as_str() {
        "a" | "b" => runs_folder().join("demo").join(&args.unit).join("console"),
        other => Path::new(other).to_owned(),
    };
    twinpost_harness::attach::attach(&path)
        .with_context(|| format!("no console at {} (is the demo running?)", path.display()))?;
    Ok(0)
}
