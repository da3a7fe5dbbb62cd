"""Where ranks stand on a lab, and how idle the workstation was."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labs.collective_bridge import addresses, cpu_time, ranks_on
from topologies.builders import dual_plane, leaf_spine, rails
from topologies.errors import SpecError
from topologies.fabric import Fabric
from topologies.units import GBIT, MBIT


def lab(fabric: Fabric) -> Any:
    return SimpleNamespace(fabric=fabric, name="lab")


def test_a_rank_stands_on_every_card_at_its_links_rate() -> None:
    placement = ranks_on(lab(leaf_spine(1, 2, 1, host_rate=100 * MBIT)))
    assert [(rank.host, rank.nics, rank.rate_bps) for rank in placement.ranks] == [
        ("host1", (1,), 1e8),
        ("host2", (1,), 1e8),
    ]
    several = ranks_on(lab(rails(2, 2, 2)), ["host2", "host1"], rate_bps=GBIT // 2)
    assert [(rank.host, rank.nics) for rank in several.ranks[:2]] == [("host2", (1,)), ("host2", (2,))]
    assert {rank.rate_bps for rank in several.ranks} == {5e8}


def test_what_is_no_place_for_ranks_is_refused() -> None:
    with pytest.raises(SpecError, match="1 ranks on host1"):
        ranks_on(lab(leaf_spine(1, 2, 1)), ["host1"])
    with pytest.raises(SpecError, match="leaf1"):
        ranks_on(lab(leaf_spine(1, 2, 1)), ["host1", "leaf1"])
    with pytest.raises(SpecError, match="card 1 of host1 has 2 ports"):
        ranks_on(lab(dual_plane(1, 1, 2)))


def test_addresses_are_the_fabrics_own() -> None:
    ask = addresses(lab(leaf_spine(1, 2, 1)))
    assert ask("host1", 1) != ask("host2", 1)
    with pytest.raises(SpecError):
        ask("host1", 7)


def test_waiting_for_disks_is_idle_too(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  10 1 5 70 8 1 2 3 99 99\ncpu0 1 1 1 1\n")
    assert cpu_time(stat) == (78, 100)
