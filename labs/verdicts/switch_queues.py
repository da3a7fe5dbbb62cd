"""Are queues used as they are meant to be: each class in its own, bursts kept without a pause, none in a storm?"""

from __future__ import annotations

from collections.abc import Sequence

from labs.telemetry.asic_counters import AsicCounters
from labs.verdicts import Evidence, Fidelity, Verdict
from labs.verdicts.pfc import LOSSLESS

MOST_ROWS = 12


def in_its_queue(counted: AsicCounters, node: str, *, queue: int, packets: int) -> Verdict:
    """Judge that packets of a class left a switch by the queue that is theirs.

    Args:
        counted: while they were sent; what others put into that queue counts too.
        packets: so many of the class crossed the switch, each once.

    Bound: at least as many as crossed it: packets are not lost in a class that nothing congests. Where they went
    instead is in the evidence. Invalid when none was sent, or when fewer left it by all queues together.
    """
    sent = {at: _sent(counted, node, at) for at in sorted({one.queue for one in counted.queues})}
    verdict = Verdict(
        f"its packets cross {node} in queue {queue}",
        sent.get(queue, 0) >= packets,
        Evidence(
            f"{sent.get(queue, 0)} of {packets} packets left by queue {queue}",
            {"packets": packets, "by_queue": {at: count for at, count in sent.items() if count}},
        ),
        fidelity=Fidelity.EMULATED,
    )
    if not packets or sum(sent.values()) < packets:
        return verdict.invalid(
            "nothing was sent" if not packets else f"{sum(sent.values())} of {packets} crossed {node}"
        )
    return verdict


def absorbed(counted: AsicCounters, *, queues: Sequence[int] = LOSSLESS) -> Verdict:
    """Judge that a burst that the buffer has room for is kept without pausing anybody, and whole.

    Args:
        counted: from before the burst until the buffers were empty again. The burst has to be smaller than XOFF
            (F5: of N senders all but one line's worth waits), which is the caller's to see to.

    Bound: 0 pauses, 0 drops. Invalid when nothing waited: then no buffer was asked for anything.
    """
    pauses = {f"{port}": count for port in counted.ports if (count := sum(port.pfc_rx[at] for at in queues))}
    own = [one for one in counted.queues if one.queue in queues]
    drops = {f"{one}": count for one in own if (count := one.dropped_packets + one.ingress_packets)}
    deepest = max((one.watermark_bytes for one in own), default=0)
    verdict = Verdict(
        "a burst is kept without a pause",
        not pauses and not drops,
        Evidence(
            f"{sum(pauses.values())} pauses, {sum(drops.values())} drops",
            {"pauses": pauses, "drops": drops, "deepest_bytes": deepest, "sent": sum(one.sent_packets for one in own)},
        ),
        fidelity=Fidelity.EMULATED,
    )
    return verdict if deepest else verdict.invalid("nothing waited in these queues")


def no_storms(counted: AsicCounters, *, priority: int | None = None) -> Verdict:
    """Judge that no PFC watchdog took a queue for one in a storm, before or meanwhile.

    Bound: 0 detections, and no queue that is in a storm still. Invalid when nothing was sent in a lossless class: a
    queue without packets cannot stand still.
    """
    own = [one for one in counted.queues if priority is None or one.queue == priority]
    found = {str(one): max(one.storms_detected, 1) for one in own if one.storms_detected or one.stormed}
    sent = sum(one.sent_packets for one in own if one.queue in LOSSLESS or priority is not None)
    verdict = Verdict(
        "no queue is in a PFC storm",
        not found,
        Evidence(
            f"{sum(found.values())} storms" if found else f"{sent} packets sent, no storm",
            {"sent": sent, "storms": found},
            tuple(f"{where}: {count}" for where, count in found.items())[:MOST_ROWS],
        ),
        fidelity=Fidelity.EMULATED,
    )
    return verdict if sent or found else verdict.invalid("nothing was sent in a lossless class")


def _sent(counted: AsicCounters, node: str, queue: int) -> int:
    return sum(one.sent_packets for one in counted.queues if (one.node, one.queue) == (node, queue))
