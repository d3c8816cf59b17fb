//! Hostile archives, made in memory; SECURITY.md's row on unpackers, one test each.

use super::*;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use tar::{EntryType, Header};

/// A directory with a tree to unpack into and a file beside it that nothing may touch.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let top = std::env::temp_dir().join(format!("lade-{}-{number}", std::process::id()));
        fs::create_dir_all(top.join("tree")).unwrap();
        fs::write(top.join("outside"), "untouched").unwrap();
        Place(top)
    }

    fn tree(&self, name: &str) -> PathBuf {
        self.0.join("tree").join(name)
    }

    fn unpack(&self, archive: Archive) -> Result<Unpacked> {
        let result = unpack(archive.bytes().as_slice(), &self.0.join("tree"));
        assert_eq!(fs::read_to_string(self.0.join("outside")).unwrap(), "untouched");
        assert_eq!(fs::metadata(self.0.join("outside")).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_dir(&self.0).unwrap().count(), 2, "something appeared outside");
        result
    }

    fn refuses(archive: Archive, words: &str) {
        let err = Place::new().unpack(archive).unwrap_err().to_string();
        assert!(err.contains(words), "{err}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        tree::remove_path(&self.0).unwrap();
    }
}

/// An archive under construction. Names are written raw, as an attacker would.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn add(mut self, kind: EntryType, name: &str, link: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.set_size(data.len() as u64);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }
    fn file(self, name: &str, data: &str) -> Self {
        self.add(EntryType::Regular, name, "", 0o644, data.as_bytes())
    }
    fn dir(self, name: &str) -> Self {
        self.add(EntryType::Directory, name, "", 0o755, b"")
    }
    fn symlink(self, name: &str, to: &str) -> Self {
        self.add(EntryType::Symlink, name, to, 0o777, b"")
    }
    fn hardlink(self, name: &str, to: &str) -> Self {
        self.add(EntryType::Link, name, to, 0o777, b"")
    }
    fn pax(self, key: &str, value: &[u8]) -> Self {
        self.pax_records(&[(key, value)])
    }
    fn pax_records(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let len = (1..4).map(|digits| body + digits).find(|l| l.to_string().len() + body == *l);
            text.extend_from_slice(format!("{} {key}=", len.unwrap()).as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.add(EntryType::XHeader, "pax", "", 0o644, &text)
    }
    fn bytes(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

fn archive() -> Archive {
    Archive::default()
}

#[test]
fn symlinked_parents_stay_inside() {
    let place = Place::new();
    let up = archive().symlink("up", "../../..").file("up/escaped", "x");
    place.unpack(up.symlink("abs", "/").file("abs/too", "x")).unwrap();
    assert!(place.tree("escaped").exists() && place.tree("too").exists());
}

#[test]
fn a_link_to_a_directory_inside_is_followed() {
    let place = Place::new();
    let lib = archive().dir("usr/").dir("usr/lib").symlink("lib", "usr/lib");
    place.unpack(lib.file("lib/x", "x").symlink("l64", "/usr/lib64").file("l64/y", "y")).unwrap();
    assert_eq!(fs::read_to_string(place.tree("usr/lib/x")).unwrap(), "x");
    assert_eq!(fs::read_to_string(place.tree("usr/lib64/y")).unwrap(), "y");
    assert!(fs::symlink_metadata(place.tree("lib")).unwrap().is_symlink());
}

#[test]
fn links_in_a_circle_end() {
    let circle = archive().symlink("a", "b").symlink("b", "a").file("a/x", "x");
    Place::refuses(circle, "too many levels of symbolic links");
    Place::refuses(archive().symlink("a", "a/a").file("a/x", "x"), "symbolic links");
}

#[test]
fn a_file_does_not_write_through_a_link() {
    let place = Place::new();
    let out = place.0.join("outside").display().to_string();
    place.unpack(archive().symlink("f", &out).file("f", "mine")).unwrap();
    assert_eq!(fs::read_to_string(place.tree("f")).unwrap(), "mine");
    assert!(!fs::symlink_metadata(place.tree("f")).unwrap().is_symlink());
}

#[test]
fn a_directory_entry_does_not_chmod_through_a_link() {
    let place = Place::new();
    let link = archive().symlink("d", "../outside");
    place.unpack(link.add(EntryType::Directory, "d", "", 0o700, b"")).unwrap();
    assert!(fs::symlink_metadata(place.tree("d")).unwrap().is_dir());
}

#[test]
fn hard_links_stay_inside_and_are_not_followed() {
    Place::refuses(archive().hardlink("h", "../outside"), "cannot contain");
    Place::refuses(archive().hardlink("h", "/etc/passwd"), "this layer lacks");
    Place::refuses(archive().symlink("s", "../..").hardlink("h", "s/outside"), "this layer lacks");
    let place = Place::new();
    place.unpack(archive().symlink("s", "../outside").hardlink("h", "s").file("h", "x")).unwrap();
    assert!(fs::symlink_metadata(place.tree("s")).unwrap().is_symlink());
}

#[test]
fn hard_links_share_their_file_even_onto_themselves() {
    let place = Place::new();
    place.unpack(archive().file("a", "x").hardlink("b", "a").hardlink("a", "a")).unwrap();
    let (a, b) = (fs::metadata(place.tree("a")).unwrap(), fs::metadata(place.tree("b")).unwrap());
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
}

#[test]
fn names_are_relative_whatever_they_say() {
    Place::refuses(archive().file("../outside", "x"), "cannot contain \"..\"");
    Place::refuses(archive().file("a/../../outside", "x"), "cannot contain \"..\"");
    Place::refuses(archive().pax("path", b"../outside").file("a", "x"), "cannot contain");
    let place = Place::new();
    place.unpack(archive().file("//abs/./file", "x")).unwrap();
    assert!(place.tree("abs/file").exists());
}

#[test]
fn the_root_is_described_but_not_replaced() {
    let place = Place::new();
    let layer = place.unpack(archive().add(EntryType::Directory, "./", "", 0o751, b"")).unwrap();
    assert_eq!(fs::metadata(place.tree("")).unwrap().mode() & 0o7777, 0o751);
    assert_eq!(fs::metadata(place.tree("")).unwrap().mtime(), 1_000_000);
    assert!(layer.implicit.is_empty());
    Place::refuses(archive().symlink("./", "/etc"), "root of a layer");
    Place::refuses(archive().file(".", "x"), "root of a layer");
    Place::refuses(archive().hardlink("x", "/"), "root of the layer");
}

#[test]
fn whiteouts_take_overlay_form() {
    let place = Place::new();
    let names = archive().dir("d").file("d/.wh.gone", "").dir("o").file("o/.wh..wh..opq", "");
    let aufs = names.dir(".wh..wh.plnk").file(".wh..wh.plnk/12.3", "x").file(".wh..wh.aufs", "");
    place.unpack(aufs.hardlink(".wh..wh.plnk/a/b", ".wh..wh.aufs")).unwrap();
    let gone = fs::symlink_metadata(place.tree("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let at = tree::open(&place.0).unwrap();
    let opaque = |name: &[u8]| xattr::get(&tree::proc_path(&at, name), tree::opaque_name());
    assert_eq!(opaque(b"tree/o").unwrap().unwrap(), b"y");
    assert_eq!(opaque(b"tree/d").unwrap(), None);
    assert_eq!(fs::read_dir(place.tree("")).unwrap().count(), 2);
}

#[test]
fn whiteouts_spare_their_own_layer() {
    let place = Place::new();
    let file = archive().file("kept", "x").file(".wh.kept", "").file(".wh.d", "").file("d/x", "y");
    place.unpack(file.dir("e").file(".wh.e", "")).unwrap();
    assert_eq!(fs::read_to_string(place.tree("kept")).unwrap(), "x");
    assert_eq!(fs::read_to_string(place.tree("d/x")).unwrap(), "y");
    let at = tree::open(&place.0).unwrap();
    for name in [&b"tree/d"[..], b"tree/e"] {
        let opaque = xattr::get(&tree::proc_path(&at, name), tree::opaque_name()).unwrap();
        assert_eq!(opaque.as_deref(), Some(&b"y"[..]));
    }
}

#[test]
fn whiteouts_inside_of_what_is_removed_do_not_bring_it_back() {
    let place = Place::new();
    let inner =
        archive().file("gone/deep/.wh.f", "").file("gone/.wh.deep", "").file(".wh.gone", "");
    let inner = inner.file("gone/other/.wh..wh..opq", "");
    place.unpack(inner.file("now-file", "x").file("now-file/.wh.x", "")).unwrap();
    let gone = fs::symlink_metadata(place.tree("gone")).unwrap();
    assert!(gone.file_type().is_char_device());
    assert_eq!(fs::read_to_string(place.tree("now-file")).unwrap(), "x");
    let late = Place::new();
    late.unpack(archive().file("d/.wh.x", "").file(".wh.d", "").file("d/y", "y")).unwrap();
    assert_eq!(fs::read_to_string(late.tree("d/y")).unwrap(), "y");
}

#[test]
fn whiteouts_of_what_is_hidden_anyway_are_left_out() {
    let place = Place::new();
    let new = archive().file("d/.wh.x", "").file("d/sub/.wh.x", "").file("d/.wh..wh..opq", "");
    let removed =
        new.file("e/y/f", "f").file("e/.wh.x", "").file("e/z/.wh.x", "").file(".wh.e", "");
    let layer = place.unpack(removed.file("e/y/.wh..wh..opq", "")).unwrap();
    assert_eq!(fs::read_dir(place.tree("d")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(place.tree("e")).unwrap().count(), 1);
    let at = tree::open(&place.tree("e")).unwrap();
    assert!(tree::is_opaque(&at, b"").unwrap() && !tree::is_opaque(&at, b"y").unwrap());
    // The removed directory does not describe the one that takes its place.
    assert!(layer.implicit.contains(&b"d"[..]) && !layer.implicit.contains(&b"e"[..]));
}

#[test]
fn whiteouts_with_evil_names_are_refused() {
    Place::refuses(archive().file(".wh.", ""), "without a name");
    Place::refuses(archive().file(".wh..", ""), "without a name");
    Place::refuses(archive().file(".wh...", ""), "without a name");
    Place::refuses(archive().file(".wh.d/x", ""), "cannot hold");
}

#[test]
fn device_zero_is_refused() {
    Place::refuses(archive().add(EntryType::Char, "null", "", 0o666, b""), "0:0");
    let target = archive().file(".wh.w", "").hardlink("h", "w");
    Place::refuses(target, "this layer lacks");
}

#[test]
fn overlay_and_label_attributes_are_dropped() {
    let place = Place::new();
    let mut layer = archive();
    for name in [
        "trusted.overlay.opaque",
        "user.overlay.opaque",
        "trusted.overlay.redirect",
        "security.selinux",
        "user.mine",
    ] {
        layer = layer.pax(&format!("SCHILY.xattr.{name}"), b"y").dir(name);
    }
    place.unpack(layer).unwrap();
    let at = tree::open(&place.0).unwrap();
    let list = |name: &str| {
        let names = xattr::list(&tree::proc_path(&at, format!("tree/{name}").as_bytes())).unwrap();
        String::from_utf8(names).unwrap()
    };
    assert!(!list("trusted.overlay.opaque").contains("overlay"));
    assert!(!list("user.overlay.opaque").contains("overlay"));
    assert!(!list("trusted.overlay.redirect").contains("overlay"));
    assert!(!list("security.selinux").contains("selinux"));
    assert_eq!(list("user.mine"), "user.mine\0");
}

#[test]
fn nothing_inherits_acls_of_a_directory() {
    let acl = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x04\0\x05\0\xff\xff\xff\xff\
        \x20\0\0\0\xff\xff\xff\xff";
    let place = Place::new();
    let layer = archive().pax("SCHILY.xattr.system.posix_acl_default", acl).dir("d");
    place.unpack(layer.dir("d/sub").file("d/file", "x").file("d/implied/file", "y")).unwrap();
    let at = tree::open(&place.tree("")).unwrap();
    let list = |name: &str| xattr::list(&tree::proc_path(&at, name.as_bytes())).unwrap();
    assert_eq!(list("d"), b"system.posix_acl_default\0");
    for name in ["d/sub", "d/file", "d/implied", "d/implied/file"] {
        assert_eq!(list(name), b"", "{name}");
    }
    assert_eq!(fs::metadata(place.tree("d/implied")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn attributes_of_directories_are_those_of_the_last_entry_and_count() {
    let place = Place::new();
    let twice = archive().pax("SCHILY.xattr.user.old", b"x").dir("d").dir("d");
    place.unpack(twice).unwrap();
    let at = tree::open(&place.tree("d")).unwrap();
    assert_eq!(xattr::list(&tree::proc_path(&at, b"")).unwrap(), b"");
    let mut unpacker = Unpacker::new(tree::open(&place.tree("")).unwrap());
    unpacker.remembered = MAX_REMEMBERED - 64 - 1 - 64 - 6;
    let layer = archive().pax("SCHILY.xattr.user.a", b"x").dir("d").bytes();
    let entry = Reader::new(layer.as_slice()).next_entry().unwrap().unwrap();
    let err = unpacker.entry(&entry, &mut &b""[..]).unwrap_err().message();
    assert!(err.contains("too many directories and removals"), "{err}");
}

#[test]
fn later_entries_replace_earlier_ones() {
    let place = Place::new();
    let swap = archive().dir("a").file("a/x", "x").file("a", "now a file");
    place
        .unpack(swap.file("b", "x").dir("b").file("b/y", "y").file("c", "1").file("c", "22"))
        .unwrap();
    assert_eq!(fs::read_to_string(place.tree("a")).unwrap(), "now a file");
    assert_eq!(fs::read_to_string(place.tree("b/y")).unwrap(), "y");
    assert_eq!(fs::read_to_string(place.tree("c")).unwrap(), "22");
}

#[test]
fn a_removed_parent_is_not_written_through_its_descriptor() {
    let place = Place::new();
    let swap = archive().dir("a").dir("a/b").file("a/b/x", "1").file("a", "f");
    let err = place.unpack(swap.file("a/b/y", "2")).unwrap_err().to_string();
    assert!(err.contains("not a directory"), "{err}");
}

#[test]
fn attributes_are_kept() {
    let place = Place::new();
    let times =
        archive().pax("mtime", b"1234.5678").add(EntryType::Directory, "d", "", 0o3555, b"");
    let file = times.pax("mtime", b"99.25").add(EntryType::Regular, "d/su", "", 0o6711, b"x");
    place.unpack(file.add(EntryType::Fifo, "pipe", "", 0o621, b"")).unwrap();
    let d = fs::metadata(place.tree("d")).unwrap();
    assert_eq!((d.mtime(), d.mtime_nsec(), d.mode() & 0o7777), (1234, 567_800_000, 0o3555));
    let su = fs::metadata(place.tree("d/su")).unwrap();
    assert_eq!((su.mtime(), su.mtime_nsec(), su.mode() & 0o7777), (99, 250_000_000, 0o6711));
    let pipe = fs::metadata(place.tree("pipe")).unwrap();
    assert!(pipe.file_type().is_fifo() && pipe.permissions().mode() & 0o7777 == 0o621);
}

#[test]
fn undescribed_parents_are_reported() {
    let place = Place::new();
    let layer = place.unpack(archive().file("a/b/c", "x").dir("a/b").file("d/e", "yy")).unwrap();
    let implicit: Vec<&[u8]> = layer.implicit.iter().map(Vec::as_slice).collect();
    assert_eq!(implicit, [&b""[..], b"a", b"d"]);
    assert_eq!(layer.size, 3);
}

#[test]
fn names_have_limits() {
    let deep = "a/".repeat(MAX_DEPTH + 1);
    Place::refuses(archive().pax("path", deep.as_bytes()).file("x", ""), "too long");
    Place::refuses(archive().pax("path", "n".repeat(300).as_bytes()).file("x", ""), "too long");
    Place::refuses(archive().pax("path", b"a\0b").file("x", ""), "NUL");
}

#[test]
fn a_component_too_long_is_refused_before_anything_is_made() {
    for long in ["n".repeat(256), format!(".wh.{}", "n".repeat(252))] {
        let place = Place::new();
        let name = format!("made/{long}");
        let err = place.unpack(archive().pax("path", name.as_bytes()).file("x", "")).unwrap_err();
        assert!(err.message().contains("a name in a layer: file name too long"), "{err}");
        assert_eq!(fs::read_dir(place.tree("")).unwrap().count(), 0);
    }
    let place = Place::new();
    let longest = [format!("made/{}", "n".repeat(255)), format!("made/.wh.{}", "w".repeat(251))];
    let [file, whiteout] = longest.each_ref().map(String::as_bytes);
    let both = archive().pax("path", file).file("x", "").pax("path", whiteout).file("y", "");
    place.unpack(both).unwrap();
    assert_eq!(fs::read_dir(place.tree("made")).unwrap().count(), 2);
}

#[test]
fn names_of_whiteouts_count() {
    let place = Place::new();
    let mut unpacker = Unpacker::new(tree::open(&place.tree("")).unwrap());
    let mut whiteout = |remembered: Option<usize>, hidden: usize| {
        unpacker.remembered = remembered.unwrap_or(unpacker.remembered);
        let name = format!(".wh.{}", "n".repeat(hidden)).into_bytes();
        unpacker.whiteout(b"dir", &name, &name[4..]).map(|()| unpacker.remembered)
    };
    assert_eq!(whiteout(None, 251).unwrap(), 64 + 3 + 251);
    assert_eq!(whiteout(None, 1).unwrap(), 2 * (64 + 3) + 252);
    let almost_full = MAX_REMEMBERED - (64 + 3 + 250);
    assert!(whiteout(Some(almost_full), 250).is_ok());
    let err = whiteout(Some(almost_full), 251).unwrap_err().message();
    assert!(err.contains("too many directories and removals"), "{err}");
}

#[test]
fn unknown_entries_are_refused() {
    Place::refuses(archive().add(EntryType::new(b'Z'), "z", "", 0o644, b""), "unknown type");
    Place::refuses(archive().add(EntryType::GNUSparse, "s", "", 0o644, b""), "GNU's own form");
}

fn sparse(name: &str, size: &str, map: &str) -> Archive {
    let records = [("GNU.sparse.name", name), ("GNU.sparse.size", size), ("GNU.sparse.map", map)];
    archive().pax_records(&records.map(|(key, value)| (key, value.as_bytes())))
}

#[test]
fn sparse_files_have_their_holes_and_name() {
    let place = Place::new();
    let layer = sparse("holes", "1000000", "4096,2,900000,1,1000000,0").file("other", "abc");
    let layer = place.unpack(layer.file("next", "x")).unwrap();
    let mut expected = vec![0; 1_000_000];
    (expected[4096], expected[4097], expected[900_000]) = (b'a', b'b', b'c');
    assert!(fs::read(place.tree("holes")).unwrap() == expected);
    assert!(fs::metadata(place.tree("holes")).unwrap().blocks() < 100);
    assert!(!place.tree("other").exists() && place.tree("next").exists());
    assert_eq!(layer.size, 4);
}

#[test]
fn sparse_files_with_contradictions_are_refused() {
    Place::refuses(sparse("s", "9", "0,2,1,1").file("s", "abc"), "overlap");
    Place::refuses(sparse("s", "9", "8,3").file("s", "abc"), "beyond its size");
    Place::refuses(sparse("s", "9", "0,2").file("s", "abc"), "not that of its content");
    Place::refuses(sparse("s", "9", "0,3").file("s", "ab"), "not that of its content");
    Place::refuses(sparse("s", "9", "").dir("s"), "no file");
    Place::refuses(sparse("../outside", "3", "0,3").file("s", "abc"), "cannot contain");
    let end = u64::MAX.to_string();
    Place::refuses(sparse("s", &end, "18446744073709551612,3").file("s", "abc"), "write file");
    Place::refuses(sparse("s", &end, "").file("s", ""), "set size");
}

#[test]
fn owners_beyond_the_kernels_are_refused() {
    Place::refuses(archive().pax("uid", b"4294967295").file("x", ""), "owner");
    Place::refuses(archive().pax("gid", b"4294967296").file("x", ""), "owner");
}
