//! systemd as the one who makes cgroups: a container is a transient unit, a scope in a slice
//! (org.freedesktop.systemd1(5), systemd.resource-control(5)).
//!
//! ```text
//! cgroupsPath  slice:prefix:name  ─►  /sys/fs/cgroup/SLICE/prefix-name.scope
//!
//!  runtime                                   systemd
//!     | clone: the child waits                 |
//!     | StartTransientUnit(pid, properties) -> |  makes the cgroup, moves the child into it
//!     | <------- JobRemoved "done" ----------- |
//!     | limits, by file, in the delegated cgroup
//! ```
//! One connection and one call for each of start, update and stop: what systemd knows of the
//! limits goes along as properties, so that it neither undoes them when it is reloaded nor shows
//! something else than is true; the files have them in full.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::properties::{Property, encode, pair};
use super::{CANNOT_APPLY, Version};
use crate::dbus::{self, Connection, Failure, Method, Value};
use crate::error::{Error, Result};

const SERVICE: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const AT: &str = "linux.cgroupsPath";

/// The instance of systemd that is to make the cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager {
    /// The caller's own instance, not the system's.
    user: bool,
    /// The cgroup that holds all of its units: "" or `/user.slice/…/user@1000.service`.
    base: String,
}

impl Manager {
    /// The system's instance as data, for tests.
    #[cfg(test)]
    pub fn fixed() -> Manager {
        Manager { user: false, base: String::new() }
    }

    /// Finds the system's instance or, if `rootless`, the caller's own.
    ///
    /// # Errors
    /// It does not run, or cannot be reached.
    pub fn probe(rootless: bool, version: Version) -> Result<Manager> {
        // sd_booted(3)
        if !Path::new("/run/systemd/system").is_dir() {
            return Err(Error::new(
                "systemd cgroup flag passed, but systemd support for managing cgroups is not \
                 available",
            )
            .hint("this host was not booted by systemd: leave out --systemd-cgroup"));
        }
        if !rootless {
            return Ok(Manager { user: false, base: String::new() });
        }
        if version == Version::V1 {
            return Err(Error::new("a user's systemd manages cgroup v2 only").hint(
                "leave out --systemd-cgroup, or boot with systemd.unified_cgroup_hierarchy",
            ));
        }
        let base = control_group().map_err(|err| err.context("ask systemd for its cgroup"))?;
        Ok(Manager { user: true, base })
    }
}

/// The cgroup of the caller's own systemd.
fn control_group() -> Result<String> {
    let get = Method {
        destination: SERVICE,
        path: OBJECT,
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
    };
    let answer = Systemd::connect(true)?
        .connection
        .call(get, &[Value::text(MANAGER), Value::text("ControlGroup")])
        .map_err(|failure| explain(String::new(), failure))?;
    let mut body = answer.body();
    let text = body.signature().filter(|kind| *kind == "s").and_then(|_| body.text());
    let text = text.ok_or_else(|| Error::new("its answer cannot be understood"))?;
    Ok(text.trim_end_matches('/').to_owned())
}

/// A container's unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Such as `runc-web.scope`.
    pub name: String,
    /// The slice that it is in: `system.slice`.
    pub slice: String,
    /// Whether it belongs to the caller's own systemd, not the system's.
    pub user: bool,
}

impl Unit {
    /// Reads `slice:prefix:name`; each part has runc's default. Also returns where its cgroup is
    /// below a mount point.
    ///
    /// # Errors
    /// Another form, or names that systemd does not take.
    pub fn plan(manager: &Manager, cgroups_path: Option<&str>, id: &str) -> Result<(Unit, String)> {
        let refuse = |message: String| Err(Error::new(message).at(AT));
        let path = cgroups_path.filter(|path| !path.is_empty()).map(Cow::Borrowed);
        let path = path.unwrap_or_else(|| format!(":runc:{id}").into());
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts.as_slice() else {
            let form = "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd";
            return refuse(format!("{form} cgroups, got {path:?} instead"));
        };
        let slice = match *slice {
            "" if manager.user => "user.slice",
            "" => "system.slice",
            slice => slice,
        };
        let Some(below) = expand(slice) else {
            return refuse(format!("invalid slice name: {slice}"));
        };
        if name.ends_with(".slice") {
            return refuse(format!("{name:?} is a slice: a container is a scope"));
        }
        let name = format!("{prefix}-{name}.scope");
        if !is_name(&name) {
            return refuse(format!("{name:?} is not a name for a unit"));
        }
        let dir = format!("{}{below}/{name}", manager.base);
        Ok((Unit { name, slice: slice.into(), user: manager.user }, dir))
    }

    /// Starts the unit with process `pid` in it, and waits until it is there. One of this name that
    /// has failed is forgotten first.
    ///
    /// # Errors
    /// systemd refuses; by then there is no unit.
    pub fn start(&self, pid: i32, v1: bool, properties: &[Property]) -> Result<()> {
        let doing = || format!("{CANNOT_APPLY}: unable to start unit {:?}", self.name);
        let mut systemd = Systemd::connect(self.user).map_err(|err| err.context(doing()))?;
        let list = [self.own_properties(pid, v1), encode(properties)].concat();
        let arguments = [
            Value::text(self.name.as_str()),
            Value::text("replace"),
            Value::Array("(sv)".into(), list),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        let exists = |failure: &Failure| matches!(failure, Failure::Refused(name, _) if name.ends_with(".UnitExists"));
        let started = match systemd.job("StartTransientUnit", &arguments) {
            Err(failure) if exists(&failure) => {
                // If this fails, so will the second try, with the better words.
                let _ = systemd.call("ResetFailedUnit", &[Value::text(self.name.as_str())]);
                systemd.job("StartTransientUnit", &arguments)
            }
            started => started,
        };
        let result = started.map_err(|failure| blame(explain(doing(), failure), properties))?;
        if result == "done" {
            return Ok(());
        }
        let _ = systemd.job("StopUnit", &self.stop_arguments());
        Err(Error::new(format!("{}: the job ended with {result:?}", doing())).at(AT))
    }

    /// What every container's unit has.
    fn own_properties(&self, pid: i32, v1: bool) -> Vec<Value> {
        let yes = || Value::Fixed(b'b', 1);
        let pids = Value::Array("u".into(), vec![Value::Fixed(b'u', pid as u64)]);
        let io = if v1 { "BlockIOAccounting" } else { "IOAccounting" };
        let list = [
            ("Description", Value::text(format!("container {}", self.name))),
            ("Slice", Value::text(self.slice.as_str())),
            ("Delegate", yes()),
            ("PIDs", pids),
            ("MemoryAccounting", yes()),
            ("CPUAccounting", yes()),
            (io, yes()),
            ("TasksAccounting", yes()),
            ("DefaultDependencies", Value::Fixed(b'b', 0)),
            // Nothing is left of a unit whose container was ended for want of memory.
            ("CollectMode", Value::text("inactive-or-failed")),
        ];
        list.into_iter().map(|(name, value)| pair(name, value)).collect()
    }

    /// Tells systemd of changed limits.
    ///
    /// # Errors
    /// systemd refuses one of them.
    pub fn set(&self, properties: &[Property]) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        let arguments = [
            Value::text(self.name.as_str()),
            Value::Fixed(b'b', 1),
            Value::Array("(sv)".into(), encode(properties)),
        ];
        let doing = || format!("unable to set properties of unit {:?}", self.name);
        let mut systemd = Systemd::connect(self.user).map_err(|err| err.context(doing()))?;
        let set = systemd.call("SetUnitProperties", &arguments);
        set.map(drop).map_err(|failure| explain(doing(), failure))
    }

    /// Moves a process into the unit, into its cgroup `below`: what the kernel denies an unprivileged
    /// caller who is in another part of the tree.
    ///
    /// # Errors
    /// systemd refuses.
    pub fn attach(&self, pid: i32, below: &str) -> Result<()> {
        let doing = || format!("unable to move process {pid} into unit {:?}", self.name);
        let mut systemd = Systemd::connect(self.user).map_err(|err| err.context(doing()))?;
        let pids = Value::Array("u".into(), vec![Value::Fixed(b'u', pid as u64)]);
        let arguments = [Value::text(self.name.as_str()), Value::text(below), pids];
        let moved = systemd.call("AttachProcessesToUnit", &arguments);
        moved.map(drop).map_err(|failure| explain(doing(), failure))
    }

    /// Stops the unit and waits for its end; one that is gone is fine.
    ///
    /// # Errors
    /// systemd cannot be reached, or refuses.
    pub fn stop(&self) -> Result<()> {
        let doing = || format!("unable to stop unit {:?}", self.name);
        let mut systemd = Systemd::connect(self.user).map_err(|err| err.context(doing()))?;
        match systemd.job("StopUnit", &self.stop_arguments()) {
            Ok(_) => Ok(()),
            Err(Failure::Refused(name, _)) if name.ends_with(".NoSuchUnit") => Ok(()),
            Err(failure) => Err(explain(doing(), failure)),
        }
    }

    fn stop_arguments(&self) -> [Value; 2] {
        [Value::text(self.name.as_str()), Value::text("replace")]
    }
}

/// The path of a slice's cgroup: `a-b.slice` is `/a.slice/a-b.slice`, `-.slice` is the root. None if
/// it is no name of a slice.
fn expand(slice: &str) -> Option<String> {
    let stem = slice.strip_suffix(".slice").filter(|_| is_name(slice))?;
    let mut path = String::new();
    if stem == "-" {
        return Some(path);
    }
    let mut name = String::new();
    for part in stem.split('-') {
        if part.is_empty() {
            return None;
        }
        name += part;
        path += &format!("/{name}.slice");
        name += "-";
    }
    Some(path)
}

/// Whether systemd takes it as the name of a unit (systemd.unit(5)); none of its characters leads
/// out of a directory.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    name.len() < 256 && !name.starts_with('.') && name.chars().all(fits)
}

/// A connection to systemd.
struct Systemd {
    connection: Connection,
    /// Through a bus, which forwards signals only to those who have asked.
    on_bus: bool,
}

impl Systemd {
    /// Connects to systemd itself or, where its socket is out of reach, through the bus.
    fn connect(user: bool) -> Result<Systemd> {
        let [private, bus] = sockets(user);
        if let Ok(connection) = Connection::open(&private) {
            return Ok(Systemd { connection, on_bus: false });
        }
        let connection = Connection::open(&bus).map_err(|err| {
            let err = Error::io(format!("connect to systemd through {}", bus.display()), &err);
            match user {
                true => err.hint(
                    "a user's systemd runs with a session, or always after `loginctl \
                     enable-linger`; XDG_RUNTIME_DIR has to be set",
                ),
                false => err.hint("--rootless true asks the caller's own systemd"),
            }
        })?;
        let mut systemd = Systemd { connection, on_bus: true };
        systemd
            .call_bus("Hello", &[])
            .map_err(|failure| explain("greet the bus".into(), failure))?;
        Ok(systemd)
    }

    fn call_bus(&mut self, member: &str, arguments: &[Value]) -> Answer {
        let bus = "org.freedesktop.DBus";
        let path = "/org/freedesktop/DBus";
        self.connection.call(Method { destination: bus, path, interface: bus, member }, arguments)
    }

    fn call(&mut self, member: &str, arguments: &[Value]) -> Answer {
        let method = Method { destination: SERVICE, path: OBJECT, interface: MANAGER, member };
        self.connection.call(method, arguments)
    }

    /// Calls a method that starts a job, and waits for the job's result.
    fn job(&mut self, member: &str, arguments: &[Value]) -> std::result::Result<String, Failure> {
        if std::mem::take(&mut self.on_bus) {
            let signals = format!("type='signal',interface='{MANAGER}',member='JobRemoved'");
            self.call_bus("AddMatch", &[Value::text(signals)])?;
            self.call("Subscribe", &[])?;
        }
        let answer = self.call(member, arguments)?;
        let job = answer.body().text().unwrap_or_default().to_owned();
        let result = self.connection.wait(|message| {
            let mut body = message.body();
            let of = body.number().and_then(|_id| body.text());
            let ours = message.is_signal("JobRemoved") && of == Some(&job);
            ours.then(|| body.text().and_then(|_unit| body.text()).unwrap_or_default().to_owned())
        })?;
        Ok(result)
    }
}

type Answer = std::result::Result<dbus::Message, Failure>;

/// The socket of systemd itself, and the bus's.
fn sockets(user: bool) -> [PathBuf; 2] {
    if !user {
        return ["/run/systemd/private", "/run/dbus/system_bus_socket"].map(PathBuf::from);
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let dir = set("XDG_RUNTIME_DIR").map_or_else(
        || PathBuf::from(format!("/run/user/{}", nix::unistd::geteuid())),
        PathBuf::from,
    );
    let bus = set("DBUS_SESSION_BUS_ADDRESS").and_then(|address| address.into_string().ok());
    let path = |address: String| {
        let path = address.strip_prefix("unix:path=")?.split([',', ';']).next()?;
        Some(PathBuf::from(path))
    };
    [dir.join("systemd/private"), bus.and_then(path).unwrap_or_else(|| dir.join("bus"))]
}

fn explain(doing: String, failure: Failure) -> Error {
    match failure {
        Failure::Refused(_, words) if doing.is_empty() => Error::new(words),
        Failure::Refused(_, words) => Error::new(format!("{doing}: {words}")),
        Failure::Io(err) if err.kind() == ErrorKind::TimedOut => {
            Error::new(format!("{doing}: systemd does not answer"))
                .hint("systemctl list-jobs shows what it is busy with")
        }
        Failure::Io(err) => Error::io(doing, &err),
    }
}

/// Says which annotation a refused property may be of: systemd does not tell that of a value that has
/// another type than it takes.
fn blame(err: Error, properties: &[Property]) -> Error {
    let of_annotation = |property: &&Property| property.at.starts_with("annotations");
    let annotated: Vec<_> = properties.iter().filter(of_annotation).collect();
    let named = annotated.iter().find(|property| err.message().contains(property.name.as_ref()));
    let of_any = err.message().contains("propert");
    match (named, annotated.as_slice()) {
        (Some(property), _) => err.at(property.at.as_ref()).hint(TYPES),
        (None, [property]) if of_any => err.at(property.at.as_ref()).hint(TYPES),
        (None, [_, ..]) if of_any => err.at("annotations").hint(TYPES),
        _ => err.at(AT),
    }
}

const TYPES: &str = "a value has the type of its property (org.freedesktop.systemd1(5)): a weight is \
                     `uint64 5`, as 5 alone is an int32";

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(path: Option<&str>) -> Result<(String, String)> {
        let manager = Manager { user: false, base: String::new() };
        Unit::plan(&manager, path, "web").map(|(unit, dir)| (unit.name, dir))
    }

    #[test]
    fn paths_name_slice_and_scope() {
        let good = [
            (None, "runc-web.scope", "/system.slice/runc-web.scope"),
            (Some("::x"), "-x.scope", "/system.slice/-x.scope"),
            (Some("-.slice:p:x"), "p-x.scope", "/p-x.scope"),
            (Some("a-b.slice:p:x"), "p-x.scope", "/a.slice/a-b.slice/p-x.scope"),
        ];
        for (path, name, dir) in good {
            assert_eq!(plan(path).unwrap(), (name.into(), dir.into()), "{path:?}");
        }
        let user = Manager { user: true, base: "/user.slice/u.service".into() };
        let (unit, dir) = Unit::plan(&user, Some(":p:x"), "web").unwrap();
        assert_eq!((unit.slice.as_str(), unit.user), ("user.slice", true));
        assert_eq!(dir, "/user.slice/u.service/user.slice/p-x.scope");
    }

    #[test]
    fn other_paths_are_refused() {
        let bad = [
            "/a/b",
            "a:b",
            "a:b:c:d",
            "a:b:c",
            ".slice:b:c",
            "a--b.slice:b:c",
            "-a.slice:b:c",
            "a/b.slice:b:c",
            "a.slice:b:../c",
            "a.slice:b:c.slice",
            "a.slice:b:c d",
            "a.slice:b:ü",
            "../x.slice:b:c",
            "a.slice:..:c/d",
        ];
        for path in bad {
            assert_eq!(plan(Some(path)).unwrap_err().path(), Some(AT), "{path}");
        }
        let long = format!("a.slice:b:{}", "c".repeat(250));
        assert!(plan(Some(&long)).is_err());
    }
}
