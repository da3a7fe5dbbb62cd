"""A timeline as people and other programs want it: a table, JSON, CSV, Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from labs.errors import LabError, SpecError
from labs.output import emit_json, emit_line, emit_table, say
from labs.status import SCHEMA
from labs.telemetry.records import AnyRecord, Record
from labs.telemetry.timeline import Timeline

KINDS: Mapping[str, type[Record]] = MappingProxyType(
    {str(kind.__struct_config__.tag): kind for kind in AnyRecord.__args__}
)
FILES = (".csv", ".parquet")
_OWN = ("t", "late_ns")


def kind_named(name: str) -> type[Record]:
    """A kind of record by its name. Raises SpecError that lists them."""
    if name not in KINDS:
        raise SpecError(f"--kind {name}", allowed=", ".join(KINDS))
    return KINDS[name]


def check_file(path: Path) -> None:
    """Raise SpecError for a file that is none of FILES."""
    if path.suffix not in FILES:
        raise SpecError(f"--out {path}", allowed=f"a name that ends in {' or '.join(FILES)}")


def show(timeline: Timeline, kinds: Iterable[type[Record]], form: str, *, lab: str, zero: int) -> None:
    """The records on stdout; a table says when in seconds from `zero`."""
    records = _records(timeline, kinds)
    if form == "json":
        rows = [{"at_s": round((r.t - zero) / 1e9, 6), **_plain(r)} for r in records]
        emit_json({
            "schema": SCHEMA, "lab": lab, "torn": timeline.torn, "unread": timeline.unread, "records": rows,
        })  # fmt: skip
        return
    emit_table(("at s", "kind", "what"), ((f"{(r.t - zero) / 1e9:.6f}", _kind(r), _words(r)) for r in records))
    counts = ", ".join(f"{number} {name_of(kind)}" for kind, number in timeline.counts().items())
    emit_line(f"of {len(timeline)} records: {counts or 'none'}")


def _records(timeline: Timeline, kinds: Iterable[type[Record]]) -> Iterator[Record]:
    wanted = tuple(kinds)
    return (record for record in timeline if not wanted or type(record) in wanted)


def name_of(kind: type[Record]) -> str:
    """The name of a kind of record, as it stands in the file."""
    return next(name for name, one in KINDS.items() if one is kind)


def _kind(record: Record) -> str:
    return name_of(type(record))


def _plain(record: Record) -> Mapping[str, Any]:
    found: Mapping[str, Any] = msgspec.to_builtins(record)
    return found


def _words(record: Record) -> str:
    told = _plain(record).items()
    return " ".join(f"{name}={_text(value)}" for name, value in told if name not in {"kind", *_OWN})


def _text(value: object) -> object:
    """A value in one cell: several words with a space between them, anything deeper as JSON."""
    if isinstance(value, list | tuple):
        return " ".join(str(one) for one in value)
    return json.dumps(value) if isinstance(value, dict) else value


def export(timeline: Timeline, kinds: Iterable[type[Record]], path: Path) -> int:
    """Write records as one table: a column for each field there is, empty where a kind does not have it.

    Returns how many there are. Raises SpecError for another ending than .csv and .parquet, LabError when it cannot be
    written.
    """
    import pyarrow as pa

    check_file(path)
    wanted = [kind for kind in (kinds or KINDS.values()) if timeline.counts().get(kind)]
    parts = [_columns(timeline, kind, pa) for kind in wanted]
    table = (
        pa.concat_tables(parts, promote_options="permissive") if parts else pa.table({"t": pa.array([], pa.int64())})
    )
    table = table.sort_by("t")
    try:
        _write(table, path)
    except OSError as error:
        raise LabError(f"{path} cannot be written: {error}") from None
    return int(table.num_rows)


def _columns(timeline: Timeline, kind: type[Record], pa: Any) -> Any:
    columns = {
        name: pa.array([_text(value) for value in column] if column.dtype == object else column)
        for name, column in timeline.columns(kind).items()
        if name != "late_ns"  # those that came late are back in their place
    }
    names = pa.array([name_of(kind)] * len(columns["t"]))
    return pa.table({"t": columns.pop("t"), "kind": names, **columns})


def _write(table: Any, path: Path) -> None:
    if path.suffix == ".csv":
        from pyarrow import csv

        csv.write_csv(table, path)
        return
    from pyarrow import parquet

    parquet.write_table(table, path)


def warn(timeline: Timeline) -> None:
    """Say what of a timeline could not be read."""
    if timeline.torn:
        say(f"{timeline.torn} torn line at the end left out: the Recorder was killed while it wrote it")
    if timeline.unread:
        say(f"{timeline.unread} lines of kinds that this version does not know left out")
