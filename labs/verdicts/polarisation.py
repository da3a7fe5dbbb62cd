"""Does each tier spread what it was handed, and is there anything to spread by?

    leaf1 ─┬─ spine1 ─┬─ core1     A flow that leaf1 sends to spine1 has an even hash. A spine that hashes alike sends
           │          └─ core2     all it is handed to core1: of its m uplinks it uses one, max/mean is m (F1). Only a
           └─ spine2 …             look at each switch by what *it* was handed tells; the sum over a tier may look even.

Two questions to every tier, each with its share of the false-alarm budget:

    used     too few members carry anything, all switches of the tier together. U, the members used of those of a
             switch that was handed n flows, has an exact law (labs/verdicts/chance.py), and so has the sum
    uneven   one switch spreads what it was handed less evenly, or more evenly, than independent hashing would
             (`ecmp_spread`), as far as it was handed enough to tell

Entropy is what a hash has to work with: flows that are alike in all fields it reads take one way, however many.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from labs.verdicts import FALSE_ALARM, Evidence, Fidelity, Verdict
from labs.verdicts.chance import at_most, sum_of, used_law
from labs.verdicts.ecmp import LEAST_FALSE_ALARM, ecmp_spread, flows_needed
from labs.verdicts.flows import Ports
from topologies.ecmp import FIVE_TUPLE, HashField
from traffic.flows import FiveTuple

MOST_ROWS = 12
# Linux takes a RoCEv2 source port from the numbers of both queue pairs: 14 bits of it are theirs (ib_verbs.h).
SOURCE_PORTS = 1 << 14

Handed = Mapping[str, Mapping[str, int]]
"""Switch to member (an uplink) to the flows it was sent; a member without any counts 0."""


def handed(paths: Mapping[FiveTuple, Ports], members: Mapping[str, Sequence[str]]) -> Handed:
    """By switch and member, the flows whose path leaves by it.

    Args:
        paths: what each flow left by, hop by hop, as in `path_prediction`; a hop with several ports counts for none.
        members: the ports among which each switch chose for these flows.
    """
    counts = Counter(hop for path in paths.values() for hop in path if isinstance(hop, str))
    return {switch: {port: counts[f"{switch}:{port}"] for port in ports} for switch, ports in members.items()}


def tiers_spread(
    tiers: Mapping[str, Handed], *, false_alarm: float = FALSE_ALARM, fidelity: Fidelity = Fidelity.REAL
) -> Verdict:
    """Judge that every tier spreads what each of its switches was handed over that switch's members.

    Args:
        tiers: tier (or another name of switches that choose alike) to what its switches were handed. Switches with one
            member, or without a flow, are left out.
        false_alarm: how often sound hashes may be called polarised, all tiers together (2e-7 and more for each switch).

    Invalid when nothing of a tier was handed on, or so little that one member each would not be rejected, and no other
    tier is false.
    """
    share = false_alarm / max(1, 2 * len(tiers))
    found = {name: _tier(name, switches, share) for name, switches in tiers.items()}
    wrong = [text for tier in found.values() for text in tier.wrong]
    blind = [tier.blind for tier in found.values() if tier.blind]
    numbers: dict[str, object] = {"false_alarm": false_alarm, **{name: tier.numbers for name, tier in found.items()}}
    said = "; ".join(wrong[:3]) or f"{len(tiers)} tiers spread what they are handed"
    rows = tuple(row for tier in found.values() for row in tier.rows)[:MOST_ROWS]
    claim = "every tier spreads what it is handed over all its members"
    verdict = Verdict(claim, bool(tiers) and not wrong and not blind, Evidence(said, numbers, rows), fidelity=fidelity)
    if wrong or (tiers and not blind):
        return verdict
    return verdict.invalid(blind[0] if blind else "there is no tier")


class _Told:
    """What one tier's counts say."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.blind: str | None = None
        self.rows: list[str] = []
        self.numbers: dict[str, object] = {}


def _tier(name: str, switches: Handed, share: float) -> _Told:
    told = _Told()
    busy = {switch: counts for switch, counts in switches.items() if len(counts) > 1 and any(counts.values())}
    if not busy:
        told.blind = f"{name}: no switch with a choice was handed a flow"
        return told
    law = sum_of(used_law(sum(counts.values()), len(counts)) for counts in busy.values())
    used = sum(count > 0 for counts in busy.values() for count in counts.values())
    members = sum(len(counts) for counts in busy.values())
    chance = at_most(law, used)
    flows = sum(sum(counts.values()) for counts in busy.values())
    fullest = sum(max(counts.values()) for counts in busy.values())
    even = sum(sum(counts.values()) / len(counts) for counts in busy.values())
    told.numbers = {
        "switches": len(busy),
        "flows": flows,
        "members": members,
        "used": used,
        "p_used": float(f"{chance:.3g}"),
        "max_over_mean": round(fullest / even, 3),
    }
    told.rows = [f"{switch}: " + " ".join(map(str, counts.values())) for switch, counts in busy.items()]
    if chance <= share:
        told.wrong.append(f"{name} uses {used} of {members} members: polarised (max/mean {fullest / even:.2f})")
    elif at_most(law, len(busy)) > share:
        told.blind = f"{name}: {flows} flows are too few: one member a switch would not be rejected"
    told.wrong += _uneven(busy, share)
    return told


def _uneven(busy: Handed, share: float) -> list[str]:
    each = max(LEAST_FALSE_ALARM, share / len(busy))
    enough = {s: c for s, c in busy.items() if sum(c.values()) >= flows_needed(len(c), each)}
    judged = {switch: ecmp_spread(counts, false_alarm=each) for switch, counts in enough.items()}
    return [f"{switch}: {one.evidence.summary}" for switch, one in judged.items() if one.valid and not one.held]


def hash_entropy(
    flows: Iterable[FiveTuple],
    *,
    members: int,
    fields: HashField = FIVE_TUPLE,
    false_alarm: float = FALSE_ALARM,
) -> Verdict:
    """Judge that flows differ in what switches hash as much as drawn source ports make them differ.

    Args:
        flows: every one there is, as its packets say it; those with a queue pair may be alike but for it.
        members: of the groups they are spread over: for what the evidence says of their use.
        fields: what the switches hash.

    Bound: of k flows between two ends (alike in all hashed fields but source port and queue pair) d differ; with source
    ports of 14 random bits, d is the number of ports that k draws use. The sum over all ends has to be likelier than
    `false_alarm`. Invalid when no two flows share their ends: addresses tell them apart, and nothing could be wanting.
    """
    listed = list(flows)
    inputs, ends = Counter(map(_input(fields), listed)), Counter(map(_ends(fields), listed))
    shared = [count for count in ends.values() if count > 1]
    law = sum_of(used_law(count, SOURCE_PORTS) for count in shared)
    distinct = len(inputs) - sum(count == 1 for count in ends.values())
    chance = at_most(law, distinct)
    wrong = bool(shared) and chance <= false_alarm
    numbers: dict[str, object] = {
        "flows": len(listed),
        "ends": len(ends),
        "inputs": len(inputs),
        "source_ports": len({flow.sport for flow in listed}),
        "bits": round(_bits(inputs), 3),
        "members": members,
        "used_expected": _used(len(inputs), members),
        "used_if_all_differed": _used(len(listed), members),
        "p_inputs": float(f"{chance:.3g}"),
        "false_alarm": false_alarm,
    }
    said = f"{len(listed)} flows are {len(inputs)} different hash inputs"
    said += f": {_cause(listed, fields)}" if wrong else ""
    rows = tuple(f"{count} flows look like {one}" for one, count in inputs.most_common(MOST_ROWS) if count > 1)
    found = Evidence(said, numbers, rows)
    verdict = Verdict("flows differ in what switches hash", not wrong, found, fidelity=Fidelity.CONFIG_ONLY)
    return verdict if shared else verdict.invalid("no two flows have the same ends: their addresses tell them apart")


def _cause(flows: Sequence[FiveTuple], fields: HashField) -> str:
    ports, pairs = Counter(flow.sport for flow in flows), {flow.queue_pair for flow in flows}
    if HashField.L4_SRC_PORT not in fields and HashField.DST_QP not in fields:
        return "the switches hash neither source port nor queue pair"
    if len(ports) == 1 and HashField.L4_SRC_PORT in fields:
        return f"all have the fixed source port {next(iter(ports))}"
    if len(pairs) == 1 and HashField.L4_SRC_PORT not in fields:
        return f"all have the queue pair {next(iter(pairs))}"
    port, count = max(ports.items(), key=lambda item: item[1])
    return f"{len(ports)} source ports, {count} flows have {port}"


def _input(fields: HashField) -> Callable[[FiveTuple], tuple[object, ...]]:
    def read(flow: FiveTuple) -> tuple[object, ...]:
        has = {
            HashField.SRC_IP: flow.src,
            HashField.DST_IP: flow.dst,
            HashField.IP_PROTOCOL: str(flow.transport),
            HashField.L4_SRC_PORT: flow.sport,
            HashField.L4_DST_PORT: flow.dport,
            HashField.DST_QP: flow.queue_pair,
        }
        return tuple(value for field, value in has.items() if field in fields)

    return read


def _ends(fields: HashField) -> Callable[[FiveTuple], tuple[object, ...]]:
    return _input(fields & ~(HashField.L4_SRC_PORT | HashField.DST_QP))


def _bits(inputs: Mapping[tuple[object, ...], int]) -> float:
    """Shannon's entropy of a flow's hash input."""
    total = sum(inputs.values())
    return -sum(count / total * math.log2(count / total) for count in inputs.values()) if total else 0.0


def _used(inputs: int, members: int) -> float:
    """The share of members that so many different flows use: 1 - (1 - 1/m)ⁿ (F1)."""
    return round(1 - (1 - 1 / members) ** inputs, 4)
