//! What in a bundle will fail on this host. The plan finds what it refuses; what it would find out
//! only by doing it is looked at here.

use std::path::Path;

use nix::errno::Errno;

use super::facts::{has, has_namespace, holds, read};
use crate::cli::{Explain, Global};
use crate::cmd::create::absolute;
use crate::cmd::explain;
use crate::error::Error;
use crate::hooks::Point;
use crate::namespaces::KINDS;
use crate::path::{c_string, clean};
use crate::process::{Rlimit, executable};
use crate::spec::check::sysctl_file;
use crate::spec::config::{Linux, Process, Spec};
use crate::spec::load;
use crate::step::{ChildStep, Entry};
use crate::{log, sys};

const SYS_RESOURCE: u8 = 24;

/// Every problem that is found, each with its place.
pub fn problems(global: &Global, bundle: &Path) -> Vec<Error> {
    let config = match load::load(bundle) {
        Ok(config) => config,
        Err(err) => return vec![err],
    };
    log::warn_all(&config.warnings);
    let options = Explain { id: None, bundle: bundle.to_path_buf(), json: false };
    let mut found = Found(Vec::new());
    let mut spec = config.spec.clone();
    let plan = loop {
        let err = match explain::plan(global, &spec, &options) {
            Ok(plan) => break Some(plan),
            Err(err) => err,
        };
        let more = err.path().is_some_and(|path| without(&mut spec, path));
        found.0.push(err);
        if !more {
            break None;
        }
    };
    let bundle = absolute(bundle).unwrap_or_else(|_| bundle.to_path_buf());
    found.look(&config.spec, &bundle);
    if let Some(plan) = plan {
        log::warn_all(&plan.warnings);
        found.means(&plan, &bundle);
        found.inside(&plan);
    }
    found.0.into_iter().map(|err| config.place(err)).collect()
}

/// Takes out the member at `path` that the plan has refused, if it is one that hosts may lack the
/// means for: so the plan goes on to the next.
fn without(spec: &mut Spec, path: &str) -> bool {
    let (Some(process), Some(linux)) = (&mut spec.process, &mut spec.linux) else { return false };
    match path {
        "process.apparmorProfile" => process.apparmor_profile.take().is_some(),
        "process.selinuxLabel" => process.selinux_label.take().is_some(),
        "linux.mountLabel" => linux.mount_label.take().is_some(),
        _ if path.starts_with("linux.intelRdt") => linux.intel_rdt.take().is_some(),
        _ if path.starts_with("linux.resources") => linux.resources.take().is_some(),
        _ => false,
    }
}

/// The problems so far.
pub(super) struct Found(Vec<Error>);

impl Found {
    /// Adds what `words` say of the member at the JSON path `at`.
    // In each of its dozen callers it would be larger than they are.
    #[inline(never)]
    pub(super) fn add(&mut self, words: String, at: String) {
        self.report(Error::new(words).at(at));
    }

    /// Adds that the step `entry` will end with `err`.
    pub(super) fn stopped(&mut self, err: Error, entry: &Entry<ChildStep>) {
        self.report(err.or_doing(|| entry.step.to_string()).at(&*entry.at));
    }

    /// Adds that `path`, which the member at the JSON path `at` names, is not as it has to be.
    pub(super) fn failed(&mut self, path: &Path, errno: Errno, at: String) {
        self.report(Error::sys(path.to_string_lossy(), errno).at(at));
    }

    /// Adds a problem, unless its member has one: what the plan has refused is not told twice.
    pub(super) fn report(&mut self, err: Error) {
        if err.path().is_none() || self.0.iter().all(|known| known.path() != err.path()) {
            self.0.push(err);
        }
    }

    fn look(&mut self, spec: &Spec, bundle: &Path) {
        let none = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&none);
        self.namespaces(linux);
        self.files(spec, bundle);
        self.hooks(spec);
        self.sysctls(linux);
        if let Some(process) = &spec.process {
            self.process(process);
        }
    }

    /// Those of the host; what belongs to a network device or a namespace that is joined need not be there.
    fn sysctls(&mut self, linux: &Linux) {
        let joins_network =
            linux.namespaces.iter().any(|n| n.kind == "network" && n.path.is_some());
        for name in linux.sysctl.keys() {
            let Some(file) = sysctl_file(name) else { continue };
            let of_device = has(&file, "/conf/") || has(&file, "/neigh/");
            if file.starts_with("net/") && (joins_network || of_device) {
                continue;
            }
            if !Path::new("/proc/sys").join(file).exists() {
                let at = crate::spec::position::member("linux.sysctl", name);
                self.add(format!("the kernel has no {name}"), at);
            }
        }
    }

    fn namespaces(&mut self, linux: &Linux) {
        for (i, namespace) in linux.namespaces.iter().enumerate() {
            let at = |part: &str| format!("linux.namespaces[{i}].{part}");
            let kind = KINDS.iter().find(|kind| kind.name == namespace.kind);
            if kind.is_some_and(|kind| !has_namespace(kind.file)) {
                self.add(format!("the kernel has no {} namespaces", namespace.kind), at("type"));
            }
            if let Some(path) = namespace.path.as_deref().filter(|path| missing(path)) {
                self.add(format!("{path}: no such file or directory"), at("path"));
            }
        }
        let user = linux.namespaces.iter().any(|namespace| namespace.kind == "user");
        if sys::process::euid() != 0 && !user {
            self.add(
                "new namespaces need root, or a user namespace".into(),
                "linux.namespaces".into(),
            );
        }
    }

    /// The root, and the sources of bind mounts. Those in the root are looked at with what is mounted there.
    fn files(&mut self, spec: &Spec, bundle: &Path) {
        let root = spec.root.as_ref().map(|root| bundle.join(&root.path));
        if let Some(path) = root.as_ref().filter(|path| !path.is_dir()) {
            self.add(format!("{} is not a directory", path.display()), "root.path".into());
        }
        let root = root.map(|path| clean(&path));
        let in_root =
            |path: &Path| root.as_ref().is_some_and(|root| clean(path).strip_prefix(root).is_ok());
        for (i, mount) in spec.mounts.iter().enumerate() {
            let bind = mount.options.iter().any(|option| option == "bind" || option == "rbind");
            let Some(source) = mount.source.as_deref() else { continue };
            let path = bundle.join(source);
            if (bind || mount.kind.as_deref() == Some("bind")) && !in_root(&path) && !path.exists()
            {
                let at = format!("mounts[{i}].source");
                self.add(format!("{source}: no such file or directory"), at);
            }
        }
    }

    /// The programs of the host's hooks.
    fn hooks(&mut self, spec: &Spec) {
        let Some(hooks) = &spec.hooks else { return };
        for point in Point::ALL.iter().filter(|point| point.name() != "startContainer") {
            for (i, hook) in point.of(hooks).iter().enumerate() {
                let Ok(path) = c_string(&hook.path) else { continue };
                if let Err(errno) = executable(&path) {
                    let at = format!("hooks.{}[{i}].path", point.name());
                    self.failed(Path::new(&hook.path), errno, at);
                }
            }
        }
    }

    /// What nobody, or only CAP_SYS_RESOURCE, may raise or lower.
    fn process(&mut self, process: &Process) {
        let most = read("/proc/sys/fs/nr_open").parse().unwrap_or(u64::MAX);
        let holds = holds(SYS_RESOURCE);
        for (i, entry) in process.rlimits.iter().enumerate() {
            let raised = !holds && Rlimit::plan(i, entry).is_ok_and(|limit| limit.is_raised());
            let words = match entry.kind == "RLIMIT_NOFILE" && entry.hard > most {
                true => format!("/proc/sys/fs/nr_open allows {most} open files"),
                false if raised => {
                    format!("raising the hard {} needs CAP_SYS_RESOURCE", entry.kind)
                }
                false => continue,
            };
            self.add(words, format!("process.rlimits[{i}].hard"));
        }
        if holds {
            return;
        }
        let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        let own = own.trim().parse().unwrap_or(0);
        if process.oom_score_adj.is_some_and(|score| score < own) {
            let words = format!("lowering the score below {own} needs CAP_SYS_RESOURCE");
            self.add(words, "process.oomScoreAdj".into());
        }
    }
}

fn missing(path: &str) -> bool {
    path.starts_with('/') && !Path::new(path).exists()
}
