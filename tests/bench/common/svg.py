"""Charts as SVG text: lines over linear or logarithmic axes, and bars. Knows no figure's meaning."""

import math
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 840, 440
LEFT, RIGHT, TOP, BOTTOM = 74, 244, 52, 84
"""Margins: the y axis' numbers; the legend; the title; the x axis' words and the note."""
SHADES = 3
DASHES = ["", "7 4", "2 3"]
"""Of a family's shades, so that they differ without colour too."""
BAR_HEIGHT = 26

PALETTES = {
    "light": {
        "ground": "#ffffff", "ink": "#1f2328", "dim": "#59636e", "rule": "#d1d9e0",
        "a0": "#0550ae", "a1": "#218bff", "a2": "#8250df",
        "b0": "#953800", "b1": "#d4730f", "b2": "#a8820a",
    },
    "dark": {
        "ground": "#0d1117", "ink": "#f0f6fc", "dim": "#9198a1", "rule": "#3d444d",
        "a0": "#79c0ff", "a1": "#388bfd", "a2": "#d2a8ff",
        "b0": "#ffa657", "b1": "#e3730c", "b2": "#e3b341",
    },
}
"""`a` and `b` are the families, each with its shades."""


def rules(palette):
    """The colours as CSS without variables, which some renderers do not know."""
    colours = dict(palette)
    plain = {name: colours.pop(name) for name in ("ground", "ink", "dim", "rule")}
    lines = [f".{name} {{ fill: {plain[name]} }}" for name in ("ground", "ink", "dim")]
    lines.append(f".rule {{ stroke: {plain['rule']} }} .axis {{ stroke: {plain['dim']} }}")
    for name, colour in colours.items():
        lines.append(f".l{name} {{ stroke: {colour} }} .d{name} {{ fill: {colour} }}")
    return "\n".join(lines)


STYLE = f"""
text {{ font: 13px system-ui, -apple-system, "Segoe UI", sans-serif }}
.title {{ font-size: 16px; font-weight: 600 }} .note {{ font-size: 11px }}
.line {{ fill: none; stroke-width: 2.2 }} .rule, .axis {{ stroke-width: 1 }}
{rules(PALETTES["light"])}
@media (prefers-color-scheme: dark) {{
{rules(PALETTES["dark"])}
}}
"""


@dataclass
class Series:
    name: str
    points: list
    family: str
    """Series of a family share a colour's shades and a marker."""
    shade: int = 0


@dataclass
class Axis:
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values, start, end, log):
        low, high = min(values), max(values)
        if log:
            low, high = 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high))
            high = high if high > low else low * 10
        else:
            step = nice_step(high)
            low, high = 0, math.ceil(high / step) * step
        return cls(low, high, start, end, log)

    def at(self, value):
        part = (value - self.low) / (self.high - self.low)
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.start + part * (self.end - self.start), 1)

    def ticks(self):
        if self.log:
            decades = round(math.log10(self.high / self.low))
            return [self.low * 10**n for n in range(decades + 1)]
        step = nice_step(self.high)
        return [n * step for n in range(round(self.high / step) + 1)]


def nice_step(high, parts=5):
    """1, 2 or 5 times a power of ten, so that some five of them reach `high`."""
    raw = high / parts
    power = 10 ** math.floor(math.log10(raw))
    return next(nice * power for nice in (1, 2, 5, 10) if nice * power >= raw)


def number(value):
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.3g}"


def text(x, y, words, anchor="start", kind="ink", more=""):
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{kind}"{more}>{escape(words)}</text>'


def document(width, height, title, body):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n"
        f'<rect class="ground" width="{width}" height="{height}" rx="6"/>\n'
        + "\n".join([text(LEFT, 28, title, kind="ink title"), *body])
        + "\n</svg>\n"
    )


@dataclass
class Chart:
    """Lines over two axes, with a legend."""

    title: str
    x: str
    y: str
    note: str = ""
    log_x: bool = False
    log_y: bool = False
    series: list = field(default_factory=list)

    def add(self, series):
        if series.points:
            self.series.append(series)

    def svg(self):
        points = [point for series in self.series for point in series.points]
        xs, ys = sorted({x for x, _ in points}), [y for _, y in points]
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        y_axis = Axis.over(ys, bottom, TOP, self.log_y)
        x_axis = Axis.over(xs, LEFT, right, self.log_x)
        if not self.log_x:
            # Counts begin at the first one, a little away from the axis.
            margin = max((xs[-1] - xs[0]) * 0.08, 0.1)
            x_axis = Axis(xs[0] - margin, xs[-1] + margin, LEFT, right)
        body = []
        for tick in y_axis.ticks():
            y = y_axis.at(tick)
            body.append(f'<path class="rule" d="M{LEFT} {y}H{right}"/>')
            body.append(text(LEFT - 8, y + 4, number(tick), "end", "dim"))
        for tick in x_axis.ticks() if self.log_x else xs:
            x = x_axis.at(tick)
            body.append(f'<path class="axis" d="M{x} {bottom}v5"/>')
            body.append(text(x, bottom + 20, number(tick), "middle", "dim"))
        body.append(f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>')
        body.append(text((LEFT + right) / 2, bottom + 42, self.x, "middle"))
        turned = f' transform="rotate(-90 20 {(TOP + bottom) / 2})"'
        body.append(text(20, (TOP + bottom) / 2, self.y, "middle", more=turned))
        body.append(text(LEFT, HEIGHT - 14, self.note, kind="dim note"))
        families = list(dict.fromkeys(series.family for series in self.series))
        for at, series in enumerate(self.series):
            body += self.drawn(series, families.index(series.family), x_axis, y_axis)
            body += self.legend(series, families.index(series.family), at, right)
        return document(WIDTH, HEIGHT, self.title, body)

    def drawn(self, series, family, x_axis, y_axis):
        places = [(x_axis.at(x), y_axis.at(y)) for x, y in sorted(series.points)]
        path = "M" + "L".join(f"{x} {y}" for x, y in places)
        return [line(series, family, path), *(dot(series, family, x, y) for x, y in places)]

    def legend(self, series, family, at, right):
        y = TOP + 14 + at * 22
        return [
            line(series, family, f"M{right + 16} {y}h28"),
            dot(series, family, right + 30, y),
            text(right + 52, y + 4, series.name),
        ]


def kind(series, family):
    return f"{'ab'[family % 2]}{series.shade % SHADES}"


def line(series, family, path):
    dash = DASHES[series.shade % SHADES]
    dash = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path class="line l{kind(series, family)}" d="{path}"{dash}/>'


def dot(series, family, x, y):
    if family % 2:
        return f'<rect class="d{kind(series, family)}" x="{x - 3.5}" y="{y - 3.5}" width="7" height="7"/>'
    return f'<circle class="d{kind(series, family)}" cx="{x}" cy="{y}" r="4"/>'


@dataclass
class Bars:
    """Values above or below 1, on a logarithmic axis, each with words."""

    title: str
    x: str
    note: str = ""
    bars: list = field(default_factory=list)

    def add(self, name, value, words):
        self.bars.append((name, value, words))

    def svg(self):
        left, right = 190, WIDTH - RIGHT
        bottom = TOP + len(self.bars) * BAR_HEIGHT
        values = [value for _, value, _ in self.bars]
        axis = Axis.over([*values, 0.9, 1.1], left, right, True)
        body = []
        for tick in axis.ticks():
            x = axis.at(tick)
            body.append(f'<path class="{"axis" if tick == 1 else "rule"}" d="M{x} {TOP}V{bottom + 5}"/>')
            body.append(text(x, bottom + 20, number(tick), "middle", "dim"))
        one = axis.at(1)
        for at, (name, value, words) in enumerate(self.bars):
            y, end = TOP + at * BAR_HEIGHT, axis.at(value)
            shade = "a0" if value >= 1 else "b0"
            width = max(abs(end - one), 1)
            body.append(
                f'<rect class="d{shade}" x="{min(one, end)}" y="{y + 5}" '
                f'width="{width:.1f}" height="{BAR_HEIGHT - 10}"/>'
            )
            body.append(text(left - 10, y + 17, name, "end"))
            body.append(text(right + 12, y + 17, f"{value:.2f}  ({words})", kind="dim note"))
        body.append(text((left + right) / 2, bottom + 42, self.x, "middle"))
        body.append(text(left, bottom + 66, self.note, kind="dim note"))
        return document(WIDTH, bottom + 80, self.title, body)
