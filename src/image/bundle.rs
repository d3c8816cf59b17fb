//! Bundles (runtime-spec bundle.md) of stored images.
//!
//! ```text
//! DIR/
//! ├── config.json
//! ├── rootfs/            the layers, mounted as an overlay or copied
//! └── .lade/
//!     ├── bundle.json    what was made, for `unbundle`
//!     ├── runtime.json, init    of `run`: who runs it, and which process it is
//!     ├── upper/ work/   of the overlay
//!     └── volumes/N/     stand in for the image's volumes, with the image's content
//! ```

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use super::config::{self, Bind, Overrides};
use super::store::{BundleRecord, ImageRecord, Store};
use super::{copy, overlay, pull, tree, user};
use crate::error::{Doing, Error, Result};

/// What `.lade/bundle.json` says.
#[derive(Serialize, Deserialize)]
struct Note {
    /// Store that the layers are in.
    store: PathBuf,
    /// Name of the image.
    image: String,
    /// Whether `rootfs` is an overlay mount.
    mounted: bool,
    /// Whether the directory was made with the bundle.
    made: bool,
}

/// Makes a bundle of `image` in `dir`, which must be empty or not exist. With `copy` the root is
/// a plain directory; without, an overlay mount that [`remove`] unmounts.
///
/// # Errors
/// Those of the store, of the kernel and of the conversion. Nothing is left then.
pub fn create(
    store: &Store,
    image: &ImageRecord,
    dir: &Path,
    copy: bool,
    overrides: &Overrides,
) -> Result<()> {
    let _lock = store.share()?;
    let dir = std::path::absolute(dir).doing(|| format!("find {}", dir.display()))?;
    let made = prepare_directory(&dir)?;
    let bundle = Bundle { store, image, dir: &dir, made, overrides };
    let result = bundle.fill(copy).map_err(|err| err.context(format!("bundle {}", image.name)));
    if result.is_err() {
        // The first error is what matters; what cannot be removed is still noted as ours.
        let _ = bundle.undo();
    }
    result
}

struct Bundle<'a> {
    store: &'a Store,
    image: &'a ImageRecord,
    dir: &'a Path,
    made: bool,
    overrides: &'a Overrides,
}

impl Bundle<'_> {
    fn fill(&self, copy: bool) -> Result<()> {
        let bytes = self.store.blob(&self.image.config)?;
        let image = pull::parse_config(&bytes)?;
        let rootfs = self.dir.join("rootfs");
        make_directory(&self.dir.join(".lade"), 0o700)?;
        make_directory(&rootfs, 0o755)?;
        let layers = self.layers()?;
        let copy = copy || !self.prepare_overlay(&layers)?;
        self.note(!copy)?;
        match copy {
            true => layers.iter().try_for_each(|layer| {
                copy::apply(&layer.tree, &layer.unpacked.implicit, &rootfs)
            })?,
            false => self.mount(&layers, &rootfs)?,
        }
        let root = tree::open(&rootfs)?;
        let user = user::resolve(root.as_fd(), &config::user_of(&image, self.overrides))?;
        let volumes = self.volumes(&image, &rootfs)?;
        let spec = config::convert(&image, &user, &volumes, self.overrides)?;
        write_json(&self.dir.join("config.json"), &config::value(&spec)?)
    }

    fn layers(&self) -> Result<Vec<overlay::Layer>> {
        let layers = self.image.layers.iter().map(|diff_id| {
            Ok(overlay::Layer {
                tree: self.store.layer_tree(diff_id),
                unpacked: self.store.layer(diff_id)?,
            })
        });
        // Overlayfs takes a directory once only, and what a lower copy of a layer has, the
        // topmost has as well.
        let mut layers: Vec<overlay::Layer> = layers.collect::<Result<_>>()?;
        layers.drain(..lowest_seen(&layers)?);
        let mut seen = BTreeSet::new();
        layers.reverse();
        layers.retain(|layer| seen.insert(layer.tree.clone()));
        layers.reverse();
        Ok(layers)
    }

    /// Whether the layers can be stacked as they are; if so, the overlay's directories are made.
    fn prepare_overlay(&self, layers: &[overlay::Layer]) -> Result<bool> {
        let (upper, _) = overlay::directories(&self.dir.join(".lade"))?;
        overlay::prepare(layers, &upper)
    }

    fn mount(&self, layers: &[overlay::Layer], rootfs: &Path) -> Result<()> {
        let own = self.dir.join(".lade");
        if !layers.is_empty() {
            return overlay::mount(layers, &own.join("upper"), &own.join("work"), rootfs);
        }
        let tree = own.join("empty");
        make_directory(&tree, 0o755)?;
        let empty = [overlay::Layer { tree, unpacked: Default::default() }];
        overlay::mount(&empty, &own.join("upper"), &own.join("work"), rootfs)
    }

    /// Writes down what is made here before it is made, so that it can be undone.
    fn note(&self, mounted: bool) -> Result<()> {
        let note = Note {
            store: self.store.root().to_owned(),
            image: self.image.name.clone(),
            mounted,
            made: self.made,
        };
        self.store.put_bundle(&BundleRecord {
            dir: self.dir.to_owned(),
            image: self.image.name.clone(),
            layers: if mounted { self.image.layers.clone() } else { Vec::new() },
        })?;
        write_json(&note_path(self.dir), &note)
    }

    /// A directory for each volume, with what the image has at its place.
    fn volumes(&self, image: &ImageConfiguration, rootfs: &Path) -> Result<Vec<Bind>> {
        let given = |path: &PathBuf| self.overrides.mounts.iter().any(|m| m.destination == *path);
        let mut binds = Vec::new();
        for destination in config::volumes_of(image).into_iter().filter(|path| !given(path)) {
            let source = self.dir.join(".lade/volumes").join(binds.len().to_string());
            make_directory(&source, 0o755)?;
            seed(rootfs, &destination, &source)
                .map_err(|err| err.context(format!("volume {}", destination.display())))?;
            binds.push(Bind { source, destination, readonly: false });
        }
        Ok(binds)
    }

    fn undo(&self) -> Result<()> {
        if is_noted(self.dir) {
            return remove(self.dir);
        }
        clear(self.dir, self.made)
    }
}

/// The lowest layer that is not hidden wholly by one above it. Overlayfs itself heeds no mark on the
/// root of a layer.
fn lowest_seen(layers: &[overlay::Layer]) -> Result<usize> {
    for (i, layer) in layers.iter().enumerate().rev() {
        let root = tree::open(&layer.tree)?;
        if tree::is_opaque(&root, b"").doing(|| "look at the root of a layer")? {
            return Ok(i);
        }
    }
    Ok(0)
}

/// Copies what the root has at `volume`, links followed inside the root, into `target`.
fn seed(rootfs: &Path, volume: &Path, target: &Path) -> Result<()> {
    let root = tree::open(rootfs)?;
    let path = volume.as_os_str().as_encoded_bytes();
    match tree::beneath(root.as_fd(), path, tree::WALK) {
        Ok(dir) => copy::apply_directory(dir, target),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
        Err(errno) => Err(Error::sys("open the image's directory", errno)),
    }
}

/// Unmounts and removes the bundle in `dir` that [`create`] made. Other files in `dir` stay.
///
/// # Errors
/// `dir` is no such bundle; its mount is in use; the kernel's.
pub fn remove(dir: &Path) -> Result<()> {
    let dir = std::path::absolute(dir).doing(|| format!("find {}", dir.display()))?;
    let note = read_note(&dir)?;
    if note.mounted {
        overlay::unmount(&dir.join("rootfs"))?;
    }
    clear(&dir, note.made)?;
    Store::open(Some(&note.store))?.remove_bundle(&dir)
}

/// Looks for processes that have the root of the bundle in `dir` as theirs: in a mount namespace of
/// their own they do not keep it from being unmounted here. Without root only the own are seen, and
/// those only from outside of a user namespace.
///
/// # Errors
/// There is one.
pub fn check_unused(dir: &Path) -> Result<()> {
    let identity = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let Some(root) = identity(&dir.join("rootfs")) else { return Ok(()) };
    let processes = fs::read_dir("/proc").doing(|| "list /proc")?.flatten();
    let user = processes.into_iter().find(|p| identity(&p.path().join("root")) == Some(root));
    user.map_or(Ok(()), |process| {
        let (dir, pid) = (dir.display(), process.file_name());
        Err(Error::new(format!("{dir} is in use: process {} runs in it", pid.display()))
            .hint("end and delete its container first"))
    })
}

fn clear(dir: &Path, made: bool) -> Result<()> {
    // The note goes last: what a killed call leaves can be removed by the next.
    for name in ["config.json", "rootfs", ".lade/upper", ".lade/work", ".lade/volumes", ".lade"] {
        tree::remove_path(&dir.join(name))?;
    }
    if !made {
        return Ok(());
    }
    match fs::remove_dir(dir) {
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            Ok(())
        }
        other => other.doing(|| format!("remove {}", dir.display())),
    }
}

fn read_note(dir: &Path) -> Result<Note> {
    let path = note_path(dir);
    match fs::read(&path) {
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            fs::metadata(dir).doing(|| format!("open bundle {}", dir.display()))?;
            Err(Error::new(format!("{} is not a bundle made by lade", dir.display())))
        }
        Err(err) => Err(Error::io(format!("read {}", path.display()), &err)),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|err| Error::new(format!("read {}: {err}", path.display()))),
    }
}

/// Whether [`create`] came as far as to write down what it makes in `dir`.
pub fn is_noted(dir: &Path) -> bool {
    note_path(dir).exists()
}

fn note_path(dir: &Path) -> PathBuf {
    dir.join(".lade/bundle.json")
}

/// Makes the bundle's directory, or checks that it is empty; tells whether it was made.
fn prepare_directory(dir: &Path) -> Result<bool> {
    match fs::read_dir(dir) {
        Err(err) if err.kind() == ErrorKind::NotFound => {
            // Setuid programs of the image must be out of the reach of the host's users.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.doing(|| format!("make {}", dir.display())).map(|()| true)
        }
        Err(err) => Err(Error::io(format!("open {}", dir.display()), &err)),
        Ok(mut entries) => match entries.next() {
            None => Ok(false),
            Some(_) => Err(Error::new(format!("{} is not empty", dir.display()))
                .hint("`lade unbundle` removes a bundle")),
        },
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .doing(|| format!("make {}", path.display()))
}

/// Writes data as text that people can read.
///
/// # Errors
/// The kernel's, naming the file.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    // Through a value, whose members are sorted: the same image gives the same text.
    let text = serde_json::to_value(value).and_then(|v| serde_json::to_string_pretty(&v));
    let text = text.map_err(|err| Error::new(format!("write {}: {err}", path.display())))?;
    fs::write(path, text + "\n").doing(|| format!("write {}", path.display()))
}
