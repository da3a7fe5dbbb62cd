"""QOS-3: whatever happens to packets, the switch knows of each one: limits, wires, cuts, changes, and the ASIC itself.

    host1 ──> leaf1 ═ queue ═╪═> host2       the queue fills; the wire loses or changes frames; the cable is cut; the
    host3 ──>                                profile is changed; the programs are taken off and put on again.

After every test the fixture `asic` judges the books of the whole lab: one fate a packet, and nothing left anywhere.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import sizeof
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from labs import kernel
from labs.dataplane import place
from labs.dataplane.abi import PortState
from labs.dataplane.asic import HOOK, SoftAsic, tell
from labs.dataplane.intent import BufferProfile
from labs.dataplane.load import load_profile
from labs.dataplane.maps import read_maps
from labs.dataplane.wires import Impairment
from labs.kinds import driver
from labs.lab import Lab, open_lab
from labs.load_bridge import five_tuple, send, sending
from labs.pytest_plugin import unique_name
from labs.request import Request
from labs.telemetry.asic_counters import AsicCounters, PortCounters
from labs.testing import KBIT, MBIT, SECOND, CapabilityMissing, RunInvalid, wait_until
from labs.verdicts.ledger import lost_in_kernel, nothing_left, packets_conserved
from traffic.engines.rnic import RawFlow, RawReport, read_log

pytestmark = pytest.mark.valid_of(3)  # what starves or disturbs a run is not the fabric's fault

WITHIN = 10 * SECOND
FRAME = 1024
PAYLOAD = FRAME - 42
# A frame takes 0.4 s: while two bursts come one leaves, but for the 9300 bytes that HTB lets an idle port send at once.
HELD = 20 * KBIT
START = 0.3  # seconds from "go": what is to be wrong by the first packet is so by then
FALSE_ALARM = 1e-6
LOST_PACKETS = 20_000
CYCLES = CHANGES = 50
# Every cut is the same race of packets and interface, at one end or the other, and then a wait for traffic to move.
CUTS = 50 if os.environ.get("RAILBED_NIGHTLY") else 16
PAIR = pytest.mark.lab("pair", profile="roce_default")


def flow(lab: Lab, src: str, dst: str, packets: int | None, *, dscp: int = 0, sport: int = 50_000) -> RawFlow:
    """Packets of FRAME bytes, as fast as the host's port takes them."""
    return RawFlow(src, dst, five_tuple(lab, src, dst, sport=sport), packets=packets, payload_bytes=PAYLOAD, dscp=dscp)


def full_at(free: int, limits: BufferProfile) -> int:
    """How many frames a queue holds that fills while `free` bytes of its pool are: k is the last one that fits.

    The frame that comes finds (k − 1) · FRAME bytes; what exceeds the reserved ones is taken from the pool, and may be
    up to 2^dynamic_th of what is free of it: k · FRAME − reserved ≤ 2^th · (free − ((k − 1) · FRAME − reserved)).
    """
    assert limits.dynamic_th is not None
    alpha = 2.0**limits.dynamic_th
    return int((limits.reserved * (1 + alpha) + alpha * (free + FRAME)) / (FRAME * (1 + alpha)))


@contextmanager
def rate_of(lab: Lab, asic: SoftAsic, host: str, rate_bps: int) -> Iterator[None]:
    """A host's link at another rate, for the length of a block."""
    link = lab.fabric.between("leaf1", host)[0]
    asic.apply(asic.profile, rates={link.name: rate_bps})
    try:
        yield
    finally:
        asic.apply(asic.profile, rates={link.name: link.rate_bps})


def filled(lab: Lab, asic: SoftAsic, packets: int, dscps: Mapping[int, int]) -> list[int]:
    """Fill queues of leaf1:eth2 with `packets` each, one after the other; `dscps` by queue. Returns frames in each."""
    start = asic.counters()
    flows = [
        replace(flow(lab, "host1", "host2", packets, dscp=dscp, sport=50_000 + queue), start_s=START + 0.2 * turn)
        for turn, (queue, dscp) in enumerate(dscps.items())
    ]
    with sending(lab, flows), rate_of(lab, asic, "host2", HELD):
        came = wait_until(
            f"{packets} packets came to each queue",
            asic.counters,
            lambda now: all(_came(start, now, queue) >= packets for queue in dscps),
            within=WITHIN,
        )
        assert came.held, came
    return [came.last.queue("leaf1", "eth2", queue).depth_packets for queue in dscps]


def _came(start: AsicCounters, now: AsicCounters, queue: int) -> int:
    one = (now - start).queue("leaf1", "eth2", queue)
    return one.left_packets + one.depth_packets + one.refused_packets


@PAIR
@pytest.mark.parametrize("alpha", [-3, -4])
def test_a_lossy_queue_drops_at_its_dynamic_limit(lab: Lab, asic: SoftAsic, alpha: int, tmp_path: Path) -> None:
    """Queue 1 holds what alpha × free allows, ± 2 frames; queue 0, filled after it, what is then left to it.

    Of a pool of S bytes a queue alone takes S / 9 at alpha 1/8, and the next one S · 8/9 / 9; at 1/16, S / 17 and so
    on. That another alpha moves the limit is the control of the first.
    """
    text = f"base: roce_default\nBUFFER_PROFILE:\n  egress_lossy: {{dynamic_th: {alpha}}}\n"
    (tmp_path / "alpha.yaml").write_text(text)
    asic.apply(load_profile(str(tmp_path / "alpha.yaml")))
    limits = asic.profile.buffer("egress_lossy")
    free = next(pool.size for pool in asic.plan.nodes[0].pools if pool.name == limits.pool.name)
    first = full_at(free, limits)
    second = full_at(free - (first * FRAME - limits.reserved), limits)
    before = asic.counters()
    found = filled(lab, asic, first + 300, {1: 0, 0: 8})
    assert found == pytest.approx([first, second], abs=2)
    queues = [(asic.counters() - before).queue("leaf1", "eth2", queue) for queue in (0, 1)]
    assert all(queue.tail_packets >= 250 for queue in queues)
    assert wait_until("all is sent", asic.counters, lambda now: nothing_left(now).held, within=WITHIN).held


def sent_with(
    lab: Lab, asic: SoftAsic, wrong: Impairment, flows: list[RawFlow], log: Path
) -> tuple[RawReport, list[int], PortCounters] | None:
    """Send with something wrong on the wire into host2: the report, the sequence numbers lost, what the wire counted.

    None when something else came by that wire: neighbour discovery takes a chance, or a turn, too.
    """
    count = sum(one.packets or 0 for one in flows)
    log.unlink(missing_ok=True)
    with sending(lab, [replace(one, start_s=START) for one in flows], {"host2": log}) as run:
        before = asic.counters()
        asic.impair("host2", "eth1", wrong)
        try:
            report = run.finish(WITHIN)
        finally:
            grown = asic.counters() - before
            asic.impair("host2", "eth1", Impairment())
    came = sum(grown.queue("leaf1", "eth2", queue).sent_packets for queue in range(8))
    if came != count or report.receivers["host2"].overflow:
        return None
    arrived = {packet.sequence for packet in read_log(log)}
    return report, sorted(set(range(count)) - arrived), grown.port("host2", "eth1")


def seen(
    lab: Lab, asic: SoftAsic, wrong: Impairment, flows: list[RawFlow], log: Path
) -> tuple[RawReport, list[int], PortCounters]:
    """The first of at most 8 runs in which nothing else came by."""
    for _ in range(8):
        found = sent_with(lab, asic, wrong, flows, log)
        if found is not None:
            return found
    raise RunInvalid("8 runs, and in each something else came by the wire")


@PAIR
def test_random_loss_is_binomial(lab: Lab, asic: SoftAsic, tmp_path: Path) -> None:
    """5 % of 20 000 packets: what is lost lies where a binomial count does but once in a million; the wire counted it.

    1000 ± 4.9 · √950 = 849 … 1151. Without the loss, which is the control, all arrive.
    """
    from scipy.special import bdtr, bdtrc

    one = flow(lab, "host1", "host2", LOST_PACKETS)
    report, lost, wire = seen(lab, asic, Impairment(lose=0.05), [one], tmp_path / "log")
    tails = bdtr(len(lost), LOST_PACKETS, 0.05), bdtrc(len(lost) - 1, LOST_PACKETS, 0.05)
    assert min(tails) > FALSE_ALARM / 2, f"{len(lost)} of {LOST_PACKETS}"
    assert report.results[0].lost_packets == len(lost) == wire.wire_lost
    assert seen(lab, asic, Impairment(), [one], tmp_path / "log")[1] == []


@PAIR
def test_every_nth_frame_is_lost(lab: Lab, asic: SoftAsic, tmp_path: Path) -> None:
    """1 of 7: exactly every seventh, wherever it begins."""
    _, lost, wire = seen(lab, asic, Impairment(every=7), [flow(lab, "host1", "host2", 7000)], tmp_path / "log")
    assert {later - earlier for earlier, later in pairwise(lost)} == {7}
    assert len(lost) == wire.wire_nth_dropped == 1000


@PAIR
def test_a_blackhole_swallows_one_flow_one_way(lab: Lab, asic: SoftAsic) -> None:
    """All of one five-tuple, nothing of another source port's, nothing of what comes back; and nothing afterwards."""
    hit = flow(lab, "host1", "host2", 200)
    flows = [hit, flow(lab, "host1", "host2", 200, sport=50_001), flow(lab, "host2", "host1", 200)]
    t = hit.five_tuple
    match: dict[str, str | int] = {"src": t.src, "dst": t.dst, "sport": t.sport, "dport": t.dport, "protocol": 17}
    before = asic.counters()
    asic.impair("host2", "eth1", Impairment(blackhole=match))
    try:
        lost = [one.lost_packets for one in send(lab, flows, within=WITHIN)]
    finally:
        asic.impair("host2", "eth1", Impairment())
    assert lost == [200, 0, 0]
    assert (asic.counters() - before).port("host2", "eth1").wire_blackholed == 200
    assert [one.lost_packets for one in send(lab, flows, within=WITHIN)] == [0, 0, 0]


@PAIR
def test_what_is_corrupted_arrives_corrupted(lab: Lab, asic: SoftAsic, tmp_path: Path) -> None:
    """A bit flipped in 10 % of 2000 packets: the wire loses none of them, and host2 finds as many wrong as it counted.

    host2 finds them in two places. Where the sender's kernel leaves the UDP checksum to a card, which a veth is not,
    nobody looks before rnic, which checks the payload but for its own 28 bytes of 982: of some 200 flips 6 fall there,
    and more than 25 do less than once in a million. Where the checksum is in the packet, host2's kernel drops it.
    """
    one = replace(flow(lab, "host1", "host2", 2000), pattern=True)
    refused = refused_by_checksum(lab)
    report, _, wire = seen(lab, asic, Impairment(corrupt=0.1), [one], tmp_path / "log")
    refused = refused_by_checksum(lab) - refused
    got = report.receivers["host2"]
    found = sum(one.corrupted for one in got.flows) + 2000 - got.packets - got.strangers
    assert got.packets + got.strangers + refused >= 2000
    assert found > 0
    assert 0 <= wire.wire_corrupted - found <= 25


def refused_by_checksum(lab: Lab) -> int:
    """UDP packets whose checksum host2 found wrong."""
    said = lab.node("host2").kernel("cat", "/proc/net/snmp").stdout
    names, values = (line.split() for line in said.splitlines() if line.startswith("Udp:"))
    return int(values[names.index("InCsumErrors")])


@PAIR
def test_which_packets_are_lost_follows_from_the_seed(lab: Lab, asic: SoftAsic, tmp_path: Path) -> None:
    """Twice 2000 packets at 5 %: each is lost or not as the port's own sequence (splitmix64), drawn in turn, has it.

    The port's seed derives from the lab's. By chance: (0.05² + 0.95²)^2000 = 1e-87. The sequence of another seed, which
    is the control, loses others.
    """
    number = asic.port("host2", "eth1").number
    for _ in range(2):
        for _ in range(8):
            state = read_maps(place.maps(lab.name), {"ports": sizeof(PortState)})["ports"]
            port = PortState.from_buffer_copy(state, number * sizeof(PortState))
            found = sent_with(lab, asic, Impairment(lose=0.05), [flow(lab, "host1", "host2", 2000)], tmp_path / "log")
            if found is not None:
                break
        else:
            raise RunInvalid("8 runs, and in each something else came by the wire")
        assert asic.port("host2", "eth1").seed == port.seed
        assert found[1] == drawn(port.seed, port.random, 2000, 0.05)
        assert found[1] != drawn(port.seed ^ 1, port.random, 2000, 0.05)


def drawn(seed: int, drawn_before: int, count: int, chance: float) -> list[int]:
    """Which of the next `count` draws of a port's sequence are below a chance."""
    lost = []
    for number in range(count):
        z = (seed + (drawn_before + number + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        if (z ^ z >> 31) >> 32 < round(chance * 2**32):
            lost.append(number)
    return lost


@contextmanager
def loaded(lab: Lab) -> Iterator[None]:
    """host1 and host2 send 160 of 100 Mbit/s to host3, half of it lossless: packets wait, and pauses are sent."""
    flows = [
        replace(
            flow(lab, src, "host3", None, dscp=dscp, sport=50_000 + dscp),
            duration_s=60 * SECOND,
            rate_bps=40 * MBIT,
            ecn=2,
        )
        for src in ("host1", "host2")
        for dscp in (0, 3)
    ]
    with sending(lab, flows):
        yield


def moves(asic: SoftAsic, *, more: int = 20) -> None:
    """Wait until leaf1 has sent host3 a few packets more."""

    def sent(now: AsicCounters) -> int:
        return sum(now.queue("leaf1", "eth3", queue).sent_packets for queue in (1, 3))

    start = sent(asic.counters())
    on = wait_until(
        "packets get through", lambda: sent(asic.counters()), lambda now: now >= start + more, within=WITHIN
    )
    assert on.held, on


@contextmanager
def as_it_was(lab: Lab, host: str) -> Iterator[None]:
    """Give a host back the routes and addresses that it loses with its interface."""
    node = lab.node(host)
    lines = [
        f"{family} route replace {line}"
        for family in ("-4", "-6")
        for line in node.kernel("ip", family, "route", "show", "default").stdout.splitlines()
    ]
    try:
        yield
    finally:
        for line in lines:
            node.kernel("ip", *line.split())


@pytest.mark.lab("star_3", profile="roce_default")
def test_no_depth_is_left_by_cuts(lab: Lab, asic: SoftAsic) -> None:
    """16 cuts of leaf1:host3 (at night 50) under load, at the one end and the other in turn.

    A queue that is purged, and a far end that refuses frames, take packets which no program sees. asicd finds them:
    what waits 50 ms without a packet coming or going is lost, and found within 0.2 s; allowed are 5 s. Then every level
    is 0 and the fates still sum, with the lost counted by what the kernel says of them.
    """
    ends = {
        node: (lab.deployment.netns(node), driver(lab.node(node).kind).netdev(lab.node(node), port))
        for node, port in (("leaf1", "eth3"), ("host3", "eth1"))
    }
    before = asic.counters()
    with as_it_was(lab, "host3"), loaded(lab):
        moves(asic)
        for cut in range(CUTS):
            netns, netdev = ends["leaf1" if cut % 2 else "host3"]
            with kernel.inside_netns(netns):
                kernel.set_link(netdev, up=False)
                kernel.set_link(netdev, up=True)
            moves(asic)
    emptied = wait_until("nothing is left", asic.counters, lambda now: nothing_left(now).held, within=5 * SECOND)
    assert nothing_left(emptied.last)
    assert packets_conserved(before, emptied.last)
    lost = lost_in_kernel(emptied.last - before)
    assert sum(count for why, count in lost.items() if why != "softnet") > 0, "no cut met a packet: nothing was tried"


@pytest.mark.lab("star_3", profile="roce_default")
def test_no_depth_is_left_by_changes_of_profile(lab: Lab, asic: SoftAsic) -> None:
    """50 changes under load among profiles that reserve, mark, limit and pause otherwise."""
    profiles = [load_profile(name) for name in ("lossy", "ecn_only", "pfc_only", "roce_default")]
    before = asic.counters()
    with loaded(lab):
        for change in range(CHANGES):
            moves(asic)
            asic.apply(profiles[change % len(profiles)])
        asic.apply(profiles[-1])
    emptied = wait_until("nothing is left", asic.counters, lambda now: nothing_left(now).held, within=5 * SECOND)
    assert nothing_left(emptied.last)
    assert packets_conserved(before, emptied.last)


def held_by(lab: Lab, asic: SoftAsic) -> Mapping[str, int]:
    """What the soft ASIC has in the kernel: what asicd holds open, by kind, its pins, and queues and filters."""
    pid = int(asic.status()["pid"])
    open_files = [str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()]
    found = Counter(name.partition("[")[0] for name in open_files if name.startswith(("anon_inode:", "socket:")))
    found["open files"] = len(open_files)
    found["threads"] = len(list(Path(f"/proc/{pid}/task").iterdir()))
    found["pins"] = sum(1 for _ in place.folder(lab.name).rglob("*"))
    for node in lab.nodes.values():
        found["queues"] += len(json.loads(node.kernel("tc", "-j", "qdisc", "show").stdout))
        for port in node.ports:
            netdev = driver(node.kind).netdev(node, port.name)
            for side in ("ingress", "egress"):
                found["filters"] += len(node.kernel("tc", "filter", "show", "dev", netdev, side).stdout.splitlines())
    return found


def no_more_than(before: Mapping[str, int], lab: Lab, asic: SoftAsic) -> None:
    """Wait until nothing is held beyond that: the connections that the commands came by close in their own time."""
    now = wait_until(
        "nothing is held that was not before",
        lambda: held_by(lab, asic),
        lambda now: all(count <= before.get(what, 0) for what, count in now.items()),
        within=WITHIN,
    )
    assert now.held, (str(now), before, now.last)


@pytest.fixture(params=["tcx", "cls_bpf"])
def hooked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A pair whose programs hang on their ports in this way."""
    monkeypatch.setenv(HOOK, request.param)
    backend = request.config.getoption("--lab-backend")
    wanted = Request("pair", backend=backend, name=unique_name("hook"), profile="roce_default", owned=True)
    lab = open_lab(wanted).lab
    try:
        assert lab.asic is not None
        if lab.asic.status()["hook"] != request.param:
            raise CapabilityMissing(request.param, "the kernel does not have it")
        yield lab
    finally:
        lab.close()


def test_attaching_again_and_again_leaves_nothing(hooked: Lab) -> None:
    """50 times off and on: no program, map, pin, queue, filter or thread more, and forwarding goes on all the while.

    A port whose queues are exchanged loses what is in them, and sends nothing for some 0.1 ms. So of pings 10 ms apart
    at most one is hit at each of the 104 turns. Measured: 2 (tcx) and 6 (cls_bpf) in all.
    """
    lab, asic = hooked, hooked.asic
    assert asic is not None
    dst = five_tuple(lab, "host1", "host2").dst
    ping = lab.node("host1").start("ping", "-c", "200", "-i", "0.01", "-W", "2", dst)
    try:
        tell(lab.name, ["detach"])
        bare = held_by(lab, asic)
        tell(lab.name, ["attach"])
        full = held_by(lab, asic)
        for _ in range(CYCLES):
            tell(lab.name, ["detach"])
            tell(lab.name, ["attach"])
        no_more_than(full, lab, asic)
        tell(lab.name, ["detach"])
        no_more_than(bare, lab, asic)
        tell(lab.name, ["attach"])
        said = ping.wait(WITHIN).stdout
    finally:
        ping.stop()
    sent, received = (int(number) for number in re.findall(r"(\d+) (?:packets transmitted|received)", said))
    assert sent == 200
    assert sent - received <= 2 * (CYCLES + 2), said
    assert bare["queues"] < full["queues"]
    report = send(lab, [flow(lab, "host1", "host2", 100)], within=WITHIN)
    assert report.results[0].lost_packets == 0
    assert wait_until("nothing is left", asic.counters, lambda now: nothing_left(now).held, within=WITHIN).held


@PAIR
@pytest.mark.parametrize("node", ["host2", "leaf1"])
def test_a_restarted_node_is_played_again(lab: Lab, asic: SoftAsic, node: str) -> None:
    """Stop a node and start it: every port is played again, and counters go on from where they were."""
    asic.apply(load_profile("roce_default"))
    one = flow(lab, "host1", "host2", 100, dscp=5)
    before = asic.counters()
    assert send(lab, [one], within=WITHIN).results[0].lost_packets == 0
    lab.stop(node)
    assert int(asic.status()["attached"]) == len(lab.nodes) - 1
    lab.start(node)
    assert asic.status()["attached"] == asic.status()["nodes"]
    assert lab.wait_converged()
    assert send(lab, [one], within=WITHIN).results[0].lost_packets == 0
    grown = asic.counters() - before
    assert grown.queue("leaf1", "eth2", 2).sent_packets == 200
    assert grown.queue("host1", "eth1", 2).sent_packets == 200
    assert grown.group("leaf1", "eth1", 0).packets >= 200
