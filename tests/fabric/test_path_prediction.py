"""PATH-1: `lab.paths` names the ports a flow takes, hop by hop; the switches' own counters prove it.

    host1 ─ leaf1 ═ spine1/spine2 ═ leaf2 ─ host3        16 flows a round, two from each host to the host two
    host2 ─ leaf1                   leaf2 ─ host4        leaves on; 14 rounds = 224 flows

In a round the hosts of a leaf send flows of 150 and 600, and of 300 and 1200 packets, so a port's count tells which of
the four came through it (a sum of some of these is no other's), as long as other traffic through it stays below 100
packets: a round takes a second, in which BGP, BFD (3.3/s), LLDP and neighbour discovery send a dozen. Rounds alternate
between connected and unconnected sockets (a connected socket's own hash crosses a veth, and hash policy 1 would obey
it) and between IPv4 and IPv6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, combinations

import pytest

from labs.lab import Lab
from labs.telemetry.samples import PortSample
from labs.testing import FiveTuple, Transport, path_prediction
from topologies import addressing
from traffic.engines.packet_burst import Burst, send_bursts

ROUNDS = 14
PACKETS = ((150, 600), (300, 1200))  # of the flows of a leaf's first host, and of its second
BACKGROUND = 100
Ports = Mapping[FiveTuple, tuple[str, ...]]


def round_of_flows(lab: Lab, turn: int) -> list[Burst]:
    """Two flows from every host to the host of the same place two leaves on."""
    hosts = [host.name for host in lab.fabric.hosts]
    family = 4 if turn % 4 < 2 else 6
    made = []
    for place, src in enumerate(hosts):
        dst = hosts[(place + 4) % len(hosts)]
        ends = [str(addressing.host_address(lab.fabric, host, 1, family)) for host in (src, dst)]
        for number, packets in enumerate(PACKETS[place % 2]):
            port = 20_000 + 97 * turn + 2 * place + number
            made.append(Burst(src, dst, FiveTuple(ends[0], ends[1], Transport.UDP, port, 4791), packets))
    return made


def send_and_watch(lab: Lab, bursts: list[Burst], *, connected: bool) -> Ports:
    """The switch ports whose counters show each flow, in no order that matters: sorted."""
    before = lab.counters()
    report = send_bursts(bursts, lab.nodes, connected=connected)
    after = lab.counters()
    assert report.complete, "packets were lost on an idle fabric"
    through = {key: carried(before[key], after[key]) for key in after if lab.fabric.node(key[0]).is_switch}
    observed: dict[FiveTuple, tuple[str, ...]] = {}
    for burst in bursts:
        legs = legs_of(lab, burst)
        ports = [key for key in legs if burst.packets in through[key]]
        observed[burst.five_tuple] = tuple(sorted(f"{node}:{port}" for node, port in ports))
    return observed


def legs_of(lab: Lab, burst: Burst) -> list[tuple[str, str]]:
    """Every switch port that this flow could leave by, and no other flow of its round with as many packets could."""
    near, far = (lab.fabric.neighbors(host)[0].name for host in (burst.src, burst.dst))
    ups = [(near, link.end(near).name) for link in lab.fabric.uplinks(near)]
    downs = [(link.far(far).node, link.far(far).name) for link in lab.fabric.uplinks(far)]
    last = [(far, lab.fabric.between(far, burst.dst)[0].end(far).name)]
    return ups + downs + last


def carried(before: PortSample, after: PortSample) -> frozenset[int]:
    """Which of the four packet counts went out of a port. Raises AssertionError for a count that no sum of them is."""
    sent = after.tx_packets - before.tx_packets
    counts = [packets for some in PACKETS for packets in some]
    for parts in chain.from_iterable(combinations(counts, many) for many in range(len(counts) + 1)):
        if 0 <= sent - sum(parts) < BACKGROUND:
            return frozenset(parts)
    raise AssertionError(f"{after.node}:{after.port} sent {sent} packets: not a sum of {PACKETS}")


def predict(lab: Lab, bursts: list[Burst]) -> Ports:
    """The switch ports that the kernels say each flow leaves by."""
    found = lab.paths([burst.five_tuple for burst in bursts], [burst.src for burst in bursts])
    assert [path.end for path in found] == [burst.dst for burst in bursts]
    return {path.five_tuple: tuple(sorted(path.ports[1:])) for path in found}


@pytest.mark.lab("clos_frr")
def test_every_flow_takes_the_predicted_path(lab: Lab) -> None:
    """224 flows, none off its predicted path."""
    predicted: dict[FiveTuple, tuple[str, ...]] = {}
    observed: dict[FiveTuple, tuple[str, ...]] = {}
    for turn in range(ROUNDS):
        bursts = round_of_flows(lab, turn)
        predicted |= predict(lab, bursts)
        observed |= send_and_watch(lab, bursts, connected=turn % 2 == 0)
    assert len(predicted) >= 200
    assert path_prediction(predicted, observed)


@pytest.mark.lab("clos_frr")
def test_another_seed_breaks_the_prediction(lab: Lab) -> None:
    """Control: once the leaves hash with another seed, predictions made before are wrong, and the verdict says so.

    16 flows all keep their member by chance with probability 2⁻¹⁶ = 1.5e-5.
    """
    rounds = [round_of_flows(lab, turn) for turn in (100, 104)]
    predicted = {flow: ports for bursts in rounds for flow, ports in predict(lab, bursts).items()}
    with other_seed(lab):
        observed = {f: p for bursts in rounds for f, p in send_and_watch(lab, bursts, connected=True).items()}
    verdict = path_prediction(predicted, observed)
    assert not verdict


@contextmanager
def other_seed(lab: Lab) -> Iterator[None]:
    """Every leaf with another hash seed, for the length of a block."""
    key = "net.ipv4.fib_multipath_hash_seed"
    leaves = [node for node in lab.switches if lab.fabric.uplinks(node.name)]
    before = {node.name: int(node.run("sysctl", "-n", key).stdout) for node in leaves}
    for node in leaves:
        node.kernel("sysctl", "-qw", f"{key}={before[node.name] ^ 0x5A5A5A5A}")
    try:
        yield
    finally:
        for node in leaves:
            node.kernel("sysctl", "-qw", f"{key}={before[node.name]}")
