"""Every judge of priority flow control is seen holding, false and INVALID, on records that a lab could have written."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import cast

import pytest

import labs.verdicts.pfc
from labs.dataplane.asic import SoftAsic
from labs.dataplane.headroom import needed
from labs.dataplane.load import load_profile
from labs.dataplane.plan import plan
from labs.errors import RunInvalid
from labs.load_bridge import covered_s
from labs.telemetry.asic_counters import AsicCounters, GroupCounters, PortCounters, QueueCounters
from labs.telemetry.asicd_counters import BUCKET_US, AsicdCounters
from labs.telemetry.samples import HostSample
from labs.verdicts import Verdict
from labs.verdicts.pfc import (
    Measured,
    StormTiming,
    incast_goodput,
    longest_us,
    lossless,
    pause_share,
    reaction,
    watchdog_timing,
)
from topologies.load import load_fabric
from traffic.engines.rnic import RawFlow, RawReport, RawResult
from traffic.engines.rnic_report import RawSent, ReceiverReport
from traffic.flows import FiveTuple, Transport

RATE = 100_000_000
FRAME, PAYLOAD = 4138, 4096
BUCKETS = 513
WELL = HostSample(2.0, steal=0.0, starved_s=0.001)
STOLEN = HostSample(2.0, steal=0.3, starved_s=0.001)
ROBBED = HostSample(2.0, steal=0.05, starved_s=0.001, steal_worst=0.09)
SINK = ("leaf1", "eth3")
SENDERS = (("host1", "eth1"), ("host2", "eth1"))


def reactions(*micros: float, fifo: bool = True) -> AsicdCounters:
    buckets = [0] * BUCKETS
    for one in micros:
        buckets[min(int(one // BUCKET_US), BUCKETS - 1)] += 1
    return AsicdCounters(
        fifo=fifo,
        pauses=len(micros),
        reaction_count=len(micros),
        reaction_sum_ns=round(sum(micros) * 1000),
        reaction_max_ns=round(max(micros, default=0) * 1000),
        reactions=tuple(buckets),
    )


def counters(
    *,
    paused: tuple[float, float] = (0.0, 0.0),
    sent: tuple[int, int] = (0, 0),
    tail: int = 0,
    ingress: int = 0,
    asicd: AsicdCounters | None = None,
) -> AsicCounters:
    """What was counted since nothing was: two hosts that send in priority 3 through leaf1:eth3."""
    ports = [PortCounters("leaf1", "eth3", "host3:eth1", True, RATE)]
    queues = [
        QueueCounters("leaf1", "eth3", 3, sent_packets=sum(sent) // FRAME, sent_bytes=sum(sent), tail_packets=tail)
    ]
    for (node, port), held, size in zip(SENDERS, paused, sent, strict=True):
        times = (0, 0, 0, round(held * 1e9), 0, 0, 0, 0)
        ports.append(PortCounters(node, port, "leaf1:eth1", False, RATE, paused_ns=times))
        queues.append(QueueCounters(node, port, 3, sent_packets=size // FRAME, sent_bytes=size))
    groups = (GroupCounters("leaf1", "eth1", 3, dropped_packets=ingress),)
    return AsicCounters("lab", tuple(ports), tuple(queues), groups, (), asicd or reactions())


def result(*, sent: int, lost: int) -> RawResult:
    flow = RawFlow("host1", "host3", FiveTuple("10.0.0.1", "10.0.0.3", Transport.UDP, 49152, 4791), dscp=3)
    words = {name: 0 for name, kind in RawSent.__annotations__.items() if kind == "int"}
    told = RawSent(**{**words, "packets": sent}, mean_judged=True, error=None, paced_ok=True, paced_because=None)
    return LossyResult(flow, told, None, lost)


@dataclass(frozen=True, slots=True)
class LossyResult(RawResult):
    """A result whose loss is stated: what the receiver wrote beside it does not matter here."""

    stated: int = 0

    @property
    def lost_packets(self) -> int:
        return self.stated


def report(*, sent: int = 1000, lost: int = 0, overflow: int = 0) -> RawReport:
    got = ReceiverReport(0, 0, "stopped", sent, 0, 0, overflow, 0, 0, ())
    return RawReport((result(sent=sent, lost=lost),), {}, {"host3": got})


FULL = round(RATE / 8 * 2.0 * FRAME / (FRAME + 24) / 2)  # what each of two sends in 2 s


def run(
    *,
    paused: tuple[float, float] = (1.0, 1.0),
    sent: tuple[int, int] = (FULL, FULL),
    tail: int = 0,
    ingress: int = 0,
    asicd: AsicdCounters | None = None,
    covered_s: float = 0.032,
    blur_s: float = 0.004,
    told: RawReport | None = None,
    disturbed: str | None = None,
    host: HostSample = WELL,
) -> Measured:
    quick = reactions(*[30] * 990, *[80] * 10)
    now = counters(paused=paused, sent=sent, tail=tail, ingress=ingress, asicd=asicd or quick)
    before = counters()
    return Measured(
        *(before, before, now, now),
        lasted_s=2.0,
        blur_s=blur_s,
        covered_s=covered_s,
        report=told or report(),
        disturbed=disturbed,
        host=host,
    )


def goodput(measured: Measured) -> Verdict:
    return incast_goodput(measured, SINK, payload_bytes=PAYLOAD, frame_bytes=FRAME)


def share(measured: Measured) -> Verdict:
    return pause_share(measured, SENDERS)


def timing(
    *storms: tuple[float | None, float | None], host: HostSample = WELL, disturbed: str | None = None
) -> Verdict:
    return watchdog_timing(
        [StormTiming(*one) for one in storms], detect_s=0.2, restore_s=0.2, poll_s=0.2, host=host, disturbed=disturbed
    )


LATE = reactions(*[30] * 999, 40_000)
FEW = reactions(*[30] * 20)


@dataclass(frozen=True)
class Case:
    judge: Callable[..., Verdict]
    held: list[Callable[[], Verdict]]
    false: list[Callable[[], Verdict]]
    invalid: list[Callable[[], Verdict]]


CASES = [
    Case(
        lossless,
        held=[lambda: lossless(run()), lambda: lossless(run(tail=3), queues=(4,))],
        false=[
            lambda: lossless(run(tail=1)),
            lambda: lossless(run(ingress=1)),
            lambda: lossless(run(told=report(lost=1))),
        ],
        invalid=[
            lambda: lossless(run(tail=1, asicd=LATE)),
            lambda: lossless(run(asicd=LATE)),
            lambda: lossless(run(tail=1, disturbed="up of lab b")),
            lambda: lossless(run(told=report(lost=1, overflow=1))),
            lambda: lossless(run(tail=1, host=STOLEN)),
            lambda: lossless(run(tail=1, asicd=replace(reactions(30), softnet_dropped=1))),
            lambda: lossless(run(sent=(0, 0), told=report(sent=0))),
        ],
    ),
    Case(
        pause_share,
        held=[
            lambda: share(run(paused=(1.05, 0.95))),
            lambda: pause_share(run(paused=(1.2, 1.2)), SENDERS, paused=0.6),
        ],
        false=[
            lambda: share(run(paused=(1.1, 1.0))),
            lambda: share(run(paused=(0.9, 1.0))),
            lambda: share(run(sent=(FULL, FULL * 8 // 10))),
        ],
        invalid=[
            lambda: share(run(asicd=LATE)),
            lambda: share(run(blur_s=0.03)),
            lambda: share(run(sent=(0, 0))),
            lambda: share(run(disturbed="down of lab b")),
        ],
    ),
    Case(
        incast_goodput,
        held=[lambda: goodput(run()), lambda: goodput(run(sent=(FULL * 96 // 100, FULL * 96 // 100)))],
        false=[
            lambda: goodput(run(sent=(FULL * 94 // 100, FULL * 94 // 100))),
            lambda: goodput(run(sent=(FULL * 80 // 100, FULL * 80 // 100), host=ROBBED)),
        ],
        invalid=[
            lambda: goodput(run(asicd=LATE)),
            lambda: goodput(run(blur_s=0.03)),
            lambda: goodput(run(sent=(FULL * 94 // 100, FULL * 94 // 100), host=ROBBED)),
        ],
    ),
    Case(
        reaction,
        held=[
            lambda: reaction(run()),
            lambda: reaction(run(asicd=reactions(*[30] * 900, *[3300] * 100), host=ROBBED)),
        ],
        false=[
            lambda: reaction(run(asicd=reactions(*[30] * 900, *[3300] * 100))),
            lambda: reaction(run(asicd=reactions(*[30] * 700, *[3300] * 300), host=ROBBED)),
        ],
        invalid=[
            lambda: reaction(run(asicd=LATE)),
            lambda: reaction(run(asicd=FEW)),
            lambda: reaction(run(disturbed="up of lab b")),
        ],
    ),
    Case(
        watchdog_timing,
        held=[lambda: timing((0.201, 0.399), (0.39, 0.21)), lambda: timing((0.404, 0.3))],
        false=[
            lambda: timing((0.3, 0.3), (0.199, 0.3)),
            lambda: timing((0.3, 0.41)),
            lambda: timing((None, 0.3)),
            lambda: timing((0.3, None)),
        ],
        invalid=[
            timing,
            lambda: timing((0.3, 0.3), host=replace(WELL, starved_s=0.03)),
            lambda: timing((0.5, 0.3), host=STOLEN),
            lambda: timing((0.5, 0.3), disturbed="up of lab b"),
        ],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.judge.__name__)
def test_every_verdict_is_seen_held_false_and_invalid(case: Case) -> None:
    for held in case.held:
        assert held()
    for false in case.false:
        assert false().valid
        assert not false()
        assert false().evidence.summary
    for invalid in case.invalid:
        assert not invalid().valid
        with pytest.raises(RunInvalid):
            bool(invalid())


def test_no_verdict_is_missing_here() -> None:
    found = {
        name
        for name, function in inspect.getmembers(labs.verdicts.pfc, inspect.isfunction)
        if not name.startswith("_")
        and function.__module__ == labs.verdicts.pfc.__name__
        and inspect.get_annotations(function).get("return") == "Verdict"
    }
    assert found == {case.judge.__name__ for case in CASES}


def test_the_evidence_says_who_is_to_blame() -> None:
    verdict = lossless(run(tail=7, told=report(lost=7)))
    assert verdict.evidence.numbers["drops"] == {"leaf1:eth3 queue 3": 7}
    assert verdict.evidence.numbers["missing"] == {"host1 to host3": 7}
    assert verdict.evidence.numbers["fifo"] is True
    assert "a pause took 40000 µs to be obeyed, the headroom covers 32000 µs" in str(lossless(run(asicd=LATE)))


@pytest.mark.parametrize(
    ("micros", "longest"),
    [((), None), ((30,), 30.0), ((30, 81), 81.0), ((30, 5000), 5000.0)],
)
def test_the_longest_reaction_of_a_stretch(micros: tuple[int, ...], longest: float | None) -> None:
    assert longest_us(reactions(*micros)) == longest


def test_the_longest_reaction_is_the_stretch_s_and_not_that_of_asicd_s_life() -> None:
    before, after = reactions(30, 9000), reactions(30, 9000, 81)
    assert longest_us(after - before) == 84.0


def test_beyond_the_histogram_the_sum_bounds_the_longest_reaction() -> None:
    """9000 µs came before. In the stretch: 5000, and 1000 short ones anywhere in their buckets of 4 µs.

    These err by 4/√12 · √1000 = 37 µs: the bound lies above the truth, by no more than 10 standard deviations.
    """
    short = [30 + 7.31 * number % 50 for number in range(1000)]
    before, after = reactions(30, 9000), reactions(30, 9000, *short, 5000)
    found = longest_us(after - before)
    assert found is not None
    assert 5000 <= found <= 5370


@pytest.mark.parametrize(("rate", "covers_s"), [(RATE, 0.2091), (5 * RATE, 0.0418)])
def test_what_the_headroom_covers_is_the_formula_solved_for_the_reaction(rate: int, covers_s: float) -> None:
    """F6: with 2621440 bytes of headroom and frames of 4138, 100 Mbit/s may take 209 ms to pause, 500 Mbit/s 41.8."""
    profile, fabric = load_profile("pfc_only"), load_fabric("star_3")
    laid_out = plan(profile, fabric, rates={link.name: rate for link in fabric.links})
    covered = covered_s(cast(SoftAsic, SimpleNamespace(profile=profile, plan=laid_out)), FRAME)
    assert covered == pytest.approx(covers_s, rel=1e-3)
    assert needed(rate, FRAME, 0, covered) == pytest.approx(2_621_440, abs=1)
