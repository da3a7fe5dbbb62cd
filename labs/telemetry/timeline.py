"""What the Recorder wrote, as verdicts read it: records in the order of time, samples as columns.

``timeline.jsonl`` is read in blocks. Of the kinds that come by the hundred thousand (`COLUMNAR`) only columns are kept,
8 bytes a number, as a record object takes ten times that; everything else is kept as it is.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from labs.errors import LabError
from labs.telemetry.records import AnyRecord, FlowRecord, PortRecord, QueueRecord, Record

R = TypeVar("R", bound=Record)
Column = npt.NDArray[Any]
COLUMNAR: frozenset[type[Record]] = frozenset({PortRecord, QueueRecord, FlowRecord})
BLOCK_BYTES = 1 << 21
_TIME = attrgetter("t")
_NUMBERS: Mapping[object, str] = MappingProxyType({int: "int64", float: "float64", bool: "bool"})


class _Table(Protocol):
    """All records of one kind, in the order of time."""

    @property
    def times(self) -> Column: ...
    def rows(self, first: int, last: int) -> Sequence[Record]: ...
    def columns(self, first: int, last: int) -> Mapping[str, Column]: ...


@dataclass(frozen=True)
class _Rows:
    kept: Sequence[Record]

    @cached_property
    def times(self) -> Column:
        return np.fromiter(map(_TIME, self.kept), dtype="int64", count=len(self.kept))

    def rows(self, first: int, last: int) -> Sequence[Record]:
        return self.kept[first:last]

    def columns(self, first: int, last: int) -> Mapping[str, Column]:
        return _Gathered.of(type(self.kept[0]), self.kept[first:last]).columns(0, last - first) if self.kept else {}


@dataclass(frozen=True)
class _Columns:
    """`coded` are the words behind the numbers of a column of text."""

    kind: type[Record]
    found: Mapping[str, Column]
    coded: Mapping[str, Column]

    @property
    def times(self) -> Column:
        return self.found["t"]

    def rows(self, first: int, last: int) -> Sequence[Record]:
        wanted = self.columns(first, last)
        names = list(wanted)
        values = zip(*(column.tolist() for column in wanted.values()), strict=True)
        return [self.kind(**dict(zip(names, row, strict=True))) for row in values]

    def columns(self, first: int, last: int) -> Mapping[str, Column]:
        return {
            name: self.coded[name][column[first:last]] if name in self.coded else column[first:last]
            for name, column in self.found.items()
        }


@dataclass
class _Gathered:
    """The columns of a kind while a file is read: a part for each block."""

    kind: type[Record]
    parts: dict[str, list[Column]] = field(default_factory=dict)
    codes: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, kind: type[Record], records: Sequence[Record]) -> _Columns:
        gathered = cls(kind)
        gathered.add(records)
        return gathered.table()

    def add(self, records: Sequence[Record]) -> None:
        for one in msgspec.structs.fields(self.kind):
            values = map(attrgetter(one.name), records)
            if one.type is str:
                known = self.codes.setdefault(one.name, {})
                numbers: Iterable[Any] = [known.setdefault(value, len(known)) for value in values]
                column = np.fromiter(numbers, dtype="int32", count=len(records))
            elif one.type in _NUMBERS:
                column = np.fromiter(values, dtype=_NUMBERS[one.type], count=len(records))
            else:
                column = np.empty(len(records), dtype=object)
                column[:] = list(values)
            self.parts.setdefault(one.name, []).append(column)

    def table(self) -> _Columns:
        found = {}
        for name in list(self.parts):
            found[name] = np.concatenate(self.parts.pop(name))
        if np.any(np.diff(found["t"]) < 0):
            order = np.argsort(found["t"], kind="stable")
            found = {name: column[order] for name, column in found.items()}
        return _Columns(
            self.kind, found, {name: np.array([*known], dtype=object) for name, known in self.codes.items()}
        )


@dataclass(frozen=True)
class Timeline:
    """The records of one lab, or those of a stretch of its time (`since`, `until`).

    `torn` last lines were left out, which a killed Recorder leaves; `unread` ones are of no kind that is known here.
    Times are nanoseconds of CLOCK_MONOTONIC; a stretch has its first moment in it, and not its last.
    """

    tables: Mapping[type[Record], _Table]
    torn: int = 0
    unread: int = 0
    begin: int | None = None
    end: int | None = None

    def of(self, kind: type[R], *, since: int | None = None, until: int | None = None) -> tuple[R, ...]:
        """The records of one kind, oldest first."""
        table = self.tables.get(kind)
        if table is None:
            return ()
        return tuple(table.rows(*self._between(table, since, until)))  # type: ignore[arg-type] # a table holds one kind

    def records(
        self, kind: type[Record] | None = None, *, since: int | None = None, until: int | None = None
    ) -> Iterator[Record]:
        """The records of one kind, or of all, oldest first."""
        kinds = [kind] if kind is not None else list(self.tables)
        return heapq.merge(*(self.of(one, since=since, until=until) for one in kinds), key=_TIME)

    def columns(
        self, kind: type[Record], *, since: int | None = None, until: int | None = None
    ) -> Mapping[str, Column]:
        """The records of one kind as one array a field, all of one length, oldest first; of text, arrays of str."""
        table = self.tables.get(kind) or _Gathered.of(kind, ())
        return table.columns(*self._between(table, since, until))

    def since(self, t: int) -> Timeline:
        """What happened at `t` or later."""
        return replace(self, begin=t if self.begin is None else max(t, self.begin))

    def until(self, t: int) -> Timeline:
        """What happened before `t`."""
        return replace(self, end=t if self.end is None else min(t, self.end))

    def first(self, kind: type[R], holds: Callable[[R], bool] = lambda _: True) -> R | None:
        """The first record of a kind for which `holds` is true; None without one."""
        return next((record for record in self.of(kind) if holds(record)), None)

    def counts(self) -> Mapping[type[Record], int]:
        """How many records of each kind there are."""
        found = {kind: self._between(table, None, None) for kind, table in self.tables.items()}
        return {kind: last - first for kind, (first, last) in found.items() if last > first}

    def __len__(self) -> int:
        return sum(self.counts().values())

    def __iter__(self) -> Iterator[Record]:
        return self.records()

    def _between(self, table: _Table, since: int | None, until: int | None) -> tuple[int, int]:
        begins = [t for t in (self.begin, since) if t is not None]
        ends = [t for t in (self.end, until) if t is not None]
        times = table.times
        first = int(np.searchsorted(times, max(begins), side="left")) if begins else 0
        last = int(np.searchsorted(times, min(ends), side="left")) if ends else len(times)
        return first, max(first, last)


def timeline_of(records: Iterable[Record], *, torn: int = 0, unread: int = 0) -> Timeline:
    """A timeline of records at hand, in whatever order they come."""
    gathering = _Gathering()
    gathering.add(list(records))
    return gathering.timeline(torn, unread)


def read_timeline(path: Path) -> Timeline:
    """The timeline of a run, from its file. Raises LabError when there is none, or it cannot be read."""
    gathering, torn, unread = _Gathering(), 0, 0
    try:
        with path.open("rb") as lines:
            for block in _blocks(lines):
                if not block.endswith(b"\n"):
                    torn += 1
                    continue
                records, bad = _decoded(block)
                gathering.add(records)
                unread += bad
    except OSError as error:
        raise LabError(f"there is no timeline to read: {path}: {error.strerror}") from None
    return gathering.timeline(torn, unread)


class _Gathering:
    """Records by kind while they are read."""

    def __init__(self) -> None:
        self._columns: dict[type[Record], _Gathered] = {}
        self._rows: dict[type[Record], list[Record]] = {}

    def add(self, records: Sequence[Record]) -> None:
        """Some more of them. One that came late is put back to when it happened."""
        by_kind: dict[type[Record], list[Record]] = {}
        for record in records:
            by_kind.setdefault(type(record), []).append(record)
        for kind, found in by_kind.items():
            if any(record.late_ns for record in found):
                found = [msgspec.structs.replace(r, t=r.t - r.late_ns, late_ns=0) for r in found]  # noqa: PLW2901
            if kind in COLUMNAR:
                self._columns.setdefault(kind, _Gathered(kind)).add(found)
            else:
                self._rows.setdefault(kind, []).extend(found)

    def timeline(self, torn: int, unread: int) -> Timeline:
        """What was added, in order."""
        rows: dict[type[Record], _Table] = {kind: _Rows(sorted(r, key=_TIME)) for kind, r in self._rows.items()}
        return Timeline({**rows, **{kind: one.table() for kind, one in self._columns.items()}}, torn, unread)


_DECODER = msgspec.json.Decoder(AnyRecord)


def _blocks(lines: IO[bytes]) -> Iterator[bytes]:
    """Whole lines, some at a time; then a last line without its end, if there is one."""
    rest = b""
    while block := lines.read(BLOCK_BYTES):
        whole, end, rest = (rest + block).rpartition(b"\n")
        if end:
            yield whole + end
    if rest:
        yield rest


def _decoded(block: bytes) -> tuple[list[Record], int]:
    """The records in a block, and how many lines of it are none that are known here."""
    try:
        return _DECODER.decode_lines(block), 0
    except msgspec.MsgspecError:
        found: list[Record] = []
        lines = [line for line in block.splitlines() if line.strip()]
        for line in lines:
            try:
                found.append(_DECODER.decode(line))
            except msgspec.MsgspecError:
                continue
        return found, len(lines) - len(found)
