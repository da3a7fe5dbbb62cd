"""A profile with another way of choosing among equal-cost next hops for some classes, and all else as it was. Pure.

A scheme is a mode of the hash engine, and where a mode has several ways, `:` and one of them: ``spray``,
``spray:round_robin``, ``adaptive:packet``. Without one it is the first, as in a profile without `by`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from labs.dataplane.ecmp_intent import BY
from labs.dataplane.load import profile_of
from labs.dataplane.profile import Profile, Tables
from labs.dataplane.selectors import EVERY, switch_selector
from topologies.ecmp import EcmpBy, EcmpMode
from topologies.errors import SpecError
from topologies.fabric import Fabric
from topologies.yaml_source import parse

TABLE = "RAILBED_ECMP"
PREFIX = "compare_"  # of the names of the profiles made here
QUANTUM = 9230  # one full frame, as profile `adaptive` has it: queues that differ by less count as equal
USUAL_GAP_US = 500
_BY_PACKET = {EcmpMode.SPRAY: (EcmpBy.RANDOM, EcmpBy.ROUND_ROBIN), EcmpMode.ADAPTIVE: (EcmpBy.PACKET,)}


@dataclass(frozen=True, slots=True)
class Scheme:
    """How packets of one class are spread. `by` is None where the mode has but one way."""

    mode: EcmpMode
    by: EcmpBy | None = None

    @property
    def name(self) -> str:
        """As it is written: the mode, and its way unless that is the first."""
        usual = self.by is None or self.by is BY[self.mode][0]
        return self.mode.name.lower() + ("" if usual or self.by is None else f":{self.by.name.lower()}")

    @property
    def by_packet(self) -> bool:
        """True where two packets that follow each other may go two ways: receivers have to expect them in any order."""
        return self.by in _BY_PACKET.get(self.mode, ())

    @property
    def by_flowlet(self) -> bool:
        """True where a flow may go another way after a silence."""
        return self.mode is EcmpMode.FLOWLET or self.by is EcmpBy.FLOWLET

    def row(self, gap_us: int) -> dict[str, str]:
        """Its row of RAILBED_ECMP; `gap_us` is the silence that ends a flowlet."""
        row = {"mode": self.mode.name.lower()}
        if self.by is not None:
            row["by"] = self.by.name.lower()
        if self.by_flowlet:
            row["gap_us"] = str(gap_us)
        if self.mode is EcmpMode.ADAPTIVE:
            row["quantum"] = str(QUANTUM)
        return row


def schemes() -> tuple[Scheme, ...]:
    """All there are, a mode's first way first."""
    return tuple(Scheme(mode, by) for mode in EcmpMode for by in BY.get(mode, (None,)))


def scheme(name: str) -> Scheme:
    """The scheme of that name; ``adaptive:flowlet`` is `adaptive`. Raises SpecError that lists what there is."""
    known = {one.name: one for one in schemes()}
    known |= {f"{one.mode.name.lower()}:{one.by.name.lower()}": one for one in schemes() if one.by is not None}
    word = name.strip().lower().replace("-", "_")
    if word not in known:
        near = get_close_matches(word, known, 1)
        found = f"--lb {name!r}" + (f" (meant {near[0]}?)" if near else "")
        raise SpecError(found, allowed=", ".join(one.name for one in schemes()))
    return known[word]


def classes_of(profile: Profile, fabric: Fabric, dscp: int) -> tuple[int, ...]:
    """The traffic classes that switches make of a DSCP, on whatever port it comes in by."""
    ports = {(node.name, port.name) for node in fabric.switches for port in fabric.ports(node)}
    return tuple(sorted({profile.port(node, port).dscp_to_tc[dscp] for node, port in ports}))


def flowlet_gap_us(profile: Profile, fabric: Fabric, classes: Collection[int]) -> int:
    """A silence after which a flow may take another way, and packets stay in order as long as none is marked.

    That is what a queue of these classes at its marking threshold takes to drain on the fabric's slowest link; the
    usual 500 us where nothing is marked at all.
    """
    slowest = min(link.rate_bps for link in fabric.links)
    found = [USUAL_GAP_US]
    for node in fabric.switches:
        for port in fabric.ports(node):
            intent = profile.port(node.name, port.name)
            marking = [intent.queues[intent.tc_to_queue[tc]].wred for tc in classes]
            found += [math.ceil(one.min_bytes * 8e6 / slowest) for one in marking if one is not None and one.ecn]
    return max(found)


def with_scheme(profile: Profile, wanted: Scheme, *, classes: Collection[int], gap_us: int) -> Profile:
    """The same profile with `classes` spread by a scheme on every switch; other classes are spread as they were.

    A row for a single class wins over ranges and rows without classes of the same switches; so each place that has a
    row, and every switch, gets one.
    """
    tables: Tables = {table: {key: dict(row) for key, row in rows.items()} for table, rows in profile.tables.items()}
    rows: Mapping[str, dict[str, str]] = tables.get(TABLE, {})
    kept = {key: row for key, row in rows.items() if not _is_single(key, classes)}
    places = dict.fromkeys([EVERY, *(key.partition("|")[0] for key in rows)])
    ours = {f"{place}|{tc}": wanted.row(gap_us) for place in places for tc in classes}
    tables[TABLE] = {**kept, **ours}
    name = PREFIX + wanted.name.replace(":", "_")
    return profile_of(parse(json.dumps(tables, indent=1).encode(), f"{name}.json"), name=name)


def _is_single(key: str, classes: Collection[int]) -> bool:
    one = switch_selector(key)
    return one.first is not None and one.first == one.last and one.first in classes
