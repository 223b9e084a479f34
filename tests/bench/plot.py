#!/usr/bin/env python3
"""Draws what scale.py and compare.py wrote, as SVG files in docs/.

    tests/bench/plot.py [--scale FILE] [--compare FILE] [--out docs]

The files bring their own background, and a second set of colours for readers who prefer dark.
"""

import argparse
import json
import re
import statistics
from pathlib import Path

from common.figures import amount
from common.machine import REPOSITORY
from common.svg import Bars, Chart, Series

RESULTS = REPOSITORY / "tests/bench/results"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--scale", type=Path, default=RESULTS / "scale.json")
    parser.add_argument("--compare", type=Path, default=RESULTS / "compare.json")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs")
    return parser.parse_args()


def medians(side, pattern):
    """The medians of a side's lines that match, by the numbers in their names."""
    found = {}
    for name, samples in side.items():
        match = re.fullmatch(pattern, name)
        if match and samples["values"]:
            numbers = tuple(int(number) for number in match.groups())
            found[numbers] = statistics.median(samples["values"])
    return dict(sorted(found.items()))


def short(number):
    return f"{number:,}"


def plural(number, what):
    return f"{number} {what}" + ("" if number == 1 else "s")


def by_workers(result):
    chart = Chart(
        "Messages per second by worker threads",
        x="worker threads (BEAM: schedulers)",
        y="million messages a second",
        note=place(result),
    )
    for side, name in (("wasm_node", "wasm-node"), ("beam", "BEAM")):
        points = medians(result[side], r"scale_workers_(\d+)_actors_(\d+)")
        for shade, actors in enumerate(sorted({actors for _, actors in points})[::2]):
            line = [(w, rate / 1e6) for (w, a), rate in points.items() if a == actors]
            chart.add(Series(f"{name}, {short(actors)} actors", line, name, shade))
    return chart


def by_actors(result):
    chart = Chart(
        "Messages per second by live actors, all of them at work",
        x="live actors",
        y="million messages a second",
        log_x=True,
        note=place(result),
    )
    for side, name in (("wasm_node", "wasm-node"), ("beam", "BEAM")):
        points = medians(result[side], r"scale_workers_(\d+)_actors_(\d+)")
        workers = sorted({workers for workers, _ in points})
        for shade, count in enumerate(reversed(workers[:1] + workers[-1:] if len(workers) > 1 else workers)):
            line = [(a, rate / 1e6) for (w, a), rate in points.items() if w == count]
            chart.add(Series(f"{name}, {plural(count, 'thread')}", line, name, shade))
    return chart


def idle(result):
    chart = Chart(
        "Memory of an idle actor",
        x="idle actors",
        y="KiB an actor",
        log_x=True,
        log_y=True,
        note=place(result),
    )
    lines = (
        ("wasm_node", "wasm-node", "memory", "just made"),
        ("wasm_node", "wasm-node", "memory_rested", "after 5 s"),
        ("wasm_node", "wasm-node", "memory_called", "each called once"),
        ("beam", "BEAM", "memory_rested", "after 5 s"),
    )
    for shade, (side, name, what, words) in enumerate(lines):
        points = medians(result[side], rf"idle_(\d+)_{what}")
        line = [(actors, kib) for (actors,), kib in points.items() if kib > 0]
        chart.add(Series(f"{name}, {words}", line, name, shade if name != "BEAM" else 0))
    return chart


def ratios(result):
    """How each line of the comparison stands to the BEAM; 2 means twice as fast here."""
    bars = Bars(
        "Speed beside the BEAM's",
        x="times the BEAM's speed (idle_actor: its memory by ours); 1 is alike",
        note=place(result),
    )
    for row in result["figures"]:
        if row["ratio"]:
            higher_is_better = row["unit"].endswith("/s")
            speed = row["ratio"] if higher_is_better else 1 / row["ratio"]
            ours = amount(statistics.median(row["wasm_node"]))
            theirs = amount(statistics.median(row["beam"]))
            bars.add(row["figure"], speed, f"{ours} : {theirs} {row['unit']}")
    return bars


def place(result):
    machine = result["machine"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; "
        f"medians of {plural(result['rounds'], 'round')}, {result['load']['date'][:10]}"
    )


def main():
    given = arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    drawn = []
    if given.scale.exists():
        result = json.loads(given.scale.read_text())
        drawn += [("scale-workers", by_workers(result)), ("scale-actors", by_actors(result)),
                  ("idle-memory", idle(result))]
    if given.compare.exists():
        drawn.append(("compare", ratios(json.loads(given.compare.read_text()))))
    if not drawn:
        raise SystemExit(f"there is neither {given.scale} nor {given.compare}: run scale.py --json")
    for name, chart in drawn:
        file = given.out / f"{name}.svg"
        file.write_text(chart.svg())
        print(file)


if __name__ == "__main__":
    main()
