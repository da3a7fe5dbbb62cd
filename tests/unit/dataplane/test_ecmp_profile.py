"""The hash engine's tables: which rule each class of each switch gets, and what may not be said."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

from labs.dataplane.ecmp_choices import Choice, played, stated
from labs.dataplane.load import load_profile, profile_of, profile_schema
from labs.dataplane.plan import plan
from labs.dataplane.profile import Profile
from labs.dataplane.selectors import best_for, switch_selector
from labs.spec import EcmpHash, LabSpec, derived_seed
from topologies.builders import leaf_spine
from topologies.ecmp import FIVE_TUPLE, EcmpBy, EcmpMode, EcmpRule, HashAlgorithm, HashField
from topologies.errors import SpecError
from topologies.fabric import Tier
from topologies.yaml_source import parse

SCHEMA = jsonschema.Draft202012Validator(profile_schema())


def profile(text: str) -> Profile:
    return profile_of(parse(text.encode(), "mine.yaml"), name="mine")


def rules(text: str, node: str = "leaf1", tier: Tier = Tier.LEAF, seed: int = 0) -> tuple[EcmpRule, ...]:
    return profile(text).ecmp(node, tier, seed)


def test_without_a_row_the_kernel_decides() -> None:
    assert rules("{}") == (EcmpRule(),) * 16
    assert rules('SWITCH_HASH: {GLOBAL: {ecmp_hash: SRC_IP}}\nSWITCH_TABLE: {"*": {ecmp_hash_seed: 7}}') == (
        (EcmpRule(),) * 16
    )
    assert set(rules('RAILBED_ECMP: {"*": {mode: spray}, leaf1: {mode: kernel}}')) == {EcmpRule()}


def test_what_a_row_does_not_say() -> None:
    (rule,) = set(rules('RAILBED_ECMP: {"*": {mode: switch_hash}}', seed=5))
    seed = derived_seed(5, "hash/leaf")
    assert rule == EcmpRule(EcmpMode.SWITCH_HASH, HashAlgorithm.CRC, FIVE_TUPLE, seed, 0)


@pytest.mark.parametrize(
    ("row", "mode", "by"),
    [
        ("{mode: spray}", EcmpMode.SPRAY, EcmpBy.RANDOM),
        ("{mode: spray, by: round_robin}", EcmpMode.SPRAY, EcmpBy.ROUND_ROBIN),
        ("{mode: adaptive}", EcmpMode.ADAPTIVE, EcmpBy.FLOWLET),
        ("{mode: adaptive, by: packet}", EcmpMode.ADAPTIVE, EcmpBy.PACKET),
        ("{mode: pinned}", EcmpMode.PINNED, EcmpBy.QUEUE_PAIR),
        ("{mode: pinned, by: rail}", EcmpMode.PINNED, EcmpBy.RAIL),
        ("{mode: flowlet}", EcmpMode.FLOWLET, EcmpBy.RANDOM),
        ("{mode: resilient}", EcmpMode.RESILIENT, EcmpBy.RANDOM),
        ("{mode: weighted}", EcmpMode.WEIGHTED, EcmpBy.RANDOM),
    ],
)
def test_modes_and_what_they_choose_by(row: str, mode: EcmpMode, by: EcmpBy) -> None:
    (rule,) = set(rules(f'RAILBED_ECMP: {{"*": {row}}}'))
    assert (rule.mode, rule.by) == (mode, by)


def test_options_reach_the_rule() -> None:
    def one(row: str) -> EcmpRule:
        return rules(f'RAILBED_ECMP: {{"*": {row}}}')[0]

    assert one("{mode: flowlet, gap_us: '50'}").gap_ns == 50_000
    adaptive = one("{mode: adaptive, gap_us: 7, quantum: 9230, marked: 'true'}")
    assert (adaptive.gap_ns, adaptive.quantum, adaptive.marked) == (7000, 9230, True)
    resilient = one("{mode: resilient, idle_ms: 0, unbalanced_ms: 30000}")
    assert (resilient.idle_ms, resilient.unbalanced_ms) == (0, 30_000)


@pytest.mark.parametrize("listed", ["[DST_IP, SRC_IP, IN_PORT]", '"DST_IP,SRC_IP,IN_PORT"'])
def test_fields_and_algorithm_are_those_of_switch_hash(listed: str) -> None:
    text = f"SWITCH_HASH: {{GLOBAL: {{ecmp_hash: {listed}, ecmp_hash_algorithm: CRC_CCITT}}}}\n"
    text += 'RAILBED_ECMP: {"*": {mode: weighted}, spine1: {mode: roce}}'
    asked = HashField.SRC_IP | HashField.DST_IP | HashField.IN_PORT
    assert rules(text)[0].fields == asked
    assert rules(text)[0].algorithm is HashAlgorithm.CRC_CCITT
    assert rules(text, "spine1", Tier.SPINE)[0].fields == asked | HashField.DST_QP
    assert profile(text).tables["SWITCH_HASH"]["GLOBAL"]["ecmp_hash"] == "DST_IP,SRC_IP,IN_PORT"


def test_every_algorithm_and_field_of_ours_can_be_asked_for() -> None:
    for algorithm in HashAlgorithm:
        text = (
            f"SWITCH_HASH: {{GLOBAL: {{ecmp_hash_algorithm: {algorithm.name}}}}}\nRAILBED_ECMP: {{'*': {{mode: roce}}}}"
        )
        assert rules(text)[0].algorithm is algorithm
    for field in HashField:
        if field is not HashField.DST_QP:
            text = f"SWITCH_HASH: {{GLOBAL: {{ecmp_hash: {field.name}}}}}\nRAILBED_ECMP: {{leaf1: {{mode: spray}}}}"
            assert rules(text)[0].fields is field


def test_the_more_exact_place_then_the_more_exact_class() -> None:
    text = """
base: roce_default
RAILBED_ECMP:
  "*": {mode: switch_hash}
  "*|3-4": {mode: roce}
  "*|4": {mode: spray}
  tier:spine: {mode: flowlet}
  tier:spine|4: {mode: weighted}
  spine2|0-2: {mode: adaptive}
"""

    def modes(node: str, tier: Tier) -> list[str]:
        return [rule.mode.name.lower() for rule in rules(text, node, tier)[:6]]

    hashed, flowlet = "switch_hash", "flowlet"
    assert modes("leaf1", Tier.LEAF) == [hashed, hashed, hashed, "roce", "spray", hashed]
    assert modes("spine1", Tier.SPINE) == [flowlet, flowlet, flowlet, flowlet, "weighted", flowlet]
    assert modes("spine2", Tier.SPINE) == ["adaptive", "adaptive", "adaptive", flowlet, "weighted", flowlet]


def test_seeds() -> None:
    """Stated ones count, the most exact row alone; others are the tier's, as the kernel's own are."""
    text = """
SWITCH_TABLE: {switch: {ecmp_hash_seed: "10", ecmp_hash_offset: 3}, tier:spine: {ecmp_hash_offset: 10}}
RAILBED_ECMP: {"*": {mode: switch_hash}}
"""
    leaf, spine = rules(text, seed=7)[0], rules(text, "spine1", Tier.SPINE, 7)[0]
    assert (leaf.seed, leaf.offset) == (10, 3)
    assert (spine.seed, spine.offset) == (LabSpec("x", "x", seed=7).hash_of(Tier.SPINE).seed, 10)
    assert EcmpHash().seed is None
    bare = 'RAILBED_ECMP: {"*": {mode: switch_hash}}'
    seeds = {rules(bare, f"{tier}1", tier, 7)[0].seed for tier in (Tier.LEAF, Tier.SPINE, Tier.CORE)}
    assert len(seeds) == 3, "tiers do not choose alike"
    assert rules(bare, "leaf2", Tier.LEAF, 7) == rules(bare, "leaf1", Tier.LEAF, 7)
    assert rules(bare, seed=8) != rules(bare, seed=7)


def test_a_node_may_be_called_as_the_beginning_of_a_tier() -> None:
    assert switch_selector("tier").node == "tier"
    assert switch_selector("tier:leaf|3").tier == "leaf"
    assert best_for(["*|0-15", "*"], "leaf1", Tier.LEAF, 15) == "*|0-15"
    assert best_for(["leaf1|3"], "leaf1", Tier.LEAF, 4) is None


def test_a_hash_that_nothing_uses_is_said() -> None:
    text = 'SWITCH_HASH: {GLOBAL: {ecmp_hash: SRC_IP}}\nSWITCH_TABLE: {"*": {ecmp_hash_seed: 1}}'
    assert [remark.partition(":")[0] for remark in profile(text).remarks] == ["SWITCH_HASH", "SWITCH_TABLE"]
    assert profile(text + '\nRAILBED_ECMP: {"*": {mode: kernel}}').remarks
    assert profile(text + '\nRAILBED_ECMP: {"*": {mode: spray}}').remarks == ()


def test_the_tables_come_back() -> None:
    text = """
SWITCH_HASH: {GLOBAL: {ecmp_hash: [SRC_IP, IPV6_FLOW_LABEL], ecmp_hash_algorithm: XOR}}
SWITCH_TABLE: {tier:leaf: {ecmp_hash_seed: 4294967295}}
RAILBED_ECMP: {"*": {mode: adaptive, marked: true, quantum: 5}, tier:leaf: {mode: resilient, idle_ms: 9}}
"""
    made = profile(text)
    again = profile(json.dumps(made.tables))
    assert again.tables == made.tables
    assert again.ecmp("leaf1", Tier.LEAF, 3) == made.ecmp("leaf1", Tier.LEAF, 3)
    assert made.tables["RAILBED_ECMP"]["*"] == {"mode": "adaptive", "marked": "true", "quantum": "5"}
    SCHEMA.validate(made.tables)


@pytest.mark.parametrize(
    "wrong",
    [
        "RAILBED_ECMP: {'*': {mode: ecmp}}",
        "RAILBED_ECMP: {'*|16': {mode: spray}}",
        "RAILBED_ECMP: {'leaf1:eth1': {mode: spray}}",
        "SWITCH_HASH: {GLOBAL: {ecmp_hash: [VLAN_ID]}}",
        "SWITCH_HASH: {GLOBAL: {ecmp_hash: [SRC_IP, SRC_IP]}}",
        "SWITCH_HASH: {GLOBAL: {ecmp_hash: 'SRC_IP,'}}",
        "SWITCH_HASH: {leaf1: {}}",
        "SWITCH_TABLE: {'*': {ecmp_hash_offset: 32}}",
    ],
)
def test_the_schema_refuses(wrong: str) -> None:
    assert not SCHEMA.is_valid(yaml.safe_load(wrong))
    with pytest.raises(SpecError):
        profile(wrong)


def test_shipped_profiles() -> None:
    def modes(name: str) -> set[tuple[int, EcmpMode]]:
        return {(tc, rule.mode) for tc, rule in enumerate(load_profile(name).ecmp("leaf1", Tier.LEAF))}

    hashed = {(tc, EcmpMode.SWITCH_HASH) for tc in range(16)}
    assert modes("switch_hash") == hashed
    assert modes("roce_entropy") ^ hashed == {
        (tc, mode) for tc in (3, 4) for mode in (EcmpMode.ROCE, EcmpMode.SWITCH_HASH)
    }
    assert modes("adaptive") ^ hashed == {
        (tc, mode) for tc in (3, 4) for mode in (EcmpMode.ADAPTIVE, EcmpMode.SWITCH_HASH)
    }
    for name in ("roce_default", "pfc_only", "ecn_only", "lossy"):
        assert {mode for _, mode in modes(name)} == {EcmpMode.KERNEL}


def named(choices: tuple[Choice, ...]) -> list[tuple[str, int, str, bool]]:
    return [(",".join(one.switches), len(one.classes), one.rule.mode.name, one.seeded) for one in choices]


def test_what_a_profile_says_without_a_lab() -> None:
    assert named(stated(profile("{}"))) == [("*", 16, "KERNEL", False)]
    assert named(stated(load_profile("roce_entropy"))) == [("*", 14, "SWITCH_HASH", False), ("*", 2, "ROCE", False)]
    mixed = profile(
        "RAILBED_ECMP: {tier:leaf: {mode: spray}, leaf7: {mode: pinned}}\nSWITCH_TABLE: {leaf7: {ecmp_hash_seed: 1}}"
    )
    assert named(stated(mixed)) == [
        ("tier:leaf", 16, "SPRAY", False),
        ("tier:spine", 16, "KERNEL", False),
        ("tier:core", 16, "KERNEL", False),
        ("leaf7", 16, "PINNED", True),
    ]
    of_a_tier = profile("RAILBED_ECMP: {tier:spine|3: {mode: spray}, x|4: {mode: pinned}}\nbase: roce_default")
    assert {one.switches[0] for one in stated(of_a_tier)} >= {"x as a spine", "x as a leaf"}


def test_what_the_switches_of_a_lab_do() -> None:
    fabric = leaf_spine(spines=2, leaves=2, hosts_per_leaf=1)
    choices = played(plan(load_profile("switch_hash"), fabric, seed=3))
    assert {one.switches: one.rule.seed for one in choices} == {
        ("spine1", "spine2"): derived_seed(3, "hash/spine"),
        ("leaf1", "leaf2"): derived_seed(3, "hash/leaf"),
    }


@pytest.mark.parametrize(
    ("row", "hashes"),
    [
        ("{mode: switch_hash}", True),
        ("{mode: pinned}", True),
        ("{mode: pinned, by: rail}", False),
        ("{mode: spray}", False),
        ("{mode: adaptive}", True),
        ("{mode: adaptive, by: packet}", False),
        ("{mode: adaptive, by: packet, marked: true}", True),
        ("{mode: kernel}", False),
    ],
)
def test_where_fields_decide(row: str, *, hashes: bool) -> None:
    (choice,) = stated(profile(f'RAILBED_ECMP: {{"*": {row}}}'))
    assert choice.hashes is hashes
