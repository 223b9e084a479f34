//! The contract between actors and hosts (`wit/`), carried in this binary: actors build anywhere,
//! and what a component was built against is compared with it.

macro_rules! wit_files {
    ($($name:literal),* $(,)?) => {
        /// The files of the package `wasm-node:actor`, and of the standard packages that hosts
        /// serve under `deps`: path and text.
        pub const WIT_FILES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../wit/", $name)))),*];
    };
}

wit_files!(
    "actor.wit",
    "blocking.wit",
    "code.wit",
    "global.wit",
    "groups.wit",
    "io.wit",
    "mailbox.wit",
    "node.wit",
    "process.wit",
    "registry.wit",
    "timer.wit",
    "types.wit",
    "deps/keyvalue/atomic.wit",
    "deps/keyvalue/batch.wit",
    "deps/keyvalue/store.wit",
    "deps/keyvalue/world.wit",
);
