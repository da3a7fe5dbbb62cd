"""What the hash engine of a running lab goes by: the rule of a flow's class, the live group, the live flowlet.

Read from the maps that the programs themselves read, so that it holds whatever was applied since the lab came up.
"""

from __future__ import annotations

import struct
from ctypes import sizeof
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from labs.dataplane import abi, place
from labs.dataplane.abi_ecmp import EcmpGroup, EcmpProfile, RouteKey
from labs.dataplane.abi_ecmp import Flowlet as FlowletEntry
from labs.dataplane.maps import Bpf, read_entry, read_inner_entry, read_maps
from labs.dataplane.plan import LabPlan, PortPlan
from topologies.ecmp import EcmpBy, EcmpMode, EcmpRule, HashAlgorithm, HashField
from topologies.ecmp_model import Flowlet, Group, Member

_WHOLE = 128  # bits of a route_key's address
_V4_IN_V6 = 0xFFFF << 32


@dataclass(frozen=True)
class LiveEcmp:
    """One look at a lab's hash engine: profiles as they were then, groups and flowlets as they are when asked for.

    `plan` numbers the ports; `folder` is where the maps are pinned. `bpf` is the system call; another one in tests.
    """

    plan: LabPlan
    folder: Path
    bpf: Bpf | None = None
    _groups: dict[tuple[int, str], Group | None] = field(default_factory=dict, repr=False)

    @cached_property
    def _ports(self) -> dict[tuple[str, str], PortPlan]:
        return {(port.node, port.name): port for port in self.plan.ports}

    @cached_property
    def _maps(self) -> dict[str, bytes]:
        values = {"ports": sizeof(abi.PortState), "profiles": sizeof(abi.PortProfile)}
        return read_maps(self.folder, values, bpf=self.bpf)

    @cached_property
    def _rules(self) -> tuple[EcmpRule, ...]:
        size = sizeof(EcmpProfile)
        raw = read_maps(self.folder, {"ecmps": size}, bpf=self.bpf)["ecmps"]
        return tuple(rule_of(EcmpProfile.from_buffer_copy(raw, at)) for at in range(0, len(raw), size))

    def port(self, node: str, name: str) -> PortPlan:
        """A port's place in the plan."""
        return self._ports[node, name]

    def port_name(self, number: int) -> str:
        """The name of a member's egress port, within its node."""
        return self.plan.ports[number - 1].name if number else "port 0"

    def rule(self, node: str, in_port: str, dscp: int) -> EcmpRule | None:
        """How packets that come in by this port with this DSCP are spread; None where that is the kernel's affair.

        Raises NotReady when the maps cannot be read.
        """
        number = self.port(node, in_port).number
        state = abi.PortState.from_buffer_copy(self._maps["ports"], number * sizeof(abi.PortState))
        told = abi.PortProfile.from_buffer_copy(self._maps["profiles"], state.profile * sizeof(abi.PortProfile))
        at = told.ecmp_of_tc[told.tc_of_dscp[dscp]] if told.ecmp else 0
        rule = self._rules[at] if at else None
        return None if rule is None or rule.mode is EcmpMode.KERNEL else rule

    def group(self, node_first: int, dst: str) -> Group | None:
        """The group of the switch whose first port this is, for a destination; None when it has none."""
        key = (node_first, dst)
        if key not in self._groups:
            raw = read_inner_entry(
                self.folder / "routes", node_first, bytes(route_key(dst)), sizeof(EcmpGroup), bpf=self.bpf
            )
            self._groups[key] = None if raw is None else group_of(EcmpGroup.from_buffer_copy(raw))
        return self._groups[key]

    def flowlet(self, index: int) -> Flowlet:
        """What the table of flowlets holds at a place now."""
        raw = read_entry(self.folder / "flowlets", struct.pack("=I", index), sizeof(FlowletEntry), bpf=self.bpf)
        entry = FlowletEntry.from_buffer_copy(raw or bytes(sizeof(FlowletEntry)))
        return Flowlet(entry.seen_ns, entry.tag, entry.port, entry.member)


def live_ecmp(lab: str, plan: LabPlan) -> LiveEcmp | None:
    """The hash engine of a running lab; None when its soft ASIC is gone, and every kernel decides by itself."""
    folder = place.maps(lab)
    return LiveEcmp(plan, folder) if (folder / "profiles").exists() else None


def route_key(address: str) -> RouteKey:
    """The key that finds the longest prefix of an address."""
    packed = ip_address(address)
    if packed.version == 4:
        packed = IPv6Address(_V4_IN_V6 | int(packed))
    return RouteKey(_WHOLE, (RouteKey._fields_[1][1])(*packed.packed))


def rule_of(told: EcmpProfile) -> EcmpRule:
    """A `struct ecmp_profile` as the rule it was made of."""
    return EcmpRule(
        mode=EcmpMode(told.mode),
        algorithm=HashAlgorithm(told.algorithm),
        fields=HashField(told.fields),
        seed=told.seed,
        offset=told.offset,
        by=EcmpBy(told.by),
        quantum=told.quantum,
        gap_ns=told.gap_ns,
        idle_ms=told.idle_ms,
        unbalanced_ms=told.unbalanced_ms,
        marked=bool(told.marked),
    )


def group_of(told: EcmpGroup) -> Group:
    """A `struct ecmp_group` as the model's group."""
    members = tuple(Member(told.member[i].port, told.member[i].share, told.member[i].hash) for i in range(told.count))
    return Group(members, tuple(told.bucket), told.id)
