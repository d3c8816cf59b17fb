//! On a plain directory in resctrl's place: files that the kernel would make are made here.

use super::*;

/// A resctrl with cache, bandwidth and monitoring.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let root = std::env::temp_dir().join(format!("tare-rdt-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for dir in ["info/L3", "info/MB", "info/L3_MON", "mon_groups"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let place = Place(root);
        place.populate("", "    L3:0=7ff;1=7ff\n    MB:0=100;1=100\n");
        place
    }

    /// What the kernel puts into a group.
    fn populate(&self, group: &str, schemata: &str) {
        fs::create_dir_all(self.0.join(group).join("mon_groups")).unwrap();
        fs::write(self.0.join(group).join("schemata"), schemata).unwrap();
        fs::write(self.0.join(group).join("tasks"), "").unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }

    fn plan(&self, json: &str) -> Result<Rdt> {
        Rdt::plan(&config(json), "web", &self.0)
    }

    fn refusal(&self, json: &str) -> (String, String) {
        let err = self.plan(json).unwrap_err();
        (err.message(), err.path().unwrap().to_owned())
    }
}

fn config(json: &str) -> IntelRdt {
    crate::spec::load::parse(json, Path::new("test")).unwrap().0
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn mount_points_are_found() {
    let table = "24 1 0:22 / /sys rw - sysfs sysfs rw\n\
                 99 24 0:50 / /sys/fs/resctrl rw,relatime shared:4 - resctrl resctrl rw\n";
    assert_eq!(find_mount(table), Some("/sys/fs/resctrl".into()));
    assert_eq!(find_mount("24 1 0:22 / /resctrl rw - tmpfs resctrl rw\n"), None);
}

#[test]
fn a_group_of_its_own_lives_with_the_container() {
    let place = Place::new("own");
    let rdt = place.plan(r#"{"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20"}"#).unwrap();
    assert!(rdt.own && rdt.absent);
    // The kernel fills a new directory with files, a plain one cannot be written to.
    let err = rdt.make(7).unwrap_err();
    assert_eq!(err.path(), Some("linux.intelRdt.l3CacheSchema"));
    assert!(!place.0.join("web").exists(), "a failure leaves nothing");
    place.populate("web", "");
    let rdt = Rdt { absent: false, ..rdt };
    rdt.make(7).unwrap();
    // One write each, in this order: on a plain file the last one is at the beginning.
    assert_eq!(place.read("web/schemata"), "MB:0=20\n");
    assert_eq!(place.read("web/tasks"), "7");
    for file in ["schemata", "tasks"] {
        fs::remove_file(place.0.join("web").join(file)).unwrap();
    }
    fs::remove_dir(place.0.join("web/mon_groups")).unwrap();
    rdt.remove().unwrap();
    assert!(!place.0.join("web").exists());
    rdt.remove().unwrap();
}

#[test]
fn lines_are_in_the_specified_order() {
    let json = r#"{"schemata": ["L2:0=f", "MB:0=5"], "memBwSchema": "MB:0=20",
        "l3CacheSchema": "L3:0=f\nMB:0=10"}"#;
    let lines = lines(&config(json));
    let texts: Vec<&str> = lines.iter().map(|(line, _)| line.as_str()).collect();
    assert_eq!(texts, ["L3:0=f", "MB:0=20", "L2:0=f", "MB:0=5"]);
    assert_eq!(lines[3].1, "linux.intelRdt.schemata[1]");
}

#[test]
fn a_shared_group_is_compared_and_stays() {
    let place = Place::new("shared");
    place.populate("gold", "    L3:0=0f;1=7ff\n    MB:0= 20;1= 70\n");
    let json = r#"{"closID": "gold", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:1=70"}"#;
    let rdt = place.plan(json).unwrap();
    assert!(!rdt.own);
    rdt.make(8).unwrap();
    assert_eq!(place.read("gold/tasks"), "8");
    rdt.remove().unwrap();
    assert!(place.0.join("gold").exists());
    for (json, at) in [
        (r#"{"closID": "gold", "l3CacheSchema": "L3:0=ff"}"#, "l3CacheSchema"),
        (r#"{"closID": "gold", "memBwSchema": "MB:2=70"}"#, "memBwSchema"),
    ] {
        let (message, path) = place.refusal(json);
        assert!(message.contains("does not match the schemata of"), "{message}");
        assert_eq!(path, format!("linux.intelRdt.{at}"));
    }
    // Without shares of its own, it has to be there.
    let rdt = place.plan(r#"{"closID": "gold"}"#).unwrap();
    let before = place.read("gold/schemata");
    rdt.make(9).unwrap();
    assert_eq!(place.read("gold/schemata"), before);
    let (message, path) = place.refusal(r#"{"closID": "iron"}"#);
    assert!(message.starts_with("clos dir not accessible"), "{message}");
    assert_eq!(path, "linux.intelRdt.closID");
}

#[test]
fn the_default_group_is_never_removed() {
    let place = Place::new("default");
    let rdt = place.plan(r#"{"closID": "/", "schemata": ["L3:0=1"]}"#).unwrap();
    rdt.make(5).unwrap();
    assert_eq!(place.read("tasks"), "5");
    assert!(place.read("schemata").starts_with("L3:0=1\n"));
    rdt.remove().unwrap();
    assert!(place.0.exists());
}

#[test]
fn a_monitoring_group_is_made_and_removed() {
    let place = Place::new("monitor");
    place.populate("gold", "");
    let rdt = place.plan(r#"{"closID": "gold", "enableMonitoring": true}"#).unwrap();
    let monitor = place.0.join("gold/mon_groups/web");
    assert_eq!(rdt.monitor.as_ref(), Some(&monitor));
    // The kernel would have put `tasks` into it: undone all the same.
    rdt.make(6).unwrap_err();
    assert!(!monitor.exists() && place.0.join("gold").exists());
    fs::remove_dir_all(place.0.join("info/L3_MON")).unwrap();
    let (message, path) = place.refusal(r#"{"enableMonitoring": true}"#);
    assert!(message.ends_with("Intel RDT/CMT is not enabled"), "{message}");
    assert_eq!(path, "linux.intelRdt.enableMonitoring");
}

#[test]
fn what_the_processor_lacks_is_refused() {
    let place = Place::new("lacks");
    fs::remove_dir(place.0.join("info/L3")).unwrap();
    fs::remove_dir(place.0.join("info/MB")).unwrap();
    let said = place.refusal(r#"{"l3CacheSchema": "L3:0=f"}"#).0;
    assert!(said.ends_with("but Intel RDT/CAT is not enabled"), "{said}");
    let said = place.refusal(r#"{"memBwSchema": "MB:0=10"}"#).0;
    assert!(said.ends_with("but Intel RDT/MBA is not enabled"), "{said}");
    assert!(place.refusal(r#"{"closID": "info"}"#).0.starts_with("invalid intelRdt.ClosID"));
}

#[test]
fn shares_and_the_kernels_words_are_read() {
    let place = Place::new("words");
    let rdt = place.plan(r#"{"closID": "/"}"#).unwrap();
    let shares = rdt.shares().unwrap();
    assert_eq!(shares["l3_cache_schema"], "L3:0=7ff;1=7ff");
    assert_eq!(shares["mem_bw_schema"], "MB:0=100;1=100");
    fs::write(place.0.join("info/last_cmd_status"), "Mask out of range\n").unwrap();
    fs::remove_file(place.0.join("schemata")).unwrap();
    let err = rdt.change(&config(r#"{"l3CacheSchema": "L3:0=fffff"}"#)).unwrap_err();
    assert_eq!(err.parts().2[1], Some("Mask out of range"));
}

#[test]
fn survives_the_state_file() {
    let place = Place::new("state");
    let rdt = place.plan(r#"{"enableMonitoring": true}"#).unwrap();
    let json = serde_json::to_string(&rdt).unwrap();
    let read: Rdt = serde_json::from_str(&json).unwrap();
    assert_eq!((read.group, read.monitor, read.own), (rdt.group, rdt.monitor, true));
}
