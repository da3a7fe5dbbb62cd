"""The hash engine's model, mode by mode."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from topologies.ecmp import EcmpBy, EcmpMode, EcmpRule, HashAlgorithm, Headers
from topologies.ecmp_model import Group, Member, Pick, State, flowlet_place, group_of, kernel_hash, pick, shares
from topologies.hashing import member
from topologies.switch_hash import flow_hash, mix

FIRST = 5
GAP = 1000
GROUP = group_of((5, 6, 7, 8), (1, 1, 1, 1), (1, 1, 1, 1))


def frame(sport: int = 1, **of: object) -> Headers:
    plain = Headers(3, bytes(6), bytes(6), 0x0800, 17, bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)), sport, 4791)
    return replace(plain, **of)  # type: ignore[arg-type]


def rule(mode: EcmpMode, by: EcmpBy = EcmpBy.RANDOM, **of: object) -> EcmpRule:
    return replace(EcmpRule(mode, by=by, seed=42, gap_ns=GAP), **of)  # type: ignore[arg-type]


def picked(of: EcmpRule, headers: Headers, state: State, group: Group = GROUP, now: int = 0) -> Pick:
    found = pick(of, headers, group, state, now, FIRST)
    assert found is not None
    return found


def places(of: EcmpRule, state: State, count: int, in_port: int = 3) -> list[int | None]:
    return [picked(of, frame(in_port=in_port), state).place for _ in range(count)]


def test_chance_is_splitmix64() -> None:
    """The upper halves of the generator's published first outputs for seed 1234567."""
    state = State(seeds={9: 1234567})
    published = (6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431)
    assert [state.draw(9) for _ in range(4)] == [word >> 32 for word in published]
    assert state.drawn == {9: 4}


@pytest.mark.parametrize("seed", range(5))
def test_a_members_hash_makes_the_kernel_take_it(seed: int) -> None:
    """For the kernel's own rule, of 1 to 64 members of any weight; a neighbour's hash does not."""
    chance = Random(seed)
    for _ in range(50):
        weights = [chance.randint(1, 256) for _ in range(chance.randint(1, 64))]
        hashes = [kernel_hash(i, weights) for i in range(len(weights))]
        assert [member(one >> 1, weights) for one in hashes] == list(range(len(weights)))
        assert all(one & 1 and one < 1 << 32 for one in hashes)


def test_a_member_that_is_down_owns_nothing() -> None:
    weights = [1, 0, 1]
    assert [member(kernel_hash(i, weights) >> 1, weights) for i in (0, 2)] == [0, 2]
    with pytest.raises(ValueError, match="member 1 owns no hash"):
        kernel_hash(1, weights)


def test_shares_are_as_the_rates() -> None:
    assert shares([1, 1]) == (0x7FFFFFFF, 0xFFFFFFFF)
    assert shares([1, 2, 1]) == (0x3FFFFFFF, 0xBFFFFFFF, 0xFFFFFFFF)
    assert shares([10**9, 4 * 10**9])[0] == (1 << 32) // 5 - 1
    assert shares([3] * 64)[-1] == 0xFFFFFFFF
    with pytest.raises(ValueError, match="1 at least"):
        shares([1, 0])


def test_what_the_engine_leaves_alone() -> None:
    alone = group_of((5,), (1,), (1,))
    assert pick(rule(EcmpMode.SWITCH_HASH), frame(), alone, State(), 0, FIRST) is None
    assert pick(EcmpRule(), frame(), GROUP, State(), 0, FIRST) is None
    of = rule(EcmpMode.SWITCH_HASH)
    h = flow_hash(of, frame())
    assert pick(of, frame(), None, State(), 0, FIRST) == Pick(None, h | 1, h, EcmpMode.SWITCH_HASH)


@pytest.mark.parametrize("mode", [EcmpMode.SWITCH_HASH, EcmpMode.ROCE])
def test_by_the_hash(mode: EcmpMode) -> None:
    of = rule(mode)
    for sport in range(200):
        h = flow_hash(of, frame(sport))
        assert picked(of, frame(sport), State()) == Pick(h % 4, GROUP.members[h % 4].hash, h, mode)


def test_random_hash_draws_once_and_before_the_mode() -> None:
    of = rule(EcmpMode.SPRAY, algorithm=HashAlgorithm.RANDOM)
    state, same = State(seeds={8: 7}), State(seeds={8: 7})
    found = picked(of, frame(), state)
    assert (found.h, found.place) == (mix(same.draw(8), 42), same.draw(8) % 4)
    assert state.drawn == {8: 2}


def test_weighted_takes_the_first_whose_share_reaches_the_hash() -> None:
    of, uneven = rule(EcmpMode.WEIGHTED), group_of((5, 6, 7), (1, 1, 1), (1, 4, 5))
    counts = Counter(picked(of, frame(sport), State(), uneven).place for sport in range(5000))
    # binomial, 4 standard deviations of 5000 draws: at most 4 × √(5000/4) = 141
    assert [counts[place] for place in range(3)] == [pytest.approx(5000 * part, abs=141) for part in (0.1, 0.4, 0.5)]
    even = Counter(picked(of, frame(sport), State()).place for sport in range(5000))
    assert even[0] > 2 * counts[0]


def test_pinned() -> None:
    pairs = rule(EcmpMode.PINNED, EcmpBy.QUEUE_PAIR)
    assert [picked(pairs, frame(queue_pair=pair), State()).place for pair in range(6)] == [0, 1, 2, 3, 0, 1]
    assert picked(pairs, frame(), State()).place == flow_hash(pairs, frame()) % 4
    rail = rule(EcmpMode.PINNED, EcmpBy.RAIL)
    assert [picked(rail, frame(in_port=port, queue_pair=3), State()).place for port in (0, 1, 6)] == [0, 1, 2]


def test_spray() -> None:
    turns = rule(EcmpMode.SPRAY, EcmpBy.ROUND_ROBIN)
    state = State()
    assert places(turns, state, 6) == [0, 1, 2, 3, 0, 1]
    assert places(turns, state, 1, in_port=0) == [0]
    chance = rule(EcmpMode.SPRAY)
    drawn, same = places(chance, State(seeds={8: 3}), 50), State(seeds={8: 3})
    assert drawn == [same.draw(8) % 4 for _ in range(50)]
    assert set(drawn) == {0, 1, 2, 3}


def test_resilient_by_its_bucket() -> None:
    of = rule(EcmpMode.RESILIENT)
    table = replace(GROUP, buckets=tuple(b // 64 for b in range(256)), id=3)
    for sport in range(100):
        state, h = State(), flow_hash(of, frame(sport))
        assert picked(of, frame(sport), state, table, now=9).place == h % 256 // 64
        assert state.seen == {3 * 256 + h % 256: 9}
    state = State()
    assert picked(of, frame(), state, replace(table, id=0)).place == flow_hash(of, frame()) % 4
    assert state.seen == {}


def test_a_flowlet_goes_on_within_the_gap() -> None:
    of, state = rule(EcmpMode.FLOWLET), State(seeds={8: 11})
    first = picked(of, frame(), state, now=10**6)
    assert (first.began, first.repicked) == (True, False)
    again = picked(of, frame(), state, now=10**6 + GAP)
    assert (again.place, again.began) == (first.place, False)
    assert state.drawn == {8: 1}
    later = [picked(of, frame(), state, now=10**6 + GAP + i * (GAP + 1)) for i in range(1, 100)]
    assert all(one.began for one in later)
    ways = [first.place, *(one.place for one in later)]
    assert [one.repicked for one in later] == [a != b for a, b in pairwise(ways)]
    assert len(set(ways)) == 4


def test_a_flowlet_whose_member_went_begins_anew() -> None:
    of, state = rule(EcmpMode.FLOWLET), State()
    place = picked(of, frame(), state, now=10**6).place
    assert place is not None
    members = list(GROUP.members)
    members[place] = replace(members[place], port=99)
    assert picked(of, frame(), state, Group(tuple(members)), now=10**6).began


def test_two_flows_in_one_place_take_it_from_each_other() -> None:
    of, state, met = rule(EcmpMode.FLOWLET), State(), dict[int, int]()
    for sport in range(2000):
        at = flowlet_place(flow_hash(of, frame(sport)), FIRST)
        if at in met:
            break
        met[at] = sport
    else:
        pytest.fail("2000 flows in 65536 places and no two in one")
    now = 10**6
    begun = [picked(of, frame(one), state, now=now) for one in (met[at], sport, met[at])]
    assert [(one.began, one.repicked) for one in begun] == [(True, False)] * 3


def test_adaptive_takes_the_least_queued_in_turn() -> None:
    of = rule(EcmpMode.ADAPTIVE, EcmpBy.PACKET, quantum=1000)
    state = State(depths={5: 5000, 6: 1999, 7: 1000, 8: -3})
    assert places(of, state, 4) == [3, 3, 3, 3]
    state.depths = {5: 999, 6: 1999, 7: 1000, 8: -3}
    assert places(of, state, 4) == [0, 3, 3, 3]
    state.depths = {}
    assert places(of, state, 5) == [0, 1, 2, 3, 0]


def test_adaptive_by_flowlet_stays_where_it_began() -> None:
    of, state = rule(EcmpMode.ADAPTIVE, EcmpBy.FLOWLET), State(depths={5: 1, 6: 1, 7: 0, 8: 1})
    assert picked(of, frame(), state, now=10**6).place == 2
    state.depths = {7: 10**6}
    stays = picked(of, frame(), state, now=10**6 + GAP)
    assert (stays.place, stays.mode) == (2, EcmpMode.ADAPTIVE)
    leaves = picked(of, frame(), state, now=10**6 + 3 * GAP)
    assert (leaves.place == 2, leaves.began, leaves.repicked) == (False, True, True)


def test_a_member_that_is_no_port_of_the_lab_has_no_queue() -> None:
    ways = Group((Member(5), Member(0), Member(7)))
    of = rule(EcmpMode.ADAPTIVE, EcmpBy.PACKET)
    assert picked(of, frame(), State(depths={5: 1, 0: 7, 7: 1}), ways).place == 1


def test_adaptive_for_marked_packets_alone() -> None:
    of, state = rule(EcmpMode.ADAPTIVE, EcmpBy.PACKET, marked=True), State(depths={5: 1, 6: 1, 7: 0, 8: 1})
    assert picked(of, frame(adaptive=True), state).mode is EcmpMode.ADAPTIVE
    plain = {picked(of, frame(sport), state) for sport in range(64)}
    assert {one.mode for one in plain} == {EcmpMode.SWITCH_HASH}
    assert {one.place for one in plain} == {0, 1, 2, 3}
    assert state.turns == {8: 1}
