"""Every verdict on recovery is seen holding, failing, and invalid: on timelines written here.

t = 1 s  leaf1:spine1 is cut     t = 3 s  it is back
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from labs.telemetry.records import (
    Clock,
    FaultEvent,
    FlowRecord,
    GapRecord,
    HostRecord,
    LinkEvent,
    Missed,
    ProbeRecord,
    Record,
    RouteEvent,
    SessionEvent,
)
from labs.telemetry.samples import ClockSample, HostSample
from labs.telemetry.timeline import Timeline, timeline_of
from labs.verdicts import Verdict
from labs.verdicts.certified import Seen, certify
from labs.verdicts.detected import detected_within
from labs.verdicts.outage import FOREVER_NS, Outage, Turn, outages, same_place, spans
from labs.verdicts.recovered import TOO_EARLY, came_back, each_failure, nothing_lost, recovered
from labs.verdicts.repeats import Repeat, kept_in, percentile, percentile_between, proven_share, spread
from topologies.builders import leaf_spine

MS, S = 1_000_000, 1_000_000_000
CLOS = leaf_spine(leaves=4, spines=2, hosts_per_leaf=2)
LINK = "leaf1:spine1"
OWN_PATH = ("host1:eth1", "leaf1:eth1", "spine1:eth2", "leaf2:eth3")
FAR_PATH = ("host3:eth1", "leaf2:eth1", "spine1:eth1", "leaf1:eth3")


def fault(target: str = LINK, *, begin: int = S, end: int = 3 * S, number: str = "f1") -> list[Record]:
    said = [("injecting", begin), ("made", begin + MS), ("reverting", end), ("reverted", end + MS)]
    return [FaultEvent(t=t, id=number, fault="link-down", target=target, phase=phase) for phase, t in said]


def flow(
    name: str, path: tuple[str, ...], dst: str, prefix: str, *, life: tuple[int, int] = (MS, 9 * S), **said: Any
) -> list[Record]:
    probe = ProbeRecord(
        t=9 * S,
        flow=name,
        src="h",
        dst=dst,
        prefix=prefix,
        path=path,
        interval_ns=MS // 2,
        way=name,
        began=life[0],
        ended=life[1],
    )
    return [
        replace(probe, **said),
        FlowRecord(t=9 * S, flow=name, received=1, first=0, last=1, reordered=3),
    ]


def gap(name: str, began: int, ended: int, missing: int, behind: int = 0) -> GapRecord:
    return GapRecord(t=9 * S, flow=name, began=began, ended=ended, first=1, missing=missing, behind_ns=behind)


OWN = flow("own", OWN_PATH, "host3", "10.2/31")
FAR = flow("far", FAR_PATH, "host1", "10.1/31")
BESIDE = flow("beside", ("host3:eth1", "leaf2:eth2", "spine2:eth1", "leaf1:eth3"), "host1", "10.1/31")
CALM = HostRecord(t=4 * S, duration_s=3.5, steal=0.0, steal_worst=0.0, starved_s=0.001)
OWN_OUT = gap("own", S, S + 5 * MS, 10)
FAR_OUT = gap("far", S, S + 125 * MS, 250)
EVENTS: list[Record] = [
    LinkEvent(t=S + MS, node="leaf1", port="eth1", up=False),
    LinkEvent(t=S + MS, node="spine1", port="eth1", up=False),
    RouteEvent(t=S + 4 * MS, node="leaf1", prefix="10.2/31", ports=("eth2",)),
    RouteEvent(t=S + 60 * MS, node="spine1", prefix="10.1/31"),
    RouteEvent(t=S + 124 * MS, node="leaf2", prefix="10.1/31", ports=("eth2",)),
    RouteEvent(t=3 * S + 100 * MS, node="leaf1", prefix="10.2/31", ports=("eth1", "eth2")),
    RouteEvent(t=3 * S + 90 * MS, node="spine1", prefix="10.1/31", ports=("eth1",)),
    RouteEvent(t=3 * S + 150 * MS, node="leaf2", prefix="10.1/31", ports=("eth1", "eth2")),
]
SOUND: list[Record] = [*fault(), *OWN, *FAR, *BESIDE, OWN_OUT, FAR_OUT, *EVENTS, CALM]


def timeline(*records: Record) -> Timeline:
    return timeline_of(records)


def without(kind: type[Record]) -> Timeline:
    return timeline_of(one for one in SOUND if not isinstance(one, kind))


def outage(name: str, turn: Turn = Turn.FAILURE) -> Outage:
    said = timeline_of(SOUND)
    span = next(one for one in spans(said, LINK) if one.turn is turn)
    return next(one for one in outages(said, LINK, span) if one.flow == name)


def because(verdict: Verdict) -> str:
    assert not verdict.valid
    return verdict.invalid_because or ""


# --- where the time went ----------------------------------------------------------------------------------------------


def test_a_switch_with_another_way_needs_two_parts() -> None:
    own = outage("own")
    assert own.crosses
    assert (own.most_s, own.by_loss_s) == (0.005, 0.005)
    assert (own.detection_s, own.local_s, own.reconvergence_s) == (0.001, 0.003, 0.001)


def test_news_that_has_to_travel_is_reconvergence() -> None:
    far = outage("far")
    assert (far.detection_s, far.local_s, far.reconvergence_s) == (0.001, 0.059, 0.065)
    assert far.lost == 250


def test_a_kernel_that_drops_a_route_in_silence_leaves_all_the_rest_to_reconvergence() -> None:
    silent = timeline_of(one for one in SOUND if not (isinstance(one, RouteEvent) and one.node == "spine1"))
    far = next(one for one in outages(silent, LINK, spans(silent, LINK)[0]) if one.flow == "far")
    assert (far.detection_s, far.local_s, far.reconvergence_s) == (0.001, None, 0.124)


def test_a_flow_elsewhere_crosses_nothing_and_has_no_parts() -> None:
    beside = outage("beside")
    assert (beside.crosses, beside.lost, beside.parts) == (False, 0, "")


def test_a_kernel_that_reroutes_before_its_daemon_is_not_charged_for_it() -> None:
    late = [one for one in SOUND if not (isinstance(one, RouteEvent) and one.node == "leaf1")]
    said = timeline(*late, RouteEvent(t=S + 70 * MS, node="leaf1", prefix="10.2/31", ports=("eth2",)))
    own = next(one for one in outages(said, LINK, spans(said, LINK)[0]) if one.flow == "own")
    assert (own.local_s, own.reconvergence_s) == (0.004, 0.0)


def test_rebalance_lasts_until_every_node_on_the_path_has_it_back() -> None:
    assert outage("own", Turn.RESTORATION).rebalance_s == pytest.approx(0.1)
    assert outage("far", Turn.RESTORATION).rebalance_s == pytest.approx(0.15)


def test_a_crashed_node_is_crossed_by_what_goes_into_it() -> None:
    said = timeline(*fault("spine1"), *OWN, *BESIDE, OWN_OUT, *EVENTS, CALM)
    crossing = {one.flow: one.crosses for one in outages(said, "spine1", spans(said, "spine1")[0])}
    assert crossing == {"own": True, "beside": False}


def test_loss_at_another_fault_is_not_this_ones() -> None:
    other = fault("leaf3:spine2", begin=5 * S, end=6 * S, number="f2")
    said = timeline(*SOUND, *other, gap("own", 5 * S, 5 * S + 800 * MS, 1600))
    assert recovered(said, LINK, within=0.2)


def test_a_gap_that_begins_a_packet_before_the_next_fault_is_that_ones() -> None:
    """The last packet that comes through was on its way before the cut is recorded."""
    other = fault(begin=5 * S, end=7 * S, number="f2")
    calm = replace(CALM, t=9 * S, duration_s=8.5)
    said = [*fault(), *FAR, *other, *EVENTS, calm]
    cut = gap("far", 5 * S - MS // 2, 5 * S + 125 * MS, 250)
    assert nothing_lost(timeline(*said, cut), LINK, fault_id="f1")
    assert not nothing_lost(timeline(*said, cut), LINK, fault_id="f2")
    early = gap("far", 5 * S - 20 * MS, 5 * S + 125 * MS, 290)
    assert not nothing_lost(timeline(*said, early), LINK, fault_id="f1")


# --- recovered --------------------------------------------------------------------------------------------------------


def test_a_fabric_that_recovers_in_time() -> None:
    verdict = recovered(timeline_of(SOUND), LINK, within=0.2)
    assert verdict
    assert "125.0 ms of far" in verdict.evidence.summary
    assert verdict.evidence.numbers["reordered"] == 9


def test_a_fabric_that_is_too_slow_is_seen_failing() -> None:
    verdict = recovered(timeline_of(SOUND), LINK, within=0.1)
    assert not verdict
    assert verdict.evidence.rows[0].startswith("far: failure: out 125.0 ms, 250 lost (detection 1.0 ms")


def test_only_the_flows_that_are_meant_are_judged() -> None:
    assert recovered(timeline_of(SOUND), LINK, within=0.02, only=["own"])
    assert "no such flow" in because(recovered(timeline_of(SOUND), LINK, within=0.02, only=["other"]))


def test_a_flow_that_never_comes_back_is_seen_failing() -> None:
    verdict = recovered(timeline(*SOUND, gap("own", 2 * S, 0, 9000)), LINK, within=0.2)
    assert not verdict
    assert "without end of own" in verdict.evidence.summary


def test_loss_at_the_restoration_is_seen_failing() -> None:
    verdict = recovered(timeline(*SOUND, gap("far", 3 * S + 10 * MS, 3 * S + 400 * MS, 780)), LINK, within=0.2)
    assert not verdict
    assert "at the restoration" in verdict.evidence.summary


def test_a_late_sender_proves_neither() -> None:
    said = timeline(*fault(), *OWN, gap("own", S, S + 25 * MS, 45, behind=10 * MS), CALM)
    assert "too late to say" in because(recovered(said, LINK, within=0.02))
    assert recovered(said, LINK, within=0.03)


def test_a_probe_that_was_blind_at_the_fault_cannot_vouch() -> None:
    said = timeline(*fault(), *OWN, gap("own", S - 5 * MS, S + 35 * MS, 0), CALM)
    assert "blind" in because(recovered(said, LINK, within=0.02))


def test_a_silence_long_after_the_fault_does_not_matter() -> None:
    assert recovered(timeline(*SOUND, gap("own", 2 * S, 2 * S + 300 * MS, 0)), LINK, within=0.2)


@pytest.mark.parametrize(
    ("life", "at"),
    [
        ((0, 0), "failure"),  # nobody knows when it ran
        ((MS, S - MS), "failure"),  # over before the fault
        ((MS, S + 2 * MS), "failure"),  # over before anything could have become of it
        ((2 * S, 9 * S), "failure"),
        ((MS, 3 * S + MS // 2), "restoration"),
    ],
)
def test_a_probe_that_did_not_run_at_the_fault_cannot_vouch(life: tuple[int, int], at: str) -> None:
    said = timeline(*fault(), *flow("own", OWN_PATH, "host3", "10.2/31", life=life), *EVENTS, CALM)
    words = f"no flow was probed throughout the {at}"
    assert words in because(recovered(said, LINK, within=0.2))
    assert words in because(recovered(said, LINK, within=0.2, only=["own"]))
    assert words in because(nothing_lost(said, LINK))
    (repeat,) = each_failure(said, LINK, budget_s=0.2)
    assert (repeat.invalid_because is None) is (at == "restoration")


def test_one_probe_for_each_turn_will_do() -> None:
    first = flow("own", OWN_PATH, "host3", "10.2/31", life=(MS, 2 * S))
    second = flow("own", OWN_PATH, "host3", "10.2/31", life=(2 * S, 9 * S))
    assert recovered(timeline(*fault(), *first, *second, *EVENTS, CALM), LINK, within=0.2)


def test_a_probe_around_another_link_cannot_vouch() -> None:
    elsewhere = ("host5:eth1", "leaf3:eth1", "spine1:eth2", "leaf2:eth3")
    said = timeline(*fault(), *flow("own", elsewhere, "host3", "10.2/31"), *BESIDE, *EVENTS, CALM)
    for only in ([], ["own"], ["own", "beside"]):
        assert "no probed flow goes through" in because(recovered(said, LINK, within=0.2, only=only))
    assert recovered(said, LINK, within=0.2, only=["beside"])
    (repeat,) = each_failure(said, LINK, budget_s=0.2, only=["own"])
    assert "no probed flow goes through" in (repeat.invalid_because or "")


def test_gaps_that_did_not_reach_the_timeline_make_it_invalid() -> None:
    own = flow("own", OWN_PATH, "host3", "10.2/31", gaps=2)
    said = [*fault(), *own, OWN_OUT, *EVENTS, CALM]
    assert "1 of its 2 gaps" in because(recovered(timeline(*said), LINK, within=0.2))
    assert "1 of its 2 gaps" in because(nothing_lost(timeline(*said), LINK))
    assert recovered(timeline(*said, gap("own", 5 * S, 5 * S + MS, 1)), LINK, within=0.2)
    assert "no such flow in the timeline: far" in because(recovered(timeline(*said), LINK, within=0.2, only=["far"]))


def test_counts_that_cannot_be_trusted_make_it_invalid() -> None:
    own = flow("own", OWN_PATH, "host3", "10.2/31", invalid_because=("host3: the receiver's socket was full",))
    said = timeline(*fault(), *own, OWN_OUT, *EVENTS, CALM)
    for verdict in (recovered(said, LINK, within=0.2), came_back(said, LINK, within=0.2), nothing_lost(said, LINK)):
        assert "socket was full" in because(verdict)
    (repeat,) = each_failure(said, LINK, budget_s=0.2)
    assert "socket was full" in (repeat.invalid_because or "")


@pytest.mark.parametrize("target", [LINK, "leaf1:spine1 --from leaf1"])
def test_a_fault_on_one_direction_is_one_on_the_link(target: str) -> None:
    one_way = fault("leaf1:spine1 --from leaf1")
    said = timeline(*one_way, *OWN, *FAR, *BESIDE, OWN_OUT, FAR_OUT, *EVENTS, down(S + 700 * MS), CALM)
    assert recovered(said, target, within=0.2)
    assert not recovered(said, target, within=0.1)
    assert came_back(said, target, within=0.2)
    assert not nothing_lost(said, target)
    assert detected_within(said, target, fabric=CLOS, protocol="bfd", least=0.6, most=0.9)
    assert not detected_within(said, target, fabric=CLOS, protocol="bfd", least=0.1, most=0.3)
    assert "no fault" in because(recovered(said, "leaf1:spine1 --from spine1", within=0.2))
    assert "no fault" in because(recovered(said, "leaf1:spine2", within=0.2))


HOLES: list[tuple[Record, str]] = [
    (Missed(t=S + 20 * MS, since=S + 10 * MS, because="No space left on device"), "No space left on device"),
    (Missed(t=2 * S, since=S // 2, because="No space left on device"), "missed 1.500 s"),
    (Missed(t=3 * S + 20 * MS, since=3 * S + 10 * MS, because="overflowed", node="leaf1"), "leaf1: overflowed"),
    (Clock(t=2 * S, wall="", boot=""), "it was started anew"),
]


@pytest.mark.parametrize(("hole", "words"), HOLES)
def test_what_the_recorder_missed_makes_it_invalid(hole: Record, words: str) -> None:
    early = HostRecord(t=S // 2, duration_s=0.4, steal=0.0, steal_worst=0.0, starved_s=0.0)
    said = timeline(*SOUND, early, hole)
    assert words in because(recovered(said, LINK, within=0.2))
    assert words in because(recovered(timeline(*fault(), *EVENTS, CALM, early, hole), LINK, within=0.2))
    assert words in because(nothing_lost(said, LINK))
    (repeat,) = each_failure(said, LINK, budget_s=0.2)
    assert (words in (repeat.invalid_because or "")) is (hole.t < 3 * S)


@pytest.mark.parametrize("hole", [Missed(t=8 * S, since=7 * S, because="full"), Clock(t=8 * S, wall="", boot="")])
def test_what_the_recorder_missed_long_after_does_not_matter(hole: Record) -> None:
    before = HostRecord(t=7 * S, duration_s=3.0, steal=0.0, steal_worst=0.0, starved_s=0.0)
    assert recovered(timeline(*SOUND, before, hole), LINK, within=0.2)
    assert came_back(timeline(*SOUND, before, hole), LINK, within=0.2)


def test_a_hole_before_flows_are_back_makes_it_invalid() -> None:
    hole = Missed(t=5 * S, since=4 * S, because="full")
    assert "full" in because(came_back(timeline(*SOUND, hole), LINK, within=2.0))


def test_two_faults_on_one_target_are_told_apart_by_their_ids() -> None:
    again = [*fault(begin=5 * S, end=7 * S, number="f2"), gap("far", 5 * S, 5 * S + 800 * MS, 1600)]
    back = RouteEvent(t=7 * S + 300 * MS, node="leaf1", prefix="10.2/31", ports=("eth1", "eth2"))
    away = RouteEvent(t=5 * S + 4 * MS, node="leaf1", prefix="10.2/31", ports=("eth2",))
    told = [down(S + 700 * MS), up(3 * S), down(5 * S + 100 * MS)]
    said = timeline(*SOUND, *again, away, back, *told, replace(CALM, t=9 * S))
    assert recovered(said, LINK, within=0.2, fault_id="f1")
    assert not recovered(said, LINK, within=0.2, fault_id="f2")
    assert not recovered(said, LINK, within=0.2)
    assert came_back(said, LINK, within=0.2, fault_id="f1")
    assert not came_back(said, LINK, within=0.2, fault_id="f2")
    assert not nothing_lost(said, LINK, fault_id="f2")
    timed: dict[str, Any] = {"fabric": CLOS, "protocol": "bfd", "least": 0.6, "most": 0.9}
    assert detected_within(said, LINK, fault_id="f1", **timed)
    assert not detected_within(said, LINK, fault_id="f2", **timed)
    assert "no fault" in because(recovered(said, LINK, within=0.2, fault_id="f3"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("leaf1:spine1", "spine1:leaf1", True),
        ("spine1:leaf1#2", "leaf1:spine1#2", True),
        ("leaf1:spine1", "leaf1:spine1#2", False),
        ("leaf1:spine1 --from leaf1", "spine1:leaf1 --from leaf1", True),
        ("leaf1:spine1 --from leaf1", "leaf1:spine1 --from spine1", False),
        ("leaf1", "leaf1:spine1", False),
    ],
)
def test_a_link_may_be_named_from_either_end(one: str, other: str, same: bool) -> None:
    assert same_place(one, other) is same


def test_the_verdict_on_a_link_named_from_its_other_end() -> None:
    assert recovered(timeline_of(SOUND), "spine1:leaf1", within=0.2)
    assert not recovered(timeline_of(SOUND), "spine1:leaf1", within=0.1)


def test_without_the_fault_nothing_is_judged() -> None:
    assert "no fault" in because(recovered(without(FaultEvent), LINK, within=1.0))
    assert "no fault" in because(recovered(timeline_of(SOUND), "leaf2:spine1", within=1.0))


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (None, "nobody watched"),
        (HostRecord(t=2 * S, duration_s=1.5, steal=0.3, steal_worst=0.4, starved_s=0.0), "steal 30%"),
        (HostRecord(t=2 * S, duration_s=1.5, steal=0.0, steal_worst=0.0, starved_s=0.05), "0.050 s late"),
    ],
)
def test_slow_on_a_starved_workstation_is_no_finding(host: HostRecord | None, words: str) -> None:
    records = [one for one in SOUND if not isinstance(one, HostRecord)]
    said = timeline(*records, *([host] if host else []))
    assert words in because(recovered(said, LINK, within=0.1))
    assert recovered(said, LINK, within=0.2)  # what was in time was in time


@pytest.mark.parametrize("starved", [0.003, 0.05, 0.5])
def test_an_outage_that_no_workstation_can_have_made_is_seen_failing(starved: float) -> None:
    host = HostRecord(t=9 * S, duration_s=8.5, steal=0.2, steal_worst=0.2, starved_s=starved)
    said = timeline(*fault(end=8 * S), *OWN, gap("own", S, 6 * S, 10_000), host)
    assert not recovered(said, LINK, within=0.02)
    (repeat,) = each_failure(said, LINK, budget_s=0.02)
    assert repeat.invalid_because is None
    # 5 s less a fifth and what a thread slept are below 4 s: between that and 5 s nobody knows.
    assert "starved" in because(recovered(said, LINK, within=4.0))


@pytest.mark.parametrize(
    ("gaps", "took_s", "words"),
    [
        # own is out 30 ms for certain, far perhaps 40: it is over 20 ms in any case
        ([gap("own", S, S + 30 * MS, 60), gap("far", S, S + 40 * MS, 30, behind=20 * MS)], 0.040, ""),
        ([gap("far", S, S + 40 * MS, 30, behind=20 * MS)], 0.040, "too late to say"),
        ([OWN_OUT, gap("far", S - 5 * MS, S + 35 * MS, 0)], 0.005, "the probe was blind"),
        ([gap("own", S, S + 30 * MS, 60), gap("far", S - 5 * MS, S + 35 * MS, 0)], 0.030, ""),
        ([OWN_OUT], 0.005, ""),
    ],
)
def test_each_repeat_is_judged_as_all_together(gaps: list[GapRecord], took_s: float, words: str) -> None:
    said = timeline(*fault(), *OWN, *FAR, *gaps, CALM)
    (repeat,) = each_failure(said, LINK, budget_s=0.02)
    verdict = recovered(said, LINK, within=0.02)
    assert repeat.took_s == pytest.approx(took_s)
    assert repeat.invalid_because == verdict.invalid_because
    assert words in (repeat.invalid_because or "")
    assert (repeat.invalid_because is None) is (not words)


def test_an_outage_that_nobody_watched_is_no_finding_however_long() -> None:
    said = timeline(*fault(end=8 * S), *OWN, gap("own", S, 6 * S, 10_000))
    assert "nobody watched" in because(recovered(said, LINK, within=0.02))


def test_a_fault_shorter_than_the_limit_cannot_fail() -> None:
    said = [*fault(end=S + 150 * MS), *OWN, OWN_OUT, *EVENTS, CALM]
    assert "the fault lasted 150.0 ms" in because(recovered(timeline(*said), LINK, within=0.2))
    assert recovered(timeline(*said), LINK, within=0.15)
    assert not recovered(timeline(*said, gap("own", 5 * S, 0, 4000)), LINK, within=0.2)  # never back: too long it is
    (repeat,) = each_failure(timeline(*said), LINK, budget_s=0.2)
    assert "the fault lasted 150.0 ms" in (repeat.invalid_because or "")
    unprobed = timeline(*fault(end=S + 150 * MS), *EVENTS[:5], CALM)
    assert "the fault lasted 150.0 ms" in because(recovered(unprobed, LINK, within=0.2))


def test_without_flows_routes_are_judged() -> None:
    said = timeline(*fault(), *EVENTS, CALM)
    assert recovered(said, LINK, within=0.2)
    verdict = recovered(said, LINK, within=0.1)
    assert not verdict
    assert "124.0 ms" in verdict.evidence.summary
    assert "no route changed" in because(recovered(timeline(*fault(), CALM), LINK, within=1.0))


# --- coming back ------------------------------------------------------------------------------------------------------


def test_flows_come_back_to_their_paths() -> None:
    assert came_back(timeline_of(SOUND), LINK, within=0.2)


def test_a_route_that_stays_away_is_seen_failing() -> None:
    kept = [one for one in SOUND if not (isinstance(one, RouteEvent) and one.node == "leaf2" and one.t > 3 * S)]
    verdict = came_back(timeline(*kept, replace(CALM, t=9 * S, duration_s=5.0)), LINK, within=5.0)
    assert not verdict
    assert verdict.evidence.numbers["away"] == 1


def test_what_may_still_come_back_is_not_seen_failing() -> None:
    """The record ends 1 s after the fault, or the next one comes 2 s after it."""
    kept = [one for one in SOUND if not (isinstance(one, RouteEvent) and one.node == "leaf2" and one.t > 3 * S)]
    heard = replace(CALM, t=9 * S, duration_s=5.0)
    assert because(came_back(timeline_of(kept), LINK, within=5.0)) == TOO_EARLY
    assert not came_back(timeline_of(kept), LINK, within=0.9)
    again = fault(begin=5 * S, end=7 * S, number="f2")
    assert "the next fault came" in because(came_back(timeline(*kept, *again, heard), LINK, within=5.0, fault_id="f1"))
    assert not came_back(timeline(*kept, *again, heard), LINK, within=1.9, fault_id="f1")
    assert came_back(timeline_of(SOUND), LINK, within=5.0)


def test_what_never_left_cannot_come_back() -> None:
    stayed = RouteEvent(t=3 * S + 100 * MS, node="leaf1", prefix="10.2/31", ports=("eth1", "eth2"))
    said = timeline(*fault(), *OWN, stayed, CALM)
    assert "nothing could come back" in because(came_back(said, LINK, within=5.0))
    silent = timeline(
        *fault(), *OWN, stayed, gap("own", 3 * S + 10 * MS, 0, 9000), replace(CALM, t=9 * S, duration_s=8.5)
    )
    assert not came_back(silent, LINK, within=5.0)
    assert came_back(timeline(*fault(), *OWN, *FAR, *EVENTS[2:3], stayed, CALM), LINK, within=5.0)  # one of two left


def test_coming_back_too_late_is_seen_failing() -> None:
    assert not came_back(timeline_of(SOUND), LINK, within=0.12)


def test_without_a_restoration_or_events_there_is_nothing_to_come_back() -> None:
    stays = [one for one in SOUND if not (isinstance(one, FaultEvent) and one.phase in {"reverting", "reverted"})]
    assert "came and went" in because(came_back(timeline_of(stays), LINK, within=1.0))
    assert "no change of a route" in because(came_back(without(RouteEvent), LINK, within=1.0))


def tried(*, reverting: int, failed: int, number: str = "f1") -> list[Record]:
    """A fault that somebody tried to take back, in vain."""
    made = [one for one in fault(number=number) if isinstance(one, FaultEvent) and one.phase in {"injecting", "made"}]
    return [*made, replace(made[0], t=reverting, phase="reverting"), replace(made[0], t=failed, phase="failed")]


def test_a_fault_that_could_not_be_taken_back_lasts_on() -> None:
    """What is lost after a try that failed is the fault's doing; it counts for nothing once that was the last word."""
    in_vain = tried(reverting=2 * S, failed=2 * S + MS)
    assert [(one.turn, one.until_ns) for one in spans(timeline(*in_vain), LINK)] == [(Turn.FAILURE, FOREVER_NS)]
    lost_later = gap("own", 4 * S, 5 * S, 2000)
    calm = replace(CALM, t=9 * S, duration_s=8.5)
    verdict = recovered(timeline(*in_vain, *OWN, *FAR, *EVENTS, lost_later, calm), LINK, within=0.2)
    assert verdict.valid
    assert not verdict
    assert "at the failure" in verdict.evidence.summary


def test_a_fault_that_was_taken_back_at_last_ends_then() -> None:
    said = timeline(*fault(), *tried(reverting=2 * S, failed=2 * S + MS)[2:])
    assert [(one.turn, one.began_ns, one.until_ns) for one in spans(said, LINK)] == [
        (Turn.FAILURE, S, 3 * S),
        (Turn.RESTORATION, 3 * S, FOREVER_NS),
    ]
    under_way = timeline(*(one for one in fault() if isinstance(one, FaultEvent) and one.phase != "reverted"))
    assert [one.until_ns for one in spans(under_way, LINK)] == [3 * S]


# --- nothing lost -----------------------------------------------------------------------------------------------------


def test_maintenance_that_loses_nothing() -> None:
    assert nothing_lost(without(GapRecord), LINK)


def test_one_lost_packet_is_seen() -> None:
    verdict = nothing_lost(timeline(*fault(), *OWN, gap("own", S, S + MS, 1), CALM), LINK)
    assert not verdict
    assert "1 packets were lost" in verdict.evidence.summary


def test_a_packet_lost_while_daemons_got_no_time_is_no_finding() -> None:
    starved = HostRecord(t=2 * S, duration_s=1.5, steal=0.0, steal_worst=0.0, starved_s=0.1)
    said = timeline(*fault(), *OWN, gap("own", S, S + MS, 1), starved)
    assert "starved" in because(nothing_lost(said, LINK))


def test_loss_is_judged_by_the_workstation_at_its_fault_not_by_the_runs_worst_moment() -> None:
    starved = Seen(HostSample(duration_s=60.0, steal=0.0, starved_s=5.0), ClockSample(60.0, 0.0))
    lost = nothing_lost(timeline(*fault(), *OWN, gap("own", S, S + MS, 1), CALM), LINK)
    for verdict in (lost, recovered(timeline_of(SOUND), LINK, within=0.1)):
        assert not certify(verdict, starved)


def test_no_loss_where_nothing_was_probed_proves_nothing() -> None:
    assert "no flow was probed" in because(nothing_lost(timeline(*fault()), LINK))
    assert "no probed flow goes through" in because(nothing_lost(timeline(*fault(), *BESIDE), LINK))


# --- detection --------------------------------------------------------------------------------------------------------


def down(t: int, protocol: str = "bfd", node: str = "leaf1", port: str = "eth1") -> SessionEvent:
    return SessionEvent(t=t, node=node, peer=port, protocol=protocol, state="down", up=False, port=port)


@pytest.mark.parametrize(("after_ms", "held"), [(590, False), (700, True), (1000, True), (1002, False)])
def test_bfd_detects_between_two_and_three_intervals(after_ms: int, held: bool) -> None:
    said = timeline(*fault(), down(S + after_ms * MS), CALM)
    assert bool(detected_within(said, LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9)) is held


def test_a_session_elsewhere_or_of_another_protocol_is_no_detection() -> None:
    said = timeline(*fault(), down(S + 700 * MS, node="leaf4"), down(S + 700 * MS, "bgp"), CALM)
    assert "0 of 1 faults" in because(detected_within(said, LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9))


def test_a_session_over_another_link_of_an_end_is_no_detection() -> None:
    said = timeline(*fault(), up(LONG_AGO), down(S + 700 * MS, port="eth2"), CALM)
    verdict = detected_within(said, LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9)
    assert verdict.valid
    assert not verdict


@pytest.mark.parametrize(("node", "port"), [("spine1", "eth3"), ("leaf3", "eth1")])
def test_any_session_over_a_faulted_nodes_links_detects_it(node: str, port: str) -> None:
    said = timeline(*fault("spine1"), down(S + 700 * MS, node=node, port=port), CALM)
    assert detected_within(said, "spine1", fabric=CLOS, protocol="bfd", least=0.6, most=0.9)
    elsewhere = timeline(*fault("spine1"), up(LONG_AGO), down(S + 700 * MS, node="leaf3", port="eth2"), CALM)
    assert not detected_within(elsewhere, "spine1", fabric=CLOS, protocol="bfd", least=0.6, most=0.9)


LONG_AGO = -2 * S  # a session that was up by then is as fast as configured when the fault comes, at 1 s


def up(t: int, node: str = "leaf1", port: str = "eth1") -> SessionEvent:
    return SessionEvent(t=t, node=node, peer=port, protocol="bfd", state="up", up=True, port=port)


@pytest.mark.parametrize("known", [up(LONG_AGO), up(LONG_AGO, "spine1"), down(4 * S), up(4 * S)])
def test_a_fault_that_stays_and_that_nobody_tells_of_is_seen_failing(known: SessionEvent) -> None:
    verdict = detected_within(timeline(*fault(), known, CALM), LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9)
    assert verdict.valid
    assert not verdict
    assert "0 of 1 faults were told of by bfd, though" in verdict.evidence.summary


def test_one_of_two_faults_that_nobody_tells_of_is_seen_failing() -> None:
    again = fault(begin=5 * S, end=7 * S, number="f2")
    calm = HostRecord(t=8 * S, duration_s=7.5, steal=0.0, steal_worst=0.0, starved_s=0.001)
    said = timeline(*fault(), up(LONG_AGO), down(S + 700 * MS), up(3 * S), *again, calm)
    assert not detected_within(said, LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9)


@pytest.mark.parametrize(
    "said",
    [
        [*fault(), CALM],  # no session is known
        [*fault(), up(LONG_AGO, "leaf4"), CALM],
        [*fault(), up(LONG_AGO, port="eth2"), CALM],  # of another link
        [*fault(), down(S // 2), CALM],  # it was down before
        [*fault(end=S + 900 * MS), up(LONG_AGO), CALM],  # gone before it had to be told of
        [*fault(), up(LONG_AGO)],  # no Recorder
        [*fault(), up(LONG_AGO), HostRecord(t=S + 900 * MS, duration_s=0.7, steal=0, steal_worst=0, starved_s=0)],
        [*fault(), up(LONG_AGO), HostRecord(t=4 * S, duration_s=2.5, steal=0, steal_worst=0, starved_s=0)],
        [*fault(), up(LONG_AGO), Clock(t=S + 500 * MS, wall="", boot=""), CALM],  # it was started anew meanwhile
        [*fault(), up(LONG_AGO), HostRecord(t=4 * S, duration_s=3.5, steal=0.6, steal_worst=0.6, starved_s=0)],
    ],
)
def test_silence_that_proves_nothing_is_invalid(said: list[Record]) -> None:
    assert because(detected_within(timeline(*said), LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9))


@pytest.mark.parametrize("told", [[], [down(S + 2278 * MS)], [up(LONG_AGO, "spine1"), down(S + 2278 * MS)]])
def test_a_session_that_had_just_come_up_proves_nothing_by_being_late(told: list[Record]) -> None:
    """Seen: link restored, BGP and routes back, the next fault 2 s later, told of by BFD after 2.278 s."""
    said = timeline(*fault(), up(S - 500 * MS), *told, CALM)
    assert "came up 0.5 s before" in because(
        detected_within(said, LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9)
    )
    in_time = timeline(*fault(), up(S - 500 * MS), down(S + 700 * MS), CALM)
    assert detected_within(in_time, LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9)
    settled = timeline(*fault(), up(LONG_AGO), down(S + 2278 * MS), CALM)
    assert not detected_within(settled, LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9)
    assert detected_within(settled, LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9).valid


def test_a_session_that_was_down_tells_of_nothing_by_ending() -> None:
    """One that was coming up when the fault came goes down again: the other end's, which was up, has to tell."""
    coming = [replace(down(S // 2), state="init"), up(LONG_AGO, "spine1")]
    only = timeline(*fault(), *coming, down(S + 700 * MS), CALM)
    assert not detected_within(only, LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9)
    both = timeline(*fault(), *coming, down(S + 700 * MS), down(S + 800 * MS, node="spine1"), CALM)
    verdict = detected_within(both, LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9)
    assert verdict
    assert "detected after 0.799 s" in verdict.evidence.summary


def test_a_detection_beside_a_hole_in_the_timeline_is_invalid() -> None:
    hole = Missed(t=S + 500 * MS, since=S + 400 * MS, because="its kernel's events overflowed", node="leaf1")
    said = timeline(*fault(), down(S + 700 * MS), hole, CALM)
    assert "missed 0.100 s" in because(detected_within(said, LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9))
    later = replace(hole, since=5 * S // 2, t=5 * S // 2)
    assert detected_within(
        timeline(*fault(), down(S + 700 * MS), later, CALM), LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9
    )


def test_late_detection_on_a_starved_workstation_is_no_finding() -> None:
    starved = HostRecord(t=2 * S, duration_s=1.5, steal=0.0, steal_worst=0.0, starved_s=0.5)
    said = timeline(*fault(), down(S + 1300 * MS), starved)
    assert "starved" in because(detected_within(said, LINK, fabric=CLOS, protocol="bfd", least=0.6, most=0.9))


# --- repeats ----------------------------------------------------------------------------------------------------------


def repeats(kept: int, broken: int, invalid: int = 0) -> list[Repeat]:
    return [Repeat(0.005)] * kept + [Repeat(0.030)] * broken + [Repeat(0.5, "steal 40%")] * invalid


@pytest.mark.parametrize(("kept", "broken", "held"), [(20, 0, True), (19, 1, True), (18, 2, False), (3, 0, True)])
def test_nineteen_of_twenty(kept: int, broken: int, held: bool) -> None:
    assert bool(kept_in(repeats(kept, broken), what="own leaf", budget_s=0.02)) is held


def test_invalid_repeats_count_for_nothing() -> None:
    verdict = kept_in(repeats(19, 1, invalid=4), what="own leaf", budget_s=0.02, least_valid=20)
    assert verdict
    assert (verdict.evidence.numbers["valid"], verdict.evidence.numbers["started"]) == (20, 24)


def test_too_few_valid_repeats_are_invalid_unless_nothing_can_mend_it() -> None:
    assert "5 repeats are valid, 20 are needed" in because(
        kept_in(repeats(5, 0, invalid=3), what="own leaf", budget_s=0.02, least_valid=20)
    )
    hopeless = kept_in(repeats(5, 2, invalid=3), what="own leaf", budget_s=0.02, least_valid=20)
    assert hopeless.valid
    assert not hopeless


def test_no_repeat_at_all_is_invalid() -> None:
    assert because(kept_in([], what="own leaf", budget_s=0.02))


def test_what_repeats_prove() -> None:
    # 20 of 20: p^20 = 0.05 for p = 0.861; 19 of 20: Clopper and Pearson's table has 0.784.
    assert proven_share(20, 20) == pytest.approx(0.8609, abs=1e-4)
    assert proven_share(19, 20) == pytest.approx(0.7839, abs=1e-4)
    assert proven_share(0, 20) == 0.0
    ranked = [float(n) for n in range(1, 21)]
    assert (percentile(ranked, 0.5), percentile(ranked, 0.95), percentile([], 0.5)) == (10.0, 19.0, None)


def test_a_number_over_repeats() -> None:
    """20 runs: order statistics 6 and 15 hold the median with 95.9 %, as every table has it."""
    found = spread([float(n) for n in range(1, 21)])
    assert found is not None
    assert (found.count, found.p50, found.p95, found.most) == (20, 10.0, 19.0, 20.0)
    assert found.p50_between == (6.0, 15.0)
    assert found.p95_between == (17.0, None)  # the longest of 20 is below the 95th percentile in 36 %
    assert found.covers == pytest.approx(0.8609, abs=1e-4)


def test_few_repeats_say_little() -> None:
    found = spread([3.0])
    assert found is not None
    assert (found.p50_between, found.p95_between) == ((None, None), (None, None))
    assert found.covers == pytest.approx(0.05)
    assert spread([]) is None
    assert percentile_between([float(n) for n in range(1, 101)], 0.95) == (90.0, 100.0)
