//! Kernel modules in the order of their dependencies, as `modules.dep` of kmod tells them (modules.dep(5)): one line a
//! module, `path: path path …`, dependencies complete, the one to load first last. Compressed modules are not read.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

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

/// The modules of the running kernel.
#[derive(Debug, Default)]
pub struct Modules {
    folder: PathBuf,
    /// Normalised name → (path, dependencies as listed).
    entries: HashMap<String, (String, Vec<String>)>,
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
        Ok(Self { folder, entries: parse(&text) })
    }

    /// Loads a module after its dependencies. What is loaded already, or built in, is fine. `parameters` go to the
    /// module itself.
    ///
    /// # Errors
    /// The first one that the kernel refuses, or that the image lacks.
    pub fn load(&self, name: &str, parameters: &str) -> Result<(), ModuleError> {
        let order = order(&self.entries, name).ok_or(ModuleError::Unknown { name: name.to_owned() })?;
        for (index, path) in order.iter().enumerate() {
            let own = if index + 1 == order.len() { parameters } else { "" };
            insert(&self.folder.join(path), own)
                .map_err(|source| ModuleError::Load { path: path.clone(), source })?;
        }
        Ok(())
    }
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
}
