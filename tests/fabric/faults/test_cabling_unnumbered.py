"""FAULT-7: packets cross swapped cables of ports without addresses of their own, and the soft ASIC counts them right.

leaf1's cables to spine1 and spine2 are in each other's port; leaf1 asks whoever is behind eth1, which is spine2.
"""

from __future__ import annotations

import json

import pytest

from labs.lab import Lab
from labs.pytest_plugin import Faults
from labs.testing import SECOND, neighbors, wait_until, wired_as_planned

SETTLED_WITHIN = 30 * SECOND


def link_local(lab: Lab, node: str, port: str) -> str:
    """The address by which a port without one of its own is reached over its cable."""
    said = lab.node(node).kernel("ip", "-j", "-6", "addr", "show", "dev", port, "scope", "link").stdout
    return str(next(one for link in json.loads(said) for one in link.get("addr_info", ()))["local"])


def answers(lab: Lab, address: str, count: int) -> bool:
    """Whether so many echo requests of leaf1 are answered, each of them."""
    said = lab.node("leaf1").channel.kernel("fping", "-6", "-q", "-c", str(count), "-p", "5", "-t", "200", address)
    return f"xmt/rcv/%loss = {count}/{count}/" in said.stderr


def waiting(lab: Lab) -> list[str]:
    """The queues in which the soft ASIC believes packets to be."""
    assert lab.asic
    return [f"{one.node}:{one.port}:{one.queue}" for one in lab.asic.counters().queues if one.depth_packets]


@pytest.mark.lab("clos_frr_unnumbered")
def test_packets_cross_swapped_cables(lab: Lab, faults: Faults) -> None:
    """Ports without addresses of their own answer whoever is plugged in; only LLDP tells.

    The soft ASIC is told which queue a frame has left: with another peer its queues would fill up for good. With FRR
    8.4, as on namespaces here, sessions come up as well; 10.3 leaves them Active.
    """
    assert lab.asic
    with faults.swapped_cables("leaf1:spine1", other="leaf1:spine2"):
        far = f"{link_local(lab, 'spine2', 'eth1')}%eth1"
        crossed = wait_until("a packet crosses", lambda: answers(lab, far, 1), bool, within=SETTLED_WITHIN)
        assert crossed.held
        assert answers(lab, far, 50)
        emptied = wait_until("queues are empty", lambda: waiting(lab), lambda left: not left, within=5 * SECOND)
        assert emptied.held, emptied.last
        assert not wired_as_planned(lab.fabric, neighbors(lab))
    assert wired_as_planned(lab.fabric, neighbors(lab))
