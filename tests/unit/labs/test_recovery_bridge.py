"""How long an all-reduce stood still, how old bgpds are, and whose outages a measurement tells apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from labs.channel import CommandResult
from labs.channels.scripted import ScriptedChannel
from labs.errors import NotReady, RunInvalid
from labs.lab import Lab
from labs.node import LiveNode
from labs.path import Hop, Path
from labs.probing import ProbeFlow, Way, records
from labs.recovery_bridge import Measured, _stall_s, tell_probed, wait_past_startup
from labs.scenarios import running
from labs.telemetry import telling
from labs.telemetry.records import FaultEvent, Record
from labs.telemetry.telling import Written
from labs.telemetry.timeline import timeline_of
from labs.verdicts.outage import Turn
from topologies.load import load_fabric
from traffic.engines.probe import Gap, ProbedFlow, ProbeReport
from traffic.flows import FiveTuple, Transport

FABRIC = load_fabric("clos_2x4")
S = 1_000_000_000


def collective(*ends_ms: tuple[int, ...]) -> Any:
    """A collective of as many ranks, each with the ends of its iterations."""
    ranks = {i: SimpleNamespace(ended_ns=tuple(ms * 1_000_000 for ms in one)) for i, one in enumerate(ends_ms)}
    played = SimpleNamespace(rc=SimpleNamespace(ranks=ranks))
    return SimpleNamespace(played=played, iterations=min(map(len, ends_ms)))


def test_a_stall_is_the_longest_iteration_beyond_the_median() -> None:
    assert _stall_s(collective((10, 20, 330, 340, 350), (11, 21, 331, 341, 351))) == pytest.approx(0.300)


def test_a_collective_that_did_not_get_far_has_no_stall() -> None:
    assert _stall_s(collective((10,), (11,))) is None


def lab(*ages: str) -> Lab:
    def node(name: str, age: str) -> LiveNode:
        def answer(argv: tuple[str, ...], _: str) -> CommandResult:
            if argv[0] == "cat":
                return CommandResult(argv, 0, "12\n", "")
            return CommandResult(argv, 0 if age else 1, f"  {age}\n", "")

        return LiveNode(FABRIC.node(name), "frr", (), ScriptedChannel(name, answer))

    switches = [node(f"leaf{i}", age) for i, age in enumerate(ages, start=1)]
    return cast("Lab", SimpleNamespace(switches=switches))


def test_old_bgpds_are_not_waited_for() -> None:
    wait_past_startup(lab("121", "5000"))


def test_a_switch_without_a_bgpd_is_not_ready() -> None:
    with pytest.raises(NotReady, match="leaf2: no bgpd runs"):
        wait_past_startup(lab("121", ""))


@pytest.mark.parametrize(
    ("taken", "answer", "why"),
    [
        (False, Written(), "does not answer"),
        (True, None, "does not answer"),
        (True, Written(full=True), "disk is full"),
    ],
)
def test_what_no_recorder_takes_makes_a_run_invalid(
    monkeypatch: pytest.MonkeyPatch, *, taken: bool, answer: Written | None, why: str
) -> None:
    monkeypatch.setattr(telling, "tell", lambda _lab, *_records: taken)
    monkeypatch.setattr(telling, "flush", lambda _lab: answer)
    with pytest.raises(RunInvalid, match=why):
        tell_probed("a-lab", [])


def test_what_a_recorder_takes_is_one_telling(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def tell(_lab: str, *records: Record) -> bool:
        told.append(len(records))
        return True

    monkeypatch.setattr(telling, "tell", tell)
    monkeypatch.setattr(telling, "flush", lambda _lab: Written())
    tell_probed("a-lab", [FaultEvent(t=1, id="f1", fault="x", target="leaf1", phase="made")] * 2)
    assert told == [2]


@pytest.mark.parametrize(("taken", "answer"), [(False, Written()), (True, None), (True, Written(full=True))])
def test_a_scenarios_probe_that_no_recorder_takes_makes_it_invalid(
    monkeypatch: pytest.MonkeyPatch, taken: bool, answer: Written | None
) -> None:
    monkeypatch.setattr(telling, "tell", lambda _lab, *_records: taken)
    monkeypatch.setattr(telling, "flush", lambda _lab: answer)
    probe = SimpleNamespace(flows=(), report=lambda: ProbeReport((), 0, 1))
    watched = SimpleNamespace(probes={"seen": probe}, lab=SimpleNamespace(name="a-lab", fabric=FABRIC), probed={})
    with pytest.raises(RunInvalid, match="what probe 'seen' saw is lost"):
        running.Underway.end_probe(cast("running.Underway", watched), "seen")
    assert watched.probed == {}


def test_outages_are_told_apart_by_fault_and_by_way() -> None:
    five_tuple = FiveTuple("10.64.8.7", "10.64.16.7", Transport.UDP, 46000, 47777)
    hops = (Hop("host1", None, "eth1"), Hop("leaf1", "eth3", "eth1"), Hop("spine1", "eth1", "eth2"))
    own = ProbeFlow(Path(five_tuple, hops, "host3"), "host1", "host3", Way.OWN)
    seen = ProbedFlow(five_tuple, "host1", "host3", 500_000, 9, 8, (Gap(3, 4, 5 * S, 5 * S + 2_000_000),))
    report = ProbeReport((seen,), 0, 9 * S)
    faults = [
        FaultEvent(t=t * S, id=number, fault="link-down", target="leaf1:spine1", phase=phase)
        for number, begin in (("f1", 1), ("f2", 5))
        for t, phase in ((begin, "injecting"), (begin, "made"), (begin + 1, "reverting"), (begin + 2, "reverted"))
    ]
    measured = Measured("leaf1:spine1", (own,), report, timeline_of([*faults, *records(FABRIC, [own], report)]))
    assert [[one.lost for one in found] for found in measured.outages(Way.OWN)] == [[0], [4]]
    assert [len(found) for found in measured.outages(Way.FAR)] == [0, 0]
    assert [[one.lost for one in found] for found in measured.outages(turn=Turn.RESTORATION)] == [[0], [0]]
    assert measured.names(Way.OWN) == ("host1>host3 46000 (own)",)
