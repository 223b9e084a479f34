//! `wasm-node build`: an actor's source folder becomes a component.

use std::path::PathBuf;

use serde_json::json;

use super::error::CliError;
use super::output;
use crate::build::{BuildOptions, Progress};

/// Build an actor's source folder into a component, and print the component's path
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The folder: Rust (Cargo.toml), C (.c files) or JavaScript (package.json or .js files)
    dir: PathBuf,
    /// Where the component goes: a file, or an existing folder
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Build Rust without optimisation
    #[arg(long)]
    debug: bool,
    /// Do not install missing system packages
    #[arg(long)]
    no_install: bool,
    /// Print one line of JSON for each component
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    let options = BuildOptions {
        out: args.out,
        release: !args.debug,
        install_tools: !args.no_install,
        ..BuildOptions::new(args.dir)
    };
    for built in crate::build::build_all(&[options], &mut show)? {
        let path = built.component_path.display().to_string();
        if args.json {
            output::json(&json!({
                "module": built.module_name,
                "path": path,
                "digest": built.digest,
                "toolchain": built.toolchain,
                "fresh": built.fresh,
            }));
        } else {
            let how = if built.fresh {
                "was up to date"
            } else {
                "built"
            };
            eprintln!("{} {how}, {}", built.module_name, built.toolchain);
            output::line(path);
        }
    }
    Ok(())
}

/// Progress, as talk.
pub(super) fn show(progress: Progress) {
    match progress {
        Progress::Step(step) => eprintln!("{step}"),
        Progress::Output(line) => eprintln!("    {line}"),
    }
}
