//! The way from a folder to a component: the decisions, the contract carried in this binary, and
//! real builds in C and JavaScript. Rust's are in `tests/`: they take a minute.

use std::path::{Path, PathBuf};

use super::config::{Config, Language};
use super::*;
use crate::contract::WIT_FILES;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        write(&dir.path().join(name), text.as_bytes()).unwrap();
    }
    dir
}

/// A copy, so that tests and people who build the same example do not wait for each other.
fn copy(example: &str) -> tempfile::TempDir {
    let from = Path::new(REPOSITORY).join("actors/examples").join(example);
    let mut files = Vec::new();
    stamp::list(&from, &mut files).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let inside = file.strip_prefix(&from).unwrap();
        write(&dir.path().join(inside), &read(&file).unwrap()).unwrap();
    }
    dir
}

fn quietly(dir: &Path) -> Result<Built, BuildError> {
    build(BuildOptions::new(dir), &mut |_| {})
}

#[test]
fn the_contract_carried_here_is_the_repositorys() {
    let wit = Path::new(REPOSITORY).join("wit");
    let mut files = Vec::new();
    stamp::list(&wit, &mut files).unwrap();
    let mut there: Vec<(String, String)> = files
        .iter()
        .map(|file| {
            let name = file
                .strip_prefix(&wit)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            (name, std::fs::read_to_string(file).unwrap())
        })
        .collect();
    let mut here: Vec<(String, String)> = WIT_FILES
        .iter()
        .map(|(name, text)| (name.to_string(), text.to_string()))
        .collect();
    there.sort();
    here.sort();
    assert_eq!(here, there);
}

#[test]
fn both_worlds_resolve_alone_and_beside_a_folders_own() {
    let plain = folder(&[]);
    let wit = contract::materialise(plain.path(), &plain.path().join("work")).unwrap();
    for world in ["actor", "blocking-actor"] {
        contract::resolve(&wit, world).unwrap();
    }
    let own = folder(&[(
        "wit/mine.wit",
        "package my:storage; world mine { include wasm-node:actor/actor@0.1.0; \
         import wasi:keyvalue/store@0.2.0-draft2; }",
    )]);
    let wit = contract::materialise(own.path(), &own.path().join("work")).unwrap();
    contract::resolve(&wit, "mine").unwrap();
    let error = contract::resolve(&wit, "yours").unwrap_err().to_string();
    assert!(error.contains("yours"), "{error}");
}

#[test]
fn the_files_tell_the_language() {
    let language = |files: &[(&str, &str)]| {
        let dir = folder(files);
        Config::read(dir.path()).and_then(|config| config.language(dir.path()))
    };
    assert_eq!(
        language(&[("Cargo.toml", ""), ("x.c", "")]).unwrap(),
        Language::Rust
    );
    assert_eq!(language(&[("src/x.c", "")]).unwrap(), Language::C);
    assert_eq!(
        language(&[("package.json", "{}")]).unwrap(),
        Language::JavaScript
    );
    let set = [
        ("x.c", ""),
        ("a.js", ""),
        (CONFIG_FILE, "language = \"javascript\""),
    ];
    assert_eq!(language(&set).unwrap(), Language::JavaScript);
    assert!(matches!(
        language(&[("x.zig", "")]),
        Err(BuildError::NoSource { .. })
    ));
    let error = language(&[(CONFIG_FILE, "langage = \"c\"")])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("langage") && error.contains(CONFIG_FILE),
        "{error}"
    );
}

#[test]
fn a_component_without_lifecycle_is_no_actor() {
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve
        .push_str("x.wit", "package a:b; world w {}")
        .unwrap();
    let world = resolve.select_world(&[package], Some("w")).unwrap();
    let mut core = b"\0asm\x01\0\0\0".to_vec();
    let utf8 = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut core, &resolve, world, utf8).unwrap();
    let bytes = component::from_core(&core, Path::new("x.wasm")).unwrap();
    let error = component::check(&bytes, Path::new("x.wasm")).unwrap_err();
    assert!(matches!(&error, BuildError::NotAnActor { exports, .. } if exports == "nothing"));
    assert!(
        error
            .to_string()
            .contains("wasm-node:actor/lifecycle@0.1.0")
    );
    let garbage = component::from_core(b"\x7fELF", Path::new("x.o")).unwrap_err();
    assert!(matches!(garbage, BuildError::Component { .. }));
}

#[test]
fn a_stamp_holds_until_input_or_output_changes() {
    let dir = folder(&[("out", "component"), ("src/a", "1")]);
    let (stamp, out) = (dir.path().join("stamp"), dir.path().join("out"));
    let inputs = || {
        let mut inputs = stamp::Inputs::new();
        assert!(inputs.add_folder(&dir.path().join("src")).unwrap());
        inputs.digest()
    };
    let digest = blake3::hash(b"component").to_hex().to_string();
    let first = inputs();
    assert_eq!(stamp::fresh(&stamp, &first, &out), None);
    stamp::record(&stamp, &first, &digest).unwrap();
    assert_eq!(stamp::fresh(&stamp, &inputs(), &out), Some(digest));
    write(&dir.path().join("src/a"), b"2").unwrap();
    assert_eq!(stamp::fresh(&stamp, &inputs(), &out), None);
    write(&out, b"other").unwrap();
    assert_eq!(stamp::fresh(&stamp, &first, &out), None);
}

#[test]
fn a_failed_tool_shows_its_last_lines() {
    let shell = |script: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]);
        let mut lines = 0;
        (command::run(command, &mut |_| lines += 1), lines)
    };
    let (result, lines) = shell("seq 1000 >&2; echo to-stdout; exit 3");
    let error = result.unwrap_err().to_string();
    assert!(
        error.contains("exit status: 3") && error.ends_with("\n1000"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1 + command::MAX_TAIL_LINES);
    assert_eq!(lines, 1000);
    assert_eq!(shell("echo to-stdout").0.unwrap(), b"to-stdout\n");
    let error = shell("echo said on stdout; exit 1")
        .0
        .unwrap_err()
        .to_string();
    assert!(error.contains("said on stdout"), "{error}");
}

#[test]
fn the_counter_in_c_builds_without_wasi_and_once() {
    let dir = copy("counter-c");
    let first = quietly(dir.path()).unwrap();
    let bytes = read(&first.component_path).unwrap();
    assert_eq!(first.digest, blake3::hash(&bytes).to_hex().to_string());
    let (imports, exports) = imports_and_exports(&bytes).unwrap();
    assert!(
        imports
            .iter()
            .all(|name| name.starts_with("wasm-node:actor/")),
        "{imports:?}"
    );
    assert_eq!(exports, ["wasm-node:actor/lifecycle@0.1.0"]);
    assert!(!first.fresh);
    assert_eq!(
        quietly(dir.path()).unwrap(),
        Built {
            fresh: true,
            ..first
        }
    );
}

#[test]
fn c_that_opens_files_says_so_and_gets_them_on_request() {
    let source = "#include <stdio.h>\n#include \"wasm_node.h\"\n\
        static void on_start(wn_bytes args) { (void)args; fopen(\"/x\", \"r\"); }\n\
        const wn_actor actor = {.on_start = on_start};\n";
    let dir = folder(&[("a.c", source)]);
    let error = quietly(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("path_open") && error.contains("wasi = true"),
        "{error}"
    );
    write(
        &dir.path().join(CONFIG_FILE),
        b"wasi = true\nname = \"opener\"\n",
    )
    .unwrap();
    let built = quietly(dir.path()).unwrap();
    assert_eq!(built.module_name, "opener");
    let (imports, _) = imports_and_exports(&read(&built.component_path).unwrap()).unwrap();
    assert!(
        imports
            .iter()
            .any(|name| name.starts_with("wasi:filesystem/types@0.2"))
    );
}

#[test]
fn a_c_error_shows_the_compilers_words() {
    let dir = folder(&[("a.c", "int main(void) { return nonsense; }\n")]);
    let error = quietly(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("a.c:1:") && error.contains("nonsense"),
        "{error}"
    );
}

#[test]
fn the_counter_in_javascript_builds_without_wasi() {
    let dir = copy("counter-js");
    let out = dir.path().join("named.wasm");
    let options = BuildOptions {
        out: Some(out.clone()),
        ..BuildOptions::new(dir.path())
    };
    let built = build(options, &mut |_| {}).unwrap();
    assert_eq!(
        (built.module_name.as_str(), &built.component_path),
        ("counter-js", &out)
    );
    let (imports, exports) = imports_and_exports(&read(&out).unwrap()).unwrap();
    assert!(
        imports
            .iter()
            .all(|name| name.starts_with("wasm-node:actor/")),
        "{imports:?}"
    );
    assert!(exports.contains(&"wasm-node:actor/lifecycle@0.1.0".to_owned()));
}

#[test]
fn a_javascript_error_shows_the_engines_words() {
    let dir = folder(&[("index.js", "export const lifecycle = nonsense();\n")]);
    let error = quietly(dir.path()).unwrap_err().to_string();
    assert!(error.contains("nonsense"), "{error}");
    let dir = folder(&[("a.js", ""), ("b.js", "")]);
    let error = quietly(dir.path()).unwrap_err().to_string();
    assert!(error.contains("index.js"), "{error}");
}

#[test]
fn the_component_goes_where_asked() {
    let dir = folder(&[]);
    let at = |out: Option<PathBuf>| {
        let options = BuildOptions {
            out,
            ..BuildOptions::new("x")
        };
        out_path(&options, Path::new("default"), "name")
    };
    assert_eq!(at(None), Path::new("default/name.wasm"));
    assert_eq!(at(Some("other.wasm".into())), Path::new("other.wasm"));
    assert_eq!(at(Some(dir.path().into())), dir.path().join("name.wasm"));
}
