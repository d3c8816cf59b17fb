//! lade with real images, as root: trees compared with umoci's, pulls that are killed, damaged or
//! doubled, and what garbage collection may and may not remove.
//!
//! Needs Debian's umoci, skopeo, libcap2-bin and busybox-static.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A directory of its own for each test, with a store and a layout.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("lade-images-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Place(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lade"));
        command
            .arg("--store")
            .arg(self.path("store"))
            .args(args)
            .env("TARE", env!("CARGO_BIN_EXE_tare"));
        command
    }

    fn lade(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let out = self.lade(args);
        assert!(out.status.success(), "lade {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    fn fails(&self, args: &[&str], words: &str) {
        let out = self.lade(args);
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "lade {args:?}: {err}");
        assert!(err.contains(words), "{err}");
    }

    fn count(&self, dir: &str) -> usize {
        fs::read_dir(self.path("store").join(dir)).map_or(0, Iterator::count)
    }

    /// Nothing of any image is visible and nothing half-made lies about.
    fn assert_empty(&self) {
        assert_eq!(self.ok(&["images", "--format", "json"]), "[]\n");
        assert_eq!((self.count("layers/sha256"), self.count("staging")), (0, 0));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Mounts of a failed test first, or they would be emptied.
        for bundle in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let rootfs = bundle.path().join("rootfs");
            let _ = nix::mount::umount2(&rootfs, nix::mount::MntFlags::UMOUNT_NOFOLLOW);
        }
        let _ = tare::image::tree::remove_path(&self.0);
    }
}

fn tool(name: &str, args: &[&str]) {
    let out = Command::new(name).args(args).output();
    let out = out.unwrap_or_else(|err| panic!("{name}: {err}; Debian's package has it"));
    assert!(out.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Applies `change` to the tree of `layout:tag` (made if it is not there) as one more layer.
fn layer(place: &Place, tag: &str, change: impl FnOnce(&Path)) {
    let layout = place.text("layout");
    let image = format!("{layout}:{tag}");
    if !place.path("layout").exists() {
        tool("umoci", &["init", "--layout", &layout]);
    }
    let index = fs::read_to_string(place.path("layout").join("index.json")).unwrap();
    if !index.contains(&format!("\"{tag}\"")) {
        tool("umoci", &["new", "--image", &image]);
    }
    let bundle = place.text("umoci");
    tool("umoci", &["unpack", "--image", &image, &bundle]);
    change(&place.path("umoci/rootfs"));
    tool("umoci", &["repack", "--image", &image, &bundle]);
    fs::remove_dir_all(&bundle).unwrap();
}

fn write(path: PathBuf, content: impl AsRef<[u8]>, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Bytes that do not compress, so that a blob is as large as they are.
fn noise(count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    fs::File::open("/dev/urandom").unwrap().take(count as u64).read_to_end(&mut bytes).unwrap();
    bytes
}

fn base(root: &Path) {
    for dir in ["bin", "etc", "dev", "tmp", "gone/deep", "opaque/old", "becomes-file", "links"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for name in ["sh", "sleep", "id", "cat"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n", 0o644);
    write(root.join("etc/group"), "web:x:34:\nadm:x:4:web\n", 0o644);
    write(root.join("bin/su"), "setuid", 0o6755);
    write(root.join("bin/ping"), "capable", 0o755);
    tool("setcap", &["cap_net_raw=ep", &root.join("bin/ping").display().to_string()]);
    let dev = |name: &str, kind, mode, number| {
        let mode = nix::sys::stat::Mode::from_bits_truncate(mode);
        nix::sys::stat::mknod(&root.join("dev").join(name), kind, mode, number).unwrap();
    };
    use nix::sys::stat::{SFlag, makedev};
    dev("null", SFlag::S_IFCHR, 0o666, makedev(1, 3));
    dev("loop", SFlag::S_IFBLK, 0o660, makedev(7, 0));
    dev("pipe", SFlag::S_IFIFO, 0o600, 0);
    write(root.join("links/one"), "linked", 0o640);
    fs::hard_link(root.join("links/one"), root.join("links/two")).unwrap();
    symlink("/etc/passwd", root.join("links/absolute")).unwrap();
    symlink("nowhere", root.join("links/dangling")).unwrap();
    let long = "long-".repeat(40);
    write(root.join(format!("{long}/{long}")), "long", 0o600);
    write(root.join(OsStr::from_bytes(b"caf\xe9-\xff")), "latin", 0o644);
    write(root.join("gone/deep/file"), "x", 0o644);
    write(root.join("gone-file"), "x", 0o644);
    write(root.join("opaque/old/file"), "x", 0o644);
    write(root.join("becomes-dir"), "x", 0o644);
    write(root.join("becomes-file/x"), "x", 0o644);
    write(root.join("big"), noise(3 << 20), 0o644);
    std::os::unix::fs::chown(root.join("links/one"), Some(1234), Some(70000)).unwrap();
    let time = std::time::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    fs::File::open(root.join("etc")).unwrap().set_modified(time).unwrap();
    fs::File::open(root.join("big")).unwrap().set_modified(time).unwrap();
}

fn second(root: &Path) {
    fs::remove_dir_all(root.join("gone")).unwrap();
    fs::remove_file(root.join("gone-file")).unwrap();
    fs::remove_dir_all(root.join("opaque")).unwrap();
    write(root.join("opaque/new"), "new", 0o644);
    fs::remove_file(root.join("becomes-dir")).unwrap();
    write(root.join("becomes-dir/y"), "y", 0o644);
    fs::remove_dir_all(root.join("becomes-file")).unwrap();
    write(root.join("becomes-file"), "now a file", 0o644);
    fs::hard_link(root.join("links/one"), root.join("links/three")).unwrap();
    fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o711)).unwrap();
}

/// Everything about a tree that a container could see, by path.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut entries = BTreeMap::new();
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let kind = meta.file_type();
        let mut text = format!("{:o} {}:{} ", meta.mode(), meta.uid(), meta.gid());
        text += &format!("{}.{:09} {:?} ", meta.mtime(), meta.mtime_nsec(), xattrs(&path));
        if kind.is_dir() {
            let mut inside: Vec<PathBuf> =
                fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()).collect();
            inside.sort_by(|a, b| b.cmp(a));
            todo.extend(inside);
        } else if kind.is_symlink() {
            text += &format!("-> {}", fs::read_link(&path).unwrap().display());
        } else if kind.is_file() {
            let same = inodes.entry(meta.ino()).or_insert_with(|| name.clone());
            let digest = tare::image::digest::Digest::of_sha256(&fs::read(&path).unwrap());
            text += &format!("{digest} = {}", same.display());
        } else if kind.is_char_device() || kind.is_block_device() {
            text += &format!("device {}", meta.rdev());
        }
        entries.insert(name, text);
    }
    entries
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let names = tare::sys::xattr::list(&path).unwrap();
    let names = names.split(|b| *b == 0).filter(|name| !name.is_empty());
    let pair = |name: &[u8]| {
        let key = CString::new(name).unwrap();
        let value = tare::sys::xattr::get(&path, &key).unwrap().unwrap();
        (String::from_utf8_lossy(name).into_owned(), value)
    };
    // The kernel's order is that in which they were set.
    let mut pairs: Vec<_> = names.map(pair).collect();
    pairs.sort();
    pairs
}

fn assert_same(ours: &Path, theirs: &Path) {
    let (ours, theirs) = (tree(ours), tree(theirs));
    let differ: Vec<_> = theirs
        .iter()
        .filter(|(path, text)| ours.get(*path) != Some(text))
        .map(|(path, text)| format!("{}: {text}\n  ours: {:?}", path.display(), ours.get(path)))
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    let extra: Vec<_> = ours.keys().filter(|path| !theirs.contains_key(*path)).collect();
    assert!(extra.is_empty(), "only ours: {extra:?}");
}

#[test]
fn trees_are_umocis() {
    let place = Place::new();
    layer(&place, "one", base);
    layer(&place, "one", second);
    let layout = place.text("layout");
    let (from, to) = (format!("oci:{layout}:one"), format!("oci:{}:one", place.text("zstd")));
    tool("skopeo", &["copy", "--dest-compress-format", "zstd", "-q", &from, &to]);
    tool("umoci", &["unpack", "--image", &format!("{layout}:one"), &place.text("theirs")]);
    let theirs = place.path("theirs/rootfs");
    for (i, image) in [&from, &to].into_iter().enumerate() {
        place.ok(&["pull", "-q", image]);
        let (mounted, copied) = (place.text(&format!("m{i}")), place.text(&format!("c{i}")));
        place.ok(&["bundle", image, &mounted, "--", "/bin/sh"]);
        assert_same(&Path::new(&mounted).join("rootfs"), &theirs);
        place.ok(&["bundle", "--copy", image, &copied, "--", "/bin/sh"]);
        assert_same(&Path::new(&copied).join("rootfs"), &theirs);
        place.ok(&["unbundle", &mounted]);
        place.ok(&["unbundle", &copied]);
        assert!(!Path::new(&mounted).exists() && !Path::new(&copied).exists());
        let names: Vec<serde_json::Value> =
            serde_json::from_str(&place.ok(&["images", "--format", "json"])).unwrap();
        for image in names {
            place.ok(&["rm", image["name"].as_str().unwrap()]);
        }
        assert!(place.ok(&["gc"]).starts_with("removed 2 layers"));
        place.assert_empty();
    }
}

#[test]
fn sparse_files_of_pax_archives_are_umocis() {
    let place = Place::new();
    let tree = place.path("tree");
    write(tree.join("plain"), "plain", 0o644);
    write(tree.join("dir/data-last"), "", 0o640);
    write(tree.join("many"), "", 0o644);
    write(tree.join("nothing"), "", 0o644);
    let put = |name: &str, at: u64, data: &[u8]| {
        fs::File::options().write(true).open(tree.join(name)).unwrap().write_all_at(data, at)
    };
    put("dir/data-last", 5 << 20, &noise(10_000)).unwrap();
    (0..60).for_each(|i| put("many", i << 16, b"x").unwrap());
    let nothing = fs::File::options().write(true).open(tree.join("nothing")).unwrap();
    nothing.set_len(64 << 20).unwrap();
    tool("umoci", &["init", "--layout", &place.text("layout")]);
    for version in ["0.0", "0.1", "1.0"] {
        let image = format!("{}:{version}", place.text("layout"));
        tool("umoci", &["new", "--image", &image]);
        let form = format!("--sparse-version={version}");
        let how = ["--sparse", "--hole-detection=seek", "--format=pax", &form];
        raw_layer(&place, version, "tree", &how);
        let (theirs, ours) =
            (place.text(&format!("t{version}")), place.text(&format!("o{version}")));
        tool("umoci", &["unpack", "--image", &image, &theirs]);
        place.ok(&["pull", "-q", &format!("oci:{image}")]);
        place.ok(&["bundle", "--copy", &format!("oci:{image}"), &ours, "--", "/x"]);
        assert_same(&Path::new(&ours).join("rootfs"), &Path::new(&theirs).join("rootfs"));
        for (name, most) in [("nothing", 64), ("many", 4096), ("dir/data-last", 64)] {
            let blocks = fs::metadata(Path::new(&ours).join("rootfs").join(name)).unwrap().blocks();
            assert!(blocks <= most, "{version}: {name} takes {blocks} blocks");
        }
        fs::remove_dir_all(&theirs).unwrap();
    }
}

/// Adds the directory `dir` of the place as one more layer of the new image `tag`, as it is.
fn raw_layer(place: &Place, tag: &str, dir: &str, how: &[&str]) {
    let (archive, image) = (place.text("layer.tar"), format!("{}:{tag}", place.text("layout")));
    tool("tar", &[how, &["-C", &place.text(dir), "-cf", &archive, "."]].concat());
    tool("umoci", &["raw", "add-layer", "--image", &image, &archive]);
}

/// Name (a directory's ends in a slash), mode and extended attributes.
type Entry<'a> = (&'a str, u32, &'a [(&'a str, &'a [u8])]);

/// Adds a layer of just these entries to the image `tag`, which is made if there is no layout yet.
fn entries_layer(place: &Place, tag: &str, entries: &[Entry]) {
    let image = format!("{}:{tag}", place.text("layout"));
    if !place.path("layout").exists() {
        tool("umoci", &["init", "--layout", &place.text("layout")]);
        tool("umoci", &["new", "--image", &image]);
    }
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, xattrs) in entries {
        let keys = xattrs.iter().map(|(key, value)| (format!("SCHILY.xattr.{key}"), *value));
        let keys: Vec<_> = keys.collect();
        archive.append_pax_extensions(keys.iter().map(|(k, v)| (k.as_str(), *v))).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(match name.ends_with('/') {
            true => tar::EntryType::Directory,
            false => tar::EntryType::Regular,
        });
        header.set_mode(*mode);
        header.set_uid(if *mode == 0o700 { 5 } else { 0 });
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(0);
        archive.append_data(&mut header, name, &b""[..]).unwrap();
    }
    fs::write(place.path("layer.tar"), archive.into_inner().unwrap()).unwrap();
    tool("umoci", &["raw", "add-layer", "--image", &image, &place.text("layer.tar")]);
}

/// Compares overlay and copy with what umoci makes of the image `one`, but for the time of the
/// directories `made` and of those in which they are made.
fn assert_umocis(place: &Place, made: &[&str]) {
    let touch = |root: &Path| {
        made.iter().for_each(|dir| tool("touch", &["-d@0", root.join(dir).to_str().unwrap()]))
    };
    let image = format!("oci:{}:one", place.text("layout"));
    let theirs = place.path("theirs/rootfs");
    tool("umoci", &["unpack", "--image", &image[4..], &place.text("theirs")]);
    touch(&theirs);
    place.ok(&["pull", "-q", &image]);
    for how in [&["bundle", "--copy"][..], &["bundle"]] {
        let ours = place.path("ours/rootfs");
        place.ok(&[how, &[&image, &place.text("ours"), "--", "/x"]].concat());
        touch(&ours);
        assert_same(&ours, &theirs);
        place.ok(&["unbundle", &place.text("ours")]);
    }
}

#[test]
fn removed_directories_do_not_come_back() {
    let place = Place::new();
    let old: [Entry; 3] = [("./", 0o755, &[]), ("b/", 0o755, &[]), ("b/x/", 0o700, &[])];
    entries_layer(&place, "one", &old);
    entries_layer(&place, "one", &[("b/x/g", 0o644, &[])]);
    entries_layer(&place, "one", &[("b/", 0o755, &[]), ("b/.wh..wh..opq", 0o644, &[])]);
    assert_umocis(&place, &[]);
    // Nor do the owner and the mode of one that is made anew.
    let other = Place::new();
    entries_layer(&other, "one", &old);
    let new: [Entry; 2] = [("b/.wh..wh..opq", 0o644, &[]), ("b/x/g", 0o644, &[])];
    entries_layer(&other, "one", &[&[("b/", 0o755, &[][..])], &new[..]].concat());
    assert_umocis(&other, &["b/x", "b"]);
    // Nor those from before a removal, where a layer in between has described what is in it.
    let third = Place::new();
    entries_layer(&third, "one", &[("./", 0o755, &[]), ("b/", 0o700, &[])]);
    entries_layer(&third, "one", &[(".wh.b", 0o644, &[])]);
    entries_layer(&third, "one", &[("b/c/", 0o750, &[])]);
    entries_layer(&third, "one", &[("b/c/f", 0o644, &[])]);
    assert_umocis(&third, &["b", ""]);
    let fourth = Place::new();
    entries_layer(&fourth, "one", &[("./", 0o755, &[]), ("b/", 0o700, &[])]);
    entries_layer(&fourth, "one", &[(".wh.b", 0o644, &[]), ("b/f", 0o644, &[])]);
    assert_umocis(&fourth, &["b", ""]);
}

/// For the owner and user 1000 everything, for others reading.
const ACL: &[u8] = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x07\0\xe8\x03\0\0\
    \x04\0\x05\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\x05\0\xff\xff\xff\xff";

#[test]
fn directories_have_the_attributes_of_their_topmost_description() {
    let place = Place::new();
    let attributes = [("user.a", &b"1"[..]), ("system.posix_acl_default", ACL)];
    let names = ["kept/", "kept/deep/", "changed/"];
    let described = names.map(|name| (name, 0o755, &attributes[..]));
    entries_layer(&place, "one", &[&[("./", 0o755, &[][..])], &described[..]].concat());
    let new: [Entry; 3] =
        [("kept/deep/f", 0o644, &[]), ("changed/", 0o755, &[]), ("changed/f", 0o644, &[])];
    entries_layer(&place, "one", &new);
    assert_umocis(&place, &[]);
}

#[test]
fn the_umask_does_not_reach_images() {
    let place = Place::new();
    entries_layer(&place, "one", &[("a/b/f", 0o644, &[]), ("d/", 0o777, &[])]);
    let image = format!("oci:{}:one", place.text("layout"));
    let lade = |args: &[&str]| {
        let store = place.text("store");
        let lade = [env!("CARGO_BIN_EXE_lade"), "--store", &store];
        tool("sh", &[&["-c", "umask 077; exec \"$@\"", "sh"], &lade[..], args].concat());
    };
    lade(&["pull", "-q", &image]);
    for how in [&["bundle", "--copy"][..], &["bundle"]] {
        lade(&[how, &[&image, &place.text("ours"), "--", "/x"]].concat());
        for (name, mode) in
            [("", 0o755), ("a", 0o755), ("a/b", 0o755), ("a/b/f", 0o644), ("d", 0o777)]
        {
            let meta = fs::metadata(place.path("ours/rootfs").join(name)).unwrap();
            assert_eq!(meta.mode() & 0o7777, mode, "{name}");
        }
        place.ok(&["unbundle", &place.text("ours")]);
    }
}

#[test]
fn whiteouts_in_what_is_removed_anyway_are_not_to_be_seen() {
    let place = Place::new();
    let old = ["./", "b/", "b/x/", "b/x/f", "b/y", "c/", "c/f"];
    entries_layer(&place, "one", &old.map(|name| (name, 0o755, &[][..])));
    let new = ["b/", "b/.wh..wh..opq", "b/.wh.y", "b/x/.wh.f", "b/z/.wh..wh..opq", "c/", ".wh.c"];
    let new = [&new[..], &["c/.wh.f", "c/d/.wh.f"]].concat();
    let new: Vec<Entry> = new.into_iter().map(|name| (name, 0o755, &[][..])).collect();
    entries_layer(&place, "one", &new);
    assert_umocis(&place, &["c", ""]);
    // Through a link of the lower layer.
    let link = Place::new();
    layer(&link, "one", |root| {
        base(root);
        symlink("links", root.join("link")).unwrap();
    });
    entries_layer(
        &link,
        "one",
        &["link/.wh..wh..opq", "link/f"].map(|name| (name, 0o644, &[][..])),
    );
    assert_umocis(&link, &["links"]);
}

#[test]
fn an_opaque_root_hides_all_below() {
    let place = Place::new();
    layer(&place, "one", base);
    write(place.path("top/.wh..wh..opq"), "", 0o644);
    write(place.path("top/new"), "new", 0o644);
    raw_layer(&place, "one", "top", &[]);
    let image = format!("oci:{}:one", place.text("layout"));
    tool("umoci", &["unpack", "--image", &image[4..], &place.text("theirs")]);
    place.ok(&["pull", "-q", &image]);
    for how in [&["bundle", "--copy"][..], &["bundle"]] {
        let ours = place.text("ours");
        place.ok(&[how, &[&image, &ours, "--", "/x"]].concat());
        assert_same(&Path::new(&ours).join("rootfs"), &place.path("theirs/rootfs"));
        place.ok(&["unbundle", &ours]);
    }
}

#[test]
fn the_platform_decides() {
    let place = Place::new();
    layer(&place, "amd", |root| write(root.join("amd"), "x", 0o644));
    layer(&place, "arm", |root| write(root.join("arm"), "x", 0o644));
    let image = format!("{}:arm", place.text("layout"));
    tool("umoci", &["config", "--image", &image, "--architecture", "arm64", "--config.cmd", "/x"]);
    let path = place.path("layout/index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let entries = index["manifests"].as_array_mut().unwrap();
    for entry in entries.iter_mut() {
        let tag = entry["annotations"]["org.opencontainers.image.ref.name"].take();
        let arch = if tag == "arm" { "arm64" } else { "amd64" };
        entry["platform"] = serde_json::json!({"os": "linux", "architecture": arch});
        entry.as_object_mut().unwrap().remove("annotations");
    }
    let list = serde_json::json!({"schemaVersion": 2, "manifests": entries,
        "mediaType": "application/vnd.oci.image.index.v1+json"})
    .to_string();
    let digest = tare::image::digest::Digest::of_sha256(list.as_bytes());
    fs::write(place.path("layout/blobs/sha256").join(digest.hex()), &list).unwrap();
    index["manifests"] = serde_json::json!([{"digest": digest, "size": list.len(),
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "annotations": {"org.opencontainers.image.ref.name": "both"}}]);
    fs::write(&path, index.to_string()).unwrap();
    let image = format!("oci:{}:both", place.text("layout"));
    place.ok(&["pull", "-q", "--platform", "linux/arm64", &image]);
    place.ok(&["bundle", &image, &place.text("bundle")]);
    assert!(place.path("bundle/rootfs/arm").exists() && !place.path("bundle/rootfs/amd").exists());
    place.ok(&["unbundle", &place.text("bundle")]);
    place.fails(&["pull", "--platform", "linux/s390x", &image], "linux/s390x");
}

/// A registry on loopback that serves a layout and can stop in the middle of a large blob.
struct Registry {
    port: u16,
    stalls: Arc<AtomicBool>,
    ranges: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    fn new(layout: PathBuf) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stalls = Arc::new(AtomicBool::new(true));
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let registry = Registry { port, stalls: stalls.clone(), ranges: ranges.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (layout, stalls, ranges) = (layout.clone(), stalls.clone(), ranges.clone());
                std::thread::spawn(move || serve(stream, &layout, &stalls, &ranges));
            }
        });
        registry
    }
}

fn serve(mut stream: TcpStream, layout: &Path, stalls: &AtomicBool, ranges: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("").to_owned();
    let range = lines
        .iter()
        .find_map(|l| l.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let name = path.rsplit('/').next().unwrap_or("");
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let first = index["manifests"][0]["digest"].as_str().unwrap();
    let digest = if path.contains("/manifests/") && !name.contains(':') { first } else { name };
    let Some(hex) = digest.strip_prefix("sha256:") else {
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return;
    };
    let bytes = fs::read(layout.join("blobs/sha256").join(hex)).unwrap();
    let offset = range
        .as_ref()
        .map_or(0, |r| r.trim_end_matches('-').split('-').next().unwrap().parse().unwrap());
    let status = match range {
        Some(range) => {
            ranges.lock().unwrap().push(range);
            let last = bytes.len() - 1;
            format!("206 Partial Content\r\ncontent-range: bytes {offset}-{last}/{}", bytes.len())
        }
        None => "200 OK".to_owned(),
    };
    let kind = if path.contains("/manifests/") {
        "application/vnd.oci.image.manifest.v1+json"
    } else {
        "application/octet-stream"
    };
    let rest = &bytes[offset..];
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        rest.len()
    );
    let _ = stream.write_all(head.as_bytes());
    if stalls.load(Ordering::Relaxed) && rest.len() > 2 << 20 {
        let _ = stream.write_all(&rest[..2 << 20]);
        while stalls.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        return;
    }
    let _ = stream.write_all(rest);
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_killed_pull_leaves_nothing_visible_and_goes_on() {
    let place = Place::new();
    layer(&place, "one", |root| write(root.join("big"), noise(6 << 20), 0o644));
    let registry = Registry::new(place.path("layout"));
    let image = format!("127.0.0.1:{}/test:one", registry.port);
    let mut child = place.command(&["pull", "--plain-http", &image]).spawn().unwrap();
    let partial = || {
        let files = fs::read_dir(place.path("store/partial")).into_iter().flatten().flatten();
        files.map(|f| f.metadata().unwrap().len()).sum::<u64>()
    };
    wait_until("half of the blob", || partial() >= 2 << 20);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(place.ok(&["images", "--format", "json"]), "[]\n");
    assert_eq!((place.count("layers/sha256"), place.count("staging")), (0, 2));
    let have = partial();
    registry.stalls.store(false, Ordering::Relaxed);
    place.ok(&["pull", "-q", "--plain-http", &image]);
    assert_eq!(*registry.ranges.lock().unwrap(), [format!("{have}-")]);
    assert_eq!((place.count("staging"), place.count("partial")), (0, 0));
    assert_eq!(place.count("layers/sha256"), 1);
}

#[test]
fn damage_is_refused_and_invisible() {
    let place = Place::new();
    layer(&place, "one", |root| write(root.join("big"), noise(2 << 20), 0o644));
    let blobs = fs::read_dir(place.path("layout/blobs/sha256")).unwrap().flatten();
    let blob = blobs.max_by_key(|b| b.metadata().unwrap().len()).unwrap().path();
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&blob, &bytes).unwrap();
    let image = format!("oci:{}:one", place.text("layout"));
    place.fails(&["pull", &image], "not what was asked for");
    place.assert_empty();
}

/// Adds a layer that names a file without describing the directories above it.
fn insert(place: &Place, tag: &str, file: &str) {
    write(place.path("inserted"), "inserted", 0o644);
    let image = format!("{}:{tag}", place.text("layout"));
    tool("umoci", &["insert", "--image", &image, &place.text("inserted"), file]);
}

/// There are more of them than a process may have open.
#[test]
fn hundreds_of_directories_may_be_implied() {
    let place = Place::new();
    let names: Vec<[String; 2]> =
        (0..200).map(|i| [format!("d/{i}/"), format!("d/{i}/f")]).collect();
    let part = |k: usize, mode| -> Vec<Entry> {
        names.iter().map(|pair| (pair[k].as_str(), mode, &[][..])).collect()
    };
    entries_layer(&place, "one", &part(0, 0o711));
    entries_layer(&place, "one", &part(1, 0o644));
    let (image, bundle) = (format!("oci:{}:one", place.text("layout")), place.text("bundle"));
    place.ok(&["pull", "-q", &image]);
    let limited =
        format!("ulimit -n 128; exec \"$0\" --store \"$1\" bundle {image} {bundle} -- /x");
    tool("sh", &["-c", &limited, env!("CARGO_BIN_EXE_lade"), &place.text("store")]);
    for i in [0, 199] {
        let meta = fs::metadata(place.path("bundle/rootfs/d").join(i.to_string())).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o711);
    }
    place.ok(&["unbundle", &bundle]);
}

#[test]
fn directories_that_a_layer_does_not_describe_stay_as_they_were() {
    let place = Place::new();
    layer(&place, "one", |root| {
        base(root);
        fs::create_dir_all(root.join("usr/lib/deep")).unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        std::os::unix::fs::chown(root.join("usr/lib/deep"), Some(5), Some(6)).unwrap();
        fs::set_permissions(root.join("usr/lib/deep"), fs::Permissions::from_mode(0o700)).unwrap();
    });
    insert(&place, "one", "/tmp/new");
    insert(&place, "one", "/usr/lib/deep/new");
    let image = format!("oci:{}:one", place.text("layout"));
    let bundle = place.text("bundle");
    let check = || {
        let meta = |name: &str| fs::metadata(place.path("bundle/rootfs").join(name)).unwrap();
        assert_eq!(meta("tmp").mode() & 0o7777, 0o1777);
        let deep = meta("usr/lib/deep");
        assert_eq!((deep.mode() & 0o7777, deep.uid(), deep.gid()), (0o700, 5, 6));
        assert_eq!(meta("etc").mtime(), 1_000_000_000);
        assert_eq!(meta("tmp/new").len() + meta("usr/lib/deep/new").len(), 16);
        assert!(place.path("bundle/rootfs/lib").is_symlink());
    };
    let mounted = || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.contains(&format!("{bundle}/rootfs"))
    };
    place.ok(&["pull", "-q", &image]);
    for (arguments, overlay) in [(&["bundle"][..], true), (&["bundle", "--copy"], false)] {
        place.ok(&[arguments, &[image.as_str(), bundle.as_str(), "--", "/x"]].concat());
        assert_eq!(mounted(), overlay);
        check();
        place.ok(&["unbundle", &bundle]);
    }
    // Through a lower layer's link: overlayfs would hide the link, so this has to be a copy.
    insert(&place, "one", "/lib/new");
    place.ok(&["pull", "-q", &image]);
    place.ok(&["bundle", &image, &bundle, "--", "/x"]);
    assert!(!mounted());
    check();
    assert_eq!(fs::read(place.path("bundle/rootfs/usr/lib/new")).unwrap(), b"inserted");
    place.ok(&["unbundle", &bundle]);
}

/// lade and tare where somebody without privileges finds them, and a home.
struct Unprivileged {
    programs: PathBuf,
    home: PathBuf,
}

impl Unprivileged {
    /// `nobody`: there are no subordinate ids, so the own id alone is mapped.
    const ID: u32 = 65534;

    fn new(place: &Place) -> Self {
        tool("chmod", &["-R", "a+rX", &place.text("layout")]);
        for (program, name) in
            [(env!("CARGO_BIN_EXE_lade"), "lade"), (env!("CARGO_BIN_EXE_tare"), "tare")]
        {
            fs::copy(program, place.path(name)).unwrap();
        }
        let home = place.path("home");
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(Self::ID), Some(Self::ID)).unwrap();
        Self { programs: place.0.clone(), home }
    }

    /// Exit code, output and errors.
    fn run(&self, program: &str, args: &[&str]) -> (Option<i32>, String, String) {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(self.programs.join(program));
        command.args(args).env("HOME", &self.home).current_dir(&self.home);
        for name in ["XDG_DATA_HOME", "XDG_RUNTIME_DIR", "TARE"] {
            command.env_remove(name);
        }
        let out = command.uid(Self::ID).gid(Self::ID).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    }

    fn ok(&self, program: &str, args: &[&str]) -> String {
        let (code, out, err) = self.run(program, args);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{program} {args:?}");
        out
    }
}

#[test]
fn without_root_images_are_pulled_and_copied() {
    let place = Place::new();
    layer(&place, "one", |root| {
        write(root.join("closed/file"), "x", 0o600);
        write(root.join("kept"), "x", 0o644);
        fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o500)).unwrap();
        std::os::unix::fs::chown(root.join("kept"), Some(5), Some(300)).unwrap();
        tool("mknod", &[root.join("device").to_str().unwrap(), "c", "1", "3"]);
    });
    layer(&place, "one", |root| fs::remove_dir_all(root.join("closed")).unwrap());
    let user = Unprivileged::new(&place);
    let image = format!("oci:{}:one", place.text("layout"));
    user.ok("lade", &["pull", "-q", &image]);
    // No overlay: it would be gone with the user namespace that lade makes.
    user.ok("lade", &["bundle", &image, "b", "--", "/x"]);
    let rootfs = user.home.join("b/rootfs");
    assert_eq!(fs::metadata(rootfs.join("kept")).unwrap().uid(), Unprivileged::ID);
    assert!(!rootfs.join("closed").exists() && !rootfs.join("device").exists());
    // Owner 5, group 300, as other tools note them.
    let mut note = Command::new("getfattr");
    note.args(["-e", "hex", "-n", "user.rootlesscontainers"]).arg(rootfs.join("kept"));
    let note = note.output().unwrap();
    assert!(String::from_utf8_lossy(&note.stdout).contains("=0x080510ac02"), "{note:?}");
    user.ok("lade", &["unbundle", "b"]);
    assert!(!user.home.join("b").exists());
}

#[test]
fn without_root_acls_of_others_are_left_out() {
    let place = Place::new();
    let acls = [("system.posix_acl_access", ACL), ("system.posix_acl_default", ACL)];
    entries_layer(&place, "one", &[("d/", 0o755, &acls), ("d/f", 0o644, &acls[..1])]);
    let user = Unprivileged::new(&place);
    let image = format!("oci:{}:one", place.text("layout"));
    user.ok("lade", &["pull", "-q", &image]);
    user.ok("lade", &["bundle", &image, "b", "--", "/x"]);
    for name in ["d", "d/f"] {
        assert_eq!(xattrs(&user.home.join("b/rootfs").join(name)), [], "{name}");
    }
}

#[test]
fn without_root_containers_run() {
    let place = Place::new();
    layer(&place, "one", base);
    let user = Unprivileged::new(&place);
    let image = format!("oci:{}:one", place.text("layout"));
    let script = "id -u; cat /proc/self/uid_map | tr -s ' '; echo x > /new && cat /new; ls /dev";
    let said = user.ok("lade", &["run", "-q", "--rm", &image, "/bin/sh", "-c", script]);
    assert!(said.starts_with("0\n 0 65534 1\nx\n") && said.contains("null"), "{said}");
    let host = ["run", "--net", "host", &image, "/bin/sh", "-c", "exit 7"];
    assert_eq!(user.run("lade", &host).0, Some(7));
    user.ok("lade", &["run", "-d", "--name", "box", &image, "/bin/sleep", "1000"]);
    let (code, _, err) = user.run("lade", &["delete", "box"]);
    assert!(code == Some(1) && err.contains("is not stopped"), "{err}");
    user.ok("lade", &["delete", "--force", "box"]);
    let store = user.home.join(".local/share/lade");
    assert_eq!(fs::read_dir(store.join("run")).unwrap().count(), 0);
    // A bundle is for a runtime outside: it has a user namespace of its own.
    user.ok("lade", &["bundle", &image, "b", "--", "/bin/id", "-u"]);
    let run = ["--root", "state", "run", "--bundle", "b", "box"];
    assert_eq!(user.ok("tare", &run), "0\n");
}

/// The runtime's own words, once, whoever has started it.
#[test]
fn a_container_that_cannot_start_leaves_nothing() {
    let place = Place::new();
    layer(&place, "one", base);
    let image = format!("oci:{}:one", place.text("layout"));
    place.ok(&["pull", "-q", &image]);
    for flags in [&["-q"][..], &["-q", "-d"]] {
        let out = place.lade(&[&["run"], flags, &[&image, "/no/such"]].concat());
        let err = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(1), "{err}");
        assert_eq!(err.matches("exec /no/such: no such file or directory").count(), 1, "{err}");
        assert!(err.contains("process.args[0]") && !err.contains("level="), "{err}");
        // lade's own words name no file that it has removed.
        assert!(!flags.contains(&"-d") || !err.contains("config.json"), "{err}");
        assert_eq!((place.count("run"), place.count("bundles")), (0, 0));
    }
}

/// No registry is asked before the options are known to be good.
#[test]
fn options_are_checked_before_anything_is_pulled() {
    let place = Place::new();
    let absent = place.text("absent");
    let volume = format!("{absent}:/x");
    for (option, value, code, words) in [
        ("--name", "a b", 2, "'--name <NAME>'"),
        ("-e", "=x", 2, "'--env <"),
        ("-u", "a:b:c", 2, "'--user <"),
        ("-v", "/:x", 2, "'--volume <"),
        ("-v", &volume, 1, "--volume"),
        ("--hosts-dir", &absent, 1, "--hosts-dir"),
        ("-v", "/:/x", 1, "connection refused"),
    ] {
        let out = place.lade(&["run", "-q", option, value, "127.0.0.1:1/x", "/bin/sh"]);
        let err = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(code), "{option} {value}: {err}");
        assert!(err.contains(words), "{option} {value}: {err}");
        assert_eq!(err.contains("refused"), words.contains("refused"), "{option} {value}: {err}");
    }
    // Of a bundle the sources may come later.
    place.fails(&["bundle", "-v", &volume, "none", &absent], "no image");
    assert_eq!(place.lade(&["bundle", "-v", "/:x", "none", &absent]).status.code(), Some(2));
    assert_eq!(place.count("run"), 0);
}

#[test]
fn signals_reach_the_container() {
    let place = Place::new();
    layer(&place, "one", base);
    let image = format!("oci:{}:one", place.text("layout"));
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let mut command = place.command(&["run", "-q", &image, "/bin/sh", "-c", script]);
    let mut run = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(run.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pid = nix::unistd::Pid::from_raw(run.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(9));
    assert_eq!((place.count("run"), place.count("bundles")), (0, 0));
}

/// As a table, and by the beginning of a digest.
#[test]
fn images_are_listed_and_found_by_digest() {
    let place = Place::new();
    layer(&place, "one", base);
    layer(&place, "second", |root| write(root.join("file"), "x", 0o644));
    for tag in ["one", "second"] {
        place.ok(&["pull", "-q", &format!("oci:{}:{tag}", place.text("layout"))]);
    }
    let names = ["localhost/layout:one", "localhost/layout:second"];
    let table = place.ok(&["images"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "DIGEST", "PLATFORM", "SIZE"]);
    assert_eq!(rows.len(), 3, "{table}");
    for (row, name) in rows[1..].iter().zip(&names) {
        assert_eq!((row[0], row[1].len(), row[2]), (*name, 12, "linux/amd64"), "{table}");
    }
    place.ok(&["rm", rows[1][1]]);
    let left = place.ok(&["images"]);
    assert!(left.contains(names[1]) && !left.contains(names[0]), "{left}");
    place.fails(&["rm", rows[1][1]], "no image");
}

#[test]
fn a_hundred_layers_are_stacked() {
    let place = Place::new();
    layer(&place, "one", |root| write(root.join("base"), "x", 0o644));
    for i in 0..99 {
        insert(&place, "one", &format!("/d/{i}"));
    }
    let image = format!("oci:{}:one", place.text("layout"));
    place.ok(&["pull", "-q", &image]);
    assert_eq!(place.count("layers/sha256"), 100);
    place.ok(&["bundle", &image, &place.text("bundle"), "--", "/x"]);
    assert_eq!(fs::read_dir(place.path("bundle/rootfs/d")).unwrap().count(), 99);
    place.ok(&["unbundle", &place.text("bundle")]);
}

#[test]
fn garbage_collection_spares_what_is_mounted() {
    let place = Place::new();
    layer(&place, "one", base);
    let image = format!("oci:{}:one", place.text("layout"));
    place.ok(&["pull", "-q", &image]);
    place.ok(&["bundle", &image, &place.text("bundle"), "--", "/bin/sh"]);
    place.ok(&["rm", &image]);
    assert!(place.ok(&["gc"]).starts_with("removed 0 layers"));
    assert_eq!(fs::read_to_string(place.path("bundle/rootfs/links/one")).unwrap(), "linked");
    place.fails(&["bundle", &image, &place.text("other")], "no image");
    place.fails(&["unbundle", &place.text("layout")], "not a bundle");
    place.fails(&["unbundle", &place.text("absent")], "absent: no such file or directory");
    place.ok(&["unbundle", &place.text("bundle")]);
    // Of a run that was killed before it had a bundle.
    fs::write(place.path("store/run/killed.lock"), "").unwrap();
    fs::create_dir_all(place.path("store/run/begun/rootfs")).unwrap();
    assert!(place.ok(&["gc"]).starts_with("removed 1 layers"));
    assert_eq!(place.count("run"), 0);
    place.assert_empty();
}

#[test]
fn two_pulls_at_once_do_not_disturb_each_other() {
    let place = Place::new();
    layer(&place, "one", base);
    layer(&place, "one", second);
    let image = format!("oci:{}:one", place.text("layout"));
    let pulls: Vec<_> =
        (0..3).map(|_| place.command(&["pull", "-q", &image]).spawn().unwrap()).collect();
    for mut pull in pulls {
        assert!(pull.wait().unwrap().success());
    }
    assert_eq!((place.count("layers/sha256"), place.count("staging")), (2, 0));
}

/// Each bundle has its own copy of what the image has there, which goes with it.
#[test]
fn volumes_are_filled_from_the_image() {
    let place = Place::new();
    layer(&place, "one", |root| {
        base(root);
        write(root.join("srv/data/kept"), "from the image", 0o640);
        std::os::unix::fs::chown(root.join("srv/data"), Some(33), Some(34)).unwrap();
        symlink("../srv/data", root.join("etc/link")).unwrap();
    });
    let tag = format!("{}:one", place.text("layout"));
    let volumes = ["/etc/link", "/new"].map(|path| format!("--config.volume={path}"));
    let config =
        [&["config", "--image", &tag][..], &volumes.each_ref().map(String::as_str)].concat();
    tool("umoci", &config);
    let image = format!("oci:{tag}");
    let script =
        "cat /etc/link/kept; echo changed >/srv/data/kept; echo x >/new/file; ls -ldn /srv/data";
    place.ok(&["pull", "-q", &image]);
    for _ in 0..2 {
        let said = place.ok(&["run", "-q", "--rm", &image, "/bin/sh", "-c", script]);
        assert!(said.starts_with("from the image") && said.contains(" 33 "), "{said}");
    }
    // What is asked for there takes the volume's place.
    fs::create_dir(place.path("own")).unwrap();
    let own = format!("{}:/new", place.text("own"));
    place.ok(&["run", "-q", "-v", &own, &image, "/bin/sh", "-c", "echo mine >/new/file"]);
    assert_eq!(fs::read_to_string(place.path("own/file")).unwrap(), "mine\n");
    place.ok(&["bundle", &image, &place.text("bundle"), "--", "/bin/sh"]);
    let own = |n: usize| place.path("bundle/.lade/volumes").join(n.to_string());
    assert_eq!(fs::read_to_string(own(0).join("kept")).unwrap(), "from the image");
    assert_eq!(fs::metadata(own(0)).unwrap().uid(), 33);
    assert_eq!(fs::read_dir(own(1)).unwrap().count(), 0);
    place.ok(&["unbundle", &place.text("bundle")]);
    assert!(!place.path("bundle").exists());
}

#[test]
fn containers_run_and_leave_nothing() {
    let place = Place::new();
    layer(&place, "one", base);
    let tag = format!("{}:one", place.text("layout"));
    tool("umoci", &["config", "--image", &tag, "--config.user", "web", "--config.env", "A=1"]);
    let image = format!("oci:{tag}");
    let out =
        place.lade(&["run", "-q", "-e", "B=2", &image, "/bin/sh", "-c", "id; echo $A$B; exit 7"]);
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(7), "{err}");
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(text, "uid=33(web) gid=34(web) groups=4(adm)\n12\n");
    place.fails(&["run", "-u", "nobody", &image, "/bin/sh"], "no user \"nobody\"");
    let name = format!("lade-test-{}", std::process::id());
    let run = ["run", "-d", "--rm", "--name", &name, &image, "/bin/sleep", "1"];
    assert_eq!(place.ok(&run), format!("{name}\n"));
    place.fails(&run, "in use");
    wait_until("removal after the end", || place.count("run") == 0);
    let name = format!("lade-test-{}-b", std::process::id());
    place.ok(&["run", "-d", "--name", &name, &image, "/bin/sleep", "100"]);
    place.fails(&["delete", &name], "is not stopped");
    place.ok(&["delete", "-f", &name]);
    assert_eq!((place.count("run"), place.count("bundles")), (0, 0));
}

/// The name in the store is made of the last part of the path only, and what is there may change.
#[test]
fn a_file_is_looked_at_whenever_it_is_named() {
    let place = Place::new();
    let named = |name: &'static str| move |root: &Path| write(root.join("name"), name, 0o644);
    layer(&place, "one", base);
    layer(&place, "one", named("first"));
    fs::create_dir(place.path("other")).unwrap();
    tool("cp", &["-a", &place.text("layout"), &place.text("other")]);
    let other = format!("oci:{}:one", place.text("other/layout"));
    let image = format!("oci:{}:one", place.text("layout"));
    let name = |image: &str| place.ok(&["run", "-q", image, "/bin/cat", "/name"]);
    assert_eq!(name(&image), "first");
    layer(&place, "one", named("second"));
    for _ in 0..2 {
        assert_eq!((name(&other).as_str(), name(&image).as_str()), ("first", "second"));
    }
    let bundle = place.text("bundle");
    for command in [&["bundle", &other, &bundle][..], &["rm", &other]] {
        place.fails(command, "there is no image");
    }
    place.ok(&["bundle", &image, &bundle, "--", "/bin/sh"]);
    assert_eq!(fs::read_to_string(place.path("bundle/rootfs/name")).unwrap(), "second");
    place.ok(&["unbundle", &bundle]);
    // By what is listed, the one that was named last.
    assert_eq!(name("localhost/layout:one"), "second");
    place.ok(&["rm", &image]);
    place.fails(&["run", "-q", &format!("oci:{}:one", place.text("no")), "/x"], "open layout");
}

#[test]
fn a_bundle_in_use_stays() {
    let place = Place::new();
    layer(&place, "one", base);
    let image = format!("oci:{}:one", place.text("layout"));
    place.ok(&["pull", "-q", &image]);
    let (bundle, root) = (place.text("bundle"), place.text("state"));
    let tare = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tare"));
        command.args(["--root", &root]).args(args).stdin(std::process::Stdio::null());
        assert!(command.stdout(std::process::Stdio::null()).status().unwrap().success());
    };
    let name = format!("lade-test-{}-used", std::process::id());
    for how in [&["bundle"][..], &["bundle", "--copy"]] {
        place.ok(&[how, &[&image, &bundle, "--", "/bin/sleep", "100"]].concat());
        tare(&["run", "--detach", "--bundle", &bundle, &name]);
        let out = place.lade(&["unbundle", &bundle]);
        let kept = place.path("bundle/rootfs/bin/busybox").exists();
        tare(&["delete", "--force", &name]);
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(1) && err.contains("is in use: process"), "{err}");
        assert!(kept);
        place.ok(&["unbundle", &bundle]);
    }
}

/// Only a runtime's word that there is no such container counts, and it has to be the one that has it.
#[test]
fn garbage_collection_spares_containers_of_another_environment() {
    let place = Place::new();
    layer(&place, "one", base);
    let image = format!("oci:{}:one", place.text("layout"));
    let name = format!("lade-test-{}-kept", std::process::id());
    place.ok(&["run", "-q", "-d", "--name", &name, &image, "/bin/sleep", "100"]);
    assert!(place.command(&["gc"]).env("TARE", "/bin/false").status().unwrap().success());
    let kept = place.path("store/run").join(&name).join("config.json").exists();
    place.ok(&["delete", "--force", &name]);
    assert!(kept);

    let user = Unprivileged::new(&place);
    let container = user.home.join(".local/share/lade/run/box");
    let state = user.home.join("runtime");
    fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(Unprivileged::ID), Some(Unprivileged::ID)).unwrap();
    let variable = format!("XDG_RUNTIME_DIR={}", state.display());
    let lade = place.text("lade");
    let run = ["run", "-q", "-d", "--name", "box", &image, "/bin/sleep", "100"];
    user.ok("/usr/bin/env", &[&[variable.as_str(), &lade], &run[..]].concat());
    user.ok("lade", &["gc"]);
    // Root's own runtime does not know it either, and what is noted there is not root's to run.
    let store = user.home.join(".local/share/lade").display().to_string();
    let as_root = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lade"));
        command.args(["--store", &store]).args(args).output().unwrap()
    };
    let (collected, refused) = (as_root(&["gc"]), as_root(&["delete", "-f", "box"]));
    let kept = container.join("config.json").exists();
    // A log-out removes this directory, and not what still runs.
    fs::rename(state.join("tare"), state.join("away")).unwrap();
    user.ok("lade", &["gc"]);
    let still_kept = container.join("config.json").exists();
    let (code, _, err) = user.run("lade", &["delete", "box"]);
    user.ok("lade", &["delete", "--force", "box"]);
    assert!(kept && still_kept && code == Some(1) && err.contains("is not stopped"), "{err}");
    assert!(!container.exists());
    assert!(collected.status.success(), "{collected:?}");
    let err = String::from_utf8_lossy(&refused.stderr);
    assert!(err.contains("belongs to another user"), "{err}");
}

#[test]
fn a_signal_while_the_bundle_is_made_leaves_nothing() {
    let place = Place::new();
    layer(&place, "one", |root| {
        base(root);
        (0..2000).for_each(|i| write(root.join("files").join(i.to_string()), "x", 0o644));
    });
    let image = format!("oci:{}:one", place.text("layout"));
    place.ok(&["pull", "-q", &image]);
    for how in [&["run", "--copy"][..], &["run", "--copy", "-d"]] {
        let run = [how, &["--name", "early", &image, "/bin/sleep", "100"]].concat();
        let mut run = place.command(&run).spawn().unwrap();
        wait_until("the root", || place.path("store/run/early/rootfs/bin").exists());
        let pid = nix::unistd::Pid::from_raw(run.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(128 + 15));
        assert_eq!((place.count("run"), place.count("bundles")), (0, 0));
    }
}

#[test]
fn the_hosts_network_comes_with_its_names() {
    let place = Place::new();
    layer(&place, "one", |root| {
        base(root);
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        symlink("../usr/lib/hosts", root.join("etc/hosts")).unwrap();
    });
    let image = format!("oci:{}:one", place.text("layout"));
    let own = place.text("own");
    fs::write(&own, "own").unwrap();
    let script = "cat /etc/resolv.conf /etc/hosts; ! echo x 2>/dev/null >/etc/hosts";
    let hosts = ["/etc/resolv.conf", "/etc/hosts"].map(|path| fs::read_to_string(path).unwrap());
    let run = ["run", "-q", "--net", "host", &image, "/bin/sh", "-c", script];
    assert_eq!(place.ok(&run), hosts.concat());
    let volume = format!("{own}:/etc/hosts");
    let run = ["run", "-q", "-v", &volume, "--net", "host", &image, "/bin/cat", "/etc/hosts"];
    assert_eq!(place.ok(&run), "own");
    let run = ["run", "-qi", &image, "/bin/sh", "-c", "! cat /etc/resolv.conf 2>/dev/null"];
    assert_eq!(place.ok(&run), "");
}

/// What Docker 20.10 saves of `FROM scratch` with a label: lists without members are null or left out.
#[test]
fn images_without_layers_are_taken_as_docker_writes_them() {
    let place = Place::new();
    let platform = tare::image::platform::Platform::host();
    let config = serde_json::json!({"os": platform.os, "architecture": platform.architecture,
        "config": {"Labels": {"a": "b"}, "Cmd": ["/x"], "Volumes": null},
        "rootfs": {"type": "layers"}});
    let manifest = r#"[{"Config":"c.json","RepoTags":["empty:1"],"Layers":null}]"#;
    write(place.path("saved/c.json"), config.to_string(), 0o644);
    write(place.path("saved/manifest.json"), manifest, 0o644);
    let file = place.text("saved.tar");
    tool("tar", &["-C", &place.text("saved"), "-cf", &file, "c.json", "manifest.json"]);
    for reference in [format!("docker-archive:{file}"), format!("docker-archive:{file}:@0")] {
        place.ok(&["pull", "-q", &reference]);
        place.ok(&["rm", "docker.io/library/empty:1"]);
    }
    place.fails(&["pull", "-q", &format!("docker-archive:{file}:@1")], "holds empty:1");
    place.ok(&["pull", "-q", &format!("docker-archive:{file}")]);
    let bundle = place.text("bundle");
    place.ok(&["bundle", "empty:1", &bundle]);
    let spec = fs::read(place.path("bundle/config.json")).unwrap();
    let spec: serde_json::Value = serde_json::from_slice(&spec).unwrap();
    assert_eq!(
        (&spec["process"]["args"][0], &spec["annotations"]["a"]),
        (&"/x".into(), &"b".into())
    );
    assert_eq!(fs::read_dir(place.path("bundle/rootfs")).unwrap().count(), 0);
    place.ok(&["unbundle", &bundle]);
}

/// What a call returns in a container with the default profile, by its number on x86-64.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_default_filter_keeps_containers_from_namespaces() {
    let place = Place::new();
    layer(&place, "one", |root| {
        base(root);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/programs/calls.c");
        let [source, calls] =
            [source, root.join("bin/calls")].map(|path| path.display().to_string());
        tool("cc", &["-O2", "-static", "-o", &calls, &source]);
    });
    let image = format!("oci:{}:one", place.text("layout"));
    let asked: [(&str, u32, &str, &str); 13] = [
        ("clone with CLONE_NEWUSER", 56, "0x10000011", "-1"),
        ("clone with CLONE_NEWNET", 56, "0x40000011", "-1"),
        ("clone3", 435, "0 0", "-38"),
        ("unshare", 272, "0x10000000", "-1"),
        ("mount", 165, "0 0 0 0 0", "-1"),
        ("fsopen", 430, "0 0", "-1"),
        ("keyctl", 250, "0 -1 0", "-1"),
        ("set_mempolicy", 238, "0 0 0", "-1"),
        ("reboot", 169, "0", "-1"),
        ("socket of AF_VSOCK", 41, "40 1 0", "-1"),
        ("socket of AF_UNIX", 41, "1 1 0", "3"),
        ("vmsplice", 278, "-1 0 0 0", "-9"),
        ("futex_waitv", 449, "0 0 0 0 0", "-22"),
    ];
    let script: String =
        asked.iter().map(|(_, call, args, _)| format!("calls plain {call} {args}; ")).collect();
    let script = format!("{script}calls thread 39; busybox unshare -Urm id");
    let out = place.lade(&["run", "-q", "--rm", &image, "/bin/sh", "-c", &script]);
    let said = String::from_utf8(out.stdout).unwrap();
    let found: Vec<_> = asked.iter().map(|asked| asked.0).zip(said.lines()).collect();
    let expected: Vec<_> = asked.iter().map(|asked| (asked.0, asked.3)).collect();
    assert_eq!(found, expected);
    assert!(said.ends_with("main lives\n"), "{said}");
    let err = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.code() == Some(1) && err.contains("Operation not permitted"), "{err}");
}
