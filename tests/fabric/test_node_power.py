"""POWER-1: a node loses power and gets it back; the fabric routes around it, then as designed again.

        spine1 ✕  spine2            stop: every process of the node is gone and its neighbours lose carrier;
        /  |  |  \\                        what is left must route as the oracle says without it
     leaf1 …   leaf4                start: cables, addresses, rules and configuration come back by themselves

Budgets: neighbours see the carrier go, the rest wait for withdrawals, 0.2 s in all (see RECOVER-0); 5 s is what a
loaded workstation may add. A start is a boot of one node (under a second), sessions that both ends try every 10 s
at the most, and routes: 30 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_interface

import pytest

from labs import observe
from labs.backends.base import NodeState
from labs.errors import NotReady
from labs.lab import Lab
from labs.status import status
from labs.testing import SECOND, Fabric, wait_until
from topologies import addressing

SETTLED = 5 * SECOND
STARTED = 30 * SECOND
FAMILIES = (4, 6)


def state_of(lab: Lab) -> object:
    """What `railbed status` calls it."""
    return status(lab)["state"]


def addresses(lab: Lab, node: str) -> frozenset[str]:
    """The global addresses of a node, with their interfaces."""
    lines = lab.node(node).run("ip", "-o", "addr", "show", "scope", "global").stdout.splitlines()
    return frozenset(f"{words[1]} {ip_interface(words[3])}" for line in lines if (words := line.split()))


def rules(lab: Lab, node: str) -> list[str]:
    """The policy rules of a node and the routes of every table."""
    said = [
        lab.node(node).run("ip", f"-{family}", *what).stdout
        for family in FAMILIES
        for what in (("rule", "show"), ("route", "show", "table", "all", "proto", "boot"))
    ]
    return sorted(line.strip() for text in said for line in text.splitlines())


def lost_pings(lab: Lab, hosts: Iterable[str]) -> list[str]:
    """Which of these hosts does not reach which, per card and family."""
    samples = observe.pings(lab.fabric, [lab.node(host) for host in hosts], ipv6=True)
    assert samples, "nothing was asked"
    return [f"{ping.src} -> {ping.dst} IPv{ping.family}" for ping in samples if ping.lost]


def assert_back(lab: Lab) -> None:
    """The lab is as designed: routes, reachability, sessions, links."""
    converged = lab.wait_converged(STARTED)
    assert converged
    ready = wait_until("status is ready", lambda: state_of(lab), lambda state: state == "ready", within=STARTED)
    assert ready.held, ready


@pytest.mark.lab("clos_frr")
@pytest.mark.parametrize("node", ["spine1", "leaf1"])
def test_a_switch_loses_power(lab: Lab, fabric: Fabric, node: str) -> None:
    """Stop: routes match the design without it, status says so. Start: all comes back."""
    had = addresses(lab, node)
    lab.stop(node)
    assert lab.wait_routes_match(fabric.without(node), within=SETTLED)
    assert lab.deployment.states()[node] is NodeState.STOPPED
    facts = status(lab)
    assert facts["state"] == "degraded"
    down = {link["name"] for link in facts["links"] if link["state"] != "up"}  # type: ignore[attr-defined]
    assert down == {link.name for link in fabric.links if node in (link.a.node, link.b.node)}
    with pytest.raises(NotReady, match=f"{node} is stopped"):
        lab.routes(node)
    lab.start(node)
    assert lab.wait_routes_match(within=STARTED)
    assert_back(lab)
    assert addresses(lab, node) == had
    speaks_lldp = lab.node(node).run("test", "-x", "/usr/sbin/lldpd").ok
    assert not speaks_lldp or f"railbed {node}" in lab.node(node).run("lldpcli", "show", "chassis").stdout


@pytest.mark.lab("clos_frr")
def test_a_host_loses_power(lab: Lab) -> None:
    """A stopped host answers nobody and its port has no carrier; a started one answers all, in both families."""
    had = addresses(lab, "host1"), rules(lab, "host1")
    targets = [str(addressing.host_address(lab.fabric, "host1", 1, family)) for family in FAMILIES]
    question = ("fping", "-a", "-r", "1", "-t", "200", *targets)
    assert sorted(lab.node("host8").channel.run(*question).stdout.split()) == sorted(targets)
    lab.stop("host1")
    said = lab.node("host8").channel.run(*question)
    assert (said.status, said.stdout) == (1, ""), "an address answers without power"
    assert state_of(lab) == "degraded"
    lab.start("host1")
    assert (addresses(lab, "host1"), rules(lab, "host1")) == had
    assert_back(lab)
    assert lost_pings(lab, ["host1", "host8"]) == []


@pytest.mark.lab("clos_frr")
def test_stop_and_start_are_idempotent(lab: Lab) -> None:
    """Stopping what is stopped and starting what runs change nothing; what is stopped cannot be paused."""
    lab.start("leaf2")
    assert state_of(lab) == "ready"
    lab.stop("leaf2")
    lab.stop("leaf2")
    with pytest.raises(NotReady, match="leaf2 is stopped"):
        lab.pause("leaf2")
    lab.start("leaf2")
    assert_back(lab)


@pytest.mark.lab("clos_frr")
def test_a_leaf_is_frozen(lab: Lab) -> None:
    """Pause: its daemons fall silent, BFD at its neighbours notices (0.9 s), its kernel goes on. Then all comes back.

    Hosts behind it stay reachable over its own table, but nobody sends there any more: its routes are withdrawn.
    """
    forwarded = lab.routes("leaf1").routes
    assert forwarded
    lab.pause("leaf1")
    assert lab.deployment.states()["leaf1"] is NodeState.PAUSED
    silent = wait_until(
        "spine1 gives leaf1 up",
        lambda: [s.established for s in lab.sessions("spine1")],
        lambda established: established.count(False) == 1,
        within=SETTLED,
    )
    assert silent.held, silent
    assert lab.routes("leaf1").routes == forwarded, "a frozen zebra takes nothing out of the kernel"
    lab.start("leaf1")
    assert lab.deployment.states()["leaf1"] is NodeState.RUNNING
    assert_back(lab)
    assert all(session.established for session in lab.sessions("leaf1"))


@pytest.mark.lab("clos_frr")
def test_a_frozen_leaf_loses_power(lab: Lab) -> None:
    """Power can be cut from a frozen node, and comes back to a running one."""
    lab.pause("leaf3")
    lab.stop("leaf3")
    assert lab.deployment.states()["leaf3"] is NodeState.STOPPED
    lab.start("leaf3")
    assert_back(lab)


@pytest.mark.lab("clos_frr")
def test_a_killed_daemon_is_no_verdict(lab: Lab) -> None:
    """A bgpd that is gone is the testbed's trouble: every question that needs it raises NotReady, none says no."""
    leaf = lab.node("leaf4")
    leaf.run("kill", "-KILL", leaf.run("cat", "/run/frr/bgpd.pid").stdout.strip())
    try:
        with pytest.raises(NotReady, match="leaf4: bgpd"):
            lab.sessions("leaf4")
        with pytest.raises(NotReady, match="leaf4: bgpd"):
            lab.wait_converged(STARTED)
        assert state_of(lab) == "degraded"
    finally:
        lab.stop("leaf4")
        lab.start("leaf4")
    assert_back(lab)


@pytest.mark.lab("rails_frr")
def test_a_host_with_several_cards_loses_power(lab: Lab, fabric: Fabric) -> None:
    """Each card's own rule, table and routes come back, and every rail answers."""
    had = addresses(lab, "host1"), rules(lab, "host1")
    assert any("lookup 101" in line for line in had[1]), "this host has no rules of its own"
    lab.stop("host1")
    assert state_of(lab) == "degraded"
    lab.start("host1")
    assert (addresses(lab, "host1"), rules(lab, "host1")) == had
    assert_back(lab)
    assert lost_pings(lab, [host.name for host in fabric.hosts]) == []
