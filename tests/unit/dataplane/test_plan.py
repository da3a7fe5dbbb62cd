from __future__ import annotations

import pytest

from labs.dataplane.abi import LimitMode, PortKind, PortProfile, WatchdogAction
from labs.dataplane.load import load_profile, profile_of
from labs.dataplane.plan import LabPlan, PoolPlan, PortPlan, plan
from labs.dataplane.profile import Profile
from topologies.builders import leaf_spine
from topologies.errors import SpecError
from topologies.units import GBIT, MBIT, MIB
from topologies.yaml_source import parse

FABRIC = leaf_spine(spines=2, leaves=2, hosts_per_leaf=2)
DEFAULT = load_profile("roce_default")


def mine(text: str) -> Profile:
    return profile_of(parse(text.encode(), "mine.yaml"), name="mine")


@pytest.fixture(scope="module")
def planned() -> LabPlan:
    return plan(DEFAULT, FABRIC, seed=7)


def port(of: LabPlan, name: str) -> PortPlan:
    return next(port for port in of.ports if f"{port.node}:{port.name}" == name)


def told(of: LabPlan, name: str) -> PortProfile:
    return PortProfile.from_buffer_copy(of.profiles[port(of, name).profile])


def test_ports_are_numbered_node_by_node_from_one(planned: LabPlan) -> None:
    assert [one.number for one in planned.ports] == list(range(1, len(planned.ports) + 1))
    assert [node.name for node in planned.nodes] == [node.name for node in FABRIC.nodes]
    for node in planned.nodes:
        assert [one.name for one in node.ports] == [one.name for one in FABRIC.ports(node.name)]
        assert [one.local for one in node.ports] == list(range(len(node.ports)))
        assert {one.first for one in node.ports} == {node.ports[0].number}


def test_peers_are_the_ends_of_one_cable(planned: LabPlan) -> None:
    for one in planned.ports:
        far = planned.ports[one.peer - 1]
        assert (far.peer, far.link) == (one.number, one.link)
        assert str(FABRIC.link(one.link).far(one.node)) == f"{far.node}:{far.name}"


def test_the_matrix_has_a_row_for_every_port(planned: LabPlan) -> None:
    rows = [(one.matrix, 8 * len(FABRIC.ports(one.node))) for one in planned.ports]
    ends = [start + length for start, length in rows]
    assert [start for start, _ in rows] == [0, *ends[:-1]], "no gap, no overlap"
    assert planned.matrix_words == ends[-1]


def test_pools_hold_what_is_left_to_share(planned: LabPlan) -> None:
    # leaf1 has 4 ports: two lossless PGs with 18432 reserved each; six lossy queues with a frame of 9230 each.
    leaf = next(node for node in planned.nodes if node.name == "leaf1")
    assert [(pool.size, pool.headroom) for pool in leaf.pools] == [
        (12 * MIB - 4 * 2 * 18432, 160 * MIB),
        (172 * MIB, 0),
        (12 * MIB - 4 * 6 * 9230, 0),
    ]
    switches = [node for node in planned.nodes if node.pools]
    assert [node.ports[0].pools for node in switches] == [0, 4, 8, 12]
    assert sorted(planned.pools) == [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14]
    assert planned.pool_places == 16
    assert planned.pools[port(planned, "leaf2:eth1").pools] == PoolPlan(
        "ingress_pool", leaf.pools[0].direction, leaf.pools[0].size, 160 * MIB
    )
    assert all(one.pools == 0 for one in planned.ports if one.kind is PortKind.HOST)


def test_what_a_switch_port_is_told(planned: LabPlan) -> None:
    said = told(planned, "leaf1:eth1")
    assert [said.queue_of_tc[said.tc_of_dscp[dscp]] for dscp in (0, 8, 26, 46, 48)] == [1, 0, 3, 5, 6]
    assert (list(said.pg_of_tc[:8]), list(said.queue_of_priority)) == ([0, 0, 0, 3, 4, 0, 0, 7], list(range(8)))
    assert (said.pfc_enable, said.watchdog_queues) == (0b11000, 0b11000)
    assert said.watchdog_action == WatchdogAction.DROP
    assert (said.watchdog_detect_ms, said.watchdog_restore_ms, said.watchdog_poll_ms) == (200, 200, 200)
    assert said.quanta == 39062

    marked = said.queue[3]
    assert (marked.wred.min_bytes, marked.wred.max_bytes) == (102400, 409600)
    assert marked.wred.probability == 2**32 // 5
    assert (marked.wred.ecn, marked.wred.drop, marked.pausable) == (1, 1, 1)
    assert (marked.mode, marked.limit, marked.reserved, marked.pool) == (LimitMode.STATIC, 172 * MIB, 0, 1)
    plain = said.queue[1]
    assert (plain.wred.max_bytes, plain.pausable) == (0, 0)
    assert (plain.mode, plain.alpha, plain.reserved, plain.pool) == (LimitMode.DYNAMIC, -3, 9230, 2)

    lossless = said.pg[3]
    assert (lossless.lossless, lossless.priorities, lossless.headroom) == (1, 0b1000, 2_621_440)
    assert (lossless.xon, lossless.xon_offset, lossless.reserved) == (18432, 36864, 18432)
    assert (lossless.mode, lossless.alpha, lossless.pool) == (LimitMode.DYNAMIC, -3, 0)
    assert (said.pg[0].lossless, said.pg[0].priorities, said.pg[0].alpha) == (0, 0, 3)


def test_turns_and_precedence(planned: LabPlan) -> None:
    """STRICT 7 before STRICT 6 before all others, which share 14 : 15; the least turn is a whole frame."""
    said = told(planned, "leaf1:eth1")
    assert [queue.htb_prio for queue in said.queue] == [2, 2, 2, 2, 2, 2, 1, 0]
    assert [queue.quantum for queue in said.queue][:6] == [9230, 9230, 9230, 9230 * 15 // 14, 9230 * 15 // 14, 9230]
    small = PortProfile.from_buffer_copy(plan(DEFAULT, FABRIC, mtu=1500).profiles[0])
    assert small.queue[0].quantum == 1514


def test_what_a_host_port_is_told(planned: LabPlan) -> None:
    """A NIC classifies and is paused like a switch port; it has no groups, no marks and no limit of its own."""
    said = told(planned, "host1:eth1")
    assert port(planned, "host1:eth1").kind is PortKind.HOST
    assert (said.pfc_enable, said.watchdog_queues, said.quanta) == (0b11000, 0, 39062)
    assert [queue.pausable for queue in said.queue] == [0, 0, 0, 1, 1, 0, 0, 0]
    assert {queue.reserved for queue in said.queue} == {2**32 - 1}
    assert not any(queue.wred.max_bytes for queue in said.queue)
    assert bytes(said.pg) == bytes(len(bytes(said.pg)))
    assert list(said.tc_of_dscp) == list(told(planned, "leaf1:eth1").tc_of_dscp)


def test_equal_ports_share_a_profile_and_slower_ones_do_not() -> None:
    assert len(plan(DEFAULT, FABRIC).profiles) == 2, "switch ports, and hosts"
    link = FABRIC.links_of("leaf1")[0]
    slower = plan(DEFAULT, FABRIC, rates={link.name: 100 * MBIT})
    ends = [told(slower, str(end)) for end in link.ends]
    assert [end.quanta for end in ends] == [3906, 3906]
    assert {one.rate_bps for one in slower.ports} == {GBIT, 100 * MBIT}


def test_seeds_are_a_ports_own(planned: LabPlan) -> None:
    seeds = {one.seed for one in planned.ports}
    assert len(seeds) == len(planned.ports)
    assert all(0 <= seed < 2**64 for seed in seeds)
    larger = plan(DEFAULT, leaf_spine(spines=2, leaves=4, hosts_per_leaf=2), seed=7)
    assert port(larger, "leaf2:eth1").seed == port(planned, "leaf2:eth1").seed
    assert plan(DEFAULT, FABRIC, seed=8).ports[0].seed != planned.ports[0].seed


def test_a_profile_without_buffers_gets_pools_and_sonics_lossy_limits() -> None:
    bare = plan(mine("{}"), FABRIC)
    leaf = next(node for node in bare.nodes if node.name == "leaf1")
    assert [(pool.name, pool.size, pool.headroom) for pool in leaf.pools] == [
        ("ingress (default)", 12 * MIB, 0),
        ("egress (default)", 12 * MIB, 0),
    ]
    said = told(bare, "leaf1:eth1")
    assert [(queue.pool, queue.mode, queue.alpha) for queue in said.queue] == [(1, LimitMode.DYNAMIC, 3)] * 8
    assert [(pg.pool, pg.mode, pg.alpha) for pg in said.pg] == [(0, LimitMode.DYNAMIC, 3)] * 8


def test_headroom_of_its_own_comes_off_the_pool() -> None:
    text = """
BUFFER_POOL: {ing: {type: ingress, mode: dynamic, size: 1000000}}
BUFFER_PROFILE: {ll: {pool: ing, size: 30000, dynamic_th: 0, xoff: 20000}}
BUFFER_PG: {"*|3": {profile: ll}}
PORT_QOS_MAP: {"*": {pfc_enable: "3"}}
"""
    leaf = next(node for node in plan(mine(text), FABRIC).nodes if node.name == "leaf1")
    assert (leaf.pools[0].size, leaf.pools[0].headroom) == (1_000_000 - 4 * 30_000, 0)
    with pytest.raises(SpecError, match=r"BUFFER_POOL.ing.size: found 100000 bytes, but the [24] ports of "):
        plan(mine(text.replace("1000000", "100000")), FABRIC)


def test_limits_of_a_scheduler() -> None:
    shaped = "SCHEDULER: {s: {type: DWRR, cir: 0, pir: 12500000}}\nQUEUE: {'*|1': {scheduler: s}}"
    said = told(plan(mine(shaped), FABRIC), "leaf1:eth1")
    assert (said.queue[1].ceil_bps, said.queue[0].ceil_bps) == (100 * MBIT, 0)
    link = FABRIC.links_of("leaf1")[0]
    slow = plan(mine(shaped), FABRIC, rates={link.name: 100 * MBIT})
    assert told(slow, str(link.end("leaf1"))).queue[1].ceil_bps == 0, "no less than the port itself"


def test_probabilities_at_their_ends() -> None:
    text = """
WRED_PROFILE:
  w: {ecn: ecn_all, green_min_threshold: 0, green_max_threshold: 9, green_drop_probability: %d}
QUEUE: {"*|1": {wred_profile: w}}
"""
    for percent, expected in ((0, 0), (100, 2**32), (50, 2**31)):
        said = plan(mine(text % percent), FABRIC)
        assert told(said, "leaf1:eth1").queue[1].wred.probability == expected


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("leaf9:eth1", r"PORT_QOS_MAP.leaf9:eth1: found no node called leaf9 \(did you mean leaf"),
        ("leaf1:eth77", r"PORT_QOS_MAP.leaf1:eth77: found no port eth77 of leaf1"),
        ("Ethernet0", r"PORT_QOS_MAP.Ethernet0: found no port Ethernet0 of any node"),
    ],
)
def test_rows_for_ports_that_do_not_exist(key: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        plan(mine(f'PORT_QOS_MAP: {{"{key}": {{}}}}'), FABRIC)


def test_a_pause_that_looks_like_a_storm_is_refused() -> None:
    longest = mine("{base: roce_default, RAILBED_PFC: {GLOBAL: {quanta: 65535}}}")
    assert told(plan(longest, FABRIC), "leaf1:eth1").quanta == 65535
    with pytest.raises(SpecError, match=r"RAILBED_PFC.GLOBAL.quanta: .* lasts 336 ms at 100Mbit"):
        plan(longest, FABRIC, rates={FABRIC.links[0].name: 100 * MBIT})
