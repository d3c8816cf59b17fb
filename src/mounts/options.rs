//! What the words in an entry of `mounts` mean (config.md, "Linux mount options").

use std::ffi::CString;
use std::path::Path;

use nix::mount::MsFlags;

use super::{FsOption, IdMap, Kind, Mount};
use crate::error::{Error, Result};
use crate::namespaces::Namespaces;
use crate::path::{c_string, clean};
use crate::spec::config;
use crate::sys::mount::{Attributes, attr};

/// What a word among a mount's options orders.
#[derive(Debug, Clone, Copy)]
enum Effect {
    /// Sets the first and clears the second mask of attributes.
    Attribute(u64, u64),
    /// The same for the mount and everything below it.
    Recursive(u64, u64),
    /// Sets the propagation; for all below it too if the second is true.
    Propagation(MsFlags, bool),
    /// A bind mount, recursive if true.
    Bind(bool),
    /// Changes the attributes of what is mounted there already.
    Remount,
    /// A bind mount with other ids; all below it too if true.
    IdMap(bool),
    /// A tmpfs begins with a copy of what it covers.
    CopyUp,
    /// A word that stands for what is the case anyway.
    Nothing,
    /// A word for the file system, without meaning for a bind mount.
    FileSystem,
}

const ATIME: u64 = attr::ATIME_MASK;

/// That `relatime` was asked for, a flag of mount(2) only: a bit of the mask of times that no attribute
/// has, and that [`times`] takes away again.
const RELATIME: u64 = ATIME & !(attr::NOATIME | attr::STRICTATIME);

/// All words with a meaning of their own; `features` lists them. Any other goes to the file system.
/// `norelatime` is no `strictatime`: it takes back `relatime`, which is the kernel's default.
const OPTIONS: &[(&str, Effect)] = &[
    ("async", Effect::FileSystem),
    ("atime", Effect::Attribute(0, attr::NOATIME)),
    ("bind", Effect::Bind(false)),
    ("defaults", Effect::Nothing),
    ("dev", Effect::Attribute(0, attr::NODEV)),
    ("diratime", Effect::Attribute(0, attr::NODIRATIME)),
    ("dirsync", Effect::FileSystem),
    ("exec", Effect::Attribute(0, attr::NOEXEC)),
    ("idmap", Effect::IdMap(false)),
    ("iversion", Effect::FileSystem),
    ("lazytime", Effect::FileSystem),
    ("loud", Effect::Nothing),
    ("mand", Effect::FileSystem),
    ("noatime", Effect::Attribute(attr::NOATIME, 0)),
    ("nodev", Effect::Attribute(attr::NODEV, 0)),
    ("nodiratime", Effect::Attribute(attr::NODIRATIME, 0)),
    ("noexec", Effect::Attribute(attr::NOEXEC, 0)),
    ("noiversion", Effect::Nothing),
    ("nolazytime", Effect::FileSystem),
    ("nomand", Effect::FileSystem),
    ("norelatime", Effect::Attribute(0, RELATIME)),
    ("nostrictatime", Effect::Attribute(0, attr::STRICTATIME)),
    ("nosuid", Effect::Attribute(attr::NOSUID, 0)),
    ("nosymfollow", Effect::Attribute(attr::NOSYMFOLLOW, 0)),
    ("private", Effect::Propagation(MsFlags::MS_PRIVATE, false)),
    ("ratime", Effect::Recursive(0, attr::NOATIME)),
    ("rbind", Effect::Bind(true)),
    ("rdev", Effect::Recursive(0, attr::NODEV)),
    ("rdiratime", Effect::Recursive(0, attr::NODIRATIME)),
    ("relatime", Effect::Attribute(RELATIME, 0)),
    ("remount", Effect::Remount),
    ("rexec", Effect::Recursive(0, attr::NOEXEC)),
    ("ridmap", Effect::IdMap(true)),
    ("rnoatime", Effect::Recursive(attr::NOATIME, 0)),
    ("rnodev", Effect::Recursive(attr::NODEV, 0)),
    ("rnodiratime", Effect::Recursive(attr::NODIRATIME, 0)),
    ("rnoexec", Effect::Recursive(attr::NOEXEC, 0)),
    ("rnorelatime", Effect::Recursive(0, RELATIME)),
    ("rnostrictatime", Effect::Recursive(0, attr::STRICTATIME)),
    ("rnosuid", Effect::Recursive(attr::NOSUID, 0)),
    ("rnosymfollow", Effect::Recursive(attr::NOSYMFOLLOW, 0)),
    ("ro", Effect::Attribute(attr::RDONLY, 0)),
    ("rprivate", Effect::Propagation(MsFlags::MS_PRIVATE, true)),
    ("rrelatime", Effect::Recursive(RELATIME, 0)),
    ("rro", Effect::Recursive(attr::RDONLY, 0)),
    ("rrw", Effect::Recursive(0, attr::RDONLY)),
    ("rshared", Effect::Propagation(MsFlags::MS_SHARED, true)),
    ("rslave", Effect::Propagation(MsFlags::MS_SLAVE, true)),
    ("rstrictatime", Effect::Recursive(attr::STRICTATIME, 0)),
    ("rsuid", Effect::Recursive(0, attr::NOSUID)),
    ("rsymfollow", Effect::Recursive(0, attr::NOSYMFOLLOW)),
    ("runbindable", Effect::Propagation(MsFlags::MS_UNBINDABLE, true)),
    ("rw", Effect::Attribute(0, attr::RDONLY)),
    ("shared", Effect::Propagation(MsFlags::MS_SHARED, false)),
    ("silent", Effect::Nothing),
    ("slave", Effect::Propagation(MsFlags::MS_SLAVE, false)),
    ("strictatime", Effect::Attribute(attr::STRICTATIME, 0)),
    ("suid", Effect::Attribute(0, attr::NOSUID)),
    ("symfollow", Effect::Attribute(0, attr::NOSYMFOLLOW)),
    ("sync", Effect::FileSystem),
    ("tmpcopyup", Effect::CopyUp),
    ("unbindable", Effect::Propagation(MsFlags::MS_UNBINDABLE, false)),
];

/// crun's words for links that stay links, which Podman's `no-dereference` becomes: a mount that
/// ignored them would show what the link was not to lead to.
const NOT_FOLLOWED: [&str; 3] = ["copy-symlink", "src-nofollow", "dest-nofollow"];

/// The words of the options that have a meaning of their own, for `features`.
pub fn option_names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, _)| *name)
}

fn effect(word: &str) -> Option<Effect> {
    let found = OPTIONS.binary_search_by_key(&word, |(name, _)| name).ok()?;
    OPTIONS.get(found).map(|(_, effect)| *effect)
}

/// Whether a word names a value, which is for the file system alone.
fn is_data(word: &str) -> bool {
    word.contains('=') && effect(word).is_none()
}

/// The words for the file system in one option: mount(2), for which runc joins them all, parts them at
/// each comma but those of a quoted label, an overlay's that are escaped, and tmpfs's between numbers.
fn parts(option: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut before) = (false, ' ');
    let mut after = option.chars().skip(1);
    option.split(move |c| {
        quoted ^= c == '"';
        let next = after.next();
        let parts =
            c == ',' && !quoted && before != '\\' && !next.is_some_and(|c| c.is_ascii_digit());
        before = c;
        parts
    })
}

impl Mount {
    /// Reads entry `index` of `mounts`; relative sources lie below `bundle`.
    pub fn plan(index: usize, entry: &config::Mount, bundle: &Path) -> Result<Self> {
        let kind = entry.kind.as_deref().unwrap_or_default();
        let mut mount = Mount {
            // As runc and engines read it; the checks of what is mounted where rely on it.
            destination: clean(Path::new(&entry.destination)),
            kind: Kind::FileSystem(c_string(kind)?),
            attributes: Attributes::default(),
            recursive: Attributes::default(),
            propagation: Vec::new(),
            options: Vec::new(),
            copy_up: None,
            read_only_later: false,
            id_map: None,
            at: format!("mounts[{index}]"),
        };
        for (i, option) in entry.options.iter().enumerate() {
            mount.option(i, option, entry, bundle)?;
        }
        mount.settle(entry, kind, bundle)?;
        Ok(mount)
    }

    /// Refuses words that are no options of a bind mount: one may be a misspelt `ro`. (mount(2)'s own
    /// flags for a file system are let pass.)
    fn check_bind(&self, entry: &config::Mount) -> Result<()> {
        let foreign = |(_, word): &(usize, &String)| {
            !word.is_empty() && effect(word).is_none() && !is_data(word)
        };
        let Some((i, word)) = entry.options.iter().enumerate().find(foreign) else {
            return Ok(());
        };
        Err(Error::new("bind mounts cannot have any filesystem-specific options applied")
            .at(format!("{}.options[{i}]", self.at))
            .hint(format!(
                "{word:?} is none of the words for a mount itself, such as ro or nosuid"
            )))
    }

    /// What of the entry is not done, and why: the file system of a bind mount has its data, such as
    /// `mode=755`, already, and shares it with the host. (runc refuses it.)
    pub fn ignored(&self, entry: &config::Mount) -> Option<String> {
        let i = entry.options.iter().position(|word| self.is_bind() && is_data(word))?;
        let (at, word) = (&self.at, entry.options.get(i)?);
        Some(format!("{at}.options[{i}]: {word:?} is for a file system, a bind mount has its own"))
    }

    /// Whether the entry may ask for a mapping of ids.
    pub fn maps_ids(entry: &config::Mount) -> bool {
        let asks = |word: &String| matches!(effect(word), Some(Effect::IdMap(_)));
        !entry.uid_mappings.is_empty() || entry.options.iter().any(asks)
    }

    /// Reads how the ids are mapped in the same entry of `mounts`.
    pub fn map_ids(
        &mut self,
        entry: &config::Mount,
        linux: &config::Linux,
        namespaces: &Namespaces,
    ) -> Result<()> {
        let asked = entry.options.iter().rev().find_map(|word| match effect(word) {
            Some(Effect::IdMap(recursive)) => Some(recursive),
            _ => None,
        });
        self.id_map = IdMap::plan(entry, &self.at, asked, linux, namespaces)?;
        Ok(())
    }

    /// Adds what the word `option` orders.
    fn option(&mut self, i: usize, word: &str, entry: &config::Mount, bundle: &Path) -> Result<()> {
        match effect(word) {
            Some(Effect::Attribute(set, clear)) => change(&mut self.attributes, set, clear),
            Some(Effect::Recursive(set, clear)) => change(&mut self.recursive, set, clear),
            Some(Effect::Propagation(flag, all)) => self.propagation.push((flag, all)),
            // `remount,bind` says only that the file system itself stays as it is.
            Some(Effect::Bind(_)) if entry.options.iter().any(|o| o == "remount") => {}
            Some(Effect::Bind(all)) => {
                let all = all || matches!(self.kind, Kind::Bind(_, true));
                self.kind = Kind::Bind(self.source(entry, bundle)?, all);
            }
            Some(Effect::Remount) => self.kind = Kind::Remount,
            Some(Effect::CopyUp) => self.copy_up = Some(i),
            // Together with the entry's mappings: see `map_ids`.
            Some(Effect::IdMap(_) | Effect::Nothing) => {}
            Some(Effect::FileSystem) | None => {
                for word in parts(word).filter(|word| !word.is_empty()) {
                    self.check_followed(i, word)?;
                    self.fs_option(Some(i), word)?;
                }
            }
        }
        Ok(())
    }

    /// Decides when a new file system becomes read-only. In a tmpfs and in /dev there is more to be
    /// made: mount points, devices, a copy. Any other is so from the start, down to its device.
    fn read_only(&mut self, kind: &str) -> Result<()> {
        if self.attributes.set & attr::RDONLY == 0 {
            return Ok(());
        }
        if kind == "tmpfs" || self.destination == Path::new("/dev") {
            self.leave_writable();
            return Ok(());
        }
        self.fs_option(None, "ro")
    }

    fn leave_writable(&mut self) {
        self.read_only_later = self.attributes.set & attr::RDONLY != 0;
        self.attributes.set &= !attr::RDONLY;
    }

    /// Refuses what [`NOT_FOLLOWED`] has.
    fn check_followed(&self, index: usize, word: &str) -> Result<()> {
        if !NOT_FOLLOWED.contains(&word) {
            return Ok(());
        }
        Err(Error::new(format!("the mount option {word} is not supported"))
            .at(format!("{}.options[{index}]", self.at))
            .hint("symbolic links are followed without it"))
    }

    fn fs_option(&mut self, index: Option<usize>, word: &str) -> Result<()> {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        // The quotes are mount(2)'s, around a label with commas.
        let value = value.map(|value| match key.ends_with("context") {
            true => value.trim_matches('"'),
            false => value,
        });
        let value = value.map(c_string).transpose()?;
        let option = FsOption { key: c_string(key)?, value, index };
        self.options.push(option);
        Ok(())
    }

    fn source(&self, entry: &config::Mount, bundle: &Path) -> Result<CString> {
        let source = entry.source.as_deref().filter(|s| !s.is_empty());
        let source = source.ok_or_else(|| {
            Error::new(format!("bind mount on {} has no source", entry.destination))
                .at(format!("{}.source", self.at))
        })?;
        Ok(c_string(bundle.join(source))?)
    }

    /// What a word takes back decides nothing, as with mount(2); mount_setattr(2) does clear.
    fn settle_times(&mut self) {
        let deciding = self.attributes.set & (ATIME | attr::NODIRATIME) != 0;
        times(&mut self.attributes, deciding);
        let deciding = (self.recursive.set | self.recursive.clear) & ATIME != 0;
        times(&mut self.recursive, deciding);
    }

    /// Decides what the type and the options mean together.
    fn settle(&mut self, entry: &config::Mount, kind: &str, bundle: &Path) -> Result<()> {
        if kind == "bind" && matches!(self.kind, Kind::FileSystem(_)) {
            self.kind = Kind::Bind(self.source(entry, bundle)?, false);
        }
        self.settle_times();
        match &self.kind {
            Kind::Bind(..) => {
                self.check_bind(entry)?;
                self.options.clear();
            }
            Kind::Remount => {
                if entry.options.iter().any(|o| o == "bind" || o == "rbind") {
                    self.check_bind(entry)?;
                    self.options.clear();
                } else if self.attributes.clear & attr::RDONLY != 0 {
                    self.fs_option(None, "rw")?;
                }
                if self.destination == Path::new("/dev") {
                    self.leave_writable();
                }
            }
            Kind::FileSystem(name) if self.copy_up.is_some() && name.as_c_str() != c"tmpfs" => {
                let at = format!("{}.options[{}]", self.at, self.copy_up.unwrap_or_default());
                return Err(Error::new("tmpcopyup is for a tmpfs only").at(at));
            }
            Kind::FileSystem(name) if name.is_empty() || kind == "none" => {
                return Err(Error::new(format!("mount on {} has no type", entry.destination))
                    .at(format!("{}.type", self.at))
                    .hint("a bind mount needs the option bind or rbind"));
            }
            Kind::FileSystem(_) => {
                let source = entry.source.as_deref().filter(|s| !s.is_empty()).unwrap_or(kind);
                self.fs_option(None, &format!("source={source}"))?;
                self.read_only(kind)?;
            }
        }
        Ok(())
    }
}

/// The last word decides: what it sets is no longer cleared, and the reverse.
fn change(attributes: &mut Attributes, set: u64, clear: u64) {
    attributes.set = attributes.set & !clear | set;
    attributes.clear = (attributes.clear | clear) & !set;
}

/// Makes one mode of the flags for times of access, by mount(2)'s rules: strictatime goes before
/// noatime, and without either it is relatime. The mode stays as it is unless the words are `deciding`.
fn times(attributes: &mut Attributes, deciding: bool) {
    let modes = [attr::STRICTATIME, attr::NOATIME];
    let mode = modes.into_iter().find(|mode| attributes.set & mode != 0);
    attributes.set = attributes.set & !ATIME | mode.unwrap_or(attr::RELATIME);
    attributes.clear = attributes.clear & !ATIME | if deciding { ATIME } else { 0 };
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn entry(json: &str) -> config::Mount {
        crate::spec::load::from_json(json).unwrap()
    }

    #[test]
    fn table_is_sorted() {
        assert!(OPTIONS.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn the_last_word_decides() {
        let e = entry(
            r#"{"destination":"/a","source":"/b","options":["rbind","ro","rw","noatime","relatime"]}"#,
        );
        let mount = Mount::plan(0, &e, Path::new("/")).unwrap();
        assert_eq!(mount.attributes.set, attr::NOATIME);
        assert_eq!(mount.attributes.clear, attr::RDONLY | ATIME);
        assert!(matches!(mount.kind, Kind::Bind(_, true)));
    }

    /// What the file system is told with these options, as words.
    fn told(options: &str) -> Vec<String> {
        let json = format!(r#"{{"destination":"/a","type":"overlay","options":[{options}]}}"#);
        let mount = Mount::plan(0, &entry(&json), Path::new("/")).unwrap();
        let text = |s: &CStr| s.to_str().unwrap().to_owned();
        let word = |o: &FsOption| match o.value.as_deref() {
            Some(value) => format!("{}={}", text(&o.key), text(value)),
            None => text(&o.key),
        };
        mount.options.iter().map(word).filter(|word| word != "source=overlay").collect()
    }

    #[test]
    fn refuses_words_for_a_file_system_on_a_bind_mount() {
        let plan = |json: &str| Mount::plan(2, &entry(json), Path::new("/"));
        let words = r#"{"destination":"/a","source":"/b","options":["sync","rbind","","acl"]}"#;
        assert_eq!(plan(words).unwrap_err().path(), Some("mounts[2].options[3]"));
        for json in [
            r#"{"destination":"/a","source":"/b","options":["sync","rbind","","rro"]}"#,
            r#"{"destination":"/a","source":"/b","options":["rbind","size=1m"]}"#,
            r#"{"destination":"/a","type":"tmpfs","options":["size=1m"]}"#,
        ] {
            plan(json).unwrap();
        }
    }

    #[test]
    fn a_bind_mount_is_recursive_if_any_word_says_so() {
        for words in [r#""rbind","bind""#, r#""bind","rbind""#] {
            let json = format!(r#"{{"destination":"/a","source":"/b","options":[{words}]}}"#);
            let mount = Mount::plan(0, &entry(&json), Path::new("/")).unwrap();
            assert!(matches!(mount.kind, Kind::Bind(_, true)), "{words}");
        }
    }

    #[test]
    fn an_option_may_hold_several_words() {
        assert_eq!(told(r#""uid=5,gid=6,","size=1""#), ["uid=5", "gid=6", "size=1"]);
        assert_eq!(told(r#""mpol=bind:0-3,5,size=1""#), ["mpol=bind:0-3,5", "size=1"]);
        assert_eq!(told(r#""lowerdir=/a\\,b,x""#), [r"lowerdir=/a\,b", "x"]);
        let label = r#""context=\"u:r:t:s0:c1,c2\",size=1""#;
        assert_eq!(told(label), ["context=u:r:t:s0:c1,c2", "size=1"]);
    }

    #[test]
    fn refuses_what_has_no_type_and_no_source() {
        for (json, at) in [
            (r#"{"destination":"/a"}"#, "mounts[3].type"),
            (r#"{"destination":"/a","type":"bind"}"#, "mounts[3].source"),
            (
                r#"{"destination":"/a","type":"proc","options":["tmpcopyup"]}"#,
                "mounts[3].options[0]",
            ),
        ] {
            assert_eq!(Mount::plan(3, &entry(json), Path::new("/")).unwrap_err().path(), Some(at));
        }
    }
}
