"""The plot of a comparison of schemes: how near to ideal each came, and how long its slowest messages took.

Colours are Okabe and Ito's, which people tell apart whatever their eyes; each also has a hatch of its own in print.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traffic.scheme_rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++")
BAR = 0.38  # inches
WIDTH, HEAD = 11.0, 1.5  # inches; HEAD: title, axis, legend
DPI = 150


def draw(rows: Sequence[Row], file: Path, title: str) -> None:
    """Draw rows to a file, in the format of its ending. Raises OSError when that cannot be written."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    controls = list(dict.fromkeys(row.cc for row in rows))
    balancers = list(dict.fromkeys(row.lb for row in rows))
    place = {row.name: _place(row, balancers, controls) for row in rows}
    figure = Figure(figsize=(WIDTH, HEAD + BAR * (len(rows) + len(balancers))), layout="constrained")
    shares, tails = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": (1, 1)})
    for row in rows:
        style = _style(controls.index(row.cc), valid=row.valid > 0)
        y = place[row.name]
        _bar(shares, y, row.ratio, row.ratios, style)
        _bar(tails, y, _ms(row.p99_s), [one * 1e3 for one in row.p99s_s], style)
        tails.annotate(
            _counts(row), (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, annotation_clip=False
        )
    shares.set_yticks([_middle(lb, rows, place) for lb in balancers], balancers)
    shares.set_ylim(max(place.values()) + 0.7, -0.7)
    shares.set_xlim(0, max(1.0, *(ratio for row in rows for ratio in row.ratios), 0) * 1.02)
    shares.set_xlabel("busbw / ideal busbw (bar: median; line: least to most)")
    tails.set_xlim(left=0)
    tails.set_xlabel("p99 completion of messages, ms (line: of single repeats)")
    tails.annotate("CE · pauses · reordered", (1.02, 1.01), xycoords="axes fraction", fontsize=8, annotation_clip=False)
    for axes in (shares, tails):
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    shares.axvline(1.0, color="black", linewidth=0.8, linestyle="--")
    legend = [
        Patch(label=cc, facecolor=COLORS[at % len(COLORS)], hatch=HATCHES[at % len(HATCHES)], edgecolor="white")
        for at, cc in enumerate(controls)
    ]
    if any(not row.valid for row in rows):
        legend.append(Patch(label="no valid repeat", facecolor="white", edgecolor="#999999", linestyle=":"))
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(file, dpi=DPI)


def _place(row: Row, balancers: Sequence[str], controls: Sequence[str]) -> float:
    """Where on the axis: one bar after the other, and room for one between two ways of load balancing."""
    return balancers.index(row.lb) * (len(controls) + 1) + controls.index(row.cc)


def _middle(lb: str, rows: Sequence[Row], place: dict[str, float]) -> float:
    own = [place[row.name] for row in rows if row.lb == lb]
    return sum(own) / len(own)


def _style(at: int, *, valid: bool) -> dict[str, Any]:
    if not valid:
        return {"facecolor": "white", "edgecolor": COLORS[at % len(COLORS)], "linestyle": ":", "linewidth": 1.5}
    return {"facecolor": COLORS[at % len(COLORS)], "hatch": HATCHES[at % len(HATCHES)], "edgecolor": "white"}


def _bar(axes: Axes, y: float, value: float | None, each: Sequence[float], style: dict[str, Any]) -> None:
    """A bar, and a line from the least repeat to the largest; a word where there is no value."""
    if value is None:
        axes.text(0, y, " no time", va="center", fontsize=8)
        return
    axes.barh(y, value, height=0.85, **style)
    low, high = min(each), max(each)
    axes.plot([low, high], [y, y], color="black", linewidth=1.2, marker="|", markersize=7)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def _counts(row: Row) -> str:
    known = ["-" if count is None else str(count) for count in (row.ce, row.pauses, row.reorder)]
    return " · ".join(known) + ("" if row.valid else "  invalid")
