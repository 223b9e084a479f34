//! A shell's connection, and what its commands do with it.
//!
//! Everything happens on the thread of the shell; between two commands, the connection lives while a
//! line is waited for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use wasm_node_protocol::{ExitReason, NodeName, Ref};

use super::desk::ShellDesk;
use super::reader::{Event, Input, Reader, Wanted};
use crate::cli::attach::Start;
use crate::cli::client::{ANSWER_TIMEOUT, Client, Node, incarnation};
use crate::cli::error::CliError;
use crate::cli::spawn::SPAWN_TIMEOUT;
use crate::control::{ControlReply, ControlRequest, PidRow};

/// How long the last text may take to be shown.
const LAST_TEXT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long text that is there already may take to be shown before the next prompt.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(200);

/// A shell's connection.
pub(in crate::cli) struct Session {
    runtime: Runtime,
    /// None only while a command has it.
    client: RefCell<Option<Client>>,
    reader: RefCell<Reader>,
    desk: Arc<ShellDesk>,
}

impl Session {
    /// Joins the cluster of a node.
    pub(super) fn open(node: &Node, reader: Reader) -> Result<Self, CliError> {
        let system = |error| CliError::System("start the asynchronous runtime", error);
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(system)?;
        let own = incarnation();
        let desk = ShellDesk::new(own).map_err(system)?;
        let joining = Client::join_as(&node.node, &node.join, own, desk.clone());
        let client = runtime.block_on(joining)?;
        Ok(Self {
            runtime,
            client: RefCell::new(Some(client)),
            reader: RefCell::new(reader),
            desk,
        })
    }

    /// Runs a command with the connection.
    pub(in crate::cli) fn lend<T, F>(&self, body: impl FnOnce(Client) -> F) -> Result<T, CliError>
    where
        F: Future<Output = (Client, Result<T, CliError>)>,
    {
        let Some(client) = self.client.take() else {
            return Err(CliError::Usage("the shell is closed".into()));
        };
        let (client, result) = self.runtime.block_on(body(client));
        self.client.replace(Some(client));
        result
    }

    /// Which node it asks.
    pub(super) fn name(&self) -> String {
        let client = self.client.borrow();
        client
            .as_ref()
            .map_or_else(String::new, |client| client.name.to_string())
    }

    /// Asks another node from now on.
    pub(super) fn turn_to(&self, name: &NodeName) -> Result<(), CliError> {
        self.lend(async |mut client| {
            let turned = client.turn_to(name).await;
            (client, turned)
        })
    }

    /// The next command; none at the end of the input. Lines that actors wait for go to them.
    pub(super) fn next_line(&self) -> Result<Option<String>, CliError> {
        self.lend(async |mut client| {
            let line = self.wait_for_line(&mut client).await;
            (client, line)
        })
    }

    #[expect(
        clippy::await_holding_refcell_ref,
        reason = "commands run when no line is waited for"
    )]
    async fn wait_for_line(&self, client: &mut Client) -> Result<Option<String>, CliError> {
        let mut reader = self.reader.borrow_mut();
        let prompt = format!("{}> ", client.name);
        loop {
            let event = tokio::select! {
                event = reader.next(&prompt) => event,
                () = client.down() => return Err(CliError::Gone(client.name.clone())),
            };
            match event {
                Event::Complete(wanted) => complete(client, &wanted).await,
                Event::Input(line) => match line.map_err(failed)? {
                    Input::Line(line) if self.desk.has_question() => self.desk.answer(line + "\n"),
                    Input::Line(line) => return Ok(Some(line)),
                    Input::Interrupted => return Ok(Some(String::new())),
                    Input::End if self.desk.has_question() && reader.is_interactive() => {
                        self.desk.answer(String::new());
                    }
                    Input::End => return Ok(None),
                },
            }
        }
    }

    /// Starts an actor whose group leader is this shell; in the foreground, stays until it has ended
    /// or is left alone, and gives nothing.
    pub(in crate::cli) fn spawn(
        &self,
        start: Start,
        foreground: bool,
    ) -> Result<Option<PidRow>, CliError> {
        self.lend(async |mut client| {
            let spawned = self.start(&mut client, start, foreground).await;
            (client, spawned)
        })
    }

    async fn start(
        &self,
        client: &mut Client,
        start: Start,
        foreground: bool,
    ) -> Result<Option<PidRow>, CliError> {
        let module = start.module.clone();
        let node = start.on.clone().unwrap_or_else(|| client.name.clone());
        let tag = self.desk.starts(module.clone(), foreground);
        let request = start.request(self.desk.leader(), tag);
        let error = match client.ask(&request, SPAWN_TIMEOUT).await {
            Ok(ControlReply::Spawned(Ok(row))) if !foreground => return Ok(Some(row)),
            Ok(ControlReply::Spawned(Ok(_))) => {
                return match self.stay(client, tag).await? {
                    None | Some(ExitReason::Normal | ExitReason::Shutdown) => Ok(None),
                    Some(reason) => Err(CliError::Ended {
                        module,
                        node,
                        reason,
                    }),
                };
            }
            Ok(ControlReply::Spawned(Err(error))) => CliError::Spawn {
                module,
                node,
                error,
            },
            Ok(_) => client.mismatch(),
            Err(error) => error,
        };
        self.desk.forget_actor(tag);
        Err(error)
    }

    /// Gives an actor the lines, until it has ended; nothing if it was left alone with Ctrl-C.
    #[expect(
        clippy::await_holding_refcell_ref,
        reason = "commands run when no line is waited for"
    )]
    async fn stay(&self, client: &mut Client, tag: Ref) -> Result<Option<ExitReason>, CliError> {
        let mut reader = self.reader.borrow_mut();
        loop {
            if let Some(reason) = self.desk.ended(tag) {
                return Ok(Some(reason));
            }
            let asked = self.desk.has_question();
            if asked && reader.would_prompt() {
                // Editing begins on a line of its own: the actor's question stays.
                self.desk.flush(SETTLE_TIMEOUT);
                eprintln!();
            }
            let event = tokio::select! {
                biased;
                () = self.desk.changed() => continue,
                () = client.down() => return Err(CliError::Gone(client.name.clone())),
                event = reader.next(""), if asked => event,
                _ = tokio::signal::ctrl_c() => Event::Input(Ok(Input::Interrupted)),
            };
            match event {
                Event::Complete(wanted) => drop(wanted),
                Event::Input(line) => match line.map_err(failed)? {
                    Input::Line(line) => self.desk.answer(line + "\n"),
                    Input::End => self.desk.answer(String::new()),
                    Input::Interrupted => {
                        self.desk.leave_alone(tag);
                        eprintln!("it goes on, in the background");
                        return Ok(None);
                    }
                },
            }
        }
    }

    /// A command is done: what actors have printed meanwhile comes before the next prompt.
    pub(super) fn settle(&self) {
        self.desk.flush(SETTLE_TIMEOUT);
    }

    /// Leaves the cluster.
    pub(super) fn close(self) {
        if let Some(client) = self.client.take() {
            self.runtime.block_on(client.leave());
        }
        self.desk.flush(LAST_TEXT_TIMEOUT);
    }
}

fn failed(error: std::io::Error) -> CliError {
    CliError::System("read the input", error)
}

/// Names of modules and actors of the node.
async fn complete(client: &Client, wanted: &Wanted) {
    let mut names = BTreeSet::new();
    if let Ok(ControlReply::Modules(rows)) =
        client.ask(&ControlRequest::Modules, ANSWER_TIMEOUT).await
    {
        names.extend(rows.into_iter().map(|row| row.name));
    }
    if let Ok(ControlReply::Processes(list)) =
        client.ask(&ControlRequest::Processes, ANSWER_TIMEOUT).await
    {
        names.extend(list.rows.into_iter().filter_map(|row| row.name));
    }
    let _ = wanted.try_send(names.into_iter().collect());
}
