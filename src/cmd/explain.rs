//! `tare explain`: what `run` would do, step by step.

use std::fmt::Display;

use serde_json::{Value, json};

use crate::cli::{Create, Explain, Global};
use crate::cmd::create::{Mode, host, plan_options};
use crate::error::Result;
use crate::plan::{self, Plan};
use crate::spec;
use crate::state;
use crate::step::{Entry, ParentStep};

/// Prints the plan of a bundle. Nothing is changed, and no privilege is needed.
///
/// # Errors
/// Those of a `run` that come up before anything is done.
pub fn run(global: &Global, options: &Explain) -> Result<i32> {
    options
        .id
        .as_deref()
        .map_or(Ok(()), state::check_id)
        .map_err(|err| err.hint("the argument is the id; --bundle DIR names a bundle"))?;
    let config = spec::load::load(&options.bundle)?;
    crate::log::warn_all(&config.warnings);
    let plan = plan(global, &config.spec, options).map_err(|err| config.place(err))?;
    crate::log::warn_all(&plan.warnings);
    super::print(&if options.json { as_json(&plan) } else { as_text(&plan) })
}

/// The plan of a bundle that somebody stays with.
///
/// # Errors
/// Those of a `run` that come up before anything is done.
pub fn plan(global: &Global, spec: &spec::config::Spec, options: &Explain) -> Result<Plan> {
    spec::check::check(spec)?;
    let create = Create {
        id: options.id.clone().unwrap_or_else(|| "ID".into()),
        bundle: options.bundle.clone(),
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        trace: None,
    };
    plan::container(spec, &host(global)?, &plan_options(&create, Mode::Attached)?)
}

fn as_text(plan: &Plan) -> String {
    let mut text = String::from("The runtime:\n");
    for entry in &plan.parent {
        text += &line(entry);
        for detail in details(&entry.step) {
            text += &format!("{:8}{}\n", "", detail.0);
        }
    }
    text += "The child that becomes the container:\n";
    plan.child.iter().for_each(|entry| text += &line(entry));
    text
}

fn line<S: Display>(entry: &Entry<S>) -> String {
    match entry.at.is_empty() {
        true => format!("    {}\n", entry.step),
        false => format!("    {:<72} {}\n", entry.step.to_string(), entry.at),
    }
}

/// The single writes of a step that makes several: text and JSON path.
fn details(step: &ParentStep) -> Vec<(String, String)> {
    match step {
        ParentStep::Limits(_, limits) => limits
            .iter()
            .map(|limit| (format!("{} = {}", limit.file, limit.value), limit.at.to_string()))
            .collect(),
        ParentStep::StartUnit(_, properties) => properties
            .iter()
            .map(|p| (format!("{}={}", p.name, p.value), p.at.to_string()))
            .collect(),
        ParentStep::MakeCgroup(cgroup) => {
            cgroup.places().iter().map(|place| (place.dir.clone(), String::new())).collect()
        }
        _ => Vec::new(),
    }
}

fn as_json(plan: &Plan) -> String {
    let parent = plan.parent.iter().map(|entry| {
        let details = details(&entry.step).into_iter();
        let details: Vec<Value> =
            details.map(|(what, at)| json!({"what": what, "at": at})).collect();
        let mut step = step("parent", entry);
        if let (Some(object), false) = (step.as_object_mut(), details.is_empty()) {
            object.insert("details".into(), Value::from(details));
        }
        step
    });
    let child = plan.child.iter().map(|entry| step("child", entry));
    let steps: Vec<Value> = parent.chain(child).collect();
    format!("{:#}\n", json!({"rootfs": plan.rootfs, "steps": steps}))
}

fn step<S: Display>(side: &str, entry: &Entry<S>) -> Value {
    json!({"side": side, "what": entry.step.to_string(), "at": entry.at})
}
