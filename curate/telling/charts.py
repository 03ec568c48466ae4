"""Four small charts: histogram, lines, intervals, bars. Inline SVG and HTML, no script, nothing fetched.

The marks are an SVG that stretches to its box; ticks and labels are HTML placed by percent, so that they keep their
size on a telephone. Colours are classes of the style sheet, which knows light, dark and paper.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from curate.telling.markup import Child, Html, h
from curate.telling.present import number


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers in [low, high], about so many: multiples of 1, 2 or 5 times a power of ten."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def bar(share: float, class_: str = "c1") -> Html:
    """A bar as wide as a share of its cell."""
    width = 0 if share <= 0 else max(0.4, 100 * min(share, 1.0))
    return h("span", h("i", style=f"width:{width:.2f}%", class_=class_), class_="bar")


@dataclass(frozen=True)
class Axis:
    """A range of values laid over 0 to 100."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where a value lies; what is outside lies on the border."""
        if self.high <= self.low:
            return 50.0
        return round(100 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0), 3)


def _box(
    svg: Sequence[Html],
    x: Axis,
    y: Axis | None,
    height: int,
    *,
    alt: str,
    x_label: str,
    y_label: str = "",
    over: Sequence[Html] = (),
    x_ticks: Sequence[tuple[float, str]] | None = None,
) -> Html:
    """Marks with their axes."""
    named = [(float(v), number(float(v))) for v in ticks(x.low, x.high)] if x_ticks is None else x_ticks
    grid = [] if y is None else [_line(0, 100 - y.at(v), 100, 100 - y.at(v), "grid") for v in ticks(y.low, y.high, 4)]
    marks = h("svg", *grid, *svg, viewBox="0 0 100 100", preserveAspectRatio="none", role="img", aria_label=alt)
    xs = [h("span", name, class_="tx", style=f"left:{x.at(v)}%") for v, name in named]
    ys = (
        []
        if y is None
        else [h("span", number(float(v)), class_="ty", style=f"bottom:{y.at(v)}%") for v in ticks(y.low, y.high, 4)]
    )
    return h(
        "div",
        h("div", y_label, class_="yl") if y_label else None,
        h("div", marks, xs, ys, over, class_="plot", style=f"height:{height}px"),
        h("div", x_label, class_="xl"),
        class_="chart" if y is not None else "chart flat",
    )


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return h("line", x1=x1, y1=round(y1, 3), x2=x2, y2=round(y2, 3), class_=class_)


def _dot(x: float, y: float, class_: str) -> Html:
    """A dot that stays round however the box is stretched: a line without length and with round ends."""
    return _line(x, y, x, y, f"dot {class_}")


def _arrow(end: float, class_: str) -> Html:
    """The head of an arrow at the left (0) or right (100) border of a strip."""
    back = 1.2 if end == 0 else 98.8
    points = f"{back},28 {end},50 {back},72"
    return h("polyline", points=points, class_=f"curve beyond {class_}")


# ── the charts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def histogram(
    edges: Sequence[float],
    stacks: Sequence[tuple[str, Sequence[int], str]],
    marks: Sequence[tuple[float, str]],
    *,
    x_label: str,
) -> Html:
    """Counts in equal bins, one stack over the other.

    Args:
        edges: of the bins, one more than there are bins.
        stacks: name, counts, colour class; the first at the bottom.
        marks: values to mark with a line and a label.
        x_label: what is counted, and its unit.
    """
    totals = [sum(counts[i] for _, counts, _ in stacks) for i in range(len(edges) - 1)]
    x, y = Axis(edges[0], edges[-1]), Axis(0, max([*totals, 1]))
    rects = []
    for i in range(len(edges) - 1):
        base = 0
        left, right = x.at(edges[i]), x.at(edges[i + 1])
        for name, counts, class_ in stacks:
            if counts[i]:
                top, bottom = 100 - y.at(base + counts[i]), 100 - y.at(base)
                title = h("title", f"{number(float(edges[i]))} to {number(float(edges[i + 1]))}: {counts[i]:,} {name}")
                rects.append(
                    h(
                        "rect",
                        title,
                        x=left,
                        y=round(top, 3),
                        width=round((right - left) * 0.94, 3),
                        height=round(max(bottom - top, 0.4), 3),
                        class_=class_,
                    )
                )
            base += counts[i]
    lines = [_line(x.at(v), 0, x.at(v), 100, "mark") for v, _ in marks]
    labels = [
        h("span", label, class_="tm left" if x.at(v) > 60 else "tm", style=f"left:{x.at(v)}%") for v, label in marks
    ]
    alt = f"histogram of {x_label}, {sum(totals):,} documents"
    return _box([*rects, *lines], x, y, 190, alt=alt, x_label=x_label, y_label="documents", over=labels)


def lines(
    series: Sequence[tuple[str, str, Sequence[tuple[float, float]]]],
    *,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    dots: Sequence[tuple[float, float, str]] = (),
) -> Html:
    """Lines; those of one name are one entry of the legend.

    Args:
        series: name, colour class and points of each line.
        x_label: what stands below.
        y_label: what stands above.
        x_ticks: values to name, with their names; None names round ones.
        dots: points to mark, with their colour class.
    """
    points = [p for _, _, line in series for p in line]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    x, y = Axis(min(xs), max(xs)), Axis(min(ys), max(ys))
    drawn = [
        h(
            "polyline",
            points=" ".join(f"{x.at(a)},{round(100 - y.at(b), 3)}" for a, b in line),
            class_=f"curve {class_}",
        )
        for _, class_, line in series
    ]
    drawn += [_dot(x.at(a), 100 - y.at(b), class_) for a, b, class_ in dots]
    alt = f"{y_label} by {x_label} of {', '.join(dict.fromkeys(name for name, _, _ in series))}"
    return h(
        "figure",
        _box(drawn, x, y, 230, alt=alt, x_label=x_label, y_label=y_label, x_ticks=x_ticks),
        legend(dict.fromkeys((name, class_) for name, class_, _ in series)),
    )


def legend(entries: Sequence[tuple[str, str]] | dict[tuple[str, str], None]) -> Html:
    """Colours and what they stand for."""
    return h("p", [h("span", h("i", class_=f"key {class_}"), name) for name, class_ in entries], class_="legend")


WIDE = 4.0  # times the median reach of a forest plot's intervals, beyond which they are cut


@dataclass(frozen=True)
class Interval:
    """A row of a forest plot: an estimate with its interval, the single values, and what is said beside it."""

    name: Child
    low: float
    estimate: float
    high: float
    points: Sequence[float]
    says: str
    class_: str = "c1"


def intervals(rows: Sequence[Interval], *, delta: float, x_label: str) -> Html:
    """A forest plot: one strip a row over one scale; the band, ``-delta`` to ``delta``, is too small to matter.

    An interval many times wider than most would make all others dots: the scale ends at ``WIDE`` times the median
    reach, every estimate inside it, and what goes on beyond the border ends in an arrow.
    """
    reach = sorted(max(abs(r.low), abs(r.high)) for r in rows)
    most = max(WIDE * reach[len(reach) // 2], *(1.1 * abs(r.estimate) for r in rows), 1.15 * delta)
    values = [v for r in rows for v in (r.low, r.high, *r.points)] + [0.0, -delta * 1.15, delta * 1.15]
    values = [min(max(v, -most), most) for v in values]
    room = 0.03 * (max(values) - min(values))
    x = Axis(min(values) - room, max(values) + room)
    band = h("rect", x=x.at(-delta), y=0, width=round(x.at(delta) - x.at(-delta), 3), height=100, class_="band")
    zero = _line(x.at(0), 0, x.at(0), 100, "zero")
    out = []
    for r in rows:
        marks = [
            band,
            zero,
            *(_line(x.at(p), 22, x.at(p), 78, f"tick {r.class_}") for p in r.points),
            _line(x.at(r.low), 50, x.at(r.high), 50, f"whisker {r.class_}"),
            _dot(x.at(r.estimate), 50, r.class_),
            *(_arrow(end, r.class_) for end, beyond in ((0, r.low < x.low), (100, r.high > x.high)) if beyond),
        ]
        svg = h("svg", *marks, viewBox="0 0 100 100", preserveAspectRatio="none", role="img", aria_label=r.says)
        out.append(
            h(
                "div",
                h("div", r.name, class_="fn"),
                h("div", svg, class_="fs"),
                h("div", r.says, class_="fv"),
                class_="forest",
            )
        )
    scale = [h("span", number(float(v)), class_="tx", style=f"left:{x.at(v)}%") for v in ticks(x.low, x.high)]
    axis = h(
        "div",
        h("div", class_="fn"),
        h("div", h("div", scale, class_="fx"), h("div", x_label, class_="xl"), class_="fs"),
        h("div", class_="fv"),
        class_="forest axis",
    )
    return h("figure", out, axis)
