//! lade's stacked layers, for root and for a user without privileges, on whatever kernel this is: Linux
//! before 6.8 is told its layers in another way. Where the user has subordinate ids, they are mapped.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tare::image::digest::Digest;

/// A layout with two layers, programs that everybody may run, and a home.
struct Place(PathBuf);

impl Place {
    fn new(name: &str, more: usize) -> Place {
        // A comma parts options of mount(2).
        let dir = std::env::temp_dir().join(format!("lade-{name},a-{}", std::process::id()));
        let place = Place(dir);
        fs::create_dir_all(place.join("layout/blobs/sha256")).unwrap();
        fs::create_dir(place.join("home")).unwrap();
        for (program, name) in
            [(env!("CARGO_BIN_EXE_lade"), "lade"), (env!("CARGO_BIN_EXE_tare"), "tare")]
        {
            fs::copy(program, place.join(name)).unwrap();
        }
        place.layout(more);
        place
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Puts `bytes` among the blobs; a descriptor of them.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of_sha256(bytes);
        fs::write(self.join("layout/blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    }

    fn layer(&self, fill: impl FnOnce(&Path)) -> Value {
        let tree = self.join("tree");
        fs::create_dir(&tree).unwrap();
        fill(&tree);
        let tar = Command::new("tar").arg("-C").arg(&tree).args(["-c", "."]).output().unwrap();
        fs::remove_dir_all(tree).unwrap();
        self.blob("application/vnd.oci.image.layer.v1.tar", &tar.stdout)
    }

    /// With `more` layers in between.
    fn layout(&self, more: usize) {
        let lower = self.layer(|root| {
            for dir in ["bin", "data", "gone"] {
                fs::create_dir(root.join(dir)).unwrap();
            }
            fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
            for name in ["sh", "cat", "ls", "stat", "grep"] {
                symlink("busybox", root.join("bin").join(name)).unwrap();
            }
            fs::write(root.join("data/owned"), "lower").unwrap();
            chown(root.join("data/owned"), Some(5), Some(6)).unwrap();
            fs::write(root.join("data/hidden"), "lower").unwrap();
        });
        let upper = self.layer(|root| {
            fs::create_dir(root.join("data")).unwrap();
            fs::write(root.join("data/hidden"), "upper").unwrap();
            fs::write(root.join(".wh.gone"), "").unwrap();
        });
        let between = (0..more).map(|n| {
            self.layer(|root| fs::write(root.join(format!("layer{n}")), n.to_string()).unwrap())
        });
        let mut layers = vec![lower];
        layers.extend(between);
        layers.push(upper);
        let ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let config = json!({"architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": ids}});
        let config = config.to_string();
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.as_bytes());
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config,
            "layers": layers});
        let mut manifest = self.blob(media_type, manifest.to_string().as_bytes());
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "one"});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(self.join("layout/index.json"), index.to_string()).unwrap();
        fs::write(self.join("layout/oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    }

    /// What lade prints for the user `uid`; it has to succeed.
    fn lade(&self, uid: u32, args: &[&str]) -> String {
        let mut command = Command::new(self.join("lade"));
        command.arg("--store").arg(self.join("home/store")).args(args);
        command.current_dir(self.join("home")).env("HOME", self.join("home"));
        for name in ["XDG_DATA_HOME", "XDG_RUNTIME_DIR", "TARE"] {
            command.env_remove(name);
        }
        let output = command.uid(uid).gid(uid).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lade {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn run(&self, uid: u32, script: &str) -> String {
        let image = format!("oci:{}:one", self.join("layout").display());
        self.lade(uid, &["run", "-q", "--rm", &image, "/bin/sh", "-c", script])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = tare::image::tree::remove_path(&self.0);
    }
}

/// What the layers look like from inside, and that what is written is gone afterwards.
const SCRIPT: &str = "cat /data/hidden; stat -c ' %u %g' /data/owned; ls -d /gone /new 2>/dev/null; \
                      echo x >/new && echo y >/data/owned && cat /new /data/owned";

#[test]
fn layers_are_stacked_for_root() {
    let place = Place::new("overlay-root", 0);
    for _ in 0..2 {
        assert_eq!(place.run(0, SCRIPT), "upper 5 6\nx\ny\n");
    }
    let image = format!("oci:{}:one", place.join("layout").display());
    place.lade(0, &["bundle", &image, "bundle", "--", "/bin/sh"]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(mounts.contains(&format!("{}/home/bundle/rootfs", place.0.display())), "{mounts}");
    assert_eq!(fs::read(place.join("home/bundle/rootfs/data/hidden")).unwrap(), b"upper");
    place.lade(0, &["unbundle", "bundle"]);
    assert!(!place.join("home/bundle").exists());
}

/// More than a list of their paths has room for.
#[test]
fn many_layers_are_stacked() {
    let place = Place::new("overlay-many", 45);
    let said = place.run(0, "cat /data/hidden /layer0 /layer44; ls / | grep -c layer");
    assert_eq!(said, "upper04445\n");
}

#[test]
fn layers_are_stacked_for_a_user() {
    let name = Command::new("id").args(["-un", "1000"]).output().unwrap().stdout;
    let name = format!("{}:", String::from_utf8(name).unwrap().trim());
    let subordinate = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let mapped = name != ":" && subordinate.lines().any(|line| line.starts_with(&name));
    let uid = if mapped { 1000 } else { 65534 };
    let place = Place::new("overlay-user", 0);
    let opened = Command::new("chmod").args(["-R", "a+rX"]).arg(&place.0).status().unwrap();
    assert!(opened.success());
    chown(place.join("home"), Some(uid), Some(uid)).unwrap();
    for _ in 0..2 {
        // With the own id alone everything belongs to root, and what else was so is noted only.
        let owner = if mapped { "5 6" } else { "0 0" };
        assert_eq!(place.run(uid, SCRIPT), format!("upper {owner}\nx\ny\n"));
    }
    let ids = place.run(uid, "cat /proc/self/uid_map");
    assert_eq!(ids.lines().count(), 1 + usize::from(mapped), "{ids}");
}
