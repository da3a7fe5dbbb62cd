"""Where each node of somebody else's lab stands: from its labels, else from how far it is from the hosts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labs.foreign.found import TIER_LABEL
from topologies.errors import SpecError
from topologies.fabric import Tier

# What people call their groups of nodes in containerlab.
GROUPS: Mapping[str, Tier] = {
    **dict.fromkeys(("host", "hosts", "server", "servers", "client", "clients"), Tier.HOST),
    **dict.fromkeys(("leaf", "leafs", "leaves", "tor", "tors"), Tier.LEAF),
    **dict.fromkeys(("spine", "spines"), Tier.SPINE),
    **dict.fromkeys(("core", "cores", "superspine", "superspines", "super-spine", "super-spines"), Tier.CORE),
}
_BY_DISTANCE = (Tier.HOST, Tier.LEAF, Tier.SPINE, Tier.CORE)


def tier_said(name: str, labels: Mapping[str, str], group: str) -> Tier | None:
    """The tier that a node's label or group names. Raises SpecError for a label that names none."""
    said = labels.get(TIER_LABEL)
    if said is not None:
        try:
            return Tier(said)
        except ValueError:
            allowed = ", ".join(Tier)
            raise SpecError(f"node {name} is labelled {TIER_LABEL}: {said}", allowed=allowed) from None
    return GROUPS.get(group.lower())


def tiers(
    nodes: Iterable[str], links: Iterable[tuple[str, str]], hosts: Iterable[str], said: Mapping[str, Tier]
) -> Mapping[str, Tier]:
    """The tier of every node.

    Args:
        links: pairs of nodes.
        hosts: the nodes that route for nobody.
        said: what labels say; it wins.

    A leaf is one link from a host, a spine two, anything beyond is core. Without hosts the switches with the fewest
    links are leaves. Where nothing leads to a host, a node is a leaf.
    """
    names = list(nodes)
    near: dict[str, set[str]] = {name: set() for name in names}
    for one, other in links:
        near[one].add(other)
        near[other].add(one)
    known = {name: _BY_DISTANCE.index(tier) for name, tier in said.items()}
    known |= dict.fromkeys((name for name in hosts if name not in said), 0)
    if not known:
        fewest = min(len(found) for found in near.values())
        known = {name: 1 for name in names if len(near[name]) == fewest}
    distance = dict(known)
    level = sorted(known, key=lambda name: known[name])
    while level:
        level = sorted(level, key=lambda name: distance[name])
        name = level.pop(0)
        for other in sorted(near[name]):
            if other not in distance:
                distance[other] = distance[name] + 1
                level.append(other)
    return {name: _BY_DISTANCE[min(distance.get(name, 1), 3)] for name in names}
