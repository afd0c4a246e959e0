//! Kernel modules: which ones are shipped, and `modules.dep` and `modules.alias` for them in kmod's formats.
//!
//! Dependencies come from the `.modinfo` sections. Unlike depmod, a module's `softdep pre:` is listed as a dependency
//! behind the real ones (they are loaded from right to left), because no user-space helper answers the kernel's requests.

use super::tree::{Node, Tree};
use anyhow::{Context, bail};
use object::{Object, ObjectSection};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a module says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Module {
    /// Path below `usr/lib/modules/<version>/`.
    pub path: String,
    /// Names of modules that must be there before.
    pub depends: Vec<String>,
    /// Names or aliases that should be there before.
    pub soft: Vec<String>,
    /// Aliases of devices and functions.
    pub aliases: Vec<String>,
}

/// The modules of one kernel by name (with `_`).
#[derive(Debug, Clone, Default)]
pub struct Modules {
    /// The kernel's version.
    pub version: String,
    modules: BTreeMap<String, Module>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Reads all modules of a tree with one kernel.
    pub fn read(tree: &Tree) -> anyhow::Result<Self> {
        let version = tree
            .iter()
            .find_map(|(path, _)| path.strip_prefix("usr/lib/modules/")?.split('/').next().map(str::to_owned))
            .context("no kernel modules among the packages")?;
        let prefix = format!("usr/lib/modules/{version}/");
        let mut this = Self { version, ..Self::default() };
        for (path, contents) in tree.files() {
            let Some(path) = path.strip_prefix(&prefix) else { continue };
            if path == "modules.builtin" {
                this.builtin = String::from_utf8_lossy(contents).lines().map(name_of).collect();
            } else if path.ends_with(".ko") {
                let module = parse(path, contents).with_context(|| format!("reading module {path}"))?;
                this.modules.insert(name_of(path), module);
            }
        }
        Ok(this)
    }

    /// The modules given and all they depend on. A name that is built into the kernel needs nothing; an unknown one is an error.
    pub fn closure(&self, names: &[String]) -> anyhow::Result<BTreeSet<String>> {
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for name in names {
            let name = normal(name);
            if self.modules.contains_key(&name) {
                wanted.extend(self.load_order(&name)?);
            } else if !self.builtin.contains(&name) {
                bail!("kernel {} has no module {name}, neither loadable nor built in", self.version);
            }
        }
        Ok(wanted)
    }

    /// Path below the modules folder.
    pub fn path(&self, name: &str) -> Option<&str> {
        self.modules.get(name).map(|module| module.path.as_str())
    }

    /// `modules.dep` for a set of modules.
    pub fn dep(&self, names: &BTreeSet<String>) -> anyhow::Result<String> {
        let mut text = String::new();
        for name in names {
            let mut order = self.load_order(name)?;
            order.pop();
            order.reverse();
            let paths: Vec<&str> = order.iter().filter_map(|name| self.path(name)).collect();
            let path = self.path(name).context("a module of the set exists")?;
            let gap = if paths.is_empty() { "" } else { " " };
            text.push_str(&format!("{path}:{gap}{}\n", paths.join(" ")));
        }
        Ok(text)
    }

    /// `modules.alias` for a set of modules.
    pub fn alias(&self, names: &BTreeSet<String>) -> String {
        let mut text = String::new();
        for name in names {
            for alias in self.modules.get(name).iter().flat_map(|module| &module.aliases) {
                text.push_str(&format!("alias {alias} {name}\n"));
            }
        }
        text
    }

    /// A module with everything before it that must be loaded first.
    fn load_order(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let mut order = vec![];
        self.visit(name, &mut order, &mut BTreeSet::new())?;
        Ok(order)
    }

    fn visit(&self, name: &str, order: &mut Vec<String>, seen: &mut BTreeSet<String>) -> anyhow::Result<()> {
        if self.builtin.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let module =
            self.modules.get(name).with_context(|| format!("a module needs {name}, which is not there"))?;
        for soft in &module.soft {
            // Of several providers the generic one works on every processor.
            let provider = [soft.clone(), format!("{soft}_generic")]
                .into_iter()
                .find(|name| self.modules.contains_key(name));
            if let Some(provider) = provider {
                self.visit(&provider, order, seen)?;
            }
        }
        for dependency in &module.depends {
            self.visit(dependency, order, seen)?;
        }
        order.push(name.to_owned());
        Ok(())
    }
}

/// Removes from a tree all modules but the ones given, and adds their tables. The list of built-in ones stays.
pub fn reduce(tree: &mut Tree, modules: &Modules, keep: &BTreeSet<String>) -> anyhow::Result<()> {
    let dir = format!("usr/lib/modules/{}", modules.version);
    let kept: BTreeSet<String> =
        keep.iter().filter_map(|name| modules.path(name)).map(|path| format!("{dir}/{path}")).collect();
    let gone: Vec<String> = tree
        .iter()
        .filter(|(path, entry)| path.starts_with(&dir) && entry.node != Node::Dir && !kept.contains(*path))
        .filter(|(path, _)| !path.ends_with("/modules.builtin"))
        .map(|(path, _)| path.to_owned())
        .collect();
    for path in gone {
        tree.remove(&path);
    }
    tree.file(&format!("{dir}/modules.dep"), 0o644, modules.dep(keep)?.into_bytes());
    tree.file(&format!("{dir}/modules.alias"), 0o644, modules.alias(keep).into_bytes());
    Ok(())
}

/// Modules that the boards' `board.toml` files name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BoardModules {
    /// `disk_modules`: needed before the root is there.
    pub initrd: Vec<String>,
    /// `modules`, also those of devices.
    pub root: Vec<String>,
}

/// Reads all board files of the workspace.
pub fn of_boards(root: &Path) -> anyhow::Result<BoardModules> {
    let mut found = BoardModules::default();
    let mut files: Vec<_> = std::fs::read_dir(root.join("board"))?
        .filter_map(|dir| Some(dir.ok()?.path().join("board.toml")))
        .filter(|path| path.exists())
        .collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let table: toml::Table = toml::from_str(&text).with_context(|| format!("in {}", file.display()))?;
        collect(&table, &mut found);
    }
    Ok(found)
}

fn collect(table: &toml::Table, found: &mut BoardModules) {
    for (key, value) in table {
        let names = match key.as_str() {
            "disk_modules" => &mut found.initrd,
            "modules" => &mut found.root,
            _ => {
                let tables = value.as_array().into_iter().flatten().chain([value]);
                tables.filter_map(toml::Value::as_table).for_each(|table| collect(table, found));
                continue;
            }
        };
        let list = value.as_array().into_iter().flatten();
        names.extend(list.filter_map(|name| name.as_str().map(str::to_owned)));
    }
}

fn parse(path: &str, contents: &[u8]) -> anyhow::Result<Module> {
    let file = object::File::parse(contents)?;
    let info = file.section_by_name(".modinfo").context("no .modinfo section")?.data()?;
    let mut module = Module { path: path.to_owned(), ..Module::default() };
    for field in info.split(|byte| *byte == 0) {
        let field = String::from_utf8_lossy(field);
        match field.split_once('=') {
            Some(("depends", list)) => {
                module.depends.extend(list.split(',').filter(|name| !name.is_empty()).map(normal));
            }
            Some(("softdep", text)) => {
                let mut pre = false;
                for word in text.split_whitespace() {
                    match word {
                        "pre:" => pre = true,
                        "post:" => pre = false,
                        name if pre => module.soft.push(normal(name)),
                        _ => {}
                    }
                }
            }
            Some(("alias", alias)) => module.aliases.push(alias.to_owned()),
            _ => {}
        }
    }
    Ok(module)
}

/// `kernel/drivers/md/dm-mod.ko` → `dm_mod`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.trim_end_matches(".ko"))
}

fn normal(name: &str) -> String {
    name.trim().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Modules {
        let module = |path: &str, depends: &[&str], soft: &[&str]| {
            let strings = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
            let module = Module {
                path: path.to_owned(),
                depends: strings(depends),
                soft: strings(soft),
                aliases: vec![],
            };
            (name_of(path), module)
        };
        let modules = [
            module("fs/ext4/ext4.ko", &["mbcache", "jbd2"], &["crc32c"]),
            module("fs/jbd2/jbd2.ko", &[], &[]),
            module("fs/mbcache.ko", &[], &[]),
            module("crypto/crc32c_generic.ko", &[], &[]),
        ];
        Modules { version: "6".to_owned(), modules: modules.into(), builtin: ["af_packet".to_owned()].into() }
    }

    #[test]
    fn dependencies_are_listed_for_loading_from_the_right() {
        let set = modules().closure(&["ext4".to_owned()]).unwrap();
        assert_eq!(set.len(), 4);
        let dep = modules().dep(&["ext4".to_owned()].into()).unwrap();
        assert_eq!(dep, "fs/ext4/ext4.ko: fs/jbd2/jbd2.ko fs/mbcache.ko crypto/crc32c_generic.ko\n");
    }

    #[test]
    fn board_files_name_modules() {
        let text =
            "disk_modules = ['a']\nmodules = ['b', 'c']\n[[watchdogs]]\nmodules = ['d']\nidentity = 'x'\n";
        let mut found = BoardModules::default();
        collect(&toml::from_str(text).unwrap(), &mut found);
        assert_eq!(
            (found.initrd, found.root),
            (vec!["a".to_owned()], ["b", "c", "d"].map(str::to_owned).into())
        );
    }

    #[test]
    fn unknown_modules_are_errors_and_built_in_ones_are_not() {
        assert!(modules().closure(&["af-packet".to_owned()]).unwrap().is_empty());
        let error = modules().closure(&["zz".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("zz"), "{error}");
    }
}
