"""Tables: columns where no terminal is, the same that one shows."""

from __future__ import annotations

import io
import sys

import pytest

from labs.output import emit_table

COLUMNS = ("node", "state", "asn")
ROWS: list[tuple[object, ...]] = [
    ("leaf1", "running", 65001),
    ("spine1", None, "[x]"),
    ("", "stopped", 1.5),
    ("short",),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, to: io.StringIO, rows: list[tuple[object, ...]]) -> list[str]:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stdout", to)
    emit_table(COLUMNS, rows)
    return [line.rstrip() for line in to.getvalue().splitlines()]


@pytest.mark.parametrize("rows", [ROWS, []])
def test_a_pipe_gets_what_a_terminal_shows(monkeypatch: pytest.MonkeyPatch, rows: list[tuple[object, ...]]) -> None:
    shown = printed(monkeypatch, Terminal(), rows)
    assert shown[0].split() == list(COLUMNS)
    assert printed(monkeypatch, io.StringIO(), rows) == shown


def test_a_pipe_gets_one_line_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long, so that grep and awk find all of it, colours asked for or not; a terminal gets it folded."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    rows: list[tuple[object, ...]] = [("leaf1", "word " * 100, 1), ("leaf2", "two\nlines", 2)]
    assert len(printed(monkeypatch, Terminal(), rows)) > 3
    lines = printed(monkeypatch, io.StringIO(), rows)
    assert len(lines) == 3
    assert lines[1].endswith("word   1")
    assert "two lines" in lines[2]
