"""Routes that are given back: in words that ``ip route replace`` takes, and tried until it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from labs.channel import CommandResult
from labs.faults import kept_routes
from labs.faults.kept_routes import give_back, given_back_by
from labs.node import LiveNode


@pytest.mark.parametrize(
    ("said", "family", "words"),
    [  # as iproute2 6.1 shows them
        ("10.8.0.0/16 via 10.0.1.2 table 77 metric 5 ", "-4", "10.8.0.0/16 via 10.0.1.2 table 77 metric 5"),
        ("10.5.0.0/16 via inet6 2001:db8:1::2 ", "-4", "10.5.0.0/16 via inet6 2001:db8:1::2"),
        ("10.4.0.0/16 via 1.2.3.4 onlink linkdown ", "-4", "10.4.0.0/16 via 1.2.3.4 onlink"),
        ("10.7.0.0/16 nhid 5 via 10.0.1.2 dead linkdown ", "-4", "10.7.0.0/16 via 10.0.1.2"),
        (
            "2001:db8:8::/48 via 2001:db8:1::2 table 88 metric 1024 mtu 1400 pref high",
            "-6",
            "2001:db8:8::/48 via 2001:db8:1::2 table 88 metric 1024 mtu 1400 pref high",
        ),
        (
            "2001:db8:7::/48 via 2001:db8:1::2 metric 1024 expires 499sec pref medium",
            "-6",
            "2001:db8:7::/48 via 2001:db8:1::2 metric 1024 pref medium",
        ),
    ],
)
def test_a_route_is_written_as_it_can_be_set(said: str, family: str, words: str) -> None:
    line = given_back_by(said, family=family, protocol="static", netdev="eth1")
    assert line == f"{family} route replace {words} dev eth1 proto static"


@pytest.mark.parametrize(
    "said",
    [
        "local 10.3.0.1 table local scope host ",
        "broadcast 10.3.0.255 table local scope link ",
        "10.9.0.0/16 \\\tnexthop via 10.0.1.2 dev eth1 weight 1 \\\tnexthop via 10.0.2.2 dev eth2 weight 3 ",
        "",
    ],
)
def test_what_comes_back_by_itself_is_not_kept(said: str) -> None:
    assert given_back_by(said, family="-4", protocol="boot", netdev="eth1") is None


@dataclass
class Kernel:
    """One that refuses each line so many times."""

    refusals: int
    asked: list[str] = field(default_factory=list)

    def kernel(self, *argv: str) -> CommandResult:
        self.asked.append(" ".join(argv))
        self.refusals -= 1
        refused = self.refusals >= 0
        return CommandResult(argv, 2 if refused else 0, "", "Error: Nexthop has invalid gateway." if refused else "")


def node(kernel: Kernel) -> LiveNode:
    return cast("LiveNode", SimpleNamespace(name="leaf1", channel=kernel))


def test_a_gateway_that_cannot_be_reached_yet_is_tried_again() -> None:
    kernel = Kernel(refusals=2)
    assert give_back(node(kernel), ["-4 route replace 10.8.0.0/16 via 10.0.1.2 dev eth1"]) == []
    assert kernel.asked == ["ip -4 route replace 10.8.0.0/16 via 10.0.1.2 dev eth1"] * 3


def test_what_stays_refused_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_routes, "GIVEN_BACK_WITHIN_S", 0.05)
    (said,) = give_back(node(Kernel(refusals=1000)), ["-4 route replace 10.8.0.0/16"])
    assert said == "ip -4 route replace 10.8.0.0/16: Error: Nexthop has invalid gateway."
