"""What a row must obey beyond its own fields: names that exist, pairs that fit, keys that do not collide.

Raises SpecError with file, line and key. What follows only for a port, from all its rows, is in `port_rules.py`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations

from labs.dataplane.config_db import EVERY, GLOBAL, TABLES, UNPLAYED, BufferProfileRow, PoolRow, ProfileFile, WredRow
from labs.dataplane.ecmp_rules import check_ecmp
from labs.dataplane.intent import Direction
from labs.dataplane.profile import MARKS_GREEN, POLL_MS
from labs.dataplane.selectors import selector
from topologies.validation import meant
from topologies.yaml_source import KeyPath, Source, show

MOST_POOLS = 4  # asic.h: POOLS
COLOURS = ("green", "yellow", "red")
_OTHER_COLOURS = ("yellow_", "red_", "wred_yellow_", "wred_red_")
_MAPS = {
    "dscp_to_tc_map": "DSCP_TO_TC_MAP",
    "tc_to_queue_map": "TC_TO_QUEUE_MAP",
    "tc_to_pg_map": "TC_TO_PRIORITY_GROUP_MAP",
    "pfc_to_pg_map": "PFC_PRIORITY_TO_PRIORITY_GROUP_MAP",
    "pfc_to_queue_map": "MAP_PFC_PRIORITY_TO_QUEUE",
}
_REFERENCES = {
    "PORT_QOS_MAP": _MAPS,
    "QUEUE": {"scheduler": "SCHEDULER", "wred_profile": "WRED_PROFILE"},
    "BUFFER_PROFILE": {"pool": "BUFFER_POOL"},
    "BUFFER_PG": {"profile": "BUFFER_PROFILE"},
    "BUFFER_QUEUE": {"profile": "BUFFER_PROFILE"},
}
_PLACES = {1: "a table", 2: "a row", 3: "a field", 4: "a word"}
_OLD_REFERENCE = re.compile(r"\[([A-Z0-9_]+)\|([^\]]*)\]")


def check_played(source: Source) -> None:
    """Refuse what SONiC knows and the soft ASIC does not play, keys without a value, and references of old."""
    for path, value in _tables_rows_fields(source.at()):
        for known in (path, (path[0], EVERY, *path[2:])):
            if known in UNPLAYED:
                found = f"found {_PLACES[len(path)]} of SONiC that the soft ASIC does not play: {UNPLAYED[known]}"
                raise source.error(path, found, allowed=_allowed_beside(path))
        if len(path) == 4:
            continue
        if value is None:
            raise source.error(path, "found nothing", allowed="a value; with a base, ~ takes out what the base has")
        if isinstance(value, str) and (old := _OLD_REFERENCE.fullmatch(value)):
            allowed = f"the plain name: {old[2]}"
            raise source.error(
                path, f"found the reference {show(value)}, as SONiC wrote it before 2021", allowed=allowed
            )


def _allowed_beside(path: tuple[str, ...]) -> str:
    if len(path) == 1:
        return ", ".join(TABLES)
    if len(path) == 4:
        return "a list without it"
    return "a row for * or for ports" if path[1] == "global" else "a row without it"


def _tables_rows_fields(tables: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], object]]:
    """Everything with its path, as far as there are mappings."""
    for table, rows in tables.items():
        yield (table,), rows
        for key, row in rows.items() if isinstance(rows, dict) else ():
            yield (table, key), row
            for field, value in row.items() if isinstance(row, dict) else ():
                yield (table, key, field), value
                for word in value.split(",") if isinstance(value, str) else _texts(value):
                    yield (table, key, field, word), None


def _texts(value: object) -> list[str]:
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def check_rows(rows: ProfileFile, source: Source) -> None:
    """Everything that one row, or two of a table, can have wrong."""
    _check_references(rows, source)
    _check_keys(rows, source)
    for name, wred in rows.WRED_PROFILE.items():
        _check_wred(wred, source, ("WRED_PROFILE", name))
    for name, scheduler in rows.SCHEDULER.items():
        if scheduler.pir is not None and scheduler.cir is None:
            where = ("SCHEDULER", name, "pir")
            raise source.error(where, "found pir without cir", allowed="cir: 0 beside it, as SONiC requires")
    _check_pools(rows, source)
    for name, buffer in rows.BUFFER_PROFILE.items():
        pool = rows.BUFFER_POOL[buffer.pool]
        _check_limit(buffer, pool, source, ("BUFFER_PROFILE", name))
        _check_headroom(buffer, pool, source, ("BUFFER_PROFILE", name))
    _check_directions(rows, source)
    _check_watchdogs(rows, source)
    check_ecmp(rows, source)


def _check_references(rows: ProfileFile, source: Source) -> None:
    for table, fields in _REFERENCES.items():
        for key, row in getattr(rows, table).items():
            for field, target in fields.items():
                name = getattr(row, field)
                if name is not None and name not in getattr(rows, target):
                    raise _unresolved(source, (table, key, field), name, target, getattr(rows, target))


def _unresolved(source: Source, where: KeyPath, name: str, table: str, known: Collection[str]) -> Exception:
    found = f"found no {table} called {show(name)}{meant(name, known)}"
    if name == "NULL":
        found = "found NULL, which leaves the profile to buffermgrd"
    return source.error(where, found, allowed=", ".join(sorted(known)) or f"a row of {table}; there is none")


def _check_keys(rows: ProfileFile, source: Source) -> None:
    for table in ("QUEUE", "BUFFER_PG", "BUFFER_QUEUE"):
        keys = {key: selector(key) for key in getattr(rows, table)}
        for key, one in keys.items():
            if key.startswith("CPU|"):
                raise source.error((table, key), "found queues of the switch's CPU", allowed="queues of ports")
            if one.first > one.last:
                turned = f"{key.rpartition('|')[0]}|{one.last}-{one.first}"
                raise source.error((table, key), f"found the range {one.first}-{one.last}", allowed=turned)
        for (key, one), (other_key, other) in combinations(keys.items(), 2):
            if one.meets(other):
                where = source.where((table, key)).line
                found = f"found a second row for the same numbers: {show(key)} on line {where} is as exact"
                raise source.error((table, other_key), found, allowed="each number of a port in one such row")


def _check_wred(row: WredRow, source: Source, where: KeyPath) -> None:
    for colour in COLOURS:
        low, high = (getattr(row, f"{colour}_{end}_threshold") for end in ("min", "max"))
        wanted = f"wred_{colour}_enable" if getattr(row, f"wred_{colour}_enable") else ""
        if colour == "green" and row.ecn in MARKS_GREEN:
            wanted = wanted or f"ecn {row.ecn}"
        if (low is None) != (high is None):
            here, missing = ("min", "max") if high is None else ("max", "min")
            found = f"found {colour}_{here}_threshold without {colour}_{missing}_threshold"
            raise source.error((*where, f"{colour}_{here}_threshold"), found, allowed="both, or neither")
        if wanted and high is None:
            allowed = f"{colour}_min_threshold and {colour}_max_threshold beside it"
            raise source.error(where, f"found {wanted} without thresholds", allowed=allowed)
        if low is not None and high is not None and low > high:
            found = f"found {colour}_min_threshold {low} above {colour}_max_threshold {high}"
            raise source.error((*where, f"{colour}_min_threshold"), found, allowed=f"from 0 to {high}")


def _check_pools(rows: ProfileFile, source: Source) -> None:
    by_direction = [row.type for row in rows.BUFFER_POOL.values()]
    # A direction without a pool gets one of the data plane's own.
    count = len(by_direction) + len({"ingress", "egress"} - set(by_direction))
    if count > MOST_POOLS:
        found = f"found {len(by_direction)} pools"
        raise source.error(("BUFFER_POOL",), found, allowed=f"at most {MOST_POOLS}, one of each direction among them")
    for name, pool in rows.BUFFER_POOL.items():
        if pool.type == "egress" and pool.xoff:
            where = ("BUFFER_POOL", name, "xoff")
            raise source.error(where, f"found xoff {pool.xoff} in an egress pool", allowed="xoff in ingress pools only")


def _check_limit(row: BufferProfileRow, pool: PoolRow, source: Source, where: KeyPath) -> None:
    if (row.dynamic_th is None) == (row.static_th is None):
        both = "neither dynamic_th nor static_th" if row.dynamic_th is None else "both dynamic_th and static_th"
        raise source.error(where, f"found {both}", allowed="exactly one: dynamic_th (-8 to 7) or static_th (bytes)")
    if row.static_th is not None and row.static_th > pool.size:
        found = f"found static_th {row.static_th} of pool {row.pool}, which has {pool.size} bytes"
        raise source.error((*where, "static_th"), found, allowed=f"from 0 to {pool.size}")
    if row.size > pool.size:
        found = f"found size {row.size} of pool {row.pool}, which has {pool.size} bytes"
        raise source.error((*where, "size"), found, allowed=f"from 0 to {pool.size}")


def _check_headroom(row: BufferProfileRow, pool: PoolRow, source: Source, where: KeyPath) -> None:
    if not row.xoff:
        for field in ("xon", "xon_offset"):
            if getattr(row, field):
                raise source.error((*where, field), f"found {field} without xoff", allowed="xoff beside it, or neither")
        return
    if pool.type == "egress":
        allowed = "xoff in profiles of ingress pools only: an egress queue has no headroom"
        raise source.error((*where, "xoff"), f"found xoff in a profile of the egress pool {row.pool}", allowed=allowed)
    room, whose = (pool.xoff, "shared headroom") if pool.xoff else (pool.size, "size")
    if row.xoff > room:
        found = f"found xoff {row.xoff} of pool {row.pool}, whose {whose} is {room} bytes"
        raise source.error((*where, "xoff"), found, allowed=f"from 1 to {room}")


def _check_directions(rows: ProfileFile, source: Source) -> None:
    for table, direction in (("BUFFER_PG", Direction.INGRESS), ("BUFFER_QUEUE", Direction.EGRESS)):
        fitting = sorted(
            name for name, row in rows.BUFFER_PROFILE.items() if rows.BUFFER_POOL[row.pool].type == direction
        )
        for key, row in getattr(rows, table).items():
            if row.profile not in fitting:
                pool = rows.BUFFER_PROFILE[row.profile].pool
                found = f"found profile {row.profile}, whose pool {pool} is {rows.BUFFER_POOL[pool].type}"
                allowed = ", ".join(fitting) or f"a profile of an {direction} pool; there is none"
                raise source.error((table, key, "profile"), found, allowed=allowed)


def _check_watchdogs(rows: ProfileFile, source: Source) -> None:
    every = rows.PFC_WD.get(GLOBAL)
    if every and every.model_fields_set - {"POLL_INTERVAL"}:
        field = min(every.model_fields_set - {"POLL_INTERVAL"})
        raise source.error(("PFC_WD", GLOBAL, field), f"found {field} in GLOBAL", allowed="POLL_INTERVAL")
    poll = every.POLL_INTERVAL if every and every.POLL_INTERVAL else POLL_MS
    for key, row in rows.PFC_WD.items():
        if key == GLOBAL:
            continue
        where: KeyPath = ("PFC_WD", key)
        if row.POLL_INTERVAL is not None:
            raise source.error((*where, "POLL_INTERVAL"), "found POLL_INTERVAL in a port's row", allowed="it in GLOBAL")
        for field in ("detection_time", "restoration_time"):
            value = getattr(row, field)
            if value is None:
                raise source.error((*where, field), "the key is missing", allowed=f"{field}, in ms")
            if value < poll:
                found = f"found {field} {value} below the poll interval of {poll} ms"
                raise source.error((*where, field), found, allowed=f"at least {poll}, or a shorter POLL_INTERVAL")


def without_effect(rows: ProfileFile) -> tuple[str, ...]:
    """What the profile states and the soft ASIC cannot show, in words."""
    said = []
    for name, wred in rows.WRED_PROFILE.items():
        coloured = sorted(field for field in wred.model_fields_set if field.startswith(_OTHER_COLOURS))
        if coloured:
            said.append(f"WRED_PROFILE {name}: {', '.join(coloured)}: every packet is green, there are no meters")
        if wred.ecn not in MARKS_GREEN and wred.ecn != "ecn_none":
            said.append(f"WRED_PROFILE {name}: {wred.ecn} marks nothing: every packet is green")
    for name, scheduler in rows.SCHEDULER.items():
        if scheduler.type == "STRICT" and scheduler.weight is not None:
            said.append(f"SCHEDULER {name}: weight has no meaning with STRICT")
        if scheduler.type == "WRR":
            said.append(f"SCHEDULER {name}: WRR counts packets; played as DWRR, which counts bytes")
    if rows.CABLE_LENGTH:
        said.append("CABLE_LENGTH: a virtual cable has no length; headroom is what BUFFER_PROFILE states")
    if not any(row.mode != "kernel" for row in rows.RAILBED_ECMP.values()):
        idle = [table for table in ("SWITCH_HASH", "SWITCH_TABLE") if getattr(rows, table)]
        said += [
            f"{table}: no row of RAILBED_ECMP turns the hash engine on, the kernel's hash decides" for table in idle
        ]
    return tuple(said)
