"""Where DCQCN settles: how often packets are marked, how long the queue is, how soon. Pure.

N senders share a port of C. Each cuts its rate R by alpha/2 at a CNP, at most one in tau; then every T it halves the
distance to the rate before the cut, and from the F-th time on raises that by R_AI. In the steady state every sender has
C/N, and the port marks the share p* of its packets at which what a cut takes is what the time until the next one gives:

    E[ distance left at the next cut ] = E[ R_AI · (raises - what of them is not reached yet) ]

A cut comes tau and an exponential time of mean 1/(p R) after the last (`mark_probability`): this follows the state of
one sender from cut to cut, and agrees with rnic's own reaction point under random marks to 1 % (tests/native). The
fluid model (Zhu et al., "ECN or Delay: Lessons Learnt from Analysis of DCQCN and TIMELY", CoNEXT 2016) takes means of
everything instead and finds a lower p* (`fluid_mark_probability`). Both leave out what a queue does to marks: that
they come in bursts.

Dilation s: a port s times slower with every time s times as long and every rate s times as low, bytes as they are,
has the same p* and the same queue.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from topologies.errors import SpecError
from topologies.units import GBIT, MBIT, MICROSECOND

NEGLIGIBLE = 1e-12
SETTLING = 4  # alpha's memories: of where it began (1) 2 % is left


@dataclass(frozen=True, slots=True)
class ReactionPoint:
    """A parameter set, as traffic/rnic/dcqcn.h has it: the paper's names in brackets.

    A CNP at most every `cnp_interval_s` (tau); alpha falls by `g` after every `alpha_timer_s` (K, tau') without one;
    the rate rises every `rate_timer_s` (T) and every `rate_bytes` (B); `fast_steps` (F) times towards what it was,
    then by `ai_bps` (R_AI) beyond. `published_bps` is the link it was published for.
    """

    cnp_interval_s: float = 50 * MICROSECOND
    alpha_timer_s: float = 55 * MICROSECOND
    rate_timer_s: float = 55 * MICROSECOND
    rate_bytes: int = 10_000_000
    g: float = 1 / 256
    fast_steps: int = 5
    ai_bps: float = 40 * MBIT
    published_bps: float = 40 * GBIT

    def dilated(self, dilation: float) -> ReactionPoint:
        """The same on a link that is `dilation` times slower."""
        return replace(
            self,
            cnp_interval_s=self.cnp_interval_s * dilation,
            alpha_timer_s=self.alpha_timer_s * dilation,
            rate_timer_s=self.rate_timer_s * dilation,
            ai_bps=self.ai_bps / dilation,
            published_bps=self.published_bps / dilation,
        )

    @property
    def settling_s(self) -> float:
        """How long alpha remembers that it began with 1: its time constant K/g, four times."""
        return SETTLING * self.alpha_timer_s / self.g


SIGCOMM15 = ReactionPoint()
"""The paper's deployed set: ``dcqcn-sigcomm15``."""


def mark_probability(point: ReactionPoint, *, capacity_bps: float, flows: int, packet_bytes: int) -> float:
    """p*, from cut to cut: the share of packets that is marked when each of `flows` has `capacity_bps` / `flows`.

    Args:
        packet_bytes: a packet on the wire, as `capacity_bps` counts it.

    The byte counter is left out: for rates at which B takes so much longer than T that it never comes to F steps.
    Raises SpecError where it would (below 2 F timers).
    """
    rate = _share(capacity_bps, flows)
    if point.rate_bytes and point.rate_bytes * 8 / rate < 2 * point.fast_steps * point.rate_timer_s:
        raise SpecError(
            f"{point.rate_bytes} bytes at {rate:.3g} bit/s take {point.rate_bytes * 8 / rate:.3g} s",
            allowed=f"{2 * point.fast_steps * point.rate_timer_s:.3g} s or more: 2 F timers",
        )
    return _root(lambda p: -_gain(point, p, rate, packet_bytes))


def _gain(point: ReactionPoint, p: float, mean_bps: float, packet_bytes: int) -> float:
    """What a cycle from cut to cut changes the rate by, in parts of it, when its mean over time is `mean_bps`."""
    chance_s = -math.log1p(-p) * mean_bps / 8 / packet_bytes  # marks a second

    def outlasts(at_s: float) -> float:
        """The chance that the next cut comes later than `at_s` after this one."""
        return math.exp(-chance_s * max(0.0, at_s - point.cnp_interval_s))

    alpha = 1 / (1 + sum(_tails(outlasts, point.alpha_timer_s)))
    # In parts of the rate before the cut: how far below its target the rate is, and how far that was raised.
    distance, raised, gained = alpha / 2, 0.0, 0.0
    raise_by, step_s = point.ai_bps / mean_bps, point.rate_timer_s
    for steps, here in enumerate(_tails(outlasts, step_s, first=0), start=1):
        gained += (here - outlasts(steps * step_s)) * (raised - distance)  # the next cut comes before this step
        if steps > point.fast_steps:
            raised += raise_by
            distance += raise_by
        distance /= 2
    return gained


def _tails(outlasts: Callable[[float], float], step_s: float, *, first: int = 1) -> Iterator[float]:
    """The chance that the next cut comes after step `first`, after the one behind it, …: until there is none."""
    step = first
    while (chance := outlasts(step * step_s)) > NEGLIGIBLE:
        yield chance
        step += 1


def fluid_mark_probability(point: ReactionPoint, *, capacity_bps: float, flows: int, packet_bytes: int) -> float:
    """p* of the fluid model, for the same arguments."""
    rate = _share(capacity_bps, flows) / 8 / packet_bytes
    ai = point.ai_bps / 8 / packet_bytes
    bytes_, timer = point.rate_bytes / packet_bytes, point.rate_timer_s * rate  # packets a step
    tau, memory = point.cnp_interval_s, point.alpha_timer_s

    def too_much(p: float) -> float:
        log = math.log1p(-p)
        by_bytes, by_timer = (p * _over(-log * packets) for packets in (bytes_, timer))
        beyond = sum(
            math.exp(log * point.fast_steps * packets) * steps
            for packets, steps in ((bytes_, by_bytes), (timer, by_timer))
        )
        cuts = -math.expm1(log * tau * rate)
        distance = tau * ai * rate * beyond / cuts
        alpha = -math.expm1(log * memory * rate)
        return rate * alpha / (2 * tau) * cuts - distance / 2 * rate * (by_bytes + by_timer)

    return _root(too_much)


def queue_bytes(p: float, *, min_bytes: int, max_bytes: int, probability: float) -> float:
    """q*: where a WRED curve marks the share p. Raises SpecError for a share that only the part above it has."""
    if not 0 < p <= probability:
        raise SpecError(f"a marked share of {p:.3g}", allowed=f"above 0, up to the curve's {probability:g}")
    return min_bytes + p / probability * (max_bytes - min_bytes)


def _share(capacity_bps: float, flows: int) -> float:
    if capacity_bps <= 0 or flows < 1:
        raise SpecError(f"{flows} flows of {capacity_bps} bit/s", allowed="1 or more, of more than 0")
    return capacity_bps / flows


def _over(exponent: float) -> float:
    """1 / (e^x - 1), 0 where that is next to nothing."""
    return 1 / math.expm1(exponent) if exponent < 700 else 0.0


def _root(rising: Callable[[float], float]) -> float:
    """Where a function of a probability, below 0 at first, becomes 0: by halving on a scale of logarithms."""
    low, high = 1e-9, 0.99
    for _ in range(100):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return high
