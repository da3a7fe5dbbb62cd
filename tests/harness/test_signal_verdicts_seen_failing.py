"""Judges of marks, pauses, storms and their victims: each seen held, false and INVALID."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from labs.errors import RunInvalid
from labs.telemetry.asic_counters import AsicCounters, PortCounters, QueueCounters
from labs.telemetry.asicd_counters import AsicdCounters
from labs.telemetry.samples import HostSample
from labs.verdicts import Verdict
from labs.verdicts.pfc import PortName
from labs.verdicts.signals import (
    Signalled,
    Treated,
    dropped_if_not_markable,
    marks_before_pauses,
    silent_when_idle,
)
from labs.verdicts.storm import Crossing, head_of_line, may_be_paused, storm_spread

RATE = 100_000_000
STOLEN = HostSample(2.0, steal=0.3, starved_s=0.001)
WELL = HostSample(2.0, steal=0.0, starved_s=0.001)


def invalid(verdict: Verdict) -> str:
    with pytest.raises(RunInvalid):
        bool(verdict)
    return str(verdict.invalid_because)


def signalled(*readings: tuple[int, int]) -> Verdict:
    return marks_before_pauses([Signalled(at / 100, *one) for at, one in enumerate(readings)])


class TestOrder:
    def test_marks_first_or_marks_alone(self) -> None:
        assert signalled((0, 0), (4, 0), (9, 2))
        assert signalled((7, 3), (7, 3), (9, 3), (30, 3))

    @pytest.mark.parametrize("readings", [((0, 0), (0, 3)), ((0, 0), (0, 1), (8, 9)), ((5, 0), (5, 2))])
    def test_pauses_first_or_pauses_alone(self, readings: Sequence[tuple[int, int]]) -> None:
        verdict = signalled(*readings)
        assert not verdict
        assert "no mark before the first pause" in verdict.evidence.summary

    def test_what_says_nothing(self) -> None:
        assert "not congested" in invalid(signalled((3, 3), (3, 3)))
        assert "not congested" in invalid(marks_before_pauses([]))
        assert "within the same 10 ms" in invalid(signalled((0, 0), (2, 2)))


def counted(
    sent: int = 1000, *, size: int = 1_000_000, marked: int = 0, tail: int = 0, paused: Sequence[int] = (0,) * 8
) -> AsicCounters:
    """One port of a switch: queue 3 sent so much, and was told to pause so often by priority."""
    port = PortCounters("leaf1", "eth3", "host3:eth1", True, RATE, pfc_rx=tuple(paused))
    queue = QueueCounters(
        "leaf1", "eth3", 3, sent_packets=sent, sent_bytes=size, marked_packets=marked, tail_packets=tail
    )
    return AsicCounters("lab", (port,), (queue,), (), (), AsicdCounters())


def idle(now: AsicCounters, *, told: int = 0, late: str | None = None, host: HostSample = WELL) -> Verdict:
    return silent_when_idle(now, lasted_s=1.0, told=told, late=late, host=host)


class TestSilence:
    def test_traffic_below_the_rate_is_told_nothing(self) -> None:
        assert idle(counted())

    @pytest.mark.parametrize(
        ("now", "told"),
        [
            (counted(marked=1), 0),
            (counted(tail=1), 0),
            (counted(paused=(0, 0, 0, 1, 0, 0, 0, 0)), 0),
            (counted(), 1),
        ],
    )
    def test_every_signal_is_seen(self, now: AsicCounters, told: int) -> None:
        assert not idle(now, told=told)

    def test_what_says_nothing(self) -> None:
        assert "nothing was sent" in invalid(idle(counted(sent=0, size=0)))
        assert "sent 96% of its rate" in invalid(idle(counted(size=12_000_000)))
        assert invalid(idle(counted(marked=1), late="a burst")) == "a burst"
        assert "starved" in invalid(idle(counted(marked=1), host=STOLEN))
        assert idle(counted(), late="a burst", host=STOLEN)


def treated(
    marked: int = 200, dropped: int = 210, *, lost: int = 0, forged: int = 0, sent: tuple[int, int] = (1000, 1000)
) -> Verdict:
    can = Treated(True, sent[0], sent[0] - lost, marked)
    cannot = Treated(False, sent[1], sent[1] - dropped, forged)
    return dropped_if_not_markable([can, cannot])


class TestNotMarkable:
    def test_each_is_treated_as_it_can_be(self) -> None:
        assert treated()

    @pytest.mark.parametrize(
        "verdict",
        [
            treated(lost=1),
            treated(forged=1),
            treated(dropped=0),
            treated(marked=0),
            treated(marked=0, dropped=0, lost=9),
        ],
        ids=["a markable one lost", "a mark forged", "none dropped", "none marked", "markable ones dropped instead"],
    )
    def test_the_wrong_way_round_is_seen(self, verdict: Verdict) -> None:
        assert verdict.valid
        assert not verdict

    def test_too_few_say_nothing(self) -> None:
        assert "too few" in invalid(treated(marked=3, dropped=0))
        assert "too few" in invalid(treated(marked=0, dropped=0))
        assert "not sent" in invalid(treated(dropped=0, sent=(1000, 0)))


# host1 and host2 to host4, host1 to host3; host5 to host6 elsewhere.
PATHS: Mapping[str, tuple[PortName, ...]] = {
    "host1 to host4": (("host1", "eth1"), ("leaf1", "eth1"), ("spine1", "eth2"), ("leaf2", "eth4")),
    "host1 to host3": (("host1", "eth1"), ("leaf1", "eth1"), ("spine1", "eth2"), ("leaf2", "eth3")),
    "host5 to host6": (("host5", "eth1"), ("leaf3", "eth1"), ("spine2", "eth4"), ("leaf4", "eth4")),
}
STORMED = ("leaf2", "eth4")
MAY_BE = may_be_paused(PATHS.values(), STORMED)


def paused(*ports: PortName, other: PortName | None = None) -> AsicCounters:
    """These ports were told to pause priority 3; `other` priority 4."""
    names = {*(hop for path in PATHS.values() for hop in path)}
    told = dict.fromkeys(ports, (0, 0, 0, 5, 0, 0, 0, 0))
    if other:
        told[other] = (0, 0, 0, *told.get(other, (0,) * 8)[3:4], 2, 0, 0, 0)
    made = [
        PortCounters(node, name, "far", True, RATE, pfc_rx=told.get((node, name), (0,) * 8)) for node, name in names
    ]
    return AsicCounters("lab", tuple(made), (), (), (), AsicdCounters())


class TestStorm:
    def test_it_may_reach_what_flows_there_and_no_more(self) -> None:
        assert set(PATHS["host1 to host4"]) == MAY_BE

    def test_a_storm_on_its_paths(self) -> None:
        assert storm_spread(paused(*PATHS["host1 to host4"]), STORMED, MAY_BE)
        assert storm_spread(paused(STORMED), STORMED, MAY_BE)

    def test_a_pause_elsewhere_is_seen(self) -> None:
        verdict = storm_spread(paused(STORMED, ("spine2", "eth4")), STORMED, MAY_BE)
        assert not verdict
        assert "spine2:eth4 priority 3 was paused 5 times" in verdict.evidence.summary

    def test_a_watchdog_that_should_have_stopped_it_is_seen(self) -> None:
        assert not storm_spread(paused(STORMED, ("spine1", "eth2")), STORMED, [STORMED])

    def test_another_priority_is_seen(self) -> None:
        verdict = storm_spread(paused(STORMED, other=("spine1", "eth2")), STORMED, MAY_BE)
        assert not verdict
        assert "priority 4" in verdict.evidence.summary

    def test_no_storm_says_nothing(self) -> None:
        assert "there was no storm" in invalid(storm_spread(paused(), STORMED, MAY_BE))
        assert "starved" in invalid(storm_spread(paused(STORMED, ("leaf4", "eth4")), STORMED, MAY_BE, host=STOLEN))


def crossing(during: Sequence[float], before: float = 40e6) -> list[Crossing]:
    return [Crossing(name, path, before, rate) for (name, path), rate in zip(PATHS.items(), during, strict=True)]


def victims(during: Sequence[float], *, share: float = 0.5, host: HostSample = WELL) -> Verdict:
    """Both flows of host1, 40 Mbit/s each, leave by leaf1:eth1, which is paused: half of 100 Mbit/s is left to 80."""
    at = ("leaf1", "eth1")
    return head_of_line(crossing(during), {at: share}, {at: RATE}, host=host)


class TestVictims:
    def test_the_flow_behind_loses_as_much_and_the_one_elsewhere_nothing(self) -> None:
        assert victims((25e6, 25e6, 40e6))
        assert victims((26.5e6, 23.2e6, 39e6))

    def test_a_victim_that_loses_more_a_bystander_that_loses_and_one_that_loses_nothing(self) -> None:
        for during in ((25e6, 20e6, 40e6), (25e6, 25e6, 37e6), (25e6, 40e6, 40e6)):
            assert not victims(during)

    def test_another_priority_of_the_same_port_loses_nothing(self) -> None:
        flows = crossing((25e6, 40e6, 40e6))
        flows[1] = replace(flows[1], priority=4)
        at = ("leaf1", "eth1")
        assert head_of_line([replace(flows[0], during_bps=20e6), *flows[1:]], {at: 0.5}, {at: 40e6})
        other = replace(flows[1], during_bps=36e6)
        assert not head_of_line([replace(flows[0], during_bps=20e6), other, flows[2]], {at: 0.5}, {at: 40e6})

    def test_what_says_nothing(self) -> None:
        assert "0 of 3 flows cross" in invalid(victims((40e6, 40e6, 40e6), share=0.0))
        assert "to lose more" in invalid(victims((40e6, 40e6, 40e6), share=0.1))
        assert "starved" in invalid(victims((25e6, 25e6, 30e6), host=STOLEN))
        both = crossing((25e6, 25e6, 40e6))[:2]
        assert "2 of 2 flows cross" in invalid(head_of_line(both, {("leaf1", "eth1"): 0.5}, {("leaf1", "eth1"): RATE}))

    def test_a_flow_behind_two_pauses_gets_what_the_worse_one_leaves(self) -> None:
        flows = [
            replace(one, during_bps=rate) for one, rate in zip(crossing((0, 0, 0)), (10e6, 25e6, 40e6), strict=True)
        ]
        both = {("leaf1", "eth1"): 0.5, ("leaf2", "eth4"): 0.9}
        assert head_of_line(flows, both, dict.fromkeys(both, RATE))
