"""Routes of start scripts and people: a port that is set down or moved loses them for good, as nobody else has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labs.node import LiveNode
from labs.waiting import wait_until

PERMANENT = ("boot", "static")  # who made them, as the kernel has it; daemons give theirs back themselves
# An interface that was just set up has its addresses in milliseconds.
GIVEN_BACK_WITHIN_S = 5.0
# The kernel's own follow from addresses.
OF_ADDRESSES = frozenset({"local", "broadcast", "anycast", "multicast"})
# How a route fares, which is shown and cannot be set; and what else cannot, with the word that follows.
FARES = frozenset({"dead", "linkdown", "pervasive", "offload", "trap", "offload_failed", "rt_offload", "rt_trap"})
FARES_BY = frozenset({"nhid", "expires"})


def kept_routes(node: LiveNode, netdev: str) -> list[str]:
    """Permanent routes by a port, of every table, in the words of ``ip`` that give each back.

    One of several next hops is none of them: the kernel keeps it for the others, and takes the port in again.
    """
    return [
        line
        for family in ("-4", "-6")
        for protocol in PERMANENT
        for said in _shown(node, family, protocol, netdev)
        if (line := given_back_by(said, family=family, protocol=protocol, netdev=netdev)) is not None
    ]


def _shown(node: LiveNode, family: str, protocol: str, netdev: str) -> list[str]:
    shown = ("route", "show", "table", "all", "proto", protocol, "dev", netdev)
    return node.kernel("ip", "-o", family, *shown).stdout.splitlines()


def given_back_by(said: str, *, family: str, protocol: str, netdev: str) -> str | None:
    """The words that give back a route which ``ip -o route show`` has shown; None for one that comes back by itself."""
    words = list(_settable(said.split()))
    if not words or words[0] in OF_ADDRESSES or "nexthop" in words:
        return None
    return f"{family} route replace {' '.join(words)} dev {netdev} proto {protocol}"


def _settable(words: Sequence[str]) -> Iterator[str]:
    before = ""
    for word in words:
        if word not in FARES | FARES_BY and before not in FARES_BY:
            yield word
        before = word


def give_back(node: LiveNode, lines: Sequence[str]) -> list[str]:
    """Give back what was written down, by the arguments of ``ip``; returns what is refused, and why.

    What is there again is replaced by the same. A route's gateway counts as reachable only once its own port has an
    address again: all are tried until none fails.
    """

    def refused() -> list[str]:
        said = [(line, node.channel.kernel("ip", *line.split())) for line in lines]
        return [f"ip {line}: {answer.stderr.strip()}" for line, answer in said if not answer.ok]

    return wait_until("all is given back", refused, lambda left: not left, within=GIVEN_BACK_WITHIN_S).last
