//! How soon things run: a node whose modules are compiled already, a module that nobody has seen
//! before; and whether compiling holds up actors that run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::child::Program;
use super::rig::{BenchError, Driver, Rig, load};
use super::{say, say_latencies};
use crate::node::NodeConfig;

/// How long pings are watched, in milliseconds.
const PING_MS: u64 = 5_000;
/// Between two pings, in milliseconds.
const PING_PAUSE_MS: u64 = 1;
/// How long a file that was put into a module folder may take to become a module.
const FILE_TIMEOUT: Duration = Duration::from_secs(60);
const FILE_POLL: Duration = Duration::from_millis(1);

/// What to measure with.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// What this node's and the others' cookie was made from.
    pub cookie: String,
    /// The modules of the nodes that are started; the benchmark's own if none is given.
    pub modules: Option<PathBuf>,
    /// How often each is measured.
    pub rounds: u32,
    /// For data and modules; the caller removes it.
    pub folder: PathBuf,
}

/// Starts nodes, then modules, then pings. `module` is the component of `actors/bench`.
pub async fn start(
    mut config: NodeConfig,
    module: Bytes,
    options: &StartOptions,
) -> Result<(), BenchError> {
    let folder = |name: &str| made(options.folder.join(name));
    start_nodes(&module, options, &folder("nodes")?).await?;
    let (watched, beside) = (folder("watched")?, folder("beside")?);
    config.module_dirs = vec![watched.clone()];
    let mut rig = Rig::start(config, module.clone()).await?;
    for round in 0..options.rounds {
        let begun = Instant::now();
        let name = format!("new-{round}");
        load(&rig.node, &name, another(&module, &name)).await?;
        first_answer(&mut Driver::spawn(&rig.node, &name)?).await?;
        say("start_new_module", ms(begun.elapsed()), "ms");
    }
    for round in 0..options.rounds {
        let name = format!("file-{round}");
        let file = format!("{name}.wasm");
        let written = beside.join(&file);
        let failed = |error| BenchError::System("write a module's file", error);
        std::fs::write(&written, another(&module, &name)).map_err(failed)?;
        let begun = Instant::now();
        std::fs::rename(&written, watched.join(&file)).map_err(failed)?;
        let mut driver = loop {
            match Driver::spawn(&rig.node, &name) {
                Err(BenchError::Spawn(_)) if begun.elapsed() < FILE_TIMEOUT => {}
                other => break other?,
            }
            tokio::time::sleep(FILE_POLL).await;
        };
        first_answer(&mut driver).await?;
        say("start_new_file", ms(begun.elapsed()), "ms");
    }
    ping(&mut rig, "quiet", None).await?;
    ping(&mut rig, "compiling", Some(&module)).await?;
    rig.node.stop().await;
    Ok(())
}

/// Nodes in processes of their own: the first compiles, the others find it done.
async fn start_nodes(
    module: &Bytes,
    options: &StartOptions,
    folder: &Path,
) -> Result<(), BenchError> {
    let program = Program::this(&options.cookie)?;
    let own = made(folder.join("modules"))?;
    let failed = |error| BenchError::System("write a module's file", error);
    std::fs::write(own.join("bench.wasm"), module).map_err(failed)?;
    let modules = options.modules.as_deref().unwrap_or(&own);
    let data = made(folder.join("data"))?;
    for round in 0..=options.rounds {
        let name = format!("start-{}-{round}@127.0.0.1", std::process::id());
        let node = program.node(&name, &data, Some(modules)).await?;
        let figure = if round == 0 {
            "start_first"
        } else {
            "start_cached"
        };
        say(figure, ms(node.took), "ms");
        node.stop().await?;
    }
    Ok(())
}

/// Round trips while nothing else happens, or while versions of a module compile one after
/// another.
async fn ping(rig: &mut Rig, name: &str, compile: Option<&Bytes>) -> Result<(), BenchError> {
    let Rig { node, driver } = rig;
    let request = format!("latency {PING_MS} {PING_PAUSE_MS}");
    let mut compiled = 0;
    let numbers = {
        let compiling = async {
            let Some(module) = compile else {
                return std::future::pending().await;
            };
            loop {
                let version = format!("version {compiled}");
                if let Err(error) = load(node, "compiled", another(module, &version)).await {
                    return error;
                }
                compiled += 1;
            }
        };
        tokio::select! {
            numbers = driver.ask_numbers(&request) => numbers?,
            error = compiling => return Err(error),
        }
    };
    if compile.is_some() {
        say("start_compiled_meanwhile", f64::from(compiled), "modules");
    }
    say_latencies(&format!("start_ping_{name}"), numbers);
    Ok(())
}

/// It runs once it has answered.
async fn first_answer(driver: &mut Driver) -> Result<(), BenchError> {
    driver.ask("idle_stop").await.map(drop)
}

/// The same component with a custom section at its end: other bytes, so another digest; all of
/// it is compiled again.
fn another(component: &[u8], content: &str) -> Bytes {
    const NAME: &str = "wasm-node-bench";
    // Sizes below 128 are one byte of LEB128.
    let content = &content[..content.len().min(64)];
    let size = 1 + NAME.len() + content.len();
    let head = [0, size as u8, NAME.len() as u8];
    [component, &head, NAME.as_bytes(), content.as_bytes()]
        .concat()
        .into()
}

fn made(folder: PathBuf) -> Result<PathBuf, BenchError> {
    let failed = |error| BenchError::System("make a temporary folder", error);
    std::fs::create_dir_all(&folder).map_err(failed)?;
    Ok(folder)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
