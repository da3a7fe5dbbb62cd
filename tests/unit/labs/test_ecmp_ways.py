"""What a switch's hash engine does with a flow, and the path that comes of it: tables and kernels by script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from labs import ecmp_ways
from labs.channel import CommandResult
from labs.channels.scripted import ScriptedChannel
from labs.dataplane.load import load_profile
from labs.dataplane.plan import PortPlan, plan
from labs.ecmp_ways import Chosen, ways
from labs.errors import CapabilityMissing, NotReady
from labs.node import LiveNode
from labs.path import paths
from topologies import addressing
from topologies.ecmp import FIVE_TUPLE, EcmpBy, EcmpMode, EcmpRule, HashAlgorithm, HashField, Headers
from topologies.ecmp_model import Flowlet, Group, flowlet_place, group_of
from topologies.hashing import member
from topologies.load import load_fabric
from topologies.switch_hash import flow_hash
from traffic.flows import FiveTuple, Transport

FABRIC = load_fabric("clos_2x4")
PLAN = plan(load_profile("roce_default"), FABRIC)
PORTS = {(port.node, port.name): port for port in PLAN.ports}
FLOW = FiveTuple("10.0.0.1", "10.0.0.2", Transport.UDP, 1000, 4790, dscp=3)
NOW = 10**9


def far(node: str, port: str) -> str:
    return FABRIC.link_at(node, port).far(node).node


UPLINKS = [port.name for port in FABRIC.ports("leaf1") if far("leaf1", port.name).startswith("spine")]
IN = next(port.name for port in FABRIC.ports("leaf1") if far("leaf1", port.name).startswith("host"))
NUMBERS = [PORTS["leaf1", name].number for name in UPLINKS]
GROUP = group_of(NUMBERS, [1] * len(NUMBERS), [1] * len(NUMBERS))
SWITCH_HASH = EcmpRule(EcmpMode.SWITCH_HASH, seed=99)


@dataclass
class Tables:
    """The tables of leaf1; every other switch leaves all to its kernel. Rules are for DSCP 3."""

    rule_: EcmpRule = SWITCH_HASH
    group_: Group | None = GROUP
    table: dict[int, Flowlet] = field(default_factory=dict)

    def port(self, node: str, name: str) -> PortPlan:
        return PORTS[node, name]

    def port_name(self, number: int) -> str:
        return PLAN.ports[number - 1].name

    def rule(self, node: str, in_port: str, dscp: int) -> EcmpRule | None:
        assert (node, in_port) in PORTS
        return self.rule_ if node == "leaf1" and dscp == 3 else None

    def group(self, node_first: int, dst: str) -> Group | None:
        assert node_first == PORTS["leaf1", IN].first
        del dst
        return self.group_

    def flowlet(self, index: int) -> Flowlet:
        return self.table.get(index, Flowlet())


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecmp_ways, "monotonic_ns", lambda: NOW)


def mac(node: str, port: str) -> bytes:
    there = next(one for one in FABRIC.ports(node) if one.name == port)
    return bytes.fromhex(addressing.mac(FABRIC, there).replace(":", ""))


def headers(flow: FiveTuple = FLOW) -> Headers:
    """The frame as it comes into leaf1."""
    end = FABRIC.link_at("leaf1", IN).far("leaf1")
    return Headers(
        in_port=PORTS["leaf1", IN].local,
        src_mac=mac(end.node, end.name),
        dst_mac=mac("leaf1", IN),
        ethertype=0x0800,
        protocol=17,
        src=bytes((10, 0, 0, 1)),
        dst=bytes((10, 0, 0, 2)),
        sport=flow.sport,
        dport=flow.dport,
        queue_pair=flow.queue_pair,
    )


def asked(flow: FiveTuple = FLOW, **of: object) -> Chosen | None:
    return ways(Tables(**of), FABRIC, "leaf1", IN, flow)  # type: ignore[arg-type]


def flows(count: int = 64) -> list[FiveTuple]:
    return [replace(FLOW, sport=1000 + i) for i in range(count)]


@pytest.mark.parametrize(
    "rule",
    [
        SWITCH_HASH,
        replace(SWITCH_HASH, mode=EcmpMode.ROCE, fields=FIVE_TUPLE | HashField.DST_QP),
        replace(SWITCH_HASH, fields=FIVE_TUPLE | HashField.SRC_MAC | HashField.DST_MAC | HashField.IN_PORT),
        replace(SWITCH_HASH, algorithm=HashAlgorithm.CRC_CCITT, offset=7),
    ],
)
def test_the_hashed_member(rule: EcmpRule) -> None:
    found = [asked(flow, rule_=rule) for flow in flows()]
    wanted = [UPLINKS[flow_hash(rule, headers(flow)) % len(UPLINKS)] for flow in flows()]
    assert found == [Chosen((port,)) for port in wanted]
    assert set(wanted) == set(UPLINKS)
    other = [asked(flow, rule_=replace(rule, seed=1)) for flow in flows()]
    assert other != found  # control: the seed is read


def test_what_is_left_to_the_kernel() -> None:
    assert asked(replace(FLOW, dscp=4)) is None
    assert asked(group_=group_of(NUMBERS[:1], [1], [1])) is None
    assert asked(group_=Group(())) is None


def test_queue_pairs_of_roce() -> None:
    rule = replace(SWITCH_HASH, mode=EcmpMode.ROCE, fields=FIVE_TUPLE | HashField.DST_QP)
    pairs = [replace(FLOW, dport=4791, queue_pair=pair) for pair in range(64)]
    found = [asked(flow, rule_=rule) for flow in pairs]
    assert found == [Chosen((UPLINKS[flow_hash(rule, headers(flow)) % len(UPLINKS)],)) for flow in pairs]
    assert len(set(found)) == len(UPLINKS)
    assert len({asked(flow) for flow in pairs}) == 1  # control: the five-tuple alone
    with pytest.raises(CapabilityMissing, match=r"leaf1 chooses by DST_QP.*not said"):
        asked(replace(FLOW, dport=4791), rule_=rule)
    pinned = EcmpRule(EcmpMode.PINNED, by=EcmpBy.QUEUE_PAIR)
    assert asked(replace(FLOW, dport=4791, queue_pair=3), rule_=pinned) == Chosen((UPLINKS[3 % len(UPLINKS)],))
    with pytest.raises(CapabilityMissing, match="DST_QP"):
        asked(replace(FLOW, dport=4791), rule_=pinned)


def test_fields_that_nobody_knows() -> None:
    inner = replace(SWITCH_HASH, fields=FIVE_TUPLE | HashField.INNER_SRC_IP)
    with pytest.raises(CapabilityMissing, match="INNER_SRC_IP, of the frame inside VXLAN"):
        asked(replace(FLOW, dport=4789), rule_=inner)
    assert asked(rule_=inner) == asked()  # no VXLAN: nothing inside
    label = replace(SWITCH_HASH, fields=FIVE_TUPLE | HashField.IPV6_FLOW_LABEL)
    six = replace(FLOW, src="fd00::1", dst="fd00::2")
    with pytest.raises(CapabilityMissing, match="IPV6_FLOW_LABEL"):
        asked(six, rule_=label)
    assert asked(rule_=label) == asked()
    assert asked(six) is not None
    assert asked(six, rule_=replace(label, mode=EcmpMode.SPRAY)) == Chosen(tuple(UPLINKS))


@pytest.mark.parametrize(
    ("rule", "dport"),
    [
        (EcmpRule(EcmpMode.SPRAY), 4790),
        (EcmpRule(EcmpMode.SPRAY, by=EcmpBy.ROUND_ROBIN), 4790),
        (EcmpRule(EcmpMode.ADAPTIVE, by=EcmpBy.PACKET), 4790),
        (EcmpRule(EcmpMode.ADAPTIVE, by=EcmpBy.FLOWLET), 4790),
        (EcmpRule(EcmpMode.FLOWLET), 4790),
        (EcmpRule(EcmpMode.ADAPTIVE, by=EcmpBy.PACKET, marked=True), 4791),
        (EcmpRule(EcmpMode.SWITCH_HASH, algorithm=HashAlgorithm.RANDOM), 4790),
    ],
)
def test_modes_without_one_answer(rule: EcmpRule, dport: int) -> None:
    found = asked(replace(FLOW, dport=dport), rule_=rule)
    assert found is not None
    assert sorted(found.ports) == sorted(UPLINKS)


def test_packets_that_cannot_be_marked_go_by_their_hash() -> None:
    assert asked(rule_=replace(SWITCH_HASH, mode=EcmpMode.ADAPTIVE, by=EcmpBy.PACKET, marked=True)) == asked()


@pytest.mark.parametrize("mode", [EcmpMode.FLOWLET, EcmpMode.ADAPTIVE])
@pytest.mark.parametrize(("age_ns", "live"), [(500, True), (501, False)])
def test_a_live_flowlet_is_one_answer(mode: EcmpMode, age_ns: int, live: bool) -> None:
    rule = EcmpRule(mode, by=EcmpBy.FLOWLET, gap_ns=500)
    first, h = PORTS["leaf1", IN].first, flow_hash(rule, headers())
    table = {flowlet_place(h, first): Flowlet(NOW - age_ns, h ^ first, NUMBERS[-1], len(NUMBERS) - 1)}
    found = asked(rule_=rule, table=table)
    assert found == Chosen((UPLINKS[-1],) if live else tuple(UPLINKS))


def test_resilient_by_the_live_buckets() -> None:
    rule = replace(SWITCH_HASH, mode=EcmpMode.RESILIENT)
    moved = replace(GROUP, buckets=(1,) * 256)
    assert {asked(flow, rule_=rule, group_=moved) for flow in flows()} == {Chosen((UPLINKS[1],))}
    even = {asked(flow, rule_=rule) for flow in flows()}
    assert len(even) == len(UPLINKS)


def test_no_group_yet_says_the_hash() -> None:
    assert asked(group_=None) == Chosen((), flow_hash(SWITCH_HASH, headers()) | 1)
    rule = replace(SWITCH_HASH, algorithm=HashAlgorithm.RANDOM)
    assert asked(group_=None, rule_=rule) == Chosen((), None)


# --- paths ---


def nodes(leaf1: Mapping[str, object] | None = None, policy: str = "1\n") -> dict[str, LiveNode]:
    """Every kernel forwards by the first way it has; leaf1's lists its group, and answers `leaf1` when it is asked."""
    group = {"dst": "10.0.0.0/8", "nexthops": [{"dev": dev, "weight": 1, "flags": []} for dev in UPLINKS]}

    def answer(node: str, argv: tuple[str, ...], stdin: str) -> CommandResult:
        if node == "leaf1" and ("fibmatch" in argv or "show" in argv):
            return CommandResult(argv, 0, json.dumps([group]), "")
        if argv[0] == "sysctl":
            return CommandResult(argv, 0, policy, "")
        said = dict(leaf1 or {}) if node == "leaf1" else way(node)
        assert said, f"{node}: {argv} {stdin}"
        return CommandResult(argv, 0, "\n".join(json.dumps([said]) for _ in stdin.splitlines()), "")

    def way(node: str) -> dict[str, object]:
        to = {"spine": "leaf2", "leaf2": "host"}.get(node.rstrip("0123456789") if node != "leaf2" else node)
        if to is None:
            return {"dev": "eth1"} if node == SRC else {"type": "local"}
        return {"dev": next(port.name for port in FABRIC.ports(node) if far(node, port.name).startswith(to))}

    def live(name: str) -> LiveNode:
        node = FABRIC.node(name)
        channel = ScriptedChannel(name, lambda argv, stdin: answer(name, argv, stdin))
        return LiveNode(node, "host", FABRIC.ports(node), channel)

    return {node.name: live(node.name) for node in FABRIC.nodes}


SRC = far("leaf1", IN)


def test_the_engines_answer_counts() -> None:
    found = paths(FABRIC, nodes(), flows(), [SRC] * 64, Tables())
    for path in found:
        out = UPLINKS[flow_hash(SWITCH_HASH, headers(path.five_tuple)) % len(UPLINKS)]
        assert [hop.node for hop in path.hops] == [SRC, "leaf1", far("leaf1", out), "leaf2"]
        assert (path.hops[1].out_port, path.hops[1].also, path.broken) == (out, (), None)
        assert path.predicted == path.ports
    assert len({path.ports for path in found}) == len(UPLINKS)


def test_a_kernel_that_ignores_the_engine_is_found() -> None:
    """Somebody has set another policy: what the engine chooses does not count."""
    with pytest.raises(NotReady, match=r"net.ipv4.fib_multipath_hash_policy is 3: its kernel ignores the hash engine"):
        paths(FABRIC, nodes(policy="3\n"), flows(), [SRC] * 64, Tables())


def test_the_kernel_answers_for_the_other_classes() -> None:
    """Control for the above, and both kinds in one go."""
    kernel = {"dev": UPLINKS[1]}
    mixed = [replace(flow, dscp=3 * (i % 2)) for i, flow in enumerate(flows())]
    found = paths(FABRIC, nodes(kernel), mixed, [SRC] * 64, Tables())
    for path in found:
        by_engine = UPLINKS[flow_hash(SWITCH_HASH, headers(path.five_tuple)) % len(UPLINKS)]
        assert path.hops[1].out_port == (by_engine if path.five_tuple.dscp else UPLINKS[1])
    without = paths(FABRIC, nodes(kernel), mixed, [SRC] * 64)
    assert {path.hops[1].out_port for path in without} == {UPLINKS[1]}


def test_one_of_several() -> None:
    (path,) = paths(FABRIC, nodes(), [FLOW], [SRC], Tables(EcmpRule(EcmpMode.SPRAY)))
    assert (path.hops[1].ways, path.hops[1].also) == (tuple(UPLINKS), tuple(UPLINKS[1:]))
    assert [hop.node for hop in path.hops] == [SRC, "leaf1", far("leaf1", UPLINKS[0]), "leaf2"]
    assert path.predicted[1] == tuple(f"leaf1:{port}" for port in UPLINKS)
    assert f"leaf1:{UPLINKS[0]} (one of {', '.join(UPLINKS)})" in str(path)


def test_a_route_that_the_engine_has_not_yet() -> None:
    """The kernel takes a member of its own group by the hash that the engine sets; any, where that is random."""
    for path in paths(FABRIC, nodes(), flows(), [SRC] * 64, Tables(group_=None)):
        h = flow_hash(SWITCH_HASH, headers(path.five_tuple)) | 1
        assert path.hops[1].ways == (UPLINKS[member(h >> 1, [1] * len(UPLINKS))],)
    rule = replace(SWITCH_HASH, algorithm=HashAlgorithm.RANDOM)
    (path,) = paths(FABRIC, nodes(), [FLOW], [SRC], Tables(rule, None))
    assert path.hops[1].ways == tuple(UPLINKS)
