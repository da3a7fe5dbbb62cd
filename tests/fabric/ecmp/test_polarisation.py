"""HASH-2: switches that hash alike, one above the other, waste each other's links; a seed per tier mends it.

    pod1-leaf1 ─┬─ pod1-spine1 ─┬─ core1          two uplinks a switch, two tiers of choice: a flow that its leaf
                │               └─ core2          sent to spine1 has an even hash, and so spine1 sends it to core1
                └─ pod1-spine2 ─┬─ core3
                                └─ core4

Seen where they come into pod2's spines: spine1 by its uplink to core1 or core2, spine2 by that to core3 or core4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from labs.testing import ecmp_spread, tiers_spread

pytestmark = pytest.mark.lab("fat_tree_frr")

FLOWS = 200
SEEDS = 10
# Ten seeds are each asked at a tenth of what one may err: p > 0.001 for each of them, as ASIC tests are read.
FALSE_ALARM = 0.001
HASH = """
base: roce_default
SWITCH_HASH:
  GLOBAL: {{ecmp_hash: "SRC_IP,DST_IP,IP_PROTOCOL,L4_SRC_PORT,L4_DST_PORT", ecmp_hash_algorithm: CRC}}
SWITCH_TABLE:
  "tier:leaf": {{ecmp_hash_seed: {leaf}}}
  "tier:spine": {{ecmp_hash_seed: {spine}}}
RAILBED_ECMP:
  "*": {{mode: switch_hash}}
"""

Play = Callable[..., object]
Ways = Callable[..., Mapping[tuple[int, int], str]]
Flows = Callable[..., list[Any]]
Note = Callable[[object], None]


def by_spine(ways: Ways, packets: list[Any]) -> dict[str, dict[str, int]]:
    """Flows by core, for each of pod1's spines: {spine: {core: flows}}."""
    cores = [f"core{number}" for number in range(1, 5)]
    seen = Counter(port.partition(":")[0] for port in ways("host1", "host16", packets, *cores).values())
    return {
        "pod1-spine1": {core: seen[core] for core in cores[:2]},
        "pod1-spine2": {core: seen[core] for core in cores[2:]},
    }


def test_one_seed_for_all_uses_one_uplink_of_two(play: Play, ways: Ways, flows: Flows, note: Note) -> None:
    """Each spine sends all of its flows by one of its two uplinks: max/mean is 2; the verdict calls that uneven."""
    play(HASH.format(leaf=5, spine=5))
    found = by_spine(ways, flows("host1", "host16", FLOWS))
    for spine, cores in found.items():
        verdict = ecmp_spread(cores)
        note(f"{spine}: {verdict}")
        assert min(cores.values()) == 0
        assert max(cores.values()) > FLOWS / 4
        assert not verdict
    leaf = {spine: sum(cores.values()) for spine, cores in found.items()}
    tiers = tiers_spread({"leaf": {"pod1-leaf1": leaf}, "spine": found})
    note(tiers)
    assert not tiers
    assert "spine uses 2 of 4 members" in tiers.evidence.summary


def test_a_seed_per_tier_spreads_them(play: Play, ways: Ways, flows: Flows, note: Note) -> None:
    """Ten pairs of seeds: below each spine flows spread over both its uplinks as independent hashing would."""
    packets = flows("host1", "host16", FLOWS)
    for number in range(SEEDS):
        play(HASH.format(leaf=100 + number, spine=200 + number))
        found = by_spine(ways, packets)
        leaf = {spine: sum(cores.values()) for spine, cores in found.items()}
        verdict = tiers_spread({"leaf": {"pod1-leaf1": leaf}, "spine": found}, false_alarm=FALSE_ALARM)
        note(f"seeds {100 + number} and {200 + number}: {verdict}")
        assert verdict
