"""DCQCN: do N senders into one port get C/N each, slowed by marks and not by pauses?

    host1 ┐                        marks (CE) ─► host9 says CNP ─► that sender cuts its rate
    host2 ┼─► leaf1 ══ C ══► host9
     …    ┘                        long before a buffer is so full that leaf1 would pause somebody

Rates are judged over the steady time alone: from when alpha has forgotten that it began with 1. A sender's rate swings
by some 10 % at its cuts, so a mean over a short time errs; the run itself says by how much: ten batches of the steady
time, and their spread. What is beyond a bound by less than that error is no finding: such a run is INVALID.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from statistics import fmean, stdev

from labs.telemetry.samples import HostSample
from labs.verdicts import Evidence, Fidelity, Verdict
from labs.verdicts.health import vouch
from traffic.bounds import jain

RATE_WITHIN = 0.05
JAIN_LEAST = 0.98
MODEL_WITHIN = 0.30
BATCHES = 10
# Of a mean of ten batches: beyond four standard errors by chance in 0.3 % of cases (Student's t, 9 degrees).
ERRORS = 4.0


@dataclass(frozen=True, slots=True)
class Congested:
    """N flows that met in one port, watched while they were steady.

    `rates_bps`: by flow, on the wire, in each of many equal parts of the steady time of `lasted_s`. `ce` marked packets
    arrived and `cnps` came back in the whole run; of `passed` packets `marked` left the port marked while it was
    steady, and `depths` are what waited in its queue then, in bytes, at moments of the same distance. `pauses` are the
    PFC frames of the whole run, `steady_pauses` those of the steady time; `lost` packets by where they were,
    `retransmitted` were sent again, also because they were overtaken.
    `curve` is Kmin and Kmax of what the queue marks by, in bytes. `why_not`: why the run cannot vouch for itself;
    `late`: why senders did not keep their schedule, which spares what held.
    """

    capacity_bps: float
    lasted_s: float
    rates_bps: Mapping[str, Sequence[float]]
    ce: int
    cnps: int
    passed: int
    marked: int
    depths: Sequence[int]
    pauses: int
    steady_pauses: int
    lost: Mapping[str, int]
    retransmitted: int = 0
    curve: tuple[int, int] | None = None
    why_not: str | None = None
    late: str | None = None
    host: HostSample | None = None
    settings: Mapping[str, object] = field(default_factory=dict)

    def means_bps(self) -> Mapping[str, float]:
        """Every flow's mean rate."""
        return {flow: fmean(rates) for flow, rates in self.rates_bps.items()}

    @property
    def stolen(self) -> float:
        """The share of one CPU's time that the hypervisor took, where it took most."""
        return self.host.steal_worst if self.host else 0.0

    def numbers(self) -> dict[str, object]:
        """What belongs into every verdict's evidence."""
        return {"steady_s": round(self.lasted_s, 2), **self.settings, "steal_worst": round(self.stolen, 4)}


def standard_error(rates: Sequence[float], batches: int = BATCHES) -> float:
    """Of the mean of rates that are like their neighbours: from the spread of the means of `batches` batches."""
    size = len(rates) // batches
    if not size:
        return float("inf")
    means = [fmean(rates[at * size : (at + 1) * size]) for at in range(batches)]
    return stdev(means) / sqrt(batches)


def fair_rates(run: Congested, *, within: float = RATE_WITHIN, jain_least: float = JAIN_LEAST) -> Verdict:
    """Judge that every flow gets C/N, and that Jain's index of all says the same.

    Bound: 5 % around C/N, on the wire, and 0.98. Invalid when a flow is beyond by less than the run's own error and
    what the hypervisor took of a CPU (a packet's time that a CPU slept through is not made good), when it cannot vouch
    for itself, and with fewer than ten parts of the steady time.
    """
    means, even = run.means_bps(), run.capacity_bps / len(run.rates_bps)
    off = {flow: mean / even - 1 for flow, mean in means.items()}
    errors = {flow: standard_error(rates) / even for flow, rates in run.rates_bps.items()}
    index = jain(list(means.values()))
    worst = max(off, key=lambda flow: abs(off[flow]))
    unsure = {flow for flow, by in off.items() if within < abs(by) <= within + ERRORS * errors[flow] + run.stolen}
    wrong = {flow for flow, by in off.items() if abs(by) > within} - unsure
    verdict = Verdict(
        f"each of {len(means)} flows gets its share of the port",
        not wrong and not unsure and index >= jain_least,
        Evidence(
            f"{worst} is {off[worst]:+.1%} off C/N = {even / 1e6:.2f} Mbit/s, {within:.0%} allowed; Jain {index:.4f}",
            {"worst": round(off[worst], 4), "jain": round(index, 5), "error": round(max(errors.values()), 4)}
            | run.numbers(),
            tuple(f"{flow}: {means[flow] / 1e6:.2f} Mbit/s, {off[flow]:+.2%} ± {errors[flow]:.2%}" for flow in means),
        ),
        fidelity=Fidelity.EMULATED,
    )
    few = min(len(rates) for rates in run.rates_bps.values()) < BATCHES
    because = f"fewer than {BATCHES} parts of the steady time" if few else None
    if unsure and not wrong and index >= jain_least:
        because = f"{', '.join(sorted(unsure))} beyond {within:.0%} by less than the run's error: too short to say"
    return _valid(verdict, run, because)


def marked_and_notified(run: Congested) -> Verdict:
    """Judge that it was marks that slowed the senders: packets arrived with CE, and CNPs came back.

    Bound: more than 0 of each, and no more CNPs than marks: a CNP answers a marked packet.
    """
    verdict = Verdict(
        "marks slow the senders",
        0 < run.cnps <= run.ce,
        Evidence(f"{run.ce} packets came marked, {run.cnps} CNPs back", run.numbers()),
        fidelity=Fidelity.EMULATED,
    )
    return _valid(verdict, run, None if run.passed else "nothing was sent")


def hardly_paused(run: Congested) -> Verdict:
    """Judge that PFC had nothing to do once DCQCN was settled, and that nothing was lost.

    Bound: 0 pauses in the steady time. The queue is at most a few times Kmax then, and each of N senders' priority
    groups holds 1/N of it; the first pause comes when one holds alpha · free, 12 MiB / (8 + N) with roce_default:
    786 KB of one sender at N = 8. What line-rate starts cost before is told, not judged.
    """
    verdict = Verdict(
        "DCQCN leaves nothing to pause for",
        not run.steady_pauses and not run.lost,
        Evidence(
            f"{run.steady_pauses} pauses while steady, {run.pauses} in all; {sum(run.lost.values())} packets lost",
            {
                "deepest": max(run.depths, default=0),
                "retransmitted": run.retransmitted,
                "lost": dict(run.lost),
                **run.numbers(),
            },
        ),
        fidelity=Fidelity.EMULATED,
    )
    return _valid(verdict, run, None if run.passed else "nothing was sent")


def paused_without_loss(pauses: int, lost: Mapping[str, int], *, why_not: str | None = None) -> Verdict:
    """Judge the same incast without DCQCN: PFC has to stop the senders, and then nothing is lost.

    Bound: more than 0 pauses, 0 packets lost. `why_not`: why the run cannot vouch for itself.
    """
    verdict = Verdict(
        "without DCQCN pauses keep an incast from losing",
        pauses > 0 and not lost,
        Evidence(f"{pauses} pauses, {sum(lost.values())} packets lost", {"pauses": pauses, "lost": dict(lost)}),
        fidelity=Fidelity.EMULATED,
    )
    return verdict.invalid(why_not) if why_not else verdict


def marked_share(run: Congested, predicted: float, *, within: float = MODEL_WITHIN) -> Verdict:
    """Judge that the port marks the share p* of its packets that the model says.

    Args:
        predicted: `traffic.dcqcn.mark_probability`.

    Bound: 30 %.
    """
    share = run.marked / run.passed if run.passed else 0.0
    return _near(run, "packets are marked", share, predicted, within, "{:.2e}".format)


def queue_length(run: Congested, predicted: float, *, within: float = MODEL_WITHIN) -> Verdict:
    """Judge that the queue stands at q*, where the curve marks p*.

    Args:
        predicted: `traffic.dcqcn.queue_bytes`.

    Bound: 30 % of q*, and between Kmin and Kmax.
    """
    mean = fmean(run.depths) if run.depths else 0.0
    verdict = _near(run, "the queue stands", mean, predicted, within, "{:.0f} bytes".format)
    if run.curve is None:
        return verdict.invalid("the queue has no curve")
    return replace(verdict, held=verdict.held and run.curve[0] <= mean <= run.curve[1])


def _near(
    run: Congested, what: str, found: float, predicted: float, within: float, said: Callable[[float], str]
) -> Verdict:
    ratio = found / predicted if predicted else float("inf")
    verdict = Verdict(
        f"{what} as DCQCN's model says",
        abs(ratio - 1) <= within,
        Evidence(
            f"{said(found)}, predicted {said(predicted)}: {ratio:.2f}, {within:.0%} allowed",
            {"found": found, "predicted": predicted, "ratio": round(ratio, 3), **run.numbers()},
        ),
        fidelity=Fidelity.EMULATED,
    )
    return _valid(verdict, run, None if run.passed else "nothing was sent")


def _valid(verdict: Verdict, run: Congested, because: str | None) -> Verdict:
    """What can vouch for a run: counters alone do, so a held one stays; one that is off may be the workstation's."""
    why = run.why_not or because or (run.late if not verdict.held else None)
    return verdict.invalid(why) if why else vouch(verdict, run.host)
