//! Media types, of OCI and of Docker's schema 2 (image-spec media-types.md).

/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI plain layer.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI gzip layer.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI zstd layer.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker's index.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Whether a manifest holds an image by the media type of its config. Old registries and Dockers have
/// mistaken that (distribution#1621); artifacts say of what type they are.
pub fn is_image(config: &str, artifact: Option<&str>) -> bool {
    match config {
        OCI_CONFIG | DOCKER_CONFIG => true,
        "application/octet-stream" | "application/json" | "text/html" | "" => artifact.is_none(),
        _ => false,
    }
}

/// What a manifest's media type promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// A list of manifests, one for each platform.
    Index,
    /// One image.
    Image,
    /// Docker's schema 1, which has no digests of its content to verify.
    Schema1,
    /// Nothing that holds an image.
    Other,
}

/// Classifies a manifest's media type; parameters after `;` must already be gone.
pub fn manifest(media_type: &str) -> Manifest {
    match media_type {
        OCI_INDEX | DOCKER_LIST => Manifest::Index,
        OCI_MANIFEST | DOCKER_MANIFEST => Manifest::Image,
        t if t.starts_with("application/vnd.docker.distribution.manifest.v1+") => Manifest::Schema1,
        _ => Manifest::Other,
    }
}

/// How the bytes of a layer are packed around its tar stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar stream.
    None,
    /// gzip, possibly several members.
    Gzip,
    /// Zstandard, possibly several frames.
    Zstd,
}

impl Compression {
    /// By the end of a layer's media type.
    pub fn of_media_type(name: &str) -> Compression {
        match name.rsplit(['+', '.']).next() {
            Some("gzip") => Compression::Gzip,
            Some("zstd") => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// By the first bytes of a file (RFC 1952, RFC 8878).
    pub fn of_magic(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            // A frame, or one to be skipped with something about those that follow.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// Checks that a media type is that of a layer that can be unpacked; `Err` says in words why not. How
/// it is compressed: [`Compression::of_media_type`]. Layers with restricted distribution are like any other to
/// who has them (image-spec media-types.md).
pub fn layer(media_type: &str) -> Result<(), &'static str> {
    const KINDS: [&str; 4] = [
        OCI_LAYER,
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    let packed = |kind: &&str| media_type.strip_prefix(*kind);
    match KINDS.iter().find_map(packed) {
        Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd") => Ok(()),
        _ if media_type.ends_with("+encrypted") => Err("an encrypted layer"),
        _ => Err("no layer of a container image"),
    }
}

/// Whether a registry may lack the layer, as it was not to be distributed.
pub fn is_restricted(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}

/// The media type of a plain, gzip or zstd layer in OCI's words.
pub fn oci_layer(compression: Compression) -> &'static str {
    match compression {
        Compression::None => OCI_LAYER,
        Compression::Gzip => OCI_LAYER_GZIP,
        Compression::Zstd => OCI_LAYER_ZSTD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies() {
        assert_eq!(manifest(DOCKER_LIST), Manifest::Index);
        assert_eq!(manifest(OCI_MANIFEST), Manifest::Image);
        let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert_eq!(manifest(signed), Manifest::Schema1);
        assert_eq!(manifest("application/json"), Manifest::Other);
        assert!(is_image(OCI_CONFIG, Some("x/y")) && is_image("application/octet-stream", None));
        assert!(!is_image("application/json", Some("x/y")) && !is_image("x/y", None));
        for known in [
            OCI_LAYER,
            OCI_LAYER_ZSTD,
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        ] {
            assert_eq!(layer(known), Ok(()), "{known}");
        }
        for other in [
            "application/vnd.oci.image.layer.v1.tar+xz",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.wasm.content.layer.v1+wasm",
            "",
        ] {
            assert!(layer(other).is_err(), "{other}");
        }
        assert_eq!(Compression::of_magic(&[0x1f, 0x8b, 8]), Compression::Gzip);
        assert_eq!(Compression::of_magic(&[]), Compression::None);
        assert_eq!(Compression::of_magic(&[0x51, 0x2a, 0x4d, 0x18, 0]), Compression::Zstd);
    }
}
