//! The part of the root file system that comes from packages: unpacked, filtered, completed by the recipe.
//!
//! No maintainer script is run: the recipe does what they would do (spec appliance.md, section 1). Our own programs and
//! the overlay are added by `rootfs`, because they change more often.

use super::lock::Package;
use super::modules::{self, Modules};
use super::recipe::Recipe;
use super::store::Store;
use super::tree::{Node, Tree};
use anyhow::{Context, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the kernel lies in the base tree; it is moved into the boot slots.
pub const KERNEL: &str = "boot/vmlinuz";

/// Unpacks all packages and completes them.
pub fn build(root: &Path, recipe: &Recipe, packages: &[Package], store: &Store) -> anyhow::Result<Tree> {
    let mut tree = Tree::default();
    for package in packages {
        unpack(&mut tree, package, store, |path| !recipe.files.drops(path))?;
    }
    rename_kernel(&mut tree)?;
    ca_bundle(&mut tree)?;
    kernel_modules(root, recipe, &mut tree)?;
    for path in &recipe.tree.dirs {
        tree.dir(path, 0o755);
    }
    for (path, target) in &recipe.tree.links {
        tree.link(path, target);
    }
    busybox_links(&mut tree)?;
    tree.prune(&recipe.tree.dirs);
    Ok(tree)
}

/// Sets owners and modes that the recipe names; every path must exist.
pub fn permissions(recipe: &Recipe, tree: &mut Tree) -> anyhow::Result<()> {
    for permission in &recipe.permissions {
        let entry = tree.get_mut(&permission.path).with_context(|| {
            format!("the recipe sets permissions of {}, which is not there", permission.path)
        })?;
        (entry.uid, entry.gid, entry.mode) = (permission.uid, permission.gid, permission.mode);
    }
    Ok(())
}

/// Adds the files of one package that `wanted` accepts.
pub fn unpack(
    tree: &mut Tree,
    package: &Package,
    store: &Store,
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    let file = store.file(package)?;
    let mut child = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting dpkg-deb")?;
    let stream = child.stdout.take().expect("stdout was asked for as a pipe");
    let result = tree.unpack(std::io::BufReader::new(stream), wanted);
    let status = child.wait()?;
    result.with_context(|| format!("unpacking {} {}", package.name, package.version))?;
    if !status.success() {
        bail!("unpacking {} {}: dpkg-deb ended with {status}", package.name, package.version);
    }
    Ok(())
}

fn rename_kernel(tree: &mut Tree) -> anyhow::Result<()> {
    let kernels: Vec<String> = tree
        .iter()
        .map(|(path, _)| path.to_owned())
        .filter(|path| path.starts_with("boot/vmlinuz-"))
        .collect();
    let [kernel] = kernels.as_slice() else {
        bail!("expected one kernel among the packages, found {kernels:?}")
    };
    let entry = tree.remove(kernel).context("it was listed above")?;
    tree.insert(KERNEL, entry);
    Ok(())
}

/// All certificates of ca-certificates in one file, sorted by name.
fn ca_bundle(tree: &mut Tree) -> anyhow::Result<()> {
    let certificates: Vec<String> = tree
        .iter()
        .map(|(path, _)| path.to_owned())
        .filter(|path| path.starts_with("usr/share/ca-certificates/"))
        .collect();
    let mut bundle = vec![];
    for path in certificates {
        if let Some(Node::File(contents)) = tree.remove(&path).map(|entry| entry.node)
            && path.ends_with(".crt")
        {
            bundle.extend_from_slice(&contents);
            bundle.push(b'\n');
        }
    }
    if bundle.is_empty() {
        bail!("ca-certificates brought no certificates");
    }
    tree.file("etc/ssl/certs/ca-certificates.crt", 0o644, bundle);
    Ok(())
}

fn kernel_modules(root: &Path, recipe: &Recipe, tree: &mut Tree) -> anyhow::Result<()> {
    let modules = Modules::read(tree)?;
    let mut names = recipe.modules.root.clone();
    names.extend(recipe.modules.initrd.iter().cloned());
    let boards = modules::of_boards(root)?;
    names.extend(boards.initrd.into_iter().chain(boards.root));
    let keep = modules.closure(&names)?;
    modules::reduce(tree, &modules, &keep)
}

/// Applets that must not answer for what init, the supervisor or nobody does.
const NOT_LINKED: [&str; 12] = [
    "init", "linuxrc", "halt", "poweroff", "reboot", "login", "su", "passwd", "adduser", "deluser",
    "busybox", "modprobe",
];

/// Links of busybox's applets, where no real tool of that name is.
fn busybox_links(tree: &mut Tree) -> anyhow::Result<()> {
    let program = "usr/bin/busybox";
    let Some(Node::File(contents)) = tree.get(program).map(|entry| &entry.node) else {
        bail!("busybox-static brought no {program}");
    };
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("busybox");
    super::write_program(&file, contents)?;
    let output = Command::new(&file).arg("--list-full").output().context("starting the image's busybox")?;
    if !output.status.success() {
        bail!("busybox --list-full ended with {}", output.status);
    }
    let real: Vec<String> = tree.iter().map(|(path, _)| path.to_owned()).collect();
    let is_real = |name: &str| {
        ["usr/bin", "usr/sbin"].iter().any(|dir| real.binary_search(&format!("{dir}/{name}")).is_ok())
    };
    for applet in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((dir, name)) = applet.rsplit_once('/') else { continue };
        if NOT_LINKED.contains(&name) || is_real(name) {
            continue;
        }
        let dir = if dir.ends_with("sbin") { "usr/sbin" } else { "usr/bin" };
        tree.link(&format!("{dir}/{name}"), "/usr/bin/busybox");
    }
    Ok(())
}
