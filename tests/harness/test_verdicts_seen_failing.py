"""Every verdict is seen held, false and invalid: a check that was never seen failing checks nothing.

Also: the statistical ones keep the false-alarm rate they state, and have the power they promise.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from ipaddress import ip_network
from pathlib import Path

import numpy as np
import pytest

import labs.verdicts
from labs.errors import RunInvalid
from labs.telemetry.asic_counters import AsicCounters, PortCounters, QueueCounters
from labs.telemetry.asicd_counters import AsicdCounters
from labs.telemetry.samples import BgpSession, HostSample, PingSample, PortSample, Prefix, RouteTable
from labs.verdicts import Evidence, Verdict
from labs.verdicts.ecmp import ecmp_spread, spread_over_ports
from labs.verdicts.flows import no_flow_lost_for_good, path_prediction
from labs.verdicts.health import vouch
from labs.verdicts.ledger import nothing_left, packets_conserved
from labs.verdicts.routes import converged, routes_match, sessions_established, tables_still
from traffic.flows import FiveTuple, Flow, FlowResult, Interval, StreamResult, TrafficPlan, TrafficReport, Transport

HOST: Prefix = ip_network("10.1.0.1/32")
STILL: dict[str, dict[Prefix, frozenset[str]]] = {"leaf1": {HOST: frozenset({"eth1"})}}
TUPLE = FiveTuple("10.1.0.1", "10.1.0.2", Transport.TCP, 40000, 5201)


@dataclass(frozen=True)
class Case:
    """One verdict, called so that it holds, is false, and is invalid."""

    judge: Callable[..., Verdict]
    held: Callable[[], Verdict]
    false: Callable[[], Verdict]
    invalid: Callable[[], Verdict]


def counts(*flows: int) -> dict[str, int]:
    return {f"eth{number}": count for number, count in enumerate(flows, 1)}


def ports(*packets: int) -> dict[str, PortSample]:
    return {name: PortSample("leaf1", name, 0.0, True, sent, 0, 0, 0, 0, 0) for name, sent in counts(*packets).items()}


def over_ports(*packets: int) -> Verdict:
    return spread_over_ports(ports(0, 0), ports(*packets), packets_per_flow=100, flows=64)


def routes(*egress: str, tables: bool = True) -> Verdict:
    seen = [RouteTable("leaf1", {HOST: frozenset(egress)})] if tables else []
    return routes_match({"leaf1": {HOST: frozenset({"eth1", "eth2"})}}, seen)


def session(state: str) -> BgpSession:
    return BgpSession("leaf1", "spine1", "eth1", 65000, state, 1.0, 4)


def whole(took_s: float, *egress: str, tables: bool = True) -> Verdict:
    return converged(
        [session("Established")],
        expected_sessions=1,
        routes=routes(*egress, tables=tables),
        pings=[PingSample("host1", "host2", 4, 3, 0)],
        took_s=took_s,
        within_s=5.0,
    )


def flow(*sent: int, transport: Transport = Transport.TCP) -> Verdict:
    moved = tuple(Interval(float(second), second + 1.0, count) for second, count in enumerate(sent))
    tuple_ = FiveTuple(TUPLE.src, TUPLE.dst, transport, TUPLE.sport, TUPLE.dport)
    played = Flow("host1", "host2", duration_s=float(len(sent)), transport=transport)
    streams = (StreamResult(tuple_, sum(sent), sum(sent), None, None, None, moved),)
    result = FlowResult(played, streams, 0.0, float(len(sent)))
    return no_flow_lost_for_good(TrafficReport(TrafficPlan("one", (played,)), "fake", (result,)), final_s=1.0)


def timed(starved_s: float, *, held: bool = True) -> Verdict:
    claim = Verdict("a claim", held, Evidence("a reason"), budget_s=1.0)
    return vouch(claim, HostSample(10.0, steal=0.0, starved_s=starved_s))


def booked(came: int, *, sent: int, waiting: int = 0, moving: bool = False) -> AsicCounters:
    """A host at a host: `came` packets to one queue, of which so many were sent."""
    ports = tuple(PortCounters(*ends, False, 10**9) for ends in (("a", "eth1", "b:eth1"), ("b", "eth1", "a:eth1")))
    of_a = QueueCounters("a", "eth1", 3, own_packets=came, sent_packets=sent, depth_packets=waiting)
    return AsicCounters("a-lab", ports, (of_a, QueueCounters("b", "eth1", 3)), (), (), AsicdCounters(), moving=moving)


CASES = [
    Case(
        ecmp_spread,
        held=lambda: ecmp_spread(counts(17, 14, 20, 13)),
        false=lambda: ecmp_spread(counts(32, 32, 0, 0)),
        invalid=lambda: ecmp_spread(counts(4, 0, 0, 0)),
    ),
    Case(
        spread_over_ports,
        held=lambda: over_ports(3003, 3401),
        false=lambda: over_ports(6403, 2),
        invalid=lambda: over_ports(3003, 3301),
    ),
    Case(
        routes_match,
        held=lambda: routes("eth1", "eth2"),
        false=lambda: routes("eth1"),
        invalid=lambda: routes(tables=False),
    ),
    Case(
        sessions_established,
        held=lambda: sessions_established([session("Established")], 1),
        false=lambda: sessions_established([session("Active")], 1),
        invalid=lambda: sessions_established([], 0),
    ),
    Case(
        tables_still,
        held=lambda: tables_still(STILL, STILL, "OSPF"),
        false=lambda: tables_still({"leaf1": {}}, STILL, "OSPF"),
        invalid=lambda: tables_still({}, {}, "OSPF"),
    ),
    Case(
        converged,
        held=lambda: whole(1.0, "eth1", "eth2"),
        false=lambda: whole(6.0, "eth1", "eth2"),
        invalid=lambda: whole(1.0, tables=False),
    ),
    Case(
        no_flow_lost_for_good,
        held=lambda: flow(9, 0, 9),
        false=lambda: flow(9, 9, 0),
        invalid=lambda: flow(9, 9, 9, transport=Transport.UDP),
    ),
    Case(
        path_prediction,
        held=lambda: path_prediction({TUPLE: ("leaf1:eth1",)}, {TUPLE: ("leaf1:eth1",)}),
        false=lambda: path_prediction({TUPLE: ("leaf1:eth1",)}, {TUPLE: ("leaf1:eth2",)}),
        invalid=lambda: path_prediction({TUPLE: ("leaf1:eth1",)}, {}),
    ),
    Case(
        packets_conserved,
        held=lambda: packets_conserved(booked(4, sent=4), booked(9, sent=7, waiting=2)),
        false=lambda: packets_conserved(booked(4, sent=4), booked(9, sent=7)),
        invalid=lambda: packets_conserved(booked(4, sent=4), booked(9, sent=7, moving=True)),
    ),
    Case(
        nothing_left,
        held=lambda: nothing_left(booked(9, sent=9)),
        false=lambda: nothing_left(booked(9, sent=8, waiting=1)),
        invalid=lambda: nothing_left(booked(9, sent=8, waiting=1, moving=True)),
    ),
    Case(
        vouch,
        held=lambda: timed(0.01),
        false=lambda: timed(0.01, held=False),
        invalid=lambda: timed(0.5),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.judge.__name__)
def test_every_verdict_is_seen_held_false_and_invalid(case: Case) -> None:
    assert case.held()
    assert not case.false()
    assert case.false().evidence.summary
    with pytest.raises(RunInvalid):
        bool(case.invalid())
    assert not case.invalid().valid


def _verdicts() -> set[str]:
    """Every public function that gives a Verdict, with its module."""
    return {
        f"{module.name}.{name}"
        for module in pkgutil.iter_modules(labs.verdicts.__path__, "labs.verdicts.")
        for name, function in inspect.getmembers(import_module(module.name), inspect.isfunction)
        if not name.startswith("_")
        and function.__module__ == module.name
        and inspect.get_annotations(function).get("return") == "Verdict"
    }


def test_no_verdict_is_missing_here() -> None:
    """A new function that gives a Verdict must be seen failing too: here, or in one of the files beside this one."""
    found = _verdicts()
    beside = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*_seen_failing.py"))
    seen = {name for name in found if f"{name.rpartition('.')[2]}(" in beside}
    assert found == seen | {f"{case.judge.__module__}.{case.judge.__name__}" for case in CASES}


DOCUMENTED = Path(__file__).parents[2] / "docs" / "verdicts.md"


def test_the_table_of_verdicts_has_every_one_and_says_where_it_fails() -> None:
    """Every verdict has a row, or is spoken of; and the file that a row names is there and calls it."""
    text = DOCUMENTED.read_text()
    assert {name for name in _verdicts() if f"`{name.rpartition('.')[2]}`" not in text} == set()
    rows = re.findall(r"^\| `(\w+)` \|.*\| `(\w+)` \|$", text, flags=re.MULTILINE)
    assert rows
    wrong = [row for row in rows if row[0] not in (Path(__file__).parent / f"{row[1]}_seen_failing.py").read_text()]
    assert wrong == []


DRAWS = 5000
ALPHA = 1e-2


@pytest.mark.parametrize(
    ("flows", "paths"), [(24, 2), (16, 4), (64, 4), (64, 8), (48, 16), (128, 32), (5000, 4), (5000, 16)]
)
def test_the_false_alarm_rate_is_at_most_the_stated_one(flows: int, paths: int) -> None:
    """5000 spreads by a sound hash at α = 1e-2: at most 50 alarms are expected; 50 + 4·√50 = 78 allows for chance."""
    draws = np.random.default_rng(20240917).multinomial(flows, [1 / paths] * paths, size=DRAWS)
    verdicts = [ecmp_spread(counts(*map(int, draw)), false_alarm=ALPHA) for draw in draws]
    alarms = sum(not verdict for verdict in verdicts)
    assert alarms < ALPHA * DRAWS + 4 * (ALPHA * DRAWS) ** 0.5
    assert alarms > 0, "a check that never alarms at 1e-2 has no power"


@pytest.mark.parametrize(
    ("flows", "weights", "seen"),
    [
        (64, (1, 1, 1, 0), 1.0),  # one uplink of four unused: P(empty) is at most 4·(3/4)⁶⁴ = 4e-8
        (64, (1, 1, 0, 0), 1.0),  # polarised: half of the paths
        (64, (1, 0, 0, 0), 1.0),  # one hash for every tier
        (1024, (2, 1, 1, 1), 0.99),  # a weight of two: χ² grows by n·Σ(p−¼)²·4 = 1024 · 0.12 = 123
        (2048, (1,) * 7 + (0.5,), 0.99),  # one member of eight with half its share
    ],
)
def test_broken_spreads_are_noticed(flows: int, weights: tuple[float, ...], seen: float) -> None:
    share = np.array(weights) / sum(weights)
    draws = np.random.default_rng(7).multinomial(flows, share, size=300)
    noticed = sum(not ecmp_spread(counts(*map(int, draw))) for draw in draws)
    assert noticed >= seen * len(draws)


@pytest.mark.parametrize("paths", [8, 16, 64])
def test_flows_dealt_in_turn_are_noticed(paths: int) -> None:
    verdict = ecmp_spread(counts(*[8] * paths))
    assert not verdict
    assert "more even than hashing is" in verdict.evidence.summary


@pytest.mark.parametrize(
    ("held", "took_s", "valid"),
    [(True, 0.5, True), (True, 0.9, False), (True, None, False), (False, 0.5, False)],
    ids=["with room", "by a hair", "nobody knows when", "not held"],
)
def test_stolen_time_spares_a_limit_that_was_kept_with_room(held: bool, took_s: float | None, valid: bool) -> None:
    """A fifth withheld: what took 0.5 s took 0.625 at most, of 1; 0.9 s may have been 1.125."""
    claim = Verdict("a claim", held, Evidence("a reason"), budget_s=1.0)
    assert vouch(claim, HostSample(10.0, steal=0.2, starved_s=0.0), took_s=took_s).valid is valid
