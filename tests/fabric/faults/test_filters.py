"""FAULT-2 without a soft ASIC: tc's ingress hook drops what needs no memory; all else is refused with its reason.

The bounds are those of test_wires.py: of 200 echo requests a sound cable loses none, and one that loses a share p of
them both ways loses 1 - (1 - p)^2, between the 10^-9 quantiles of the binomial law.
"""

from __future__ import annotations

import json

import pytest
from scipy.stats import binom

from labs.errors import CapabilityMissing
from labs.faults import catalogue
from labs.faults.injecting import active_faults, add
from labs.lab import Lab
from labs.pytest_plugin import Faults
from topologies import addressing

CABLE, PROBES = "leaf1:spine1", 200
pytestmark = pytest.mark.lab("clos_frr", profile="none")


def lost(lab: Lab) -> int:
    """How many echo requests of leaf1 to spine1, over their cable, were not answered."""
    address = str(addressing.port_interface(lab.fabric, lab.fabric.link(CABLE).far("leaf1")).ip)
    said = lab.node("leaf1").channel.kernel(
        "fping", "-q", "-c", str(PROBES), "-p", "2", "-i", "1", "-t", "200", address
    )
    sent, received = (int(number) for number in said.stderr.split("=")[1].split("/")[:2])
    assert sent == PROBES, said.stderr
    return sent - received


@pytest.mark.parametrize(
    ("name", "sender", "params", "share"),
    [
        ("blackhole", "leaf1", {}, 1.0),
        ("blackhole", None, {"protocol": "icmp"}, 1.0),
        ("blackhole", None, {"protocol": "udp"}, 0.0),
        ("random-loss", None, {"p": 0.3}, 1 - 0.7**2),
        ("control-partition", None, {}, 0.0),
    ],
)
def test_it_drops_its_share(
    lab: Lab, faults: Faults, name: str, sender: str | None, params: dict[str, object], share: float
) -> None:
    """What the row says is lost, and nothing else; before and after, nothing is, and no hook of ours is left."""
    low, high = binom.interval(1 - 1e-9, PROBES, share) if 0 < share < 1 else (PROBES * share,) * 2
    assert not lost(lab)
    with getattr(faults, name.replace("-", "_"))(CABLE, sender=sender, **params):
        assert low <= lost(lab) <= high
    assert not lost(lab)
    hooks = json.loads(lab.node("spine1").kernel("tc", "-j", "qdisc", "show", "dev", "eth1").stdout)
    assert "clsact" not in {one["kind"] for one in hooks}


@pytest.mark.parametrize(
    ("name", "params"),
    [("nth-loss", {}), ("corruption", {"p": 0.1}), ("fcs-errors", {"p": 0.1}), ("rate-degrade", {"fraction": 0.5})],
)
def test_what_needs_the_soft_asic_says_so(lab: Lab, name: str, params: dict[str, object]) -> None:
    """Nothing was changed, and the remedy is a profile."""
    with pytest.raises(CapabilityMissing, match="--profile"):
        add(lab, catalogue.fault(name), CABLE, params)
    assert not active_faults(lab.name)
