"""What a lab is to be (`LabSpec`) and what it comes to in files (`RenderedLab`): values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network
from pathlib import PurePosixPath
from types import MappingProxyType

import yaml

from topologies.fabric import Fabric, Node, Tier

# The kernel's bits for net.ipv4.fib_multipath_hash_fields, under SONiC's SWITCH_HASH names.
HASH_FIELDS: Mapping[str, int] = MappingProxyType(
    {
        "SRC_IP": 0x1,
        "DST_IP": 0x2,
        "IP_PROTOCOL": 0x4,
        "IPV6_FLOW_LABEL": 0x8,
        "L4_SRC_PORT": 0x10,
        "L4_DST_PORT": 0x20,
        "INNER_SRC_IP": 0x40,
        "INNER_DST_IP": 0x80,
        "INNER_IP_PROTOCOL": 0x100,
        "INNER_L4_SRC_PORT": 0x400,
        "INNER_L4_DST_PORT": 0x800,
    }
)
NO_PROFILE = "none"
FIVE_TUPLE = ("SRC_IP", "DST_IP", "IP_PROTOCOL", "L4_SRC_PORT", "L4_DST_PORT")
DEFAULT_KINDS: Mapping[Tier, str] = MappingProxyType(
    {Tier.HOST: "host", Tier.LEAF: "frr", Tier.SPINE: "frr", Tier.CORE: "frr"}
)


class SessionAddressing(StrEnum):
    """How the two ends of a fabric link name each other in BGP."""

    NUMBERED = "numbered"  # /31 and /127 on every link
    UNNUMBERED = "unnumbered"  # link-local IPv6 from router advertisements, IPv4 over IPv6 next hops (RFC 8950)


@dataclass(frozen=True, slots=True)
class Bfd:
    """Bidirectional forwarding detection on every BGP session: down after `interval_ms` × `multiplier`."""

    interval_ms: int = 300
    multiplier: int = 3


@dataclass(frozen=True, slots=True)
class Bgp:
    """The control plane's settings, the same on every switch. Times in whole seconds, as FRR takes them."""

    addressing: SessionAddressing = SessionAddressing.NUMBERED
    keepalive_s: int = 10
    hold_s: int = 30
    connect_s: int = 10
    maximum_paths: int = 64
    graceful_restart: bool = False
    bfd: Bfd | None = None


@dataclass(frozen=True, slots=True)
class EcmpHash:
    """Which member of an ECMP group the kernel picks, for one tier.

    `policy` is net.ipv4.fib_multipath_hash_policy: 0 addresses only, 1 the flow's five-tuple or a hash the
    packet already carries, 3 exactly `fields`. The default is 3: a connected socket's own hash survives a veth
    and policy 1 obeys it, so that neither the seed nor `railbed path` would hold.
    `seed` None means: drawn from the lab's seed, one per tier, as switch silicon is configured.
    """

    policy: int = 3
    fields: tuple[str, ...] = FIVE_TUPLE
    seed: int | None = None

    @property
    def field_bits(self) -> int:
        """`fields` as the kernel's bit mask."""
        return sum(HASH_FIELDS[name] for name in self.fields)


@dataclass(frozen=True, slots=True)
class LabSpec:
    """Which software plays a fabric, and how.

    `fabric` is the reference as written (a catalog name or a path); the `Fabric` itself travels beside it.
    `images` maps kind or node name to an image name (backends without images refuse them). `node_kinds` names the
    kind of single nodes where it is not that of their tier. `management` is the subnet of the containers' management
    network, None for one that nothing here uses. `profile` is what the soft ASIC plays, by name or absolute path; None
    for a lab without.
    """

    name: str
    fabric: str
    kinds: Mapping[Tier, str] = field(default_factory=lambda: DEFAULT_KINDS)
    images: Mapping[str, str] = field(default_factory=dict)
    bgp: Bgp = Bgp()
    hashing: Mapping[Tier, EcmpHash] = field(default_factory=dict)
    ipv6: bool = True
    lldp: bool = True
    mtu: int = 9216
    seed: int = 0
    node_kinds: Mapping[str, str] = field(default_factory=dict)
    management: IPv4Network | None = None
    profile: str | None = None

    def kind_of(self, node: Node) -> str:
        """The kind of software that plays a node."""
        return self.node_kinds.get(node.name) or self.kinds[node.tier]

    def hash_of(self, tier: Tier) -> EcmpHash:
        """The ECMP hash of a tier, with its seed filled in (1 … 2³²−1, the kernel's range)."""
        chosen = self.hashing.get(tier, EcmpHash())
        if chosen.seed is not None:
            return chosen
        return EcmpHash(chosen.policy, chosen.fields, derived_seed(self.seed, f"hash/{tier}"))


@dataclass(frozen=True, slots=True)
class ForeignSource:
    """Where a lab comes from that somebody else designed for containerlab.

    `topology` is their file (an absolute path), `network` the management network it names. `containers` are the
    containers' names by node. An `adopted` lab was running before us, and goes on running after us.
    """

    topology: str
    containers: Mapping[str, str] = field(default_factory=dict)
    network: str = "clab"
    adopted: bool = False


@dataclass(frozen=True)
class RenderedLab:
    """A lab as files, before anything runs.

    `clab` is the containerlab topology as plain data. `files` are relative paths: ``leaf1/etc/frr/frr.conf``
    is what the node ``leaf1`` finds at ``/etc/frr/frr.conf``. A lab that somebody else designed is `foreign`: its
    `clab` holds the name, prefix and text of their file, and we render nothing.
    """

    name: str
    fabric: Fabric
    spec: LabSpec
    clab: Mapping[str, object]
    files: Mapping[PurePosixPath, str]
    foreign: ForeignSource | None = None

    def files_of(self, node: str) -> Mapping[PurePosixPath, str]:
        """The files of one node, by their absolute path inside it."""
        return {PurePosixPath("/", *path.parts[1:]): text for path, text in self.files.items() if path.parts[0] == node}


def derived_seed(seed: int, purpose: str) -> int:
    """A seed for one purpose out of the lab's one seed: 1 … 2³²−1, stable across processes and versions."""
    from hashlib import blake2b

    digest = blake2b(f"{seed}/{purpose}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") or 1


def to_yaml(data: Mapping[str, object]) -> str:
    """Plain data as YAML, by libyaml where it is there: a large topology takes Python itself a second."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(dict(data), Dumper=dumper, sort_keys=False, width=120))
