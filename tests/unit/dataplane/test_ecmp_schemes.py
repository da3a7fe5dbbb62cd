"""Schemes of load balancing: the lab's own profile, but for how one class is spread."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs.dataplane.ecmp_schemes import classes_of, flowlet_gap_us, scheme, schemes, with_scheme
from labs.dataplane.load import load_profile
from labs.dataplane.profile import Profile
from topologies.builders import leaf_spine
from topologies.ecmp import EcmpBy, EcmpMode
from topologies.errors import SpecError
from topologies.fabric import Tier
from topologies.units import GBIT, MBIT

SWITCHES = (("leaf1", Tier.LEAF), ("leaf2", Tier.LEAF), ("spine1", Tier.SPINE), ("spine2", Tier.SPINE))


def modes(profile: Profile, tc: int) -> set[EcmpMode]:
    return {profile.ecmp(node, tier)[tc].mode for node, tier in SWITCHES}


@pytest.mark.parametrize("base", ["roce_default", "switch_hash", "roce_entropy", "adaptive"])
@pytest.mark.parametrize("wanted", schemes(), ids=lambda one: one.name)
def test_only_one_class_changes(base: str, wanted: object) -> None:
    one = scheme(getattr(wanted, "name", ""))
    before = load_profile(base)
    after = with_scheme(before, one, classes=(3,), gap_us=700)
    for node, tier in SWITCHES:
        was, now = before.ecmp(node, tier, 5), after.ecmp(node, tier, 5)
        assert [rule for tc, rule in enumerate(now) if tc != 3] == [rule for tc, rule in enumerate(was) if tc != 3]
        assert now[3].mode is one.mode
        if one.by is not None:
            assert now[3].by is one.by
        if one.by_flowlet:
            assert now[3].gap_ns == 700_000
    tables = {table: rows for table, rows in after.tables.items() if table != "RAILBED_ECMP"}
    assert tables == {table: rows for table, rows in before.tables.items() if table != "RAILBED_ECMP"}


def test_rows_for_some_switches_do_not_win(tmp_path: Path) -> None:
    file = tmp_path / "mixed.yaml"
    file.write_text(
        "base: roce_default\nRAILBED_ECMP:\n  '*': {mode: switch_hash}\n  tier:leaf|3-4: {mode: adaptive}\n"
        "  spine2|3: {mode: pinned}\n  leaf2: {mode: roce}\n"
    )
    before = load_profile(str(file))
    assert len(modes(before, 3)) == 4
    after = with_scheme(before, scheme("spray"), classes=(3,), gap_us=1)
    assert modes(after, 3) == {EcmpMode.SPRAY}
    assert [after.ecmp(*one)[4] for one in SWITCHES] == [before.ecmp(*one)[4] for one in SWITCHES]


def test_what_is_derived_can_be_kept_in_a_file_and_read_again(tmp_path: Path) -> None:
    import json

    made = with_scheme(load_profile("adaptive"), scheme("spray:round_robin"), classes=(3,), gap_us=1)
    file = tmp_path / f"{made.name}.json"
    file.write_text(json.dumps(made.tables))
    again = load_profile(str(file))
    assert (again.name, again.tables) == ("compare_spray_round_robin", made.tables)


def test_names() -> None:
    assert scheme("adaptive") == scheme("adaptive:flowlet") == scheme(" ADAPTIVE ")
    assert (scheme("adaptive:packet").by, scheme("spray").by) == (EcmpBy.PACKET, EcmpBy.RANDOM)
    assert [one.name for one in schemes() if one.by_packet] == ["spray", "spray:round_robin", "adaptive:packet"]
    assert [one.name for one in schemes() if one.by_flowlet] == ["flowlet", "adaptive"]
    assert all(scheme(one.name) == one for one in schemes())


@pytest.mark.parametrize("word", ["sprai", "spray:flowlet", "", "dlb"])
def test_an_unknown_scheme_is_refused(word: str) -> None:
    with pytest.raises(SpecError, match="allowed: kernel, switch_hash, roce, flowlet, spray, spray:round_robin"):
        scheme(word)


def test_the_class_is_that_of_the_dscp() -> None:
    profile, fabric = load_profile("roce_default"), leaf_spine(2, 2, 1)
    assert [classes_of(profile, fabric, dscp) for dscp in (26, 4, 0)] == [(3,), (4,), (1,)]


@pytest.mark.parametrize(("rate", "gap_us"), [(100 * MBIT, 8192), (GBIT, 820), (10 * GBIT, 500)])
def test_a_flowlet_ends_after_a_marked_queue_has_drained(rate: int, gap_us: int) -> None:
    """100 KiB is where `roce_default` begins to mark: 8192 us at 100 Mbit/s. No less than the usual 500 us."""
    fabric = leaf_spine(2, 2, 1, host_rate=rate, uplink_rate=rate)
    assert flowlet_gap_us(load_profile("roce_default"), fabric, (3,)) == gap_us
    assert flowlet_gap_us(load_profile("pfc_only"), fabric, (3,)) == 500
