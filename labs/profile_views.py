"""What a profile says, in SONiC's tables, and what its numbers mean at the rates of a lab's ports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from labs.dataplane.profile import Profile
from labs.dataplane.scaling import explain, rate
from labs.output import emit_json, emit_line, emit_table, say
from labs.status import SCHEMA

Change = tuple[str, str, str, str | None, str | None]


def show_profile(profile: Profile, rates: Sequence[int], form: str, *, lab: str | None = None) -> None:
    """The tables of a profile, and a paragraph for each rate (bit/s). `lab` is the one that plays it now."""
    lines = {one: explain(profile, one) for one in sorted(set(rates))}
    if form == "json":
        emit_json(
            {
                "schema": SCHEMA,
                "profile": profile.name,
                "lab": lab,
                "config_db": profile.tables,
                "scaling": [{"rate_bps": one, "lines": list(said)} for one, said in lines.items()],
            }
        )
        return
    for table, rows in profile.tables.items():
        _show_table(table, rows)
        emit_line()
    for one, said in lines.items():
        emit_line(f"At {rate(one)}:")
        for line in said:
            emit_line(f"  {line}")


def _show_table(table: str, rows: Mapping[str, Mapping[str, str]]) -> None:
    fields = list(dict.fromkeys(field for row in rows.values() for field in row))
    if all(field.isdigit() for field in fields):  # numbers to numbers: 64 lines say less than a few
        lines = [(key, to, _from(row, to)) for key, row in rows.items() for to in sorted(set(row.values()), key=int)]
        emit_table((table, "to", "from"), lines)
    elif len(fields) > len(rows):
        emit_table((table, *rows), [(field, *(row.get(field) for row in rows.values())) for field in fields])
    else:
        emit_table((table, *fields), [(key, *(row.get(field) for field in fields)) for key, row in rows.items()])


def _from(row: Mapping[str, str], to: str) -> str:
    """What is mapped to one value, as ranges: ``0-2, 6``."""
    ranges: list[list[int]] = []
    for number in sorted(int(one) for one, value in row.items() if value == to):
        if ranges and ranges[-1][-1] == number - 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ", ".join("-".join(map(str, one)) for one in ranges)


def changes(before: Profile, after: Profile) -> Iterator[Change]:
    """What differs: table, row, field, what it was, what it is; None for a field that is not stated."""
    was, now = before.tables, after.tables
    for table in dict.fromkeys((*was, *now)):
        rows, others = was.get(table, {}), now.get(table, {})
        for key in dict.fromkeys((*rows, *others)):
            yield from _of_row(table, key, rows.get(key, {}), others.get(key, {}))


def _of_row(table: str, key: str, was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Change]:
    for field in dict.fromkeys((*was, *now)):
        if was.get(field) != now.get(field):
            yield table, key, field, was.get(field), now.get(field)


def show_applied(lab: str, before: Profile, after: Profile, ports: int, form: str, *, dry_run: bool = False) -> None:
    """What `profile set` and `profile apply` have changed, or would change, and on how many ports."""
    differences = list(changes(before, after))
    if form == "json":
        names = ("table", "row", "field", "was", "is")
        rows = [dict(zip(names, change, strict=True)) for change in differences]
        applied = {"profile": after.name, "ports": ports, "changes": rows}
        emit_json({"schema": SCHEMA, "lab": lab, "dry_run": dry_run, **applied})
        return
    if differences:
        emit_table(("table", "row", "field", "was", "is"), differences)
    verb = "would play" if dry_run else "play"
    say(f"{lab}: {ports} ports {verb} profile {after.name}, {len(differences)} fields differ from {before.name}")
