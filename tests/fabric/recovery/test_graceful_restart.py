"""RECOVER-3: bgpd is killed with graceful restart and BFD on, beside a running all-reduce: not a packet is lost.

A lab has to be two minutes old first. The race of BFD's new session with BGP's, which FRR has, makes runs INVALID more
often where daemons start slowly.
"""

from __future__ import annotations

import pytest

from labs import recovery_bridge as bridge
from labs.lab import Lab
from labs.probing import around
from labs.pytest_plugin import Faults
from labs.testing import nothing_lost

pytestmark = [pytest.mark.lab("clos_frr_graceful"), pytest.mark.valid_of(3), pytest.mark.nightly]
LINK = "leaf1:spine1"


def test_a_killed_bgpd_costs_no_packet(lab: Lab, faults: Faults) -> None:
    """With graceful restart zebra keeps its routes, peers keep theirs, and both replace them once all are told."""
    bridge.wait_past_startup(lab)
    node = lab.node("spine1")
    pid = node.run("cat", "/run/frr/bgpd.pid").stdout.strip()
    seen = bridge.measure(
        lab,
        "spine1",
        lambda: faults.daemon_kill("spine1", daemon="bgpd"),
        flows=around(lab, LINK),
        lasts_s=2.0,
    )
    assert nothing_lost(seen.timeline, "spine1")
    assert node.run("cat", "/run/frr/bgpd.pid").stdout.strip() != pid
