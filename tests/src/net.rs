//! A network of one's own: hosts that are network namespaces, and between them a switch in this
//! process, which delays, loses and drops packets as it is told, each direction by itself.
//!
//! Contract: nothing outside of the namespaces is touched; dropped, all of it is gone. Needs
//! root, `ip` and `/dev/net/tun`: [`Net::new`] says what is missing.
//!
//! The hosts have TUN devices rather than veth pairs with `tc netem` between them: many kernels
//! are built without netem, and every one lets a packet be thrown away by who forwards it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The largest packet, in bytes.
const MTU: usize = 1400;

/// Packets that wait for their delay; more are lost.
const MAX_WAITING_PACKETS: usize = 100_000;

/// How often a thread that waits for packets looks whether all is over, in milliseconds.
const LOOK_EVERY_MS: i32 = 50;

/// What happens to packets from one host to another.
#[derive(Clone, Copy, Default, Debug)]
pub struct Rule {
    /// All are lost.
    pub cut: bool,
    /// So many of a hundred are lost.
    pub loss_percent: u64,
    /// They take so much longer.
    pub delay: Duration,
}

/// Some hosts, numbered from 0, and what is between them.
pub struct Net {
    hosts: Vec<Host>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Host {
    namespace: String,
}

struct Shared {
    devices: Vec<File>,
    state: Mutex<State>,
    changed: Condvar,
    over: AtomicBool,
}

/// A packet on its way: when it arrives, in which order, at which host, and its bytes.
type OnItsWay = Reverse<(Instant, u64, usize, Vec<u8>)>;

struct State {
    rules: Vec<Vec<Rule>>,
    waiting: BinaryHeap<OnItsWay>,
    next: u64,
    random: crate::sim::Rng,
}

fn ip(args: &[&str]) -> Result<()> {
    let ran = Command::new("ip")
        .args(args)
        .output()
        .context("there is no program `ip`")?;
    ensure!(
        ran.status.success(),
        "`ip {}` failed: {}",
        args.join(" "),
        String::from_utf8_lossy(&ran.stderr).trim()
    );
    Ok(())
}

/// A host's address.
pub fn address(host: usize) -> String {
    format!("10.77.0.{}", host + 1)
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.namespace]);
    }
}

impl Host {
    fn new(number: usize) -> Result<(Self, File)> {
        let namespace = format!("wasm-node-{}-{number}", std::process::id());
        ip(&["netns", "add", &namespace])?;
        let host = Self { namespace };
        let name = &host.namespace;
        let device = open_tun(name).context("no TUN device")?;
        let at = format!("{}/24", address(number));
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&["-n", name, "addr", "add", &at, "dev", "net0"])?;
        let mtu = MTU.to_string();
        ip(&["-n", name, "link", "set", "net0", "mtu", &mtu, "up"])?;
        Ok((host, device))
    }
}

/// A new TUN device `net0` in a namespace. A thread of its own goes there; the file is good
/// anywhere.
fn open_tun(namespace: &str) -> Result<File> {
    let namespace = File::open(format!("/run/netns/{namespace}"))?;
    let opened = std::thread::spawn(move || -> std::io::Result<File> {
        // SAFETY: a valid descriptor; only this thread, which ends soon, changes its namespace.
        if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let device = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")?;
        // SAFETY: an ifreq of zeroes is valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(b"net0") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the descriptor is open and the request outlives the call.
        if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as _, &request) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(device)
    });
    match opened.join() {
        Ok(opened) => Ok(opened?),
        Err(_) => bail!("the thread that opens it panicked"),
    }
}

impl Net {
    /// So many hosts that reach each other.
    ///
    /// # Errors
    /// What is missing here to have any.
    pub fn new(count: usize) -> Result<Self> {
        // SAFETY: always possible.
        ensure!(
            unsafe { libc::geteuid() } == 0,
            "only root may make namespaces"
        );
        let made = (0..count).map(Host::new).collect::<Result<Vec<_>>>()?;
        let (hosts, devices) = made.into_iter().unzip();
        let shared = Arc::new(Shared {
            devices,
            state: Mutex::new(State {
                rules: vec![vec![Rule::default(); count]; count],
                waiting: BinaryHeap::new(),
                next: 0,
                random: crate::sim::Rng::new(1),
            }),
            changed: Condvar::new(),
            over: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for host in 0..count {
            let shared = shared.clone();
            threads.push(std::thread::spawn(move || shared.read(host)));
        }
        let late = shared.clone();
        threads.push(std::thread::spawn(move || late.deliver_late()));
        Ok(Self {
            hosts,
            shared,
            threads,
        })
    }

    /// A command, to be run on a host.
    pub fn on(&self, host: usize, command: &Command) -> Command {
        let mut there = Command::new("ip");
        there
            .args(["netns", "exec", &self.hosts[host].namespace])
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => there.env(key, value),
                None => there.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            there.current_dir(folder);
        }
        there
    }

    /// From now on packets from one host to another go by this rule.
    pub fn one_way(&self, from: usize, to: usize, rule: Rule) {
        self.shared.lock().rules[from][to] = rule;
    }

    /// The same in both directions.
    pub fn between(&self, a: usize, b: usize, rule: Rule) {
        self.one_way(a, b, rule);
        self.one_way(b, a, rule);
    }

    /// The same between all hosts.
    pub fn everywhere(&self, rule: Rule) {
        for row in &mut self.shared.lock().rules {
            row.fill(rule);
        }
    }

    /// Cuts these hosts from the others.
    pub fn partition(&self, side: &[usize]) {
        let others = (0..self.hosts.len()).filter(|host| !side.contains(host));
        let cut = Rule {
            cut: true,
            ..Rule::default()
        };
        for other in others {
            side.iter().for_each(|host| self.between(*host, other, cut));
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Forwards what a host sends.
    fn read(&self, host: usize) {
        let mut packet = [0; 2 * MTU];
        let mut device = &self.devices[host];
        while !self.is_over() {
            let mut poll = libc::pollfd {
                fd: device.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one valid entry.
            if unsafe { libc::poll(&mut poll, 1, LOOK_EVERY_MS) } == 1
                && let Ok(length) = device.read(&mut packet)
            {
                self.forward(host, &packet[..length]);
            }
        }
    }

    fn forward(&self, from: usize, packet: &[u8]) {
        // The destination of an IPv4 packet; others (IPv6 asking around) go nowhere.
        let Some([10, 77, 0, number]) = packet.get(16..20).filter(|_| packet[0] >> 4 == 4) else {
            return;
        };
        let to = usize::from(*number).wrapping_sub(1);
        let mut state = self.lock();
        let Some(rule) = state.rules[from].get(to).copied() else {
            return;
        };
        if rule.cut || state.random.chance(rule.loss_percent) {
            return;
        }
        if rule.delay.is_zero() {
            drop(state);
            // A host whose queue is full loses it, as a switch would.
            let _ = (&self.devices[to]).write(packet);
        } else if state.waiting.len() < MAX_WAITING_PACKETS {
            let number = state.next;
            state.next += 1;
            let at = Instant::now() + rule.delay;
            state
                .waiting
                .push(Reverse((at, number, to, packet.to_vec())));
            self.changed.notify_all();
        }
    }

    /// Delivers what was delayed.
    fn deliver_late(&self) {
        let mut state = self.lock();
        while !self.is_over() {
            let now = Instant::now();
            let wait = match state.waiting.peek() {
                Some(Reverse((at, ..))) if *at <= now => {
                    if let Some(Reverse((_, _, to, packet))) = state.waiting.pop() {
                        let _ = (&self.devices[to]).write(&packet);
                    }
                    continue;
                }
                Some(Reverse((at, ..))) => *at - now,
                None => Duration::from_millis(LOOK_EVERY_MS as u64),
            };
            let waited = self.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
