#!/usr/bin/env python3
"""How far both sides scale: messages per second by worker threads and by live actors, and what
idle actors take.

    tests/bench/scale.py --json tests/bench/results/scale.json && tests/bench/plot.py
    tests/bench/scale.py --quick --program target/profiling/wasm-node

The BEAM's schedulers are its worker threads. Point by point the sides take turns, as in
`compare.py`. What the node says about too many actors is kept with the figures.
"""

import argparse
import json
import os
from pathlib import Path

from common import figures, machine
from common.beam import Beam
from common.ours import WasmNode
from common.rig import Failed, Rig, need, say, the_component, the_program


def arguments():
    cores = len(os.sched_getaffinity(0))
    numbers = lambda text: [int(word) for word in text.split(",") if word]
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each side measures")
    parser.add_argument("--repeat", type=int, default=3, help="a round is the median of so many")
    parser.add_argument("--quick", action="store_true", help="one round, one repetition")
    parser.add_argument("--workers", type=numbers, default=worker_counts(cores))
    parser.add_argument("--actors", type=numbers, default=[10, 100, 1000, 10_000, 100_000])
    parser.add_argument("--messages", type=int, default=1_000_000, help="in all, for each point")
    parser.add_argument("--idle", type=numbers, default=[1000, 10_000, 30_000, 100_000])
    parser.add_argument("--program", help="the wasm-node to measure [default: a release build]")
    parser.add_argument("--module", help="the component of actors/bench [default: built]")
    parser.add_argument("--install", action="store_true", help="install erlang-base if need be")
    parser.add_argument("--json", type=Path, help="write all values to this file")
    given = parser.parse_args()
    if given.quick:
        given.rounds = given.repeat = 1
    return given


def worker_counts(cores):
    """All up to four, then doublings, and all of them."""
    doublings = [2**n for n in range(3, cores.bit_length()) if 2**n < cores]
    return sorted({*range(1, min(cores, 4) + 1), *doublings, cores})


def measure(given, beam, ours):
    """Samples of both sides by line."""
    theirs, mine = {}, {}
    points = [("scale", (w, a, given.messages, given.repeat))
              for w in given.workers for a in given.actors]
    points += [("idle", (n,)) for n in given.idle]
    for number in range(given.rounds):
        say(f"round {number + 1} of {given.rounds}, {len(points)} points")
        for kind, point in points:
            turns = [(beam, theirs), (ours, mine)]
            for side, samples in turns if number % 2 == 0 else reversed(turns):
                try:
                    figures.add_round(samples, figures.parse(getattr(side, kind)(*point)))
                except Failed as error:
                    say(f"{kind} {point}: {error}")
    return theirs, mine


def table(theirs, mine):
    rows = []
    for name in sorted({*mine, *theirs}, key=figures.natural):
        beam, ours = theirs.get(name), mine.get(name)
        ratio = figures.ratio(ours, beam)
        told = [side.told() if side else "-" for side in (beam, ours)]
        rows.append([name, (ours or beam).unit, *told, f"{ratio:.2f}" if ratio is not None else "-"])
    header = ["figure", "unit", "BEAM, median (min-max)", "wasm-node, median (min-max)", "ratio"]
    return figures.markdown(header, rows)


def main():
    given = arguments()
    need(["erl", "erlc"], ["erlang-base"], given.install)
    program = the_program(given.program)
    module = the_component(program, "actors/bench", given.module)
    load = machine.Load()
    with Rig() as rig:
        ours = WasmNode(rig, program, module)
        theirs, mine = measure(given, Beam(rig), ours)
    about, busy = machine.describe(), load.done()
    versions = [machine.wasm_node_version(program), machine.beam_version()]
    words = list(dict.fromkeys(ours.words))
    print(table(theirs, mine))
    if words:
        print("What the node said:\n\n" + "\n".join("    " + line for line in words) + "\n")
    print(machine.told(about, busy, versions))
    if given.json:
        plain = lambda samples: {k: {"unit": s.unit, "values": s.values} for k, s in samples.items()}
        whole = {"machine": about, "load": busy, "versions": versions, "rounds": given.rounds,
                 "beam": plain(theirs), "wasm_node": plain(mine), "said": words}
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
