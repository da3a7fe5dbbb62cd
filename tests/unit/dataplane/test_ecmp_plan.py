"""What asicd is told of the hash engine: each way of hashing once, and none that is in use overwritten."""

from __future__ import annotations

from ctypes import sizeof
from dataclasses import replace
from pathlib import Path

import pytest

from labs.dataplane import asic
from labs.dataplane.abi import PortKind, PortProfile, PortState
from labs.dataplane.abi_ecmp import EcmpProfile
from labs.dataplane.asic import SoftAsic, plan_of
from labs.dataplane.encoding import ecmp_profile
from labs.dataplane.load import load_profile, profile_of
from labs.dataplane.plan import LabPlan, plan
from labs.dataplane.profile import Profile
from labs.dataplane.slots import Slots, empty_slots, free_slots, profile_slots
from topologies.builders import leaf_spine
from topologies.ecmp import EcmpBy, EcmpMode, EcmpRule, HashAlgorithm, HashField
from topologies.errors import SpecError
from topologies.yaml_source import parse

FABRIC = leaf_spine(spines=2, leaves=2, hosts_per_leaf=2)
HASHED = load_profile("switch_hash")
ADAPTIVE = load_profile("adaptive")


def mine(text: str) -> Profile:
    return profile_of(parse(text.encode(), "mine.yaml"), name="mine")


def told(of: LabPlan, name: str) -> PortProfile:
    port = next(port for port in of.ports if f"{port.node}:{port.name}" == name)
    return PortProfile.from_buffer_copy(of.profiles[port.profile])


def rule_of(of: LabPlan, name: str, tc: int) -> EcmpProfile:
    return EcmpProfile.from_buffer_copy(of.ecmps[told(of, name).ecmp_of_tc[tc] - 1])


def test_every_field_of_a_rule_lands_where_it_belongs() -> None:
    rule = EcmpRule(
        mode=EcmpMode.ADAPTIVE,
        algorithm=HashAlgorithm.CRC_XOR,
        fields=HashField.DST_QP | HashField.INNER_L4_DST_PORT,
        seed=2**32 - 1,
        offset=31,
        by=EcmpBy.FLOWLET,
        quantum=9230,
        gap_ns=2**33,
        idle_ms=4,
        unbalanced_ms=5,
        marked=True,
    )
    made = EcmpProfile.from_buffer_copy(bytes(ecmp_profile(rule)))
    for name in rule.__dataclass_fields__:
        assert getattr(made, name) == getattr(rule, name), name


def test_the_kernels_own_hash_needs_nothing() -> None:
    for name in ("roce_default", "lossy"):
        planned = plan(load_profile(name), FABRIC)
        assert planned.ecmps == ()
        assert {told(planned, str(port)).ecmp for node in FABRIC.nodes for port in FABRIC.ports(node)} == {0}
        assert not [line for line in empty_slots(planned).lines if line.startswith("ecmp")]


def test_each_way_of_hashing_stands_once() -> None:
    planned = plan(ADAPTIVE, FABRIC, seed=7)
    assert len(planned.ecmps) == len(set(planned.ecmps)) == 4, "two tiers, each hashed and adaptive"
    leaf = told(planned, "leaf1:eth1")
    assert leaf.ecmp == 1
    assert list(leaf.ecmp_of_tc) == list(told(planned, "leaf2:eth3").ecmp_of_tc)
    assert [rule_of(planned, "leaf1:eth1", tc).mode for tc in range(6)] == [1, 1, 1, 5, 5, 1]
    assert rule_of(planned, "leaf1:eth1", 3).seed == ADAPTIVE.ecmp("leaf1", FABRIC.node("leaf1").tier, 7)[3].seed
    assert rule_of(planned, "spine1:eth1", 0).seed != rule_of(planned, "leaf1:eth1", 0).seed


def test_rules_travel_with_the_plan() -> None:
    planned = plan(ADAPTIVE, FABRIC, seed=7)
    for node in planned.nodes:
        design = FABRIC.node(node.name)
        assert node.ecmp == (ADAPTIVE.ecmp(node.name, design.tier, 7) if design.is_switch else ())


def test_hosts_hash_nothing() -> None:
    planned = plan(HASHED, FABRIC)
    for port in planned.ports:
        assert told(planned, f"{port.node}:{port.name}").ecmp == (port.kind is PortKind.SWITCH)
    assert set(told(planned, "host1:eth1").ecmp_of_tc) == {0}


def test_the_engine_of_one_switch() -> None:
    planned = plan(mine("RAILBED_ECMP: {leaf1: {mode: spray}}"), FABRIC)
    assert (told(planned, "leaf1:eth1").ecmp, told(planned, "leaf2:eth1").ecmp, len(planned.ecmps)) == (1, 0, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "RAILBED_ECMP: {leaf9: {mode: spray}}",
            r"RAILBED_ECMP.leaf9: found no switch called leaf9 \(did you mean leaf",
        ),
        ("RAILBED_ECMP: {host1: {mode: spray}}", "RAILBED_ECMP.host1: found the host host1, which forwards nothing"),
        (
            "RAILBED_ECMP: {tier:core: {mode: spray}}",
            "RAILBED_ECMP.tier:core: found no core in .*tier:leaf, tier:spine",
        ),
        ("SWITCH_TABLE: {spine3: {ecmp_hash_seed: 1}}", "SWITCH_TABLE.spine3: found no switch called spine3"),
    ],
)
def test_switches_that_do_not_exist(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        plan(mine(text), FABRIC)


def test_a_switch_has_one_table_of_buckets() -> None:
    rows = "'*|3': {mode: resilient, idle_ms: 10}, '*|4': {mode: resilient, idle_ms: %d}"
    rows = f"base: roce_default\nRAILBED_ECMP: {{{rows}}}"
    assert len(plan(mine(rows % 10), FABRIC).ecmps) == 2, "a tier each"
    with pytest.raises(SpecError, match="RAILBED_ECMP: found resilient classes of spine1 with different times"):
        plan(mine(rows % 11), FABRIC)


def test_more_ways_of_hashing_than_there_is_room_for() -> None:
    def seeded(leaves: int) -> LabPlan:
        seeds = ", ".join(f"leaf{n}: {{ecmp_hash_seed: {n}}}" for n in range(1, leaves + 1))
        fabric = leaf_spine(spines=1, leaves=leaves, hosts_per_leaf=1)
        rows = "tier:leaf: {mode: switch_hash}, tier:leaf|3: {mode: roce}, tier:leaf|4: {mode: spray}"
        return plan(mine(f"base: roce_default\nSWITCH_TABLE: {{{seeds}}}\nRAILBED_ECMP: {{{rows}}}"), fabric)

    assert len(seeded(85).ecmps) == 3 * 85
    with pytest.raises(SpecError, match="RAILBED_ECMP: found more than 255 ways of hashing"):
        seeded(86)


def test_room_for_resilient_groups() -> None:
    # 4 switches, 8 nodes, IPv4 and IPv6.
    assert plan(HASHED, FABRIC).groups == 4 * 8 * 2
    assert plan(HASHED, leaf_spine(spines=1, leaves=1, hosts_per_leaf=1)).groups == 64
    assert plan(HASHED, leaf_spine(spines=16, leaves=64, hosts_per_leaf=1)).groups == 8192


def words(lines: tuple[str, ...], verb: str) -> dict[int, bytes]:
    """What is told with a verb: place to bytes."""
    found = [line.split() for line in lines if line.startswith(verb + " ")]
    return {int(at.removeprefix("at=")): bytes.fromhex(made.removeprefix("bytes=")) for _, at, made in found}


def test_what_a_new_asic_is_told() -> None:
    planned = plan(ADAPTIVE, FABRIC)
    slots = empty_slots(planned)
    assert list(words(slots.lines, "ecmp").items()) == list(enumerate(planned.ecmps, 1))
    assert list(words(slots.lines, "profile").items()) == list(enumerate(planned.profiles))
    verbs = [line.split()[0] for line in slots.lines]
    assert verbs == ["ecmp"] * 4 + ["profile"] * 2 + ["profile"] * (len(planned.profiles) - 2), "ecmp before its users"


class Playing:
    """The maps of a soft ASIC, told line by line; it refuses to change what is in use."""

    def __init__(self, planned: LabPlan) -> None:
        self.profiles = bytearray(profile_slots(planned) * sizeof(PortProfile))
        self.ecmps = bytearray(256 * sizeof(EcmpProfile))
        self.of_port: dict[int, int] = {}
        self.obey(empty_slots(planned), planned)

    @property
    def used(self) -> set[int]:
        return set(self.of_port.values())

    @property
    def hashing(self) -> set[int]:
        return {number for at in self.used for number in self.profile(at).ecmp_of_tc} - {0}

    def profile(self, at: int) -> PortProfile:
        return PortProfile.from_buffer_copy(self.profiles, at * sizeof(PortProfile))

    def obey(self, slots: Slots, planned: LabPlan) -> None:
        for number, made in words(slots.lines, "ecmp").items():
            assert 0 < number < 256
            assert number not in self.hashing
            self.ecmps[number * sizeof(EcmpProfile) : (number + 1) * sizeof(EcmpProfile)] = made
        for at, made in words(slots.lines, "profile").items():
            assert at not in self.used
            self.profiles[at * sizeof(PortProfile) : (at + 1) * sizeof(PortProfile)] = made
        self.of_port = {port.number: slots.profiles[port.profile] for port in planned.ports}

    def turn(self, planned: LabPlan) -> Slots:
        slots = free_slots(planned, used=self.used, profiles=bytes(self.profiles), ecmps=bytes(self.ecmps))
        self.obey(slots, planned)
        return slots

    def modes(self, planned: LabPlan, name: str) -> list[int]:
        """By class, as the data plane follows it."""
        port = next(port for port in planned.ports if f"{port.node}:{port.name}" == name)
        size = sizeof(EcmpProfile)
        of_tc = self.profile(self.of_port[port.number]).ecmp_of_tc
        return [EcmpProfile.from_buffer_copy(self.ecmps, number * size).mode if number else 0 for number in of_tc]


def test_turning_from_one_way_to_another_and_back() -> None:
    wanted = [plan(one, FABRIC) for one in (load_profile("roce_default"), HASHED, ADAPTIVE, HASHED)]
    wanted += [plan(mine('RAILBED_ECMP: {"*": {mode: spray}}'), FABRIC), wanted[0], wanted[2]]
    playing = Playing(wanted[0])
    expected = [[1] * 6, [1, 1, 1, 5, 5, 1], [1] * 6, [4] * 6, [0] * 6, [1, 1, 1, 5, 5, 1]]
    for planned, modes in zip(wanted[1:], expected, strict=True):
        playing.turn(planned)
        assert playing.modes(planned, "leaf1:eth1")[:6] == modes


def test_a_way_of_hashing_that_stays_is_not_told_again() -> None:
    playing = Playing(plan(HASHED, FABRIC))
    assert len(words(playing.turn(plan(ADAPTIVE, FABRIC)).lines, "ecmp")) == 2, "the adaptive ones alone"
    assert words(playing.turn(plan(ADAPTIVE, FABRIC)).lines, "ecmp") == {}


def test_no_room_beside_what_is_in_use() -> None:
    many = plan(HASHED, FABRIC)
    many = replace(many, ecmps=tuple(bytes([at]) * sizeof(EcmpProfile) for at in range(1, 256)))
    playing = Playing(plan(HASHED, FABRIC))
    with pytest.raises(
        SpecError, match="the profile needs 255 ways of hashing beside the 2 in use; allowed: 255 in all"
    ):
        playing.turn(many)
    with pytest.raises(SpecError, match="kinds of port beside the 4 in use"):
        free_slots(many, used=range(4), profiles=bytes(4 * sizeof(PortProfile)), ecmps=b"")


def test_apply_tells_what_the_engine_needs_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab whose engine was never on: its map is not there."""
    before = plan_of(load_profile("roce_default"), FABRIC, 7)
    playing, said, asked = Playing(before), list[str](), list[frozenset[str]]()
    states = (PortState * (len(before.ports) + 1))()
    for port in before.ports:
        states[port.number].profile, states[port.number].rate_bps = port.profile, port.rate_bps

    def read_maps(folder: Path, values: dict[str, int], *, optional: frozenset[str] = frozenset()) -> dict[str, bytes]:
        del folder
        asked.append(optional & set(values))
        there = {"ports": bytes(states), "profiles": bytes(playing.profiles)}
        return {name: there[name] for name in values if name in there or name not in optional}

    monkeypatch.setattr(asic, "read_maps", read_maps)
    monkeypatch.setattr(asic, "tell", lambda _, lines: said.extend(lines))
    asic._keep(tmp_path, load_profile("roce_default"))
    SoftAsic("a-lab", FABRIC, tmp_path, 7).apply(HASHED)
    assert asked == [frozenset(), {"ecmps"}]
    verbs = [line.split()[0] for line in said]
    assert verbs.index("pool") < verbs.index("ecmp") < verbs.index("profile") < verbs.index("apply")
    assert verbs.count("ecmp") == 2
    again = SoftAsic("a-lab", FABRIC, tmp_path, 7)
    assert again.plan == plan(HASHED, FABRIC, seed=7)


@pytest.mark.parametrize("name", ["roce_default", "adaptive"])
def test_asicd_is_told_the_rows_of_a_later_profile_too(name: str) -> None:
    wanted = plan(load_profile(name), FABRIC)
    sizes = asic._sizes("a-lab", wanted)
    assert sizes[sizes.index("--groups") + 1] == str(wanted.groups + 1)
    assert sizes[sizes.index("--ports") + 1] == str(len(wanted.ports))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("RAILBED_ECMP:\n  leaf9: {mode: spray}\n", "own.yaml:3: RAILBED_ECMP.leaf9: found no switch"),
        ("\nQUEUE:\n  leaf9:eth1|3: {scheduler: strict}\n", "own.yaml:4: QUEUE.'leaf9:eth1|3': found no node"),
        ("BUFFER_POOL:\n  ingress_pool:\n    size: 90000\n", "own.yaml:4: BUFFER_POOL.ingress_pool.size: found 90000"),
    ],
)
def test_what_only_a_fabric_shows_wrong_has_file_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own.yaml").write_text(f"base: roce_default\n{text}")
    with pytest.raises(SpecError) as caught:
        plan(load_profile("own.yaml", tmp_path), FABRIC)
    assert str(caught.value).startswith(str(tmp_path / said))
