"""The plot of a comparison: every scheme is in it, in colours of its own, whatever became of it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from labs.scheme_plot import COLORS, draw
from traffic.busbw import Collective
from traffic.scheme_rows import Job, Repeat, Row

JOB = Job(Collective.ALL_TO_ALL, size=8_000_000, ranks=8, ideal_s=0.5, compute_s=0.5)


def row(lb: str, cc: str, took_s: float | None, invalid: str | None = None) -> Row:
    repeat = Repeat(1, 7, took_s, (0.1,) if took_s else (), 11, 22, 33, 0, 0, invalid)
    return Row(lb, cc, "gbn", JOB, (repeat,))


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
    return (
        row("kernel", "dcqcn", 1.0),
        row("kernel", "none", 0.6),
        row("spray", "dcqcn", 0.55, "late"),
        row("spray", "none", None, "no acknowledgement"),
    )


def test_everything_is_in_it(rows: tuple[Row, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")
    file = tmp_path / "plot.svg"
    draw(rows, file, "alltoall on a fabric")
    drawn = file.read_text()
    words = [" ".join(one.itertext()) for one in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    for word in ("alltoall on a fabric", "kernel", "spray", "dcqcn", "none", "no valid repeat", "11 · 22 · 33"):
        assert any(word in one for one in words), word
    assert [one for one in words if "no time" in one]
    assert all(color.lower() in drawn for color in COLORS[:2])


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_ending_says_the_format(rows: tuple[Row, ...], tmp_path: Path, ending: str, magic: bytes) -> None:
    file = tmp_path / f"plot.{ending}"
    draw(rows[:1], file, "one")
    assert file.read_bytes().startswith(magic)


def test_colours_are_told_apart() -> None:
    assert len(set(COLORS)) == len(COLORS)
