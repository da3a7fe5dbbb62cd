from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from labs.errors import RunInvalid
from labs.telemetry.samples import BgpSession, PingSample, Prefix, RouteTable
from labs.verdicts import Verdict
from labs.verdicts.routes import converged, routes_match, sessions_established, tables_still

HOST = ip_network("10.1.0.1/32")
OTHER = ip_network("10.1.0.2/32")
GONE = ip_network("10.1.0.9/32")
CONNECTED = ip_network("172.20.0.0/24")
UP = frozenset({"eth1", "eth2"})
EXPECTED: dict[str, dict[Prefix, frozenset[str]]] = {"leaf1": {HOST: UP, OTHER: frozenset({"eth3"})}}


def table(routes: dict[Prefix, frozenset[str]], node: str = "leaf1") -> RouteTable:
    return RouteTable(node, routes)


def session(number: int, state: str = "Established") -> BgpSession:
    return BgpSession("leaf1", f"spine{number}", f"eth{number}", 65000, state, 1.0, 4)


def test_the_same_routes_hold_whatever_else_is_there() -> None:
    assert routes_match(EXPECTED, [table({**EXPECTED["leaf1"], CONNECTED: UP}), table({}, "other")])


@pytest.mark.parametrize(
    ("change", "row"),
    [
        ({HOST: frozenset({"eth2"})}, "leaf1: 10.1.0.1/32: missing eth1 (has eth2)"),
        ({OTHER: frozenset({"eth3", "eth10"})}, "leaf1: 10.1.0.2/32: extra eth10 (has eth3, eth10)"),
        ({OTHER: frozenset({"eth1"})}, "leaf1: 10.1.0.2/32: missing eth3, extra eth1 (has eth1)"),
        ({HOST: frozenset()}, "leaf1: 10.1.0.1/32: absent (expected eth1, eth2)"),
        ({GONE: UP}, "leaf1: 10.1.0.9/32: unexpected (via eth1, eth2)"),
    ],
)
def test_each_difference_is_a_row(change: dict[Prefix, frozenset[str]], row: str) -> None:
    verdict = routes_match(EXPECTED, [table({**EXPECTED["leaf1"], **change})], ours={HOST, OTHER, GONE})
    assert not verdict
    assert verdict.evidence.rows == (row,)
    assert verdict.evidence.numbers["differences"] == 1


def test_a_route_that_must_not_be_is_unexpected() -> None:
    verdict = routes_match(
        {"leaf1": {**EXPECTED["leaf1"], GONE: frozenset()}}, [table({**EXPECTED["leaf1"], GONE: UP})]
    )
    assert not verdict
    assert "unexpected" in verdict.evidence.rows[0]


def test_rows_are_the_first_twelve() -> None:
    many = {f"leaf{number}": EXPECTED["leaf1"] for number in range(1, 21)}
    verdict = routes_match(many, [table({}, name) for name in many])
    assert verdict.evidence.numbers["differences"] == 40
    assert len(verdict.evidence.rows) == 13
    assert verdict.evidence.rows[-1] == "… 28 more"


def test_a_silent_node_is_invalid_unless_another_differs() -> None:
    both = {**EXPECTED, "leaf2": EXPECTED["leaf1"]}
    with pytest.raises(RunInvalid, match="no route table from leaf2"):
        bool(routes_match(both, [table(EXPECTED["leaf1"])]))
    assert not routes_match(both, [table({})])


def test_no_expectation_is_invalid() -> None:
    with pytest.raises(RunInvalid, match="no route is expected"):
        bool(routes_match({"leaf1": {}}, [table(EXPECTED["leaf1"])]))


def test_sessions() -> None:
    assert sessions_established([session(1), session(2)], 2)
    down = sessions_established([session(1), session(2, "Active")], 2)
    assert not down
    assert down.evidence.rows == ("leaf1: eth2 to spine2 is Active",)
    assert not sessions_established([session(1)], 2)
    with pytest.raises(RunInvalid):
        bool(sessions_established([], 0))


def judged(
    sessions: list[BgpSession] | None = None,
    routes: Verdict | None = None,
    pings: tuple[PingSample, ...] = (PingSample("host1", "host2", 4, 3, 0),),
    took_s: float = 1.0,
) -> Verdict:
    return converged(
        sessions if sessions is not None else [session(1), session(2)],
        expected_sessions=2,
        routes=routes if routes is not None else routes_match(EXPECTED, [table(EXPECTED["leaf1"])]),
        pings=pings,
        took_s=took_s,
        within_s=5.0,
    )


def test_converged_holds_and_shows_its_three_parts() -> None:
    verdict = judged()
    assert verdict
    assert {"sessions", "routes", "pings"} <= verdict.evidence.numbers.keys()
    assert verdict.budget_s == 5.0


def test_each_part_and_the_time_can_make_it_false() -> None:
    assert not judged(sessions=[session(1)])
    assert not judged(routes=routes_match(EXPECTED, [table({})]))
    assert not judged(pings=(PingSample("host1", "host2", 4, 3, 1),))
    late = judged(took_s=5.5)
    assert not late
    assert "too late: at 5.50 s, allowed 5 s" in late.evidence.summary


def test_a_doubtful_part_makes_it_invalid_unless_another_is_false() -> None:
    doubtful = replace(routes_match(EXPECTED, [table(EXPECTED["leaf1"])]).invalid("starved"), held=False)
    with pytest.raises(RunInvalid, match="starved"):
        bool(judged(routes=doubtful))
    assert not judged(routes=doubtful, sessions=[session(1)])
    with pytest.raises(RunInvalid, match="none was"):
        bool(judged(pings=(PingSample("host1", "host2", 4, 0, 0),)))


def test_a_lab_without_hosts_says_that_nothing_was_pinged() -> None:
    assert "no pings" in judged(pings=()).evidence.summary


def test_tables_that_stand_still() -> None:
    tables: dict[str, dict[Prefix, frozenset[str]]] = {"r1": {HOST: frozenset({"eth1"})}}
    still = tables_still(tables, tables, "r1 runs OSPF")
    assert still.held
    assert "the oracle was not asked: r1 runs OSPF" in still.evidence.summary
    others: tuple[dict[str, dict[Prefix, frozenset[str]]], ...] = ({"r1": {}}, {}, {"r1": {HOST: frozenset({"eth2"})}})
    for other in others:
        assert not tables_still(other, tables, "").held
    assert not tables_still(tables, {"r1": {}}, "").held
    judged = converged([], expected_sessions=0, routes=still, pings=[], took_s=1, within_s=2)
    assert judged.held
    assert judged.valid
