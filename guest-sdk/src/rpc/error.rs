//! Why a call has no result.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ExitReason, SpawnError};

/// Why a call has no result. A function's own errors are not here: they are in its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// The node cannot be reached, or the connection went down before the result came.
    NoConnection,
    /// No result in time. The function may have run, in part or to its end.
    Timeout,
    /// The caller's node has no module of this name.
    NoSuchModule(String),
    /// The module could not be shipped to the node, or compiled or linked there; says why.
    BadModule(String),
    /// The module offers no such function.
    NoSuchFunction,
    /// The function takes other arguments; says what it found.
    BadArguments(String),
    /// The function returned something else than was expected; says what was found.
    BadResult(String),
    /// The function's code trapped: a panic, say. The text has the backtrace.
    Trap(String),
    /// The actor that ran the function ended for another reason: it was killed, or went over a
    /// limit.
    Exit(ExitReason),
    /// The node has as many actors as it may.
    TooManyActors,
    /// The arguments, or the result, are larger than a message may be.
    TooLarge,
}

impl From<SpawnError> for Error {
    fn from(error: SpawnError) -> Self {
        match error {
            SpawnError::NoSuchModule(name) => Self::NoSuchModule(name),
            SpawnError::BadModule(words) => Self::BadModule(words),
            SpawnError::TooManyActors => Self::TooManyActors,
            SpawnError::Noconnection => Self::NoConnection,
            SpawnError::NameTaken(pid) => Self::Exit(ExitReason::AlreadyStarted(pid)),
            SpawnError::InitFailed(reason) => Self::Exit(reason),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection => f.write_str("noconnection: the node cannot be reached"),
            Self::Timeout => f.write_str("timeout: no result in time"),
            Self::NoSuchModule(name) => write!(f, "no module {name}"),
            Self::BadModule(words) => f.write_str(words),
            Self::NoSuchFunction => f.write_str("the module offers no such function"),
            Self::BadArguments(words) => write!(f, "not the function's arguments: {words}"),
            Self::BadResult(words) => write!(f, "not the result expected: {words}"),
            Self::Trap(words) => write!(f, "trap: {words}"),
            Self::Exit(reason) => write!(f, "it ended: {}", reason.describe()),
            Self::TooManyActors => f.write_str("too many actors on that node"),
            Self::TooLarge => f.write_str("the arguments or the result are too large"),
        }
    }
}
impl std::error::Error for Error {}
