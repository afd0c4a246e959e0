//! Kernel modules in the order of their dependencies, as `modules.dep` of kmod tells them (modules.dep(5)): one line a
//! module, `path: path path …`, dependencies complete, the one to load first last. Compressed modules are not read.
//!
//! Drivers of PCI cards that the box does not have are left out, by the tables of modules.alias(5): a generic board names far more
//! than one box has, and each costs time at every boot. Cards that are plugged in later are not noticed.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};
use twinpost_board::pattern_fits;

/// Why a module was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// Not in the image.
    #[error("module {name} is not in the image")]
    Unknown {
        /// Module.
        name: String,
    },
    /// `modules.dep` is not readable.
    #[error("cannot read {}", path.display())]
    List {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused it.
    #[error("cannot load {path}")]
    Load {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Where the kernel tells what the PCI devices are.
const PCI_DEVICES: &str = "/sys/bus/pci/devices";
/// How names of PCI devices begin in `modules.alias` and in `modalias` files.
const PCI: &str = "pci:";

/// The modules of the running kernel.
#[derive(Debug, Default)]
pub struct Modules {
    folder: PathBuf,
    /// Normalised name → (path, dependencies as listed).
    entries: HashMap<String, (String, Vec<String>)>,
    /// Normalised names of what is built into the kernel.
    built_in: HashSet<String>,
    /// Normalised name of a driver for PCI cards and nothing else → patterns of the cards.
    cards: HashMap<String, Vec<String>>,
    /// The PCI devices of the box.
    devices: Vec<String>,
}

impl Modules {
    /// Reads `/lib/modules/<release>/modules.dep`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_running_kernel() -> Result<Self, ModuleError> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let folder = Path::new("/lib/modules").join(release);
        let path = folder.join("modules.dep");
        let text = std::fs::read_to_string(&path).map_err(|source| ModuleError::List { path, source })?;
        // Without these tables every module is loaded that is asked for.
        let table = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        Ok(Self {
            entries: parse(&text),
            built_in: table("modules.builtin").lines().map(normalise).collect(),
            cards: cards(&table("modules.alias")),
            devices: devices(),
            folder,
        })
    }

    /// Loads a module after its dependencies. What is loaded already, or built in, is fine, and so is a driver of cards that
    /// the box does not have: it is not loaded. `parameters` go to the module itself.
    ///
    /// # Errors
    /// The first one that the kernel refuses, or that the image lacks.
    pub fn load(&self, name: &str, parameters: &str) -> Result<(), ModuleError> {
        let key = normalise(name);
        if self.built_in.contains(&key) || !self.has_card(&key) {
            return Ok(());
        }
        let order = order(&self.entries, name).ok_or(ModuleError::Unknown { name: name.to_owned() })?;
        for (index, path) in order.iter().enumerate() {
            let own = if index + 1 == order.len() { parameters } else { "" };
            insert(&self.folder.join(path), own)
                .map_err(|source| ModuleError::Load { path: path.clone(), source })?;
        }
        Ok(())
    }

    /// False only for drivers of PCI cards of which the box has none.
    fn has_card(&self, key: &str) -> bool {
        let fits = |pattern: &String| self.devices.iter().any(|device| pattern_fits(pattern, device));
        self.cards.get(key).is_none_or(|patterns| patterns.iter().any(fits))
    }
}

/// Patterns of the drivers that have patterns of PCI cards only, by the lines `alias <pattern> <module>`.
fn cards(text: &str) -> HashMap<String, Vec<String>> {
    let mut cards: HashMap<String, Vec<String>> = HashMap::new();
    let mut others = HashSet::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (Some(pattern), Some(module)) = (words.next(), words.next()) else { continue };
        if pattern.starts_with(PCI) {
            cards.entry(normalise(module)).or_default().push(pattern.to_owned());
        } else {
            others.insert(normalise(module));
        }
    }
    cards.retain(|module, _| !others.contains(module));
    cards
}

fn devices() -> Vec<String> {
    let folder = std::fs::read_dir(PCI_DEVICES);
    let names = folder.into_iter().flatten().filter_map(|entry| {
        let text = std::fs::read_to_string(entry.ok()?.path().join("modalias")).ok()?;
        Some(text.trim().to_owned())
    });
    names.collect()
}

fn insert(path: &Path, parameters: &str) -> io::Result<()> {
    let file = std::fs::File::open(path)?;
    let parameters = CString::new(parameters)?;
    match rustix::system::finit_module(&file, &parameters, 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn parse(text: &str) -> HashMap<String, (String, Vec<String>)> {
    text.lines()
        .filter_map(|line| {
            let (path, dependencies) = line.split_once(':')?;
            let dependencies = dependencies.split_ascii_whitespace().map(str::to_owned).collect();
            Some((normalise(path), (path.trim().to_owned(), dependencies)))
        })
        .collect()
}

/// Files to load in order, the module last; `None` if it is not listed.
fn order(entries: &HashMap<String, (String, Vec<String>)>, name: &str) -> Option<Vec<String>> {
    let (path, dependencies) = entries.get(&normalise(name))?;
    Some(dependencies.iter().rev().chain([path]).cloned().collect())
}

/// The module's name: file name without `.ko`, `-` as `_`.
fn normalise(path: &str) -> String {
    let file = path.trim().rsplit('/').next().unwrap_or("");
    file.strip_suffix(".ko").unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/drivers/md/dm-verity.ko: kernel/drivers/md/dm-bufio.ko kernel/drivers/md/dm-mod.ko\n\
                       kernel/drivers/md/dm-bufio.ko: kernel/drivers/md/dm-mod.ko\n\
                       kernel/drivers/md/dm-mod.ko:\n\n garbage without colon\n";

    #[test]
    fn dependencies_come_first_in_reverse_order_of_the_list() {
        let entries = parse(DEP);
        assert_eq!(
            order(&entries, "dm_verity").expect("listed"),
            [
                "kernel/drivers/md/dm-mod.ko",
                "kernel/drivers/md/dm-bufio.ko",
                "kernel/drivers/md/dm-verity.ko"
            ]
        );
        assert_eq!(order(&entries, "dm-mod").expect("listed").len(), 1);
        assert!(order(&entries, "drbd").is_none());
    }

    #[test]
    fn only_drivers_of_cards_that_are_not_there_are_left_out() {
        let alias = "# comment\nalias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\nalias pci:v*d*sv*sd*bc01sc06i01* ahci\n\
                     alias pci:v00001AF4d*sv*sd*bc*sc*i* both\nalias acpi*:X:* both\nalias virtio:d00000001v* virtio-net\n";
        let device = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01";
        let modules = Modules { cards: cards(alias), devices: vec![device.to_owned()], ..Modules::default() };
        let left_out: Vec<_> = ["e1000e", "ahci", "both", "virtio_net", "drbd"]
            .into_iter()
            .filter(|name| !modules.has_card(name))
            .collect();
        assert_eq!(left_out, ["e1000e"]);
        assert!(modules.load("e1000e", "").is_ok(), "nothing to do");
        assert!(matches!(modules.load("ahci", ""), Err(ModuleError::Unknown { .. })));
    }

    #[test]
    fn what_is_built_in_needs_nothing() {
        let built_in = ["kernel/drivers/input/keyboard/atkbd.ko"].map(normalise).into();
        let modules = Modules { built_in, ..Modules::default() };
        assert!(modules.load("atkbd", "").is_ok() && modules.load("i8042", "").is_err());
    }
}
