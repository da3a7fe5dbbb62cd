"""`railbed fault` on the fake backend: what is refused, by which message, and that nothing is changed then."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labs import index
from labs.cli import run
from labs.journal import Change

Capture = pytest.CaptureFixture[str]
NAME = "clos-frr"


@pytest.fixture(autouse=True)
def lab() -> str:
    assert run(["up", "clos_frr", "--backend", "fake", "--seed", "1"]) == 0
    return NAME


def refused(capsys: Capture, *argv: str) -> str:
    """What a command says that changes nothing and ends with 2."""
    before = index.journal(NAME).path.read_bytes()
    capsys.readouterr()
    assert run(["fault", *argv]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert index.journal(NAME).path.read_bytes() == before
    return said.err


def answer(capsys: Capture, *argv: str) -> Any:
    capsys.readouterr()
    assert run(["fault", *argv, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_list_has_what_users_rely_on(capsys: Capture) -> None:
    rows = answer(capsys, "list")
    assert {"name", "targets", "params", "imitates", "detected_by", "recovers"} <= rows[0].keys()
    assert "link-down" in {row["name"] for row in rows}
    assert run(["fault", "list"]) == 0
    assert "link-down" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("add", "cosmic-ray", "leaf1"), "fault 'cosmic-ray'; allowed: link-down"),
        (("add", "link-down"), "link-down: no target; allowed: a link"),
        (("add", "link-down", "leaf1"), "no link 'leaf1' in fabric clos_2x4; allowed: leaf1:spine1"),
        (("add", "link-down", "leaf9:spine1"), "no link 'leaf9:spine1'"),
        (("add", "link-down", "leaf1:spine1", "--for", "0s"), "duration '0s'; allowed: 0.1s to 24h"),
        (("add", "link-down", "leaf1:spine1", "--for", "10y"), "duration '10y'; allowed: 0.1s to 24h"),
        (("add", "link-down", "leaf1:spine1", "--for", "10s"), "has no Recorder that answers"),
        (("add", "link-down", "leaf1:spine1", "--param", "p"), "--param p; allowed: NAME=VALUE"),
        (("add", "link-down", "leaf1:spine1", "--param", "p=1"), "parameter 'p'; allowed: end"),
        (("add", "swapped-cables", "leaf1:spine1"), "no other; allowed: other: the other cable: a link at the same"),
        (("add", "swapped-cables", "leaf1:spine1", "--param", "other=leaf9:spine1"), "no link 'leaf9:spine1'"),
        (("add", "swapped-cables", "leaf1:spine1", "--param", "other=leaf2:spine2"), "no switch has both cables"),
        (("add", "swapped-cables", "leaf1:spine1", "--param", "other=spine1:leaf1"), "the cable itself"),
        (("add", "bgp-reset", "leaf1", "--for", "10s"), "bgp-reset for 10 s; allowed: no duration"),
        (
            ("add", "link-down", "leaf1:spine1", "--param", "end=leaf1", "--param", "end=leaf1"),
            "allowed: each parameter",
        ),
        (("add", "link-down", "leaf1:spine1", "--param", "end=leaf2"), "end=leaf2; allowed: leaf1 | spine1"),
        (("add", "link-down", "leaf1:spine1", "--from", "leaf1"), "allowed: a fault with directions"),
        (("revert",), "which one?; allowed: an ID"),
        (("revert", "f1", "--all"), "which one?; allowed: an ID"),
        (("revert", "f77"), "fault 'f77'; allowed: the id of an active fault: none"),
        (("active", "--lab", "other"), "no lab 'other' is running (running: clos-frr)"),
    ],
)
def test_one_message_and_nothing_changed(capsys: Capture, argv: tuple[str, ...], said: str) -> None:
    assert said in refused(capsys, *argv)


def test_a_target_that_is_faulted_is_refused_by_name(capsys: Capture) -> None:
    args: dict[str, object] = {
        "fault": "link-down",
        "target": "leaf1:spine1",
        "params": {},
        "claims": ["leaf1/eth1/admin"],
        "at": "2026-01-31T12:00:00Z",
        "until_ns": None,
        "steps": [],
    }
    entry = index.journal(NAME).will(Change("fault", args))[0]
    said = refused(capsys, "add", "link-down", "leaf1:spine1")
    assert f"leaf1/eth1/admin is already faulted by f{entry.n} (link-down on leaf1:spine1)" in said
    assert f"railbed fault revert f{entry.n}" in said
    (row,) = answer(capsys, "active")["faults"]
    assert (row["id"], row["fault"], row["left_s"], row["held_by"]) == (f"f{entry.n}", "link-down", None, None)
    assert answer(capsys, "revert", f"f{entry.n}", "--no-wait")["reverted"] == [f"f{entry.n}"]
    assert answer(capsys, "active")["faults"] == []


def test_a_dry_run_says_each_change_and_makes_none(capsys: Capture) -> None:
    before = index.journal(NAME).path.read_bytes()
    capsys.readouterr()
    assert run(["fault", "add", "link-down", "leaf1:spine1", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "link-up {'node': 'leaf1', 'netdev': 'eth1', 'up': True}" in said.err
    assert index.journal(NAME).path.read_bytes() == before
