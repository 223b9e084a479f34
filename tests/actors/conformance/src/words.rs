//! Values as the words of the cases.

use std::time::Duration;

use wasm_node_sdk::{CallError, ExitReason, Pid};

/// A number of milliseconds.
pub fn ms(word: &str) -> Result<Duration, String> {
    match word.parse() {
        Ok(ms) => Ok(Duration::from_millis(ms)),
        Err(_) => Err(format!("\"{word}\" is no number of milliseconds")),
    }
}

/// A pid, until the conductor knows its name.
pub fn pid(pid: Pid) -> String {
    format!("@{}", pid.to_hex())
}

/// The reverse of [`pid`].
pub fn to_pid(word: &str) -> Option<Pid> {
    Pid::from_hex(word.strip_prefix('@')?)
}

/// Words to a reason.
pub fn to_reason(word: &str) -> ExitReason {
    match word {
        "normal" => ExitReason::Normal,
        "shutdown" => ExitReason::Shutdown,
        "kill" => ExitReason::Kill,
        "killed" => ExitReason::Killed,
        "noproc" => ExitReason::Noproc,
        "noconnection" => ExitReason::Noconnection,
        _ => match word.split_once(':') {
            Some(("data", data)) => ExitReason::Custom(data.into()),
            Some(("shutdown", data)) => ExitReason::ShutdownWith(data.into()),
            _ => ExitReason::Error(word.into()),
        },
    }
}

/// A reason in words.
pub fn reason(reason: &ExitReason) -> String {
    match reason {
        ExitReason::Normal => "normal".into(),
        ExitReason::Shutdown => "shutdown".into(),
        ExitReason::Kill => "kill".into(),
        ExitReason::Killed => "killed".into(),
        ExitReason::Noproc => "noproc".into(),
        ExitReason::Noconnection => "noconnection".into(),
        ExitReason::AlreadyStarted(_) => "already_started".into(),
        ExitReason::Trap(_) => "crash".into(),
        ExitReason::Limit(words) => format!("limit:{words}"),
        ExitReason::Error(words) => words.clone(),
        ExitReason::Custom(data) => format!("data:{}", String::from_utf8_lossy(data)),
        ExitReason::ShutdownWith(data) => format!("shutdown:{}", String::from_utf8_lossy(data)),
    }
}

/// A failed call in words.
pub fn call_error(error: &CallError) -> String {
    match error {
        CallError::Timeout => "timeout".into(),
        CallError::Noproc => "noproc".into(),
        CallError::Noconnection => "noconnection".into(),
        CallError::Exit(why) => format!("exit {}", reason(why)),
        CallError::TooLarge => "too_large".into(),
    }
}
