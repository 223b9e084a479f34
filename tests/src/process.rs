//! A process that a test started: what it prints, by event; its end, whatever happens.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How many of the last lines of a log a failing test shows.
const MAX_SHOWN_LINES: usize = 300;
/// How long processes that were killed may take to go.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the end of a process is looked for: the system tells of it only to the parent.
const POLL: Duration = Duration::from_millis(5);

/// Lines that processes print, in the order they came.
#[derive(Clone, Default)]
pub struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    /// How many streams may still add lines.
    open: usize,
}

impl Log {
    /// How many lines there are: where to look for what comes next.
    pub fn position(&self) -> usize {
        self.lock().lines.len()
    }

    /// The lines from a position on.
    pub fn since(&self, position: usize) -> Vec<String> {
        let state = self.lock();
        state.lines.get(position..).unwrap_or_default().to_vec()
    }

    /// Waits for a line from a position on that satisfies a condition.
    pub fn wait(
        &self,
        position: usize,
        timeout: Duration,
        what: &str,
        mut wanted: impl FnMut(&str) -> bool,
    ) -> Result<String> {
        let deadline = Instant::now() + timeout;
        let (mut state, mut looked_at) = (self.lock(), position);
        loop {
            while let Some(line) = state.lines.get(looked_at) {
                if wanted(line) {
                    return Ok(line.clone());
                }
                looked_at += 1;
            }
            if state.open == 0 {
                bail!("the processes ended without printing {what}");
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                bail!("waited {} s for {what}", timeout.as_secs());
            };
            state = match self.0.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// All lines, once the processes have ended.
    pub fn all(&self) -> Result<Vec<String>> {
        let deadline = Instant::now() + KILL_TIMEOUT;
        let mut state = self.lock();
        while state.open > 0 {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                bail!("something holds a process's output open after its end");
            };
            state = match self.0.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        Ok(state.lines.clone())
    }

    /// The last lines, for a failing test to show.
    pub fn tail(&self) -> String {
        let state = self.lock();
        let from = state.lines.len().saturating_sub(MAX_SHOWN_LINES);
        state.lines.get(from..).unwrap_or_default().join("\n")
    }

    /// Reads a stream to its end on a thread of its own.
    fn follow(&self, stream: impl Read + Send + 'static) {
        self.lock().open += 1;
        let log = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { break };
                log.lock()
                    .lines
                    .push(String::from_utf8_lossy(&line).into_owned());
                log.0.changed.notify_all();
            }
            log.lock().open -= 1;
            log.0.changed.notify_all();
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A running process in a session of its own. Dropped, it and all its descendants are killed.
pub struct Process {
    child: Child,
    /// What it prints to standard output.
    pub stdout: Log,
    /// What it, and what it starts, print to standard error.
    pub stderr: Log,
}

impl Process {
    /// Starts it. Its standard error goes to `stderr`, which it may share with others.
    pub fn start(mut command: Command, stderr: &Log) -> Result<Self> {
        command.stdin(Stdio::null());
        Self::start_with_stdin(command, stderr)
    }

    /// As `start`, with the standard input that the command says. If that is a pipe, see
    /// [`Process::type_in`].
    pub fn start_with_stdin(mut command: Command, stderr: &Log) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: between fork and exec only async-signal-safe calls are made: setsid, prctl.
        unsafe {
            command.pre_exec(|| {
                // A session, so that descendants are found whatever group they are in.
                if libc::setsid() < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                // It ends with the thread that starts it: a test's own.
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stdout = Log::default();
        if let Some(stream) = child.stdout.take() {
            stdout.follow(stream);
        }
        if let Some(stream) = child.stderr.take() {
            stderr.follow(stream);
        }
        Ok(Self {
            child,
            stdout,
            stderr: stderr.clone(),
        })
    }

    /// Writes to its standard input, a pipe.
    pub fn type_in(&mut self, text: &str) -> Result<()> {
        let pipe = self.child.stdin.as_mut().context("it has no input pipe")?;
        pipe.write_all(text.as_bytes())
            .and_then(|()| pipe.flush())
            .context("cannot write to its standard input")
    }

    /// Closes its standard input.
    pub fn end_input(&mut self) {
        self.child.stdin = None;
    }

    /// Its id.
    pub fn os_pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        signal_pid(self.child.id(), signal)
    }

    /// Waits for its end.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().context("cannot wait for a process")? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("a process did not end within {} s", timeout.as_secs());
            }
            std::thread::sleep(POLL);
        }
    }

    /// The processes of its session: itself and its descendants, whatever groups they are in.
    pub fn family(&self) -> Vec<u32> {
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|&pid| is_of_session(pid, self.child.id()))
            .collect()
    }

    /// Kills it and its descendants, and waits until they are gone.
    pub fn kill(&mut self) {
        let deadline = Instant::now() + KILL_TIMEOUT;
        loop {
            let family = self.family();
            for &pid in &family {
                let _ = signal_pid(pid, libc::SIGKILL);
            }
            let _ = self.child.try_wait();
            if family.is_empty() || Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process.
pub fn signal_pid(os_pid: u32, signal: libc::c_int) -> Result<()> {
    let pid = libc::pid_t::try_from(os_pid).context("no process id")?;
    // SAFETY: takes plain numbers.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error())
            .with_context(|| format!("cannot send signal {signal} to process {os_pid}")),
    }
}

/// Waits until a process is gone, or a zombie, which runs no more.
pub fn wait_gone(os_pid: u32, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while state_and_session(os_pid).is_some_and(|(state, _)| state != 'Z') {
        if Instant::now() >= deadline {
            bail!(
                "process {os_pid} did not end within {} s",
                timeout.as_secs()
            );
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Waits until a process is stopped, as SIGSTOP does.
pub fn wait_stopped(os_pid: u32, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while state_and_session(os_pid).is_none_or(|(state, _)| state != 'T') {
        if Instant::now() >= deadline {
            bail!(
                "process {os_pid} did not stop within {} s",
                timeout.as_secs()
            );
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn is_of_session(pid: u32, session: u32) -> bool {
    state_and_session(pid).is_some_and(|(state, of)| of == session && state != 'Z')
}

/// From `/proc/PID/stat`: the fields after the command, which is in parentheses and may hold
/// anything, are the state, the parent, the group, the session.
fn state_and_session(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(2)?.parse().ok()?))
}
