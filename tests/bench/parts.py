#!/usr/bin/env python3
"""Where the nanoseconds of a local figure go: the lanes' processor time, by perf.

    tests/bench/parts.py --install --markdown tests/bench/results/parts.md
    tests/bench/parts.py --only ring --program target/profiling/wasm-node

Runs `wasm-node bench local` under perf, once a figure, and shares the median of its rounds among
the parts as the samples of the lanes' threads fall. A message of `local_send` keeps two lanes busy,
one for each end: there the parts are of what the sender sees.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from common import figures, machine, profile
from common.rig import Failed, Rig, free_port, need, say, the_component, the_program

FIGURES = ["local_send", "local_call", "ring", "spawn"]
ROUNDS = 5


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=FIGURES, metavar="FIGURE")
    parser.add_argument("--program", type=Path, help="a wasm-node with symbols (default: a release build)")
    parser.add_argument("--module", type=Path, help="the benchmark actor's component (default: built)")
    parser.add_argument("--markdown", type=Path, help="where the tables go, too")
    parser.add_argument("--install", action="store_true", help="install perf if need be")
    return parser.parse_args()


def measure(rig, program, module, figure):
    """The median in ns, and what perf saw of the lanes."""
    recorded = rig.folder / f"{figure}.perf"
    bench = [program, "bench", "local", "--only", figure, "--rounds", ROUNDS, "--module", module]
    record = ["perf", "record", "-q", "-F", profile.SAMPLES_PER_S, "-e", "cpu-clock", "-o", recorded,
              "--call-graph", f"dwarf,{profile.STACK_BYTES}", "--"]
    out, _ = rig.run([*record, *bench], rig.environment(free_port()))
    median = statistics.median(line.value for line in figures.parse(out))
    command = ["perf", "script", "--no-inline", "-i", recorded, "-F", "comm,tid,ip,sym,dso"]
    script = rig.start(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    seen = profile.Profile()
    for thread, chain in profile.samples(script.stdout):
        if thread.startswith("lane-"):
            seen.add(thread, chain)
    rig.end(script)
    recorded.unlink()
    return median, seen


def table(median, seen):
    total = sum(seen.parts.values())
    lines = [
        [name, f"{median * count / total:.0f}", f"{100 * count / total:.1f} %", seen.mostly(name)]
        for name, count in seen.parts.most_common()
    ]
    lines.append(["all", f"{median:.0f}", f"{total} samples", ""])
    return figures.markdown(["part", "ns", "share", "innermost functions, mostly"], lines)


def main():
    given = arguments()
    need({"perf": "linux-perf"}, ["linux-perf"], given.install)
    told = ""
    with Rig() as rig:
        program = the_program(given.program)
        module = the_component(program, "actors/bench", given.module)
        load = machine.Load()
        for figure in given.only:
            say(figure)
            told += f"\n{figure}:\n\n" + table(*measure(rig, program, module, figure))
        told += "\n" + machine.told(
            machine.describe(), load.done(), [machine.wasm_node_version(program)]
        )
    print(told)
    if given.markdown:
        given.markdown.write_text(told.lstrip() + "\n")


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"error: {failed}")
