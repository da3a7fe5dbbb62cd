"""What FRR runs by, as lines that can be compared."""

from __future__ import annotations

from typing import Any

import pytest

from labs.kinds.frr.software import SOFTWARE, _sectioned

SAID = """!
frr version 8.4
hostname leaf1
!
router bgp 65001
 bgp router-id 10.1.0.1
 neighbor 10.0.0.1 remote-as 65100
 !
 address-family ipv4 unicast
  network 10.1.0.1/32
 exit-address-family
exit
!
router bgp 65001 vrf red
 bgp router-id 10.1.0.1
exit
!
end
"""


def test_each_line_stands_behind_its_section() -> None:
    found = list(_sectioned(SAID))
    assert found == [
        "frr version 8.4",
        "hostname leaf1",
        "router bgp 65001",
        "router bgp 65001 / bgp router-id 10.1.0.1",
        "router bgp 65001 / neighbor 10.0.0.1 remote-as 65100",
        "router bgp 65001 / address-family ipv4 unicast",
        "router bgp 65001 / address-family ipv4 unicast / network 10.1.0.1/32",
        "router bgp 65001 / exit-address-family",
        "exit",
        "router bgp 65001 vrf red",
        "router bgp 65001 vrf red / bgp router-id 10.1.0.1",
        "exit",
        "end",
    ]
    assert list(_sectioned("")) == []


NEXT_HOPS = """Current BGP nexthop cache:
 10.160.8.2 valid [IGP metric 0], #paths 3, peer 10.160.8.2
  if eth1
  Last update: Sun Nov 22 12:31:37 2026

 10.160.24.2 invalid, #paths 3, peer 10.160.24.2
  Must be Connected
  Last update: Sun Nov 22 12:28:04 2026

 10.160.32.2 invalid, #paths 3, peer 10.160.32.2
  Must be Connected
  Last update: Sun Nov 22 12:28:04 2026

"""
OWN = "Current BGP import check cache:\n 10.2.0.1 invalid, #paths 1\n  Last update: Sun Nov 22 12:28:04 2026\n"
TRACKED = """10.2.0.1
 resolved via connected
 is directly connected, lo
 Client list: bgp(fd 14)
10.160.24.2(Connected)
 resolved via connected
 is directly connected, eth3
 Client list: bgp(fd 14)
10.160.32.2(Connected)
 unresolved(Connected)
 Client list: bgp(fd 14)
"""


def test_next_hops_that_bgpd_alone_has_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that zebra does not resolve either is lost indeed. The words are those of FRR 8.4.4, from a switch."""
    said = {"show bgp nexthop": NEXT_HOPS, "show bgp import-check-table": OWN, "show ip nht": TRACKED}
    monkeypatch.setattr("labs.kinds.frr.vty.ask", lambda _node, _daemon, command: said.get(command, ""))
    node: Any = None
    assert SOFTWARE.forgetful(node) == ("10.160.24.2", "10.2.0.1")
    said["show bgp nexthop"], said["show bgp import-check-table"] = NEXT_HOPS.replace("invalid,", "valid,"), ""
    assert SOFTWARE.forgetful(node) == ()
