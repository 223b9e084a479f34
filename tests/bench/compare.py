#!/usr/bin/env python3
"""wasm-node side by side with the BEAM: the same work, on the same machine, in the same minutes.

    tests/bench/compare.py --install            # a few minutes; needs Debian's erlang-base
    tests/bench/compare.py --quick --only local_call,ring --program target/profiling/wasm-node

Each figure is measured by one side, then by the other, then the next figure; so five times over,
the sides taking turns at being first. Nodes, port mappers and folders are of its own, and gone
when it ends. Prints a table; `--markdown` and `--json` write it to files as well.
"""

import argparse
import json
import sys
from pathlib import Path

from common import figures, machine
from common.beam import Beam
from common.figures import Goal
from common.ours import WasmNode
from common.rig import Failed, Rig, need, say, the_component, the_program

GOALS = {
    "local_send": Goal(1.0),
    "local_call": Goal(1.0),
    "ring": Goal(1.5),
    "spawn": Goal(4),
    "compute": Goal(0.8),
    "idle_actor": Goal(12, unit="KiB"),
    "idle_spawn": None,
    "remote_call": Goal(0.5),
    "remote_send": Goal(0.25),
    "remote_spawn": Goal(0.5),
    "remote_throughput": Goal(1000, at_least=True, unit="MB/s"),
    "remote_throughput_clear": Goal(0.7, at_least=True),
    "global_register": Goal(0.3),
    "global_whereis": Goal(1.0),
}
"""Issue 3's, for each line of output. The BEAM's links are not encrypted, ours are, but for
those of `remote_throughput_clear`."""

LOCAL = ["local_send", "local_call", "ring", "spawn", "compute", "idle_actor"]
REMOTE = ["remote_call", "remote_send", "remote_spawn", "remote_throughput",
          "remote_throughput_clear", "global_register", "global_whereis"]
PEER, PEER_IN_CLEAR = "wasm_b@localhost", "wasm_c@localhost"
CLEAR = "_clear"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each side measures")
    parser.add_argument("--repeat", type=int, default=3, help="a round is the median of so many")
    parser.add_argument("--quick", action="store_true", help="two rounds, one repetition")
    parser.add_argument("--only", default="", help="figures, with commas between")
    parser.add_argument("--program", help="the wasm-node to measure [default: a release build]")
    parser.add_argument("--module", help="the component of actors/bench [default: built]")
    parser.add_argument("--install", action="store_true", help="install erlang-base if need be")
    parser.add_argument("--json", type=Path, help="write all values to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.repeat = 2, 1
    given.figures = given.only.split(",") if given.only else LOCAL + REMOTE
    unknown = set(given.figures) - set(LOCAL + REMOTE)
    if unknown:
        parser.error(f"no such figure: {', '.join(unknown)}; there are {', '.join(LOCAL + REMOTE)}")
    return given


def work(beam, ours, figure, repeat):
    """The two measurements of a figure."""
    if figure in LOCAL:
        return lambda: beam.local(figure, repeat), lambda: ours.local(figure, repeat)
    name = figure.removesuffix(CLEAR)
    peer = [PEER_IN_CLEAR, "--plaintext"] if figure.endswith(CLEAR) else [PEER]
    return lambda: beam.remote(name, repeat), lambda: ours.remote(name, repeat, *peer)


def measure(given, beam, ours):
    """Samples of both sides by figure, and what failed."""
    theirs, mine, failed = {}, {}, []
    for number in range(given.rounds):
        say(f"round {number + 1} of {given.rounds}")
        for figure in given.figures:
            turns = list(zip(work(beam, ours, figure, given.repeat), (theirs, mine)))
            suffix = CLEAR if figure.endswith(CLEAR) else ""
            for run, samples in turns if number % 2 == 0 else reversed(turns):
                try:
                    lines = figures.parse(run())
                except Failed as error:
                    say(f"{figure}: {error}")
                    failed.append(figure)
                    continue
                renamed = [figures.Line(l.name + suffix, l.value, l.unit) for l in lines]
                figures.add_round(samples, renamed)
    return theirs, mine, failed


def compared(theirs, mine):
    """A row a figure, in the order of the goals."""
    for name, goal in GOALS.items():
        beam, ours = theirs.get(name), mine.get(name)
        if not (beam or ours):
            continue
        ratio = figures.ratio(ours, beam)
        yield {
            "figure": name,
            "unit": (ours or beam).unit,
            "beam": beam,
            "wasm_node": ours,
            "ratio": ratio,
            "goal": goal.told() if goal else None,
            "met": goal.met(ratio, ours.median) if goal and ours else None,
        }


def table(rows):
    header = ["figure", "unit", "BEAM, median (min-max)", "wasm-node, median (min-max)",
              "ratio", "goal", "met"]
    cells = lambda row: [
        row["figure"],
        row["unit"],
        row["beam"].told() if row["beam"] else "-",
        row["wasm_node"].told() if row["wasm_node"] else "-",
        f"{row['ratio']:.2f}" if row["ratio"] is not None else "-",
        row["goal"] or "-",
        {True: "yes", False: "no", None: "-"}[row["met"]],
    ]
    return figures.markdown(header, map(cells, rows))


def main():
    given = arguments()
    need(["erl", "erlc", "epmd"], ["erlang-base"], given.install)
    program = the_program(given.program)
    module = the_component(program, "actors/bench", given.module)
    load = machine.Load()
    with Rig() as rig:
        beam, ours = Beam(rig), WasmNode(rig, program, module)
        if set(given.figures) & set(REMOTE):
            beam.start_peer()
            ours.start_peer(PEER)
            if any(figure.endswith(CLEAR) for figure in given.figures):
                ours.start_peer(PEER_IN_CLEAR, "--plaintext")
        theirs, mine, failed = measure(given, beam, ours)
    about, busy = machine.describe(), load.done()
    versions = [machine.wasm_node_version(program), machine.beam_version()]
    rows = list(compared(theirs, mine))
    told = (
        f"{given.rounds} rounds, interleaved figure by figure; a round is the median of "
        f"{given.repeat}.\n\n" + table(rows) + "\n" + machine.told(about, busy, versions)
    )
    print(told)
    if given.markdown:
        given.markdown.write_text(told)
    if given.json:
        plain = [
            row | {side: row[side].values if row[side] else [] for side in ("beam", "wasm_node")}
            for row in rows
        ]
        whole = {"machine": about, "load": busy, "versions": versions, "rounds": given.rounds,
                 "repeat": given.repeat, "figures": plain}
        given.json.write_text(json.dumps(whole, indent=1) + "\n")
    if failed:
        sys.exit(f"not measured in every round: {', '.join(sorted(set(failed)))}")


if __name__ == "__main__":
    main()
