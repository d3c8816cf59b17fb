//! Manifests and indexes: parsed strictly and checked before anything trusts them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::media;
use crate::image::platform::Platform;

/// Points to content: what it is, its digest and size (image-spec descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Anything that the image's maker noted; data, never orders.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: what the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// Takes `null` for nothing, as programs in Go write lists and maps without members.
///
/// # Errors
/// It is something else.
pub fn or_empty<'de, D, T>(from: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// A checked document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// Manifests to choose from.
    Index(Vec<Descriptor>),
    /// One image: its config, and its layers from the lowest up.
    Image {
        /// The image's config.
        config: Descriptor,
        /// The layers, each of a media type that can be unpacked.
        layers: Vec<Descriptor>,
    },
}

/// More layers than any engine builds (Docker stops at 127) and overlayfs stacks (500).
const LAYERS_LIMIT: usize = 500;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// Parses what came with the media type `claimed` (of the server, or of the descriptor that
/// led here). Errors: see the module's parts; each says what the document is instead.
pub fn parse(bytes: &[u8], claimed: &str) -> Result<Document> {
    let claimed = essence(claimed);
    if media::manifest(&claimed) == media::Manifest::Schema1 {
        return Err(schema1());
    }
    // serde would read an array as a struct's fields in order.
    if bytes.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Error::new("manifest: it is no JSON object"));
    }
    let raw = decode(bytes)?;
    if raw.schema_version != 2 {
        return Err(Error::new(format!("schemaVersion is {}, not 2", raw.schema_version)));
    }
    let media_type = agreed_type(&claimed, raw.media_type.as_deref())?;
    check_shape(&raw)?;
    match media::manifest(&media_type) {
        media::Manifest::Index => index(raw),
        media::Manifest::Image => image(raw),
        media::Manifest::Schema1 => Err(schema1()),
        media::Manifest::Other => Err(Error::new(format!(
            "media type {media_type:?} is neither an image manifest nor an index"
        ))),
    }
}

/// The media type without parameters, in lower case.
fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn decode(bytes: &[u8]) -> Result<Raw> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(rename = "schemaVersion")]
        schema_version: Option<u32>,
    }
    // Asked first, because a schema 1 document has none of the other fields.
    if let Ok(Version { schema_version: Some(1) }) = serde_json::from_slice(bytes) {
        return Err(schema1());
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let raw: Raw = serde_path_to_error::deserialize(&mut json)
        .map_err(|err| Error::new(format!("manifest: {}: {}", err.path(), err.inner())))?;
    json.end().map_err(|err| Error::new(format!("manifest: {err}")))?;
    Ok(raw)
}

/// The one media type that server and body agree on. A body whose `mediaType` contradicts the
/// Content-Type would be read differently by different clients (CVE-2021-41190).
fn agreed_type(claimed: &str, body: Option<&str>) -> Result<String> {
    let generic = ["", "application/json", "text/plain", "application/octet-stream"];
    match body {
        Some(body) if body == claimed || generic.contains(&claimed) => Ok(body.to_owned()),
        Some(body) => Err(Error::new(format!(
            "manifest: it calls itself {body:?} but was served as {claimed:?}"
        ))),
        None => Ok(claimed.to_owned()),
    }
}

/// A document is an index or an image, never something to be read as both (CVE-2021-41190).
fn check_shape(raw: &Raw) -> Result<()> {
    if raw.fs_layers.is_some() {
        return Err(Error::new("manifest: fsLayers belongs to schema 1, this is schema 2"));
    }
    if raw.manifests.is_some() && (raw.layers.is_some() || raw.config.is_some()) {
        return Err(Error::new("manifest: it has both manifests and layers or config"));
    }
    Ok(())
}

fn index(raw: Raw) -> Result<Document> {
    raw.manifests.map(Document::Index).ok_or_else(|| Error::new("index: it has no manifests"))
}

fn image(raw: Raw) -> Result<Document> {
    let config = raw.config.ok_or_else(|| Error::new("manifest: it has no config"))?;
    if !media::is_image(&config.media_type, raw.artifact_type.as_deref()) {
        let kind = raw.artifact_type.unwrap_or(config.media_type);
        return Err(Error::new(format!("this is an artifact ({kind}), not a container image")));
    }
    let layers = raw.layers.unwrap_or_default();
    if layers.len() > LAYERS_LIMIT {
        let count = layers.len();
        return Err(Error::new(format!("{count} layers are more than {LAYERS_LIMIT}")));
    }
    for (i, layer) in layers.iter().enumerate() {
        media::layer(&layer.media_type).map_err(|why| {
            Error::new(format!("layers[{i}] is {why} (media type {:?})", layer.media_type))
        })?;
    }
    Ok(Document::Image { config, layers })
}

fn schema1() -> Error {
    Error::new("this image has Docker's old schema 1 manifest, which cannot be verified").hint(
        "push it again with a Docker newer than 1.10, or convert it: skopeo copy --format v2s2",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{D}","size":3}}"#)
    }

    fn image_json(config: &str, layer: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
            media::OCI_MANIFEST,
            descriptor(config),
            descriptor(layer)
        )
    }

    fn refusal(body: &str, claimed: &str) -> String {
        parse(body.as_bytes(), claimed).unwrap_err().message()
    }

    #[test]
    fn reads_an_image_and_an_index() {
        let body = image_json(media::OCI_CONFIG, media::OCI_LAYER_GZIP);
        for claimed in [media::OCI_MANIFEST, "application/json", ""] {
            let Document::Image { layers, .. } = parse(body.as_bytes(), claimed).unwrap() else {
                panic!("an image")
            };
            assert_eq!(layers.len(), 1);
        }
        let list = format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            descriptor(media::DOCKER_MANIFEST)
        );
        let with_charset = format!("{}; charset=utf-8", media::DOCKER_LIST);
        assert!(
            matches!(parse(list.as_bytes(), &with_charset).unwrap(), Document::Index(m) if m.len() == 1)
        );
    }

    #[test]
    fn nothing_may_be_null() {
        let config = descriptor(media::OCI_CONFIG).replace('}', r#","annotations":null}"#);
        for layers in ["", r#","layers":null"#, r#","layers":[]"#] {
            let body = format!(r#"{{"schemaVersion":2,"config":{config}{layers}}}"#);
            let found = parse(body.as_bytes(), media::OCI_MANIFEST).unwrap();
            assert!(matches!(found, Document::Image { layers, .. } if layers.is_empty()));
        }
    }

    #[test]
    fn refuses_two_meanings() {
        let body = image_json(media::OCI_CONFIG, media::OCI_LAYER);
        assert!(refusal(&body, media::OCI_INDEX).contains("was served as"));
        let both = body.replacen("\"layers\"", "\"manifests\":[],\"layers\"", 1);
        assert!(refusal(&both, media::OCI_MANIFEST).contains("both manifests and layers"));
        let twice = body.replacen("\"layers\"", "\"layers\":[],\"layers\"", 1);
        assert!(refusal(&twice, media::OCI_MANIFEST).contains("duplicate field"));
        let tail = format!("{body} {{}}");
        assert!(refusal(&tail, media::OCI_MANIFEST).contains("trailing"));
    }

    #[test]
    fn refuses_what_is_no_image() {
        let helm = image_json("application/vnd.cncf.helm.config.v1+json", media::OCI_LAYER);
        assert!(refusal(&helm, media::OCI_MANIFEST).contains("artifact"));
        let secret = format!("{}+encrypted", media::OCI_LAYER_GZIP);
        let secret = image_json(media::DOCKER_CONFIG, &secret);
        assert!(refusal(&secret, media::OCI_MANIFEST).contains("layers[0] is an encrypted layer"));
        let old = r#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#;
        assert!(refusal(old, "application/json").contains("schema 1"));
        assert!(refusal(old, media::DOCKER_MANIFEST).contains("schema 1"));
        assert!(refusal(r#"{"schemaVersion":2}"#, media::OCI_MANIFEST).contains("no config"));
        assert!(refusal(r#"{"schemaVersion":2}"#, media::OCI_INDEX).contains("no manifests"));
        assert!(refusal("[1]", media::OCI_INDEX).contains("manifest: "));
        assert!(refusal("{}", media::OCI_INDEX).contains("schemaVersion"));
        assert!(refusal(r#"{"schemaVersion":2}"#, "text/html").contains("text/html"));
    }

    #[test]
    fn names_the_place_of_a_wrong_type() {
        let body = image_json(media::OCI_CONFIG, media::OCI_LAYER);
        let negative = body.replace("\"size\":3}]", "\"size\":-3}]");
        assert!(refusal(&negative, "").starts_with("manifest: layers[0].size: "));
        let path = body.replacen("sha256:", "sha256:/../", 1);
        assert!(refusal(&path, "").starts_with("manifest: config.digest: "));
    }
}
