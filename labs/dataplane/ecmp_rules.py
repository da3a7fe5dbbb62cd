"""What the hash engine's tables must obey: options that fit their mode, places that exist, classes that carry packets.

Raises SpecError with file, line and key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from types import MappingProxyType

from labs.dataplane.config_db import EVERY, GLOBAL, HASH_FIELDS, EcmpRow, ProfileFile
from labs.dataplane.ecmp_intent import BY
from labs.dataplane.intent import CLASSES
from labs.dataplane.profile import BY_PORT, Profile
from labs.dataplane.selectors import SwitchSelector, samples, switch_selector
from topologies.ecmp import EcmpMode, HashField
from topologies.errors import SpecError, Where
from topologies.fabric import Fabric, Tier
from topologies.validation import meant
from topologies.yaml_source import Source, show

_OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"gap_us": ("flowlet", "adaptive"), "quantum": ("adaptive",), "marked": ("adaptive",)}
    | dict.fromkeys(("idle_ms", "unbalanced_ms"), ("resilient",))
)
_TIERS = tuple(str(tier) for tier in Tier if tier is not Tier.HOST)
TABLES = ("SWITCH_TABLE", "RAILBED_ECMP")


def check_ecmp(rows: ProfileFile, source: Source) -> None:
    """Everything that one row, or two of a table, can have wrong."""
    if GLOBAL in rows.SWITCH_HASH:
        _check_fields(rows.SWITCH_HASH[GLOBAL].ecmp_hash or (), source)
    for key, row in rows.RAILBED_ECMP.items():
        _check_by(key, row, source)
        _check_options(key, row, source)
    for table in TABLES:
        keys = {key: switch_selector(key) for key in getattr(rows, table)}
        for key, one in keys.items():
            _check_place(table, key, one, source)
        for (key, one), (other_key, other) in combinations(keys.items(), 2):
            if one.meets(other):
                line = source.where((table, key)).line
                found = f"found a second row for the same switches: {show(key)} on line {line} is as exact"
                raise source.error((table, other_key), found, allowed="each class of a switch in one such row")


def _check_fields(words: Sequence[str], source: Source) -> None:
    where = ("SWITCH_HASH", GLOBAL, "ecmp_hash")
    for at, word in enumerate(words):
        if word not in HASH_FIELDS:
            found = f"found {show(word)}{meant(word, HASH_FIELDS)}"
            if word == HashField.DST_QP.name:
                found = f"found {word}, which is none of SONiC's: mode roce hashes it"
            raise source.error(where, found, allowed=", ".join(HASH_FIELDS))
        if word in words[:at]:
            raise source.error(where, f"found {word} again", allowed="each field once")


def _check_by(key: str, row: EcmpRow, source: Source) -> None:
    fitting = [by.name.lower() for by in BY.get(EcmpMode[row.mode.upper()], ())]
    if row.by is not None and row.by not in fitting:
        allowed = ", ".join(fitting) or f"no such key: only {', '.join(mode.name.lower() for mode in BY)} have one"
        raise source.error(("RAILBED_ECMP", key, "by"), f"found by {row.by} of mode {row.mode}", allowed=allowed)


def _check_options(key: str, row: EcmpRow, source: Source) -> None:
    for option, modes in _OPTIONS.items():
        if getattr(row, option) is None:
            continue
        where = ("RAILBED_ECMP", key, option)
        if row.mode not in modes:
            allowed = f"{option} of mode {' or '.join(modes)}"
            raise source.error(where, f"found {option} of mode {row.mode}", allowed=allowed)
        if option == "gap_us" and row.mode == "adaptive" and row.by == "packet":
            allowed = "by flowlet beside it, or no gap_us: by packet there are no flowlets"
            raise source.error(where, "found gap_us of mode adaptive by packet", allowed=allowed)


def _check_place(table: str, key: str, one: SwitchSelector, source: Source) -> None:
    if one.tier is not None and one.tier not in _TIERS:
        found = f"found no tier called {one.tier}{meant(one.tier, _TIERS)}"
        if one.tier == Tier.HOST:
            found = "found the hosts, which forward nothing"
        raise source.error((table, key), found, allowed=", ".join(f"tier:{tier}" for tier in _TIERS))
    if one.first is not None and one.last is not None and one.first > one.last:
        turned = f"{key.partition('|')[0]}|{one.last}-{one.first}"
        raise source.error((table, key), f"found the range {one.first}-{one.last}", allowed=turned)


def check_classes(profile: Profile, source: Source) -> None:
    """A row for a class that no packet is ever of would be silently without effect."""
    keys = [key for table in BY_PORT for key in getattr(profile.rows, table)]
    for key in profile.rows.RAILBED_ECMP:
        one = switch_selector(key)
        if one.first is None:
            continue
        places = {(one.node or node, port) for node, port in samples(keys) if one.node in {None, node} or node == EVERY}
        carried = {tc for node, port in places for tc in profile.port(node, port).dscp_to_tc}
        if idle := [tc for tc in one.classes if tc not in carried]:
            found = f"class {idle[0]} matches nothing: no DSCP leads to it"
            allowed = f"a class of DSCP_TO_TC_MAP: {', '.join(str(tc) for tc in range(CLASSES) if tc in carried)}"
            raise source.error(("RAILBED_ECMP", key), found, allowed=allowed)


def check_switches(profile: Profile, fabric: Fabric) -> None:
    """What only a fabric shows wrong. Raises SpecError with the key."""
    _check_names(profile, fabric)
    for node in fabric.nodes:
        rules = profile.ecmp(node.name, node.tier) if node.is_switch else ()
        times = {(rule.idle_ms, rule.unbalanced_ms) for rule in rules if rule.mode is EcmpMode.RESILIENT}
        if len(times) > 1:
            raise SpecError(
                f"found resilient classes of {node} with different times, but a group has one table of buckets",
                allowed="one idle_ms and one unbalanced_ms for all classes of a switch",
                where=Where(key="RAILBED_ECMP"),
            )


def _check_names(profile: Profile, fabric: Fabric) -> None:
    """A row for a switch or a tier that does not exist would be silently without effect."""
    switches = {node.name for node in fabric.nodes if node.is_switch}
    hosts = {node.name for node in fabric.nodes} - switches
    tiers = {str(node.tier) for node in fabric.nodes if node.is_switch}
    for table in TABLES:
        for key in getattr(profile.rows, table):
            one, where = switch_selector(key), Where(key=f"{table}.{key}")
            if one.tier and one.tier not in tiers:
                listed = ", ".join(f"tier:{tier}" for tier in _TIERS if tier in tiers)
                raise SpecError(f"found no {one.tier} in fabric {fabric}", allowed=listed, where=where)
            if one.node in hosts:
                raise SpecError(
                    f"found the host {one.node}, which forwards nothing", allowed="a switch, a tier, *", where=where
                )
            if one.node and one.node not in switches:
                found = f"found no switch called {one.node}{meant(one.node, switches)}"
                raise SpecError(found, allowed=f"a switch of fabric {fabric}, tier:leaf or *", where=where)
