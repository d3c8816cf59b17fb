//! Network devices of the host that move into a container.

mod common;

use std::sync::atomic::{AtomicU32, Ordering};

use common::{Cmd, Container, peers_fail};
use serde_json::{Value, json};

/// Debian's runc and crun are older than `linux.netDevices`.
const OLD: &str = "it is older than network devices";

/// One end of a veth pair, with a name of its own; gone with the test.
struct Device(String);

impl Device {
    fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}x{serial}", std::process::id() % 1_000_000);
        ip(&["link", "add", &name, "type", "veth", "peer", "name", &format!("{name}p")]);
        Device(name)
    }

    /// Whether the host has it.
    fn is_here(&self) -> bool {
        std::path::Path::new("/sys/class/net").join(&self.0).exists()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.is_here() {
            ip(&["link", "del", &self.0]);
        }
    }
}

/// iproute2.
fn ip(words: &[&str]) -> String {
    Cmd::new(&["ip"]).args(words).ok()
}

/// `ip` in the network namespace of the container.
fn ip_in(c: &Container, words: &[&str]) -> String {
    let pid = c.pid().to_string();
    Cmd::new(&["nsenter", "-t", &pid, "-n", "ip"]).args(words).ok()
}

/// Whether what `ip` shows of a device has the flag UP.
fn is_up(shown: &str) -> bool {
    let flags = shown.split(['<', '>']).nth(1).unwrap_or_default();
    flags.split(',').any(|flag| flag == "UP")
}

fn with_devices(c: Container, devices: Value) -> Container {
    c.with(|c| c["linux"]["netDevices"] = devices)
}

#[test]
fn a_device_moves_with_its_addresses_and_is_up() {
    if peers_fail(OLD) {
        return;
    }
    let device = Device::new();
    let name = &device.0;
    ip(&["link", "set", name, "address", "02:11:22:33:44:55", "mtu", "1789"]);
    ip(&["address", "add", "10.99.0.5/24", "broadcast", "10.99.0.255", "dev", name]);
    ip(&["address", "add", "10.99.3.5/24", "metric", "700", "dev", name]);
    ip(&["address", "add", "2001:db8::7/64", "nodad", "dev", name]);
    // Neither permanent nor of global scope: these stay behind.
    ip(&[
        "address",
        "add",
        "10.99.1.5/24",
        "dev",
        name,
        "valid_lft",
        "600",
        "preferred_lft",
        "600",
    ]);
    ip(&["address", "add", "10.99.2.5/24", "scope", "link", "dev", name]);
    let c = with_devices(Container::idle(), json!({name: {}}));
    c.run_detached();
    assert!(!device.is_here());
    let said = ip_in(&c, &["address", "show", "dev", name]);
    for kept in [
        "02:11:22:33:44:55",
        "mtu 1789",
        "inet 10.99.0.5/24 brd 10.99.0.255 scope global",
        "inet 10.99.3.5/24 metric 700 scope global",
        "inet6 2001:db8::7/64 scope global nodad",
    ] {
        assert!(said.contains(kept), "{kept}: {said}");
    }
    assert!(is_up(&said), "{said}");
    assert!(!said.contains("10.99.1.5") && !said.contains("10.99.2.5"), "{said}");
    c.end();
}

#[test]
fn a_device_gets_another_name() {
    if peers_fail(OLD) {
        return;
    }
    let (first, second) = (Device::new(), Device::new());
    ip(&["link", "set", &first.0, "up"]);
    ip(&["address", "add", "10.98.0.5/24", "dev", &first.0]);
    let devices = json!({&first.0: {"name": "eth0"}, &second.0: {"name": ""}});
    let c = with_devices(Container::idle(), devices);
    c.create();
    assert!(ip_in(&c, &["address", "show", "dev", "eth0"]).contains("inet 10.98.0.5/24 "));
    assert!(is_up(&ip_in(&c, &["link", "show", "dev", &second.0])));
    assert!(!first.is_here() && !second.is_here());
    c.end();
}

#[test]
fn a_template_finds_a_free_name() {
    if peers_fail(OLD) {
        return;
    }
    let devices = [Device::new(), Device::new(), Device::new()];
    let [a, b, c] = devices.each_ref().map(|device| device.0.clone());
    let wanted = json!({a: {"name": "eth0"}, b: {"name": "eth%d"}, c: {"name": "eth%d"}});
    let c = with_devices(Container::idle(), wanted);
    c.create();
    for name in ["eth0", "eth1", "eth2"] {
        ip_in(&c, &["link", "show", "dev", name]);
    }
    c.end();
}

#[test]
fn sysctls_of_a_device_find_it() {
    if peers_fail(OLD) {
        return;
    }
    let device = Device::new();
    let c = Container::sh("cat /proc/sys/net/ipv4/conf/eth0/rp_filter").with(|c| {
        c["linux"]["sysctl"] = json!({"net.ipv4.conf.eth0.rp_filter": "2"});
    });
    assert_eq!(with_devices(c, json!({&device.0: {"name": "eth0"}})).run(), "2\n");
}

#[test]
fn devices_move_into_the_namespace_of_a_user_namespace() {
    if peers_fail(OLD) {
        return;
    }
    let device = Device::new();
    ip(&["address", "add", "10.97.0.5/24", "dev", &device.0]);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let c = with_devices(Container::idle(), json!({&device.0: {"name": "eth0"}})).with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
    });
    Cmd::new(&["chmod", "755", &c.bundle().to_string_lossy()]).ok();
    Cmd::new(&["chown", "-R", "100000:100000", &c.rootfs().to_string_lossy()]).ok();
    c.run_detached();
    assert!(ip_in(&c, &["address", "show", "dev", "eth0"]).contains("10.97.0.5/24"));
    c.end();
}

/// A container that holds a network namespace for others.
fn namespace() -> (Container, String) {
    let holder = Container::idle();
    holder.run_detached();
    let path = format!("/proc/{}/ns/net", holder.pid());
    (holder, path)
}

#[test]
fn devices_move_into_a_joined_namespace_and_stay_there() {
    if peers_fail(OLD) {
        return;
    }
    let device = Device::new();
    let (holder, path) = namespace();
    let c = Container::new(&["/bin/true"]).namespace("network", Some(&path));
    with_devices(c, json!({&device.0: {"name": "eth7"}})).run();
    assert!(is_up(&ip_in(&holder, &["link", "show", "dev", "eth7"])));
    holder.end();
    assert!(!device.is_here());
}

#[test]
fn a_name_that_is_taken_leaves_the_device_where_it_is() {
    if peers_fail(OLD) {
        return;
    }
    let device = Device::new();
    ip(&["link", "set", &device.0, "up"]);
    ip(&["address", "add", "10.96.0.5/24", "dev", &device.0]);
    let c = with_devices(Container::idle(), json!({&device.0: {"name": "lo"}}));
    let said = c.boot("create", &[]).fails(1);
    assert!(said.contains("file exists") && said.contains("linux.netDevices"), "{said}");
    c.assert_nothing_left();
    let here = ip(&["address", "show", "dev", &device.0]);
    assert!(here.contains("10.96.0.5/24") && is_up(&here), "{here}");
}

/// What had been moved by then would be gone with the network namespace of the container.
#[test]
fn nothing_is_moved_if_another_cannot_be() {
    if peers_fail(OLD) {
        return;
    }
    let (first, second) = (Device::new(), Device::new());
    let (a, b) = (&first.0, &second.0);
    for (name, other, words) in [
        ("eth0", json!({"zz-nosuch": {}}), "link not found for interface zz-nosuch"),
        ("eth0", json!({b: {"name": "lo"}}), "as lo: file exists"),
        ("eth0", json!({b: {"name": "eth0"}}), "two network devices cannot both be eth0"),
        (b, json!({b: {}}), "two network devices cannot both be"),
        ("all", json!({}), "invalid network device name \"all\""),
        ("default", json!({}), "invalid network device name \"default\""),
        ("e%d%d", json!({}), "invalid network device name \"e%d%d\""),
        ("e%s", json!({}), "invalid network device name \"e%s\""),
        ("e%", json!({}), "invalid network device name \"e%\""),
    ] {
        let mut devices = other;
        devices[a] = json!({"name": name});
        let c = with_devices(Container::idle(), devices);
        let said = c.boot("create", &[]).fails(1);
        assert!(said.contains(words) && said.contains("linux.netDevices"), "{said}");
        c.assert_nothing_left();
        assert!(first.is_here() && second.is_here(), "{name}");
    }
}

#[test]
fn devices_of_a_container_that_fails_come_back_as_they_were() {
    if peers_fail(OLD) {
        return;
    }
    let (up, down) = (Device::new(), Device::new());
    ip(&["link", "set", &up.0, "up"]);
    ip(&["address", "add", "10.95.0.5/24", "dev", &up.0]);
    let hook = |script: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    let devices = json!({&up.0: {"name": "eth0"}, &down.0: {}});
    let (holder, path) = namespace();
    for joins in [false, true] {
        for (args, hooks) in [
            (["/no/program"], json!({})),
            (["/bin/true"], json!({"createRuntime": hook("exit 3")})),
            (["/bin/true"], json!({"createContainer": hook("exit 3")})),
        ] {
            let c = Container::new(&args).with(|c| c["hooks"] = hooks.clone());
            let c = if joins { c.namespace("network", Some(&path)) } else { c };
            let c = with_devices(c, devices.clone());
            c.boot("create", &[]).fails(1);
            c.assert_nothing_left();
            let here = ip(&["address", "show", "dev", &up.0]);
            assert!(here.contains("10.95.0.5/24") && is_up(&here), "{args:?} {hooks} {here}");
            assert!(!is_up(&ip(&["link", "show", "dev", &down.0])), "{args:?} {hooks}");
        }
    }
    holder.end();
}

/// Nothing is renamed on the host.
#[test]
fn the_runtimes_own_namespace_is_no_container() {
    if peers_fail(OLD) {
        return;
    }
    let device = Device::new();
    let own = format!("/proc/{}/ns/net", std::process::id());
    let c = Container::idle().namespace("network", Some(&own));
    let c = with_devices(c, json!({&device.0: {"name": "eth7"}}));
    let said = c.boot("create", &[]).fails(1);
    assert!(said.contains("unable to move network devices without a NET namespace"), "{said}");
    c.assert_nothing_left();
    assert!(device.is_here());
}

#[test]
fn what_cannot_be_moved_is_refused() {
    if peers_fail(OLD) {
        return;
    }
    let long = "sixteen-bytes-xx";
    for (devices, words) in [
        (json!({"nosuch0": {}}), "link not found for interface nosuch0 on runtime namespace"),
        (json!({"a/b": {}}), "invalid network device name \"a/b\""),
        (json!({long: {}}), "invalid network device name \"sixteen-bytes-xx\""),
        (json!({"nosuch0": {"name": "a b"}}), "invalid network device name \"a b\""),
        (json!({"nosuch0": {"name": ".."}}), "invalid network device name \"..\""),
        // The loopback device belongs to its namespace.
        (json!({"lo": {"name": "other"}}), "fail to move network device lo"),
    ] {
        let c = with_devices(Container::idle(), devices);
        let said = c.boot("create", &[]).fails(1);
        assert!(said.contains(words) && said.contains("linux.netDevices"), "{said}");
        c.assert_nothing_left();
    }
    let c = with_devices(Container::idle(), json!({"nosuch0": {}})).namespace("network", None);
    let said = c.boot("create", &[]).fails(1);
    assert!(said.contains("unable to move network devices without a NET namespace"), "{said}");
}
