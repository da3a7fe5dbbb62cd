"""Edits of a profile: laid over it, and gone without a trace in any order."""

from __future__ import annotations

from itertools import permutations

import pytest

from labs.dataplane.edits import Edit, carried_over, edited, edits_of, port_row, profile_from
from labs.dataplane.load import load_profile
from topologies.errors import SpecError

TABLES = load_profile("roce_default").tables
PFC = Edit("PORT_QOS_MAP", port_row("leaf1", "eth1"), {"pfc_enable": None})
DSCP = (
    Edit("DSCP_TO_TC_MAP", "leaf1.dscp0", {"26": "0"}, like="AZURE"),
    Edit("PORT_QOS_MAP", port_row("leaf1", "eth1"), {"dscp_to_tc_map": "leaf1.dscp0"}),
)
MARKS = (
    Edit("WRED_PROFILE", "leaf1.wred0", {"green_max_threshold": "999999"}, like="AZURE_LOSSLESS"),
    Edit("QUEUE", port_row("leaf1", "eth1", 3), {"wred_profile": "leaf1.wred0"}),
)


def test_a_port_s_row_begins_as_the_row_that_spoke_for_it() -> None:
    found = edited(TABLES, [PFC])["PORT_QOS_MAP"]["leaf1:eth1"]
    assert found == {name: value for name, value in TABLES["PORT_QOS_MAP"]["*"].items() if name != "pfc_enable"}
    assert edited(TABLES, MARKS)["QUEUE"]["leaf1:eth1|3"]["scheduler"] == TABLES["QUEUE"]["*|3-4"]["scheduler"]


def test_only_the_port_that_is_named_changes() -> None:
    profile = profile_from(edited(TABLES, MARKS), "variant")
    wred = profile.port("leaf1", "eth1").queues[3].wred
    assert wred is not None
    assert (wred.max_bytes, wred.min_bytes) == (999999, 102400)
    for place in (("leaf1", "eth2"), ("leaf2", "eth1")):
        assert profile.port(*place) == load_profile("roce_default").port(*place)


def test_what_is_beneath_stays_as_it_was() -> None:
    before = load_profile("roce_default").tables
    edited(TABLES, [PFC, *DSCP, *MARKS])
    assert before == TABLES


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_faults_that_meet_in_one_row_are_taken_away_in_any_order(order: tuple[int, ...]) -> None:
    """Each that stays looks as if the others had never been."""
    faults: dict[int, tuple[Edit, ...]] = {0: (PFC,), 1: DSCP, 2: MARKS}
    left = TABLES
    while faults:
        del faults[next(at for at in order if at in faults)]
        left = edited(TABLES, [one for edits in faults.values() for one in edits])
        alone = TABLES
        for edits in faults.values():
            alone = edited(alone, edits)
        assert left == alone
    assert left == TABLES


def test_what_somebody_else_changed_meanwhile_is_carried_over() -> None:
    """A field that was set, one that was taken out, a row of its own, and a row that went."""
    expected = edited(TABLES, DSCP)
    theirs = edited(expected, [Edit("WRED_PROFILE", "AZURE_LOSSLESS", {"green_max_threshold": "800000"})])
    theirs = edited(theirs, [Edit("PORT_QOS_MAP", "*", {"pfcwd_sw_enable": None})])
    theirs = edited(theirs, [Edit("WRED_PROFILE", "own", {"ecn": "ecn_none"})])
    del theirs["PFC_WD"]["*"]
    found = carried_over(TABLES, expected, theirs)
    assert found["WRED_PROFILE"]["AZURE_LOSSLESS"]["green_max_threshold"] == "800000"
    assert "pfcwd_sw_enable" not in found["PORT_QOS_MAP"]["*"]
    assert found["WRED_PROFILE"]["own"] == {"ecn": "ecn_none"}
    assert "*" not in found["PFC_WD"]
    assert "leaf1.dscp0" not in found["DSCP_TO_TC_MAP"]
    assert carried_over(TABLES, expected, expected) == TABLES


def test_an_edit_that_makes_nonsense_is_refused_as_a_file_would_be() -> None:
    with pytest.raises(SpecError, match="is lossless, and no priority of pfc_enable leads to it"):
        profile_from(edited(TABLES, [PFC]), "variant")


def test_edits_are_json() -> None:
    every = (PFC, *DSCP, *MARKS)
    assert edits_of([one.as_dict() for one in every]) == every
    assert PFC.paths == ("PORT_QOS_MAP/leaf1:eth1/pfc_enable",)
