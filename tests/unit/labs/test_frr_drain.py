"""Draining a switch: what FRR is told, and what is made of a bgpd that does not take it."""

from __future__ import annotations

import pytest

from labs.channel import CommandResult
from labs.channels.scripted import ScriptedChannel
from labs.errors import CapabilityMissing, NotReady
from labs.kinds import driver
from labs.node import LiveNode
from topologies.load import load_fabric

FABRIC = load_fabric("clos_2x4")


class Bgpd:
    """Takes the command, or does not."""

    def __init__(self, *, obeys: bool = True) -> None:
        self.drained = False
        self.obeys = obeys
        self.told: list[tuple[str, ...]] = []

    def answer(self, argv: tuple[str, ...], _: str) -> CommandResult:
        if "configure terminal" in argv:
            self.told.append(argv)
            self.drained = not argv[-1].startswith("no ") and self.obeys
            return CommandResult(argv, 0, "" if self.obeys else "% Unknown command", "")
        return CommandResult(
            argv, 0, "router bgp 1\n bgp graceful-shutdown\n" if self.drained else "router bgp 1\n", ""
        )


def live(name: str, kind: str, bgpd: Bgpd) -> LiveNode:
    return LiveNode(FABRIC.node(name), kind, FABRIC.ports(name), ScriptedChannel(name, bgpd.answer))


def test_a_switch_is_drained_and_put_back() -> None:
    bgpd = Bgpd()
    spine = live("spine1", "frr", bgpd)
    driver("frr").drain(spine, on=True)
    assert bgpd.drained
    driver("frr").drain(spine, on=False)
    assert not bgpd.drained
    asn = f"router bgp {FABRIC.node('spine1').asn}"
    words = ("-c", "configure terminal", "-c", asn, "-c", "no bgp graceful-shutdown")
    assert bgpd.told[1] == ("vtysh", "-d", "bgpd", *words)


def test_a_bgpd_that_does_not_take_it_is_not_ready() -> None:
    with pytest.raises(NotReady, match="spine1: bgpd does not take 'bgp graceful-shutdown': % Unknown command"):
        driver("frr").drain(live("spine1", "frr", Bgpd(obeys=False)), on=True)


@pytest.mark.parametrize("kind", ["host", "plain"])
def test_a_node_that_nobody_routes_through_cannot_be_drained(kind: str) -> None:
    with pytest.raises(CapabilityMissing, match="drain"):
        driver(kind).drain(live("host1", kind, Bgpd()), on=True)
