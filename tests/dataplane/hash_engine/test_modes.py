"""What the modes remember, and what the engine leaves alone; each by hand, not by the model."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from ctypes import c_uint32
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from scipy.special import chdtrc

from labs.dataplane import abi
from topologies.ecmp import EcmpBy, EcmpMode, EcmpRule
from topologies.ecmp_model import Flowlet, Group, Member, flowlet_place
from topologies.resilient import fresh_buckets

if TYPE_CHECKING:
    from tests.dataplane.conftest import Bench
    from tests.dataplane.hash_engine.conftest import Engine

IN, FIRST = 1, 1
TO = bytes([10, 0])  # of `udp`'s frames
HOUR = 3600 * 10**9
UNTOUCHED = [0, 0, 0]
FLOWLET = EcmpRule(EcmpMode.FLOWLET, gap_ns=HOUR)
HASH = EcmpRule(EcmpMode.SWITCH_HASH)


def group(*ports: int, number: int = 1) -> Group:
    members = tuple(Member(port, 2**32 - 1, 2 * port + 1) for port in ports)
    return Group(members, fresh_buckets(len(ports)) if ports else (), number)


def port_of(said: list[int]) -> int:
    """A member's hash says its port, in the groups of this file."""
    assert said[0]
    return said[2] >> 1


def now() -> int:
    """bpf_ktime_get_ns's clock."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


# --- flowlets


def test_a_flowlet_stays(engine: Engine, udp: Callable[..., bytes]) -> None:
    engine.set_rule(FLOWLET)
    engine.route(TO, group(2, 3, 4))
    frame = udp()
    ports = {port_of(engine.run(frame, IN)) for _ in range(100)}
    assert len(ports) == 1
    assert engine.counted() == {(*ports, EcmpMode.FLOWLET): (100, 100 * len(frame), 1, 0)}
    assert engine.bench.ports[IN].random == 1


@pytest.mark.parametrize(("silent_ns", "goes_on"), [(HOUR - 60 * 10**9, True), (HOUR + 1, False)])
def test_silence_ends_a_flowlet(engine: Engine, udp: Callable[..., bytes], silent_ns: int, goes_on: bool) -> None:
    """A new one draws anew: it may come to where it was, and is a repick only when it does not."""
    engine.set_rule(FLOWLET)
    engine.route(TO, group(2, 3, 4))
    frame = udp()
    said = engine.run(frame, IN)
    at, taken = flowlet_place(said[1], FIRST), [port_of(said)]
    for _ in range(30):
        entry = engine.flowlet(at)
        assert (entry.tag, entry.port, entry.place) == (said[1] ^ FIRST, taken[-1], taken[-1] - 2)
        engine.set_flowlet(at, replace(entry, seen_ns=now() - silent_ns))
        taken.append(port_of(engine.run(frame, IN)))
        assert now() - engine.flowlet(at).seen_ns < silent_ns, "noted as seen just now"
    counts = engine.counted().values()
    repicks = sum(before != after for before, after in pairwise(taken))
    assert sum(packets for packets, *_ in counts) == 31
    assert (sum(began for *_, began, _ in counts), sum(moved for *_, moved in counts)) == (
        (1, 0) if goes_on else (31, repicks)
    )
    assert (len(set(taken)) == 1) == goes_on


def test_a_member_that_left(engine: Engine, udp: Callable[..., bytes]) -> None:
    """Its flows begin anew although they were not silent; those of members that stay in their place do not notice."""
    engine.set_rule(FLOWLET)
    frames = [udp(sport=sport) for sport in range(1000, 1100)]
    engine.route(TO, group(2, 3, 4))
    before = [port_of(engine.run(frame, IN)) for frame in frames]
    engine.route(TO, group(2, 3))
    after = [port_of(engine.run(frame, IN)) for frame in frames]
    assert set(before) == {2, 3, 4}
    assert set(after) == {2, 3}
    assert all(was == now_on for was, now_on in zip(before, after, strict=True) if was != 4)
    assert sum(repicks for *_, repicks in engine.counted().values()) == before.count(4)


def test_a_member_in_anothers_place(engine: Engine, udp: Callable[..., bytes]) -> None:
    """A place is no member: what stands there now has another port, and gets nobody's flowlet by mistake."""
    engine.set_rule(FLOWLET)
    engine.route(TO, group(2, 3))
    frame = udp()
    engine.run(frame, IN)
    engine.route(TO, group(4, 5))
    assert port_of(engine.run(frame, IN)) in {4, 5}
    assert sum(repicks for *_, repicks in engine.counted().values()) == 1


def test_two_flows_in_one_place_take_it_from_each_other(engine: Engine, udp: Callable[..., bytes]) -> None:
    engine.set_rule(FLOWLET)
    engine.route(TO, group(2, 3, 4))
    met: dict[int, bytes] = {}
    for sport in range(65536):  # two of some 300 share one of 65536 places, as birthdays do
        frame = udp(sport=sport)
        at = flowlet_place(engine.run(frame, IN)[1], FIRST)
        if at in met:
            break
        met[at] = frame
    else:
        pytest.fail("no two flows met")
    before = engine.counted()
    for _ in range(10):
        for one in (met[at], frame):
            tag = engine.run(one, IN)[1] ^ FIRST
            assert engine.flowlet(at).tag == tag
    began = sum(counts[2] for counts in engine.counted().values()) - sum(counts[2] for counts in before.values())
    assert began == 20
    assert sum(repicks for *_, repicks in engine.counted().values()) == 0, "nobody's flow is another's"


def test_a_flow_has_a_flowlet_at_every_switch(engine: Engine, udp: Callable[..., bytes]) -> None:
    engine.set_rule(FLOWLET)
    for first in (1, 7):
        engine.route(TO, group(2, 3, 4), first)
    said = engine.run(udp(), 1), engine.run(udp(), 7)
    assert said[0][1] == said[1][1]
    assert [engine.flowlet(flowlet_place(said[0][1], first)).tag ^ said[0][1] for first in (1, 7)] == [1, 7]


def test_an_entry_that_is_out_of_range(engine: Engine, udp: Callable[..., bytes]) -> None:
    """What was noted of a larger group does no harm: a place that is out of range is nobody's."""
    engine.set_rule(FLOWLET)
    engine.route(TO, group(2, 3))
    said = engine.run(udp(), IN)
    at = flowlet_place(said[1], FIRST)
    for place in (2, 63):
        engine.route(TO, group(2, 3, 4), count=2)
        engine.set_flowlet(at, Flowlet(now(), said[1] ^ FIRST, 4, place))
        assert port_of(engine.run(udp(), IN)) in {2, 3}
    assert engine.flowlet(at).place < 2


# --- turns, depths, buckets


@pytest.mark.parametrize("members", [2, 3, 5])
def test_round_robin_is_exact(engine: Engine, udp: Callable[..., bytes], members: int) -> None:
    """After any number of packets on one processor, no member has two more than another; each port goes by itself."""
    engine.set_rule(replace(HASH, mode=EcmpMode.SPRAY, by=EcmpBy.ROUND_ROBIN))
    engine.route(TO, group(*range(2, 2 + members)))
    frame = udp()
    for port in (1, 2):
        taken: Counter[int] = Counter(dict.fromkeys(range(2, 2 + members), 0))
        for _ in range(200):
            taken[port_of(engine.run(frame, port))] += 1
            assert max(taken.values()) - min(taken.values()) <= 1
    assert sum(packets for packets, *_ in engine.counted().values()) == 400


def test_round_robin_on_every_processor(engine: Engine, udp: Callable[..., bytes]) -> None:
    """Each processor and ingress port has a turn of its own: so many packets is the most that members differ by."""
    engine.set_rule(replace(HASH, mode=EcmpMode.SPRAY, by=EcmpBy.ROUND_ROBIN))
    engine.route(TO, group(2, 3, 4))
    ports, processors = (1, 2), range(os.cpu_count() or 1)
    usable = [one for one in processors if runs_on(one)]
    for processor in usable:
        os.sched_setaffinity(0, {processor})
        for port in ports:
            engine.bench.run(engine.program, udp(), port, repeat=3 * 100 + 1)
    taken = [packets for packets, *_ in engine.counted().values()]
    assert sum(taken) == 301 * len(ports) * len(usable)
    assert max(taken) - min(taken) == len(ports) * len(usable)


def runs_on(processor: int) -> bool:
    """Whether this process may be on a processor at all."""
    try:
        os.sched_setaffinity(0, {processor})
    except OSError:
        return False
    return True


EACH = 160_000
MEMBERS_EVEN = 0.001  # χ²'s p-value


def evenness(taken: Sequence[int]) -> tuple[float, float]:
    """How far the worst is from its part, as a share of that; and χ²'s p-value."""
    part = sum(taken) / len(taken)
    worst = max(abs(one - part) for one in taken) / part
    return worst, float(chdtrc(len(taken) - 1, sum((one - part) ** 2 for one in taken) / part))


@pytest.mark.parametrize("members", [2, 4, 7])
def test_random_spray_is_even(engine: Engine, udp: Callable[..., bytes], members: int) -> None:
    """160 000 packets a member, each takes its part within 1 %: four standard deviations, 400 at most, are that."""
    engine.set_rule(replace(HASH, mode=EcmpMode.SPRAY))
    engine.route(TO, group(*range(2, 2 + members)))
    engine.bench.run(engine.program, udp(), IN, repeat=EACH * members)
    taken = [packets for packets, *_ in engine.counted().values()]
    assert (len(taken), sum(taken)) == (members, EACH * members)
    worst, p = evenness(taken)
    assert worst < 0.01
    assert p > MEMBERS_EVEN


def test_an_uneven_spray_is_seen(engine: Engine, udp: Callable[..., bytes]) -> None:
    """Control: a port that stands in its group once more than the others do gets more than its part."""
    engine.set_rule(replace(HASH, mode=EcmpMode.SPRAY))
    engine.route(TO, group(*(port for port in range(2, 5) for _ in range(20)), 2))
    engine.bench.run(engine.program, udp(), IN, repeat=3 * EACH)
    worst, p = evenness([packets for packets, *_ in engine.counted().values()])
    assert worst > 0.01
    assert p < MEMBERS_EVEN


def test_equal_queues_take_turns_and_a_longer_one_none(engine: Engine, udp: Callable[..., bytes]) -> None:
    engine.set_rule(EcmpRule(EcmpMode.ADAPTIVE, by=EcmpBy.PACKET, quantum=1000))
    engine.route(TO, group(2, 3, 4))

    def taken(**depths: int) -> Counter[int]:
        for port in (2, 3, 4):
            engine.bench.queue(port, 3).depth = (1 << abi.PACKED_SHIFT) + depths[f"port{port}"]
            engine.bench.queue(port, 5).depth = (1 << abi.PACKED_SHIFT) + 10**6 * port
        return Counter(port_of(engine.run(udp(3), IN)) for _ in range(30))

    assert taken(port2=0, port3=999, port4=-500) == {2: 10, 3: 10, 4: 10}
    some = taken(port2=0, port3=1000, port4=999)
    assert some.keys() == {2, 4}, "the turn of the one that is longer goes to the next"
    assert some[4] == 20
    assert taken(port2=3000, port3=1000, port4=2000) == {3: 30}


def test_a_share_ends_with_its_last_hash(engine: Engine, udp: Callable[..., bytes]) -> None:
    engine.set_rule(replace(HASH, mode=EcmpMode.WEIGHTED))
    three = group(2, 3, 4)
    engine.route(TO, three)
    h = engine.run(udp(), IN)[1]

    def taken(*shares: int) -> int:
        members = tuple(replace(member, share=share) for member, share in zip(three.members, shares, strict=True))
        engine.route(TO, replace(three, members=members))
        return port_of(engine.run(udp(), IN))

    assert taken(h, 2**32 - 1, 2**32 - 1) == 2
    assert taken(h - 1, h, 2**32 - 1) == 3
    assert taken(0, h - 1, 2**32 - 1) == 4


def test_a_buckets_hit_is_noted(engine: Engine, udp: Callable[..., bytes]) -> None:
    engine.set_rule(EcmpRule(EcmpMode.RESILIENT))
    engine.route(TO, replace(group(2, 3, 4, number=5), buckets=(2,) * 256))
    before = now()
    said = engine.run(udp(), IN)
    at = 5 * 256 + said[1] % 256
    assert port_of(said) == 4, "by the table, not by the hash"
    assert {place for place, seen in enumerate(engine.seen) if seen} == {at}
    assert before <= engine.seen[at] <= now()
    engine.route(TO, replace(group(2, 3, 4, number=0), buckets=(2,) * 256))
    engine.seen[at] = 0
    assert port_of(engine.run(udp(), IN)) == 2 + said[1] % 3
    assert not any(engine.seen), "a group without buckets goes by its hash and notes nothing"


# --- what is left alone


def test_without_a_group_the_hash_is_the_packets_own(engine: Engine, udp: Callable[..., bytes]) -> None:
    """The kernel then takes a living member by it. So also where the switch has no routes at all."""
    engine.set_rule(HASH)
    for port in (1, 7):
        said = engine.run(udp(), port)
        assert said == [0, said[1], said[1] | 1]
        assert said[1]
    assert engine.run(udp(), 5)[0] == 0, "a port whose node has no trie"
    assert engine.counted() == {}


@pytest.mark.parametrize("ports", [(), (2,), tuple([2] * 65)], ids=["local", "one way", "more than it can hold"])
def test_groups_that_are_no_choice(engine: Engine, udp: Callable[..., bytes], ports: tuple[int, ...]) -> None:
    engine.set_rule(HASH)
    engine.route(TO, group(*ports[:64]), count=len(ports))
    assert engine.run(udp(), IN) == UNTOUCHED
    assert engine.counted() == {}
    engine.route(TO, group(2, 3))
    assert engine.run(udp(), IN) != UNTOUCHED


@pytest.mark.parametrize(
    "made",
    [
        lambda frame: frame[:12] + b"\x08\x06" + frame[14:],
        lambda frame: frame[:12] + b"\x88\x08" + frame[14:],
        lambda frame: frame[:12] + b"\x81\x00\x00\x05" + frame[12:],
    ],
    ids=["ARP", "MAC control", "VLAN"],
)
def test_what_is_not_ip(engine: Engine, udp: Callable[..., bytes], made: Callable[[bytes], bytes]) -> None:
    engine.set_rule(HASH)
    engine.route(TO, group(2, 3))
    assert engine.run(udp(), IN) != UNTOUCHED
    assert engine.run(made(udp()), IN) == UNTOUCHED
    assert engine.run_copied(made(udp()), IN) == UNTOUCHED


def test_classes_by_themselves(engine: Engine, udp: Callable[..., bytes]) -> None:
    """A class whose rule is 0, or a rule of mode kernel, is Linux' own; DSCP finds the class, in IPv6 too."""
    engine.set_rule(HASH)
    engine.bench.profile.ecmp_of_tc[:] = [1 if tc == 3 else 2 if tc == 4 else 0 for tc in range(16)]
    for v6 in (False, True):
        touched = [engine.run(udp(dscp, v6=v6), IN) != UNTOUCHED for dscp in range(64)]
        assert touched == [dscp & 7 == 3 for dscp in range(64)]


def test_counters_by_port_and_mode(engine: Engine, udp: Callable[..., bytes]) -> None:
    engine.route(TO, group(2, 2))
    engine.set_rule(HASH)
    for size in (64, 100, 1500):
        engine.run(udp(size=size), IN)
    engine.set_rule(replace(HASH, mode=EcmpMode.WEIGHTED))
    engine.run(udp(size=64), IN)
    engine.route(TO, group(0, 0))
    engine.run(udp(size=70), IN)
    assert engine.counted() == {
        (2, EcmpMode.SWITCH_HASH): (3, 1664, 0, 0),
        (2, EcmpMode.WEIGHTED): (1, 64, 0, 0),
        (0, EcmpMode.WEIGHTED): (1, 70, 0, 0),
    }


# --- how packets come here


def test_the_ingress_program_goes_on_here(engine: Engine, bench: Bench, udp: Callable[..., bytes]) -> None:
    """With the port it found, and its own work done. Where no class wants it, or on a host, it does not."""
    engine.set_rule(HASH)
    engine.route(TO, group(2, 3))
    frame = udp(3)
    ran = bench.ingress(1, frame)
    assert (ran.verdict, ran.mark) == (-1, abi.MARK_INGRESS)
    assert list(ran.cb[:4]) == [1, *engine.run(frame, 1)]
    bench.profile.ecmp = 0
    ran = bench.ingress(1, frame)
    assert (ran.verdict, ran.mark) == (-1, abi.MARK_INGRESS)
    assert list(ran.cb[1:4]) == [1, 0, 0], "as the test left it: a stamp, and the port's number for stamp.bpf.c"
    bench.profile.ecmp = 1
    bench.profiles[2].ecmp = 1
    assert list(bench.ingress(5, frame).cb[1:4]) == [5, 0, 0]


def test_without_an_engine_packets_go_on(engine: Engine, bench: Bench, udp: Callable[..., bytes]) -> None:
    engine.set_rule(HASH)
    engine.route(TO, group(2, 3))
    bench.delete("engines", c_uint32(0))
    try:
        ran = bench.ingress(1, udp(3))
        assert (ran.verdict, ran.mark) == (-1, abi.MARK_INGRESS)
        assert engine.counted() == {}
    finally:
        engine.begin()
    bench.ingress(1, udp(3))
    assert engine.counted() != {}
