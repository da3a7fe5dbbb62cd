"""HASH-7: the engine's groups are the kernel's, whatever comes and goes; a lost link costs what was on it.

    host1 ─ leaf1 ═ spine1 … spine16 ═ leaf2 ─ host3         uplinks of leaf1 are cut, and given back
    host1 ─ leaf1 ═ spine1/spine2 ═ leaf2 ─ host3            the same without an address on any of them

The kernel leaves a next hop out from when its link is down; the engine's group is a moment older. Until it has
followed, a packet that was to go there has a hash that now belongs to another, living member: it goes another way,
and is not lost.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from labs.dataplane.asic import SoftAsic
from labs.dataplane.ecmp_state import live_ecmp
from labs.dataplane.wires import Impairment
from labs.lab import Lab
from labs.load_bridge import five_tuple, let_pass, sending
from labs.pytest_plugin import Faults
from labs.testing import SECOND, FiveTuple, RunInvalid, Transport, wait_until
from topologies.hashing import member
from traffic.engines.rnic import RawFlow, RawReport

FLOWS = 200
CUTS = 10
SENDERS, PACKETS_PER_S = 32, 200
PAYLOAD = 128
WIRE_BITS = (PAYLOAD + 66) * 8
# asicd looks by itself every 5 s, told or not: what it has not been told of must not pass for followed.
FOLLOWED_S = 2.0
SETTLED = 30 * SECOND
MODE = """
base: roce_default
SWITCH_TABLE:
  "*": {{ecmp_hash_seed: 7}}
RAILBED_ECMP:
  "*|3": {{mode: {mode}}}
"""

Play = Callable[..., object]
Ways = Callable[..., Mapping[tuple[int, int], str]]
Flows = Callable[..., list[Any]]
Note = Callable[[object], None]


def kernels(lab: Lab, dst: str) -> tuple[tuple[str, int], ...]:
    """Leaf1's living next hops for a destination, as `ip` lists them: (interface, weight).

    A route that is replaced may be gone for a moment: then they are nobody's, and equal to nothing.
    """
    family = "-6" if ":" in dst else "-4"
    node = lab.node("leaf1")
    said = node.channel.kernel("ip", family, "-j", "route", "get", "fibmatch", dst)
    if not said.ok:
        return (("no route", 0),)
    prefix = json.loads(said.stdout)[0]["dst"]
    routes = json.loads(node.kernel("ip", family, "-j", "route", "show", "exact", prefix).stdout)
    if len(routes) != 1:
        return ((f"{len(routes)} routes", 0),)
    hops = routes[0].get("nexthops", routes)
    return tuple((hop["dev"], hop.get("weight", 1)) for hop in hops if not {"dead", "linkdown"} & set(hop["flags"]))


def engines(lab: Lab, asic: SoftAsic, dst: str) -> tuple[tuple[str, int], ...]:
    """Leaf1's members for a destination, as the program has them: (port, the hash that makes the kernel take it)."""
    live = live_ecmp(lab.name, asic.plan)
    assert live is not None
    group = live.group(asic.port("leaf1", "eth1").first, dst)
    return () if group is None else tuple((live.port_name(one.port), one.hash) for one in group.members)


def wrong(lab: Lab, asic: SoftAsic) -> list[str]:
    """What is not the same of the groups for host3 in both families; nothing when the engine's are the kernel's.

    The same ports in the same order; and by the kernel's law of weights each hash belongs to the member that has it.
    """
    found = []
    for family in (4, 6):
        dst = five_tuple(lab, "host1", "host3", family=family).dst
        hops, members = kernels(lab, dst), engines(lab, asic, dst)
        if [name for name, _ in hops] != [name for name, _ in members]:
            found.append(f"{dst}: the kernel has {hops}, the engine {members}")
            continue
        weights = [weight for _, weight in hops]
        taken = [member(chosen >> 1, weights) for _, chosen in members] if len(hops) > 1 else [0]
        if taken != list(range(len(hops))):
            found.append(f"{dst}: by these hashes the kernel takes {taken}")
    return found


def follows(lab: Lab, asic: SoftAsic) -> None:
    seen = wait_until(
        "the engine has the kernel's groups", lambda: wrong(lab, asic), lambda w: not w, within=FOLLOWED_S
    )
    assert seen.last == [], seen


def members_of(lab: Lab, asic: SoftAsic, family: int = 4) -> list[str]:
    return [port for port, _ in engines(lab, asic, five_tuple(lab, "host1", "host3", family=family).dst)]


@contextmanager
def settled_after(lab: Lab) -> Iterator[None]:
    """The lab is as designed again after the block: neighbours dial in, at most every 10 s."""
    yield
    assert lab.wait_routes_match(within=SETTLED)


@pytest.mark.lab("clos_16x2", profile="roce_default")
def test_groups_are_the_kernels_after_ten_cuts_and_restores(
    lab: Lab, asic: SoftAsic, faults: Faults, play: Play, note: Note
) -> None:
    """One uplink after the other, without waiting for the routes in between; both families; in the end all sixteen.

    Control: with an uplink down the group is another one than before, and one that is not the kernel's is told.
    """
    play(MODE.format(mode="switch_hash"))
    follows(lab, asic)
    whole = {family: members_of(lab, asic, family) for family in (4, 6)}
    assert [len(ports) for ports in whole.values()] == [16, 16]
    with settled_after(lab):
        for number in range(1, CUTS + 1):
            with faults.link_down(lab.fabric.between("leaf1", f"spine{number}")[0]):
                follows(lab, asic)
                for family in (4, 6):
                    assert f"eth{number}" not in members_of(lab, asic, family)
            follows(lab, asic)
        note(f"after {CUTS} cuts and restores: {members_of(lab, asic)}")
    follows(lab, asic)
    # Their order is the kernel's, as `follows` has seen, and may be another: FRR sorts next hops by address, and one of
    # IPv6 is the neighbour's link-local or its global address, as the session came up.
    assert {family: sorted(members_of(lab, asic, family)) for family in whole} == {
        family: sorted(ports) for family, ports in whole.items()
    }


def test_a_group_that_is_not_the_kernels_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control of the comparison: another order, a member too many, hashes of other weights."""
    hops, good = (("eth1", 1), ("eth2", 1)), (("eth1", 1 << 30 | 1), ("eth2", 3 << 30 | 1))
    monkeypatch.setitem(wrong.__globals__, "five_tuple", lambda *_, **__: five_tuple_of())
    for members, told in (
        (good, False),
        (good[::-1], True),
        (good[:1], True),
        ((*good, ("eth3", 1)), True),
        ((good[0], ("eth2", 1 << 30 | 1)), True),
    ):
        monkeypatch.setitem(wrong.__globals__, "kernels", lambda *_: hops)
        monkeypatch.setitem(wrong.__globals__, "engines", lambda *_, seen=members: seen)
        assert bool(wrong(None, None)) is told  # type: ignore[arg-type]


def five_tuple_of() -> FiveTuple:
    return FiveTuple("10.0.0.1", "10.0.0.2", Transport.UDP, 1, 2)


def steady(lab: Lab) -> list[RawFlow]:
    """Lossless flows without an end: 32 · 200 packets a second."""
    return [
        RawFlow(
            "host1",
            "host3",
            five_tuple(lab, "host1", "host3", sport=50_000 + number),
            payload_bytes=PAYLOAD,
            rate_bps=PACKETS_PER_S * WIRE_BITS,
            dscp=3,
        )
        for number in range(SENDERS)
    ]


def heard(report: RawReport) -> None:
    """Raises RunInvalid when a receiver was too slow for what reached its host: that is no loss of the fabric's."""
    for name, one in report.receivers.items():
        if one.overflow:
            raise RunInvalid(f"{name}: {one.overflow} packets found the receiver's socket full")


@pytest.mark.valid_of(3)
@pytest.mark.lab("clos_16x2", profile="roce_default")
@pytest.mark.parametrize("mode", ["switch_hash", "resilient"])
def test_a_lost_link_costs_what_was_on_it(
    lab: Lab, asic: SoftAsic, faults: Faults, play: Play, note: Note, mode: str
) -> None:
    """Flows on other links lose nothing; those on it only what was sent until the kernel had taken it down.

    Bound: a flow sends 200 packets a second, and what its sender was late with besides; the link is being taken down
    for as long as the call took. Two packets may be under way at either end of that time. From then on leaf1's engine
    sends none there. Control: before, it did.
    """
    play(MODE.format(mode=mode))
    follows(lab, asic)
    flows = steady(lab)
    told = [replace(flow.five_tuple, dscp=3) for flow in flows]
    ways = [path.hops[1].out_port for path in lab.paths(told, ["host1"] * SENDERS)]
    port = Counter(ways).most_common(1)[0][0]
    cut = lab.fabric.link_at("leaf1", port)
    with settled_after(lab):
        start = asic.counters()
        with sending(lab, flows) as run:
            let_pass(0.5)
            assert chosen(asic, start, port) > 0
            began = time.monotonic()
            with faults.link_down(cut):
                took = time.monotonic() - began
                follows(lab, asic)
                gone = asic.counters()
                let_pass(0.5)
                assert chosen(asic, gone, port) == 0
                assert chosen(asic, gone) > SENDERS
                report = run.stop()
    heard(report)
    lost = [one.lost_packets for one in report]
    allowed = [math.ceil(PACKETS_PER_S * (took + one.sent.late_worst_ns / 1e9)) + 4 for one in report]
    on_it = [way == port for way in ways]
    theirs = [n for n, on in zip(lost, on_it, strict=True) if on]
    note(f"{port} down in {took * 1e3:.1f} ms: {len(theirs)} flows on it lost {theirs}")
    assert [n for n, on in zip(lost, on_it, strict=True) if not on] == [0] * on_it.count(False)
    assert [n for n, most, on in zip(lost, allowed, on_it, strict=True) if on and n > most] == []


@pytest.mark.valid_of(3)
@pytest.mark.lab("clos_16x2", profile="roce_default")
def test_what_a_link_swallows_is_told_by_flow(lab: Lab, asic: SoftAsic, play: Play) -> None:
    """Control of the accounts above: a wire that loses all for a while costs every flow on it packets, and no other."""
    play(MODE.format(mode="switch_hash"))
    follows(lab, asic)
    flows = steady(lab)
    told = [replace(flow.five_tuple, dscp=3) for flow in flows]
    ways = [path.hops[1].out_port for path in lab.paths(told, ["host1"] * SENDERS)]
    port = Counter(ways).most_common(1)[0][0]
    far = lab.fabric.link_at("leaf1", port).far("leaf1")
    with sending(lab, flows) as run:
        let_pass(0.2)
        asic.impair(far.node, far.name, Impairment(lose=1.0))
        try:
            let_pass(0.2)
        finally:
            asic.impair(far.node, far.name, Impairment())
        report = run.stop()
    heard(report)
    assert [one.lost_packets > 0 for one in report] == [way == port for way in ways]


def chosen(asic: SoftAsic, start: Any, port: str | None = None) -> int:
    """Packets of leaf1's engine, by one port or by all."""
    rows = (asic.counters() - start).ecmp
    return sum(row.packets for row in rows if row.node == "leaf1" and port in {None, row.port})


@pytest.mark.lab("clos_frr_unnumbered", profile="roce_default")
@pytest.mark.parametrize("family", [4, 6])
def test_unnumbered_next_hops_are_followed(
    lab: Lab, asic: SoftAsic, faults: Faults, play: Play, ways: Ways, flows: Flows, family: int
) -> None:
    """200 flows by the spine that the model names; with a link down all by the other; then as before.

    Of 200 flows 100 ± 7.1 go by each spine: between 50 and 150 by 7 standard deviations, so no constant answer passes.
    """
    play(MODE.format(mode="switch_hash"))
    follows(lab, asic)
    packets = flows("host1", "host3", FLOWS, family=family)
    told = [replace(one.five_tuple, dscp=one.dscp) for one in packets]
    model = {
        (one.five_tuple.sport, 0): f"{path.hops[2].node}:{path.hops[2].in_port}"
        for one, path in zip(packets, lab.paths(told, ["host1"] * FLOWS), strict=True)
    }
    assert ways("host1", "host3", packets, "spine1", "spine2") == model
    assert 50 < Counter(model.values())["spine1:eth1"] < 150
    with settled_after(lab), faults.link_down("leaf1:spine1"):
        follows(lab, asic)
        assert members_of(lab, asic, family) == ["eth2"]
        assert set(ways("host1", "host3", packets, "spine1", "spine2").values()) == {"spine2:eth1"}
    follows(lab, asic)
    assert ways("host1", "host3", packets, "spine1", "spine2") == model
