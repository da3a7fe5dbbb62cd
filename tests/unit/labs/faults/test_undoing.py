"""What a fault was made on may be gone when it is taken back: then there is nothing to take back there."""

from __future__ import annotations

import socket
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labs import kernel
from labs.faults.nodes import _leave_down
from labs.faults.undoing import gone, missing_of
from labs.lab import Lab

THERE = {1: "lo", 16: "eth1", 18: "eth2"}
SWAP: dict[str, Any] = {"node": "leaf1", "ports": [{"number": 16, "netdev": "eth1"}, {"number": 18, "netdev": "eth2"}]}


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(kernel, "inside_netns", lambda _: nullcontext())
    monkeypatch.setattr(socket, "if_nameindex", lambda: [*THERE.items()])
    return cast("Lab", SimpleNamespace(deployment=SimpleNamespace(netns=lambda name: Path(f"/run/netns/{name}"))))


@pytest.mark.parametrize(
    ("args", "there", "said"),
    [
        ({}, THERE, None),
        ({"netdev": "eth1"}, THERE, None),
        ({"netdev": "eth3"}, THERE, "eth3"),
        (SWAP, THERE, None),
        (SWAP, {1: "lo", 16: "rbswap16"}, None),  # one end is left, and in no port
        (SWAP, {1: "lo", 7: "eth1", 9: "eth2"}, r"interface 16 (eth1), interface 18 (eth2)"),  # a container made anew
        ({"ports": [{"port": "eth1", "drain_bps": 5}]}, {}, None),  # of a soft ASIC's receiver
        ({"ports": [["leaf1", "eth1", 100]]}, {}, None),  # rates
        ({"ports": []}, {}, None),
    ],
)
def test_what_is_missing_of_a_step(args: dict[str, Any], there: dict[int, str], said: str | None) -> None:
    assert missing_of(args, there) == said


def test_swapped_ends_that_went_with_their_node_are_said_to(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gone(lab, SWAP) is None
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (7, "eth1")])
    assert gone(lab, SWAP) == "leaf1 has no interface 16 (eth1), interface 18 (eth2) any more"


def test_a_port_that_vanished_need_not_be_left_down(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    set_down: list[str] = []
    monkeypatch.setattr(kernel, "set_link", lambda netdev, *, up: set_down.append(f"{netdev} {up}"))
    _leave_down(lab, {"node": "leaf1", "down": ["eth2", "eth9"]})
    assert set_down == ["eth2 False"]
