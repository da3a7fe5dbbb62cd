"""Loss recovery of queue pairs: is as much of the link left as theory says (traffic.loss_recovery)?"""

from __future__ import annotations

from dataclasses import dataclass

from labs.telemetry.samples import HostSample
from labs.verdicts import Evidence, Fidelity, Verdict
from labs.verdicts.health import STEAL_MOST, vouch

# A random loss of p over n packets happens n·p times, give or take √(n·p): 80 times in 20 000 packets of 1/256, and
# of that error of 11 % a fifth at most is one of the share: 2 %. The rest is for the time at the begin and the end.
SHARE_WITHIN = 0.10
LEAST_LOSSES = 30  # below, chance alone moves the share by 4 %


@dataclass(frozen=True, slots=True)
class Recovered:
    """One connection over a link that loses.

    `carried` new packets arrived of `sent`; they took `busy_s` from the first to the last, where a link without loss
    would have taken `least_s`. `lost` is what the soft ASIC dropped on the wire. `sent_past`: packets sent from the
    missing one until its NAK came, on average (W); None for a mode that does not go back. `done` messages of `posted`
    came whole. `late`: why the sender did not keep its schedule, None when it did.
    """

    carried: int
    sent: int
    lost: int
    busy_s: float
    least_s: float
    done: int
    posted: int
    timeouts: int = 0
    sent_past: float | None = None
    why_not: str | None = None
    late: str | None = None
    host: HostSample | None = None

    @property
    def share(self) -> float:
        """The share of the link's time that carried what was new."""
        return self.least_s / self.busy_s if self.busy_s else 0.0

    def numbers(self) -> dict[str, object]:
        """What belongs into every verdict's evidence."""
        return {
            "sent": self.sent,
            "new": self.carried,
            "lost": self.lost,
            "W": self.sent_past and round(self.sent_past, 1),
            "timeouts": self.timeouts,
            "messages": f"{self.done} of {self.posted}",
            "steal_worst": round(self.host.steal_worst, 4) if self.host else None,
        }


def goodput_share(run: Recovered, predicted: float, *, within: float = SHARE_WITHIN) -> Verdict:
    """Judge that the share of the link that carried new packets is what theory makes of the loss.

    Args:
        predicted: of traffic.loss_recovery, with W as the run measured it.

    Bound: 10 %. Invalid when it loses too little for a mean, and when it is off and the workstation may be why: the
    sender was behind its schedule, CPUs were withheld, or it is too low by no more than the hypervisor took of one CPU.
    A sender that is late makes up for it, so lateness alone does not make a share wrong.
    """
    ratio = run.share / predicted if predicted else float("inf")
    verdict = Verdict(
        "loss costs what its recovery costs",
        run.done == run.posted and abs(ratio - 1) <= within,
        Evidence(
            f"{run.share:.3f} of the link carried new packets, predicted {predicted:.3f}: {ratio:.3f}",
            {"within": within, **run.numbers()},
        ),
        fidelity=Fidelity.EMULATED,
    )
    if run.why_not or run.lost < LEAST_LOSSES:
        return verdict.invalid(run.why_not or f"{run.lost} packets were lost, {LEAST_LOSSES} are needed")
    stolen = run.host.steal_worst if run.host else 0.0
    if not verdict.held and run.done == run.posted and 1 - within - stolen <= ratio < 1:
        return verdict.invalid(f"{stolen:.1%} of a CPU was stolen")
    if not verdict.held and run.late:
        return verdict.invalid(run.late)
    return vouch(verdict, run.host, steal_most=STEAL_MOST)


def livelock(run: Recovered, *, least_rounds: int = 10) -> Verdict:
    """Judge that no message ever comes whole, although the link carries packets: go-back-0's end (Guo et al., 2016).

    Bound: 0 messages done, while at least `least_rounds` packets were lost, each of which began the message again.
    """
    verdict = Verdict(
        "go-back-0 completes nothing",
        run.done == 0,
        Evidence(f"{run.done} of {run.posted} messages; {run.sent} packets sent, {run.lost} lost", run.numbers()),
        fidelity=Fidelity.EMULATED,
    )
    short = f"{run.lost} packets were lost, {least_rounds} are needed" if run.lost < least_rounds else None
    why = run.why_not or short
    return verdict.invalid(why) if why else verdict
