//! What in a bundle will fail on this host. The plan finds what it refuses; what it would find out
//! only by doing it is looked at here.

use std::path::Path;

use super::facts::{has_namespace, holds};
use crate::cli::{Explain, Global};
use crate::cmd::explain;
use crate::error::Error;
use crate::hooks::Point;
use crate::namespaces::KINDS;
use crate::process::Rlimit;
use crate::spec::check::sysctl_file;
use crate::spec::config::{Linux, Process, Spec};
use crate::spec::load;
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
    loop {
        let err = match explain::plan(global, &spec, &options) {
            Ok(plan) => break log::warn_all(&plan.warnings),
            Err(err) => err,
        };
        let more = err.path().is_some_and(|path| without(&mut spec, path));
        found.0.push(err);
        if !more {
            break;
        }
    }
    found.look(&config.spec, bundle);
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
struct Found(Vec<Error>);

impl Found {
    fn add(&mut self, words: impl Into<String>, at: impl Into<String>) {
        let (err, at) = (Error::new(words), at.into());
        // What the plan has refused is not told twice.
        if self.0.iter().all(|known| known.path() != Some(&at)) {
            self.0.push(err.at(at));
        }
    }

    fn look(&mut self, spec: &Spec, bundle: &Path) {
        let none = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&none);
        self.namespaces(linux);
        self.files(spec, bundle);
        self.hooks(spec);
        for name in linux.sysctl.keys() {
            let file = sysctl_file(name).map(|file| Path::new("/proc/sys").join(file));
            if file.is_some_and(|file| !file.exists()) {
                let at = crate::spec::position::member("linux.sysctl", name);
                self.add(format!("the kernel has no {name}"), at);
            }
        }
        if let Some(process) = &spec.process {
            self.process(process);
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
            self.add("new namespaces need root, or a user namespace", "linux.namespaces");
        }
    }

    /// The root, and the sources of bind mounts.
    fn files(&mut self, spec: &Spec, bundle: &Path) {
        if let Some(root) = &spec.root {
            let path = bundle.join(&root.path);
            if !path.is_dir() {
                self.add(format!("{} is not a directory", path.display()), "root.path");
            }
        }
        for (i, mount) in spec.mounts.iter().enumerate() {
            let bind = mount.options.iter().any(|option| option == "bind" || option == "rbind");
            let Some(source) = mount.source.as_deref() else { continue };
            if (bind || mount.kind.as_deref() == Some("bind")) && !bundle.join(source).exists() {
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
                if missing(&hook.path) {
                    let at = format!("hooks.{}[{i}].path", point.name());
                    self.add(format!("{}: no such file or directory", hook.path), at);
                }
            }
        }
    }

    /// What only CAP_SYS_RESOURCE may raise or lower.
    fn process(&mut self, process: &Process) {
        if holds(SYS_RESOURCE) {
            return;
        }
        for (i, entry) in process.rlimits.iter().enumerate() {
            if Rlimit::plan(i, entry).is_ok_and(|limit| limit.is_raised()) {
                let words = format!("raising the hard {} needs CAP_SYS_RESOURCE", entry.kind);
                self.add(words, format!("process.rlimits[{i}].hard"));
            }
        }
        let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        let own = own.trim().parse().unwrap_or(0);
        if process.oom_score_adj.is_some_and(|score| score < own) {
            let words = format!("lowering the score below {own} needs CAP_SYS_RESOURCE");
            self.add(words, "process.oomScoreAdj");
        }
    }
}

fn missing(path: &str) -> bool {
    path.starts_with('/') && !Path::new(path).exists()
}
