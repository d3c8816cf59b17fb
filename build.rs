//! Tells a release which commit it is made of, for `--version`. Other builds do not say it: they
//! would all be made anew after each commit.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=TARE_COMMIT");
    println!("cargo::rerun-if-changed=.git/logs/HEAD");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let known = std::env::var_os("TARE_COMMIT").is_some();
    // A source without history may lie in somebody else's repository.
    if !release || known || !std::path::Path::new(".git").exists() {
        return;
    }
    let answer = Command::new("git").args(["rev-parse", "HEAD"]).output();
    if let Some(answer) = answer.ok().filter(|answer| answer.status.success()) {
        println!("cargo::rustc-env=TARE_COMMIT={}", String::from_utf8_lossy(&answer.stdout).trim());
    }
}
