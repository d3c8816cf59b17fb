//! OCI image layouts (image-spec image-layout.md), as a folder or inside an archive.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::error::{Doing, Error, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{self, Descriptor, Document};
use crate::image::media;
use crate::image::reference::{Reference, is_tag};
use crate::image::section::{Section, open_regular};
use crate::image::tarfile::TarFile;
use crate::image::transport::{MANIFEST_LIMIT, Source, read_bounded};

/// The tag of an entry of index.json.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The full name that containerd and Docker note beside it.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// The files of a layout, wherever they are.
#[derive(Clone)]
pub enum Files {
    /// Below a folder.
    Folder(PathBuf),
    /// Inside a tar file.
    Archive(Arc<TarFile>),
}

impl Files {
    /// A file's content from `offset` on, and its whole size in bytes. Errors: it is not there
    /// or is no regular file.
    pub fn open(&self, name: &str, offset: u64) -> Result<(Section, u64)> {
        match self {
            Files::Folder(dir) => {
                let (file, size) = open_regular(&dir.join(name))?;
                Ok((Section::new(Arc::new(file), 0, size, offset), size))
            }
            Files::Archive(tar) => {
                let size = tar.size(name).unwrap_or_default();
                Ok((tar.read(name, offset)?, size))
            }
        }
    }

    /// A small file, whole.
    pub fn small(&self, name: &str) -> Result<Vec<u8>> {
        read_bounded(self.open(name, 0)?.0, MANIFEST_LIMIT, name)
    }
}

/// One image of a layout, as a source.
pub struct Layout {
    files: Files,
    shown: String,
    name: String,
    start: Start,
}

/// What the reference names.
enum Start {
    /// An entry of index.json.
    Entry(Descriptor),
    /// index.json as a whole: its entries are one image for several platforms.
    Index(Vec<u8>),
}

impl Layout {
    /// Opens the folder `dir`. `tag` chooses among several images; without it there must be one.
    pub fn open(dir: &Path, tag: Option<&str>) -> Result<Layout> {
        std::fs::metadata(dir).doing(|| format!("open layout {}", dir.display()))?;
        Layout::of_files(Files::Folder(dir.to_owned()), dir, tag)
    }

    /// The same for files that are found elsewhere; `path` is shown and names the image if
    /// nothing better does. Errors: no layout, another version, no or several such images.
    pub fn of_files(files: Files, path: &Path, tag: Option<&str>) -> Result<Layout> {
        let shown = path.display().to_string();
        check_version(&files).map_err(|err| err.context(&shown))?;
        let index = files.small("index.json").map_err(|err| err.context(&shown))?;
        let entries = match manifest::parse(&index, media::OCI_INDEX) {
            Ok(Document::Index(entries)) => entries,
            Ok(_) => return Err(Error::new(format!("{shown}: index.json is no index"))),
            Err(err) => return Err(err.context(format!("{shown}: index.json"))),
        };
        let (name, start) = choose(entries, index, path, tag).map_err(|err| err.context(&shown))?;
        Ok(Layout { files, shown, name, start })
    }
}

fn check_version(files: &Files) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let bytes = files
        .small("oci-layout")
        .map_err(|err| err.hint("an OCI layout has the files oci-layout and index.json"))?;
    let marker: Marker =
        serde_json::from_slice(&bytes).map_err(|err| Error::new(format!("oci-layout: {err}")))?;
    match marker.image_layout_version.as_str() {
        "1.0.0" => Ok(()),
        other => Err(Error::new(format!("layout version {other:?} is not 1.0.0"))),
    }
}

fn choose(
    entries: Vec<Descriptor>,
    index: Vec<u8>,
    path: &Path,
    tag: Option<&str>,
) -> Result<(String, Start)> {
    let matching: Vec<&Descriptor> =
        entries.iter().filter(|entry| tag.is_none_or(|tag| is_called(entry, tag))).collect();
    match matching.as_slice() {
        [one] => Ok((stored_name(one, path, tag), Start::Entry((*one).clone()))),
        [first, ..]
            if tag.is_none()
                && entries
                    .iter()
                    .all(|entry| entry.platform.is_some() && tag_of(entry) == tag_of(first)) =>
        {
            Ok((stored_name(first, path, tag), Start::Index(index)))
        }
        many => {
            let what = match (tag, many.len()) {
                (Some(tag), 0) => format!("no image is tagged {tag:?}"),
                (Some(tag), count) => format!("{count} images are tagged {tag:?}"),
                (None, count) => format!("{count} images, and none is named"),
            };
            let tags: Vec<&str> = entries.iter().filter_map(tag_of).collect();
            Err(Error::new(what).hint(match tags.is_empty() {
                true => "none of them has a tag".to_owned(),
                false => format!("add :TAG, one of {}", tags.join(", ")),
            }))
        }
    }
}

fn tag_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(REF_NAME).or(entry.annotations.get(IMAGE_NAME)).map(String::as_str)
}

/// By its tag, or by its full name in any of the ways to write that.
fn is_called(entry: &Descriptor, wanted: &str) -> bool {
    if entry.annotations.get(REF_NAME).is_some_and(|tag| tag == wanted) {
        return true;
    }
    let full = entry.annotations.get(IMAGE_NAME).and_then(|name| Reference::parse(name).ok());
    full.is_some() && full == Reference::parse(wanted).ok()
}

/// The name to store under: a full name that the layout gives, or one made of the path and tag.
fn stored_name(entry: &Descriptor, path: &Path, tag: Option<&str>) -> String {
    let tag = entry.annotations.get(REF_NAME).map(String::as_str).or(tag);
    let noted = entry.annotations.get(IMAGE_NAME).map(String::as_str);
    let full = noted.or(tag.filter(|tag| tag.contains(['/', ':'])));
    match full.and_then(|name| Reference::parse(name).ok()) {
        Some(reference) => reference.to_string(),
        None => local_name(path, tag.filter(|tag| is_tag(tag)).unwrap_or("latest")),
    }
}

/// `localhost/FILE:TAG`, with what no name can hold left out of the file's name.
pub fn local_name(path: &Path, tag: &str) -> String {
    let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let stem = canonical.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let stem = [".gz", ".tgz", ".tar"]
        .iter()
        .fold(stem.as_str(), |s, end| s.strip_suffix(end).unwrap_or(s));
    let words = stem.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("-");
    format!("localhost/{}:{tag}", if name.is_empty() { "image" } else { &name })
}

/// Where a blob is: its digest is known to be well-formed, so this stays inside.
fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

impl Source for Layout {
    fn manifest(&self, digest: Option<&Digest>) -> Result<(Vec<u8>, String, Digest)> {
        let (digest, media_type) = match (digest, &self.start) {
            (Some(digest), _) => (digest, ""),
            (None, Start::Entry(entry)) => (&entry.digest, entry.media_type.as_str()),
            (None, Start::Index(index)) => {
                let digest = Digest::of_sha256(index);
                return Ok((index.clone(), media::OCI_INDEX.to_owned(), digest));
            }
        };
        let bytes = self.files.small(&blob_path(digest)).map_err(|err| err.context(&self.shown))?;
        if !digest.matches(&bytes) {
            let found = Digest::of_sha256(&bytes);
            let text = format!("{}: manifest {digest} has other content, {found}", self.shown);
            return Err(Error::new(text));
        }
        Ok((bytes, media_type.to_owned(), digest.clone()))
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let digest = &descriptor.digest;
        let place = |err: Error| err.context(&self.shown);
        let (section, size) = self.files.open(&blob_path(digest), offset).map_err(place)?;
        if size != descriptor.size || offset > size {
            let wanted = descriptor.size;
            return Err(place(Error::new(format!("blob {digest} has {size} bytes, not {wanted}"))));
        }
        Ok(Box::new(section))
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(annotations: &[(&str, &str)], platform: Option<&str>) -> Descriptor {
        let pairs = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Descriptor {
            media_type: media::OCI_MANIFEST.into(),
            digest: Digest::of_sha256(format!("{annotations:?}{platform:?}").as_bytes()),
            size: 1,
            annotations: pairs.collect(),
            platform: platform.map(|p| crate::image::platform::Platform::parse(p).unwrap()),
        }
    }

    fn pick(entries: &[Descriptor], tag: Option<&str>) -> Result<String> {
        choose(entries.to_vec(), Vec::new(), Path::new("/x/My App.tar.gz"), tag)
            .map(|(name, _)| name)
    }

    #[test]
    fn names_what_is_chosen() {
        let plain = entry(&[(REF_NAME, "v1")], None);
        let full = entry(&[(REF_NAME, "v2"), (IMAGE_NAME, "docker.io/library/a:v2")], None);
        let bare = entry(&[], None);
        let both = [plain.clone(), full.clone()];
        assert_eq!(pick(&both, Some("v1")).unwrap(), "localhost/my-app:v1");
        assert_eq!(pick(&both, Some("v2")).unwrap(), "docker.io/library/a:v2");
        assert_eq!(pick(&both, Some("a:v2")).unwrap(), "docker.io/library/a:v2");
        assert_eq!(pick(std::slice::from_ref(&bare), None).unwrap(), "localhost/my-app:latest");
        let ref_is_name = entry(&[(REF_NAME, "a.io/b:c")], None);
        assert_eq!(pick(&[ref_is_name], None).unwrap(), "a.io/b:c");
        let err = pick(&both, None).unwrap_err().to_string();
        assert!(err.contains("2 images") && err.contains("v1, v2"), "{err}");
        assert!(pick(&both, Some("v3")).unwrap_err().message().contains("no image is tagged"));
        assert!(pick(&[bare.clone(), bare], None).is_err());
        assert!(pick(&[], None).is_err());
    }

    #[test]
    fn an_index_for_platforms_is_one_image() {
        let two = [entry(&[], Some("linux/amd64")), entry(&[], Some("linux/arm64"))];
        assert_eq!(pick(&two, None).unwrap(), "localhost/my-app:latest");
    }
}
