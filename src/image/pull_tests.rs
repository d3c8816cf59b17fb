//! Pulls from a source in memory whose bytes are real: what is damaged where, and what of it may
//! become visible.

use super::*;
use crate::image::media;
use std::collections::HashMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

struct Memory {
    blobs: HashMap<Digest, Vec<u8>>,
    manifest: Digest,
    /// Whether it stands for a registry.
    remote: bool,
    /// Blobs end with an error after this many bytes.
    cut: Option<u64>,
    /// Where the last blob was read from.
    offset: AtomicU64,
}

impl Source for Memory {
    fn manifest(&self, digest: Option<&Digest>) -> Result<(Vec<u8>, String, Digest)> {
        let digest = digest.unwrap_or(&self.manifest);
        Ok((self.blobs[digest].clone(), media::OCI_MANIFEST.into(), digest.clone()))
    }
    fn blob(&self, of: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        self.offset.store(offset, Ordering::Relaxed);
        let bytes = Cursor::new(self.blobs[&of.digest][offset as usize..].to_vec());
        Ok(match self.cut {
            Some(cut) if of.size > cut => Box::new(bytes.take(cut - offset).chain(Broken)),
            _ => Box::new(bytes),
        })
    }
    fn is_remote(&self) -> bool {
        self.remote
    }

    fn name(&self) -> String {
        "test".into()
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(libc::ECONNRESET))
    }
}

/// An image of one layer with a file of incompressible bytes, its store, and the diff_id.
struct Case {
    source: Memory,
    store: Store,
    dir: PathBuf,
    layer: Digest,
    diff_id: Digest,
}

impl Case {
    fn new(name: &str, diff_id: Option<&str>) -> Case {
        let mut tar = ::tar::Builder::new(Vec::new());
        let mut header = ::tar::Header::new_gnu();
        let data: Vec<u8> =
            (0..3_000_000_u32).map(|i| (i.wrapping_mul(2654435761) >> 13) as u8).collect();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_cksum();
        tar.append_data(&mut header, "file", data.as_slice()).unwrap();
        let tar = tar.into_inner().unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        gz.write_all(&tar).unwrap();
        let mut blobs = HashMap::new();
        let mut add = |bytes: Vec<u8>| {
            let digest = Digest::of_sha256(&bytes);
            let json = serde_json::json!({"digest": digest, "size": bytes.len()});
            blobs.insert(digest.clone(), bytes);
            (digest, json)
        };
        let (layer, mut layer_json) = add(gz.finish().unwrap());
        let diff_id =
            diff_id.map_or_else(|| Digest::of_sha256(&tar), |d| Digest::parse(d).unwrap());
        let host = Platform::host();
        let config = serde_json::json!({"os": host.os, "architecture": host.architecture,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
        let (_, mut config_json) = add(config.to_string().into_bytes());
        layer_json["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip".into();
        config_json["mediaType"] = media::OCI_CONFIG.into();
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": config_json, "layers": [layer_json]});
        let (manifest, _) = add(manifest.to_string().into_bytes());
        let dir = std::env::temp_dir().join(format!("lade-pull-{name}-{}", std::process::id()));
        let store = Store::open(Some(&dir)).unwrap();
        let source = Memory { blobs, manifest, cut: None, remote: true, offset: AtomicU64::new(0) };
        Case { source, store, dir, layer, diff_id }
    }

    fn pull(&self) -> Result<ImageRecord> {
        pull(&self.store, &self.source, &Platform::host(), &Progress::new(true))
    }

    fn partial(&self) -> PathBuf {
        self.dir.join("partial").join(format!("sha256-{}", self.layer.hex()))
    }

    fn refuses(&self, words: &str) {
        let err = self.pull().unwrap_err().to_string();
        assert!(err.contains(words), "{err}");
        assert!(!self.store.has_layer(&self.diff_id));
        assert!(self.store.images().unwrap().is_empty());
        assert_eq!(fs::read_dir(self.dir.join("staging")).unwrap().count(), 0);
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        crate::image::tree::remove_path(&self.dir).unwrap();
    }
}

#[test]
fn pulls_and_names() {
    let case = Case::new("good", None);
    let image = case.pull().unwrap();
    assert_eq!((image.layers.as_slice(), image.size), (&[case.diff_id.clone()][..], 3_000_000));
    assert_eq!(case.store.images().unwrap().len(), 1);
    let file = case.store.layer_tree(&case.diff_id).join("file");
    assert_eq!(fs::metadata(file).unwrap().len(), 3_000_000);
    assert!(!case.partial().exists());
}

#[test]
fn a_wrong_digest_is_refused() {
    let mut case = Case::new("digest", None);
    let blob = case.source.blobs.get_mut(&case.layer).unwrap();
    let middle = blob.len() / 2;
    blob[middle] ^= 1;
    case.refuses("not what was asked for");
    assert!(!case.partial().exists(), "bad bytes were kept");
}

#[test]
fn a_short_blob_is_refused() {
    let mut case = Case::new("short", None);
    let blob = case.source.blobs.get_mut(&case.layer).unwrap();
    blob.truncate(blob.len() - 1);
    case.refuses("not what was asked for");
}

#[test]
fn a_wrong_diff_id_is_refused() {
    let other = Digest::of_sha256(b"other");
    Case::new("diff", Some(other.as_str())).refuses("the image config says");
}

#[test]
fn a_lost_connection_is_resumed_by_the_next_pull() {
    let mut case = Case::new("resume", None);
    case.source.cut = Some(2_000_000);
    case.refuses("connection reset by peer");
    assert_eq!(fs::metadata(case.partial()).unwrap().len(), 2_000_000);
    case.source.cut = None;
    case.pull().unwrap();
    assert_eq!(case.source.offset.load(Ordering::Relaxed), 2_000_000);
    assert!(!case.partial().exists());
}

#[test]
fn what_lies_on_this_machine_is_not_kept_twice() {
    let mut case = Case::new("local", None);
    case.source.remote = false;
    case.source.cut = Some(2_000_000);
    case.refuses("connection reset by peer");
    assert!(!case.partial().exists());
}

#[test]
fn a_damaged_beginning_is_fetched_again() {
    let case = Case::new("damaged", None);
    fs::write(case.partial(), vec![7; 1_500_000]).unwrap();
    case.pull().unwrap();
    assert_eq!(case.source.offset.load(Ordering::Relaxed), 0);
    case.store.remove_image("test").unwrap();
    case.store.collect().unwrap();
    fs::write(case.partial(), vec![7; 10_000_000]).unwrap();
    case.pull().unwrap();
    fs::write(case.partial(), "of a killed pull").unwrap();
    case.store.collect().unwrap();
    assert!(!case.partial().exists());
}

#[test]
fn a_complete_beginning_needs_no_source() {
    let case = Case::new("complete", None);
    fs::write(case.partial(), &case.source.blobs[&case.layer]).unwrap();
    case.source.offset.store(77, Ordering::Relaxed);
    case.pull().unwrap();
    assert!(case.source.offset.load(Ordering::Relaxed) == 0, "only the config was read");
}

#[test]
fn what_a_config_leaves_out_is_empty() {
    for ids in ["", r#","diff_ids":null"#, r#","diff_ids":[]"#] {
        let text = format!(
            r#"{{"rootfs":{{"type":"layers"{ids}}},"config":{{"Labels":{{"a":null,"b":"c"}},
                "ExposedPorts":{{"1/tcp":null}},"Volumes":{{"/v":null}},"Cmd":null}}}}"#
        );
        let image = parse_config(text.as_bytes()).unwrap();
        assert!(image.rootfs().diff_ids().is_empty());
        assert_eq!((image.os().to_string(), image.architecture().to_string()), Default::default());
        let config = image.config().as_ref().unwrap();
        assert_eq!(config.labels().as_ref().unwrap()["a"], "");
        assert_eq!(config.labels().as_ref().unwrap()["b"], "c");
        assert_eq!(config.exposed_ports().as_ref().unwrap(), &["1/tcp"]);
        assert_eq!(config.volumes().as_ref().unwrap(), &["/v"]);
    }
    for (bad, words) in [
        ("[]", "image config: "),
        (r#"{"rootfs":{"type":"layers","diff_ids":"x"}}"#, "image config: rootfs.diff_ids: "),
        (r#"{"rootfs":{"type":"layers"},"config":{"Cmd":"x"}}"#, "image config: config.Cmd: "),
    ] {
        let err = parse_config(bad.as_bytes()).unwrap_err().message();
        assert!(err.starts_with(words), "{err}");
    }
}
