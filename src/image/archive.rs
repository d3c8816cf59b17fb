//! Archives: `oci-archive` (a layout in a tar file) and `docker-archive` (what `docker save`
//! writes). They are read in place; only compressed ones are unpacked, to a nameless file.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use sha2::Digest as _;

use crate::error::{Doing, Error, Result};
use crate::image::digest::{Algorithm, Digest};
use crate::image::layout::{Files, Layout, local_name};
use crate::image::manifest::{Descriptor, or_empty};
use crate::image::media::{self, Compression};
use crate::image::reference::Reference;
use crate::image::section::{Section, open_regular};
use crate::image::tarfile::TarFile;
use crate::image::transport::Source;

/// The largest content of a compressed archive, bytes: 256 GiB.
const UNPACKED_LIMIT: u64 = 256 << 30;

/// Opens an oci-archive; `tag` chooses among several images. Errors: those of the archive and of
/// the layout in it.
pub fn open_oci(path: &Path, tag: Option<&str>) -> Result<Layout> {
    let tar = Arc::new(open_tar(path)?);
    Layout::of_files(Files::Archive(tar), path, tag)
}

/// Opens a docker-archive; `name` chooses among several images, `@N` the one at place N of
/// manifest.json. Newer Dockers save a layout and describe it in both ways: then the layout is read,
/// because its layers have digests. Errors: those of the archive; no or several such images.
pub fn open_docker(path: &Path, name: Option<&str>) -> Result<Box<dyn Source>> {
    let tar = Arc::new(open_tar(path)?);
    let layout = tar.size("oci-layout").is_some() && tar.size("index.json").is_some();
    if layout && name.and_then(place).is_none() {
        return Ok(Box::new(Layout::of_files(Files::Archive(tar), path, name)?));
    }
    let saved = Saved::open(tar, path, name).map_err(|err| err.context(path.display()))?;
    Ok(Box::new(saved))
}

fn open_tar(path: &Path) -> Result<TarFile> {
    let (file, length) = open_regular(path)?;
    let file = Arc::new(file);
    let compression = magic(Section::new(file.clone(), 0, length, 0), path)?;
    let whole = Section::new(file.clone(), 0, length, 0);
    match compression {
        Compression::None => TarFile::open(path),
        Compression::Gzip => unpacked(flate2::read::MultiGzDecoder::new(whole), path),
        Compression::Zstd => {
            let decoder =
                zstd::Decoder::new(whole).doing(|| format!("unpack {}", path.display()))?;
            unpacked(decoder, path)
        }
    }
}

fn magic(start: Section, path: &Path) -> Result<Compression> {
    let mut bytes = Vec::new();
    let read = start.take(4).read_to_end(&mut bytes);
    read.doing(|| format!("read {}", path.display()))?;
    Ok(Compression::of_magic(&bytes))
}

/// The table of contents needs seeking, so the content goes to a file that has no name and is
/// gone with this process. `/var/tmp`, because `/tmp` is often memory; TMPDIR overrides it.
fn unpacked(from: impl Read, path: &Path) -> Result<TarFile> {
    let dir = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
    let dir = dir.unwrap_or_else(|| "/var/tmp".into());
    let shown = Path::new(&dir).display().to_string();
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_TMPFILE).mode(0o600);
    let mut file = options.open(&dir).doing(|| format!("make a temporary file in {shown}"))?;
    let length = std::io::copy(&mut from.take(UNPACKED_LIMIT + 1), &mut file)
        .doing(|| format!("unpack {} to {shown}", path.display()))?;
    if length > UNPACKED_LIMIT {
        return Err(Error::new(format!("{}: more than {UNPACKED_LIMIT} bytes", path.display())));
    }
    TarFile::index(file, length).map_err(|err| err.context(path.display()))
}

/// One image of `docker save`'s manifest.json, whose layers have no digests of their own: a
/// manifest is made for it, with the files as they are as its layers.
struct Saved {
    tar: Arc<TarFile>,
    name: String,
    manifest: Vec<u8>,
    files: HashMap<Digest, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default, deserialize_with = "or_empty")]
    layers: Vec<String>,
}

impl Saved {
    fn open(tar: Arc<TarFile>, path: &Path, wanted: Option<&str>) -> Result<Saved> {
        let files = Files::Archive(tar.clone());
        let list = files.small("manifest.json").map_err(|err| {
            err.hint("docker-archive is what docker save writes, with manifest.json")
        })?;
        let items: Vec<Item> = serde_json::from_slice(&list)
            .map_err(|err| Error::new(format!("manifest.json: {err}")))?;
        let item = choose(items, wanted)?;
        let tag = match wanted.and_then(|wanted| Reference::parse(wanted).ok()) {
            Some(reference) => Some(reference),
            None => tags(&item).next(),
        };
        let name =
            tag.map_or_else(|| local_name(path, "latest"), |reference| reference.to_string());
        let mut saved = Saved { tar, name, manifest: Vec::new(), files: HashMap::new() };
        saved.describe(&files.small(&item.config)?, &item)?;
        Ok(saved)
    }

    /// Makes the manifest, deterministically: the same archive has the same digest.
    fn describe(&mut self, config: &[u8], item: &Item) -> Result<()> {
        let diff_ids = diff_ids(config)?;
        if diff_ids.len() != item.layers.len() {
            let (layers, ids) = (item.layers.len(), diff_ids.len());
            return Err(Error::new(format!("{layers} layers, but the config has {ids} diff_ids")));
        }
        let digest = Digest::of_sha256(config);
        self.files.insert(digest.clone(), item.config.clone());
        let config = descriptor(media::OCI_CONFIG, digest, config.len() as u64);
        let mut layers = Vec::new();
        for (file, diff_id) in item.layers.iter().zip(diff_ids) {
            layers.push(self.layer(file, diff_id)?);
        }
        let document = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "config": config,
            "layers": layers,
        });
        self.manifest = document.to_string().into_bytes();
        Ok(())
    }

    /// A plain layer's digest is its diff_id. Other tools than Docker put compressed files in:
    /// those have to be read once to know their digest.
    fn layer(&mut self, file: &str, diff_id: Digest) -> Result<Descriptor> {
        let size = self.tar.size(file).unwrap_or_default();
        let compression = magic(self.tar.read(file, 0)?, Path::new(file))?;
        let digest = match compression {
            Compression::None => diff_id,
            _ => hash(self.tar.read(file, 0)?, file)?,
        };
        self.files.insert(digest.clone(), file.to_owned());
        Ok(descriptor(media::oci_layer(compression), digest, size))
    }
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    let media_type = media_type.to_owned();
    Descriptor { media_type, digest, size, annotations: Default::default(), platform: None }
}

fn diff_ids(config: &[u8]) -> Result<Vec<Digest>> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        #[serde(default, deserialize_with = "or_empty")]
        diff_ids: Vec<Digest>,
    }
    let config: Config =
        serde_json::from_slice(config).map_err(|err| Error::new(format!("image config: {err}")))?;
    Ok(config.rootfs.diff_ids)
}

fn hash(mut from: Section, file: &str) -> Result<Digest> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = from.read(&mut buffer).doing(|| format!("read {file}"))?;
        match buffer.get(..count) {
            Some(bytes) if !bytes.is_empty() => hasher.update(bytes),
            _ => return Ok(Digest::from_hash(Algorithm::Sha256, &hasher.finalize())),
        }
    }
}

fn tags(item: &Item) -> impl Iterator<Item = Reference> {
    let tags = item.repo_tags.iter().flatten();
    tags.filter_map(|tag| Reference::parse(tag).ok())
}

/// The place in `@PLACE`, as skopeo counts images.
fn place(wanted: &str) -> Option<usize> {
    wanted.strip_prefix('@')?.parse().ok()
}

fn choose(items: Vec<Item>, wanted: Option<&str>) -> Result<Item> {
    let offered: Vec<String> =
        items.iter().flat_map(|i| i.repo_tags.iter().flatten().cloned()).collect();
    let count = items.len();
    let chosen = match (wanted, wanted.and_then(place)) {
        (_, Some(place)) => items.into_iter().nth(place),
        (Some(wanted), None) => {
            let wanted = Reference::parse(wanted)?;
            items.into_iter().find(|item| tags(item).any(|tag| tag == wanted))
        }
        (None, None) => items.into_iter().next().filter(|_| count == 1),
    };
    chosen.ok_or_else(|| {
        let what = match wanted {
            Some(wanted) => format!("no image is called {wanted:?}"),
            None => format!("{count} images, and none is named"),
        };
        Error::new(what).hint(format!(
            "the archive holds {}",
            match offered.is_empty() {
                true => "no names".to_owned(),
                false => offered.join(", "),
            }
        ))
    })
}

impl Source for Saved {
    fn manifest(&self, digest: Option<&Digest>) -> Result<(Vec<u8>, String, Digest)> {
        let own = Digest::of_sha256(&self.manifest);
        match digest {
            Some(other) if *other != own => {
                Err(Error::new(format!("{}: no manifest {other} in the archive", self.name)))
            }
            _ => Ok((self.manifest.clone(), media::OCI_MANIFEST.to_owned(), own)),
        }
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let digest = &descriptor.digest;
        let file = self.files.get(digest);
        let file = file.ok_or_else(|| Error::new(format!("{}: no blob {digest}", self.name)))?;
        Ok(Box::new(self.tar.read(file, offset)?))
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<Item> {
        let json = r#"[{"Config":"a.json","RepoTags":["a:1","localhost/b:2"],"Layers":[]},
                       {"Config":"c.json","RepoTags":null,"Layers":["x"]}]"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn chooses_by_any_spelling_of_the_name() {
        for name in ["a:1", "docker.io/library/a:1", "localhost/b:2"] {
            assert_eq!(choose(items(), Some(name)).unwrap().config, "a.json");
        }
        let err = choose(items(), Some("a")).err().unwrap().to_string();
        assert!(
            err.contains("no image is called \"a\"") && err.contains("a:1, localhost/b:2"),
            "{err}"
        );
        assert!(choose(items(), None).is_err());
        assert!(choose(vec![], None).is_err());
        assert_eq!(choose(items(), Some("@1")).unwrap().config, "c.json");
        let err = choose(items(), Some("@2")).err().unwrap().message();
        assert_eq!(err, "no image is called \"@2\"");
    }

    #[test]
    fn diff_ids_are_checked_digests() {
        assert!(diff_ids(br#"{"rootfs":{"diff_ids":["sha256:../../x"]}}"#).is_err());
        assert!(diff_ids(b"{}").is_err());
    }
}
