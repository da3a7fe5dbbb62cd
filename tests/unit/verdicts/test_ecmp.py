from __future__ import annotations

import re

import pytest

from labs.errors import RunInvalid, SpecError
from labs.telemetry.samples import PortSample
from labs.verdicts import Verdict
from labs.verdicts.ecmp import ecmp_spread, flows_needed, flows_per_path, flows_to_notice_unused, spread_over_ports


def spread(*counts: int, false_alarm: float = 1e-5) -> Verdict:
    return ecmp_spread({f"eth{number}": count for number, count in enumerate(counts, 1)}, false_alarm=false_alarm)


def samples(**tx: int) -> dict[str, PortSample]:
    return {port: PortSample("leaf1", port, 0.0, True, packets, 0, 0, 0, 0, 0) for port, packets in tx.items()}


def test_a_plausible_spread_holds() -> None:
    verdict = spread(17, 14, 20, 13)
    assert verdict
    assert verdict.evidence.numbers["method"] == "exact multinomial"
    assert verdict.evidence.numbers["false_alarm"] == 1e-5


def test_all_on_one_path_is_uneven() -> None:
    verdict = spread(64, 0, 0, 0)
    assert not verdict
    assert "too uneven" in verdict.evidence.summary


def test_one_of_four_uplinks_unused_is_false() -> None:
    verdict = spread(21, 21, 22, 0)
    assert not verdict
    assert "eth4 carries only 0" in verdict.evidence.summary
    assert "too uneven" not in verdict.evidence.summary, "χ² alone does not see it"


def test_dealt_in_turn_over_many_paths_is_too_even() -> None:
    verdict = spread(*[8] * 8)
    assert not verdict
    assert "more even than hashing is" in verdict.evidence.summary


def test_few_paths_are_judged_one_sided_and_say_so() -> None:
    verdict = spread(16, 16, 16, 16)
    assert verdict
    assert verdict.evidence.numbers["one_sided"] is True
    assert verdict.evidence.numbers["not_asked"] == ["even"]


@pytest.mark.parametrize("paths", [2, 3, 4, 8, 16, 64])
def test_flows_needed_is_where_the_check_begins_to_be_able_to_fail(paths: int) -> None:
    needed = flows_needed(paths)
    assert not spread(needed, *[0] * (paths - 1))
    with pytest.raises(RunInvalid, match=f"{needed} flows are needed"):
        bool(spread(needed - 1, *[0] * (paths - 1)))


@pytest.mark.parametrize("paths", [3, 4, 8, 16])
def test_an_unused_path_is_noticed_from_the_stated_number_of_flows(paths: int) -> None:
    flows = flows_to_notice_unused(paths)
    each, over = divmod(flows, paths - 1)
    assert not spread(0, *[each + 1] * over, *[each] * (paths - 1 - over))


@pytest.mark.parametrize("counts", [(), (5,), (0, 0, 0, 0)])
def test_nothing_to_judge_is_invalid(counts: tuple[int, ...]) -> None:
    with pytest.raises(RunInvalid):
        bool(spread(*counts))


def test_many_flows_are_judged_by_the_bounded_textbook_law() -> None:
    verdict = spread(*[10_000 + shift for shift in (-150, 90, 60, 0)])
    assert verdict
    assert verdict.evidence.numbers["method"] == "chi-square times 1.6"
    assert not spread(10_500, 9_500, 10_000, 10_000)


@pytest.mark.parametrize("false_alarm", [0.0, 1e-9, 0.6])
def test_a_false_alarm_rate_out_of_range_is_refused(false_alarm: float) -> None:
    with pytest.raises(SpecError, match=r"allowed: 1e-07 to 0\.5"):
        spread(30, 30, false_alarm=false_alarm)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(SpecError, match="negative number of flows on eth2"):
        spread(30, -1)


def test_counters_become_flows_despite_background() -> None:
    counted = flows_per_path(
        samples(eth1=7, eth2=0), samples(eth1=7 + 300 + 12, eth2=500 + 3), packets_per_flow=100, flows=8
    )
    assert counted.because is None
    assert not counted.sprayed
    assert counted.flows == {"eth1": 3, "eth2": 5}


@pytest.mark.parametrize(
    ("after", "because"),
    [
        ({"eth1": 300, "eth2": 495}, "800 packets were sent and 795 counted: lost packets"),
        ({"eth1": 300, "eth2": 700}, "800 packets were sent and 1000 counted: something else was sending"),
        ({"eth1": 300}, "sampled only once: eth2"),
        ({"eth1": -1, "eth2": 500}, "counters restarted: eth1"),
    ],
)
def test_sums_that_do_not_match_are_invalid(after: dict[str, int], because: str) -> None:
    before = samples(eth1=0, eth2=0)
    assert flows_per_path(before, samples(**after), packets_per_flow=100, flows=8).because == because
    with pytest.raises(RunInvalid, match=re.escape(because)):
        bool(spread_over_ports(before, samples(**after), packets_per_flow=100, flows=8))


def test_a_lost_flow_does_not_hide_in_the_background_of_many_ports() -> None:
    ports = [f"eth{number}" for number in range(1, 9)]
    counted = flows_per_path(
        samples(**dict.fromkeys(ports, 0)), samples(**dict.fromkeys(ports, 114)), packets_per_flow=100, flows=9
    )
    assert counted.because == "9 flows were sent and 8 counted"


def test_flows_split_over_paths_are_a_finding() -> None:
    verdict = spread_over_ports(samples(a=0, b=0), samples(a=3150, b=3150), packets_per_flow=100, flows=63)
    assert not verdict
    assert "split over paths" in verdict.evidence.summary


def test_ports_are_judged_like_counts() -> None:
    assert spread_over_ports(samples(a=0, b=0), samples(a=3004, b=3400), packets_per_flow=100, flows=64)
    assert not spread_over_ports(samples(a=0, b=0), samples(a=4, b=6400), packets_per_flow=100, flows=64)


def test_too_few_packets_a_flow_are_refused() -> None:
    with pytest.raises(SpecError, match="packets_per_flow is 80; allowed: more than twice background"):
        flows_per_path({}, {}, packets_per_flow=80, flows=1)
