//! The `config.json` that `tare spec` writes: byte for byte runc 1.5's.

/// runc's default, as indented as runc's; `$NAMES` stand where its variants differ.
const TEMPLATE: &str = include_str!("default.json");

const SYSFS: &str = r#"			"type": "sysfs",
			"source": "sysfs",
			"options": [
				"#;
/// Only the owner of a network namespace may mount sysfs.
const SYS_OF_HOST: &str = r#"			"type": "none",
			"source": "/sys",
			"options": [
				"rbind",
				"#;
const GID: &str = r#",
				"gid=5""#;
const LIMITS: &str = r#"		"resources": {
			"devices": [
				{
					"allow": false,
					"access": "rwm"
				}
			]
		},
"#;
const NETWORK: &str = r#"			{
				"type": "network"
			},
"#;
const USER: &str = r#",
			{
				"type": "user"
			}"#;
const CGROUP: &str = r#",
			{
				"type": "cgroup"
			}"#;

/// The default configuration. `rootless`: for the calling user alone, who is root inside and
/// shares the host's network (`spec --rootless`). `unified`: the host has cgroup v2, so the
/// container gets a cgroup namespace.
pub fn json(rootless: bool, unified: bool) -> String {
    let (limits, network, user) = match rootless {
        true => (mappings(), "", USER),
        false => (LIMITS.to_owned(), NETWORK, ""),
    };
    let cgroup = if unified { CGROUP } else { "" };
    TEMPLATE
        .trim_end()
        .replace("$GID", if rootless { "" } else { GID })
        .replace("$SYS", if rootless { SYS_OF_HOST } else { SYSFS })
        .replace("$LIMITS", &limits)
        .replace("$NETWORK", network)
        .replace("$MORE", &[cgroup, user].concat())
}

/// The calling user and group as root of the user namespace.
fn mappings() -> String {
    let mapping = |kind: &str, host: u32| {
        format!(
            "\t\t\"{kind}\": [\n\t\t\t{{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": {host},\
             \n\t\t\t\t\"size\": 1\n\t\t\t}}\n\t\t],\n"
        )
    };
    let uid = mapping("uidMappings", nix::unistd::geteuid().as_raw());
    let gid = mapping("gidMappings", nix::unistd::getegid().as_raw());
    uid + &gid
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::spec::config::Spec;
    use crate::spec::{check, load};

    fn read(rootless: bool, unified: bool) -> Spec {
        let text = json(rootless, unified);
        assert!(!text.contains('$') && text.ends_with("\n}"), "{text}");
        let (spec, warnings) = load::parse::<Spec>(&text, Path::new("config.json")).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        check::check(&spec).unwrap();
        spec
    }

    fn namespaces(spec: Spec) -> Vec<String> {
        spec.linux.unwrap().namespaces.into_iter().map(|n| n.kind).collect()
    }

    #[test]
    fn every_variant_is_a_good_configuration() {
        assert_eq!(namespaces(read(false, false)), ["pid", "network", "ipc", "uts", "mount"]);
        assert_eq!(namespaces(read(true, true)), ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
    }

    #[test]
    fn rootless_maps_the_caller_and_takes_no_limits() {
        let linux = read(true, false).linux.unwrap();
        assert_eq!(linux.uid_mappings[0].host_id, nix::unistd::geteuid().as_raw());
        assert!(linux.resources.is_none());
        assert!(!json(true, false).contains("gid=5"));
    }
}
