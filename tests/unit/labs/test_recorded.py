"""Runs as their directories tell of them: which is meant, and in what two of them differ."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labs.kinds import KINDS
from labs.load import load_lab, spec_to_dict
from labs.recorded import RecordedRun, check_same_fabric, differences, find_run, read_run
from labs.spec import Bfd
from topologies.errors import SpecError
from topologies.load import fabric_to_dict

SPEC, FABRIC = load_lab("clos_frr", seed=7, kinds=KINDS)


def record(base: Path, lab: str, stamp: str, **changes: Any) -> Path:
    path = base / ".labs" / lab / stamp
    path.mkdir(parents=True)
    facts = {
        "schema": 1,
        "lab": lab,
        "backend": "netns",
        "seed": 7,
        "spec": spec_to_dict(SPEC),
        "fabric": fabric_to_dict(FABRIC),
        **changes,
    }
    (path / "lab.json").write_text(json.dumps(facts))
    return path


def run(**changes: Any) -> RecordedRun:
    return replace(RecordedRun(Path("/x"), "clos-frr", "netns", SPEC, FABRIC), **changes)


def test_a_lab_means_its_newest_run(tmp_path: Path) -> None:
    """Runs of one second are numbered, and 10 comes after 9."""
    for stamp in ("20260101T000000", "20260102T000000", "20260102T000000-9", "20260102T000000-10"):
        record(tmp_path, "clos-frr", stamp)
    record(tmp_path, "clos-frr", "20260103T000000").joinpath("lab.json").unlink()  # never got as far
    for ref in ("clos-frr", ".labs/clos-frr", str(tmp_path / ".labs" / "clos-frr")):
        assert find_run(ref, tmp_path).path.name == "20260102T000000-10"
    one = tmp_path / ".labs" / "clos-frr" / "20260101T000000"
    for ref in (str(one), ".labs/clos-frr/20260101T000000", "clos-frr/20260101T000000"):
        assert find_run(ref, tmp_path).path == one


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    found = read_run(record(tmp_path, "x", "20260101T000000"))
    assert (found.spec, found.fabric, found.backend, found.lab) == (SPEC, FABRIC, "netns", "x")


def test_no_such_run_lists_what_there_is(tmp_path: Path) -> None:
    record(tmp_path, "clos-frr", "20260101T000000")
    record(tmp_path, "clos-frr", "20260102T000000")
    (tmp_path / ".labs" / "compare" / "20260101T000000").mkdir(parents=True)
    with pytest.raises(SpecError, match=r"found no run 'nix'; .*: clos-frr \(2, the newest 20260102T000000\)$"):
        find_run("nix", tmp_path)
    with pytest.raises(SpecError, match=r"\.labs: none$"):
        find_run("nix", tmp_path / "elsewhere")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"lab": "x", "backend": "netns", "spec": 1, "fabric": 2}'])
def test_what_railbed_did_not_write(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.json").write_text(text)
    with pytest.raises(SpecError, match="found no"):
        find_run(".", tmp_path)


def test_nothing_differs_but_names_and_seeds() -> None:
    assert differences(run(), run(spec=replace(SPEC, name="other", seed=8), path=Path("/y"))) == ()


def test_what_differs() -> None:
    other = replace(SPEC, images={"frr": "frr:new"}, bgp=replace(SPEC.bgp, hold_s=9, bfd=Bfd(1000, 3)))
    told = differences(run(spec=replace(SPEC, images={"frr": "frr:old"})), run(spec=other, backend="containerlab"))
    assert [(d.what, d.a, d.b) for d in told] == [
        ("backend", "netns", "containerlab"),
        ("bgp.bfd.interval_ms", "300", "1000"),
        ("bgp.hold_s", "30", "9"),
        ("images.frr", "frr:old", "frr:new"),
    ]
    assert [(d.what, d.a, d.b) for d in differences(run(), run(spec=replace(SPEC, images={"leaf1": "x"})))] == [
        ("images.leaf1", "-", "x")
    ]


def test_other_fabrics_are_refused() -> None:
    check_same_fabric(run(), run(fabric=replace(FABRIC, name="called otherwise")))
    with pytest.raises(SpecError, match=r"only A has link leaf1:spine1; allowed: two runs of the same fabric"):
        check_same_fabric(run(), run(fabric=FABRIC.without("leaf1:spine1")))
    with pytest.raises(SpecError, match=r"only B has .*link.* and \d+ more"):
        check_same_fabric(run(fabric=FABRIC.without("spine2")), run())
    slow = replace(FABRIC, links=(replace(FABRIC.links[0], rate_bps=1), *FABRIC.links[1:]))
    with pytest.raises(SpecError, match=f"not alike: link {FABRIC.links[0].name}"):
        check_same_fabric(run(), run(fabric=slow))
