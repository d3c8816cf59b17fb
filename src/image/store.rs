//! Where images are kept.
//!
//! ```text
//! /var/lib/lade/                  root's; others: $XDG_DATA_HOME/lade
//! ├── lock                        shared by all that add or use, exclusive for `gc`
//! ├── blobs/sha256/HEX            manifests and configs, as they were received
//! ├── images/HEX.json             HEX is the sha256 of the name: name → manifest, config, layers
//! ├── layers/sha256/HEX/          HEX is the layer's diff_id
//! │   ├── tree/                   the layer alone, as overlayfs stacks it
//! │   ├── size                    bytes of file content
//! │   └── implicit                directories that it needs but does not describe, NUL after each
//! ├── staging/HEX/ + HEX.lock     a layer being unpacked (HEX is the blob's digest); its lock is
//! │                               held as long as its writer lives
//! ├── partial/sha256-HEX          what has been received of a large blob, for resuming
//! ├── bundles/HEX.json            bundles made from here; HEX is the sha256 of their path
//! └── run/NAME/                   bundles of `lade run`
//! ```
//!
//! Everything becomes visible by one rename, so a name that exists is whole. Layers never
//! change. A power failure may lose what was written shortly before, as with other stores.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::layer::Unpacked;
use super::tree;
use crate::error::{Doing, Error, Result};

/// The store of one user.
pub struct Store {
    root: PathBuf,
}

/// A lock on the whole store; released when dropped.
pub struct Lock(#[allow(dead_code)] Flock<File>);

/// The hold of a `lade run` on its container's name; released when dropped.
pub struct RunLock {
    path: PathBuf,
    _held: Flock<File>,
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // A lock file that stays behind protects nothing and is taken by the next of the name.
        let _ = fs::remove_file(&self.path);
    }
}

/// A stored image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The name it was pulled by, with registry and tag.
    pub name: String,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digest of its config.
    pub config: Digest,
    /// diff_ids of its layers, the lowest first.
    pub layers: Vec<Digest>,
    /// Platform that it is made for.
    pub platform: String,
    /// When it was built, as its config says.
    pub created: Option<String>,
    /// When it was pulled, in seconds since 1970.
    pub pulled: u64,
    /// Bytes of file content in its layers.
    pub size: u64,
}

/// A bundle that was made from this store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BundleRecord {
    /// Its directory, absolute.
    pub dir: PathBuf,
    /// Name of its image.
    pub image: String,
    /// Layers that its root is stacked of; empty if it has a copy.
    pub layers: Vec<Digest>,
}

/// The right to unpack one blob, and the place for it.
pub struct Claim {
    lock: PathBuf,
    dir: PathBuf,
    partial: PathBuf,
    _held: Flock<File>,
}

impl Store {
    /// Opens the store at `dir`, or at the user's usual place, and makes it if it is not there.
    ///
    /// # Errors
    /// The kernel's, naming the directory.
    pub fn open(dir: Option<&Path>) -> Result<Store> {
        let root = match dir {
            Some(dir) => std::path::absolute(dir).doing(|| format!("find {}", dir.display()))?,
            None => default_place()?,
        };
        let store = Store { root };
        for dir in ["blobs", "images", "layers", "staging", "partial", "bundles", "run"] {
            make_directory(&store.root.join(dir)).map_err(elsewhere)?;
        }
        Ok(store)
    }

    /// The store's own directory, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory for the bundle of the container `name` of `lade run`.
    pub fn run_path(&self, name: &str) -> PathBuf {
        self.root.join("run").join(name)
    }

    /// Names of the containers that `lade run` has made, or was about to make, and not yet removed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run_names(&self) -> Result<Vec<String>> {
        let name = |path: PathBuf| {
            let name = path.file_name()?.to_str()?;
            let is_lock = !path.is_dir();
            if is_lock { name.strip_suffix(".lock") } else { Some(name) }.map(str::to_owned)
        };
        Ok(list(&self.root.join("run"))?.into_iter().filter_map(name).collect())
    }

    /// Holds the container `name` for its `lade run`; `None` if another does.
    ///
    /// # Errors
    /// The kernel's.
    pub fn hold_run(&self, name: &str) -> Result<Option<RunLock>> {
        let path = self.root.join("run").join(format!("{name}.lock"));
        let held = hold(&path, FlockArg::LockExclusiveNonblock)?;
        Ok(held.map(|held| RunLock { path, _held: held }))
    }

    /// Keeps `gc` away while images are added or used.
    ///
    /// # Errors
    /// The kernel's.
    pub fn share(&self) -> Result<Lock> {
        self.lock(FlockArg::LockShared)
    }

    /// Keeps everybody else away.
    ///
    /// # Errors
    /// The kernel's.
    pub fn exclusive(&self) -> Result<Lock> {
        self.lock(FlockArg::LockExclusive)
    }

    fn lock(&self, how: FlockArg) -> Result<Lock> {
        let path = self.root.join("lock");
        flock(open_lock(&path)?, how).doing(|| format!("lock {}", path.display())).map(Lock)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// The bytes of a stored manifest or config, verified.
    ///
    /// # Errors
    /// It is not there, or not what it was.
    pub fn blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let bytes = fs::read(&path).doing(|| format!("read {}", path.display()))?;
        match digest.matches(&bytes) {
            true => Ok(bytes),
            false => Err(Error::new(format!("{} is damaged", path.display()))
                .hint("remove the image, run `lade gc`, and pull it again")),
        }
    }

    /// Stores a manifest or config whose digest has been verified.
    ///
    /// # Errors
    /// The kernel's.
    pub fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.write(&self.blob_path(digest), bytes)
    }

    fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.algorithm().name()).join(diff_id.hex())
    }

    /// Whether a layer is stored.
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layer_path(diff_id).is_dir()
    }

    /// The tree of a stored layer, as overlayfs stacks it.
    pub fn layer_tree(&self, diff_id: &Digest) -> PathBuf {
        self.layer_path(diff_id).join("tree")
    }

    /// What is known of a stored layer beside its tree.
    ///
    /// # Errors
    /// The kernel's.
    pub fn layer(&self, diff_id: &Digest) -> Result<Unpacked> {
        let path = self.layer_path(diff_id);
        let doing = || format!("read layer {diff_id} in {}", path.display());
        let size = fs::read_to_string(path.join("size")).doing(doing)?;
        let implicit = fs::read(path.join("implicit")).doing(doing)?;
        let names = implicit.split_inclusive(|b| *b == 0).filter_map(|n| n.strip_suffix(b"\0"));
        Ok(Unpacked {
            size: size.trim().parse().map_err(|_| Error::new(doing()))?,
            implicit: names.map(<[u8]>::to_vec).collect(),
        })
    }

    /// Waits until nobody else unpacks the blob, then makes an empty place for it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn claim(&self, blob: &Digest) -> Result<Claim> {
        let staging = self.root.join("staging");
        let lock = staging.join(format!("{}.lock", blob.hex()));
        let held = hold(&lock, FlockArg::LockExclusive)?
            .ok_or_else(|| Error::new(format!("lock {}", lock.display())))?;
        let partial = format!("{}-{}", blob.algorithm().name(), blob.hex());
        let dir = staging.join(blob.hex());
        let partial = self.root.join("partial").join(partial);
        let claim = Claim { lock, dir, partial, _held: held };
        claim.restart()?;
        Ok(claim)
    }

    /// Makes the layer that was unpacked into the claim's tree visible. The caller has verified
    /// size and digests.
    ///
    /// # Errors
    /// The kernel's.
    pub fn commit(&self, claim: &Claim, diff_id: &Digest, layer: &Unpacked) -> Result<()> {
        let mut implicit = Vec::new();
        for name in &layer.implicit {
            implicit.extend_from_slice(name);
            implicit.push(0);
        }
        let path = self.layer_path(diff_id);
        let doing = || format!("store layer {diff_id}");
        fs::write(claim.dir.join("size"), layer.size.to_string()).doing(doing)?;
        fs::write(claim.dir.join("implicit"), implicit).doing(doing)?;
        make_directory(path.parent().unwrap_or(&self.root))?;
        match fs::rename(&claim.dir, &path) {
            // The same layer, compressed differently, was stored by another pull meanwhile.
            Err(err) if err.kind() == ErrorKind::DirectoryNotEmpty => {}
            other => other.doing(doing)?,
        }
        claim.forget_partial()
    }

    /// Removes what killed pulls have left in the staging place.
    ///
    /// # Errors
    /// The kernel's.
    pub fn clean_stale(&self) -> Result<()> {
        for path in list(&self.root.join("staging"))? {
            if path.extension().is_none_or(|e| e != "lock") {
                continue;
            }
            if let Some(_held) = hold(&path, FlockArg::LockExclusiveNonblock)? {
                tree::remove_path(&path.with_extension(""))?;
                tree::remove_path(&path)?;
            }
        }
        Ok(())
    }

    fn image_path(&self, name: &str) -> PathBuf {
        let key = Digest::of_sha256(name.as_bytes());
        self.root.join("images").join(format!("{}.json", key.hex()))
    }

    /// All images, by name.
    ///
    /// # Errors
    /// The kernel's; a record that is none.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        let paths = list(&self.root.join("images"))?;
        let mut images: Vec<ImageRecord> = paths
            .iter()
            .map(|path| read_record(path))
            .filter_map(Result::transpose)
            .collect::<Result<_>>()?;
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// The image of this name, if it is stored with all its parts.
    ///
    /// # Errors
    /// The kernel's; a record that is none.
    pub fn image(&self, name: &str) -> Result<Option<ImageRecord>> {
        read_record(&self.image_path(name))
    }

    /// Names an image whose parts are stored; the name's former image loses it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn put_image(&self, image: &ImageRecord) -> Result<()> {
        self.write_record(&self.image_path(&image.name), image)
    }

    /// Takes a name away; the image's parts stay until [`Store::collect`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_image(&self, name: &str) -> Result<()> {
        tree::remove_path(&self.image_path(name))
    }

    fn bundle_path(&self, dir: &Path) -> PathBuf {
        let key = Digest::of_sha256(dir.as_os_str().as_encoded_bytes());
        self.root.join("bundles").join(format!("{}.json", key.hex()))
    }

    /// All bundles that were made from here.
    ///
    /// # Errors
    /// The kernel's; a record that is none.
    pub fn bundles(&self) -> Result<Vec<BundleRecord>> {
        let paths = list(&self.root.join("bundles"))?;
        paths.iter().map(|path| read_record(path)).filter_map(Result::transpose).collect()
    }

    /// Keeps the layers of a bundle from being collected.
    ///
    /// # Errors
    /// The kernel's.
    pub fn put_bundle(&self, bundle: &BundleRecord) -> Result<()> {
        self.write_record(&self.bundle_path(&bundle.dir), bundle)
    }

    /// Forgets a bundle.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_bundle(&self, dir: &Path) -> Result<()> {
        tree::remove_path(&self.bundle_path(dir))
    }

    /// Removes layers and blobs that no image and no bundle needs, and what killed calls have
    /// left; returns how many layers and how many bytes of file content those were.
    ///
    /// # Errors
    /// The kernel's; a record that cannot be read, because what it needs is then unknown.
    pub fn collect(&self) -> Result<(usize, u64)> {
        let _lock = self.exclusive()?;
        self.forget_lost_bundles()?;
        let images = self.images()?;
        let bundles = self.bundles()?;
        let layers = images.iter().flat_map(|i| &i.layers);
        let layers: Vec<PathBuf> = layers
            .chain(bundles.iter().flat_map(|b| &b.layers))
            .map(|layer| self.layer_path(layer))
            .collect();
        let blobs = images.iter().flat_map(|i| [&i.manifest, &i.config]);
        let blobs: Vec<PathBuf> = blobs.map(|blob| self.blob_path(blob)).collect();
        for path in lists(&self.root.join("blobs"))?.iter().filter(|p| !blobs.contains(p)) {
            tree::remove_path(path)?;
        }
        let mut removed = (0, 0);
        for path in lists(&self.root.join("layers"))?.iter().filter(|p| !layers.contains(p)) {
            let size = fs::read_to_string(path.join("size")).unwrap_or_default();
            removed = (removed.0 + 1, removed.1 + size.parse().unwrap_or(0));
            // A layer that is only half removed must not be seen.
            let aside = self.staging_name();
            fs::rename(path, &aside).doing(|| format!("remove {}", path.display()))?;
        }
        // Nobody else is at work, so nothing in the staging place belongs to anyone.
        for path in list(&self.root.join("staging"))? {
            tree::remove_path(&path)?;
        }
        self.forget_partials()?;
        Ok(removed)
    }

    fn forget_lost_bundles(&self) -> Result<()> {
        for bundle in self.bundles()? {
            if let Err(err) = fs::symlink_metadata(&bundle.dir)
                && err.kind() == ErrorKind::NotFound
            {
                self.remove_bundle(&bundle.dir)?;
            }
        }
        Ok(())
    }

    /// For those who hold the store alone.
    fn forget_partials(&self) -> Result<()> {
        list(&self.root.join("partial"))?.iter().try_for_each(|path| tree::remove_path(path))
    }

    /// A name in the staging place that is free. Who had the same process id, as the first process
    /// of each container has, may have left something there.
    fn staging_name(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("new-{}-{number}", std::process::id());
            let path = self.root.join("staging").join(name);
            if fs::symlink_metadata(&path).is_err() {
                return path;
            }
        }
    }

    fn write_record(&self, path: &Path, record: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec_pretty(record)
            .map_err(|err| Error::new(format!("write {}: {err}", path.display())))?;
        self.write(path, &text)
    }

    /// Writes a file that is either the old or the new one at any time.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        make_directory(path.parent().unwrap_or(&self.root))?;
        let doing = || format!("write {}", path.display());
        let (new, mut file) = self.new_file().doing(doing)?;
        let written = file.write_all(bytes).and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            // The first error is what matters; `gc` removes what stays.
            let _ = fs::remove_file(&new);
        }
        written.doing(doing)
    }

    fn new_file(&self) -> std::io::Result<(PathBuf, File)> {
        loop {
            let new = self.staging_name();
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new) {
                Err(err) if err.kind() == ErrorKind::AlreadyExists => {}
                file => return file.map(|file| (new, file)),
            }
        }
    }
}

impl Claim {
    /// The empty directory for the layer's tree.
    pub fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// Empties the place, for another attempt.
    ///
    /// # Errors
    /// The kernel's.
    pub fn restart(&self) -> Result<()> {
        tree::remove_path(&self.dir)?;
        make_directory(&self.dir)?;
        // The root of an image that does not describe it.
        let tree = self.tree();
        fs::create_dir(&tree)
            .and_then(|()| {
                fs::set_permissions(&tree, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            })
            .doing(|| format!("make {}", tree.display()))
    }

    /// The file with what earlier pulls have received of the blob: appended to, read from the
    /// beginning.
    ///
    /// # Errors
    /// The kernel's.
    pub fn partial(&self) -> Result<(File, File)> {
        let doing = || format!("open {}", self.partial.display());
        let mut options = OpenOptions::new();
        let write =
            options.append(true).create(true).mode(0o600).open(&self.partial).doing(doing)?;
        Ok((File::open(&self.partial).doing(doing)?, write))
    }

    /// Removes what has been received.
    ///
    /// # Errors
    /// The kernel's.
    pub fn forget_partial(&self) -> Result<()> {
        tree::remove_path(&self.partial)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // What cannot be removed now is stale from here on, and the next call's to clean.
        let _ = tree::remove_path(&self.dir).and_then(|()| tree::remove_path(&self.lock));
    }
}

fn default_place() -> Result<PathBuf> {
    if tree::is_host_root() {
        return Ok(PathBuf::from("/var/lib/lade"));
    }
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("lade"))
        .ok_or_else(|| Error::new("find a place for images").hint("set HOME, or give --store DIR"))
}

/// What to do about a store that cannot be made.
fn elsewhere(err: Error) -> Error {
    match err.errno() {
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => {
            err.hint("run lade as root, or choose another place with --store DIR")
        }
        _ => err,
    }
}

/// Makes a directory that is nobody else's business: images hold setuid programs.
fn make_directory(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.doing(|| format!("make {}", path.display()))
}

fn open_lock(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.doing(|| format!("open {}", path.display()))
}

fn flock(file: File, how: FlockArg) -> nix::Result<Flock<File>> {
    let mut file = file;
    loop {
        match Flock::lock(file, how) {
            Ok(lock) => return Ok(lock),
            Err((again, Errno::EINTR)) => file = again,
            Err((_, errno)) => return Err(errno),
        }
    }
}

/// Locks a lock file that its holders remove; `None` if another holds it and `how` does not wait.
fn hold(path: &Path, how: FlockArg) -> Result<Option<Flock<File>>> {
    loop {
        let lock = match flock(open_lock(path)?, how) {
            Err(Errno::EWOULDBLOCK) => return Ok(None),
            other => other.doing(|| format!("lock {}", path.display()))?,
        };
        // The one we waited for may have removed the file: then it protects nothing any more.
        let ours = lock.metadata().doing(|| format!("look at {}", path.display()))?;
        if fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino())) {
            return Ok(Some(lock));
        }
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let doing = || format!("list {}", dir.display());
    let entries = fs::read_dir(dir).doing(doing)?;
    entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<_>>().doing(doing)
}

/// The paths two levels down: `dir/ALGORITHM/HEX`.
fn lists(dir: &Path) -> Result<Vec<PathBuf>> {
    let lists = list(dir)?.iter().map(|dir| list(dir)).collect::<Result<Vec<_>>>()?;
    Ok(lists.concat())
}

fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.doing(|| format!("read {}", path.display()))?,
    };
    let record = serde_json::from_slice(&bytes);
    record.map(Some).map_err(|err| Error::new(format!("read {}: {err}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(name: &str) -> Store {
        let dir = std::env::temp_dir().join(format!("lade-store-{name}-{}", std::process::id()));
        Store::open(Some(&dir)).unwrap()
    }

    fn add_layer(store: &Store, diff_id: &Digest) {
        let claim = store.claim(diff_id).unwrap();
        fs::write(claim.tree().join("file"), "x").unwrap();
        let implicit = [b"".to_vec(), b"a\n\xff".to_vec()].into();
        store.commit(&claim, diff_id, &Unpacked { size: 1, implicit }).unwrap();
    }

    #[test]
    fn layers_appear_whole_and_are_collected() {
        let store = store("gc");
        let (kept, bundled, lost) =
            (Digest::of_sha256(b"1"), Digest::of_sha256(b"2"), Digest::of_sha256(b"3"));
        for layer in [&kept, &bundled, &lost] {
            assert!(!store.has_layer(layer));
            add_layer(&store, layer);
            assert!(store.has_layer(layer));
        }
        assert_eq!(store.layer(&kept).unwrap().implicit.len(), 2);
        assert!(store.layer(&kept).unwrap().implicit.contains(&b"a\n\xff"[..]));
        let config = Digest::of_sha256(b"config");
        store.put_blob(&config, b"config").unwrap();
        store
            .put_image(&ImageRecord {
                name: "a".into(),
                manifest: config.clone(),
                config: config.clone(),
                layers: vec![kept.clone()],
                platform: "linux/amd64".into(),
                created: None,
                pulled: 0,
                size: 1,
            })
            .unwrap();
        let dir = store.root.clone();
        store
            .put_bundle(&BundleRecord { dir, image: "b".into(), layers: vec![bundled.clone()] })
            .unwrap();
        assert_eq!(store.collect().unwrap(), (1, 1));
        assert!(store.has_layer(&kept) && store.has_layer(&bundled) && !store.has_layer(&lost));
        assert_eq!(store.blob(&config).unwrap(), b"config");
        store.remove_image("a").unwrap();
        store
            .put_bundle(&BundleRecord {
                dir: "/gone".into(),
                image: "b".into(),
                layers: vec![kept.clone()],
            })
            .unwrap();
        assert_eq!(store.collect().unwrap(), (1, 1));
        assert!(store.blob(&config).is_err() && !store.has_layer(&kept));
        tree::remove_path(&store.root).unwrap();
    }

    #[test]
    fn the_staging_place_of_the_dead_is_cleaned_and_that_of_the_living_is_not() {
        let store = store("stale");
        let (dead, alive) = (Digest::of_sha256(b"dead"), Digest::of_sha256(b"alive"));
        let staging = store.root.join("staging");
        fs::create_dir_all(staging.join(dead.hex()).join("tree")).unwrap();
        fs::write(staging.join(format!("{}.lock", dead.hex())), "").unwrap();
        let claim = store.claim(&alive).unwrap();
        store.clean_stale().unwrap();
        assert!(!staging.join(dead.hex()).exists() && claim.tree().exists());
        drop(claim);
        assert_eq!(list(&staging).unwrap(), Vec::<PathBuf>::new());
        tree::remove_path(&store.root).unwrap();
    }

    #[test]
    fn damage_to_a_blob_is_noticed() {
        let store = store("damage");
        let digest = Digest::of_sha256(b"x");
        store.put_blob(&digest, b"y").unwrap();
        assert!(store.blob(&digest).unwrap_err().message().contains("damaged"));
        tree::remove_path(&store.root).unwrap();
    }

    /// The first process of a container always has the same id.
    #[test]
    fn what_another_of_this_process_id_has_left_is_in_nobodys_way() {
        let store = store("left");
        let staging = store.root.join("staging");
        for number in 0..1000 {
            fs::write(staging.join(format!("new-{}-{number}", std::process::id())), "").unwrap();
        }
        let digest = Digest::of_sha256(b"x");
        store.put_blob(&digest, b"x").unwrap();
        assert_eq!(store.blob(&digest).unwrap(), b"x");
        // What cannot be put in its place does not stay.
        let path = store.blob_path(&digest);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(store.put_blob(&digest, b"x").is_err());
        assert_eq!(list(&staging).unwrap().len(), 1000);
        tree::remove_path(&store.root).unwrap();
    }
}
