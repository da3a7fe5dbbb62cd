"""Where ranks stand on a lab, and how idle the workstation was."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labs.collective_bridge import (
    LEAST_S,
    PATIENCE,
    Played,
    addresses,
    counted_since,
    cpu_time,
    playing,
    queues_of,
    ranks_on,
)
from labs.telemetry.asic_counters import AsicCounters, QueueCounters
from labs.telemetry.asicd_counters import AsicdCounters
from labs.telemetry.samples import HostSample
from topologies.builders import dual_plane, leaf_spine, rails
from topologies.errors import SpecError
from topologies.fabric import Fabric
from topologies.units import GBIT, MBIT
from traffic.bounds import placed_ideal_s
from traffic.collectives import send_recv
from traffic.engines.rc_report import RcReport
from traffic.engines.rnic_rc import MOST_ITERATIONS, RankProgress, RcRun


def lab(fabric: Fabric) -> Any:
    return SimpleNamespace(fabric=fabric, name="lab")


def test_a_rank_stands_on_every_card_at_its_links_rate() -> None:
    placement = ranks_on(lab(leaf_spine(1, 2, 1, host_rate=100 * MBIT)))
    assert [(rank.host, rank.nics, rank.rate_bps) for rank in placement.ranks] == [
        ("host1", (1,), 1e8),
        ("host2", (1,), 1e8),
    ]
    several = ranks_on(lab(rails(2, 2, 2)), ["host2", "host1"], rate_bps=GBIT // 2)
    assert [(rank.host, rank.nics) for rank in several.ranks[:2]] == [("host2", (1,)), ("host2", (2,))]
    assert {rank.rate_bps for rank in several.ranks} == {5e8}


def test_what_is_no_place_for_ranks_is_refused() -> None:
    with pytest.raises(SpecError, match="1 ranks on host1"):
        ranks_on(lab(leaf_spine(1, 2, 1)), ["host1"])
    with pytest.raises(SpecError, match="leaf1"):
        ranks_on(lab(leaf_spine(1, 2, 1)), ["host1", "leaf1"])
    with pytest.raises(SpecError, match="card 1 of host1 has 2 ports"):
        ranks_on(lab(dual_plane(1, 1, 2)))


def test_addresses_are_the_fabrics_own() -> None:
    ask = addresses(lab(leaf_spine(1, 2, 1)))
    assert ask("host1", 1) != ask("host2", 1)
    with pytest.raises(SpecError):
        ask("host1", 7)


def test_waiting_for_disks_is_idle_too_and_what_keeps_awake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  10 1 5 70 8 1 2 3 99 99\ncpu0 1 1 1 1\n")
    monkeypatch.setattr("labs.collective_bridge.spun_ns", lambda: 0)
    assert cpu_time(stat) == (78, 100)
    monkeypatch.setattr("labs.collective_bridge.spun_ns", lambda: 50_000_000)
    assert cpu_time(stat) == (83, 100)


class Endless(RcRun):
    """A run that only pretends: two hosts, of which one has done 40 iterations and one 42, to end after 50."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def progress(self) -> tuple[RankProgress, ...]:
        return tuple(RankProgress(rank, f"host{rank + 1}", 40 + 2 * rank, 50, 0, 0, 0) for rank in (0, 1))

    def end_soon(self) -> int:
        return 50

    def finish(self, timeout: float, watch: object = None) -> Any:
        del watch
        self.waited.append(timeout)
        return SimpleNamespace(dscp=26)

    def stop(self) -> Any:
        return self.finish(0.0)


def test_what_is_to_end_soon_is_waited_for_as_long_as_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for as long as the million iterations it might have played."""
    fabric, run = leaf_spine(1, 2, 1, host_rate=MBIT), Endless()
    monkeypatch.setattr("labs.collective_bridge.check_running", lambda *_: None)
    plan = SimpleNamespace(graph=(graph := send_recv(2, size=10**6)), extra_s=3.0, start=lambda _: run)
    monkeypatch.setattr("labs.collective_bridge.planned", lambda *_, **__: plan)
    monkeypatch.setattr("labs.lease.measuring", lambda *_: nullcontext(SimpleNamespace(disturbed=lambda: None)))
    live: Any = SimpleNamespace(fabric=fabric, name="lab", asic=None, timeout_scale=1.0)
    placement = ranks_on(live)
    least_s = placed_ideal_s(graph, placement)
    with playing(live, graph, placement, iterations=MOST_ITERATIONS) as under_way:
        assert under_way.patience_s(under_way.iterations) > PATIENCE * least_s * MOST_ITERATIONS
        under_way.end_soon()
        under_way.finish()
    assert run.waited[0] == pytest.approx(PATIENCE * least_s * 10 + 3.0)
    assert run.waited[0] > LEAST_S


class Rnic(RcReport):
    """A report of rnic's whose hosts lost three packets."""

    lost_packets, timeouts = 3, 9


def played(lost: int, dropped: dict[int, int], queues: frozenset[int] | None = None, found: Any = None) -> Played:
    found = found or SimpleNamespace(lost_packets=lost, timeouts=0)
    counted = AsicCounters(
        "lab",
        (),
        tuple(QueueCounters("leaf1", "eth1", queue, lost_packets=count) for queue, count in dropped.items()),
        (),
        (),
        AsicdCounters(),
    )
    return Played(found, HostSample(1.0, 0.0, 0.0), 1.0, counted, queues=queues)


def test_what_other_classes_lost_is_not_the_collectives() -> None:
    fabric = leaf_spine(1, 2, 1)
    profile = SimpleNamespace(port=lambda *_: SimpleNamespace(queue_of_dscp={26: 3, 0: 1}.__getitem__))
    live: Any = SimpleNamespace(fabric=fabric, asic=SimpleNamespace(profile=profile))
    without: Any = SimpleNamespace(asic=None)
    assert queues_of(live, 26) == frozenset({3})
    assert queues_of(live, 0) == frozenset({1})
    assert queues_of(without, 26) is None
    assert played(0, {1: 5, 3: 2}, frozenset({3})).dropped == 2
    assert played(0, {1: 5, 3: 2}).dropped == 7
    assert played(0, {1: -1, 3: 2}).dropped == 2, "what came after all was another's loss"


def test_what_came_after_all_is_waited_for() -> None:
    """A queue that holds less than nothing is about to be put right; one that lost a packet for good is not."""
    looks = [(1, -1), (1, -1), (0, 0), (0, 0)]

    def counters(lost: int, depth: int) -> AsicCounters:
        queue = QueueCounters("leaf1", "eth1", 3, lost_packets=lost, depth_packets=depth)
        return AsicCounters("lab", (), (queue,), (), (), AsicdCounters())

    late: Any = SimpleNamespace(counters=lambda: counters(*looks.pop(0)))
    assert counted_since(late, counters(0, 0)).queues[0].lost_packets == 0
    assert len(looks) == 1
    lost: Any = SimpleNamespace(counters=lambda: counters(1, 0))
    assert counted_since(lost, counters(0, 0)).queues[0].lost_packets == 1


def test_what_was_missed_at_the_far_end_is_not_counted_twice() -> None:
    assert played(2, {3: 2}).lost_packets == 2
    assert played(3, {3: 2}).lost_packets == 3
    rnic = Rnic.__new__(Rnic)
    assert played(3, {3: 2}, found=rnic).lost_packets == 5
    assert played(3, {}, found=rnic).lost_packets == 3
