//! Lines for the shell, read by a thread of its own, one when it is asked for.
//!
//! At a terminal with editing, history (`$XDG_STATE_HOME/wasm-node/shell_history`) and completion: of
//! commands, and of names that somebody else knows. Otherwise plain lines.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, Helper};
use tokio::sync::mpsc as channel;

use crate::cli::error::CliError;

/// Lines that are remembered.
const MAX_HISTORY_LINES: usize = 1_000;

/// How long a completion may take.
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(2);

/// What came.
pub(super) enum Input {
    /// A line, without its end.
    Line(String),
    /// Ctrl-C: nothing is said.
    Interrupted,
    /// There are no more.
    End,
}

/// Wants names to complete, and where they go.
pub(super) type Wanted = mpsc::SyncSender<Vec<String>>;

/// The thread, as the shell sees it.
pub(super) struct Reader {
    prompts: mpsc::Sender<String>,
    lines: channel::Receiver<std::io::Result<Input>>,
    completions: channel::Receiver<Wanted>,
    /// Whether a line is being read.
    reads: bool,
    interactive: bool,
}

/// What the shell has to do for the reader, or got from it.
pub(super) enum Event {
    Input(std::io::Result<Input>),
    Complete(Wanted),
}

impl Reader {
    /// Starts the thread. `commands` are the first words of a line.
    pub(super) fn start(commands: Vec<String>) -> Result<Self, CliError> {
        let interactive = std::io::stdin().is_terminal();
        let (prompts, asked) = mpsc::channel();
        let (read, lines) = channel::channel(1);
        let (want, completions) = channel::channel(1);
        let names = Names { commands, want };
        let life = move || match interactive {
            true => edit(names, &asked, &read),
            false => plain(&asked, &read),
        };
        let thread = std::thread::Builder::new().name("input".into());
        thread
            .spawn(life)
            .map_err(|error| CliError::System("start a thread", error))?;
        Ok(Self {
            prompts,
            lines,
            completions,
            reads: false,
            interactive,
        })
    }

    /// Whether somebody types.
    pub(super) fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Whether what comes next is still to be typed, at a terminal.
    pub(super) fn would_prompt(&self) -> bool {
        self.interactive && !self.reads
    }

    /// What comes next. Dropped, it loses nothing: the line comes the next time.
    pub(super) async fn next(&mut self, prompt: &str) -> Event {
        if !self.reads {
            self.reads = self.prompts.send(prompt.to_owned()).is_ok();
        }
        tokio::select! {
            line = self.lines.recv() => {
                self.reads = false;
                Event::Input(line.unwrap_or(Ok(Input::End)))
            }
            Some(wanted) = self.completions.recv() => Event::Complete(wanted),
        }
    }
}

type Lines = channel::Sender<std::io::Result<Input>>;

fn plain(asked: &mpsc::Receiver<String>, read: &Lines) {
    let mut lines = std::io::stdin().lock().lines();
    while asked.recv().is_ok() {
        let line = match lines.next() {
            Some(line) => line.map(Input::Line),
            None => Ok(Input::End),
        };
        if read.blocking_send(line).is_err() {
            return;
        }
    }
}

fn edit(names: Names, asked: &mpsc::Receiver<String>, read: &Lines) {
    let config = Config::builder()
        .max_history_size(MAX_HISTORY_LINES)
        .map(|config| {
            config
                .history_ignore_space(true)
                .auto_add_history(true)
                .build()
        });
    let editor = config.and_then(Editor::<Names, FileHistory>::with_config);
    let mut editor = match editor {
        Ok(editor) => editor,
        Err(error) => {
            let _ = read.blocking_send(Err(std::io::Error::other(error)));
            return;
        }
    };
    editor.set_helper(Some(names));
    let file = history_file();
    if let Some(file) = &file {
        // There is none at first.
        let _ = editor.load_history(file);
    }
    while let Ok(prompt) = asked.recv() {
        let line = match editor.readline(&prompt) {
            Ok(line) => Ok(Input::Line(line)),
            Err(ReadlineError::Interrupted) => Ok(Input::Interrupted),
            Err(ReadlineError::Eof) => Ok(Input::End),
            Err(ReadlineError::Io(error)) => Err(error),
            Err(error) => Err(std::io::Error::other(error)),
        };
        if let Some(file) = &file {
            // A shell without a memory is still a shell.
            let _ = editor.append_history(file);
        }
        if read.blocking_send(line).is_err() {
            return;
        }
    }
}

/// Made, with its folder, if it is not there.
fn history_file() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|path| !path.is_empty());
    let state = set("XDG_STATE_HOME").map(PathBuf::from);
    let state =
        state.or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".local/state")))?;
    let folder = state.join("wasm-node");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("shell_history"))
}

/// Completes the first word from the commands, others from what the shell knows.
struct Names {
    commands: Vec<String>,
    want: channel::Sender<Wanted>,
}

impl Names {
    fn others(&self) -> Vec<String> {
        let (wanted, names) = mpsc::sync_channel(1);
        match self.want.blocking_send(wanted) {
            Ok(()) => names.recv_timeout(COMPLETION_TIMEOUT).unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }
}

/// Where the last word of this text begins.
fn last_word(text: &str) -> usize {
    text.rfind(char::is_whitespace).map_or(0, |at| at + 1)
}

impl Completer for Names {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let text = line.get(..position).unwrap_or(line);
        let begin = last_word(text);
        let is_first = text[..begin].trim().is_empty() || text.trim_start().starts_with("help ");
        let mut names = match is_first {
            true => self.commands.clone(),
            false => self.others(),
        };
        names.retain(|name| name.starts_with(&text[begin..]));
        names.sort_unstable();
        names.dedup();
        Ok((begin, names))
    }
}

impl Hinter for Names {
    type Hint = String;
}
impl Highlighter for Names {}
impl Validator for Names {}
impl Helper for Names {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_a_command_and_others_are_asked_for() {
        let (want, mut wanted) = channel::channel::<Wanted>(1);
        let commands = ["ps", "ping", "call"].map(String::from).to_vec();
        let names = Names { commands, want };
        let shell = std::thread::spawn(move || {
            while let Some(wanted) = wanted.blocking_recv() {
                let known = ["counter", "cart", "counter"].map(String::from);
                let _ = wanted.send(known.to_vec());
            }
        });
        let history = FileHistory::default();
        let complete = |line: &str| names.complete(line, line.len(), &Context::new(&history));
        let words = |of: &[&str]| of.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(complete("p").unwrap(), (0, words(&["ping", "ps"])));
        assert_eq!(complete("help c").unwrap(), (5, words(&["call"])));
        assert_eq!(
            complete("call c").unwrap(),
            (5, words(&["cart", "counter"]))
        );
        assert_eq!(complete("call co").unwrap(), (5, words(&["counter"])));
        assert_eq!(complete("call counter x").unwrap(), (13, words(&[])));
        drop(names);
        shell.join().unwrap();
    }
}
