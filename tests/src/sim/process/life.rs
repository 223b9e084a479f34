//! What actors do: what the guests' calls become in the host's runtime.

use bytes::Bytes;
use wasm_node_protocol::{CallError, ExitReason, Millis, Pid, Ref, Signal};

use super::actor::Actor;
use super::body::{self, Head};
use super::{Fact, Io, Process, Processes, Sent, instant};

impl Processes {
    /// A new process.
    pub fn spawn(&mut self, io: &mut dyn Io, traps: bool) -> Pid {
        let pid = self.pid(self.next_serial);
        self.next_serial += 1;
        let mut actor = Actor::new(pid, None);
        actor.set_trap_exit(traps);
        let process = Process {
            actor,
            traps,
            inbox: Default::default(),
            planned: false,
            remote: false,
            suspended: None,
            linked: Default::default(),
            monitors: Vec::new(),
        };
        self.table.insert(pid.serial, process);
        io.tell(Fact::Began(pid));
        pid
    }

    /// It ends by itself.
    pub fn end(&mut self, io: &mut dyn Io, pid: Pid, reason: ExitReason) {
        self.finish(io, pid, reason);
    }

    /// As `Runtime::send_or_deliver`.
    fn send(&mut self, io: &mut dyn Io, from: Pid, to: Pid, signal: Signal) -> Sent {
        if to.node != self.node {
            self.is_remote(from);
        }
        let sent = self.signal(io, to, signal);
        if sent == Sent::Congested
            && !self.mistakes.never_suspend
            && let Some(process) = self.table.get_mut(&from.serial)
        {
            process.suspended = Some(to.node);
        }
        sent
    }

    fn body(&mut self, io: &dyn Io, from: Pid, to: Pid, filling: usize) -> Bytes {
        let number = self.numbers.entry((from, to)).or_default();
        *number += 1;
        let head = Head {
            conn: io.conn_to(to.node).filter(|_| to.node != self.node),
            from,
            number: *number,
        };
        body::write(head, filling)
    }

    /// Sends a message that expects no answer.
    pub fn message(&mut self, io: &mut dyn Io, from: Pid, to: Pid, filling: usize) {
        let body = self.body(io, from, to, filling);
        let signal = if filling.is_multiple_of(2) {
            Signal::Info(body)
        } else {
            Signal::Cast(body)
        };
        self.send(io, from, to, signal);
    }

    /// Asks; gives up after so many milliseconds.
    pub fn ask(
        &mut self,
        io: &mut dyn Io,
        now: Millis,
        (by, of): (Pid, Pid),
        filling: usize,
        timeout: Option<u64>,
    ) {
        let tag = self.make_ref();
        // The fourth of its kind is never answered: see `run`.
        let timeout = timeout.or((tag.serial % 4 == 3).then_some(1_000));
        let deadline = timeout.map(|timeout| now + timeout);
        let connected = of.node == self.node || io.conn_to(of.node).is_some();
        io.tell(Fact::Asks {
            by,
            tag,
            of,
            deadline,
            connected,
        });
        if let Some(process) = self.table.get_mut(&by.serial) {
            process
                .actor
                .add_pending(tag, of.node, deadline.map(instant));
        }
        // The host arms the timer here and not only after a turn.
        self.plan(io, by);
        let body = self.body(io, by, of, filling);
        let signal = Signal::Request {
            from: by,
            tag,
            body,
        };
        if self.send(io, by, of, signal) == Sent::NoConnection {
            let result = Err(CallError::NoConnection);
            self.signal(io, by, Signal::Response { tag, result });
        }
    }

    /// Erlang's `monitor/2`.
    pub fn monitor(&mut self, io: &mut dyn Io, by: Pid, of: Pid) {
        let tag = self.make_ref();
        let connected = of.node == self.node || io.conn_to(of.node).is_some();
        io.tell(Fact::Monitors {
            by,
            tag,
            of,
            connected,
        });
        if let Some(process) = self.table.get_mut(&by.serial) {
            process.actor.add_monitor(tag, of.node, Some(of));
            process.monitors.push(tag);
        }
        if self.send(io, by, of, Signal::Monitor { from: by, tag }) == Sent::NoConnection {
            let reason = ExitReason::NoConnection;
            let down = Signal::Down {
                tag,
                pid: of,
                reason,
            };
            self.signal(io, by, down);
        }
    }

    /// Erlang's `demonitor/2` with `flush`.
    pub fn demonitor(&mut self, io: &mut dyn Io, by: Pid, tag: Ref) {
        let Some(process) = self.table.get_mut(&by.serial) else {
            return;
        };
        io.tell(Fact::Demonitors(tag));
        if let Some((_, Some(of))) = process.actor.remove_monitor(tag) {
            self.signal(io, of, Signal::Demonitor { tag });
        }
    }

    /// Erlang's `link/1`. Each pair once, by one side, so that a check can count.
    pub fn link(&mut self, io: &mut dyn Io, by: Pid, to: Pid) {
        let Some(process) = self.table.get_mut(&by.serial) else {
            return;
        };
        if by == to || !process.linked.insert(to) || !process.actor.add_link(to) {
            return;
        }
        let connected = to.node == self.node || io.conn_to(to.node).is_some();
        io.tell(Fact::Links { by, to, connected });
        if self.send(io, by, to, Signal::Link { from: by }) == Sent::NoConnection {
            let exit = Signal::Exit {
                from: to,
                reason: ExitReason::NoConnection,
                link: true,
            };
            self.signal(io, by, exit);
        }
    }

    /// Erlang's `unlink/1`.
    pub fn unlink(&mut self, io: &mut dyn Io, by: Pid, to: Pid) {
        let Some(process) = self.table.get_mut(&by.serial) else {
            return;
        };
        if let Some(unlink) = process.actor.remove_link(to) {
            io.tell(Fact::Unlinks { by, to });
            if self.signal(io, to, unlink) == Sent::NoConnection
                && let Some(process) = self.table.get_mut(&by.serial)
            {
                process.actor.forget_unlink(to);
            }
        }
    }

    /// Erlang's `exit(Pid, kill)`.
    pub fn kill(&mut self, io: &mut dyn Io, by: Pid, whom: Pid) {
        let exit = Signal::Exit {
            from: by,
            reason: ExitReason::Kill,
            link: false,
        };
        self.send(io, by, whom, exit);
    }
}
