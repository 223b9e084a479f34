//! The SDK's and the actors' own tests: they are workspaces of their own, built for this machine
//! here and for wasm elsewhere, so `cargo test --workspace` at the top does not reach them.

use std::path::Path;
use std::process::Command;

/// Without what the outer cargo says about its own build.
fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_") && name != "CARGO_HOME" || name.starts_with("RUSTC") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs it in a folder of the repository; gives what it printed.
fn succeeds(mut command: Command, folder: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder);
    let output = command.current_dir(path).output().expect("cargo starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?} in {folder} failed:\n{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn cargo_test(folder: &str) {
    let mut command = cargo();
    command.args(["test", "--workspace"]);
    let passed = succeeds(command, folder).matches("test result: ok").count();
    assert!(passed > 0, "no test ran in {folder}");
}

#[test]
fn the_rust_sdks_own_tests_pass() {
    cargo_test("guest-sdk");
}

#[test]
fn the_rust_sdks_documentation_has_no_dead_links() {
    let mut command = cargo();
    command
        .args(["doc", "--no-deps", "--all-features"])
        .env("RUSTDOCFLAGS", "-D warnings");
    succeeds(command, "guest-sdk");
}

#[test]
fn the_actors_own_tests_pass() {
    cargo_test("actors");
}
