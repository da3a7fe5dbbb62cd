from __future__ import annotations

import pytest

from labs.errors import RunInvalid
from labs.verdicts.flows import no_flow_lost_for_good, path_prediction
from traffic.flows import (
    Arrival,
    FiveTuple,
    Flow,
    FlowResult,
    Interval,
    StreamResult,
    TrafficPlan,
    TrafficReport,
    Transport,
)


def report(*results: FlowResult) -> TrafficReport:
    return TrafficReport(TrafficPlan("a plan", tuple(result.flow for result in results)), "fake", results)


def result(
    moved: str,
    *,
    transport: Transport = Transport.TCP,
    size: int | None = None,
    error: str | None = None,
    arrivals: str | None = None,
    received: int = 1,
) -> FlowResult:
    """`moved` has one letter a half second: x for bytes, . for none."""
    stream = StreamResult(
        FiveTuple("10.1.0.1", "10.1.0.2", transport, 40000, 5201),
        *(1, received, None, None, None),
        intervals=tuple(Interval(i / 2, i / 2 + 0.5, int(c == "x")) for i, c in enumerate(moved)),
        arrivals=tuple(Arrival(i / 2, i / 2 + 0.5, int(c == "x")) for i, c in enumerate(arrivals or "")),
    )
    flow = Flow("host1", "host2", size, None if size else 4.0, transport)
    return FlowResult(flow, (stream,), 0.0, len(moved) / 2, error)


def test_flows_that_stall_and_come_back_hold() -> None:
    verdict = no_flow_lost_for_good(report(result("xxxxxxxx"), result("xx....xx")), final_s=1.0)
    assert verdict
    assert verdict.evidence.numbers["longest_stall_s"] == 2.0
    assert verdict.evidence.numbers["granularity_s"] == 0.5
    assert verdict.budget_s == 1.0


def test_a_flow_that_stays_silent_is_lost() -> None:
    verdict = no_flow_lost_for_good(report(result("xxxxxxxx"), result("xxxx....")), final_s=1.0)
    assert not verdict
    assert verdict.evidence.numbers["dead"] == ["host1>host2 40000"]
    assert verdict.evidence.numbers["longest_stall_s"] == 2.0


def test_a_flow_that_ended_by_error_is_lost() -> None:
    assert not no_flow_lost_for_good(report(result("xxxxxxxx", error="control socket has closed")), final_s=1.0)


def test_a_flow_that_moved_its_size_is_complete() -> None:
    assert no_flow_lost_for_good(report(result("xx", size=1, received=0)), final_s=0.1)
    assert not no_flow_lost_for_good(report(result("xx", size=100)), final_s=0.1)


def test_udp_that_never_arrived_is_lost() -> None:
    assert not no_flow_lost_for_good(report(result("xxxxxxxx", transport=Transport.UDP, received=0)), final_s=1.0)


def test_udp_is_judged_by_what_arrives() -> None:
    sent = {"transport": Transport.UDP}
    assert no_flow_lost_for_good(report(result("xxxx", arrivals="xx.x", **sent)), final_s=1.0)  # type: ignore[arg-type]
    assert not no_flow_lost_for_good(report(result("xxxx", arrivals="xx..", **sent)), final_s=1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("results", "because"),
    [
        ((), "there are no flows"),
        ((result("xxxx", transport=Transport.UDP),), "UDP sender only"),
        ((result("xxxxxxxx"),), "cannot show the last 0.2 s"),
    ],
)
def test_what_cannot_be_judged_is_invalid(results: tuple[FlowResult, ...], because: str) -> None:
    with pytest.raises(RunInvalid, match=because):
        bool(no_flow_lost_for_good(report(*results), final_s=0.2))


A = FiveTuple("10.1.0.1", "10.1.0.2", Transport.UDP, 1000, 7)
B = FiveTuple("10.1.0.1", "10.1.0.2", Transport.UDP, 1001, 7)


def test_paths_as_predicted_hold() -> None:
    verdict = path_prediction({A: ("leaf1:eth1",)}, {A: ("leaf1:eth1",), B: ("leaf1:eth2",)})
    assert verdict
    assert verdict.evidence.numbers["seen_without_prediction"] == 1


def test_another_path_is_false_and_told() -> None:
    verdict = path_prediction({A: ("leaf1:eth1",), B: ("leaf1:eth1",)}, {A: ("leaf1:eth2",)})
    assert not verdict
    assert verdict.evidence.rows == ("udp 10.1.0.1:1000 > 10.1.0.2:7: took leaf1:eth2, predicted leaf1:eth1",)


@pytest.mark.parametrize("predicted", [{}, {A: ("leaf1:eth1",), B: ("leaf1:eth1",)}])
def test_unseen_flows_or_no_prediction_are_invalid(predicted: dict[FiveTuple, tuple[str, ...]]) -> None:
    with pytest.raises(RunInvalid):
        bool(path_prediction(predicted, {A: ("leaf1:eth1",)}))


ANY = (("leaf1:eth1", "leaf1:eth2"), "spine1:eth1")


@pytest.mark.parametrize(
    ("seen", "held"),
    [
        (("leaf1:eth1", "spine1:eth1"), True),
        (("leaf1:eth2", "spine2:eth1"), True),  # what comes after was predicted for the first way
        ((("leaf1:eth1", "leaf1:eth2"), ("spine1:eth1", "spine2:eth1")), True),
        (("leaf1:eth1", "spine1:eth9"), False),
        (("leaf1:eth1",), False),
        (("leaf1:eth3", "spine1:eth1"), False),
        ((("leaf1:eth1", "leaf1:eth3"), "spine1:eth1"), False),
        ((), False),
        (((),), False),
    ],
)
def test_one_of_several_ways(seen: tuple[str | tuple[str, ...], ...], held: bool) -> None:
    verdict = path_prediction({A: ANY}, {A: seen})
    assert verdict.held is held
    assert verdict.evidence.numbers["one_of_several"] == int(held)
    assert "one of several ways" in verdict.evidence.summary
    if not held:
        assert "predicted leaf1:eth1 or leaf1:eth2 > spine1:eth1" in verdict.evidence.rows[0]


def test_a_prediction_of_one_way_is_held_to_it() -> None:
    assert not path_prediction({A: ("leaf1:eth1",)}, {A: (("leaf1:eth1", "leaf1:eth2"),)}).held
    assert "several" not in path_prediction({A: ("leaf1:eth1",)}, {A: ("leaf1:eth1",)}).evidence.summary
