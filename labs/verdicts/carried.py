"""What a collective puts on switches: do their byte counters say what its plan says?

    host1 ──► leaf1 ──► spine2 ──► leaf3 ──► host5     the plan, the paths and the frame format say how many bytes of
                                                       its class leave by each port, answers included, within 0.5 %

The plan knows nothing of the switches, the switches nothing of the plan: a packet sent twice, lost, of another size,
in another class or on another path is a difference. So is anybody else who sends in that class.
"""

from __future__ import annotations

from collections.abc import Mapping

from labs.telemetry.asic_counters import AsicCounters
from labs.verdicts import Evidence, Fidelity, Verdict
from traffic.carried import Carried, PortName

WITHIN = 0.005
# What hosts and switches send of themselves between two neighbours, in the class of packets that name none: for each of
# IPv4 and IPv6 each looks the other up once in a while, by at most 3 packets to it and 3 to all (ARP, NDP: the
# kernel's ucast_solicit and mcast_solicit); IPv6's are the longest, 14 + 40 + 32 bytes.
OWN_FRAMES, OWN_FRAME_BYTES = 12, 86
MOST_ROWS = 12


def carried_as_planned(
    planned: Mapping[PortName, Carried],
    counted: AsicCounters,
    *,
    queue: int = 3,
    within: float = WITHIN,
    own_frames: int = 0,
    invalid_because: str | None = None,
) -> Verdict:
    """Each switch port sent the bytes of one queue that were planned, within a share of them; others sent none.

    Args:
        planned: what was to leave by each port (`traffic.carried.at_ports`); hosts' own are not looked at.
        own_frames: so many frames may come on top at each port, of at most `OWN_FRAME_BYTES`: what hosts send of
            themselves in a class that has no RDMA alone.
        counted: the soft ASIC's counters, from before the first packet until after the last.
        invalid_because: why the run cannot vouch for itself, None when it can.

    Invalid when nothing was planned on a switch.
    """
    claim = f"every switch port sent the planned bytes of queue {queue}, within {within:.1%}"
    ports = [(port.node, port.name) for port in counted.ports if port.switch]
    errors = {}
    for name in ports:
        plan, seen = planned.get(name, Carried()), counted.queue(*name, queue)
        more = seen.sent_bytes - plan.bytes
        off = abs(more - max(0, min(more, own_frames * OWN_FRAME_BYTES)))
        errors[name] = off / plan.bytes if plan.bytes else float(off > 0)
    worst = max(errors, key=lambda name: errors[name], default=None)
    wrong = [name for name, error in errors.items() if error > within]
    shown = sorted(errors, key=lambda name: -errors[name])[:MOST_ROWS]
    rows = tuple(_row(name, planned.get(name, Carried()), counted, queue) for name in shown)
    numbers: dict[str, object] = {
        "ports": len(ports),
        "ports_planned": sum(name in planned for name in ports),
        "ports_wrong": len(wrong),
        "worst_error": round(errors[worst], 5) if worst else None,
        "planned_bytes": sum(planned[name].bytes for name in ports if name in planned),
        "counted_bytes": sum(counted.queue(*name, queue).sent_bytes for name in ports),
    }
    said = f"{len(wrong)} of {len(ports)} ports differ by more" if wrong else f"{len(ports)} ports agree"
    verdict = Verdict(claim, not wrong, Evidence(said, numbers, rows), fidelity=Fidelity.EMULATED)
    because = invalid_because or (None if numbers["ports_planned"] else "nothing was planned on a switch")
    return verdict.invalid(because) if because else verdict


def _row(name: PortName, plan: Carried, counted: AsicCounters, queue: int) -> str:
    seen = counted.queue(*name, queue)
    by = f"{(seen.sent_bytes - plan.bytes) / plan.bytes:+.3%}" if plan.bytes else "none planned"
    frames = f"{seen.sent_packets} of {plan.frames} frames"
    return f"{name[0]}:{name[1]}: {seen.sent_bytes} of {plan.bytes} B ({by}), {frames}"
