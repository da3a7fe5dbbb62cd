"""The journal: what was written before a death is what is found after it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labs.journal import Change, Entry, Journal

A, B, C = (Change("netns", {"name": name}) for name in "abc")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labs" / "x" / "journal.jsonl"


def test_empty(path: Path) -> None:
    assert Journal(path).open_entries() == ()
    assert not path.exists()
    Journal(path).will()
    assert not path.exists()


def test_order_and_numbers_over_processes(path: Path) -> None:
    Journal(path).will(A, B)
    later = Journal(path)
    later.will(C)
    assert Journal(path).open_entries() == later.open_entries() == (Entry(1, A), Entry(2, B), Entry(3, C))


def test_facts_and_ends(path: Path) -> None:
    journal = Journal(path)
    first, second, third = journal.will(A, B, C)
    journal.learned(second, {"pid": 1}, {"pid": 2})
    journal.learned(second, {"pid": 3})
    journal.done([third, first])
    want = (Entry(2, B, ({"pid": 1}, {"pid": 2}, {"pid": 3})),)
    assert journal.open_entries() == Journal(path).open_entries() == want
    journal.done(want)
    assert Journal(path).open_entries() == ()
    assert Journal(path).will(A)[0].n == 4  # a number is never used twice


def test_torn_last_line_was_never_made(path: Path) -> None:
    Journal(path).will(A, B)
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for cut in range(1, last + 1):
        path.write_bytes(whole[:-cut])
        assert Journal(path).open_entries() == (Entry(1, A),)
    path.write_bytes(whole)
    assert Journal(path).open_entries() == (Entry(1, A), Entry(2, B))


def test_what_is_written_after_a_torn_line_is_found(path: Path) -> None:
    Journal(path).will(A, B)
    path.write_bytes(path.read_bytes()[:-5])
    Journal(path).will(C)
    assert Journal(path).open_entries() == (Entry(1, A), Entry(2, C))


WRITER = """
import sys
from pathlib import Path
from labs.journal import Change, Journal
journal = Journal(Path(sys.argv[1]))
a, b = journal.will(Change("netns", {"name": "a"}), Change("netns", {"name": "b"}))
journal.learned(a, {"pid": 1})
journal.done([a, b])
print("alive")
"""


@pytest.mark.parametrize("after", range(7))
def test_crash_at_every_line(path: Path, after: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path)],
        env={"RAILBED_CRASH_AFTER": str(after), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    lives = after in {0, 6}  # 0: no crash wanted; 6: there are only five lines
    assert (done.returncode, done.stdout) == ((0, "alive\n") if lives else (-signal.SIGKILL, "")), done.stderr
    assert len(path.read_text().splitlines()) == (5 if lives else after)
    fact = ({"pid": 1},) if after >= 3 else ()
    want = {1: [1], 2: [1, 2], 3: [1, 2], 4: [2]}.get(after, [])
    assert [entry.n for entry in Journal(path).open_entries()] == want
    if 1 in want:
        assert Journal(path).open_entries()[0].facts == fact
