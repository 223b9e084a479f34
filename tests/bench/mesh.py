#!/usr/bin/env python3
"""What a full mesh of nodes on one machine costs: the time until all see all, a node at rest (its
traffic, memory and processor time), and a name for the whole cluster.

    tests/bench/mesh.py --json tests/bench/results/mesh.json --markdown tests/bench/results/mesh.md
    tests/bench/mesh.py --sizes 2,5 --rest 5 --program target/debug/wasm-node

As root it runs in a network namespace of its own, whose loopback carries these nodes alone; else
what others send over loopback counts too, and the result says so.
"""

import argparse
import ctypes
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

from common import figures, machine
from common.ours import WasmNode
from common.rig import Failed, Rig, first_line, say, the_component, the_program

MESH_TIMEOUT_S = 600
"""How long all nodes may take to see each other."""
POLL_S = 0.005
LAUNCHES_AT_ONCE = 4
"""Nodes that may be starting at the same time: each derives its key, which takes a processor."""
SETTLE_S = 3
"""Between convergence and the look at rest."""
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
UP = re.compile(r"node up\b.*\bkind=Visible")


def arguments():
    numbers = lambda text: sorted({int(word) for word in text.split(",") if word})
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sizes", type=numbers, default=[2, 5, 10, 20, 50], help="nodes in a mesh")
    parser.add_argument("--rest", type=float, default=20, help="seconds that they are watched at rest")
    parser.add_argument("--rounds", type=int, default=5, help="of 1,000 registrations each")
    parser.add_argument("--program", help="the wasm-node to measure [default: a release build]")
    parser.add_argument("--module", help="the component of actors/bench [default: built]")
    parser.add_argument("--nice", type=int, default=0, help="run everything at this niceness")
    parser.add_argument("--json", type=Path, help="write all values to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    given = parser.parse_args()
    if given.sizes and given.sizes[0] < 2:
        parser.error("a mesh has two nodes at least")
    return given


def own_network():
    """Enters a network namespace of this process' own; whether the system lets it."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))
    return True


def loopback():
    """Bytes and packets that loopback has carried, headers included."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            words = counts.split()
            return int(words[0]), int(words[1])
    raise Failed("this machine has no loopback")


def memory_kib(pid):
    """Resident and proportional memory of a process."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("Rss", "Pss"):
            found[name] = int(value.split()[0])
    return found["Rss"], found["Pss"]


def processor_s(pid):
    """What a process has computed."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


class Member:
    """A node of the mesh."""

    def __init__(self, rig, ours, number, first):
        self.name = f"m{number}@localhost"
        self.log = rig.folder / f"m{number}.log"
        command = [ours.program, "start", "--json", "--sname", self.name]
        command += ["--data-dir", rig.folder / f"m{number}"]
        command += ["--connect", first] if first else []
        with self.log.open("w") as log:
            self.process = rig.start(
                command, env=ours.environment, cwd=rig.folder, stdout=subprocess.PIPE, stderr=log
            )

    def wait_ready(self):
        line = first_line(self.process, MESH_TIMEOUT_S)
        try:
            return json.loads(line)
        except ValueError:
            raise Failed(f"{self.name} did not get ready: {line}{self.log.read_text()}") from None

    def ups(self):
        """How often it saw another node come up."""
        with self.log.open() as log:
            return sum(1 for line in log if UP.search(line))


def wait_for_all(members, each):
    """Until each of them has seen so many nodes come up."""
    deadline = time.monotonic() + MESH_TIMEOUT_S
    waiting = list(members)
    while waiting:
        waiting = [member for member in waiting if member.ups() < each]
        dead = [m for m in waiting if m.process.poll() is not None]
        if dead:
            raise Failed(f"{dead[0].name} ended: {dead[0].log.read_text()}")
        if time.monotonic() > deadline:
            few = ", ".join(f"{member.name} {member.ups()}" for member in waiting[:5])
            raise Failed(f"no full mesh in {MESH_TIMEOUT_S} s: {few} of {each}")
        if waiting:
            time.sleep(POLL_S)


def form(rig, ours, size):
    """A mesh of so many nodes, all told to connect to the first; how long that took, from the
    first launch, and how much of it from the last node's word that it is ready."""
    begun = time.monotonic()
    members = []
    for number in range(1, size + 1):
        members.append(Member(rig, ours, number, members[0].name if members else None))
        if number == 1 or number % LAUNCHES_AT_ONCE == 0:
            members[-1].wait_ready()
    for number, member in enumerate(members, 1):
        if number != 1 and number % LAUNCHES_AT_ONCE != 0:
            member.wait_ready()
    ready = time.monotonic()
    wait_for_all(members, size - 1)
    done = time.monotonic()
    return members, done - begun, done - ready


def join(rig, ours, members):
    """One more node: how long after its own word it sees all, and all see it."""
    last = Member(rig, ours, len(members) + 1, members[0].name)
    last.wait_ready()
    ready = time.monotonic()
    wait_for_all([last], len(members))
    wait_for_all(members, len(members))
    return last, time.monotonic() - ready


def at_rest(members, seconds):
    """A node's share of what all of them do while nothing is to be done."""
    time.sleep(SETTLE_S)
    pids = [member.process.pid for member in members]
    computed = sum(map(processor_s, pids))
    (bytes_then, packets_then), then = loopback(), time.monotonic()
    time.sleep(seconds)
    (bytes_now, packets_now), lasted = loopback(), time.monotonic() - then
    computed = sum(map(processor_s, pids)) - computed
    count = len(members)
    resident, proportional = zip(*map(memory_kib, pids))
    return {
        "bytes_per_s": (bytes_now - bytes_then) / lasted / count,
        "packets_per_s": (packets_now - packets_then) / lasted / count,
        "cpu_percent": 100 * computed / lasted / count,
        "rss_mib": max(resident) / 1024,
        "pss_mib": sum(proportional) / count / 1024,
        "threads": max(map(threads, pids)),
    }


def measure(given, size, program, module):
    """All figures of a mesh of this size."""
    with Rig() as rig:
        ours = WasmNode(rig, program, module)
        members, from_launch, from_ready = form(rig, ours, size - 1)
        last, joined = join(rig, ours, members)
        values = {
            "nodes": size,
            "formed_s": from_launch,
            "converged_s": from_ready,
            "joined_ms": 1000 * joined,
        }
        values |= at_rest([*members, last], given.rest)
        # The node that measures takes its place.
        rig.end(last.process)
        told = ours.remote("global_register", given.rounds, members[0].name, "--nodes", size - 1)
        lines = [line.value for line in figures.parse(told) if line.name == "global_register"]
        samples = figures.Samples("ns/name", lines)
        values["register_us"] = samples.median / 1000
        values["register_us_all"] = [value / 1000 for value in lines]
        # All at once: in order, each would tell all others.
        for member in members:
            member.process.send_signal(signal.SIGKILL)
        return values


HEADER = ["nodes", "all up, s", "all see all, s", "one more, ms", "bytes/s", "packets/s",
          "RSS, MiB", "PSS, MiB", "threads", "CPU, %", "register, us (min-max)"]


def row(values):
    register = figures.Samples("us", values["register_us_all"])
    columns = ["formed_s", "converged_s", "joined_ms", "bytes_per_s", "packets_per_s", "rss_mib",
               "pss_mib", "threads", "cpu_percent"]
    return [values["nodes"], *(figures.amount(values[name]) for name in columns), register.told()]


def main():
    given = arguments()
    os.nice(given.nice)
    program = the_program(given.program)
    module = the_component(program, "actors/bench", given.module)
    alone = own_network()
    if not alone:
        say("not root: what others send over loopback counts too")
    load = machine.Load()
    results = []
    for size in given.sizes:
        say(f"{size} nodes")
        try:
            results.append(measure(given, size, program, module))
        except Failed as error:
            say(f"{size} nodes: {error}")
    about, busy = machine.describe(), load.done()
    versions = [machine.wasm_node_version(program)]
    words = machine.told(about, busy, versions)
    network = "in a network of their own" if alone else "on a loopback that others use too"
    words += f" Nodes {network}, watched for {given.rest:g} s at rest; a node's share of all."
    table = figures.markdown(HEADER, map(row, results))
    print(table + "\n" + words)
    if given.markdown:
        given.markdown.write_text(table + "\n" + words + "\n")
    if given.json:
        all_of_it = {"machine": about, "load": busy, "versions": versions, "own_network": alone,
                     "rest_s": given.rest, "meshes": results}
        given.json.write_text(json.dumps(all_of_it, indent=1) + "\n")
    return 0 if len(results) == len(given.sizes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
