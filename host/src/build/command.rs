//! Child processes: run one to its end, show its lines as they come, keep the last ones for the
//! error. Knows nothing of what is run.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::{BuildError, Progress};

/// A tool that runs longer is killed: a first build of Rust's std takes about a minute.
pub const MAX_TOOL_SECONDS: u64 = 1_800;
/// Lines kept of a failed tool's output; earlier ones are dropped from the error.
pub const MAX_TAIL_LINES: usize = 80;
/// A line's bytes shown and kept; the rest of it is dropped.
pub const MAX_LINE_BYTES: usize = 2_000;
/// Standard output kept for its caller; a tool that writes more fails.
pub const MAX_STDOUT_BYTES: u64 = 64 << 20;
/// Lines between the reading thread and us; the tool waits when we are slower.
const MAX_QUEUED_LINES: usize = 256;

/// Runs a command to its end and returns its standard output. Lines of its standard error go to
/// `progress`.
pub fn run(
    mut command: Command,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<u8>, BuildError> {
    let shown = display(&command);
    tracing::debug!(command = %shown, "running");
    let fail = |status: String, output: String| BuildError::Tool {
        command: shown.clone(),
        status,
        output,
    };
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|e| fail("did not start".into(), e.to_string()))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());

    let collector = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = stdout {
            let _ = pipe.take(MAX_STDOUT_BYTES + 1).read_to_end(&mut bytes);
        }
        bytes
    });
    let (lines_in, lines) = sync_channel(MAX_QUEUED_LINES);
    std::thread::spawn(move || {
        let Some(pipe) = stderr else { return };
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(pipe.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            line.truncate(MAX_LINE_BYTES);
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if lines_in.send(text).is_err() {
                return;
            }
        }
    });

    let deadline = Instant::now() + Duration::from_secs(MAX_TOOL_SECONDS);
    let mut tail = VecDeque::new();
    let mut timed_out = false;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if tail.len() == MAX_TAIL_LINES {
                    tail.pop_front();
                }
                tail.push_back(line.clone());
                progress(Progress::Output(line));
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                timed_out = true;
                let _ = child.kill();
                break;
            }
        }
    }
    let status = child
        .wait()
        .map_err(|e| fail("lost".into(), e.to_string()))?;
    let tail = Vec::from(tail).join("\n");
    if timed_out {
        return Err(fail(
            format!("still running after {MAX_TOOL_SECONDS} s"),
            tail,
        ));
    }
    let stdout = collector.join().unwrap_or_default();
    if stdout.len() as u64 > MAX_STDOUT_BYTES {
        return Err(fail(
            format!("printed more than {MAX_STDOUT_BYTES} bytes"),
            tail,
        ));
    }
    if status.success() {
        Ok(stdout)
    } else if tail.is_empty() {
        // Some tools complain on their standard output.
        let text = String::from_utf8_lossy(&stdout);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.len().saturating_sub(MAX_TAIL_LINES);
        Err(fail(
            status.to_string(),
            lines.get(last..).unwrap_or_default().join("\n"),
        ))
    } else {
        Err(fail(status.to_string(), tail))
    }
}

/// A command's first line of standard output; none if it cannot run or fails.
pub fn ask(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|o| o.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned)
}

/// Where the PATH has a program of this name.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// The command as a person would type it, without its environment.
fn display(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
