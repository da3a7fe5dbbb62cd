"""RECOVER-2: without BFD a link that swallows everything is found out by BGP's hold time (V19).

Keepalives every 3 s, hold 9 s: the last one came up to 3 s before the fault, so the session ends 6 to 9 s after it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from labs import recovery_bridge as bridge
from labs.lab import Lab
from labs.probing import Way
from labs.pytest_plugin import Faults
from labs.testing import SECOND, detected_within, recovered

LINK = "leaf1:spine1"
pytestmark = [pytest.mark.lab(str(Path(__file__).parent / "clos_2x4_hold.yaml")), pytest.mark.valid_of(2)]


def test_a_silent_blackhole_is_found_by_the_hold_time(lab: Lab, faults: Faults) -> None:
    link = lab.fabric.link(LINK)
    seen = bridge.measure(
        lab,
        LINK,
        lambda: faults.blackhole(LINK),
        settles=lambda: lab.wait_routes_match(lab.fabric.without(link), within=15 * SECOND),
        timeout_s=2.0,  # the ring's seven attempts outlast it
    )
    assert detected_within(seen.timeline, LINK, fabric=lab.fabric, protocol="bgp", least=6.0, most=9.0)
    out = [one for found in seen.outages(Way.OWN) for one in found]
    assert min(one.most_s for one in out) >= 6.0
    assert recovered(seen.timeline, LINK, within=0.001, only=seen.names(Way.BESIDE))
