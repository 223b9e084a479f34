//! The child processes of `up`: started, listened to, ended. None outlives this process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;
use wasm_node_protocol::NodeName;

use crate::cli::error::CliError;
use crate::cli::options::COOKIE_VARIABLE;
use crate::cli::output;
use crate::cli::start::{Ready, STOP_TIMEOUT};

/// How much longer than a node gives itself it is given before it is killed.
const KILL_AFTER: Duration = STOP_TIMEOUT.saturating_add(Duration::from_secs(2));
/// How long what a child printed before its end may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How many signals may wait for one child.
const MAX_WAITING_SIGNALS: usize = 4;
/// How many events may wait; the children's output waits with them.
const MAX_WAITING_EVENTS: usize = 256;

/// One child to start.
pub(super) struct Launch {
    pub(super) name: NodeName,
    pub(super) options: Vec<OsString>,
    /// Goes by the environment, which other users cannot read.
    pub(super) cookie: Option<String>,
}

/// What happened to a child.
pub(super) enum Event {
    Ready(Ready),
    /// It ended by itself.
    Ended {
        name: NodeName,
        how: String,
    },
}

enum Report {
    Ready(Ready),
    Ended(NodeName, String),
}

/// All children that run.
pub(super) struct Children {
    /// Where signals for each go.
    running: BTreeMap<NodeName, mpsc::Sender<libc::c_int>>,
    reports: mpsc::Receiver<Report>,
    reporter: mpsc::Sender<Report>,
    /// Whether what actors print goes to standard output; to standard error if not.
    output_to_stdout: bool,
}

impl Children {
    pub(super) fn new(output_to_stdout: bool) -> Self {
        let (reporter, reports) = mpsc::channel(MAX_WAITING_EVENTS);
        Self {
            running: BTreeMap::new(),
            reports,
            reporter,
            output_to_stdout,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    pub(super) fn launch(&mut self, launch: Launch) -> Result<(), CliError> {
        let program = std::env::current_exe()
            .map_err(|error| CliError::System("find this program's own file", error))?;
        let mut command = Command::new(program);
        command
            .args(&launch.options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // In a group of its own, Ctrl-C reaches this process only, which ends them in order.
        command.process_group(0).kill_on_drop(true);
        if let Some(cookie) = &launch.cookie {
            command.env(COOKIE_VARIABLE, cookie);
        }
        #[cfg(target_os = "linux")]
        die_with_parent(&mut command);
        let mut child = command
            .spawn()
            .map_err(|error| CliError::System("start a node", error))?;
        let stdout = child.stdout.take();
        let (signal, signals) = mpsc::channel(MAX_WAITING_SIGNALS);
        self.running.insert(launch.name.clone(), signal);
        let (reporter, to_stdout) = (self.reporter.clone(), self.output_to_stdout);
        tokio::spawn(async move {
            let (name, reading) = (
                launch.name.clone(),
                read(&launch.name, stdout, &reporter, to_stdout),
            );
            let how = follow(child, reading, signals).await;
            let _ = reporter.send(Report::Ended(name, how)).await;
        });
        Ok(())
    }

    /// What happens next; `None` if nothing can, since none runs.
    pub(super) async fn next(&mut self) -> Option<Event> {
        if self.running.is_empty() {
            return None;
        }
        match self.reports.recv().await? {
            Report::Ready(ready) => Some(Event::Ready(ready)),
            Report::Ended(name, how) => {
                self.running.remove(&name);
                Some(Event::Ended { name, how })
            }
        }
    }

    /// Asks all to end; kills those that take too long. Returns when all are gone.
    pub(super) async fn stop_all(&mut self) {
        self.signal_all(libc::SIGTERM);
        if timeout(KILL_AFTER, self.all_ended()).await.is_err() {
            let names: Vec<_> = self.running.keys().map(NodeName::to_string).collect();
            eprintln!("killing what does not stop: {}", names.join(", "));
            self.signal_all(libc::SIGKILL);
            self.all_ended().await;
        }
    }

    async fn all_ended(&mut self) {
        while self.next().await.is_some() {}
    }

    fn signal_all(&self, signal: libc::c_int) {
        for child in self.running.values() {
            // One whose channel is full or closed is being ended, or has ended.
            let _ = child.try_send(signal);
        }
    }
}

/// Passes on what a child prints, until it prints no more.
async fn read(
    name: &NodeName,
    stdout: Option<ChildStdout>,
    reporter: &mpsc::Sender<Report>,
    to_stdout: bool,
) {
    let Some(stdout) = stdout else { return };
    let mut lines = BufReader::new(stdout).split(b'\n');
    let mut ready_reported = false;
    while let Ok(Some(line)) = lines.next_segment().await {
        let text = String::from_utf8_lossy(&line);
        // The first such line is the node's; further ones are some actor's.
        if !ready_reported
            && let Ok(ready) = serde_json::from_str::<Ready>(&text)
            && ready.name == *name
        {
            ready_reported = true;
            let _ = reporter.send(Report::Ready(ready)).await;
        } else if to_stdout {
            output::line(format_args!("{} {text}", name.alive()));
        } else {
            eprintln!("{} {text}", name.alive());
        }
    }
}

/// Lives with a child to its end, and says how it ended.
async fn follow(
    mut child: Child,
    reading: impl Future<Output = ()>,
    mut signals: mpsc::Receiver<libc::c_int>,
) -> String {
    tokio::pin!(reading);
    let mut all_read = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            () = &mut reading, if !all_read => all_read = true,
            Some(signal) = signals.recv() => send(&child, signal),
        }
    };
    if !all_read {
        // Bounded, since something else may hold its pipe open after its end.
        let _ = timeout(LAST_WORDS, &mut reading).await;
    }
    match status {
        Ok(status) => describe(status),
        Err(error) => error.to_string(),
    }
}

fn send(child: &Child, signal: libc::c_int) {
    let Some(id) = child.id().and_then(|id| libc::pid_t::try_from(id).ok()) else {
        return;
    };
    // A stopped (SIGSTOP) process acts on no signal but SIGKILL until it goes on.
    for signal in [signal, libc::SIGCONT] {
        // SAFETY: takes plain numbers. The child has an id, so it has not been reaped, so the
        // id is still its own.
        unsafe { libc::kill(id, signal) };
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(libc::SIGKILL)) => "killed, SIGKILL".into(),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// If this process is killed, so that it cannot end its children, the system does.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, getppid.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // It may have died before the line above.
            if libc::getppid() as u32 != parent {
                return Err(std::io::Error::other("the parent process has ended"));
            }
            Ok(())
        });
    }
}
