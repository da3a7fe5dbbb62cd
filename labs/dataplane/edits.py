"""A profile with some rows said otherwise: what a switch does whose configuration is not what it should be. Pure.

An edit is laid over the tables that stand beneath, and never written into them: whichever of several is taken away
again, the others stay, and without any the tables are what they were to the letter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labs.dataplane.load import profile_of
from labs.dataplane.profile import BY_PORT, Profile, Tables
from labs.dataplane.selectors import best, selector
from topologies.yaml_source import parse


@dataclass(frozen=True, slots=True)
class Edit:
    """Some fields of one row; None takes a field out.

    A row that is not there begins as a copy of `like`; one of a table of ports (``leaf1:eth1|3``) as a copy of the row
    that speaks for that port beneath it, since the more exact row speaks alone.
    """

    table: str
    row: str
    fields: Mapping[str, str | None] = field(default_factory=dict)
    like: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """What it changes, as paths: ``PORT_QOS_MAP/leaf1:eth1/pfc_enable``."""
        return tuple(f"{self.table}/{self.row}/{name}" for name in self.fields)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"table": self.table, "row": self.row, "fields": dict(self.fields), "like": self.like}


def port_row(node: str, port: str, number: int | None = None) -> str:
    """The key of the row that is for one port alone, or for one queue or priority group of it."""
    return f"{node}:{port}" if number is None else f"{node}:{port}|{number}"


def edited(tables: Mapping[str, Mapping[str, Mapping[str, str]]], edits: Iterable[Edit]) -> Tables:
    """The tables with edits laid over them, one after the other."""
    found: Tables = {table: {key: dict(row) for key, row in rows.items()} for table, rows in tables.items()}
    for one in edits:
        rows = found.setdefault(one.table, {})
        row = rows.setdefault(one.row, dict(rows.get(_beneath(one, rows), {})))
        for name, value in one.fields.items():
            if value is None:
                row.pop(name, None)
            else:
                row[name] = value
    return found


def carried_over(
    stated: Tables,
    expected: Mapping[str, Mapping[str, Mapping[str, str]]],
    found: Mapping[str, Mapping[str, Mapping[str, str]]],
) -> Tables:
    """`stated`, with what makes `found` another than was `expected`: what somebody else has changed meanwhile stays."""
    result: Tables = {table: {key: dict(row) for key, row in rows.items()} for table, rows in stated.items()}
    was, now = _flat(expected), _flat(found)
    for path in was.keys() - now.keys():
        result.get(path[0], {}).get(path[1], {}).pop(path[2], None)
    for path, value in now.items():
        if was.get(path) != value:
            result.setdefault(path[0], {}).setdefault(path[1], {})[path[2]] = value
    # A row that lost its last field there is a row that was taken out.
    return {
        table: {key: row for key, row in rows.items() if row or key in found.get(table, {})}
        for table, rows in result.items()
    }


def profile_from(tables: Mapping[str, Mapping[str, Mapping[str, str]]], name: str) -> Profile:
    """The profile that tables make, checked as a file would be. Raises SpecError."""
    return profile_of(parse(json.dumps(tables, indent=2).encode(), f"{name}.json"), name=name)


def edits_of(data: Sequence[Mapping[str, Any]]) -> tuple[Edit, ...]:
    """Edits from JSON."""
    return tuple(Edit(one["table"], one["row"], one["fields"], one["like"]) for one in data)


def _beneath(one: Edit, rows: Mapping[str, object]) -> str:
    if one.like or one.table not in BY_PORT:
        return one.like
    place = selector(one.row)
    return best(rows, place.node, place.port, place.first if "|" in one.row else None) or ""


def _flat(tables: Mapping[str, Mapping[str, Mapping[str, str]]]) -> dict[tuple[str, str, str], str]:
    return {
        (table, key, name): value
        for table, rows in tables.items()
        for key, row in rows.items()
        for name, value in row.items()
    }
