"""Workload files as bytes and as lines of words: bounded, and every error with its place.

The bounds hold for any file: what is built of one never grows past them, whatever the file says.
"""

from __future__ import annotations

import heapq
import io
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from topologies.errors import SpecError, Where

MOST_BYTES = 32 * 1024 * 1024  # of a file, and of what it unpacks to
MOST_RANKS = 1024  # hosts of a lab
MOST_SENDS = 1 << 18  # of a graph, phases of a workload: 512 ranks all to all
MOST_EDGES = 1 << 21  # dependencies, all together
MOST_SIZE = 1 << 44  # bytes of a message: sums over MOST_SENDS of them still fit 63 bits
MOST_SECONDS = 1_000_000.0
MOST_WORDS = 4096  # of a line

_BLANKS = " \t\r\f\v\n"  # what C's isspace() knows: Python's split() knows more
_WORD = re.compile(r"[^ \t\r\f\v]+")
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,6})?")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def read_bytes(path: Path) -> bytes:
    """All of a regular file. Raises SpecError for anything else, and past `MOST_BYTES`."""
    file = str(path)
    try:
        # A named pipe would keep the reader waiting for ever, and a device never ends: look before opening.
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "something that is no regular file"
            raise whole_file(file, f"found {what}", "a workload file")
        if status.st_size > MOST_BYTES:
            raise whole_file(file, f"found {status.st_size} bytes", f"at most {MOST_BYTES}")
        with path.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise whole_file(file, "there is no such file", "a workload file that exists") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise whole_file(file, f"cannot be read ({error})", "a readable workload file") from None
    if len(content) > MOST_BYTES:
        raise whole_file(file, f"found more than {MOST_BYTES} bytes", f"at most {MOST_BYTES}")
    return content


def whole_file(file: str, found: str, allowed: str) -> SpecError:
    """The error for what has no line."""
    return SpecError(found, allowed=allowed, where=Where(file))


def shown(text: str) -> str:
    """A piece of a file as errors show it: ASCII, and short whatever the file holds."""
    return ascii(text if len(text) <= 40 else text[:37] + "...")


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank: its number from 1, and its words."""

    file: str
    number: int
    text: str
    words: tuple[str, ...]

    def error(self, found: str, *, allowed: str, word: int | None = None) -> SpecError:
        """Where: this line, and the column (from 1) of the word at that place, or of the line's end past the last."""
        key = ""
        if word is not None:
            match = next(islice(_WORD.finditer(self.text), word, None), None)
            key = f"column {(match.start() if match else len(self.text.rstrip())) + 1}"
        return SpecError(found, allowed=allowed, where=Where(self.file, self.number, key))

    def whole(self, word: int, what: str, least: int, most: int) -> int:
        """The word as a whole number. Raises SpecError unless it is one from `least` to `most`."""
        text = self.words[word]
        if not _WHOLE.fullmatch(text) or not least <= (value := int(text)) <= most:
            allowed = f"a whole number from {least} to {most}"
            raise self.error(f"{what} is {shown(text)}", allowed=allowed, word=word)
        return value

    def decimal(self, word: int, what: str, most: float) -> float:
        """The word as a decimal number. Raises SpecError unless it is one from 0 to `most`."""
        text = self.words[word]
        if not _DECIMAL.fullmatch(text) or not 0 <= (value := float(text)) <= most:
            raise self.error(f"{what} is {shown(text)}", allowed=f"a decimal number from 0 to {most:.0f}", word=word)
        return abs(value)  # -0.0 is 0

    def expect_words(self, columns: tuple[str, ...]) -> None:
        """Raises SpecError unless the line has a word for each of the columns."""
        if len(self.words) != len(columns):
            found = f"found {len(self.words)} words"
            word = min(len(self.words), len(columns))
            raise self.error(found, allowed=f"{len(columns)}: {' '.join(columns)}", word=word)


def decoded(content: bytes, file: str) -> str:
    """The text of a file. Raises SpecError for what is not printable UTF-8."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"found byte 0x{content[error.start]:02x}, which is not UTF-8"
        raise SpecError(found, allowed="text in UTF-8", where=Where(file, line)) from None
    if odd := _CONTROL.search(text):
        where = Where(file, text.count("\n", 0, odd.start()) + 1)
        raise SpecError(f"found the control character {odd.group()!a}", allowed="printable text", where=where)
    return text


def lines(text: str, file: str) -> Iterator[Line]:
    """The lines that are not blank, one by one. Raises SpecError for one of more than `MOST_WORDS` words."""
    for number, raw in enumerate(io.StringIO(text), start=1):
        if not raw.strip(_BLANKS):
            continue
        stripped = raw.rstrip("\n")
        words = tuple(match.group() for match in islice(_WORD.finditer(stripped), MOST_WORDS + 1))
        line = Line(file, number, stripped, words)
        if len(words) > MOST_WORDS:
            raise line.error(f"found more than {MOST_WORDS} words", allowed=f"at most {MOST_WORDS}", word=MOST_WORDS)
        yield line


def in_order(waits: list[tuple[int, ...]]) -> tuple[list[int], int | None]:
    """Places 0..n-1 so that each comes after those it waits for, else in the order given.

    Beside them None, or, where not all could be placed, one that is part of a ring.
    """
    dependents: list[list[int]] = [[] for _ in waits]
    missing = [0] * len(waits)
    for place, before in enumerate(waits):
        for other in set(before):
            dependents[other].append(place)
            missing[place] += 1
    ready = [place for place, count in enumerate(missing) if not count]
    ordered: list[int] = []
    while ready:
        place = heapq.heappop(ready)
        ordered.append(place)
        for dependent in dependents[place]:
            missing[dependent] -= 1
            if not missing[dependent]:
                heapq.heappush(ready, dependent)
    return ordered, None if len(ordered) == len(waits) else _in_ring(waits, missing)


def _in_ring(waits: list[tuple[int, ...]], missing: list[int]) -> int:
    """From any that still waits back to what it waits for, until one comes up again."""
    place = next(place for place, count in enumerate(missing) if count)
    seen: set[int] = set()
    while place not in seen:
        seen.add(place)
        place = next(other for other in waits[place] if missing[other])
    return place
