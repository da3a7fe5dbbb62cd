"""Do flows spread over equal-cost paths as independent uniform hashing would spread them?

Three questions are put to the counts, each with its own share of the false-alarm budget:

    uneven   χ² too large    polarised hashes, a wrong weight, fewer members than there should be
    unused   the emptiest path too empty    one next hop missing: χ² alone misses it (64 flows over 3 of 4 paths
             give χ² ≈ 24, p ≈ 2e-5, while an empty path has p ≤ 4·(3/4)⁶⁴ = 4e-8)
    even     χ² too small    packets sprayed or flows dealt round robin: no hash does that

A question that no outcome could answer with "no" at its share is not put (the evidence says so) and its share goes
to the others. The verdict is invalid where not even all flows on one path would be rejected: such a check cannot
fail. Which questions are put depends on the numbers of flows and paths only, never on the counts, and the shares
add up to `false_alarm` (Bonferroni), so a sound hash is called broken at most that often.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from labs.errors import SpecError
from labs.telemetry.samples import PortSample
from labs.verdicts import FALSE_ALARM, Evidence, Verdict
from labs.verdicts.dispersion import (
    LOWER_TAIL_PATHS,
    Dispersion,
    ExactDispersion,
    chi_square,
    dispersion,
    probability_of_even_split,
)

# The bounds hold for tails from 1e-8 up (see dispersion): a third of this is well inside.
LEAST_FALSE_ALARM = 1e-7

# What BGP (keepalive 10 s), BFD (300 ms), LLDP and neighbour discovery put on one port in the few seconds between
# two samples: some 4 packets a second.
BACKGROUND_PACKETS = 40


@dataclass(frozen=True, slots=True)
class PathCounts:
    """Flows per path, read off port counters. `because` says why they cannot be trusted, None when they can.

    `sprayed` is True when the packets all arrived but single flows were split over paths.
    """

    flows: Mapping[str, int]
    packets: Mapping[str, int]
    because: str | None = None
    sprayed: bool = False


@dataclass(frozen=True, slots=True)
class _Questions:
    """Which of the three questions can be answered with "no", and the share of the false-alarm budget of each."""

    put: tuple[str, ...]
    share: float


def ecmp_spread(flows_per_path: Mapping[str, int], *, false_alarm: float = FALSE_ALARM) -> Verdict:
    """Judge that flows spread over equal-cost paths as independent uniform hashing would.

    Args:
        flows_per_path: path name (an egress port) to the number of flows on it; a path without flows counts 0.
        false_alarm: how often a sound hash may be called broken, all questions together (1e-7 … 0.5).

    Invalid for one path, no flows, or so few that the check could not fail. Raises SpecError for a negative count
    or a `false_alarm` out of range.
    """
    flows, paths = _checked(flows_per_path, false_alarm)
    claim = f"{flows} flows spread over {paths} equal-cost paths as independent uniform hashing would"
    if paths < 2:
        return _cannot(claim, flows_per_path, f"{paths} path: there is nothing to spread over")
    needed = flows_needed(paths, false_alarm)
    if flows < needed:
        because = (
            f"{flows} flows over {paths} paths: not even all on one path would be rejected at a false-alarm rate of "
            f"{false_alarm:g}; {needed} flows are needed"
        )
        return _cannot(claim, flows_per_path, because)
    return _judge(claim, flows_per_path, dispersion(flows, paths), _questions(flows, paths, false_alarm), false_alarm)


def flows_needed(paths: int, false_alarm: float = FALSE_ALARM) -> int:
    """The least number of flows for a verdict over `paths` ≥ 2 paths: all of them on one path would be rejected.

    P(all on one path) = m · m⁻ⁿ ≤ α gives n ≥ 1 + ln(1/α) / ln m.
    """
    return max(2, 1 + math.ceil(math.log(1 / false_alarm) / math.log(paths) - 1e-9))


def flows_to_notice_unused(paths: int, false_alarm: float = FALSE_ALARM) -> int:
    """The least number of flows with which one unused path of `paths` ≥ 2 is certain to be rejected.

    m · (1 − 1/m)ⁿ ≤ α/3 gives n ≥ ln(3m/α) / −ln(1 − 1/m).
    """
    return math.ceil(math.log(3 * paths / false_alarm) / -math.log1p(-1 / paths))


def flows_per_path(
    before: Mapping[str, PortSample],
    after: Mapping[str, PortSample],
    *,
    packets_per_flow: int,
    flows: int,
    background: int = BACKGROUND_PACKETS,
) -> PathCounts:
    """How many flows left through each port, from two samples of its transmit counter.

    Every flow sent exactly `packets_per_flow` packets between the samples, and up to `background` packets of others
    left through each port meanwhile. So a port that carried k flows grew by k·packets_per_flow … + background;
    packets_per_flow > 2·background keeps a lost flow from looking like background. Raises SpecError otherwise.
    Perfect per-packet dealing of a multiple of m flows over m ports gives whole multiples too: to tell it from
    hashing by counters alone, send a number of flows that the number of ports does not divide.
    """
    if packets_per_flow <= 2 * background:
        raise SpecError(f"packets_per_flow is {packets_per_flow}", allowed=f"more than twice background ({background})")
    packets = {port: after[port].tx_packets - before[port].tx_packets for port in before if port in after}
    counts = {port: grown // packets_per_flow for port, grown in packets.items()}
    gone = sorted(before.keys() ^ after.keys())
    restarted = sorted(port for port, grown in packets.items() if grown < 0)
    if gone or restarted:
        said = f"sampled only once: {', '.join(gone)}" if gone else f"counters restarted: {', '.join(restarted)}"
        return PathCounts(counts, packets, said)
    total, sent = sum(packets.values()), flows * packets_per_flow
    if not sent <= total <= sent + background * len(packets):
        word = "lost packets" if total < sent else "something else was sending"
        return PathCounts(counts, packets, f"{sent} packets were sent and {total} counted: {word}")
    if any(grown % packets_per_flow > background for grown in packets.values()):
        return PathCounts(counts, packets, sprayed=True)
    seen = sum(counts.values())
    return PathCounts(counts, packets, None if seen == flows else f"{flows} flows were sent and {seen} counted")


def spread_over_ports(
    before: Mapping[str, PortSample],
    after: Mapping[str, PortSample],
    *,
    packets_per_flow: int,
    flows: int,
    background: int = BACKGROUND_PACKETS,
    false_alarm: float = FALSE_ALARM,
) -> Verdict:
    """`ecmp_spread` of what `flows_per_path` reads off the counters.

    Invalid when packets were lost or added on the way, false when every packet arrived but flows were split.
    """
    counted = flows_per_path(before, after, packets_per_flow=packets_per_flow, flows=flows, background=background)
    claim = f"{flows} flows spread over {len(counted.packets)} equal-cost paths as independent uniform hashing would"
    if counted.because:
        return _cannot(claim, counted.packets, counted.because)
    if counted.sprayed:
        summary = f"single flows were split over paths: no port carried a multiple of {packets_per_flow} packets"
        return Verdict(claim, False, Evidence(summary, {"packets": dict(counted.packets)}))
    return ecmp_spread(counted.flows, false_alarm=false_alarm)


def _checked(counts: Mapping[str, int], false_alarm: float) -> tuple[int, int]:
    if not LEAST_FALSE_ALARM <= false_alarm <= 0.5:
        raise SpecError(f"false_alarm is {false_alarm:g}", allowed=f"{LEAST_FALSE_ALARM:g} to 0.5")
    below = [path for path, count in counts.items() if count < 0]
    if below:
        raise SpecError(f"a negative number of flows on {', '.join(below)}", allowed="0 or more")
    return sum(counts.values()), len(counts)


def _cannot(claim: str, counts: Mapping[str, int], because: str) -> Verdict:
    return Verdict(claim, False, Evidence(because, {"counts": dict(counts)})).invalid(because)


def _questions(flows: int, paths: int, false_alarm: float) -> _Questions:
    """The questions that some outcome would answer with "no" at a third of the budget; they then share all of it."""
    extremes = {"uneven": paths ** (1.0 - flows)}
    if paths > 2:  # with two paths the emptiest one says what χ² says
        extremes["unused"] = paths * (1 - 1 / paths) ** flows
    if paths >= LOWER_TAIL_PATHS or isinstance(dispersion(flows, paths), ExactDispersion):
        extremes["even"] = probability_of_even_split(flows, paths)
    put = tuple(name for name, chance in extremes.items() if chance <= false_alarm / 3) or ("uneven",)
    return _Questions(put, false_alarm / len(put))


def _judge(claim: str, counts: Mapping[str, int], law: Dispersion, asked: _Questions, false_alarm: float) -> Verdict:
    flows, paths, chi2 = sum(counts.values()), len(counts), chi_square(tuple(counts.values()))
    emptiest = min(counts, key=lambda path: counts[path])
    chances = {
        "uneven": law.at_least(chi2),
        "unused": _p_so_empty(counts[emptiest], flows, paths),
        "even": law.at_most(chi2),
    }
    failed = [name for name in asked.put if chances[name] <= asked.share]
    least, most = law.allowed(asked.share, asked.share if "even" in asked.put else 0.0)
    words = {
        "uneven": f"too uneven: χ² {chi2:.1f}, at most {most:.1f} allowed",
        "unused": f"{emptiest} carries only {counts[emptiest]}",
        "even": f"more even than hashing is: χ² {chi2:.3g}, at least {least:.3g} allowed (sprayed or dealt in turn?)",
    }
    spread = " ".join(str(count) for count in counts.values())
    said = "; ".join(words[name] for name in failed) or f"χ² {chi2:.1f}, at most {most:.1f} allowed"
    numbers: dict[str, object] = {
        "flows": flows,
        "paths": paths,
        "counts": dict(counts),
        "max_over_mean": round(max(counts.values()) * paths / flows, 3),
        "chi2": round(chi2, 4),
        "dof": paths - 1,
        "chi2_allowed": [round(least, 4), round(most, 4)],
        **{f"p_{name}": float(f"{chances[name]:.3g}") for name in asked.put},
        "p_bound": asked.share,
        "false_alarm": false_alarm,
        "not_asked": [name for name in chances if name not in asked.put],
        "one_sided": "even" not in asked.put,
        "method": law.method,
    }
    return Verdict(claim, not failed, Evidence(f"{flows} flows on {paths} paths: {spread}; {said}", numbers))


def _p_so_empty(count: int, flows: int, paths: int) -> float:
    """P(some path carries `count` flows or fewer) ≤ m · P(Binomial(n, 1/m) ≤ count)."""
    from scipy.special import bdtr

    return min(1.0, paths * float(bdtr(count, flows, 1 / paths)))
