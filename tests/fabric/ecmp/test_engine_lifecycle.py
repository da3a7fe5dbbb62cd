"""HASH-6: the engine comes and goes, with profiles, with nodes, with asicd, and leaves the kernels as they were.

    host1, host2 ─ leaf1 ═ spine1/spine2 ═ leaf2 ─ host3, host4       a way is seen where it comes into a spine

The kernel obeys a packet's hash only under fib_multipath_hash_policy 1, so a switch has that policy while its engine is
on. It is somebody's setting: whoever takes the engine off gives it back, in both families. Hosts never have an engine.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from labs import index, lease
from labs.dataplane import place
from labs.dataplane.asic import SoftAsic
from labs.dataplane.load import load_profile
from labs.kernel import inside_netns
from labs.lab import Lab, open_lab
from labs.load_bridge import five_tuple, send, sending, soft_asic
from labs.pytest_plugin import unique_name
from labs.request import Request
from labs.status import status
from labs.testing import MBIT, SECOND, RunInvalid, wait_until
from topologies.ecmp import EcmpMode
from traffic.engines.rnic import RawFlow, RawReport

pytestmark = pytest.mark.lab("clos_2x4", profile="roce_default")

FLOWS = 200
CHANGES = 20
STARTED = 30 * SECOND
OBEYS = ("1", "1")  # IPv4, IPv6
FAMILIES = ("ipv4", "ipv6")
HASH = """
base: roce_default
SWITCH_TABLE:
  "*": {{ecmp_hash_seed: {seed}}}
RAILBED_ECMP:
  "{where}": {{mode: switch_hash}}
"""

Play = Callable[..., object]
Ways = Callable[..., Mapping[tuple[int, int], str]]
Flows = Callable[..., list[Any]]
Note = Callable[[object], None]
Policies = Mapping[str, tuple[str, ...]]


class Played(Protocol):
    """What tests/fabric/conftest.py says of a backend."""

    def namespaces(self, name: str) -> dict[str, int]: ...
    def traces(self, name: str) -> list[str]: ...


def profile(seed: int = 7, *, where: str = "*") -> str:
    return HASH.format(seed=seed, where=where)


def policies(lab: Lab, nodes: Iterable[str] | None = None) -> Policies:
    """The hash policies of nodes, by default of all. /proc/sys/net is the reading thread's own namespace's."""
    found = {}
    for name in nodes or lab.nodes:
        with inside_netns(lab.deployment.netns(name)):
            found[name] = tuple(
                Path(f"/proc/sys/net/{family}/fib_multipath_hash_policy").read_text().strip() for family in FAMILIES
            )
    return found


def switched_on(lab: Lab, before: Policies, *switches: str) -> Policies:
    """What policies are while the engines of these switches, by default of all, are on."""
    on = switches or tuple(node.name for node in lab.switches)
    return {**before, **dict.fromkeys(on, OBEYS)}


def predicted(lab: Lab, packets: list[Any], src: str) -> dict[tuple[int, int], str]:
    """By which spine's port each packet goes, by what the lab says of itself."""
    told = [replace(one.five_tuple, dscp=one.dscp, queue_pair=one.queue_pair) for one in packets]
    return {
        (one.five_tuple.sport, one.queue_pair): f"{path.hops[2].node}:{path.hops[2].in_port}"
        for one, path in zip(packets, lab.paths(told, [src] * len(told)), strict=True)
    }


def test_switches_obey_while_the_engine_is_on(lab: Lab, play: Play) -> None:
    """1 in both families at every switch, at no host; with the first profile again what it was.

    Control: the lab's own policy is another one, so a policy that nobody touches is seen.
    """
    before = policies(lab)
    assert OBEYS not in before.values()
    for seed in (7, 8):  # from one profile with an engine to the next one it stays
        play(profile(seed))
        assert policies(lab) == switched_on(lab, before)
    play("base: roce_default")
    assert policies(lab) == before


def test_only_where_the_profile_says_so(lab: Lab, play: Play) -> None:
    """A row for one leaf: the others keep what they have; the row moves on to another leaf, and the policy with it."""
    before = policies(lab)
    for leaf in ("leaf1", "leaf3"):
        play(profile(where=leaf))
        assert policies(lab) == switched_on(lab, before, leaf)
    play("base: roce_default")
    assert policies(lab) == before


@pytest.mark.parametrize("node", ["leaf1", "spine1"])
def test_a_restarted_switch_has_its_engine_back(
    lab: Lab, asic: SoftAsic, play: Play, ways: Ways, flows: Flows, node: str
) -> None:
    """200 flows go where the lab says, chosen by leaf1's engine, before and after; policies are back too.

    Control: under another seed, of 200 flows each goes the same way with probability 1/2: 100 ± 7.1, so 40 to 160 is
    8 standard deviations, and what was predicted for the first seed does not hold by chance.
    """
    own = policies(lab)
    play(profile())
    on, packets = policies(lab), flows("host1", "host3", FLOWS)
    assert ways("host1", "host3", packets, "spine1", "spine2") == predicted(lab, packets, "host1")
    lab.stop(node)
    assert lab.wait_routes_match(lab.fabric.without(node), within=STARTED)
    others = [name for name in lab.nodes if name != node]
    assert policies(lab, others) == {name: on[name] for name in others}
    lab.start(node)
    assert lab.wait_converged(STARTED)
    assert policies(lab) == on
    packets = flows("host1", "host3", FLOWS)
    model, start = predicted(lab, packets, "host1"), asic.counters()
    assert ways("host1", "host3", packets, "spine1", "spine2") == model
    chosen = (asic.counters() - start).ecmp
    assert sum(row.packets for row in chosen if row.node == "leaf1" and row.mode is EcmpMode.SWITCH_HASH) == FLOWS
    play(profile(8))
    seen = ways("host1", "host3", packets, "spine1", "spine2")
    assert 40 < sum(seen[flow] == model[flow] for flow in model) < 160
    play("base: roce_default")
    assert policies(lab) == own


def steady(lab: Lab) -> list[RawFlow]:
    """Eight lossless flows without an end from host1 and host2, 40 Mbit/s in all: no queue has to hold any back."""
    ends = (("host1", "host3"), ("host2", "host4"))
    return [
        RawFlow(src, dst, five_tuple(lab, src, dst, sport=50_000 + n), rate_bps=5 * MBIT, payload_bytes=512, dscp=3)
        for src, dst in ends
        for n in range(4)
    ]


def heard(report: RawReport) -> None:
    """Raises RunInvalid when a receiver was too slow for what reached its host: that is no loss of the fabric's."""
    for name, one in report.receivers.items():
        if one.overflow:
            raise RunInvalid(f"{name}: {one.overflow} packets found the receiver's socket full")


@pytest.mark.valid_of(3)
def test_no_packet_is_lost_by_a_change_of_profile(lab: Lab, asic: SoftAsic, play: Play, note: Note) -> None:
    """Twenty seeds while packets pass: none of a lossless class is lost, by the ends' account and by the switches'.

    What shows that flows did change their way under way: the model's ways differ from one seed to the next, eight flows
    keep theirs with probability 2⁻⁸; and packets went by both spines in every flow's time, by leaf1's engine.
    """
    flows, moved, start = steady(lab), 0, asic.counters()
    told = [replace(flow.five_tuple, dscp=3) for flow in flows]
    sources, last = [flow.src for flow in flows], None
    with sending(lab, flows) as run:
        for seed in range(CHANGES):
            play(profile(100 + seed))
            now = [path.hops[1].out_port for path in lab.paths(told, sources)]
            moved += sum(a != b for a, b in zip(now, last or now, strict=True))
            last = now
        report = run.stop()
    heard(report)
    sent = sum(one.sent.packets for one in report)
    counted = asic.counters() - start
    by_port = Counter({row.port: row.packets for row in counted.ecmp if row.node == "leaf1"})
    note(f"{sent} packets, {CHANGES} changes, {moved} moves of flows, by port {dict(by_port)}")
    assert moved > CHANGES
    assert min(by_port["eth1"], by_port["eth2"]) > sent / 10
    assert [(str(one.flow.five_tuple), one.lost_packets) for one in report if one.lost_packets] == []
    dropped = {
        f"{q.node}:{q.port} queue {q.queue}": count
        for q in counted.queues
        if q.queue == 3 and (count := q.tail_packets + q.wred_packets + q.ingress_packets + q.watchdog_packets)
    }
    assert dropped == {}


@pytest.fixture
def doomed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Lab, Policies]]:
    """A lab of a test's own with its engine on, and the policies it came up with: its soft ASIC does not survive."""
    backend = request.config.getoption("--lab-backend")
    opened = open_lab(
        Request("clos_2x4", backend=backend, name=unique_name("engine-killed"), owned=True, profile="roce_default")
    )
    try:
        before, path = policies(opened.lab), tmp_path / "hash.yaml"
        path.write_text(profile())
        with lease.changing(opened.lab.name, "its engine"):
            soft_asic(opened.lab).apply(load_profile(str(path)))
        assert policies(opened.lab) == switched_on(opened.lab, before)
        yield opened.lab, before
    finally:
        opened.lab.close()


def processes(lab: Lab) -> tuple[int, int]:
    """The worker, whose pid asicd tells, and the guard, which is its parent."""
    worker = int(soft_asic(lab).status()["pid"])
    return worker, int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])


def killed(lab: Lab, *, guard: bool) -> None:
    """SIGKILL to asicd's worker, and to its guard before that can do anything about it."""
    worker, parent = processes(lab)
    assert named_asicd(worker)
    assert named_asicd(parent)
    if guard:
        os.kill(parent, signal.SIGSTOP)
    os.kill(worker, signal.SIGKILL)
    if guard:
        os.kill(parent, signal.SIGKILL)
    gone = wait_until(
        "asicd is gone", lambda: [one for one in (worker, parent) if named_asicd(one)], lambda left: not left, within=5
    )
    assert gone.held, gone


def named_asicd(pid: int) -> bool:
    """False of a zombie, which has no words any more, and of whoever else has that pid since."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].endswith(b"asicd")
    except OSError:
        return False


def by_uplink(lab: Lab) -> dict[str, int]:
    """Flows by leaf1's uplinks, of 32 of which the lab says that all go by eth1: 100 packets each, all must arrive.

    FRR, BFD and LLDP put some four packets a second on a port: in the seconds that this takes, less than one flow's.
    """
    told = [replace(five_tuple(lab, "host1", "host3", sport=50_000 + number), dscp=3) for number in range(128)]
    paths = lab.paths(told, ["host1"] * len(told))
    ours = [flow for flow, path in zip(told, paths, strict=True) if path.hops[1].out_port == "eth1"][:32]
    assert len(ours) == 32
    before = lab.counters()
    report = send(
        lab,
        [RawFlow("host1", "host3", flow, packets=100, payload_bytes=128, rate_bps=MBIT, dscp=3) for flow in ours],
        within=30.0,
    )
    after = lab.counters()
    heard(report)
    assert sum(one.lost_packets for one in report) == 0
    ports = ("eth1", "eth2")
    return {port: (after["leaf1", port].tx_packets - before["leaf1", port].tx_packets) // 100 for port in ports}


def test_a_dead_worker_gives_the_policies_back(doomed: tuple[Lab, Policies]) -> None:
    """Its guard does: the kernels hash as before the engine, and flows go where the lab says that these send them."""
    lab, before = doomed
    assert by_uplink(lab) == {"eth1": 32, "eth2": 0}
    killed(lab, guard=False)
    assert status(lab)["state"] == "degraded"
    assert policies(lab) == before
    assert by_uplink(lab) == {"eth1": 32, "eth2": 0}


def test_after_both_are_dead_down_leaves_nothing(doomed: tuple[Lab, Policies], played: Played) -> None:
    """Nobody is left to give the policies back, nor the steering: they stay until the lab comes down.

    Packets pass, each flow one way: the one that the kernel's receive path hashes it to (docs/limits.md).
    """
    lab, before = doomed
    killed(lab, guard=True)
    assert status(lab)["state"] == "degraded"
    assert policies(lab) == switched_on(lab, before)
    assert (place.folder(lab.name) / "hash_policy").exists()
    assert sum(by_uplink(lab).values()) == 32
    lab.close()
    assert lab.name not in index.names()
    assert not place.folder(lab.name).exists()
    assert [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"/{lab.name}/" in line] == []
    assert played.namespaces(lab.name) == {}
    assert played.traces(lab.name) == []
