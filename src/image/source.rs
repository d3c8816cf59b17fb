//! From a reference to a checked image: opens the source that the reference names, and walks
//! from index to platform to manifest.

use std::path::Path;

use crate::error::{Error, Result};
use crate::image::archive;
use crate::image::layout::Layout;
use crate::image::manifest::{self, Document};
use crate::image::media;
use crate::image::reference::Reference;
use crate::image::registry::Registry;

pub use crate::image::digest::Digest;
pub use crate::image::manifest::Descriptor;
pub use crate::image::platform::Platform;
pub use crate::image::transport::{Options, Source, read_verified};

/// Documents on the way from a reference to an image, indexes within indexes included.
const INDEX_DEPTH: usize = 5;

/// An image whose manifest has been verified and checked.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of the manifest (not of the index that led to it).
    pub manifest_digest: Digest,
    /// The manifest's bytes, for storing.
    pub manifest: Vec<u8>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, from the lowest up.
    pub layers: Vec<Descriptor>,
    /// The name under which the image is stored.
    pub name: String,
}

/// Opens `REF`: `docker://NAME` or a bare name is a registry's; `oci:DIR[:TAG]`,
/// `oci-archive:FILE[:TAG]` and `docker-archive:FILE[:REF|:@N]` are files (skopeo's words).
/// Errors: a reference that is none, files that are not what they are said to be.
pub fn open(reference: &str, options: &Options) -> Result<Box<dyn Source>> {
    let (transport, rest) = reference.split_once(':').unwrap_or(("", reference));
    // As in skopeo: the path ends at the first colon, the name after it may hold more.
    let (path, name) = match rest.split_once(':') {
        Some((path, name)) => (Path::new(path), Some(name).filter(|name| !name.is_empty())),
        None => (Path::new(rest), None),
    };
    match transport {
        "oci" => Ok(Box::new(Layout::open(path, name)?)),
        "oci-archive" => Ok(Box::new(archive::open_oci(path, name)?)),
        "docker-archive" => archive::open_docker(path, name),
        _ => {
            let name = reference.strip_prefix("docker://").unwrap_or(reference);
            Ok(Box::new(Registry::open(Reference::parse(name)?, options)?))
        }
    }
}

/// Walks from what the reference names to one image for `platform`, everything verified by
/// digest and size. Errors: those of the source, documents that are no images, no image for
/// the platform.
pub fn resolve(source: &dyn Source, platform: &Platform) -> Result<Image> {
    let mut next: Option<Descriptor> = None;
    for _ in 0..INDEX_DEPTH {
        let (bytes, media_type, digest) = fetch(source, next.as_ref())?;
        match manifest::parse(&bytes, &media_type).map_err(|err| named(source, err))? {
            Document::Index(entries) => {
                next = Some(choose(entries, platform).map_err(|err| named(source, err))?);
            }
            Document::Image { config, layers } => {
                // An index that names the platform has decided; without one the config does.
                let chosen = next.as_ref().is_some_and(|entry| entry.platform.is_some());
                if !chosen && !source.pinned() {
                    check_platform(source, &config, platform)?;
                }
                let name = source.name();
                return Ok(Image {
                    manifest_digest: digest,
                    manifest: bytes,
                    config,
                    layers,
                    name,
                });
            }
        }
    }
    Err(named(source, Error::new(format!("indexes are nested deeper than {INDEX_DEPTH}"))))
}

fn named(source: &dyn Source, err: Error) -> Error {
    err.context(source.name())
}

/// The document that an index's entry points to, held to the entry's size and media type.
fn fetch(source: &dyn Source, entry: Option<&Descriptor>) -> Result<(Vec<u8>, String, Digest)> {
    let (bytes, media_type, digest) = source.manifest(entry.map(|entry| &entry.digest))?;
    let Some(entry) = entry else { return Ok((bytes, media_type, digest)) };
    if bytes.len() as u64 != entry.size {
        let (size, found) = (entry.size, bytes.len());
        let text = format!("manifest {digest} has {found} bytes, the index says {size}");
        return Err(named(source, Error::new(text)));
    }
    let known = media::manifest(&media_type) != media::Manifest::Other;
    if known && media_type != entry.media_type {
        let said = &entry.media_type;
        let text =
            format!("manifest {digest} is served as {media_type:?}, the index says {said:?}");
        return Err(named(source, Error::new(text)));
    }
    Ok((bytes, entry.media_type.clone(), digest))
}

/// The entry that fits best; the first of equals. Entries that name no platform are asked last:
/// their config says what they are for.
fn choose(entries: Vec<Descriptor>, wanted: &Platform) -> Result<Descriptor> {
    let mut best: Option<(u32, usize)> = None;
    for (i, entry) in entries.iter().enumerate() {
        let fit = match &entry.platform {
            Some(platform) => platform.fit(wanted).map(|fit| fit.saturating_add(1)),
            None => Some(0),
        };
        if let Some(fit) = fit.filter(|fit| best.is_none_or(|(best, _)| *fit > best)) {
            best = Some((fit, i));
        }
    }
    let offered = offered(&entries);
    best.and_then(|(_, i)| entries.into_iter().nth(i)).ok_or_else(|| {
        Error::new(format!("no image for {wanted}"))
            .hint(format!("it is made for {offered}; choose one with --platform"))
    })
}

/// The platforms of an index in words; attestations (`unknown/unknown`) are none.
fn offered(entries: &[Descriptor]) -> String {
    let platforms = entries.iter().filter_map(|entry| entry.platform.as_ref());
    let mut names: Vec<String> =
        platforms.filter(|p| p.os != "unknown").map(Platform::to_string).collect();
    names.dedup();
    match names.is_empty() {
        true => "no platform at all".to_owned(),
        false => names.join(", "),
    }
}

/// An image that no index chose says in its config what it is for.
fn check_platform(source: &dyn Source, config: &Descriptor, wanted: &Platform) -> Result<()> {
    let bytes = read_verified(source, config, "image config").map_err(|err| named(source, err))?;
    let made_for: Platform = serde_json::from_slice(&bytes)
        .map_err(|err| named(source, Error::new(format!("image config: {err}"))))?;
    // Some builders leave both out; what is not said cannot contradict.
    if made_for.os.is_empty() || made_for.architecture.is_empty() {
        return Ok(());
    }
    match made_for.fit(wanted) {
        Some(_) => Ok(()),
        None => {
            Err(named(source, Error::new(format!("the image is for {made_for}, not {wanted}")))
                .hint(format!(
                    "to have it all the same: --platform {made_for}, or name it by digest"
                )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::io::Read;

    /// A source that holds real bytes under their real digests.
    struct Memory {
        blobs: HashMap<Digest, (Vec<u8>, String)>,
        first: Digest,
        pinned: bool,
    }

    impl Memory {
        fn new() -> Self {
            Memory { blobs: HashMap::new(), first: Digest::of_sha256(b""), pinned: false }
        }

        /// Adds a document, which becomes the one that the reference names.
        fn add(&mut self, bytes: &str, media_type: &str, platform: Option<&str>) -> Descriptor {
            let digest = Digest::of_sha256(bytes.as_bytes());
            self.blobs.insert(digest.clone(), (bytes.into(), media_type.into()));
            self.first = digest.clone();
            Descriptor {
                media_type: media_type.into(),
                digest,
                size: bytes.len() as u64,
                annotations: Default::default(),
                platform: platform.map(|p| Platform::parse(p).unwrap()),
            }
        }

        fn image(&mut self, arch: &str, platform: Option<&str>) -> Descriptor {
            let config = format!(r#"{{"os":"linux","architecture":"{arch}"}}"#);
            let config = self.add(&config, media::OCI_CONFIG, None);
            let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": []});
            self.add(&manifest.to_string(), media::OCI_MANIFEST, platform)
        }

        fn index(&mut self, entries: &[Descriptor]) -> Descriptor {
            let index = serde_json::json!({"schemaVersion": 2, "manifests": entries});
            self.add(&index.to_string(), media::OCI_INDEX, None)
        }
    }

    impl Source for Memory {
        fn manifest(&self, digest: Option<&Digest>) -> Result<(Vec<u8>, String, Digest)> {
            let digest = digest.unwrap_or(&self.first);
            let (bytes, media_type) = self.blobs.get(digest).unwrap().clone();
            Ok((bytes, media_type, digest.clone()))
        }
        fn blob(&self, of: &Descriptor, _offset: u64) -> Result<Box<dyn Read + Send>> {
            Ok(Box::new(std::io::Cursor::new(self.blobs.get(&of.digest).unwrap().0.clone())))
        }
        fn name(&self) -> String {
            "test".into()
        }
        fn pinned(&self) -> bool {
            self.pinned
        }
    }

    fn find(source: &Memory, platform: &str) -> Result<Digest> {
        resolve(source, &Platform::parse(platform).unwrap()).map(|image| image.manifest_digest)
    }

    #[test]
    fn chooses_by_platform_through_nested_indexes() {
        let mut source = Memory::new();
        let amd = source.image("amd64", Some("linux/amd64"));
        let v6 = source.image("arm6", Some("linux/arm/v6"));
        let v7 = source.image("arm", Some("linux/arm/v7"));
        let inner = source.index(&[v6.clone(), v7.clone(), amd.clone()]);
        source.index(&[inner]);
        assert_eq!(find(&source, "linux/amd64").unwrap(), amd.digest);
        assert_eq!(find(&source, "linux/arm/v7").unwrap(), v7.digest);
        assert_eq!(find(&source, "linux/arm/v6").unwrap(), v6.digest);
        let err = find(&source, "linux/s390x").unwrap_err().to_string();
        assert!(err.contains("no image for linux/s390x") && err.contains("linux/arm/v6"), "{err}");
    }

    #[test]
    fn a_lone_manifest_must_be_for_the_platform() {
        let mut source = Memory::new();
        let arm = source.image("arm64", None);
        assert_eq!(find(&source, "linux/arm64").unwrap(), arm.digest);
        let err = find(&source, "linux/amd64").unwrap_err().message();
        assert_eq!(err, "test: the image is for linux/arm64, not linux/amd64");
        source.pinned = true;
        assert_eq!(find(&source, "linux/amd64").unwrap(), arm.digest);
    }

    #[test]
    fn nested_indexes_end() {
        let mut source = Memory::new();
        let mut entry = source.image("amd64", Some("linux/amd64"));
        for _ in 0..INDEX_DEPTH {
            entry = source.index(&[entry]);
        }
        assert!(find(&source, "linux/amd64").unwrap_err().message().contains("nested"));
    }

    #[test]
    fn an_entry_is_held_to_its_size_and_type() {
        let mut source = Memory::new();
        let mut amd = source.image("amd64", Some("linux/amd64"));
        amd.size += 1;
        source.index(&[amd.clone()]);
        assert!(find(&source, "linux/amd64").unwrap_err().message().contains("the index says"));
        amd.size -= 1;
        amd.media_type = media::OCI_INDEX.into();
        source.index(&[amd]);
        assert!(find(&source, "linux/amd64").unwrap_err().message().contains("the index says"));
    }
}
