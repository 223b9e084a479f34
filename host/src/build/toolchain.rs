//! Finding compilers and, where the machine lets us, installing Debian's packages of them. Says
//! what it does through `progress`, and in an error the exact command that would help.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{BuildError, Progress, command};

/// The packages with a Rust that builds std for wasm from source.
const RUST_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "lld-19"];
/// The packages with a C compiler for wasm; `wasi-libc` also serves Rust on wasip1.
const C_PACKAGES: &[&str] = &[
    "clang-19",
    "libclang-rt-19-dev-wasm32",
    "wasi-libc",
    "lld-19",
];
/// The packages with Node and npm, which run the JavaScript componentizer.
const NODE_PACKAGES: &[&str] = &["nodejs", "npm"];

/// The oldest Rust whose cargo knows edition 2024.
const OLDEST_RUST_MINOR: u32 = 85;
/// LLVM's linker for wasm under the names that distributions give it.
const LINKERS: &[&str] = &["wasm-ld-19", "wasm-ld-20", "wasm-ld-18", "wasm-ld"];
/// Clangs that know wasm, likewise, each with the linker of its version.
const CLANGS: &[(&str, &str)] = &[
    ("clang-19", "wasm-ld-19"),
    ("clang-20", "wasm-ld-20"),
    ("clang", "wasm-ld"),
];
/// Where Debian's wasi-libc puts its headers and libraries.
pub const WASI_LIB: &str = "/usr/lib/wasm32-wasi";
/// A cargo that can build for a wasm target, and how to ask it to.
#[derive(Debug)]
pub struct Rust {
    cargo: PathBuf,
    target: String,
    build_std: bool,
    linker: Option<PathBuf>,
    /// Prepended to the PATH, so that a cargo finds the rustc beside it.
    path_first: Option<PathBuf>,
    /// For people.
    pub description: String,
}

impl Rust {
    /// Finds a toolchain for `target` as seen from a folder (whose `rust-toolchain.toml` counts):
    /// the active one if it has the target's std, else one with std's source, else Debian's.
    pub fn find(
        dir: &Path,
        target: &str,
        install: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, BuildError> {
        if let Some(found) = Self::look(dir, target) {
            return Ok(found);
        }
        let mut packages = RUST_PACKAGES.to_vec();
        if target != "wasm32-unknown-unknown" {
            packages.extend(C_PACKAGES);
        }
        let missing = format!("Rust's standard library for {target}");
        let target_add = format!("rustup target add {target}");
        install_packages(
            "Rust actors",
            &missing,
            &packages,
            Some(&target_add),
            install,
            progress,
        )?;
        Self::look(dir, target).ok_or_else(|| BuildError::ToolMissing {
            what: "Rust actors",
            missing: format!("{missing}, even with {} installed", packages.join(", ")),
            remedy: format!("Run `{target_add}`."),
        })
    }

    fn look(dir: &Path, target: &str) -> Option<Self> {
        Self::probe(dir, target, "rustc".as_ref(), "cargo".as_ref(), None).or_else(|| {
            let bin = Path::new("/usr/bin");
            Self::probe(
                dir,
                target,
                &bin.join("rustc"),
                &bin.join("cargo"),
                Some(bin),
            )
        })
    }

    fn probe(
        dir: &Path,
        target: &str,
        rustc: &Path,
        cargo: &Path,
        path_first: Option<&Path>,
    ) -> Option<Self> {
        let rustc = || {
            let mut command = Command::new(rustc);
            command.current_dir(dir);
            command
        };
        let sysroot = PathBuf::from(command::ask(rustc().args(["--print", "sysroot"]))?);
        let version = command::ask(rustc().arg("--version"))?;
        if rust_minor(&version)? < OLDEST_RUST_MINOR {
            return None;
        }
        let rustlib = sysroot.join("lib/rustlib");
        let ready = has_file(&rustlib.join(target).join("lib"), "rlib");
        let source = rustlib.join("src/rust/library/std").is_dir();
        if !ready && !source {
            return None;
        }
        let linker = LINKERS.iter().find_map(|name| command::find(name));
        let own_linker = std::fs::read_dir(&rustlib)
            .ok()?
            .flatten()
            .any(|host| host.path().join("bin/rust-lld").is_file());
        if !own_linker && linker.is_none() {
            return None;
        }
        // A std built for wasip1 links a libc from outside.
        if !ready && target == "wasm32-wasip1" && !Path::new(WASI_LIB).is_dir() {
            return None;
        }
        let version = version
            .split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ");
        let how = if ready { "" } else { ", std built from source" };
        Some(Self {
            cargo: cargo.to_path_buf(),
            target: target.to_owned(),
            build_std: !ready,
            linker: if own_linker { None } else { linker },
            path_first: path_first.map(Path::to_path_buf),
            description: format!("{version} ({}), {target}{how}", sysroot.display()),
        })
    }

    /// `cargo SUBCOMMAND`, in a folder, with the environment that this toolchain needs. The
    /// caller's own settings for the host's code, flags and target folder, are left out.
    pub fn cargo(&self, dir: &Path, subcommand: &str) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(dir).arg(subcommand);
        for name in [
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTFLAGS",
            "CARGO_MANIFEST_DIR",
        ] {
            command.env_remove(name);
        }
        if let Some(first) = &self.path_first {
            let old = std::env::var_os("PATH").unwrap_or_default();
            let paths = std::iter::once(first.clone()).chain(std::env::split_paths(&old));
            if let Ok(path) = std::env::join_paths(paths) {
                command.env("PATH", path);
            }
            for name in ["RUSTC", "RUSTDOC", "CARGO", "RUSTUP_TOOLCHAIN"] {
                command.env_remove(name);
            }
        }
        command
    }

    /// `cargo build` for the target, without saying what to build.
    pub fn cargo_build(&self, dir: &Path, release: bool, stack_bytes: u32) -> Command {
        let mut command = self.cargo(dir, "build");
        command.args([
            "--target",
            &self.target,
            "--message-format=json-render-diagnostics",
        ]);
        if release {
            command.arg("--release");
        }
        if self.build_std {
            command
                .arg("-Zbuild-std=std,panic_abort")
                .env("RUSTC_BOOTSTRAP", "1");
        }
        let variable = |what| {
            format!(
                "CARGO_TARGET_{}_{what}",
                self.target.replace('-', "_").to_uppercase()
            )
        };
        if let Some(linker) = &self.linker {
            command.env(variable("LINKER"), linker);
        }
        let mut flags = format!("-Clink-arg=-z -Clink-arg=stack-size={stack_bytes}");
        if self.build_std && self.target == "wasm32-wasip1" {
            flags.push_str(&format!(
                " -Clink-self-contained=no -L native={WASI_LIB} -Clink-arg={WASI_LIB}/crt1-reactor.o -Clink-arg=-lc"
            ));
            if let Some(builtins) = clang_builtins() {
                flags.push_str(&format!(" -Clink-arg={}", builtins.display()));
            }
        }
        command.env(variable("RUSTFLAGS"), flags);
        command
    }
}

/// A clang for wasm32-wasi.
#[derive(Debug)]
pub struct Clang {
    /// Its program.
    pub program: &'static str,
    /// The linker of its version.
    pub linker: PathBuf,
    /// For people.
    pub description: String,
}

impl Clang {
    /// Finds a clang with a wasm linker, libc and builtins, or installs Debian's.
    pub fn find(install: bool, progress: &mut dyn FnMut(Progress)) -> Result<Self, BuildError> {
        if let Some(found) = Self::look() {
            return Ok(found);
        }
        let missing = "clang for wasm32-wasi with wasi-libc";
        install_packages("C actors", missing, C_PACKAGES, None, install, progress)?;
        Self::look().ok_or_else(|| BuildError::ToolMissing {
            what: "C actors",
            missing: format!("{missing}, even with {} installed", C_PACKAGES.join(", ")),
            remedy: format!("Check that {WASI_LIB} and clang-19 exist."),
        })
    }

    fn look() -> Option<Self> {
        if !Path::new(WASI_LIB).is_dir() || clang_builtins().is_none() {
            return None;
        }
        let (program, linker) = CLANGS.iter().find_map(|(clang, linker)| {
            command::find(clang)
                .zip(command::find(linker))
                .map(|(_, linker)| (*clang, linker))
        })?;
        let description = command::ask(Command::new(program).arg("--version"))?;
        Some(Self {
            program,
            linker,
            description,
        })
    }
}

/// Makes sure that node and npm are there, and says which version of node.
pub fn node(install: bool, progress: &mut dyn FnMut(Progress)) -> Result<String, BuildError> {
    let look = || {
        command::ask(Command::new("npm").arg("--version"))?;
        command::ask(Command::new("node").arg("--version"))
    };
    if let Some(version) = look() {
        return Ok(version);
    }
    install_packages(
        "JavaScript actors",
        "node and npm",
        NODE_PACKAGES,
        None,
        install,
        progress,
    )?;
    look().ok_or_else(|| BuildError::ToolMissing {
        what: "JavaScript actors",
        missing: "node and npm".into(),
        remedy: "Install Node 20 or later from https://nodejs.org.".into(),
    })
}

/// `libclang_rt.builtins-wasm32.a` of the newest LLVM that has one.
fn clang_builtins() -> Option<PathBuf> {
    ["20", "19", "18"].iter().find_map(|version| {
        let clang = format!("/usr/lib/llvm-{version}/lib/clang/{version}/lib");
        [
            "wasi/libclang_rt.builtins-wasm32.a",
            "wasm32-unknown-wasi/libclang_rt.builtins.a",
        ]
        .iter()
        .map(|file| Path::new(&clang).join(file))
        .find(|path| path.is_file())
    })
}

/// Installs Debian packages, or says in an error which command does.
fn install_packages(
    what: &'static str,
    missing: &str,
    packages: &[&str],
    other_remedy: Option<&str>,
    install: bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), BuildError> {
    let shown = format!(
        "apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    );
    let remedy = |reason: &str| BuildError::ToolMissing {
        what,
        missing: missing.to_owned(),
        remedy: match other_remedy {
            Some(other) => format!("{reason}Run `{other}` or, on Debian, `sudo {shown}`."),
            None => format!("{reason}On Debian, run `sudo {shown}`."),
        },
    };
    let is_root = || command::ask(Command::new("id").arg("-u")).as_deref() == Some("0");
    if !install || command::find("apt-get").is_none() || !is_root() {
        return Err(remedy(""));
    }
    let mut apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command.args(["-o", "DPkg::Lock::Timeout=300"]).args(args);
        progress(Progress::Step(format!(
            "{missing} is missing: apt-get {}",
            args.join(" ")
        )));
        command::run(command, progress)
    };
    // Builds that run at once take turns: apt-get waits for dpkg's lock, but `update` does not
    // wait for that of the lists. Without the lock file it is tried all the same.
    let turn = std::fs::File::create(std::env::temp_dir().join("wasm-node-apt.lock"));
    let _turn = turn.and_then(|file| file.lock().map(|()| file));
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    args.extend(packages);
    // The lists of a fresh machine may be absent or stale.
    if apt(&args).is_err() {
        apt(&["update"]).map_err(|e| remedy(&format!("Installing failed: {e}. ")))?;
        apt(&args).map_err(|e| remedy(&format!("Installing failed: {e}. ")))?;
    }
    Ok(())
}

/// 95 of `rustc 1.95.0 (...)`.
fn rust_minor(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(1)?;
    number.strip_prefix("1.")?.split('.').next()?.parse().ok()
}

fn has_file(dir: &Path, extension: &str) -> bool {
    !super::config::files_with(dir, extension).is_empty()
}
