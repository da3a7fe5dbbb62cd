"""QOS-1: a packet's DSCP, and nothing else of it, says which queue and which priority group (PG) it goes through.

    host1 ──> leaf1 ──> host2       3 packets of one DSCP at a time; then every counter of every queue of leaf1:eth2
              PG    queue           and of every PG of leaf1:eth1 has grown by 3 in one place, and by 0 in all others.

Exact, for each of the 64 DSCPs, over IPv4 and IPv6. What a switch sends itself (neighbour discovery) is counted apart,
and subtracted.

Its sender's socket does not say where it goes either: a connected socket gives its packets a hash of its own, which
crosses a veth, and a kernel that spreads flows over equal-cost paths by five-tuple would take it for the five-tuple's.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from labs import kernel
from labs.dataplane.asic import SoftAsic, tell
from labs.dataplane.load import load_profile
from labs.lab import Lab
from labs.load_bridge import five_tuple
from labs.telemetry.asic_counters import AsicCounters
from labs.telemetry.samples import PortSample
from labs.testing import SECOND, FiveTuple, path_prediction, wait_until
from traffic.engines.rc_settings import FIRST_SPORT

pytestmark = pytest.mark.valid_of(3)  # what starves or disturbs a run is not the fabric's fault

PACKETS = 3
FLOWS = 48
WITHIN = 5 * SECOND
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
Counts = dict[tuple[str, int], int]
Ports = Mapping[tuple[str, str], PortSample]

# roce_default, written down once more: DSCP -> queue, all others 1; queue -> PG, all others 0.
QUEUE_OF = {3: 3, 26: 3, 4: 4, 5: 2, 8: 0, 46: 5, 48: 6}
PG_OF = {3: 3, 4: 4}
OTHER_MAP = """
base: roce_default
DSCP_TO_TC_MAP:
  AZURE: {"3": 4, "10": 3, "26": 1}
"""
OTHER = {3: 4, 10: 3, 26: 1}


def expected(dscp: int, moved: Mapping[int, int] | None = None) -> Counts:
    """Where the packets of a DSCP have to be counted."""
    queue = (moved or {}).get(dscp, QUEUE_OF.get(dscp, 1))
    return {("queue", queue): PACKETS, ("pg", PG_OF.get(queue, 0)): PACKETS}


def seen(before: AsicCounters, after: AsicCounters) -> Counts:
    """Where they were."""
    grown = after - before
    found: Counts = {}
    for number in range(8):
        queue = grown.queue("leaf1", "eth2", number)
        found["queue", number] = queue.sent_packets - queue.own_packets
        found["pg", number] = grown.group("leaf1", "eth1", number).packets
    return {place: count for place, count in found.items() if count}


@contextmanager
def connected(lab: Lab, flow: FiveTuple, src: str = "host1", dst: str = "host2") -> Iterator[socket.socket]:
    """A socket of host1 that has this five-tuple; host2 has one that takes what it sends."""
    family = FAMILIES[6 if ":" in flow.src else 4]
    with ExitStack() as stack:
        with kernel.inside_netns(lab.deployment.netns(dst)):
            into = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            into.bind((flow.dst, flow.dport))
        with kernel.inside_netns(lab.deployment.netns(src)):
            out = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            out.bind((flow.src, flow.sport))
            out.connect((flow.dst, flow.dport))
        yield out


def classify(asic: SoftAsic, out: socket.socket, dscp: int) -> Counts:
    """Send packets of one DSCP and say where they were counted, once all have come by."""
    if out.family == socket.AF_INET:
        out.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
    else:
        out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, dscp << 2)
    before = asic.counters()
    for _ in range(PACKETS):
        out.send(b"classified by its DSCP")
    through = wait_until(
        f"{PACKETS} packets of DSCP {dscp} have left leaf1",
        asic.counters,
        lambda now: sum(count for (where, _), count in seen(before, now).items() if where == "queue") >= PACKETS,
        within=WITHIN,
        first=0.001,
    )
    return seen(before, through.last)


def wrongly_counted(lab: Lab, asic: SoftAsic, family: int) -> dict[int, Counts]:
    """The DSCPs that were not counted as roce_default's map has it, and where they were."""
    flow = five_tuple(lab, "host1", "host2", family=family)
    lab.node("host1").kernel("ping", "-c", "1", "-W", "2", flow.dst)  # a neighbour not known yet costs packets
    with connected(lab, flow) as out:
        found = {dscp: classify(asic, out, dscp) for dscp in range(64)}
    return {dscp: counts for dscp, counts in found.items() if counts != expected(dscp)}


@pytest.mark.lab("pair", profile="roce_default")
@pytest.mark.parametrize("family", [4, 6])
def test_every_dscp_has_its_queue_and_group(lab: Lab, asic: SoftAsic, family: int) -> None:
    asic.apply(load_profile("roce_default"))
    assert wrongly_counted(lab, asic, family) == {}


@pytest.mark.lab("pair", profile="roce_default")
@pytest.mark.parametrize("family", [4, 6])
def test_another_map_moves_the_counts(lab: Lab, asic: SoftAsic, family: int, tmp_path: Path) -> None:
    """Control: the three DSCPs that the other map has elsewhere are counted there, and no other one."""
    (tmp_path / "other.yaml").write_text(OTHER_MAP)
    asic.apply(load_profile(str(tmp_path / "other.yaml")))
    assert wrongly_counted(lab, asic, family) == {dscp: expected(dscp, OTHER) for dscp in OTHER}


@contextmanager
def by_five_tuple(lab: Lab) -> Iterator[None]:
    """Every switch with hash policy 1, which takes a hash that a packet brings along for its five-tuple's."""
    key = "net.ipv4.fib_multipath_hash_policy"
    was = {node.name: node.run("sysctl", "-n", key).stdout.strip() for node in lab.switches}
    try:
        for node in lab.switches:
            node.kernel("sysctl", "-qw", f"{key}=1")
        yield
    finally:
        for node in lab.switches:
            node.kernel("sysctl", "-qw", f"{key}={was[node.name]}")


def uplinks_taken(lab: Lab, flows: list[FiveTuple]) -> dict[FiveTuple, tuple[str, ...]]:
    """The uplink of leaf1 that each flow takes, told by its packets: 50 of them, where BGP sends a few a second."""
    ports = [link.end("leaf1").name for link in lab.fabric.uplinks("leaf1")]
    taken = {}
    for flow in flows:
        with connected(lab, flow, "host1", "host3") as out:
            before = lab.counters()
            for _ in range(50):
                out.send(b"a sender's hash")
            after = wait_until(
                "50 packets have left leaf1 by its uplinks",
                lab.counters,
                partial(_gone, before, ports),
                within=WITHIN,
            )
        taken[flow] = tuple(f"leaf1:{port}" for port in ports if grown(before, after.last, port) >= 50)
    return taken


def grown(before: Ports, after: Ports, port: str) -> int:
    """Packets that a port of leaf1 has sent."""
    return after["leaf1", port].tx_packets - before["leaf1", port].tx_packets


def _gone(before: Ports, ports: list[str], now: Ports) -> bool:
    return any(grown(before, now, port) >= 50 for port in ports)


def predicted(lab: Lab, flows: list[FiveTuple]) -> dict[FiveTuple, tuple[str, ...]]:
    """What leaf1's kernel says."""
    paths = lab.paths(flows, ["host1"] * len(flows))
    return {path.five_tuple: tuple(port for port in path.ports if port.startswith("leaf1:")) for path in paths}


@pytest.mark.lab("clos_frr", profile="roce_default")
def test_a_senders_hash_does_not_steer(lab: Lab, asic: SoftAsic) -> None:
    """48 connected flows take the predicted uplinks; with the programs off, which is the control, they do not.

    Every switch port forgets a packet's hash as it comes in. Without that each flow is right by chance, 1 of 2: that
    16 flows all are has a probability of 2⁻¹⁶, and that a second socket of the same flow goes where the first went too.
    """
    flows = [five_tuple(lab, "host1", "host3", sport=FIRST_SPORT + number) for number in range(FLOWS)]
    lab.node("host1").kernel("ping", "-c", "1", "-W", "2", flows[0].dst)
    with by_five_tuple(lab):
        wanted = predicted(lab, flows)
        assert path_prediction(wanted, uplinks_taken(lab, flows))
        tell(lab.name, ["detach"])
        try:
            without = uplinks_taken(lab, flows[:16])
        finally:
            tell(lab.name, ["attach"])
        assert asic.status()["attached"] == asic.status()["nodes"]
    assert not path_prediction({flow: wanted[flow] for flow in flows[:16]}, without).held
