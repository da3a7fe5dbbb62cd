"""Does everybody in a collective keep up, and does everybody get as much?

rank 1 ─► rank 2 ─► rank 3 ─► rank 4 ─► rank 1      In a ring all wait for the slowest, so that every rank's times
                      ✋                            look alike. What tells is the messages: those to rank 3 and
                                                    those from it both take longer than the others of their step;
                                                    rank 2's and rank 4's do so on one side alone
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

from labs.telemetry.samples import HostSample
from labs.verdicts import Evidence, Fidelity, Verdict
from labs.verdicts.health import vouch
from traffic.bounds import jain, percentiles
from traffic.engines.rc_report import SendResult
from traffic.graph import Graph

MOST_ROWS = 12
# Who takes 1.1 times as long is a straggler by custom: of a run that waits for that one, 0.1/1.1 is waiting.
WAITED_MOST = 0.1 / 1.1
# SONiC's RoCEv2 plan, case 6: (max - min) / mean of queue pairs' rates.
DEVIATION_MOST = 0.30
# What that allows at its worst, half of all rates at either end: cv² <= (0.3/2)², and Jain = 1 / (1 + cv²) (F10).
JAIN_LEAST = 1 / (1 + (DEVIATION_MOST / 2) ** 2)


@dataclass(frozen=True, slots=True)
class Message:
    """A message of one step: it could be sent, and `took_s` later it was there whole. `src` and `dst` are ranks."""

    step: int
    src: int
    dst: int
    took_s: float


def messages_of(graph: Graph, results: Iterable[SendResult]) -> tuple[Message, ...]:
    """What became of the messages of a graph, in the last iteration; those that did not arrive are left out.

    A message could be sent when all that it waits for had arrived, and its rank had computed; one that waits for none,
    when the first of all began. What a rank copies within itself takes no time.
    """
    places = {id(send): place for place, send in enumerate(graph.sends)}
    there = {places[id(one.send)]: one for one in results if one.begun_s is not None and one.done_s is not None}
    began = min((one.begun_s for one in there.values() if one.begun_s is not None), default=0.0)
    found, arrived = [], dict[int, float]()
    for place, send in enumerate(graph.sends):
        ready = max((arrived.get(other, began) for other in send.after), default=began) + send.compute_s
        one = there.get(place)
        arrived[place] = ready if one is None or one.done_s is None else one.done_s
        if one is not None and send.src != send.dst:
            found.append(Message(send.step, send.src, send.dst, max(0.0, arrived[place] - ready)))
    return tuple(found)


def stragglers(
    messages: Iterable[Message],
    *,
    waited_most: float = WAITED_MOST,
    hosts: Mapping[int, str] | None = None,
    late: str | None = None,
    host: HostSample | None = None,
) -> Verdict:
    """Judge that no rank makes the others of a collective wait.

    Args:
        messages: of equal size within a step, over connections of equal rate.
        waited_most: the share of the time that a rank may cost.
        hosts: of the ranks, for the evidence.
        late: why the run cannot vouch for its times, as when senders were late; None when it can.
        host: the workstation meanwhile.

    Of each step a rank costs what all of its messages, at least one each way, took longer than the median of those
    that it has no part in: the least of these excesses. Bound: the sum over all steps is at most 1/11 of all steps'
    longest messages, which is what a rank that takes 1.1 times as long costs. Where each rank has messages one way
    alone, sender and receiver cannot be told apart: invalid, as without messages or with fewer than three in every
    step. Starved workstations, and what makes senders late, stop ranks themselves: then what is false is invalid.
    """
    steps: dict[int, list[Message]] = defaultdict(list)
    for one in messages:
        steps[one.step].append(one)
    judged = {step: some for step, some in steps.items() if len(some) > 2 and _told_apart(some)}
    whole = sum(max(one.took_s for one in some) for some in judged.values())
    costs: dict[int, float] = defaultdict(float)
    for some in judged.values():
        for rank, excess in _excess(some).items():
            costs[rank] += excess
    slow = sorted((rank for rank, cost in costs.items() if cost), key=lambda rank: -costs[rank])
    names = {rank: f"rank {rank}" + (f" on {hosts[rank]}" if hosts and rank in hosts else "") for rank in slow}
    share = costs[slow[0]] / whole if slow else 0.0
    took = percentiles([one.took_s for some in judged.values() for one in some]) if judged else None
    numbers: dict[str, object] = {
        "steps": len(judged),
        "worst": names[slow[0]] if slow else None,
        "waited": round(share, 4),
        "waited_most": round(waited_most, 4),
        "p99_over_p50": round(took.p99 / took.p50, 3) if took and took.p50 else None,
    }
    said = f"{names[slow[0]]} costs {share:.1%} of the time" if slow else "nobody is waited for"
    rows = tuple(f"{names[rank]}: {costs[rank] * 1e3:.2f} ms of {whole * 1e3:.2f}" for rank in slow[:MOST_ROWS])
    claim, found = "no rank makes the others wait", Evidence(said, numbers, rows)
    verdict = Verdict(claim, share <= waited_most, found, fidelity=Fidelity.EMULATED)
    if not judged or not whole:
        return verdict.invalid("there is no step in which three messages and both ways of a rank could be compared")
    if late and not verdict.held:
        return verdict.invalid(late)
    return vouch(verdict, host)


def fair_shares(
    rates_bps: Mapping[str, float],
    *,
    deviation_most: float = DEVIATION_MOST,
    jain_least: float = JAIN_LEAST,
    because: str | None = None,
    host: HostSample | None = None,
) -> Verdict:
    """Judge that flows that ask for the same got the same.

    Args:
        rates_bps: of each flow, or queue pair, all of which always had something to send over what they share.
        because: why the run cannot vouch for itself, None when it can.

    Bound: (max - min) / mean below 30 %, and Jain's index at least 0.978, the least that such a spread can have: for
    more than a few flows the index is the sharper one about many that are off, the deviation about one. Invalid for
    fewer than two flows, or when nothing was sent at all; what is false is invalid on a starved workstation.
    """
    rates = list(rates_bps.values())
    mean = sum(rates) / len(rates) if rates else 0.0
    claim = "flows that ask for the same get the same"
    if len(rates) < 2 or not mean:
        said = f"{len(rates)} flows sent {sum(rates):g} bit/s"
        return Verdict(claim, False, Evidence(said), fidelity=Fidelity.EMULATED).invalid(said)
    deviation, index = (max(rates) - min(rates)) / mean, jain(rates)
    order = sorted(rates_bps, key=lambda flow: rates_bps[flow])
    numbers: dict[str, object] = {
        "flows": len(rates),
        "deviation": round(deviation, 4),
        "deviation_most": deviation_most,
        "jain": round(index, 5),
        "jain_least": round(jain_least, 4),
        "least": order[0],
        "most": order[-1],
    }
    rows = tuple(f"{flow}: {rates_bps[flow] / 1e6:.3f} Mbit/s, {rates_bps[flow] / mean - 1:+.1%}" for flow in order)
    verdict = Verdict(
        claim,
        deviation < deviation_most and index >= jain_least,
        Evidence(f"deviation {deviation:.1%}, Jain {index:.4f}", numbers, rows[:MOST_ROWS]),
        fidelity=Fidelity.EMULATED,
    )
    return verdict.invalid(because) if because else vouch(verdict, host)


def _excess(some: Sequence[Message]) -> dict[int, float]:
    """By rank that both sends and receives in a step: the least that its messages took beyond those of the others."""
    found = {}
    for rank in {one.src for one in some} & {one.dst for one in some}:
        usual = median_low([one.took_s for one in some if rank not in (one.src, one.dst)] or [math.inf])
        found[rank] = max(0.0, min(one.took_s for one in some if rank in (one.src, one.dst)) - usual)
    return found


def _told_apart(some: Sequence[Message]) -> bool:
    return bool({one.src for one in some} & {one.dst for one in some})
