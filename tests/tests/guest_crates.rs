//! The SDK's and the actors' own tests: they are workspaces of their own, built for this machine
//! here and for wasm elsewhere, so `cargo test --workspace` at the top does not reach them.

use std::path::Path;
use std::process::Command;

fn cargo_test(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What the outer cargo says about its own build must not steer this one.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_") && name != "CARGO_HOME" || name.starts_with("RUSTC") {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["test", "--workspace"])
        .current_dir(&folder)
        .output()
        .expect("cargo starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "`cargo test --workspace` in {} failed:\n{}\n{}",
        folder.display(),
        text(&output.stdout),
        text(&output.stderr)
    );
    let passed = text(&output.stdout).matches("test result: ok").count();
    assert!(passed > 0, "no test ran in {}", folder.display());
}

#[test]
fn the_rust_sdks_own_tests_pass() {
    cargo_test("guest-sdk");
}

#[test]
fn the_actors_own_tests_pass() {
    cargo_test("actors");
}
