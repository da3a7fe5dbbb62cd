"""What scenarios wait for and claim, seen held and failing without a lab: how a word asks its verdict."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labs.channel import CommandResult
from labs.channels.scripted import ScriptedChannel
from labs.errors import NotReady
from labs.node import LiveNode
from labs.scenarios import claims, conditions
from labs.scenarios.claims import CLAIMS, waited_for
from labs.scenarios.running import Underway
from labs.scenarios.scenario import ClaimStep, ProbeStep, WaitStep
from labs.verdicts import Evidence, Verdict
from labs.verdicts.recovered import TOO_EARLY
from labs.verdicts.signals import Signalled
from topologies.load import load_fabric

SLOW = Verdict("no rank makes the others wait", False, Evidence("one does", {"worst": "rank 1 on host2"}))
CLOS = load_fabric("clos_2x4")
FAIR = Verdict("no rank makes the others wait", True, Evidence("nobody is waited for", {"worst": None}))


class Watch:
    """One that vouches for everything."""

    def vouch(self, verdict: Verdict, *, took_s: float | None = None) -> Verdict:
        del took_s
        return verdict


@dataclass
class Ring:
    """Traffic of two ranks that says how far it is, one answer after the other; the last for good."""

    told: list[tuple[int, ...]]
    endless: bool = False
    over: bool = False
    operation: Any = field(default_factory=lambda: SimpleNamespace(graph=SimpleNamespace(ranks=2)))

    def progress(self) -> tuple[Any, ...]:
        now = self.told.pop(0) if len(self.told) > 1 else self.told[0]
        return tuple(SimpleNamespace(rank=rank, iterations=done) for rank, done in enumerate(now))

    def has_ended(self) -> bool:
        return self.over


def run(**what: Any) -> Underway:
    lab = SimpleNamespace(timeout_scale=1.0)
    return cast(Underway, SimpleNamespace(lab=lab, watch=Watch(), **what))


@pytest.mark.parametrize(
    ("ring", "held"),
    [
        (Ring([(3, 3), (3, 4), (4, 4)]), True),
        (Ring([(3, 3), (3, 4)]), False),
        (Ring([(3, 3), ()], over=True), True),  # it came to its end meanwhile
        (Ring([(9, 9)], over=True), True),  # or before
        (Ring([(3, 3), ()], over=True, endless=True), False),  # what has no end of its own has failed
        (Ring([(3, 3), ()]), False),  # nobody answers
    ],
)
def test_progress(ring: Ring, held: bool) -> None:
    found = conditions.wait(run(running={"ring": ring}), WaitStep(condition="progress", of="ring", within_s=0.2))
    assert (found.held, found.valid) == (held, True)


@pytest.mark.parametrize(
    ("said", "looks"),
    [([FAIR], 1), ([SLOW], 1), ([SLOW.invalid(TOO_EARLY), SLOW.invalid(TOO_EARLY), SLOW], 3)],
)
def test_came_back_is_looked_for_until_its_limit_is_over(
    monkeypatch: pytest.MonkeyPatch, said: list[Verdict], looks: int
) -> None:
    left = list(said)
    monkeypatch.setattr(claims, "came_back", lambda *_, **__: left.pop(0))
    fault = SimpleNamespace(target="leaf1:spine1", id="f1")
    under_way = run(timeline=lambda: None, faults={"cut": fault})
    verdict = CLAIMS["came_back"](under_way, ClaimStep(claim="came_back", of="cut", numbers={"within": 5.0}))
    assert (verdict, len(said) - len(left)) == (said[-1], looks)


@pytest.mark.parametrize(
    ("flows", "target", "named"),
    [
        ("all", "leaf1:spine1", ["a", "b", "c"]),
        ("own", "leaf1:spine1", ["a"]),
        ("own", "spine1:leaf1", ["a"]),
        ("far", "leaf2:spine1", ["c"]),
        ("beside", "leaf2:spine1", []),
        ("own", "spine1", []),
    ],
)
def test_recovered_names_its_flows(monkeypatch: pytest.MonkeyPatch, flows: str, target: str, named: list[str]) -> None:
    """Those of all probes; how they stand to a link is asked only of who was probed around it."""
    asked: list[str] = []

    def judged(*_: object, only: list[str], **__: object) -> Verdict:
        asked.extend(only)
        return FAIR

    monkeypatch.setattr(claims, "recovered", judged)
    one, other = (ProbeStep(name=link, around=link, pps=100) for link in ("leaf1:spine1", "leaf2:spine1"))
    probed = {
        one.name: (SimpleNamespace(name="a", way="own"), SimpleNamespace(name="b", way="beside")),
        other.name: (SimpleNamespace(name="c", way="far"),),
    }
    fault = SimpleNamespace(target=target, id="f1")
    scenario = SimpleNamespace(steps=(one, other))
    under_way = run(timeline=lambda: None, faults={"cut": fault}, probed=probed, scenario=scenario)
    step = ClaimStep(claim="recovered", of="cut", numbers={"within": 5.0}, words={"flows": flows})
    verdict = CLAIMS["recovered"](under_way, step)
    assert (asked, verdict.valid) == (named, bool(named))


@pytest.mark.parametrize("holds", [True, False])
def test_only_a_claim_that_should_hold_is_told_how_late_it_came(holds: bool) -> None:
    asked: list[bool] = []

    def wait_routes_match(_fabric: object, *, within: float, grace: bool) -> Verdict:
        del within
        asked.append(grace)
        return FAIR

    under_way = run(without=lambda _names: None)
    cast("Any", under_way).lab.wait_routes_match = wait_routes_match
    CLAIMS["routes_match"](under_way, ClaimStep(claim="routes_match", numbers={"within": 1.0}, holds=holds))
    assert asked == [holds]


def switch(name: str, sessions: int | None) -> LiveNode:
    """A switch with so many sessions up, or one that does not answer."""
    peers = {f"p{i}": {"state": "Established", "remoteAs": 1, "interface": "eth1"} for i in range(sessions or 0)}
    said = json.dumps({"ipv4Unicast": {"peers": peers}, "ipv6Unicast": {"peers": {}}})

    def answer(argv: tuple[str, ...], _: str) -> CommandResult:
        if sessions is None:
            raise NotReady(f"{name}: it is gone")
        return CommandResult(argv, 0, said if "vtysh" in argv[0] else "121", "")

    return LiveNode(CLOS.node(name), "frr", (), ScriptedChannel(name, answer))


@pytest.mark.parametrize(
    ("condition", "held", "said"),
    [
        ("sessions_down", True, "2 of 4 session ends are established"),
        ("sessions_up", False, "2 of 4 session ends are established"),
        ("restart_ready", False, "the youngest is 0 s old"),
    ],
)
def test_a_node_that_a_fault_took_away_has_no_sessions(condition: str, held: bool, said: str) -> None:
    """And who does not answer for another reason is trouble with the testbed."""
    fabric = SimpleNamespace(session_ends=4)
    rendered = SimpleNamespace(spec=SimpleNamespace(bgp=SimpleNamespace(bfd=None)))
    under_way = run(faulted=lambda node: node == "spine1")
    lab = cast("Any", under_way).lab
    lab.fabric, lab.rendered = fabric, rendered
    lab.switches = [switch("leaf1", 2), switch("spine1", None)]
    step = WaitStep(condition=condition, within_s=5.0 if held else 0.05)
    found = conditions.wait(under_way, step)
    assert (found.held, said in found.evidence.summary) == (held, True)
    lab.switches = [switch("leaf1", None), switch("spine1", None)]
    with pytest.raises(NotReady, match="leaf1"):
        conditions.wait(under_way, step)


def test_a_fault_is_on_its_node_until_it_is_gone() -> None:
    def made(target: str, live: object) -> Any:
        return SimpleNamespace(target=target, site=SimpleNamespace(live=live))

    over: list[str] = []
    faults = {"crash": made("spine1", "live"), "cut": made("leaf1:spine1", None)}
    under_way = cast("Any", SimpleNamespace(faults=faults, gone=over.__contains__))
    assert Underway.faulted(under_way, "spine1")
    assert not Underway.faulted(under_way, "leaf1")
    over.append("crash")
    assert not Underway.faulted(under_way, "spine1")


@pytest.mark.parametrize(
    ("found", "host", "held"), [(SLOW, "host2", True), (SLOW, "host1", False), (FAIR, "host2", False)]
)
def test_the_rank_that_is_waited_for(found: Verdict, host: str, held: bool) -> None:
    verdict = waited_for(found, host)
    assert (verdict.held, verdict.claim) == (held, f"the rank on {host} makes the others wait")
    assert not waited_for(found.invalid("late"), host).valid


def test_stragglers_with_and_without_a_name() -> None:
    under_way = run(results={"ring": SimpleNamespace(stragglers=lambda _held_up=None: SLOW)})
    assert not CLAIMS["stragglers"](under_way, ClaimStep(claim="stragglers", of="ring"))
    assert CLAIMS["stragglers"](under_way, ClaimStep(claim="stragglers", of="ring", words={"worst": "host2"}))


@pytest.mark.parametrize(
    ("readings", "held"), [([(0.1, 5, 0), (0.2, 9, 3)], True), ([(0.1, 0, 2), (0.2, 9, 3)], False)]
)
def test_marks_before_pauses(readings: list[tuple[float, int, int]], held: bool) -> None:
    load = SimpleNamespace(readings=[Signalled(0.0, 0, 0), *(Signalled(*one) for one in readings)])
    claim = ClaimStep(claim="marks_before_pauses", of="incast")
    assert bool(CLAIMS["marks_before_pauses"](run(loads={"incast": load}), claim)) is held
