#!/usr/bin/env python3
"""The to-do system under wrk, beside what the Elixir original does with the same load.

    tests/bench/todo.py --install --markdown todo.md     # some six minutes; needs Debian's wrk
    tests/bench/todo.py --quick --only one-mix --profile --program target/profiling/wasm-node

Nodes come from `wasm-node up`, as anybody starts them; a write is answered when it is durable.
Each row begins with empty stores, but for the warm one. wrk runs beside the nodes, with 28
connections each. `--profile` tells where the processors' time goes, by perf.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from common import figures, machine, profile, wrk
from common.machine import REPOSITORY
from common.rig import Failed, Rig, free_port, need, say, the_program

SCRIPT = REPOSITORY / "tests/bench/todo.lua"
MANIFEST = REPOSITORY / "actors/todo.toml"
CONNECTIONS = 28
SETTLE_S = 1
"""Between the nodes' being ready and the load."""
TIMES_THE_RATE, TIMES_THE_P99 = 2, 0.5
"""The goal: at least so much of the original's requests per second, at most so much of its p99."""


@dataclass(frozen=True)
class Row:
    """A load, and what the original makes of it on two cores shared with wrk (OTP 25, Cowboy, no
    fsync): the middle of what was seen."""

    words: str
    nodes: int
    loaded: int
    mix: str
    rate: float
    p50_ms: float
    p99_ms: float
    warm: bool = False


ROWS = {
    "one-mix": Row("one node alone, mix", 1, 1, "mix", 9_400, 2.3, 17),
    "one-reads": Row("one node alone, reads", 1, 1, "reads", 20_600, 1.2, 7.6),
    "one-writes": Row("one node alone, writes", 1, 1, "writes", 3_110, 8.5, 20),
    "three-mix": Row("one node of three, mix", 3, 1, "mix", 3_560, 5.5, 84),
    "three-reads": Row("one node of three, reads", 3, 1, "reads", 15_600, 1.5, 33),
    "three-writes": Row("one node of three, writes", 3, 1, "writes", 850, 31, 108),
    "all-cold": Row("all three at once, mix, cold", 3, 3, "mix", 2_470, 11.5, 193),
    "all-warm": Row("all three at once, mix, warm", 3, 3, "mix", 3_110, 19, 141, warm=True),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each row is measured")
    parser.add_argument("--seconds", type=int, default=10, help="how long each load lasts")
    parser.add_argument("--quick", action="store_true", help="one round of three seconds")
    parser.add_argument("--only", default="", help=f"of {', '.join(ROWS)}, with commas between")
    parser.add_argument("--profile", action="store_true", help="where a request's time goes")
    parser.add_argument("--program", help="the wasm-node to measure [default: a release build]")
    parser.add_argument("--install", action="store_true", help="install wrk (and perf) if need be")
    parser.add_argument("--json", type=Path, help="write all values to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds = 1, 3
    given.rows = given.only.split(",") if given.only else list(ROWS)
    unknown = set(given.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return given


class Cluster:
    """`wasm-node up`, with empty stores, in a folder of its own."""

    def __init__(self, rig, program, nodes):
        self.rig = rig
        self.data = rig.folder / f"cluster-{time.monotonic_ns()}"
        self.data.mkdir(mode=0o700)
        compiled = rig.folder / "compiled"
        if compiled.exists():
            # Compiled by the first cluster, so that no other one has to.
            shutil.copytree(compiled, self.data / "compiled", symlinks=True)
        command = [program, "--log", "error", "up", MANIFEST, "--json", "--nodes", nodes]
        environment = rig.environment(free_port())
        self.up, ready = rig.start_ready([*command, "--data-dir", self.data], environment)
        self.nodes = ready["nodes"]
        if not compiled.exists():
            shutil.copytree(self.data / "compiled", compiled, symlinks=True)
        time.sleep(SETTLE_S)

    def load(self, row, seconds, seed):
        """wrk against the first so many nodes, all at once."""
        running = []
        for at, node in enumerate(self.nodes[: row.loaded]):
            # By default wrk calls what takes two seconds an error; what is promised is five.
            command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "--timeout",
                       "6s", "-s", SCRIPT, node["http"], "--", row.mix, seed * 10 + at]
            running.append(self.rig.start(command, stdout=subprocess.PIPE))
        printed = [process.communicate()[0] for process in running]
        for process in running:
            self.rig.end(process)
        try:
            return wrk.together([wrk.parse(text) for text in printed])
        except (TypeError, AttributeError):
            raise Failed(f"wrk printed {printed}") from None

    def memory_mib(self):
        """Resident, of each node."""
        return [resident_mib(node["os_pid"]) for node in self.nodes]

    def end(self):
        self.rig.end(self.up)
        shutil.rmtree(self.data, ignore_errors=True)


def resident_mib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(re.search(r"^VmRSS:\s+(\d+)", status, re.M)[1]) / 1024)


def measure(rig, program, row, seconds, seed, profiled=False):
    """One run of a row, its nodes' memory, and if asked where the time went."""
    cluster = Cluster(rig, program, row.nodes)
    try:
        if row.warm:
            cluster.load(row, seconds, seed + 500)
        pids = [node["os_pid"] for node in cluster.nodes]
        recording = profile.Recording(rig, pids) if profiled else None
        run = cluster.load(row, seconds, seed)
        seen = recording.profile() if recording else None
        return run, cluster.memory_mib(), seen
    finally:
        cluster.end()


def table(results):
    header = ["load", "requests/s", "p50 ms", "p99 ms", "errors", "MiB a node",
              "original: requests/s", "p50", "p99", "rate, goal >= 2", "p99, goal <= 0.5", "met"]
    lines = []
    for key, (run, memory) in results.items():
        row = ROWS[key]
        rate, tail = run["requests_per_s"] / row.rate, run["p99_ms"] / row.p99_ms
        met = rate >= TIMES_THE_RATE and tail <= TIMES_THE_P99 and not run["errors"]
        lines.append([
            row.words, *(figures.amount(run[k]) for k in ("requests_per_s", "p50_ms", "p99_ms")),
            run["errors"], ", ".join(map(str, memory)), figures.amount(row.rate),
            f"{row.p50_ms:g}", f"{row.p99_ms:g}", f"{rate:.2f}", f"{tail:.2f}",
            "yes" if met else "no",
        ])
    return figures.markdown(header, lines)


def profile_table(seen, requests):
    """Where a request's processor time goes, in all nodes together."""
    total = sum(seen.parts.values())
    lines = [
        [name, f"{us:.1f}", f"{100 * seen.parts[name] / total:.1f} %", seen.mostly(name)]
        for name, us in profile.microseconds(seen.parts, requests)
    ]
    lines.append(["all", f"{total * 1e6 / profile.SAMPLES_PER_S / requests:.1f}", "100 %", ""])
    threads = ", ".join(
        f"{name} {us:.1f}" for name, us in profile.microseconds(seen.threads, requests) if us >= 0.05
    )
    header = ["part", "us of processor time a request", "share", "innermost functions, mostly"]
    return figures.markdown(header, lines) + f"\nBy thread, in us a request: {threads}.\n"


def main():
    given = arguments()
    tools = {"wrk": "wrk"} | ({"perf": "linux-perf"} if given.profile else {})
    need(list(tools), list(tools.values()), given.install)
    program = the_program(given.program)
    load = machine.Load()
    runs, results, profiles = {}, {}, {}
    with Rig() as rig:
        for number in range(given.rounds):
            for key in given.rows:
                say(f"round {number + 1} of {given.rounds}: {ROWS[key].words}")
                run, memory, _ = measure(rig, program, ROWS[key], given.seconds, number + 1)
                runs.setdefault(key, []).append(run)
                results[key] = wrk.median(runs[key]), memory
        for key in given.rows if given.profile else []:
            say(f"profile: {ROWS[key].words}")
            run, _, seen = measure(rig, program, ROWS[key], given.seconds, 1, profiled=True)
            profiles[key] = run, seen
    about, busy = machine.describe(), load.done()
    versions = [machine.wasm_node_version(program), machine.said(["wrk", "-v"]).split(" [")[0]]
    told = (
        f"Medians of {given.rounds} runs of {given.seconds} s; `wrk -t1 -c{CONNECTIONS}` for each "
        "node under load, on the same machine. The original's figures are from another run.\n\n"
        + table(results) + "\n" + machine.told(about, busy, versions)
    )
    for key, (run, seen) in profiles.items():
        told += f"\nWhere a request's time goes, {ROWS[key].words}"
        told += f" ({run['requests_per_s']:,.0f} requests/s while perf watched):\n\n"
        told += profile_table(seen, run["requests"])
    print(told)
    if given.markdown:
        given.markdown.write_text(told)
    if given.json:
        whole = {
            "machine": about, "load": busy, "versions": versions, "runs": runs,
            "memory_mib": {key: memory for key, (_, memory) in results.items()},
            "profiles": {
                key: {"requests": run["requests"], "samples_per_s": profile.SAMPLES_PER_S,
                      "parts": seen.parts, "threads": seen.threads}
                for key, (run, seen) in profiles.items()
            },
        }
        given.json.write_text(json.dumps(whole, indent=1) + "\n")
    if any(run["errors"] for run, _ in results.values()):
        sys.exit("wrk saw errors")


if __name__ == "__main__":
    main()
