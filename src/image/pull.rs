//! Brings an image from its source into the store: layers in parallel, each in one streaming
//! pass, nothing visible before it is verified.
//!
//! ```text
//! partial file ┐
//!              ├─► sha256 = digest? ─► inflate ─► sha256 = diff_id? ─► tar ─► staging ─► layers
//! source ─► copy to the partial file
//! ```

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use oci_spec::image::ImageConfiguration;
use serde_json::{Value, json};

use super::digest::Digest;
use super::layer::{self, Unpacked};
use super::manifest::Descriptor;
use super::media;
use super::platform::Platform;
use super::progress::{Progress, bytes};
use super::source::{self, Image};
use super::store::{Claim, ImageRecord, Store};
use super::stream::{Hashing, Tee, inflate};
use super::transport::{Source, read_verified};
use crate::error::{Doing, Error, Result};

/// Layers that are unpacked at once.
const THREADS: usize = 4;
/// Blobs of fewer bytes are fetched anew rather than resumed.
const MIN_PARTIAL: u64 = 1 << 20;
/// What a layer may inflate to beyond `MAX_RATIO` times its size: 4 GiB.
const MAX_SLACK: u64 = 4 << 30;
/// The most that deflate can do (RFC 1951); zstd's legitimate excess is in `MAX_SLACK`.
const MAX_RATIO: u64 = 1032;

/// Pulls the image that `source` names, and names it in the store.
///
/// # Errors
/// Those of the source and of the kernel; anything that is not what its digest says.
pub fn pull(
    store: &Store,
    source: &dyn Source,
    platform: &Platform,
    progress: &Progress,
) -> Result<ImageRecord> {
    let _lock = store.share()?;
    store.clean_stale()?;
    let image = source::resolve(source, platform)?;
    let config_bytes = read_verified(source, &image.config, "image config")?;
    let config = parse_config(&config_bytes).map_err(|err| err.context(&image.name))?;
    let diff_ids = diff_ids(&config, &image).map_err(|err| err.context(&image.name))?;
    layers(store, source, &image, &diff_ids, progress)?;
    let record = record(store, &image, &config, diff_ids)?;
    store.put_blob(&image.manifest_digest, &image.manifest)?;
    store.put_blob(&image.config.digest, &config_bytes)?;
    store.put_image(&record)?;
    Ok(record)
}

/// Parses an image config (image-spec config.md).
///
/// # Errors
/// It is none.
pub fn parse_config(bytes: &[u8]) -> Result<ImageConfiguration> {
    let mut config: Value =
        serde_json::from_slice(bytes).map_err(|err| Error::new(format!("image config: {err}")))?;
    fill_in(&mut config);
    serde_path_to_error::deserialize(config)
        .map_err(|err| Error::new(format!("image config: {}: {}", err.path(), err.inner())))
}

/// What builders leave out or write as null, where the reader of configs wants something.
fn fill_in(config: &mut Value) {
    let fill = |at: Option<&mut Value>, name: &str, empty: Value| {
        if let Some(object) = at.and_then(Value::as_object_mut) {
            let value = object.entry(name).or_insert(Value::Null);
            if value.is_null() {
                *value = empty;
            }
        }
    };
    fill(Some(config), "os", "".into());
    fill(Some(config), "architecture", "".into());
    fill(config.get_mut("rootfs"), "diff_ids", json!([]));
    for (name, empty) in
        [("Labels", json!("")), ("ExposedPorts", json!({})), ("Volumes", json!({}))]
    {
        let map = config.pointer_mut(&format!("/config/{name}")).and_then(Value::as_object_mut);
        let values = map.into_iter().flat_map(|map| map.values_mut());
        values.filter(|value| value.is_null()).for_each(|value| *value = empty.clone());
    }
}

fn diff_ids(config: &ImageConfiguration, image: &Image) -> Result<Vec<Digest>> {
    let ids = config.rootfs().diff_ids().iter();
    let ids = ids.map(|id| Digest::parse(id)).collect::<Result<Vec<_>>>();
    let ids = ids.map_err(|err| err.context("image config: rootfs.diff_ids"))?;
    match ids.len() == image.layers.len() {
        true => Ok(ids),
        false => Err(Error::new(format!(
            "the image has {} layers, its config speaks of {}",
            image.layers.len(),
            ids.len()
        ))),
    }
}

fn record(
    store: &Store,
    image: &Image,
    config: &ImageConfiguration,
    layers: Vec<Digest>,
) -> Result<ImageRecord> {
    let sizes = layers.iter().map(|layer| store.layer(layer).map(|l| l.size));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let variant = config.variant().iter().map(|v| format!("/{v}")).collect::<String>();
    Ok(ImageRecord {
        name: image.name.clone(),
        manifest: image.manifest_digest.clone(),
        config: image.config.digest.clone(),
        size: sizes.sum::<Result<u64>>()?,
        platform: format!("{}/{}{variant}", config.os(), config.architecture()),
        created: config.created().clone(),
        pulled: now.as_secs(),
        layers,
    })
}

/// Unpacks the layers that the store lacks, several at once. The first error ends all.
fn layers(
    store: &Store,
    source: &dyn Source,
    image: &Image,
    diff_ids: &[Digest],
    progress: &Progress,
) -> Result<()> {
    // An image may hold the same layer several times.
    let jobs: BTreeMap<&Digest, &Descriptor> = diff_ids.iter().zip(&image.layers).collect();
    let jobs: Vec<_> = jobs.into_iter().filter(|(diff_id, _)| !store.has_layer(diff_id)).collect();
    jobs.iter().for_each(|(_, layer)| progress.announce(layer.size));
    let threads = THREADS.min(jobs.len());
    let next = Mutex::new(jobs.into_iter());
    let failed = Mutex::new(None);
    let stop = AtomicBool::new(false);
    let take = || next.lock().ok().and_then(|mut jobs| jobs.next());
    let work = || {
        while let Some((diff_id, descriptor)) = take() {
            let job = Job { store, source, descriptor, diff_id, progress, stop: &stop };
            if let Err(err) = job.run() {
                stop.store(true, Ordering::Relaxed);
                if let Ok(mut failed) = failed.lock() {
                    failed.get_or_insert(err);
                }
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    match failed.into_inner().ok().flatten() {
        Some(err) => Err(err.context(&image.name)),
        None => Ok(()),
    }
}

struct Job<'a> {
    store: &'a Store,
    source: &'a dyn Source,
    descriptor: &'a Descriptor,
    diff_id: &'a Digest,
    progress: &'a Progress,
    stop: &'a AtomicBool,
}

impl Job<'_> {
    fn run(&self) -> Result<()> {
        let claim = self.store.claim(&self.descriptor.digest)?;
        // Another lade may have brought it while we waited for the claim.
        if self.store.has_layer(self.diff_id) {
            return Ok(());
        }
        let layer = self
            .unpack(&claim)
            .map_err(|err| full(err).context(format!("layer {}", self.descriptor.digest)))?;
        self.store.commit(&claim, self.diff_id, &layer)?;
        self.progress.line(&format!("{} {}", self.diff_id, bytes(self.descriptor.size)));
        Ok(())
    }

    /// Unpacks, going on from what an earlier pull has received; if that was damaged, from the
    /// start.
    fn unpack(&self, claim: &Claim) -> Result<Unpacked> {
        let lost = AtomicBool::new(false);
        let (resumed, result) = self.attempt(claim, &lost)?;
        match result {
            Ok(layer) => Ok(layer),
            // What has been received is good; only the rest did not come.
            Err(err) if lost.load(Ordering::Relaxed) => Err(err),
            Err(err) => {
                claim.forget_partial()?;
                if !resumed {
                    return Err(err);
                }
                claim.restart()?;
                self.attempt(claim, &lost)?.1
            }
        }
    }

    /// One pass. Tells whether it went on from an earlier one; `lost` is set when the source
    /// failed rather than the content.
    fn attempt(&self, claim: &Claim, lost: &AtomicBool) -> Result<(bool, Result<Unpacked>)> {
        let size = self.descriptor.size;
        if size < MIN_PARTIAL || !self.source.is_remote() {
            let from = self.rest_of_blob(0, lost)?;
            return Ok((false, self.pass(claim, from)));
        }
        let (read, write) = claim.partial()?;
        let mut have = read.metadata().doing(|| "look at what was received")?.len();
        if have > size {
            write.set_len(0).doing(|| "drop what was received")?;
            have = 0;
        }
        if have > 0 {
            self.progress.line(&format!("{} goes on from {}", self.diff_id, bytes(have)));
        }
        let rest: Box<dyn Read + Send> = match have == size {
            true => Box::new(io::empty()),
            false => self.rest_of_blob(have, lost)?,
        };
        let from = read.take(have).chain(Tee { from: rest, copy: Some(write) });
        Ok((have > 0, self.pass(claim, from)))
    }

    fn rest_of_blob<'s>(
        &'s self,
        offset: u64,
        lost: &'s AtomicBool,
    ) -> Result<Box<dyn Read + Send + 's>> {
        let inner =
            self.source.blob(self.descriptor, offset).map_err(|err| match media::is_restricted(
                &self.descriptor.media_type,
            ) {
                true => err.context("a layer that registries were not to hold"),
                false => err,
            })?;
        Ok(Box::new(Watched { inner, lost, stop: self.stop }))
    }

    fn pass(&self, claim: &Claim, from: impl Read) -> Result<Unpacked> {
        let Descriptor { digest, size, .. } = self.descriptor;
        let from = Counted { inner: from, progress: self.progress };
        let mut blob = Hashing::new(from, digest, *size);
        let unpacked = self.inflate_and_unpack(claim, &mut blob);
        // A wrong digest explains whatever else went wrong, so it is what is told.
        let found = blob.finish();
        match (&unpacked, &found) {
            (_, Ok((found, count))) if (found, count) != (digest, size) => Err(Error::new(
                format!(
                    "content is {found} of {count} bytes, not what was asked for ({size} bytes)"
                ),
            )
            .hint("the image is damaged where it comes from, or something on the way alters it")),
            (Ok(_), Err(err)) => Err(Error::io("read layer", err)),
            _ => unpacked,
        }
    }

    fn inflate_and_unpack(&self, claim: &Claim, blob: &mut impl Read) -> Result<Unpacked> {
        let limit = self.descriptor.size.saturating_mul(MAX_RATIO).saturating_add(MAX_SLACK);
        let mut plain =
            Hashing::new(inflate(blob, &self.descriptor.media_type)?, self.diff_id, limit);
        let unpacked = layer::unpack(&mut plain, &claim.tree())?;
        let (found, _) = plain.finish().doing(|| "read layer")?;
        match found == *self.diff_id {
            true => Ok(unpacked),
            false => Err(Error::new(format!(
                "unpacked content is {found}, the image config says {}",
                self.diff_id
            ))),
        }
    }
}

/// What to do about a full disk.
fn full(err: Error) -> Error {
    match err.errno() {
        Some(Errno::ENOSPC | Errno::EDQUOT) => {
            err.hint("`lade rm` and `lade gc` free space; --store DIR chooses another place")
        }
        _ => err,
    }
}

/// Notices failures of the source, and ends when another layer has failed.
struct Watched<'a> {
    inner: Box<dyn Read + Send>,
    lost: &'a AtomicBool,
    stop: &'a AtomicBool,
}

impl Read for Watched<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let result = match self.stop.load(Ordering::Relaxed) {
            true => Err(io::Error::other("another layer has failed")),
            false => self.inner.read(buf),
        };
        if result.as_ref().is_err_and(|err| err.kind() != io::ErrorKind::Interrupted) {
            self.lost.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// Tells the user about every byte.
struct Counted<'a, R> {
    inner: R,
    progress: &'a Progress,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buf)?;
        self.progress.add(len as u64);
        Ok(len)
    }
}

#[cfg(test)]
#[path = "pull_tests.rs"]
mod tests;
