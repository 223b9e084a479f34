//! Exercises every import of the world `actor`, and gets every kind of message, in one fixed
//! order; writes down what came back. Pids and refs are numbered as they appear, so that two
//! runs can be compared. The request `run MODULE` begins it; its answer is the transcript.

use std::cell::Cell;
use std::fmt::Write;

use wasm_node_sdk::bindings::wasm_node::actor::global::Resolver;
use wasm_node_sdk::bindings::wasm_node::actor::groups::GroupError;
use wasm_node_sdk::bindings::wasm_node::actor::io::LogLevel;
use wasm_node_sdk::bindings::wasm_node::actor::node::NodeSet;
use wasm_node_sdk::bindings::wasm_node::actor::process::{
    AliasMode, InfoItem, Limits, SpawnFlags, SpawnOptions,
};
use wasm_node_sdk::bindings::wasm_node::actor::{
    code, global, groups, io, mailbox, node, process, registry, timer,
};
use wasm_node_sdk::{
    CallError, Destination, ExitReason, Message, Outcome, Pid, Ref, RegisterError, ReplyTo,
    SpawnError,
};

use crate::receive;

thread_local! {
    static WAIT_FOR_MS: Cell<Option<u32>> = const { Cell::new(None) };
}

/// What the turn that ends now waits for.
pub fn outcome() -> Outcome {
    WAIT_FOR_MS.take().map_or(Outcome::Wait, Outcome::WaitFor)
}

const NOBODY: Pid = Pid { node: 1, serial: 1 };
const NO_REF: Ref = Ref { node: 1, serial: 1 };
const NO_NODE: &str = "nobody@127.0.0.1";
const SOON_MS: u32 = 20;
/// Loose enough to be met by all of this.
const LIMITS: Limits = Limits {
    memory_bytes: Some(100 << 20),
    mailbox_messages: Some(500_000),
    message_bytes: Some(60 << 20),
    turn_cpu_ms: Some(60_000),
    cpu_ms: Some(600_000),
};

struct Script {
    module: String,
    peer: String,
    pids: Vec<Pid>,
    refs: Vec<Ref>,
    log: String,
    /// Whether it does not print what it says: its group leader is itself.
    quiet: bool,
}

/// Waits for its request, and does it all. `peer` is another node.
pub async fn run(peer: String) {
    let (asker, text) = loop {
        if let Message::Request((asker, body)) = receive().await {
            break (asker, String::from_utf8_lossy(&body).into_owned());
        }
    };
    let mut script = Script {
        module: text.trim_start_matches("run ").into(),
        peer,
        pids: Vec::new(),
        refs: Vec::new(),
        log: String::new(),
        quiet: false,
    };
    script.all().await;
    let _ = mailbox::reply(asker, script.log.as_bytes());
}

impl Script {
    async fn all(&mut self) {
        let me = process::self_();
        self.say("self", self.pids.is_empty());
        let _ = self.pid(me);
        self.messages(me).await;
        self.requests(me).await;
        self.names(me).await;
        self.groups(me).await;
        self.time(me).await;
        self.surroundings();
        self.leaders(me).await;
        self.spawns().await;
        self.ends().await;
        self.links(me).await;
        self.aliases(me).await;
        self.about(me).await;
        self.traps().await;
        self.far(me).await;
    }

    async fn messages(&mut self, me: Pid) {
        let long = "\u{1f980}\u{e9}x".repeat(20_000);
        let bodies: [&[u8]; 4] = [b"", b"one", &[7; (64 << 10) + 1], long.as_bytes()];
        for body in bodies {
            let sent = mailbox::send(me, body);
            self.expect("send", sent, 1).await;
            for to in self.destinations(me) {
                let sent = mailbox::send_to(&to, body);
                let cast = mailbox::cast(&to, body);
                let reached = usize::from(matches!(to, Destination::Pid(pid) if pid == me));
                self.expect(
                    &format!("send-to {to:?}", to = kind(&to)),
                    (sent, cast),
                    2 * reached,
                )
                .await;
            }
        }
        let large = vec![0; (64 << 20) + 1];
        self.say("too large", mailbox::send(me, &large));
        self.say("too large", mailbox::send_to(&Destination::Pid(me), &large));
        self.say("too large", mailbox::cast(&Destination::Pid(me), &large));
        let tag = mailbox::request(&Destination::Pid(me), &large, None);
        drop(large);
        self.expect("too large", tag, 1).await;
        self.say("reached", mailbox::next().is_none());
    }

    /// One of each case, and what no destination should be.
    fn destinations(&self, me: Pid) -> Vec<Destination> {
        let own = node::name();
        let remote = |name: &str, node: &str| Destination::RemoteName((name.into(), node.into()));
        vec![
            Destination::Pid(me),
            Destination::Pid(NOBODY),
            Destination::Pid(Pid::NONE),
            Destination::Name("nobody".into()),
            Destination::Name(String::new()),
            Destination::Name("\u{2603}".repeat(30_000)),
            remote("nobody", &own),
            remote("nobody", NO_NODE),
            remote("nobody", "no node's name"),
            remote("", ""),
            Destination::Global("nobody".into()),
            Destination::Global(String::new()),
        ]
    }

    async fn requests(&mut self, me: Pid) {
        let (child, _) = self.member("member 0", SpawnFlags::empty()).await;
        for to in self.destinations(child) {
            for ms in [None, Some(60_000)] {
                let tag = mailbox::request(&to, b"get", ms);
                self.expect(&format!("request {}", kind(&to)), tag, 1).await;
            }
        }
        let to = Destination::Pid(child);
        let tag = mailbox::request(&to, b"hold", Some(SOON_MS));
        self.expect("held", tag, 1).await;
        let tag = mailbox::request(&to, b"hold", Some(0));
        self.expect("held", tag, 1).await;
        let forgotten = mailbox::request(&to, b"hold", None);
        mailbox::forget(forgotten);
        mailbox::forget(forgotten);
        mailbox::forget(NO_REF);
        let tag = mailbox::request(&to, b"release too late", None);
        self.expect("release", tag, 1).await;
        // To itself, answered by itself; then again, for nobody.
        let tag = mailbox::request(&Destination::Pid(me), b"mine", None);
        let message = receive().await;
        self.show("own request", &message);
        if let Message::Request((from, _)) = message {
            for body in [&b""[..], b"again"] {
                self.say("reply", mailbox::reply(from, body));
            }
            let large = vec![0; (64 << 20) + 1];
            self.say("reply", mailbox::reply(from, &large));
        }
        self.expect("own response", tag, 1).await;
        for how in REASONS {
            let (child, _) = self.member("member 0", SpawnFlags::empty()).await;
            let held = mailbox::request(&Destination::Pid(child), b"hold", None);
            let _ = mailbox::send(
                child,
                &[&[0; 16], format!("stop {how}").as_bytes()].concat(),
            );
            self.expect(&format!("ended by {how}"), held, 1).await;
        }
        process::exit(child, &ExitReason::Kill);
    }

    async fn names(&mut self, me: Pid) {
        let long = "n".repeat(70_000);
        for name in ["contract-name", "", "contract-\u{1f980} \n", &long] {
            let short: String = name.chars().take(20).collect();
            self.say(&format!("register {short:?}"), registry::register(name, me));
            self.say("again", registry::register(name, me));
            self.say("nobody", registry::register(name, NOBODY));
            self.say("whereis", registry::whereis(name));
            for to in [
                Destination::Name(name.into()),
                Destination::RemoteName((name.into(), node::name())),
            ] {
                if registry::whereis(name).is_some() {
                    let sent = (mailbox::send_to(&to, b"hello"), mailbox::cast(&to, b"you"));
                    self.expect("by name", sent, 2).await;
                }
            }
            let mut all = registry::registered();
            all.retain(|name| name.starts_with("contract-"));
            self.say("registered", all);
            self.say("unregister", registry::unregister(name));
            self.say("unregister", registry::unregister(name));
            let tag = global::register(name, me);
            self.expect("global", tag, 1).await;
            let tag = global::register(name, me);
            self.expect("again", tag, 1).await;
            let tag = global::register(name, NOBODY);
            self.expect("nobody", tag, 1).await;
            self.say("whereis", global::whereis(name));
            if global::whereis(name).is_some() {
                let to = Destination::Global(name.into());
                let sent = (mailbox::send_to(&to, b"hello"), mailbox::cast(&to, b"you"));
                self.expect("by name", sent, 2).await;
            }
            let mut all = global::registered();
            all.retain(|name| name.starts_with("contract-"));
            self.say("registered", all);
            self.say("unregister", global::unregister(name));
            self.say("unregister", global::unregister(name));
            let ways = [
                Resolver::NotifyLoser,
                Resolver::ExitLoser,
                Resolver::NotifyAll,
                Resolver::Ask(name.into()),
            ];
            for by in &ways {
                let tag = global::re_register(name, me, by);
                self.expect("replaced", tag, 1).await;
                let tag = global::register_with(name, me, by);
                self.expect("again", tag, 1).await;
            }
            self.say("unregister", global::unregister(name));
            for requester in [None, Some(name)] {
                self.say("not locked", global::del_lock(name, requester));
                for timeout_ms in [Some(0), Some(1), None] {
                    let tag = global::set_lock(name, requester, timeout_ms);
                    self.expect("lock", tag, 1).await;
                }
                self.say("locked", global::del_lock(name, requester));
            }
        }
    }

    async fn groups(&mut self, me: Pid) {
        let long = "n".repeat(1025);
        for (scope, group) in [
            ("", "some-group"),
            ("some-scope", "some-group"),
            ("some-\u{2603}", "some-\u{1f980} \n"),
            ("some-scope", ""),
            ("some-scope", &long),
            (&long, "some-group"),
        ] {
            groups::join(scope, group, &[me]).ok();
            let one = groups::monitor(scope, group);
            self.say("monitor", one.clone());
            let all = groups::monitor_scope(scope);
            self.say("monitor-scope", all.clone());
            let told = 2 * usize::from(one.is_ok() && all.is_ok());
            let joined = groups::join(scope, group, &[me, me]);
            self.expect("join", joined, told).await;
            self.say("nobody", groups::join(scope, group, &[me, NOBODY]));
            self.say("none", groups::join(scope, group, &[]));
            self.say("members", groups::members(scope, group));
            self.say("local-members", groups::local_members(scope, group));
            self.say("which-groups", groups::which_groups(scope));
            self.say("which-local-groups", groups::which_local_groups(scope));
            let left = groups::leave(scope, group, &[me, NOBODY]);
            self.expect("leave", left, told).await;
            let left = groups::leave(scope, group, &[me, me, me]);
            self.expect("leave", left, told).await;
            self.say("leave", groups::leave(scope, group, &[me]));
            // What nobody has taken yet does not come any more.
            let joined = groups::join(scope, group, &[me]);
            let mut monitors = vec![NO_REF];
            monitors.extend(one.map(|(monitor, _)| monitor));
            monitors.extend(all.map(|(monitor, _)| monitor));
            for monitor in monitors {
                self.say("demonitor", groups::demonitor(monitor));
                self.say("demonitor", groups::demonitor(monitor));
            }
            self.say("join", joined);
            self.say("leave", groups::leave(scope, group, &[me]));
            self.say("members", groups::members(scope, group));
        }
        let (child, _) = self.member("member 0", SpawnFlags::empty()).await;
        self.say("join", groups::join("", "some-group", &[child, me]));
        let one = groups::monitor("", "some-group");
        self.say("monitor", one);
        process::exit(child, &ExitReason::Kill);
        self.expect("killed", (), 1).await;
        self.say("members", groups::members("", "some-group"));
    }

    async fn time(&mut self, me: Pid) {
        let tag = timer::start(0);
        self.expect("timer", tag, 1).await;
        let tag = timer::start(SOON_MS);
        self.expect("timer", tag, 1).await;
        self.say("cancel", timer::cancel(tag));
        let tag = timer::start(600_000);
        self.say("cancel", timer::cancel(tag));
        self.say("cancel", timer::cancel(tag));
        self.say("cancel", timer::cancel(NO_REF));
        let tag = timer::send_after(SOON_MS, me, &[9; 70_000]);
        self.expect("send-after", tag, 1).await;
        let tag = timer::send_after(600_000, NOBODY, b"");
        self.say("cancel", timer::cancel(tag));
        let (before, after) = (timer::now(), timer::now());
        self.say("now", before <= after && after < 1 << 53);
        self.say("wall-clock", timer::wall_clock() > 1_600_000_000_000);
        self.say("random", timer::random() != timer::random());
        for ms in [0, SOON_MS] {
            WAIT_FOR_MS.set(Some(ms));
            self.expect("wait-for", (), 1).await;
        }
        // A message comes before that.
        let _ = mailbox::send(me, b"first");
        WAIT_FOR_MS.set(Some(600_000));
        self.expect("wait-for", (), 1).await;
    }

    fn surroundings(&mut self) {
        self.say("name", node::name());
        for which in [NodeSet::Visible, NodeSet::Hidden, NodeSet::All] {
            let mut nodes = node::nodes(which);
            nodes.retain(|node| !node.starts_with("cli-"));
            self.say("nodes", nodes);
        }
        self.say("node-of", node::node_of(process::self_()));
        self.say("node-of", node::node_of(NOBODY));
        self.say("disconnect", node::disconnect(NO_NODE));
        self.say("disconnect", node::disconnect("\u{2603}"));
        let current = code::current();
        self.say("current", current.len());
        let modules = code::modules();
        let own = modules.iter().filter(|module| module.name == self.module);
        let own: Vec<_> = own
            .map(|module| (module.digest == current, module.actors > 0))
            .collect();
        self.say("modules", own);
        for text in ["", "contract prints \u{1f980}", &"long ".repeat(20_000)] {
            io::print(text);
            io::print_error(text);
        }
    }

    /// Text, and lines of input: first of the node's own group leader, then of this actor.
    async fn leaders(&mut self, me: Pid) {
        let user = process::group_leader();
        self.say("user", registry::whereis("user") == Some(user));
        self.say("user lives", process::is_alive(user));
        // The node's input is at its end.
        for ms in [None, Some(60_000)] {
            let tag = io::read_line(ms);
            self.expect("read-line", tag, 1).await;
        }
        mailbox::forget(io::read_line(None));
        let tag = process::monitor(&Destination::Pid(user));
        process::demonitor(tag);
        process::link(user);
        process::unlink(user);
        for level in [
            LogLevel::Debug,
            LogLevel::Info,
            LogLevel::Warning,
            LogLevel::Error,
        ] {
            io::log(level, "", &[]);
            let fields: Vec<_> = (0..40)
                .map(|n| (format!("name {n}"), "\u{1f980}".repeat(n * 10)))
                .collect();
            io::log(level, &"long ".repeat(5_000), &fields);
        }
        process::set_group_leader(NOBODY, me);
        process::set_group_leader(me, NOBODY);
        self.say("leader", process::group_leader());
        // Nobody: the node's own stands in.
        io::print("to nobody\n");
        let tag = io::read_line(None);
        self.expect("read-line", tag, 1).await;

        self.quiet = true;
        process::set_group_leader(me, me);
        self.say("leader", process::group_leader());
        let taken = async |script: &mut Self, count: usize| {
            for _ in 0..count {
                let message = receive().await;
                script.show("taken", &message);
            }
        };
        for text in ["", "one\n", "\u{1f980} two", &"long ".repeat(20_000)] {
            io::print(text);
            io::print_error(text);
        }
        taken(self, 2 + 2 + 2 * 3).await;
        self.say("read-line", io::read_line(None));
        let message = receive().await;
        self.show("asked", &message);
        if let Message::InputRequest(from) = message {
            let _ = mailbox::reply(from, b"a line\n");
        }
        taken(self, 1).await;
        let late = io::read_line(Some(SOON_MS));
        self.expect("late", late, 2).await;
        process::set_group_leader(me, user);
        self.quiet = false;

        // A child has the same, unless it is told otherwise.
        let child = |leader| SpawnOptions {
            flags: SpawnFlags::AWAIT_INIT,
            name: None,
            global: None,
            group_leader: leader,
            capabilities: None,
            limits: None,
        };
        for leader in [Some(me), None, Some(NOBODY)] {
            let Ok((pid, tag)) = process::spawn(&self.module, b"member 0", &child(leader)) else {
                return self.say("cannot spawn", ());
            };
            self.expect("child", tag, 1).await;
            let of = Destination::Pid(pid);
            let tag = mailbox::request(&of, b"print from a child", None);
            self.expect("prints", tag, 1 + usize::from(leader == Some(me)))
                .await;
            let tag = mailbox::request(&of, b"reads", None);
            let reads = receive().await;
            self.show("reads", &reads);
            if leader == Some(me) {
                // The request may have come before the answer.
                let other = receive().await;
                self.show("reads", &other);
                for message in [reads, other] {
                    if let Message::InputRequest(from) = message {
                        let _ = mailbox::reply(from, b"for the child\n");
                    }
                }
                let tag = mailbox::request(&of, b"events", None);
                self.expect("events", tag, 1).await;
            }
            self.say("reads", tag);
            process::set_group_leader(pid, me);
            let tag = mailbox::request(&of, b"print once more", None);
            self.expect("prints", tag, 2).await;
            process::exit(pid, &ExitReason::Kill);
        }
    }

    async fn spawns(&mut self) {
        let options = |flags, name: Option<&str>, global: Option<&str>| SpawnOptions {
            flags,
            name: name.map(String::from),
            global: global.map(String::from),
            group_leader: None,
            capabilities: None,
            limits: None,
        };
        let none = options(SpawnFlags::empty(), None, None);
        for module in ["no such module", "", &"m".repeat(70_000), &"0".repeat(64)] {
            let spawned = process::spawn(module, b"member 0", &none);
            self.spawned("no module", spawned);
        }
        self.capabilities().await;
        process::trap_exit(true);
        let digest = code::current();
        let arguments = [
            "member 1",
            "init-hibernate",
            "init-wait-for 5",
            "starting",
            "length \u{1f980}",
            &format!("length {}", "x".repeat(70_000)),
            "nonsense",
            "",
            "init-trap",
            "init-err error \u{1f980} says no",
            "init-err custom data",
            "init-err already-started",
            "init-err shutdown",
            "init-stop normal",
            "init-stop limit of its own",
            "init-stop kill",
        ];
        for args in arguments {
            let flags = SpawnFlags::MONITOR | SpawnFlags::LINK | SpawnFlags::AWAIT_INIT;
            let with = options(flags, None, None);
            let spawned = process::spawn(&self.module, args.as_bytes(), &with);
            let short: String = args.chars().take(30).collect();
            self.spawned(&short, spawned.clone());
            // What fails in its `init` was never linked or monitored.
            let lives = self.expect(&format!("begun {short}"), (), 1).await;
            let Ok((pid, _)) = spawned else { continue };
            if lives {
                process::exit(pid, &ExitReason::Shutdown);
                self.expect("ended", (), 2).await;
            }
        }
        for bits in 0..8 {
            let flags = SpawnFlags::from_bits_truncate(bits);
            let with = options(flags, Some("contract-child"), None);
            let spawned = process::spawn(&digest, b"member 7", &with);
            self.spawned(&format!("flags {bits}"), spawned.clone());
            let again = process::spawn(&self.module, b"member 7", &with);
            self.spawned("taken", again);
            let Ok((pid, _)) = spawned else { continue };
            let awaits = flags.contains(SpawnFlags::AWAIT_INIT);
            self.expect("begun", (), usize::from(awaits)).await;
            self.say("whereis", registry::whereis("contract-child"));
            // Its name is free when its end is told to whoever monitors it.
            let gone = process::monitor(&Destination::Name("contract-child".into()));
            let more = flags & (SpawnFlags::LINK | SpawnFlags::MONITOR);
            process::exit(pid, &ExitReason::Kill);
            self.expect("ended", gone, 1 + more.bits().count_ones() as usize)
                .await;
        }
        let flags = SpawnFlags::MONITOR | SpawnFlags::AWAIT_INIT;
        let with = options(flags, None, Some("contract-global"));
        let first = process::spawn(&self.module, b"member 0", &with);
        self.spawned("global", first.clone());
        self.expect("begun", (), 1).await;
        self.say("whereis", global::whereis("contract-global"));
        let second = process::spawn(&self.module, b"member 0", &with);
        self.spawned("global", second);
        self.expect("taken", (), 1).await;
        if let Ok((pid, _)) = first {
            process::exit(pid, &ExitReason::Kill);
        }
        self.expect("ended", (), 1).await;
        let bad = options(SpawnFlags::empty(), Some(""), None);
        let spawned = process::spawn(&self.module, b"member 0", &bad);
        self.spawned("bad name", spawned);
    }

    /// Every way in which an actor ends of itself, and by others.
    async fn ends(&mut self) {
        for how in REASONS {
            let (pid, _) = self.member("member 0", SpawnFlags::MONITOR).await;
            let _ = mailbox::send(pid, &[&[0; 16], format!("stop {how}").as_bytes()].concat());
            self.expect(&format!("stop {how}"), (), 1).await;
            let (pid, _) = self.member("member 0", SpawnFlags::MONITOR).await;
            process::exit(pid, &crate::member::reason(how));
            // `normal` is no reason to end for another.
            if *how == "normal" {
                let tag = mailbox::request(&Destination::Pid(pid), b"get", None);
                self.expect("lives", tag, 1).await;
                process::exit(pid, &ExitReason::Kill);
            }
            self.expect(&format!("exit {how}"), (), 1).await;
            self.say("is-alive", process::is_alive(pid));
        }
        self.say("is-alive", process::is_alive(NOBODY));
        process::exit(NOBODY, &ExitReason::Kill);
    }

    async fn links(&mut self, me: Pid) {
        self.say("trap-exit", process::trap_exit(true));
        process::link(NOBODY);
        self.expect("link nobody", (), 1).await;
        process::link(me);
        process::unlink(NOBODY);
        process::exit(me, &ExitReason::Custom(vec![0, 255]));
        self.expect("own exit", (), 1).await;
        for how in REASONS {
            let (pid, _) = self.member("member 0", SpawnFlags::LINK).await;
            let tag = process::monitor(&Destination::Pid(pid));
            let unused = process::monitor(&Destination::Pid(pid));
            process::demonitor(unused);
            process::demonitor(unused);
            process::link(pid);
            let _ = mailbox::send(pid, &[&[0; 16], format!("stop {how}").as_bytes()].concat());
            self.expect(&format!("linked {how}"), tag, 2).await;
        }
        let (pid, _) = self.member("member 0", SpawnFlags::LINK).await;
        process::unlink(pid);
        let tag = process::monitor(&Destination::Pid(pid));
        process::exit(pid, &ExitReason::Kill);
        self.expect("unlinked", tag, 1).await;
        for to in self.destinations(NOBODY) {
            let tag = process::monitor(&to);
            self.expect(&format!("monitor {}", kind(&to)), tag, 1).await;
        }
        process::demonitor(NO_REF);
    }

    async fn aliases(&mut self, me: Pid) {
        for mode in [AliasMode::Explicit, AliasMode::Reply] {
            let alias = process::alias(mode);
            self.say("alias", alias.tag);
            let to = Destination::Alias(alias);
            let sent = mailbox::send_to(&to, b"by alias");
            self.expect("by alias", sent, 1).await;
            let cast = mailbox::cast(&to, b"by alias");
            let reached = usize::from(mode == AliasMode::Explicit);
            self.expect("by alias again", cast, reached).await;
            self.say("unalias", process::unalias(alias));
            self.say("unalias", process::unalias(alias));
            self.say("gone", mailbox::send_to(&to, b"too late"));
            let tag = mailbox::request(&to, b"too late", None);
            self.expect("gone", tag, 1).await;
        }
        let foreign = ReplyTo {
            pid: NOBODY,
            tag: NO_REF,
        };
        self.say("foreign", process::unalias(foreign));
        let tag = mailbox::request(&Destination::Alias(foreign), b"", None);
        self.expect("foreign", tag, 1).await;
        let _ = me;
    }

    /// What is the same in every run of `process.info`.
    async fn about(&mut self, me: Pid) {
        self.say("nobody", process::info(NOBODY).is_none());
        let (child, _) = self.member("member 0", SpawnFlags::LINK).await;
        process::tighten(LIMITS);
        for of in [me, child] {
            for item in process::info(of).unwrap_or_default() {
                match item {
                    InfoItem::Status(_) if of == child => {}
                    InfoItem::Module(name) => self.say("own module", name == self.module),
                    InfoItem::Status(status) => self.say("status", format!("{status:?}")),
                    InfoItem::RegisteredNames(names) => self.say("names", names),
                    InfoItem::Parent(parent) => self.say("parent", parent),
                    InfoItem::Limits(limits) => self.say("limits", format!("{limits:?}")),
                    InfoItem::TrapExit(on) => self.say("trap-exit", on),
                    InfoItem::Links(pids) => {
                        self.say("linked", pids.contains(&child) || pids.contains(&me))
                    }
                    InfoItem::Monitors(pids) => self.say("monitors", pids.is_empty()),
                    InfoItem::MonitoredBy(pids) => self.say("monitored by", pids.is_empty()),
                    InfoItem::Turns(count) => self.say("turns", count > 0),
                    InfoItem::MemoryBytes(bytes) => self.say("memory", bytes >= 64 << 10),
                    InfoItem::MailboxMessages(_)
                    | InfoItem::CpuUs(_)
                    | InfoItem::Reductions(_)
                    | InfoItem::MessagesIn(_)
                    | InfoItem::MessagesOut(_) => {}
                }
            }
        }
        process::unlink(child);
        process::exit(child, &ExitReason::Kill);
    }

    async fn traps(&mut self) {
        for how in [
            &["trap"][..],
            &["divide 0"],
            &["recurse 100000000"],
            &["exhaust", "get"],
            &["exhaust", "trap"],
            &["hibernate", "get", "trap"],
        ] {
            let (pid, _) = self.member("member 0", SpawnFlags::MONITOR).await;
            for command in how {
                let tag = mailbox::request(&Destination::Pid(pid), command.as_bytes(), None);
                let answer = receive().await;
                self.show(&format!("{command} {}", self.refs.len()), &answer);
                let _ = tag;
                if let Message::Down(_) = answer {
                    break;
                }
            }
            process::exit(pid, &ExitReason::Kill);
            self.expect("end", (), 1).await;
        }
    }

    /// Another node: comes, goes, and holds a name that this one holds too.
    async fn far(&mut self, me: Pid) {
        let peer = self.peer.clone();
        node::monitor_nodes(true);
        // Of one that cannot be reached it hears at once; of itself and of no node, never.
        for of in [&node::name(), "\u{2603}", NO_NODE] {
            node::monitor_node(of, true);
        }
        self.expect("monitor-node", (), 1).await;
        for to in ["\u{2603}", "", NO_NODE, &node::name()] {
            let tag = node::connect(to);
            self.expect("connect", tag, 1).await;
        }
        let tag = node::connect(&peer);
        // Connected, and the node is up.
        self.expect("connect", tag, 2).await;
        for on in [true, true, false] {
            node::monitor_node(&peer, on);
        }
        let mut children = Vec::new();
        for bits in 0..8 {
            let with = SpawnOptions {
                flags: SpawnFlags::from_bits_truncate(bits),
                name: (bits == 6).then(|| "contract-far".into()),
                global: None,
                group_leader: None,
                capabilities: None,
                limits: (bits == 5).then_some(LIMITS),
            };
            let tag = process::spawn_on(&peer, &self.module, b"member 9", &with);
            self.say("spawn-on", tag);
            let message = receive().await;
            self.show("spawned", &message);
            if let Message::Spawned((_, Ok(pid))) = message {
                self.say("node-of", node::node_of(pid));
                self.say("is-alive", process::is_alive(pid));
                children.push(pid);
            }
        }
        for (node, module, args) in [
            (NO_NODE, self.module.clone(), "member 0"),
            ("", self.module.clone(), "member 0"),
            (&peer, "no such module".into(), "member 0"),
            (&peer, self.module.clone(), "init-err error far"),
        ] {
            let with = SpawnOptions {
                flags: SpawnFlags::AWAIT_INIT,
                name: None,
                global: None,
                group_leader: None,
                capabilities: None,
                limits: None,
            };
            let tag = process::spawn_on(node, &module, args.as_bytes(), &with);
            self.expect("spawn-on", tag, 1).await;
        }
        // Not linked, so that it outlives the connection.
        let Some(&child) = children.get(6) else {
            return self.say("no child", ());
        };
        for to in [
            Destination::Pid(child),
            Destination::RemoteName(("contract-far".into(), peer.clone())),
        ] {
            let tag = mailbox::request(&to, b"get", None);
            self.expect("far request", tag, 1).await;
            let tag = mailbox::request(&to, b"hold", Some(SOON_MS));
            self.expect("far time-out", tag, 1).await;
            self.say("far cast", mailbox::cast(&to, &vec![1; 100_000]));
            let tag = mailbox::request(&to, b"events", None);
            self.expect("far events", tag, 1).await;
        }
        let to = Destination::RemoteName(("nobody".into(), peer.clone()));
        let tag = mailbox::request(&to, b"get", None);
        self.expect("far nobody", tag, 1).await;
        let tag = process::monitor(&to);
        self.expect("far nobody", tag, 1).await;

        // The peer's actor claims a name when it is alone, and so does this one.
        let both = format!("both-{}", self.module);
        let tag = mailbox::request(
            &Destination::Pid(child),
            format!("in 1000 global {both}").as_bytes(),
            None,
        );
        self.expect("later", tag, 1).await;
        let held = mailbox::request(&Destination::Pid(child), b"hold", None);
        self.say("disconnect", node::disconnect(&peer));
        // That node is down, which it hears twice; the request has no reply; four links and four
        // monitors end.
        self.expect("gone", held, 2 + 1 + 4 + 4).await;
        self.say("disconnect", node::disconnect(&peer));
        let tag = mailbox::request(&Destination::Pid(child), b"get", None);
        self.expect("not there", tag, 1).await;
        let tag = global::register(&both, me);
        self.expect("claimed", tag, 1).await;
        let tag = timer::start(2_500);
        self.expect("later", tag, 1).await;
        let tag = node::connect(&peer);
        // Connected, the node is up, and the name is lost.
        self.expect("met", tag, 3).await;
        node::monitor_nodes(false);
        for pid in children {
            let tag = process::monitor(&Destination::Pid(pid));
            process::exit(pid, &ExitReason::Kill);
            self.expect("end", tag, 1).await;
        }
    }

    /// This module imports nothing that takes one: what is asked for is read, and does no harm.
    async fn capabilities(&mut self) {
        let own = node::name();
        let long = format!("env:{}", "x".repeat(70_000));
        let many: Vec<String> = (0..200).map(|number| format!("env:V{number}")).collect();
        let lists: [Vec<String>; 8] = [
            Vec::new(),
            vec!["keyvalue:todo".into()],
            vec!["*".into(), "files:/srv".into(), "env:\u{1f980}".into()],
            vec![String::new()],
            vec!["keyvalue:todo".into(), "disk".into()],
            vec!["env:\u{1f980}\n".into()],
            vec![long],
            many,
        ];
        for capabilities in lists {
            let with = SpawnOptions {
                flags: SpawnFlags::empty(),
                name: None,
                global: None,
                group_leader: None,
                capabilities: Some(capabilities),
                limits: None,
            };
            let spawned = process::spawn(&self.module, b"member 7", &with);
            if let Ok((pid, _)) = spawned {
                process::exit(pid, &ExitReason::Kill);
            }
            self.spawned("capabilities", spawned);
            let tag = process::spawn_on(&own, &self.module, b"member 8", &with);
            self.say("spawn-on", tag);
            let message = receive().await;
            self.show("capabilities", &message);
            if let Message::Spawned((_, Ok(pid))) = message {
                process::exit(pid, &ExitReason::Kill);
            }
        }
    }

    /// A child that has begun.
    async fn member(&mut self, args: &str, flags: SpawnFlags) -> (Pid, Ref) {
        let with = SpawnOptions {
            flags,
            name: None,
            global: None,
            group_leader: None,
            capabilities: None,
            limits: None,
        };
        match process::spawn(&self.module, args.as_bytes(), &with) {
            Ok((pid, tag)) => {
                let (_, _) = (self.pid(pid), self.tag(tag));
                (pid, tag)
            }
            Err(error) => {
                self.say("cannot spawn", error);
                (Pid::NONE, NO_REF)
            }
        }
    }

    fn spawned(&mut self, what: &str, spawned: Result<(Pid, Ref), SpawnError>) {
        self.say(what, spawned);
    }

    fn say(&mut self, what: &str, value: impl Show) {
        let text = value.show(self);
        // For people who wonder where it stands still.
        if !self.quiet {
            io::print(&format!("{what}: {text}\n"));
        }
        let _ = writeln!(self.log, "{what}: {text}");
    }

    /// Notes a value, then so many messages, in the order of what they say; whether none of them
    /// says that an actor could not begin.
    async fn expect(&mut self, what: &str, value: impl Show, messages: usize) -> bool {
        self.say(what, value);
        let mut lines = Vec::new();
        let mut fine = true;
        while lines.len() < messages {
            let message = receive().await;
            if let Message::NodeUp(event) | Message::NodeDown(event) = &message
                && event.node.starts_with("cli-")
            {
                continue;
            }
            fine &= !matches!(message, Message::Spawned((_, Err(_))));
            let line = message.show(self);
            if !self.quiet {
                io::print(&format!("    {line}\n"));
            }
            lines.push(line);
        }
        lines.sort();
        for line in lines {
            let _ = writeln!(self.log, "    {line}");
        }
        fine
    }

    fn show(&mut self, what: &str, message: &Message) {
        let text = message.show(self);
        let _ = writeln!(self.log, "{what}: {text}");
    }

    fn pid(&mut self, pid: Pid) -> String {
        if pid.serial == 0 {
            return if pid.node == 0 { "none" } else { "nobody" }.into();
        }
        let at = self.pids.iter().position(|seen| *seen == pid);
        let at = at.unwrap_or_else(|| {
            self.pids.push(pid);
            self.pids.len() - 1
        });
        format!("p{at}")
    }

    fn tag(&mut self, tag: Ref) -> String {
        let at = self.refs.iter().position(|seen| *seen == tag);
        let at = at.unwrap_or_else(|| {
            self.refs.push(tag);
            self.refs.len() - 1
        });
        format!("r{at}")
    }
}

const REASONS: &[&str] = &[
    "normal",
    "shutdown",
    "kill",
    "killed",
    "noproc",
    "noconnection",
    "already-started",
    "trap of \u{1f980}\u{e9}",
    "limit ",
    "error with words",
    "custom data",
    "shutdown-with data",
];

fn kind(to: &Destination) -> String {
    let short = |text: &str| text.chars().take(10).collect::<String>();
    match to {
        Destination::Pid(_) => "pid".into(),
        Destination::Name(name) => format!("name {:?}", short(name)),
        Destination::RemoteName((name, node)) => {
            format!("remote-name {:?} {:?}", short(name), short(node))
        }
        Destination::Global(name) => format!("global {:?}", short(name)),
        Destination::Alias(_) => "alias".into(),
    }
}

/// A value as the transcript has it.
trait Show {
    fn show(&self, script: &mut Script) -> String;
}

macro_rules! debug {
    ($($type:ty),*) => {$(
        impl Show for $type {
            fn show(&self, _: &mut Script) -> String {
                format!("{self:?}")
            }
        }
    )*};
}

debug!(bool, (), usize, Option<String>, Vec<String>, Vec<(bool, bool)>, Result<(), ()>);
debug!((Result<(), ()>, Result<(), ()>));

impl Show for String {
    fn show(&self, script: &mut Script) -> String {
        let first = self.lines().next().unwrap_or_default();
        let text = first.replace(&script.module, "MODULE");
        // Ports differ.
        let text = match text.rsplit_once("127.0.0.1:") {
            Some((before, after)) => format!(
                "{before}127.0.0.1:PORT{}",
                after.trim_start_matches(|c: char| c.is_ascii_digit())
            ),
            None => text,
        };
        match text.len() {
            0..200 => format!("{text:?}"),
            _ => text.as_bytes().to_vec().show(script),
        }
    }
}

impl Show for Vec<u8> {
    fn show(&self, script: &mut Script) -> String {
        match std::str::from_utf8(self) {
            Ok(text) if self.len() < 200 => text.to_string().show(script),
            _ => {
                let sum = self.iter().fold(0u32, |sum, byte| {
                    sum.wrapping_mul(31).wrapping_add(u32::from(*byte))
                });
                format!("{} bytes, {sum:08x}", self.len())
            }
        }
    }
}

impl Show for Pid {
    fn show(&self, script: &mut Script) -> String {
        script.pid(*self)
    }
}

impl Show for Ref {
    fn show(&self, script: &mut Script) -> String {
        script.tag(*self)
    }
}

impl Show for Option<Pid> {
    fn show(&self, script: &mut Script) -> String {
        self.map_or_else(|| "none".into(), |pid| script.pid(pid))
    }
}

impl Show for Vec<Pid> {
    fn show(&self, script: &mut Script) -> String {
        let pids: Vec<_> = self.iter().map(|pid| script.pid(*pid)).collect();
        pids.join(",")
    }
}

impl<T: Show, E: Show> Show for Result<T, E>
where
    Result<T, E>: NotPlain,
{
    fn show(&self, script: &mut Script) -> String {
        match self {
            Ok(value) => format!("ok {}", value.show(script)),
            Err(error) => format!("error {}", error.show(script)),
        }
    }
}

/// All but `Result<(), ()>`, which is told as Rust does.
trait NotPlain {}
impl NotPlain for Result<(), RegisterError> {}
impl NotPlain for Result<(), GroupError> {}
impl NotPlain for Result<(Ref, Vec<Pid>), GroupError> {}
impl NotPlain for Result<(Ref, Vec<(String, Vec<Pid>)>), GroupError> {}
impl NotPlain for Result<(Pid, Ref), SpawnError> {}
impl NotPlain for Result<Pid, SpawnError> {}
impl NotPlain for Result<Vec<u8>, CallError> {}
impl NotPlain for Result<String, String> {}

impl Show for (Ref, Vec<Pid>) {
    fn show(&self, script: &mut Script) -> String {
        format!("{} {}", script.tag(self.0), self.1.show(script))
    }
}

impl Show for (Ref, Vec<(String, Vec<Pid>)>) {
    fn show(&self, script: &mut Script) -> String {
        let groups = self.1.iter();
        let groups: Vec<_> = groups
            .map(|(group, pids)| format!("{} {}", group.show(script), pids.show(script)))
            .collect();
        format!("{} {}", script.tag(self.0), groups.join("; "))
    }
}

impl Show for GroupError {
    fn show(&self, script: &mut Script) -> String {
        match self {
            Self::BadName(text) => format!("bad-name {}", text.show(script)),
            Self::NotLocal(pid) => format!("not-local {}", script.pid(*pid)),
            Self::TooMany(text) => format!("too-many {}", text.show(script)),
        }
    }
}

impl Show for (Pid, Ref) {
    fn show(&self, script: &mut Script) -> String {
        format!("{} {}", script.pid(self.0), script.tag(self.1))
    }
}

impl Show for ExitReason {
    fn show(&self, script: &mut Script) -> String {
        match self {
            Self::AlreadyStarted(pid) => format!("already-started {}", script.pid(*pid)),
            Self::Trap(text) => format!("trap {}", text.show(script)),
            Self::Limit(text) => format!("limit {}", text.show(script)),
            Self::Error(text) => format!("error {}", text.show(script)),
            Self::Custom(data) => format!("custom {}", data.show(script)),
            Self::ShutdownWith(data) => format!("shutdown-with {}", data.show(script)),
            plain => format!("{plain:?}"),
        }
    }
}

impl Show for CallError {
    fn show(&self, script: &mut Script) -> String {
        match self {
            Self::Exit(reason) => format!("exit {}", reason.show(script)),
            plain => format!("{plain:?}"),
        }
    }
}

impl Show for SpawnError {
    fn show(&self, script: &mut Script) -> String {
        match self {
            Self::NoSuchModule(name) => format!("no-such-module {}", name.show(script)),
            Self::BadModule(text) => format!("bad-module {}", text.show(script)),
            Self::NameTaken(pid) => format!("name-taken {}", script.pid(*pid)),
            Self::InitFailed(reason) => format!("init-failed {}", reason.show(script)),
            plain => format!("{plain:?}"),
        }
    }
}

impl Show for RegisterError {
    fn show(&self, script: &mut Script) -> String {
        match self {
            Self::Taken(pid) => format!("taken {}", script.pid(*pid)),
            Self::BadName(text) => format!("bad-name {}", text.show(script)),
            plain => format!("{plain:?}"),
        }
    }
}

impl Show for Message {
    fn show(&self, s: &mut Script) -> String {
        match self {
            Self::Info(body) => format!("info {}", body.show(s)),
            Self::Cast(body) => format!("cast {}", body.show(s)),
            Self::Request((from, body)) => {
                let (pid, tag) = (s.pid(from.pid), s.tag(from.tag));
                format!("request {pid} {tag} {}", body.show(s))
            }
            Self::Response((tag, result)) => {
                format!("response {} {}", s.tag(*tag), result.show(s))
            }
            Self::Down((tag, pid, reason)) => {
                let (tag, pid) = (s.tag(*tag), s.pid(*pid));
                format!("down {tag} {pid} {}", reason.show(s))
            }
            Self::Exit((pid, reason)) => format!("exit {} {}", s.pid(*pid), reason.show(s)),
            Self::Timer(tag) => format!("timer {}", s.tag(*tag)),
            Self::Timeout => "timeout".into(),
            Self::Spawned((tag, result)) => format!("spawned {} {}", s.tag(*tag), result.show(s)),
            Self::Registered((tag, result)) => {
                format!("registered {} {}", s.tag(*tag), result.show(s))
            }
            Self::Connected((tag, result)) => {
                format!("connected {} {}", s.tag(*tag), result.show(s))
            }
            Self::NameConflict((name, pid)) => {
                format!("conflict {} {}", name.show(s), s.pid(*pid))
            }
            Self::NodeUp(event) => format!("node-up {event:?}"),
            Self::NodeDown(event) => format!(
                "node-down {} {:?} {}",
                event.node,
                event.kind,
                event.reason.show(s)
            ),
            Self::GroupJoined((tag, group, pids)) => {
                format!(
                    "group-joined {} {} {}",
                    s.tag(*tag),
                    group.show(s),
                    pids.show(s)
                )
            }
            Self::GroupLeft((tag, group, pids)) => {
                format!(
                    "group-left {} {} {}",
                    s.tag(*tag),
                    group.show(s),
                    pids.show(s)
                )
            }
            Self::Output((pid, kind, text)) => {
                format!("output {} {kind:?} {}", s.pid(*pid), text.show(s))
            }
            Self::InputRequest(from) => {
                format!("input-request {} {}", s.pid(from.pid), s.tag(from.tag))
            }
        }
    }
}
