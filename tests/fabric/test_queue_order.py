"""QOS-4: packets of a queue arrive in the order they came in, whichever processor serves the queue.

    host1 ──> leaf1 ═ queue ═> host2        both senders keep the queue full; each flow's packets are numbered
    host3 ──>

One processor receives what comes in by a port, and ports take turns. What somebody else has set there stays.
"""

from __future__ import annotations

import os
import re
from itertools import pairwise

import pytest

from labs import lease
from labs.dataplane.asic import SoftAsic
from labs.lab import Lab
from labs.load_bridge import five_tuple, send
from labs.testing import wait_until
from labs.verdicts.ledger import nothing_left
from traffic.engines.rnic import RawFlow

PACKETS = 40_000
PAYLOAD = 1024
WITHIN = 20.0
LOAD = 0.8  # of the rate, by each flow
# Two flows as regular as these may keep step, so that one always finds the last place in a full queue taken (a phase
# effect of tail drop; Floyd and Jacobson 1991): it is left what the other leaves of the rate.
LEFT = 1 / LOAD - 1
SERVED = 0.95  # of its time a full queue is served: a workstation that stands still catches up little
PROCESSORS = os.cpu_count() or 1
LOOK = 'mount -t sysfs sysfs /sys && cd /sys/class/net && grep -H "" eth*/queues/rx-*/rps_cpus'
# A container engine makes the sysfs of its namespaces read-only.
PUT = """
mount -t sysfs sysfs /sys
at=/sys/class/net/{port}/queues/rx-0/rps_cpus
test -w $at || mount -o remount,rw /sys
echo {mask:x} > $at
"""
MASK = re.compile(r"^(eth[1-9]\d*)/queues/rx-\d+/rps_cpus:([0-9a-f,]+)$", re.MULTILINE)

pytestmark = [pytest.mark.lab("star_3", profile="roce_default"), pytest.mark.valid_of(3)]


def inside(lab: Lab, node: str, line: str) -> str:
    """A shell line in a node's network, with that network's /sys."""
    return lab.nodes[node].kernel("unshare", "--mount", "sh", "-c", line).stdout


def masks(lab: Lab, node: str) -> dict[str, int]:
    """By port, the processors (bits) that receive for it; 0 is whichever hands a packet over."""
    found = MASK.findall(inside(lab, node, LOOK))
    assert found, f"{node} shows no masks"
    return {port: int(mask.replace(",", ""), 16) for port, mask in found}


def test_each_port_has_one_processor_and_all_have_work(lab: Lab) -> None:
    """One bit a port, and neighbours' differ."""
    set_there = {node: masks(lab, node) for node in lab.nodes}
    assert all(mask.bit_count() == 1 for ports in set_there.values() for mask in ports.values()), set_there
    leaf = [mask for _, mask in sorted(set_there["leaf1"].items())]
    assert all(one != other for one, other in pairwise(leaf)) or PROCESSORS == 1


def test_what_somebody_else_has_set_stays(lab: Lab, asic: SoftAsic) -> None:
    """Taken off, a node's ports are as they were; a mask that is there before the soft ASIC is there after it."""
    ours = masks(lab, "leaf1")
    theirs = (1 << PROCESSORS) - 1
    asic.leave("leaf1")
    assert set(masks(lab, "leaf1").values()) == {0}
    inside(lab, "leaf1", PUT.format(mask=theirs, port="eth2"))
    asic.refresh()
    assert masks(lab, "leaf1") == {**ours, "eth2": theirs}
    asic.leave("leaf1")
    assert masks(lab, "leaf1")["eth2"] == theirs
    inside(lab, "leaf1", PUT.format(mask=0, port="eth2"))
    asic.refresh()
    assert masks(lab, "leaf1") == ours


@pytest.mark.parametrize("dscp", [3, 0], ids=["lossless", "lossy"])
def test_packets_of_a_queue_keep_their_order(lab: Lab, asic: SoftAsic, dscp: int) -> None:
    """Two flows at 0.8 of the rate each through one queue: of what arrives no packet comes after a later one."""
    rate = round(LOAD * lab.fabric.link("leaf1:host2").rate_bps)
    flows = [
        RawFlow(
            src,
            "host2",
            five_tuple(lab, src, "host2", sport=50_000),
            packets=PACKETS,
            payload_bytes=PAYLOAD,
            rate_bps=rate,
            dscp=dscp,
        )
        for src in ("host1", "host3")
    ]
    with lease.measuring(lab.name, "order of a queue"):
        report = send(lab, flows, within=WITHIN)
    received = [one.received for one in report]
    assert all(one and one.reordered == 0 for one in received), received
    arrived = [one.received_packets for one in report]
    assert min(arrived) >= SERVED * LEFT * PACKETS, arrived
    assert sum(arrived) >= SERVED * PACKETS / LOAD, arrived  # the rate, for as long as they sent
    assert wait_until("nothing is left", asic.counters, lambda now: nothing_left(now).held, within=WITHIN).held
