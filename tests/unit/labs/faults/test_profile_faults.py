"""Faults of a profile, laid over it and taken away, also after a crash at any moment in between; what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labs import index
from labs.dataplane.edits import Edit, profile_from
from labs.dataplane.load import load_profile
from labs.dataplane.profile import Profile
from labs.errors import CapabilityMissing, SpecError
from labs.faults import catalogue
from labs.faults.fault import Step, clash, locate
from labs.faults.profiles import BENEATH_FILE, beneath, profile_back, profile_step
from labs.faults.undoing import WentWithIt
from labs.lab import Lab
from topologies.load import load_fabric


class Asic:
    """A soft ASIC as far as faults of profiles ask one: what it plays, and how often it was turned."""

    plays = True

    def __init__(self) -> None:
        self.profile = load_profile("roce_default")
        self.turned = 0

    def reread(self) -> None:
        """Nobody else turns it."""

    def check(self, profile: Profile) -> None:
        """It plays everything."""

    def apply(self, profile: Profile) -> int:
        self.profile, self.turned = profile, self.turned + 1
        return 1


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("RAILBED_STATE_DIR", str(tmp_path))
    fabric = load_fabric("clos_2x4")
    nodes = {node.name: SimpleNamespace(name=node.name, node=node) for node in fabric.nodes}
    index.lab_dir("quiet").mkdir(parents=True)
    return cast(
        "Lab",
        SimpleNamespace(name="quiet", fabric=fabric, asic=Asic(), node=lambda name: nodes[fabric.node(name).name]),
    )


def test_where_asicd_has_ended_its_faults_are_over(lab: Lab) -> None:
    """What it played went with it: that is said, the edits are forgotten, and nothing is asked of it."""
    steps = [step(lab, *one) for one in PAIR[:1]]
    for one in steps:
        one.make()
    asic = cast("Asic", lab.asic)
    asic.plays, turned = False, asic.turned
    with pytest.raises(WentWithIt, match="asicd has ended"):
        profile_back(lab, steps[0].args)
    assert asic.turned == turned
    assert not (index.lab_dir(lab.name) / BENEATH_FILE).exists()


def step(lab: Lab, name: str, target: str, **params: object) -> Step:
    chosen = catalogue.fault(name)
    (found,) = chosen.steps(locate(lab, chosen, target, params))
    return found


def played(lab: Lab) -> Mapping[str, Any]:
    return cast("Asic", lab.asic).profile.tables


PAIR = (("pfc-off", "host1:leaf1"), ("dscp-map-mismatch", "leaf1"), ("cnp-wrong-queue", "leaf1"))
ORIGINAL = load_profile("roce_default").tables


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_any_order(lab: Lab, order: Sequence[int]) -> None:
    """Three that meet on one switch; each is gone alone, the last leaves nothing at all."""
    steps = []
    for one in PAIR:
        steps.append(step(lab, *one))
        steps[-1].make()
    for at in order:
        profile_back(lab, steps[at].args)
        profile_back(lab, steps[at].args)  # idempotent
    assert played(lab) == ORIGINAL
    assert not (index.lab_dir(lab.name) / BENEATH_FILE).exists()


def test_a_dscp_of_each(lab: Lab) -> None:
    first, second = step(lab, "dscp-map-mismatch", "leaf1", dscp="26"), step(lab, "cnp-wrong-queue", "leaf1")
    assert clash(first.claims, second.claims) is None
    first.make()
    second = step(lab, "cnp-wrong-queue", "leaf1")
    second.make()
    row = played(lab)["DSCP_TO_TC_MAP"]["leaf1.dscp0"]
    assert (row["26"], row["48"], row["4"]) == ("0", "0", "4")
    profile_back(lab, first.args)
    row = played(lab)["DSCP_TO_TC_MAP"]["leaf1.dscp0"]
    assert (row["26"], row["48"]) == ("3", "0")


def test_killed_between_its_word_and_its_deed(lab: Lab) -> None:
    """The file says so, the ports do not: taken back all the same."""
    made, kept = step(lab, "buffer-alpha", "leaf1"), index.lab_dir(lab.name) / BENEATH_FILE
    made.make()
    cast("Asic", lab.asic).profile = load_profile("roce_default")
    profile_back(lab, made.args)
    assert played(lab) == ORIGINAL
    assert not kept.exists()


def test_killed_between_undoing_and_writing_it_down(lab: Lab) -> None:
    """The ports are turned back, the file does not say so: the second try changes nothing else."""
    made = step(lab, "buffer-alpha", "leaf1")
    made.make()
    other = step(lab, "ecn-thresholds", "leaf2")
    other.make()
    kept = (index.lab_dir(lab.name) / BENEATH_FILE).read_text()
    profile_back(lab, made.args)
    (index.lab_dir(lab.name) / BENEATH_FILE).write_text(kept)
    profile_back(lab, made.args)
    assert list(json.loads((index.lab_dir(lab.name) / BENEATH_FILE).read_text())["faults"]) == [other.args["token"]]
    profile_back(lab, other.args)
    assert played(lab) == ORIGINAL


def test_what_somebody_set_meanwhile_stays(lab: Lab) -> None:
    made = step(lab, "ecn-thresholds", "leaf1")
    made.make()
    asic = cast("Asic", lab.asic)
    tables = {table: {key: dict(row) for key, row in rows.items()} for table, rows in asic.profile.tables.items()}
    tables["WRED_PROFILE"]["AZURE_LOSSLESS"]["green_max_threshold"] = "500000"
    asic.apply(profile_from(tables, "roce_default"))
    profile_back(lab, made.args)
    assert played(lab)["WRED_PROFILE"] == {
        "AZURE_LOSSLESS": {**ORIGINAL["WRED_PROFILE"]["AZURE_LOSSLESS"], "green_max_threshold": "500000"}
    }
    assert played(lab)["QUEUE"] == ORIGINAL["QUEUE"]


@pytest.mark.parametrize(
    ("name", "target", "params", "said"),
    [
        ("pfc-off", "leaf1:spine1", {}, "leaf1:spine1: which end\\?; allowed: end=leaf1 | end=spine1"),
        ("pfc-off", "leaf1:spine1", {"end": "leaf2"}, "end=leaf2"),
        ("pfc-priority-mismatch", "host1:leaf1", {"priority": "3"}, "priority=3: PFC is on for it already"),
        ("ecn-thresholds", "leaf1", {"kmin": "9", "kmax": "8"}, "kmin=9 above kmax=8"),
        ("dscp-map-mismatch", "leaf1", {"dscp": "64"}, "dscp=64"),
        ("buffer-alpha", "leaf1", {"dynamic_th": "8"}, "dynamic_th=8"),
        ("buffer-alpha", "host1", {}, "host1 is no switch"),
        ("slow-receiver", "host1", {"xon": "9", "xoff": "9"}, "xon=9"),
        ("slow-receiver", "host1", {"share": "0"}, "share=0"),
        ("slow-receiver", "leaf1", {}, "leaf1 is no host"),
        ("nic-pfc-storm", "host1", {"priority": "8"}, "priority=8"),
        ("fixed-source-port", "", {"host": "leaf1"}, "host=leaf1"),
        ("fixed-source-port", "host1", {}, "target 'host1'"),
    ],
)
def test_what_is_no_such_fault_is_refused(lab: Lab, name: str, target: str, params: dict[str, str], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        step(lab, name, target, **params)
    assert played(lab) == ORIGINAL


def test_a_profile_without_what_is_to_be_broken(lab: Lab) -> None:
    cast("Asic", lab.asic).profile = load_profile("lossy")
    for name, target, said in (
        ("pfc-off", "host1:leaf1", "has no PFC"),
        ("ecn-thresholds", "leaf1", "no queue of leaf1 marks"),
        ("buffer-alpha", "leaf1", "no priority group of leaf1 is lossless"),
        ("dscp-map-mismatch", "leaf1", "leaf1 has no lossless class"),
    ):
        with pytest.raises(SpecError, match=said):
            step(lab, name, target)


def test_a_lab_without_a_soft_asic(lab: Lab) -> None:
    lab.asic = None
    with pytest.raises(CapabilityMissing):
        beneath(lab)


def test_two_edits_that_contradict_each_other_are_refused_as_they_are_made(lab: Lab) -> None:
    """Each alone is sound; the second, made beside the first, is not, and changes nothing."""
    chosen = catalogue.fault("pfc-off")
    site = locate(lab, chosen, "host1:leaf1", {})
    step(lab, "pfc-off", "host1:leaf1").make()
    before = played(lab)
    port = site.cable.end("leaf1").name
    wrong = profile_step(site, [Edit("BUFFER_PG", f"leaf1:{port}|3", {"profile": "pg_lossless"})], ["y"])
    with pytest.raises(SpecError, match="is lossless, and no priority of pfc_enable leads to it"):
        wrong.make()
    assert played(lab) == before
