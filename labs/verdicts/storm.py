"""How far does a pause spread, and whom does it hold up who has nothing to do with it?

    host1 ─► leaf1 ─► spine1 ─► leaf2 ─► host4 ✋     host4 pauses leaf2's port; leaf2 fills and pauses the spines'
                                   └──► host3         ports towards it, they pause leaf1's, leaf1 pauses host1.
                                                      A flow to host3 waits behind host4's at leaf1 and spine1:
                                                      its head of line is blocked

A pause spreads to a port from which something flows to a port that is paused, and no further; other priorities know
nothing of it. An unrelated flow through a port that is paused a share f of the time gets what is left of it (F7).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from labs.telemetry.asic_counters import AsicCounters
from labs.telemetry.samples import HostSample
from labs.verdicts import Evidence, Fidelity, Verdict
from labs.verdicts.health import vouch
from labs.verdicts.pfc import PortName

MOST_ROWS = 12
# SONiC's PFC tests allow throughput 5 %; a port's paused share is good to 3 points beside (labs.verdicts.pfc).
RATE_WITHIN = 0.05


@dataclass(frozen=True, slots=True)
class Crossing:
    """A flow of a constant rate: the ports that it leaves by (its host's first), and what arrived without and with it.

    Rates are in bit/s on the wire: `before_bps` while nobody paused, `during_bps` while somebody did.
    """

    name: str
    path: tuple[PortName, ...]
    before_bps: float
    during_bps: float
    priority: int = 3


def may_be_paused(paths: Iterable[Sequence[PortName]], stormed: PortName) -> frozenset[PortName]:
    """Every port to which a pause of `stormed` may spread along these paths, itself among them.

    A port may be paused when a flow leaves by it and then by one that may be.
    """
    hops = {hop for path in paths for hop in pairwise(path)}
    found = {stormed}
    while more := {port for port, then in hops if then in found} - found:
        found |= more
    return frozenset(found)


def storm_spread(
    counted: AsicCounters,
    stormed: PortName,
    may_be: Collection[PortName],
    *,
    priority: int = 3,
    host: HostSample | None = None,
) -> Verdict:
    """Judge that a storm's pauses went no further than the paths of what it held up, in its own priority alone.

    Args:
        counted: while the storm lasted.
        stormed: the port that the storm's frames came in by.
        may_be: the ports that may be paused (`may_be_paused`), or those that a watchdog leaves.

    Bound: 0 pauses elsewhere and of other priorities. Invalid when the storm's own port was never paused.
    """
    pauses = {(one.node, one.name, at): count for one in counted.ports for at, count in enumerate(one.pfc_rx) if count}
    paused = {(node, name) for node, name, at in pauses if at == priority}
    beyond = [where for where in sorted(pauses) if where[2] != priority or where[:2] not in may_be]
    wrong = [f"{node}:{name} priority {at} was paused {pauses[node, name, at]} times" for node, name, at in beyond]
    numbers: dict[str, object] = {
        "paused": [f"{node}:{name}" for node, name in sorted(paused)],
        "may_be": len(may_be),
        "beyond": len(beyond),
        "other_priorities": sum(count for (_, _, at), count in pauses.items() if at != priority),
    }
    said = "; ".join(wrong[:3]) or f"{len(paused)} ports were paused, of {len(may_be)} that may be"
    rows = tuple(f"{node}:{name} priority {at}: {count}" for (node, name, at), count in pauses.items())[:MOST_ROWS]
    verdict = Verdict(
        f"a storm of priority {priority} stays on the paths that it blocks",
        not wrong,
        Evidence(said, numbers, rows),
        fidelity=Fidelity.EMULATED,
    )
    if stormed not in paused:
        return verdict.invalid(f"{stormed[0]}:{stormed[1]} was never paused: there was no storm")
    return vouch(verdict, host)


def head_of_line(
    flows: Sequence[Crossing],
    paused: Mapping[PortName, float],
    rates_bps: Mapping[PortName, float],
    *,
    priority: int = 3,
    within: float = RATE_WITHIN,
    host: HostSample | None = None,
) -> Verdict:
    """Judge that flows through paused ports lose what the pauses take; flows elsewhere and other priorities nothing.

    Args:
        flows: all that crossed these ports, those the storm is about too.
        paused: the share of the time that each port was held back (`PortCounters.paused_ns`); ports not named: none.
        rates_bps: of those ports, what there is for this priority: their rate, less what others send by them.

    Bound: a port that is paused a share f carries (1 - f) · B. Where o came, each flow keeps min(1, (1 - f) B/o) of
    its rate at the worst port of its path; `within` 5 points. Flows without such a port keep all of it. Invalid when
    no flow crosses a paused port, when all do, or none of those was to lose more than `within`: then nothing could be
    wrong. What is false is invalid when the workstation was starved.
    """
    ours = [flow for flow in flows if flow.priority == priority]
    behind = {flow.name: {port for port in flow.path if flow in ours and paused.get(port)} for flow in flows}
    offered = {port: sum(flow.before_bps for flow in ours if port in flow.path) for port in paused}
    left = {port: min(1.0, (1 - share) * rates_bps[port] / (offered[port] or 1)) for port, share in paused.items()}
    due = {name: min((left[port] for port in ports), default=1.0) for name, ports in behind.items()}
    kept = {flow.name: flow.during_bps / flow.before_bps for flow in flows}
    rows = {name: f"{name}: kept {kept[name]:.1%}, {due[name]:.1%} expected" for name in due}
    wrong = [rows[name] for name in due if abs(kept[name] - due[name]) > within]
    crossing = [name for name, ports in behind.items() if ports]
    numbers: dict[str, object] = {
        "flows": len(flows),
        "behind_pauses": len(crossing),
        "paused": {f"{node}:{name}": round(share, 4) for (node, name), share in paused.items()},
        "within": within,
    }
    said = "; ".join(wrong[:3]) or f"{len(crossing)} flows lose what pauses take, {len(flows) - len(crossing)} nothing"
    claim = "pauses cost the flows behind them their share, and others nothing"
    found = Evidence(said, numbers, tuple(rows.values())[:MOST_ROWS])
    verdict = Verdict(claim, not wrong, found, fidelity=Fidelity.EMULATED)
    if not crossing or len(crossing) == len(flows):
        return verdict.invalid(
            f"{len(crossing)} of {len(flows)} flows cross a paused port: there is nothing to compare"
        )
    if not wrong and min(due[name] for name in crossing) >= 1 - within:
        return verdict.invalid("no flow was to lose more than the bound")
    return vouch(verdict, host)
