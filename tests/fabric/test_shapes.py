"""SHAPE-1: every shape and kind of session there is comes up, converges as the oracle says, and goes down.

`open_lab` waits for the whole claim: every session established, every switch with exactly the oracle's next hops for
every prefix in both families, and every card of every host answering every other's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from labs.lab import Lab, open_lab
from labs.pytest_plugin import unique_name
from labs.request import Request
from topologies import addressing
from traffic.flows import FiveTuple, Transport

Open = Callable[[str], AbstractContextManager[Lab]]


@pytest.fixture
def opened(tmp_path: Path, pytestconfig: pytest.Config) -> Open:
    """Opens a lab for the length of a block, on the backend under test."""

    @contextmanager
    def opened_lab(ref: str) -> Iterator[Lab]:
        backend = pytestconfig.getoption("--lab-backend")
        lab = open_lab(Request(ref, backend=backend, name=unique_name(ref), folder=tmp_path, owned=True)).lab
        try:
            yield lab
        finally:
            lab.close()

    return opened_lab


@pytest.mark.parametrize(
    "ref",
    [
        "clos_frr_unnumbered",
        "rails_frr",
        "fat_tree_frr",
        "dual_plane_frr",
        "pair",
        "incast_8",
        "clos_4x8",
        "clos_8x16",
    ],
)
def test_a_shape_converges(ref: str, opened: Open) -> None:
    """Up, converged, down."""
    with opened(ref) as lab:
        assert lab.converged is not None
        assert lab.converged


def test_rails_keep_to_themselves(opened: Open) -> None:
    """A card's traffic leaves by that card and reaches the same card of the other host through its own rail's leaf."""
    with opened("rails_frr") as lab:
        for nic in (1, 2):
            ends = [str(addressing.host_address(lab.fabric, host, nic)) for host in ("host1", "host2")]
            path = lab.paths([FiveTuple(ends[0], ends[1], Transport.UDP, 50_000, 4791)], ["host1"])[0]
            assert path.end == "host2"
            assert path.ports[0] == f"host1:eth{nic}"
            assert path.ports[1].startswith(f"pod1-leaf{nic}:")


def test_a_card_in_two_planes_uses_both(opened: Open) -> None:
    """Flows of one card leave by both its ports, and none changes the plane above the host.

    32 flows all take one plane with probability 2 · 2⁻³² = 5e-10.
    """
    with opened("dual_plane_frr") as lab:
        ends = [str(addressing.host_address(lab.fabric, host)) for host in ("host1", "host4")]
        flows = [FiveTuple(ends[0], ends[1], Transport.UDP, 50_000 + i, 4791) for i in range(32)]
        found = lab.paths(flows, ["host1"] * len(flows))
        planes = [{hop.node.partition("-")[0] for hop in path.hops[1:]} for path in found]
        assert all(path.end == "host4" for path in found)
        assert all(len(plane) == 1 for plane in planes)
        assert set.union(*planes) == {"plane1", "plane2"}
