use super::*;

/// A state root of its own in the system's directory for temporary files.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> (Place, Root) {
        let path = std::env::temp_dir().join(format!("tare-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        let root = Root::open(Some(&path)).unwrap();
        (Place(path), root)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn words<T: fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().message()
}

/// A child that sleeps until it is killed.
fn sleeper() -> std::process::Child {
    std::process::Command::new("sleep").arg("100").spawn().unwrap()
}

#[test]
fn ids_are_plain_file_names() {
    for id in ["a", "web-1_x+y.z", "...", "-a", &"x".repeat(255)] {
        assert!(check_id(id).is_ok(), "{id:?}");
    }
    for id in [".", "..", "a/b", "../x", "a b", "é", "a\0", "a\n", &"x".repeat(256)] {
        assert!(words(check_id(id)).starts_with("invalid container ID format"), "{id:?}");
    }
    assert_eq!(words(check_id("")), "container id cannot be empty");
}

#[test]
fn a_container_lives_from_create_to_remove() {
    let (place, root) = Place::new("life");
    assert_eq!(words(root.container("web")), "container does not exist");
    let container = root.create("web").unwrap();
    assert!(root.list().unwrap().is_empty(), "without a state it is no container");
    let mut state = State::new("web", "1.3.0");
    state.bundle = "/b".into();
    state.annotations.insert("k".into(), "v".into());
    container.save(&state).unwrap();
    container.save_config(b"{}").unwrap();
    assert_eq!(root.list().unwrap(), ["web"]);
    let read = root.container("web").unwrap();
    assert_eq!(format!("{:?}", read.load().unwrap()), format!("{state:?}"));
    assert_eq!(read.config().unwrap(), b"{}");
    assert_eq!(words(root.create("web")), "container with given ID already exists");
    container.remove().unwrap();
    drop(container);
    assert_eq!(words(read.lock()), "container does not exist");
    assert!(!place.0.join("web").exists());
}

#[test]
fn an_interrupted_create_leaves_an_id_that_can_be_used_again() {
    let (_place, root) = Place::new("again");
    drop(root.create("web").unwrap());
    assert_eq!(words(root.container("web").unwrap().load()), "container does not exist");
    let container = root.create("web").unwrap();
    assert_eq!(words(root.create("web")), "container with given ID already exists");
    drop(container);
}

#[test]
fn only_one_may_change_a_container() {
    let (_place, root) = Place::new("lock");
    let first = root.create("web").unwrap();
    let second = root.container("web").unwrap();
    assert!(!second.try_lock().unwrap());
    first.unlock();
    assert!(second.try_lock().unwrap());
    drop(second);
    first.lock().unwrap();
}

#[test]
fn status_follows_process_and_lock() {
    let (_place, root) = Place::new("status");
    let container = root.create("web").unwrap();
    let other = root.container("web").unwrap();
    let mut state = State::new("web", "1.3.0");
    assert_eq!(other.status(&state).unwrap(), Status::Creating);
    container.unlock();
    assert_eq!(other.status(&state).unwrap(), Status::Stopped, "its creator was killed");
    let mut child = sleeper();
    state.set_init(i32::try_from(child.id()).unwrap()).unwrap();
    assert_eq!(other.status(&state).unwrap(), Status::Creating);
    state.stage = Stage::Created;
    assert_eq!(other.status(&state).unwrap(), Status::Created);
    state.stage = Stage::Started;
    assert_eq!(other.status(&state).unwrap(), Status::Running);
    let init = state.init().unwrap().unwrap();
    assert!(!init.wait(Duration::from_millis(1)).unwrap());
    init.signal(libc::SIGKILL).unwrap();
    assert!(init.wait(Duration::from_secs(10)).unwrap());
    assert_eq!(other.status(&state).unwrap(), Status::Stopped, "a zombie is stopped");
    child.wait().unwrap();
    assert_eq!(other.status(&state).unwrap(), Status::Stopped);
    assert_eq!(words(init.signal(libc::SIGTERM)), "container not running");
}

#[test]
fn a_reused_pid_is_not_init() {
    let mut child = sleeper();
    let mut state = State::new("web", "1.3.0");
    state.set_init(i32::try_from(child.id()).unwrap()).unwrap();
    assert!(state.init().unwrap().is_some());
    state.pid_start += 1;
    assert!(state.init().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn names_of_programs_do_not_confuse_the_start_time() {
    let line = b"7 (a) Z (b)) S 1 7 7 0 -1 4194560 90 0 0 0 0 0 0 0 20 0 1 0 4711 2 3 9 1 1 1 1 1 0 4 4097 5\n";
    let found = parse_stat(line).unwrap();
    assert_eq!((found.start, found.alive, found.ignored), (4711, true, 4097));
    let zombie = b"7 (x) Z 1 7 7 0 -1 4 90 0 0 0 0 0 0 0 20 0 1 0 1 0 0 9 0 0 0 0 0 0 0 0 0 0\n";
    assert!(!parse_stat(zombie).unwrap().alive);
    assert!(parse_stat(b"7 (x) S 1").is_none());
    assert!(parse_stat(b"").is_none());
}

#[test]
fn roots_are_absolute_and_never_the_file_system() {
    assert_eq!(
        words(Root::open(Some(Path::new("/a/../.")))),
        "Option --root argument should not be set to /"
    );
    let root = Root::open(Some(Path::new("x/../y"))).unwrap();
    assert_eq!(root.path(), std::env::current_dir().unwrap().join("y"));
}

#[test]
fn a_given_root_that_is_absent_cannot_be_listed() {
    let (_place, root) = Place::new("absent");
    assert!(words(root.list()).ends_with(": no such file or directory"));
}

#[test]
fn old_and_new_states_can_be_read() {
    let json = r#"{"version":1,"ociVersion":"1.0.2","id":"x","stage":"created","bundle":"/b",
        "rootfs":"/b/r","created":"2026-01-01T00:00:00Z","later":{"unknown":true}}"#;
    let state: State = serde_json::from_str(json).unwrap();
    assert_eq!((state.stage, state.pid, state.cgroup), (Stage::Created, 0, None));
}

#[test]
fn hooks_get_the_specified_state() {
    let mut state = State::new("x", "1.3.0");
    (state.pid, state.bundle) = (7, "/b".into());
    let json: serde_json::Value = serde_json::from_str(&state.for_hooks(Status::Creating)).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"ociVersion": "1.3.0", "id": "x", "status": "creating", "pid": 7, "bundle": "/b"})
    );
    assert!(!state.for_hooks(Status::Stopped).contains("pid"));
}
