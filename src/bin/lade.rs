//! `lade`: pulls OCI images, prepares bundles, and runs them with tare.

use std::process::ExitCode;

use tare::image::cli;

fn main() -> ExitCode {
    // Prints help, the version or a usage error (exit code 2) by itself.
    let matches = cli::command().get_matches();
    match cli::dispatch(&matches) {
        Ok(code) => ExitCode::from(code),
        Err(err) => {
            eprintln!("lade: {err}");
            ExitCode::FAILURE
        }
    }
}
