"""What FRR runs by, as lines that can be compared."""

from __future__ import annotations

from labs.kinds.frr.software import _sectioned

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
