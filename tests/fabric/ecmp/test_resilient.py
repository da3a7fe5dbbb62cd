"""HASH-3: a lost uplink of sixteen, eight or four costs the flows on it, and under `resilient` no others (F2).

    host1 ─ leaf1 ═ spine1 … spine16 ═ leaf2 ─ host3         uplinks of leaf1 are cut, one after the other

`switch_hash` takes the hash modulo the number of members, as silicon does: losing one of n moves (n - 1)/n of all
flows. A bucket table moves those on the lost member, 1/n, and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from labs.lab import Lab
from labs.testing import SECOND, ChoosesBy, disruption
from topologies.fabric import Fabric

pytestmark = pytest.mark.lab("clos_16x2", profile="roce_default")

FLOWS = 1024
WITHIN_S = 30 * SECOND
MODE = """
base: roce_default
RAILBED_ECMP:
  "*": {{mode: {mode}}}
"""

Play = Callable[..., object]
Ways = Callable[..., Mapping[tuple[int, int], str]]
Flows = Callable[..., list[Any]]
Note = Callable[[object], None]


@contextmanager
def only(lab: Lab, spines: int, of: int = 16) -> Iterator[None]:
    """Of the first `of` spines leaf1 keeps the first `spines`, for the length of a block."""
    ports = [lab.fabric.between("leaf1", f"spine{number}")[0].end("leaf1").name for number in range(spines + 1, of + 1)]
    turned(lab, ports, "down")
    try:
        assert lab.wait_routes_match(without(lab, spines), within=WITHIN_S)
        yield
    finally:
        turned(lab, ports, "up")
        assert lab.wait_routes_match(without(lab, of), within=WITHIN_S)


def turned(lab: Lab, ports: list[str], to: str) -> None:
    for port in ports:
        lab.node("leaf1").kernel("ip", "link", "set", port, to)


def without(lab: Lab, spines: int) -> Fabric:
    """The design whose leaf1 has links to the first `spines` alone."""
    return lab.fabric.without(*(lab.fabric.between("leaf1", f"spine{number}")[0] for number in range(spines + 1, 17)))


@pytest.mark.parametrize("members", [16, 8, 4])
def test_losing_a_member_moves_its_flows_alone(
    lab: Lab, play: Play, ways: Ways, flows: Flows, note: Note, members: int
) -> None:
    """Every flow that was not on the lost spine keeps its way; those that were are on live ones."""
    play(MODE.format(mode="resilient"))
    packets = flows("host1", "host3", FLOWS)
    with only(lab, members):
        before = ways("host1", "host3", packets, "leaf2")
        assert len(set(before.values())) == members
        with only(lab, members - 1, of=members):
            after = ways("host1", "host3", packets, "leaf2")
    lost = {flow for flow, port in before.items() if port == f"leaf2:eth{members}"}
    moved = {flow for flow in before if before[flow] != after[flow]}
    note(f"{members} members: {len(lost)} flows were on the lost one, {len(moved)} moved")
    ports = [f"leaf2:eth{number}" for number in range(1, members + 1)]
    verdict = disruption(before, after, members=(ports, ports[:-1]), by=ChoosesBy.RESILIENT)
    note(verdict)
    assert verdict
    assert lost
    assert moved == lost
    assert f"leaf2:eth{members}" not in after.values()


def test_modulo_moves_most_of_the_others(lab: Lab, play: Play, ways: Ways, flows: Flows, note: Note) -> None:
    """Control, F2: of the twelve hashes modulo 4 and 3, nine are not on the lost member, and six of these move."""
    play(MODE.format(mode="switch_hash"))
    packets = flows("host1", "host3", FLOWS)
    with only(lab, 4):
        before = ways("host1", "host3", packets, "leaf2")
        with only(lab, 3, of=4):
            after = ways("host1", "host3", packets, "leaf2")
    ports = [f"leaf2:eth{number}" for number in range(1, 5)]
    verdict = disruption(before, after, members=(ports, ports[:-1]), by=ChoosesBy.MODULO)
    note(verdict)
    assert verdict
    assert not disruption(before, after, members=(ports, ports[:-1]), by=ChoosesBy.RESILIENT)
