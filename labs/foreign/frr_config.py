"""What FRR's running configuration says about routing that the oracle must know, or that it cannot know. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from topologies.given import MOST_PATHS

_PROTOCOLS: Mapping[str, str] = {
    "ospf": "OSPF",
    "ospf6": "OSPFv3",
    "isis": "IS-IS",
    "rip": "RIP",
    "ripng": "RIPng",
    "eigrp": "EIGRP",
    "babel": "Babel",
    "openfabric": "OpenFabric",
}
# Lines of `router bgp` after which more than the length of the AS path decides, or the path is not what it was.
_POLICIES = re.compile(
    r"\b(aggregate-address|prefix-list|filter-list|distribute-list|unsuppress-map|advertise-map|table-map|"
    r"allowas-in|as-override|local-as|remove-private-AS|default-originate|weight|route-reflector-client|"
    r"attribute-unchanged|next-hop-self force|always-compare-med|confederation|bestpath as-path ignore|"
    r"bestpath as-path confed|bestpath med|bestpath bandwidth|distance bgp|dampening|graceful-shutdown|import vrf)\b"
)
_Block = tuple[str, tuple[str, ...]]  # an unindented line, and those indented below it
_ROUTE_MAP_USED = re.compile(r"\broute-map (\S+)")


@dataclass(frozen=True, slots=True)
class FrrConfig:
    """`unpredictable` says why the oracle does not hold for this router; None where it does."""

    relaxed: bool = False
    most_paths: tuple[int, int] = (MOST_PATHS, MOST_PATHS)
    unpredictable: str | None = None


def examine(text: str) -> FrrConfig:
    """Read a running configuration. Reasons are sentences about the router, without its name."""
    blocks = list(_blocks(text))
    datacenter = any(head.startswith("frr defaults datacenter") for head, _ in blocks)
    bgp = [(head, body) for head, body in blocks if head.startswith("router bgp")]
    body = bgp[0][1] if bgp else ()
    relaxed = _switched("bgp bestpath as-path multipath-relax", body, default=datacenter)
    return FrrConfig(relaxed, _most_paths(body), _why_not(blocks, bgp, datacenter=datacenter))


def _why_not(blocks: list[_Block], bgp: list[_Block], *, datacenter: bool) -> str | None:
    for head, _ in blocks:
        word = re.match(r"router (\S+)", head)
        if word and word[1] in _PROTOCOLS:
            return f"runs {_PROTOCOLS[word[1]]}"
    if not bgp:
        return "runs no BGP"
    if len(bgp) > 1 or " vrf " in bgp[0][0] or " view " in bgp[0][0]:
        return "runs BGP in a VRF or view"
    body = bgp[0][1]
    policy = _policy(body, _harmless(blocks))
    maps = [line for line in body if re.search(r"neighbor \S+ route-map \S+ (in|out)", line)]
    if policy is None and not maps and _switched("bgp ebgp-requires-policy", body, default=not datacenter):
        return "asks for a policy (bgp ebgp-requires-policy) and has none: it neither takes nor gives a route"
    return policy


def _policy(body: tuple[str, ...], harmless: frozenset[str]) -> str | None:
    """The first line that makes more than the AS path decide."""
    for line in body:
        if _POLICIES.search(line) or not harmless.issuperset(_ROUTE_MAP_USED.findall(line)):
            return f"has a policy: {line.strip()}"
    return None


def _harmless(blocks: list[_Block]) -> frozenset[str]:
    """The route-maps that permit everything and change nothing."""
    found: dict[str, bool] = {}
    for head, body in blocks:
        if match := re.match(r"route-map (\S+) (permit|deny) \d+", head):
            plain = match[2] == "permit" and not any(re.match(r"\s*(match|set|on-match|call)\b", line) for line in body)
            found[match[1]] = found.get(match[1], True) and plain
    return frozenset(name for name, plain in found.items() if plain)


def _switched(words: str, body: tuple[str, ...], *, default: bool) -> bool:
    """Whether a line that may stand with or without ``no`` is on."""
    said = {line.strip() for line in body}
    return words in said or (default and f"no {words}" not in said)


def _most_paths(body: tuple[str, ...]) -> tuple[int, int]:
    """``maximum-paths`` for IPv4 and IPv6; lines outside an address family mean IPv4."""
    found = {4: MOST_PATHS, 6: MOST_PATHS}
    family = 4
    for line in body:
        if match := re.match(r"\s*address-family (ipv[46]) unicast", line):
            family = int(match[1][-1])
        elif line.strip() == "exit-address-family":
            family = 4
        elif match := re.match(r"\s*maximum-paths (\d+)$", line):
            found[family] = int(match[1])
    return found[4], found[6]


def _blocks(text: str) -> Iterator[_Block]:
    """Each unindented line with the indented ones below it."""
    head, body = "", []
    for line in text.splitlines():
        if line.startswith(" "):
            body.append(line)
            continue
        if head:
            yield head, tuple(body)
        head, body = line.rstrip(), []
    if head:
        yield head, tuple(body)
