"""Who plays what the `traffic` fixture is given: plans an engine, bursts scapy, whichever verb is used."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labs import crafted_bridge
from labs.errors import RunInvalid
from labs.lab import Lab
from labs.traffic_bridge import LabTraffic
from traffic.engines.base import Engine
from traffic.engines.crafted_bursts import Crafted, entropy_set, pause_frames
from traffic.engines.crafted_counts import CraftedResult
from traffic.flows import TrafficPlan

BURSTS: tuple[Crafted, ...] = (entropy_set("h1", "h2", 2), pause_frames("h1:eth1", {3: 1}))


@dataclass
class Running:
    what: object
    overflow: int = 0
    finished_within: list[float] = field(default_factory=list)
    stopped: int = 0

    def finish(self, timeout: float) -> CraftedResult:
        self.finished_within.append(timeout)
        return CraftedResult((), overflow=self.overflow)

    def stop(self) -> None:
        self.stopped += 1


@dataclass
class Player:
    started: list[Running] = field(default_factory=list)
    how: list[dict[str, Any]] = field(default_factory=list)
    overflow: int = 0

    def start(self, plan: object, _hosts: object) -> Running:
        self.started.append(Running(plan))
        return self.started[-1]

    def burst(self, _lab: Lab, bursts: Sequence[Crafted], **how: Any) -> Running:
        self.how.append(how)
        self.started.append(Running(bursts, self.overflow))
        return self.started[-1]


@pytest.fixture
def scapy(monkeypatch: pytest.MonkeyPatch) -> Player:
    player = Player()
    monkeypatch.setattr(crafted_bridge, "start", player.burst)
    return player


@pytest.fixture
def iperf3() -> Player:
    return Player()


def traffic(stack: ExitStack, engine: Player) -> LabTraffic:
    lab = cast("Lab", SimpleNamespace(nodes={}, timeout_scale=2.0))
    return LabTraffic(lab, stack, cast("Engine", engine))


@pytest.mark.parametrize("burst", BURSTS, ids=lambda one: type(one).__name__)
def test_bursts_are_scapys_by_every_verb(scapy: Player, iperf3: Player, burst: Crafted) -> None:
    with ExitStack() as stack:
        fixture = traffic(stack, iperf3)
        fixture.run(burst, rate_bps=7.0)
        fixture.send(burst, timeout=3)
        fixture.start(burst)
        with fixture.running(burst) as running:
            assert running is scapy.started[-1]  # type: ignore[comparison-overlap]
        assert scapy.started[3].stopped == 1
        assert scapy.started[2].stopped == 0
    assert [one.what for one in scapy.started] == [(burst,)] * 4
    assert scapy.how == [{"rate_bps": 7.0}, {}, {}, {}]
    assert [one.finished_within for one in scapy.started] == [[120.0], [6.0], [], []]
    assert all(one.stopped for one in scapy.started), "what still runs ends with the test"
    assert iperf3.started == []


def test_several_bursts_are_sent_at_once_and_plans_stay_iperf3s(scapy: Player, iperf3: Player) -> None:
    with ExitStack() as stack:
        fixture = traffic(stack, iperf3)
        fixture.send(*BURSTS)
        fixture.run(TrafficPlan("none", ()))
    assert [one.what for one in scapy.started] == [BURSTS]
    assert [one.what for one in iperf3.started] == [TrafficPlan("none", ())]


def test_counts_that_cannot_be_trusted_make_a_run_invalid(scapy: Player, iperf3: Player) -> None:
    scapy.overflow = 3
    with ExitStack() as stack, pytest.raises(RunInvalid, match="3 packets found a receiver's socket full"):
        traffic(stack, iperf3).send(*BURSTS)
