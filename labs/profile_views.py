"""What a profile says, in SONiC's tables, and what its numbers mean at the rates of a lab's ports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from labs.dataplane.ecmp_choices import Choice, stated
from labs.dataplane.ecmp_intent import BY
from labs.dataplane.profile import Profile
from labs.dataplane.scaling import explain, rate
from labs.output import emit_json, emit_line, emit_table, say
from labs.status import SCHEMA
from topologies.ecmp import FIVE_TUPLE, EcmpBy, EcmpMode, EcmpRule, HashField

MANY = 6  # switches whose names are too many for a line
Change = tuple[str, str, str, str | None, str | None]


def show_profile(
    profile: Profile,
    rates: Sequence[int],
    form: str,
    *,
    lab: str | None = None,
    choices: Sequence[Choice] | None = None,
) -> None:
    """The tables of a profile, how its switches choose among equal-cost paths, and a paragraph for each rate (bit/s).

    `lab` is the one that plays it now, `choices` what its switches do.
    """
    chosen = stated(profile) if choices is None else choices
    lines = {one: explain(profile, one) for one in sorted(set(rates))}
    if form == "json":
        emit_json(
            {
                "schema": SCHEMA,
                "profile": profile.name,
                "lab": lab,
                "config_db": profile.tables,
                "ecmp": [_choice(one) for one in chosen],
                "scaling": [{"rate_bps": one, "lines": list(said)} for one, said in lines.items()],
            }
        )
        return
    for table, rows in profile.tables.items():
        _show_table(table, rows)
        emit_line()
    _show_choices(chosen)
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


def _show_choices(choices: Sequence[Choice]) -> None:
    if all(choice.rule.mode is EcmpMode.KERNEL for choice in choices):
        emit_line("Equal-cost paths, on every switch: the kernel's own hash")
        emit_line()
        return
    columns = ("Equal-cost paths", "Class", "Mode", "Algorithm", "Fields", "Seed", "Offset", "Options")
    emit_table(columns, [_line(choice) for choice in choices])
    emit_line()


def _line(choice: Choice) -> tuple[object, ...]:
    rule, names = choice.rule, choice.switches
    where = ", ".join(names) if len(names) < MANY else f"{names[0]} … {names[-1]} ({len(names)})"
    mode = f"{_mode(rule)} by {_by(rule)}" if _by(rule) else _mode(rule)
    hashed: tuple[object, ...] = (None, None, None, None)
    if choice.hashes:
        hashed = (
            rule.algorithm.name,
            _few_words(rule),
            rule.seed if choice.seeded else "the lab's",
            rule.offset,
        )
    options = ", ".join(f"{name} {str(value).lower()}" for name, value in _options(rule).items())
    return where, _ranges(choice.classes), mode, *hashed, options or None


def _choice(choice: Choice) -> dict[str, object]:
    rule = choice.rule
    shown: dict[str, object] = {"switches": list(choice.switches), "classes": list(choice.classes), "mode": _mode(rule)}
    if _by(rule):
        shown["by"] = _by(rule)
    if choice.hashes:
        seed = rule.seed if choice.seeded else None
        shown |= {"algorithm": rule.algorithm.name, "fields": _fields(rule), "seed": seed, "offset": rule.offset}
    return shown | _options(rule)


def _mode(rule: EcmpRule) -> str:
    return rule.mode.name.lower()


def _by(rule: EcmpRule) -> str:
    return rule.by.name.lower() if rule.mode in BY else ""


def _fields(rule: EcmpRule) -> list[str]:
    return [str(field.name) for field in HashField if field in rule.fields]


def _few_words(rule: EcmpRule) -> str:
    fields = _fields(rule)
    if rule.fields & FIVE_TUPLE == FIVE_TUPLE:
        fields = ["five-tuple", *(str(field.name) for field in HashField if field in rule.fields & ~FIVE_TUPLE)]
    return ",".join(fields)


def _options(rule: EcmpRule) -> dict[str, object]:
    by_flowlet = rule.mode is EcmpMode.FLOWLET or (rule.mode is EcmpMode.ADAPTIVE and rule.by is EcmpBy.FLOWLET)
    shown: dict[str, object] = {"gap_us": rule.gap_ns // 1000} if by_flowlet else {}
    if rule.mode is EcmpMode.ADAPTIVE:
        shown |= {"quantum": rule.quantum, "marked": rule.marked}
    if rule.mode is EcmpMode.RESILIENT:
        shown |= {"idle_ms": rule.idle_ms, "unbalanced_ms": rule.unbalanced_ms}
    return shown


def _from(row: Mapping[str, str], to: str) -> str:
    """What is mapped to one value."""
    return _ranges(int(one) for one, value in row.items() if value == to)


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers as ranges: ``0-2, 6``."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
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
