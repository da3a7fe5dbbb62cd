"""The hash engine as a pure model: which member of a group a packet takes, packet after packet.

What a packet's hash is: topologies/switch_hash.py; what a resilient group's buckets do: topologies/resilient.py. The
same steps as labs/dataplane/bpf/hash.bpf.c, in its order, draws of chance included, so that a sequence of packets
can be compared one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from topologies.ecmp import BUCKETS, EcmpBy, EcmpMode, EcmpRule, HashAlgorithm, Headers
from topologies.resilient import fresh_buckets
from topologies.switch_hash import MASK32, flow_hash, mix

FLOWLETS = 65536
_MASK64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Member:
    """One way of a group. `share` is the last 32-bit hash that is this member's by weight.

    `port` is its egress port's number in the lab, 0 for none. `hash` is what makes the kernel take it.
    """

    port: int
    share: int = MASK32
    hash: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """The members in the kernel's order; the place of each bucket's member; `id` 0: its buckets are not used."""

    members: tuple[Member, ...]
    buckets: tuple[int, ...] = ()
    id: int = 1


@dataclass(frozen=True, slots=True)
class Flowlet:
    """Where a flow is, and when it was last seen there. All 0: nothing was ever noted."""

    seen_ns: int = 0
    tag: int = 0
    port: int = 0
    place: int = 0


@dataclass(slots=True)
class State:
    """What the engine remembers, and what it sees of the queues. Ports are numbers of the lab.

    `seeds` and `drawn` are each ingress port's own sequence of chance and how far it has got, `turns` its round
    robin (one processor's). `flowlets` is by place in the table, `seen` by group and bucket. `depths` is bytes in the
    egress queue of the packet's class, by egress port.
    """

    seeds: Mapping[int, int] = field(default_factory=dict)
    drawn: dict[int, int] = field(default_factory=dict)
    turns: dict[int, int] = field(default_factory=dict)
    flowlets: dict[int, Flowlet] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)
    depths: Mapping[int, int] = field(default_factory=dict)

    def draw(self, port: int) -> int:
        """The next 32 bits of a port's sequence: splitmix64, as chance.h has it."""
        turn = self.drawn[port] = self.drawn.get(port, 0) + 1
        z = self.seeds.get(port, 0) + turn * 0x9E3779B97F4A7C15 & _MASK64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK64
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK64
        return (z ^ z >> 31) >> 32

    def turn(self, port: int) -> int:
        """A port's round robin before it goes on."""
        before = self.turns.get(port, 0)
        self.turns[port] = before + 1
        return before


@dataclass(frozen=True, slots=True)
class Pick:
    """What the engine did with a packet.

    `place` is the member's, None where none was chosen; `hash` what skb->hash was set to, None where it was left
    alone; `h` the packet's own hash, `mode` what it is counted as. `began`: a new flowlet; `repicked`: one of a flow
    that was on another port before.
    """

    place: int | None
    hash: int | None
    h: int | None
    mode: EcmpMode
    began: bool = False
    repicked: bool = False


def shares(weights: Sequence[int]) -> tuple[int, ...]:
    """The last 32-bit hash of each member, its part of all hashes being as its weight (a link's rate).

    Raises ValueError for a weight below 1.
    """
    if min(weights, default=1) < 1:
        raise ValueError("a member's weight is 1 at least")
    total = sum(weights)
    return tuple((reached << 32) // total - 1 for reached in accumulate(weights))


def kernel_hash(index: int, weights: Sequence[int]) -> int:
    """A hash that makes the kernel take member `index`: in the middle of its range, never 0.

    `weights` are the kernel's of the next hops, 0 for one that is down. Raises ValueError where `index` owns nothing.
    """
    total, before = sum(weights), sum(weights[:index])
    if not weights[index]:
        raise ValueError(f"member {index} owns no hash")
    lower, end = (((reached << 31) + total // 2) // total for reached in (before, before + weights[index]))
    return (lower + end - 1) // 2 << 1 | 1


def group_of(ports: Sequence[int], weights: Sequence[int], rates: Sequence[int], number: int = 1) -> Group:
    """A group as asicd writes it when it is new: the kernel's weights and the links' rates, member by member."""
    bounds = shares(rates)
    members = tuple(Member(port, bounds[i], kernel_hash(i, weights)) for i, port in enumerate(ports))
    return Group(members, fresh_buckets(len(members)), number)


def pick(
    rule: EcmpRule, headers: Headers, group: Group | None, state: State, now_ns: int, first_port: int
) -> Pick | None:
    """What the engine does with one packet; None where it touches nothing (Linux' own hash, or one way only).

    Args:
        group: the longest prefix's; None when there is none.
        state: changed as the packet changes it.
        first_port: the first port's number of the switch.
    """
    if rule.mode is EcmpMode.KERNEL or (group is not None and len(group.members) < 2):
        return None
    here = first_port + headers.in_port
    h = flow_hash(rule, headers, lambda: state.draw(here))
    if group is None:
        return Pick(None, h | 1, h, rule.mode)
    at = _Packet(rule, headers, group, state, now_ns, first_port, here, h)
    mode = rule.mode
    if mode is EcmpMode.ADAPTIVE and rule.marked and not headers.adaptive:
        mode = EcmpMode.SWITCH_HASH
    if mode is rule.mode and has_flowlets(rule):
        place, began, repicked = _flowlet(at, mode)
        return Pick(place, group.members[place].hash, h, mode, began, repicked)
    place = _PLACES[mode](at)
    return Pick(place, group.members[place].hash, h, mode)


def possible(
    rule: EcmpRule, headers: Headers, group: Group, flowlets: Mapping[int, Flowlet], now_ns: int, first_port: int
) -> tuple[int, ...]:
    """The places that a flow's next packet may take: one where the mode gives one answer, else every member's.

    `flowlets` is what the table holds where the flow belongs.
    """
    every = tuple(range(len(group.members)))
    if has_flowlets(rule) and (rule.mode is EcmpMode.FLOWLET or headers.adaptive or not rule.marked):
        if rule.algorithm is HashAlgorithm.RANDOM:
            return every
        h = flow_hash(rule, headers)
        entry = flowlets.get(flowlet_place(h, first_port), _NEVER)
        return (entry.place,) if goes_on(rule, group, entry, h ^ first_port, now_ns) else every
    if rule.mode is EcmpMode.SPRAY or (rule.mode is EcmpMode.ADAPTIVE and (headers.adaptive or not rule.marked)):
        return every
    if rule.algorithm is HashAlgorithm.RANDOM and not _pins(rule, headers):
        return every
    found = pick(rule, headers, group, State(), now_ns, first_port)
    return every if found is None or found.place is None else (found.place,)


def hashes(rule: EcmpRule, headers: Headers) -> bool:
    """Whether the packet's fields decide anything under a rule."""
    if rule.mode is EcmpMode.KERNEL or rule.algorithm is HashAlgorithm.RANDOM or _pins(rule, headers):
        return False
    if rule.mode is EcmpMode.ADAPTIVE:
        return rule.marked or has_flowlets(rule)
    return rule.mode is not EcmpMode.SPRAY


def has_flowlets(rule: EcmpRule) -> bool:
    """Whether a rule keeps to a way as long as packets come close together."""
    return rule.mode is EcmpMode.FLOWLET or (rule.mode is EcmpMode.ADAPTIVE and rule.by is EcmpBy.FLOWLET)


def _pins(rule: EcmpRule, headers: Headers) -> bool:
    return rule.mode is EcmpMode.PINNED and (rule.by is EcmpBy.RAIL or headers.queue_pair is not None)


@dataclass(slots=True)
class _Packet:
    rule: EcmpRule
    headers: Headers
    group: Group
    state: State
    now_ns: int
    first: int
    here: int
    h: int


def _by_hash(at: _Packet) -> int:
    return at.h % len(at.group.members)


def _weighted(at: _Packet) -> int:
    members = at.group.members
    return next((place for place, member in enumerate(members) if at.h <= member.share), len(members) - 1)


def _pinned(at: _Packet) -> int:
    if at.rule.by is EcmpBy.RAIL:
        return at.headers.in_port % len(at.group.members)
    pair = at.headers.queue_pair
    return (at.h if pair is None else pair) % len(at.group.members)


def _spray(at: _Packet) -> int:
    turn = at.state.turn if at.rule.by is EcmpBy.ROUND_ROBIN else at.state.draw
    return turn(at.here) % len(at.group.members)


def _resilient(at: _Packet) -> int:
    if not at.group.id:
        return _by_hash(at)
    bucket = at.h % BUCKETS
    at.state.seen[at.group.id * BUCKETS + bucket] = at.now_ns
    place = at.group.buckets[bucket]
    return place if place < len(at.group.members) else _by_hash(at)


def _adaptive(at: _Packet) -> int:
    return least_queued(at.rule, at.group, at.state.depths, at.state.turn(at.here) % len(at.group.members))


def least_queued(rule: EcmpRule, group: Group, depths: Mapping[int, int], start: int) -> int:
    """The member with the shortest queue, in steps of the rule's quantum; of equals the first from `start` on."""
    members, step = group.members, max(1, rule.quantum)
    steps = [max(0, depths.get(member.port, 0)) // step if member.port else 0 for member in members]
    least = min(steps)
    try:
        return steps.index(least, start)
    except ValueError:
        return steps.index(least)


def flowlet_place(h: int, first_port: int) -> int:
    """The place in the table of a hash's flowlet at the switch whose first port this is."""
    return mix(h ^ first_port) % FLOWLETS


def goes_on(rule: EcmpRule, group: Group, entry: Flowlet, tag: int, now_ns: int) -> bool:
    """Whether a packet belongs to the flowlet that was noted."""
    return (
        entry.tag == tag
        and (now_ns - entry.seen_ns & _MASK64) <= rule.gap_ns
        and entry.place < len(group.members)
        and group.members[entry.place].port == entry.port
    )


def _flowlet(at: _Packet, mode: EcmpMode) -> tuple[int, bool, bool]:
    tag, index = at.h ^ at.first, flowlet_place(at.h, at.first)
    entry = at.state.flowlets.get(index, _NEVER)
    on = goes_on(at.rule, at.group, entry, tag, at.now_ns)
    if on:
        place = entry.place
    else:
        place = at.state.draw(at.here) % len(at.group.members)
        if mode is EcmpMode.ADAPTIVE:
            place = least_queued(at.rule, at.group, at.state.depths, place)
    port = at.group.members[place].port
    at.state.flowlets[index] = Flowlet(at.now_ns, tag, port, place)
    return place, not on, not on and entry.tag == tag and entry.port != port


_NEVER = Flowlet()
# By mode's number. KERNEL and FLOWLET never come here.
_PLACES: tuple[Callable[[_Packet], int], ...] = (
    _by_hash,
    _by_hash,
    _by_hash,
    _by_hash,
    _spray,
    _adaptive,
    _resilient,
    _weighted,
    _pinned,
)
