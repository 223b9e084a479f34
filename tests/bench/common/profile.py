"""From perf's samples to where a request's microseconds go.

Each sample is a call chain, the innermost function first. It counts for the part of the first
function in it that belongs to one: so the copying and allocating that a part has done counts for
that part. Pure, but for `Recording`.
"""

import collections
import os
import re
import select
import signal
import subprocess
from dataclasses import dataclass, field

from common.rig import Failed, say

SAMPLES_PER_S = 499
STACK_BYTES = 4096
"""What perf copies of a stack at each sample, to unwind it later."""

ENABLE_TIMEOUT_S = 60
"""How long perf may take to begin."""

KERNEL = [
    ("kernel: sockets", r"__(x64|arm64)_sys_(sendto|recvfrom|sendmsg|recvmsg|read|readv|write|writev|accept4?|epoll\w*|connect|shutdown|close)\b|tcp_|sock_|inet_|net_rx|ep_poll"),
    ("kernel: files, durable", r"sys_(f(data)?sync|pwrite\w*|pread\w*|fallocate|ftruncate|rename\w*|openat)\b|ext4_|xfs_|overlay|ovl_|blk_|submit_bio"),
    ("kernel: memory", r"sys_(mmap|munmap|mprotect|madvise|mremap|brk)\b|page_fault|exc_page|handle_mm|pagemap"),
    ("kernel: waking and waiting", r"futex|schedule|sched_|try_to_wake|hrtimer|nanosleep|timerfd|eventfd"),
]
"""By what is anywhere in a chain that ends in the kernel: the system call tells more than the
innermost function."""

USER = [
    ("store", r"\bredb::|wasm_node::store::|wasm_node::wasm::keyvalue"),
    ("links to other nodes", r"wasm_node::dist::|wasm_node_protocol::(codec|frame|session|handshake|cluster|membership)|\bsnow::|\bring::|ChaCha|chacha|poly1305"),
    ("global names and groups", r"wasm_node_protocol::(global|groups)"),
    ("HTTP: parsing and connections", r"\bhyper::|\bhttparse::|hyper_util::|http_body|\bhttp::|wasm_node::http::(connection|body|stall|Ingress)"),
    ("HTTP: between ingress and wasm", r"wasm_node::http::|wasmtime_wasi_http::|wasmtime_wasi(_io)?::"),
    ("instances: making and cleaning", r"InstanceAllocator|instance::allocator|PoolingInstance|pooling::|instantiate|Instantiator|MemoryImageSlot|vm::(instance|memory|cow)|wasm::core::(instance|awake|image)"),
    ("wasm: wasmtime's component layer", r"wasmtime::(runtime::)?(component|vm::component)\b|wasmtime_environ::component"),
    ("wasm: host functions, calls in and out", r"wasmtime::|wasmtime_|wasm_node::wasm::"),
    ("mailboxes and scheduling", r"wasm_node::process::|wasm_node::node::"),
    ("sockets, timers, tasks (tokio)", r"\btokio::|\bmio::"),
    ("logging", r"\btracing"),
]
"""By the innermost function that belongs to a part."""

WASM_OBJECT = re.compile(r"\.cwasm|^\[?anon|^//anon|(?:^|/)perf-\d+\.map|\[JIT\]|memfd")
KERNEL_OBJECT = re.compile(r"^\[kernel|^\[guest\.kernel|\.ko\b|^\[vdso\]")
FRAME = re.compile(r"^\s+[0-9a-f]+ (.*) \((.*)\)$")


def samples(script):
    """Chains of (function, object), from `perf script -F comm,tid,ip,sym,dso`, with the thread's
    name."""
    thread, chain = None, []
    for line in script:
        line = line.rstrip("\n")
        frame = FRAME.match(line)
        if frame:
            chain.append((frame[1], frame[2]))
        elif line.strip():
            thread = re.sub(r"\s+\d+\s*$", "", line).strip()
        elif thread is not None:
            if chain:
                yield thread, chain
            thread, chain = None, []
    if thread is not None and chain:
        yield thread, chain


def part(chain):
    """What a sample counts for."""
    if KERNEL_OBJECT.search(chain[0][1]):
        inside = [symbol for symbol, dso in chain if KERNEL_OBJECT.search(dso)]
        for name, pattern in KERNEL:
            if any(re.search(pattern, symbol) for symbol in inside):
                return name
        return "kernel: other"
    if chain[0][0] == "[unknown]":
        # All else has symbols, so this was compiled here and its file is gone.
        return "wasm: the actors' own code"
    for symbol, dso in chain:
        if WASM_OBJECT.search(dso):
            return "wasm: the actors' own code"
        for name, pattern in USER:
            if re.search(pattern, symbol):
                return name
    return "other: " + ("memory" if any(re.search(r"mi_|alloc|memcpy|memmove|memset", s) for s, _ in chain) else "unknown")


@dataclass
class Profile:
    """How many samples each part and each thread has, and which functions they ended in."""

    parts: collections.Counter = field(default_factory=collections.Counter)
    threads: collections.Counter = field(default_factory=collections.Counter)
    functions: dict = field(default_factory=dict)

    def add(self, thread, chain):
        of = part(chain)
        self.parts[of] += 1
        self.threads[re.sub(r"[-_ ]?\d+$", "", thread)] += 1
        self.functions.setdefault(of, collections.Counter())[short(chain[0][0])] += 1

    def mostly(self, of, count=3):
        return ", ".join(name for name, _ in self.functions[of].most_common(count))


def read(script):
    """What perf's script says, added up."""
    profile = Profile()
    for thread, chain in samples(script):
        profile.add(thread, chain)
    return profile


def short(symbol):
    """`Buf::copy_to_bytes` of `<bytes::Bytes as bytes::Buf>::copy_to_bytes+0x12`: the last two
    names of a path, without types."""
    mangled = re.search(r"\b_R\w+", symbol)
    if mangled:
        return "::".join(identifiers(mangled[0])[-2:]) or mangled[0][:40]
    plain = re.sub(r"\+0x[0-9a-f]+$|::h[0-9a-f]{16}$|\(.*$|->", "", symbol)
    # From the inside out: arguments of a type go, of `<Type as Trait>` the trait stays.
    while (inner := re.sub(r"(?<=[\w:])<[^<>]*>|<(?:[^<>]* as )?([\w:]*)[^<>]*>", r"\1", plain)) != plain:
        plain = inner
    words = [word for word in re.split(r"::|[<>]", plain) if word and word != "{{closure}}"]
    return "::".join(words[-2:]) or symbol[:40]


def identifiers(mangled):
    """The names in one of Rust's mangled ones (v0): each comes after its length."""
    found, at = [], 2
    while at < len(mangled):
        length = re.match(r"(?<![A-Za-z0-9])s[0-9A-Za-z]*_|(\d+)_?", mangled[at:])
        if length and length[1]:
            start = at + length.end()
            found.append(mangled[start : start + int(length[1])])
            at = start + int(length[1])
        else:
            at += length.end() if length else 1
    return [name for name in found if name.isidentifier()]


def microseconds(counted, requests):
    """Of processor time each request, most first."""
    each = 1e6 / SAMPLES_PER_S / requests
    return [(name, count * each) for name, count in counted.most_common()]


class Recording:
    """perf, watching processes from now on until it is read."""

    def __init__(self, rig, pids):
        self.rig = rig
        self.file = rig.folder / "perf.data"
        orders, told = rig.folder / "perf.orders", rig.folder / "perf.told"
        for pipe in (orders, told):
            pipe.unlink(missing_ok=True)
            os.mkfifo(pipe)
        command = ["perf", "record", "-q", "-F", SAMPLES_PER_S, "-e", "cpu-clock", "-o", self.file,
                   "--call-graph", f"dwarf,{STACK_BYTES}", "-p", ",".join(map(str, pids)),
                   # It reads the maps of all processes first, which can take seconds.
                   "--delay", "-1", "--control", f"fifo:{orders},{told}"]
        words = rig.folder / "perf.txt"
        with words.open("w") as log:
            self.process = rig.start(command, stdout=log, stderr=log)
        # Both ends at once, so that opening waits for nobody.
        self.pipes = [os.open(pipe, os.O_RDWR) for pipe in (orders, told)]
        os.write(self.pipes[0], b"enable\n")
        if not select.select([self.pipes[1]], [], [], ENABLE_TIMEOUT_S)[0]:
            raise Failed(f"perf does not record (kernel.perf_event_paranoid?): {words.read_text()}")

    def profile(self):
        self.rig.end(self.process, signal.SIGINT)
        for pipe in self.pipes:
            os.close(pipe)
        say(f"reading {self.file.stat().st_size >> 20} MiB of samples")
        command = ["perf", "script", "--no-inline", "-i", self.file, "-F", "comm,tid,ip,sym,dso"]
        script = self.rig.start(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            return read(script.stdout)
        finally:
            self.rig.end(script)
            self.file.unlink()
