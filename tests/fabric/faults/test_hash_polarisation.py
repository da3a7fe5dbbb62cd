"""FAULT-3b: one seed on all switches polarises the second tier, and a seed for each tier cures it.

    pod1-leaf1 ─┬─ pod1-spine1 ─┬─ core1         48 flows from host1 to another pod, each with a source port of its
                │               └─ core2         own. A leaf halves them; with one seed all it sent to spine1 has an
                └─ pod1-spine2 ─┬─ core3         even hash there too, so spine1 uses one core of two.
                                └─ core4

The kernels are asked which way each flow takes. By sound seeds 24 of 24 flows take one core by a chance of 2^-23.
"""

from __future__ import annotations

import pytest

from labs.faults.injecting import state_restored
from labs.lab import Lab
from labs.pytest_plugin import Faults
from labs.testing import SECOND, FiveTuple, Transport, Verdict, handed, tiers_spread
from topologies import addressing

FLOWS = 48
SPINES = ("pod1-spine1", "pod1-spine2")


def spread(lab: Lab) -> Verdict:
    """How each tier of pod 1 spreads what it is handed, as the kernels say."""
    src, dst = (str(addressing.host_address(lab.fabric, host, 1, 4)) for host in ("host1", "host16"))
    flows = [FiveTuple(src, dst, Transport.UDP, 50000 + i, 4791) for i in range(FLOWS)]
    taken = {flow: way.ports for flow, way in zip(flows, lab.paths(flows, ["host1"] * FLOWS), strict=True)}
    members = {name: [link.end(name).name for link in lab.fabric.uplinks(name)] for name in ("pod1-leaf1", *SPINES)}
    counts = handed(taken, members)
    return tiers_spread(
        {"leaf": {"pod1-leaf1": counts["pod1-leaf1"]}, "spine": {name: counts[name] for name in SPINES}}
    )


@pytest.mark.lab("fat_tree_frr")
def test_one_seed_polarises_and_tiers_of_their_own_do_not(lab: Lab, faults: Faults) -> None:
    """Sound; false under the fault, which names the tier; sound again."""
    assert spread(lab)
    with faults.hash_polarisation():
        under = spread(lab)
        assert not under
        assert "spine uses 2 of 4 members: polarised (max/mean 2.00)" in under.evidence.summary
    assert state_restored(lab, 20 * SECOND)
    assert spread(lab)
