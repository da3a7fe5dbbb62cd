"""Does a queue mark as SONiC's WRED curve says, at dequeue, and does its port serve its queues as scheduled?

    p(q) = 0 below min, probability · (q − min) / (max − min) up to max, 1 above     q: bytes left behind

What is judged are packets one by one: how many bytes each left behind in its queue, and whether it was marked (or, for
packets that cannot be marked, dropped: the same curve). Where the curve says 0 or 1 a single packet decides. In
between, depths are taken together in equal steps, and each step is asked whether so many marks are likely. Packets of
one step have different p; the number of marks is then a sum of unequal coins, whose tails, from one mark beside the
mean on, are below those of the binomial law with the same mean (Hoeffding 1956). So the binomial law is used, and
errs to the safe side.

A step vouches for itself when a curve that is off by a tenth of `probability` would be noticed there, and all steps
together when one that is off by a tenth of itself would:

    z · √(p (1 − p) / n) ≤ P / 10        z · √((1 − p) / (n p)) ≤ 1 / 10       z: the normal quantile of its alarm rate
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from labs.verdicts import FALSE_ALARM, Evidence, Fidelity, Verdict

STEPS = 8
OFF_BY = 0.1
SHARE_WITHIN = 0.05
# A turn of DWRR is served whole: with so many of them the first and the last are 2.5 % of what was sent at most.
TURNS_NEEDED = 40


class Curve(Protocol):
    """A WRED profile: what `labs.dataplane.intent.Wred` says of green packets."""

    @property
    def min_bytes(self) -> int:
        """Nothing is marked below."""
        ...

    @property
    def max_bytes(self) -> int:
        """Everything is marked above."""
        ...

    @property
    def probability_percent(self) -> int:
        """How many packets of a hundred are marked at `max_bytes`."""
        ...


@dataclass(frozen=True, slots=True)
class Left:
    """One packet: the bytes it left behind in its queue, and whether it was marked."""

    behind_bytes: int
    marked: bool


@dataclass(frozen=True, slots=True)
class Served:
    """What one queue of a port sent in an interval. `weight` None: it is strict.

    `offered` says that packets waited in it all the time: only then does its share say something of the scheduler.
    """

    queue: int
    weight: int | None
    sent_bytes: int
    offered: bool


def chance_at(curve: Curve, behind_bytes: int) -> float:
    """The probability that a packet is marked which leaves `behind_bytes` in its queue."""
    if behind_bytes < curve.min_bytes:
        return 0.0
    if behind_bytes > curve.max_bytes:
        return 1.0
    most = curve.probability_percent / 100
    span = curve.max_bytes - curve.min_bytes
    return most * (behind_bytes - curve.min_bytes) / span if span else most


def packets_needed(curve: Curve, steps: int = STEPS, false_alarm: float = FALSE_ALARM) -> int:
    """How many packets each step of `wred_curve` needs: what its likeliest outcome to be misread asks for."""
    most = curve.probability_percent / 100
    means = [most * (step + 0.5) / steps for step in range(steps)]
    return math.ceil(max(_needed(mean, most, _quantile(steps, false_alarm)) for mean in means))


def wred_curve(
    samples: Iterable[Left], curve: Curve, *, steps: int = STEPS, false_alarm: float = FALSE_ALARM
) -> Verdict:
    """Judge that packets were marked as the curve says, at `steps` depths between its ends and beyond both.

    Args:
        samples: every packet, in any order.
        curve: what the queue was told.
        steps: how many equal spans of depth are asked, each by itself.
        false_alarm: how often a queue that marks as it should may be called wrong, all questions together.

    Invalid when a step has fewer packets than it needs, or when none lay below `min_bytes` or above `max_bytes`.
    """
    packets = tuple(samples)
    claim = f"marks follow the WRED curve: 0 to {curve.probability_percent} % from {curve.min_bytes} to "
    claim += f"{curve.max_bytes} bytes"
    below = [one for one in packets if one.behind_bytes < curve.min_bytes]
    above = [one for one in packets if one.behind_bytes > curve.max_bytes]
    parts = _steps(packets, curve, steps)
    asked = [*parts, _Step("all steps", [one for part in parts for one in part.packets], curve)]
    share = false_alarm / (2 * len(asked))  # each is asked from both sides (Bonferroni)
    wrong = [f"marked below min: {sum(one.marked for one in below)}"] if any(one.marked for one in below) else []
    wrong += [f"not marked above max: {sum(not p.marked for p in above)}"] if any(not p.marked for p in above) else []
    wrong += [str(part) for part in asked if part.packets and part.unlikely() < share]
    numbers = {
        "packets": len(packets),
        "below_min": len(below),
        "above_max": len(above),
        "p_bound": share,
        "false_alarm": false_alarm,
        "needed_a_step": packets_needed(curve, steps, false_alarm),
    }
    rows = tuple(part.row(share) for part in asked)
    said = "; ".join(wrong) or f"{len(packets)} packets at {steps} depths, each as likely as it should be"
    verdict = Verdict(claim, not wrong, Evidence(said, numbers, rows), fidelity=Fidelity.EMULATED)
    because = _too_few(parts, asked[-1], curve, steps, false_alarm, beyond=(len(below), len(above)))
    return verdict.invalid(because) if because else verdict


def marked_at_dequeue(marks: Sequence[bool], *, sent: int, frame_bytes: int, curve: Curve) -> Verdict:
    """Judge that a held burst was marked as it left: the first packets marked, the last not, by what each left behind.

    Args:
        marks: of the packets of one burst, in the order in which they left; all were held before the first one left.
        sent: how many packets the burst had: the j-th leaves sent − j behind it.
        frame_bytes: of each, as the queue counts them.
        curve: with 100 % at its end, and as good as a step.

    Invalid when packets are missing, or when the burst is too short to reach above the curve.
    """
    claim = "packets are marked when they leave, by the depth they leave behind"
    expected = [chance_at(curve, frame_bytes * (sent - 1 - place)) for place in range(len(marks))]
    wrong = [place for place, (mark, p) in enumerate(zip(marks, expected, strict=True)) if p in {0, 1} and mark != p]
    runs = [(mark, len(list(run))) for mark, run in groupby(marks)]
    said = ", then ".join(f"{count} {'marked' if mark else 'not'}" for mark, count in runs[:6]) or "no packets"
    numbers = {
        "sent": sent,
        "arrived": len(marks),
        "marked": sum(marks),
        "should_be_marked": sum(p == 1 for p in expected),
        "either": sum(0 < p < 1 for p in expected),
        "wrong": len(wrong),
    }
    if wrong:
        said += f"; {len(wrong)} wrong, the first is packet {wrong[0] + 1}"
    verdict = Verdict(claim, not wrong, Evidence(said, numbers), fidelity=Fidelity.EMULATED)
    if len(marks) != sent:
        return verdict.invalid(f"{len(marks)} of {sent} packets arrived: what each left behind is not known")
    if 1 not in expected or 0 not in expected:
        return verdict.invalid(f"a burst of {sent} packets does not reach from below the curve to above it")
    return verdict


def no_marks(samples: Iterable[Left], curve: Curve, *, false_alarm: float = FALSE_ALARM) -> Verdict:
    """Judge that nothing was marked, where packets passed that `curve`, were it in force, would have marked.

    Invalid when even a queue that follows `curve` would have left them all unmarked more often than `false_alarm`.
    """
    packets = tuple(samples)
    marked = sum(one.marked for one in packets)
    chances = [chance_at(curve, one.behind_bytes) for one in packets]
    by_chance = 0.0 if 1.0 in chances else math.exp(sum(math.log1p(-p) for p in chances))
    numbers = {"packets": len(packets), "marked": marked, "marked_with_wred": sum(chances), "p_by_chance": by_chance}
    said = f"{marked} of {len(packets)} packets are marked; with WRED {sum(chances):.0f} would be"
    verdict = Verdict("nothing is marked", marked == 0, Evidence(said, numbers), fidelity=Fidelity.EMULATED)
    if by_chance > false_alarm:
        return verdict.invalid(f"with WRED all would be unmarked with probability {by_chance:.2g} too")
    return verdict


def scheduling_shares(
    queues: Sequence[Served], *, turn_bytes: int, frame_bytes: int, within: float = SHARE_WITHIN
) -> Verdict:
    """Judge that a port served its queues as scheduled: strict ones first, the rest by DWRR weight.

    Args:
        queues: what each sent in one interval.
        turn_bytes: what DWRR's least weight sends in a turn.
        frame_bytes: of the largest frame. Two of them may have been on the way past a strict queue.
        within: how far from its share, relative to it, a DWRR queue may be.

    A strict queue with packets waiting lets nothing of lower ones pass: that is exact. Invalid when fewer than two
    queues have packets waiting all the time, or when DWRR had fewer than TURNS_NEEDED turns.
    """
    claim = "strict queues are served first, the others by weight"
    waiting = [one for one in queues if one.offered]
    shut = _behind_a_strict_one(waiting)
    sharing = [one for one in waiting if one.weight is not None and one not in shut]
    wrong = [
        f"queue {one.queue} sent {one.sent_bytes} bytes past a strict one" for one in shut if _passed(one, frame_bytes)
    ]
    expected = _by_weight(sharing)
    off = {one.queue: one.sent_bytes / expected[one.queue] - 1 if expected[one.queue] else -1.0 for one in sharing}
    wrong += [f"queue {queue} is {value:+.1%} off its share" for queue, value in off.items() if abs(value) > within]
    numbers: dict[str, object] = {
        "sent": {one.queue: one.sent_bytes for one in queues},
        "by_weight": {queue: round(size) for queue, size in expected.items()},
        "off": {queue: round(value, 4) for queue, value in off.items()},
        "nothing_from": [one.queue for one in shut],
        "within": within,
    }
    said = "; ".join(wrong) or f"{len(sharing)} queues share by weight, {len(shut)} wait for strict ones"
    verdict = Verdict(claim, not wrong, Evidence(said, numbers), fidelity=Fidelity.EMULATED)
    if len(waiting) < 2:
        return verdict.invalid(f"{len(waiting)} queues had packets waiting all the time: nothing was scheduled")
    turns = sum(one.sent_bytes for one in sharing) / (turn_bytes * (_weights(sharing) or 1))
    if len(sharing) > 1 and turns < TURNS_NEEDED:
        return verdict.invalid(f"{turns:.1f} turns of DWRR, {TURNS_NEEDED} are needed to tell shares by {within:.0%}")
    return verdict


class _Step:
    """The packets of one span of depth, and what the curve says of them."""

    def __init__(self, name: str, packets: Sequence[Left], curve: Curve) -> None:
        self.name = name
        self.packets = packets
        self.marked = sum(one.marked for one in packets)
        self.expected = sum(chance_at(curve, one.behind_bytes) for one in packets)
        self.mean = self.expected / len(packets) if packets else 0.0

    def unlikely(self) -> float:
        """How likely a count of marks is that is as far off, to its side."""
        from scipy.special import bdtr, bdtrc

        count = len(self.packets)
        if self.marked > self.expected:
            return float(bdtrc(self.marked - 1, count, self.mean)) if self.marked else 1.0
        return float(bdtr(self.marked, count, self.mean))

    def interval(self, share: float) -> tuple[float, float]:
        """The exact (Clopper-Pearson) confidence interval of the marking probability."""
        from scipy.special import betaincinv

        count, marked = len(self.packets), self.marked
        low = float(betaincinv(marked, count - marked + 1, share)) if marked else 0.0
        high = float(betaincinv(marked + 1, count - marked, 1 - share)) if marked < count else 1.0
        return low, high

    def row(self, share: float) -> str:
        """For the evidence."""
        if not self.packets:
            return f"{self.name}: no packets"
        low, high = self.interval(share)
        seen = self.marked / len(self.packets)
        return f"{self}, {seen:.4f} [{low:.4f}, {high:.4f}] where the curve has {self.mean:.4f}"

    def __str__(self) -> str:
        return f"{self.name}: {self.marked} of {len(self.packets)} marked, {self.expected:.1f} expected"


def _steps(packets: Sequence[Left], curve: Curve, steps: int) -> list[_Step]:
    span = (curve.max_bytes - curve.min_bytes) / steps
    inside: list[list[Left]] = [[] for _ in range(steps)]
    for one in packets:
        if curve.min_bytes <= one.behind_bytes <= curve.max_bytes:
            at = int((one.behind_bytes - curve.min_bytes) / span) if span else 0
            inside[min(at, steps - 1)].append(one)
    edges = [round(curve.min_bytes + span * step) for step in range(steps + 1)]
    return [_Step(f"{edges[at]} to {edges[at + 1]} bytes", part, curve) for at, part in enumerate(inside)]


def _quantile(steps: int, false_alarm: float) -> float:
    from scipy.special import ndtri

    return float(-ndtri(false_alarm / (2 * (steps + 1))))


def _needed(mean: float, most: float, z: float) -> float:
    return (z / (OFF_BY * most)) ** 2 * mean * (1 - mean)


def _too_few(
    parts: Sequence[_Step], whole: _Step, curve: Curve, steps: int, false_alarm: float, *, beyond: tuple[int, int]
) -> str | None:
    """Why the packets do not tell a wrong curve from a right one; None when they do."""
    z, most = _quantile(steps, false_alarm), curve.probability_percent / 100
    for name, count in zip(("below min", "above max"), beyond, strict=True):
        if not count:
            return f"no packet left a depth {name} behind"
    for part in parts:
        needed = math.ceil(_needed(part.mean, most, z)) or 1
        if len(part.packets) < needed:
            return f"{part.name}: {len(part.packets)} packets, {needed} are needed"
    needed = math.ceil((z / OFF_BY) ** 2 * (1 - whole.mean) / whole.mean) if whole.mean else 1
    if len(whole.packets) < needed:
        return f"{len(whole.packets)} packets between min and max, {needed} are needed"
    return None


def _behind_a_strict_one(waiting: Sequence[Served]) -> list[Served]:
    """Queues that have to be silent: those behind a strict queue in which packets wait."""
    first = max((one.queue for one in waiting if one.weight is None), default=-1)
    return [one for one in waiting if first >= 0 and one.queue != first]


def _passed(one: Served, frame_bytes: int) -> bool:
    return one.sent_bytes > 2 * frame_bytes


def _weights(sharing: Sequence[Served]) -> int:
    least = min((one.weight or 1 for one in sharing), default=1)
    return sum(one.weight or 1 for one in sharing) // least


def _by_weight(sharing: Sequence[Served]) -> Mapping[int, float]:
    """What each would have sent of what all sent together."""
    sent, weights = sum(one.sent_bytes for one in sharing), sum(one.weight or 1 for one in sharing)
    return {one.queue: sent * (one.weight or 1) / weights for one in sharing}
