"""Judges of how flows fall on members, tier by tier and when members go: each seen held, false and INVALID."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from labs.errors import RunInvalid, SpecError
from labs.verdicts import Verdict
from labs.verdicts.disruption import disruption
from labs.verdicts.flows import Ports
from labs.verdicts.imbalance import busiest_member, collisions
from labs.verdicts.polarisation import handed, hash_entropy, tiers_spread
from topologies.ecmp import FIVE_TUPLE, HashField
from topologies.member_loss import ChoosesBy
from topologies.switch_hash import mix
from traffic.flows import FiveTuple, Transport

NAMES = tuple(f"spine{number}" for number in range(1, 17))
FLOW = FiveTuple("10.0.0.1", "10.0.0.2", Transport.UDP, 49152, 4791)


def invalid(verdict: Verdict) -> str:
    with pytest.raises(RunInvalid):
        bool(verdict)
    return str(verdict.invalid_because)


def drawn(flows: int, members: int, seeds: int, *, weights: Sequence[float] | None = None) -> list[dict[str, int]]:
    share = np.array(weights or [1] * members, dtype=float)
    draws = np.random.default_rng(5).multinomial(flows, share / share.sum(), size=seeds)
    return [dict(zip(NAMES, map(int, draw), strict=False)) for draw in draws]


def dealt(flows: int, members: int) -> dict[str, int]:
    return {name: flows // members + (place < flows % members) for place, name in enumerate(NAMES[:members])}


class TestBusiestMember:
    @pytest.mark.parametrize("seeds", [1, 100])
    def test_chance_holds(self, seeds: int) -> None:
        verdict = busiest_member(drawn(1000, 16, seeds))
        assert verdict
        assert verdict.evidence.numbers["expected"] == pytest.approx(1.23, abs=0.002)

    def test_a_member_of_another_weight_is_seen(self) -> None:
        assert not busiest_member(drawn(1000, 16, 1, weights=(2, *[1] * 15)))
        assert not busiest_member(drawn(1000, 16, 100, weights=(1.3, *[1] * 15)))

    def test_dealt_in_turn_is_too_even(self) -> None:
        verdict = busiest_member([dealt(1000, 16)])
        assert not verdict
        assert "fewer than a hash would give it" in verdict.evidence.summary

    def test_too_few_say_nothing(self) -> None:
        assert "too few" in invalid(busiest_member([{"a": 4, "b": 0}]))
        assert "nothing was counted" in invalid(busiest_member([]))
        with pytest.raises(SpecError, match="as many flows and members in each"):
            busiest_member([{"a": 4, "b": 0}, {"a": 4, "b": 1}])


class TestCollisions:
    def test_chance_holds(self) -> None:
        verdict = collisions(drawn(4, 4, 400))
        assert verdict
        assert verdict.evidence.numbers["perfect_expected"] == 0.0938

    def test_dealt_flows_never_meet(self) -> None:
        assert "400 of 400 draws without a collision" in str(collisions([dealt(4, 4)] * 400))
        assert not collisions([dealt(4, 4)] * 400)

    def test_one_way_for_all_is_seen(self) -> None:
        assert not collisions([{"a": 4, "b": 0, "c": 0, "d": 0}] * 400)

    def test_a_missing_member_is_seen(self) -> None:
        assert not collisions(drawn(4, 4, 400, weights=(1, 1, 1, 0)))

    def test_too_few_draws_say_nothing(self) -> None:
        assert "too few" in invalid(collisions(drawn(4, 4, 100)))
        assert "nothing was drawn" in invalid(collisions([]))
        with pytest.raises(SpecError, match="no more flows than members"):
            collisions(drawn(5, 4, 1))

    def test_the_false_alarm_rate_is_at_most_the_stated_one(self) -> None:
        """2000 sound runs at 1e-2: 20 alarms are expected at most; 20 + 4 · √20 = 38 allows for chance."""
        draws = drawn(4, 4, 2000 * 60)
        runs = [collisions(draws[at : at + 60], false_alarm=0.01) for at in range(0, len(draws), 60)]
        assert 0 < sum(not run.held for run in runs) < 38


def two_tiers(leaf_seed: int, spine_seed: int, flows: int) -> dict[str, dict[str, dict[str, int]]]:
    """Flows over two spines by one hash, and over two cores a spine by another: {tier: {switch: {member: flows}}}."""
    draw = random.Random(9)
    leaf, spines = Counter[str](), {"spine1": Counter[str](), "spine2": Counter[str]()}
    for _ in range(flows):
        raw = draw.getrandbits(32)
        spine = ("spine1", "spine2")[mix(raw, leaf_seed) % 2]
        leaf[spine] += 1
        spines[spine][("core1", "core2")[mix(raw, spine_seed) % 2]] += 1
    return {
        "leaf": {"leaf1": {name: leaf[name] for name in spines}},
        "spine": {name: {core: cores[core] for core in ("core1", "core2")} for name, cores in spines.items()},
    }


class TestTiers:
    def test_a_seed_a_tier_holds(self) -> None:
        assert tiers_spread(two_tiers(5, 6, 200))

    def test_one_seed_polarises_the_upper_tier_alone(self) -> None:
        """Its max/mean is m, 2, and of four members two are used (F1)."""
        verdict = tiers_spread(two_tiers(5, 5, 200))
        assert not verdict
        assert "spine uses 2 of 4 members: polarised (max/mean 2.00)" in verdict.evidence.summary
        found = verdict.evidence.numbers["leaf"]
        assert isinstance(found, dict)
        assert found["used"] == 2

    def test_a_few_flows_a_switch_are_enough_together(self) -> None:
        """Three flows a switch say nothing of one: all on one of two members has p = 1/4; of twelve switches 6e-8."""
        one = {"a": 3, "b": 0}
        assert not tiers_spread({"leaf": {f"leaf{number}": one for number in range(12)}})
        assert "too few" in invalid(tiers_spread({"leaf": {"leaf1": one}}))

    def test_a_tier_that_is_uneven_and_uses_all_is_seen(self) -> None:
        assert not tiers_spread({"leaf": {"leaf1": {"a": 150, "b": 50}}})

    def test_a_tier_without_flows_says_nothing(self) -> None:
        assert "no switch with a choice" in invalid(tiers_spread({"spine": {"spine1": {"a": 0, "b": 0}}}))
        assert "there is no tier" in invalid(tiers_spread({}))

    def test_what_was_handed_is_read_off_paths(self) -> None:
        paths: dict[FiveTuple, Ports] = {
            FLOW: ("leaf1:eth1", "spine1:eth3"),
            replace(FLOW, sport=2): ("leaf1:eth2", ("spine2:eth3", "x")),
        }
        found = handed(paths, {"leaf1": ("eth1", "eth2"), "spine1": ("eth3", "eth4"), "spine2": ("eth3",)})
        assert found == {
            "leaf1": {"eth1": 1, "eth2": 1},
            "spine1": {"eth3": 1, "eth4": 0},
            "spine2": {"eth3": 0},
        }


def ports(*numbers: int, pairs: bool = True) -> list[FiveTuple]:
    return [replace(FLOW, sport=sport, queue_pair=at if pairs else 7) for at, sport in enumerate(numbers)]


class TestEntropy:
    def test_drawn_ports_hold_also_where_two_are_alike(self) -> None:
        """Of 64 drawn ports of 14 bits two are alike in 12 % of cases: no finding."""
        assert hash_entropy(ports(*range(50_000, 50_064)), members=16)
        assert hash_entropy(ports(50_000, *range(50_000, 50_063)), members=16)

    def test_a_fixed_source_port_is_named(self) -> None:
        verdict = hash_entropy(ports(*[49152] * 16), members=4)
        assert not verdict
        assert "16 flows are 1 different hash inputs: all have the fixed source port 49152" in str(verdict)
        assert verdict.evidence.numbers["used_expected"] == 0.25

    def test_it_is_no_matter_where_queue_pairs_are_hashed(self) -> None:
        fields = FIVE_TUPLE | HashField.DST_QP
        assert hash_entropy(ports(*[49152] * 16), members=4, fields=fields)
        assert not hash_entropy(ports(*[49152] * 16, pairs=False), members=4, fields=fields)

    def test_switches_that_hash_addresses_alone_are_named(self) -> None:
        verdict = hash_entropy(ports(*range(16)), members=4, fields=HashField.SRC_IP | HashField.DST_IP)
        assert not verdict
        assert "neither source port nor queue pair" in verdict.evidence.summary

    def test_one_flow_a_pair_says_nothing(self) -> None:
        flows = [replace(FLOW, dst=f"10.0.0.{number}") for number in range(2, 20)]
        assert "their addresses tell them apart" in invalid(hash_entropy(flows, members=4))


def ways(by: ChoosesBy, members: Sequence[str], flows: int, seed: int = 1) -> dict[object, str]:
    draw = random.Random(seed)
    hashes = [draw.getrandbits(32) for _ in range(flows)]
    return {
        flow: members[h % len(members) if by is ChoosesBy.MODULO else h * len(members) >> 32]
        for flow, h in enumerate(hashes)
    }


def rebucketed(before: dict[object, str], gone: str, members: Sequence[str]) -> dict[object, str]:
    return {flow: members[hash(flow) % len(members)] if at == gone else at for flow, at in before.items()}


class TestDisruption:
    OLD, NEW = NAMES[:4], NAMES[:3]

    def judged(self, before: dict[object, str], after: dict[object, str], by: ChoosesBy) -> Verdict:
        return disruption(before, after, members=(self.OLD, self.NEW), by=by)

    @pytest.mark.parametrize("by", [ChoosesBy.MODULO, ChoosesBy.THRESHOLD])
    def test_each_law_holds_for_itself_and_not_for_the_others(self, by: ChoosesBy) -> None:
        before, after = ways(by, self.OLD, 1000), ways(by, self.NEW, 1000)
        assert self.judged(before, after, by)
        for other in ChoosesBy:
            if other is not by:
                assert not self.judged(before, after, other)

    def test_resilient_moves_nothing_without_need(self) -> None:
        before = ways(ChoosesBy.MODULO, self.OLD, 200)
        after = rebucketed(before, NAMES[3], self.NEW)
        assert self.judged(before, after, ChoosesBy.RESILIENT)
        one = next(flow for flow, at in before.items() if at == NAMES[0])
        verdict = self.judged(before, {**after, one: NAMES[1]}, ChoosesBy.RESILIENT)
        assert not verdict
        assert "1 of" in verdict.evidence.summary
        assert not self.judged(before, after, ChoosesBy.MODULO)

    def test_a_flow_that_stays_on_what_is_gone_is_seen(self) -> None:
        before = ways(ChoosesBy.MODULO, self.OLD, 200)
        assert "on a member that is gone" in self.judged(before, before, ChoosesBy.RESILIENT).evidence.summary
        assert not self.judged(before, before, ChoosesBy.RESILIENT)

    def test_members_that_come(self) -> None:
        before, after = ways(ChoosesBy.MODULO, self.NEW, 1000), ways(ChoosesBy.MODULO, self.OLD, 1000)
        verdict = disruption(before, after, members=(self.NEW, self.OLD), by=ChoosesBy.MODULO)
        assert verdict
        assert verdict.claim == "from 3 members to 4 flows move as modulo moves them"
        assert not disruption(before, after, members=(self.NEW, self.OLD), by=ChoosesBy.THRESHOLD)

    def test_what_says_nothing(self) -> None:
        before = ways(ChoosesBy.MODULO, self.OLD, 200)
        after = rebucketed(before, NAMES[3], self.NEW)
        short = dict(list(after.items())[:-1])
        assert "one side only" in invalid(self.judged(before, short, ChoosesBy.RESILIENT))
        few = {flow: at for flow, at in before.items() if at != NAMES[3]}
        assert "no flow was on a member" in invalid(self.judged(few, few, ChoosesBy.RESILIENT))
        six = dict(list(before.items())[:6])
        assert "too few" in invalid(self.judged(six, rebucketed(six, NAMES[3], self.NEW), ChoosesBy.RESILIENT))
        pair = {1: "a", 2: "b"}
        verdict = disruption(pair, {1: "a", 2: "a"}, members=("ab", "a"), by=ChoosesBy.MODULO)
        assert "moves as many flows" in invalid(verdict)
