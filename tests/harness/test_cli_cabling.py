"""`railbed cabling` on the fake backend, whose cables are told to it: exit codes, table, JSON; each seen failing."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from labs import cli, cli_cabling
from labs.lab import Lab
from labs.verdicts.cabling import Neighbor


@pytest.fixture(autouse=True)
def up() -> None:
    assert cli.run(["up", "clos_frr", "--backend", "fake", "--seed", "1"]) == 0


def planned(lab: Lab) -> list[Neighbor]:
    """What ports hear where every cable is in its place."""
    links = ((link, port) for link in lab.fabric.links for port in link.ends)
    return [Neighbor(port.node, port.name, far.node, far.name) for link, port in links for far in [link.far(port.node)]]


def swapped(lab: Lab) -> list[Neighbor]:
    """The same with leaf1's and leaf2's cables in each other's port of spine1."""
    other = {("spine1", "eth1"): ("spine1", "eth2"), ("spine1", "eth2"): ("spine1", "eth1")}
    return [
        Neighbor(
            *other.get((one.node, one.port), (one.node, one.port)),
            *other.get((one.far_node, one.far_port), (one.far_node, one.far_port)),
        )
        for one in planned(lab)
    ]


def silent(lab: Lab) -> list[Neighbor]:
    """The same, but that nobody is heard at spine1's first port."""
    return [one for one in planned(lab) if (one.node, one.port) != ("spine1", "eth1")]


@pytest.mark.parametrize(
    ("hears", "code", "said"),
    [
        (planned, 0, "32 ports hear whom they should"),
        (swapped, 1, "4 of 32 ports hear somebody else: swapped at leaf1:eth1 and leaf2:eth1"),
        (silent, 3, "INVALID (1 ports hear nobody, as spine1:eth1)"),
    ],
)
def test_exit_codes(
    hears: Callable[[Lab], list[Neighbor]],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli_cabling, "neighbors", hears)
    capsys.readouterr()
    assert cli.run(["cabling"]) == code
    told = capsys.readouterr()
    assert said in told.err
    assert ("nobody" in told.out) == (hears is silent)
    assert cli.run(["cabling", "spine1", "-f", "json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"]["held"] == (code == 0)
    assert [row["port"] for row in found["ports"]] == [f"spine1:eth{n}" for n in range(1, 5)]
    assert found["ports"][0]["planned"] == "leaf1:eth1"


def test_nobody_is_heard_where_there_are_no_namespaces(capsys: pytest.CaptureFixture[str]) -> None:
    """Control of the reader itself: it makes nothing up."""
    capsys.readouterr()
    assert cli.run(["cabling"]) == 3
    assert "ports hear nobody" in capsys.readouterr().err
