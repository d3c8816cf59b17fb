//! `tare list`.

use super::state::{Users, View, view};
use crate::cli::{Global, Output};
use crate::error::{Error, Result};
use crate::log;
use crate::state::{ABSENT, Root};

const TITLES: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
/// No column is narrower than this, nor its text nearer to the next one than [`GAP`], as in runc.
const NARROWEST: usize = 12;
const GAP: usize = 3;

/// Prints all containers, sorted by id.
///
/// # Errors
/// The state root cannot be read. A single container that cannot be is warned about.
pub fn run(global: &Global, format: Output, quiet: bool) -> Result<i32> {
    let root = Root::open(global.root.as_deref())?;
    let ids = root.list()?;
    if quiet {
        return super::print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>());
    }
    let users = Users::read();
    let mut views = Vec::with_capacity(ids.len());
    for id in ids {
        match root.container(&id).and_then(|container| view(&container, &users)) {
            Ok(view) => views.push(view),
            // One that is deleted meanwhile is none any more, even if there is another by now.
            Err(err) if err.message() == ABSENT || root.container(&id).is_err() => {}
            Err(err) => log::warn(&err.context(format!("cannot list {id:?}")).message()),
        }
    }
    match format {
        Output::Table => super::print(&table(&views)),
        Output::Json => {
            let json = serde_json::to_string(&views)
                .map_err(|err| Error::new(format!("write the list as JSON: {err}")))?;
            super::print(&(json + "\n"))
        }
    }
}

fn table(views: &[View]) -> String {
    let mut rows = vec![TITLES.map(String::from)];
    rows.extend(views.iter().map(|view| {
        [
            view.id.clone(),
            view.pid.to_string(),
            view.status.clone(),
            view.bundle.display().to_string(),
            view.created.clone(),
            view.owner.clone(),
        ]
    }));
    let mut widths = [NARROWEST; TITLES.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + GAP);
        }
    }
    rows.iter().map(|row| line(row, &widths)).collect()
}

/// One row; nothing pads the last cell.
fn line(row: &[String; 6], widths: &[usize; 6]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
    let line: String = cells.collect();
    line.trim_end().to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let view = View {
            oci_version: "1.3.0".into(),
            id: "a-rather-long-id".into(),
            pid: 7,
            status: "running".into(),
            bundle: "/b".into(),
            rootfs: "/b/r".into(),
            created: "2026-01-01T00:00:00Z".into(),
            annotations: Default::default(),
            owner: "root".into(),
        };
        assert_eq!(
            table(&[view]),
            "ID                 PID         STATUS      BUNDLE      CREATED                OWNER\n\
             a-rather-long-id   7           running     /b          2026-01-01T00:00:00Z   root\n"
        );
    }
}
