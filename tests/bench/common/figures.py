"""Lines NAME VALUE UNIT, what several runs of them amount to, goals, and tables.

Pure: knows no process and no file.
"""

import re
import statistics
from dataclasses import dataclass, field

LINE = re.compile(r"([a-z][a-z0-9_]*) (-?[0-9]+(?:\.[0-9]+)?) (\S+)")


@dataclass(frozen=True)
class Line:
    name: str
    value: float
    unit: str


def parse(text):
    """The figures among the lines of a text; others (what an actor printed) are passed over."""
    found = (LINE.fullmatch(line.strip()) for line in text.splitlines())
    return [Line(m[1], float(m[2]), m[3]) for m in found if m]


@dataclass
class Samples:
    """One figure of one side: a value a round."""

    unit: str = ""
    values: list = field(default_factory=list)

    @property
    def median(self):
        return statistics.median(self.values)

    def told(self):
        """As in `620 (601-655)`; of one value, that."""
        if len(self.values) < 2:
            return amount(self.median) if self.values else "-"
        low, high = amount(min(self.values)), amount(max(self.values))
        return f"{amount(self.median)} ({low}-{high})"


def add_round(samples, lines):
    """One round: each figure's median over its repetitions becomes that round's value."""
    by_name = {}
    for line in lines:
        by_name.setdefault((line.name, line.unit), []).append(line.value)
    for (name, unit), values in by_name.items():
        of_it = samples.setdefault(name, Samples(unit))
        if of_it.unit != unit:
            raise ValueError(f"{name} is in {unit} now, and was in {of_it.unit}")
        of_it.values.append(statistics.median(values))


def natural(name):
    """A key that sorts names by the numbers in them."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def amount(value):
    """A number for people: three digits that count, thousands with commas."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


@dataclass(frozen=True)
class Goal:
    """A bound on the ratio to the BEAM's median, or on the median itself."""

    bound: float
    at_least: bool = False
    unit: str = ""
    """The unit of a bound on the median; none for a ratio."""

    def told(self):
        sign = ">=" if self.at_least else "<="
        if not self.unit:
            return f"{sign} {self.bound:g}"
        return f"{sign} {self.bound:,g} {self.unit}"

    def met(self, ratio, median):
        """None if it cannot be told."""
        value = median if self.unit else ratio
        if value is None:
            return None
        return value >= self.bound if self.at_least else value <= self.bound


def ratio(ours, theirs):
    """Ours to theirs, of two medians; None if one is missing or nothing."""
    if ours is None or theirs is None or not ours.values or not theirs.values:
        return None
    return ours.median / theirs.median if theirs.median else None


def markdown(header, rows):
    """A table with its columns aligned, so that it reads well as text too."""
    texts = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[at]) for row in texts) for at in range(len(header))]
    line = lambda row: "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |"
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([line(texts[0]), rule, *map(line, texts[1:])]) + "\n"
