"""The traffic fixture with collectives: beside a fault, flows and one another, and ended whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labs.lab import Lab
from labs.pytest_plugin import Faults
from labs.testing import (
    KIB,
    MBIT,
    MIB,
    SECOND,
    Flow,
    Operation,
    RcSettings,
    SpecError,
    TrafficPlan,
    all_to_all,
    ring_all_reduce,
    wait_until,
)
from labs.traffic_bridge import LabTraffic

LAB = str(Path(__file__).parent / "clos_2x4_100mbit.yaml")
pytestmark = [pytest.mark.lab(LAB, profile="roce_default"), pytest.mark.valid_of(3)]


def rnics(lab: Lab) -> list[str]:
    """The programs in the hosts' network namespaces that are rnic's."""
    spaces = {lab.deployment.netns(host.name).stat().st_ino for host in lab.fabric.hosts}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text() == "rnic\n" and (process / "ns/net").stat().st_ino in spaces:
                found.append(process.name)
        except OSError:  # ended meanwhile
            continue
    return found


def test_a_ring_runs_beside_a_cut_link(lab: Lab, traffic: LabTraffic, faults: Faults) -> None:
    """The switches forget the link while the ring goes on; what was on its way is sent again after a time-out."""
    link = lab.fabric.uplinks("leaf1")[0]
    settings = RcSettings(seed=lab.seed, timeout_s=0.5)
    with traffic.running(ring_all_reduce(lab.fabric.hosts, size=1 * MIB), settings=settings) as run:
        with faults.link_down(link):
            assert lab.wait_routes_match(lab.fabric.without(link), within=5 * SECOND)
            cut = {one.rank: one.iterations for one in run.progress()}
            assert len(cut) == 8
            went_on = wait_until(
                "every rank has done two more iterations",
                run.progress,
                lambda ranks: all(one.iterations >= cut[one.rank] + 2 for one in ranks),
                within=20 * SECOND,
            )
            assert went_on.held, went_on
        result = run.finish()
    assert (result.error, result.wrong) == (None, 0)
    assert lab.wait_routes_match(within=15 * SECOND)
    assert rnics(lab) == []


def test_ranks_say_how_far_they_are(lab: Lab, traffic: LabTraffic) -> None:
    with traffic.running(ring_all_reduce(lab.fabric.hosts, size=256 * KIB)) as run:
        first = run.progress()
        later = wait_until(
            "a second iteration is done",
            run.progress,
            lambda ranks: min(one.iterations for one in ranks) >= 2,
            within=20 * SECOND,
        )
        assert later.held, later
        for before, now in zip(first, later.last, strict=True):
            assert (now.rank, now.host) == (before.rank, before.host)
            # A rank sends 14 shares an iteration; what is under way comes on top.
            assert now.messages >= now.iterations * 14 >= 28
            assert now.received_bytes >= now.iterations * 14 * 32 * KIB
            assert now.messages >= before.messages
    assert run.result.iterations >= 2
    assert run.result.error is None


def fail_beside(traffic: LabTraffic, fail: Callable[[], object], operation: Operation) -> None:
    with traffic.running(operation):
        fail()


def test_a_failure_in_the_block_leaves_nothing_running(lab: Lab, traffic: LabTraffic) -> None:
    seen: list[str] = []
    with pytest.raises(ZeroDivisionError):
        fail_beside(
            traffic, lambda: [*map(seen.append, rnics(lab)), 1 // 0], ring_all_reduce(lab.fabric.hosts, size=64 * MIB)
        )
    assert len(seen) == 8
    assert rnics(lab) == []


def test_flows_run_beside_a_collective(lab: Lab, traffic: LabTraffic) -> None:
    """TCP at 10 Mbit/s in the best-effort class, between hosts that play a ring meanwhile: both get through."""
    flows = TrafficPlan("beside", (Flow("host1", "host5", duration_s=3, rate_bps=10 * MBIT),))
    with traffic.running(ring_all_reduce(lab.fabric.hosts, size=256 * KIB)) as run, traffic.running(flows) as sending:
        report = sending.finish(30 * SECOND)
        result = run.finish()
    assert [one.error for one in report] == [None]
    assert report.received_bytes * 8 >= 0.9 * 3 * 10 * MBIT
    assert (result.error, result.wrong) == (None, 0)
    assert result.iterations >= 2


def test_two_collectives_run_at_once_on_other_hosts(lab: Lab, traffic: LabTraffic) -> None:
    hosts = lab.fabric.hosts
    with (
        traffic.running(ring_all_reduce(hosts[:4], size=256 * KIB)) as one,
        traffic.running(all_to_all(hosts[4:], size=256 * KIB)) as other,
    ):
        results = [run.finish() for run in (one, other)]
    assert [(result.error, result.wrong) for result in results] == [(None, 0), (None, 0)]
    with pytest.raises(SpecError, match="leaf1"):
        traffic.run(ring_all_reduce(["host1", "leaf1"], size=MIB))
