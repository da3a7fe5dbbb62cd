"""FAULT-3: nodes, daemons and routes that fail are seen, and all is as before once the fault is taken back.

           spine1    spine2
             |  \\  /  |            every fault has a claim that holds before it, is false under it, and holds again
           leaf1 … leaf4

Within: BFD takes 3 · 300 ms to miss a peer that fell silent; its session falls, then routes settle over two hops of
FRR's queues, 60 ms each. 5 s is four times that. A session that is set up again may wait for a connect timer of 10 s at
either end; BACK_WITHIN is three times that.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from labs import observe
from labs.backends.base import NodeState
from labs.faults import catalogue
from labs.faults.injecting import active_faults, add, revert, state_restored
from labs.kinds import driver
from labs.lab import Lab
from labs.testing import SECOND, Evidence, FiveTuple, Transport, Verdict, routes_match, wait_until
from topologies import addressing
from topologies.routing import route_tables

pytestmark = [pytest.mark.lab("clos_frr"), pytest.mark.valid_of(3)]

SEEN_WITHIN = 5 * SECOND
BACK_WITHIN = 60 * SECOND
FLOWS = 32

Claim = Callable[[Lab], Verdict]


def routed(lab: Lab) -> Verdict:
    """Every switch that runs forwards as designed, this moment."""
    states = lab.deployment.states()
    running = [node for node in lab.switches if states[node.name] is NodeState.RUNNING]
    return routes_match(route_tables(lab.fabric), observe.route_tables(running))


def reached(lab: Lab) -> Verdict:
    """Every host reaches every other, this moment."""
    pings = observe.pings(lab.fabric, lab.hosts, ipv6=False)
    lost = [f"{one.src} > {one.dst}" for one in pings if one.lost]
    return Verdict("hosts reach each other", not lost, Evidence(f"{len(lost)} of {len(pings)} lost", rows=tuple(lost)))


def forwarded(lab: Lab) -> Verdict:
    """Flows from host3 to host1 arrive, as the kernels say; none crosses spine1 by a chance of 2^-32.

    Pings do not show it so surely: they have no ports, so all of two hosts take one way. Six hosts are elsewhere than
    host1, and none of them is sent by spine1 once in 64 seeds.
    """
    src, dst = (str(addressing.host_address(lab.fabric, host, 1, 4)) for host in ("host3", "host1"))
    flows = [FiveTuple(src, dst, Transport.UDP, 50000 + i, 4791) for i in range(FLOWS)]
    lost = [str(path) for path in lab.paths(flows, ["host3"] * FLOWS) if path.end is None]
    return Verdict("flows arrive", not lost, Evidence(f"{len(lost)} of {FLOWS} end on the way", rows=tuple(lost)))


def unbroken(lab: Lab) -> Verdict:
    """Every session of leaf1 is older than 3 s."""
    youngest = min(ages(lab, "leaf1"))
    return Verdict("no session of leaf1 went down", youngest > 3, Evidence(f"the youngest is {youngest:.1f} s old"))


def answered(lab: Lab) -> Verdict:
    """Every daemon of leaf1 answers."""
    node = lab.node("leaf1")
    found = driver(node.kind).readiness(node)
    return Verdict("leaf1's daemons answer", found.ready, Evidence(", ".join(found.missing) or "all answer"))


@dataclass(frozen=True)
class Case:
    """A fault, and the claim that it makes false."""

    fault: str
    target: str
    claim: Claim = routed
    params: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.fault, *(str(value) for value in self.params.values())])


CASES = (
    Case("node-crash", "spine1"),
    Case("node-pause", "leaf1"),
    Case("daemon-kill", "leaf1", params={"daemon": "bgpd"}),
    Case("daemon-kill", "leaf1", unbroken, {"daemon": "bfdd"}),
    Case("daemon-kill", "leaf1", answered, {"daemon": "zebra"}),
    Case("daemon-stop", "leaf1", unbroken, {"daemon": "bfdd"}),
    Case("drain", "spine1"),
    Case("route-withdrawn", "leaf2"),
    Case("blackhole-route", "spine1", forwarded),
    Case("static-loop", "leaf1:spine1", reached),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_bites_and_is_gone(lab: Lab, case: Case) -> None:
    """False under the fault; afterwards the lab is as before, and the claim holds."""
    before = wait_until("it holds", lambda: case.claim(lab), lambda verdict: verdict.held, within=BACK_WITHIN)
    assert before.held, str(before.last)
    made = add(lab, catalogue.fault(case.fault), case.target, case.params)
    try:
        under = wait_until("it bites", lambda: case.claim(lab), lambda verdict: not verdict.held, within=SEEN_WITHIN)
    finally:
        revert(lab, made.id)
    assert under.held, f"still held: {under.last}"
    assert state_restored(lab, BACK_WITHIN)
    back = wait_until("it holds again", lambda: case.claim(lab), lambda verdict: verdict.held, within=BACK_WITHIN)
    assert back.held, str(back.last)


@pytest.mark.parametrize(
    ("fault", "target", "params"),
    [("node-restart", "spine1", {"off_s": 0.2}), ("daemon-restart", "leaf1", {}), ("bgp-reset", "leaf1", {})],
)
def test_what_is_over_at_once_leaves_younger_sessions(
    lab: Lab, fault: str, target: str, params: Mapping[str, object]
) -> None:
    """Control: no session of the node went down before; each is younger than the fault afterwards, and all is back."""
    before = ages(lab, target)
    wait_until("time passes", lambda: ages(lab, target), lambda now: min(now) > min(before) + 0.5, within=SEEN_WITHIN)
    assert not any(age < old + 0.4 for age, old in zip(ages(lab, target), before, strict=True))
    cut = time.monotonic()
    made = add(lab, catalogue.fault(fault), target, params)
    assert made.made_ns > made.began_ns
    assert lab.wait_converged(within=BACK_WITHIN)
    assert state_restored(lab, BACK_WITHIN)
    assert max(ages(lab, target)) <= time.monotonic() - cut


def test_a_restart_whose_maker_is_killed_while_the_node_is_off(lab: Lab) -> None:
    """SIGKILL in the middle of a power cycle: the Recorder gives the node its power back, and all is as before."""
    child = os.fork()
    if child == 0:
        try:
            add(lab, catalogue.fault("node-restart"), "spine1", {"off_s": 120})
        finally:
            os._exit(1)
    off = wait_until("it is off", lambda: lab.deployment.states()["spine1"], lambda now: now == "stopped", within=30.0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert off.held, off
    back = wait_until("it is taken back", lambda: active_faults(lab.name), lambda left: not left, within=BACK_WITHIN)
    assert back.held, back
    assert lab.deployment.states()["spine1"] == "running"
    assert state_restored(lab, BACK_WITHIN)


def ages(lab: Lab, node: str) -> list[float]:
    """Seconds since each session of a node came up, in the order of its peers."""
    return [one.uptime_s for one in sorted(lab.sessions(node), key=lambda one: one.peer)]
