"""Which ports a switch's hash engine may send a flow by: its live tables, the pure model, the frame as it comes in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address
from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol

from labs.errors import CapabilityMissing
from topologies import addressing
from topologies.ecmp import ROCE_PORT, VXLAN_PORT, EcmpBy, EcmpMode, EcmpRule, HashAlgorithm, HashField, Headers
from topologies.ecmp_model import Flowlet, Group, flowlet_place, has_flowlets, hashes, possible
from topologies.fabric import Fabric
from topologies.hashing import PROTOCOLS
from topologies.switch_hash import flow_hash
from traffic.flows import FiveTuple, Transport

if TYPE_CHECKING:
    from labs.dataplane.plan import PortPlan

CAPABILITY = "ecmp-path"
_INNER = HashField(sum(field for field in HashField if str(field.name).startswith("INNER_")))


class EngineTables(Protocol):
    """What the hash engines of a lab's switches go by: labs.dataplane.ecmp_state.LiveEcmp."""

    def port(self, node: str, name: str) -> PortPlan:
        """A port's place in the lab."""
        ...

    def port_name(self, number: int) -> str:
        """A port's name within its node, by its number."""
        ...

    def rule(self, node: str, in_port: str, dscp: int) -> EcmpRule | None:
        """How packets that come in there with this DSCP are spread; None: by the kernel's own hash."""
        ...

    def group(self, node_first: int, dst: str) -> Group | None:
        """The group for a destination, of the switch whose first port this is."""
        ...

    def flowlet(self, index: int) -> Flowlet:
        """What stands at a place of the table of flowlets."""
        ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """The ports a flow may leave by. Without any the engine has no group, and sets this `hash`; None: any."""

    ports: tuple[str, ...]
    hash: int | None = None


def ways(engine: EngineTables, fabric: Fabric, node: str, in_port: str, flow: FiveTuple) -> Chosen | None:
    """What a switch's hash engine does with a flow that comes in by a port; None where it leaves it to the kernel.

    Raises CapabilityMissing where the choice hangs on what nobody can know of the flow's packets.
    """
    rule = engine.rule(node, in_port, flow.dscp)
    if rule is None:
        return None
    port = engine.port(node, in_port)
    group = engine.group(port.first, flow.dst)
    if group is not None and len(group.members) < 2:
        return None
    headers = _headers(fabric, port, flow)
    if rule.mode is EcmpMode.PINNED and rule.by is EcmpBy.QUEUE_PAIR:
        _known(HashField.DST_QP, flow, node)
    if group is None:
        return Chosen((), _plain_hash(rule, headers, flow, node))
    if hashes(rule, headers):
        _known(rule.fields, flow, node)
    table = {}
    if has_flowlets(rule) and rule.algorithm is not HashAlgorithm.RANDOM:
        at = flowlet_place(flow_hash(rule, headers), port.first)
        table[at] = engine.flowlet(at)
    now = monotonic_ns()  # CLOCK_MONOTONIC, as the programs read it
    marks = (False, True) if rule.marked and _is_roce(flow) else (False,)  # who can say which packets have it?
    told = (replace(headers, adaptive=mark) for mark in marks)
    found = [place for one in told for place in possible(rule, one, group, table, now, port.first)]
    names = (engine.port_name(group.members[place].port) for place in found)
    return Chosen(tuple(dict.fromkeys(names)))


def _plain_hash(rule: EcmpRule, headers: Headers, flow: FiveTuple, node: str) -> int | None:
    if rule.algorithm is HashAlgorithm.RANDOM:
        return None
    _known(rule.fields, flow, node)
    return flow_hash(rule, headers) | 1


def _headers(fabric: Fabric, port: PortPlan, flow: FiveTuple) -> Headers:
    """The frame as it comes in by a port: from the far end's MAC to the port's own."""
    link = fabric.link_at(port.node, port.name)
    ends = (link.end(port.node), link.far(port.node))
    near, far = (bytes.fromhex(addressing.mac(fabric, end).replace(":", "")) for end in ends)
    src, dst = ip_address(flow.src), ip_address(flow.dst)
    return Headers(
        in_port=port.local,
        src_mac=far,
        dst_mac=near,
        ethertype=0x0800 if dst.version == 4 else 0x86DD,
        protocol=PROTOCOLS[str(flow.transport)],
        src=src.packed,
        dst=dst.packed,
        sport=flow.sport,
        dport=flow.dport,
        queue_pair=flow.queue_pair if _is_roce(flow) else None,
    )


def _is_roce(flow: FiveTuple) -> bool:
    return flow.transport is Transport.UDP and flow.dport == ROCE_PORT


def _known(fields: HashField, flow: FiveTuple, node: str) -> None:
    """Raises CapabilityMissing that names a field which a packet of the flow has and nobody can know."""
    why = remedy = ""
    if fields & HashField.DST_QP and _is_roce(flow) and flow.queue_pair is None:
        why, remedy = (
            "DST_QP, RoCEv2's destination queue pair, which was not said",
            "say it: --queue-pair, or FiveTuple(queue_pair=…)",
        )
    elif fields & HashField.IPV6_FLOW_LABEL and ":" in flow.dst:
        why, remedy = "IPV6_FLOW_LABEL, which every socket makes up", "a profile that does not hash it"
    elif fields & _INNER and flow.transport is Transport.UDP and flow.dport == VXLAN_PORT:
        name = next(str(field.name) for field in HashField if field & fields & _INNER)
        why, remedy = f"{name}, of the frame inside VXLAN", "a profile that does not hash it"
    if why:
        raise CapabilityMissing(CAPABILITY, f"{node} chooses by {why}", remedy=remedy)
