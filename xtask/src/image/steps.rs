//! The steps of an image build in their order, each kept under a key of its inputs.

use super::firmware::Programs;
use super::grub::Grub;
use super::lock::Lock;
use super::progress::Step;
use super::recipe::Recipe;
use super::slot::SlotSettings;
use super::store::{Selection, Store};
use super::tree::{Node, Tree};
use super::{BuiltImage, Options};
use super::{base, disk, elf, firmware, grub, hex, initrd, rootfs, sbom, slot, unhex};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The builder's own sources: another builder makes another image.
const BUILDER: [&str; 12] = [
    include_str!("base.rs"),
    include_str!("disk.rs"),
    include_str!("elf.rs"),
    include_str!("grub.rs"),
    include_str!("initrd.rs"),
    include_str!("modules.rs"),
    include_str!("recipe.rs"),
    include_str!("rootfs.rs"),
    include_str!("slot.rs"),
    include_str!("steps.rs"),
    include_str!("tree.rs"),
    include_str!("verity.rs"),
];

/// What the manifest tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Manifest {
    product: String,
    version: String,
    image: String,
    /// Key of all inputs; the same key means that nothing has to be built.
    inputs: String,
    kernel: String,
    roothash: String,
    hashoffset: u64,
    payload: Payload,
    /// Compressed for speed: not for release.
    fast: bool,
    /// Our programs were given, not built: not for release.
    foreign_programs: bool,
    /// Packages that are not the locked ones.
    unlocked: Vec<String>,
}

/// Bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Payload {
    kernel: u64,
    initrd: u64,
    root: u64,
    total: u64,
}

impl Payload {
    /// Sizes in bytes.
    fn of(kernel: usize, initrd: usize, root: u64) -> Self {
        let (kernel, initrd) = (kernel as u64, initrd as u64);
        Self { kernel, initrd, root, total: kernel + initrd + root }
    }
}

/// Runs all steps whose inputs changed.
pub fn run(options: &Options) -> anyhow::Result<BuiltImage> {
    let work = Work::open(options)?;
    let programs = match &options.programs {
        Some(dir) => firmware::read(dir)?,
        None => {
            let _step = Step::new("building the firmware");
            firmware::build(&options.root, &options.root.join("target/image/firmware"), options.locked)?
        }
    };
    let (built, inputs) = (work.results(), work.key(&programs)?);
    if let Some(manifest) = work.current(&built, &inputs) {
        tell_unlocked(&manifest.unlocked);
        return Ok(built);
    }
    let selection = work.store.fetch(&work.lock, &work.recipe, &options.out.join("apt"), options.locked)?;
    tell_unlocked(&selection.unlocked);
    let base = work.base(&selection)?;
    let grub = work.grub(&selection)?;
    let initrd = initrd::build(&options.root, &work.recipe, &base, &programs.init)?;
    let (root, roothash, hashoffset) = work.root(&base, &programs)?;
    let Some(Node::File(kernel)) = base.get(base::KERNEL).map(|entry| &entry.node) else {
        anyhow::bail!("the base has no kernel");
    };
    let settings = SlotSettings {
        version: work.version.clone(),
        cmdline: work.recipe.boot.cmdline.clone(),
        roothash: roothash.clone(),
        salt: work.recipe.verity.salt.clone(),
        hashoffset,
    };
    let mtime = work.recipe.source_date_epoch;
    {
        let _step = Step::new("writing the disk image");
        let contents = disk::Contents {
            grub: &grub,
            boot_state: &slot::boot_state(mtime)?,
            boot_slot: &slot::boot_slot(&settings, kernel, &initrd, mtime)?,
            root: &root,
        };
        disk::write(&built.image, &work.recipe.disk, &contents)?;
        std::fs::write(
            &built.sbom,
            sbom::make(&options.root, &selection.lock, &work.version, options.locked)?,
        )?;
    }
    let payload = Payload::of(kernel.len(), initrd.len(), std::fs::metadata(&root)?.len());
    let kernel_name = selection.lock.image.iter().find(|package| package.name.starts_with("linux-image-"));
    work.manifest(
        &built,
        Manifest {
            product: "twinpost".to_owned(),
            version: work.version.clone(),
            image: built.image.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            inputs,
            kernel: kernel_name
                .map(|package| format!("{} {}", package.name, package.version))
                .unwrap_or_default(),
            roothash,
            hashoffset,
            payload,
            fast: options.fast,
            foreign_programs: options.programs.is_some(),
            unlocked: selection.unlocked,
        },
    )?;
    Ok(built)
}

fn tell_unlocked(lines: &[String]) {
    for line in lines {
        eprintln!("  NOT LOCKED, the sources serve another version: {line}");
    }
}

/// Inputs and folders of a build.
struct Work<'a> {
    options: &'a Options,
    recipe: Recipe,
    lock: Lock,
    store: Store,
    cache: PathBuf,
    version: String,
}

impl<'a> Work<'a> {
    fn open(options: &'a Options) -> anyhow::Result<Self> {
        let cache = options.out.join("cache");
        std::fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
        let path = options.root.join("image/packages.lock");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}; `cargo xtask lock` makes it", path.display()))?;
        let lock = Lock::parse(&text).with_context(|| format!("in {}", path.display()))?;
        Ok(Self {
            options,
            recipe: Recipe::read(&options.root)?,
            lock,
            store: Store::of_user()?,
            cache,
            version: version(&options.root)?,
        })
    }

    fn results(&self) -> BuiltImage {
        let name = |end: &str| self.options.out.join(format!("twinpost-{}{end}", self.version));
        BuiltImage { image: name(".img"), manifest: name(".manifest.json"), sbom: name(".cdx.json") }
    }

    /// Hash of everything that the image is made of.
    fn key(&self, programs: &Programs) -> anyhow::Result<String> {
        let mut key = self.base_key(&self.lock)?;
        for bytes in [&programs.init, &programs.had, &programs.twinpostctl] {
            key.add(bytes);
        }
        let mut overlay = vec![];
        files(&self.options.root.join("image"), &mut overlay)?;
        overlay.push(self.options.root.join("Cargo.lock"));
        for path in overlay {
            key.add(path.strip_prefix(&self.options.root)?.to_string_lossy().as_bytes());
            key.add(&std::fs::read(&path)?);
        }
        key.add(&[u8::from(self.options.fast), u8::from(self.options.programs.is_some())]);
        Ok(key.text())
    }

    /// Hash of what the base is made of.
    fn base_key(&self, lock: &Lock) -> anyhow::Result<Key> {
        let mut key = Key(Sha256::new());
        BUILDER.iter().for_each(|source| key.add(source.as_bytes()));
        key.add(lock.to_string().as_bytes());
        key.add(&std::fs::read(self.options.root.join("image/recipe.toml"))?);
        key.add(format!("{:?}", super::modules::of_boards(&self.options.root)?).as_bytes());
        Ok(key)
    }

    /// The manifest of the last build, if its results are made of the same inputs.
    fn current(&self, built: &BuiltImage, inputs: &str) -> Option<Manifest> {
        let text = std::fs::read(&built.manifest).ok()?;
        let manifest: Manifest = serde_json::from_slice(&text).ok()?;
        let same = manifest.inputs == inputs
            && (manifest.unlocked.is_empty() || !self.options.locked)
            && built.image.exists()
            && built.sbom.exists();
        same.then_some(manifest)
    }

    fn base(&self, selection: &Selection) -> anyhow::Result<Tree> {
        let mut key = self.base_key(&selection.lock)?;
        key.add(b"base");
        let file = self.cached("base", key, |file| {
            let _step = Step::new("unpacking packages");
            let tree = base::build(&self.options.root, &self.recipe, &selection.lock.image, &self.store)?;
            for library in elf::unused(&tree) {
                eprintln!("  note: nothing needs {library}");
            }
            tree.write_tar(
                std::io::BufWriter::new(std::fs::File::create(file)?),
                self.recipe.source_date_epoch,
            )
        })?;
        let mut tree = Tree::default();
        tree.unpack(std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(file)?), |_| true)?;
        Ok(tree)
    }

    fn grub(&self, selection: &Selection) -> anyhow::Result<Grub> {
        let mut key = self.base_key(&Lock { image: vec![], build: selection.lock.build.clone() })?;
        key.add(&std::fs::read(self.options.root.join("image/grub/grub.cfg"))?);
        let file = self.cached("grub", key, |file| {
            let _step = Step::new("making GRUB's images");
            let grub = grub::build(&self.options.root, &self.recipe, &selection.lock.build, &self.store)?;
            let mtime = self.recipe.source_date_epoch;
            let parts: [(&str, &[u8]); 3] =
                [("boot.img", &grub.boot_img), ("core.img", &grub.core_img), ("bootx64.efi", &grub.efi)];
            Ok(std::fs::write(file, slot::ustar(&parts, mtime)?)?)
        })?;
        let mut tree = Tree::default();
        tree.unpack(std::fs::File::open(file)?, |_| true)?;
        let part = |name: &str| match tree.get(name).map(|entry| &entry.node) {
            Some(Node::File(contents)) => Ok(contents.clone()),
            _ => anyhow::bail!("the kept GRUB lacks {name}; remove {}", self.cache.display()),
        };
        Ok(Grub { boot_img: part("boot.img")?, core_img: part("core.img")?, efi: part("bootx64.efi")? })
    }

    /// The sealed root file system, its root hash and the offset of its hash tree.
    fn root(&self, base: &Tree, programs: &Programs) -> anyhow::Result<(PathBuf, String, u64)> {
        let tree = rootfs::complete(&self.options.root, &self.recipe, base, programs, &self.version)?;
        let mut stream = HashStream(Sha256::new());
        tree.write_tar(&mut stream, self.recipe.source_date_epoch)?;
        let mut key = Key(stream.0);
        let level = if self.options.fast { self.recipe.squash.fast_level } else { self.recipe.squash.level };
        key.add(format!("{level} {} {}", self.recipe.squash.block, self.recipe.verity.salt).as_bytes());
        key.add(mksquashfs_version()?.as_bytes());
        key.add(include_str!("rootfs.rs").as_bytes());
        key.add(include_str!("verity.rs").as_bytes());
        let mtime = self.recipe.source_date_epoch;
        let file = self.cached("root", key, |file| {
            let _step = Step::new("packing the root file system");
            rootfs::squash(&tree, file, level, self.recipe.squash.block, mtime)?;
            let (roothash, hashoffset) = rootfs::seal(file, &unhex(&self.recipe.verity.salt)?)?;
            Ok(std::fs::write(sidecar(file), format!("{} {hashoffset}\n", hex(&roothash)))?)
        })?;
        let text = std::fs::read_to_string(sidecar(&file))?;
        let (roothash, hashoffset) = text.trim().split_once(' ').context("a kept root hash is unreadable")?;
        Ok((file.clone(), roothash.to_owned(), hashoffset.parse()?))
    }

    /// The file that `make` once made for this key. Older files of the same name are removed.
    fn cached(
        &self,
        name: &str,
        key: Key,
        make: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        let stem = format!("{name}-{}", key.text());
        let path = self.cache.join(&stem);
        if path.exists() {
            return Ok(path);
        }
        let prefix = format!("{name}-");
        for old in std::fs::read_dir(&self.cache)? {
            let old = old?;
            if old.file_name().to_string_lossy().starts_with(&prefix) {
                std::fs::remove_file(old.path())?;
            }
        }
        let scratch = self.cache.join(format!("new-{stem}"));
        make(&scratch)?;
        if sidecar(&scratch).exists() {
            std::fs::rename(sidecar(&scratch), sidecar(&path))?;
        }
        std::fs::rename(&scratch, &path)?;
        Ok(path)
    }

    fn manifest(&self, built: &BuiltImage, manifest: Manifest) -> anyhow::Result<()> {
        let payload = &manifest.payload;
        eprintln!(
            "  payload {:.1} MB: kernel {:.1}, initrd {:.1}, root {:.1}",
            payload.total as f64 / 1e6,
            payload.kernel as f64 / 1e6,
            payload.initrd as f64 / 1e6,
            payload.root as f64 / 1e6
        );
        Ok(std::fs::write(&built.manifest, serde_json::to_string_pretty(&manifest)? + "\n")?)
    }
}

/// A hash of inputs; every part is preceded by its length, so that parts cannot run into each other.
struct Key(Sha256);

impl Key {
    fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn text(self) -> String {
        hex(&self.0.finalize()[..16])
    }
}

struct HashStream(Sha256);

impl std::io::Write for HashStream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn sidecar(file: &Path) -> PathBuf {
    file.with_extension("hash")
}

/// All files below a folder, sorted.
fn files(dir: &Path, into: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let mut items: Vec<PathBuf> =
        std::fs::read_dir(dir)?.map(|item| Ok(item?.path())).collect::<anyhow::Result<_>>()?;
    items.sort();
    for item in items {
        if item.is_dir() {
            files(&item, into)?;
        } else {
            into.push(item);
        }
    }
    Ok(())
}

/// The workspace's version.
fn version(root: &Path) -> anyhow::Result<String> {
    let text =
        std::fs::read_to_string(root.join("Cargo.toml")).context("reading the workspace's Cargo.toml")?;
    let manifest: toml::Table = toml::from_str(&text)?;
    let version = manifest.get("workspace").and_then(|value| value.get("package")?.get("version")?.as_str());
    Ok(version.context("Cargo.toml has no workspace.package.version")?.to_owned())
}

/// The first line of `mksquashfs -version`: another program may pack otherwise.
fn mksquashfs_version() -> anyhow::Result<String> {
    let output =
        std::process::Command::new("mksquashfs").arg("-version").output().context("starting mksquashfs")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}
