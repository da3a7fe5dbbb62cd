"""Program and model, packet by packet: the hash, the member, the hash that is set, and every counter."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from labs.dataplane import abi
from topologies.ecmp import FIVE_TUPLE, EcmpBy, EcmpMode, EcmpRule, HashAlgorithm, HashField
from topologies.ecmp_model import Pick, State, pick

if TYPE_CHECKING:
    from tests.dataplane.hash_engine.conftest import Engine, Packet

ALL = HashField((1 << 19) - 1)
ROUND = 5000  # packets under one set of fields, one seed, one set of depths
ENDLESS = 2**63
HASH = EcmpRule(EcmpMode.SWITCH_HASH, seed=0x5EED, offset=7)
MODES = {
    "switch_hash": HASH,
    "roce": replace(HASH, mode=EcmpMode.ROCE, fields=FIVE_TUPLE | HashField.DST_QP),
    "flowlet_that_never_ends": replace(HASH, mode=EcmpMode.FLOWLET, gap_ns=ENDLESS),
    "flowlet_of_one_packet": replace(HASH, mode=EcmpMode.FLOWLET, gap_ns=0),
    "spray_random": replace(HASH, mode=EcmpMode.SPRAY, by=EcmpBy.RANDOM),
    "spray_round_robin": replace(HASH, mode=EcmpMode.SPRAY, by=EcmpBy.ROUND_ROBIN),
    "adaptive_packet": replace(HASH, mode=EcmpMode.ADAPTIVE, by=EcmpBy.PACKET, quantum=3000),
    "adaptive_flowlet": replace(HASH, mode=EcmpMode.ADAPTIVE, by=EcmpBy.FLOWLET, gap_ns=0),
    "adaptive_marked": replace(HASH, mode=EcmpMode.ADAPTIVE, by=EcmpBy.PACKET, marked=True),
    "resilient": replace(HASH, mode=EcmpMode.RESILIENT),
    "weighted": replace(HASH, mode=EcmpMode.WEIGHTED),
    "pinned_queue_pair": replace(HASH, mode=EcmpMode.PINNED, by=EcmpBy.QUEUE_PAIR),
    "pinned_rail": replace(HASH, mode=EcmpMode.PINNED, by=EcmpBy.RAIL),
}


def said(picked: Pick | None) -> list[int]:
    """What the program leaves in cb[1..3]."""
    if picked is None:
        return [0, 0, 0]
    assert picked.h is not None
    assert picked.hash is not None
    return [0 if picked.place is None else picked.place + 1, picked.h, picked.hash]


def random_depths(engine: Engine, rng: random.Random) -> list[dict[int, int]]:
    """Depths of the queues of all ports, below 0 too; by class and port."""
    depths = [{port: rng.randrange(-5000, 20_000) for port in range(1, 9)} for _ in range(abi.QUEUES)]
    for queue, of_ports in enumerate(depths):
        for port, depth in of_ports.items():
            engine.bench.queue(port, queue).depth = (9 << abi.PACKED_SHIFT) + depth
    return depths


def compare(engine: Engine, packets: Sequence[Packet], rules: Sequence[EcmpRule], *, copied: bool = False) -> State:
    """Every packet through both, the rules by turns, a round each. Returns what the model came to."""
    rng = random.Random(1)
    run, state = engine.run_copied if copied else engine.run, engine.state()
    counts: defaultdict[tuple[int, EcmpMode], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for turn, start in enumerate(range(0, len(packets), ROUND)):
        rule = rules[turn % len(rules)]
        engine.set_rule(rule)
        depths = random_depths(engine, rng)
        for now, packet in enumerate(packets[start : start + ROUND], start + 1):
            state.depths = depths[packet.tc]
            group = engine.group_of(packet.headers.dst)
            picked = pick(rule, packet.headers, group, state, now, packet.first)
            assert run(packet.frame, packet.port) == said(picked), (rule, packet, group)
            if picked is not None and picked.place is not None and group is not None:
                count = counts[group.members[picked.place].port, picked.mode]
                for at, more in enumerate((1, len(packet.frame), picked.began, picked.repicked)):
                    count[at] += more
    assert engine.counted() == {at: tuple(count) for at, count in counts.items()}
    assert {port: engine.bench.ports[port].random for port in state.drawn} == state.drawn
    assert {at for at, seen in enumerate(engine.seen) if seen} == set(state.seen)
    for at, entry in state.flowlets.items():
        assert replace(engine.flowlet(at), seen_ns=entry.seen_ns) == entry
    return state


@pytest.mark.parametrize("algorithm", HashAlgorithm)
def test_algorithms(routed: Engine, packets: Sequence[Packet], algorithm: HashAlgorithm) -> None:
    """The five-tuple, everything, and fields at random; under seeds and offsets at random."""
    rng = random.Random(algorithm)
    fields = [FIVE_TUPLE, ALL, *(HashField(rng.getrandbits(19)) for _ in range(18))]
    compare(
        routed,
        packets,
        [
            replace(HASH, algorithm=algorithm, fields=asked, seed=rng.getrandbits(32), offset=rng.randrange(32))
            for asked in fields
        ],
    )


@pytest.mark.parametrize("mode", MODES)
def test_modes(routed: Engine, packets: Sequence[Packet], mode: str) -> None:
    state = compare(routed, packets, [MODES[mode]])
    assert bool(state.flowlets) == ("flowlet" in mode)
    assert bool(state.seen) == (mode == "resilient")
    assert bool(state.turns) == (mode in {"spray_round_robin", "adaptive_packet", "adaptive_marked"})


def test_frames_that_the_kernel_has_not_gathered(routed: Engine, packets: Sequence[Packet]) -> None:
    """Headers that have to be copied say the same."""
    compare(routed, packets[:20_000], [MODES["roce"], replace(HASH, fields=ALL)], copied=True)


def test_every_field_tells_packets_apart(routed: Engine, packets: Sequence[Packet]) -> None:
    """Each is there in some packets, and not the same in all of them: agreement on it says something."""
    for field in HashField:
        routed.set_rule(replace(HASH, fields=field))
        assert len({routed.run(packet.frame, packet.port)[1] for packet in packets[:ROUND]}) > 2, field


def test_fields_one_by_one(routed: Engine, packets: Sequence[Packet]) -> None:
    compare(routed, packets[: ROUND * len(HashField)], [replace(HASH, fields=field) for field in HashField])


@pytest.mark.parametrize(
    "wrong",
    [
        replace(HASH, algorithm=HashAlgorithm.CRC_CCITT),
        replace(HASH, seed=HASH.seed ^ 1),
        replace(HASH, offset=HASH.offset + 1),
        replace(HASH, fields=FIVE_TUPLE & ~HashField.IP_PROTOCOL),
    ],
    ids=["another polynomial", "another seed", "another offset", "a byte less"],
)
def test_a_difference_is_seen(routed: Engine, packets: Sequence[Packet], wrong: EcmpRule) -> None:
    """The comparison says no: to a model that is asked for something else, at the first packet that is hashed."""
    routed.set_rule(HASH)
    differ = total = 0
    for packet in packets[:1000]:
        picked = pick(wrong, packet.headers, routed.group_of(packet.headers.dst), routed.state(), 1, packet.first)
        total += picked is not None
        differ += routed.run(packet.frame, packet.port) != said(picked)
    assert total > 500
    assert differ == total


def test_a_wrong_bit_of_a_frame_is_seen(routed: Engine, packets: Sequence[Packet]) -> None:
    """One bit of a source address, and the packet hashes otherwise."""
    routed.set_rule(HASH)
    for packet in packets[:1000]:
        at = 14 + (8 if packet.headers.ethertype == 0x86DD else 12)
        other = packet.frame[:at] + bytes([packet.frame[at] ^ 1]) + packet.frame[at + 1 :]
        before, after = routed.run(packet.frame, packet.port), routed.run(other, packet.port)
        assert before[1] != after[1] or before == after == [0, 0, 0]
