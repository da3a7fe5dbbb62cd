"""The hash engine on the bench: its own maps in plain sight, and random packets for it.

One sequence of packets, the same for every test: IPv4 and IPv6; TCP, UDP, RoCEv2, VXLAN, ICMP, GRE, fragments, options;
some cut short. What a packet is said to be is checked with scapy, by test_packets.py.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Mapping
from ctypes import c_uint32, c_uint64, sizeof
from dataclasses import replace
from functools import cache
from pathlib import Path
from struct import pack, unpack
from typing import TYPE_CHECKING, NamedTuple

import pytest

from labs.dataplane.abi_ecmp import (
    ECMP_ENGINE,
    ECMP_MODES,
    ECMP_PROFILES,
    FLOWLETS,
    EcmpCount,
    EcmpGroup,
    EcmpProfile,
    RouteKey,
)
from labs.dataplane.abi_ecmp import Flowlet as Entry
from labs.dataplane.encoding import ecmp_profile
from topologies.ecmp import BUCKETS, ROCE_PORT, VXLAN_PORT, EcmpMode, EcmpRule, Headers, Inner
from topologies.ecmp_model import Flowlet, Group, Member, State
from topologies.resilient import fresh_buckets

if TYPE_CHECKING:
    from tests.dataplane.conftest import Bench

PACKETS = 100_000
PORTS, GROUPS = 9, 8
SWITCHES = {1: (1, 2, 3, 4), 7: (7, 8)}  # first port -> the node's
RULE = 1  # its place in `ecmps`; 0 is nobody's
TCP, UDP, ICMP, GRE, FRAGMENT = 6, 17, 1, 47, 44
IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806

# Address bytes and what a route to them is of: the members' number. Under 0 and 1 the kernel is left alone.
ROUTES: Mapping[int, Mapping[bytes, int]] = {
    4: {b"\x0a": 5, b"\x0a\x01": 8, b"\x0a\x01\x02\x03": 2, b"\xac\x10": 64, b"\xc0\xa8": 1, b"\xc0\xa9": 0},
    16: {b"\x20\x01\x0d\xb8": 3, b"\x20\x01\x0d\xb8\x00\x01": 7, b"\xfd": 4},
}
NOWHERE = {4: b"\xc6\x33\x64", 16: b"\xfc\x00"}  # no route leads there


class Packet(NamedTuple):
    """A frame, what it says of itself, and where it comes in."""

    frame: bytes
    headers: Headers
    port: int
    first: int
    tc: int
    whole: bool  # nothing was cut off


class Engine:
    """asic_hash and its maps."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.program, self.copied = bench.load("hash"), bench.load("copied")
        self.rules = bench.see("ecmps", EcmpProfile, ECMP_PROFILES)
        self.counts = bench.see("ecmp_counts", EcmpCount, PORTS * ECMP_MODES)
        self.seen = bench.see("bucket_seen", c_uint64, GROUPS * BUCKETS)
        self.run = bench.quick(self.program)
        self.run_copied = bench.quick(self.copied)
        self._tries: dict[int, int] = {}
        self.begin()

    def begin(self) -> None:
        """From here on the ingress program goes on in this one."""
        self.bench.write("engines", c_uint32(ECMP_ENGINE), c_uint32(self.program))

    def reset(self) -> None:
        """No rule, no routes, nothing remembered. What is mapped, the bench has emptied."""
        self.close()
        for first in SWITCHES:
            self._tries[first] = self.bench.trie(sizeof(RouteKey), sizeof(EcmpGroup), 1024)
            self.bench.write("routes", c_uint32(first), c_uint32(self._tries[first]))
        self.bench.clear("turns", PORTS, sizeof(c_uint64) * possible_processors())
        self.bench.clear("flowlets", FLOWLETS, sizeof(Entry))
        self.bench.profile.ecmp = 1
        self.bench.profile.ecmp_of_tc[:] = [RULE] * len(self.bench.profile.ecmp_of_tc)

    def close(self) -> None:
        while self._tries:
            os.close(self._tries.popitem()[1])

    def set_rule(self, rule: EcmpRule) -> None:
        self.rules[RULE] = ecmp_profile(rule)

    def route(self, to: bytes, group: Group, first: int = 1, count: int | None = None) -> None:
        """A route to addresses that begin with these bytes: IPv6's where the first is 0x20 or 0xfd, else IPv4's."""
        mapped = to if to[0] in {0x20, 0xFD} else bytes(10) + b"\xff\xff" + to
        key, made = RouteKey(prefixlen=8 * len(mapped)), laid_out(group)
        key.address[: len(mapped)] = mapped
        made.count = len(group.members) if count is None else count
        self.bench.write(self._tries[first], key, made)

    def flowlet(self, at: int) -> Flowlet:
        entry = self.bench.read("flowlets", at, Entry())
        return Flowlet(entry.seen_ns, entry.tag, entry.port, entry.member)

    def set_flowlet(self, at: int, to: Flowlet) -> None:
        self.bench.write("flowlets", c_uint32(at), Entry(to.seen_ns, to.tag, to.port, to.place))

    def counted(self) -> dict[tuple[int, EcmpMode], tuple[int, int, int, int]]:
        """By port and mode, where anything was: packets, bytes, flowlets, repicks."""
        found = {}
        for at, count in enumerate(self.counts):
            numbers = (count.packets, count.bytes, count.flowlets, count.repicks)
            if any(numbers):
                found[at // ECMP_MODES, EcmpMode(at % ECMP_MODES)] = numbers
        return found

    @staticmethod
    def group_of(address: bytes) -> Group | None:
        """The longest prefix's of ROUTES."""
        for length in (6, 4, 2, 1):
            if (count := ROUTES[len(address)].get(address[:length])) is not None:
                return random_group(count, count % GROUPS)
        return None

    def state(self) -> State:
        """What the model begins with."""
        return State(seeds={port: self.bench.ports[port].seed for port in range(PORTS)})


def possible_processors() -> int:
    """How many values an element of a map by processor has."""
    return int(re.split("[-,]", Path("/sys/devices/system/cpu/possible").read_text())[-1]) + 1


def laid_out(group: Group) -> EcmpGroup:
    made = EcmpGroup(id=group.id)
    for place, member in enumerate(group.members):
        at = made.member[place]
        at.hash, at.share, at.port = member.hash, member.share, member.port
    made.bucket[: len(group.buckets)] = group.buckets
    return made


@cache
def random_group(count: int, number: int = 0) -> Group:
    """Members on ports 0 to 8, shares and hashes at random; buckets too."""
    rng = random.Random(count)
    shares = [*sorted(rng.getrandbits(32) for _ in range(count - 1)), 2**32 - 1]
    members = tuple(Member(rng.randrange(PORTS), shares[i], rng.getrandbits(31) << 1 | 1) for i in range(count))
    buckets = tuple(rng.randrange(count) for _ in range(BUCKETS)) if count else fresh_buckets(1)
    return Group(members, buckets, number)


@pytest.fixture(scope="session")
def engine_loaded(loaded: Bench) -> Iterator[Engine]:
    engine = Engine(loaded)
    yield engine
    engine.close()


@pytest.fixture
def engine(engine_loaded: Engine, bench: Bench) -> Iterator[Engine]:
    """Empty, on one processor: round robin counts by processor."""
    assert bench is engine_loaded.bench
    engine_loaded.reset()
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    yield engine_loaded
    os.sched_setaffinity(0, processors)


@pytest.fixture
def routed(engine: Engine) -> Engine:
    """With ROUTES at both switches."""
    for first in SWITCHES:
        for routes in ROUTES.values():
            for to, count in routes.items():
                engine.route(to, random_group(count, count % GROUPS), first)
    return engine


@pytest.fixture(scope="session")
def packets() -> list[Packet]:
    rng = random.Random(4791)
    return [random_packet(rng) for _ in range(PACKETS)]


# --- packets: every builder gives bytes and what they say


class Said(NamedTuple):
    """A transport header and what is in it. `needs`: how many bytes make each of the rest readable."""

    data: bytes
    sport: int | None = None
    dport: int | None = None
    queue_pair: int | None = None
    adaptive: bool = False
    inner: Inner | None = None
    inner_ip: int = 0  # length of the inner IP header


def random_packet(rng: random.Random) -> Packet:
    first, ports = rng.choice(list(SWITCHES.items()))
    port, dscp, v6 = rng.choice(ports), rng.getrandbits(6), rng.random() < 0.4
    macs = rng.randbytes(12)
    protocol, said = random_transport(rng, v6=v6)
    data = said.data
    if rng.random() < 0.05:
        data = data[: rng.randrange(len(data) + 1)]
    size = 16 if v6 else 4
    source, destination, label = rng.randbytes(size), random_destination(rng, size), None
    hidden = protocol == FRAGMENT
    if v6:
        label = rng.getrandbits(20)
        head = pack("!IHBB", 6 << 28 | dscp << 22 | label, len(data), protocol, 64) + source + destination
    else:
        options = rng.choice((0, 0, 0, 4, 8, 40))
        offset = rng.choice((0, 0, 0, 0, 0x4000, 0x2000, 0x2007, 0x0004))
        hidden = bool(offset & 0x3FFF)
        words = (0x45 + options // 4, dscp << 2, 20 + options + len(data), 0, offset, 64, protocol, 0)
        head = pack("!BBHHHBBH", *words) + source + destination + rng.randbytes(options)
    ethertype = IPV6 if v6 else IPV4
    headers = Headers(port - first, macs[6:], macs[:6], ethertype, protocol, source, destination, flow_label=label)
    if not hidden and protocol in {TCP, UDP}:
        headers = readable(headers, said, len(data))
    return Packet(macs + pack("!H", ethertype) + head + data, headers, port, first, dscp & 7, data == said.data)


def readable(headers: Headers, said: Said, length: int) -> Headers:
    """With what a transport header says when so many bytes of it are there."""
    if length < 4:
        return headers
    headers = replace(headers, sport=said.sport, dport=said.dport)
    if said.queue_pair is not None and length >= 20:
        return replace(headers, queue_pair=said.queue_pair, adaptive=said.adaptive)
    inner = said.inner
    if inner is None or length < 30:
        return headers
    if length < 30 + said.inner_ip:
        inner = Inner(inner.src_mac, inner.dst_mac, inner.ethertype)
    elif length < 34 + said.inner_ip:
        inner = replace(inner, sport=None, dport=None)
    return replace(headers, inner=inner)


def random_destination(rng: random.Random, size: int) -> bytes:
    to = rng.choice([*ROUTES[size], NOWHERE[size]])
    return to + rng.randbytes(size - len(to))


def random_transport(rng: random.Random, *, v6: bool) -> tuple[int, Said]:
    kind = rng.randrange(10)
    sport, dport = rng.getrandbits(16), rng.choice((80, 179, 443, 4790, rng.getrandbits(16)))
    if kind < 2:
        return TCP, Said(pack("!HH", sport, dport) + rng.randbytes(16), sport, dport)
    if kind < 6:
        pair, mark = rng.getrandbits(24), rng.getrandbits(8)
        bth = pack("!BBHII", 10, 0x40, 0xFFFF, rng.getrandbits(8) << 24 | pair, mark << 24 | rng.getrandbits(24))
        return UDP, Said(udp(sport, ROCE_PORT, bth + rng.randbytes(4)), sport, ROCE_PORT, pair, bool(mark & 0x40))
    if kind < 8:
        data, inner, length = random_inner(rng)
        return UDP, Said(udp(sport, VXLAN_PORT, pack("!II", 8 << 24, 42 << 8) + data), sport, VXLAN_PORT,
                         inner=inner, inner_ip=length)  # fmt: skip
    if kind == 8:
        dport = 53 if dport in {ROCE_PORT, VXLAN_PORT} else dport
        return UDP, Said(udp(sport, dport, rng.randbytes(8)), sport, dport)
    return rng.choice((FRAGMENT, 58, GRE) if v6 else (ICMP, GRE)), Said(rng.randbytes(24))


def udp(sport: int, dport: int, data: bytes) -> bytes:
    return pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def random_inner(rng: random.Random) -> tuple[bytes, Inner, int]:
    macs, ports, ethertype = rng.randbytes(12), rng.randbytes(4), rng.choice((IPV4, IPV4, IPV6, ARP))
    eth = macs + pack("!H", ethertype)
    if ethertype == ARP:
        return eth + rng.randbytes(28), Inner(macs[6:], macs[:6], ARP), 0
    protocol = rng.choice((TCP, UDP, ICMP))
    if ethertype == IPV4:
        fragment, source, destination = rng.choice((0, 0, 0x2000)), rng.randbytes(4), rng.randbytes(4)
        head = pack("!BBHHHBBH", 0x45, 0, 40, 0, fragment, 64, protocol, 0) + source + destination
    else:
        fragment, source, destination = 0, rng.randbytes(16), rng.randbytes(16)
        head = pack("!IHBB", 6 << 28 | rng.getrandbits(20), 20, protocol, 64) + source + destination
    sport, dport = unpack("!HH", ports) if protocol in {TCP, UDP} and not fragment else (None, None)
    inner = Inner(macs[6:], macs[:6], ethertype, protocol, source, destination, sport, dport)
    return eth + head + ports + rng.randbytes(16), inner, len(head)
