"""The judges of marking and scheduling are seen held, false and invalid, and keep the alarm rate they state."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pytest

from labs.dataplane.intent import Wred
from labs.errors import RunInvalid
from labs.verdicts import Verdict, ecn
from labs.verdicts.ecn import (
    Left,
    Served,
    chance_at,
    marked_at_dequeue,
    no_marks,
    packets_needed,
    scheduling_shares,
    wred_curve,
)

CURVE = Wred(100_000, 400_000, 20, drop=True, ecn=True)
STEP = Wred(9_500, 9_501, 100, drop=True, ecn=True)
FRAME = 1_000
STEPS = 6


def played(curve: Wred, *, bursts: int, seed: int = 7, frames: int = 450) -> list[Left]:
    """Held bursts from a queue that marks by `curve`."""
    behind = np.tile(np.arange(frames)[::-1] * FRAME, bursts)
    chances = np.array([chance_at(curve, int(depth)) for depth in behind[:frames]])
    marked = np.random.default_rng(seed).random(len(behind)) < np.tile(chances, bursts)
    return [Left(int(depth), bool(mark)) for depth, mark in zip(behind, marked, strict=True)]


def judged(
    curve: Wred = CURVE, *, bursts: int = 250, more: Iterable[Left] = (), seed: int = 7, false_alarm: float = 1e-5
) -> Verdict:
    return wred_curve([*played(curve, bursts=bursts, seed=seed), *more], CURVE, steps=STEPS, false_alarm=false_alarm)


def dequeued(front: int, back: int, *, sent: int = 21) -> Verdict:
    return marked_at_dequeue([True] * front + [False] * back, sent=sent, frame_bytes=FRAME, curve=STEP)


def shares(*sent: int, offered: bool = True) -> Verdict:
    """Queues 0, 1, 2 with weights 1, 2, 4."""
    queues = [Served(queue, 1 << queue, size, offered) for queue, size in enumerate(sent)]
    return scheduling_shares(queues, turn_bytes=9_230, frame_bytes=9_230)


def strict(first: int, second: int, *, first_waits: bool = True) -> Verdict:
    """A strict queue, 6, before two that share."""
    queues = [
        Served(0, 1, second, offered=True),
        Served(1, 1, second, offered=True),
        Served(6, None, first, first_waits),
    ]
    return scheduling_shares(queues, turn_bytes=9_230, frame_bytes=9_230)


@dataclass(frozen=True)
class Case:
    """One verdict, called so that it holds, is false, and is invalid."""

    judge: Callable[..., Verdict]
    held: Callable[[], Verdict]
    false: Callable[[], Verdict]
    invalid: Callable[[], Verdict]


MEGABYTES = 10_000_000
CASES = [
    Case(
        wred_curve,
        held=judged,
        false=lambda: judged(Wred(100_000, 400_000, 23, drop=True, ecn=True)),
        invalid=lambda: judged(bursts=20),
    ),
    Case(
        marked_at_dequeue,
        held=lambda: dequeued(11, 10),
        false=lambda: dequeued(10, 11),
        invalid=lambda: dequeued(11, 9),
    ),
    Case(
        no_marks,
        held=lambda: no_marks([Left(450_000, marked=False)], CURVE),
        false=lambda: no_marks([Left(450_000, marked=False), Left(0, marked=True)], CURVE),
        invalid=lambda: no_marks([Left(110_000, marked=False)], CURVE),
    ),
    Case(
        scheduling_shares,
        held=lambda: shares(MEGABYTES, 2 * MEGABYTES, 4 * MEGABYTES),
        false=lambda: shares(MEGABYTES, MEGABYTES, MEGABYTES),
        invalid=lambda: shares(1, 2, 4),
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


def test_no_verdict_is_missing_here() -> None:
    found = {
        name
        for name, function in inspect.getmembers(ecn, inspect.isfunction)
        if not name.startswith("_")
        and function.__module__ == ecn.__name__
        and inspect.get_annotations(function).get("return") == "Verdict"
    }
    assert found == {case.judge.__name__ for case in CASES}


@pytest.mark.parametrize(
    "other",
    [
        Wred(100_000, 400_000, 18, drop=True, ecn=True),  # a tenth less everywhere
        Wred(100_000, 440_000, 20, drop=True, ecn=True),  # reaches its end later
        Wred(60_000, 400_000, 20, drop=True, ecn=True),  # begins earlier: a mark below min
        Wred(100_000, 400_000, 100, drop=True, ecn=True),
        Wred(399_999, 400_000, 100, drop=True, ecn=True),  # a step
    ],
)
def test_wrong_curves_are_noticed(other: Wred) -> None:
    """A tenth less is noticed in at least half of the runs of just enough packets, so in one of 8 but for 2⁻⁸."""
    verdicts = [judged(other, seed=seed) for seed in range(8)]
    assert any(not verdict for verdict in verdicts)


def test_one_packet_decides_where_the_curve_is_certain() -> None:
    assert not judged(more=[Left(99_999, marked=True)])
    assert not judged(more=[Left(400_001, marked=False)])
    assert judged(more=[Left(99_999, marked=False), Left(400_001, marked=True)])


def test_the_needed_packets_are_enough() -> None:
    """50 packets of a burst lie in each step (51 in the last one): so many bursts are valid, a tenth fewer is not."""
    bursts = -(-packets_needed(CURVE, STEPS) // 50)
    assert judged(bursts=bursts + 1).valid
    assert not judged(bursts=bursts * 9 // 10).valid


def test_the_false_alarm_rate_is_at_most_the_stated_one() -> None:
    """300 sound queues at 5e-2: 15 alarms at most are expected, more than 15 + 4·√15 = 30 are a finding."""
    alarms = sum(not judged(bursts=10, seed=seed, false_alarm=5e-2).held for seed in range(300))
    assert 0 < alarms <= 30


@pytest.mark.parametrize(
    ("marks", "says"),
    [
        ([False] * 10 + [True] * 11, "20 wrong"),  # marked as they came
        ([True] * 21, "10 wrong, the first is packet 12"),
        ([False] * 21, "11 wrong, the first is packet 1"),
        ([True] * 12 + [False] * 9, "1 wrong, the first is packet 12"),
    ],
)
def test_marking_at_the_wrong_end_is_noticed(marks: list[bool], says: str) -> None:
    verdict = marked_at_dequeue(marks, sent=21, frame_bytes=FRAME, curve=STEP)
    assert not verdict
    assert says in verdict.evidence.summary


def test_a_burst_that_stays_below_the_curve_says_nothing() -> None:
    assert not marked_at_dequeue([False] * 9, sent=9, frame_bytes=FRAME, curve=STEP).valid
    assert not marked_at_dequeue([], sent=0, frame_bytes=FRAME, curve=STEP).valid


def test_strict_queues_let_nothing_pass() -> None:
    assert strict(MEGABYTES, 2 * 9_230)
    assert not strict(MEGABYTES, 2 * 9_230 + 1)
    assert strict(MEGABYTES, MEGABYTES, first_waits=False)


def test_shares_five_percent_off_are_noticed() -> None:
    """Weights 1, 2, 4: 4 % off is allowed, 6 % is not; the sum is kept, as what one has more the others have less."""
    assert shares(10_400_000, 20_000_000, 39_600_000)
    assert not shares(10_600_000, 20_000_000, 39_400_000)


def test_one_queue_alone_says_nothing_of_a_scheduler() -> None:
    assert not shares(MEGABYTES).valid
    assert not shares(MEGABYTES, MEGABYTES, offered=False).valid
