"""HASH-5: a fabric with a link at half rate, and all hosts talking to all others: who looks at queues fills every link.

    host1, host2 ─ leaf1 ═ spine1/spine2 ═ leaf2 … leaf4 ─ host3 … host8      all at 100 Mbit/s, leaf1 to spine1 at 50

Each of 56 pairs sends 1600 packets of 4162 bytes on the wire (53.3 Mbit), lossless. Leaf1 has 150 Mbit/s for the
12 flows of its two hosts to other leaves, as many come back: 12 · 53.3 / 150 = 4.26 s, where a host's own port takes
7 · 53.3 / 100 = 3.73 s: that is the ideal. A hash puts some half of the 12 on the half link: 6 · 53.3 / 50 = 6.4 s.

What stands before the half link when the last packet is sent comes late: switches see their own queues, and a leaf
learns of the one in spine1 when PFC holds its uplink back. So the buffers are small here, a 64th of what is free of
12 MiB for each ingress: three leaves' 190 kB take 190 000 · 8 · 3 / 50 Mbit/s = 0.09 s.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest

from labs import lease
from labs.lab import Lab
from labs.load_bridge import five_tuple, send
from labs.telemetry.host_watch import HostWatch
from labs.testing import MBIT, Verdict, completion
from topologies.fabric import Fabric
from traffic.engines.rnic import RawFlow

pytestmark = [pytest.mark.lab("clos_2x4", profile="pfc_only"), pytest.mark.valid_of(3)]

RATE, PACKETS, PAYLOAD = 100 * MBIT, 1600, 4096
WIRE_BITS = (PAYLOAD + 66) * 8
MODE = """
base: pfc_only
BUFFER_PROFILE:
  pg_lossless: {{dynamic_th: -6}}
SWITCH_TABLE:
  "*": {{ecmp_hash_seed: {seed}}}
RAILBED_ECMP:
  "*": {{mode: {mode}}}
"""

Play = Callable[..., object]
Note = Callable[[object], None]


def rates(fabric: Fabric) -> dict[str, int]:
    """100 Mbit/s everywhere, and half of it between leaf1 and spine1."""
    half = fabric.between("leaf1", "spine1")[0].name
    return {link.name: RATE // 2 if link.name == half else RATE for link in fabric.links}


def ideal_s(fabric: Fabric) -> float:
    """What the busiest host, or the busiest leaf's uplinks together, take for the bytes that cross them, either way."""
    speed, hosts = rates(fabric), fabric.hosts
    size = PACKETS * WIRE_BITS
    times = [(len(hosts) - 1) * size / RATE]
    for leaf in {fabric.neighbors(host)[0].name for host in hosts}:
        here = len(fabric.downlinks(leaf))
        capacity = sum(speed[link.name] for link in fabric.uplinks(leaf))
        times.append(here * (len(hosts) - here) * size / capacity)
    return max(times)


def all_to_all(lab: Lab) -> list[RawFlow]:
    hosts = [host.name for host in lab.fabric.hosts]
    return [
        RawFlow(
            src, dst, five_tuple(lab, src, dst, sport=50_000 + number), packets=PACKETS, payload_bytes=PAYLOAD, dscp=3
        )
        for number, (src, dst) in enumerate(permutations(hosts, 2))
    ]


def judged(lab: Lab) -> Verdict:
    with lease.measuring(lab.name, "all to all"), HostWatch() as watch:
        report = send(lab, all_to_all(lab), within=30.0)
        return completion(report, ideal_s=ideal_s(lab.fabric), host=watch.sample())


def test_adaptive_routing_uses_what_there_is(lab: Lab, play: Play, note: Note) -> None:
    """Packet by packet to the shortest queue: done within 1.15 times the ideal."""
    play(MODE.format(mode="adaptive, by: packet", seed=1), rates=rates(lab.fabric))
    verdict = judged(lab)
    note(verdict)
    assert verdict


def test_a_hash_does_not(lab: Lab, play: Play, note: Note) -> None:
    """Control: by five-tuple the same bytes take longer than that."""
    play(MODE.format(mode="switch_hash", seed=1), rates=rates(lab.fabric))
    verdict = judged(lab)
    note(verdict)
    assert not verdict
