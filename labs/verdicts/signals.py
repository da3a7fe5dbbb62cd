"""Do a queue's signals come in their order: marks early, pauses late, drops for those alone who cannot be marked?

    depth   0 ──── Kmin ────────── Kmax ──────── XOFF          nothing │ marks (not-ECT: drops) │ all marked │ pauses

Marks reach senders a round trip before a buffer is so full that somebody has to be paused; below Kmin nobody is told
anything. A threshold that is set wrong (Kmin beyond XOFF) or a class in the wrong queue shows as pauses without marks,
as marks of a fabric that has nothing to do, or as a queue that drops what it should have marked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, lgamma

from labs.telemetry.asic_counters import AsicCounters
from labs.telemetry.samples import HostSample
from labs.verdicts import FALSE_ALARM, Evidence, Fidelity, Verdict
from labs.verdicts.health import vouch
from labs.verdicts.pfc import LOSSLESS, WIRE_OVERHEAD

MOST_ROWS = 12
# A port that is offered nine tenths of its rate is empty in between: what is late by a tenth of the time catches up.
IDLE_MOST = 0.9


@dataclass(frozen=True, slots=True)
class Signalled:
    """What a port had signalled by `at_s`, in seconds of one clock: packets marked, and pauses asked for, in all."""

    at_s: float
    marked: int
    pauses: int


@dataclass(frozen=True, slots=True)
class Treated:
    """Packets of one kind that went through a queue: `ect` says whether they could be marked."""

    ect: bool
    sent: int
    arrived: int
    marked: int


def marks_before_pauses(readings: Sequence[Signalled]) -> Verdict:
    """Judge that a port that had to tell its senders to slow down marked packets before it paused anybody.

    Args:
        readings: of one port or of several together, in their order; the first one is what was counted before.

    Bound: the first mark was counted in an earlier reading than the first pause, or there was no pause. Invalid when
    there was neither, and when both came between the same two readings: those are too far apart to say.
    """
    first = readings[0] if readings else Signalled(0.0, 0, 0)
    marked = next((place for place, one in enumerate(readings) if one.marked > first.marked), None)
    paused = next((place for place, one in enumerate(readings) if one.pauses > first.pauses), None)
    last = readings[-1] if readings else first
    held = marked is not None and (paused is None or marked < paused)
    numbers: dict[str, object] = {
        "readings": len(readings),
        "marked": last.marked - first.marked,
        "pauses": last.pauses - first.pauses,
        "first_mark_s": None if marked is None else round(readings[marked].at_s - first.at_s, 6),
        "first_pause_s": None if paused is None else round(readings[paused].at_s - first.at_s, 6),
    }
    said = f"{numbers['marked']} marks, {numbers['pauses']} pauses"
    if paused is not None and not held:
        said += ": no mark before the first pause"
    verdict = Verdict("marks come before pauses", held, Evidence(said, numbers), fidelity=Fidelity.EMULATED)
    if marked is None and paused is None:
        return verdict.invalid("there was neither a mark nor a pause: the port was not congested")
    if marked == paused and marked is not None:
        apart = readings[marked].at_s - readings[marked - 1].at_s
        return verdict.invalid(f"the first mark and the first pause came within the same {apart * 1e3:.3g} ms")
    return verdict


def silent_when_idle(
    counted: AsicCounters,
    *,
    lasted_s: float,
    queues: Sequence[int] = LOSSLESS,
    told: int = 0,
    late: str | None = None,
    host: HostSample | None = None,
) -> Verdict:
    """Judge that a fabric that is not congested tells nobody anything: no marks, no pauses, no drops, no CNPs or NAKs.

    Args:
        counted: what the soft ASIC counted in the `lasted_s` seconds of the traffic.
        queues: those that are judged; their numbers are those of the priorities too.
        told: CNPs and NAKs that senders got, as their engine counts them.
        late: why senders did not keep their schedule: what comes in bursts fills queues.
        host: the workstation meanwhile.

    Bound: 0 of each (SONiC's RoCEv2 plan, case 1). Invalid when nothing was sent in these queues, or when a port sent
    more than 0.9 of its rate: that is no idle port. What is false is invalid when senders were late or the workstation
    was starved; what held, held.
    """
    found = {where: count for where, count in _signals(counted, queues, told) if count}
    sent = sum(one.sent_packets for one in counted.queues if one.queue in queues)
    busiest, load = _busiest(counted, lasted_s)
    numbers: dict[str, object] = {"sent": sent, "busiest": busiest, "load": round(load, 4), "found": found}
    said = f"{sum(found.values())} signals" if found else f"{sent} packets, busiest port at {load:.0%}: no signal"
    rows = tuple(f"{where}: {count}" for where, count in found.items())[:MOST_ROWS]
    verdict = Verdict(
        "nothing is signalled where nothing waits", not found, Evidence(said, numbers, rows), fidelity=Fidelity.EMULATED
    )
    if not sent:
        return verdict.invalid("nothing was sent in these queues")
    if load > IDLE_MOST:
        return verdict.invalid(f"{busiest} sent {load:.0%} of its rate: at most {IDLE_MOST:.0%} is idle")
    if found and late:
        return verdict.invalid(late)
    return vouch(verdict, host)


def dropped_if_not_markable(treated: Sequence[Treated], *, false_alarm: float = FALSE_ALARM) -> Verdict:
    """Judge that WRED marked what can be marked and dropped what cannot, packets of one queue at the same time.

    Args:
        treated: packets of both kinds, which took turns.
        false_alarm: how often a sound queue may be called broken.

    Bound: no packet that can be marked was lost, none that cannot came marked, and of these some were lost: given how
    many packets the curve took in all, that none of them was one of n is hypergeometric, and less likely than
    `false_alarm`. The same for marks. Invalid when the curve took so few that this could be chance, or when one of
    the kinds was not sent.
    """
    kinds = {ect: [one for one in treated if one.ect is ect] for ect in (True, False)}
    sent = {ect: sum(one.sent for one in some) for ect, some in kinds.items()}
    lost = {ect: sent[ect] - sum(one.arrived for one in some) for ect, some in kinds.items()}
    marked = {ect: sum(one.marked for one in some) for ect, some in kinds.items()}
    wrong = [f"{lost[True]} packets that can be marked were lost"] if lost[True] else []
    wrong += [f"{marked[False]} that cannot be marked came marked"] if marked[False] else []
    taken = marked[True] + lost[False]
    unmarked = _none_of(sent[True], sum(sent.values()), taken) if not marked[True] else 1.0
    undropped = _none_of(sent[False], sum(sent.values()), taken) if not lost[False] else 1.0
    wrong += [f"none of {sent[True]} was marked"] if unmarked <= false_alarm else []
    wrong += [f"none of {sent[False]} that cannot be marked was dropped"] if undropped <= false_alarm else []
    numbers: dict[str, object] = {
        **{name: {"sent": sent[ect], "lost": lost[ect], "marked": marked[ect]} for name, ect in _KINDS},
        "p_none": min(unmarked, undropped),
        "false_alarm": false_alarm,
    }
    said = "; ".join(wrong) or f"{marked[True]} of {sent[True]} marked, {lost[False]} of {sent[False]} dropped"
    verdict = Verdict(
        "what cannot be marked is dropped, and nothing else",
        not wrong,
        Evidence(said, numbers),
        fidelity=Fidelity.EMULATED,
    )
    if wrong:
        return verdict
    if not sent[True] or not sent[False]:
        return verdict.invalid("one of the two kinds was not sent")
    if not marked[True] or not lost[False]:
        return verdict.invalid(f"the curve took {taken} packets: too few to tell")
    return verdict


_KINDS = (("markable", True), ("not_markable", False))


def _signals(counted: AsicCounters, queues: Sequence[int], told: int) -> Iterator[tuple[str, int]]:
    yield "senders: CNPs and NAKs", told
    for queue in counted.queues:
        if queue.queue in queues:
            yield f"{queue}: marked", queue.marked_packets
            yield f"{queue}: dropped", queue.dropped_packets + queue.ingress_packets
    for port in counted.ports:
        yield f"{port}: paused", sum(port.pfc_rx[queue] for queue in queues)


def _none_of(some: int, whole: int, taken: int) -> float:
    """P(none of `taken` packets is one of `some`), drawn from `whole` without putting back."""
    others = whole - some
    if taken > others:
        return 0.0
    return exp(lgamma(others + 1) - lgamma(others - taken + 1) - lgamma(whole + 1) + lgamma(whole - taken + 1))


def _busiest(counted: AsicCounters, lasted_s: float) -> tuple[str | None, float]:
    """The port that sent the largest share of its rate, preamble and gap included."""
    sent: dict[tuple[str, str], int] = {}
    for one in counted.queues:
        at = (one.node, one.port)
        sent[at] = sent.get(at, 0) + one.sent_bytes + WIRE_OVERHEAD * one.sent_packets
    loads = {
        str(port): sent.get((port.node, port.name), 0) * 8 / port.rate_bps / lasted_s
        for port in counted.ports
        if port.rate_bps
    }
    worst = max(loads, key=lambda port: loads[port], default=None)
    return worst, loads[worst] if worst else 0.0
